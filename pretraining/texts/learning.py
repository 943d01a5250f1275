"""The network, its losses and the run that learns from generated texts."""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from running import keep, take_up
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from texts.counting import Start, count
from texts.lexicon import Concept, lexicon
from texts.sentences import Domain, Record, domains, draw, say, vary
from texts.tokens import MASK, PADDING, SPECIAL, broken, halves, make_tokenizer

__all__ = ["Run", "export", "pretrain", "start"]

WIDTH = 256
SHORT, LONG = 48, 128
"""Most tokens of one text, and of several texts in a row."""
TEMPERATURE = 0.07
HIDDEN_SHARE = 0.2
"""Of a fact that the words leave out, in the target: a coat is for winter, said or not."""
NEAR = 0.05
"""How much a layer adds at the start: little, so that it begins with what was counted."""
NETWORK_RATE = 0.1
"""Learning rate of the network, beside 1 for the heads, which start from less."""


class Student(nn.Module):
    """The encoder with the heads that only pretraining needs.

    The table of tokens stays as counted: the layers learn what words do to each other.
    """

    def __init__(self, counted: Start) -> None:
        super().__init__()
        self.encoder = _encoder(counted.tokens)
        self.before_words = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH))
        self.word_bias = nn.Parameter(torch.zeros(len(counted.tokens)))
        self.held_bias = nn.Parameter(torch.zeros(len(counted.tokens)))
        self.held_scale = nn.Parameter(torch.tensor(1.0))
        self.meanings = nn.Linear(WIDTH, len(counted.meanings))
        with torch.no_grad():
            self.meanings.weight.copy_(counted.meanings / counted.meanings.norm(dim=1).mean() / 4)
            self.meanings.bias.zero_()
        self.project = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH // 2)
        )

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The last states (f, n, d) and their mean over the tokens of each text (f, d).

        Texts of like length go together: half of a batch would be padding otherwise.
        """
        lengths = (ids != PADDING).sum(1)
        order = lengths.argsort(stable=True)
        parts = [self._read(ids[rows, : int(lengths[rows].max())]) for rows in order.chunk(3)]
        back = order.argsort()
        states = [functional.pad(p[0], (0, 0, 0, ids.shape[1] - p[0].shape[1])) for p in parts]
        return torch.cat(states)[back], torch.cat([p[1] for p in parts])[back]

    def _read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        real = (ids != PADDING).long()
        states = self.encoder(ids, attention_mask=real).last_hidden_state.float()
        shares = real / real.sum(1, keepdim=True)
        return states, (states * shares[..., None]).sum(1)

    @property
    def table(self) -> Tensor:
        return self.encoder.embeddings.word_embeddings.weight

    def words(self, states: Tensor) -> Tensor:
        return functional.linear(self.before_words(states), self.table, self.word_bias).float()

    def held(self, pooled: Tensor) -> Tensor:
        """Which tokens a text holds, as far as its vector shows it."""
        return functional.linear(pooled, self.table * self.held_scale, self.held_bias).float()


def _encoder(table: Tensor) -> BertModel:
    config = BertConfig(
        vocab_size=len(table),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=LONG,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PADDING,
    )
    made = BertModel(config, add_pooling_layer=False)
    made.set_attn_implementation(
        "eager"
    )  # twice as fast as the fused one in bfloat16 on a processor
    with torch.no_grad():
        made.embeddings.word_embeddings.weight.copy_(table).requires_grad_(False)
        made.embeddings.position_embeddings.weight.mul_(0.1)
        made.embeddings.token_type_embeddings.weight.zero_()
        for name, weight in made.encoder.named_parameters():
            if weight.ndim == 2:
                last = name.endswith("output.dense.weight")
                nn.init.normal_(weight, 0, (NEAR if last else 1) / math.sqrt(weight.shape[1]))
    return made


@dataclass(frozen=True)
class Batch:
    """Each row's facts in words twice: row i of `said` and of `again` state the same."""

    said: Tensor
    again: Tensor
    meanings: Tensor
    """(rows, meanings): how much of the text states each, in all 1."""
    held: Tensor
    """(2 rows, tokens): the tokens of `said` and of `again` before they were broken, rare ones most."""


def same_facts(one: Tensor, two: Tensor) -> Tensor:
    """InfoNCE in both directions: row i of one and row i of two state the same facts."""
    alike = functional.normalize(one, dim=1) @ functional.normalize(two, dim=1).T / TEMPERATURE
    partner = torch.arange(len(one))
    both = functional.cross_entropy(alike, partner) + functional.cross_entropy(alike.T, partner)
    return both / 2


def hide(ids: Tensor, dice: torch.Generator, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Fifteen in a hundred tokens to guess, most of them masked, as in BERT; which they are."""
    draws = torch.rand(ids.shape, generator=dice)
    asked = (draws < 0.15) & (ids >= len(SPECIAL))
    way = torch.rand(ids.shape, generator=dice)
    others = torch.randint(len(SPECIAL), vocabulary, ids.shape, generator=dice)
    hidden = torch.where(asked & (way < 0.8), MASK, ids)
    return torch.where(asked & (way > 0.9), others, hidden), asked


@dataclass
class Run:
    """A pretraining run: what a checkpoint holds and what a step needs."""

    student: Student
    tokenizer: Tokenizer
    rarity: Tensor
    optimizer: torch.optim.Optimizer
    options: argparse.Namespace
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.halves = halves(self.tokenizer)

    def learning_rate(self) -> float:
        """Constant after a warm-up; falls to nothing over the last steps."""
        warm = min(1.0, (self.step + 1) / 50)
        fall = min(1.0, (self.options.steps - self.step) / self.options.fall)
        return self.options.learning_rate * warm * fall

    def batch(self) -> Batch:
        dice = random.Random(f"{self.options.seed} {self.step}")
        several = self.step % 16 == 15
        count, each = (self.options.batch // 4, 4) if several else (self.options.batch, 1)
        facts = [self._facts(count, dice) for _ in range(each)]
        told = [_twice([column[row] for column in facts], dice) for row in range(count)]
        said, again, meanings = zip(*told, strict=True)
        limit = LONG if several else SHORT
        rows = [row.ids[:limit] for row in self.tokenizer.encode_batch([*said, *again])]
        held = torch.zeros(len(rows), len(self.rarity))
        for row, ids in zip(held, rows, strict=True):
            row[ids] = self.rarity[ids]
        held /= held.sum(1, keepdim=True).clamp(min=1e-6)
        read = [self._read(ids, limit, dice) for ids in rows]
        return Batch(padded(read[:count]), padded(read[count:]), torch.stack(meanings), held)

    def _read(self, ids: list[int], limit: int, dice: random.Random) -> list[int]:
        """Half of the texts in more tokens than need be, so that pieces of words mean something."""
        return broken(ids, self.halves, 0.1, dice)[:limit] if dice.random() < 0.5 else ids

    def _facts(self, count: int, dice: random.Random) -> list[tuple[Domain, Record]]:
        """Mostly of one domain, half of them nearly alike: what tells them apart must be read."""
        weights = [domain.weight for domain in domains()]
        mixed = dice.random() < 0.3
        domain = dice.choices(domains(), weights)[0]
        made: list[tuple[Domain, Record]] = []
        while len(made) < count:
            if mixed:
                domain = dice.choices(domains(), weights)[0]
            record = draw(domain, dice)
            made.append((domain, record))
            if dice.random() < 0.25:
                made.extend((domain, vary(domain, record, dice)) for _ in range(3))
        return made[:count]

    def learn(self) -> dict[str, float]:
        """One step; returns the losses."""
        batch = self.batch()
        dice = torch.Generator().manual_seed(self.options.seed * 10_000_000 + self.step)
        hidden, asked = hide(batch.said, dice, self.tokenizer.get_vocab_size())
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.options.float32):
            losses = self._losses(batch, hidden, asked)
        self._move(losses["words"] / 2 + losses["held"] + losses["meanings"] + losses["same"] / 2)
        return {name: float(value.detach()) for name, value in losses.items()}

    def _losses(self, batch: Batch, hidden: Tensor, asked: Tensor) -> dict[str, Tensor]:
        student = self.student
        states, one = student(hidden)
        two = student(batch.again)[1]
        both = torch.cat([one, two])
        meant = torch.cat([batch.meanings, batch.meanings])
        return {
            "words": functional.cross_entropy(student.words(states[asked]), batch.said[asked]),
            "held": functional.cross_entropy(student.held(both), batch.held),
            "meanings": functional.cross_entropy(student.meanings(both).float(), meant),
            "same": same_facts(student.project(one).float(), student.project(two).float()),
        }

    def _move(self, loss: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["scale"]
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1

    def save(self) -> None:
        clock = {"step": self.step, "seconds": self.seconds}
        keep(self.options.out, self._parts(), clock)

    def resume(self) -> None:
        if state := take_up(self.options.out, self._parts()):
            self.step, self.seconds = state["step"], state["seconds"]

    def _parts(self) -> dict[str, Any]:
        return {"student": self.student, "optimizer": self.optimizer}


def padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])


def _twice(chosen: list[tuple[Domain, Record]], dice: random.Random) -> tuple[str, str, Tensor]:
    """The same facts put into words twice, in another order, and what they mean."""
    stated: list[int] = []
    hidden: list[int] = []
    ways: list[str] = []
    for _ in range(2):
        told = [say(domain, record, dice) for domain, record in dice.sample(chosen, len(chosen))]
        ways.append(dice.choice((". ", "\n", " ")).join(text for text, _ in told))
        stated.extend(number for _, numbers in told for number in numbers)
    for _, record in chosen:
        for value in record.values():
            if isinstance(value, Concept):
                hidden.extend((*value.above, value.number))
    target = torch.zeros(lexicon().size)
    target[hidden] = HIDDEN_SHARE
    target[stated] = 1.0
    return ways[0], ways[1], target / target.sum().clamp(min=1e-6)


def start(options: argparse.Namespace) -> Run:
    torch.manual_seed(options.seed)
    path = options.out / "tokenizer.json"
    if not path.exists():
        make_tokenizer(options.seed, options.vocabulary).save(str(path))
    tokenizer = Tokenizer.from_file(str(path))
    counted = _start(tokenizer, options)
    student = Student(counted).train()
    network = [p for p in student.encoder.parameters() if p.requires_grad]
    heads = [p for name, p in student.named_parameters() if not name.startswith("encoder.")]
    groups = [
        {"params": network, "scale": NETWORK_RATE, "weight_decay": 0.0},
        {"params": [p for p in heads if p.ndim > 1], "scale": 1.0, "weight_decay": 0.01},
        {"params": [p for p in heads if p.ndim <= 1], "scale": 1.0, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
    run = Run(student, tokenizer, counted.rarity, optimizer, options)
    run.resume()
    return run


def _start(tokenizer: Tokenizer, options: argparse.Namespace) -> Start:
    path = options.out / "counted.safetensors"
    if not path.exists():
        made = count(tokenizer, options.seed, options.records, WIDTH)
        save_file(vars(made), path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    return Start(**load_file(path))


def pretrain(run: Run) -> Iterator[str]:
    """Steps until they are done; yields lines for the log."""
    since = kept = time.monotonic() - run.seconds
    mean: dict[str, float] = {}
    while run.step < run.options.steps:
        losses = run.learn()
        mean = {name: 0.98 * mean.get(name, x) + 0.02 * x for name, x in losses.items()}
        run.seconds = time.monotonic() - since
        if run.step % 20 == 0:
            numbers = " ".join(f"{name} {value:.3f}" for name, value in mean.items())
            yield f"step {run.step} minutes {run.seconds / 60:.2f} {numbers}"
        if time.monotonic() - kept > 180:
            run.save()
            kept = time.monotonic()
    run.save()
    yield f"done: {run.step} steps, {run.seconds / 60:.1f} minutes"


def export(run: Run, folder: Path) -> None:
    """A float16 folder for `AutoModel` and `AutoTokenizer`, with how tokens become one vector."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    kept = BertModel(run.student.encoder.config, add_pooling_layer=False)
    kept.load_state_dict(run.student.encoder.state_dict())
    kept.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"  # stored halved, opened whole
    _write(folder / "config.json", config)
    pooling = {"word_embedding_dimension": config["hidden_size"], "pooling_mode_mean_tokens": True}
    _write(folder / "1_Pooling" / "config.json", pooling)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    names |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(
        tokenizer_object=run.tokenizer, model_max_length=LONG, **names
    ).save_pretrained(folder)
    words = json.loads((folder / "tokenizer.json").read_text())
    compact = json.dumps(words, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(compact + "\n", encoding="utf-8")


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
