"""The tokenizer, learned from generated texts, and taking its tokens apart again."""

import random
from collections.abc import Iterator, Mapping, Sequence
from json import loads
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers as learners

from texts import spelling
from texts.lexicon import lexicon
from texts.sentences import PLURAL_TOO, domains, draw, say

__all__ = ["MASK", "OPENING", "PADDING", "SPECIAL", "broken", "halves", "make_tokenizer"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PADDING, OPENING, MASK = 0, 2, 4


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
    learner = learners.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(_learned_from(seed), learner)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", OPENING)]
    )
    return made


def _learned_from(seed: int, texts: int = 40_000) -> Iterator[str]:
    """Texts as in training, and every word of the lexicon often enough to become one token."""
    dice = random.Random(f"{seed} tokenizer")
    weights = [domain.weight for domain in domains()]
    for _ in range(texts):
        domain = dice.choices(domains(), weights)[0]
        yield say(domain, draw(domain, dice), dice)[0]
    for line in lexicon().lines:
        for concept in line:
            yield from concept.forms * 12
            if concept.group in PLURAL_TOO:
                yield from [spelling.plural(form) for form in concept.forms] * 10


def halves(tokenizer: Tokenizer) -> Mapping[int, tuple[int, int]]:
    """The two tokens that each longer token was merged from."""
    model: dict[str, Any] = loads(tokenizer.to_str())["model"]
    number, found = model["vocab"], {}
    for first, second in model["merges"]:
        found.setdefault(number[first + second], (number[first], number[second]))
    return found


def broken(
    ids: Sequence[int], parts: Mapping[int, tuple[int, int]], share: float, dice: random.Random
) -> list[int]:
    """The same text in more tokens, as if its words were rare: each is halved with chance `share`.

    The tokenizer's own dropout of merges has no seed.
    """
    found: list[int] = []
    rest = list(reversed(ids))
    while rest:
        token = rest.pop()
        if token in parts and dice.random() < share:
            rest.extend(reversed(parts[token]))
        else:
            found.append(token)
    return found
