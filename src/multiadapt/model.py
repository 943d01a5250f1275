"""The adapted model: encoders with adapters inside, a fusion, a head. The only file that knows the folders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike, fspath
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt import processes
from multiadapt.adapted import Adapted, Part, part, unique
from multiadapt.attach import Adapter
from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.errors import SpecError
from multiadapt.methods._base import Method
from multiadapt.missing._base import Seat
from multiadapt.spec import Spec, names, resolve
from multiadapt.tasks._base import Head, Target
from multiadapt.types import Inputs, Site, Stream, Tokens

__all__ = [
    "AdaptedModel",
    "Choice",
    "Opening",
    "Part",
    "Scored",
    "TaskKind",
    "at_place",
    "build_encoders",
    "count_parts",
    "encoder_spec",
]

S = TypeVar("S", bound=Spec)
TaskKind: TypeAlias = Literal["classification", "regression", "multilabel"]

Choice: TypeAlias = str | PathLike[str] | EncoderSpec
"""An encoder by its spec, its name, or the place of its weights."""

Opening: TypeAlias = Callable[[EncoderSpec, TaskKind], nn.Module | None]
"""From a spec and the kind of the labels to the frozen network."""


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
        return self.judged(self._tokens(batch))

    def judged(self, tokens: Mapping[str, Tokens]) -> Scored:
        """What is said of rows by what their encoders made of them."""
        tokens, penalty = self.missing(tokens)
        return Scored(self.head(tokens, self.fusion), penalty + self.fusion.penalty(tokens))

    def guests(self, batch: Mapping[str, Inputs]) -> Mapping[str, Float[Tensor, "g d"]]:
        """What joins the tokens of a batch, by stream."""
        # Where the tokens see the guests, a complete row must not depend on another one's gap.
        seen = self.missing.visibility == "full"
        return self.missing.guests() if self.training or seen or _gaps(batch) else {}

    def _tokens(self, batch: Mapping[str, Inputs]) -> dict[str, Tokens]:
        """Of the streams that the batch has."""
        guests = self.guests(batch)
        held = [s for s in self.streams if s in batch]
        return {s: _said(self.encoder(s), batch[s], guests.get(s)) for s in held}

    def vectors(
        self, batch: Mapping[str, Inputs], stream: str | None = None
    ) -> Float[Tensor, "b d"]:
        """What the head reads of every row; or the pooled vector of a stream, the others left unread."""
        if stream is not None:
            return self._tokens({stream: batch[stream]})[stream].pooled
        tokens, _ = self.missing(self._tokens(batch))
        return self.fusion(tokens)

    def loss(
        self, batch: Mapping[str, Inputs], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        scores, penalty = self(batch)
        return self.head.loss(scores.float(), target, weight) * processes.share(weight) + penalty

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
    opening: Opening | None = None,
) -> dict[str, Encoder]:
    """Encoders by stream name. Streams with equal specs share one network in memory.

    `opening` opens networks in place of their specs, as one that keeps them for other models does.
    """
    networks: dict[EncoderSpec, nn.Module | None] = {}
    built: dict[str, Encoder] = {}
    for stream in streams:
        spec = specs[stream.name]
        if spec not in networks:
            networks[spec] = spec.open(kind) if opening is None else opening(spec, kind)
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


def _said(encoder: Encoder, inputs: Inputs, guests: Float[Tensor, "g d"] | None) -> Tokens:
    """What an encoder makes of the rows.

    In training, adapters may take statistics of the rows of all processes. One whose rows all lack this stream,
    while others' have it, passes an invented item that counts for nothing, so that nobody waits for it.
    """
    somewhere = encoder.training and processes.anywhere(inputs.items)
    said = encoder(inputs, guests)
    if inputs.items or not somewhere:
        return said
    invented = {k: t.new_ones(1, *t.shape[1:]) for k, t in inputs.tensors.items()}
    count = (torch.arange(len(inputs)) == 0).to(inputs.count)
    with processes.unheard():
        seen = encoder(replace(inputs, tensors=invented, count=count), guests).pooled
    never = torch.zeros((), dtype=torch.bool, device=seen.device)
    return replace(said, pooled=torch.where(never, seen.sum(), said.pooled))


def _gaps(batch: Mapping[str, Inputs]) -> bool:
    """Whether any row lacks any of its modalities."""
    return any(bool((inputs.count == 0).any()) for inputs in batch.values())
