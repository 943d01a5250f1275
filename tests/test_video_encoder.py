"""The video encoder: frames through image networks, clips through video networks, and fits on clips."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from click.testing import CliRunner
from contracts import (
    Change,
    cuts_give_the_whole_pass,
    guests_see_and_are_not_seen,
    shake,
    sites_are_live,
)
from films import film, picture
from tiny import make_network, make_transformer, numbers

from multiadapt import (
    BitFit,
    Frozen,
    Houlsby,
    ImageEncoder,
    MultimodalClassifier,
    MultimodalRegressor,
    PlainIA3,
    PlainLoRA,
    TIAdapter,
    Training,
    VideoEncoder,
    load,
)
from multiadapt.attach import attach
from multiadapt.cli import main
from multiadapt.encoders._base import Encoder
from multiadapt.encoders._families._base import families
from multiadapt.errors import CellError, EncoderError, SpecError
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.model import AdaptedModel, count_parts
from multiadapt.spec import Spec, resolve
from multiadapt.tasks.classification import Classification
from multiadapt.types import Clip, Inputs, Sampling, Stream

MAE: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
    "num_frames": 4,
}


def built(spec: VideoEncoder, stream: str = "clip") -> Encoder:
    return spec.build(Stream(stream, "video", ()), spec.open("classification"), "net")


def clip(frames: int, seed: int = 0, side: int = 20) -> Clip:
    rng = np.random.default_rng(seed)
    return Clip(tuple(rng.integers(0, 256, (side, side + 4, 3), np.uint8) for _ in range(frames)))


def mae(folder: Path, **options: Any) -> Any:
    network = transformers.VideoMAEModel(transformers.VideoMAEConfig(**(MAE | options))).eval()
    shake(network)
    network.save_pretrained(folder)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VideoMAE of four frames."""
    folder = tmp_path_factory.mktemp("videomae")
    mae(folder)
    return folder


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_network(tmp_path_factory.mktemp("cnn"))
    network = transformers.ResNetModel.from_pretrained(folder)
    shake(network)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_transformer(tmp_path_factory.mktemp("vit"))
    network = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False)
    shake(network)
    network.save_pretrained(folder)
    return folder


# --- frames through an image network -------------------------------------------------------------


def test_a_clip_is_the_mean_of_what_the_image_encoder_says_of_its_frames(cnn: Path) -> None:
    clips = [clip(3, seed) for seed in range(3)]
    encoder = built(VideoEncoder(str(cnn), frames=3))
    image = ImageEncoder(str(cnn))
    pictures = image.build(Stream("p", "image", ()), image.open("classification"), "net")
    cells = [[clips[0]], [], clips[1:]]
    found = encoder(encoder.prepare(cells))
    expected = pictures(pictures.prepare([[f for c in cell for f in c.frames] for cell in cells]))
    assert torch.equal(found.pooled, expected.pooled)
    assert torch.equal(found.x, expected.x)
    assert found.mask.any(1).tolist() == [True, False, True]


def test_sites_are_the_image_encoders_under_the_streams_name(vit: Path) -> None:
    encoder = built(VideoEncoder(str(vit)))
    image = ImageEncoder(str(vit))
    own = image.build(Stream("clip", "image", ()), image.open("classification"), "net").sites()
    assert encoder.sites() == tuple(replace(s, modality="video") for s in own)


@pytest.mark.parametrize("pool", ["mean", "attention"])
@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_what_an_encoder_promises(kind: str, pool: Any, cnn: Path, vit: Path) -> None:
    encoder = built(VideoEncoder(str({"cnn": cnn, "vit": vit}[kind]), frames=2, pool=pool))
    with torch.no_grad():
        for name in encoder.tail:
            encoder.get_parameter(name).normal_(generator=torch.Generator().manual_seed(0))
    cells = partial(_batch, encoder, 2)
    cuts_give_the_whole_pass(encoder, cells)
    sites_are_live(encoder, cells)
    if kind == "vit":
        guests_see_and_are_not_seen(encoder, cells)


def _batch(encoder: Encoder, frames: int, *count: int) -> Inputs:
    drawn = iter(range(sum(count)))
    return encoder.prepare([[clip(frames, next(drawn)) for _ in range(n)] for n in count])


def test_the_sampling_travels_with_the_stream() -> None:
    spec = VideoEncoder("random:resnet-18", sampling="random", stride=3, seed=5)
    with torch.device("meta"):
        stream = built(spec).stream
    assert stream.sampling == Sampling(8, "random", 3, 5)
    assert resolve("encoders", "video") is VideoEncoder
    assert Spec.from_dict.__func__(VideoEncoder, spec.to_dict()) == spec  # type: ignore[attr-defined]


# --- attention over frames -----------------------------------------------------------------------


def attentive(cnn: Path, frames: int = 4) -> Encoder:
    return built(VideoEncoder(str(cnn), frames=frames, pool="attention"))


def test_attention_starts_as_the_mean_and_tells_a_clip_from_its_reverse(cnn: Path) -> None:
    encoder, plain = attentive(cnn), built(VideoEncoder(str(cnn), frames=4))
    there = clip(4)
    back = Clip(there.frames[::-1])
    inputs = encoder.prepare([[there], [back]])
    torch.testing.assert_close(encoder(inputs).pooled, plain(inputs).pooled, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        encoder.get_parameter("pool.place")[0, 0] = 3.0
    first, second = encoder(inputs).pooled
    assert (first - second).abs().max() > 1e-3 * first.std()


def test_attention_is_the_rows_own_at_every_cut(cnn: Path) -> None:
    encoder = attentive(cnn)
    with torch.no_grad():
        for name in encoder.tail:
            encoder.get_parameter(name).normal_(generator=torch.Generator().manual_seed(3))
    clips = [clip(4, seed) for seed in range(4)]
    inputs = encoder.prepare([[clips[0]], [], clips[1:3], [clips[3]]])
    whole = encoder(inputs).pooled
    alone = [encoder(encoder.prepare([[c]])).pooled[0] for c in clips]
    expected = torch.stack(
        [alone[0], torch.zeros(encoder.width), (alone[1] + alone[2]) / 2, alone[3]]
    )
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    for cut in range(encoder.blocks + 2):
        late = encoder(encoder.prefix(inputs, cut)).pooled
        torch.testing.assert_close(late, whole, rtol=1e-4, atol=1e-5)


def test_every_method_trains_attention_and_counts_it(cnn: Path) -> None:
    target = Classification().learn(pd.Series(["a", "b"]))
    for method in (Frozen(), PlainLoRA(), BitFit()):
        encoder = attentive(cnn)
        model = AdaptedModel({"clip": encoder}, method, target)
        pool = encoder.get_submodule("pool")
        assert encoder.tail == ("pool.query", "pool.place")
        assert all(p.requires_grad for p in pool.parameters())
        assert {f"native:clip:{n}" for n in encoder.tail} <= model.trained_state().keys()
        inputs = encoder.prepare([[clip(4)]])
        with torch.no_grad():
            for p in pool.parameters():
                p.normal_()
        model({"clip": inputs}).scores[0, 0].backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pool.parameters())
        counted = count_parts(method, encoder.sites(), {"clip": encoder.width}, 1, [encoder])
        assert {(p.part, p.trainable) for p in counted} == {
            (p.part, p.trainable) for p in model.parts()
        }
    assert AdaptedModel({"clip": attentive(cnn)}, Frozen(), target).cuts() == {
        "clip": encoder.blocks + 1
    }


# --- VideoMAE ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"use_mean_pooling": False}, {"qkv_bias": False}])
@torch.no_grad()
def test_the_whole_pass_is_the_librarys_own(options: dict[str, Any], tmp_path: Path) -> None:
    network = mae(tmp_path, **options)
    encoder = built(VideoEncoder(str(tmp_path)))
    inputs = encoder.prepare([[clip(4, 1)], [clip(4, 2)]])
    assert inputs.tensors["pixels"].shape == (2, 4, 3, 16, 16)
    found = encoder(inputs)
    expected = network(numbers(encoder, inputs)).last_hidden_state
    torch.testing.assert_close(found.x, expected, rtol=0, atol=0)
    torch.testing.assert_close(found.pooled, expected.mean(1), rtol=0, atol=0)


def test_a_video_network_keeps_its_promises(folder: Path) -> None:
    encoder = built(VideoEncoder(str(folder)))
    assert encoder.stream.sampling == Sampling(4)
    batch = partial(_batch, encoder, 4)
    cuts_give_the_whole_pass(encoder, batch)
    sites_are_live(encoder, batch)
    assert encoder.hosts(0) == "tokens"  # its attention takes no mask
    found = encoder(batch(1, 0, 2))
    alone = encoder(batch(1, 1, 1)).pooled
    expected = torch.stack([alone[0], torch.zeros(encoder.width), alone[1:].mean(0)])
    torch.testing.assert_close(found.pooled, expected, rtol=1e-5, atol=1e-5)
    assert not encoder(batch(0, 0)).mask.any()
    assert not encoder(encoder.prefix(batch(0, 0), 2)).mask.any()


def test_its_sites_tell_the_widths_that_pass(folder: Path) -> None:
    encoder = built(VideoEncoder(str(folder)))
    seen: dict[str, tuple[Any, Any]] = {}
    for path in {s.path for s in encoder.sites()}:
        encoder.get_submodule(path).register_forward_hook(
            lambda _, args, y, path=path: seen.update({path: (args[0], y)})
        )
    encoder(_batch(encoder, 4, 1))
    for site in encoder.sites():
        x, y = seen[site.path]
        assert site.out_width == y.shape[-1], site.key
        assert site.role == "entry" or site.in_width == x.shape[-1], site.key
    roles = {s.role for s in encoder.sites()}
    assert roles == {
        "entry",
        "block",
        "pooled",
        "query",
        "key",
        "value",
        "out",
        "ffn_in",
        "ffn_out",
    }
    assert [s.stage for s in encoder.sites() if s.role == "block"] == [0, 0, 1, 2, 3]


def test_an_adapter_is_live_from_its_own_cut_and_gets_gradient(folder: Path) -> None:
    encoder = built(VideoEncoder(str(folder)))
    inputs = _batch(encoder, 4, 1, 1)
    for site in (s for s in encoder.sites() if s.role in ("block", "pooled")):
        adapter = Change(site)
        attachment = attach(encoder, {site: adapter})
        late = encoder(encoder.prefix(inputs, encoder.cut_for([site], []))).pooled
        torch.testing.assert_close(late, encoder(inputs).pooled, rtol=1e-5, atol=1e-5)
        late.square().sum().backward()
        attachment.remove()
        assert adapter.factor.grad is not None, site.key
        assert adapter.factor.grad.abs().sum() > 0, site.key


def test_a_classifiers_checkpoint_gives_its_trunk(tmp_path: Path) -> None:
    whole = transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(**MAE)).eval()
    shake(whole)
    whole.save_pretrained(tmp_path)
    encoder = built(VideoEncoder(str(tmp_path)))
    inputs = _batch(encoder, 4, 1)
    with torch.no_grad():
        expected = whole.videomae(numbers(encoder, inputs)).last_hidden_state
    torch.testing.assert_close(encoder(inputs).x, expected, rtol=1e-5, atol=1e-5)


def test_a_checkpoints_own_preparation_is_used(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    processor = transformers.VideoMAEImageProcessor(
        size={"shortest_edge": 18},
        crop_size={"height": 16, "width": 16},
        image_mean=[0.4] * 3,
        image_std=[0.3] * 3,
    )
    processor.save_pretrained(tmp_path)
    encoder = built(VideoEncoder(str(tmp_path)))
    there = clip(4)
    expected = processor([list(there.frames)], return_tensors="pt").pixel_values
    found = numbers(encoder, encoder.prepare([[there]]))
    # The library rounds to whole levels after resizing, by another library's filter.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.04)


def test_each_known_architecture_opens_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    home = "transformers.models.videomae.modeling_videomae.get_sinusoid_encoding_table"
    monkeypatch.setattr(home, lambda n, width: torch.zeros(1, n, width))  # the library's is slow
    names = [name for family in families("video") for name in family.known]
    with torch.device("meta"):
        for name in names:
            encoder = built(VideoEncoder(f"random:{name}"))
            assert encoder.stream.sampling == Sampling(16)
            assert len([s for s in encoder.sites() if s.role == "block"]) == encoder.blocks == 12
    assert names == ["videomae-small", "videomae-base"]


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": ""}, "source must name an image or video network, got an empty text"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
        ({"sampling": "all"}, "VideoEncoder.sampling must be one of 'uniform', 'random', 'stride'"),
        ({"pool": "max"}, "VideoEncoder.pool must be one of 'mean', 'attention', got 'max'"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        VideoEncoder(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 8}, "reads clips of 4 frames, got frames=8"),
        ({"size": 32}, "reads frames of 16 pixels, got size=32"),
        (
            {"pool": "attention"},
            'pool="attention" joins the frames of an image network; .* a whole',
        ),
    ],
)
def test_a_video_network_takes_no_other_clips(
    options: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(EncoderError, match=message):
        VideoEncoder(str(folder), **options).open("classification")
    VideoEncoder(str(folder), frames=4, size=16).open("classification")


def test_too_small_a_size_is_refused(vit: Path) -> None:
    with pytest.raises(EncoderError, match="reads pictures of at least 8 pixels, got size=7"):
        VideoEncoder(str(vit), size=7).open("classification")


def test_what_reads_neither_is_refused() -> None:
    with pytest.raises(
        EncoderError, match=r"no architecture is named 'bert-base'; there are .*vit"
    ):
        VideoEncoder("random:bert-base").open("classification")


# --- fits ----------------------------------------------------------------------------------------


def turning(first: Sequence[int], second: Sequence[int], seed: int) -> list[np.ndarray]:
    """Frames of one colour that become those of another."""
    rng = np.random.default_rng(seed)
    found = []
    for share in np.linspace(0, 1, 8):
        colour = np.array(first) * (1 - share) + np.array(second) * share
        noise = rng.integers(-20, 21, (16, 16, 3))
        found.append((colour + noise).clip(0, 255).astype(np.uint8))
    return found


def make_clips(root: Path, rows: int) -> pd.DataFrame:
    """Films, and whether they turn from red to blue or from blue to red; every mean is the same."""
    red, blue = (200, 30, 30), (30, 30, 200)
    names, words = [], []
    for i in range(rows):
        ends = (red, blue) if i % 2 else (blue, red)
        (root / f"{i}.mp4").write_bytes(film(turning(*ends, seed=i)))
        names.append(f"{i}.mp4")
        words.append("down" if i % 2 else "up")
    speed = np.arange(rows) % 2 + np.random.default_rng(0).normal(0, 0.01, rows)
    return pd.DataFrame({"film": names, "way": words, "speed": speed})


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the films of `table.csv`. Do not write into it."""
    root = tmp_path_factory.mktemp("films")
    make_clips(root, 24).to_csv(root / "table.csv", index=False)
    return root


@pytest.fixture
def table(films: Path) -> pd.DataFrame:
    return pd.read_csv(films / "table.csv")


def classifier(method: Any = "frozen", source: Any = "starter", **options: Any) -> Any:
    training = options.pop("training", Training(epochs=1, batch_size=8))
    return MultimodalClassifier(
        method, encoders={"video": source}, training=training, verbose=False, **options
    )


def test_the_starter_learns_which_way_colours_turn(films: Path, table: pd.DataFrame) -> None:
    training = Training(epochs=150, batch_size=16, learning_rate=0.05, patience=None)
    columns = table.drop(columns="speed")
    encoder = VideoEncoder(pool="attention")
    model = classifier(source=encoder, training=training, validation=0.0, seed=0)
    model.fit(columns[:16], label="way", root=films)
    assert (model.predict(columns[16:]) == columns["way"][16:]).all()


def test_without_a_name_the_starter_is_used(
    films: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = MultimodalRegressor(
        "frozen", training=Training(epochs=1, batch_size=8), verbose=False, seed=0
    )
    model.fit(table.drop(columns="way"), label="speed", root=films)
    assert np.isfinite(model.predict(table.drop(columns="way"))).all()


@pytest.mark.parametrize("method", [PlainLoRA(), PlainIA3(), BitFit(), Houlsby(), TIAdapter()])
@pytest.mark.parametrize("network", ["vit", "mae"])
def test_adapters_reach_the_networks_inside(
    method: Any, network: str, vit: Path, folder: Path, films: Path, table: pd.DataFrame
) -> None:
    source = {"vit": vit, "mae": folder}[network]
    model = classifier(method, VideoEncoder(str(source)), seed=0)
    model.fit(table[["film", "way"]], label="way", root=films)
    trained = model.parameters().set_index("part")["trainable"]
    inside = trained.get("adapters film", 0) + trained["encoder film"]
    assert inside > 0
    assert model.predict_proba(table).shape == (24, 2)


@pytest.mark.parametrize("variant", ["embedding", "bc1", "bc2"])
@pytest.mark.parametrize("source", ["cnn", "vit"])
def test_ti_adapter_trains_in_clips_what_it_trains_in_pictures(
    variant: Any, source: str, cnn: Path, vit: Path, films: Path, table: pd.DataFrame
) -> None:
    place = str({"cnn": cnn, "vit": vit}[source])
    method, image = TIAdapter(ImageBranch(variant)), ImageEncoder(place)
    pictures = image.build(Stream("film", "image", ()), image.open("classification"), "net")
    wanted = sum(
        p.numel() for a in set(method.adapters(pictures.sites()).values()) for p in a.parameters()
    )
    model = classifier(method, VideoEncoder(place, frames=2, pool="attention"), seed=0)
    model.fit(table[["film", "way"]], label="way", root=films)
    trained = model.parameters().set_index("part")["trainable"]
    assert trained["adapters film"] == wanted > 0
    sites = {site.role for site in model.fitted_.model.placed}
    assert sites == {"pooled" if variant == "embedding" else "block"}


@pytest.mark.parametrize("missing", ["zero", "token"])
def test_missing_and_unreadable_clips_pass_and_a_saved_model_says_the_same(
    missing: Any, cnn: Path, films: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "films").mkdir()
    for name in table["film"][:14]:
        shutil.copy(films / name, tmp_path / "films" / name)
    (tmp_path / "films" / "cut.mp4").write_bytes(film(8)[:200])
    cells = [*table["film"][:10], None, np.nan, "", "cut.mp4"]
    holed = table[:14].assign(film=cells)
    frozen = Frozen(missing=missing)
    encoder = VideoEncoder(str(cnn), frames=3, pool="attention")
    model = MultimodalClassifier(
        frozen,
        encoders={"video": encoder, "tabular": "mlp"},
        training=Training(epochs=2, batch_size=8),
        verbose=False,
        column_types={"film": "video"},
        seed=0,
    )
    home = tmp_path / "films"
    with pytest.raises(CellError, match=r"row 13, column 'film', file 'cut\.mp4': it is truncated"):
        model.fit(holed, label="way", root=home)
    model.set_params(on_error="missing")
    model.fit(holed, label="way", root=home)
    expected = model.predict_proba(holed)
    assert np.isfinite(expected).all(axis=None)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").predict_proba(holed, root=home)
    pd.testing.assert_frame_equal(again, expected, rtol=1e-5)
    alone = model.predict_proba(holed.iloc[[12]])
    np.testing.assert_allclose(alone.to_numpy(), expected.iloc[[12]].to_numpy(), rtol=1e-4)


def test_the_shell_fits_and_predicts(films: Path, cnn: Path, tmp_path: Path) -> None:
    run = partial(CliRunner().invoke, main, catch_exceptions=False)
    table, out = str(films / "table.csv"), str(tmp_path / "model")
    fit = ["fit", table, "--label", "way", "--method", "frozen", "--encoder", f"video={cnn}"]
    fitted = run([*fit, "--encoder", "tabular=mlp", "--set", "training.epochs=1", "--out", out])
    assert fitted.exit_code == 0, fitted.output
    found = run(["predict", out, table, "--out", str(tmp_path / "found.csv")])
    assert found.exit_code == 0, found.output
    assert len(pd.read_csv(tmp_path / "found.csv")) == 24


def test_lists_of_frames_fit_without_the_films_library(cnn: Path) -> None:
    rows = [[picture(40 * (i % 2) + k) for k in range(3)] for i in range(8)]
    table = pd.DataFrame({"frames": rows, "way": ["up", "down"] * 4})
    kinds = {"frames": "video"}
    model = classifier(source=VideoEncoder(str(cnn), frames=2), column_types=kinds, seed=0)
    model.fit(table, label="way")
    assert len(model.predict(table)) == 8
