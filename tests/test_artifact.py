"""Saved models: what is in the folder, what loading demands, what the hub is told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_network

import multiadapt.artifact as artifact
from multiadapt import MultimodalClassifier, MultimodalRegressor, TIAdapter, Training, load
from multiadapt.errors import ArtifactError
from multiadapt.estimators import from_pretrained
from multiadapt.spec import names

SHORT = Training(epochs=2, batch_size=16)


def regressor(method: object, network: Path, **options: object) -> MultimodalRegressor:
    encoders = {"image": str(network), "tabular": "mlp"}
    return MultimodalRegressor(method, encoders=encoders, training=SHORT, verbose=False, **options)


@pytest.fixture(scope="module")
def saved(photos: Path, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved TI-Adapter. Copy it before you change it."""
    frame = pd.read_parquet(photos / "table.parquet").drop(columns="kind")
    model = regressor(TIAdapter(), network).fit(frame, label="price", root=photos)
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.mark.parametrize("name", names("methods"))
def test_round_trip_gives_the_same_bits(name, table, photos, network, tmp_path) -> None:
    model = regressor(name, network).fit(table.drop(columns="kind"), label="price", root=photos)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.predict(table).equals(model.predict(table))  # `root` is remembered too
    assert again.parameters().equals(model.parameters())
    again.save(tmp_path / "twice")
    one, two = (load_file(tmp_path / n / "adapter.safetensors") for n in ("model", "twice"))
    assert one.keys() == two.keys()
    assert all(torch.equal(t, two[k]) for k, t in one.items())


def test_classes_come_back_with_their_type(table, photos, network, tmp_path) -> None:
    frame = table.drop(columns="price").assign(kind=(table["kind"] == "red").astype(int) * 5)
    model = MultimodalClassifier(
        encoders={"image": str(network), "tabular": "mlp"}, training=SHORT, verbose=False
    )
    model.fit(frame, label="kind", root=photos).save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.classes_.tolist() == [0, 5]
    pd.testing.assert_frame_equal(again.predict_proba(table), model.predict_proba(table))


def test_folder_holds_json_and_safetensors_only(saved: Path) -> None:
    assert {f.name for f in saved.iterdir()} == {
        "README.md", "adapter.safetensors", "config.json", "context.safetensors"
    }  # fmt: skip


def test_file_holds_no_frozen_tensor(saved: Path) -> None:
    tensors = load_file(saved / "adapter.safetensors")
    assert {k.split(":")[0] for k in tensors} == {"adapter", "native", "head"}
    assert not [k for k in tensors if "backbone" in k]
    assert {k.split(":")[1] for k in tensors if k.startswith("native:")} == {
        "tabular",
        "front",
        "back",
    }


def test_size_is_bounded_by_what_was_trained(saved: Path) -> None:
    trained = int(load(saved).parameters()["trainable"].sum())
    size = sum(f.stat().st_size for f in saved.iterdir() if f.name != "context.safetensors")
    assert size <= trained * 4 * 1.1 + 1_000_000


def test_card_says_what_it_is(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    assert "predicts `price`" in card
    assert "This folder holds no training rows" in card
    assert "| adapters front + back |" in card
    assert "`front`: image." in card
    assert str(saved.parent) not in card


def test_spare_key_is_refused(copied: Path) -> None:
    path = copied / "adapter.safetensors"
    save_file({**load_file(path), "head:spare": torch.zeros(1)}, path)
    with pytest.raises(ArtifactError, match=r"0 missing \[\], 1 unknown \['head:spare'\]"):
        load(copied)


def test_missing_key_is_refused(copied: Path) -> None:
    path = copied / "adapter.safetensors"
    tensors = load_file(path)
    del tensors["head:linear.bias"]
    save_file(tensors, path)
    with pytest.raises(ArtifactError, match=r"1 missing \['head:linear.bias'\], 0 unknown"):
        load(copied)


def test_tensor_of_another_shape_is_refused(copied: Path) -> None:
    path = copied / "adapter.safetensors"
    save_file({**load_file(path), "head:linear.bias": torch.zeros(2)}, path)
    with pytest.raises(
        ArtifactError, match=r"'head:linear.bias' must have shape \(1,\), got \(2,\)"
    ):
        load(copied)


def test_altered_weight_fails_the_golden_rows(copied: Path) -> None:
    path = copied / "adapter.safetensors"
    tensors = load_file(path)
    tensors["head:linear.weight"] += 0.1
    save_file(tensors, path)
    with pytest.raises(ArtifactError, match="does not reproduce its golden rows: scores differ by"):
        load(copied)


def test_damaged_file_is_refused(copied: Path) -> None:
    path = copied / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"adapter\.safetensors cannot be read"):
        load(copied)


@pytest.mark.parametrize("name", ["adapter.safetensors", "context.safetensors"])
def test_incomplete_folder_is_refused(name: str, copied: Path) -> None:
    (copied / name).unlink()
    with pytest.raises(ArtifactError, match=f"is incomplete: {name} is missing"):
        load(copied)


def test_folder_that_is_no_model_is_refused(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"is no saved model: there is no such folder; name a folder that"
    ):
        load(tmp_path / "nothing")
    (copied / "config.json").write_text("{")
    with pytest.raises(ArtifactError, match="is not JSON"):
        load(copied)


def test_the_last_format_is_read_but_for_its_row_of_gaps(copied: Path) -> None:
    """A table's row of gaps had a vector of its own then; nothing was kept of the training labels."""
    config = json.loads((copied / "config.json").read_text())
    config["format"] = 1
    config["golden"]["scores"][3] = [9.0] * len(config["golden"]["scores"][3])
    del config["info"]["prior"]
    (copied / "config.json").write_text(json.dumps(config))
    fitted = load(copied).fitted_
    with pytest.raises(
        ArtifactError, match="did not keep what the training labels are on the whole"
    ):
        fitted.prior  # noqa: B018 - a property that raises
    config["golden"]["scores"][2] = [9.0] * len(config["golden"]["scores"][2])
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="does not reproduce its golden rows"):
        load(copied)


def test_other_format_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(ArtifactError, match=r"has format 99; this version \(.*\) reads 1 and 2"):
        load(copied)


def test_other_encoder_weights_are_refused(copied: Path, tmp_path: Path) -> None:
    other = make_network(tmp_path / "other", seed=1)
    with pytest.raises(
        ArtifactError, match="the frozen weights of 'front' must be those it was trained on"
    ):
        load(copied, encoders={"image": str(other)})


def test_encoder_that_moved_is_found_where_it_is_named(
    copied: Path, table, network, tmp_path: Path
) -> None:
    moved = shutil.copytree(network, tmp_path / "moved")
    assert (
        load(copied, encoders={"image": str(moved)})
        .predict(table)
        .equals(load(copied).predict(table))
    )


def test_save_replaces_a_model_but_no_other_folder(saved: Path, tmp_path: Path) -> None:
    model = load(saved)
    model.save(tmp_path / "model")
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").seed == 0
    for name in ("thesis.txt", "config.json"):
        (tmp_path / name / "mine").mkdir(parents=True)
        (tmp_path / name / "mine" / name).write_text("{}")
        with pytest.raises(ArtifactError, match="mine holds other files"):
            model.save(tmp_path / name / "mine")
        assert (tmp_path / name / "mine" / name).exists()


def test_damaged_config_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    del config["schema"]
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=r"config\.json is damaged: KeyError\('schema'\)"):
        load(copied)


def test_places_that_the_method_adapts_since_ask_for_another_fit(copied: Path) -> None:
    """As TI-Adapter's on clips, which it left alone at first."""
    path = copied / "adapter.safetensors"
    tensors = load_file(path)
    save_file({k: t for k, t in tensors.items() if not k.startswith("adapter:")}, path)
    with pytest.raises(ArtifactError, match=r"missing \['adapter:.* before .*, or fit again"):
        load(copied)


def test_encoder_that_is_gone_is_named_with_a_remedy(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot be opened[\s\S]*load\(folder, encoders=\{'"):
        load(copied, encoders={"image": str(tmp_path)})


def test_options_and_root_come_back(table, photos, network, tmp_path, monkeypatch) -> None:
    model = regressor("frozen", network, on_error="missing", max_files=3)
    monkeypatch.chdir(photos.parent)
    model.fit(table.drop(columns="kind"), label="price", root=photos.name).save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    again = load(tmp_path / "model")
    assert (again.on_error, again.max_files) == ("missing", 3)
    assert again.predict(table).equals(model.predict(table))


def test_array_model_predicts_after_loading(tmp_path) -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=(40, 2)), np.ones(40)])
    model = MultimodalRegressor("trees", verbose=False).fit(x, x[:, 0])
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.n_features_in_ == 3
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_context_of_an_in_context_encoder_is_named_as_training_rows(
    table, photos, network, tmp_path
) -> None:
    model = MultimodalRegressor(
        "tabular-only", encoders={"tabular": "starter"}, training=SHORT, verbose=False
    )
    model.fit(table[["size", "colour", "price"]], label="price").save(tmp_path / "model")
    assert "**This folder holds training rows**" in (tmp_path / "model" / "README.md").read_text()
    np.testing.assert_allclose(
        load(tmp_path / "model").predict(table), model.predict(table), rtol=1e-4
    )


class Hub:
    """Keeps what HfApi is asked to upload, in the layout of a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, token: str | None = None) -> "Hub":
        return self

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        assert exist_ok
        (self.folder / repo_id).mkdir(parents=True)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/1"

    def snapshot_download(self, repo_id: str, revision: str | None = None) -> str:
        assert revision in (None, "main")
        return str(self.folder / repo_id)


def test_hub_round_trip(
    saved: Path, table, photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path)
    monkeypatch.setattr(artifact, "HfApi", hub)
    monkeypatch.setattr(artifact, "snapshot_download", hub.snapshot_download)
    model = load(saved)
    assert model.push_to_hub("somebody/houses") == "https://hub/somebody/houses/commit/1"
    again = from_pretrained("somebody/houses", revision="main")
    assert again.predict(table, root=photos).equals(model.predict(table))
    assert from_pretrained(str(saved)).predict(table).equals(model.predict(table))


def test_notes_beside_a_model_are_not_thrown_away(copied: Path) -> None:
    (copied / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds other files \['notes.txt'\]"):
        load(copied).save(copied)
    assert (copied / "notes.txt").read_text() == "mine"


def test_unknown_encoder_name_at_load_is_refused(copied: Path) -> None:
    with pytest.raises(ArtifactError, match=r"encoders names \['picture'\]; this model has"):
        load(copied, encoders={"picture": "starter"})


def test_config_that_is_no_object_is_refused(copied: Path) -> None:
    (copied / "config.json").write_text("[]")
    with pytest.raises(ArtifactError, match="must hold a JSON object, got list"):
        load(copied)


def test_all_files_of_a_model_have_the_same_mode(saved: Path) -> None:
    assert len({f.stat().st_mode for f in saved.iterdir()}) == 1
