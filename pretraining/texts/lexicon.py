"""The words that texts are made of, with what they mean the same as and what they are a kind of."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

__all__ = ["Concept", "Lexicon", "lexicon"]


@dataclass(frozen=True)
class Concept:
    """One meaning: the ways to say it, and what it is a kind of, the closest last."""

    number: int
    group: str
    forms: tuple[str, ...]
    parents: tuple[str, ...]
    above: tuple[int, ...]
    """Numbers of the parents' own meanings."""


@dataclass
class Lexicon:
    """All meanings, by group and by hypernym; a line of the file is drawn as one."""

    lines: list[tuple[Concept, ...]] = field(default_factory=list)
    found: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """For "thing", "thing/clothing": which lines."""
    size: int = 0
    """Meanings in all, hypernyms among them."""

    def choices(self, query: str) -> list[tuple[Concept, ...]]:
        """Lines of "group" or "group/hypernym"; several are joined by commas."""
        numbers = [line for part in query.split(",") for line in self.found[part]]
        return [self.lines[number] for number in numbers]


@cache
def lexicon() -> Lexicon:
    made = Lexicon()
    above: dict[str, int] = {}
    text = Path(__file__).with_name("lexicon.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            _read(line, made, above)
    return made


def _read(line: str, made: Lexicon, above: dict[str, int]) -> None:
    heading, _, entries = line.partition(": ")
    group, *parents = heading.split()
    names = [group, *(f"{group}/{parent}" for parent in parents)]
    for name in names:
        made.found[name] = (*made.found.get(name, ()), len(made.lines))
        if name not in above:
            above[name] = made.size
            made.size += 1
    numbers = tuple(above[name] for name in names)
    said = tuple(parent.replace("_", " ") for parent in parents)
    concepts: list[Concept] = []
    for entry in entries.split(","):
        forms = tuple(form.strip() for form in entry.split("="))
        concepts.append(Concept(made.size, group, forms, said, numbers))
        made.size += 1
    made.lines.append(tuple(concepts))
