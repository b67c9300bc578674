"""Files written before still mean the same, and mean what FORMAT.md says.

Stored bytes decode to stored symbols and pictures, and encode to the same bytes again; the values that FORMAT.md quotes are
those of the stored files. ``REFRESH_GOLDEN=1 pytest tests/rdc/test_golden.py`` writes the files anew; only a new format
version may do so.
"""

import hashlib
import os
import re
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.header import _DICTIONARY, RdcHeader
from reducio_codec.rdc.keyframe import PictureDecoder, encode_keyframes
from reducio_codec.rdc.layers.cuts import Cut
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.records import Scanner
from reducio_codec.rdc.tables import LADDER, THRESHOLDS, LatentTables, frequencies
from reducio_codec.rdc.writer import RdcWriter
from reducio_codec.weights.zoo import BUNDLED
from tests.helpers import moving_video

GOLDEN = Path(__file__).parent / "golden"
TEXT = (Path(__file__).parents[2] / "FORMAT.md").read_text(encoding="utf-8")
STEPS = (0.25, 0.5, 1.0)
HEADER = RdcHeader(
    model="reducio-lite",
    latent_space="00ff00ff00ff00ff",
    width=96,
    height=64,
    time_base=Fraction(1, 25),
    frame_duration=1,
    step=512,
)
PLACES = ((16, (7,)), (5, ()), (16, (21, 30)))
"""Of each clip: its frames, and which of the video's have a picture; all pictures are one sequence."""


def coder(name: str) -> LatentCoder:
    return LatentCoder(LatentTables.default(16)) if name == "default" else LatentCoder.load(BUNDLED / name)


def write(symbols: np.ndarray, path: Path) -> None:
    pictures = [frame for _, frames in PLACES for frame in frames]
    coded = encode_keyframes([moving_video(frame + 1, 64, 96)[frame] for frame in pictures], quality=40)
    with path.open("wb") as file:
        writer, after = RdcWriter(file, HEADER), None
        for number, (clip, step, (frames, shown)) in enumerate(zip(symbols, STEPS, PLACES, strict=True)):
            for frame in shown:
                writer.write_picture(coded[pictures.index(frame)], frame=frame, after=after)
                after = frame
            writer.write_clip(
                frames=frames,
                latent_bytes=coder("default").encode(clip, step=step),
                step=round(1024 * step),
                references=len(shown),
                cut=Cut.BACKWARD if number == 2 else Cut.NONE,
                timestamps=[2 * n * n for n in range(5)] if frames == 5 else None,
            )
        writer.write_audio(b"any Matroska file")
        writer.close(end=44)


@pytest.fixture(scope="module", autouse=True)
def refresh() -> None:
    if not os.environ.get("REFRESH_GOLDEN"):
        return
    rng = np.random.default_rng(7)
    scale = np.exp(rng.normal(-1, 1.2, (3, 1, 1, 2, 3)))
    symbols = np.rint(rng.laplace(size=(3, 16, 4, 2, 3)) * scale * 3).astype(np.int32)
    symbols[2, 3, 1, 0, 0] = 70_000  # an escape
    symbols[1] = 0
    GOLDEN.mkdir(exist_ok=True)
    np.save(GOLDEN / "symbols.npy", symbols)
    write(symbols, GOLDEN / "default.rdc")
    with (GOLDEN / "default.rdc").open("rb") as file:
        np.save(GOLDEN / "pictures.npy", np.stack(decoded(RdcReader(file))))


def decoded(reader: RdcReader) -> list[np.ndarray]:
    group, _ = reader.pictures.group(reader.pictures.frames[0])
    decoder = PictureDecoder(reader.read_pictures(group), codec="avif", width=96, height=64)
    return [decoder.decode(place) for place in range(len(group.frames))]


def test_stored_file_decodes_to_stored_symbols_and_pictures() -> None:
    symbols = np.load(GOLDEN / "symbols.npy")
    with (GOLDEN / "default.rdc").open("rb") as file:
        reader = RdcReader(file)
        assert (reader.header, reader.clips, reader.damage, reader.end) == (HEADER, 3, [], 44)
        assert [(clip.start, clip.frames, clip.references) for clip in reader] == [
            (0, 16, (7,)),
            (16, 5, ()),
            (21, 16, (21, 30)),
        ]
        assert [clip.timestamps for clip in reader] == [None, (0, 2, 8, 18, 32), None]
        assert reader.cuts == {2: Cut.BACKWARD} and b"".join(reader.audio()) == b"any Matroska file"
        for record, clip, step in zip(reader, symbols, STEPS, strict=True):
            assert record.latent is not None and record.step == 1024 * step
            assert np.array_equal(coder("default").decode(record.latent, clip.shape, step=step), clip)
            assert coder("default").encode(clip, step=step) == record.latent
        # an AV1 decoder's picture is exact; its RGB may be rounded otherwise
        difference = np.abs(np.stack(decoded(reader)).astype(int) - np.load(GOLDEN / "pictures.npy"))
        assert difference.max() <= 1


def test_the_bundled_models_tables_code_the_same_symbols() -> None:
    symbols = np.load(GOLDEN / "symbols.npy")
    lite = coder("reducio-lite")
    for clip, step in zip(symbols, STEPS, strict=True):
        assert np.array_equal(lite.decode(lite.encode(clip, step=step), clip.shape, step=step), clip)


# ------------------------------------------------------------------ FORMAT.md


def quoted(label: str) -> str:
    """What stands in FORMAT.md behind ``label`` and a colon, in backquotes."""
    found = re.search(re.escape(label) + r": `([^`]*)`", TEXT)
    assert found, f"FORMAT.md says nothing of {label!r}"
    return found.group(1)


def numbers(label: str) -> list[int]:
    return [int(number) for number in quoted(label).split()]


def test_format_md_quotes_the_stored_file() -> None:
    data = (GOLDEN / "default.rdc").read_bytes()
    assert quoted("SHA-256 of default.rdc") == hashlib.sha256(data).hexdigest()
    symbols = np.load(GOLDEN / "symbols.npy").astype("<i4").tobytes()
    assert quoted("MD5 of its symbols as little-endian int32") == hashlib.md5(symbols).hexdigest()
    reader = RdcReader((GOLDEN / "default.rdc").open("rb"))
    assert data[: reader._body].hex() == quoted("head of default.rdc")
    inflate = zlib.decompressobj(wbits=-15, zdict=_DICTIONARY)
    assert inflate.decompress(HEADER.pack()).decode() == quoted("header of default.rdc")
    assert f"```\n{_DICTIONARY.decode()}\n```\n" in TEXT
    found = list(Scanner(reader._file, start=reader._body, size=len(data)))
    rows = [(record.place, record.kind, len(record.payload), record.payload[:6].hex()) for record in found]
    table = re.findall(r"^\| (\d+) \| (\d+) [A-Z]+ \| (\d+) \| `([0-9a-f]*)` \|", TEXT, re.M)
    assert [(int(place), int(kind), int(size), start) for place, kind, size, start in table] == rows


def test_format_md_quotes_the_coders_numbers() -> None:
    assert numbers("scales") == list(LADDER) and numbers("borders") == list(THRESHOLDS)
    for scale, step in ((4, 512), (128, 512), (600, 256)):
        counted = frequencies(scale, step)
        middle = len(counted) // 2 - 1
        label = f"scale {scale}, step {step}"
        assert numbers(label) == [len(counted) - 1, *counted[middle : middle + 4].tolist(), int(counted[-1])], label
    tables = LatentTables.default(4)
    label = "default scales where no sum exists (first time, first channel, pass 0)"
    assert numbers(label) == list(tables.scales[0][0][0])
    for place in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (3, 3, 4)):
        channel, time, number = place
        assert numbers("default scales everywhere else") == list(tables.scales[channel][time][number]), place
    assert numbers("default weights of the first channel") == list(tables.weights[0][1][1])
    assert numbers("default weights of the fourth channel") == list(tables.weights[3][1][1])
