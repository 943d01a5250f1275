"""Image cells: whatever the file holds becomes RGB, in order, or is reported by row and file."""

import io
import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multiadapt.data.images import opens, read_image
from multiadapt.data.reading import Reading, files
from multiadapt.errors import CellError

RED, GREEN = (255, 0, 0), (0, 255, 0)


def flat(value: int, size: tuple[int, int] = (4, 3)) -> np.ndarray:
    """A picture of one gray."""
    return np.full((size[1], size[0], 3), value, np.uint8)


def read(value: object, root: Path, **options) -> list[np.ndarray]:
    """The images of one cell, which must be readable."""
    reading = Reading(root, **options)
    (images,) = reading.items(pd.Series([value], name="photo", dtype=object), read_image)
    reading.finish()
    return images


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        "a.png",
        Path("a.png"),
        ["a.png"],
        np.array(["a.png"]),
        " a.png ; ",
        flat(7),
        flat(7)[:, :, 0],
        flat(7)[:, :, :1],
        Image.fromarray(flat(7)),
        png(Image.fromarray(flat(7))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_form_of_a_cell_gives_the_same_image(value, tmp_path):
    Image.fromarray(flat(7)).save(tmp_path / "a.png")
    (image,) = read(value, tmp_path)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image, flat(7))


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, "", "  ", ";", [], [None, ""], ()])
def test_a_missing_cell_has_no_image(value, tmp_path):
    assert read(value, tmp_path) == []


def test_several_files_keep_their_order(tmp_path):
    for i in range(3):
        Image.fromarray(flat(i)).save(tmp_path / f"{i}.png")
    for value in ("2.png;0.png; 1.png", ["2.png", "0.png", "1.png"], ("2.png", flat(0), flat(1))):
        assert [image[0, 0, 0] for image in read(value, tmp_path)] == [2, 0, 1]


def test_a_list_is_the_way_to_name_a_file_with_a_semicolon(tmp_path):
    Image.fromarray(flat(9)).save(tmp_path / "a;b.png")
    assert read(["a;b.png"], tmp_path)[0][0, 0, 0] == 9


@given(st.lists(st.one_of(st.none(), st.lists(st.integers(0, 255), max_size=3)), max_size=20))
def test_order_in_is_order_out(rows):
    cells = pd.Series([None if r is None else [flat(v) for v in r] for r in rows], dtype=object)
    found = Reading(None).items(cells.rename("photo"), read_image)
    assert [[int(image[0, 0, 0]) for image in row] for row in found] == [r or [] for r in rows]


# Unusual but whole


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    (image,) = read("a.jpg", tmp_path)
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - RED).max() < 12  # JPEG, and CMYK without a profile


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_cut(suffix, tmp_path):
    values = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    (image,) = read(f"a.{suffix}", tmp_path)
    assert image[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_thirty_two_bits_have_no_range(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(CellError, match="pixels of mode F have no fixed range: save it with 8 or"):
        read("a.tiff", tmp_path)


def test_palettes_become_colours_and_transparency_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "index.png", transparency=1)
    image.save(tmp_path / "bytes.png", transparency=b"\xff\x00")
    image.save(tmp_path / "a.gif", transparency=1)
    assert read("plain.png", tmp_path)[0].tolist() == [[list(RED), list(GREEN)]]
    for name in ("index.png", "bytes.png", "a.gif"):
        assert read(name, tmp_path)[0].tolist() == [[list(RED), [255] * 3]]


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, [255, 255, 255]),
        ("L", 9, [9, 9, 9]),
        ("LA", (0, 0), [255, 255, 255]),
        ("RGBA", (255, 0, 0, 255), [255, 0, 0]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
    ],
)
def test_other_modes_become_rgb(mode, color, expected, tmp_path):
    Image.new(mode, (1, 1), color).save(tmp_path / "a.png")
    assert read("a.png", tmp_path)[0].tolist() == [[expected]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation, suffix, tmp_path):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # the bright corner is at the upper left of a lying picture
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif, quality=95)
    (image,) = read(path.name, tmp_path)
    assert np.abs(image.astype(int) - upright).max() < 12  # JPEG


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), RED).save(tmp_path / "a.jpg")
    assert read("a.jpg", tmp_path)[0].shape == (1, 1, 3)


@pytest.mark.parametrize(("side", "decoded"), [(64, 64), (100, 100), (128, 64), (300, 75)])
def test_of_a_large_jpeg_no_more_is_decoded_than_is_asked_for(side, decoded, tmp_path):
    wave = np.linspace(0, 1, side)[:, None] * np.linspace(0, 255, 2 * side)
    image = Image.fromarray(np.repeat(wave[..., None], 3, 2).astype(np.uint8))
    image.save(tmp_path / "a.jpg", quality=95)
    image.save(tmp_path / "a.png")
    found = read_image("a.jpg", tmp_path, least=64)
    assert found.shape == (decoded, 2 * decoded, 3)
    whole = Image.fromarray(read_image("a.jpg", tmp_path)).resize((32, 32))
    part = Image.fromarray(found).resize((32, 32))
    assert np.abs(np.asarray(whole, int) - np.asarray(part, int)).mean() < 1
    assert read_image("a.png", tmp_path, least=64).shape == (side, 2 * side, 3)


@pytest.mark.parametrize("orientation", [3, 6])
def test_what_is_decoded_in_part_is_turned_as_ever(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    half = np.zeros((256, 512, 3), np.uint8)
    half[:, :256] = 255
    Image.fromarray(half).save(tmp_path / "a.jpg", exif=exif)
    whole = read_image("a.jpg", tmp_path)
    part = read_image("a.jpg", tmp_path, least=64)
    assert (part.shape[0] * 4, part.shape[1] * 4) == whole.shape[:2]
    assert np.abs(part[::8, ::8].astype(int) - whole[::32, ::32]).mean() < 8


def test_a_truncated_jpeg_is_damaged_however_little_of_it_is_decoded(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    Image.fromarray(random).save(tmp_path / "a.jpg")
    held = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(held[: len(held) // 2])
    with pytest.raises(CellError, match="the image is damaged"):
        read_image("a.jpg", tmp_path, least=64)


def test_twenty_thousand_pixels_wide_is_an_image(tmp_path):
    Image.new("L", (20_000, 50)).save(tmp_path / "a.png")
    assert read("a.png", tmp_path)[0].shape == (50, 20_000, 3)


def test_a_large_image_below_the_limit_warns_nobody(tmp_path):
    Image.new("1", (20_000, 5_000)).save(tmp_path / "a.png")  # Pillow itself warns above 89 Mpx
    assert opens("a.png", tmp_path) is None


def test_damaged_exif_warns_nobody(tmp_path):
    Image.new("RGB", (4, 4)).save(
        tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x09"
    )
    assert read("a.jpg", tmp_path)[0].shape == (4, 4, 3)


# Unreadable


def noise(path: Path) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def make_bad(root: Path) -> dict[str, str]:
    """Files that are no images, and what the report says of each."""
    for name in ("cut.jpg", "cut.png"):
        content = noise(root / name)
        (root / name).write_bytes(content[: len(content) // 2])
    (root / "empty.jpg").touch()
    (root / "text.png").write_text("hello, world")
    Image.new("1", (20_000, 20_000)).save(root / "bomb.png")
    (root / "folder.jpg").mkdir()
    (root / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    return {
        "cut.jpg": "the image is damaged: .*truncated",
        "cut.png": "the image is damaged: ",
        "empty.jpg": r"the file is empty \(0 bytes\)",
        "text.png": r"not an image in JPEG, PNG, .*: it starts with b'hello, world'",
        "bomb.png": "damaged or asks too much: Image size .400000000 pixels. exceeds limit",
        "folder.jpg": "a folder, as cells of kind video may be, in .*: correct the path",
        "page.eps": r"not an image in .*: it starts with b'%!PS-Adobe-3'",
        "absent.jpg": "no such file in .*pass root= with the folder it is relative to",
        "../outside.jpg": "the path leads out of .*: pass root= with a folder that holds it",
        "/etc/hostname": "the path leads out of .*: pass root=",
        "a\0b.jpg": "no file name: ",
        "a" * 5000: "no file name|no such file",
    }


def test_every_bad_file_is_named_with_its_reason(tmp_path):
    (tmp_path / "outside.jpg").touch()
    root = tmp_path / "root"
    root.mkdir()
    for name, reason in make_bad(root).items():
        reading = Reading(root)
        assert reading.items(pd.Series([name], ["r1"], name="photo"), read_image) == [[]]
        with pytest.raises(CellError, match=rf"(?s)row 'r1' .*column 'photo', file .*: .*{reason}"):
            reading.finish()


def test_a_link_out_of_the_root_is_not_followed(tmp_path):
    (tmp_path / "root").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    (tmp_path / "root" / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(CellError, match="the path leads out of"):
        read("a.png", tmp_path / "root")


def test_an_absolute_path_inside_the_root_is_read(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    assert len(read(str(tmp_path / "a.png"), tmp_path)) == 1


def test_no_root_is_the_current_folder(tmp_path, monkeypatch):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert len(Reading(None).items(pd.Series(["a.png"]), read_image)[0]) == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3.5, "expected a path, image, uint8 array or bytes, got float"),
        (b"", r"the file is empty \(0 bytes\)"),
        (np.zeros((3, 8, 8), np.uint8), r"got \(3, 8, 8\) of uint8"),
        (np.zeros((8, 8, 3)), r"got \(8, 8, 3\) of float64"),
        (np.zeros((0, 8, 3), np.uint8), r"got \(0, 8, 3\) of uint8"),
        (Image.new("RGB", (0, 4)), "0 x 4 pixels are no image"),
    ],
)
def test_a_value_that_is_no_image_is_a_bad_cell(value, reason, tmp_path):
    with pytest.raises(CellError, match=f"row 0, column 'photo'.*{reason}"):
        read(value, tmp_path)


def test_a_picture_in_memory_above_the_limit_is_a_bad_cell():
    with pytest.raises(CellError, match="14000 x 14000 pixels are more than 178956970"):
        read(Image.new("1", (14_000, 14_000)), Path())


def test_a_file_that_may_not_be_read_is_a_bad_cell(tmp_path, monkeypatch):
    Image.new("RGB", (1, 1)).save(tmp_path / "a.png")

    def refuse(self: Path) -> bytes:
        raise PermissionError("Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CellError, match="the file cannot be read: Permission denied"):
        read("a.png", tmp_path)


def test_too_many_files_name_row_column_and_count(tmp_path):
    cells = pd.Series(["", "a;b;c", "none.png"], ["x", "y", "z"], name="photo")
    reading = Reading(tmp_path, max_files=2)
    assert reading.items(cells, read_image, range(10, 10 + len(cells))) == [[], [], []]
    with pytest.raises(
        CellError,
        match=r"2 are neither:\n  row 'y' \(position 11\), column 'photo', file 'a;b;c': .* at most 2 "
        r"files, got 3: .* raise max_files\n  row 'z' .*no such file",
    ):
        reading.finish()


def hundred(root: Path, bad: dict[int, bytes]) -> pd.Series:
    """A hundred photos; number i is of gray i, unless it is bad."""
    for i in range(100):
        Image.fromarray(flat(i)).save(root / f"{i}.png")
        if i in bad:
            (root / f"{i}.png").write_bytes(bad[i])
    return pd.Series([f"{i}.png" for i in range(100)], name="photo")


@pytest.fixture
def reports(tmp_path_factory, monkeypatch):
    """The folder that reports are written to."""
    folder = tmp_path_factory.mktemp("reports")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_one_corrupt_file_in_a_hundred_moves_no_other_cell(tmp_path, caplog, reports):
    cells = hundred(tmp_path, {37: b"corrupt"}).sample(frac=1, random_state=0)
    reading = Reading(tmp_path, on_error="missing")
    found = reading.items(cells, read_image)
    assert [int(row[0][0, 0, 0]) if row else 37 for row in found] == cells.index.tolist()
    assert [row == [] for row in found] == [label == 37 for label in cells.index]
    with caplog.at_level(logging.WARNING, "multiadapt"):
        reading.finish()
    (record,) = caplog.records
    position = cells.index.get_loc(37)
    assert record.getMessage().startswith(
        "1 unreadable cells are taken as missing:\n"
        f"  row 37 (position {position}), column 'photo', file '37.png': not an image in JPEG"
    )
    assert list(reports.iterdir()) == []


def test_cells_taken_as_missing_are_listed_in_a_file_where_they_are_many(tmp_path, caplog, reports):
    reading = Reading(tmp_path, on_error="missing")
    reading.items(hundred(tmp_path, dict.fromkeys(range(11), b"")), read_image)
    with caplog.at_level(logging.WARNING, "multiadapt"):
        reading.finish()
    (kept,) = reports.iterdir()
    (text,) = (r.getMessage() for r in caplog.records)
    assert text.count("\n  row ") == 10
    assert text.endswith(f"\n  and 1 more; all 11 are listed in {kept}")
    assert pd.read_csv(kept)["value"].tolist() == [f"'{i}.png'" for i in range(11)]


def test_a_bad_cell_that_is_read_again_and_again_is_one_cell_of_the_report(tmp_path, caplog):
    reading = Reading(tmp_path, on_error="missing")
    cells = pd.Series(["a.png", "b.png", "a.png"], name="photo")
    for at in ([0, 1], [1, 2], [0, 2], [0, 1, 2]):
        reading.items(cells.iloc[at], read_image, at)
    with caplog.at_level(logging.WARNING, "multiadapt"):
        reading.finish()
        assert reading.bad == []
        reading.finish()
    (record,) = caplog.records
    assert record.getMessage().startswith("3 unreadable cells are taken as missing:\n  row 0, ")
    for _ in range(3):
        reading.items(cells, read_image)
    assert len(reading.bad) == 3


def test_one_bad_file_makes_the_whole_cell_missing(tmp_path):
    Image.fromarray(flat(1)).save(tmp_path / "a.png")
    reading = Reading(tmp_path, on_error="missing")
    assert reading.items(pd.Series(["a.png;b.png", "a.png"], name="p"), read_image)[0] == []
    assert [(b.row, b.value) for b in reading.bad] == [(0, "'b.png'")]


def test_the_report_shows_ten_and_lists_all(tmp_path, reports):
    cells = hundred(tmp_path, dict.fromkeys(range(20, 32), b""))
    reading = Reading(tmp_path)
    with ThreadPoolExecutor(4) as pool:  # blocks in any order
        list(
            pool.map(
                lambda at: reading.items(cells[at : at + 10], read_image, range(at, at + 10)),
                range(90, -1, -10),
            )
        )
    with pytest.raises(CellError) as caught:
        reading.finish()
    text = str(caught.value)
    assert "12 are neither" in text
    assert [f"row {i}, column 'photo', file '{i}.png': the file is empty" in text for i in range(20, 32)] == [True] * 10 + [False] * 2  # fmt: skip
    assert "and 2 more" in text
    assert 'on_error="missing"' in text
    (kept,) = reports.iterdir()
    assert f"all 12 are listed in {kept}\n" in text
    listed = pd.read_csv(kept)
    assert listed["row"].tolist() == list(range(20, 32))


def test_nothing_bad_is_no_report(tmp_path):
    reading = Reading(tmp_path)
    reading.items(pd.Series([None, ""]), read_image)
    reading.finish()


def test_warning_filters_are_as_before_after_many_threads(tmp_path):
    import warnings

    cells = hundred(tmp_path, {})
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda at: Reading(tmp_path).items(cells[at : at + 5], read_image), range(0, 100, 5)
            )
        )
    assert list(warnings.filters) == before


def test_the_cells_are_never_written_to():
    array, items = flat(3), ["", None]
    cells = pd.Series([array, items], dtype=object, name="photo")
    Reading(None).items(cells, read_image)[0][0][:] = 0
    assert (array == 3).all()
    assert items == ["", None]
    assert files(items) == []
