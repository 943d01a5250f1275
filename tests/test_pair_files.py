"""Files of retrievers: what is checked when they are read."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from multiadapt import Blip, Contrast, CrossModalRetriever, Dual, Training, UniAdapter, Unified
from multiadapt.errors import ArtifactError, SpecError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
    table = pd.DataFrame(
        {"said": [f"w{i}" for i in range(6)], "photo": [f"{i}.png" for i in range(6)]}
    )
    model = CrossModalRetriever(
        UniAdapter(Unified(r=4)), backbone=Blip("random:blip-tiny"), training=Training(epochs=1),
        column_types={"said": "text", "photo": "image"}, validation=0.0, device="cpu", verbose=False,
    )  # fmt: skip
    model.fit(table, query="said", target="photo", root=folder).save(folder / "model")
    return folder / "model"


def changed(saved: Path, place: Path, change: Any) -> Path:
    shutil.copytree(saved, place)
    config = json.loads((place / "config.json").read_text())
    change(config)
    (place / "config.json").write_text(json.dumps(config))
    return place


def test_the_cross_modal_pass_is_checked_on_three_pairs(saved: Path, tmp_path: Path) -> None:
    def shift(config: Any) -> None:
        assert np.shape(config["golden"]["match"]) == (3, 2)
        config["golden"]["match"][1][0] += 0.01

    with pytest.raises(ArtifactError, match="match logits differ by"):
        CrossModalRetriever.load(changed(saved, tmp_path / "m", shift), device="cpu")


def test_altered_vectors_are_told_with_their_side(saved: Path, tmp_path: Path) -> None:
    def shift(config: Any) -> None:
        config["golden"]["vectors"]["target"][0][0] += 0.01

    with pytest.raises(ArtifactError, match="vectors of the target differ"):
        CrossModalRetriever.load(changed(saved, tmp_path / "m", shift), device="cpu")


def test_a_file_without_golden_matches_is_read(saved: Path, tmp_path: Path) -> None:
    place = changed(saved, tmp_path / "m", lambda config: config["golden"].pop("match"))
    assert CrossModalRetriever.load(place, device="cpu").fitted_.model.matches


def test_a_file_without_a_teacher_may_tell_of_one(saved: Path, tmp_path: Path) -> None:
    """Until that was refused such options were taken, and did nothing."""

    def without(config: Any) -> None:
        config["contrast"] |= {"momentum": None, "queue": 64, "distill": 0.1}

    again = CrossModalRetriever.load(changed(saved, tmp_path / "m", without), device="cpu")
    assert again.contrast == Contrast(momentum=None)


def test_a_backbone_that_does_not_fit_is_not_called_damage(saved: Path) -> None:
    with pytest.raises(SpecError, match=r"(?s)^(?!.*damaged)"):
        CrossModalRetriever.load(saved, backbone=Dual({"image": "starter"}), device="cpu")
    with pytest.raises(SpecError, match=r'first="enc" asks for the token'):
        CrossModalRetriever.load(
            saved, backbone=Blip("random:blip-tiny", first="enc"), device="cpu"
        )


def test_damage_is_called_so_with_a_backbone_of_ones_own_too(saved: Path, tmp_path: Path) -> None:
    place = changed(saved, tmp_path / "m", lambda config: config.pop("method"))
    for backbone in (None, Blip("random:blip-tiny")):
        with pytest.raises(ArtifactError, match="is damaged: KeyError"):
            CrossModalRetriever.load(place, backbone=backbone, device="cpu")


def test_another_format_or_kind_is_told(saved: Path, tmp_path: Path) -> None:
    later = changed(saved, tmp_path / "later", lambda config: config.update(format=9))
    with pytest.raises(ArtifactError, match="holds a retriever of format 9"):
        CrossModalRetriever.load(later, device="cpu")
    other = changed(saved, tmp_path / "other", lambda config: config.update(kind="captioning"))
    with pytest.raises(
        ArtifactError, match=r"a captioner, not a retriever; open it with Captioner\.load"
    ):
        CrossModalRetriever.load(other, device="cpu")
    new = changed(saved, tmp_path / "new", lambda config: config.update(kind="dancer"))
    with pytest.raises(ArtifactError, match="of kind 'dancer', which this version"):
        CrossModalRetriever.load(new, device="cpu")
