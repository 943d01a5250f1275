"""A tiny dual encoder, saved as transformers saves CLIP."""

import json
from pathlib import Path

import torch
from tiny_text import TINY, VOCABULARY, make_tokenizer
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

__all__ = ["make_clip", "make_siglip"]

_VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 16,
}
_TEXT = {
    **{k: v for k, v in TINY.items() if k != "num_hidden_layers"},
    "num_hidden_layers": 3,
    "vocab_size": VOCABULARY,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def make_clip(folder: Path, *, seed: int = 0) -> Path:
    """Random weights; the towers differ in width and depth. It knows the words of `tiny_text`."""
    torch.manual_seed(seed)
    config = CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=8)
    return _save(CLIPModel(config), folder)


def make_siglip(folder: Path, *, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = SiglipConfig(text_config={**_TEXT, "projection_size": 24}, vision_config=_VISION)
    return _save(SiglipModel(config), folder)


def _save(network: torch.nn.Module, folder: Path) -> Path:
    network.save_pretrained(folder)  # type: ignore[operator]
    make_tokenizer(folder)
    preparation = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    return folder
