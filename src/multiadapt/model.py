"""The adapted model: encoders with adapters inside, a fusion, a head. The only file that knows the folders."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.attach import Adapter, attach
from multiadapt.encoders._base import Encoder, EncoderSpec
from multiadapt.errors import ArtifactError, SpecError
from multiadapt.methods._base import Method
from multiadapt.missing._base import Seat
from multiadapt.spec import names, resolve
from multiadapt.tasks._base import Head, Target
from multiadapt.types import Inputs, Site, Stream

__all__ = ["AdaptedModel", "Part", "Scored", "build_encoders", "count_parts", "encoder_spec"]


class Scored(NamedTuple):
    """What a model says of a batch."""

    scores: Float[Tensor, "b c"]
    penalty: Float[Tensor, ""]
    """What the filling and the fusion add to the loss in training."""


@dataclass(frozen=True)
class Part:
    """Numbers of parameters of one part of a model."""

    part: str
    trainable: int
    frozen: int


class AdaptedModel(nn.Module):
    """Encoders by stream, corrected as `method` says, joined and read by a head for `target`.

    Encoders have learned (or been restored) before: only then are their widths known.
    """

    def __init__(self, encoders: Mapping[str, Encoder], method: Method, target: Target) -> None:
        super().__init__()
        self.streams = tuple(encoders)
        self.encoders = nn.ModuleList(encoders.values())  # stream names may hold any character
        self.fusion = method.fusion().build({s: e.width for s, e in encoders.items()})
        self.head: Head = target.head(self.fusion.width if method.linear_head() else None)
        self._looks = method.missing.looks
        own = {s: e.sites() for s, e in encoders.items()}
        sites = [*(site for found in own.values() for site in found), *self.fusion.sites()]
        self.placed: Mapping[Site, Adapter] = method.adapters(sites)
        self.adapters = nn.ModuleList(_unique(self.placed).values())
        self._native = {s: tuple(method.native(e)) for s, e in encoders.items()}
        seats = {s: Seat(e.width, e.hosts(self.cuts()[s])) for s, e in encoders.items()}
        self.missing = method.missing.build(seats)
        self._open_for_guests(seats)
        self._freeze()
        # Found once: walking a frozen network in every epoch would cost more than its adapters.
        self._changed = {s: {n: attrgetter(n) for n in self._encoder_names(s)} for s in encoders}
        for name, encoder in encoders.items():
            attach(encoder, {s: self.placed[s] for s in own[name] if s in self.placed})
        attach(self.fusion, {s: self.placed[s] for s in self.fusion.sites() if s in self.placed})

    def forward(self, batch: Mapping[str, Inputs]) -> Scored:
        # Where the tokens see the guests, a complete row must not depend on another one's gap.
        seen = self.missing.visibility == "full"
        guests = self.missing.guests() if self.training or seen or _gaps(batch) else {}
        tokens = {
            s: e(batch[s], guests.get(s)) for s, e in zip(self.streams, self.encoders, strict=True)
        }
        tokens, penalty = self.missing(tokens)
        return Scored(self.head(tokens, self.fusion), penalty + self.fusion.penalty(tokens))

    def _open_for_guests(self, seats: Mapping[str, Seat]) -> None:
        """Guests join where the kept prefix ends, in training and after it."""
        invited = self.missing.guests()
        for stream, seat in seats.items():
            if seat.hosts == "blocks" and stream in invited:
                self.encoder(stream).entrance = self.cuts()[stream]
                self.encoder(stream).visibility = self.missing.visibility

    def encoder(self, stream: str) -> Encoder:
        return cast(Encoder, self.encoders[self.streams.index(stream)])

    def cuts(self) -> dict[str, int]:
        """How deep each stream's inputs may be computed once and kept."""
        return {
            s: self.encoder(s).cut_for(
                [p for p in self.placed if p.stream == s], self._native[s], tokens=self._looks
            )
            for s in self.streams
        }

    def trained_state(self) -> dict[str, Tensor]:
        """Everything a fit changes, by stable name: trained tensors, and statistics taken in training."""
        state: dict[str, Tensor] = {}
        for key, adapter in _unique(self.placed).items():
            state |= {f"adapter:{key}:{n}": t for n, t in adapter.state_dict().items()}
        for stream in self.streams:
            encoder = self.encoder(stream)
            for name, get in self._changed[stream].items():
                state[f"native:{stream}:{name}"] = get(encoder).detach()
        for part in ("missing", "fusion", "head"):
            state |= {f"{part}:{n}": t for n, t in getattr(self, part).state_dict().items()}
        return state

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `trained_state`; the names must be exactly its names."""
        own = self.trained_state()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise ArtifactError(
                f"saved tensors must match the model: {len(missing)} missing {missing[:5]}, "
                f"{len(unknown)} unknown {unknown[:5]}"
            )
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise ArtifactError(
                    f"saved tensor {name!r} must have shape {tuple(tensor.shape)}, "
                    f"got {tuple(state[name].shape)}"
                )
            tensor.copy_(state[name])

    def parts(self) -> list[Part]:
        """Parameters of each part; a network that several streams share is counted once."""
        found: list[Part] = []
        seen: set[int] = set()
        for stream in self.streams:
            parameters = [p for p in self.encoder(stream).parameters() if id(p) not in seen]
            seen |= {id(p) for p in parameters}
            found.append(_part(f"encoder {stream}", parameters))
        for stream, adapters in self._adapters_by_stream().items():
            found.append(_part(f"adapters {stream}", [p for a in adapters for p in a.parameters()]))
        whole = {"missing": self.missing, "fusion": self.fusion, "head": self.head}
        found += [_part(name, module.parameters()) for name, module in whole.items()]
        return [p for p in found if p.trainable + p.frozen]

    def _adapters_by_stream(self) -> dict[str, list[Adapter]]:
        grouped: dict[str, list[Adapter]] = {}
        for adapter in _unique(self.placed).values():
            users = list(dict.fromkeys(s.stream for s, a in self.placed.items() if a is adapter))
            grouped.setdefault(" + ".join(users), []).append(adapter)
        return grouped

    def _encoder_names(self, stream: str) -> list[str]:
        """Which of an encoder's tensors a fit changes; those of a shared network count once."""
        encoder = self.encoder(stream)
        trained = {n for n, p in encoder.named_parameters() if p.requires_grad}
        kept = {n for n, _ in encoder.named_buffers() if n.startswith("pooled.") or encoder.trained}
        first = self._first_user(stream)
        return [
            n
            for n in encoder.state_dict()
            if n in kept or (n in trained and (first or not n.startswith("backbone.")))
        ]

    def _first_user(self, stream: str) -> bool:
        """Whether no stream before this one shares its network: its tensors are saved once."""
        own = {id(p) for p in self.encoder(stream).parameters()}
        before = self.streams[: self.streams.index(stream)]
        return not any(id(p) in own for s in before for p in self.encoder(s).parameters())

    def _freeze(self) -> None:
        for stream in self.streams:
            encoder = self.encoder(stream)
            native = set(self._native[stream])
            for name, parameter in encoder.named_parameters():
                parameter.requires_grad_(encoder.trained or name in native)


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


def encoder_spec(modality: str, choice: "str | EncoderSpec") -> EncoderSpec:
    """A spec as it is; the name of an encoder; else the source of the modality's own encoder."""
    if isinstance(choice, EncoderSpec):
        spec = choice
    elif choice.replace("-", "_") in names("encoders"):
        spec = resolve("encoders", choice)()
    else:
        kind = resolve("encoders", modality)
        if "source" not in {f.name for f in fields(kind)}:
            raise SpecError(f"the {modality} encoder opens no source, got {choice!r}: leave it out")
        spec = kind(source=choice)
    if spec.modality != modality:
        raise SpecError(
            f"{type(spec).__name__} reads {spec.modality} columns, not {modality} columns"
        )
    return spec


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
    for key, adapter in _unique(placed).items():
        name = f"adapters {key.split('/')[0]}"
        sizes[name] = sizes.get(name, 0) + _part(name, adapter.parameters()).trainable
    found += [Part(name, size, 0) for name, size in sizes.items()]
    for name, module in (("missing", filling), ("fusion", fusion)):
        found.append(_part(name, module.parameters()))
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
        trained = sum(own[n].numel() for n in method.native(encoder) if n in own)
        total = sum(p.numel() for p in own.values())
        found.append(Part(f"encoder {encoder.stream.name}", trained, total - trained))
    return found


def _gaps(batch: Mapping[str, Inputs]) -> bool:
    """Whether any row lacks any of its modalities."""
    return any(bool((inputs.count == 0).any()) for inputs in batch.values())


def _unique(placed: Mapping[Site, Adapter]) -> dict[str, Adapter]:
    """Each adapter once, by the key of the first site that it serves."""
    seen: dict[int, str] = {}
    unique: dict[str, Adapter] = {}
    for site, adapter in placed.items():
        if id(adapter) not in seen:
            seen[id(adapter)] = site.key
            unique[site.key] = adapter
    return unique


def _part(name: str, parameters: Iterable[nn.Parameter]) -> Part:
    sizes = [(p.numel(), p.requires_grad) for p in parameters]
    return Part(name, sum(n for n, g in sizes if g), sum(n for n, g in sizes if not g))
