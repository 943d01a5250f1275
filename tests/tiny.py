"""A tiny network of a real architecture in a folder, and a table with pictures: what fits train on in tests."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

__all__ = ["make_network", "make_table", "make_transformer", "numbers"]

from multiadapt.encoders._base import Encoder
from multiadapt.types import Inputs


def numbers(encoder: Encoder, inputs: Inputs) -> torch.Tensor:
    """Pixels of inputs as the encoder's network reads them."""
    return encoder.get_submodule("backbone").preparation.numbers(inputs.tensors)["pixels"]  # type: ignore[operator]


def make_network(folder: Path, *, layer_type: str = "bottleneck", seed: int = 0) -> Path:
    """A random ResNet with two stages, as a folder that `from_pretrained` opens; it reads 32 pixels."""
    torch.manual_seed(seed)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type=layer_type
    )
    network = ResNetModel(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that a pinned norm can be told by
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    network.save_pretrained(folder)
    preparation = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    return folder


def make_transformer(folder: Path, *, seed: int = 0) -> Path:
    """A random ViT with three blocks, as a folder that `from_pretrained` opens; it reads 16 pixels."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=16,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def make_table(folder: Path, rows: int = 60, seed: int = 0) -> pd.DataFrame:
    """Numbers, a category and two photos a row. `kind` follows the photo's colour, `price` a column."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, rows)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for i in range(rows):
        for side in ("front", "back"):
            pixels = rng.integers(0, 60, (24, 32, 3), dtype=np.uint8)
            pixels[..., 2 * kind[i]] += 150
            Image.fromarray(pixels).save(folder / "photos" / f"{i}_{side}.png")
    size = rng.normal(50, 10, rows)
    frame = pd.DataFrame(
        {
            "size": size,
            "colour": rng.choice(["red", "green"], rows),
            "front": [f"photos/{i}_front.png" for i in range(rows)],
            "back": [f"photos/{i}_back.png" for i in range(rows)],
            "kind": np.where(kind == 1, "blue", "red"),
            "price": 3 * size + rng.normal(0, 1, rows),
        },
        index=pd.Index(range(100, 100 + rows), name="listing"),
    )
    frame.loc[frame.index[3], "size"] = np.nan
    return frame
