"""What a method changes in a set of encoders: adapters inside, native parameters, what is saved of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar, Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from multiadapt.attach import Adapter, attach
from multiadapt.encoders._base import Encoder, Owner
from multiadapt.errors import ArtifactError
from multiadapt.methods._base import Method
from multiadapt.types import Inputs, Site

__all__ = ["Adapted", "Part", "part", "trained_bytes", "unique"]


@dataclass(frozen=True)
class Part:
    """Numbers of parameters of one part of a model."""

    part: str
    trainable: int
    frozen: int


@runtime_checkable  # so that annotations can be checked
class _Home(Protocol):
    """A module beside the encoders that has places for adapters, such as a fusion."""

    def sites(self) -> tuple[Site, ...]: ...


class Adapted(nn.Module):
    """Encoders by stream, corrected as a method says, and further modules that are trained as a whole.

    Encoders have learned (or been restored) before: only then are their widths known. A leaf calls
    `_adapt`, makes what it trains beside, and then calls `_settle`.
    """

    trains: ClassVar[tuple[str, ...]]
    """Names of the modules beside the encoders that a fit changes, in the order of their saving."""
    looks: bool = False
    """Whether something reads the encoders' last tokens, so that pooled vectors alone are too deep."""

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.streams = tuple(encoders)
        self.encoders = nn.ModuleList(encoders.values())  # stream names may hold any character

    def _adapt(
        self,
        method: Method,
        homes: Sequence[_Home] = (),
        owners: Mapping[str, Owner] | None = None,
    ) -> None:
        """Build the method's adapters for the encoders and for what stands beside them.

        `owners`: what else has parameters of its own that the method may train, by name.
        """
        every = [*(self.encoder(s) for s in self.streams), *homes]
        self._homes = [(home, home.sites()) for home in every]
        sites = [site for _, found in self._homes for site in found]
        self.placed: Mapping[Site, Adapter] = method.adapters(sites)
        self.adapters = nn.ModuleList(unique(self.placed).values())
        # A dict: what is in it is registered where it belongs, and once.
        self._owners: dict[str, Owner] = {s: self.encoder(s) for s in self.streams}
        self._owners |= owners or {}
        self._native = {s: tuple(method.native(o)) for s, o in self._owners.items()}

    def _settle(self) -> None:
        """Freeze what is not trained, and put the adapters in their places."""
        self._freeze()
        # Found once: walking a frozen network in every epoch would cost more than its adapters.
        self._changed = {s: {n: attrgetter(n) for n in self._own_names(s)} for s in self._owners}
        for home, sites in self._homes:
            own = {s: self.placed[s] for s in sites if s in self.placed}
            if isinstance(home, Encoder):
                home.receive(own)
            else:
                attach(cast(nn.Module, home), own)
        del self._homes

    def encoder(self, stream: str) -> Encoder:
        return cast(Encoder, self.encoders[self.streams.index(stream)])

    def kinds(self) -> dict[str, str]:
        """What each part with parameters of its own reads, by name; one without columns has a name of its
        own. Parts of one kind answer to one another in networks of two tasks."""
        owners = self._owners.items()
        return {s: o.stream.modality if o.stream.columns else s for s, o in owners}

    @property
    def reversible(self) -> bool:
        """Whether the networks say what they said before training while their adapters rest."""
        own = [name for names in self._changed.values() for name in names]
        folded = any(adapter.folded for adapter in self.placed.values())
        return not folded and all(name.startswith("pooled.") for name in own)

    def loss(
        self, batch: Mapping[str, Inputs], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """The training loss of a batch; `target` and `weight` are its rows of `Data`. Of a batch that several
        processes divide, this one's share: the sum of all shares is the loss of all rows."""
        raise NotImplementedError

    def held_out_loss(
        self, scores: Float[Tensor, "b c"], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """The loss of validation rows, all at once, from what `forward` says of them."""
        raise NotImplementedError

    def stepped(self) -> None:
        """Called after every step of the optimizer. Default: nothing."""

    def memory(self) -> dict[str, Tensor]:
        """What training keeps beside the trained tensors, for its resume file. Default: nothing."""
        return {}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """The inverse of `memory`."""

    def recomputes(self) -> bool:
        """Whether there is a block that is trained through and may be computed again in the backward pass."""
        return any(self.encoder(s).recomputed(cut) for s, cut in self.cuts().items())

    def cuts(self) -> dict[str, int]:
        """How deep each stream's inputs may be computed once and kept."""
        return {
            s: self.encoder(s).cut_for(
                [p for p in self.placed if p.stream == s], self._native[s], tokens=self.looks
            )
            for s in self.streams
        }

    def adapted_from_the_start(self) -> list[str]:
        """Streams with an adapter in their network's first block, so that none of it is computed once."""
        inner = {
            s: [p for p in self.placed if p.stream == s and p.role != "pooled"]
            for s in self.streams
        }
        return [
            s for s, sites in inner.items() if sites and self.encoder(s).cut_for(sites, ()) == 0
        ]

    def trained_state(self) -> dict[str, Tensor]:
        """Everything a fit changes, by stable name: trained tensors, and statistics taken in training."""
        state: dict[str, Tensor] = {}
        for key, adapter in unique(self.placed).items():
            state |= {f"adapter:{key}:{n}": t for n, t in adapter.state_dict().items()}
        for stream, owner in self._owners.items():
            for name, get in self._changed[stream].items():
                state[f"native:{stream}:{name}"] = get(owner).detach()
        for name in self.trains:
            state |= {f"{name}:{n}": t for n, t in getattr(self, name).state_dict().items()}
        return state

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `trained_state`; the names must be exactly its names."""
        own = self.trained_state()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise ArtifactError(
                f"saved tensors must match the model: {len(missing)} missing {missing[:5]}, "
                f"{len(unknown)} unknown {unknown[:5]}; they were altered, or saved before the method "
                "adapted these places: restore them from a copy, or fit again"
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
        for stream, owner in self._owners.items():
            parameters = [p for p in owner.parameters() if id(p) not in seen]
            seen |= {id(p) for p in parameters}
            found.append(
                part(f"encoder {stream}" if isinstance(owner, Encoder) else stream, parameters)
            )
        for stream, adapters in self._adapters_by_stream().items():
            found.append(part(f"adapters {stream}", [p for a in adapters for p in a.parameters()]))
        found += [part(name, getattr(self, name).parameters()) for name in self.trains]
        return [p for p in found if p.trainable + p.frozen]

    def _adapters_by_stream(self) -> dict[str, list[Adapter]]:
        grouped: dict[str, list[Adapter]] = {}
        for adapter in unique(self.placed).values():
            users = list(dict.fromkeys(s.stream for s, a in self.placed.items() if a is adapter))
            grouped.setdefault(" + ".join(users), []).append(adapter)
        return grouped

    def _own_names(self, stream: str) -> list[str]:
        """Which of an encoder's tensors a fit changes; those of a shared network count once."""
        encoder = self._owners[stream]
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
        own = {id(p) for p in self._owners[stream].parameters()}
        before = list(self._owners)[: list(self._owners).index(stream)]
        return not any(id(p) in own for s in before for p in self._owners[s].parameters())

    def _freeze(self) -> None:
        for stream, owner in self._owners.items():
            native = {*self._native[stream], *owner.tail}
            for name, parameter in owner.named_parameters():
                parameter.requires_grad_(owner.trained or name in native)


def unique(placed: Mapping[Site, Adapter]) -> dict[str, Adapter]:
    """Each adapter once, by the key of the first site that it serves."""
    seen: dict[int, str] = {}
    unique: dict[str, Adapter] = {}
    for site, adapter in placed.items():
        if id(adapter) not in seen:
            seen[id(adapter)] = site.key
            unique[site.key] = adapter
    return unique


def trained_bytes(model: Adapted) -> Iterator[bytes]:
    """Everything that a fit changes, with its names, for a hash."""
    for name, tensor in sorted(model.trained_state().items()):
        yield name.encode()
        yield tensor.detach().cpu().float().contiguous().numpy().tobytes()


def part(name: str, parameters: Iterable[nn.Parameter]) -> Part:
    sizes = [(p.numel(), p.requires_grad) for p in parameters]
    return Part(name, sum(n for n, g in sizes if g), sum(n for n, g in sizes if not g))
