"""Two sides that learn to find each other: contrast over batch and queue, and matching of pairs.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086;
momentum distillation: Li et al., "Align before Fuse", https://arxiv.org/abs/2107.07651.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt.adapted import Adapted
from multiadapt.crossmodal._base import Joint
from multiadapt.crossmodal._cross import CrossPass, Seen, words_of
from multiadapt.errors import SpecError
from multiadapt.methods._base import Method
from multiadapt.model import Scored
from multiadapt.spec import Spec
from multiadapt.types import Inputs, Tokens

__all__ = ["Contrast", "RetrievalModel"]

_LEAST, _MOST = 0.001, 0.5
"""Bounds of the temperature, as BLIP's training has them."""


@dataclass(frozen=True)
class Contrast(Spec):
    """How both sides learn to find each other. The defaults are BLIP's, which UniAdapter trains by."""

    momentum: float | None = 0.995
    """Of the moving average of what is trained (the teacher): what it says of the other side is compared
    with and queued. None: there is no teacher, and nothing is queued or distilled."""
    queue: int = 57_600
    """Rows of earlier batches that are compared with too; never more than the table has."""
    distill: float = 0.4
    """Share of the teacher's similarities in what is aimed at, in 0..1; reached over the first epoch."""
    matching: bool = True
    """Train the cross-modal pass, where there is one, to tell pairs from the hardest other ones."""

    def check(self) -> None:
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise SpecError(f"momentum must be in 0..1, below 1, got {self.momentum}")
        if self.queue < 0:
            raise SpecError(f"queue must be at least 0, got {self.queue}")
        if not 0 <= self.distill <= 1:
            raise SpecError(f"distill must be in 0..1, got {self.distill}")


class _Heads(nn.Module):
    """What stands on the encoders: projections, the temperature, and who matches."""

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.projections = nn.ModuleList(joint.projections.values())
        self.match = joint.match or nn.Identity()
        self.log_temperature = nn.Parameter(torch.tensor(joint.temperature).log())

    @property
    def temperature(self) -> Float[Tensor, ""]:
        return self.log_temperature.exp().clamp(_LEAST, _MOST)


class RetrievalModel(Adapted):
    """Query and target encoders with a method's adapters, compared as vectors of length 1.

    `forward` gives (b, 2e): each row's vector of the query and of the target side by side.
    """

    trains = ("heads",)

    def __init__(self, joint: Joint, method: Method, contrast: Contrast, rows: int) -> None:
        """`rows`: how many pairs it is trained on."""
        super().__init__(joint.encoders)
        self.contrast, self.rows, self.opening = contrast, rows, joint.opening
        self.new, self.base = joint.new, joint.base
        self.cross: CrossPass | None = joint.cross
        self.matches = joint.cross is not None
        self.looks = self.matches
        self.texts, self.seen = self._sides()
        self.heads = _Heads(joint)
        self._adapt(method, [self.cross] if self.cross is not None else [])
        self._settle()
        self.heads.requires_grad_(True)
        self.seen_rows = 0
        self.teacher: dict[str, Tensor] = {}
        self.queue: dict[str, Tensor] = {}

    def _sides(self) -> tuple[str, str]:
        """The stream that is read as text, and the one that is looked at."""
        text = [s for s in self.streams if self.encoder(s).stream.modality == "text"]
        first = text[0] if text else self.streams[0]
        return first, next(s for s in self.streams if s != first)

    def cuts(self) -> dict[str, int]:
        found = super().cuts()
        if self.matches:  # the cross-modal pass begins with the words
            found[self.texts] = 0
        return found

    def forward(self, batch: Mapping[str, Inputs]) -> Scored:
        scores = self.vectors(self.tokens(batch))
        return Scored(scores.flatten(1), scores.new_zeros(()))

    def tokens(self, batch: Mapping[str, Inputs]) -> dict[str, Tokens]:
        """Of the streams that the batch has."""
        return {s: self.encoder(s)(batch[s]) for s in self.streams if s in batch}

    def vectors(self, tokens: Mapping[str, Tokens]) -> Float[Tensor, "b k e"]:
        """Vectors of length 1 of each stream in `tokens`, in this order."""
        at = {s: self.heads.projections[i] for i, s in enumerate(self.streams)}
        return torch.stack([F.normalize(at[s](t.pooled), dim=-1) for s, t in tokens.items()], dim=1)

    def loss(
        self, batch: Mapping[str, Inputs], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """`target` (b, 2): which query and which target; equal ones are each other's matches too."""
        tokens = self.tokens(batch)
        live = self.vectors(tokens).float()
        taught = live if self.contrast.momentum is None else self._taught(batch)
        loss = self._contrastive(live, taught, target, weight)
        if self.matches and self.contrast.matching:
            loss = loss + self._matching(batch, tokens, live, target)
        self._remember(taught.detach(), target)
        return loss

    def held_out_loss(
        self, scores: Float[Tensor, "b c"], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """Contrast over all rows at once, without teacher and queue."""
        vectors = scores.unflatten(1, (2, -1))
        same = _same(target, target)
        hard = same / same.sum(1, keepdim=True)
        near = vectors[:, 0] @ vectors[:, 1].T / self.heads.temperature
        each = _cross_entropy(near, hard) + _cross_entropy(near.T, hard)
        return _mean(each / 2, weight)

    def _contrastive(
        self,
        live: Float[Tensor, "b 2 e"],
        taught: Float[Tensor, "b 2 e"],
        target: Int[Tensor, "b 2"],
        weight: Float[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        pool, known = taught, target
        if self.queue:
            pool = torch.cat([taught, self.queue["vectors"]])
            known = torch.cat([target, self.queue["target"]])
        same = _same(target, known)
        hard = same / same.sum(1, keepdim=True)
        total = live.new_zeros(())
        for own, other in ((0, 1), (1, 0)):
            near = live[:, own] @ pool[:, other].T / self.heads.temperature
            aim = hard
            if share := self._share():
                with torch.no_grad():
                    believed = taught[:, own] @ pool[:, other].T / self.heads.temperature
                    aim = share * believed.softmax(1) + (1 - share) * hard
            total = total + _mean(_cross_entropy(near, aim), weight)
        return total / 2

    def _matching(
        self,
        batch: Mapping[str, Inputs],
        tokens: Mapping[str, Tokens],
        live: Float[Tensor, "b 2 e"],
        target: Int[Tensor, "b 2"],
    ) -> Float[Tensor, ""]:
        """Pairs, each text with a hard other picture, each picture with a hard other text."""
        at = {s: i for i, s in enumerate(self.streams)}
        with torch.no_grad():
            near = live[:, at[self.texts]] @ live[:, at[self.seen]].T / self.heads.temperature
            other = ~_same(target, target).bool()
            rows = torch.arange(len(target), device=near.device)
            there = rows[other.any(1)]
            pictures, words = _drawn(near[there], other[there]), _drawn(near.T[there], other[there])
        texts = torch.cat([rows, there, words])
        looked = torch.cat([rows, pictures, there])
        logits = self.matched(batch[self.texts].select(texts), self.sight(tokens).rows(looked))
        truth = (torch.arange(len(texts), device=near.device) < len(rows)).long()
        return F.cross_entropy(logits.float(), truth)

    def sight(self, tokens: Mapping[str, Tokens]) -> Seen:
        """What texts look at."""
        seen = tokens[self.seen]
        return Seen(seen.x, None if bool(seen.mask.all()) else seen.mask)

    def matched(self, texts: Inputs, seen: Seen) -> Float[Tensor, "b 2"]:
        """Scores of (no match, match) of each text with what stands beside it."""
        if self.cross is None:
            raise SpecError("this network has no cross-modal part that could match pairs")
        state = self.cross(*words_of(texts, self.opening), seen)
        return self.heads.match(state[:, 0])

    @torch.no_grad()
    def _taught(self, batch: Mapping[str, Inputs]) -> Float[Tensor, "b 2 e"]:
        """What the teacher says of the batch: the same networks with its tensors in place of the trained."""
        if not self.teacher:
            self.teacher = {n: p.detach().clone() for n, p in self._learning()}
        was = self.training
        self.eval()  # statistics of BatchNorm are the student's to take
        own = [(p, p.data, self.teacher[n]) for n, p in self._learning()]
        try:
            for parameter, _, teaching in own:
                parameter.data = teaching
            said = self(batch).scores
        finally:
            for parameter, learning, _ in own:
                parameter.data = learning
            self.train(was)
        return said.float().unflatten(1, (2, -1))

    def _learning(self) -> list[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in self.named_parameters() if p.requires_grad]

    @torch.no_grad()
    def stepped(self) -> None:
        if self.contrast.momentum is None or not self.teacher:
            return
        for name, parameter in self._learning():
            self.teacher[name].lerp_(parameter, 1 - self.contrast.momentum)

    def _share(self) -> float:
        """Of the teacher in what is aimed at: it grows over the first epoch."""
        if self.contrast.momentum is None:
            return 0.0
        return self.contrast.distill * min(1.0, self.seen_rows / max(self.rows, 1))

    def _remember(self, taught: Float[Tensor, "b 2 e"], target: Int[Tensor, "b 2"]) -> None:
        self.seen_rows += len(target)
        most = min(self.contrast.queue, self.rows) if self.contrast.momentum is not None else 0
        if most == 0:
            return
        before = self.queue or {"vectors": taught[:0], "target": target[:0]}
        new = {"vectors": taught, "target": target}
        self.queue = {k: torch.cat([new[k], before[k]])[:most] for k in new}

    def memory(self) -> dict[str, Tensor]:
        found = {f"teacher:{n}": t for n, t in self.teacher.items()}
        found |= {f"queue:{n}": t for n, t in self.queue.items()}
        return found | {"seen_rows": torch.tensor(self.seen_rows)}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        device = self.heads.log_temperature.device
        own = {k: t.to(device) for k, t in memory.items()}
        self.teacher = {k.partition(":")[2]: t for k, t in own.items() if k.startswith("teacher:")}
        self.queue = {k.partition(":")[2]: t for k, t in own.items() if k.startswith("queue:")}
        self.seen_rows = int(own["seen_rows"])


def _same(one: Int[Tensor, "a 2"], other: Int[Tensor, "b 2"]) -> Float[Tensor, "a b"]:
    """1 where two rows have the same query or the same target."""
    return (one[:, None] == other[None]).any(-1).float()


def _cross_entropy(near: Float[Tensor, "a b"], aim: Float[Tensor, "a b"]) -> Float[Tensor, " a"]:
    return -(near.log_softmax(1) * aim).sum(1)


def _mean(each: Float[Tensor, " b"], weight: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    return (each * weight).sum() / weight.sum().clamp_min(1e-12)


def _drawn(near: Float[Tensor, "a b"], allowed: Bool[Tensor, "a b"]) -> Int[Tensor, " a"]:
    """One of the allowed columns a row, nearer ones more often."""
    if len(near) == 0 or not bool(near.isfinite().all()):  # a loss that is not finite says so later
        return torch.zeros(len(near), dtype=torch.long, device=near.device)
    chance = near.masked_fill(~allowed, -torch.inf).softmax(1)
    return torch.multinomial(chance, 1)[:, 0]
