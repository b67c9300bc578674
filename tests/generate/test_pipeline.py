"""Picture to video, whole: sizes, seeds, lengths, several at once, and what goes wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError, MissingDependencyError, ReducioError
from reducio_codec.generate import GenerationCancelled, ReducioDiTPipeline, optional
from reducio_codec.generate.continuation import (
    clips_of,
    frames_of,
    known_start,
    picture_detail,
    sharpened,
    without_offset,
)
from tests.generate.conftest import SaveDit
from tests.helpers import moving_video

PICTURE = moving_video(1, 64, 64, seed=3)[0]
FAST: dict[str, Any] = {"steps": 3, "seed": 0}


@pytest.fixture
def pipe(dit_folder: SaveDit, codec_folder: Path) -> ReducioDiTPipeline:
    return ReducioDiTPipeline.from_pretrained(dit_folder(), codec=codec_folder, dtype=torch.float32)


def test_a_clip_around_the_picture(pipe: ReducioDiTPipeline) -> None:
    video = pipe(image=PICTURE, **FAST)
    assert video.shape == (16, 64, 64, 3) and video.dtype == np.uint8
    assert np.array_equal(video[7], PICTURE)
    assert np.abs(video[15].astype(int) - PICTURE).mean() > 0.5  # a toy's motion is noise, but it is there


def test_seeds(pipe: ReducioDiTPipeline) -> None:
    first = pipe(image=PICTURE, **FAST)
    assert np.array_equal(first, pipe(image=PICTURE, **FAST))
    assert not np.array_equal(first, pipe(image=PICTURE, steps=3, seed=1))
    assert not np.array_equal(pipe(image=PICTURE, steps=3), pipe(image=PICTURE, steps=3))


def test_several_at_once(pipe: ReducioDiTPipeline) -> None:
    """Each clip is what it is alone, up to the rounding of batched products."""
    other = moving_video(1, 64, 64, seed=4)[0]
    both = pipe(image=[PICTURE, other], steps=3, seed=[5, 9])
    assert both.shape == (2, 16, 64, 64, 3)
    for picture, seed, video in ((PICTURE, 5, both[0]), (other, 9, both[1])):
        alone = pipe(image=picture, steps=3, seed=seed)
        assert np.abs(alone.astype(int) - video).max() <= 1
    counted = pipe(image=[PICTURE, PICTURE], steps=3, seed=5)
    assert np.abs(counted[0].astype(int) - both[0]).max() <= 1 and not np.array_equal(counted[0], counted[1])
    assert pipe(image=PICTURE, steps=3, seed=[5]).shape == (1, 16, 64, 64, 3)


@pytest.mark.parametrize("size", [(64, 64), (50, 77), (1, 1), (33, 20)])
def test_any_size(pipe: ReducioDiTPipeline, size: tuple[int, int]) -> None:
    picture = moving_video(1, *size)[0]
    video = pipe(image=picture, **FAST)
    assert video.shape == (16, *size, 3)
    assert np.array_equal(video[7], picture)


def test_large_pictures_are_reduced_and_sizes_can_be_asked_for(pipe: ReducioDiTPipeline, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(moving_video(1, 300, 400)[0]).save(path)
    _, height, width, _ = pipe(image=path, **FAST).shape
    assert (height, width) == (64, 85)
    assert pipe(image=path, height=40, width=100, **FAST).shape == (16, 40, 100, 3)


@pytest.mark.parametrize("changes", [{"objective": "flow"}, {"attention": "factorised"}, {"patch_space": 2}], ids=str)
def test_other_models(dit_folder: SaveDit, codec_folder: Path, changes: dict[str, Any]) -> None:
    pipe = ReducioDiTPipeline.from_pretrained(dit_folder(**changes), codec=codec_folder)
    assert pipe(image=PICTURE[:40, :50], **FAST).shape == (16, 40, 50, 3)
    assert pipe(image=PICTURE, seconds=1.5, **FAST).shape == (24, 64, 64, 3)


def test_longer_video_goes_on_from_its_last_frame(pipe: ReducioDiTPipeline) -> None:
    one = pipe(image=PICTURE, **FAST)
    long = pipe(image=PICTURE, seconds=3, **FAST)
    assert long.shape == (48, 64, 64, 3)
    assert np.array_equal(long[:16], one)
    # frame 24 is the last of the second clip and the key picture of the third, shown once
    assert not np.array_equal(long[23], long[24])
    assert pipe(image=PICTURE, seconds=1.3, **FAST).shape[0] == 21


def test_the_key_picture_of_a_later_clip_is_the_last_frame(
    pipe: ReducioDiTPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyframes: list[torch.Tensor] = []
    decode = ReducioCodec.decode

    def watch(self: ReducioCodec, latent: torch.Tensor, keyframe: torch.Tensor, **options: Any) -> torch.Tensor:
        keyframes.append(keyframe[:, :, 0])
        return decode(self, latent, keyframe, **options)

    monkeypatch.setattr(ReducioCodec, "decode", watch)
    video = pipe(image=PICTURE, seconds=2, **FAST)
    assert len(keyframes) == 3
    for number, frame in ((1, 15), (2, 23)):
        shown = ((keyframes[number][0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
        assert np.array_equal(shown, video[frame])


def test_motion_is_handed_on(pipe: ReducioDiTPipeline, codec: ReducioCodec) -> None:
    """What is given to the sampler decodes to the frames before the join, which a clip of its own would not show."""
    frames = torch.from_numpy(moving_video(16, 64, 64))[None]
    known = known_start(codec, frames, keyframe_index=7)
    assert known is not None and known.slots == 2 and known.latent.shape == (1, 16, 4, 2, 2)
    whole, _ = codec.encode(torch.cat([frames[:, 8:], frames[:, -1:].expand(-1, 8, -1, -1, -1)], dim=1))
    assert torch.equal(known.latent, whole.plain())
    assert known_start(codec, frames, keyframe_index=2) is None
    with_motion, without = (pipe(image=PICTURE, seconds=2, match_motion=match, **FAST) for match in (True, False))
    assert np.array_equal(with_motion[:16], without[:16]) and not np.array_equal(with_motion[16:], without[16:])


def test_a_decoders_brightness_error_does_not_add_up() -> None:
    keyframe = torch.rand(1, 3, 8, 8) * 0.5
    video = keyframe[:, :, None].expand(-1, -1, 16, -1, -1) + torch.tensor([0.1, -0.05, 0.0]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(without_offset(video, keyframe, keyframe_index=7)[:, :, 3], keyframe, atol=1e-6, rtol=0)


def test_the_corrections_of_longer_video_can_be_left_out(
    pipe: ReducioDiTPipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def watch(video: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        calls.append(1)
        return video

    monkeypatch.setattr("reducio_codec.generate.pipeline.without_offset", watch)
    monkeypatch.setattr("reducio_codec.generate.pipeline.sharpened", watch)
    for left_out, count in (("nothing", 4), ("match_colour", 2), ("sharpen", 2)):
        calls.clear()
        pipe(image=PICTURE, seconds=2, **({} if left_out == "nothing" else {left_out: False}), **FAST)
        assert len(calls) == count
    assert "no effect" not in caplog.text
    with caplog.at_level(logging.WARNING):
        pipe(image=PICTURE, match_colour=False, **FAST)
    assert "match_motion, match_colour and sharpen have no effect" in caplog.text


def test_a_soft_picture_gets_its_detail_back() -> None:
    sharp = 0.1 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = 0.7 * sharp + 0.3 * soft
    wanted = picture_detail(sharp)
    assert (picture_detail(mixed) < 0.85 * wanted).all()
    found = sharpened(mixed, to=wanted)
    assert torch.allclose(picture_detail(found), wanted, rtol=0.02)
    assert (found - sharp).abs().mean() < 0.6 * (mixed - sharp).abs().mean()
    assert torch.allclose(sharpened(sharp, to=0.5 * wanted), sharp, atol=1e-3)  # nothing is softened
    limited = sharpened(soft, to=10 * wanted)
    assert torch.isfinite(limited).all() and limited.abs().max() <= 1


def test_a_loop_goes_back_on_its_way(pipe: ReducioDiTPipeline) -> None:
    forth, loop = pipe(image=PICTURE, **FAST), pipe(image=PICTURE, loop=True, **FAST)
    assert len(loop) == 30 and np.array_equal(loop[:16], forth) and np.array_equal(loop[16:], forth[14:0:-1])


def test_lengths() -> None:
    assert [frames_of(seconds) for seconds in (1, 1.5, 3)] == [16, 24, 48]
    assert [clips_of(frames, keyframe_index=7) for frames in (16, 17, 24, 25, 48)] == [1, 2, 2, 3, 5]
    assert clips_of(48, keyframe_index=0) == 4
    for seconds in (0.5, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="seconds is"):
            frames_of(seconds)
    with pytest.raises(InputError, match="its last frame"):
        clips_of(17, keyframe_index=15)


def test_progress_and_cancellation(pipe: ReducioDiTPipeline) -> None:
    told: list[tuple[int, int | None]] = []
    pipe(image=PICTURE, seconds=1.5, progress=lambda done, total: told.append((done, total)), **FAST)
    assert told == [(done, 6) for done in range(1, 7)]
    told.clear()
    with pytest.raises(GenerationCancelled, match="2 of 3"):
        pipe(
            image=PICTURE,
            progress=lambda done, total: told.append((done, total)),
            should_stop=lambda: len(told) == 2,
            **FAST,
        )


def test_offload_gives_the_same_and_keeps_nothing(dit_folder: SaveDit, codec_folder: Path) -> None:
    folder = dit_folder()
    kept, offloaded = (
        ReducioDiTPipeline.from_pretrained(folder, codec=codec_folder, offload=offload) for offload in (False, True)
    )
    assert np.array_equal(kept(image=PICTURE, **FAST), offloaded(image=PICTURE, **FAST))
    assert kept._model.loaded and kept._codec.loaded
    assert not offloaded._model.loaded and not offloaded._codec.loaded


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "neither image nor prompt"),
        ({"prompt": "a boat"}, "text_to_image="),
        ({"image": PICTURE, "prompt": " "}, "prompt is ' '"),
        ({"image": []}, "no length: 0 as image"),
        ({"image": [PICTURE] * 2, "seed": [1, 2, 3]}, "2 as image, 3 as seed"),
        ({"image": [PICTURE, PICTURE[:40]]}, "64x40, 64x64"),
        ({"image": PICTURE, "seed": -1}, "seed is -1"),
        ({"image": PICTURE, "seed": "x"}, "seed is 'x'"),
        ({"image": PICTURE, "height": 64}, "give both or neither"),
        ({"image": PICTURE, "height": 0, "width": 64}, "64x0"),
        ({"image": PICTURE, "seconds": 0.2}, "seconds is 0.2"),
        ({"image": PICTURE, "sampler": "heun"}, "allowed: dpm++, unipc, ddim"),
        ({"image": PICTURE, "decoder": "add"}, "allowed: linear, none"),
        ({"image": PICTURE, "steps": 0}, "steps is 0"),
        ({"image": PICTURE, "guidance": -2.0}, "guidance is -2.0"),
    ],
    ids=str,
)
def test_wrong_arguments(pipe: ReducioDiTPipeline, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        pipe(**options)
    assert words in str(caught.value)


def test_a_prompt_without_effect_is_told(pipe: ReducioDiTPipeline, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pipe("a boat", image=PICTURE, **FAST)
    assert "the prompt has no effect" in caplog.text


def test_undefined_latents(pipe: ReducioDiTPipeline) -> None:
    with pipe._model.use() as model, torch.no_grad():
        model.patch_out.bias.fill_(float("inf"))
    with pytest.raises(ReducioError, match="infinite or undefined"):
        pipe(image=PICTURE, **FAST)


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    for load in (optional.diffusers, optional.transformers, optional.open_clip):
        with pytest.raises(MissingDependencyError, match=r"pip install 'reducio-codec\[generate\]'"):
            load()
