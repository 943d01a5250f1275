"""Sound cells: whatever the file holds becomes mono samples, in order, or is reported by row and file."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multiadapt.data.batches import cells
from multiadapt.data.images import read_image
from multiadapt.data.reading import Reading, files
from multiadapt.data.sounds import opens, read_sound
from multiadapt.errors import CellError, ExtraError
from multiadapt.types import Column, Sound, Stream

RATE = 16_000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)).astype(np.float32)


def held(samples: np.ndarray = TONE, rate: int = RATE, kind: str = "WAV", bits: str = "") -> bytes:
    """A file's bytes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=bits or None)
    return file.getvalue()


def read(value: object, root: Path = Path()) -> list[Sound]:
    """The sounds of one cell, which must be readable."""
    reading = Reading(root)
    (found,) = reading.items(pd.Series([value], name="call", dtype=object), read_sound)
    reading.finish()
    return found


@pytest.mark.parametrize(
    "value",
    [
        "a.wav",
        Path("a.wav"),
        ["a.wav"],
        " a.wav ; ",
        held(bits="FLOAT"),
        Sound(TONE, RATE),
        (TONE, RATE),
        (TONE, np.int64(RATE)),
        (TONE[:, None], RATE),
        [(TONE, RATE)],
        (TONE.astype(np.float64), RATE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_form_of_a_cell_gives_the_same_sound(value: object, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(held(bits="FLOAT"))
    (sound,) = read(value, tmp_path)
    assert (sound.rate, sound.samples.dtype) == (RATE, np.float32)
    np.testing.assert_array_equal(sound.samples, TONE)


@pytest.mark.parametrize(
    "value", [None, np.nan, pd.NA, "", "  ", ";", [], [None, ""], (), np.array([])]
)
def test_a_missing_cell_has_no_sound(value: object) -> None:
    assert read(value) == []


def test_several_sounds_keep_their_order(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.wav").write_bytes(held(TONE[: 100 + i]))
    extra = (TONE[:7], 8000)
    for value in ("2.wav;0.wav; 1.wav", ["2.wav", "0.wav", "1.wav"]):
        assert [len(s.samples) for s in read(value, tmp_path)] == [102, 100, 101]
    assert [len(s.samples) for s in read(["1.wav", extra, None, extra], tmp_path)] == [101, 7, 7]


@given(st.lists(st.one_of(st.none(), st.lists(st.integers(1, 9), max_size=3)), max_size=20))
def test_order_in_is_order_out(rows: list[list[int] | None]) -> None:
    values = [None if r is None else [(TONE[:n], RATE) for n in r] for r in rows]
    table = pd.Series(values, dtype=object, name="call")
    found = Reading(None).items(table, read_sound)
    assert [[len(s.samples) for s in row] for row in found] == [r or [] for r in rows]


def test_a_stream_of_sounds_is_read_as_sounds(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(held())
    stream = Stream("call", "audio", (Column("call", "audio", ""),))
    found = cells(pd.DataFrame({"call": ["a.wav", None]}), stream, Reading(tmp_path))
    assert [len(row) for row in found] == [1, 0]  # type: ignore[attr-defined]


# Unusual but whole


@pytest.mark.parametrize(
    ("kind", "bits", "error"),
    [
        # Half a step of the coarsest level, or what the codec leaves out.
        ("WAV", "PCM_U8", 1 / 128),
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAVEX", "PCM_24", 1e-6),
        ("WAV", "ULAW", 0.02),
        ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-6),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_every_format_and_depth_gives_the_same_samples(kind: str, bits: str, error: float) -> None:
    (sound,) = read(held(kind=kind, bits=bits))
    assert sound.rate == RATE
    assert len(sound.samples) == len(TONE)
    inner = slice(800, -800)  # codecs begin and end softly
    assert np.abs(sound.samples - TONE)[inner].max() <= error
    assert opens(held(kind=kind, bits=bits), Path()) is None


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_the_rate_is_the_files(rate: int) -> None:
    assert read(held(rate=rate))[0].rate == rate


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_mixed_by_their_mean(channels: int) -> None:
    samples = np.linspace(-0.5, 0.5, 4 * channels, dtype=np.float32).reshape(4, channels)
    for value in (held(samples, bits="FLOAT"), (samples, RATE)):
        np.testing.assert_allclose(read(value)[0].samples, samples.mean(1), atol=1e-7)


def test_integers_are_in_full_scale() -> None:
    for kind, lowest, middle in (
        (np.int16, -32768, 0),
        (np.int32, -(2**31), 0),
        (np.uint8, 0, 128),
    ):
        found = read((np.array([lowest, middle], dtype=kind), RATE))[0].samples
        assert found.tolist() == [-1, 0]


def test_silent_clipped_and_single_samples_are_sounds() -> None:
    for samples in (np.zeros(100), np.sign(TONE), np.ones(1)):
        (sound,) = read(held(samples.astype(np.float32), bits="FLOAT"))
        np.testing.assert_array_equal(sound.samples, samples)


def test_floats_beyond_full_scale_are_kept() -> None:
    assert read(held(4 * TONE, bits="FLOAT"))[0].samples.max() > 1.9


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_streamed_wav_whose_header_tells_no_size_is_whole(size: int) -> None:
    content = held()
    at = content.index(b"data") + 4
    found = read(content[:at] + struct.pack("<I", size) + content[at + 4 :])
    np.testing.assert_allclose(found[0].samples, TONE, atol=1e-4)


def test_chunks_before_and_after_the_sound_are_passed_over() -> None:
    content = held()
    at = content.index(b"data")
    odd = b"note" + struct.pack("<I", 3) + b"abc\0"
    found = read(content[:at] + odd + content[at:] + odd)
    np.testing.assert_allclose(found[0].samples, TONE, atol=1e-4)


# Unreadable


def picture() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "JPEG")
    return file.getvalue()


def lying(frames: int) -> bytes:
    """A FLAC file whose header promises other frames than it holds."""
    content = bytearray(held(kind="FLAC"))
    at = content.index(b"fLaC") + 8 + 10  # rate, channels, bits, then 36 bits of frames
    start = int.from_bytes(content[at : at + 8], "big")
    content[at : at + 8] = ((start >> 36 << 36) | frames).to_bytes(8, "big")
    return bytes(content)


def make_bad(root: Path) -> dict[str, str]:
    """Files that are no sounds, and what the report says of each."""
    whole = {kind: held(kind=kind) for kind in ("WAV", "WAVEX", "FLAC", "OGG")}
    for kind, content in whole.items():
        (root / f"cut.{kind}").write_bytes(content[: len(content) // 2])
    (root / "head.wav").write_bytes(whole["WAV"][:30])
    (root / "last.wav").write_bytes(whole["WAV"][:-1])
    (root / "empty.wav").touch()
    (root / "nothing.wav").write_bytes(held(TONE[:0]))
    (root / "text.wav").write_text("hello, world")
    (root / "picture.wav").write_bytes(picture())
    (root / "nan.wav").write_bytes(held(np.array([0, np.nan, np.inf]), bits="DOUBLE"))
    (root / "bomb.flac").write_bytes(lying(2**35))
    (root / "lying.flac").write_bytes(lying(RATE))
    (root / "slow.wav").write_bytes(held(rate=999))
    (root / "fast.wav").write_bytes(held(rate=400_000))
    (root / "a.aiff").write_bytes(held(kind="AIFF"))
    (root / "folder.wav").mkdir()
    with (root / "huge.wav").open("wb") as file:
        file.truncate(2**31)
    return {
        "cut.WAV": r"it is truncated: 7978 of 16000 bytes of sound are there; fetch it again",
        "cut.WAVEX": r"it is truncated: \d+ of 16000 bytes",
        "last.wav": r"it is truncated: 15999 of 16000 bytes",
        "cut.FLAC": "the sound is damaged: .*lost sync|it is truncated",
        "cut.OGG": "not a sound .* or a damaged one: it starts with b'OggS",
        "head.wav": "not a sound .* or a damaged one: it starts with b'RIFF",
        "empty.wav": r"the file is empty \(0 bytes\)",
        "nothing.wav": "it has no samples: empty the cell if there is no sound",
        "text.wav": r"not a sound in WAV, FLAC, OGG or MP3, .*: it starts with b'hello, world'",
        "picture.wav": r"not a sound in .*: it starts with b'\\xff\\xd8\\xff\\xe0",
        "nan.wav": "2 of 3 samples are NaN or infinite: save the sound again",
        "bomb.flac": "34359738368 samples of 1 channels are more than 100000000 in all: cut it",
        "lying.flac": r"it is truncated: 8000 of 16000 samples|the sound is damaged",
        "slow.wav": r"999 samples per second are not within 1000\.\.384000",
        "fast.wav": "400000 samples per second are not within",
        "a.aiff": "AIFF is not read: save it as WAV, FLAC, OGG or MP3",
        "huge.wav": "the file has 2147483648 bytes, more than 1000000000: make it smaller",
        "folder.wav": "a folder, as cells of kind video may be, in .*: correct the path",
        "absent.wav": "no such file in .*pass root= with the folder it is relative to",
        "../outside.wav": "the path leads out of .*: pass root= with a folder that holds it",
    }


def test_every_bad_file_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "outside.wav").write_bytes(held())
    root = tmp_path / "root"
    root.mkdir()
    for name, reason in make_bad(root).items():
        reading = Reading(root)
        assert reading.items(pd.Series([name], ["r1"], name="call"), read_sound) == [[]]
        with pytest.raises(CellError, match=rf"(?s)row 'r1' .*column 'call', file .*: .*{reason}"):
            reading.finish()


def test_a_truncated_mp3_is_a_bad_cell(capfd: pytest.CaptureFixture[str]) -> None:
    content = held(kind="MP3")
    with pytest.raises(CellError, match=r"it is truncated: \d+ of 8000 samples are there"):
        read(content[: len(content) // 2])
    capfd.readouterr()  # the decoder's own words, which nobody can turn off


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3.5, r"expected a path, bytes, a Sound or a tuple \(samples, .*, got float"),
        (b"", r"the file is empty \(0 bytes\)"),
        (TONE, r"samples alone tell no pitch: give a tuple \(samples, samples per second\)"),
        ((TONE, 999), "999 samples per second are not within"),
        ((TONE[:0], RATE), "it has no samples"),
        ((TONE.reshape(2, -1), RATE), r"1\.\.64 channels, got \(2, 4000\)"),
        ((TONE.reshape(2, 2, -1), RATE), r"shape \(t,\) or \(t, channels\), got \(2, 2, 2000\)"),
        ((TONE.astype(complex), RATE), r"got \(8000,\) of complex128"),
        ([(TONE, 16e3)], "samples per second must be a whole number, got 16000.0"),
        ((np.array([1e300]), RATE), "1 of 1 samples are NaN or infinite"),
        (np.broadcast_to(np.int8(0), (2 * 10**8, 1)), "samples alone"),
        (
            (np.broadcast_to(np.int8(0), 2 * 10**8), RATE),
            "200000000 samples of 1 channels are more",
        ),
    ],
)
def test_a_value_that_is_no_sound_is_a_bad_cell(value: object, reason: str) -> None:
    with pytest.raises(CellError, match=f"row 0, column 'call'.*{reason}"):
        read(value)


def test_the_header_alone_tells_whether_a_sound_opens(tmp_path: Path) -> None:
    make_bad(tmp_path)
    assert opens(held(), tmp_path) is None
    assert opens((TONE, RATE), tmp_path) is None
    assert "not a sound" in (opens("text.wav", tmp_path) or "")
    assert "truncated" in (opens("cut.WAV", tmp_path) or "")
    assert "samples alone" in (opens(TONE, tmp_path) or "")
    assert opens("nan.wav", tmp_path) is None  # it is not read


def test_soundfile_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ExtraError, match=r"by soundfile: pip install multiadapt\[audio\]"):
        read_sound(held(), Path())
    assert len(read((TONE, RATE))) == 1  # what the table holds needs no decoder


def test_numbers_are_one_item_of_a_cell() -> None:
    assert len(files(TONE)) == 1
    assert len(files((TONE, RATE))) == 1
    assert len(files(["a.wav", "b.wav"])) == len(files(np.array(["a.wav", "b.wav"]))) == 2
    with pytest.raises(CellError, match=r"got \(8000,\) of float32"):
        read_image(TONE, Path())


def test_the_cells_are_never_written_to() -> None:
    samples = TONE.copy()
    read((samples, RATE))[0].samples[:] = 0
    np.testing.assert_array_equal(samples, TONE)
