"""U2A on a table with numbers, words, texts and pictures, on tiny networks of the real architectures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from shell import call
from tiny import make_transformer
from tiny_text import TINY, WORDS, make_text_network

from multiadapt import U2A, Frozen, MaskToken, MultimodalRegressor, Training, load
from multiadapt.adapters.lora import LoRA
from multiadapt.errors import SpecError
from multiadapt.folding import folded
from multiadapt.fusion.attention import Attention
from multiadapt.methods._base import Method

SHORT = Training(epochs=2, batch_size=16)
COLUMNS = {"size": "numeric", "colour": "categorical", "note": "text", "front": "image"}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    image = make_transformer(tmp_path_factory.mktemp("image"))
    text = tmp_path_factory.mktemp("text")
    make_text_network(text, **TINY)
    return {"image": str(image), "text": str(text), "tabular": "mlp"}


@pytest.fixture
def noted(table: pd.DataFrame) -> pd.DataFrame:
    """The tiny table with a column of texts of different lengths; holes in all three modalities."""
    rng = np.random.default_rng(0)
    notes = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(len(table))]
    table = table.drop(columns=["kind", "back"]).assign(note=notes)
    table.iloc[4:9, table.columns.get_loc("front")] = None
    table.iloc[9:13, table.columns.get_loc("note")] = ""
    table.iloc[13:16, [table.columns.get_loc(c) for c in ("size", "colour")]] = None
    return table


def fit(
    table: pd.DataFrame,
    photos: Path,
    networks: dict[str, str],
    method: Method = U2A(),  # noqa: B008 - frozen
    **options: object,
) -> MultimodalRegressor:
    training = options.pop("training", SHORT)
    model = MultimodalRegressor(
        method,
        encoders=networks,
        column_types=COLUMNS,  # type: ignore[arg-type]
        training=training,  # type: ignore[arg-type]
        verbose=False,
        **options,  # type: ignore[arg-type]
    )
    return model.fit(table, label="price", root=photos)


@pytest.mark.parametrize(
    "method",
    [
        U2A(),
        U2A(LoRA(r=2, use_dora=True, roles=("query", "value"), blocks="last 1")),
        U2A({"note": LoRA(r=4), "image": LoRA(r=1)}, missing=MaskToken(hosts=("note", "front"))),
        U2A(join=Attention(width=16), missing=MaskToken(visibility="full", hosts="gate")),
        U2A(missing="zero", join="mlp"),  # type: ignore[arg-type]
    ],
    ids=["default", "dora in the last block", "by name", "attention, full, gate", "zero, mlp"],
)
def test_a_table_with_holes_is_learned_and_comes_back(
    method: Method, noted, photos, networks, tmp_path
) -> None:
    model = fit(noted, photos, networks, method)
    predicted = model.predict(noted)
    assert np.isfinite(predicted).all()
    shuffled = noted.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(
        model.predict(shuffled), predicted.loc[shuffled.index], rtol=1e-4
    )
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.method == method
    pd.testing.assert_series_equal(loaded.predict(noted, root=photos), predicted)


def test_only_low_rank_updates_tokens_maps_and_head_are_trained(noted, photos, networks) -> None:
    model = fit(noted, photos, networks).fitted_.model
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    own = ("adapters.", "missing.", "fusion.", "head.", "encoders.0.")  # the table's own encoder
    assert all(n.startswith(own) for n in trained)
    assert any(n.startswith("missing.tokens") for n in trained)
    kinds = {type(a).__name__ for s, a in model.placed.items() if s.modality != "tabular"}
    assert kinds == {"LowRank"}


def test_untrained_it_says_what_the_frozen_encoders_say(noted, photos, networks) -> None:
    """B = 0 and read-only tokens: c_i is the frozen encoder's, to 1e-5 beside appended guests."""
    still = Training(epochs=1, learning_rate=1e-12)
    models = [
        fit(noted, photos, networks, m, training=still).fitted_.model for m in (U2A(), Frozen())
    ]
    for stream in ("note", "front"):
        cells = (
            [["w5 w9"], ["w7"], []] if stream == "note" else [[np.full((9, 9, 3), 40, np.uint8)]]
        )
        found = []
        for model in models:
            encoder, guests = model.encoder(stream), model.missing.guests().get(stream)
            found.append(encoder.eval()(encoder.prepare(cells), guests))
        torch.testing.assert_close(found[0].pooled, found[1].pooled, rtol=1e-5, atol=1e-5)
        assert found[0].guests.shape[1] == 2
        assert found[1].guests.shape[1] == 0


def test_what_a_hidden_modality_holds_does_not_matter(noted, photos, networks) -> None:
    model = fit(noted, photos, networks)
    rows = noted.iloc[20:28]
    hidden = [model.predict(rows.assign(note=cell)) for cell in (None, np.nan, "", "  ")]
    hidden.append(model.predict(rows.drop(columns="note")))
    assert all(answer.equals(hidden[0]) for answer in hidden)
    assert not np.allclose(hidden[0], model.predict(rows))


def test_a_stand_in_follows_the_photo_when_the_note_is_missing(noted, photos, networks) -> None:
    model = fit(noted, photos, networks)
    rows = noted.iloc[20:24].assign(note=None)
    other = rows.assign(front=noted["front"].iloc[30:34].to_numpy())
    joined = [model.fitted_.model.missing, model.fitted_.model]
    assert not np.allclose(model.predict(rows), model.predict(other))
    assert joined[0].guests().keys() == {"note", "front"}


def test_folded_it_predicts_the_same_and_unfolds_to_the_same_bits(noted, photos, networks) -> None:
    model = fit(noted, photos, networks, training=Training(epochs=2, learning_rate=0.05))
    before = {n: t.clone() for n, t in model.fitted_.model.state_dict().items()}
    expected = model.predict(noted)
    with model.folded():
        found = model.predict(noted)
        inside = {n: t.clone() for n, t in model.fitted_.model.state_dict().items()}
    pd.testing.assert_series_equal(found, expected, rtol=1e-4)
    assert any(not torch.equal(t, before[n]) for n, t in inside.items())
    after = model.fitted_.model.state_dict()
    assert all(torch.equal(t, after[n]) for n, t in before.items())
    assert model.predict(noted).equals(expected)


def test_the_shell_predicts_with_low_rank_updates_in_the_weights(
    noted, photos, networks, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit(noted, photos, networks, training=Training(epochs=2, learning_rate=0.05))
    model.save(tmp_path / "model")
    noted.to_csv(tmp_path / "table.csv", index=False)
    layers: list[int] = []

    @contextmanager
    def counted(*given: Any) -> Iterator[int]:
        with folded(*given) as count:
            layers.append(count)
            yield count

    monkeypatch.setattr("multiadapt.multimodal.folded", counted)
    out = tmp_path / "p.csv"
    call("predict", tmp_path / "model", tmp_path / "table.csv", "--out", out, "--root", photos)
    found = pd.read_csv(out)["prediction"]
    np.testing.assert_allclose(found, model.predict(noted), rtol=1e-4)
    assert layers[0] > 0


def test_adapters_leave_as_files_of_peft_and_come_back(noted, photos, networks, tmp_path) -> None:
    model = fit(noted, photos, networks, training=Training(epochs=2, learning_rate=0.05))
    expected = model.predict(noted)
    places = model.export_peft(tmp_path / "peft")
    assert places.keys() == {"note", "front"}
    assert (places["note"] / "adapter_config.json").exists()
    with torch.no_grad():
        for site, adapter in model.fitted_.model.placed.items():
            if site.modality != "tabular":
                for parameter in adapter.parameters():
                    parameter.zero_()
    assert not np.allclose(model.predict(noted), expected)
    model.import_peft(places)
    assert model.predict(noted).equals(expected)
    with pytest.raises(SpecError, match=r"no stream is named 'back'; this model has \['tabular',"):
        model.import_peft({"back": tmp_path})


def test_a_prefix_ends_where_the_last_blocks_begin(noted, photos, networks) -> None:
    model = fit(
        noted, photos, networks, U2A(LoRA(r=1, lora_alpha=1, blocks="last 1"))
    ).fitted_.model
    assert model.cuts()["front"] == 2
    assert model.encoder("front").entrance == 2
    assert fit(noted, photos, networks).fitted_.model.encoder("front").entrance == 0


def test_texts_without_an_encoder_are_read_by_the_starter(
    noted, photos, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = MultimodalRegressor("frozen", training=SHORT, column_types=COLUMNS, verbose=False)  # type: ignore[arg-type]
    with caplog.at_level("INFO", "multiadapt"):
        model.fit(noted, label="price", root=photos)
    assert model.fitted_.model.encoder("note").origin().source == "starter"
    assert "note: no encoder was named, so the small starter encoder is used" in caplog.text
