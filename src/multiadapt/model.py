"""The adapted model: encoders with adapters inside, a fusion, a head. The only file that knows the folders."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from os import PathLike, fspath
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.adapted import Adapted, Part, part, unique
from multiadapt.attach import Adapter
from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.methods._base import Method
from multiadapt.missing._base import Seat
from multiadapt.spec import Spec, names, resolve
from multiadapt.tasks._base import Head, Target
from multiadapt.types import Inputs, Site, Stream

__all__ = [
    "AdaptedModel",
    "Choice",
    "Part",
    "Scored",
    "at_place",
    "build_encoders",
    "count_parts",
    "encoder_spec",
]

S = TypeVar("S", bound=Spec)

Choice: TypeAlias = str | PathLike[str] | EncoderSpec
"""An encoder by its spec, its name, or the place of its weights."""


class Scored(NamedTuple):
    """What a model says of a batch."""

    scores: Float[Tensor, "b c"]
    penalty: Float[Tensor, ""]
    """What the filling and the fusion add to the loss in training."""


class AdaptedModel(Adapted):
    """Encoders by stream, corrected as `method` says, joined and read by a head for `target`.

    Encoders have learned (or been restored) before: only then are their widths known.
    """

    trains = ("missing", "fusion", "head")

    def __init__(self, encoders: Mapping[str, Encoder], method: Method, target: Target) -> None:
        super().__init__(encoders)
        self.fusion = method.fusion().build({s: e.width for s, e in encoders.items()})
        self.head: Head = target.head(self.fusion.width if method.linear_head() else None)
        self.looks = method.missing.looks
        self._adapt(method, [self.fusion])
        seats = {s: Seat(e.width, e.hosts(self.cuts()[s])) for s, e in encoders.items()}
        self.missing = method.missing.build(seats)
        self._open_for_guests(seats)
        self._settle()

    def forward(self, batch: Mapping[str, Inputs]) -> Scored:
        # Where the tokens see the guests, a complete row must not depend on another one's gap.
        seen = self.missing.visibility == "full"
        guests = self.missing.guests() if self.training or seen or _gaps(batch) else {}
        tokens = {
            s: e(batch[s], guests.get(s)) for s, e in zip(self.streams, self.encoders, strict=True)
        }
        tokens, penalty = self.missing(tokens)
        return Scored(self.head(tokens, self.fusion), penalty + self.fusion.penalty(tokens))

    def loss(
        self, batch: Mapping[str, Inputs], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        scores, penalty = self(batch)
        return self.head.loss(scores.float(), target, weight) + penalty

    def held_out_loss(
        self, scores: Float[Tensor, "b c"], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        return self.head.loss(scores, target, weight)

    def _open_for_guests(self, seats: Mapping[str, Seat]) -> None:
        """Guests join where the kept prefix ends, in training and after it."""
        invited = self.missing.guests()
        for stream, seat in seats.items():
            if seat.hosts == "blocks" and stream in invited:
                self.encoder(stream).entrance = self.cuts()[stream]
                self.encoder(stream).visibility = self.missing.visibility


def build_encoders(
    streams: Sequence[Stream],
    specs: Mapping[str, EncoderSpec],
    kind: Literal["classification", "regression", "multilabel"],
) -> dict[str, Encoder]:
    """Encoders by stream name. Streams with equal specs share one network in memory."""
    networks: dict[EncoderSpec, nn.Module | None] = {}
    built: dict[str, Encoder] = {}
    for stream in streams:
        spec = specs[stream.name]
        if spec not in networks:
            networks[spec] = spec.open(kind)
        name = f"network{list(networks).index(spec)}"
        built[stream.name] = spec.build(stream, networks[spec], name)
    return built


def encoder_spec(modality: str, choice: Choice) -> EncoderSpec:
    """A spec as it is; the name of an encoder; else the source of the modality's own encoder."""
    if isinstance(choice, EncoderSpec):
        spec = choice
    elif (source := fspath(choice)).replace("-", "_") in names("encoders"):
        spec = resolve("encoders", source)()
    else:
        kind = resolve("encoders", modality)
        if "source" not in {f.name for f in fields(kind)}:
            raise SpecError(f"the {modality} encoder opens no source, got {source!r}: leave it out")
        spec = kind(source=source)
    if spec.modality != modality:
        raise SpecError(
            f"{type(spec).__name__} reads {spec.modality} columns, not {modality} columns"
        )
    return spec


def at_place(spec: S, place: str | PathLike[str]) -> S:
    """The same with its weights at another place, where a hash tells that they are the same ones, and not a
    revision of the old place."""
    own = spec.get_params(deep=False)
    revision = {"revision": None} if "revision" in own else {}
    return spec.with_params(source=fspath(place), **revision)


def count_parts(
    method: Method,
    sites: Sequence[Site],
    widths: Mapping[str, int],
    outputs: int,
    encoders: Sequence[Encoder] = (),
) -> list[Part]:
    """What a method would train, without data: parameters of `encoders`, adapters at `sites`, a head."""
    with torch.device("meta"):
        placed = method.adapters(sites)
        fusion = method.fusion().build(widths)
        filling = method.missing.build(_seats(method, placed, widths, encoders))
    found = _encoder_parts(method, encoders)
    sizes: dict[str, int] = {}
    for key, adapter in unique(placed).items():
        name = f"adapters {key.split('/')[0]}"
        sizes[name] = sizes.get(name, 0) + part(name, adapter.parameters()).trainable
    found += [Part(name, size, 0) for name, size in sizes.items()]
    for name, module in (("missing", filling), ("fusion", fusion)):
        found.append(part(name, module.parameters()))
    if method.linear_head():
        found.append(Part("head", (fusion.width + 1) * outputs, 0))
    return [p for p in found if p.trainable + p.frozen or p.part.startswith("encoder")]


def _seats(
    method: Method,
    placed: Mapping[Site, Adapter],
    widths: Mapping[str, int],
    encoders: Sequence[Encoder],
) -> dict[str, Seat]:
    """What a filling would be told; a stream without an encoder here counts as a single vector."""
    seats = {s: Seat(width, "vector") for s, width in widths.items()}
    for e in encoders:
        own = [p for p in placed if p.stream == e.stream.name]
        cut = e.cut_for(own, method.native(e), tokens=method.missing.looks)
        seats[e.stream.name] = Seat(widths[e.stream.name], e.hosts(cut))
    return seats


def _encoder_parts(method: Method, encoders: Sequence[Encoder]) -> list[Part]:
    found: list[Part] = []
    seen: set[int] = set()  # a network that several streams share is counted once
    for encoder in encoders:
        own = {n: p for n, p in encoder.named_parameters() if id(p) not in seen}
        seen |= {id(p) for p in own.values()}
        names = {*method.native(encoder), *encoder.tail}
        trained = sum(own[n].numel() for n in names if n in own)
        total = sum(p.numel() for p in own.values())
        found.append(Part(f"encoder {encoder.stream.name}", trained, total - trained))
    return found


def _gaps(batch: Mapping[str, Inputs]) -> bool:
    """Whether any row lacks any of its modalities."""
    return any(bool((inputs.count == 0).any()) for inputs in batch.values())
