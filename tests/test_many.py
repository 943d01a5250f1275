"""Many saved models over one copy of their networks: every row is answered as its own model would alone."""

import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import make_network, make_table, make_transformer
from tiny_text import TINY, WORDS, make_text_network

from multiadapt import (
    LoRA,
    MultimodalClassifier,
    MultimodalRegressor,
    PlainLoRA,
    TabularEncoder,
    TIAdapter,
    Training,
    load,
    load_many,
)
from multiadapt import joint as joint_module
from multiadapt.attach import resting
from multiadapt.errors import ArtifactError, CellError, SpecError
from multiadapt.methods._image_branch import ImageBranch

SHORT = Training(epochs=1, batch_size=16, patience=None)
NUMBERS = {
    "lora": ("lora", "vit", ()),
    "lora4": (PlainLoRA(LoRA(r=4)), "vit", ("back",)),
    "u2a": ("u2a", "vit", ()),
    "uniadapter": ("uniadapter", "vit", ()),
    "ia3": ("ia3", "vit", ("size", "colour")),
    "frozen": ("frozen", "vit", ("back",)),
    "full": ("full", "vit", ("back",)),
    "ti": (TIAdapter(), "resnet", ()),
    "convolutions": ("lora", "resnet", ("back",)),
}
KINDS = {
    "u2a-kind": ("u2a", "vit", ("back",)),
    "maps-kind": (TIAdapter(ImageBranch("bc1")), "resnet", ()),
}
"""Method, network and columns that are left out, by name."""


def shaken(model, seed: int):
    """Trained for one epoch, adapters hardly say anything yet."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.fitted_.model.adapters.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks, pictures, and a folder `runs` of models by name. Do not write into it."""
    home = tmp_path_factory.mktemp("many")
    places = {"vit": make_transformer(home / "vit"), "resnet": make_network(home / "resnet")}
    table = make_table(home, rows=18)
    for seed, (name, (method, network, without)) in enumerate({**NUMBERS, **KINDS}.items()):
        label, other = ("kind", "price") if name in KINDS else ("price", "kind")
        face = MultimodalClassifier if name in KINDS else MultimodalRegressor
        model = face(
            method, encoders={"image": str(places[network]), "tabular": "mlp"},
            training=replace(SHORT, precision="bf16") if name == "lora4" else SHORT,
            validation=0.0, verbose=False,
        )  # fmt: skip
        model.fit(table.drop(columns=[other, *without]), label=label, root=home)
        shaken(model, seed).save(home / "runs" / name)
    return home


@pytest.fixture
def rows(home: Path) -> pd.DataFrame:
    """The table's features, with gaps in a few rows."""
    table = make_table(home / "again", rows=18).drop(columns=["kind", "price"])
    table.loc[[103, 104, 105], "front"] = None
    table.loc[[104, 106], "back"] = None
    table.loc[[107], ["size", "colour"]] = None
    return table


@pytest.fixture(scope="module")
def solo(home: Path):
    """Each model loaded as the only one."""
    return {name: load(home / "runs" / name) for name in (*NUMBERS, *KINDS)}


@pytest.fixture(scope="module")
def many(home: Path):
    return load_many([home / "runs" / name for name in (*NUMBERS, *KINDS)])


def whose(names, rows: pd.DataFrame) -> np.ndarray:
    """Every name in turn, in no order that follows the table's."""
    each = np.resize(np.asarray(list(names), dtype=object), len(rows))
    return np.random.default_rng(0).permutation(each)


def test_every_row_is_answered_by_its_own_model(many, home, solo, rows, monkeypatch) -> None:
    passed: list[int] = []
    plain = joint_module._together

    def spied(group):
        found = plain(group)
        passed.append(0 if found is None else len(group))
        return found

    monkeypatch.setattr(joint_module, "_together", spied)
    names = whose(many.names, rows)
    answered, index = many._answered(rows, names, None, "raise")
    assert index.equals(rows.index)
    assert [one.name for one in answered] == many.names
    for one in answered:
        own = rows.iloc[one.rows]
        assert (names[one.rows] == one.name).all()
        expected = solo[one.name].fitted_.scores(own, home)
        near = 1e-5 if one.fitted.training.precision == "fp32" else 2e-2  # as golden rows are
        np.testing.assert_allclose(one.answer.scores, expected, near, near / 10, err_msg=one.name)
        with resting():
            plainly = solo[one.name].fitted_.scores(own, home)
        moved = np.abs(one.answer.scores - plainly).max()
        assert moved > 1e-3 or one.name in ("frozen", "full"), f"{one.name}'s adapters say nothing"
    assert len(passed) >= 2  # each of the two networks
    assert min(passed) > 1
    assert max(passed) >= 6


def test_one_model_for_all_rows_and_a_column_of_names(many, solo, rows) -> None:
    expected = solo["u2a"].predict(rows)
    pd.testing.assert_series_equal(many.predict(rows, adapter="u2a"), expected, rtol=1e-5)
    table = rows.assign(model=whose(["ti", "lora"], rows))
    found = many.predict(table, adapter="model")
    again = many.predict(rows, adapter=table["model"])
    pd.testing.assert_series_equal(found, again)
    assert found.name == "price"


def test_answers_of_different_kinds_are_objects(many, rows) -> None:
    kinds = many.predict(rows, adapter=whose(["u2a-kind", "maps-kind"], rows))
    assert set(kinds) <= {"red", "blue"}
    names = whose(["u2a-kind", "lora"], rows)
    mixed = many.predict(rows, adapter=names)
    assert mixed.dtype == object
    assert mixed.name is None
    assert {type(v) for v in mixed[names == "lora"]} == {float}
    assert set(mixed[names == "u2a-kind"]) <= {"red", "blue"}


def test_probabilities_have_the_classes_of_all_models(home, rows, many, tmp_path) -> None:
    frame = rows.assign(kind=np.resize(["blue", "green", "old"], len(rows)))
    model = MultimodalClassifier(
        "frozen", encoders={"image": str(home / "vit"), "tabular": "mlp"}, training=SHORT,
        validation=0.0, verbose=False,
    )  # fmt: skip
    model.fit(frame.drop(columns="back"), label="kind", root=home).save(tmp_path / "three")
    served = load_many({"two": home / "runs" / "u2a-kind", "three": tmp_path / "three"})
    names = whose(["two", "three"], rows)
    found = served.predict_proba(rows, adapter=names)
    assert list(found) == ["blue", "red", "green", "old"]
    assert found[names == "two"][["green", "old"]].isna().all(axis=None)
    assert found[names == "three"]["red"].isna().all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    expected = load(tmp_path / "three").predict_proba(rows[names == "three"])
    np.testing.assert_allclose(found[names == "three"][list(expected)], expected, rtol=1e-5)
    assert served.networks()["models"].tolist() == [2]


def test_several_labels_a_row_come_as_a_tuple(home, rows, tmp_path) -> None:
    labels = np.resize(["a;b", "b", "a"], len(rows))
    model = MultimodalClassifier(
        "image-only", encoders={"image": str(home / "vit")}, separator=";", training=SHORT,
        validation=0.0, verbose=False,
    )  # fmt: skip
    model.fit(rows[["front", "back"]].assign(tags=labels).dropna(), label="tags", root=home)
    model.save(tmp_path / "tags")
    found = load_many([tmp_path / "tags"]).predict(rows, adapter="tags", empty="prior")
    ones = load(tmp_path / "tags").predict(rows, empty="prior")
    assert found.tolist() == [tuple(ones.columns[row > 0]) for row in ones.to_numpy()]


def test_networks_are_in_memory_once(many, home) -> None:
    table = many.networks().set_index("source")
    assert table["models"].to_dict() == {str(home / "vit"): 7, str(home / "resnet"): 3}
    first, second = (many._served[n].model.encoder("front").backbone for n in ("lora", "u2a-kind"))
    assert first is second
    size = sum(p.numel() * 4 for p in first.parameters()) + sum(b.nbytes for b in first.buffers())
    assert table.loc[str(home / "vit"), "bytes"] == size


def test_sizes_are_what_each_model_adds(many, solo) -> None:
    sizes = many.sizes()
    assert list(sizes.index) == many.names
    state = solo["lora"].fitted_.model.trained_state()
    assert sizes.loc["lora", "adapter"] == sum(t.nbytes for t in state.values())
    assert (sizes.loc[["lora", "u2a"], "context"] > 0).all()  # what the table's encoder scales by
    assert sizes.loc[sizes["network"] > 0].index.tolist() == ["full"]


def test_a_table_in_context_is_held_apart_for_each_model(home, rows, tmp_path) -> None:
    frame = rows[["size", "colour"]].assign(price=range(len(rows)))
    model = MultimodalRegressor(
        "tabular-only", encoders={"tabular": TabularEncoder(members=1, folds=2)}, training=SHORT,
        validation=0.0, verbose=False,
    )  # fmt: skip
    model.fit(frame, label="price").save(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    served = load_many([tmp_path / "one", tmp_path / "two"])
    assert served.networks()["models"].tolist() == [2]
    sizes = served.sizes()
    saved = load(tmp_path / "one").fitted_.model.encoder("tabular").learned().tensors
    assert (sizes["context"] > sum(t.nbytes for t in saved.values())).all()  # keys and values too
    names = whose(["one", "two"], rows)
    some = rows.dropna(subset=["size", "colour"], how="all")
    found = served.predict(some, adapter=names[: len(some)])
    np.testing.assert_allclose(found, load(tmp_path / "one").predict(some), rtol=1e-5)


def test_a_method_that_trains_the_network_gets_its_own(home, caplog) -> None:
    with caplog.at_level(logging.WARNING, "multiadapt"):
        served = load_many([home / "runs" / "full", home / "runs" / "lora"])
    assert "full trains its networks' own parameters and cannot share them" in caplog.text
    own, shared = (served._served[n].model.encoder("front").backbone for n in ("full", "lora"))
    assert own is not shared
    assert served.networks()["models"].tolist() == [1]
    assert not any(p.requires_grad for p in shared.parameters())


def test_equal_networks_at_two_places_are_one(home, rows, tmp_path) -> None:
    moved = shutil.copytree(home / "vit", tmp_path / "vit")
    run = shutil.copytree(home / "runs" / "frozen", tmp_path / "moved")
    config = (run / "config.json").read_text().replace(str(home / "vit"), str(moved))
    (run / "config.json").write_text(config)
    served = load_many([home / "runs" / "lora", run])
    assert served.networks()["models"].tolist() == [2]


def test_networks_that_moved_are_found_where_they_are_named(home, rows, tmp_path) -> None:
    moved = shutil.copytree(home / "vit", tmp_path / "vit")
    shutil.copytree(home / "runs" / "lora", tmp_path / "a" / "lora")
    served = load_many([tmp_path / "a" / "lora"], encoders={"image": str(moved)})
    assert served.networks()["source"].tolist() == [str(moved)]
    with pytest.raises(
        SpecError, match=r"names \['audio'\], and no model has a column or a modality"
    ):
        load_many([home / "runs" / "lora"], encoders={"audio": "x", "image": str(home / "vit")})


def test_models_come_and_go(home, rows) -> None:
    served = load_many({})
    assert served.names == []
    assert served.predict(rows.iloc[:0], adapter=[]).empty
    served.add("a", home / "runs" / "lora")
    served.add("b", home / "runs" / "ti")
    before = served.predict(rows, adapter="a")
    served.remove("b")
    assert served.networks()["source"].tolist() == [str(home / "vit")]
    served.add("c", home / "runs" / "u2a")
    pd.testing.assert_series_equal(served.predict(rows, adapter="a"), before)
    with pytest.raises(ArtifactError, match="is no saved model"):
        served.add("d", home / "nothing")
    assert served.names == ["a", "c"]


def test_threads_do_not_swap_models_while_others_come_and_go(many, home, rows) -> None:
    asked = {
        n: whose(names, rows) for n, names in enumerate((["lora", "u2a"], ["u2a", "ti", "ia3"]))
    }
    expected = {n: many.predict(rows, adapter=names) for n, names in asked.items()}
    wrong: list[int] = []
    start = threading.Barrier(3, timeout=20)

    def serve(n: int) -> None:
        start.wait()
        for _ in range(2):
            found = many.predict(rows, adapter=asked[n])
            wrong.extend([] if np.allclose(found, expected[n], rtol=1e-5) else [n])

    def change() -> None:
        start.wait()
        for _ in range(2):
            many.add("coming", home / "runs" / "ia3")
            many.remove("coming")

    threads = [threading.Thread(target=serve, args=(n,)) for n in asked]
    threads.append(threading.Thread(target=change))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert "coming" not in many.names


@pytest.mark.parametrize(("kind", "apart"), [("Bert", False), ("DebertaV2", True)])
def test_texts_of_all_lengths_and_networks_that_read_distances(kind, apart, tmp_path) -> None:
    """DeBERTa's adapted layers read its table of distances too: its models run one by one."""
    config = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": True}
    make_text_network(tmp_path / "net", kind, **TINY, **(config if apart else {}))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, n)) for n in rng.integers(1, 15, 16)]
    frame = pd.DataFrame({"words": texts, "y": rng.normal(size=16)})
    for seed, rank in enumerate((2, 2, 3) if not apart else (2, 2)):
        model = MultimodalRegressor(
            PlainLoRA(LoRA(r=rank)), encoders={"text": str(tmp_path / "net")}, training=SHORT,
            validation=0.0, verbose=False, column_types={"words": "text"},
        )  # fmt: skip
        shaken(model.fit(frame, label="y"), seed).save(tmp_path / f"m{seed}")
    served = load_many(sorted(tmp_path.glob("m*")))
    names = whose(served.names, frame)
    for _ in range(2):
        found = served.predict(frame, adapter=names)
    for name in served.names:
        own = names == name
        expected = load(tmp_path / name).predict(frame[own])
        np.testing.assert_allclose(found[own], expected, rtol=1e-5, atol=1e-6)
    assert served._served["m0"].model.encoder("words").backbone.apart is apart


def test_empty_rows_are_met_as_their_model_says(many, solo, rows) -> None:
    rows = rows.assign(size=None, colour=None)
    rows.loc[104, ["front", "back"]] = None
    names = np.where(rows.index == 104, "u2a", "lora")
    with pytest.raises(CellError, match=r"row 104 \(position 4\)"):
        many.predict(rows, adapter=names)
    found = many.predict(rows, adapter=names, empty="prior")
    own = solo["u2a"].predict(rows[names == "u2a"], empty="prior")
    assert found[104] == pytest.approx(own[104], rel=1e-6)


def test_unreadable_file_names_row_and_position(many, rows) -> None:
    rows.loc[110, "front"] = "photos/nowhere.png"
    with pytest.raises(CellError, match=r"row 110 \(position 10\), column 'front'.*nowhere"):
        many.predict(rows, adapter=whose(["lora", "ti"], rows))


def test_unknown_names_are_told_with_their_rows(many, rows) -> None:
    names = whose(["lora"], rows)
    names[[2, 5]] = "lorra", None
    with pytest.raises(
        SpecError,
        match=r"2 of 18 do not \(row 102: 'lorra', row 105: None\); there are \['lora', .*mean 'lora'",
    ):
        many.predict(rows, adapter=names)
    with pytest.raises(SpecError, match=r"one name for each of the 18 rows, got 3"):
        many.predict(rows, adapter=["lora"] * 3)
    with pytest.raises(SpecError, match=r"'u2b' is neither of the models .* nor of the columns"):
        many.predict(rows, adapter="u2b")
    with pytest.raises(SpecError, match="'lora' is both a model and a column of the table"):
        many.predict(rows.assign(lora="ti"), adapter="lora")
    with pytest.raises(
        SpecError, match=r"no model is called 'u2b'; there are .*did you mean 'u2a'"
    ):
        many.remove("u2b")


def test_names_must_differ(many, home, tmp_path) -> None:
    with pytest.raises(SpecError, match="a model is called 'lora' already"):
        many.add("lora", home / "runs" / "ti")
    other = shutil.copytree(home / "runs" / "lora", tmp_path / "lora")
    with pytest.raises(SpecError, match=r"are both 'lora': give a mapping from names to folders"):
        load_many([home / "runs" / "lora", other])
    with pytest.raises(
        SpecError, match="folders must be a mapping or a list of folders, got 'runs'"
    ):
        load_many("runs")


def test_numbers_have_no_probabilities(many, rows) -> None:
    with pytest.raises(SpecError, match=r"the models \['lora'\] predict numbers"):
        many.predict_proba(rows, adapter=whose(["lora", "u2a-kind"], rows))


def test_a_cell_of_the_wrong_kind_names_the_models(many, rows) -> None:
    rows["size"] = rows["size"].astype(object)
    rows.loc[100, "size"] = "many"
    names = np.where(rows.index == 100, "u2a", "ia3")
    with pytest.raises(ValueError, match=r"the 1 rows of \['u2a'\], .*\n.*row 100 .*'size' must"):
        many.predict(rows, adapter=names)
