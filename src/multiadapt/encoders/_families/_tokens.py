"""From texts of any length to the numbers of tokens that a network reads."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils.hub import cached_file

from multiadapt.encoders._families._preparation import Note, Preparation
from multiadapt.encoders._families._text_family import Pooling
from multiadapt.errors import EncoderError

__all__ = ["TokenPreparation"]

_LETTERS = 100
"""A text is cut to so many letters for each token that fits before it is split into tokens: 10 MB take
15 seconds otherwise. Of what is read as text, hardly any token is as long."""
_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True)
class TokenPreparation(Preparation):
    """Splits texts as the checkpoint's tokenizer does, and cuts what is longer than `limit` tokens.

    The tokenizer's own cutting and padding stay off: they are settings of the object, which threads
    that share it would change under one another.
    """

    split: Callable[[list[str]], list[list[int]]]
    """Texts to numbers of tokens, without those that open and close a text."""
    before: tuple[int, ...] = ()
    """What opens every text."""
    after: tuple[int, ...] = ()
    """What closes every text, a cut one too."""
    padding: int = 0
    limit: int = sys.maxsize
    """Most tokens of a text, with those that open and close it."""
    fill: int = 0
    """Every text is filled up to so many tokens with padding that counts as real; 0: none is."""
    prompt: str = ""
    """Is put before every text."""
    pooling: Pooling | None = None
    """How the checkpoint says that tokens become one vector; None: it does not say."""

    @staticmethod
    def read(place: str | None, config: Any, revision: str | None) -> "TokenPreparation":
        """The checkpoint's own; bytes where there is none."""
        if place is None:
            return TokenPreparation(_Bytes(config.vocab_size))
        tokenizer = _tokenizer(place, revision)
        _check_vocabulary(tokenizer, config, place)
        before, after = _ends(tokenizer, place)
        bert = _json(place, "sentence_bert_config.json", revision)
        limit = min(bert.get("max_seq_length") or sys.maxsize, int(tokenizer.model_max_length))
        padding = tokenizer.pad_token_id or 0
        pooling = _pooling(place, config, revision)
        return TokenPreparation(_Words(tokenizer), before, after, padding, limit, pooling=pooling)

    def number(self, token: str) -> int | None:
        """Of a token of the tokenizer's vocabulary; None where it has none such."""
        return self.split.number(token) if isinstance(self.split, _Words) else None

    def text(self, ids: Sequence[int]) -> str:
        """What tokens say, without those that open, close or fill a text."""
        return self.split.text(ids) if isinstance(self.split, (_Words, _Bytes)) else ""

    def tensors(self, items: Sequence[str], note: Note) -> dict[str, Tensor]:
        room = self.limit - len(self.before) - len(self.after)
        most = self.limit * _LETTERS
        rows: list[list[int]] = []
        cut = 0
        found = self.split([_clean((self.prompt + item[:most])[:most]) for item in items])
        for item, ids in zip(items, found, strict=True):
            cut += len(ids) > room or len(self.prompt) + len(item) > most
            rows.append([*self.before, *ids[:room], *self.after] or [self.padding])
        note(f"texts are longer than {self.limit} tokens and are cut", cut)
        return self._padded(rows)

    def _padded(self, rows: list[list[int]]) -> dict[str, Tensor]:
        longest = self.fill or max(map(len, rows), default=1)
        ids = torch.full((len(rows), longest), self.padding)
        mask = torch.full(ids.shape, self.fill > 0)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        return {"ids": ids, "mask": mask}


class _Words:
    """A tokenizer of transformers. No option is passed that it would keep."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def number(self, token: str) -> int | None:
        return self.tokenizer.get_vocab().get(token)

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()


class _Bytes:
    """For networks with random weights: the bytes of UTF-8. The same every time, and meaningless."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return [[byte % self.vocabulary for byte in text.encode()] for text in texts]

    def text(self, ids: Sequence[int]) -> str:
        """Tokens beyond the bytes say nothing."""
        return bytes(i for i in ids if i < 256).decode("utf-8", "replace").strip()


def _clean(text: str) -> str:
    """The text with halves of UTF-16 pairs, which are no characters, replaced by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _tokenizer(place: str, revision: str | None) -> Any:
    # Of a folder without any of its files, the library would make one that knows no word at all.
    there = [name for name in _FILES if _file(place, name, revision)]
    if not there:
        raise EncoderError(
            f"{place} must hold its tokenizer, such as tokenizer.json, and has no file of one; save it "
            "there with tokenizer.save_pretrained"
        )
    try:
        return AutoTokenizer.from_pretrained(place, revision=revision)
    except Exception as error:  # the library that reads the file raises no narrower type
        raise EncoderError(
            f"the tokenizer of {place} ({', '.join(there)}) cannot be read: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}. A tokenizer.json "
            "can always; older formats may need `pip install sentencepiece protobuf`"
        ) from error


def _check_vocabulary(tokenizer: Any, config: Any, place: str) -> None:
    greatest = max(tokenizer.get_vocab().values())
    if greatest >= config.vocab_size:
        raise EncoderError(
            f"the tokenizer of {place} gives numbers up to {greatest}, its network knows "
            f"{config.vocab_size} tokens: they do not belong together"
        )


def _ends(tokenizer: Any, place: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer puts before and after a text, as a short one shows."""
    probe = {"verbose": False, "truncation": False, "padding": False}  # now off for good
    inner = tokenizer("a", add_special_tokens=False, **probe)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True, **probe)["input_ids"]
    for start in range(len(whole) - len(inner) + 1):
        end = start + len(inner)
        if whole[start:end] == inner:
            return tuple(whole[:start]), tuple(whole[end:])
    raise EncoderError(
        f"the tokenizer of {place} must put its own tokens before or after a text: it makes {inner} of "
        f"'a' without them, and {whole} with them"
    )


def _pooling(place: str, config: Any, revision: str | None) -> Pooling | None:
    """What sentence-transformers wrote, or what a classifier of texts read; None: neither."""
    if given := _json(place, "1_Pooling/config.json", revision):
        return _given_pooling(given, place)
    if any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        return getattr(config, "classifier_pooling", "cls")
    return None


def _given_pooling(given: Mapping[str, Any], place: str) -> Pooling:
    """From one switch for each way, or, in newer files, the name of the way."""
    start = "pooling_mode_"
    ways = [k.removeprefix(start) for k, on in given.items() if k.startswith(start) and on is True]
    if isinstance(named := given.get("pooling_mode"), str):
        ways = [named]
    names = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "lasttoken": "last"}
    found = [names.get(way, way) for way in ways]
    for known in get_args(Pooling):
        if found == [known]:
            return known
    raise EncoderError(
        f"1_Pooling/config.json of {place} must name one of {', '.join(get_args(Pooling))} as the way "
        f"to one vector, it names {', '.join(found) or 'none'}"
    )


def _json(place: str, name: str, revision: str | None) -> Mapping[str, Any]:
    """What a file of the checkpoint holds; nothing where it has none."""
    path = _file(place, name, revision)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def _file(place: str, name: str, revision: str | None) -> str | None:
    return cached_file(place, name, revision=revision, _raise_exceptions_for_missing_entries=False)
