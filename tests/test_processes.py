"""Several processes that train together: the same result as one, the same end for all."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import together
import torch
from safetensors.torch import load_file
from tiny import make_network, make_table, make_transformer
from torch import Tensor

from multiadapt import feed, load, processes
from multiadapt.errors import SpecError

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    make_network(folder / "resnet")
    make_transformer(folder / "vit")
    table = make_table(folder)
    table.to_parquet(folder / "table.parquet")
    table.head(30).drop(columns="price").to_csv(folder / "table.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def one(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, block = tmp_path_factory.mktemp("one"), feed.BLOCK
    together.main(networks, out)
    feed.BLOCK = block
    return out


@pytest.fixture(scope="module")
def two(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    done = run(*TWO, together.__file__, networks, out, folder=out)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def told(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"told-{rank}.json").read_text())


def losses(info: Mapping[str, Any], key: str) -> list[float]:
    return [epoch[key] for epoch in info["history"]["epochs"] if key in epoch]


def gradients(tensors: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
    return {k: t for k, t in tensors.items() if k.startswith(f"step:{step}:")}


@pytest.mark.parametrize("name", together.FITS)
def test_two_processes_train_as_one(name: str, one: Path, two: Path) -> None:
    """float32 sums in another order; AdamW then divides what is next to zero by its own size."""
    alone, both = (load_file(folder / f"{name}-0.safetensors") for folder in (one, two))
    assert alone.keys() == both.keys()
    for step in (1, 2):
        found = gradients(both, step)
        largest = max(float(t.abs().max()) for t in found.values())
        for key, tensor in gradients(alone, step).items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=3e-6 * max(1, largest))
    infos = told(one)[name], told(two)[name]
    for key in ("loss", "validation_loss", "validation_metric"):
        alone_loss, both_loss = (losses(info, key) for info in infos)
        assert both_loss[:1] == pytest.approx(alone_loss[:1], rel=2e-5)
        assert both_loss == pytest.approx(alone_loss, rel=1e-4)
    assert infos[0]["history"]["best_epoch"] == infos[1]["history"]["best_epoch"]


def test_norms_of_all_rows_are_those_of_one_process(one: Path, two: Path) -> None:
    alone, both = (load_file(folder / "norm-0.safetensors") for folder in (one, two))
    for key, tensor in alone.items():
        # A bias ahead of a norm has a gradient of 0, of which AdamW makes steps of rounding.
        if key.startswith("state:") and not key.endswith((".bias", "running_mean")):
            torch.testing.assert_close(both[key], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", together.FITS)
def test_processes_end_with_the_same_bits(name: str, two: Path) -> None:
    first, second = (load_file(two / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_two_processes_go_on_to_the_same_bits(two: Path) -> None:
    whole, resumed = (load_file(two / f"{name}-1.safetensors") for name in ("norm", "resumed"))
    assert all(torch.equal(tensor, whole[key]) for key, tensor in resumed.items())


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        (
            "broken",
            "CellError: every cell of files must be readable or missing; 1 are neither",
            None,
        ),
        (
            "failing",
            "TrainingError: process 1 has failed, and so all end: OSError: the disk is gone",
            "OSError: the disk is gone",
        ),
        (
            "unlike",
            "TrainingError: all processes must be given the same rows, options and seed",
            None,
        ),
        (
            "shorter",
            "TrainingError: all processes must be given the same rows, options and seed",
            None,
        ),
    ],
)
def test_an_error_of_one_process_ends_all(
    name: str, first: str, second: str | None, two: Path
) -> None:
    found = [told(two, rank)[name] for rank in (0, 1)]
    assert found[0].startswith(first)
    assert found[1].startswith(second or first)
    assert second or found[0] == found[1]


@pytest.mark.parametrize(("name", "why"), [("interrupted", "interrupt"), ("limited", "time_limit")])
def test_processes_stop_at_the_same_step(name: str, why: str, two: Path) -> None:
    first, second = (told(two, rank)[name] for rank in (0, 1))
    assert first["stopped"] == second["stopped"] == why
    assert [e["loss"] for e in first["epochs"]] == [e["loss"] for e in second["epochs"]]


def test_main_process_writes_the_model(two: Path, networks: Path) -> None:
    model = load(two / "saved")
    rows = pd.read_parquet(networks / "table.parquet").head(4)
    assert len(model.predict(rows, root=networks)) == 4


def test_shell_speaks_once_and_saves_what_one_process_does(one: Path, two: Path) -> None:
    alone, first, second = told(one)["shell"], told(two)["shell"], told(two, 1)["shell"]
    assert alone["code"] == first["code"] == second["code"] == 0
    assert first["stdout"] == alone["stdout"] != ""
    assert second["output"] == ""
    assert "trained 1 of 1 epochs" in first["output"]
    assert "saved in" in first["output"]
    both, single = (load_file(folder / "shell" / "adapter.safetensors") for folder in (two, one))
    for key, tensor in single.items():
        torch.testing.assert_close(both[key], tensor, rtol=1e-4, atol=1e-5)
    assert not list(two.glob("shell.resume*"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ACCELERATE_USE_FSDP", "true", "keeps the whole network in each, and FSDP would split it"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "and DeepSpeed would split it"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "mixed precision must be 'no', got 'fp16'"),
    ],
)
def test_what_a_launcher_asks_for_and_is_not_done_is_refused(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, value)
    with pytest.raises(SpecError, match=words), processes.together():
        pass


def test_processes_that_do_not_know_of_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each would train for itself, and all would write the same folder."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(
        "accelerate.state.PartialState", lambda **_: SimpleNamespace(num_processes=1)
    )
    with pytest.raises(SpecError, match="of 3 Accelerate's state knows 1"), processes.together():
        pass
