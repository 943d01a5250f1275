"""Texts: how they become tokens, how tokens become one vector, what a spec opens, what it refuses."""

import copy
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import TINY, WORDS, make_text_network, make_tokenizer
from torch import Tensor

from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._tokens import TokenPreparation, _Bytes, _ends
from multiadapt.encoders.text import TextEncoder
from multiadapt.errors import EncoderError, SpecError
from multiadapt.spec import resolve
from multiadapt.types import Inputs, Stream

SENTENCES = "sentence_bert_config.json"
LONG = " ".join(WORDS[i % len(WORDS)] for i in range(40))
ENDS: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved network and tokenizer. Do not write into it."""
    place = tmp_path_factory.mktemp("text")
    make_text_network(place, **TINY)
    return place


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return built(TextEncoder(str(folder)))


def built(spec: TextEncoder) -> Encoder:
    return spec.build(Stream("note", "text", ()), spec.open("classification"), "net")


def prepared(encoder: Encoder, *texts: str) -> dict[str, Any]:
    tensors = encoder.prepare([[text] for text in texts]).tensors
    return {k: t.tolist() for k, t in tensors.items()}


def saved(folder: Path, name: str, values: Any) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


# --- cells to tokens -----------------------------------------------------------------------------


def test_tokens_are_the_librarys_own(encoder: Encoder, folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["w5 w6", "w7 unheard w8", LONG, "w9"]
    found = tokenizer(texts, padding=True, truncation=True, max_length=20, return_tensors="pt")
    inputs = encoder.prepare([[text] for text in texts])
    assert torch.equal(inputs.tensors["ids"], found["input_ids"])
    assert torch.equal(inputs.tensors["mask"], found["attention_mask"].bool())
    assert inputs.tensors["ids"].dtype == torch.long


def test_a_text_is_opened_and_closed_and_padded_at_its_end(encoder: Encoder) -> None:
    found = prepared(encoder, "w5 w6 w7", "w8")
    assert found["ids"] == [[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]]
    assert found["mask"] == [[True] * 5, [True] * 3 + [False] * 2]


def test_rows_keep_their_place(encoder: Encoder) -> None:
    cells = [["w5"], [], ["w6 w7 w8", "w9"], [], ["w4"]]
    inputs = encoder.prepare(cells)
    assert inputs.count.tolist() == [1, 0, 2, 0, 1]
    assert inputs.cut == 0
    for row, cell in enumerate(cells):
        alone, together = encoder.prepare([cell]), inputs.select(torch.tensor([row]))
        torch.testing.assert_close(encoder(alone).pooled, encoder(together).pooled)


@pytest.mark.parametrize("rows", [0, 3])
def test_no_text_at_all_passes(encoder: Encoder, rows: int) -> None:
    inputs = encoder.prepare([[] for _ in range(rows)])
    assert inputs.items == 0
    assert encoder(inputs).pooled.shape == (rows, 16)


def test_texts_prepared_apart_are_texts_prepared_together(encoder: Encoder) -> None:
    texts = ["w5", LONG, "w6 w7", "w8 w9 w4"]
    apart = Inputs.join([encoder.prepare([[text]]) for text in texts])
    together = encoder.prepare([[text] for text in texts])
    assert torch.equal(apart.tensors["mask"], together.tensors["mask"])
    torch.testing.assert_close(encoder(apart).pooled, encoder(together).pooled)


def test_long_texts_are_cut_before_their_end_and_counted(folder: Path) -> None:
    encoder = built(TextEncoder(str(folder), max_length=6))
    found = prepared(encoder, LONG, "w5 w6 w7 w8", "w5 w6 w7 w8 w9")
    assert found["ids"] == [[2, 4, 5, 6, 7, 3], [2, 5, 6, 7, 8, 3], [2, 5, 6, 7, 8, 3]]
    inputs = encoder.prepare([[LONG], ["w5 w6 w7 w8"], ["w5 w6 w7 w8 w9"]])
    assert inputs.notes == (("texts are longer than 6 tokens and are cut", 2),)
    assert encoder.prepare([["w5"]]).notes == ()


def test_the_limit_is_the_least_that_the_checkpoint_names(tmp_path: Path) -> None:
    make_text_network(tmp_path, **TINY)

    def limit() -> int:
        return preparation(built(TextEncoder(str(tmp_path)))).limit

    assert limit() == 20  # the tokenizer's
    saved(tmp_path, SENTENCES, {"max_seq_length": 10})
    assert limit() == 10
    saved(tmp_path, SENTENCES, {"max_seq_length": None})
    make_tokenizer(tmp_path, model_max_length=10**30)
    assert limit() == 24  # the network's positions
    assert preparation(built(TextEncoder(str(tmp_path), max_length=5))).limit == 5


def preparation(encoder: Encoder) -> TokenPreparation:
    return encoder.get_submodule("backbone").preparation  # type: ignore[return-value]


@pytest.mark.parametrize(
    "text",
    ["w5 " * 3_500_000, "x" * 10_000_000, "😀" * 2_500_000, " \u200b" * 5_000_000],
    ids=["words", "one-word", "emoji", "blanks"],
)
def test_ten_megabytes_are_cut_at_once(encoder: Encoder, text: str) -> None:
    inputs = encoder.prepare([["w5"], [text]])
    assert inputs.tensors["ids"].shape[1] <= 20
    assert inputs.notes == (("texts are longer than 20 tokens and are cut", 1),)
    assert encoder(inputs).pooled.isfinite().all()


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧",
        "漢字 и العربية Ωμέγα",
        "e\u0301",
        "\x00\x01",
        "\ud83d lone half",
        "\u200b",
        "[SEP] [PAD]",
    ],
)
def test_any_characters_pass(encoder: Encoder, text: str) -> None:
    for one in (encoder, built(TextEncoder("random:bert-tiny"))):
        found = one(one.prepare([[text], ["w5"]]))
        assert found.pooled.isfinite().all()
        assert found.mask.any(1).all()


def test_a_text_without_any_token_is_one_padding() -> None:
    nothing = TokenPreparation(lambda texts: [[] for _ in texts], padding=7, limit=5)
    found = nothing.tensors(["?", "?"], lambda what, items: None)
    assert found["ids"].tolist() == [[7], [7]]
    assert found["mask"].all()


@given(st.lists(st.text(min_size=1, max_size=40), max_size=5), st.integers(1, 30))
def test_tokens_fit_and_the_cut_ones_are_counted(texts: list[str], limit: int) -> None:
    counted: list[int] = []
    prepare = TokenPreparation(_Bytes(1000), limit=limit)
    found = prepare.tensors(texts, lambda what, items: counted.append(items))
    lengths = [len(text.encode("utf-8", "replace")) for text in texts]
    assert found["mask"].sum(1).tolist() == [min(n, limit) for n in lengths]
    assert counted == [sum(n > limit for n in lengths)]
    assert found["ids"].shape == found["mask"].shape


def test_a_prompt_comes_before_every_text(folder: Path) -> None:
    found = prepared(built(TextEncoder(str(folder), prompt="w9 w8 ")), "w5", "w6 w7")
    assert found["ids"] == [[2, 9, 8, 5, 3, 0], [2, 9, 8, 6, 7, 3]]


def test_threads_share_one_tokenizer(tmp_path: Path) -> None:
    make_text_network(tmp_path, **TINY)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    cut = {"max_length": 4, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    saved(tmp_path, "tokenizer.json", tokenizer | {"truncation": cut})  # as all-MiniLM-L6-v2's is
    encoder = built(TextEncoder(str(tmp_path)))
    parts = [[[" ".join(WORDS[i : i + n])] for n in (1, 9, 30)] for i in range(20)]
    expected = [encoder.prepare(part).tensors["ids"] for part in parts]
    assert expected[0].shape[1] == 20
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            found = list(pool.map(lambda part: encoder.prepare(part).tensors["ids"], parts))
            assert all(map(torch.equal, found, expected))


def test_siglips_texts_are_filled_with_padding_that_counts(tmp_path: Path) -> None:
    make_text_network(tmp_path, "SiglipText", **TINY | ENDS)
    encoder = built(TextEncoder(str(tmp_path), max_length=4))
    found = encoder.prepare([["w5"], [LONG]])
    assert found.tensors["ids"].tolist() == [[2, 5, 3] + [0] * 21, [2, 4, 5, 3] + [0] * 20]
    assert found.tensors["mask"].all()
    network = transformers.SiglipTextModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        tokens = network(found.tensors["ids"]).last_hidden_state
    torch.testing.assert_close(encoder(found).pooled, tokens[:, -1], rtol=1e-5, atol=1e-5)


# --- tokens to one vector ------------------------------------------------------------------------


def reference(folder: Path, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    given = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = network(given["input_ids"], attention_mask=given["attention_mask"])[0]
    return tokens, given["attention_mask"].bool()


def pooled_in(way: str, tokens: Tensor, mask: Tensor) -> Tensor:
    real = [t[m] for t, m in zip(tokens, mask, strict=True)]
    ways = {
        "mean": lambda t: t.mean(0),
        "cls": lambda t: t[0],
        "max": lambda t: t.amax(0),
        "last": lambda t: t[-1],
    }
    return torch.stack([ways[way](t) for t in real])


@pytest.mark.parametrize(
    ("way", "written"),
    [
        ("mean", {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}),
        ("cls", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}),
        ("max", {"pooling_mode_max_tokens": True}),
        ("last", {"pooling_mode_lasttoken": True, "include_prompt": True}),
        ("cls", {"pooling_mode": "cls", "embedding_dimension": 16}),
        ("last", {"pooling_mode": "lasttoken"}),
    ],
)
def test_the_pooled_vector_is_what_the_checkpoint_says(
    way: str, written: dict[str, Any], tmp_path: Path
) -> None:
    make_text_network(tmp_path, **TINY)
    saved(tmp_path, "1_Pooling/config.json", written)
    encoder, texts = built(TextEncoder(str(tmp_path))), ["w5 w6 w7", "w8"]
    expected = pooled_in(way, *reference(tmp_path, texts))
    found = encoder(encoder.prepare([[text] for text in texts])).pooled
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "tail", "extra", "way"),
    [
        ("Bert", "Model", {}, "mean"),
        ("Bert", "ForMaskedLM", {}, "mean"),
        ("Bert", "ForSequenceClassification", {}, "cls"),
        ("DebertaV2", "ForSequenceClassification", {}, "cls"),
        ("ModernBert", "Model", ENDS, "mean"),
        ("ModernBert", "ForSequenceClassification", ENDS, "cls"),
        ("ModernBert", "ForSequenceClassification", ENDS | {"classifier_pooling": "mean"}, "mean"),
        ("CLIPText", "Model", ENDS, "last"),
    ],
)
def test_without_its_word_a_classifiers_first_token_or_the_familys_rule(
    kind: str, tail: str, extra: dict[str, Any], way: str, tmp_path: Path
) -> None:
    make_text_network(tmp_path, kind, tail, **TINY | extra)
    assert built(TextEncoder(str(tmp_path))).get_submodule("backbone").family.pooling == way  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "it names mean_sqrt_len_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "mean, cls"),
        ({"pooling_mode_mean_tokens": False}, "it names none"),
    ],
)
def test_a_way_to_one_vector_that_is_not_known_is_refused(
    written: dict[str, Any], named: str, tmp_path: Path
) -> None:
    make_text_network(tmp_path, **TINY)
    saved(tmp_path, "1_Pooling/config.json", written)
    with pytest.raises(EncoderError, match=rf"must name one of mean, cls, max, last.*{named}"):
        TextEncoder(str(tmp_path)).open("classification")


# --- what a spec opens ---------------------------------------------------------------------------


def test_random_networks_read_bytes() -> None:
    encoder = built(TextEncoder("random:bert-tiny", max_length=5))
    inputs = encoder.prepare([["abc"], ["é"], ["a long one"]])
    found = [[97, 98, 99, 0, 0], [195, 169, 0, 0, 0], [97, 32, 108, 111, 110]]
    assert inputs.tensors["ids"].tolist() == found
    assert inputs.notes == (("texts are longer than 5 tokens and are cut", 1),)
    assert built(TextEncoder("random:bert-tiny")).origin() == encoder.origin()


def test_opening_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_text_network(tmp_path, tail="ForMaskedLM", **TINY)
    saved(tmp_path, "1_Pooling/config.json", {"pooling_mode": "mean"})
    capfd.readouterr()
    encoder = built(TextEncoder(str(tmp_path)))
    encoder(encoder.prepare([[LONG], ["w5"]]))
    assert capfd.readouterr() == ("", "")


def test_a_copy_runs_on_its_own_network(folder: Path) -> None:
    encoder = built(TextEncoder(str(folder)))
    cells = [["w5 w6"], ["w7"]]
    before = encoder(encoder.prepare(cells)).pooled
    copied = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert torch.equal(copied(copied.prepare(cells)).pooled, before)


def test_the_spec_is_the_default_of_its_modality_and_travels() -> None:
    assert resolve("encoders", "text") is TextEncoder
    spec = TextEncoder("random:minilm", max_length=64, prompt="passage: ")
    assert TextEncoder.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.modality == "text"


def test_the_starter_is_inside_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    encoder = built(TextEncoder())
    assert (encoder.origin().source, encoder.origin().licence) == ("starter", "Apache-2.0")


# --- mistakes ------------------------------------------------------------------------------------


def test_impossible_options_are_named() -> None:
    with pytest.raises(SpecError, match="source must name a text network"):
        TextEncoder("")
    with pytest.raises(SpecError, match="max_length must be at least 1 token, got 0"):
        TextEncoder(max_length=0)


@pytest.mark.parametrize("length", [2, 25])
def test_a_length_that_the_network_cannot_read_is_refused(folder: Path, length: int) -> None:
    with pytest.raises(EncoderError, match=rf"texts of 3 to 24 tokens.* got max_length={length}"):
        TextEncoder(str(folder), max_length=length).open("classification")


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(EncoderError, match=r"'bert-huge'; there are bert-base, .*minilm"):
        TextEncoder("random:bert-huge").open("classification")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(**TINY)
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"must hold its tokenizer, such as tokenizer\.json"):
        TextEncoder(str(tmp_path)).open("classification")


@pytest.mark.parametrize("broken", ["", "{}", '{"version": "1.0", "model": {"type": "none"}}'])
def test_a_broken_tokenizer_is_refused(broken: str, tmp_path: Path) -> None:
    make_text_network(tmp_path, **TINY)
    (tmp_path / "tokenizer.json").write_text(broken, encoding="utf-8")
    with pytest.raises(EncoderError, match=r"the tokenizer of .*tokenizer\.json.* cannot be read"):
        TextEncoder(str(tmp_path)).open("classification")


def test_a_tokenizer_of_another_network_is_refused(tmp_path: Path) -> None:
    make_text_network(tmp_path, **TINY | {"vocab_size": 50})
    with pytest.raises(EncoderError, match="numbers up to 59, its network knows 50 tokens"):
        TextEncoder(str(tmp_path)).open("classification")


def test_a_tokenizer_that_writes_into_a_text_is_refused() -> None:
    def odd(text: str, *, add_special_tokens: bool, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [2, 7, 3, 8] if add_special_tokens else [7, 8]}

    with pytest.raises(EncoderError, match=r"it makes \[7, 8\] of 'a' .* and \[2, 7, 3, 8\] with"):
        _ends(odd, "a folder")
