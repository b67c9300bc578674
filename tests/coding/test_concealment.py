"""Damage that leaves no picture is shown as mid-grey, and no file makes a reader decode a picture over and over."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from reducio_codec.coding.decompress import Damage, decoded_clips
from reducio_codec.errors import FormatError
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.rdc.keyframe import PictureDecoder, encode_keyframes
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.writer import RdcWriter
from tests.fuzz.records import PICTURE, Pieces
from tests.helpers import moving_video
from tests.test_files import CODEC, compressed, damaged, packets, with_sound


def broken_picture(data: bytes) -> bytes:
    """The first picture's record is intact, and what it holds is no picture."""
    pieces, done = Pieces.of(data), False
    records = []
    for kind, payload in pieces.records:
        first, done = kind == PICTURE and not done, done or kind == PICTURE
        records.append((kind, payload[:2] + bytes(len(payload) - 2) if first else payload))
    return replace(pieces, records=tuple(records)).join()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a byte": lambda data: damaged(data, clip=0, part="keyframe"),
    "no picture": broken_picture,
    "none at all": lambda data: replace(
        Pieces.of(data), records=tuple(record for record in Pieces.of(data).records if record[0] != PICTURE)
    ).join(),
}


@pytest.mark.parametrize("frames", [13, 61])
@pytest.mark.parametrize("how", DAMAGE)
def test_no_picture_left_is_mid_grey_of_the_full_length(
    how: str, frames: int, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    """The pictures of four clips are one group: what costs the first costs them all."""
    times = [40 * frame + 7 * (frame % 3) for frame in range(frames)]
    source = make_video("a.mkv", frames=frames, pts=times, time_base=Fraction(1, 1000))
    CODEC.compress(source, tmp_path / "a.rdc", keyframe_codec="avif")
    data = (tmp_path / "a.rdc").read_bytes()
    bad = DAMAGE[how](data)
    clips = -(-frames // 16)
    with CODEC.open_file(io.BytesIO(data)) as good, CODEC.open_file(io.BytesIO(bad)) as video:
        whole = [shown[1:] for shown in chain.from_iterable(decoded_clips(good, damage=Damage(conceal=False)))]
        damage = Damage(conceal=True)
        found = list(chain.from_iterable(decoded_clips(video, damage=damage)))
        stand_in, name = video.conceal_clip(0)
    assert [shown[1:] for shown in found] == whole
    assert all(picture.shape == (48, 64, 3) and (picture == 128).all() for picture, _, _ in found)
    assert stand_in.shape == (min(16, frames), 48, 64, 3) and stand_in.dtype == np.uint8 and name == "mid-grey"
    assert damage.clips == list(range(clips))
    assert sum("mid-grey is shown" in line for line in damage.problems) == clips
    report = CODEC.decompress(io.BytesIO(bad), tmp_path / "b.mkv", on_error="conceal", lossless=True)
    assert report.frames == frames and report.concealed_clips == tuple(range(clips)) and report.problems
    assert read_clip(tmp_path / "b.mkv").shape == (frames, 48, 64, 3)
    with pytest.raises(FormatError, match="conceal"):
        CODEC.decompress(io.BytesIO(bad), tmp_path / "c.mkv")


def test_grey_keeps_the_sound(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "in.mp4")
    CODEC.compress(source, tmp_path / "a.rdc", keyframe_codec="avif")
    (tmp_path / "a.rdc").write_bytes(broken_picture((tmp_path / "a.rdc").read_bytes()))
    report = CODEC.decompress(tmp_path / "a.rdc", tmp_path / "out.mp4", on_error="conceal")
    assert report.concealed_clips and packets(tmp_path / "out.mp4") == packets(source)
    with open_video(tmp_path / "out.mp4") as one, open_video(source) as other:
        assert len(list(one)) == len(list(other)) == report.frames


def test_interleaved_sequences_cost_no_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture of one sequence lies between those of others: a reader that keeps some open would begin anew at each."""
    clips, sequences = 48, 4
    pictures = list(moving_video(clips // sequences, 32, 32))
    coded = encode_keyframes(pictures, codec="avif", quality=30)
    header = RdcReader(io.BytesIO(compressed(16, 32, 32, keyframe_codec="avif"))).header
    file = io.BytesIO()
    writer = RdcWriter(file, header)
    for clip in range(clips):
        frame, after = 16 * clip + 7, 16 * (clip - sequences) + 7
        writer.write_picture(coded[clip // sequences], frame=frame, after=after if after > 0 else None)
        writer.write_clip(frames=16, latent_bytes=b"")
    writer.close()
    asked: list[int] = []
    decode = PictureDecoder.decode

    def watched(self: PictureDecoder, place: int) -> np.ndarray:
        asked.append(place)
        return decode(self, place)

    monkeypatch.setattr(PictureDecoder, "decode", watched)
    monkeypatch.setattr("reducio_codec.coding.gallery._KEPT_BYTES", 0)  # as with large pictures
    with CODEC.open_file(io.BytesIO(file.getvalue())) as video:
        damage = Damage(conceal=True)
        assert len(list(chain.from_iterable(decoded_clips(video, damage=damage)))) == 16 * clips
        assert len(asked) <= 2 * clips
        assert any("which can't be" in problem for problem in video.damage)
