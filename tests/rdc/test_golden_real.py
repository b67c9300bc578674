"""Stored files of real video, made by the bundled models, still decode to the same.

``golden/real/NAME.rdc`` has beside it ``NAME.webp``: some of its decoded frames, one below the other, lossless. ``facts.json``
has the MD5 of its latents' symbols, which are the same on every machine. Pictures may differ by the rounding of a CPU's
float32: by ``LARGEST`` of 255 at most and ``MEAN`` in the mean, which is far below what any change of the format does.
``golden/real/SOURCES.md`` says what the videos are.

``REFRESH_GOLDEN=1 pytest tests/rdc/test_golden_real.py`` writes them anew, from ../shared/corpus; only a new format version
or new bundled weights may do so.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.io.video import open_video
from reducio_codec.rdc.ranges import UNIT
from reducio_codec.rdc.reader import RdcReader
from tests.conftest import write_clip
from tests.io.test_audio import film

REAL = Path(__file__).parent / "golden" / "real"
LARGEST, MEAN = 3, 0.05
VIDEOS = {
    "flower": "val/0170_interactive-examples-flower_000462.mp4",
    "friday": "val/0171_interactive-examples-friday_001043.mp4",
    "street": "val/0055_media-sample-with-increasing-timestamps-360p_004032.mp4",
}


@cache
def codec(model: str) -> ReducioCodec:
    return ReducioCodec.from_pretrained(model)


def real(corpus: Path, name: str, frames: int, *, width: int = 96, height: int = 64) -> np.ndarray:
    """The first frames of a corpus video, made small: (frames, height, width, 3) uint8."""
    found = []
    with open_video(corpus / VIDEOS[name]) as reader:
        for frame in reader:
            picture = Image.fromarray(frame.rgb).resize((width, height), Image.Resampling.LANCZOS)
            found.append(np.asarray(picture))
            if len(found) == frames:
                break
    return np.stack(found)


def group(corpus: Path, folder: Path, out: Path) -> None:
    """Four clips whose pictures are one AV1 sequence."""
    codec("reducio-test").compress(iter(real(corpus, "street", 64)), out, rate=16, keyframes=1, keyframe_quality=40)


def steps(corpus: Path, folder: Path, out: Path) -> None:
    """Steps and qualities of each clip's own, that a rate asked for."""
    video = np.concatenate([real(corpus, "flower", 16), real(corpus, "street", 16), real(corpus, "friday", 16)])
    codec("reducio-test").compress(iter(video), out, rate=16, keyframes=1, seek_every=1.0, target_kbps=8)


def sound(corpus: Path, folder: Path, out: Path) -> None:
    """A short last clip, sound, pictures of WebP."""
    path = film(folder / "sound.mp4", real(corpus, "flower", 21), seconds=1)
    codec("reducio-test").compress(path, out, keyframe_codec="webp", keyframe_quality=30)


def odd(corpus: Path, folder: Path, out: Path) -> None:
    """An odd size, and times that vary; the last picture is shown for long."""
    pts = [40 * n + 3 * (n % 5) for n in range(20)]
    frames = real(corpus, "street", 20, width=75, height=51)
    path = write_clip(folder / "odd.mkv", frames, pts=pts, time_base=Fraction(1, 1000), codec="ffv1", pix_fmt="bgr0")
    codec("reducio-test").compress(path, out, keyframe_index=3, latent_step=0.25)


def cuts(corpus: Path, folder: Path, out: Path) -> None:
    """Two references over scene cuts, decoded by ``sharp`` of ``reducio-lite``."""
    video = np.concatenate([real(corpus, "flower", 32), real(corpus, "street", 24)])
    codec("reducio-lite").compress(iter(video), out, rate=16, keyframes=1, references=2, keyframe_quality=40)


def content(corpus: Path, folder: Path, out: Path) -> None:
    """Key frames where something moves: clips that have none, one and many."""
    street = real(corpus, "street", 32)
    video = np.concatenate([np.repeat(street[:1], 32, 0), street])
    codec("reducio-test").compress(iter(video), out, rate=16)


MAKERS: dict[str, Callable[[Path, Path, Path], None]] = {
    make.__name__: make for make in (group, steps, sound, odd, cuts, content)
}


def symbols_md5(video: RdcVideo, coder: Any) -> str:
    """Of all clips' symbols, one behind the other, as little-endian int32."""
    total, grid = hashlib.md5(), (-(-video.header.height // 32), -(-video.header.width // 32))
    for number in range(video.clips):
        record = video.record(number)
        assert record.latent is not None
        symbols = coder.decode(record.latent, (*video.header.latent, *grid), step=record.step / UNIT)
        total.update(symbols.astype("<i4").tobytes())
    return total.hexdigest()


def facts(video: RdcVideo, coder: Any) -> dict[str, Any]:
    """What has to stay as it is, to the bit."""
    records = [video.record(number) for number in range(video.clips)]
    track = video.audio()
    return {
        "model": video.header.model,
        "size": [video.header.width, video.header.height],
        "clips": [[record.start, record.frames, record.lead, record.step] for record in records],
        "references": [list(record.references) for record in records],
        "cuts": {str(number): int(cut) for number, cut in video._reader.cuts.items()},
        "times": [time for record in records for time in video.times(record)] + [video.end(records[-1])],
        "sound": None if track is None else track.codec,
        "symbols": symbols_md5(video, coder),
    }


def shown(video: RdcVideo) -> list[int]:
    """Frames whose pictures are stored: the key frame of the clip in the middle, one beside it, and the last."""
    record = video.record(video.clips // 2)
    middle = (*record.references, record.start)[0]
    return sorted({middle, min(middle + 5, video.frames - 1), video.frames - 1})


@pytest.fixture(scope="module", autouse=True)
def refresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    if not os.environ.get("REFRESH_GOLDEN"):
        return
    corpus, found = request.getfixturevalue("corpus"), {}
    for name, make in MAKERS.items():
        make(corpus, tmp_path_factory.mktemp(name), REAL / f"{name}.rdc")
        with opened(name) as video:
            found[name] = facts(video, codec(video.header.model).coder)
            strip = np.concatenate([video[number] for number in shown(video)])
        Image.fromarray(strip).save(REAL / f"{name}.webp", lossless=True, method=6)
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(fact)}" for name, fact in found.items())
    (REAL / "facts.json").write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


def opened(name: str) -> RdcVideo:
    path = REAL / f"{name}.rdc"
    with path.open("rb") as file:
        header = RdcReader(file).header
    return codec(header.model).open_file(path)


@pytest.mark.parametrize("name", MAKERS)
def test_a_stored_real_file_decodes_as_before(name: str) -> None:
    with opened(name) as video:
        assert not video.damage and not any(video.record(number).damage for number in range(video.clips))
        assert facts(video, codec(video.header.model).coder) == json.loads((REAL / "facts.json").read_text())[name]
        strip = np.concatenate([video[number] for number in shown(video)]).astype(int)
    with Image.open(REAL / f"{name}.webp") as stored:
        difference = np.abs(strip - np.asarray(stored.convert("RGB")))
    assert difference.max() <= LARGEST and difference.mean() <= MEAN, (difference.max(), difference.mean())


def test_they_hold_one_of_everything() -> None:
    """So that nobody refreshes away what they are for."""
    every = json.loads((REAL / "facts.json").read_text())
    assert every.keys() == MAKERS.keys()
    with opened("group") as video:
        assert [len(video._reader.pictures.group(frame)[0].frames) for frame in (7, 55)] == [4, 4]
    assert len({step for *_, step in every["steps"]["clips"]}) > 1
    assert every["sound"]["sound"] == "aac" and every["sound"]["clips"][-1][1] == 5
    assert every["odd"]["size"] == [75, 51] and len({b - a for a, b in itertools.pairwise(every["odd"]["times"])}) > 2
    with opened("cuts") as video:
        assert video.header.references == 2 and every["cuts"]["cuts"]
        assert video.choose_decoder() == ("sharp", 2)
    assert {0, 1} < {len(frames) for frames in every["content"]["references"]}, "none, one and many"
    assert all((REAL / f"{name}.rdc").stat().st_size < 12_000 for name in MAKERS)
    notes = (REAL / "SOURCES.md").read_text(encoding="utf-8")
    assert all(Path(path).name in notes for path in VIDEOS.values())
