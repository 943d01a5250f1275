"""Ray Data hands the parts of a table to workers: every row once and in order, whoever dies."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray_jobs import Watched
from shell import call

from multiadapt import Frozen, MultimodalClassifier, Training
from multiadapt.cli import _ray
from multiadapt.cli._chunks import Chunks
from multiadapt.cli._working import Prediction
from multiadapt.errors import CellError, TrainingError

ROWS = 40


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three places for workers on this machine."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(__file__).parent))  # workers find ray_jobs
        patched.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=3, include_dashboard=False, logging_level="error", log_to_driver=False)
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def job(photos: Path, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    """Predictions by a model that reads a photo."""
    folder = tmp_path_factory.mktemp("ray")
    frame = pd.read_parquet(photos / "table.parquet").iloc[:ROWS].drop(columns=["back", "price"])
    frame.to_csv(folder / "table.csv", index=False)
    encoders = {"image": str(network), "tabular": "mlp"}
    model = MultimodalClassifier(
        Frozen(), encoders=encoders, training=Training(epochs=1), validation=0.0, verbose=False
    )
    model.fit(frame, label="kind", root=photos).save(folder / "model")
    return Prediction(
        model=folder / "model", root=photos, on_error="raise", mask=None, where=None, encoder={},
        device="cpu", proba=True, empty="raise",
    )  # fmt: skip


def predicted_here(job: Prediction, out: Path) -> pd.DataFrame:
    table = job.model.with_name("table.csv")
    words = ["predict", job.model, table, "--root", job.root, "--device", "cpu", "--proba"]
    call(*words, "--chunk", 3, "--keep", "size", "--out", out)
    return pd.read_csv(out)


@pytest.mark.filterwarnings("default")  # Ray's own
def test_rows_stay_once_and_in_order_though_a_worker_dies(
    cluster: Any, job: Prediction, tmp_path: Path
) -> None:
    notes, out = tmp_path / "notes", tmp_path / "ray.csv"
    notes.mkdir()
    chunks = Chunks(job.model.with_name("table.csv"), out, 3, ["size"], {})
    _ray.run_on_ray(Watched(job, notes, dies_at=20), chunks, 3)
    found = pd.read_csv(out)
    assert (notes / "died").exists()
    assert len(list(notes.glob("opened-*"))) == 4, "one more than there were, each once"
    assert found["worker"].nunique() >= 3
    expected = predicted_here(job, tmp_path / "here.csv")
    pd.testing.assert_frame_equal(found.drop(columns="worker"), expected)


@pytest.mark.filterwarnings("default")
def test_a_broken_run_continues_on_another_engine(
    cluster: Any, job: Prediction, tmp_path: Path
) -> None:
    """And a file that cannot be read is the same error, and the same listing, as without workers."""
    table, out = job.model.with_name("table.csv"), tmp_path / "out.csv"
    broken = tmp_path / "broken.csv"
    frame = pd.read_csv(table)
    frame.assign(front=frame["front"].mask(frame.index >= 30, "none.png")).to_csv(broken)
    chunks = Chunks(broken, out, 3, ["size"], {})
    with pytest.raises(CellError, match=r"row 30, column 'front', file 'none.png': no such file"):
        _ray.run_on_ray(job, chunks, 2)
    again = Chunks(broken, out, 3, ["size"], {})
    _ray.run_on_ray(replace(job, on_error="missing"), again, 1)
    done = again.writer
    assert (done.rows, done.bad) == (ROWS, 10)
    expected = predicted_here(job, tmp_path / "here.csv")
    pd.testing.assert_frame_equal(pd.read_csv(out).iloc[:30], expected.iloc[:30])


@pytest.mark.filterwarnings("default")
def test_a_part_that_ends_every_worker_ends_the_run_which_continues(
    cluster: Any, job: Prediction, tmp_path: Path
) -> None:
    notes, out = tmp_path / "notes", tmp_path / "ray.csv"
    notes.mkdir()
    told = (job.model.with_name("table.csv"), out, 10, ["size"], {})
    with pytest.raises(TrainingError, match=r"no worker has finished a part at or after row \d+"):
        _ray.run_on_ray(Watched(job, notes, dies_at=25, always=True), Chunks(*told), 1)
    assert not out.exists()
    assert list(out.parent.glob(".ray.csv.parts/*"))  # what the next call goes on from
    notes = tmp_path / "again"
    notes.mkdir()
    _ray.run_on_ray(Watched(job, notes), Chunks(*told), 1)
    expected = predicted_here(job, tmp_path / "here.csv")
    pd.testing.assert_frame_equal(pd.read_csv(out).drop(columns="worker"), expected)


def test_ray_that_is_not_installed_is_told(
    job: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["predict", job.model, job.model.with_name("table.csv"), "--out", tmp_path / "o.csv"]
    done = call(*words, "--engine", "ray", code=2)
    assert "--engine ray needs Ray: pip install multiadapt[ray]" in done.stderr
    assert not list(tmp_path.iterdir())
    assert "--workers goes with --engine ray" in call(*words, "--workers", 2, code=2).stderr
