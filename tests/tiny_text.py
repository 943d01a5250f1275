"""Tiny text networks and a tiny tokenizer, saved as the libraries save real ones."""

from pathlib import Path
from typing import Any

import transformers
from contracts import shake
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

__all__ = ["TINY", "VOCABULARY", "WORDS", "make_text_network", "make_tokenizer"]

VOCABULARY = 60
WORDS = [f"w{i}" for i in range(4, VOCABULARY)]
"""Word w7 has the number 7; 0 is padding, 1 an unknown word, 2 opens and 3 closes a text."""
TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}


def make_tokenizer(folder: Path, **options: Any) -> Any:
    """A saved tokenizer of `WORDS`, of 20 tokens at most unless `options` say otherwise."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    words = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    words.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)  # type: ignore[assignment]
    settings = {"pad_token": "[PAD]", "unk_token": "[UNK]", "model_max_length": 20, **options}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **settings)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_text_network(folder: Path, kind: str = "Bert", tail: str = "Model", **config: Any) -> Any:
    """A saved network of random weights, such as BertModel, and the tokenizer beside it."""
    settings = getattr(transformers, f"{kind}Config")(**config)
    network = getattr(transformers, f"{kind}{tail}")(settings).eval()
    shake(network)
    network.save_pretrained(folder)
    make_tokenizer(folder)
    return network
