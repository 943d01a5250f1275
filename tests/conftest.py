"""What all tests share: one torch thread, skips for what a machine lacks, a small shop."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import settings
from shop import make_shop
from squares import make_squares
from tiny import make_network, make_table

torch.set_num_threads(1)
os.environ["MULTIADAPT_CACHE"] = "off"  # tests of the cache name a folder of their own
settings.register_profile("multiadapt", deadline=None, derandomize=True)  # the same run everywhere
settings.load_profile("multiadapt")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = {
        "gpu": None if torch.cuda.is_available() else "needs an accelerator",
        "compile": None if shutil.which("c++") else "needs a C++ compiler",
    }
    for item in items:
        for marker, reason in lacking.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a made-up shop: `table.csv` of 80 rows and `photos/`. Do not write into it."""
    return make_shop(tmp_path_factory.mktemp("shop"), rows=80).parent


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random ResNet."""
    return make_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the photos that `table` names. Do not write into it."""
    root = tmp_path_factory.mktemp("tiny")
    make_table(root).to_parquet(root / "table.parquet")
    return root


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the coloured squares that `squares()` names. Do not write into it."""
    return make_squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture
def table(photos: Path) -> pd.DataFrame:
    """60 rows with numbers, a category, two photos under `photos`, the labels `kind` and `price`."""
    return pd.read_parquet(photos / "table.parquet")
