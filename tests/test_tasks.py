"""Tasks: labels come back as they were given, bad labels are refused by row, losses are means."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from multiadapt.errors import SpecError, TargetError
from multiadapt.spec import names, resolve
from multiadapt.tasks.answering import Answering
from multiadapt.tasks.classification import Classification
from multiadapt.tasks.multilabel import Multilabel
from multiadapt.tasks.regression import Regression

BINARY = pd.Series(["no", "yes", "no"], name="sold")
COLUMNS = pd.DataFrame({"red": [0, 1, 1], "blue": [True, False, True]})
LISTS = pd.Series([["b", "a"], [], ["a"]], name="tags")
EVERY = [
    (Classification(), BINARY),
    (Classification(), pd.Series([3, 1, 2, 1])),
    (Classification(class_weight="balanced"), pd.Series([True, False, True])),
    (Classification(), pd.Series([2.0, 1.0, 7.0])),
    (Regression(), pd.Series([1, 2, 4])),
    (Regression(target="log"), pd.Series([1.5, 2.0, 4.0])),
    (Multilabel(), COLUMNS),
    (Multilabel(), LISTS),
    (Multilabel(separator=";"), pd.Series(["a; b", ";", "b"])),
    (Answering(), pd.Series(["red", "two", "Red"], name="said")),
    (
        Answering(("red", "2")),
        pd.Series([["red"] * 4, ["two", "2", "red"], ["red", "a", "b", "c"]]),
    ),
]


def scores_for(target, rows=6):
    return np.random.default_rng(0).normal(size=(rows, target.outputs)).astype(np.float32)


def fused(vector):
    """Tokens and fuse of a fusion that gives this vector."""
    return {}, lambda _: vector


@pytest.mark.parametrize(("spec", "labels"), EVERY)
def test_state_survives_json(spec, labels):
    target = spec.learn(labels)
    again = spec.restore(json.loads(json.dumps(target.state())))
    scores = scores_for(target)
    assert again == target
    np.testing.assert_array_equal(again.predict(scores), target.predict(scores))
    assert again.predict(scores).dtype == target.predict(scores).dtype
    np.testing.assert_array_equal(again.encode(labels), target.encode(labels))


@pytest.mark.parametrize(("spec", "labels"), EVERY)
def test_a_table_is_not_written_to(spec, labels):
    before = labels.copy(deep=True)
    spec.learn(labels).measure(scores_for(spec.learn(labels), len(labels)), labels, None, 0)
    assert labels.equals(before)


@pytest.mark.parametrize(("spec", "labels"), EVERY)
def test_every_metric_of_a_spec_is_measured(spec, labels):
    target = spec.learn(labels)
    assert target.metric in target.measure(scores_for(target, len(labels)), labels, None, 0)


@pytest.mark.parametrize(("spec", "labels"), EVERY)
@pytest.mark.parametrize("width", [5, None])
def test_loss_is_the_weighted_mean_of_the_rows_losses(spec, labels, width):
    target = spec.learn(labels)
    head = target.head(width)
    y = torch.from_numpy(target.encode(labels))
    scores = head(*fused(torch.randn(len(y), width or target.outputs)))
    weight = torch.arange(len(y), dtype=torch.float32)
    rows = torch.stack([head.loss(scores[[i]], y[[i]], torch.ones(1)) for i in range(len(y))])
    expected = (rows * weight).sum() / weight.sum()
    torch.testing.assert_close(head.loss(scores, y, weight), expected)
    assert scores.shape == (len(y), target.outputs)


@pytest.mark.parametrize(("spec", "labels"), EVERY)
def test_a_batch_that_weighs_nothing_has_no_loss(spec, labels):
    target = spec.learn(labels)
    head = target.head(4)
    y = torch.from_numpy(target.encode(labels))
    loss = head.loss(head(*fused(torch.randn(len(y), 4))), y, torch.zeros(len(y)))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


@pytest.mark.parametrize(("spec", "labels"), EVERY)
def test_loss_in_half_precision_is_a_full_precision_number(spec, labels):
    target = spec.learn(labels)
    y = torch.from_numpy(target.encode(labels))
    scores = torch.from_numpy(scores_for(target, len(y)))
    loss = target.head(None).loss(scores.bfloat16(), y, torch.ones(len(y)))
    assert loss.dtype == torch.float32


ONE_LAYER = [e for e in EVERY if not isinstance(e[0], Answering)]  # whose head has two


@pytest.mark.parametrize(("spec", "labels"), ONE_LAYER)
def test_only_the_linear_layer_is_saved(spec, labels):
    target = spec.learn(labels)
    assert set(target.head(4).state_dict()) == {"linear.weight", "linear.bias"}
    assert not target.head(None).state_dict()


@pytest.mark.parametrize(("spec", "labels"), EVERY)
def test_encoders_are_told_the_labels(spec, labels):
    target = spec.learn(labels)
    encoded, groups = target.encode(labels), np.arange(len(labels))
    told = target.labels(encoded, groups)
    assert told.kind == target.kind
    assert told.y is encoded
    assert told.groups is groups
    sizes = {"classification": np.unique(encoded).size, "regression": 0, "multilabel": 2}
    assert told.classes == sizes[target.kind]


@pytest.mark.parametrize("folder_name", names("tasks"))
def test_spec_survives_json(folder_name):
    spec = resolve("tasks", folder_name)()
    assert type(spec).from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_class_weights_survive_json():
    spec = Classification(class_weight=(("a", 2.0), ("b", 1)))
    assert Classification.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


# Classification


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (pd.Series(["b", "a", "b"]), str),
        (pd.Series(["b", "a", "b"], dtype=object), str),
        (pd.Series(["b", "a", "b"], dtype="category"), str),
        (pd.Series([5, -1, 5], dtype="int8"), int),
        (pd.Series([5, -1, 5], dtype="Int64"), int),
        (pd.Series([5, -1, 5], dtype="category"), int),
        (pd.Series([True, False, True]), bool),
        (pd.Series([True, False, True], dtype="boolean"), bool),
        (pd.Series([True, False, True], dtype=object), bool),
        (pd.Series([2.0, 1.0, 2.0]), float),
        (pd.Series([1, 0, 1]).to_frame(), int),
    ],
)
def test_labels_come_back_with_their_type(labels, kind):
    target = Classification().learn(labels)
    y = target.encode(labels)
    predicted = target.predict(np.where(y == 1, 3.0, -3.0)[:, None])
    assert y.dtype == np.int64
    assert predicted.tolist() == labels.squeeze().tolist()
    assert {type(v) for v in predicted.tolist()} == {kind}


@pytest.mark.parametrize(
    "labels", [["10", "9", "Z", "a"], [10, 9, -3, 0], [True, False], [1.0, -2.0, 30.0]]
)
def test_classes_are_in_the_order_of_scikit_learn(labels):
    target = Classification().learn(pd.Series(labels))
    assert target.state()["classes"] == np.unique(labels).tolist()
    np.testing.assert_array_equal(
        target.encode(pd.Series(labels)), np.unique(labels, return_inverse=True)[1]
    )


def test_probabilities_sum_to_one_and_agree_with_predict():
    for labels in (["a", "b"], ["a", "b", "c"]):
        target = Classification().learn(pd.Series(labels))
        scores = scores_for(target, 50)
        p = target.probabilities(scores)
        assert p.shape == (50, len(labels))
        np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
        assert target.predict(scores).tolist() == [labels[i] for i in p.argmax(1)]


def test_losses_are_torchs():
    scores, weight = torch.randn(6, 3), torch.ones(6)
    many = Classification().learn(pd.Series([0, 1, 2])).head(None)
    y = torch.tensor([0, 1, 2, 2, 1, 0])
    torch.testing.assert_close(many.loss(scores, y, weight), F.cross_entropy(scores, y))
    two = Classification().learn(pd.Series([0, 1])).head(None)
    binary = F.binary_cross_entropy_with_logits(scores[:, 0], (y > 0).float())
    torch.testing.assert_close(two.loss(scores[:, :1], (y > 0).long(), weight), binary)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [0, 0, 0, 1, 2, 2]])
def test_balanced_classes_weigh_the_same_in_sum(labels):
    column = pd.Series(labels)
    target = Classification(class_weight="balanced").learn(column)
    y = torch.from_numpy(target.encode(column))
    scores = torch.zeros(len(y), target.outputs, requires_grad=True)
    target.head(None).loss(scores, y, torch.ones(len(y))).backward()
    torch.testing.assert_close(scores.grad.sum(0), torch.zeros(target.outputs))  # at the optimum


def test_named_class_weights():
    target = Classification(class_weight=(("b", 3.0),)).learn(pd.Series(["a", "b", "c"]))
    assert target.state()["weights"] == [1, 3, 1]
    head = target.head(None)
    scores, y = torch.zeros(2, 3), torch.tensor([0, 1])
    expected = torch.tensor(3.0).log() * (1 + 3) / 2
    torch.testing.assert_close(head.loss(scores, y, torch.ones(2)), expected)


def test_class_weights_follow_the_device_but_are_not_saved():
    head = Classification(class_weight="balanced").learn(pd.Series([0, 1, 1, 2])).head(4)
    assert [n for n, _ in head.named_buffers()] == ["row_loss.weights"]
    assert "row_loss.weights" not in head.state_dict()


def test_evaluation_may_hold_equal_numbers_of_another_type():
    target = Classification().learn(pd.Series([0, 1, 1]))
    assert target.encode(pd.Series([1.0, 0.0])).tolist() == [1, 0]


def test_one_row_can_be_encoded():
    target = Classification().learn(BINARY)
    assert target.encode(BINARY[1:2]).tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (pd.Series(["a"] * 5, name="y"), "all 5 rows of column 'y' have the label 'a'"),
        (pd.Series([1], name="y"), "all 1 rows of column 'y' have the label 1"),
        (pd.Series([], name="y", dtype=object), "column 'y' must have at least one row, got 0"),
        (
            pd.Series(["a", None, "b", ""], index=[7, 8, 9, 9], name="y"),
            r"column 'y' has none in 2 of 4 rows \(8, 9\); drop these rows or fill them",
        ),
        (pd.Series([1, None, 2]), r"none in 1 of 3 rows \(1\)"),
        (pd.Series([1, None, 2], dtype="Int64"), r"none in 1 of 3 rows \(1\)"),
        (pd.Series([1, None, 2], dtype="category"), r"none in 1 of 3 rows \(1\)"),
        (pd.Series([True, None, False], dtype=object), r"none in 1 of 3 rows \(1\)"),
        (pd.Series([np.nan] * 20), r"20 of 20 rows \(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\)"),
        (pd.Series([1.0, np.inf, -np.inf]), r"infinite in 2 of 3 rows \(1, 2\)"),
        (pd.Series([1.0, 2.5, 3.0]), r"whole numbers, .* such as 2\.5 in 1 of 3 rows \(1\)"),
        (pd.Series([1, "a", "b"]), "must all be of one type.*got 2 str, 1 int; convert"),
        (pd.Series([1, True, 0], dtype=object), "got 2 int, 1 bool"),
        (pd.Series([1, 2.0], dtype=object), "got 1 int, 1 float"),
        (pd.Series(pd.to_datetime(["2020-01-01", "2020-01-02"])), "got 2 Timestamp"),
        (pd.Series([["a"], ["b"]]), "got 2 list"),
        (COLUMNS, r"one column, got 2: \['red', 'blue'\]; several 0/1 columns"),
    ],
)
def test_bad_classes_are_refused(labels, match):
    with pytest.raises(TargetError, match=match):
        Classification().learn(labels)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (
            pd.Series(["no", "never", "maybe", "never"], index=list("wxyz")),
            r"labels \['never', 'maybe'\] \(str\) in 3 of 4 rows \('x', 'y', 'z'\) were not among",
        ),
        (pd.Series([1, 0]), r"labels \[1, 0\] \(int\) in 2 of 2 rows .* \['no', 'yes'\] \(str\)"),
        (pd.Series(["no", None]), "has none in 1 of 2 rows"),
    ],
)
def test_bad_labels_at_evaluation_are_named(labels, match):
    with pytest.raises(TargetError, match=match):
        Classification().learn(BINARY).encode(labels)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_class_weights_must_be_positive(weight):
    with pytest.raises(SpecError, match=r"above 0, got \[\('a'"):
        Classification(class_weight=(("a", weight), ("b", 1.0)))


def test_class_weights_must_name_classes():
    with pytest.raises(TargetError, match=r"names \['maybe'\], .* there are \['no', 'yes'\]"):
        Classification(class_weight=(("maybe", 2.0),)).learn(BINARY)


# Regression


@pytest.mark.parametrize("kind", ["identity", "log"])
@pytest.mark.parametrize("dtype", ["int64", "float32", "Int64", "object", "category", "decimal"])
def test_targets_are_standardised_inside_and_come_back(kind, dtype):
    y = pd.Series([200_000, 350_000, 1_000_000, 90_000])
    y = y.map(Decimal) if dtype == "decimal" else y.astype(dtype)
    target = Regression(target=kind).learn(y)
    encoded = target.encode(y)
    assert encoded.dtype == np.float32
    assert encoded.mean() == pytest.approx(0, abs=1e-6)
    assert encoded.std() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(target.predict(encoded[:, None]), y.astype(float), rtol=1e-6)


def test_log_predictions_are_positive():
    target = Regression(target="log").learn(pd.Series([1, 10, 100]))
    assert (target.predict(np.array([[-50.0], [50.0]])) > 0).all()


def test_regression_loss_is_the_squared_error():
    scores, y = torch.randn(5, 1), torch.randn(5)
    head = Regression().learn(pd.Series([1, 2])).head(None)
    torch.testing.assert_close(head.loss(scores, y, torch.ones(5)), F.mse_loss(scores[:, 0], y))


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (pd.Series([3.5, 3.5]), r"all 2 rows have the value 3\.5"),
        (pd.Series([1]), "all 1 rows have the value 1"),
        (pd.Series([0.1] * 7), r"all 7 rows have the value 0\.1"),
        (pd.Series([], dtype=float), "at least one row, got 0"),
        (pd.Series([1.0, None], name="y"), r"column 'y' has none in 1 of 2 rows \(1\)"),
        (pd.Series([1.0, np.inf], index=["a", "b"]), r"infinite in 1 of 2 rows \('b'\)"),
        (pd.Series(["1,200", "90"]), r"such as '1,200' in 1 of 2 rows"),
        (pd.Series([5, "many"], name="y"), r"'y' has others, such as 'many' in 1 of 2 rows \(1\)"),
        (
            pd.Series([True, False]),
            "such as True in 2 of 2 rows .*; classes are for the task classification",
        ),
        (pd.Series(pd.to_datetime(["2020-01-01"])), "must be numbers"),
    ],
)
def test_bad_targets_are_refused(labels, match):
    with pytest.raises(TargetError, match=match):
        Regression().learn(labels)


@pytest.mark.parametrize("use", ["learn", "encode", "measure"])
def test_log_of_what_is_not_positive_names_the_rows(use):
    spec, bad = Regression(target="log"), pd.Series([4.0, 0.0, -1.0], index=[3, 4, 5], name="y")
    target = spec.learn(pd.Series([1.0, 2.0]))
    actions = {
        "learn": lambda: spec.learn(bad),
        "encode": lambda: target.encode(bad),
        "measure": lambda: target.measure(np.zeros((3, 1)), bad, None, 0),
    }
    with pytest.raises(
        TargetError, match=r'column \'y\' is not in 2 of 3 rows \(4, 5\); use target="id'
    ):
        actions[use]()


def test_regression_has_no_probabilities():
    with pytest.raises(SpecError, match="has no probabilities; use predict"):
        Regression().learn(pd.Series([1, 2])).probabilities(np.zeros((1, 1)))


# Multilabel


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        (Multilabel(), pd.DataFrame({"a": [1, 0, 0], "b": [1, 0, 1]})),
        (Multilabel(), pd.DataFrame({"a": [True, False, False], "b": [True, False, True]})),
        (Multilabel(), pd.Series([["b", "a"], [], ["b"]])),
        (Multilabel(), pd.Series([("b", "a", "a"), (), {"b"}])),
        (Multilabel(), pd.Series([np.array(["b", "a"]), np.array([]), np.array(["b"])])),
        (Multilabel(), pd.Series([["b", "a"], [], ["b"]]).to_frame("tags")),
        (Multilabel(separator=";"), pd.Series(["b;a", ";", "b"])),
        (Multilabel(separator=" | "), pd.Series(["b | a | ", " | ", "b"])),
    ],
)
def test_all_ways_to_give_several_labels_agree(spec, labels):
    target = spec.learn(labels)
    assert target.state()["names"] == ["a", "b"]
    assert target.encode(labels).dtype == np.float32
    assert target.encode(labels).tolist() == [[1, 1], [0, 0], [0, 1]]


def test_multilabel_predicts_zeros_and_ones():
    target = Multilabel().learn(LISTS)
    scores = np.array([[2.0, -1.0], [-0.1, 0.1]])
    assert target.predict(scores).tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(target.probabilities(scores)[0], [0.8807971, 0.2689414], rtol=1e-6)


def test_multilabel_loss_is_torchs():
    scores, y = torch.randn(5, 2), torch.randint(2, (5, 2)).float()
    loss = Multilabel().learn(LISTS).head(None).loss(scores, y, torch.ones(5))
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(scores, y))


def test_label_columns_may_come_in_another_order():
    target = Multilabel().learn(COLUMNS)
    assert (target.encode(COLUMNS[["blue", "red"]]) == target.encode(COLUMNS)).all()


def test_one_column_of_zeros_and_ones_is_one_label():
    target = Multilabel().learn(COLUMNS[["red"]])
    assert target.encode(COLUMNS["red"]).tolist() == [[0], [1], [1]]


def test_evaluation_rows_may_all_be_without_labels():
    assert Multilabel().learn(LISTS).encode(pd.Series([[], []])).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("spec", "labels", "match"),
    [
        (Multilabel(), pd.Series([["a"], None], name="y"), r"'y' has none in 1 of 2 rows \(1\)"),
        (
            Multilabel(),
            pd.Series(["a;b", "a"]),
            "such as 'a;b' in 2 of 2 rows .* give separator=\";\"",
        ),
        (Multilabel(separator=";"), pd.Series(["a", ""]), "has none in 1 of 2 rows"),
        (Multilabel(separator=";"), LISTS, r"text with ';' between labels; .* leave separator out"),
        (Multilabel(), pd.Series([["a"], ["b", 1]]), "got 2 str, 1 int"),
        (Multilabel(), pd.Series([[], []], name="y"), "column 'y': none of 2 rows has a label"),
        (Multilabel(), pd.Series([["a"], ["a"]]), r"all 2 rows have the same of \['a'\]"),
        (Multilabel(), COLUMNS[:0], r"at least one row and column, got \(0, 2\)"),
        (Multilabel(), COLUMNS.replace({"red": {0: 2}}), r"'red' has others, such as 2 in 1 of 3"),
        (Multilabel(), COLUMNS.replace({"red": {0: None}}), r"'red' has none in 1 of 3 rows \(0\)"),
        (
            Multilabel(),
            pd.DataFrame([[0, 1]], columns=["a", "a"]),
            r"different names, got \['a', 'a'\]",
        ),
    ],
)
def test_bad_label_sets_are_refused(spec, labels, match):
    with pytest.raises(TargetError, match=match):
        spec.learn(labels)


def test_unknown_and_absent_labels_at_evaluation_are_named():
    with pytest.raises(TargetError, match=r"labels \['z'\] \(str\) in 1 of 2 rows \(9\)"):
        Multilabel().learn(LISTS).encode(pd.Series([["a"], ["z"]], index=[8, 9]))
    with pytest.raises(
        TargetError, match=r"columns \['blue'\] are absent; the labels have \['red'\]"
    ):
        Multilabel().learn(COLUMNS).encode(COLUMNS[["red"]])


def test_separator_must_not_be_empty():
    with pytest.raises(SpecError, match="at least one character, got ''"):
        Multilabel(separator="")
