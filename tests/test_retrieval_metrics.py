"""Ranks, recall and their intervals: ties against us, several targets, both ways, honest words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiadapt.errors import SpecError, TargetError
from multiadapt.tasks._retrieval_metrics import (
    LOWER,
    Relevance,
    best_ranks,
    measured,
    paired,
    ranks_both_ways,
    relevance,
    versus,
)


def by_hand(scores: np.ndarray, sets: list[set[int]]) -> list[int]:
    """The definition, one query at a time."""
    ranks = []
    for row, own in zip(scores, sets, strict=True):
        best = max(row[t] for t in own)
        ranks.append(1 + sum(row[t] >= best for t in range(len(row)) if t not in own))
    return ranks


def turned(sets: list[set[int]], pool: int) -> list[set[int]]:
    return [{q for q, own in enumerate(sets) if t in own} for t in range(pool)]


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[set[int]]]:
    queries, pool = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    scores = rng.integers(0, draw(st.sampled_from([1, 3, 50])), size=(queries, pool)) / 2
    sets = [set(rng.choice(pool, rng.integers(1, pool + 1)).tolist()) for _ in range(queries)]
    for target in range(pool):  # every target has a query
        sets[int(rng.integers(queries))].add(target)
    return scores, sets


@given(problem=problems(), block=st.integers(1, 15))
def test_ranks_are_those_of_the_definition_both_ways(
    problem: tuple[np.ndarray, list[set[int]]], block: int
) -> None:
    scores, sets = problem
    pool = scores.shape[1]
    related = relevance(sets, pool)
    forward, backward = ranks_both_ways(scores, related, block=block)
    assert forward.tolist() == by_hand(scores, sets)
    assert backward.tolist() == by_hand(scores.T, turned(sets, pool))
    assert best_ranks(scores, related, block=block).tolist() == forward.tolist()
    assert best_ranks(scores.T, related.turned(), block=block).tolist() == backward.tolist()


def test_a_tie_counts_against_us() -> None:
    related = relevance([{1}, {0}], 3)
    scores = np.array([[0.5, 0.5, 0.5], [0.9, 0.1, 0.9]])
    assert best_ranks(scores, related).tolist() == [3, 2]
    assert best_ranks(np.zeros((2, 3)), related).tolist() == [3, 3]


def test_relevant_targets_do_not_push_each_other_down() -> None:
    scores = np.array([[0.9, 0.9, 0.8, 0.1]])
    assert best_ranks(scores, relevance([{0, 1}], 4)).tolist() == [1]
    assert best_ranks(scores, relevance([{2, 3}], 4)).tolist() == [3]


def test_scores_may_come_as_a_function_and_in_any_block() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 10)).astype(np.float32)
    related = relevance([{q // 5} for q in range(50)], 10)
    whole = ranks_both_ways(scores, related)
    asked: list[tuple[int, int]] = []

    def some(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return scores[start:stop]

    parts = ranks_both_ways(some, related, block=16)
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))
    assert asked == [(0, 16), (16, 32), (32, 48), (48, 50)] * 2


def test_all_of_flickr_stays_small() -> None:
    related = relevance([{q // 5} for q in range(17_500)], 3_500)
    largest = 0

    def some(start: int, stop: int) -> np.ndarray:
        nonlocal largest
        part = np.zeros((stop - start, 3_500), np.float32)
        part[np.arange(stop - start), np.arange(start, stop) // 5] = 1
        largest = max(largest, part.nbytes)
        return part

    assert (best_ranks(some, related) == 1).all()
    assert largest < 20e6


def test_scores_that_are_below_everything_are_still_scores() -> None:
    scores = np.array([[-np.inf, 0.3, -np.inf], [0.1, -np.inf, -np.inf]])
    forward, backward = ranks_both_ways(scores, relevance([{0}, {1, 2}], 3))
    assert forward.tolist() == [3, 2]
    assert backward.tolist() == [2, 2, 2]


# metrics


def test_metrics_of_known_ranks() -> None:
    found = measured(np.array([1, 2, 6, 20]), 100)
    values = {name: e.value for name, e in found.estimates.items()}
    expected = {
        "r@1": 0.25,
        "r@5": 0.5,
        "r@10": 0.75,
        "median_rank": 4.0,
        "mrr": (1 + 1 / 2 + 1 / 6 + 1 / 20) / 4,
    }
    assert values == pytest.approx(expected)
    assert list(values) == list(expected)
    assert set(values) > LOWER


@given(ranks=st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_the_median_is_numpys(ranks: list[int]) -> None:
    found = measured(np.array(ranks), 30)
    assert found.estimates["median_rank"].value == np.median(ranks)


def test_every_number_comes_with_its_pool_and_protocol() -> None:
    found = measured(
        np.arange(1, 41), 1_000, way="caption to image", note="the first 128 re-scored"
    )
    lines = str(found).splitlines()
    assert lines[0].startswith("caption to image: 40 queries, each against all 1,000 targets")
    assert "ties count against" in lines[0]
    assert lines[0].endswith("; the first 128 re-scored")
    assert len(lines) == 6
    assert all(line.endswith("of 1,000 targets") for line in lines[1:])
    assert set(found.table["pool"]) == {1_000}
    assert set(found.table["protocol"]) == {found.protocol}
    assert found.table["metric"].tolist() == list(found.estimates)


def test_intervals_hold_the_value_and_are_wider_over_groups() -> None:
    rng = np.random.default_rng(0)
    easy = np.repeat(rng.random(60) < 0.5, 5)  # all captions of a picture are easy, or none is
    ranks = np.where(easy, 1, 50)
    alone, grouped = (
        measured(ranks, 60, groups=groups).estimates["r@1"]
        for groups in (None, np.arange(300) // 5)
    )
    assert alone.low < alone.value < alone.high
    assert grouped.high - grouped.low > 1.8 * (alone.high - alone.low)
    assert "over 60 groups" in measured(ranks, 60, groups=np.arange(300) // 5).protocol


def test_the_same_seed_gives_the_same_intervals() -> None:
    ranks = np.random.default_rng(0).integers(1, 50, 200)
    a, b, other = (measured(ranks, 50, seed=s).estimates["mrr"] for s in (0, 0, 1))
    assert a == b != other


def test_one_group_has_no_interval() -> None:
    found = measured(np.array([1, 2, 3]), 5, groups=["a", "a", "a"]).estimates["r@1"]
    assert found.value == pytest.approx(1 / 3)
    assert np.isnan([found.low, found.high]).all()


def test_two_rankings_of_the_same_queries_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(0)
    worse = rng.integers(2, 20, 300)
    better = np.where(rng.random(300) < 0.2, 1, worse)
    found = versus(better, worse)
    assert found.difference == pytest.approx((better == 1).mean())
    assert 0 < found.low < found.difference < found.high
    assert versus(worse, worse).difference == 0
    assert versus(better, worse, metric="median_rank", groups=np.arange(300) // 5).difference <= 0


# tables of pairs


def test_a_table_of_captions_is_a_query_a_row_and_a_target_a_picture() -> None:
    captions = ["a dog", "dog runs", "a cat", "a dog"]
    pairs = paired(captions, ["1.jpg", "1.jpg", "2.jpg", "3.jpg"])
    related = pairs.relevance
    assert (related.queries, related.pool) == (4, 3)
    assert pairs.first.tolist() == [0, 2, 3]
    assert pairs.target.tolist() == [0, 0, 1, 2]
    sets = [
        related.hits[a:b].tolist() for a, b in zip(related.starts, related.starts[1:], strict=False)
    ]
    assert sets == [[0, 2], [0], [1], [0, 2]]  # "a dog" is said of two pictures
    assert pairs.shared == 2


def test_duplicate_captions_are_no_mistake_either_way() -> None:
    pairs = paired(["same", "same", "other"], ["1", "2", "3"])
    scores = np.array([[0.9, 0.8, 0.0], [0.9, 0.8, 0.0], [0.0, 0.0, 0.9]])
    forward, backward = ranks_both_ways(scores, pairs.relevance)
    assert forward.tolist() == backward.tolist() == [1, 1, 1]


# errors


def test_a_query_without_target_names_its_row() -> None:
    with pytest.raises(
        TargetError, match=r"query 1 has no target; give it one .*\(2 of 3 have none"
    ):
        relevance([{0}, set(), set()], 2)
    with pytest.raises(TargetError, match="query 'photo 7' has no target"):
        relevance([{0}, set()], 2, names=["photo 3", "photo 7"])
    with pytest.raises(TargetError, match="row 'b' has no target; fill it in"):
        paired(["x", "y"], ["1", None], names=["a", "b"])
    with pytest.raises(TargetError, match="row 0 has no query"):
        paired([float("nan"), "y"], ["1", "2"])


def test_a_target_without_query_cannot_ask() -> None:
    related = relevance([{0}, {0}], 3)
    with pytest.raises(
        TargetError, match=r"target 1 has no query; take it out of the pool.*2 of 3"
    ):
        related.turned()
    with pytest.raises(TargetError, match="target 1 has no query"):
        ranks_both_ways(np.zeros((2, 3)), related)
    assert best_ranks(np.zeros((2, 3)), related).tolist() == [3, 3]


def test_scores_that_are_nan_are_an_error() -> None:
    scores = np.zeros((5, 3))
    scores[3, 2] = np.nan
    related = relevance([{0}, {1}, {2}, {0}, {1}], 3)
    with pytest.raises(
        TargetError, match="score of query 3 and target 2 is NaN, 1 of 6 in its block"
    ):
        best_ranks(scores, related, block=2)
    with pytest.raises(TargetError, match="score of query 3 and target 2 is NaN"):
        ranks_both_ways(scores, related)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relevance([], 2), "a query and a target, got 0 and 2"),
        (lambda: relevance([{0}, {2}], 2), "query 1 has target 2; there are 2, from 0"),
        (lambda: relevance([{-1}], 2), "query 0 has target -1; there are 2"),
        (lambda: paired(["a"], []), "each query needs its target, got 1 and 0"),
        (
            lambda: best_ranks(np.zeros((2, 2)), relevance([{0}], 2)),
            r"1 queries and 2 targets, got the shape \(2, 2\)",
        ),
        (
            lambda: best_ranks(lambda a, b: np.zeros((b - a, 3)), relevance([{0}], 2)),
            r"rows 0 to 1 of the scores must be floats of shape \(1, 2\), got float64 of \(1, 3\)",
        ),
        (
            lambda: best_ranks(lambda a, b: np.zeros((b - a, 2), int), relevance([{0}], 2)),
            "must be floats of shape .*got int64",
        ),
        (
            lambda: measured(np.array([0, 1]), 3),
            "ranks must be from 1 to the 3 targets, got 0 to 1",
        ),
        (lambda: measured(np.array([1, 4]), 3), "got 1 to 4"),
        (lambda: measured(np.zeros(0, int), 3), "got none"),
        (
            lambda: measured(np.array([1, 2]), 3, groups=["a"]),
            "one group for each of 2 rows, got 1",
        ),
        (lambda: measured(np.array([1, 2]), 3, groups=["a", None]), "row 1 has no group"),
        (
            lambda: versus(np.array([1]), np.array([1, 2])),
            "needs the same queries, got 1 and 2 ranks",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(call, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        call()


def test_options_that_do_not_exist_are_errors() -> None:
    with pytest.raises(SpecError, match="block must be at least 1 row, got 0"):
        best_ranks(np.zeros((1, 2)), relevance([{0}], 2), block=0)
    with pytest.raises(
        SpecError, match="no metric of retrieval is named 'map'; there are r@1, r@5"
    ):
        versus(np.array([1]), np.array([1]), metric="map")


def test_relevance_counts_a_target_once() -> None:
    related = relevance([[1, 1, 0]], 2)
    assert isinstance(related, Relevance)
    assert related.hits.tolist() == [0, 1]
