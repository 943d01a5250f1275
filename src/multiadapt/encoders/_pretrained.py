"""Encoders of pictures, texts, sounds and clips: frozen networks that other libraries keep, adapted inside."""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiadapt.attach import Adapter, attach, corrected, repassed, running
from multiadapt.encoders._base import Encoder, Origin, Standardize
from multiadapt.encoders._families._base import Sight
from multiadapt.encoders._families._open import Opened
from multiadapt.errors import EncoderError
from multiadapt.mixing import Corrections, Share, listen, mixed
from multiadapt.types import Cells, Inputs, Site, Stream, Tokens

__all__ = ["Backbone", "ItemPool", "PretrainedEncoder", "Walked"]

Mask = Bool[Tensor, "f n"] | None
_HOME = "backbone."  # where the paths of places inside the network begin


class ItemPool(nn.Module, ABC):
    """Joins the vectors of each row's items, in place of their mean. Trained by every method."""

    @abstractmethod
    def forward(self, vectors: Float[Tensor, "f d"], inputs: Inputs) -> Float[Tensor, "b d"]:
        """Zeros for a row without any item."""


class Backbone(nn.Module):
    """A frozen network, shared by all streams whose specs are equal.

    It stays in evaluation mode, so that BatchNorm's statistics and dropout never move.
    """

    def __init__(self, opened: Opened, frames: int = 1) -> None:
        super().__init__()
        self.frames = frames
        """How many items one file gives: the frames of a clip that the network sees one by one."""
        self.network = opened.family.network
        self.family = opened.family
        self.preparation = opened.preparation
        self.origin = opened.origin
        self.shared = False
        """Whether several models run it, whose adapters come with each pass."""
        self.apart = False
        """Whether it was found that the items of several models cannot pass it together."""
        self.listening = False
        self.train(False)

    def train(self, mode: bool = True) -> "Backbone":  # noqa: FBT001, FBT002 - torch's signature
        return super().train(False)

    def same(self, other: "Backbone") -> bool:
        """Whether both surely compute the same of the same cells."""
        return (
            self.origin.sha256 == other.origin.sha256 != ""
            and self.frames == other.frames
            and self.preparation == other.preparation
            and self._built() == other._built()
        )

    def about(self) -> Mapping[str, str] | None:
        """What tells its frozen computation from any other's; None: padding has a part in it."""
        if self.family.window or not self.origin.sha256:
            return None
        built = self._built()
        return {
            "source": self.origin.source,
            "weights": self.origin.sha256,
            "built": hashlib.sha256(built.encode()).hexdigest(),
        }

    def _built(self) -> str:
        plain = {k: v for k, v in vars(self.family).items() if isinstance(v, (str, int, float))}
        config: Any = getattr(self.network, "config", None)
        settings = config.to_json_string() if hasattr(config, "to_json_string") else ""
        return f"{type(self.family)} {sorted(plain.items())} {settings}\n{self.network}"

    def start(self, tensors: Mapping[str, Tensor], cut: int) -> tuple[Tensor, Mask]:
        """The state that enters block `cut`, from what was kept there or, at 0, from raw inputs."""
        kept = tensors if self.family.window else _trimmed(tensors)
        if cut == 0:
            return self.family.start(self.preparation.numbers(kept))
        return kept["state"], _mask(kept)

    def run(
        self, state: Tensor, sight: Sight, start: int, end: int, once: Collection[int] = ()
    ) -> Tensor:
        """The state that enters block `start` moved on to block `end`; what passes those of `once` passes
        them no second time."""
        for index in range(start, end):
            block = partial(self.family.block, index, sight=sight)
            state = block(state) if index in once else repassed(block, state)
        return state


class Walked(NamedTuple):
    """What came out of a network's last block, item by item."""

    tokens: Float[Tensor, "f m d"]
    mask: Mask
    """Which tokens are real; None: all."""
    pooled: Float[Tensor, "f d"]
    guests: Float[Tensor, "f g d"] | None

    def part(self, start: int, end: int) -> "Walked":
        """Some of the items."""
        some = slice(start, end)
        mask = None if self.mask is None else self.mask[some]
        guests = None if self.guests is None else self.guests[some]
        return Walked(self.tokens[some], mask, self.pooled[some], guests)


class PretrainedEncoder(Encoder):
    """One stream of items (pictures, texts, sounds, frames), several or none a row, through a backbone.

    A row's vector is the mean over its items, or what a trained `pool` makes of them.
    """

    def __init__(
        self, stream: Stream, backbone: Backbone, name: str, pool: "ItemPool | None" = None
    ) -> None:
        super().__init__()
        self.stream = stream
        self.name = name
        self.backbone = backbone
        self.width = backbone.family.width
        self.blocks = backbone.family.blocks
        self.trained, self.learns = False, False
        self.pooled = Standardize(self.width)
        self.pool = pool
        self.tail = tuple(f"pool.{n}" for n, _ in pool.named_parameters()) if pool else ()
        self.late = {}
        self.once: Collection[int] = ()
        """Blocks with an adapter that keeps statistics."""
        self.corrections: Corrections | None = None
        """What this model corrects inside a network that it shares with others."""

    def prepare(self, cells: Cells) -> Inputs:
        rows: Sequence[Sequence[Any]] = cells  # type: ignore[assignment]
        notes: Counter[str] = Counter()
        tensors = self.backbone.preparation.tensors(
            [item for row in rows for item in row], lambda what, items: notes.update({what: items})
        )
        items = [len(row) * self.backbone.frames for row in rows]
        count = torch.tensor(items, dtype=torch.long)
        return Inputs(tensors, count, notes=tuple((w, n) for w, n in notes.items() if n))

    @torch.no_grad()  # not inference_mode: autograd reads what starts from here
    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        if not inputs.cut <= cut <= self.blocks + 1:
            raise EncoderError(
                f"cut must be in {inputs.cut}..{self.blocks + 1} for these inputs, got {cut}"
            )
        if cut == inputs.cut:
            return inputs
        state, mask = self.backbone.start(_filled(inputs), inputs.cut)
        state = self.backbone.run(state, Sight(mask), inputs.cut, min(cut, self.blocks))
        if cut > self.blocks:
            pooled = self.backbone.family.finish(state, mask)[1]
            return Inputs({"pooled": pooled[: inputs.items].contiguous()}, inputs.count, cut)
        # Contiguous, as it is read back from a store: convolutions round other layouts otherwise.
        kept = {"state": state[: inputs.items].contiguous()}
        if "mask" in inputs.tensors:  # kept where all is real too: parts of a batch are joined
            real = state.new_ones(state.shape[:2], dtype=torch.bool) if mask is None else mask
            kept["mask"] = real[: inputs.items].contiguous()
        return Inputs(kept, inputs.count, cut)

    def forward(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None = None) -> Tokens:
        present = inputs.count > 0
        if inputs.items == 0:  # an invented picture would move what adapters learn and count
            return self._nothing(inputs, guests)
        if inputs.cut > self.blocks:
            return Tokens.single(self._settled(inputs.tensors["pooled"], inputs), present)
        with self._live(inputs):
            walked = self.walk(inputs, guests)
        return self.arrived(walked, inputs)

    def walk(self, inputs: Inputs, guests: Float[Tensor, "*f g d"] | None = None) -> Walked:
        """All items through the network, corrected as the caller's `running` or `mixed` says."""
        state, mask, guest = self._walked(inputs, guests)
        return Walked(*self._finished(state, mask), guest)

    def arrived(self, walked: Walked, inputs: Inputs) -> Tokens:
        """What the network made of the rows' items, as this model reads it."""
        pooled = self._settled(walked.pooled, inputs)
        x, seen = _side_by_side(walked.tokens, walked.mask, inputs)
        return Tokens(x, seen, pooled, self._of_rows(walked.guests, inputs, inputs.count > 0))

    def receive(self, adapters: Mapping[Site, Adapter]) -> None:
        """Those inside a network that several models share come with each pass, and leave it as it is."""
        if not self.backbone.shared:
            attach(self, adapters)
            self.once = {s.block for s, a in adapters.items() if a.keeps_statistics}
            # Not of tokens, which guests join before the block whose output is corrected.
            self.late = {
                s: a
                for s, a in adapters.items()
                if a.output_only and s.role == "block" and s.layout == "map"
            }
            return
        inner = {s: a for s, a in adapters.items() if s.path.startswith(_HOME)}
        attach(self, {s: a for s, a in adapters.items() if s not in inner})
        self.corrections = Corrections(self, inner)
        if not self.backbone.listening:
            listen(self, [s for s in self.sites() if s.path.startswith(_HOME)])
            self.backbone.listening = True

    def _live(self, inputs: Inputs) -> AbstractContextManager[Any]:
        """Inside, this stream's adapters correct the network."""
        if self.corrections is None:
            return running(self.stream.name)
        return mixed([Share(self.corrections, inputs.items)])

    def _finished(
        self, state: Tensor, mask: Mask
    ) -> tuple[Float[Tensor, "f m d"], Mask, Float[Tensor, "f d"]]:
        tokens, pooled = self.backbone.family.finish(state, mask)
        return tokens, mask, pooled

    def _settled(self, vectors: Float[Tensor, "f d"], inputs: Inputs) -> Float[Tensor, "b d"]:
        """The items' vectors as the rows', after the adapter that corrects those."""
        with running(self.stream.name):
            return self.corrected(self._joined(vectors, inputs), inputs)

    def _walked(
        self, inputs: Inputs, guests: Float[Tensor, "*f g d"] | None
    ) -> tuple[Tensor, Mask, Float[Tensor, "f g d"] | None]:
        """The last state, which of its tokens are real, and what the guests became.

        Guests enter at `entrance`, where it is set, beside the tokens of every item: the same ones
        everywhere, or some for each item.
        """
        state, mask = self.backbone.start(inputs.tensors, inputs.cut)
        ended = {s: a for s, a in self.late.items() if s.block + 1 == inputs.cut}
        state = corrected(self.stream.name, ended, state)
        last = self.blocks if guests is None or self.entrance is None else self.entrance
        state = self.backbone.run(state, Sight(mask), inputs.cut, last, self.once)
        if guests is None or self.entrance is None:
            return state, mask, None
        state = torch.cat([state, guests.expand(len(state), -1, -1).to(state.dtype)], dim=1)
        count = guests.shape[-2]
        sight = Sight(mask, count, self.visibility)
        state = self.backbone.run(state, sight, self.entrance, self.blocks, self.once)
        state, guest = state[:, :-count], state[:, -count:]
        return state, mask, self.backbone.family.leave(guest)

    def _of_rows(
        self, guest: Float[Tensor, "f g d"] | None, inputs: Inputs, present: Bool[Tensor, " b"]
    ) -> Float[Tensor, "b g d"]:
        """The guests of each row: the mean over its items, standardised as the pooled vector is."""
        if guest is None:
            return torch.zeros(len(inputs), 0, self.width, device=present.device)
        rows = inputs.mean(guest.flatten(1)).unflatten(1, guest.shape[1:])
        return torch.where(present[:, None, None], self.pooled.scaled(rows), 0.0)

    def _nothing(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None) -> Tokens:
        """Tokens of a batch in which every cell of this stream is missing."""
        present = inputs.count > 0
        nothing = Tokens.single(
            torch.zeros(len(inputs), self.width, device=present.device), present
        )
        absent = 0 if guests is None else len(guests)
        return replace(nothing, guests=nothing.pooled[:, None].expand(-1, absent, -1))

    def sites(self) -> tuple[Site, ...]:
        found = self.backbone.family.sites()
        d, last = self.width, found[-1]
        pooled = Site(
            "", "pooled", "pooled", self.blocks, d, d, last.stage, last.stages, layout="vector"
        )
        home = f"{_HOME}network"
        inner = (
            replace(s, path=f"{home}.{s.path}", reads=tuple(f"{home}.{r}" for r in s.reads))
            for s in found
        )
        return tuple(
            replace(s, stream=self.stream.name, network=self.name, modality=self.stream.modality)
            for s in (*inner, pooled)
        )

    def recomputed(self, cut: int) -> int:
        return sum(block not in self.once for block in range(cut, self.blocks))

    def hosts(self, cut: int) -> Literal["blocks", "tokens", "vector"]:
        return "blocks" if self.backbone.family.hosts and cut < self.blocks else "tokens"

    def origin(self) -> Origin:
        return self.backbone.origin

    def about(self) -> Mapping[str, str] | None:
        return self.backbone.about()

    def prepared_by(self) -> str | None:
        """Tokens of a text are sooner made than a hash of the tokenizer."""
        return None if self.stream.modality == "text" else repr(self.backbone.preparation)

    def bytes_by(self) -> str | None:
        return self.backbone.preparation.bytes_by

    def _joined(self, pooled: Float[Tensor, "f d"], inputs: Inputs) -> Float[Tensor, "b d"]:
        return inputs.mean(pooled) if self.pool is None else self.pool(pooled, inputs)


def _filled(inputs: Inputs) -> Mapping[str, Tensor]:
    """The tensors; one item of ones where there are none: libraries want at least one."""
    if inputs.items:
        return inputs.tensors
    return {k: t.new_ones(1, *t.shape[1:]) for k, t in inputs.tensors.items()}


def _trimmed(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Sequences cut to the longest of the batch: padding comes last and costs time."""
    if "mask" not in tensors:
        return tensors
    longest = int(tensors["mask"].sum(1).max())
    return {k: t[:, :longest] for k, t in tensors.items()}


def _mask(tensors: Mapping[str, Tensor]) -> Mask:
    """Which tokens are real; None where all are, which is quicker."""
    mask = tensors.get("mask")
    return None if mask is None or bool(mask.all()) else mask


def _side_by_side(
    items: Float[Tensor, "f m d"], mask: Bool[Tensor, "f m"] | None, inputs: Inputs
) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
    """Tokens of each row's items in one line, zeros after the last."""
    _, m, d = items.shape
    rows = len(inputs)
    real = (
        torch.ones(items.shape[:2], dtype=torch.bool, device=items.device) if mask is None else mask
    )
    if inputs.single:
        return items, real
    most = int(inputs.count.max())
    there = torch.arange(most, device=items.device) < inputs.count[:, None]
    x = items.new_zeros(rows, most, m, d).masked_scatter(there[..., None, None], items)
    seen = real.new_zeros(rows, most, m).masked_scatter(there[..., None], real)
    return x.reshape(rows, most * m, d), seen.reshape(rows, most * m)
