"""What scikit-learn and a person with a table expect of the estimators."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny import make_table

from multiadapt import (
    Frozen,
    MultimodalClassifier,
    MultimodalRegressor,
    TIAdapter,
    Training,
    fitting,
)
from multiadapt.data.splits import LeakWarning
from multiadapt.errors import CellError, SchemaError, SpecError, TargetError

SHORT = Training(epochs=1, batch_size=16)


def encoders_of(network: Path | None) -> dict[str, str]:
    return {"tabular": "mlp"} | ({"image": str(network)} if network else {})


def classifier(
    network: Path | None, method: object = "frozen", **options: object
) -> MultimodalClassifier:
    options = {
        "encoders": encoders_of(network),
        "training": SHORT,
        "verbose": False,
    } | options
    return MultimodalClassifier(method, **options)


def regressor(
    network: Path | None, method: object = "frozen", **options: object
) -> MultimodalRegressor:
    options = {
        "encoders": encoders_of(network),
        "training": SHORT,
        "verbose": False,
    } | options
    return MultimodalRegressor(method, **options)


QUICK = {
    "encoders": {"tabular": "mlp"},
    "training": Training(epochs=12, batch_size=32, learning_rate=0.02),
    "verbose": False,
}
TYPED = hasattr(MultimodalClassifier.__init__, "__wrapped__")  # by the tests' shape checker
UNTYPED = {
    "check_do_not_raise_errors_in_init_or_set_params": "the shape checker does",
    "check_sample_weights_not_an_array": "the shape checker refuses it",
}


TRAINED = {
    "check_sample_weight_equivalence_on_dense_data": "rows are held out, batches drawn by position",
    "check_methods_subset_invariance": "float32 sums of another batch differ by 2e-7",
}


@parametrize_with_checks(
    [MultimodalClassifier("tabular-only", **QUICK), MultimodalRegressor("trees", verbose=False)],
    expected_failed_checks=lambda estimator: (
        (TRAINED if isinstance(estimator, MultimodalClassifier) else {})
        | (UNTYPED if TYPED else {})
    ),
)
def test_scikit_learn_checks(estimator, check) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)  # made-up tables repeat values
        check(estimator)


def test_clone_and_nested_parameters(network: Path) -> None:
    model = regressor(network, TIAdapter())
    copy = clone(model).set_params(method__image__variant="bc1", training__epochs=7, seed=3)
    assert (copy.method.image.variant, copy.training.epochs, copy.seed) == ("bc1", 7, 3)
    assert (model.method.image.variant, model.training.epochs, model.seed) == ("bc2", 1, 0)
    assert model.get_params()["method__image__r"] == 16
    with pytest.raises(SpecError, match=r"ImageBranch has no option \['width'\]"):
        copy.set_params(method__image__width=2)


def test_grid_search_over_specs(table, photos) -> None:
    frame, y = table[["size", "colour"]], table["price"]
    grid = {"method": [Frozen(), TIAdapter()], "training__learning_rate": [1e-3, 1e-2]}
    search = GridSearchCV(regressor(None), grid, cv=2, error_score="raise").fit(frame, y)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pipeline(table) -> None:
    half = FunctionTransformer(lambda frame: frame.assign(size=frame["size"] / 2))
    pipe = make_pipeline(half, regressor(None)).fit(table[["size", "colour"]], table["price"])
    assert pipe.predict(table[["size", "colour"]]).index.equals(table.index)


@pytest.mark.parametrize(
    "make", [polars.from_pandas, pyarrow.Table.from_pandas], ids=["polars", "arrow"]
)
def test_other_tables_predict_the_same(make, network, table, photos) -> None:
    frame = table.drop(columns="price").reset_index(drop=True)
    expected = classifier(network).fit(frame, label="kind", root=photos).predict(frame)
    got = classifier(network).fit(make(frame), label="kind", root=photos).predict(make(frame))
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_are_read_with_paths_relative_to_them(suffix, network, tmp_path) -> None:
    frame = make_table(tmp_path).drop(columns="price").reset_index(drop=True)
    path = tmp_path / f"table.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    model = classifier(network).fit(path, label="kind")
    assert model.predict(path).tolist() == model.predict(frame, root=tmp_path).tolist()


def test_fit_takes_exactly_one_of_y_and_label(network, table, photos) -> None:
    with pytest.raises(SpecError, match="exactly one of y and label=, got neither: it requires y"):
        regressor(network).fit(table)
    with pytest.raises(SpecError, match="exactly one of y and label=, got both"):
        regressor(network).fit(table, table["price"], label="price")


def test_unfitted_estimator_says_so(network, table) -> None:
    with pytest.raises(NotFittedError, match="this MultimodalRegressor is not fitted yet"):
        regressor(network).predict(table)


def test_split_column_never_reads_test_rows(network, tmp_path) -> None:
    frame = make_table(tmp_path).drop(columns="price")
    frame["split"] = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    for name in frame["front"][50:]:
        (tmp_path / name).unlink()
    model = classifier(network).fit(frame, label="kind", split_column="split", root=tmp_path)
    assert (model.fitted_.info["rows"], model.fitted_.info["validation_rows"]) == (40, 10)
    with pytest.raises(CellError, match="10 are neither"):
        model.predict(frame)


def test_split_column_without_training_rows_is_refused(network, table) -> None:
    with pytest.raises(SchemaError, match=r"must mark the training rows 'train'; it holds \['a'\]"):
        regressor(network).fit(table.assign(part="a"), label="price", split_column="part")


def test_validation_rows_are_given_once(network, table, photos) -> None:
    marked = table.assign(part=["train"] * 40 + ["val"] * 20)
    with pytest.raises(SpecError, match="both val_data and 'val' rows of 'part' are given"):
        regressor(network).fit(
            marked, label="price", split_column="part", val_data=table, root=photos
        )
    with pytest.raises(SpecError, match=r"val_data is a pair \(X, y\) when y is given"):
        regressor(network).fit(table, label="price", val_data=(table, table["price"]), root=photos)


def test_validation_files_are_where_the_training_files_are(network, tmp_path) -> None:
    for name in ("here", "there"):
        frame = make_table(tmp_path / name).drop(columns="price")
        frame.to_parquet(tmp_path / name / "table.parquet")
    here, there = (tmp_path / n / "table.parquet" for n in ("here", "there"))
    with pytest.raises(SpecError, match="must be relative to the training table's folder"):
        classifier(network).fit(here, label="kind", val_data=there)


def test_groups_stay_on_one_side(table, photos) -> None:
    frame = table[["size", "colour", "price"]].assign(seller=np.arange(60) // 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakWarning)
        model = regressor(None).fit(frame, label="price", groups="seller")
    assert "seller" not in [c.name for s in model.fitted_.schema.streams() for c in s.columns]


def test_one_corrupt_file_in_a_hundred_shifts_no_prediction(network, tmp_path) -> None:
    frame = make_table(tmp_path, rows=100).drop(columns=["price", "back"])
    model = classifier(network).fit(frame, label="kind", root=tmp_path)
    before = model.predict_proba(frame)
    (tmp_path / frame["front"].iloc[41]).write_bytes(b"no image")
    with pytest.raises(
        CellError, match=r"row 141 \(position 41\), column 'front', file 'photos/41_front.png'"
    ):
        model.predict_proba(frame)
    model.on_error = "missing"
    after = model.predict_proba(frame)
    others = np.arange(100) != 41
    np.testing.assert_allclose(after[others], before[others], rtol=1e-5)
    assert not np.allclose(after.iloc[41], before.iloc[41])


def test_unreadable_files_at_fit_are_one_report(network, tmp_path) -> None:
    frame = make_table(tmp_path).drop(columns="price")
    for i in range(12):
        (tmp_path / frame["front"].iloc[i]).write_text(f"no image {i}")
    with pytest.raises(
        CellError, match=r"12 are neither[\s\S]*and 2 more[\s\S]*on_error=\"missing\""
    ) as caught:
        classifier(network, column_types={"front": "image"}).fit(frame, label="kind", root=tmp_path)
    assert str(caught.value).count("not an image in JPEG") == 10
    model = classifier(network, column_types={"front": "image"}, on_error="missing")
    assert len(model.fit(frame, label="kind", root=tmp_path).predict(frame)) == 60


def test_several_files_in_a_cell_are_their_mean(network, table, photos) -> None:
    both = table.assign(both=table["front"] + ";" + table["back"])[["both", "kind"]]
    model = classifier(network).fit(both, label="kind", root=photos)
    swapped = table.assign(both=table["back"] + ";" + table["front"])[["both"]]
    np.testing.assert_allclose(model.predict_proba(both), model.predict_proba(swapped), rtol=1e-4)
    with pytest.raises(CellError, match="may hold at most 1 files, got 2"):
        classifier(network, max_files=1).fit(both, label="kind", root=photos)


def test_arrays_in_cells_are_images(network, table) -> None:
    rng = np.random.default_rng(0)
    pictures = pd.Series(list(rng.integers(0, 256, (60, 20, 20, 3), np.uint8)), index=table.index)
    frame = pd.DataFrame({"picture": pictures, "price": table["price"]})
    model = regressor(network, column_types={"picture": "image"}).fit(frame, label="price")
    assert len(model.predict(frame)) == 60


def test_multilabel_from_lists_text_and_columns(table) -> None:
    tags = [
        ["big", "new"] if s > 50 else ["new"] if i % 3 else []
        for i, s in enumerate(table["size"].fillna(0))
    ]
    frame = table[["size", "colour"]].copy()
    lists = classifier(None).fit(frame.assign(tags=tags), label="tags")
    text = classifier(None, separator="|").fit(
        frame.assign(tags=["|".join(t) or "|" for t in tags]), label="tags"
    )
    columns = frame.assign(big=["big" in t for t in tags], new=["new" in t for t in tags]).astype(
        {"big": int, "new": int}
    )
    several = classifier(None).fit(columns, label=["big", "new"])
    answers = [m.predict(frame) for m in (lists, text, several)]
    assert all(a.columns.tolist() == ["big", "new"] for a in answers)
    assert answers[0].equals(answers[1])
    assert answers[0].to_numpy().tolist() == answers[2].to_numpy().tolist()


def test_evaluate_gives_intervals(network, table, photos) -> None:
    frame = table.drop(columns="kind")
    found = regressor(network).fit(frame, label="price", root=photos).evaluate(frame)
    assert found.columns.tolist() == ["value", "low", "high"]
    assert {"r2", "rmse", "mae"} <= set(found.index)
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()


def test_log_target_predicts_positive_values(table) -> None:
    frame = table[["size", "colour", "price"]]
    predicted = regressor(None, target="log").fit(frame, label="price").predict(frame)
    assert (predicted > 0).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.iloc[:0], SchemaError, "at least 2 rows, got none"),
        (lambda t: t.iloc[:1], SchemaError, "at least 2 rows, got 1 sample"),
        (lambda t: t.assign(price=1.0), TargetError, "all 60 rows have the value 1"),
        (
            lambda t: t.assign(price=[np.nan, *t["price"][1:]]),
            TargetError,
            r"has none in 1 of 60 rows \(100\)",
        ),
        (
            lambda t: t.assign(size=[np.inf, *t["size"][1:]]),
            SchemaError,
            "column 'size' must hold finite",
        ),
        (lambda t: t.drop(columns="price"), SchemaError, r"columns 'price' \(label\) are absent"),
        (lambda t: t[["price"]], SchemaError, "finds no column that it reads"),
        (lambda t: pd.concat([t, t[["size"]]], axis=1), SchemaError, "size"),
    ],
    ids=[
        "no rows",
        "one row",
        "constant",
        "label missing",
        "infinite",
        "no label",
        "no features",
        "twice",
    ],
)
def test_bad_table_at_fit(change, error, words, table) -> None:
    with pytest.raises(error, match=words):
        regressor(None).fit(change(table[["size", "colour", "price"]]), label="price")


def test_one_class_is_refused(table) -> None:
    with pytest.raises(TargetError, match="class"):
        classifier(None).fit(table[["size"]].assign(kind="red"), label="kind")


def test_useless_columns_do_no_harm(table) -> None:
    frame = table[["size", "price"]].assign(empty=np.nan, same="x", when=pd.Timestamp("2026-01-01"))
    frame["when"] += pd.to_timedelta(np.arange(60), "D")
    model = regressor(None).fit(frame, label="price")
    kinds = {c.name: c.kind for c in model.fitted_.schema.columns}
    assert (kinds["empty"], kinds["same"], kinds["when"]) == ("ignore", "ignore", "datetime")
    assert np.isfinite(model.predict(frame)).all()


def test_table_at_predict(table) -> None:
    frame = table[["size", "colour", "price"]]
    model = regressor(None).fit(frame, label="price")
    expected = model.predict(frame)
    assert model.predict(frame.assign(extra=1)[["extra", "colour", "size"]]).equals(expected)
    assert len(model.predict(frame.iloc[:0])) == 0
    assert len(model.predict(frame.iloc[:1])) == 1
    assert np.isfinite(model.predict(frame.assign(colour="violet"))).all()  # never seen
    repeated = pd.concat([frame.iloc[:2], frame.iloc[:2]])
    assert model.predict(repeated).index.tolist() == [100, 101, 100, 101]
    with pytest.raises(SchemaError, match=r"\['colour'\].*absent.*'colours'"):
        model.predict(frame.rename(columns={"colour": "colours"}))
    with pytest.raises(SchemaError, match="column 'size' must hold numbers"):
        model.predict(frame.assign(size=["big", *frame["size"][1:]]))


def test_unknown_names_are_refused(network, table, photos) -> None:
    with pytest.raises(SpecError, match="none of the methods is named 'ti-adaptor'; there are"):
        regressor(network, "ti-adaptor").fit(table, label="price", root=photos)
    with pytest.raises(SpecError, match=r"encoders are named by modality or column; \['img'\]"):
        regressor(network, encoders={"img": "starter"}).fit(table, label="price", root=photos)
    with pytest.raises(SpecError, match="MLPEncoder reads tabular columns, not image columns"):
        regressor(network, encoders={"image": "mlp"}).fit(table, label="price", root=photos)


@pytest.mark.parametrize("weight", [[-1.0] * 60, [0.0] * 60, [np.nan] * 60])
def test_weights_that_mean_nothing_are_refused(weight, table) -> None:
    with pytest.raises(SpecError, match="sample_weight must hold finite numbers of at least 0"):
        regressor(None).fit(table[["size", "price"]], label="price", sample_weight=np.array(weight))


def test_fit_says_what_each_column_is(network, table, photos, capfd) -> None:
    regressor(network, verbose=True).fit(table, label="price", root=photos)
    said = capfd.readouterr().err
    for words in ("size", "numeric:", "front", "image:", "used as label", "trained 1 of 1 epochs"):
        assert words in said


def test_identical_pictures_across_the_split_are_counted(network, tmp_path) -> None:
    frame = make_table(tmp_path).drop(columns=["price", "back"])
    frame["split"] = ["train"] * 40 + ["val"] * 20
    for i in range(3):
        Image.open(tmp_path / frame["front"].iloc[i]).save(tmp_path / frame["front"].iloc[50 + i])
    with pytest.warns(LeakWarning, match="3"):
        classifier(network).fit(frame, label="kind", split_column="split", root=tmp_path)


def test_image_encoder_without_an_image_column_is_refused(network, table) -> None:
    with pytest.raises(
        SchemaError, match=r"an encoder of image columns is named, but no column is one:\n  size"
    ):
        regressor(network).fit(table[["size", "price"]], label="price")


def test_groups_across_split_marks_are_counted(table) -> None:
    frame = table[["size", "price"]].assign(seller=np.arange(60) // 3, part=["train", "test"] * 30)
    with pytest.warns(LeakWarning, match="20 groups stand in more than one part of the split"):
        regressor(None, validation=0.0).fit(
            frame, label="price", groups="seller", split_column="part"
        )


def test_weights_of_rows_that_are_not_read_may_be_missing(table) -> None:
    frame = table[["size", "price"]].assign(w=1.0, part=["train"] * 50 + ["test"] * 10)
    frame.loc[frame["part"] == "test", "w"] = np.nan
    regressor(None).fit(frame, label="price", sample_weight="w", split_column="part")
    with pytest.raises(SpecError, match=r"10 of 60 do not \(row 150: nan"):
        regressor(None).fit(frame, label="price", sample_weight="w")


def test_rows_of_weight_zero_do_not_validate(table) -> None:
    weight = np.zeros(60)
    weight[:10] = 1
    for seed in range(4):
        model = regressor(None, seed=seed).fit(
            table[["size", "price"]], label="price", sample_weight=weight
        )
        assert model.fitted_.info["validation_rows"] == 2
        assert model.fitted_.info["rows"] == 58


def test_one_label_column_as_a_frame_is_one_label(table) -> None:
    zeros = (table[["size"]] > 50).astype(int)
    model = classifier(None).fit(table[["size", "colour"]], zeros)
    assert model.classes_.tolist() == [0, 1]


def test_trees_train_on_all_rows(table) -> None:
    model = regressor(None, "trees").fit(table[["size", "price"]], label="price")
    assert (model.fitted_.info["rows"], model.fitted_.info["validation_rows"]) == (60, 0)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"validation": -0.5}, r"validation must be at least 0 and below 1, got -0\.5"),
        ({"memory": -1.0}, r"memory must be at least 0, got -1\.0"),
        ({"max_files": 0}, "max_files must be at least 1, got 0"),
        ({"device": "gpu"}, "device must be one that torch knows"),
    ],
)
def test_options_that_mean_nothing_are_refused(option, words, table) -> None:
    with pytest.raises(SpecError, match=words):
        regressor(None, **option).fit(table[["size", "price"]], label="price")


def test_file_in_another_folder_with_validation_marks(network, tmp_path) -> None:
    frame = make_table(tmp_path).drop(columns="price").assign(part=["train"] * 45 + ["val"] * 15)
    frame.to_parquet(tmp_path / "table.parquet")
    model = classifier(network).fit(tmp_path / "table.parquet", label="kind", split_column="part")
    assert model.fitted_.info["validation"]["accuracy"]["value"] >= 0
    assert len(model.predict(frame)) == 60  # the table's folder is remembered


@pytest.mark.parametrize(
    ("online", "source", "words"),
    [
        (False, "starter", "the small starter encoder is used (no network); name a pretrained one"),
        (True, "microsoft/resnet-50", "'microsoft/resnet-50' from the hub is used"),
    ],
)
def test_what_is_used_when_nothing_is_named_is_said(
    online, source, words, table, monkeypatch, caplog
) -> None:
    opened: list[object] = []

    def stop(streams, specs, kind) -> None:
        opened.extend(specs.values())
        raise KeyError("far enough")

    monkeypatch.setattr(fitting, "hub_reached", lambda: online)
    monkeypatch.setattr(fitting, "build_encoders", stop)
    frame = pd.DataFrame(
        {"photo": pd.Series(list(np.zeros((9, 8, 8, 3), np.uint8))), "price": np.arange(9.0) ** 2}
    )
    model = regressor(None, encoders=None, column_types={"photo": "image"})
    with caplog.at_level("INFO", "multiadapt"), pytest.raises(KeyError, match="far enough"):
        model.fit(frame, label="price")
    assert [spec.source for spec in opened] == [source]
    assert words in caplog.text


def test_wrong_root_is_refused(network, table, tmp_path) -> None:
    with pytest.raises(SpecError, match="root must be an existing folder"):
        classifier(network).fit(table, label="kind", root=tmp_path / "nothing")
    with pytest.raises(SchemaError, match="column 'front' holds names of pictures"):
        classifier(None).fit(table.drop(columns="price"), label="kind", root=tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_gpu_is_told(table) -> None:
    with pytest.raises(SpecError, match="device 'cuda' needs a GPU that torch sees"):
        regressor(None, device="cuda").fit(table[["size", "price"]], label="price")
