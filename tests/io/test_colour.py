"""Colours are converted by the formulas of the standards, checked against plain numpy."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from reducio_codec.errors import VideoError
from reducio_codec.io.colour import on_black
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.io.writer import VideoWriter

# Kr and Kb of the standards, and the AVColorSpace tag.
MATRICES = {"bt601": (0.299, 0.114, 6), "bt709": (0.2126, 0.0722, 1), "bt2020": (0.2627, 0.0593, 9)}
LIMITED, FULL = 1, 2


def formula(y, u, v, *, kr, kb, full, bits):
    """The definition: (H, W) samples -> (H, W, 3) float RGB in 0..255."""
    y, u, v = (np.asarray(plane, float) for plane in (y, u, v))
    scale = 2 ** (bits - 8)
    if full:
        largest = 2**bits - 1
        y, u, v = y / largest, (u - 128 * scale) / largest, (v - 128 * scale) / largest
    else:
        y, u, v = (y / scale - 16) / 219, (u / scale - 128) / 224, (v / scale - 128) / 224
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], axis=-1) * 255, 0, 255)


def write_planes(path: Path, planes, *, pix_fmt, colorspace=2, color_range=0, color_trc=2) -> Path:
    """One lossless frame of exactly these samples, with tags."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // samples.itemsize), samples.dtype)
        rows[:, : samples.shape[1]] = samples
        plane.update(rows.tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=16)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_trc = colorspace, color_range, color_trc
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def samples(height, width, *, bits, seed=0):
    """Luma noise and smooth chroma, inside the RGB cube."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    scale = 2 ** (bits - 8)
    kind = np.uint8 if bits == 8 else np.uint16
    y = np.random.default_rng(seed).integers(80 * scale, 170 * scale, (height, width))
    u = (128 + 20 * np.sin(3 * columns)) * scale
    v = (128 + 20 * np.cos(3 * rows)) * scale
    return [np.rint(plane).astype(kind) for plane in (y, u, v)]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("pix_fmt", "bits"), [("yuv444p", 8), ("yuv444p10le", 10), ("yuv444p12le", 12)])
def test_reading_follows_the_formula(tmp_path, matrix, full, pix_fmt, bits):
    kr, kb, tag = MATRICES[matrix]
    planes = samples(32, 40, bits=bits)
    path = write_planes(
        tmp_path / "a.mkv", planes, pix_fmt=pix_fmt, colorspace=tag, color_range=FULL if full else LIMITED
    )
    expected = formula(*planes, kr=kr, kb=kb, full=full, bits=bits)
    difference = np.abs(read_clip(path)[0] - expected)
    assert difference.max() <= 1.5
    assert difference.mean() < 0.6


@pytest.mark.parametrize(
    ("pix_fmt", "bits", "down", "across"),
    [("yuv420p", 8, 2, 2), ("yuv422p", 8, 1, 2), ("yuv420p10le", 10, 2, 2), ("yuv422p10le", 10, 1, 2)],
)
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full", [False, True])
def test_subsampled_chroma(tmp_path, pix_fmt, bits, down, across, matrix, full):
    kr, kb, tag = MATRICES[matrix]
    y, u, v = samples(32, 48, bits=bits)
    planes = [y, u[::down, ::across].copy(), v[::down, ::across].copy()]
    path = write_planes(
        tmp_path / "a.mkv", planes, pix_fmt=pix_fmt, colorspace=tag, color_range=FULL if full else LIMITED
    )
    expected = formula(y, u, v, kr=kr, kb=kb, full=full, bits=bits)
    assert np.abs(read_clip(path)[0] - expected).mean() < 1.5


def test_chroma_lies_on_the_left_column(tmp_path):
    """A ramp in V: at even columns the samples themselves, at odd ones halfway to the next."""
    y = np.full((16, 64), 120, np.uint8)
    u = np.full((8, 32), 128, np.uint8)
    v = np.repeat(np.arange(64, 192, 4, dtype=np.uint8)[None], 8, axis=0)  # (8, 32)
    path = write_planes(tmp_path / "a.mkv", [y, u, v], pix_fmt="yuv420p", colorspace=1, color_range=LIMITED)
    whole = 64 + 2.0 * np.arange(64)[None].repeat(16, axis=0)
    kr, kb, _ = MATRICES["bt709"]
    expected = formula(y, np.full((16, 64), 128), whole, kr=kr, kb=kb, full=False, bits=8)
    inside = np.s_[4:-4, 8:-8]
    assert np.abs(read_clip(path)[0][inside] - expected[inside]).max() <= 1.5  # centred chroma would be 1.8 off on all


@pytest.mark.parametrize(("height", "matrix"), [(48, "bt601"), (720, "bt709")])
def test_untagged_video_is_bt601_below_720_lines(tmp_path, height, matrix):
    kr, kb, _ = MATRICES[matrix]
    planes = samples(height, 16, bits=8)
    path = write_planes(tmp_path / "a.mkv", planes, pix_fmt="yuv444p")
    assert np.abs(read_clip(path)[0] - formula(*planes, kr=kr, kb=kb, full=False, bits=8)).max() <= 1.5
    with open_video(path) as reader:
        assert reader.info.colour.matrix == "unspecified"


@pytest.mark.parametrize(("pix_fmt", "bits"), [("gray", 8), ("gray10le", 10)])
@pytest.mark.parametrize("color_range", [0, LIMITED, FULL])
def test_grey_respects_its_range(tmp_path, pix_fmt, bits, color_range):
    kind = np.uint8 if bits == 8 else np.uint16
    y = np.linspace(16, 235, 64).round().astype(kind)[None].repeat(16, axis=0) * kind(2 ** (bits - 8))
    path = write_planes(tmp_path / "a.mkv", [y], pix_fmt=pix_fmt, color_range=color_range)
    level = y / 2 ** (bits - 8)
    expected = (level - 16) * 255 / 219 if color_range == LIMITED else level
    got = read_clip(path)[0]
    assert np.abs(got - expected[..., None]).max() <= 1
    assert (got[..., 0] == got[..., 1]).all()


@pytest.mark.parametrize("pix_fmt", ["bgr0", "bgra", "gbrp10le", "rgb48le"])
def test_rgb_formats_are_exact(make_video, synthetic_frames, pix_fmt):
    path = make_video("a.mkv", frames=2, codec="ffv1", pix_fmt=pix_fmt)
    assert (read_clip(path) == synthetic_frames(2)).all()


def test_bt709_written_and_read_gives_the_same_rgb(tmp_path, synthetic_frames):
    """Smooth content. The samples in the file obey BT.709 limited, whoever reads them."""
    content = np.repeat(synthetic_frames(1, width=128, height=96), 4, axis=0)
    content[:, :30, :40] = content[:, 40:70, 40:80]  # without the square
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=128, height=96, time_base=Fraction(1, 16), rate=Fraction(16), crf=1) as writer:
        for index, rgb in enumerate(content):
            writer.write(rgb, index)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)
        frame = next(container.decode(video=0))
        y, u, v = (
            np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width].copy() for plane in frame.planes
        )
    kr, kb, _ = MATRICES["bt709"]
    rough = formula(y, u.repeat(2, 0).repeat(2, 1), v.repeat(2, 0).repeat(2, 1), kr=kr, kb=kb, full=False, bits=8)
    assert np.abs(rough - content[0]).mean() < 2.5  # repeated chroma is coarse, a wrong matrix would be 5 and more
    back = read_clip(path)
    assert np.abs(back.astype(int) - content).mean() < 1.2
    assert abs((back.astype(int) - content).mean()) < 0.3


def test_wrong_matrix_would_be_noticed(tmp_path):
    """The tolerance above is small against what a mere tag would cost."""
    planes = samples(32, 32, bits=8)
    as_709, as_601 = (
        formula(*planes, kr=kr, kb=kb, full=False, bits=8) for kr, kb, _ in (MATRICES["bt709"], MATRICES["bt601"])
    )
    assert np.abs(as_709 - as_601).mean() > 2


def test_hdr_is_warned_of_once(tmp_path, caplog):
    planes = samples(16, 16, bits=10)
    path = write_planes(
        tmp_path / "a.mkv", planes, pix_fmt="yuv444p10le", colorspace=9, color_range=LIMITED, color_trc=16
    )
    with caplog.at_level(logging.WARNING):
        read_clip(path)
    assert [record.getMessage() for record in caplog.records if "HDR" in record.getMessage()] == [
        f"{path} is HDR (pq); its values are used without tone mapping"
    ]
    with open_video(path) as reader:
        assert (reader.info.colour.transfer, reader.info.colour.matrix) == ("pq", "bt2020nc")


def test_unsupported_matrix_is_refused(tmp_path):
    path = write_planes(tmp_path / "a.mkv", samples(16, 16, bits=8), pix_fmt="yuv444p", colorspace=8)
    with pytest.raises(VideoError, match=r"ycgco isn't supported; allowed: bt601, bt709"):
        read_clip(path)


def test_alpha_goes_on_black():
    rgb = np.full((1, 3, 3), 200, np.uint8)
    assert on_black(rgb, alpha=np.array([[0, 128, 255]], np.uint8))[0, :, 0].tolist() == [0, 100, 200]


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), [("a.mkv", "ffv1", "bgra"), ("a.mov", "png", "rgba")])
def test_transparent_video(tmp_path, name, codec, pix_fmt):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=16)
        stream.width, stream.height, stream.pix_fmt = 32, 16, pix_fmt
        rgba = np.full((16, 32, 4), 200, np.uint8)
        rgba[..., 3] = 255
        rgba[:, 16:, 3] = 51
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    got = read_clip(tmp_path / name)[0]
    assert (got[:, :16] == 200).all()
    assert (got[:, 16:] == 40).all()


def test_vp9_transparency(tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=16, options={"crf": "10", "b": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuva420p"
        stream.metadata["alpha_mode"] = "1"
        rgba = np.full((32, 32, 4), 200, np.uint8)
        rgba[..., 3] = 255
        rgba[:, 16:, 3] = 0
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = read_clip(tmp_path / "a.webm").astype(int)
    assert len(clip) == 3
    assert abs(clip[:, :, :12].mean() - 200) < 6
    assert clip[:, :, 20:].mean() < 6
