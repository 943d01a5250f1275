"""Gradient-boosted trees as arrays: grown by scikit-learn, walked here, saved without pickle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

__all__ = ["Forest", "Rows", "grow"]


class Forest:
    """Trees one after another, as arrays over all their nodes; `root` and `score` are per tree.

    `left_set` and `known_set` are rows of 256 bits: the categories of a node that go left, and those
    met in training. A category that was not met goes where missing cells go.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    @staticmethod
    def join(parts: Sequence["Forest"]) -> "Forest":
        """All trees of several forests, each with scores of its own."""
        counted = {
            "left": "value",
            "right": "value",
            "root": "value",
            "set": "left_set",
            "score": "baseline",
        }
        joined: dict[str, np.ndarray] = {}
        for key in parts[0].arrays:
            pieces = [p.arrays[key] for p in parts]
            if key in counted:
                sizes = [len(p.arrays[counted[key]]) for p in parts]
                start = np.cumsum([0, *sizes[:-1]])
                pieces = [a + s for a, s in zip(pieces, start, strict=True)]
            joined[key] = np.concatenate(pieces).astype(parts[0].arrays[key].dtype)
        return Forest(joined)

    def tensors(self) -> dict[str, Tensor]:
        return {k: torch.tensor(v) for k, v in self.arrays.items()}

    def scores(self, x: Float[np.ndarray, "b k"]) -> Float[np.ndarray, "b c"]:
        """Baseline and the value of one leaf of every tree, added in the order of the trees."""
        a = self.arrays
        total = np.repeat(a["baseline"][None], len(x), axis=0)
        for root, score in zip(a["root"], a["score"], strict=True):
            node = np.full(len(x), root)
            moving = np.flatnonzero(~a["is_leaf"][node])
            while len(moving):
                node[moving] = self._next(node[moving], x[moving])
                moving = moving[~a["is_leaf"][node[moving]]]
            total[:, score] += a["value"][node]
        return total

    def _next(
        self, node: Int[np.ndarray, " m"], x: Float[np.ndarray, "m k"]
    ) -> Int[np.ndarray, " m"]:
        a = self.arrays
        value = x[np.arange(len(x)), a["feature"][node]]
        absent, categorical = np.isnan(value), a["is_categorical"][node]
        code = np.where(absent | ~categorical, 0, value).astype(np.int64)
        row = a["set"][node]
        in_left = _bit(a["left_set"], row, code)
        absent |= categorical & ~_bit(a["known_set"], row, code)
        left = np.where(categorical, in_left, value <= a["threshold"][node])
        left = np.where(absent, a["missing_left"][node], left)
        return np.where(left, a["left"][node], a["right"][node])


def _bit(
    sets: UInt8[np.ndarray, "s 32"], row: Int[np.ndarray, " m"], code: Int[np.ndarray, " m"]
) -> Bool[np.ndarray, " m"]:
    return ((sets[row, code >> 3] >> (code & 7).astype(np.uint8)) & 1).astype(bool)


@dataclass(frozen=True)
class Rows:
    """What trees are grown on."""

    x: Float[np.ndarray, "b k"]
    categories: int
    """So many columns, the first ones, hold codes from 0, NaN where missing."""
    weight: np.ndarray | None = None


def grow(options: Mapping[str, Any], rows: Rows, y: np.ndarray, outputs: int | None) -> Forest:
    """The trees for one target.

    `outputs` is None for a value, 1 for zeros and ones, else the number of classes; a class that no
    row has scores as if half a row had it.
    """
    from sklearn import ensemble

    kind: Any = ensemble.HistGradientBoostingClassifier
    if outputs is None:
        kind = ensemble.HistGradientBoostingRegressor
    met = [int(c) for c in np.unique(y)] if outputs else []
    absent = -np.log(2.0 * len(y))
    if outputs and len(met) == 1:
        return Forest(_arrays(None, [], _lone(met[0], outputs, absent)))
    x, mask = rows.x, np.arange(rows.x.shape[1]) < rows.categories
    x = np.where(~mask & np.isnan(x).all(0), 0.0, x)  # it cannot bin a column without a number
    model: Any = kind(categorical_features=mask if rows.categories else None, **options)
    model.fit(x, y, sample_weight=rows.weight)
    prior = model._baseline_prediction.reshape(-1)
    if outputs is None or outputs == 1:
        return Forest(_arrays(model, [0], prior))
    baseline = np.full(outputs, absent)
    baseline[met] = prior if len(met) > 2 else [0.0, prior[0]]
    return Forest(_arrays(model, met if len(met) > 2 else met[1:], baseline))


def _lone(met: int, outputs: int, absent: float) -> Float[np.ndarray, " c"]:
    """Scores where all rows have one class."""
    if outputs == 1:
        return np.array([-absent if met else absent])
    scores = np.full(outputs, absent)
    scores[met] = 0.0
    return scores


def _arrays(
    model: Any, columns: Sequence[int], baseline: Float[np.ndarray, " c"]
) -> dict[str, np.ndarray]:
    """scikit-learn's nodes; the k-th tree of a round adds to the score `columns[k]`."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    rounds = [] if model is None else model._predictors
    trees = [(tree, columns[k]) for trees in rounds for k, tree in enumerate(trees)]
    codes = _codes_met(model) if trees else []
    sets = [_sets(tree, codes) for tree, _ in trees]
    nodes: Any = np.concatenate([np.zeros(0, PREDICTOR_RECORD_DTYPE), *(t.nodes for t, _ in trees)])
    sizes = [len(t.nodes) for t, _ in trees]
    root = np.cumsum([0, *sizes])[: len(trees)]
    # The first set is empty: it is what nodes without categories point to.
    first_set = 1 + np.cumsum([0, *(len(left) for left, _ in sets)])[: len(trees)]
    categorical = nodes["is_categorical"].astype(bool) & ~nodes["is_leaf"].astype(bool)
    own_set = nodes["bitset_idx"].astype(np.int64) + np.repeat(first_set, sizes)
    none = np.zeros((1, 32), np.uint8)
    return {
        "baseline": baseline.astype(np.float64),
        "root": root.astype(np.int32),
        "score": np.array([column for _, column in trees], np.int32),
        "value": nodes["value"],
        "feature": nodes["feature_idx"].astype(np.int32),
        "threshold": nodes["num_threshold"],
        "missing_left": nodes["missing_go_to_left"].astype(bool),
        "left": (nodes["left"] + np.repeat(root, sizes)).astype(np.int32),
        "right": (nodes["right"] + np.repeat(root, sizes)).astype(np.int32),
        "is_leaf": nodes["is_leaf"].astype(bool),
        "is_categorical": categorical,
        "set": np.where(categorical, own_set, 0).astype(np.int32),
        "left_set": np.concatenate([none, *(left for left, _ in sets)]),
        "known_set": np.concatenate([none, *(known for _, known in sets)]),
    }


def _codes_met(model: Any) -> list[Int[np.ndarray, " _"]]:
    """Per categorical column the codes met in training, by the numbers that scikit-learn gave them."""
    if model._preprocessor is None:
        return []
    met = model._preprocessor.named_transformers_["encoder"].categories_
    return [column[~np.isnan(column)].astype(int) for column in met]


def _sets(
    tree: Any, codes: Sequence[Int[np.ndarray, " _"]]
) -> tuple[UInt8[np.ndarray, "s 32"], UInt8[np.ndarray, "s 32"]]:
    """The categories that go left, and those met in training, as bits by code; one row per split."""
    raw = np.ascontiguousarray(tree.raw_left_cat_bitsets.astype("<u4")).view(np.uint8)
    numbers = np.unpackbits(raw.reshape(-1, 32), axis=1, bitorder="little").astype(bool)
    left, known = np.zeros_like(numbers), np.zeros_like(numbers)
    for node in tree.nodes:
        if node["is_categorical"] and not node["is_leaf"]:
            row, met = node["bitset_idx"], codes[node["feature_idx"]]
            left[row, met] = numbers[row, : len(met)]
            known[row, met] = True
    return np.packbits(left, 1, bitorder="little"), np.packbits(known, 1, bitorder="little")
