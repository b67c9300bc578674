"""The round trip on the bundled clip and model: what it writes, and that its numbers are about those files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import reducio_codec
from reducio_codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_unit
from reducio_codec.io.video import open_video
from reducio_codec.measure.evaluate import measure
from reducio_codec.measure.roundtrip import roundtrip
from reducio_codec.metrics.ms_ssim import ms_ssim
from reducio_codec.metrics.psnr import psnr
from reducio_codec.metrics.ssim import ssim
from tests.conftest import write_clip
from tests.helpers import TinyModel, moving_video

EXAMPLE = Path(reducio_codec.__file__).parent / "assets" / "flower.mp4"


@pytest.fixture(scope="module")
def codec() -> ReducioCodec:
    return ReducioCodec.from_pretrained("reducio-lite", decoders=("linear",))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 20 frames of the bundled clip, 128x128 from the middle, with their own times."""
    with open_video(EXAMPLE) as reader:
        frames = [frame for _, frame in zip(range(20), reader, strict=False)]
        base = reader.info.time_base
    top, left = ((side - 128) // 2 for side in frames[0].rgb.shape[:2])
    pixels = np.stack([frame.rgb[top : top + 128, left : left + 128] for frame in frames])
    path = tmp_path_factory.mktemp("video") / "flower.mp4"
    return write_clip(path, pixels, pts=[frame.pts for frame in frames], time_base=base, options={"crf": "12"})


def test_a_real_clip(codec: ReducioCodec, video: Path, tmp_path: Path) -> None:
    found = roundtrip(codec, video, tmp_path / "out")
    file, decoded, beside, strip = found.outputs
    assert file.stat().st_size == found.file.bytes
    assert found.decoded.psnr.pooled_without_keyframe > found.copied.psnr.pooled_without_keyframe + 1
    assert found.decoded.ssim > found.copied.ssim
    with open_video(video) as source, open_video(decoded) as result:
        before, after = list(source), list(result)
    assert [f.rgb.shape for f in before] == [f.rgb.shape for f in after]
    first = before[0].pts * source.info.time_base
    times = [float(f.pts * source.info.time_base - first) for f in before]
    assert np.allclose(times, [float(f.pts * result.info.time_base - first) for f in after], atol=1e-4)
    with open_video(beside) as pair:
        assert pair.info.width >= 3 * before[0].rgb.shape[1]
    assert Image.open(strip).size[0] >= 8 * 96


def test_nothing_is_written_where_a_file_stands(codec: ReducioCodec, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("here")
    with pytest.raises(InputError, match="need a folder"):
        roundtrip(codec, EXAMPLE, blocked)
    assert blocked.read_text() == "here"


def test_frames_in_memory_are_measured_as_their_file_is(tmp_path: Path) -> None:
    codec = ReducioCodec(TinyModel())
    frames = moving_video(20, 32, 48)
    pictures = (Image.fromarray(frame) for frame in frames)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    expected = roundtrip(codec, folder, tmp_path / "a", rate=12)
    for form in (pictures, frames):
        found = roundtrip(codec, form, tmp_path / "b", rate=12)
        assert found.decoded == expected.decoded and found.file.bytes == expected.file.bytes
        assert [path.name for path in found.outputs][:2] == ["video.rdc", "video.decoded.mp4"]
    with pytest.raises(InputError, match="give rate="):
        roundtrip(codec, list(frames), tmp_path / "c")
    assert not list((tmp_path / "c").glob("*"))


def test_the_protocol_takes_a_clip_in_any_form() -> None:
    codec = ReducioCodec(TinyModel())
    clip = moving_video(16, 32, 64)
    options = {"quality": 50, "steps": [0.5], "efforts": [0]}
    found = measure(codec, clip, **options)
    assert measure(codec, [Image.fromarray(frame) for frame in clip], **options) == found
    assert measure(codec, to_unit(torch.from_numpy(clip)).permute(3, 0, 1, 2)[None], **options) == found
    with pytest.raises(InputError, match="the clip has 5 frames; allowed: 16"):
        measure(codec, clip[:5], **options)


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim])
def test_metrics_refuse_what_they_would_misread(metric: Callable[..., float]) -> None:
    picture = moving_video(1, 32, 48)[0]
    for wrong in (picture / np.float32(255), picture.astype(np.int16), torch.from_numpy(picture)):
        with pytest.raises(InputError, match=r"allowed: uint8 arrays.*to_bytes"):
            metric(picture, wrong)
    with pytest.raises(InputError, match="one shape"):
        metric(picture, picture[1:])
