"""The tokenizer, the network, its losses and the run that learns from generated texts."""

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from texts.lexicon import lexicon
from texts.sentences import Domain, Record, domains, draw, say, vary

__all__ = ["Run", "export", "make_tokenizer", "pretrain", "start"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PADDING, OPENING, MASK = 0, 2, 4
SHORT, LONG = 48, 128
"""Most tokens of one text, and of several texts in a row."""
TEMPERATURE = 0.07
HIDDEN_SHARE = 0.2
"""Of a fact that the words leave out, in the target: a coat is for winter, said or not."""


def make_tokenizer(seed: int, size: int) -> Tokenizer:
    """Byte pairs inside words, lower case, digits alone: no text is without tokens."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(_for_the_tokenizer(seed), trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", OPENING)]
    )
    return made


def _for_the_tokenizer(seed: int, texts: int = 60_000) -> Iterator[str]:
    """Texts as in training, and every word of the lexicon often enough to become one token."""
    dice = random.Random(f"{seed} tokenizer")
    weights = [domain.weight for domain in domains()]
    for _ in range(texts):
        domain = dice.choices(domains(), weights)[0]
        yield say(domain, draw(domain, dice), dice)[0]
    for line in lexicon().lines:
        for concept in line:
            yield from concept.forms * 10


class Student(nn.Module):
    """The encoder with the heads that only pretraining needs."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=160,
            num_hidden_layers=3,
            num_attention_heads=5,
            intermediate_size=480,
            max_position_embeddings=LONG,
            type_vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=PADDING,
        )
        self.encoder = BertModel(config, add_pooling_layer=False)
        width = config.hidden_size
        self.before_words = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.meanings = nn.Linear(width, lexicon().size)
        self.project = nn.Linear(width, width)

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
        states = self.encoder(ids, attention_mask=real).last_hidden_state
        shares = real / real.sum(1, keepdim=True)
        return states, (states * shares[..., None]).sum(1)

    def words(self, states: Tensor) -> Tensor:
        table = self.encoder.embeddings.word_embeddings.weight
        return functional.linear(self.before_words(states), table, self.bias)


@dataclass(frozen=True)
class Batch:
    """Each row's facts in words twice: row i of `said` and of `again` state the same."""

    said: Tensor
    again: Tensor
    meanings: Tensor
    """(rows, meanings): how much of the text states each, in all 1."""


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
    optimizer: torch.optim.Optimizer
    options: argparse.Namespace
    step: int = 0
    seconds: float = 0.0

    def learning_rate(self) -> float:
        """Constant after a warm-up; falls to nothing over the last steps."""
        warm = min(1.0, (self.step + 1) / 200)
        fall = min(1.0, (self.options.steps - self.step) / self.options.fall)
        return self.options.learning_rate * warm * fall

    def batch(self) -> Batch:
        dice = random.Random(f"{self.options.seed} {self.step}")
        several = self.step % 16 == 15
        count, each = (self.options.batch // 4, 4) if several else (self.options.batch, 1)
        facts = [self._facts(count, dice) for _ in range(each)]
        said, again, meanings = [], [], []
        for row in range(count):
            chosen = [column[row] for column in facts]
            first, second, stated = _twice(chosen, dice)
            said.append(first)
            again.append(second)
            meanings.append(stated)
        limit = LONG if several else SHORT
        return Batch(self.ids(said, limit), self.ids(again, limit), torch.stack(meanings))

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

    def ids(self, texts: list[str], limit: int) -> Tensor:
        rows = [row.ids[:limit] for row in self.tokenizer.encode_batch(texts)]
        longest = max(map(len, rows))
        return torch.tensor([row + [PADDING] * (longest - len(row)) for row in rows])

    def learn(self) -> dict[str, float]:
        """One step; returns the losses."""
        batch = self.batch()
        dice = torch.Generator().manual_seed(self.options.seed * 10_000_000 + self.step)
        vocabulary = self.tokenizer.get_vocab_size()
        hidden, asked = hide(batch.said, dice, vocabulary)
        states, one = self.student(hidden)
        two = self.student(batch.again)[1]
        guesses = self.student.words(states[asked])
        told = [self.student.meanings(pooled) for pooled in (one, two)]
        losses = {
            "words": functional.cross_entropy(guesses, batch.said[asked]),
            "same": same_facts(self.student.project(one), self.student.project(two)),
            "meanings": sum(functional.cross_entropy(t, batch.meanings) for t in told) / 2,
        }
        self._move(losses["words"] + losses["same"] + losses["meanings"])
        return {name: float(value.detach()) for name, value in losses.items()}

    def _move(self, loss: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["scale"]
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1

    def save(self) -> None:
        """Written beside and moved into place: a kill leaves the last whole checkpoint."""
        state = {"student": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
        path = self.options.out / "checkpoint.pt"
        torch.save(state | {"step": self.step, "seconds": self.seconds}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def resume(self) -> None:
        path = self.options.out / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]


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
            hidden.extend((*value.above, value.number) if hasattr(value, "above") else ())
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
    student = Student(tokenizer.get_vocab_size()).train()
    tables = [student.encoder.embeddings.word_embeddings.weight, student.meanings.weight]
    rest = [p for p in student.parameters() if all(p is not table for table in tables)]
    groups = [
        {"params": tables, "scale": 3.0, "weight_decay": 0.0},
        {"params": [p for p in rest if p.ndim > 1], "scale": 1.0, "weight_decay": 0.01},
        {"params": [p for p in rest if p.ndim <= 1], "scale": 1.0, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
    run = Run(student, tokenizer, optimizer, options)
    run.resume()
    return run


def pretrain(run: Run) -> Iterator[str]:
    """Steps until they are done; yields lines for the log."""
    since = time.monotonic() - run.seconds
    mean: dict[str, float] = {}
    while run.step < run.options.steps:
        losses = run.learn()
        mean = {name: 0.98 * mean.get(name, x) + 0.02 * x for name, x in losses.items()}
        run.seconds = time.monotonic() - since
        if run.step % 50 == 0:
            numbers = " ".join(f"{name} {value:.3f}" for name, value in mean.items())
            yield f"step {run.step} minutes {run.seconds / 60:.2f} {numbers}"
        if run.step % 200 == 0:
            run.save()
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
