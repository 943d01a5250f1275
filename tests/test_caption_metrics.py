"""Captions: words as Stanford's tokenizer splits them, and published values of the metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiadapt.errors import TargetError
from multiadapt.tasks._caption_metrics import captioned, cider_d
from multiadapt.tasks._caption_words import words

# What PTBTokenizer of stanford-corenlp-3.4.1 with -preserveLines -lowerCase, and then pycocoevalcap 1.2,
# make of these lines.
SPLIT = {
    "A man doesn't like the dog's (brown) ball, but can't run.": "a man does n't like the dog 's "
    "-lrb- brown -rrb- ball but ca n't run",
    "He is gonna eat 1/2 of 1,000 pies; cost $3.50!": "he is gon na eat 1/2 of 1,000 pies cost $ 3.50",
    "black/white t-shirt -- with \"quotes\" and 'single' ones...": "black/white t-shirt with quotes "
    "and single ones",
    "Mr. Smith went to the U.S. in Washington, D.C. for a 5'10\" man": "mr. smith went to the u.s. in "
    "washington d.c. for a 5 10 man",
    "two-story house & 50% off @ home #1": "two-story house & 50 % off @ home # 1",
    "I'd've cannot wanna gotta lemme gimme 'tis 'twas": "i 'd 've can not wan na got ta lem me gim me "
    "'t is 't was",
    "St. Bernard dogs' toys": "st. bernard dogs toys",
    "A dog at 3:30 p.m. in the 1980's": "a dog at 3:30 p.m. in the 1980 's",
    "a man/woman [in] {red} it's they're we'll I'm you've she'd": "a man/woman -lsb- in -rsb- -lcb- red "
    "-rcb- it 's they 're we 'll i 'm you 've she 'd",
    "Café naïve résumé — dash – en": "café naïve résumé dash en",
    "man in no. 5 jersey": "man in no. 5 jersey",
    "a kite . a boy": "a kite a boy",
    "what??? no!!!": "what ??? no !!!",
    "#10 player; 10th": "# 10 player 10th",
    "rock'n'roll o'clock ma'am y'all": "rock 'n' roll o'clock ma'am y' all",
    "hello,world": "hello world",
    "word.word end.": "word.word end",
    "T.V. and TV.": "t.v. and tv",
    "jack-o'-lantern": "jack-o lantern",
    "x_y a*b c+d =": "x_y a * b c + d =",
    "dog .. cat": "dog cat",
    "the '90s": "the '90s",
    'O\'Neil said: "go"': "o'neil said go",
    "don’t ‘quoted’ “double”": "do n't quoted double",
    "3.5 .5 1. 2,5": "3.5 .5 1 2,5",
    "-5 +3 a- -b": "-5 +3 a b",
    "ain't won't shan't n't": "ai n't wo n't sha n't n't",
    "<b> |x| ~y ^z": "<b> | x | ~ y ^ z",
    "A CAN'T-miss": "a ca n't miss",
    'the letter " P. "': "the letter p.",
    "won't've they'd've": "wo n't 've they 'd 've",
    "10-year-old's": "10-year-old 's",
    "U.K.'s mother-in-law's": "u.k. 's mother-in-law 's",
    "two dogs - one black - one white": "two dogs one black one white",
    "a dog.A cat": "a dog.a cat",
    "...": "",
    "": "",
}


@pytest.mark.parametrize("line", SPLIT)
def test_words_are_those_of_the_java_tokenizer(line: str) -> None:
    assert " ".join(words(line)) == SPLIT[line]


@given(text=st.text(max_size=40))
def test_any_text_has_words_without_spaces_in_lower_case(text: str) -> None:
    assert all(word and not set(word) & set(" \n\t") for word in words(text))
    assert words(text.lower()) == words(text)


def values(captions: list[str], references: list[list[str]]) -> dict[str, float]:
    return {k: e.value for k, e in captioned(captions, references).estimates.items()}


def test_values_in_the_readme_of_aac_metrics() -> None:
    """https://github.com/Labbeti/aac-metrics, README.md, which follows the evaluation of COCO captions."""
    found = captioned(
        ["a man is speaking", "rain falls"],
        [
            [
                "a man speaks.",
                "someone speaks.",
                "a man is speaking while a bird is chirping in the background",
            ],
            ["rain is falling hard on a surface"],
        ],
    )
    assert found.estimates["cider_d"].value == pytest.approx(0.9614, abs=5e-5)  # printed digits
    assert found.scores["cider_d"] == pytest.approx([1.3641, 0.5587], abs=5e-5)
    assert found.estimates["bleu_1"].value == pytest.approx(0.4278, abs=5e-5)


def test_rouge_l_of_its_papers_example() -> None:
    """Lin, ROUGE, 2004, section 3.1: 3/4 and 2/4; where precision is recall, beta does not matter."""
    reference = [["police killed the gunman"]]
    assert values(["police kill the gunman"], reference)["rouge_l"] == pytest.approx(3 / 4)
    assert values(["the gunman kill police"], reference)["rouge_l"] == pytest.approx(2 / 4)


def test_clipped_precision_of_bleus_papers_example() -> None:
    """Papineni et al., BLEU, 2002, section 2.1: of seven times "the", two count."""
    references = [["the cat is on the mat", "there is a cat on the mat"]]
    assert values(["the the the the the the the"], references)["bleu_1"] == pytest.approx(2 / 7)


def test_bleu_of_nltks_documented_example() -> None:
    """nltk.translate.bleu_score.corpus_bleu, its docstring: 0.5920 for both rows together."""
    start = "It is the guiding principle which guarantees the military forces always being under"
    first = [
        "It is a guide to action that ensures that the military will forever heed Party commands",
        f"{start} the command of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
    ]
    captions = [
        "It is a guide to action which ensures that the military always obeys the commands of the party",
        "he read the book because he was interested in world history",
    ]
    second = ["he was interested in world history because he read the book"]
    found = values(captions, [first, second])["bleu_4"]
    assert found == pytest.approx(0.5920, abs=1e-4)  # the docstring cuts it off there


CAPTIONS = [
    "a brown dog runs across the grass",
    "two children play with a ball",
    "a man rides a bike",
    "the the the the",
    "a woman in a red dress isn't dancing",
    "",
]
REFERENCES = [
    ["A dog is running across green grass.", "The brown dog runs fast in a field."],
    ["Two kids are playing ball.", "Children play with a red ball outside.", "two children play"],
    ["A man is riding his mountain bike down a steep, rocky trail in the woods at 3:30 p.m."],
    ["the cat sat on the mat", "the cat"],
    ["A woman in red isn't dancing!", "The woman's dress is red"],
    ["a bird on a branch"],
]


CIDER_D = [2.0766846119804296, 3.4196413148098075, 0.10546966386466376, 0.20665145084387138]
CIDER_D += [2.9803960454139795, 0.0]
ROUGE_L = [0.5714285714285714, 0.9242424242424241, 0.2367399741267788, 0.5, 0.8951781970649895, 0.0]
BLEU = [0.572635908335415, 0.4168516182111185, 0.31958801349001786, 0.19137358514206412]


def test_values_of_pycocoevalcap() -> None:
    """Made by pycocoevalcap 1.2 (its tokenizer in Java, Bleu(4), Cider, Rouge) from these lines.

    It adds 1e-15 to the matches and 1e-9 to the n-grams, which is why BLEU agrees to 1e-8 alone.
    """
    found = captioned(CAPTIONS, REFERENCES)
    assert found.scores["cider_d"] == pytest.approx(CIDER_D, abs=1e-12)
    assert found.scores["rouge_l"] == pytest.approx(ROUGE_L, abs=1e-12)
    bleu = [found.estimates[f"bleu_{n}"].value for n in range(1, 5)]
    assert bleu == pytest.approx(BLEU, abs=1e-8)


@given(seed=st.integers(0, 50))
def test_a_reference_itself_is_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    references = [[" ".join(rng.choice(list("abcdefgh"), 6))] for _ in range(5)]
    found = captioned([row[0] for row in references], references)
    assert found.estimates["bleu_4"].value == pytest.approx(1)
    assert found.scores["rouge_l"] == pytest.approx(1)
    other = captioned([row[0] for row in references[1:] + references[:1]], references)
    assert (other.scores["cider_d"] <= found.scores["cider_d"] + 1e-12).all()


def test_the_order_of_rows_and_references_does_not_matter() -> None:
    turned = captioned(CAPTIONS[::-1], [row[::-1] for row in REFERENCES[::-1]])
    found = captioned(CAPTIONS, REFERENCES)
    assert {k: e.value for k, e in turned.estimates.items()} == pytest.approx(
        {k: e.value for k, e in found.estimates.items()}
    )


def test_an_empty_caption_scores_nothing_and_raises_nothing() -> None:
    found = captioned(["", "..."], [["a dog"], ["a cat"]])
    assert {e.value for e in found.estimates.values()} == {0.0}


def test_one_row_has_no_document_frequencies() -> None:
    found = captioned(["a dog"], [["a dog"]])
    assert np.isnan(found.estimates["cider_d"].value)
    assert found.estimates["rouge_l"].value == 1
    assert np.isnan(cider_d([["a"]], [[["a"]]])).all()


def test_intervals_hold_the_value_and_every_line_says_of_how_many() -> None:
    found = captioned(CAPTIONS * 20, REFERENCES * 20, groups=np.arange(120) // 6)
    for estimate in found.estimates.values():
        assert estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9
    assert "over 20 groups" in found.protocol
    lines = str(found).splitlines()
    assert lines[0] == found.protocol
    assert len(lines) == 7
    assert all(line.endswith("of 120 captions") for line in lines[1:])
    single = captioned(CAPTIONS * 20, REFERENCES * 20)
    assert single.estimates["bleu_4"].low < single.estimates["bleu_4"].high


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        (["a"], [], "every caption needs its references, got 1 and 0"),
        ([], [], "got 0 and 0"),
        ([None], [["a"]], "row 0: a caption must be text, got NoneType"),
        (["a", "b"], [["a"], "b"], "row 1: references must be a list of texts, got str"),
        (["a", "b"], [["a"], []], "row 1 has no reference, or one without words"),
        (["a"], [["a", None]], "row 0 has no reference, or one without words"),
        (["a"], [["..."]], "row 0 has no reference, or one without words"),
    ],
)
def test_what_cannot_be_scored_is_an_error(captions: list, references: list, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        captioned(captions, references)
