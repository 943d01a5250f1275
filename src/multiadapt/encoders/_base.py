"""What every encoder gives: tokens of a row, its sites, and a frozen prefix that can be stored."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.attach import Adapter, attach
from multiadapt.errors import SpecError
from multiadapt.spec import Spec
from multiadapt.types import Cells, Inputs, Labels, Site, Stream, Tokens

__all__ = [
    "Encoder",
    "EncoderSpec",
    "Learned",
    "Origin",
    "Owner",
    "Standardize",
    "at_least",
    "pooled_site",
]


@dataclass(frozen=True)
class Origin:
    """Where an encoder's frozen weights come from: what an artifact names instead of holding them."""

    source: str
    """Hub name, folder, "starter" or "random:..."; what the spec was given."""
    sha256: str = ""
    """Hash of the frozen weights, in a stated order; "" where there are none."""
    revision: str | None = None
    licence: str = "unknown"


@dataclass(frozen=True)
class Learned:
    """What an encoder kept of the training rows, as JSON values and tensors."""

    values: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    holds_rows: bool = False
    """True where the tensors are training rows of the user's (an in-context encoder's context)."""


@runtime_checkable
class Owner(Protocol):
    """A module whose own parameters a method may train: an encoder, or what is treated as one."""

    stream: Stream
    trained: bool
    tail: tuple[str, ...]

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...

    def state_dict(self) -> dict[str, Tensor]: ...


class Encoder(nn.Module, ABC):
    """A network over one stream. Leaves set `stream`, `width`, `blocks`, `trained` in `__init__`."""

    stream: Stream
    width: int
    """Width d of the pooled vector."""
    blocks: int
    """Cut k in 1..blocks is the state after block k - 1; cut blocks + 1 is the pooled vector."""
    trained: bool
    """True where all parameters start at random and every method trains them."""
    learns: bool = True
    """Whether `learn` wants to see the training rows."""
    tail: tuple[str, ...] = ()
    """Names of own parameters behind the last block, which every method trains."""
    pooled: "Standardize"
    """What the pooled vector passes last; a site of role "pooled" corrects its output."""
    late: Mapping[Site, Adapter] = {}
    """Sites that a kept prefix may hold the uncorrected output of: it is corrected when it is read."""
    entrance: int | None = None
    """The block before which guests join the tokens; None: it takes none. The model sets it."""
    visibility: Literal["read-only", "full"] = "read-only"
    """full: the tokens see the guests too. The model sets it."""

    def learn(self, cells: Cells, labels: Labels, seed: int) -> Inputs | None:
        """Called once per fit with the training rows. May return the training rows' own inputs, where
        they differ from what `prepare` would give (out-of-fold, for in-context encoders)."""
        return None

    @abstractmethod
    def prepare(self, cells: Cells) -> Inputs:
        """Cells to tensors, on the CPU, at cut 0; pure; row i stays row i."""

    @abstractmethod
    def prefix(self, inputs: Inputs, cut: int) -> Inputs:
        """The inputs moved on to `cut`, without gradient: a pure function of row and cut."""

    @abstractmethod
    def forward(self, inputs: Inputs, guests: Float[Tensor, "g d"] | None = None) -> Tokens:
        """From the inputs' cut onward, with the adapters of this stream live."""

    def corrected(self, pooled: Float[Tensor, "b d"], inputs: Inputs) -> Float[Tensor, "b d"]:
        """The rows' vectors standardised, then after their adapter, whose bias must not fill a missing cell."""
        return inputs.blank(self.pooled(pooled, inputs))

    def recomputed(self, cut: int) -> int:
        """How many blocks from `cut` on `recomputing` computes again. Default: none."""
        return 0

    def hosts(self, cut: int) -> Literal["blocks", "tokens", "vector"]:
        """How a guest may look at this stream when all before `cut` is frozen: from inside the blocks,
        at the last tokens, or at the one vector that there is. Default: the vector."""
        return "vector"

    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """Every place where an adapter may be attached, paths relative to this module."""

    @abstractmethod
    def origin(self) -> Origin: ...

    def receive(self, adapters: Mapping[Site, Adapter]) -> None:
        """Put adapters at sites of this encoder. Default: by hooks of their own."""
        attach(self, adapters)

    def held_bytes(self) -> int:
        """Bytes of memory that hold what it keeps of the training rows. Default: those it saves."""
        return sum(t.numel() * t.element_size() for t in self.learned().tensors.values())

    def about(self) -> Mapping[str, str] | None:
        """What `prefix` depends on beside row and cut, where it is worth keeping from run to run and no
        row's values depend on its batch. Default: None, it is not."""
        return None

    def prepared_by(self) -> str | None:
        """What `prepare` depends on beside the cell, where it takes so long that a row is better known by
        its files than by what became of them. Default: None, it does not."""
        return None

    def bytes_by(self) -> str | None:
        """What tells the bytes, such as pixels, that `prepare` makes of a cell from those of other encoders.
        Default: None, it makes none that are sooner read back than made."""
        return None

    def learns_by(self) -> Mapping[str, str] | None:
        """What `learn` depends on beside its arguments, where what it makes is worth keeping from run to run.
        Default: None, it is not."""
        return None

    def learned(self) -> Learned:
        """What `learn` kept, for the artifact. Default: nothing."""
        return Learned()

    def restore(self, learned: Learned) -> None:
        """The inverse of `learned`."""

    def cut_for(
        self, sites: Collection[Site], native: Collection[str], *, tokens: bool = False
    ) -> int:
        """The deepest cut before everything trained: adapters at `sites`, own parameters `native`.

        `tokens`: the last tokens are read too, so that the pooled vector alone is too deep.
        """
        if native or self.trained:
            return 0
        deepest = self.blocks if tokens and self.hosts(0) != "vector" else self.blocks + 1
        inner = (s.block + (s in self.late) for s in sites if s.role != "pooled")
        return min(inner, default=deepest)


class EncoderSpec(Spec, ABC):
    """How to open an encoder. The file named like a modality is that modality's default."""

    folder = "encoders"
    modality: ClassVar[str]

    @abstractmethod
    def open(self, kind: Literal["classification", "regression", "multilabel"]) -> nn.Module | None:
        """The frozen network, once for all streams with an equal spec; None where there is none."""

    @abstractmethod
    def build(self, stream: Stream, network: nn.Module | None, name: str) -> Encoder:
        """The encoder of one stream. `name` is the network's, for `Site.network`."""


def at_least(spec: EncoderSpec, **least: int) -> None:
    """SpecError where a named field is below its least value."""
    for name, value in least.items():
        if (given := getattr(spec, name)) < value:
            raise SpecError(f"{name} must be at least {value}, got {given}")


def pooled_site(encoder: Encoder, network: str) -> Site:
    """Where the pooled vector of an encoder without stages is corrected."""
    return Site(
        stream=encoder.stream.name,
        path="pooled",
        role="pooled",
        block=encoder.blocks,
        in_width=encoder.width,
        out_width=encoder.width,
        network=network,
        modality=encoder.stream.modality,
        layout="vector",
    )


class Standardize(nn.Module):
    """Zero mean, and the same deviation 1/sqrt(d) for each of the d features, by statistics of the
    training rows' frozen embeddings: a row's vector has a length of about 1.

    Pretrained networks differ in the scale of their embeddings by orders of magnitude; one learning
    rate suits all after this. With a deviation of 1, wide embeddings would drown narrow ones, and one
    AdamW step of the head would move its output by d times the learning rate. Identity until `fit`. A
    missing cell stays zero, which is the mean.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, x: Float[Tensor, "b d"]) -> None:
        """Take mean and deviation of the rows; a feature that never varies is only centred."""
        if len(x) == 0:
            return
        deviation = x.std(0, correction=0)
        self.mean.copy_(x.mean(0))
        scale = torch.where(deviation > 1e-6, 1 / deviation.clamp_min(1e-6), 1.0)
        self.scale.copy_(scale * x.shape[1] ** -0.5)

    def scaled(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return (x - self.mean) * self.scale

    def forward(self, x: Float[Tensor, "b d"], inputs: Inputs) -> Float[Tensor, "b d"]:
        return inputs.blank(self.scaled(x))
