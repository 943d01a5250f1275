"""Answers: the VQA challenge's normalisation and soft accuracy, and exact match."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiadapt.errors import TargetError
from multiadapt.tasks._answer_metrics import answered, exact_scores, normalised, soft_scores


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("The  Dog", "dog"),
        ("a cat\n", "cat"),
        ("two", "2"),
        ("none", "0"),
        ("TEN dogs", "10 dogs"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("somebodys", "somebody's"),
        ("ow's'at", "'ow's'at"),
        ("yall'll", "y'all'll"),
        ("it's", "it's"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("t-shirt", "t shirt"),
        ("1,000", "1000"),
        ("(yes)", "yes"),
        ("yes!", "yes"),
        ("3.5 feet.", "3.5 feet"),
        ("u.s.", "us"),
        ("5:30", "5:30"),
        ("a\tb", "b"),
        ("", ""),
        ("the", ""),
    ],
)
def test_answers_are_normalised_as_the_challenge_does(given_: str, expected: str) -> None:
    """By the rules of https://visualqa.org/evaluation.html and the program published there."""
    assert normalised(given_) == expected


@given(text=st.text("ab'.,-/ two the 12", max_size=20))
def test_normalising_ends_in_lower_case_words(text: str) -> None:
    found = normalised(text)
    assert found == found.lower()
    assert found == " ".join(found.split())
    assert not {"a", "an", "the"} & set(found.split())


def by_subsets(predicted: str, answers: list[str]) -> float:
    """The definition: over all subsets that leave one person out."""
    subsets = list(itertools.combinations(answers, len(answers) - 1))
    return float(np.mean([min(subset.count(predicted) / 3, 1) for subset in subsets]))


@given(same=st.integers(0, 10), people=st.integers(4, 10))
def test_soft_accuracy_is_the_mean_over_subsets_of_people(same: int, people: int) -> None:
    answers = ["yes"] * min(same, people) + ["no"] * (people - min(same, people))
    assert soft_scores(["yes"], [answers])[0] == pytest.approx(by_subsets("yes", answers))


def test_soft_accuracy_of_ten_people_is_the_published_table() -> None:
    """0, 1, 2, 3, 4 of ten: 0, .3, .6, .9, 1, as the challenge's page says."""
    answers = [["yes"] * n + ["no"] * (10 - n) for n in range(6)]
    found = soft_scores(["yes"] * 6, answers)
    assert found == pytest.approx([0, 0.3, 0.6, 0.9, 1, 1])


def test_both_sides_are_normalised() -> None:
    assert soft_scores(["The T-shirt!"], [["t shirt"] * 10])[0] == 1
    assert soft_scores(["1/2"], [["1/2"] * 10])[0] == 1
    assert exact_scores(["Two", "two", ""], ["2", "three", "a"]).tolist() == [1, 0, 1]


def test_one_answer_a_row_is_exact_match_alone() -> None:
    found = answered(["dog", "cat", "a cat", "cow"], ["dog", "dog", "cat", "dog"])
    assert list(found.estimates) == ["exact_match"]
    assert found.estimates["exact_match"].value == 0.5
    assert found.scores["exact_match"].tolist() == [1, 0, 1, 0]


def test_several_answers_a_row_give_both_with_intervals() -> None:
    people = [["yes"] * 6 + ["no"] * 4, ["no"] * 2 + ["yes"] * 2 + ["maybe"] * 6] * 20
    found = answered(["no", "maybe"] * 20, people)
    assert found.estimates["exact_match"].value == 0.5
    assert found.estimates["vqa_accuracy"].value == 1
    exact = found.estimates["exact_match"]
    assert exact.low < exact.value < exact.high
    assert str(found).splitlines()[0] == found.protocol
    assert all(line.endswith("of 40 questions") for line in str(found).splitlines()[1:])


def test_of_equally_frequent_answers_the_first_is_exact() -> None:
    found = answered(["b"], [["b", "a", "a", "b"]])
    assert found.estimates["exact_match"].value == 1


def test_intervals_are_over_pictures() -> None:
    predicted = ["yes"] * 5 * 15 + ["no"] * 5 * 15
    alone, grouped = (
        answered(predicted, ["yes"] * 150, groups=groups).estimates["exact_match"]
        for groups in (None, np.arange(150) // 5)
    )
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: answered(["a"], []), "a prediction and an answer, got 1 and 0"),
        (lambda: answered([], []), "got 0 and 0"),
        (lambda: soft_scores(["a"], [["a"] * 3]), "row 0: VQA accuracy needs at least 4 .*got 3"),
        (
            lambda: answered(["a", "b"], [["a"] * 4, []]),
            "row 1 has no answer to compare with: leave it out",
        ),
        (
            lambda: exact_scores(["a", None], ["a", "b"]),
            "row 1: a prediction must be text, got NoneType",
        ),
    ],
)
def test_what_cannot_be_scored_is_an_error(call, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        call()
