"""What pretraining/image.py draws and learns from."""
