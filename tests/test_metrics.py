"""Metrics: equal to scikit-learn's own, defined rules where those are undefined, honest intervals."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from multiadapt.errors import SpecError, TargetError
from multiadapt.tasks._metrics import LOWER, corrected_t_test
from multiadapt.tasks.classification import Classification
from multiadapt.tasks.multilabel import Multilabel
from multiadapt.tasks.regression import Regression

WEIGHTED = [False, True]


def classes(count, rows=60, seed=0):
    """Labels, coarse scores (so that there are ties) and weights."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(count), rng.integers(count, size=rows - count)])
    scores = rng.normal(size=(rows, 1 if count == 2 else count)).round(1)
    return pd.Series(y, name="y"), scores, rng.random(rows) * 3


def values(target, scores, labels, weight):
    return {k: e.value for k, e in target.measure(scores, labels, weight, 0).items()}


@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("count", [2, 3, 7])
def test_classification_equals_scikit_learn(count, weighted):
    y, scores, weight = classes(count)
    w = weight if weighted else None
    target = Classification().learn(y)
    p, predicted = target.probabilities(scores), target.predict(scores)
    area = sk.roc_auc_score(y, p[:, 1] if count == 2 else p, multi_class="ovr", sample_weight=w)
    assert values(target, scores, y, w) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, predicted, sample_weight=w),
            "balanced_accuracy": sk.balanced_accuracy_score(y, predicted, sample_weight=w),
            "f1_macro": sk.f1_score(y, predicted, average="macro", sample_weight=w),
            "roc_auc": area,
            "log_loss": sk.log_loss(y, p, sample_weight=w),
        },
        rel=1e-12,
    )


def test_log_loss_of_certain_mistakes_equals_scikit_learn():
    y = pd.Series([0, 1, 1, 0])
    scores = np.array([[900.0], [-900.0], [3.0], [-3.0]])
    target = Classification().learn(y)
    expected = sk.log_loss(y, target.probabilities(scores))
    assert values(target, scores, y, None)["log_loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weighted", WEIGHTED)
def test_a_class_absent_from_the_test_rows_counts_as_in_scikit_learn(weighted):
    y, scores, weight = classes(4)
    target = Classification().learn(y)
    scores[:, 3] = -9
    some = (y != 3).to_numpy()
    y, scores = y[some], scores[some]
    w = weight[some] if weighted else None
    got, predicted = values(target, scores, y, w), target.predict(scores)
    assert got["f1_macro"] == pytest.approx(
        sk.f1_score(y, predicted, average="macro", sample_weight=w), rel=1e-12
    )
    assert got["balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(y, predicted, sample_weight=w), rel=1e-12
    )
    assert np.isnan(got["roc_auc"])
    assert np.isfinite([got["accuracy"], got["log_loss"]]).all()


@pytest.mark.parametrize("weighted", WEIGHTED)
def test_regression_equals_scikit_learn(weighted):
    rng = np.random.default_rng(1)
    y = pd.Series(rng.normal(1e6, 5, size=50))
    w = rng.random(50) if weighted else None
    target = Regression().learn(y)
    scores = rng.normal(size=(50, 1))
    predicted = target.predict(scores)
    assert values(target, scores, y, w) == pytest.approx(
        {
            "r2": sk.r2_score(y, predicted, sample_weight=w),
            "rmse": sk.root_mean_squared_error(y, predicted, sample_weight=w),
            "mae": sk.mean_absolute_error(y, predicted, sample_weight=w),
        },
        rel=1e-9,  # the values sit at a million, their spread is 5
    )


def test_log_regression_measures_in_the_targets_units_and_adds_r2_of_the_log():
    rng = np.random.default_rng(2)
    y = pd.Series(rng.lognormal(10, 1, size=50))
    target = Regression(target="log").learn(y)
    scores = target.encode(y)[:, None] + rng.normal(size=(50, 1)) / 5
    got, predicted = values(target, scores, y, None), target.predict(scores)
    assert got["rmse"] == pytest.approx(sk.root_mean_squared_error(y, predicted))
    assert got["r2_log"] == pytest.approx(sk.r2_score(np.log(y), np.log(predicted)))


@pytest.mark.parametrize("weighted", WEIGHTED)
def test_multilabel_equals_scikit_learn(weighted):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.integers(2, size=(40, 3)), columns=list("abc"))
    scores, w = rng.normal(size=(40, 3)).round(1), rng.random(40) if weighted else None
    target = Multilabel().learn(frame)
    y, p, predicted = frame.to_numpy(), target.probabilities(scores), target.predict(scores)
    losses = [sk.log_loss(y[:, c], p[:, c], sample_weight=w) for c in range(3)]
    assert values(target, scores, frame, w) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, predicted, sample_weight=w),
            "f1_macro": sk.f1_score(y, predicted, average="macro", sample_weight=w),
            "f1_micro": sk.f1_score(y, predicted, average="micro", sample_weight=w),
            "roc_auc": sk.roc_auc_score(y, p, average="macro", sample_weight=w),
            "log_loss": np.mean(losses),
        },
        rel=1e-12,
    )


def test_a_label_that_nobody_has_and_nobody_predicts_is_left_out_of_f1():
    target = Multilabel().learn(pd.DataFrame({"a": [0, 1], "b": [1, 0]}))
    test = pd.DataFrame({"a": [1, 0, 1], "b": [0, 0, 0]})
    scores = np.array([[1.0, -1.0], [1.0, -1.0], [1.0, -1.0]])
    got = values(target, scores, test, None)
    expected = sk.f1_score(
        test.to_numpy(), target.predict(scores), average="macro", zero_division=np.nan
    )
    assert got["f1_macro"] == pytest.approx(expected)
    assert np.isnan(got["roc_auc"])


def test_rows_of_weight_zero_do_not_count():
    y, scores, weight = classes(3)
    target = Classification().learn(y)
    weight[10:] = 0
    kept = values(target, scores[:10], y[:10], weight[:10])
    assert values(target, scores, y, weight) == pytest.approx(kept, nan_ok=True)


def test_whole_weights_equal_repeated_rows():
    y, scores, _ = classes(3)
    target = Classification().learn(y)
    times = np.arange(60) % 3
    again = values(target, scores.repeat(times, axis=0), y.repeat(times), None)
    assert values(target, scores, y, times) == pytest.approx(again, rel=1e-12)


def test_one_row_gives_values_or_nan_and_no_warning():
    y, scores, _ = classes(3)
    got = Classification().learn(y).measure(scores[:1], y[:1], None, 0)
    assert np.isnan(got["roc_auc"].value)
    assert np.isnan(got["roc_auc"].low)
    assert got["accuracy"].low == got["accuracy"].value == got["accuracy"].high
    target = Regression().learn(pd.Series([1.0, 2.0]))
    one = target.measure(np.zeros((1, 1)), pd.Series([1.0]), None, 0)
    assert np.isnan(one["r2"].value)
    assert one["mae"].value == pytest.approx(0.5)


def test_r2_of_equal_values_is_nan():
    target = Regression().learn(pd.Series([1.0, 2.0]))
    got = target.measure(np.zeros((5, 1)), pd.Series([0.1] * 5), None, 0)
    assert np.isnan(got["r2"].value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_metrics_of_scores_that_are_not_finite_are_nan(bad):
    y, scores, _ = classes(3)
    scores[4, 1] = bad
    target = Classification().learn(y)
    assert all(np.isnan(list(target.values(scores, y).values())))
    assert np.isnan(target.paired(scores, scores, y).p)


def test_values_are_those_of_measure():
    y, scores, weight = classes(3)
    target = Classification().learn(y)
    assert target.values(scores, y, weight) == values(target, scores, y, weight)


def test_interval_is_seeded_and_holds_the_value():
    y, scores, _ = classes(3)
    target = Classification().learn(y)
    one = target.measure(scores, y, None, 5)
    assert one == target.measure(scores, y, None, 5)
    assert one != target.measure(scores, y, None, 6)
    assert all(e.low <= e.value <= e.high for e in one.values())


def test_interval_of_a_mean_has_the_width_that_theory_gives():
    rng = np.random.default_rng(0)
    y = pd.Series([0, 1] * 500)
    scores = np.where(rng.random(1000) < 0.8, 1.0, -1.0)[:, None] * np.where(y == 1, 1, -1)[:, None]
    got = Classification().learn(y).measure(scores, y, None, 0)["accuracy"]
    half = 1.96 * np.sqrt(got.value * (1 - got.value) / 1000)
    assert got.high - got.low == pytest.approx(2 * half, rel=0.1)  # 1,000 resamples: about 5 %


def test_interval_is_nan_where_most_resamples_are_undefined():
    y = pd.Series([0, *[1] * 39])
    target = Classification().learn(y)
    lonely = target.measure(np.zeros((40, 1)), y, None, 0)["roc_auc"]
    assert lonely.value == 0.5
    assert np.isfinite(lonely.low)  # 64 % of the resamples have the one row of class 0
    three = pd.Series([0, 1, *[2] * 38])
    got = Classification().learn(three).measure(np.eye(3)[three], three, None, 0)["roc_auc"]
    assert got.value == 1
    assert np.isnan([got.low, got.high]).all()  # 40 % have both rows


def test_all_metrics_of_1000_rows_and_10_classes_take_under_two_seconds():
    y, scores, weight = classes(10, rows=1000)
    target = Classification().learn(y)
    start = time.process_time()
    target.measure(scores, y, weight, 0)
    assert time.process_time() - start < 2


def test_a_hundred_thousand_rows_are_measured_in_pieces():
    y = pd.Series(np.arange(100_000) % 2)
    got = Regression().learn(y).measure(np.zeros((100_000, 1)), y, None, 0)
    assert got["mae"].value == pytest.approx(0.5)


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.booleans()), min_size=2, max_size=20))
def test_area_under_the_curve_is_the_share_of_pairs_in_order(rows):
    scores, y = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    target = Classification().learn(pd.Series([False, True]))
    pairs = [np.sign(p - n) / 2 + 0.5 for p in scores[y] for n in scores[~y]]
    expected = np.mean(pairs) if pairs else np.nan
    got = target.values(scores[:, None], pd.Series(y))["roc_auc"]
    assert got == pytest.approx(expected, nan_ok=True)


def test_paired_sees_that_a_method_equals_itself():
    y, scores, _ = classes(3)
    same = Classification().learn(y).paired(scores, scores, y)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_paired_is_antisymmetric_and_finds_the_better_method():
    rng = np.random.default_rng(0)
    y = pd.Series(rng.normal(size=200))
    target = Regression().learn(y)
    truth = target.encode(y)[:, None]
    good = truth + rng.normal(size=(200, 1)) * 0.2
    poor = truth + rng.normal(size=(200, 1)) * 0.5
    ab, ba = target.paired(good, poor, y, seed=1), target.paired(poor, good, y, seed=1)
    assert ab.low > 0
    assert ab.p == ba.p == pytest.approx(2 / 1001)  # no finite number of resamples says 0
    assert (ab.difference, ab.low, ab.high) == pytest.approx((-ba.difference, -ba.high, -ba.low))
    by_error = target.paired(good, poor, y, metric="rmse")
    assert by_error.difference < 0
    assert "rmse" in LOWER


def test_paired_p_values_are_fair_where_there_is_no_difference():
    rng = np.random.default_rng(0)
    y = pd.Series([0, 1] * 40)
    target = Classification().learn(y)
    trials = [target.paired(*rng.normal(size=(2, 80, 1)), y).p for _ in range(60)]
    assert np.mean(np.array(trials) < 0.05) < 0.15  # 60 trials: 5 % and three deviations


def test_corrected_t_test_by_hand():
    # Nadeau & Bengio 2003, equation 9: variance (1/k + n2/n1) * s^2.
    from scipy import stats

    differences = np.array([0.02, 0.05, -0.01, 0.03, 0.04])
    got = corrected_t_test(differences, train_rows=80, test_rows=20)
    t = differences.mean() / np.sqrt((1 / 5 + 20 / 80) * differences.var(ddof=1))
    assert got.p == pytest.approx(2 * stats.t.sf(t, 4))
    assert got.high - got.difference == pytest.approx(stats.t.ppf(0.975, 4) * got.difference / t)
    plain = stats.ttest_1samp(differences, 0).pvalue
    assert got.p > plain
    assert corrected_t_test(differences, 1, 0).p == pytest.approx(plain)


def test_corrected_t_test_without_spread():
    assert corrected_t_test(np.zeros(5), 8, 2).p == 1
    assert corrected_t_test(np.full(4, 0.5), 8, 2).p == 0
    assert np.isnan(corrected_t_test(np.array([0.1]), 8, 2).p)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        ([1.0, 1.0], r"one number for each of 60 rows, got \(2,\)"),
        ([-1.0] * 60, "60 of 60 are negative or not finite"),
        ([np.nan] + [1.0] * 59, "1 of 60 are negative or not finite"),
        ([0.0] * 60, r"not all 0; .* the sum is 0\.0"),
    ],
)
def test_bad_sample_weights_are_refused(weight, match):
    y, scores, _ = classes(3)
    with pytest.raises(TargetError, match=match):
        Classification().learn(y).measure(scores, y, np.array(weight), 0)


def test_nothing_to_score_is_refused():
    y, scores, _ = classes(3)
    with pytest.raises(TargetError, match="at least one labelled row to score, got 0"):
        Classification().learn(y).measure(scores[:0], y[:0], None, 0)


def test_unknown_metric_lists_the_known():
    y, scores, _ = classes(3)
    with pytest.raises(
        SpecError, match="no metric of this task is named 'auc'; there are accuracy"
    ):
        Classification().learn(y).paired(scores, scores, y, metric="auc")
