"""The tensor API: any length and size back exactly, tiles that change nothing, and clear refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec import Latent, ReducioCodec
from reducio_codec.config import TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.io.video import read_clip
from reducio_codec.models.contract import Reference
from tests.helpers import ConvModel, IdentityModel, TinyConfig, TinyModel, decode, moving_video

SMALL_TILES = TilingConfig(tile_size=64, tile_overlap=32)


def as_float(video: np.ndarray) -> torch.Tensor:
    return to_unit(torch.from_numpy(video)).permute(3, 0, 1, 2)[None]


# ------------------------------------------------------------------ shapes


@given(frames=st.integers(1, 35), height=st.integers(1, 70), width=st.integers(1, 70), index=st.integers(0, 15))
@settings(max_examples=25, deadline=None)
def test_any_length_and_size_comes_back_exactly(frames: int, height: int, width: int, index: int) -> None:
    codec = ReducioCodec(IdentityModel(), tiling=SMALL_TILES)
    video = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    latent, keyframe = codec.encode(video, keyframe_index=index)
    clips = -(-frames // 16)
    assert latent.shape == (1, 12288, 4 * clips, -(-height // 32), -(-width // 32))
    assert keyframe.shape == (1, 3, clips, height, width)
    assert (latent.num_frames, latent.keyframe_index) == (frames, index)
    decoded = codec.decode(latent, keyframe, output="uint8")
    assert np.array_equal(decoded[0].numpy(), video)
    torch.testing.assert_close(codec.decode(latent, keyframe), as_float(video), atol=1e-6, rtol=0)


def test_key_frames_are_the_real_middle_frames() -> None:
    video = moving_video(21, 40, 50)
    _, keyframe = ReducioCodec(TinyModel()).encode(video)
    assert np.array_equal(to_bytes(keyframe[0].permute(1, 2, 3, 0)).numpy(), video[[7, 16 + 2]])


def test_key_frame_is_shown_at_its_own_place() -> None:
    codec = ReducioCodec(TinyModel())
    video = moving_video(21, 40, 50)
    for index in (0, 7, 15):
        latent, keyframe = codec.encode(video, keyframe_index=index)
        decoded = codec.decode(latent, keyframe, output="uint8")[0].numpy()
        own = {0: 16, 7: 18, 15: 20}[index]
        assert np.array_equal(decoded[[index, own]], video[[index, own]])


def test_bytes_and_floats_and_batches_agree() -> None:
    codec = ReducioCodec(ConvModel(), tiling=SMALL_TILES)
    first, second = moving_video(18, 70, 90), moving_video(18, 70, 90, seed=1)
    latent, keyframe = codec.encode(first)
    for same in (torch.from_numpy(first), as_float(first), as_float(first).numpy(), first[None]):
        again, picture = codec.encode(same)
        assert torch.equal(again, latent) and torch.equal(picture, keyframe)
    both, pictures = codec.encode(np.stack([first, second]))
    torch.testing.assert_close(both[:1].plain(), latent.plain(), atol=1e-5, rtol=0)
    torch.testing.assert_close(both[1:].plain(), codec.encode(second)[0].plain(), atol=1e-5, rtol=0)
    decoded = codec.decode(both, pictures)
    assert decoded.shape == (2, 3, 18, 70, 90)
    torch.testing.assert_close(decoded[:1], codec.decode(latent, keyframe), atol=1e-5, rtol=0)
    assert codec.decode(both, pictures, output="uint8").shape == (2, 18, 70, 90, 3)


def test_path_is_the_video_in_it(make_video: Callable[..., Path]) -> None:
    codec = ReducioCodec(ConvModel(), tiling=SMALL_TILES)
    path = make_video(frames=18, width=90, height=70)
    latent, keyframe = codec.encode(str(path))
    expected, picture = codec.encode(read_clip(path))
    assert torch.equal(latent, expected) and torch.equal(keyframe, picture)
    assert (latent.num_frames, latent.keyframe_index) == (18, 7)
    with pytest.raises(InputError, match="doesn't exist"):
        codec.encode(path.with_name("none.mp4"))


def test_flipped_and_read_only_arrays() -> None:
    codec = ReducioCodec(TinyModel())
    video = moving_video(16, 32, 48)
    video.flags.writeable = False
    latent, _ = codec.encode(video[:, ::-1])
    expected, _ = codec.encode(np.ascontiguousarray(video[:, ::-1]))
    assert torch.equal(latent, expected)


def test_two_runs_give_the_same_bits_and_no_gradient() -> None:
    codec = ReducioCodec(ConvModel(), tiling=SMALL_TILES)
    video = moving_video(20, 80, 100)
    (latent, keyframe), (again, _) = codec.encode(video), codec.encode(video)
    assert torch.equal(latent, again)
    decoded = codec.decode(latent, keyframe)
    assert torch.equal(decoded, codec.decode(latent, keyframe))
    assert not (latent.requires_grad or decoded.requires_grad)
    # results can be trained on: they aren't inference tensors
    for result in (latent, keyframe, decoded):
        assert not result.is_inference()


def test_half_precision_latent_keeps_its_length() -> None:
    codec = ReducioCodec(TinyModel())
    latent, keyframe = codec.encode(moving_video(17, 32, 32))
    assert codec.decode(latent.half().cpu().clone(), keyframe).shape[2] == 17
    assert codec.decode(latent.plain(), keyframe).shape[2] == 32
    assert codec.decode(latent.plain(), keyframe, num_frames=30).shape[2] == 30


def test_float_output_is_clipped() -> None:
    codec = ReducioCodec(TinyModel())
    latent, keyframe = codec.encode(moving_video(16, 32, 32))
    decoded = codec.decode(latent * 100, keyframe)
    assert decoded.min() == -1 and decoded.max() == 1


# ------------------------------------------------------------------ tiles


def test_tiles_are_exact_for_a_local_model() -> None:
    video = moving_video(16, 150, 210)
    whole, tiled = ReducioCodec(TinyModel()), ReducioCodec(TinyModel(), tiling=SMALL_TILES)
    latent, keyframe = whole.encode(video)
    again, _ = tiled.encode(video)
    assert len(whole.model.batches) == 1 and len(tiled.model.batches) > 5
    torch.testing.assert_close(again.plain(), latent.plain(), atol=1e-6, rtol=0)
    expected = whole.decode(latent, keyframe)
    torch.testing.assert_close(tiled.decode(latent, keyframe), expected, atol=1e-6, rtol=0)


def test_one_covering_tile_is_bit_equal_to_the_bare_model() -> None:
    model = ConvModel()
    codec = ReducioCodec(model, tiling=TilingConfig(tile_size=96, tile_overlap=32))
    video = as_float(moving_video(16, 64, 96))
    latent, keyframe = codec.encode(video)
    with torch.inference_mode():
        expected = model.latent(model.encode(video).mode())
        pixels = decode(model, expected, keyframe[:, :, 0]).clamp(-1, 1)
    assert torch.equal(latent.plain(), expected)
    assert torch.equal(codec.decode(latent, keyframe), pixels)


def test_tiles_run_in_batches_of_full_size() -> None:
    codec = ReducioCodec(TinyModel(), tiling=TilingConfig(tile_size=64, tile_overlap=32, tile_batch=3))
    codec.encode(moving_video(16, 70, 130))
    sizes = codec.model.batches
    assert {shape[1:] for shape in sizes} == {(3, 16, 64, 64)}
    assert [shape[0] for shape in sizes] == [3, 3, 2]  # 2 x 4 tiles
    sizes.clear()
    codec.encode(np.stack([moving_video(16, 70, 130)] * 2))
    assert [shape[0] for shape in sizes] == [2] * 8  # tile_batch counts the tiles of all videos


def test_a_model_may_say_how_it_wants_to_be_cut() -> None:
    model = TinyModel()
    model.tiling = TilingConfig(tile_size=128, tile_overlap=32, tile_batch=1, shrink=True)
    codec = ReducioCodec(model)
    video = moving_video(16, 60, 150)  # 64 x 160 padded: two tiles of 96, not of 128
    latent, keyframe = codec.encode(video)
    assert [tuple(shape) for shape in model.batches] == [(1, 3, 16, 64, 96)] * 2
    torch.testing.assert_close(
        codec.decode(latent, keyframe), ReducioCodec(TinyModel()).decode(latent, keyframe), atol=1e-6, rtol=0
    )
    assert ReducioCodec(model, tile_size=64).tiling == replace(model.tiling, tile_size=64)
    assert ReducioCodec(model, tile_overlap=64).tiling == replace(model.tiling, tile_overlap=64)
    assert ReducioCodec(model, tiling=SMALL_TILES).tiling == SMALL_TILES
    with pytest.raises(InputError, match="tile_overlap is 96"):
        ReducioCodec(model, tile_overlap=96)


def test_moments_are_blended() -> None:
    codec = ReducioCodec(TinyModel(), tiling=SMALL_TILES)
    clip = as_float(moving_video(16, 96, 96))
    found = codec.runner.posterior(clip, references=[Reference.of_frame(clip, 7)])
    torch.testing.assert_close(found.logvar, torch.full_like(found.mean, -3.0))
    assert found.mean.shape == (1, 16, 4, 3, 3)


def test_latent_norm_sees_the_stitched_clip_once() -> None:
    class Norm(TinyModel):
        def latent(self, mean: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(mean.shape))
            return mean / mean.std()

    seen: list[tuple[int, ...]] = []
    latent, _ = ReducioCodec(Norm(), tiling=SMALL_TILES).encode(moving_video(16, 150, 210))
    assert seen == [(1, 16, 4, 5, 7)]
    assert latent.std() == pytest.approx(1)


def test_key_frame_given_to_the_encoder_is_cut_like_the_video() -> None:
    codec = ReducioCodec(TinyModel(), tiling=SMALL_TILES)
    clip = as_float(moving_video(16, 96, 96))
    plain = codec.encode(clip)[0].plain()
    same = codec.runner.encode(clip, references=[Reference.of_frame(clip, 7)])
    other = codec.runner.encode(clip, references=[Reference(picture=torch.zeros(1, 3, 96, 96), place=7)])
    torch.testing.assert_close(same, plain)
    assert (other - plain).abs().max() > 0.1


@pytest.mark.parametrize("ratio", [16, 64])
def test_other_latent_grids(ratio: int) -> None:
    class Config(TinyConfig):
        spatial_compression_ratio = ratio

    class Model(TinyModel):
        def encode(self, video: torch.Tensor, **_: object) -> object:
            from reducio_codec.models.posterior import Posterior

            pooled = torch.nn.functional.avg_pool3d(video, (4, ratio, ratio))
            mean = torch.cat([pooled] * 5 + [pooled[:, :1]], dim=1)
            return Posterior(mean, mean)

        def decode(self, latent: torch.Tensor, references: Sequence[Reference], **_: object) -> torch.Tensor:
            picture = references[0].picture
            assert latent.shape[-1] * ratio == picture.shape[-1]
            return picture[:, :, None].expand(-1, -1, 16, -1, -1)

    codec = ReducioCodec(Model(Config()), tiling=TilingConfig(tile_size=128, tile_overlap=64))
    latent, keyframe = codec.encode(moving_video(16, 100, 200))
    assert latent.shape[-2:] == ({16: 8, 64: 2}[ratio], {16: 14, 64: 4}[ratio])
    assert codec.decode(latent, keyframe).shape[-2:] == (100, 200)


def test_tile_must_fit_the_models_grid() -> None:
    class Config(TinyConfig):
        spatial_compression_ratio = 64

    with pytest.raises(InputError, match="tile_overlap is 32; this model needs a multiple of 64"):
        ReducioCodec(TinyModel(Config()), tiling=TilingConfig(tile_size=128, tile_overlap=32))


def test_pictures_up_to_1080p_are_whole_and_four_tiles_cover_4k() -> None:
    runner = ReducioCodec.from_pretrained("reducio-lite").runner
    sizes = [(16, 16), (720, 1280), (1080, 1920), (1920, 1080), (2160, 3840)]
    assert [len(runner.plan(*size).windows) for size in sizes] == [1, 1, 1, 1, 4]


def test_automatic_tile_size() -> None:
    model = TinyModel()
    model.peak_bytes_per_pixel = 100
    codec = ReducioCodec(model, tile_size="auto", memory_budget=16 * 100 * 128 * 128)
    assert (codec.tiling.tile_size, codec.tiling.tile_batch) == (128, 1)
    assert ReducioCodec(model, tile_size=512).tiling.tile_size == 512
    lite = [
        ReducioCodec.from_pretrained("reducio-lite", tile_size="auto", memory_budget=budget).tiling.tile_size
        for budget in (1 << 26, 1 << 30, 1 << 33)
    ]
    assert 64 < lite[0] < 512 < lite[1] < lite[2] == 1952
    with pytest.raises(InputError, match="memory_budget is 5"):
        ReducioCodec(model, memory_budget=5)
    with pytest.raises(InputError, match="tile_size is 'big'"):
        ReducioCodec(model, tile_size="big")


# ------------------------------------------------------------------ precision


def test_bfloat16_is_close_and_results_are_float32() -> None:
    video = moving_video(16, 64, 64)
    exact = ReducioCodec(ConvModel()).encode(video)[0]
    codec = ReducioCodec(ConvModel(), dtype=torch.bfloat16)
    latent, keyframe = codec.encode(video)
    assert latent.dtype == torch.float32 and codec.decode(latent, keyframe).dtype == torch.float32
    assert not torch.equal(latent, exact)
    torch.testing.assert_close(latent.plain(), exact.plain(), atol=0.05, rtol=0.05)


def test_automatic_dtype_is_one_that_works_here() -> None:
    assert ReducioCodec(TinyModel(), dtype="auto").dtype in (torch.float32, torch.bfloat16)


def test_model_that_optimises_itself_is_left_to_it() -> None:
    class Own(ConvModel):
        optimizable = True

        def optimize_for_inference(self, *, dtype: torch.dtype) -> None:
            assert self.optimized_dtype is None
            self.optimized_dtype = dtype

    video = moving_video(16, 64, 64)
    model = Own()
    exact = ReducioCodec(model).encode(video)[0]
    assert model.optimized_dtype is None  # float32 leaves it trainable
    found = ReducioCodec(model, dtype=torch.bfloat16).encode(video)[0]
    assert model.optimized_dtype == torch.bfloat16
    assert torch.equal(found, exact)  # no autocast on top
    ReducioCodec(model, dtype=torch.bfloat16)


def test_compile_goes_through_encode_and_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def fake(function):  # type: ignore[no-untyped-def]
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", fake)
    codec = ReducioCodec(TinyModel(), compile=True)
    codec.decode(*codec.encode(moving_video(16, 32, 32)))
    assert compiled == ["encode", "decode"]


# ------------------------------------------------------------------ refusals


def video_of(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, value: float = 0) -> torch.Tensor:
    return torch.full(shape, value, dtype=dtype)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (video_of((16, 32, 32), torch.uint8), r"shape \(16, 32, 32\); allowed: \(T, H, W, 3\)"),
        (video_of((16, 32, 32, 4), torch.uint8), r"shape \(16, 32, 32, 4\)"),
        (video_of((16, 2, 32, 32)), r"video has shape \(16, 2, 32, 32\); allowed: \(T, H, W, 3\)"),
        (video_of((1, 16, 3, 32, 32)), r"or \(B, 3, T, H, W\). For \(B, T, 3, H, W\) give"),
        (video_of((1, 3, 16, 32, 32), torch.int64), "video is torch.int64; allowed: a uint8"),
        (video_of((1, 3, 16, 32, 32), value=255), "values from 255 to 255; allowed: -1 to 1; divide bytes by 127.5"),
        (video_of((1, 3, 16, 32, 32), value=-1.01), "values from -1.01"),
        (video_of((1, 3, 16, 32, 32), value=float("nan")), "holds NaN"),
        (video_of((1, 3, 16, 32, 32), value=float("inf")), "values from inf"),
        (video_of((1, 3, 0, 32, 32)), "at least one frame"),
        (video_of((0, 32, 32, 3), torch.uint8), "at least one frame"),
        (np.zeros((16, 32, 32, 3), np.uint16), "an array of uint16"),
        ([[1, 2], [3]], "frame is a list; allowed: uint8"),
        (None, "a NoneType"),
    ],
)
def test_encode_refuses(video: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReducioCodec(TinyModel()).encode(video)


def test_slight_overshoot_is_allowed() -> None:
    ReducioCodec(TinyModel()).encode(video_of((1, 3, 1, 32, 32), value=1.0005))


@pytest.mark.parametrize("index", [-1, 16, 7.0, True])
def test_key_frame_index_is_checked(index: object) -> None:
    with pytest.raises(InputError, match=r"keyframe_index is .*; allowed: 0 to 15"):
        ReducioCodec(TinyModel()).encode(moving_video(2, 32, 32), keyframe_index=index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, k: (x[0], k), r"latent is torch.float32 \(16, 8, 2, 3\); allowed: a float tensor \(B, z"),
        (lambda x, k: (x, k[:, :, 0]), r"keyframe has shape \(1, 3, 1, 40, 90\); a latent of 2 clips"),
        (lambda x, k: (x, to_bytes(k).long()), "keyframe is torch.int64; allowed"),
        (lambda x, k: (x.numpy().astype(int), k), r"latent is torch.int64 \(1, 16, 8, 2, 3\); allowed: a float tensor"),
        (lambda x, k: (x[:, :8], k), r"latent has shape \(1, 8, 8, 2, 3\); this model needs \(B, 16"),
        (lambda x, k: (x[:, :, :5], k), "latent has shape"),
        (lambda x, k: (x[:, :, :4], k), "latent of 1 clips and a batch of 1 needs"),
        (lambda x, k: (torch.cat([x, x]), k), "batch of 2 needs"),
        (lambda x, k: (x[..., :2], k), r"grid of \(2, 2\); a key frame of 90x40 pixels needs \(2, 3\)"),
        (lambda x, k: (x, k * 127.5), "keyframe has values"),
        (lambda x, k: ("x", k), "latent is a str"),
    ],
)
def test_decode_refuses(change, message: str) -> None:  # type: ignore[no-untyped-def]
    codec = ReducioCodec(TinyModel())
    pair = change(*codec.encode(moving_video(17, 40, 90)))
    with pytest.raises(InputError, match=message):
        codec.decode(*pair)


def test_decode_refuses_unknown_words_and_lengths() -> None:
    codec = ReducioCodec(TinyModel())
    latent, keyframe = codec.encode(moving_video(17, 40, 90))
    with pytest.raises(InputError, match="decoder is 'wrap'; allowed: mean, copy"):
        codec.decode(latent, keyframe, decoder="wrap")
    with pytest.raises(InputError, match="output is 'int'; allowed: float, uint8"):
        codec.decode(latent, keyframe, output="int")
    with pytest.raises(InputError, match="num_frames is 16; a latent of 2 clips holds 17 to 32"):
        codec.decode(latent, keyframe, num_frames=16)


def test_refused_settings() -> None:
    with pytest.raises(InputError, match="device 'tpu'"):
        ReducioCodec(TinyModel(), device="tpu")
    with pytest.raises(InputError, match=r"dtype is torch.int8; allowed: 'auto', 'float32'"):
        ReducioCodec(TinyModel(), dtype=torch.int8)


def test_latent_type_is_public() -> None:
    latent, _ = ReducioCodec(TinyModel()).encode(moving_video(3, 32, 32))
    assert isinstance(latent, Latent) and latent.num_frames == 3


def test_import_does_not_load_torch() -> None:
    code = "import sys, reducio_codec; reducio_codec.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
