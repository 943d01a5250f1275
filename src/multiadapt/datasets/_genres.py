"""The 23 labels of MM-IMDb, in the usual order."""

from collections.abc import Iterable

__all__ = ["GENRES", "joined"]

GENRES = (
    "Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror", "Documentary",
    "Mystery", "Sci-Fi", "Fantasy", "Family", "Biography", "War", "History", "Music", "Animation",
    "Musical", "Western", "Sport", "Short", "Film-Noir",
)  # fmt: skip


def joined(named: Iterable[str]) -> str:
    """The labels among these genres as one cell; the separator alone where there are none."""
    held = set(named)
    return "|".join(genre for genre in GENRES if genre in held) or "|"
