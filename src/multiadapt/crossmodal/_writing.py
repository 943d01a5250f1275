"""A decoder that writes token by token, looking at a picture, a clip or a question's states, and its training.

Li et al., "BLIP: Bootstrapping Language-Image Pre-training", https://arxiv.org/abs/2201.12086
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationConfig

from multiadapt import processes
from multiadapt.adapted import Adapted
from multiadapt.attach import running
from multiadapt.crossmodal._blip import Parts
from multiadapt.crossmodal._cross import Seen, cross_sites, mind_masks
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._tokens import TokenPreparation
from multiadapt.errors import EncoderError, SpecError
from multiadapt.model import Scored
from multiadapt.spec import Spec
from multiadapt.types import Inputs, Site, Stream, Tokens

__all__ = ["DECODER", "Decoding", "Writer", "WritingModel"]

DECODER = "decoder"
"""The stream of a decoder's adapters, and the name of the texts that it is trained to write."""
_TOGETHER = 256
"""Texts whose likelihood is computed together."""


@dataclass(frozen=True)
class Decoding(Spec):
    """How texts are written."""

    how: Literal["beam", "nucleus"] = "beam"
    beams: int = 3
    """Texts that are written side by side, of which the likeliest is kept; 1: the likeliest token each
    time."""
    top_p: float = 0.9
    """nucleus: each token is drawn among the likeliest that make up this share."""
    max_length: int = 30
    """Most tokens that are written, the closing one included."""
    seed: int = 0
    """nucleus: of what is drawn."""

    def check(self) -> None:
        if self.beams < 1:
            raise SpecError(f"beams must be at least 1, got {self.beams}")
        if not 0 < self.top_p <= 1:
            raise SpecError(f"top_p must be above 0 and at most 1, got {self.top_p}")

    def fit_into(self, room: int) -> None:
        """SpecError: more tokens are asked for than `room`, or none."""
        if not 1 <= self.max_length <= room:
            raise SpecError(
                f"max_length must be in 1..{room}, which is what the decoder has positions for, got "
                f"{self.max_length}"
            )


class Writer(nn.Module):
    """BLIP's decoder. A text begins with the config's `bos_token_id` ([DEC]), ends with its `sep_token_id`
    ([SEP]); a prompt stands behind the first of them.

    It stays in evaluation mode, as all frozen networks.
    """

    trained: bool = False
    tail: tuple[str, ...] = ()

    def __init__(self, network: Any, tokens: TokenPreparation, prompt: str = "") -> None:
        super().__init__()
        self.network, self.tokens = network, tokens
        self.stream = Stream(DECODER, "text", ())
        config = network.config
        self.closing: int = config.sep_token_id
        self.padding: int = config.pad_token_id or 0
        self.start: tuple[int, ...] = (config.bos_token_id, *tokens.split([prompt])[0])
        self.room: int = config.max_position_embeddings - len(self.start)
        """Tokens that fit behind the prompt, the closing one included."""
        if self.room < 2:
            raise SpecError(
                f"prompt has {len(self.start) - 1} tokens, and the decoder has positions for "
                f"{config.max_position_embeddings} with what opens and closes a text: shorten it"
            )
        mind_masks(network.bert)

    def train(self, mode: bool = True) -> "Writer":  # noqa: FBT001, FBT002 - torch's signature
        return super().train(False)

    def sites(self) -> tuple[Site, ...]:
        return cross_sites(self.network.bert, "network.bert", DECODER, "text")

    def prepare(
        self, rows: Sequence[Sequence[str]], shares: Sequence[Sequence[float]] | None = None
    ) -> Inputs:
        """Texts of each row as tokens, with the share that each has of its row; cut to what fits."""
        notes: Counter[str] = Counter()
        said = [text for row in rows for text in row]
        found: list[list[int]] = []
        for ids in self.tokens.split(said):
            notes[f"texts are longer than {self.room} tokens and are cut"] += len(ids) >= self.room
            found.append([*self.start, *ids[: self.room - 1], self.closing])
        longest = max(map(len, found), default=len(self.start) + 1)
        ids = torch.full((len(found), longest), self.padding)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for i, text in enumerate(found):
            ids[i, : len(text)] = torch.tensor(text)
            mask[i, : len(text)] = True
        parts = [s for row in shares for s in row] if shares is not None else [1.0] * len(found)
        count = torch.tensor([len(row) for row in rows], dtype=torch.long)
        tensors = {"ids": ids, "mask": mask, "share": torch.tensor(parts, dtype=torch.float32)}
        return Inputs(tensors, count, notes=tuple((w, n) for w, n in notes.items() if n))

    def forward(self, ids: Int[Tensor, "f n"], seen: Seen) -> Float[Tensor, "f n v"]:
        """Scores of the token after each; padding comes last, where no earlier token sees it."""
        mask = None if seen.mask is None else seen.mask.long()
        with running(DECODER):
            return self.network(
                input_ids=ids,
                encoder_hidden_states=seen.x,
                encoder_attention_mask=mask,
                use_cache=False,
            ).logits

    def losses(
        self, texts: Inputs, seen: Seen, smoothing: float
    ) -> tuple[Float[Tensor, " f"], Int[Tensor, " f"]]:
        """Of each text the sum over its tokens behind the prompt, and how many these are."""
        longest = int(texts.tensors["mask"].sum(1).max())
        ids, mask = texts.tensors["ids"][:, :longest], texts.tensors["mask"][:, :longest]
        aims = ids.masked_fill(~mask, -100)[:, 1:].clone()
        aims[:, : len(self.start) - 1] = -100
        logits = self(ids[:, :-1], seen).float()
        each = F.cross_entropy(
            logits.transpose(1, 2), aims, reduction="none", label_smoothing=smoothing
        )
        return each.sum(1), (aims != -100).sum(1)

    def written(self, seen: Seen, decoding: Decoding) -> list[str]:
        """What the decoder writes of each row that it looks at."""
        decoding.fit_into(self.room)
        rows, device = len(seen.x), seen.x.device
        start = torch.tensor(self.start, device=device).expand(rows, -1)
        mask = seen.x.new_ones(seen.x.shape[:2]) if seen.mask is None else seen.mask
        drawn = decoding.how == "nucleus"
        how: dict[str, Any] = {"do_sample": drawn, "num_beams": 1 if drawn else decoding.beams}
        how |= {"top_p": decoding.top_p, "top_k": 0} if drawn else {}
        config = GenerationConfig(
            max_new_tokens=decoding.max_length, bos_token_id=self.start[0],
            eos_token_id=self.closing, pad_token_id=self.padding, **how,
        )  # fmt: skip
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.no_grad(),
            running(DECODER),
        ):
            torch.manual_seed(decoding.seed)
            found = self.network.generate(
                input_ids=start,
                attention_mask=torch.ones_like(start),
                generation_config=config,
                encoder_hidden_states=seen.x,
                encoder_attention_mask=mask.long(),
            )
        return [self._text(row) for row in found[:, len(self.start) :].tolist()]

    def ranked(
        self, seen: Seen, answers: Inputs, most: int
    ) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
        """The likeliest answers of each row, best first, and their log-likelihoods. Those `most` are compared
        whole whose first tokens are likeliest."""
        ids = answers.tensors["ids"]
        chosen = torch.arange(len(ids), device=ids.device).expand(len(seen.x), -1)
        if len(ids) > most:
            start = ids[:1, : len(self.start)].expand(len(seen.x), -1)
            first = self(start, seen)[:, -1].float().log_softmax(1)[:, ids[:, len(self.start)]]
            chosen = first.topk(most, dim=1).indices
        rows = torch.arange(len(seen.x), device=ids.device).repeat_interleave(chosen.shape[1])
        flat, parts = chosen.flatten(), []
        for i in range(0, len(flat), _TOGETHER):
            some = slice(i, i + _TOGETHER)
            loss, _ = self.losses(answers.select(flat[some]), seen.rows(rows[some]), 0.0)
            parts.append(-loss)
        likely = torch.cat(parts).view(chosen.shape)
        best, order = torch.sort(likely, dim=1, descending=True, stable=True)
        return chosen.gather(1, order), best

    def _text(self, ids: list[int]) -> str:
        end = ids.index(self.closing) if self.closing in ids else len(ids)
        return self.tokens.text(ids[:end])


class WritingModel(Adapted, ABC):
    """An encoder of pictures or clips and a decoder, both as a method corrects them.

    A batch holds, beside the streams of `encoders`, the texts to be written under the decoder's name.
    `forward` gives (b, 1): each row's loss, without smoothing.
    """

    trains = ()
    looks = True
    weighs_by: str = ""
    """SHA-256 of the projections by which the frames of a clip are weighed; "": they count alike."""

    def __init__(self, parts: Parts, shown: Encoder, prompt: str, smoothing: float) -> None:
        """`smoothing`: share of the loss in which every token is as good as the right one."""
        if parts.decoder is None:
            raise EncoderError(f"{parts.origin.source} has no decoder that could write")
        super().__init__({shown.stream.name: shown})
        self.smoothing, self.base = smoothing, parts.base
        self.writer = Writer(parts.decoder, parts.text.preparation, prompt)

    @property
    def reads(self) -> Mapping[str, Encoder]:
        """By stream, who prepares what a batch holds beside the texts."""
        return {s: self.encoder(s) for s in self.streams}

    def shown(self, batch: Mapping[str, Inputs]) -> Tokens:
        """The tokens of each row's picture, or of all frames of its clip."""
        (stream,) = self.streams
        return self.encoder(stream)(batch[stream])

    @abstractmethod
    def sight(self, batch: Mapping[str, Inputs]) -> Seen:
        """What the decoder looks at."""

    @abstractmethod
    def joined(
        self, losses: Float[Tensor, " f"], tokens: Int[Tensor, " f"], texts: Inputs
    ) -> Float[Tensor, " b"]:
        """Each row's loss, from those of its texts."""

    def forward(self, batch: Mapping[str, Inputs]) -> Scored:
        losses = self._losses(batch, 0.0)
        return Scored(losses[:, None], losses.new_zeros(()))

    def loss(
        self, batch: Mapping[str, Inputs], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        losses = self._losses(batch, self.smoothing)[:, None]
        return self.held_out_loss(losses, target, weight) * processes.share(weight)

    def held_out_loss(
        self, scores: Float[Tensor, "b c"], target: Tensor, weight: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        return (scores[:, 0] * weight).sum() / weight.sum().clamp_min(1e-12)

    def _losses(self, batch: Mapping[str, Inputs], smoothing: float) -> Float[Tensor, " b"]:
        texts = batch[DECODER]
        rows = torch.arange(len(texts), device=texts.count.device)
        seen = self.sight(batch).rows(rows.repeat_interleave(texts.count))
        losses, tokens = self.writer.losses(texts, seen, smoothing)
        return self.joined(losses, tokens, texts)
