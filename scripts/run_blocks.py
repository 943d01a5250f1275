"""Run the code blocks of Markdown files, so that what the documentation says works.

    python scripts/run_blocks.py README.md docs/*.md

Every file gets a temporary folder that holds `shop/table.csv` and `shop/photos/` (examples/shop.py).
There its ```python blocks run in one namespace and its ```bash and ```sh blocks in bash, in the
order of the page. A block right after the line `<!-- not run: reason -->` is left out. The first
block that fails ends the run with status 1.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Block", "blocks", "main", "run"]

LANGUAGES = {"python": "python", "bash": "bash", "sh": "bash"}
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>\w*)")
NOT_RUN = re.compile(r"^\s*<!-- not run: (?P<reason>.+?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    language: str
    code: str
    line: int
    """Number of its first line of code, from 1."""
    reason: str = ""
    """Why it is not run; "" where it is."""


def blocks(text: str) -> Iterator[Block]:
    """The blocks in python and bash, in the order of the page."""
    lines = text.splitlines()
    before, i = "", 0
    while i < len(lines):
        fence = FENCE.match(lines[i])
        if fence is None:
            before = lines[i] if lines[i].strip() else before
            i += 1
            continue
        end = next(
            (j for j in range(i + 1, len(lines)) if lines[j].strip() == fence["ticks"]), len(lines)
        )
        if fence["language"] in LANGUAGES:
            code = "\n".join(line.removeprefix(fence["indent"]) for line in lines[i + 1 : end])
            marked = NOT_RUN.match(before)
            reason = marked["reason"] if marked else ""
            yield Block(LANGUAGES[fence["language"]], code + "\n", i + 2, reason)
        before, i = "", end + 1


def run(page: Path, folder: Path) -> None:
    """Run the blocks of a page in a folder; the exception of the first that fails."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    home = Path.cwd()
    os.chdir(folder)
    try:
        for block in blocks((home / page).read_text(encoding="utf-8")):
            start = time.perf_counter()
            if not block.reason:
                _execute(block, str(page), namespace)
            took = f"{time.perf_counter() - start:.1f} s"
            print(f"{page}:{block.line} {block.language} {block.reason or took}", flush=True)
    finally:
        os.chdir(home)


def _execute(block: Block, page: str, namespace: dict[str, Any]) -> None:
    if block.language == "python":
        # Blank lines in front: a traceback then names the page and its line.
        exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), namespace)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", block.code], check=True)


def main(pages: Sequence[Path], rows: int = 300) -> int:
    """Run the pages, each in a folder with a shop of so many rows; 0 when all blocks ran."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from shop import make_shop

    for page in pages:
        with tempfile.TemporaryDirectory() as folder:
            make_shop(Path(folder) / "shop", rows)
            try:
                run(page, Path(folder))
            except (Exception, SystemExit):  # noqa: BLE001 - a block may fail in any way
                traceback.print_exc()
                print(f"{page}: a block failed", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the code blocks of Markdown files.")
    parser.add_argument("pages", nargs="+", type=Path)
    sys.exit(main(parser.parse_args().pages))
