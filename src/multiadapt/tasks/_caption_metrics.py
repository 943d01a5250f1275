"""How good captions are: CIDEr-D, BLEU and ROUGE-L against several references.

- CIDEr-D: Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015,
  https://arxiv.org/abs/1411.5726, section 5 for D. Document frequencies are those of the references
  that are given; of one row there are none, and the score is nan.
- BLEU: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002: of
  all rows together, with the reference length that is closest (of two, the shorter), not smoothed.
- ROUGE-L: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, with beta = 1.2 and, as
  the evaluation of COCO captions has it, the best precision and the best recall among references.

Captions are split by `multiadapt.tasks._caption_words`. An empty caption is scored, and scores 0.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from multiadapt.errors import TargetError
from multiadapt.tasks._base import Estimate
from multiadapt.tasks._caption_words import words
from multiadapt.tasks._grouped import estimates, group_numbers, mean_of
from multiadapt.tasks._metrics import Metric

__all__ = ["Captioned", "captioned", "cider_d", "rouge_l"]

LONGEST = 4
"""Words of the longest n-grams that are compared."""
SIGMA = 6.0
BETA = 1.2

_Words = list[str]
_Grams = list[Counter[tuple[str, ...]]]
_Vector = list[dict[tuple[str, ...], float]]


@dataclass(frozen=True, eq=False)
class Captioned:
    """How good captions are."""

    rows: int
    references: int
    protocol: str
    estimates: Mapping[str, Estimate]
    """cider_d (0 to 10), bleu_1 to bleu_4 and rouge_l (0 to 1), with their 95 % intervals."""
    scores: Mapping[str, Float[np.ndarray, " n"]]
    """cider_d and rouge_l of each row."""

    def __str__(self) -> str:
        lines = [
            f"  {name:<8}{e.value:6.3f} [{e.low:.3f}, {e.high:.3f}] of {self.rows:,} captions"
            for name, e in self.estimates.items()
        ]
        return "\n".join([self.protocol, *lines])


def captioned(
    captions: Sequence[object],
    references: Sequence[object],
    *,
    groups: Collection[Hashable] | None = None,
    seed: int = 0,
) -> Captioned:
    """Compare a caption a row with that row's references. Intervals are over groups, else over rows."""
    said, known = _split(captions, references)
    scores = {"cider_d": cider_d(said, known), "rouge_l": rouge_l(said, known)}
    numbers = group_numbers(groups, len(said))
    metrics: dict[str, Metric] = {"cider_d": mean_of(scores["cider_d"])}
    metrics |= _bleu(said, known) | {"rouge_l": mean_of(scores["rouge_l"])}
    total = sum(len(row) for row in known)
    return Captioned(
        rows=len(said),
        references=total,
        protocol=f"{len(said):,} captions against {total:,} references, words as in the evaluation of COCO "
        f"captions; 95 % intervals by bootstrap over {int(numbers.max()) + 1:,} groups of captions, the "
        "document frequencies of CIDEr-D as they are",
        estimates=estimates(metrics, numbers, seed),
        scores=scores,
    )


def cider_d(said: Sequence[_Words], known: Sequence[Sequence[_Words]]) -> Float[np.ndarray, " n"]:
    """The CIDEr-D of each row's words; nan where there is one row, which has no document frequencies."""
    if len(said) == 1:
        return np.full(1, np.nan)
    references = [[_grams(r) for r in row] for row in known]
    seen = [Counter[tuple[str, ...]]() for _ in range(LONGEST)]
    for row in references:
        for n in range(LONGEST):
            seen[n].update({gram for r in row for gram in r[n]})
    rare = [{g: np.log(len(said) / c) for g, c in counter.items()} for counter in seen]
    unseen = float(np.log(len(said)))
    found: list[float] = []
    for caption, row in zip(said, references, strict=True):
        own = _vector(_grams(caption), rare, unseen)
        each = [_consensus(own, _vector(r, rare, unseen), _bigrams(caption), r) for r in row]
        found.append(10 * float(np.mean(each)))
    return np.array(found)


def rouge_l(said: Sequence[_Words], known: Sequence[Sequence[_Words]]) -> Float[np.ndarray, " n"]:
    """The ROUGE-L of each row's words."""
    return np.array([_rouge(caption, row) for caption, row in zip(said, known, strict=True)])


def _bleu(said: Sequence[_Words], known: Sequence[Sequence[_Words]]) -> dict[str, Metric]:
    """BLEU of resampled rows is that of their sums."""
    parts = [_matches(caption, row) for caption, row in zip(said, known, strict=True)]
    right, tried = (np.array([p[i] for p in parts], float) for i in (0, 1))
    length, wanted = (np.array([p[i] for p in parts], float) for i in (2, 3))

    def of(n: int) -> Metric:
        def bleu(w: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
            above, below = w @ right[:, :n], w @ tried[:, :n]
            precision = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
            own = w @ length
            ratio = np.divide(w @ wanted, own, out=np.full(len(w), np.inf), where=own > 0)
            return precision.prod(1) ** (1 / n) * np.exp(np.minimum(0, 1 - ratio))

        return bleu

    return {f"bleu_{n}": of(n) for n in range(1, LONGEST + 1)}


def _matches(
    caption: _Words, references: Sequence[_Words]
) -> tuple[list[int], list[int], int, int]:
    """n-grams that a reference has too, all of them, words, and words of the closest reference."""
    own, others = _grams(caption), [_grams(r) for r in references]
    right: list[int] = []
    for n in range(LONGEST):
        most: Counter[tuple[str, ...]] = Counter()
        for other in others:
            most |= other[n]
        right.append((own[n] & most).total())
    closest = min((abs(len(r) - len(caption)), len(r)) for r in references)[1]
    return right, [grams.total() for grams in own], len(caption), closest


def _grams(caption: _Words) -> _Grams:
    """How often the caption has each run of 1, 2, 3 and 4 words."""
    return [
        Counter(zip(*(caption[i:] for i in range(n)), strict=False)) for n in range(1, LONGEST + 1)
    ]


def _bigrams(caption: _Words) -> int:
    return max(0, len(caption) - 1)


def _vector(grams: _Grams, rare: _Vector, unseen: float) -> _Vector:
    return [
        {gram: count * weight.get(gram, unseen) for gram, count in counts.items()}
        for counts, weight in zip(grams, rare, strict=True)
    ]


def _consensus(own: _Vector, other: _Vector, length: int, reference: _Grams) -> float:
    """Clipped cosine, mean over the lengths of n-grams, less for another length of the caption."""
    # Lengths are told by pairs of words, as in the published program; it shows where one is empty.
    apart = length - reference[1].total()
    total = 0.0
    for mine, theirs in zip(own, other, strict=True):
        size = np.sqrt(sum(v * v for v in mine.values()) * sum(v * v for v in theirs.values()))
        if size > 0:
            total += (
                sum(min(v, theirs[g]) * theirs[g] for g, v in mine.items() if g in theirs) / size
            )
    return total / LONGEST * float(np.exp(-(apart**2) / (2 * SIGMA**2)))


def _rouge(caption: _Words, references: Sequence[_Words]) -> float:
    common = [(_subsequence(caption, r), len(r)) for r in references]
    precision = max(c / len(caption) for c, _ in common) if caption else 0.0
    recall = max(c / size if size else 0.0 for c, size in common)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _subsequence(a: _Words, b: _Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        corner = 0
        for j, other in enumerate(b, 1):
            corner, row[j] = row[j], corner + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def _split(
    captions: Sequence[object], references: Sequence[object]
) -> tuple[list[_Words], list[list[_Words]]]:
    if len(captions) != len(references) or not len(captions):
        raise TargetError(
            f"every caption needs its references, got {len(captions)} and {len(references)}"
        )
    said: list[_Words] = []
    known: list[list[_Words]] = []
    for row, (caption, others) in enumerate(zip(captions, references, strict=True)):
        if not isinstance(caption, str):
            raise TargetError(f"row {row}: a caption must be text, got {type(caption).__name__}")
        if not isinstance(others, (list, tuple)):
            kind = type(others).__name__
            raise TargetError(f"row {row}: references must be a list of texts, got {kind}")
        kept = [words(r) for r in others if isinstance(r, str)]
        if not kept or len(kept) < len(others) or not all(kept):
            raise TargetError(f"row {row} has no reference, or one without words: take it out")
        said.append(words(caption))
        known.append(kept)
    return said, known
