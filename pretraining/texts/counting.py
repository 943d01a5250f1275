"""The first look at a token: which meanings the texts around it state, counted and compressed.

Levy and Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", NeurIPS 2014. Counting
half a minute does for the table of tokens what gradient steps would need hours for, and tokens that
mean different things stay apart: the vector of a text still says which words it holds.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from tokenizers import Tokenizer
from torch import Tensor

from texts.lexicon import Concept, lexicon
from texts.sentences import domains, draw, say
from texts.tokens import SPECIAL, broken, halves

__all__ = ["Start", "count"]

_UNSAID = 0.3
"""Of a fact that the words leave out, beside 1 for what they state: a coat is for winter, said or not."""
_DOUBT = 3.0
"""A pair seen so often counts half: what was seen once or twice may be chance."""
_SMOOTHING = 0.75
"""Power of the meanings' frequencies, as in word2vec: rare ones are no surprise to everything."""
_POWER = 0.25
"""Of the singular values: between all directions alike and the common ones first."""
_OWN = 0.3
"""Length of a token's random part, beside 1: what was never seen, such as a byte of Greek, differs too."""
_LEAST = 0.15
"""Weight of the most common token, of 1."""


@dataclass(frozen=True)
class Start:
    """What counting finds, before any gradient."""

    tokens: Tensor
    """(tokens, width), each of length 1."""
    meanings: Tensor
    """(meanings, width): in the direction of the tokens that state them."""
    rarity: Tensor
    """(tokens,): 0 for the most common token to 1."""


def count(tokenizer: Tokenizer, seed: int, records: int, width: int) -> Start:
    together, seen = _counted(tokenizer, seed, records)
    rarity = (np.log((seen.max() + 1) / (seen + 1)) / 8).clip(0, 1)
    rarity[: len(SPECIAL)] = 0
    surprise = _surprise(together)
    left, strength, right = randomized_svd(
        surprise,
        width - 2,
        n_iter=4,  # pyright: ignore[reportArgumentType]: the default is the word "auto"
        random_state=seed,
    )
    dice = np.random.default_rng(seed)
    turn = np.linalg.qr(dice.normal(size=(width - 2, width - 2)))[0]
    own = _OWN * _unit(dice.normal(size=left.shape))
    tokens = _weighted(_unit(_unit(left * strength**_POWER) @ turn + own), rarity)
    meanings = np.pad(right.T * strength ** (1 - _POWER) @ turn, ((0, 0), (0, 2)))
    return Start(*(torch.tensor(x, dtype=torch.float32) for x in (tokens, meanings, rarity)))


def _counted(tokenizer: Tokenizer, seed: int, records: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(tokens, meanings): how often texts hold the one and state the other; texts with each token."""
    dice = random.Random(f"{seed} counting")
    parts, size = halves(tokenizer), tokenizer.get_vocab_size()
    together = sparse.csr_matrix((size, lexicon().size), dtype=np.float32)
    seen = np.zeros(size)
    facts = _facts(dice)
    for start in range(0, records, 5000):
        texts, stated = zip(*islice(facts, min(5000, records - start)), strict=True)
        for way in range(2):
            rows = [row.ids for row in tokenizer.encode_batch([pair[way] for pair in texts])]
            rows = [broken(r, parts, 0.12, dice) if dice.random() < 0.4 else r for r in rows]
            own = [dict.fromkeys((t for t in r if t >= len(SPECIAL)), 1.0) for r in rows]
            held = _matrix(own, size)
            together += held.T @ _matrix(stated, lexicon().size)
            seen += np.asarray(held.sum(0)).ravel()
    return together, seen


def _facts(dice: random.Random) -> Iterator[tuple[tuple[str, str], dict[int, float]]]:
    """Two tellings of the same facts, and how much the two state each meaning."""
    weights = [domain.weight for domain in domains()]
    while True:
        domain = dice.choices(domains(), weights)[0]
        record = draw(domain, dice)
        told = [say(domain, record, dice) for _ in range(2)]
        stated: dict[int, float] = {}
        for value in record.values():
            if isinstance(value, Concept):
                stated |= dict.fromkeys((*value.above, value.number), _UNSAID)
        for _, numbers in told:
            stated |= dict.fromkeys(numbers, 1.0)
        yield (told[0][0], told[1][0]), stated


def _matrix(rows: Sequence[dict[int, float]], width: int) -> sparse.csr_matrix:
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter((c for row in rows for c in row), np.int64, ends[-1])
    values = np.fromiter((v for row in rows for v in row.values()), np.float32, ends[-1])
    return sparse.csr_matrix((values, columns, ends), (len(rows), width))


def _surprise(together: sparse.csr_matrix) -> sparse.csr_matrix:
    """Positive pointwise mutual information."""
    pairs = together.tocoo()
    shares = np.asarray(together.sum(1)).ravel() / together.sum()
    common = np.asarray(together.sum(0)).ravel() ** _SMOOTHING
    common /= common.sum()
    chance = shares[pairs.row] * common[pairs.col]
    found = np.log(np.maximum(pairs.data / together.sum() / chance, 1e-9))
    found = np.maximum(found * pairs.data / (pairs.data + _DOUBT), 0)
    return sparse.csr_matrix((found, (pairs.row, pairs.col)), together.shape)


def _weighted(tokens: np.ndarray, rarity: np.ndarray) -> np.ndarray:
    """Common tokens say less: what they lack in length goes to two numbers that are theirs.

    The network's layer norm gives all tokens one length; short ones alone would be stretched again.
    """
    weight = _LEAST + (1 - _LEAST) * rarity[:, None]
    rest = np.sqrt((1 - weight**2) / 2)
    return np.concatenate([tokens * weight, rest, -rest], axis=1)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)
