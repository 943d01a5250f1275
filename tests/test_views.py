"""Pictures that training sees in several ways: cut and turned, the same ones in every run."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from multiadapt import ImageEncoder, MultimodalClassifier, TIAdapter, Training
from multiadapt.data.reading import Reading
from multiadapt.data.views import viewed
from multiadapt.encoders._families._pixels import PixelPreparation
from multiadapt.errors import SpecError
from multiadapt.feed import Feed
from multiadapt.methods._image_branch import ImageBranch
from multiadapt.types import Stream

RAMP = np.add.outer(np.arange(40), 3 * np.arange(60))[..., None].repeat(3, 2).astype(np.uint8)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures were made into pixels, call by call."""
    found: list[int] = []
    pixels = PixelPreparation.pixels

    def counted(self: PixelPreparation, images: Any) -> torch.Tensor:
        found.append(len(images))
        return pixels(self, images)

    monkeypatch.setattr(PixelPreparation, "pixels", counted)
    return found


def fit(network: Path, table: pd.DataFrame, root: Path, **options: Any) -> MultimodalClassifier:
    method = TIAdapter(ImageBranch("bc1"))
    recipe = Training(epochs=4, batch_size=16, patience=None, views=options.pop("views", 2))
    model = MultimodalClassifier(
        options.pop("method", method),
        encoders={"image": ImageEncoder(str(network)), "tabular": "mlp"}, training=recipe,
        column_types={"size": "numeric", "front": "image"}, validation=0.0,
        memory=options.pop("memory", 4.0), device="cpu", verbose=False,
    )  # fmt: skip
    model.fit(table[["size", "front", "kind"]], label="kind", root=root, **options)
    return model


def weights(model: MultimodalClassifier) -> list[torch.Tensor]:
    return list(model.fitted_.model.trained_state().values())


def same(one: MultimodalClassifier, other: MultimodalClassifier) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_the_first_view_is_the_picture_itself() -> None:
    assert viewed([[RAMP], []], 0)[0][0] is RAMP


@pytest.mark.parametrize("view", range(1, 20))
def test_a_view_is_at_least_half_of_the_picture_and_always_the_same(view: int) -> None:
    ((found,), none) = viewed([[RAMP], []], view)
    assert none == []
    assert 0.45 < found.size / RAMP.size <= 1
    turned = found if found[0, 0, 0] < found[0, 1, 0] else found[:, ::-1]
    shift = int(turned[0, 0, 0])
    inside = np.add.outer(np.arange(found.shape[0]), 3 * np.arange(found.shape[1])) + shift
    assert np.array_equal(turned[..., 0], inside.astype(np.uint8))  # a part of it, nothing else
    assert np.array_equal(viewed([[RAMP.copy()]], view)[0][0], found)


def test_views_and_pictures_differ() -> None:
    every = [viewed([[RAMP]], view)[0][0] for view in range(1, 10)]
    assert len({(v.shape, v.tobytes()) for v in every}) == 9
    assert 0 < sum(int(v[0, 0, 0]) > int(v[0, 1, 0]) for v in every) < 9
    assert viewed([[RAMP], [RAMP[::-1].copy()]], 1)[1][0].shape != every[0].shape


def test_epochs_take_turns_and_predictions_see_the_picture(
    network: Path, table: pd.DataFrame, photos: Path, prepared: list[int]
) -> None:
    two = fit(network, table, photos)
    assert sum(prepared) == 2 * len(table)
    assert not same(two, fit(network, table, photos, views=1))
    loss = [epoch["loss"] for epoch in two.fitted_.info["history"]["epochs"]]
    assert len(set(loss)) == 4
    prepared.clear()
    two.predict(table, root=photos)
    assert sum(prepared) == len(table)


def test_views_are_kept_from_run_to_run(
    network: Path, table: pd.DataFrame, photos: Path, tmp_path: Path, prepared: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MULTIADAPT_CACHE", str(tmp_path))
    first = fit(network, table, photos)
    assert sum(prepared) == 2 * len(table)
    prepared.clear()
    assert same(first, fit(network, table, photos))
    assert sum(prepared) == 0


def test_what_is_no_picture_is_one_whatever_the_view(network: Path) -> None:
    spec = ImageEncoder(str(network))
    feed = Feed({}, pd.DataFrame(), Reading(None), {}, torch.device("cpu"), {}, view=1)
    for modality in ("image", "video", "audio"):
        encoder = spec.build(Stream("front", modality, ()), spec.open("classification"), "n")
        assert feed.reader.turned(encoder) == (modality == "image")


@pytest.mark.parametrize("memory", [0.0, 4.0])
def test_a_run_that_is_broken_off_goes_on_with_its_view(
    memory: float, network: Path, table: pd.DataFrame, photos: Path, tmp_path: Path
) -> None:
    options = {"memory": memory, "resume": tmp_path / "run"}
    fit(network, table, photos, time_limit=0.0, **options)
    assert same(fit(network, table, photos, **options), fit(network, table, photos, memory=memory))


def test_a_method_without_pictures_has_no_use_for_views(
    network: Path, table: pd.DataFrame, photos: Path
) -> None:
    with pytest.raises(SpecError, match=r"training.views is of pictures, got 2.*leave it out"):
        fit(network, table, photos, method="tabular-only")
