"""The round trip on the bundled clip and model: what it writes, and that its numbers are about those files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reducio_codec
from reducio_codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.io.video import open_video
from reducio_codec.measure.roundtrip import roundtrip
from tests.conftest import write_clip

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
