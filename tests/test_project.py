"""The project's own files: names, versions, what an import costs, examples."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from PIL import Image
from shop import make_shop

import multiadapt

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


run_blocks = load_script("run_blocks")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", multiadapt.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(multiadapt, name).__name__ == name


def test_public_names_are_those_that_resolve() -> None:
    assert list(multiadapt._HOMES) == sorted(multiadapt.__all__)
    assert set(multiadapt.__all__) < set(dir(multiadapt))


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'multiadapt' has no attribute 'Nothing'"):
        _ = multiadapt.Nothing


def test_import_is_light() -> None:
    code = "import sys, multiadapt; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "pandas", "numpy", "transformers", "sklearn", "tabicl", "rich"}
    assert not heavy & set(done.stdout.split())


def test_versions_agree() -> None:
    assert multiadapt.__version__ == PROJECT["project"]["version"]


def test_every_dependency_of_the_set_up_is_pinned() -> None:
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    bounds = {plain(d.partition(">=")[0]): d.partition(">=")[2] for d in wanted}
    assert bounds.keys() <= {plain(n) for n in CONSTRAINTS}
    assert all(bounds.values()), "a dependency has no lower bound"


def test_torch_is_pinned_without_a_build_tag() -> None:
    assert CONSTRAINTS["torch"] == "2.13.0"  # with one it could not be installed elsewhere
    assert not [n for n in CONSTRAINTS if n.startswith(("nvidia", "torchvision", "xgboost"))]


@pytest.mark.parametrize(
    "script", ["scripts/demo", "scripts/test", "scripts/check", "scripts/docs", ".ci/run"]
)
def test_command_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_set_up_without_python_says_what_is_needed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["bash", "scripts/demo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr


def test_changelog_has_one_short_file_per_change() -> None:
    fragments = [p for p in (ROOT / "changelog").glob("*.md") if p.name != "README.md"]
    assert fragments
    for fragment in fragments:
        text = fragment.read_text(encoding="utf-8")
        assert 0 < len(text.strip()) <= 400, f"{fragment.name}: one or two plain sentences"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_exist(page: Path) -> None:
    for target in re.findall(
        r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")
    ):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_blocks_keep_their_order_lines_and_reasons() -> None:
    text = """a
```python
x = 1
```
<!-- not run: needs a GPU -->

```bash
false
```
```text
left out
```
- item
  ```sh
  echo
  ```
"""
    found = [(b.language, b.code, b.line, b.reason) for b in run_blocks.blocks(text)]
    assert found == [
        ("python", "x = 1\n", 3, ""),
        ("bash", "false\n", 8, "needs a GPU"),
        ("bash", "echo\n", 15, ""),
    ]


def test_blocks_of_a_page_share_a_namespace_and_the_shop(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1\n```\n```bash\ntest -f shop/table.csv\n```\n```python\nx\n```\n"
    )
    assert run_blocks.main([page], rows=1) == 0
    assert capfd.readouterr().out.count("page.md:") == 3


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```python\n1 / 0\n```\n", 'page.md", line 2'),
        ("```bash\nfalse\n```\n", "non-zero exit status 1"),
        ("```python\nraise SystemExit(0)\n```\n", "SystemExit"),
    ],
)
def test_a_failing_block_fails_the_run(
    block: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(block)
    assert run_blocks.main([page], rows=1) == 1
    assert said in capfd.readouterr().err


def test_shop_is_the_same_for_a_seed_and_another_for_another(tmp_path: Path) -> None:
    files = [make_shop(tmp_path / str(i), rows=6, seed=seed) for i, seed in enumerate((0, 0, 1))]
    tables = [f.read_text() for f in files]
    assert tables[0] == tables[1] != tables[2]
    photos = [sorted((f.parent / "photos").iterdir()) for f in files]
    same, equal, other = ([p.read_bytes() for p in folder] for folder in photos)
    assert same == equal
    assert same != other


def test_shop_photos_are_where_the_table_says(shop: Path) -> None:
    table = pd.read_csv(shop / "table.csv")
    assert len(table) == 80
    assert set(table["kind"]) == {"cup", "bowl", "box", "crate"}
    for name in table["photo"].dropna():
        with Image.open(shop / name) as photo:
            assert photo.size == (96, 96)
