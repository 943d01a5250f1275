"""predict and embed over a table in parts: what is broken off continues, and nothing is lost or twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shell import call

import multiadapt
from multiadapt import Frozen, MultimodalClassifier, Training
from multiadapt.answers import check_empty
from multiadapt.cli._chunks import Chunks
from multiadapt.cli._ray import _frame, _parts, _raise, _Worker
from multiadapt.cli._working import Embedding, Prediction
from multiadapt.errors import ArtifactError, CellError, SchemaError, SpecError
from multiadapt.methods.u2a import U2A

ROWS = 20


@pytest.fixture(scope="module")
def table(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with a photo each, some without; as a CSV file with its photos beside it."""
    folder = tmp_path_factory.mktemp("streams")
    frame = pd.read_parquet(photos / "table.parquet").iloc[:ROWS].drop(columns=["back", "price"])
    frame.loc[frame.index[[2, 11]], "front"] = None
    shutil.copytree(photos / "photos", folder / "photos")
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.fixture(scope="module")
def model(table: Path, network: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # fmt: skip
    """A saved model of `kind`."""
    encoders = {"image": str(network), "tabular": "mlp"}
    fitted = MultimodalClassifier(
        Frozen(), encoders=encoders, training=Training(epochs=1), validation=0.0, verbose=False
    )
    out = tmp_path_factory.mktemp("models") / "kind"
    fitted.fit(table, label="kind", root=photos).save(out)
    return out


def moved(table: Path, photos: Path, folder: Path) -> Path:
    """A copy of the table and the photos that may be written to."""
    frame = pd.read_csv(table)
    (folder / "photos").mkdir(parents=True)
    for name in frame["front"].dropna():
        (folder / name).write_bytes((photos / name).read_bytes())
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def parts_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")


def break_off(words: list[object], table: Path, row: int) -> None:
    """Run until a photo that is not there; then put it back."""
    photo = table.parent / pd.read_csv(table)["front"][row]
    photo.rename(photo.with_suffix(".gone"))
    done = call(*words, code=2)
    assert "no such file" in done.stderr
    assert "rows are done: the same call continues after them" in done.stderr
    photo.with_suffix(".gone").rename(photo)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_broken_prediction_continues_to_the_same_file(
    suffix: str, table: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    own = moved(table, photos, tmp_path / "own")
    call("mask", own, "--rate", ".5", "--modality", "front", "--model", model, "--out", tmp_path / "m.csv")  # fmt: skip
    masked = pd.read_csv(tmp_path / "m.csv")["front"]
    there = pd.read_csv(own)["front"].notna() & ~masked
    late = int(np.flatnonzero(there[12:])[0]) + 12
    words = ["predict", model, own, "--chunk", 3, "--proba", "--keep", "front", "--keep", "size"]
    words += ["--mask", tmp_path / "m.csv"]
    call(*words, "--out", tmp_path / f"whole{suffix}")
    out = tmp_path / f"out{suffix}"
    break_off([*words, "--out", out], own, late)
    assert not out.exists()
    done = call(*words, "--out", out)
    assert f"continuing after {late // 3 * 3} rows" in done.stderr
    assert f"{ROWS} rows in" in done.stderr
    assert out.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert not parts_of(out).exists()
    assert "continuing" not in call(*words, "--out", out).stderr


def test_finished_rows_are_not_decoded_again(
    table: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    own = moved(table, photos, tmp_path / "own")
    words = ["predict", model, own, "--chunk", 4, "--out", tmp_path / "out.csv"]
    break_off(words, own, 13)
    for name in pd.read_csv(own)["front"][:12].dropna():
        (own.parent / name).write_bytes(b"no picture any more")
    assert "continuing after 12 rows" in call(*words).stderr
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["row"].tolist() == list(range(ROWS))
    expected = multiadapt.load(model).predict(table, root=photos)
    assert found["prediction"].tolist() == expected.tolist()


KILLED = """
import os, signal, sys
from multiadapt.data import table_writer
note = table_writer.TableWriter._save
def save(self, done):
    if done.parts == 3:  # the rows of the third part are on the disk, and nothing says so
        os.kill(os.getpid(), signal.SIGKILL)
    note(self, done)
table_writer.TableWriter._save = save
from multiadapt.cli import main
main(sys.argv[1:])
"""


def test_a_killed_run_loses_no_row_and_has_none_twice(
    table: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    words = ["predict", model, table, "--chunk", 4, "--device", "cpu"]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, words), "--out", str(out)],
        check=False,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not out.exists()
    assert (parts_of(out) / "rows").read_text().count("\n") == 13  # a header and three parts
    assert "continuing after 8 rows" in call(*words, "--out", out).stderr
    call(*words, "--out", tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_another_table_model_or_option_begins_anew(
    table: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    own = moved(table, photos, tmp_path / "own")
    out = ["--out", tmp_path / "out.csv"]
    words = ["predict", model, own, *out]
    break_off([*words, "--chunk", 4], own, 13)
    again = call(*words, "--chunk", 5).stderr
    assert "starting anew: since a run was broken off, another is --chunk" in again
    break_off([*words, "--chunk", 4], own, 13)
    pd.read_csv(own).iloc[:7].to_csv(own, index=False)
    again = call(*words, "--chunk", 4).stderr
    assert "another is the table" in again
    assert len(pd.read_csv(tmp_path / "out.csv")) == 7


def test_unreadable_cells_of_all_parts_are_listed_once(
    table: Path, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    own = moved(table, photos, tmp_path / "own")
    named = pd.read_csv(own)["front"]
    bad = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 19]
    for name in named[bad]:
        (own.parent / name).write_bytes(b"no picture")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    words = ["predict", model, own, "--chunk", 4, "--on-error", "missing", "--out", tmp_path / "o.csv"]  # fmt: skip
    stop = "multiadapt.cli._chunks.Chunks.append"
    before = Chunks.append
    with monkeypatch.context() as patched:
        patched.setattr(stop, lambda s, *a: before(s, *a) if s.rows < 8 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call(*words)
    assert "unreadable" not in caplog.text
    call(*words)
    assert "12 unreadable cells are taken as missing" in caplog.text
    assert "row 0, column 'front'" in caplog.text
    (listed,) = tmp_path.glob("multiadapt-bad-cells-*.csv")
    assert pd.read_csv(listed)["position"].tolist() == bad


def test_vectors_are_what_the_head_reads_and_fit_takes_them(
    table: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "vectors.parquet"
    call("embed", model, table, "--out", out, "--keep", "kind", "--keep", "size", "--chunk", 7)
    found = pd.read_parquet(out)
    assert list(found) == ["kind", "size", "vector"]
    estimator = multiadapt.load(model)
    expected = estimator.embed(pd.read_csv(table), root=photos)
    np.testing.assert_allclose(np.stack(found["vector"].to_list()), expected, atol=1e-5)
    head = estimator.fitted_.model.head.linear
    weight, bias = (t.detach().numpy() for t in (head.weight, head.bias))
    scores = estimator.fitted_.scores(pd.read_csv(table), photos)
    np.testing.assert_allclose(expected.to_numpy() @ weight.T + bias, scores, atol=1e-5)
    again = MultimodalClassifier(
        Frozen(), training=Training(epochs=1), validation=0.0, verbose=False
    )
    again.fit(out, label="kind", root=tmp_path)
    assert {s.name for s in again.fitted_.schema.streams()} == {"tabular", "vector"}


def test_one_modality_has_a_vector_where_it_is_there(
    table: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "photos.parquet"
    call("embed", model, table, "--out", out, "--stream", "front", "--chunk", 7)
    found = pd.read_parquet(out)["vector"]
    assert np.flatnonzero(found.isna()).tolist() == [2, 11]
    estimator, frame = multiadapt.load(model), pd.read_csv(table)
    one = estimator.embed(frame, stream="front", root=photos)
    both = estimator.embed(frame, root=photos)
    width = one.shape[1]
    there = frame["front"].notna()
    np.testing.assert_allclose(both.to_numpy()[there, -width:], one[there], atol=1e-5)
    np.testing.assert_allclose(np.stack(found[there].to_list()), one[there], atol=1e-5)
    with pytest.raises(
        SpecError, match=r"stream must be one of \['tabular', 'front'\], got 'back'"
    ):
        estimator.embed(frame, stream="back", root=photos)


def test_vectors_are_given_as_the_table_was(model: Path, table: Path, photos: Path) -> None:
    estimator = multiadapt.load(model)
    frame = pd.read_csv(table).set_axis([f"r{i}" for i in range(ROWS)])
    vectors = estimator.embed(frame, root=photos)
    assert vectors.index.tolist() == frame.index.tolist()
    assert vectors.columns[0] == "vector_0"
    none = estimator.embed(frame.iloc[:0], root=photos)
    assert none.shape == (0, vectors.shape[1])
    with pytest.raises(SpecError, match="empty must be 'raise' or 'missing', got 'prior'"):
        check_empty("prior", "missing")


def test_a_row_without_anything_is_an_error_or_missing(table: Path, photos: Path) -> None:
    encoders = {"tabular": "mlp", "image": "starter"}
    frame = pd.read_csv(table)
    estimator = MultimodalClassifier(
        U2A(), encoders=encoders, training=Training(epochs=1), validation=0.0, verbose=False
    ).fit(frame, label="kind", root=photos)
    holes = frame.assign(size=frame["size"].mask(frame.index == 2), colour=frame["colour"].mask(frame.index == 2))  # fmt: skip
    with pytest.raises(CellError, match="1 have none"):
        estimator.embed(holes, root=photos)
    found = estimator.embed(holes, root=photos, empty="missing")
    assert np.flatnonzero(found.isna().any(axis=1)).tolist() == [2]


def test_vectors_of_a_table_without_rows_have_their_width(
    model: Path, table: Path, tmp_path: Path
) -> None:
    pd.read_csv(table).iloc[:0].to_csv(tmp_path / "none.csv", index=False)
    call("embed", model, tmp_path / "none.csv", "--out", tmp_path / "v.parquet")
    assert list(pd.read_parquet(tmp_path / "v.parquet")) == ["row", "vector"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--side", "query"], "a vector of a model for the rows of tables has no use for --side"),
        (["--where", "colour=blue"], "where='colour=blue' keeps no row of the 20 of the table"),
        (["--where", "hue=blue"], "no column 'hue'"),
        (["--stream", "back"], "stream must be one of"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    options: list[str], says: str, model: Path, table: Path, tmp_path: Path
) -> None:
    done = call("embed", model, table, "--out", tmp_path / "v.parquet", *options, code=2)
    assert says in done.stderr
    assert not (tmp_path / "v.parquet").exists()


def test_parts_that_travel_to_a_worker_are_what_is_found_here(
    table: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    """What Ray's workers run, without Ray."""
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    place = f"file://{table}"
    words = ["embed", model, place, "--root", photos, "--chunk", 6, "--where", "colour=green"]
    call(*words, "--stream", "front", "--keep", "size", "--out", here)
    job = Embedding(
        model=model, root=photos, on_error="raise", mask=None, where="colour=green", encoder={},
        device="cpu", stream="front", empty="raise",
    )  # fmt: skip
    with Chunks(place, there, 6, ["size"], {}) as chunks:
        worker = _Worker(job)
        for part in _parts({"skip": np.array([0])}, place, 6, ["size"], 0):
            found = worker(part)
            rows = json.loads(found["told"][0])["rows"]
            chunks.append(_frame(found["frame"][0]), rows, [])
    assert there.read_bytes() == here.read_bytes()


def test_what_fails_in_a_worker_is_the_same_error(table: Path, model: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"on_error": "raise", "mask": None, "where": None, "encoder": {}}
    job = Prediction(model=model, root=tmp_path, **asked, device="cpu", proba=False, empty="raise")
    (part, *_) = _parts({"skip": np.array([0])}, table, 4, [], 0)
    with pytest.raises(CellError, match="row 0, column 'front'"):
        _raise(json.loads(_Worker(job)(part)["told"][0]))
    nothing = replace(job, model=tmp_path / "none")
    with pytest.raises(ArtifactError, match="is no saved model"):
        _raise(json.loads(_Worker(nothing)(part)["told"][0]))
    (part,) = _parts({"skip": np.array([0])}, tmp_path / "none.csv", 4, [], 0)
    with pytest.raises(SchemaError, match=r"none.csv: there is no such file"):
        _raise(json.loads(_Worker(job)(part)["told"][0]))
