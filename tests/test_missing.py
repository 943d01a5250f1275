"""What stands in for a missing modality: zeros, means, mask tokens, an error."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import make_transformer
from torch import Tensor

from multiadapt import Frozen, MultimodalRegressor, TIAdapter, Training, load
from multiadapt.errors import CellError, SpecError
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.missing._base import Fill, Seat, drop
from multiadapt.missing.mean import Mean
from multiadapt.missing.token import MaskToken
from multiadapt.missing.zero import Zero
from multiadapt.spec import names, resolve
from multiadapt.types import Tokens

SEATS = {"table": Seat(6, "vector"), "photo": Seat(8, "tokens"), "note": Seat(8, "blocks")}
FILLS = names("missing")
SHORT = Training(epochs=2, batch_size=16)


def tokens(
    rows: int, missing: dict[str, list[int]] | None = None, seed: int = 0
) -> dict[str, Tokens]:
    """Random tokens of three streams; the rows of a stream that are named lack it."""
    g = torch.Generator().manual_seed(seed)
    found: dict[str, Tokens] = {}
    for stream, seat in SEATS.items():
        n = 1 if seat.hosts == "vector" else 4
        mask = torch.ones(rows, n, dtype=torch.bool)
        mask[(missing or {}).get(stream, [])] = False
        x = torch.randn(rows, n, seat.width, generator=g) * mask[..., None]
        guests = torch.randn(rows, 2, seat.width, generator=g) * mask.any(1)[:, None, None]
        found[stream] = Tokens(
            x, mask, x.mean(1), guests if seat.hosts == "blocks" else guests[:, :0]
        )
    return found


def built(spec: MaskToken, seed: int = 0) -> Fill:
    torch.manual_seed(seed)
    return spec.build(SEATS)


def pooled(fill: Fill, given: dict[str, Tokens]) -> dict[str, Tensor]:
    return {s: t.pooled for s, t in fill(given).tokens.items()}


@pytest.mark.parametrize("name", FILLS)
def test_what_is_there_stays_bit_for_bit(name: str) -> None:
    fill = resolve("missing", name)().build(SEATS).eval()
    given = tokens(5, {"note": [1, 2], "photo": [2]})
    found = pooled(fill, given)
    for stream, t in given.items():
        there = t.mask.any(1)
        assert torch.equal(found[stream][there], t.pooled[there])


def test_a_token_stands_in_and_moves_with_what_is_there() -> None:
    fill = built(MaskToken()).eval()
    given = tokens(4, {"note": [0], "photo": [1], "table": [2]})
    found = pooled(fill, given)
    for row, stream in enumerate(("note", "photo", "table")):
        assert found[stream][row].abs().max() > 1e-3
        for other in set(SEATS) - {stream}:
            moved = tokens(4, {"note": [0], "photo": [1], "table": [2]})
            moved[other] = tokens(4, seed=1)[other]
            assert not torch.equal(pooled(fill, moved)[stream][row], found[stream][row]), other


def test_a_stand_in_ignores_what_a_missing_modality_holds() -> None:
    fill = built(MaskToken()).eval()
    given = tokens(3, {"note": [0, 1, 2], "photo": [1]})
    before = pooled(fill, given)
    note = given["note"]
    noise = Tokens(torch.randn_like(note.x), note.mask, torch.randn_like(note.pooled), note.guests)
    after = pooled(fill, given | {"note": noise})
    assert all(torch.equal(before[s], after[s]) for s in SEATS)


def test_several_hosts_are_averaged_and_one_counts_alone() -> None:
    fill = built(MaskToken()).eval()
    both = pooled(fill, tokens(1, {"table": [0]}))["table"]
    alone = [pooled(fill, tokens(1, {"table": [0], s: [0]}))["table"] for s in ("note", "photo")]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)
    first = built(MaskToken(hosts="first")).eval()
    first.load_state_dict(fill.state_dict())
    assert torch.equal(pooled(first, tokens(1, {"table": [0]}))["table"], alone[0])


def test_hosts_speak_in_the_order_that_is_named() -> None:
    states = built(MaskToken()).state_dict()

    def of(hosts: object, missing: dict[str, list[int]]) -> Tensor:
        fill = built(MaskToken(hosts=hosts)).eval()  # type: ignore[arg-type]
        fill.load_state_dict(states)
        return pooled(fill, tokens(1, missing))["table"]

    gone = {"table": [0]}
    note, photo = of("mean", gone | {"photo": [0]}), of("mean", gone | {"note": [0]})
    assert torch.equal(of("first", gone), photo)
    assert torch.equal(of(("note",), gone), note)  # the photo comes after it
    assert torch.equal(of(["note", "photo"], gone), note)
    assert torch.equal(of(("table", "photo"), gone), photo)  # the table itself is missing
    assert torch.equal(of(("note",), gone | {"note": [0]}), photo)


@pytest.mark.parametrize("hosts", [(), ("note", "note")])
def test_hosts_are_named_once(hosts: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match="hosts must name at least one stream, and each once, got"):
        MaskToken(hosts=hosts)


def test_hosts_must_be_streams_of_the_model() -> None:
    with pytest.raises(
        SpecError, match=r"that the model reads, \['table', 'photo', 'note'\]; got \['sound'\] too"
    ):
        built(MaskToken(hosts=("note", "sound")))
    with pytest.raises(
        SpecError, match=r"MaskToken\.hosts must be one of 'mean', 'first', 'gate' or"
    ):
        MaskToken(hosts="note")  # type: ignore[arg-type]


def test_a_gate_starts_as_the_mean_and_is_learned() -> None:
    mean, gate = built(MaskToken()).eval(), built(MaskToken(hosts="gate")).eval()
    given = tokens(3, {"table": [0, 1], "photo": [2]})
    assert mean.state_dict().keys() ^ gate.state_dict().keys() == {"gate"}
    torch.testing.assert_close(pooled(mean, given), pooled(gate, given))
    pooled(gate, given)["table"].square().sum().backward()
    assert gate.get_parameter("gate").grad is not None
    assert gate.get_parameter("gate").grad.abs().sum() > 0


def test_alignment_is_the_mean_over_pairs_that_a_row_has() -> None:
    spec = MaskToken(drop=0.0, alignment=0.5)
    fill = built(spec).train()
    given = tokens(3, {"note": [1], "photo": [1]})
    filled = fill(given)
    imitated = [found.detach() for found in fill._imitated([*given.values()])]
    total, count = 0.0, 0
    streams = [*given.values()]
    for found, (i, j) in zip(imitated, fill.pairs, strict=True):
        rows = [r for r in range(3) if streams[i].mask[r].any() and streams[j].mask[r].any()]
        target = streams[j].pooled
        length = target[rows].square().sum(1).mean()
        total += sum(float((found[r] - target[r]).square().sum() / length) for r in rows)
        count += len(rows)
    assert count == 12  # six pairs in two complete rows; a row with one modality has none
    torch.testing.assert_close(filled.penalty.item(), 0.5 * total / count, rtol=1e-5, atol=0)
    assert float(fill.eval()(given).penalty) == 0
    assert float(built(MaskToken(alignment=0)).train()(given).penalty) == 0


@pytest.mark.parametrize("detach", [True, False])
def test_the_target_of_the_alignment_moves_only_where_asked(detach: bool) -> None:
    fill = built(MaskToken(drop=0.0, detach=detach)).train()
    given = tokens(4)
    given["photo"].pooled.requires_grad_()
    fill(given).penalty.backward()
    grad = given["photo"].pooled.grad
    assert (grad is None or not grad.any()) == detach


def test_every_parameter_of_the_tokens_gets_gradient() -> None:
    fill = built(MaskToken(hosts="gate")).train()
    filled = fill(tokens(64))
    loss = filled.penalty + sum(t.pooled.square().sum() for t in filled.tokens.values())
    loss.backward()
    silent = {n for n, p in fill.named_parameters() if p.grad is None or not p.grad.any()}
    # The test's guests are constants, so the token that walks through blocks is not reached here.
    assert silent == {"tokens.2"}


def test_dropping_takes_one_modality_from_complete_rows_only() -> None:
    torch.manual_seed(0)
    there = torch.ones(9000, 3, dtype=torch.bool)
    there[:3000, 1] = False
    left = drop(there, None)
    assert torch.equal(left[:3000], there[:3000])
    lost = 3 - left[3000:].sum(1)
    assert set(lost.tolist()) == {0, 1}
    share = (~left[3000:]).float().mean(0)
    torch.testing.assert_close(share, torch.full((3,), 0.25), rtol=0, atol=0.03)
    half = drop(torch.ones(4000, 2, dtype=torch.bool), 0.5)
    assert abs(float((~half).any(1).float().mean()) - 0.5) < 0.03
    assert torch.equal(drop(there[:, :1], 1.0), there[:, :1])


def test_a_dropped_modality_does_not_enter_but_is_still_imitated() -> None:
    torch.manual_seed(1)
    fill = built(MaskToken(drop=1.0)).train()
    given = tokens(40)
    filled = fill(given)
    changed = torch.stack(
        [(filled.tokens[s].pooled != given[s].pooled).any(1) for s in SEATS], dim=1
    )
    assert changed.sum(1).tolist() == [1] * 40
    assert filled.penalty.item() > 0


def test_the_mean_of_training_rows_fills() -> None:
    fill = Mean().build(SEATS).train()
    given = tokens(50, {"photo": list(range(10))})
    fill(given)
    found = pooled(fill.eval(), tokens(2, {"photo": [0, 1]}))["photo"]
    expected = given["photo"].pooled[10:].mean(0)
    torch.testing.assert_close(found, expected.expand(2, -1))


def test_zeros_fill_and_dropping_alone_is_an_option() -> None:
    given = tokens(30)
    still = Zero().build(SEATS).train()
    assert all(torch.equal(pooled(still, given)[s], given[s].pooled) for s in SEATS)
    dropping = Zero(drop=1.0).build(SEATS).train()
    found = pooled(dropping, given)
    gone = torch.stack([~found[s].any(1) for s in SEATS], dim=1)
    assert gone.sum(1).tolist() == [1] * 30
    assert all(torch.equal(pooled(dropping.eval(), given)[s], given[s].pooled) for s in SEATS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 1.5}, r"drop must be None or in 0\.\.1, got 1\.5"),
        ({"alignment": -1.0}, "alignment must be at least 0, got -1.0"),
        ({"width": 0}, "width must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        MaskToken(**options)  # type: ignore[arg-type]


def test_a_name_stands_for_the_spec() -> None:
    assert TIAdapter(missing="token") == TIAdapter(missing=MaskToken())  # type: ignore[arg-type]
    assert TIAdapter(missing="mean").missing == Mean()  # type: ignore[arg-type]
    with pytest.raises(
        SpecError, match="none of the missing is named 'guess'; there are error, mean"
    ):
        TIAdapter(missing="guess")  # type: ignore[arg-type]
    changed = TIAdapter(missing="token").with_params(missing__alignment=0.0)  # type: ignore[arg-type]
    assert changed.missing == MaskToken(alignment=0.0)
    assert TIAdapter.from_dict(changed.to_dict()) == changed


# On a table


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_transformer(tmp_path_factory.mktemp("transformer"))


def fit(
    table: pd.DataFrame, photos: Path, network: Path, missing: str, **options: object
) -> MultimodalRegressor:
    model = MultimodalRegressor(
        options.pop("method", None) or TIAdapter(ImageBranch("bc1"), missing=missing),  # type: ignore[arg-type]
        encoders={"image": str(network), "tabular": "mlp"},
        training=SHORT,
        verbose=False,
        **options,
    )
    return model.fit(table.drop(columns="kind"), label="price", root=photos)


def holed(table: pd.DataFrame) -> pd.DataFrame:
    """Some rows without a photo, some without the other, some without numbers and categories."""
    table = table.copy()
    table.iloc[5:12, table.columns.get_loc("front")] = None
    table.iloc[10:20, table.columns.get_loc("back")] = None
    table.iloc[20:25, [table.columns.get_loc(c) for c in ("size", "colour")]] = None
    return table


@pytest.mark.parametrize("missing", ["zero", "mean", "token"])
@pytest.mark.parametrize("kind", ["network", "transformer"])
def test_a_table_with_holes_trains_predicts_and_comes_back(
    missing: str, kind: str, table, photos, tmp_path, request: pytest.FixtureRequest
) -> None:
    table = holed(table)
    model = fit(table, photos, request.getfixturevalue(kind), missing)
    predicted = model.predict(table)
    assert np.isfinite(predicted).all()
    model.save(tmp_path / "model")
    pd.testing.assert_series_equal(load(tmp_path / "model").predict(table, root=photos), predicted)
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(
        model.predict(shuffled), predicted.loc[shuffled.index], rtol=1e-4
    )


@pytest.mark.parametrize("kind", ["network", "transformer"])
def test_every_way_of_missing_is_the_same(
    kind: str, table, photos, request: pytest.FixtureRequest
) -> None:
    model = fit(table, photos, request.getfixturevalue(kind), "token")
    rows = table.iloc[:8]
    whole = model.predict(rows)
    answers = [model.predict(rows.drop(columns="front"))]
    answers += [model.predict(rows.assign(front=cell)) for cell in (None, np.nan, "", " ")]
    for answer in answers[1:]:
        assert answer.equals(answers[0])
    assert not np.allclose(answers[0], whole)


def test_a_mask_token_changes_the_answer_where_zeros_do_not(table, photos, network) -> None:
    """The token is no constant: with the photo hidden, the answer depends on the other modalities."""
    model = fit(table, photos, network, "token")
    hidden = model.predict(table.iloc[:8].assign(front=None))
    other = table.iloc[:8].assign(front=None, back=table["back"].iloc[8:16].to_numpy())
    assert not np.allclose(hidden, model.predict(other))


def test_frozen_stays_frozen_with_tokens(table, photos, transformer) -> None:
    method = Frozen(missing="token")  # type: ignore[arg-type]
    model = fit(holed(table), photos, transformer, "", method=method)
    trained = {
        n.split(".")[0] for n, p in model.fitted_.model.named_parameters() if p.requires_grad
    }
    assert trained == {"encoders", "missing", "head"}  # the mlp is an encoder
    network = model.fitted_.model.encoder("front").get_submodule("backbone")
    assert not any(p.requires_grad for p in network.parameters())


def test_a_row_without_anything_is_named_or_gets_the_prior(table, photos, network) -> None:
    model = fit(table, photos, network, "token")
    rows = table.iloc[:3].copy()
    rows.iloc[1, [rows.columns.get_loc(c) for c in ("size", "colour", "front", "back")]] = None
    with pytest.raises(CellError, match=r"at least one of its modalities, 1 have none:\n  row 101"):
        model.predict(rows)
    found = model.predict(rows, empty="prior", details=True)
    assert found["prior"].tolist() == [False, True, False]
    assert found["has front"].tolist() == [True, False, True]
    # The mean of the training rows, which are most of the table.
    assert abs(found["prediction"].iloc[1] - table["price"].mean()) < table["price"].std() / 2
    with pytest.raises((SpecError, TypeError), match="guess"):
        model.predict(rows, empty="guess")  # type: ignore[arg-type]
    with pytest.raises(CellError, match="have none"):
        fit(rows, photos, network, "token", validation=0.0)


def test_missing_error_names_every_missing_modality(table, photos, network) -> None:
    rows = table.copy()
    rows.loc[104, "front"] = ""
    with pytest.raises(CellError, match=r'missing="error".*1 cells are missing:\n  row 104.*front'):
        fit(rows, photos, network, "error")
    model = fit(table, photos, network, "error")
    with pytest.raises(CellError, match=r"row 104 \(position 0\): back missing"):
        model.predict(table.loc[[104]].assign(back=None))
    assert len(model.predict(table.iloc[:3])) == 3


def test_what_no_training_row_had_is_missing_at_prediction_too(
    table, photos, network, caplog: pytest.LogCaptureFixture
) -> None:
    """Else an embedding that was never standardised would meet weights that never had a gradient."""
    kinds = {"front": "image", "back": "image"}
    with caplog.at_level("WARNING", "multiadapt"):
        model = fit(table.assign(front=None), photos, network, "token", column_types=kinds)
    assert "no training row has front: it will be taken as missing" in caplog.text
    hidden = model.predict(table.assign(front=None))
    caplog.clear()
    assert model.predict(table).equals(hidden)
    assert "no training row had front: taken as missing here too" in caplog.text


def test_an_unreadable_file_is_told_before_the_row_that_it_empties(table, photos, network) -> None:
    rows = table.copy()
    rows.loc[104, "front"] = "photos/none.png"
    with pytest.raises(CellError, match=r"row 104.*front.*photos/none\.png.*no such file"):
        fit(rows, photos, network, "error", column_types={"front": "image"})


@pytest.mark.parametrize("method", ["trees", "tabular-only", "image-only"])
def test_methods_of_one_modality_take_every_filling(
    method: str, table, photos, network, tmp_path
) -> None:
    spec = resolve("methods", method)(missing="token")
    model = fit(table, photos, network, "", method=spec)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").predict(table, root=photos)
    pd.testing.assert_series_equal(again, model.predict(table))
