"""Many saved models served over one copy of the frozen networks that they share."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch

from multiadapt import artifact
from multiadapt.answers import check_empty
from multiadapt.data.tables import did_you_mean
from multiadapt.encoders._base import EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.fitted import Answer, Fitted
from multiadapt.folders import read_config
from multiadapt.gather import Source, opened
from multiadapt.many_rows import Names, groups_of, read, rows_by_name, score
from multiadapt.networks import Networks, networks_of, size_of
from multiadapt.scoring import device_of

__all__ = ["ManyModels", "load_many"]

_log = logging.getLogger("multiadapt")

Folders: TypeAlias = Mapping[str, str | PathLike[str]] | Sequence[str | PathLike[str]]
Moved: TypeAlias = Mapping[str, str | EncoderSpec]


def load_many(
    folders: Folders,
    *,
    encoders: Moved | None = None,
    device: str | None = None,
) -> "ManyModels":
    """Saved models, each checked on its golden rows, over one copy of the frozen networks they share.

    Args:
        folders: folders by the name that each model is to have; of a list, each has its folder's name.
        encoders: other places of frozen weights that have moved, by modality or column; for those
            models that have it.
        device: "cpu", "cuda" ...; None picks a GPU where there is one.
    """
    found = ManyModels(encoders=encoders, device=device)
    for name, folder in _named(folders).items():
        found.add(name, folder)
    found.check_moved()
    return found


def _named(folders: Folders) -> dict[str, Path]:
    """SpecError where two folders of a list have one name."""
    if isinstance(folders, (str, PathLike)):
        raise SpecError(
            f"folders must be a mapping or a list of folders, got {str(folders)!r}: give it as a list of one"
        )
    if isinstance(folders, Mapping):
        return {name: Path(folder) for name, folder in folders.items()}
    named: dict[str, Path] = {}
    for folder in map(Path, folders):
        name = folder.resolve().name
        if name in named:
            raise SpecError(
                f"the models' folders must have different names; {named[name]} and {folder} are both "
                f"{name!r}: give a mapping from names to folders"
            )
        named[name] = folder
    return named


class ManyModels:
    """Models by name. Frozen networks are in memory once, whoever runs them; models may come and go
    while other threads predict."""

    def __init__(self, *, encoders: Moved | None = None, device: str | None = None) -> None:
        self.device = device_of(device)
        self._moved = encoders or {}
        self._networks = Networks()
        self._served: Mapping[str, Fitted] = {}
        self._used: set[str] = set()
        self._changing = Lock()
        # A model is built and checked on the CPU: meanwhile nobody may run networks elsewhere.
        self._turn = nullcontext() if self.device.type == "cpu" else Lock()

    @property
    def names(self) -> list[str]:
        """The models, in the order in which they were added."""
        return list(self._served)

    def add(self, name: str, folder: str | PathLike[str]) -> None:
        """Load one more. A model whose method trains the networks' own parameters gets networks of its own,
        with a warning: `sizes` shows what they take."""
        with self._changing:
            if name in self._served:
                raise SpecError(
                    f"a model is called {name!r} already: remove it first, or give another name"
                )
            try:
                fitted = self._loaded(Path(folder))
                self._served = {**self._served, name: fitted}
            finally:
                self._forget()
        if own := self._own(fitted):
            _log.warning(
                "%s trains its networks' own parameters and cannot share them: %.1f MB of its own",
                name, own / 1e6,
            )  # fmt: skip

    def remove(self, name: str) -> None:
        """Let a model go, and the networks that nobody else runs."""
        with self._changing:
            self._check(name)
            self._served = {n: f for n, f in self._served.items() if n != name}
            self._forget()

    def predict(
        self,
        table: Source,
        *,
        adapter: Names,
        root: str | Path | None = None,
        empty: Literal["raise", "prior"] = "raise",
    ) -> pd.Series:
        """What each row's model predicts, with the caller's index: class labels, values, or for several labels
        a row a tuple of those that it has. Where the models' answers are of different kinds, as objects.

        Args:
            table: a table, or a file of one.
            adapter: the model of all rows, a column with names of models, or a name for each row.
            root: folder that file paths are relative to; default the table's own, else each model's.
            empty: as in `MultimodalClassifier.predict`.
        """
        found, index = self._answered(table, adapter, root, empty)
        parts = [one.predicted() for one in found]
        if len({one.kind for one in found}) > 1 or len({part.dtype for part in parts}) > 1:
            parts = [part.astype(object) for part in parts]
        labels = [one.fitted.info.get("label") for one in found]
        same = len(labels) > 0 and all(label == labels[0] for label in labels)
        joined = pd.concat(parts).sort_index() if parts else pd.Series([], dtype=object)
        return joined.set_axis(index).rename(
            labels[0] if same and isinstance(labels[0], str) else None
        )

    def predict_proba(
        self,
        table: Source,
        *,
        adapter: Names,
        root: str | Path | None = None,
        empty: Literal["raise", "prior"] = "raise",
    ) -> pd.DataFrame:
        """A column for each class (or label) of any of the rows' models; nan where a row's own model does not
        know it. Arguments are as in `predict`."""
        found, index = self._answered(table, adapter, root, empty)
        if wrong := [one.name for one in found if one.kind == "regression"]:
            raise SpecError(
                f"predict_proba is for classes and labels, but the models {wrong} predict numbers: leave "
                "their rows out, or call predict"
            )
        parts = [one.probabilities() for one in found]
        joined = pd.concat(parts).sort_index() if parts else pd.DataFrame()
        return joined.set_axis(index, axis=0)

    def sizes(self) -> pd.DataFrame:
        """Bytes of memory that each model takes beside the shared networks.

        adapter: what was trained. context: what its encoders keep of training rows. network: frozen
        networks that it shares with nobody.
        """
        rows = {
            name: {
                "adapter": size_of(*fitted.model.trained_state().values()),
                "context": sum(fitted.model.encoder(s).held_bytes() for s in fitted.model.streams),
                "network": self._own(fitted),
            }
            for name, fitted in self._served.items()
        }
        columns = ["adapter", "context", "network"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")

    def networks(self) -> pd.DataFrame:
        """The networks that are there once for all: where each is from, its bytes and how many models run it."""
        used = [networks_of(fitted.model) for fitted in self._served.values()]
        every = {
            id(network): network for own in used for network in own if network in self._networks
        }
        rows = [
            {
                "source": getattr(getattr(network, "origin", None), "source", ""),
                "bytes": size_of(network),
                "models": sum(any(n is network for n in own) for own in used),
            }
            for network in every.values()
        ]
        return pd.DataFrame(rows, columns=["source", "bytes", "models"])

    def check_moved(self) -> None:
        """SpecError where `encoders` names what no model has."""
        if unknown := sorted(self._moved.keys() - self._used):
            raise SpecError(
                f"encoders names {unknown}, and no model has a column or a modality of that name"
            )

    def _loaded(self, folder: Path) -> Fitted:
        with self._turn:
            self._networks.move(torch.device("cpu"))
            try:
                return artifact.load(
                    folder,
                    encoders=self._moved_of(folder),
                    device=str(self.device),
                    opening=self._networks.open,
                )
            finally:
                self._networks.move(self.device)

    def _forget(self) -> None:
        """Networks that nobody runs."""
        self._networks.keep(fitted.model for fitted in self._served.values())

    def _moved_of(self, folder: Path) -> dict[str, str | EncoderSpec]:
        """The places that this model has a use for."""
        if not self._moved:
            return {}
        kept = read_config(folder).get("encoders", {})
        streams = [s for s in artifact.schema_of(folder).streams() if s.name in kept]
        known = {name for s in streams for name in (s.name, s.modality)}
        own = {name: place for name, place in self._moved.items() if name in known}
        self._used |= own.keys()
        return own

    def _own(self, fitted: Fitted) -> int:
        """Bytes of the networks that nobody shares with this model."""
        return size_of(*(n for n in networks_of(fitted.model) if n not in self._networks))

    def _check(self, name: str) -> None:
        if name not in self._served:
            guess = did_you_mean([name], self.names)
            raise SpecError(f"no model is called {name!r}; there are {self.names}{guess}")

    def _answered(
        self,
        source: Source,
        adapter: Names,
        root: str | Path | None,
        empty: Literal["raise", "prior"],
    ) -> tuple[list["_Answered"], pd.Index]:
        check_empty(empty)
        table = opened(source, root)
        served = self._served  # as they are now, whoever comes or goes meanwhile
        rows = rows_by_name(adapter, table.frame, list(served))
        with torch.inference_mode(), self._turn:
            groups = groups_of(served, table.frame, rows, table.root)
        for block in read(groups):
            with torch.inference_mode(), self._turn:
                score(served, block, self.device)
        found: list[_Answered] = []
        for group in groups:
            fitted, feed = served[group.name], group.feed
            feed.reading.finish()
            feed.reader.say_remarks()
            answer = fitted.judged(feed, torch.cat(group.scores).numpy(), empty)
            found.append(_Answered(group.name, fitted, group.rows, answer))
        return found, table.frame.index


class _Answered(NamedTuple):
    """What one model says of its rows."""

    name: str
    fitted: Fitted
    rows: np.ndarray
    """(b,) where they stand in the table."""
    answer: Answer

    @property
    def kind(self) -> str:
        return self.fitted.target.kind

    @property
    def classes(self) -> list[Any]:
        """Classes, or the names of labels."""
        state = self.fitted.target.state()
        return list(state["names"] if "names" in state else state["classes"])

    def predicted(self) -> pd.Series:
        """By position in the table."""
        values = self.fitted.target.predict(self.answer.scores)
        if values.ndim == 2:
            names = np.asarray(self.classes, dtype=object)
            return pd.Series([tuple(names[row > 0]) for row in values], self.rows, dtype=object)
        return pd.Series(values, index=self.rows)

    def probabilities(self) -> pd.DataFrame:
        """The same, a column for each class."""
        values = self.fitted.target.probabilities(self.answer.scores)
        return pd.DataFrame(values, index=self.rows, columns=self.classes)
