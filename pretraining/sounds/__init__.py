"""Sounds that the starter audio encoder learns from: invented words and noises, made by formulas."""
