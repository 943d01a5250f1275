"""A method says what is trained: adapters at which sites, which native parameters, which fusion."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from multiadapt.attach import Adapter
from multiadapt.encoders._base import EncoderSpec, Owner
from multiadapt.errors import SpecError
from multiadapt.fusion._base import FusionSpec
from multiadapt.fusion.concat import Concat
from multiadapt.missing._base import FillSpec
from multiadapt.missing.zero import Zero
from multiadapt.spec import Spec, resolve
from multiadapt.types import Site, Stream

__all__ = ["Method", "Training", "completed", "method_of"]


@dataclass(frozen=True)
class Training(Spec):
    """How the one loop trains. The defaults are TI-Adapter's recipe."""

    learning_rate: float | None = None
    """None: that of the recipe which would be taken without this one: 1e-3, of `Full` 1e-4, of a retriever, an
    answerer or a captioner 1e-4."""
    decay: float = 0.9
    """The learning rate is multiplied by this ..."""
    decay_every: int = 20
    """... after every so many epochs."""
    epochs: int = 100
    batch_size: int = 64
    patience: int | None = 10
    """Epochs without a better validation loss before it stops; None: never."""
    weight_decay: float = 0.01
    accumulate: int = 1
    """Batches whose mean gradient makes one step."""
    clip: float | None = None
    """Largest norm of the gradient."""
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    """Keep no activation inside a block of an encoder and compute it again in the backward pass: less memory, for
    a second forward pass of what is trained through. The blocks that bcN corrects keep theirs, whose BatchNorm
    must see a batch once; so do the layers of a cross-modal pass."""
    group_by_length: bool = False
    """Batches of rows whose texts are about as long as each other, drawn at random from 50 batches' rows: less
    padding to compute where lengths differ. Of tables with texts."""
    views: int = 1
    """As how many pictures training sees each one, an epoch each in turn: as it is, and in the others cut to
    half of its area or more and, every second one, turned left to right. Of tables with pictures."""
    normalize: bool = True
    """Standardise every frozen embedding over the training rows, to a length of about 1."""

    @property
    def rate(self) -> float:
        """The learning rate of the first epochs."""
        return 1e-3 if self.learning_rate is None else self.learning_rate

    def check(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "decay_every", "views"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "decay", "clip"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise SpecError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise SpecError(f"{name} must be at least 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Method(Spec, ABC):
    """What is trained, and by which recipe unless the estimator is given another."""

    folder: ClassVar[str] = "methods"
    training: ClassVar[Training] = Training()
    validates: ClassVar[bool] = True
    """Whether rows held out for validation are of use; if not, all rows train."""

    missing: FillSpec = field(default=Zero(), kw_only=True)
    """What stands in for a missing modality: "zero", "mean", "token", "error", or a spec with options."""

    def uses(self, stream: Stream) -> bool:
        """Whether the method reads this stream. Default: all."""
        return True

    def encoder(self, stream: Stream) -> EncoderSpec | None:
        """The encoder it insists on for a stream. Default: None, the estimator chooses."""
        return None

    @abstractmethod
    def adapters(self, sites: Sequence[Site]) -> Mapping[Site, Adapter]:
        """Adapters for sites of all streams at once."""

    def native(self, encoder: Owner) -> Collection[str]:
        """Names of the frozen encoder's own parameters that are trained. Default: none."""
        return ()

    def fusion(self) -> FusionSpec:
        return Concat()

    def linear_head(self) -> bool:
        """Whether a linear head stands on the fused vector; False: the fused vector is the scores."""
        return True


def completed(given: Training | None, usual: Training) -> Training:
    """The given recipe, with the learning rate of the usual one where it names none; None: the usual one."""
    found = usual if given is None else given
    rate = usual.rate if found.learning_rate is None else found.learning_rate
    return found.with_params(learning_rate=rate)


def method_of(choice: str | Method) -> Method:
    """A method as it is, or the one of this name with its own options."""
    return resolve("methods", choice)() if isinstance(choice, str) else choice
