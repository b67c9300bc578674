"""Frames by number and by time, as torchcodec's users ask for them."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.rdc_video import RdcVideo
from reducio_codec.errors import FormatError, InputError
from reducio_codec.rdc.layers.times import Times
from tests.fuzz.records import Pieces
from tests.helpers import TinyModel, decoded_clips, moving_video
from tests.test_files import damaged

CODEC = ReducioCodec(TinyModel())


def compressed(frames: int, **options: Any) -> bytes:
    file = io.BytesIO()
    CODEC.compress(iter(moving_video(frames, 32, 48)), file, **{"rate": 30, **options})
    return file.getvalue()


@pytest.fixture(scope="module")
def data() -> bytes:
    """37 frames at 30 a second."""
    return compressed(37)


def test_frames_by_number_in_any_order(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = decoded_clips(monkeypatch)
    numbers = [20, 3, -1, 20, 16, 0, 15]
    with CODEC.open_file(io.BytesIO(data)) as video:
        whole = video[:]
        decoded.clear()
        batch = video.get_frames_at(numbers)
        assert decoded == [0, 1, 2]  # each clip once
        assert batch.data.dtype == torch.uint8 and batch.data.shape == (7, 32, 48, 3) and len(batch) == 7
        np.testing.assert_array_equal(batch.data.numpy(), whole[numbers])
        assert batch.pts_seconds.tolist() == [number % 37 / 30 for number in numbers]
        torch.testing.assert_close(batch.duration_seconds, torch.full((7,), 1 / 30, dtype=torch.float64))
        for same in (np.array(numbers), torch.tensor(numbers), tuple(numbers), iter(numbers)):
            assert torch.equal(video.get_frames_at(same).data, batch.data)
        none = video.get_frames_at([])
        assert none.data.shape == (0, 32, 48, 3) and none.pts_seconds.shape == none.duration_seconds.shape == (0,)


def test_a_decoder_may_be_named(data: bytes) -> None:
    with CODEC.open_file(io.BytesIO(data)) as video:
        for decoder in (None, "copy", "mean"):
            frames = video.get_frames_at([0, 5], decoder=decoder).data.numpy()
            np.testing.assert_array_equal(frames, video.decode_clip(0, decoder=decoder)[[0, 5]])
        assert not np.array_equal(video[0], video.get_frames_at([0], decoder="copy").data[0].numpy())


def test_a_frame_is_shown_from_its_time_until_the_next_ones(data: bytes) -> None:
    with CODEC.open_file(io.BytesIO(data)) as video:
        whole = video[:]
        wanted = {0: 0, 1 / 30: 1, 0.99 / 30: 0, 1.01 / 30: 1, 1: 30, 36 / 30: 36, 37 / 30 - 1e-9: 36, 16 / 30: 16}
        batch = video.get_frames_played_at(wanted)
        np.testing.assert_array_equal(batch.data.numpy(), whole[list(wanted.values())])
        again = video.get_frames_played_at(batch.pts_seconds)  # what came out goes in
        assert torch.equal(again.data, batch.data) and torch.equal(again.pts_seconds, batch.pts_seconds)
        every = video.get_frames_played_at([number / 30 for number in range(37)])
        np.testing.assert_array_equal(every.data.numpy(), whole)
        assert float(video.duration) == video.frame_times[-1] == 37 / 30


def test_times_that_vary(make_video: Callable[..., Path], tmp_path: Path) -> None:
    """Milliseconds, the first frame not at 0, a pause of a second in the second clip."""
    times = [500 + 40 * frame + 7 * (frame % 3) + 1000 * (frame > 20) for frame in range(37)]
    CODEC.compress(make_video("a.mkv", frames=37, pts=times, time_base=Fraction(1, 1000)), tmp_path / "a.rdc")
    with CODEC.open_file(tmp_path / "a.rdc") as video:
        begin = [(time - times[0]) / 1000 for time in times]
        np.testing.assert_allclose(video.frame_times[:-1], begin, atol=1e-9)
        batch = video.get_frames_played_at([begin[20] + 0.9, begin[21], *begin])
        np.testing.assert_array_equal(batch.data.numpy(), video[:][[20, 21, *range(37)]])
        torch.testing.assert_close(batch.duration_seconds[0], torch.tensor(begin[21] - begin[20], dtype=torch.float64))


def test_lost_times_still_rise(make_video: Callable[..., Path], tmp_path: Path) -> None:
    times = [40 * frame + 7 * (frame % 3) for frame in range(50)]
    CODEC.compress(make_video("a.mkv", frames=50, pts=times), tmp_path / "a.rdc")
    pieces = Pieces.of((tmp_path / "a.rdc").read_bytes())
    kept = tuple(record for record in pieces.records if record[0] != Times.KIND or record[1][0] != 1)
    assert len(kept) < len(pieces.records)
    with CODEC.open_file(io.BytesIO(Pieces(pieces.header, kept).join())) as video:
        assert (np.diff(video.frame_times) > 0).all()
        assert len(video.get_frames_played_at([0])) == 1
        with pytest.raises(FormatError, match="clip 1"):
            video.get_frames_at([20])


def test_damage_elsewhere_costs_nothing(data: bytes) -> None:
    bad = damaged(compressed(37, keyframe_codec="png", latent_step=1 / 64), clip=1, part="latent")
    with CODEC.open_file(io.BytesIO(bad)) as video:
        assert len(video.get_frames_at([0, 36])) == 2
        with pytest.raises(FormatError, match="clip 1"):
            video.get_frames_played_at([20 / 30])


WRONG: dict[str, Callable[[RdcVideo], Any]] = {
    "beyond the end": lambda video: video.get_frames_at([0, 37]),
    "before the start": lambda video: video.get_frames_at([-38]),
    "after the last frame": lambda video: video.get_frames_played_at([37 / 30]),
    "before 0": lambda video: video.get_frames_played_at([-0.01]),
    "never": lambda video: video.get_frames_played_at([float("inf")]),
    "no number": lambda video: video.get_frames_played_at([float("nan")]),
    "a name": lambda video: video.get_frames_at("12"),
    "names": lambda video: video.get_frames_at(["a"]),
    "a time by name": lambda video: video.get_frames_played_at(["0.5"]),
    "half a frame": lambda video: video.get_frames_at([0.5]),
    "one frame": lambda video: video.get_frames_at(3),
    "one time": lambda video: video.get_frames_played_at(0.5),
    "an array of no axis": lambda video: video.get_frames_at(np.array(3)),
    "a tensor of no axis": lambda video: video.get_frames_played_at(torch.tensor(0.5)),
    "pairs": lambda video: video.get_frames_at([(1, 2)]),
    "pairs of times": lambda video: video.get_frames_played_at(np.zeros((2, 2))),
    "a truth": lambda video: video.get_frames_at([True]),
    "a decoder": lambda video: video.get_frames_at([0], decoder="sharpest"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_use_is_an_error_of_ours(what: str, data: bytes) -> None:
    with CODEC.open_file(io.BytesIO(data)) as video:
        with pytest.raises(InputError) as caught:
            WRONG[what](video)
        beyond = ("beyond the end", "before the start", "after the last frame", "before 0", "never")
        assert isinstance(caught.value, IndexError) == (what in beyond)
    with pytest.raises(InputError, match="closed"):
        video.get_frames_at([0])
