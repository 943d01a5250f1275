"""Two sides that learn to find each other: contrast over batch and queue, and matching of pairs.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086;
momentum distillation: Li et al., "Align before Fuse", https://arxiv.org/abs/2107.07651.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from multiadapt import processes
from multiadapt.adapted import Adapted
from multiadapt.attach import resting
from multiadapt.crossmodal._base import Joint
from multiadapt.crossmodal._cross import CrossPass, Seen, words_of
from multiadapt.crossmodal._frames import clips_of, similarity
from multiadapt.crossmodal._known import Known, Queue
from multiadapt.encoders._pretrained import PretrainedEncoder
from multiadapt.errors import SpecError
from multiadapt.methods._base import Method
from multiadapt.model import Scored
from multiadapt.spec import Spec
from multiadapt.types import Inputs, Tokens

__all__ = ["Contrast", "RetrievalModel"]

Sides: TypeAlias = tuple[Float[Tensor, "b n e"], Float[Tensor, "b m e"]]
"""What the queries' and the targets' side are compared by, as `similarity` reads it."""

_LEAST, _MOST = 0.001, 0.5
"""Bounds of the temperature, as BLIP's training has them."""


@dataclass(frozen=True)
class Contrast(Spec):
    """How both sides learn to find each other. The defaults are BLIP's, which UniAdapter trains by."""

    momentum: float | None = 0.995
    """Of the moving average of what is trained (the teacher): what it says of the other side is compared
    with and queued. None: there is no teacher, and nothing is queued or distilled."""
    queue: int = 57_600
    """Rows of earlier batches that are compared with too; never more than the table has. Of a clip whose
    frames are weighed, each frame's vector is kept."""
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
        for name in ("queue", "distill"):
            given = getattr(self, name)
            if self.momentum is None and given not in (0, getattr(Contrast, name)):
                raise SpecError(
                    f"{name} is of what a teacher says, which needs momentum, got {name}={given} with "
                    "momentum=None: leave it out, or give momentum, such as 0.995"
                )


class _Batch(NamedTuple):
    """What both sides of a batch say."""

    live: Sides
    taught: Sides
    """By the teacher; without one, the same as live."""
    others: Sides
    """The same of the rows of all processes, which are compared with."""
    rows: Int[Tensor, "n 2"]
    """Which query and target these are."""


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

    Where a side holds clips that nothing looks at, what is compared with a clip weighs the vectors of its
    frames; where a text looks at them, it weighs their tokens' keys, and their mean is compared.
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
        self.clips = clips_of(joint.encoders) if joint.frame_aware else None
        """The stream of clips whose frames are weighed."""
        self.heads = _Heads(joint)
        self.began = None if joint.new else copy.deepcopy(self.heads).requires_grad_(False)
        """The heads as they are before training; None: new ones, of which that tells nothing."""
        self._adapt(method, [self.cross] if self.cross is not None else [])
        self._settle()
        self.heads.requires_grad_(True)
        self.seen_rows = 0
        self.known: Known | None = None
        """Who belongs together in the training table; None: those of the rows that it has seen."""
        self.teacher: dict[str, Tensor] = {}
        self.queue = Queue(min(contrast.queue, rows) if contrast.momentum is not None else 0)

    def _sides(self) -> tuple[str, str]:
        """The stream that is read as text, and the one that is looked at."""
        text = [s for s in self.streams if self.encoder(s).stream.modality == "text"]
        first = text[0] if text else self.streams[0]
        return first, next(s for s in self.streams if s != first)

    @property
    def points(self) -> dict[str, int]:
        """By stream, how many vectors a row has: the frames of a clip that are weighed, else one."""
        weighed = None if self.matches else self.clips
        return {s: self._frames(s) if s == weighed else 1 for s in self.streams}

    def _frames(self, stream: str) -> int:
        return cast(PretrainedEncoder, self.encoder(stream)).backbone.frames

    @property
    def ranks_again(self) -> bool:
        """Whether pairs can be told apart better than by one vector a row."""
        return self.matches or self.clips is not None

    @contextmanager
    def before(self) -> Iterator["RetrievalModel"]:
        """The same networks as before training, where they are `reversible` and their heads not `new`: adapters
        rest, and the heads are those that it began with. Valid inside; other threads that use this model
        notice nothing."""
        found = copy.copy(self)
        found._modules = self._modules | {"heads": self.began}
        with resting():
            yield found

    def cuts(self) -> dict[str, int]:
        found = super().cuts()
        if self.matches:  # the cross-modal pass begins with the words
            found[self.texts] = 0
        return found

    def forward(self, batch: Mapping[str, Inputs]) -> Scored:
        """(b, c) of the sides in the batch: their rows' vectors, all as wide as the wider side's."""
        most = max(self.points.values())
        wide = [
            F.pad(v, (0, 0, 0, most - v.shape[1])).flatten(1)
            for v in self.vectors(self.tokens(batch)).values()
        ]
        scores = torch.cat(wide, dim=1)
        return Scored(scores, scores.new_zeros(()))

    def tokens(self, batch: Mapping[str, Inputs]) -> dict[str, Tokens]:
        """Of the streams that the batch has; those of clips whose vectors are weighed are frames."""
        return {
            s: self.encoder(s)(batch[s]) if n == 1 else self._apart(s, n, batch[s])
            for s, n in self.points.items()
            if s in batch
        }

    def _apart(self, stream: str, frames: int, inputs: Inputs) -> Tokens:
        """One token a frame. Of several clips in a cell the k-th frames are joined by their mean."""
        alone = replace(inputs, count=torch.ones(inputs.items, dtype=torch.long).to(inputs.count))
        each = self.encoder(stream)(alone).pooled
        clips = each.unflatten(0, (len(each) // frames, frames)).flatten(1)
        rows = Inputs({"frames": clips}, inputs.count // frames)
        x = rows.mean(clips).unflatten(1, (frames, -1))
        present = (inputs.count > 0)[:, None].expand(-1, frames)
        return Tokens(x, present, x.mean(1), x[:, :0])

    def vectors(self, tokens: Mapping[str, Tokens]) -> dict[str, Float[Tensor, "b n e"]]:
        """Of each stream in `tokens` what `similarity` compares."""
        return {s: self._vectors(s, t) for s, t in tokens.items()}

    def _vectors(self, stream: str, tokens: Tokens) -> Float[Tensor, "b n e"]:
        project = self.heads.projections[self.streams.index(stream)]
        if self.points[stream] > 1:
            return project(tokens.x)
        return F.normalize(project(tokens.pooled), dim=-1)[:, None]

    def loss(
        self, batch: Mapping[str, Inputs], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """`target` (b, 2): which query and which target; what belongs together is no wrong answer."""
        self.queue.settle()
        tokens = self.tokens(batch)
        live = _both(self.vectors(tokens))
        taught = live if self.contrast.momentum is None else self._taught(batch)
        rows = processes.gathered(target)
        others = processes.gathered(taught[0]), processes.gathered(taught[1])
        known = self.known or Known(torch.cat([rows, *self.queue.rows()]))
        sides = _Batch(live, taught, others, rows)
        loss = self._contrastive(sides, target, weight, known) * processes.share(weight)
        if self.matches and self.contrast.matching:
            loss = loss + self._matching(batch, tokens, live, rows, known)
        self.seen_rows += len(rows)
        self.queue.put(others, rows)
        return loss

    def held_out_loss(
        self, scores: Float[Tensor, "n c"], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """Contrast over all pairs at once, without teacher and queue.

        `scores` are of the different queries and then of the different targets, `target` (b, 2) the pairs.
        A cell of several pairs is compared once, and counts as often as it has pairs.
        """
        near = self.compared(scores, int(target[:, 0].max()) + 1) / self.heads.temperature
        known = Known(target)
        each: list[Tensor] = []
        for i, n in enumerate((near, near.T)):
            asking, pool = (torch.arange(size, device=n.device) for size in n.shape)
            often = torch.bincount(target[:, 1 - i])
            aim = known.belong(asking, pool, i) * often
            right = (aim * n).sum(1) / aim.sum(1)
            each.append(((n + often.log()).logsumexp(1) - right)[target[:, i]])
        return _mean((each[0] + each[1]) / 2, weight)

    def compared(self, scores: Float[Tensor, "n c"], queries: int) -> Float[Tensor, "q t"]:
        """Similarity of all queries, whose scores come first, with all targets."""
        each = scores.unflatten(1, (max(self.points.values()), -1))
        own, other = self.points.values()
        return similarity(each[:queries, :own], each[queries:, :other])

    def _contrastive(
        self, batch: "_Batch", target: Int[Tensor, "b 2"], weight: Float[Tensor, " b"], known: Known
    ) -> Float[Tensor, ""]:
        pool = torch.cat([batch.rows, *self.queue.rows()])
        total = weight.new_zeros(())
        for own, other in ((0, 1), (1, 0)):
            others = [batch.others[other], *self.queue.side(other)]
            near = self._near(batch.live[own], others)
            aim = _aim(known.belong(target[:, own], pool[:, other], own))
            if share := self._share():
                with torch.no_grad():
                    believed = self._near(batch.taught[own], others)
                    aim = share * believed.softmax(1) + (1 - share) * aim
            total = total + _mean(_cross_entropy(near, aim), weight)
        return total / 2

    def _near(self, own: Tensor, others: list[Tensor]) -> Float[Tensor, "a b"]:
        """Similarities to all others, which are not put together: the queue is long."""
        return torch.cat([similarity(own, o) for o in others], 1) / self.heads.temperature

    def _matching(
        self,
        batch: Mapping[str, Inputs],
        tokens: Mapping[str, Tokens],
        live: Sides,
        target: Int[Tensor, "r 2"],
        known: Known,
    ) -> Float[Tensor, ""]:
        """Pairs, each text with a hard other picture, each picture with a hard other text.

        Of several processes each tells the pairs of its own pictures, with texts from all.
        """
        text, seen = self.streams.index(self.texts), self.streams.index(self.seen)
        with torch.no_grad():
            said = processes.gathered(live[text])
            near = similarity(said, processes.gathered(live[seen])) / self.heads.temperature
            texts, looked = _pairs(near, ~known.belong(target[:, text], target[:, seen], text))
        start, end = processes.bounds(len(target))
        own = (looked >= start) & (looked < end)
        words = processes.rows_of_all(batch[self.texts])
        if not bool(own.any()):
            return near.new_zeros(())
        sight = self.sight(batch, tokens).rows(looked[own] - start)
        logits = self.matched(words.select(texts[own]), sight, said[texts[own], 0])
        truth = (torch.arange(len(texts), device=near.device) < len(target)).long()
        return F.cross_entropy(logits.float(), truth[own]) * (len(logits) / len(texts))

    def sight(self, batch: Mapping[str, Inputs], tokens: Mapping[str, Tokens]) -> Seen:
        """What texts look at."""
        shown = Seen.of(tokens[self.seen])
        if self.clips is None:
            return shown
        return shown.framed(batch[self.seen], self.heads.projections[self.streams.index(self.seen)])

    def matched(
        self, texts: Inputs, seen: Seen, said: Float[Tensor, "b e"] | None = None
    ) -> Float[Tensor, "b 2"]:
        """Scores of (no match, match) of each text with what stands beside it.

        `said`: the texts' vectors, which weigh frames; None: they are computed where there are frames.
        """
        if self.cross is None:
            raise SpecError("this network has no cross-modal part that could match pairs")
        if seen.frames is not None:
            if said is None:
                with torch.no_grad():
                    said = self._vectors(self.texts, self.encoder(self.texts)(texts))[:, 0]
            seen = seen.asked(said)
        state = self.cross(*words_of(texts, self.opening), seen)
        return self.heads.match(state[:, 0])

    @torch.no_grad()
    def _taught(self, batch: Mapping[str, Inputs]) -> Sides:
        """What the teacher says of the batch: the same networks with its tensors in place of the trained."""
        if not self.teacher:
            self.teacher = {n: p.detach().clone() for n, p in self._learning()}
        was = self.training
        self.eval()  # statistics of BatchNorm are the student's to take
        own = [(p, p.data, self.teacher[n]) for n, p in self._learning()]
        try:
            for parameter, _, teaching in own:
                parameter.data = teaching
            said = _both(self.vectors(self.tokens(batch)))
        finally:
            for parameter, learning, _ in own:
                parameter.data = learning
            self.train(was)
        return said

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

    def memory(self) -> dict[str, Tensor]:
        found = {f"teacher:{n}": t for n, t in self.teacher.items()}
        found |= {f"queue:{n}": t for n, t in self.queue.state().items()}
        return found | {"seen_rows": torch.tensor(self.seen_rows)}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        device = self.heads.log_temperature.device
        own = {k: t.to(device) for k, t in memory.items()}
        self.teacher = {k.partition(":")[2]: t for k, t in own.items() if k.startswith("teacher:")}
        queued = {k.partition(":")[2]: t for k, t in own.items() if k.startswith("queue:")}
        self.queue.restore(queued)
        self.seen_rows = int(own["seen_rows"])

    def forget(self) -> None:
        """What only training needs: with the method "full" the teacher is as large as the networks."""
        self.known, self.teacher = None, {}
        self.queue.restore({})


def _both(vectors: Mapping[str, Float[Tensor, "b n e"]]) -> Sides:
    query, target = vectors.values()
    return query.float(), target.float()


def _aim(belong: Bool[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    """Each row's share among those that belong to it."""
    found = belong.float()
    return found / found.sum(1, keepdim=True)


def _cross_entropy(near: Float[Tensor, "a b"], aim: Float[Tensor, "a b"]) -> Float[Tensor, " a"]:
    return -(near.log_softmax(1) * aim).sum(1)


def _mean(each: Float[Tensor, " b"], weight: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    return (each * weight).sum() / weight.sum().clamp_min(1e-12)


def _pairs(
    near: Float[Tensor, "n n"], other: Bool[Tensor, "n n"]
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Texts and pictures by their rows: all that belong together, then those that are hard to tell apart."""
    rows = torch.arange(len(near), device=near.device)
    asking, shown = rows[other.any(1)], rows[other.any(0)]
    pictures = _drawn(near[asking], other[asking])
    words = _drawn(near.T[shown], other.T[shown])
    return torch.cat([rows, asking, words]), torch.cat([rows, pictures, shown])


def _drawn(near: Float[Tensor, "a b"], allowed: Bool[Tensor, "a b"]) -> Int[Tensor, " a"]:
    """One of the allowed columns a row, nearer ones more often."""
    if len(near) == 0 or not bool(near.isfinite().all()):  # a loss that is not finite says so later
        return torch.zeros(len(near), dtype=torch.long, device=near.device)
    chance = near.masked_fill(~allowed, -torch.inf).softmax(1)
    draws = processes.draws()
    if draws is None:
        return torch.multinomial(chance, 1)[:, 0]
    return torch.multinomial(chance.cpu(), 1, generator=draws)[:, 0].to(near.device)
