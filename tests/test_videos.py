"""Clips: exactly the frames that were asked for, whatever holds them; bad ones are told by row and file."""

import builtins
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from films import film, number, picture, sound_only
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multiadapt.data.batches import cells
from multiadapt.data.films import opened
from multiadapt.data.reading import Reading
from multiadapt.data.schema import guess_schema
from multiadapt.data.videos import read_clip
from multiadapt.errors import CellError, ExtraError, SchemaError
from multiadapt.types import Clip, Column, Sampling, Stream

FORMS = ("mp4", "mpegts", "matroska", "avi", "nut", "mov")


def read(value: object, root: Path = Path(), sampling: Sampling | None = None) -> list[Clip]:
    """The clips of one cell, which must be readable."""
    frame = pd.DataFrame({"clip": pd.Series([value], dtype=object)})
    stream = Stream("clip", "video", (Column("clip", "video", ""),), sampling)
    reading = Reading(root)
    (found,) = cells(frame, stream, reading)  # type: ignore[misc]
    reading.finish()
    return found


def numbers(value: object, sampling: Sampling, root: Path = Path()) -> list[int]:
    """Which frames of a clip of numbered pictures are read."""
    (clip,) = read(value, root, sampling)
    return [number(pixels) for pixels in clip.frames]


def pictures(folder: Path, n: int, name: str = "{}.png") -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        Image.fromarray(picture(k)).save(folder / name.format(k))
    return [name.format(k) for k in range(n)]


# Which frames


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 7, 30])
def test_uniform_frames_are_the_middles_of_equal_parts(form: str, n: int) -> None:
    held = film(n, form, rate=30)
    for frames in (1, 3, 8, n, 2 * n):
        middles = [(2 * i + 1) * n // (2 * frames) for i in range(frames)]
        assert numbers(held, Sampling(frames)) == middles


@pytest.mark.parametrize("rate", [24, 25, Fraction(30_000, 1001), 50, 60])
@pytest.mark.parametrize("form", ["mp4", "matroska", "avi"])
def test_rounded_times_do_not_move_a_frame(form: str, rate: Any) -> None:
    """Matroska counts in whole milliseconds, AVI in frames."""
    held = film(48, form, rate=rate)
    for frames in (6, 8, 16, 24, 48):
        middles = [(2 * i + 1) * 48 // (2 * frames) for i in range(frames)]
        assert numbers(held, Sampling(frames)) == middles


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_at_a_varying_rate_frames_are_found_by_the_time_they_are_shown(form: str) -> None:
    times = [0, 10, 20, 30, 40, 50, 1000, 2000, 2010, 2020, 2990, 4000]
    end = 4000 + 1010  # the last frame lasts as long as the one before it
    held = film(12, form, times=times)
    for frames in (1, 2, 4, 5, 10):
        middles = [end * (2 * i + 1) / (2 * frames) for i in range(frames)]
        shown = [max(k for k, t in enumerate(times) if t <= m) for m in middles]
        assert numbers(held, Sampling(frames)) == shown


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_a_film_that_starts_late_is_sampled_from_its_first_frame(form: str) -> None:
    held = film(10, form, times=[5000 + 40 * k for k in range(10)])
    assert numbers(held, Sampling(5)) == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("times", [1, 3, 10])
def test_a_length_that_the_header_makes_up_is_not_believed(times: int) -> None:
    held = bytearray(film(20))
    for name, before in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16), (b"elst", 8)):
        at = held.index(name) + 4 + before  # its length, in units of its own
        length = int.from_bytes(held[at : at + 4], "big")
        held[at : at + 4] = (length * times).to_bytes(4, "big")
    assert numbers(bytes(held), Sampling(5)) == [2, 6, 10, 14, 18]


def test_every_so_many_frames_from_the_first_and_then_the_last_one_read() -> None:
    held = film(10)
    assert numbers(held, Sampling(4, "stride", 2)) == [0, 2, 4, 6]
    assert numbers(held, Sampling(4, "stride", 3)) == [0, 3, 6, 9]
    assert numbers(held, Sampling(5, "stride", 4)) == [0, 4, 8, 8, 8]
    assert numbers(held, Sampling(3, "stride", 1)) == [0, 1, 2]
    assert numbers(film(1), Sampling(3, "stride", 2)) == [0, 0, 0]


def test_random_frames_lie_one_in_each_part_and_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(film(40))
    drawn = [numbers("a.mp4", Sampling(8, "random", seed=s), tmp_path) for s in range(20)]
    assert all([k // 5 for k in found] == list(range(8)) for found in drawn)
    assert len({tuple(found) for found in drawn}) == 20
    assert drawn[3] == numbers("a.mp4", Sampling(8, "random", seed=3), tmp_path)
    assert drawn[3] != numbers("b.mp4", Sampling(8, "random", seed=3), tmp_path)


@given(n=st.integers(1, 50), frames=st.integers(1, 20), how=st.sampled_from(["uniform", "random"]))
def test_pictures_are_sampled_in_order_and_each_part_gives_one(
    n: int, frames: int, how: Any
) -> None:
    clip = np.stack([picture(k, 9, 9) for k in range(n)])
    found = numbers(clip, Sampling(frames, how))
    assert len(found) == frames
    for i, k in enumerate(found):
        assert i * n // frames <= k <= (i + 1) * n / frames


def test_a_clip_of_one_frame_shows_it_again() -> None:
    for form in FORMS[:3]:
        (clip,) = read(film(1, form))
        assert len(clip.frames) == 8
        assert all(np.array_equal(pixels, clip.frames[0]) for pixels in clip.frames)


@pytest.mark.parametrize("form", ["mp4", "matroska", "mpegts"])
def test_an_hour_is_neither_decoded_nor_held(form: str) -> None:
    held = film([picture(k, 16, 16) for k in range(3600)], form, rate=1, every=20)
    sampling = Sampling(6)
    with opened(held) as some:
        start, end = some.span()
        found = some.at([start + Fraction(2 * i + 1, 12) * (end - start) for i in range(6)])
        assert some.decoded < 300
    assert [number(p) for p in found] == numbers(held, sampling) == [*range(300, 3600, 600)]


def test_an_hour_with_one_place_to_jump_to_is_decoded_at_most_twice() -> None:
    held = film([picture(k, 16, 16) for k in range(600)], rate=1, every=10_000)
    with opened(held) as some:
        start, end = some.span()
        found = some.at([start + Fraction(2 * i + 1, 8) * (end - start) for i in range(4)])
        assert some.decoded < 1200
    assert [number(p) for p in found] == [75, 225, 375, 525]


# What holds them


def test_every_form_of_a_clip_gives_the_same_frames(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(film(12))
    names = pictures(tmp_path / "frames", 12)
    inside = [f"frames/{name}" for name in names]
    arrays = [picture(k) for k in range(12)]
    sampling = Sampling(4)
    expected = [1, 4, 7, 10]
    for value in (
        "a.mp4",
        Path("a.mp4"),
        " a.mp4 ;",
        ["a.mp4"],
        film(12),
        "frames",
        Path("frames"),
        inside,
        ";".join(inside),
        [Path(p) for p in inside],
        [(tmp_path / p).read_bytes() for p in inside],
        arrays,
        [Image.fromarray(a) for a in arrays],
        np.stack(arrays),
    ):
        assert numbers(value, sampling, tmp_path) == expected


def test_a_picture_alone_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    pictures(tmp_path, 3)
    assert numbers("2.png", Sampling(3), tmp_path) == [2, 2, 2]
    assert numbers(picture(5), Sampling(2)) == [5, 5]


def test_several_films_in_a_cell_keep_their_order(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.mp4").write_bytes(film([picture(k)] * 3))
    for value in ("2.mp4;0.mp4;1.mp4", ["2.mp4", "0.mp4", "1.mp4"]):
        found = read(value, tmp_path, Sampling(2))
        assert [[number(p) for p in clip.frames] for clip in found] == [[2, 2], [0, 0], [1, 1]]


def test_a_gif_alone_is_a_film_and_in_a_list_a_picture(tmp_path: Path) -> None:
    images = [Image.fromarray(np.full((8, 8, 3), 60 * k, np.uint8)) for k in range(4)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100)
    for value in ("a.gif", (tmp_path / "a.gif").read_bytes()):
        (clip,) = read(value, tmp_path, Sampling(4))
        assert [int(p[0, 0, 0]) for p in clip.frames] == [0, 60, 120, 180]
    (clip,) = read(["a.gif", "a.gif"], tmp_path, Sampling(4))
    assert [int(p[0, 0, 0]) for p in clip.frames] == [0, 0, 0, 0]


def test_frames_in_a_folder_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    pictures(tmp_path / "a", 12, "frame{}.png")
    pictures(tmp_path / "b", 12, "Frame_{:05d}.PNG")
    (tmp_path / "a" / "notes.txt").write_text("none")
    (tmp_path / "a" / ".hidden.png").write_text("none")
    for folder in ("a", "b"):
        assert numbers(folder, Sampling(12), tmp_path) == list(range(12))


def test_only_the_pictures_that_are_sampled_are_read(tmp_path: Path) -> None:
    names = pictures(tmp_path, 9)
    for k in (0, 2, 3, 5, 6, 8):
        (tmp_path / names[k]).write_bytes(b"damaged")
    assert numbers(names, Sampling(3), tmp_path) == [1, 4, 7]


def test_a_cell_may_hold_more_pictures_than_files(tmp_path: Path) -> None:
    names = pictures(tmp_path, 30)
    assert numbers(names, Sampling(3), tmp_path) == [5, 15, 25]


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_a_phones_rotation_is_undone(rotation: int) -> None:
    (clip,) = read(film(3, rotation=rotation))
    expected = np.rot90(picture(0), rotation // 90)
    np.testing.assert_array_equal(clip.frames[0], expected)


def test_a_mirrored_film_is_seen_as_it_is_to_be() -> None:
    held = bytearray(film(2, rotation=0))
    at = held.index(b"tkhd") + 4 + 40  # its matrix: x' = -x + 32
    held[at : at + 4] = (-(1 << 16)).to_bytes(4, "big", signed=True)
    (clip,) = read(bytes(held))
    np.testing.assert_array_equal(clip.frames[0], picture(0)[:, ::-1])


@pytest.mark.parametrize(
    "value", [None, np.nan, pd.NA, "", "  ", ";", [], [None, ""], (), np.array([])]
)
def test_a_missing_cell_has_no_clip(value: object) -> None:
    assert read(value) == []


# What is bad

CUT = "it is truncated: .* bytes are there; fetch it again"
BAD = {
    "nothing": (b"", r"the file is empty \(0 bytes\)"),
    "text": (b"no film at all", r"not a film in MP4, .* it starts with b'no film at a'"),
    "a list of films": (b"#EXTM3U\n#EXTINF:10,\nother.mp4\n", "not a film in MP4"),
    "another file's name": (b"ffconcat version 1.0\nfile 'a.mp4'\n", "not a film in MP4"),
    "sound": (sound_only(), "it holds sound but no pictures: declare the column audio"),
    "no frames in mp4": (film(0, "mp4"), "it has no frames: empty the cell"),
    "no frames in avi": (film(0, "avi"), "it has no frames: empty the cell"),
    "no frames in mkv": (film(0, "matroska"), "not a film in MP4.*End of file"),
} | {
    f"{form} cut {share}": (held[: int(len(held) * share)], CUT)
    for form in ("mp4", "mov", "matroska", "avi")
    for share in (0.1, 0.5, 0.99)
    if (held := film(20, form))
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_film_is_told_with_row_column_file_and_remedy(name: str, tmp_path: Path) -> None:
    held, why = BAD[name]
    (tmp_path / "a.mp4").write_bytes(held)
    with pytest.raises(CellError, match=rf"row 0, column 'clip', file 'a\.mp4': .*{why}"):
        read("a.mp4", tmp_path)
    with pytest.raises(CellError, match=f"row 0, column 'clip', file .*{why}"):
        read(held)


def test_noise_in_the_middle_is_told() -> None:
    held = bytearray(film(20, "matroska"))
    middle = len(held) // 2
    held[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    with pytest.raises(CellError, match="the film is damaged: "):
        read(bytes(held))


@given(st.data())
def test_noise_anywhere_is_a_clip_or_an_error_about_the_cell(data: st.DataObject) -> None:
    held = bytearray(NOISY[data.draw(st.sampled_from(sorted(NOISY)))])
    at = data.draw(st.integers(0, len(held) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=60))
    held[at : at + len(noise)] = noise
    try:
        clip = read_clip(bytes(held), Path(), Sampling(3))
    except CellError:
        return
    assert len(clip.frames) == 3


NOISY = {form: film(6, form) for form in FORMS}


def test_a_folder_without_pictures_and_a_bad_picture_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CellError, match="file 'empty': it has no frames: empty the cell"):
        read("empty", tmp_path)
    pictures(tmp_path / "a", 4)
    (tmp_path / "a" / "2.png").write_bytes(b"none")
    with pytest.raises(CellError, match=r"file 'a': picture 3 of 4 \('a/2.png'\): not an image"):
        read("a", tmp_path)
    with pytest.raises(CellError, match=r"picture 2 of 2 \('gone.png'\): no such file"):
        read(["a/1.png", "gone.png"], tmp_path)


def test_no_path_leaves_the_root(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "a.mp4").write_bytes(film(2))
    pictures(tmp_path / "frames", 2)
    for name in ("../a.mp4", "../frames", str(tmp_path / "a.mp4")):
        with pytest.raises(CellError, match="the path leads out of"):
            read(name, tmp_path / "home")
    (tmp_path / "home" / "frames").mkdir()
    (tmp_path / "home" / "frames" / "0.png").symlink_to(tmp_path / "frames" / "0.png")
    with pytest.raises(CellError, match=r"picture 1 of 1 .*the path leads out of"):
        read("frames", tmp_path / "home")


@pytest.mark.parametrize("value", [3, {"a": 1}, np.zeros((2, 3), np.float32)])
def test_what_is_no_clip_is_told(value: object) -> None:
    with pytest.raises(CellError, match="expected a"):
        read(value)


def test_unreadable_clips_can_be_taken_as_missing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(film(4))
    (tmp_path / "b.mp4").write_bytes(film(4)[:300])
    reading = Reading(tmp_path, on_error="missing")
    table = pd.DataFrame({"clip": ["a.mp4", "b.mp4", None, "a.mp4;b.mp4"]})
    found: Any = cells(table, Stream("clip", "video", (Column("clip", "video", ""),)), reading)
    assert [len(row) for row in found] == [1, 0, 0, 0]
    assert [bad.row for bad in reading.bad] == [1, 3]
    reading.finish()


def test_without_its_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return known(name, *rest)

    held = film(2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ExtraError, match=r"pip install multiadapt\[video\]"):
        read(held)
    assert len(read([picture(0), picture(1)])[0].frames) == 8  # pictures need none


# The column's kind


@pytest.mark.parametrize("form", ["mp4", "avi", "matroska", "mov"])
def test_a_column_of_films_is_a_stream(form: str, tmp_path: Path) -> None:
    suffix = {"matroska": "mkv"}.get(form, form)
    names = [f"{k}.{suffix}" for k in range(3)]
    for name in names:
        (tmp_path / name).write_bytes(film(2, form))
    schema = guess_schema(pd.DataFrame({"clip": names}), root=tmp_path)
    assert schema.lines() == ["clip  video: 3 of 3 sampled values (seed 0) are video files"]
    assert [(s.name, s.modality) for s in schema.streams()] == [("clip", "video")]


def test_names_of_films_that_are_none_are_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "0.mp4").write_bytes(film(2))
    frame = pd.DataFrame({"clip": ["0.mp4", "1.mp4"]})
    with pytest.raises(
        SchemaError,
        match=r"column 'clip' holds names of films, but 1 of 2 sampled .*no such file.*"
        r'column_types=\{"clip": "video"\}\. Pass root= \(--root\)',
    ):
        guess_schema(frame, root=tmp_path)
    schema = guess_schema(frame, root=tmp_path, column_types={"clip": "video"})
    assert schema.columns[0].kind == "video"


def test_folders_of_frames_are_declared_not_guessed(tmp_path: Path) -> None:
    """Folders named like classes are as common."""
    for name in ("cat", "dog"):
        pictures(tmp_path / name, 2)
    frame = pd.DataFrame({"clip": ["cat", "dog"] * 5})
    assert guess_schema(frame, root=tmp_path).columns[0].kind == "categorical"
    declared = guess_schema(frame, root=tmp_path, column_types={"clip": "video"})
    assert [s.modality for s in declared.streams()] == ["video"]
