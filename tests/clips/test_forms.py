"""Whatever holds a video or a picture is taken by every entry point, and means the same everywhere."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from reducio_codec import ReducioCodec
from reducio_codec.clips.forms import as_frame, as_video
from reducio_codec.errors import InputError
from reducio_codec.generate.pictures import load_picture
from reducio_codec.io.pixels import to_unit
from tests.helpers import TinyModel, moving_video

VIDEO = moving_video(18, 40, 50)

Form = Callable[[NDArray[np.uint8]], Any]


def unit(video: NDArray[np.uint8]) -> torch.Tensor:
    return to_unit(torch.from_numpy(video))  # (T, H, W, 3)


FORMS: dict[str, Form] = {
    "array": lambda v: v,
    "tensor": torch.from_numpy,
    "batch": lambda v: v[None],
    "channels first": lambda v: v.transpose(3, 0, 1, 2),
    "pictures of torchvision": lambda v: torch.from_numpy(v).permute(0, 3, 1, 2),
    "bytes as models have floats": lambda v: torch.from_numpy(v).permute(3, 0, 1, 2)[None],
    "floats": lambda v: unit(v).permute(3, 0, 1, 2)[None],
    "floats without a batch": lambda v: unit(v).permute(3, 0, 1, 2),
    "floats with channels last": lambda v: unit(v).numpy(),
    "doubles": lambda v: unit(v).double().numpy(),
    "half floats": lambda v: torch.stack([frame for frame in unit(v)]).to(torch.float64),
    "list": list,
    "tuple of tensors": lambda v: tuple(torch.from_numpy(v)),
    "list of floats": lambda v: [frame.permute(2, 0, 1) for frame in unit(v)],
    "generator": lambda v: (frame for frame in v),
    "pillow": lambda v: [Image.fromarray(frame) for frame in v],
}


@pytest.fixture
def codec() -> ReducioCodec:
    return ReducioCodec(TinyModel())


@pytest.mark.parametrize("form", FORMS)
def test_every_entry_point_takes(codec: ReducioCodec, form: str) -> None:
    make = FORMS[form]
    latent, keyframe = codec.encode(VIDEO)
    found, picture = codec.encode(make(VIDEO))
    torch.testing.assert_close(found.plain(), latent.plain(), atol=1e-5, rtol=0)
    torch.testing.assert_close(picture, keyframe, atol=1e-6, rtol=0)
    assert found.num_frames == 18
    streamed = torch.cat([clip.latent for clip in codec.encode_stream(make(VIDEO))], 1)
    torch.testing.assert_close(streamed, latent.plain()[0], atol=1e-5, rtol=0)
    expected, file = io.BytesIO(), io.BytesIO()
    codec.compress(list(VIDEO), expected, rate=16)
    codec.compress(make(VIDEO), file, rate=16)
    assert file.getvalue() == expected.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: p,
        torch.from_numpy,
        Image.fromarray,
        lambda p: torch.from_numpy(p).permute(2, 0, 1),
        lambda p: unit(p).permute(2, 0, 1),
        lambda p: unit(p).numpy(),
    ],
)
def test_a_picture_is_taken_as_a_frame_and_to_be_animated(make: Form) -> None:
    picture = VIDEO[3]
    assert np.array_equal(as_frame(make(picture), size=None), picture)
    assert np.array_equal(load_picture(make(picture)), picture)


def test_a_picture_of_pillow_is_a_video_of_one_frame(codec: ReducioCodec) -> None:
    latent, _ = codec.encode(Image.fromarray(VIDEO[0]))
    assert torch.equal(latent.plain(), codec.encode(VIDEO[:1])[0].plain())


def test_pictures_of_pillow_become_rgb_as_files_do() -> None:
    grey, clear = Image.fromarray(VIDEO[0, ..., 0]), Image.new("RGBA", (50, 40), (200, 100, 0, 51))
    assert np.array_equal(as_video([grey])[0, :, 0].permute(1, 2, 0).numpy(), np.repeat(VIDEO[0, ..., :1], 3, 2))
    assert as_video([clear])[0, :, 0, 5, 5].tolist() == [40, 20, 0]


def test_axes_of_one_length() -> None:
    assert as_video(np.zeros((3, 8, 9, 3), np.uint8)).shape == (1, 3, 3, 8, 9)
    assert as_video(torch.zeros(1, 3, 3, 8, 3)).shape == (1, 3, 3, 8, 3)
    for shape in ((3, 8, 9, 3), (3, 3, 8, 9)):
        with pytest.raises(InputError, match=r"could be .* or .*; give it five axes"):
            as_video(torch.zeros(shape))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (VIDEO[..., 0], r"grey.*video\[\.\.\., None\]\.repeat\(3, axis=-1\)"),
        (torch.from_numpy(VIDEO[..., 0]), r"grey.*video\[\.\.\., None\]\.repeat_interleave\(3, dim=-1\)"),
        (VIDEO[..., :1], r"grey.*video\.repeat\(3, axis=-1\)"),
        (unit(VIDEO[..., :1]).permute(3, 0, 1, 2)[None], r"grey.*video\.repeat_interleave\(3, dim=1\)"),
        (VIDEO[..., [0, 1, 2, 0]], r"transparency.*video\[\.\.\., :3\]"),
        (torch.from_numpy(VIDEO[..., [0, 1, 2, 0]]).permute(0, 3, 1, 2), r"transparency.*video\[:, :3\]"),
        (VIDEO[0], r"one picture.*video\[None\]"),
        (unit(VIDEO[0]).permute(2, 0, 1), r"one picture.*video\[None\]"),
        ([VIDEO[0, ..., 0]], r"frame has shape \(40, 50\).*grey.*frame\[\.\.\., None\]\.repeat\(3, axis=-1\)"),
        ([VIDEO[0][..., [0, 1, 2, 0]]], r"frame has shape.*transparency.*frame\[\.\.\., :3\]"),
        ([VIDEO, VIDEO], r"frame has shape \(18, 40, 50, 3\).*several videos.*\(B, T, H, W, 3\)"),
        ([VIDEO[0], VIDEO[0, 1:]], "frame is 50x39, the ones before were 50x40"),
        ([VIDEO[0], unit(VIDEO[0])], "frame is torch.float32, the ones before were torch.uint8"),
        ([], "0 frames"),
        (VIDEO.astype(np.int64), r"int64.*astype\(numpy.uint8\)"),
        (torch.from_numpy(VIDEO).long(), r"int64.*\.to\(torch.uint8\)"),
        (["a.png"], "frame is a str"),
        (b"abc", "video is a bytes"),
        ({1: 2}, "video is a dict"),
        (7, "video is a int"),
        (unit(VIDEO).permute(0, 3, 1, 2)[None], r"permute\(0, 2, 1, 3, 4\)"),
    ],
)
def test_a_refusal_says_what_to_do(video: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_video(video)


def entries(codec: ReducioCodec) -> Iterator[tuple[str, Callable[[Any], object]]]:
    yield "encode", codec.encode
    yield "stream", lambda video: list(codec.encode_stream(video))
    yield "compress", lambda video: codec.compress(video, io.BytesIO(), rate=8)


def test_floats_from_0_to_1_are_noticed(codec: ReducioCodec) -> None:
    wrong = torch.from_numpy(VIDEO / np.float32(255))
    for _, call in entries(codec):
        for form in (wrong, list(wrong), wrong.permute(3, 0, 1, 2)[None].numpy()):
            with pytest.warns(UserWarning, match=r"\[0, 1\].*2 \* (video|frame) - 1") as caught:
                call(form)
            assert {Path(item.filename) for item in caught} == {Path(__file__)}  # where the mistake is
    with pytest.warns(UserWarning, match=r"\[0, 1\].*2 \* image - 1"):
        load_picture(wrong[0].permute(2, 0, 1))
    latent, keyframe = codec.encode(VIDEO)
    with pytest.warns(UserWarning, match=r"\[0, 1\].*2 \* keyframe - 1"):
        codec.decode(latent, (keyframe + 1) / 2)


def test_bytes_as_floats_are_refused(codec: ReducioCodec) -> None:
    for _, call in entries(codec):
        for form in (VIDEO.astype(np.float32), list(VIDEO.astype(np.float32))):
            with pytest.raises(InputError, match=r"divide bytes by 127\.5 and subtract 1"):
                call(form)


def test_floats_that_are_right_raise_no_doubt(codec: ReducioCodec) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec.encode(unit(VIDEO))
        codec.encode(torch.zeros(1, 3, 2, 32, 32))
        frames = unit(VIDEO)
        frames[5] = torch.linspace(0.5, 1, 50)[None, :, None]  # a flash of light
        list(codec.encode_stream(frames))
        list(codec.encode_stream(list(frames)))


def test_bright_bytes_raise_no_doubt(codec: ReducioCodec) -> None:
    bright = 128 + VIDEO // 2
    latent, _ = codec.encode(VIDEO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec.encode(bright)
        codec.decode(latent, bright[[7, 16]])
        load_picture(bright[0])


def test_files_take_one_video(codec: ReducioCodec) -> None:
    with pytest.raises(InputError, match="a batch of 2 videos"):
        codec.compress(np.stack([VIDEO, VIDEO]), io.BytesIO(), rate=8)
    with pytest.raises(InputError, match="a batch of 2 videos"):
        list(codec.encode_stream(np.stack([VIDEO, VIDEO])))


def test_a_stream_from_a_path(codec: ReducioCodec, make_video: Callable[..., Any]) -> None:
    path = make_video(frames=18, width=50, height=40)
    latent, _ = codec.encode(path)
    streamed = torch.cat([clip.latent for clip in codec.encode_stream(str(path))], 1)
    assert torch.equal(streamed, latent.plain()[0])
    with pytest.raises(InputError, match="doesn't exist"):
        codec.encode_stream(path.with_name("none.mp4"))


KEY_FORMS: dict[str, Form] = {
    "bytes": lambda k: k,
    "pillow": lambda k: [Image.fromarray(picture) for picture in k],
    "floats of NumPy": lambda k: unit(k).permute(3, 0, 1, 2)[None].numpy(),
    "pictures of torchvision": lambda k: torch.from_numpy(k).permute(0, 3, 1, 2),
    "generator": lambda k: (picture for picture in k),
}


@pytest.mark.parametrize("form", KEY_FORMS)
def test_key_frames_and_latents_to_decode(codec: ReducioCodec, form: str) -> None:
    latent, keyframe = codec.encode(VIDEO)
    expected = codec.decode(latent, keyframe)
    pictures = VIDEO[[7, 16]]
    assert torch.equal(codec.decode(latent, KEY_FORMS[form](pictures)), expected)
    assert torch.equal(codec.decode(latent.numpy(), KEY_FORMS[form](pictures), num_frames=18), expected)
    first, second = io.BytesIO(), io.BytesIO()
    codec.write_file(latent, keyframe, first, rate=16)
    codec.write_file(latent.numpy(), KEY_FORMS[form](pictures), second, rate=16, num_frames=18)
    assert first.getvalue() == second.getvalue()


@pytest.mark.parametrize("make", [lambda p: p, Image.fromarray, lambda p: unit(p).permute(2, 0, 1)])
def test_one_key_frame_is_a_picture(codec: ReducioCodec, make: Form) -> None:
    latent, keyframe = codec.encode(VIDEO[:16])
    assert torch.equal(codec.decode(latent, make(VIDEO[7])), codec.decode(latent, keyframe))
    with pytest.raises(InputError, match=r"keyframe has shape \(40, 50\).*grey.*keyframe\["):
        codec.decode(latent, VIDEO[7, ..., 0])
    with pytest.raises(InputError, match=r"keyframe has shape .*transparency.*keyframe\[\.\.\., :3\]"):
        codec.decode(latent, VIDEO[7][..., [0, 1, 2, 0]])
