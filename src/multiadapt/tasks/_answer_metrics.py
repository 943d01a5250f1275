"""How often answers are right: the VQA challenge's soft accuracy, and exact match.

Antol et al., "VQA: Visual Question Answering", https://arxiv.org/abs/1505.00468, and the page of the
challenge, https://visualqa.org/evaluation.html: an answer is as right as min(people who gave it / 3, 1),
averaged over all subsets that leave one of the people out. Before, both sides are normalised as there:
lower case, number words as digits, articles left out, apostrophes of contractions put in, punctuation
turned into spaces or left out.

One difference: the challenge's program normalises what people said only where they differ, so its
prediction "1/2" never meets ten times "1/2". Here both sides always are. The entry of its list of
contractions that takes an apostrophe away (somebody'd) is left out.
"""

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from multiadapt.errors import TargetError
from multiadapt.tasks._base import Estimate
from multiadapt.tasks._grouped import estimates, group_numbers, mean_of

__all__ = [
    "LEAST",
    "Answered",
    "answered",
    "exact_scores",
    "most_frequent",
    "normalised",
    "soft_score",
    "soft_scores",
]

LEAST = 4
"""People a row needs: of fewer, no answer could be wholly right."""
PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')
NUMBERS: Mapping[str, str] = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
ARTICLES = frozenset({"a", "an", "the"})
CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've
mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't
shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's
something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've
they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
MENDED: Mapping[str, str] = {
    word[:i] + word[i + 1 :]: word
    for word in CONTRACTED.split()
    for i, sign in enumerate(word)
    if sign == "'"
}
"""Contractions without one of their apostrophes, and with it."""
NUMBER_WITH_COMMA = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")


@dataclass(frozen=True, eq=False)
class Answered:
    """How often answers are right."""

    rows: int
    groups: int
    protocol: str
    estimates: Mapping[str, Estimate]
    """exact_match, and vqa_accuracy where several people answered, with their 95 % intervals."""
    scores: Mapping[str, Float[np.ndarray, " n"]]
    """The same for each row, from 0 to 1."""

    def __str__(self) -> str:
        lines = [
            f"  {name:<14}{e.value:6.3f} [{e.low:.3f}, {e.high:.3f}] of {self.rows:,} questions"
            for name, e in self.estimates.items()
        ]
        return "\n".join([self.protocol, *lines])


def answered(
    predicted: Sequence[object],
    answers: Sequence[str] | Sequence[Sequence[str]],
    *,
    groups: Collection[Hashable] | None = None,
    seed: int = 0,
) -> Answered:
    """Compare with one answer a row, or with those of several people: then exact match is with the most
    frequent, of equally frequent ones the first. Intervals are over groups, such as pictures."""
    several = len(answers) > 0 and not isinstance(answers[0], str)
    people = [[a] if isinstance(a, str) else list(a) for a in answers]
    most = [most_frequent(p, i) for i, p in enumerate(people)]
    scores = {"exact_match": exact_scores(predicted, most)}
    told = "equal to the answer after the VQA challenge's normalisation"
    if several:
        scores["vqa_accuracy"] = soft_scores(predicted, people)
        told = (
            "vqa_accuracy: min(equal answers / 3, 1) over subsets that leave one person out; exact_match: "
            "equal to the most frequent answer; both after the VQA challenge's normalisation"
        )
    numbers = group_numbers(groups, len(predicted))
    parts = int(numbers.max()) + 1
    return Answered(
        rows=len(predicted),
        groups=parts,
        protocol=f"{told}; 95 % intervals by bootstrap over {parts:,} groups of questions",
        estimates=estimates({k: mean_of(s) for k, s in scores.items()}, numbers, seed),
        scores=scores,
    )


def soft_scores(
    predicted: Sequence[object], answers: Sequence[Sequence[str]]
) -> Float[np.ndarray, " n"]:
    """The VQA accuracy of each row. TargetError: fewer than four people answered."""
    told = _texts(predicted, answers)
    forms = {a: normalised(a) for a in {*told}.union(*answers)}  # most are said many times
    people = [[forms[a] for a in row] for row in answers]
    return np.array([_soft(forms[p], people[i], i) for i, p in enumerate(told)])


def exact_scores(predicted: Sequence[object], answers: Sequence[str]) -> Float[np.ndarray, " n"]:
    """1 where the normalised answers are equal, else 0."""
    pairs = zip(_texts(predicted, answers), answers, strict=True)
    return np.array([float(normalised(p) == normalised(a)) for p, a in pairs])


def normalised(answer: str) -> str:
    """An answer in the form in which the VQA challenge compares them."""
    given = answer.replace("\n", " ").replace("\t", " ").strip()
    found = given
    number = NUMBER_WITH_COMMA.search(given) is not None
    for sign in PUNCTUATION:
        apart = f"{sign} " in given or f" {sign}" in given
        found = found.replace(sign, "" if apart or number else " ")
    words = (NUMBERS.get(word, word) for word in PERIOD.sub("", found).lower().split())
    return " ".join(MENDED.get(word, word) for word in words if word not in ARTICLES)


def _soft(predicted: str, answers: Sequence[str], row: int) -> float:
    people = len(answers)
    if people < LEAST:
        raise TargetError(
            f"row {row}: VQA accuracy needs at least {LEAST} people's answers, got {people}: give one answer "
            "a row to measure exact match"
        )
    return soft_score(answers.count(predicted), people)


def soft_score(same: int, people: int) -> float:
    """How right an answer is that `same` of so many people give."""
    without_one, without_other = min((same - 1) / 3, 1.0), min(same / 3, 1.0)
    return (same * without_one + (people - same) * without_other) / people


def most_frequent(answers: Sequence[str], row: int) -> str:
    """Of equally frequent ones the first. TargetError: there is none."""
    if not answers:
        raise TargetError(f"row {row} has no answer to compare with: leave it out")
    told = [normalised(a) for a in answers]
    return answers[told.index(max(told, key=told.count))]


def _texts(predicted: Sequence[object], answers: Sequence[object]) -> list[str]:
    if len(predicted) != len(answers) or not len(predicted):
        raise TargetError(
            f"every question needs a prediction and an answer, got {len(predicted)} and {len(answers)}"
        )
    told: list[str] = []
    for row, given in enumerate(predicted):
        if not isinstance(given, str):
            raise TargetError(f"row {row}: a prediction must be text, got {type(given).__name__}")
        told.append(given)
    return told
