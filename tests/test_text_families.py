"""What every family of text networks promises, on tiny networks of the real architectures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from contracts import (
    Change,
    cuts_give_the_whole_pass,
    guests_see_and_are_not_seen,
    models_pass_together,
    recomputed_gradients_are_the_same,
    shake,
    sites_are_live,
)
from tiny_text import TINY, VOCABULARY, make_text_network, make_tokenizer
from torch import Tensor

from multiadapt.attach import attach
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._base import families
from multiadapt.encoders.text import TextEncoder
from multiadapt.errors import EncoderError
from multiadapt.types import Inputs, Stream

LENGTHS = (9, 4, 7, 2, 9)  # tokens of each text; a batch of more starts again
DEBERTA: dict[str, Any] = TINY | {
    "relative_attention": True,
    "position_buckets": 4,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
DISTIL: dict[str, Any] = {
    "dim": 16,
    "n_layers": 5,
    "n_heads": 2,
    "hidden_dim": 24,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 24,
}
ENDS: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 3}
ROBERTA: dict[str, Any] = TINY | {"max_position_embeddings": 26, "pad_token_id": 1}
MODERN: dict[str, Any] = TINY | ENDS | {"cls_token_id": 2, "sep_token_id": 3, "local_attention": 4}


@dataclass(frozen=True)
class Case:
    """A tiny network: its class and config, and what is particular about its family."""

    kind: str
    config: Mapping[str, Any]
    hosts: bool = True
    pooling: str = "mean"
    options: Mapping[str, Any] = field(default_factory=dict)


NO_POOLER: dict[str, Any] = {"add_pooling_layer": False}
CASES = {
    "bert": Case("Bert", TINY, options=NO_POOLER),
    "roberta": Case("Roberta", ROBERTA, options=NO_POOLER),
    "xlm-roberta": Case("XLMRoberta", ROBERTA, options=NO_POOLER),
    "camembert": Case("Camembert", ROBERTA, options=NO_POOLER),
    "distilbert": Case("DistilBert", DISTIL),
    "electra": Case("Electra", TINY | {"embedding_size": 16}),
    "electra-projected": Case("Electra", TINY | {"embedding_size": 8}),
    "mpnet": Case("MPNet", ROBERTA, hosts=False, options=NO_POOLER),
    "deberta-v3": Case("DebertaV2", DEBERTA, hosts=False),
    "deberta-v2": Case("DebertaV2", DEBERTA | {"conv_kernel_size": 3}, hosts=False),
    "deberta-plain": Case("DebertaV2", TINY, hosts=False),
    "modernbert": Case("ModernBert", MODERN, hosts=False),
    "clip": Case("CLIPText", TINY | ENDS, pooling="last"),
    "siglip": Case("SiglipText", TINY | ENDS, pooling="last"),
}


@pytest.fixture(scope="module", params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library's own, opened from the folder that `encoder` is opened from."""
    case, folder = CASES[name], tmp_path_factory.mktemp(name)
    make_text_network(folder, case.kind, **case.config)
    kind = getattr(transformers, f"{case.kind}Model")
    network = kind.from_pretrained(folder, **case.options).eval()
    network.folder = folder
    return network


@pytest.fixture(scope="module")
def encoder(network: Any) -> Encoder:
    return built(TextEncoder(str(network.folder)))


def built(spec: TextEncoder, stream: str = "note") -> Encoder:
    return spec.build(Stream(stream, "text", ()), spec.open("classification"), "net")


def batch(*count: int, lengths: tuple[int, ...] = LENGTHS) -> Inputs:
    """Texts of different lengths, each closed by token 3, padded with zeros as parts are joined."""
    items = sum(count)
    each = torch.tensor([lengths[i % len(lengths)] for i in range(items)], dtype=torch.long)
    longest = int(each.max()) if items else 1
    shape = (items, longest)
    ids = torch.randint(4, VOCABULARY, shape, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(longest) < each[:, None]
    ids[torch.arange(items), each - 1] = 3
    return Inputs({"ids": ids * mask, "mask": mask}, torch.tensor(count))


def expected(name: str, network: Any, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """What the library says of the same tokens, and their pooled vector by the family's rule."""
    ids, mask = inputs.tensors["ids"], inputs.tensors["mask"]
    padding = network.config.pad_token_id
    with torch.no_grad():
        out = network(input_ids=ids.masked_fill(~mask, padding), attention_mask=mask.long())
    tokens = out.last_hidden_state
    if name == "clip":
        return tokens, out.pooler_output
    if CASES[name].pooling == "last":
        return tokens, torch.stack([t[m][-1] for t, m in zip(tokens, mask, strict=True)])
    return tokens, torch.stack([t[m].mean(0) for t, m in zip(tokens, mask, strict=True)])


@pytest.mark.parametrize("lengths", [LENGTHS, (9,), (1,), (20, 1, 13)])
def test_whole_pass_is_the_librarys_own(
    name: str, network: Any, encoder: Encoder, lengths: tuple[int, ...]
) -> None:
    inputs = batch(1, 1, 1, 1, lengths=lengths)
    mask = inputs.tensors["mask"]
    tokens, pooled = expected(name, network, inputs)
    found = encoder(inputs)
    torch.testing.assert_close(found.x[mask], tokens[mask], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.mask, mask)


def test_a_rows_result_does_not_depend_on_the_others_lengths(encoder: Encoder) -> None:
    inputs = batch(1, 1, 1, 1)
    together = encoder(inputs)
    for row in range(4):
        alone = encoder(inputs.select(torch.tensor([row])))
        length = int(inputs.tensors["mask"][row].sum())
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            alone.x[0, :length], together.x[row, :length], rtol=1e-5, atol=1e-5
        )


def test_every_cut_gives_the_whole_pass(encoder: Encoder) -> None:
    cuts_give_the_whole_pass(encoder, batch)
    cuts_give_the_whole_pass(encoder, partial(batch, lengths=(6,)))


def test_parts_of_a_batch_join_at_every_cut(encoder: Encoder) -> None:
    parts = [batch(1, 0, lengths=(5,)), batch(0, 0), batch(1, 2, 1, lengths=(9, 3, 7))]
    alone = torch.cat([encoder(part).pooled for part in parts])
    for cut in range(encoder.blocks + 2):
        joined = Inputs.join([encoder.prefix(part, cut) for part in parts])
        torch.testing.assert_close(encoder(joined).pooled, alone, rtol=1e-5, atol=1e-5)


def test_guests_see_and_are_not_seen(name: str, encoder: Encoder) -> None:
    if CASES[name].hosts:
        assert encoder.hosts(0) == "blocks"
        guests_see_and_are_not_seen(encoder, batch)
        guests_see_and_are_not_seen(encoder, partial(batch, lengths=(6,)))
        sees_its_text_and_no_padding(encoder)
        is_seen_where_all_is_visible(encoder)
    else:  # whoever wants to look looks at the last tokens
        assert encoder.hosts(0) == "tokens"
        assert encoder(batch(1), torch.zeros(2, encoder.width)).guests.shape[1] == 0


def sees_its_text_and_no_padding(encoder: Encoder) -> None:
    guest = torch.randn(1, encoder.width, generator=torch.Generator().manual_seed(4))
    encoder.entrance = encoder.blocks - 1  # so late that no token passes on what another said
    state = encoder.prefix(batch(1, 1), encoder.entrance)
    before = encoder(state, guest).guests
    for row, at, real in ((0, 0, True), (0, 8, True), (1, 3, True), (1, 6, False)):
        moved = state.tensors["state"].clone()
        moved[row, at] += torch.linspace(-2, 2, encoder.width)
        changed = Inputs({**state.tensors, "state": moved}, state.count, state.cut)
        far = (encoder(changed, guest).guests - before).abs().amax((1, 2))
        assert (far[row] > 1e-3) == real, (row, at)
        assert far[1 - row] < 1e-5
    encoder.entrance = None


def is_seen_where_all_is_visible(encoder: Encoder) -> None:
    guest = torch.randn(1, encoder.width, generator=torch.Generator().manual_seed(4))
    inputs = batch(1, 1)
    encoder.entrance, encoder.visibility = 0, "full"
    found = encoder(inputs, guest)
    encoder.entrance, encoder.visibility = None, "read-only"
    plain = encoder(inputs)
    moved = (found.x - plain.x).abs().amax(2)
    assert (moved[plain.mask] > 1e-3).all()


def test_every_site_is_live(encoder: Encoder) -> None:
    sites_are_live(encoder, batch)


def test_an_adapter_is_live_from_its_own_cut_and_gets_gradient(encoder: Encoder) -> None:
    inputs = batch(1, 1)
    for site in (s for s in encoder.sites() if s.role in ("block", "value", "ffn", "pooled")):
        adapter = Change(site)
        attachment = attach(encoder, {site: adapter})
        state = encoder.prefix(inputs, encoder.cut_for([site], []))
        kept = {k: t.clone() for k, t in state.tensors.items()}
        late, whole = encoder(state).pooled, encoder(inputs).pooled
        torch.testing.assert_close(late, whole, rtol=1e-5, atol=1e-5)
        (late * torch.arange(1.0, encoder.width + 1)).sum().backward()  # a norm hides plain sums
        attachment.remove()
        assert adapter.factor.grad is not None, site.key
        assert adapter.factor.grad.abs().sum() > 0, site.key
        assert all(torch.equal(t, kept[k]) for k, t in state.tensors.items()), site.key


def test_frozen_stays_frozen(encoder: Encoder) -> None:
    kept = {k: t.clone() for k, t in encoder.state_dict().items()}
    encoder.train()
    first, second = encoder(batch(1, 1)).pooled, encoder(batch(1, 1)).pooled
    assert torch.equal(first, second)  # no dropout either
    assert not first.requires_grad
    assert all(torch.equal(t, kept[k]) for k, t in encoder.state_dict().items())
    assert not any(m.training for m in encoder.get_submodule("backbone").modules())


def test_rows_are_the_mean_of_their_texts(encoder: Encoder) -> None:
    encoder.eval()
    inputs = batch(1, 0, 3, 1)
    found, texts = encoder(inputs), encoder(batch(1, 1, 1, 1, 1))
    nothing = torch.zeros(encoder.width)
    means = torch.stack([texts.pooled[0], nothing, texts.pooled[1:4].mean(0), texts.pooled[4]])
    torch.testing.assert_close(found.pooled, means, rtol=1e-5, atol=1e-5)
    assert found.mask.sum(1).tolist() == [9, 0, 4 + 7 + 2, 9]
    real = texts.mask[1:4]
    torch.testing.assert_close(found.x[2][found.mask[2]], texts.x[1:4][real], rtol=1e-5, atol=1e-5)


def test_a_missing_cell_stays_zero_under_an_adapter(encoder: Encoder) -> None:
    (site,) = (s for s in encoder.sites() if s.role == "pooled")
    attachment = attach(encoder, {site: Change(site)})
    found = encoder(encoder.prefix(batch(1, 0), encoder.blocks + 1))
    attachment.remove()
    assert found.pooled[0].any()
    assert not found.pooled[1].any()
    assert found.mask.tolist() == [[True], [False]]


def test_a_batch_without_any_text_passes(encoder: Encoder) -> None:
    inputs = encoder.prepare([[], []])
    for cut in range(encoder.blocks + 2):
        found = encoder(encoder.prefix(inputs, cut))
        assert found.pooled.shape == (2, encoder.width)
        assert not found.pooled.any()
        assert not found.mask.any()


def test_the_longest_text_passes_and_a_longer_one_is_refused(network: Any) -> None:
    encoder = built(TextEncoder(str(network.folder), max_length=24))
    text = " ".join(["w7"] * 30)
    inputs = encoder.prepare([[text]])
    assert inputs.tensors["mask"].shape == (1, 24)
    assert encoder(inputs).pooled.isfinite().all()
    with pytest.raises(EncoderError, match=r"texts of 3 to 24 tokens, 2 of .* max_length=25"):
        built(TextEncoder(str(network.folder), max_length=25))


def test_sites_tell_the_widths_that_pass(encoder: Encoder) -> None:
    sites = encoder.sites()
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def look(path: str, module: Any, args: Any, options: Any, output: Any) -> None:
        x = args[0] if args else next(iter(options.values()))
        y = output[0] if isinstance(output, tuple) else output
        if path not in seen:  # DeBERTa projects distances too, later
            seen[path] = (x, y)

    paths = {p for s in sites for p in (s.path, *s.reads)}
    hooks = [
        encoder.get_submodule(p).register_forward_hook(partial(look, p), with_kwargs=True)
        for p in paths
    ]
    encoder(batch(1, 1))
    for hook in hooks:
        hook.remove()
    for site in sites:
        x, y = seen[site.reads[0] if site.reads else site.path][0], seen[site.path][1]
        start, end = site.part or (0, y.shape[-1])
        assert site.out_width == end - start, site.key
        assert site.in_width == (x.shape[-1] if x.is_floating_point() else 1), site.key
        assert y.ndim == (2 if site.layout == "vector" else 3), site.key
    assert len({s.key for s in sites}) == len(sites)
    assert {(s.stream, s.network, s.modality) for s in sites} == {("note", "net", "text")}


def test_the_feed_forward_site_reads_what_the_first_layer_reads(encoder: Encoder) -> None:
    site = next(s for s in encoder.sites() if s.role == "ffn")
    first = next(s for s in encoder.sites() if s.role == "ffn_in")
    assert (site.in_width, site.out_width) == (16, 16)
    assert site.reads in ((), (first.path,))


def test_all_have_all_roles(encoder: Encoder) -> None:
    inner = {"query", "key", "value", "out", "ffn_in", "ffn_mid", "ffn_out", "ffn", "block"}
    for block in range(encoder.blocks):
        roles = {s.role for s in encoder.sites() if s.block == block}
        assert roles - {"residual"} == inner | ({"entry"} if block == 0 else set())


def test_stages_are_four_equal_ones(encoder: Encoder) -> None:
    blocks = [s for s in encoder.sites() if s.role == "block"]
    assert [s.block for s in blocks] == [0, 1, 2, 3, 4]
    assert [s.stage for s in blocks] == [0, 0, 1, 2, 3]
    assert {s.stages for s in encoder.sites()} == {4}


def test_a_fused_projection_is_three_sites(tmp_path: Path) -> None:
    make_text_network(tmp_path, "ModernBert", **MODERN)
    parts = [s for s in built(TextEncoder(str(tmp_path))).sites() if s.part and s.block == 2]
    assert [(s.role, s.part) for s in parts] == [
        ("query", (0, 16)),
        ("key", (16, 32)),
        ("value", (32, 48)),
    ]
    assert len({s.path for s in parts}) == 1


@pytest.mark.parametrize("tower", ["CLIP", "Siglip"])
def test_of_two_towers_only_the_text_part_is_opened(tower: str, tmp_path: Path) -> None:
    picture = {k: v for k, v in TINY.items() if "token" not in k} | {
        "image_size": 32,
        "patch_size": 16,
    }
    config = getattr(transformers, f"{tower}Config")(vision_config=picture, text_config=TINY | ENDS)
    both = getattr(transformers, f"{tower}Model")(config).eval()
    shake(both)
    both.save_pretrained(tmp_path)
    make_tokenizer(tmp_path)
    encoder = built(TextEncoder(str(tmp_path)))
    inputs = batch(1, 1, lengths=(8,))
    with torch.no_grad():
        tokens = both.text_model(inputs.tensors["ids"]).last_hidden_state
    torch.testing.assert_close(encoder(inputs).x, tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder(inputs).pooled, tokens[:, -1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "trunk"),
    [
        ("bert", "bert"),
        ("roberta", "roberta"),
        ("distilbert", "distilbert"),
        ("modernbert", "model"),
    ],
)
def test_a_word_guessers_checkpoint_gives_its_trunk(name: str, trunk: str, tmp_path: Path) -> None:
    case = CASES[name]
    whole = make_text_network(tmp_path, case.kind, "ForMaskedLM", **case.config)
    encoder = built(TextEncoder(str(tmp_path)))
    inputs = batch(1, 1)
    _, pooled = expected(name, getattr(whole, trunk), inputs)
    torch.testing.assert_close(encoder(inputs).pooled, pooled, rtol=1e-5, atol=1e-5)
    assert not any("pooler" in k for k in encoder.state_dict())


def test_each_known_architecture_opens_without_memory() -> None:
    names = [name for family in families("text") for name in family.known]
    with torch.device("meta"):
        for name in names:
            encoder = built(TextEncoder(f"random:{name}"))
            assert encoder.width > 0
            assert len([s for s in encoder.sites() if s.role == "block"]) == encoder.blocks
    assert len(names) == len(set(names)) > 10


@pytest.mark.parametrize(
    ("name", "million"),  # their papers
    [("distilbert-base", 66), ("modernbert-base", 149)],
)
def test_known_architectures_have_their_published_size(name: str, million: int) -> None:
    assert round(parameters(name) / 1e6) == million


def test_bert_has_its_exact_size_without_the_pooler() -> None:
    assert parameters("bert-base") == 109_482_240 - (768 * 768 + 768)  # count of BERT's authors
    assert parameters("minilm") == 22_713_216 - (384 * 384 + 384)  # file of all-MiniLM-L6-v2


def parameters(name: str) -> int:
    with torch.device("meta"):
        network = TextEncoder(f"random:{name}").open("classification")
    return sum(p.numel() for p in network.parameters())


def test_an_unknown_type_lists_the_known_ones(tmp_path: Path) -> None:
    transformers.FNetConfig().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"type 'fnet', which cannot.*bert, .*deberta-v2.*mpnet"):
        TextEncoder(str(tmp_path)).open("classification")


def test_items_of_several_models_pass_together(name: str, encoder: Encoder) -> None:
    """DeBERTa's projections read its table of distances too, which is nobody's item."""
    assert models_pass_together(encoder, batch) or name.startswith("deberta")


def test_recomputed_gradients_are_the_same(encoder: Encoder) -> None:
    recomputed_gradients_are_the_same(encoder, batch)
