"""TabICL's own preprocessing, as arrays: how each ensemble member sees a table.

tabicl's generator is fitted once on the context; new rows are moved value by value, so that a row
never depends on its batch, and so that the fitted state can be stored without the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Member", "Views"]

_CLIP = 100.0  # tabicl's CustomStandardScaler


@dataclass(frozen=True)
class Member:
    """One member of the ensemble."""

    norm: str
    """Which normalisation it reads."""
    features: tuple[int, ...]
    """The order of the kept features that it sees."""
    classes: tuple[int, ...] | None
    """The number that it gives each class; None for regression."""


@dataclass(frozen=True)
class Views:
    """Fitted preprocessing of all members, in a stated order: by name of the normalisation."""

    fill: Float[np.ndarray, " k"]
    """What stands for a missing number."""
    kept: Bool[np.ndarray, " k"]
    """Features that vary in the context."""
    members: tuple[Member, ...]
    norms: Mapping[str, Mapping[str, Float[np.ndarray, " j"]]]
    """Per normalisation its fitted vectors over the kept features."""

    @staticmethod
    def fit(
        rows: Float[np.ndarray, "n k"],
        y: Float[np.ndarray, " n"],
        *,
        classification: bool,
        members: int,
        seed: int,
    ) -> "Views":
        """Fit tabicl's generator on the context; it may deliver fewer members than asked."""
        from tabicl._sklearn.preprocessing import EnsembleGenerator

        fill = _means(rows)
        generator = EnsembleGenerator(
            classification=classification, n_estimators=members, random_state=seed
        )
        with np.errstate(all="ignore"):  # Yeo-Johnson's search tries exponents that overflow
            generator.fit(np.where(np.isnan(rows), fill, rows), y)
        # tabicl keeps its normalisations in a set: their order changes from process to process.
        names = sorted(generator.ensemble_configs_)
        found = tuple(
            Member(name, tuple(map(int, x)), None if c is None else tuple(map(int, c)))
            for name in names
            for x, c in generator.ensemble_configs_[name]
        )
        norms = {name: _vectors(generator.preprocessors_[name]) for name in names}
        return Views(fill, generator.unique_filter_.features_to_keep_, found, norms)

    def rows(self, rows: Float[np.ndarray, "n k"]) -> list[Float[Tensor, "n j"]]:
        """The rows as each member sees them."""
        filled = np.where(np.isnan(rows), self.fill, rows)[:, self.kept]
        seen = {name: _normalised(filled, v) for name, v in self.norms.items()}
        order = [(m.norm, list(m.features)) for m in self.members]
        return [torch.tensor(seen[norm][:, o], dtype=torch.float32) for norm, o in order]

    def targets(self, y: Float[np.ndarray, " n"]) -> list[Float[Tensor, " n"]]:
        """The labels as each member sees them."""
        seen = [
            y if m.classes is None else np.array(m.classes)[y.astype(int)] for m in self.members
        ]
        return [torch.tensor(t, dtype=torch.float32) for t in seen]

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """JSON values and tensors for `from_state`; none of them is a row."""
        values = {"members": [[m.norm, m.features, m.classes] for m in self.members]}
        vectors = {f"norm/{n}/{k}": v for n, norm in self.norms.items() for k, v in norm.items()}
        arrays = {"fill": self.fill, "kept": self.kept, **vectors}
        return values, {k: torch.tensor(v) for k, v in arrays.items()}

    @staticmethod
    def from_state(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Views":
        members = tuple(
            Member(norm, tuple(x), None if c is None else tuple(c))
            for norm, x, c in values["members"]
        )
        norms: dict[str, dict[str, np.ndarray]] = {m.norm: {} for m in members}
        for key, tensor in tensors.items():
            if key.startswith("norm/"):
                _, norm, name = key.split("/")
                norms[norm][name] = tensor.numpy()
        return Views(tensors["fill"].numpy(), tensors["kept"].numpy(), members, norms)


def _means(rows: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Means of the values seen; 0 where there are none."""
    seen = ~np.isnan(rows)
    return np.where(seen, rows, 0.0).sum(0) / np.maximum(seen.sum(0), 1)


def _vectors(pipeline: Any) -> dict[str, Float[np.ndarray, " j"]]:
    """What tabicl's PreprocessingPipeline has fitted."""
    scaler, remover = pipeline.standard_scaler_, pipeline.outlier_remover_
    vectors = {
        "mean": scaler.mean_,
        "scale": scaler.scale_,
        "lower": remover.lower_bounds_,
        "upper": remover.upper_bounds_,
    }
    if pipeline.normalizer_ is None:
        return vectors
    power = pipeline.normalizer_
    return vectors | {
        "exponent": np.asarray(power.lambdas_, np.float64),
        "center": power._scaler.mean_,
        "spread": power._scaler.scale_,
        "least": pipeline.X_min_[0],
        "most": pipeline.X_max_[0],
    }


def _normalised(
    x: Float[np.ndarray, "n j"], v: Mapping[str, Float[np.ndarray, " j"]]
) -> Float[np.ndarray, "n j"]:
    """Scaling, then Yeo-Johnson where it was fitted, then soft clipping of outliers."""
    x = np.clip((x - v["mean"]) / v["scale"], -_CLIP, _CLIP)
    if "exponent" in v:
        powered = _powered(x, v)
        # A value far outside the context can overflow; tabicl then clips the whole batch.
        x = np.where(np.isfinite(powered), powered, _powered(np.clip(x, v["least"], v["most"]), v))
    x = np.maximum(v["lower"] - np.log1p(np.abs(x)), x)
    return np.minimum(v["upper"] + np.log1p(np.abs(x)), x)


def _powered(
    x: Float[np.ndarray, "n j"], v: Mapping[str, Float[np.ndarray, " j"]]
) -> Float[np.ndarray, "n j"]:
    """Yeo and Johnson (2000), standardised."""
    e = v["exponent"]
    with np.errstate(all="ignore"):  # each branch is also computed where the other one counts
        up = np.where(e == 0, np.log1p(x), np.expm1(e * np.log1p(x)) / np.where(e == 0, 1, e))
        rest = 2 - e
        down = np.expm1(rest * np.log1p(-x)) / np.where(rest == 0, 1, rest)
        down = -np.where(rest == 0, np.log1p(-x), down)
        return (np.where(x >= 0, up, down) - v["center"]) / v["spread"]
