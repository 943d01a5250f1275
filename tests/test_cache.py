"""Frozen computation that is kept on the disk: what is read back, what is computed, and what is thrown away."""

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from shell import call
from tiny import make_network
from tiny_text import TINY, WORDS, make_text_network

from multiadapt import (
    Frozen,
    Full,
    ImageEncoder,
    MultimodalClassifier,
    PlainLoRA,
    TabularEncoder,
    TextEncoder,
    TIAdapter,
    Training,
    feed,
)
from multiadapt.cache import Shelf, Store, keys_of
from multiadapt.cache._shelf import PART
from multiadapt.data import batches
from multiadapt.data.images import read_image
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._in_context import InContext
from multiadapt.encoders._pretrained import Backbone, PretrainedEncoder
from multiadapt.errors import CellError, SpecError
from multiadapt.learning import learned
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.types import Column, Inputs, Labels, Stream

COLUMNS = {"size": "numeric", "front": "image"}
SHORT = Training(epochs=2, batch_size=16)
ABOUT = {"source": "somewhere", "cut": 1}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that everything is kept in."""
    monkeypatch.setenv("MULTIADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures went through frozen blocks, call by call."""
    found: list[int] = []
    run = Backbone.run

    def counted(self: Backbone, state: torch.Tensor, *given: object) -> torch.Tensor:
        if not torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            found.append(len(state))
        return run(self, state, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Backbone, "run", counted)
    return found


def fit(
    network: Path, table: pd.DataFrame, photos: Path, **options: object
) -> MultimodalClassifier:
    method = options.pop("method", TIAdapter(ImageBranch("bc1")))
    image = ImageEncoder(str(network), size=options.pop("size", None))  # type: ignore[arg-type]
    model = MultimodalClassifier(
        method,  # type: ignore[arg-type]
        encoders={"image": image, "tabular": "mlp"},
        max_files=options.pop("max_files", 8), memory=options.pop("memory", 4.0),
        training=options.pop("training", SHORT), column_types=COLUMNS, device="cpu", verbose=False,  # type: ignore[arg-type]
    )  # fmt: skip
    return model.fit(table[["size", "front", "kind"]], label="kind", root=photos, **options)  # type: ignore[arg-type]


def weights(model: MultimodalClassifier) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.fitted_.model.trained_state().items()}


def same(one: MultimodalClassifier, other: MultimodalClassifier) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def losses(model: MultimodalClassifier) -> list[float]:
    return [epoch["loss"] for epoch in model.fitted_.info["history"]["epochs"]]


def inputs(*lengths: int, seed: int = 0) -> Inputs:
    """Sequences of these lengths, one a row; 0 is a row without any."""
    dice = torch.Generator().manual_seed(seed)
    count = torch.tensor([min(n, 1) for n in lengths])
    real = [n for n in lengths if n]
    mask = torch.arange(max(real, default=1)) < torch.tensor(real)[:, None]
    return Inputs(
        {"state": torch.randn(*mask.shape, 3, generator=dice) * mask[..., None], "mask": mask},
        count,
        1,
    )


def taken(
    shelf: Shelf,
    rows: Inputs,
    compute: Callable[[Inputs], Inputs] = lambda rows: rows,
    keys: list[bytes | None] | None = None,
) -> Inputs:
    """What a shelf says of rows that are all at hand."""
    return shelf.through(
        keys_of(rows) if keys is None else keys,
        lambda places: rows.select(torch.tensor(places)),
        compute,
    )


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"**/*{PART}"))


# --- fits


def test_a_second_fit_computes_nothing_again_and_ends_in_the_same_bits(
    network, table, photos, store, passed
) -> None:
    first = fit(network, table, photos)
    assert sum(passed) >= len(table)
    passed.clear()
    second = fit(network, table, photos)
    assert sum(passed) == 0
    assert same(first, second)


def test_with_and_without_it_the_first_loss_is_the_same(
    network, table, photos, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(network, table, photos)
    kept = fit(network, table, photos)
    monkeypatch.setenv("MULTIADAPT_CACHE", "off")
    np.testing.assert_allclose(losses(kept)[0], losses(fit(network, table, photos))[0], rtol=1e-5)


def test_other_rows_methods_and_seeds_share_what_is_the_same(
    network, table, photos, store, passed
) -> None:
    fit(network, table.iloc[:40], photos)
    passed.clear()
    fit(network, table.iloc[20:], photos)
    assert 20 <= sum(passed) < 50
    passed.clear()
    fit(network, table, photos, method=TIAdapter(ImageBranch("embedding")))
    fit(network, table, photos, method=Frozen())
    assert sum(passed) == len(table)


def test_other_weights_structures_and_cuts_are_computed_anew(
    network, table, photos, store, passed, tmp_path
) -> None:
    fit(network, table, photos)
    others = [make_network(tmp_path / "seed", seed=1)]
    others.append(make_network(tmp_path / "kind", layer_type="basic"))
    for other in others:
        passed.clear()
        fit(other, table, photos)
        assert sum(passed) >= len(table)


def test_a_picture_that_changes_under_its_name_is_another(
    network, table, store, passed, tmp_path, photos
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(photos, root)
    fit(network, table, root)
    passed.clear()
    (root / table["front"].iloc[3]).write_bytes((root / table["back"].iloc[3]).read_bytes())
    fit(network, table, root)
    assert 1 <= sum(passed) <= 2


def test_a_broken_off_run_goes_on_to_the_same_bits(network, table, photos, store, tmp_path) -> None:
    file = tmp_path / "run"
    fit(network, table, photos, time_limit=0.0, resume=file)
    resumed = fit(network, table, photos, resume=file)
    assert same(resumed, fit(network, table, photos))


def test_a_run_too_large_for_memory_is_broken_off_and_reads_what_it_had_computed(
    network, table, photos, store, passed, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiadapt.feed.BLOCK", 8)
    bare = {"memory": 0.0, "training": SHORT.with_params(normalize=False)}
    fit(network, table, photos, time_limit=0.0, resume=tmp_path / "run", **bare)
    begun = sum(passed)
    passed.clear()
    resumed = fit(network, table, photos, resume=tmp_path / "run", **bare)
    pictures = len({(photos / name).read_bytes() for name in table["front"]})
    assert 0 < begun < pictures
    assert begun + sum(passed) <= pictures
    monkeypatch.setenv("MULTIADAPT_CACHE", str(tmp_path / "another"))
    assert same(resumed, fit(network, table, photos, **bare))


def test_it_says_what_was_read_and_nothing_on_the_first_run(
    network, table, photos, store, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "multiadapt"):
        fit(network, table, photos)
        assert "was read from" not in caplog.text
        fit(network, table, photos)
    assert "front: the frozen part of 48 of 48 rows was read from" in caplog.text


@pytest.mark.filterwarnings("ignore::multiadapt.data.splits.LeakWarning")
def test_holes_and_equal_pictures_cost_nothing(network, table, photos, store, passed) -> None:
    holed = table.copy()
    holed.loc[holed.index[:10], "front"] = None
    holed.loc[holed.index[10:20], "front"] = holed["front"].iloc[20]
    first = fit(network, holed, photos)
    passed.clear()
    assert same(first, fit(network, holed, photos))
    assert sum(passed) == 0
    assert max(shelf["rows"] for shelf in Store.usual().contents()) == 40  # type: ignore[union-attr]


@pytest.mark.parametrize(("method", "kept"), [(TIAdapter(ImageBranch("embedding")), 1), (None, 0)])
def test_predictions_read_what_is_kept_and_keep_vectors_alone(
    method, kept, network, table, photos, store, monkeypatch
) -> None:
    many = pd.concat([table, table])  # 120 rows
    model = fit(network, table[:40], photos, **({"method": method} if method else {}))
    before = parts(store)
    monkeypatch.setenv("MULTIADAPT_CACHE", "off")
    expected = model.predict_proba(many, root=photos)
    monkeypatch.setenv("MULTIADAPT_CACHE", str(store))
    passed = []
    run = Backbone.run
    monkeypatch.setattr(
        Backbone, "run", lambda *args: passed.append(args[3:5]) or run(*args)
    )  # from which block to which
    first = model.predict_proba(many, root=photos)
    assert any(start == 0 for start, _ in passed)
    assert len(parts(store)) == len(before) + kept
    passed.clear()
    again = model.predict_proba(many, root=photos)
    assert any(start == 0 for start, _ in passed) == (kept == 0)
    np.testing.assert_allclose(first, expected, atol=1e-5)
    np.testing.assert_allclose(again, first, atol=1e-6)
    assert (kept == 0) or np.array_equal(again, first)
    passed.clear()
    own = model.predict_proba(table[:40].sample(130, replace=True, random_state=0), root=photos)
    assert not any(start == 0 for start, _ in passed)  # the rows of `fit`
    assert len(own) == 130
    few = model.predict_proba(table[-20:], root=photos)
    np.testing.assert_allclose(few, expected[40:60], atol=1e-5)


def test_what_is_kept_is_not_even_decoded(
    network, table, photos, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(network, table, photos)
    read: list[object] = []
    decode = batches.read_image
    monkeypatch.setattr(
        batches, "read_image", lambda part, root, least: read.append(part) or decode(part, root)
    )
    assert same(first, fit(network, table, photos))
    assert read == []


@pytest.fixture
def large(table: pd.DataFrame, photos: Path, tmp_path: Path) -> Path:
    """The same pictures in files that are larger than their pixels are to a tiny network."""
    root = tmp_path / "large"
    for name in table["front"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(photos / name).convert("RGB").resize((96, 96))
        picture.save(root / name, "BMP")
    return root


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Files of pictures that were decoded."""
    found: list[object] = []
    decode = batches.read_image

    def noted(part: str, root: Path, least: int) -> np.ndarray:
        found.append(part)
        return decode(part, root, least)

    monkeypatch.setattr(batches, "read_image", noted)
    return found


def held_pixels() -> list[dict[str, Any]]:
    return [s for s in Store.usual().contents() if s["source"] == "pixels"]  # type: ignore[union-attr]


def test_where_the_first_block_is_adapted_pixels_are_kept(
    network, table, large, store, tmp_path, decoded, caplog: pytest.LogCaptureFixture
) -> None:
    method = PlainLoRA()
    with caplog.at_level("INFO", "multiadapt"):
        first = fit(network, table, large, method=method)
    assert "front: adapters stand in its first block" in caplog.text
    assert len(decoded) == len(table)
    decoded.clear()
    assert same(first, fit(network, table, large, method=method))
    other = make_network(tmp_path / "other", seed=5)
    settings = json.loads((other / "preprocessor_config.json").read_text())
    settings |= {"image_mean": [0.1, 0.2, 0.3]}  # the pixels are the same
    (other / "preprocessor_config.json").write_text(json.dumps(settings))
    with caplog.at_level("INFO", "multiadapt"):
        fit(other, table, large, method=Full())
    assert "front: the input of 48 of 48 rows was read from" in caplog.text
    assert decoded == []
    (shelf,) = held_pixels()
    assert shelf["rows"] == len(table)
    assert shelf["bytes"] < 1.2 * len(table) * 3 * 32 * 32  # a byte a number
    shutil.copy(large / table["front"].iloc[1], large / table["front"].iloc[0])
    fit(network, table, large, method=method)
    assert decoded == []  # two names of one picture
    Image.new("RGB", (96, 96), "teal").save(large / table["front"].iloc[0], "BMP")
    fit(network, table, large, method=method)
    assert decoded == [table["front"].iloc[0]]


def test_pixels_are_kept_of_files_larger_than_they_alone(
    network, table, photos, large, store
) -> None:
    fit(network, table, photos, method=PlainLoRA())
    read = table.assign(front=[(large / name).read_bytes() for name in table["front"]])
    fit(network, read, large, method=PlainLoRA())
    assert held_pixels() == []


def test_predictions_leave_pixels_alone(
    network, table, large, store, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit(network, table, large, method=PlainLoRA())
    asked: list[object] = []
    monkeypatch.setattr(feed, "fingerprints", lambda *given: asked.append(given))
    assert len(model.predict(table, root=large)) == len(table)
    assert asked == []


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_views_and_half_precision_leave_pixels_as_they_are(
    dtype: str, network, table, large, store, decoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTIADAPT_CACHE_DTYPE", dtype)
    options = {"method": PlainLoRA(), "training": SHORT.with_params(views=2)}
    monkeypatch.setenv("MULTIADAPT_CACHE", "off")
    expected = fit(network, table, large, **options)
    monkeypatch.setenv("MULTIADAPT_CACHE", str(store))
    first = fit(network, table, large, **options)
    decoded.clear()
    assert same(first, fit(network, table, large, **options))
    assert same(first, expected) or dtype == "float16"  # in which vectors are kept
    assert decoded == []
    (shelf,) = held_pixels()
    assert shelf["rows"] == 48 + len(table)  # of training rows the second view too


def test_pixels_that_do_not_fit_in_memory_are_decoded_once(
    network, table, large, store, decoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiadapt.feed.BLOCK", 8)  # most blocks are read for their errors alone
    fit(network, table, large, method=PlainLoRA(), memory=0.0)
    assert len(decoded) < 1.5 * len(table)  # some were on their way when the first did not fit


def test_cells_of_bytes_and_arrays_are_known_as_files_are(
    network, table, photos, store, passed
) -> None:
    held = table.assign(front=[(photos / name).read_bytes() for name in table["front"]])
    fit(network, held, photos)
    passed.clear()
    fit(network, held, photos)
    assert sum(passed) == 0
    arrays = table.assign(front=[read_image(name, photos) for name in table["front"]])
    fit(network, arrays, photos)
    assert sum(passed) == len(table)
    passed.clear()
    fit(network, arrays, photos)
    assert sum(passed) == 0


def test_another_preparation_is_another_row(network, table, photos, store, passed) -> None:
    fit(network, table, photos)
    passed.clear()
    fit(network, table, photos, size=24)
    assert sum(passed) >= len(table)


def test_a_file_that_is_written_while_it_is_read_is_not_kept_by_its_bytes(
    network, table, photos, store, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, decode = tmp_path / "copy", batches.read_image
    shutil.copytree(photos, root)
    old = {name: (root / name).read_bytes() for name in table["front"]}

    def written(part: str, root: Path, least: int) -> np.ndarray:
        (root / part).write_bytes(old[table["front"].iloc[0]])  # after it was hashed
        return decode(part, root)

    monkeypatch.setattr(batches, "read_image", written)
    fit(network, table, root)
    monkeypatch.setattr(batches, "read_image", decode)
    for name, held in old.items():
        (root / name).write_bytes(held)
    again = fit(network, table, root)
    monkeypatch.setenv("MULTIADAPT_CACHE", "off")
    np.testing.assert_allclose(losses(again), losses(fit(network, table, root)), rtol=1e-5)


def test_a_cell_of_too_many_files_is_refused_though_each_is_kept(
    network, table, photos, store
) -> None:
    pairs = table.assign(front=table["front"] + ";" + table["back"])
    fit(network, pairs, photos)
    with pytest.raises(CellError, match="at most 1 files, got 2"):
        fit(network, pairs, photos, max_files=1)


def test_half_precision_takes_half_the_room_and_counts_from_the_first_run_on(
    network, table, photos, store, monkeypatch: pytest.MonkeyPatch, passed
) -> None:
    whole = fit(network, table, photos)
    room = sum(path.stat().st_size for path in parts(store))
    monkeypatch.setenv("MULTIADAPT_CACHE_DTYPE", "float16")
    passed.clear()
    first = fit(network, table, photos)
    assert sum(passed) >= len(table)
    assert sum(path.stat().st_size for path in parts(store)) < 1.6 * room
    np.testing.assert_allclose(losses(first), losses(whole), rtol=1e-3)
    assert losses(first) != losses(whole)
    assert same(first, fit(network, table, photos))


def test_a_number_beyond_half_precision_is_not_rounded(tmp_path) -> None:
    rows = inputs(3, 2)
    rows.tensors["state"][0, 0] = 1e6
    shelf = Store(tmp_path, 10**9, "float16").shelf(ABOUT)
    found = taken(shelf, rows)
    assert torch.equal(found.tensors["state"][0], rows.tensors["state"][0])
    assert shelf.beyond == 1
    shelf.flush()
    assert shelf.rows == 1


def test_a_precision_must_be_one_of_two(store, monkeypatch) -> None:
    monkeypatch.setenv("MULTIADAPT_CACHE_DTYPE", "bfloat16")
    with pytest.raises(SpecError, match=r"float32.*float16.*'bfloat16'"):
        Store.usual()


def tabular(table: pd.DataFrame, y: np.ndarray, seed: int = 0, groups: object = None) -> Encoder:
    """An in-context encoder that has learned these rows, with the inputs that it gave as `given`."""
    columns = tuple(Column(str(name), "numeric", "") for name in table)
    spec = TabularEncoder(members=2, folds=2)
    encoder = spec.build(Stream("tabular", "tabular", columns), spec.open("classification"), "n")
    labels = Labels("classification", y, 2, groups, None)  # type: ignore[arg-type]
    encoder.given = learned(encoder, table, labels, seed, Store.usual())  # type: ignore[assignment]
    return encoder


def test_what_an_in_context_encoder_learned_is_read_back_to_the_same_bits(
    store, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(24, 3)), columns=[*"abc"])
    y = (table["a"] > 0).to_numpy().astype(int)
    first = tabular(table, y)
    with monkeypatch.context() as patched:
        patched.setattr(InContext, "learn", _never)
        again = tabular(table, y)
        for other in ({"seed": 1}, {"y": 1 - y}, {"groups": np.arange(24) // 2}):
            with pytest.raises(AssertionError):
                tabular(table, **{"y": y, **other})  # type: ignore[arg-type]
        with pytest.raises(AssertionError):
            tabular(table + 1, y)
    one, other = first.given, again.given
    assert torch.equal(one.tensors["pooled"], other.tensors["pooled"])  # type: ignore[union-attr]
    new = first.prepare(table.iloc[:5] / 2)
    assert torch.equal(
        first.prefix(new, 1).tensors["pooled"], again.prefix(new, 1).tensors["pooled"]
    )


# --- damage, limits, other processes


@pytest.mark.parametrize("damage", ["a byte", "the end", "nothing left"])
def test_damage_is_found_said_and_computed_again(
    damage, network, table, photos, store, passed, caplog: pytest.LogCaptureFixture
) -> None:
    first = fit(network, table, photos)
    for path in parts(store):
        held = bytearray(path.read_bytes())
        if damage == "a byte":
            held[len(held) // 2] ^= 1
        path.write_bytes(
            held if damage == "a byte" else held[: len(held) // 2 if damage == "the end" else 0]
        )
    passed.clear()
    with caplog.at_level("WARNING", "multiadapt"):
        again = fit(network, table, photos)
    assert "a damaged file of the cache is thrown away" in caplog.text
    assert sum(passed) > 0
    np.testing.assert_allclose(losses(again), losses(first), rtol=1e-5)
    passed.clear()
    fit(network, table, photos)
    assert sum(passed) == 0


def test_beyond_the_limit_nothing_is_kept_and_a_line_says_so(
    network, table, photos, store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MULTIADAPT_CACHE_GB", "1e-8")
    with caplog.at_level("INFO", "multiadapt"):
        fit(network, table, photos)
    assert parts(store) == []
    assert "of 48 rows is not kept for later runs, for the cache is full" in caplog.text


def test_what_was_not_used_for_longest_goes_first_and_what_is_in_use_stays(tmp_path) -> None:
    store = Store(tmp_path, 100_000)
    shelf = store.shelf(ABOUT)
    for seed in range(4):
        shelf.add([bytes([seed]) * 32], inputs(100, seed=seed))
        shelf.flush()
    old = parts(tmp_path)
    for i, path in enumerate(old):
        os.utime(path, (0, time.time() - 7200 + i))
    size = sum(path.stat().st_size for path in old)
    Store(tmp_path, size).take(0)
    assert parts(tmp_path) == old[2:]
    for path in old[2:]:
        os.utime(path)
    Store(tmp_path, size // 4).take(0)
    assert parts(tmp_path) == old[2:]


def test_what_somebody_else_keeps_in_the_folder_stays(tmp_path) -> None:
    theirs = [tmp_path / "bert" / name for name in ("model.safetensors", "about.json")]
    theirs[0].parent.mkdir()
    for path in theirs:
        path.write_text("theirs")
        os.utime(path, (0, 0))
    store = Store(tmp_path, 10_000)
    shelf = store.shelf(ABOUT)
    shelf.add([b"k" * 32], inputs(2))
    shelf.flush()
    assert [shelf["source"] for shelf in store.contents()] == ["somewhere"]
    Store(tmp_path, 1).take(0)
    assert store.clear() > 0
    assert [path.read_text() for path in theirs] == ["theirs", "theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_a_folder_that_may_only_be_read_is_read(
    network, table, photos, store, passed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(network, table, photos)
    passed.clear()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert same(first, fit(network, table, photos))
    assert sum(passed) == 0


def test_a_full_disk_costs_a_warning_alone(tmp_path, monkeypatch, caplog) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: no space left")

    monkeypatch.setattr("multiadapt.cache._shelf.save_file", full)
    shelf = Store(tmp_path, 10**9).shelf(ABOUT)
    rows = inputs(3, 2)
    with caplog.at_level("WARNING", "multiadapt"):
        assert torch.equal(taken(shelf, rows).tensors["state"], rows.tensors["state"])
        shelf.flush()
    assert "cannot be written: I/O error: no space left" in caplog.text
    assert parts(tmp_path) == []


def test_a_folder_that_is_mounted_for_reading_is_read(tmp_path, monkeypatch, caplog) -> None:
    rows, shelf = inputs(3, 2), Store(tmp_path, 10**9).shelf(ABOUT)
    taken(shelf, rows)
    shelf.flush()

    def mounted(*_: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    monkeypatch.setattr(os, "utime", mounted)
    again = Store(tmp_path, 10**9).shelf(ABOUT)
    taken(again, rows, _never)
    assert again.hits == 2
    assert "damaged" not in caplog.text


def test_two_that_write_at_once_keep_to_one_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("multiadapt.cache._store._AGAIN", 1000)
    monkeypatch.setattr("multiadapt.cache._shelf._BYTES", 1000)
    stores = [Store(tmp_path, 40_000) for _ in range(2)]
    shelves = [store.shelf(ABOUT) for store in stores]
    for i in range(200):
        for j, shelf in enumerate(shelves):
            taken(shelf, inputs(30, 30, seed=1000 * j + i))
    for shelf in shelves:
        shelf.flush()
    assert sum(path.stat().st_size for path in parts(tmp_path)) < 60_000


def test_a_folder_that_cannot_be_written_costs_a_warning_alone(
    network, table, photos, tmp_path, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MULTIADAPT_CACHE", str(tmp_path / "file"))
    with caplog.at_level("WARNING", "multiadapt"):
        fit(network, table, photos)
    assert "cannot be written: " in caplog.text


def test_many_writers_and_readers_of_one_shelf_agree(tmp_path) -> None:
    def write(turn: int) -> list[Inputs]:
        shelf = Store(tmp_path, 10**9).shelf(ABOUT)
        rows = inputs(*range(1, 9))
        found = [taken(shelf, rows) for _ in range(3)]
        shelf.flush()
        return found

    with ThreadPoolExecutor(8) as pool:
        found = [one for many in pool.map(write, range(8)) for one in many]
    expected = inputs(*range(1, 9))
    for one in found:
        assert torch.equal(one.tensors["state"], expected.tensors["state"])
    assert not list(tmp_path.glob("**/*.draft"))


@pytest.mark.parametrize("given", ["much", "-1", "inf"])
def test_a_limit_must_be_a_number(given, store, monkeypatch) -> None:
    monkeypatch.setenv("MULTIADAPT_CACHE_GB", given)
    with pytest.raises(SpecError, match=r"MULTIADAPT_CACHE_GB must be a number of gigabytes"):
        Store.usual()


def test_it_can_be_off(monkeypatch) -> None:
    for name, value in (("MULTIADAPT_CACHE", "off"), ("MULTIADAPT_CACHE_GB", "0")):
        monkeypatch.delenv("MULTIADAPT_CACHE", raising=False)
        monkeypatch.setenv(name, value)
        assert Store.usual() is None


# --- rows


@pytest.mark.parametrize("lengths", [(3,), (1, 1), (2, 0, 5, 1), (0, 4), (7, 7, 7)])
def test_rows_come_back_without_their_padding(lengths, tmp_path) -> None:
    shelf = Store(tmp_path, 10**9).shelf(ABOUT)
    rows = inputs(*lengths)
    first = taken(shelf, rows)
    shelf.flush()
    again = taken(Store(tmp_path, 10**9).shelf(ABOUT), rows, _never)
    for found in (first, again):
        assert found.count.tolist() == rows.count.tolist()
        assert torch.equal(found.tensors["mask"], rows.tensors["mask"])
        assert torch.equal(found.tensors["state"], rows.tensors["state"])


def test_rows_without_any_item_are_asked_for_whole(tmp_path) -> None:
    shelf = Store(tmp_path, 10**9).shelf(ABOUT)
    found = taken(shelf, inputs(0, 0), keys=[None, None])
    assert found.count.tolist() == [0, 0]


def test_a_row_s_padding_does_not_tell_it_from_itself() -> None:
    rows = inputs(2, 5)
    short = rows.select(torch.tensor([0]))
    trimmed = Inputs({k: t[:, :2] for k, t in short.tensors.items()}, short.count, 1)
    assert keys_of(rows)[0] == keys_of(trimmed)[0]
    assert keys_of(rows)[0] != keys_of(rows)[1]
    assert keys_of(inputs(0, 3))[0] is None


def test_padding_in_front_is_never_kept() -> None:
    rows = inputs(2, 5)
    turned = Inputs({k: t.flip(1) for k, t in rows.tensors.items()}, rows.count, 1)
    assert keys_of(turned) == [None, None]


@pytest.mark.parametrize("cut", range(1, 7))
def test_texts_of_any_cut_are_read_back_as_they_were_computed(cut, tmp_path) -> None:
    make_text_network(tmp_path / "text", **TINY)
    spec = TextEncoder(str(tmp_path / "text"))
    stream = Stream("note", "text", (Column("note", "text", "told"),))
    encoder = spec.build(stream, spec.open("classification"), "network")
    assert isinstance(encoder, PretrainedEncoder)
    rows = encoder.prepare([[" ".join(WORDS[:n])] for n in (3, 9, 1)] + [[]])
    shelf = Store(tmp_path / "cache", 10**9).shelf({**(encoder.about() or {}), "cut": cut})

    def compute(some: Inputs) -> Inputs:
        return encoder.prefix(some, cut)

    first = taken(shelf, rows, compute)
    shelf.flush()
    again = taken(shelf, rows, _never)
    expected = encoder(rows)
    for found in (first, again):
        torch.testing.assert_close(encoder(found).pooled, expected.pooled)


def test_many_small_rows_lie_in_one_file_and_large_ones_in_several(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("multiadapt.cache._shelf._BYTES", 10_000)
    shelf = Store(tmp_path, 10**9).shelf(ABOUT)
    for seed in range(8):
        rows = inputs(200, seed=seed)
        taken(shelf, rows)
    shelf.flush()
    assert len(parts(tmp_path)) == 2
    assert shelf.rows == 8


# --- the shell


def test_the_shell_shows_and_clears(network, table, photos, store) -> None:
    assert "0.0 MB of 10 GB" in call("cache", "info").stdout
    fit(network, table, photos)
    shown = call("cache", "info").stdout
    assert str(network) in shown
    assert " 60 " in shown
    assert "MB freed" in call("cache", "clear").stdout
    assert parts(store) == []
    assert "0.0 MB freed" in call("cache", "clear").stdout


def test_the_shell_says_where_it_is_off(monkeypatch) -> None:
    monkeypatch.setenv("MULTIADAPT_CACHE", "off")
    assert call("cache", "info").stdout == "the cache is off\n"


def _never(*_: object) -> Inputs:
    raise AssertionError("it was kept")


def test_a_shelf_says_what_it_is_of(tmp_path, caplog) -> None:
    store = Store(tmp_path, 10**9)
    shelf = Shelf(tmp_path / "x", ABOUT, store.take)
    shelf.add([b"k" * 32], inputs(2))
    assert store.contents() == []
    shelf.flush()
    (found,) = store.contents()
    assert found["source"] == "somewhere"
    assert found["rows"] == 1
    with caplog.at_level(logging.WARNING):
        (tmp_path / "x" / "about.json").write_text("{")
        assert "source" not in store.contents()[0]
