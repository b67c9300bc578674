"""Motion and camera: what is read from latents, what is asked for, and what a model does with it."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.generate import CAMERAS, Camera, Conditions, DiTConfig, ReducioDiT, ReducioDiTPipeline, load_dit
from reducio_codec.generate.block_cache import BlockCache
from reducio_codec.generate.context import Context
from reducio_codec.generate.continuation import frames_of
from reducio_codec.generate.controls import check_motion, read_camera
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.motions import draw_motions, quantiles_of
from reducio_codec.generate.request import read_request
from reducio_codec.generate.sampling import Known, draw_noise, make_generators, make_scheduler, sample
from reducio_codec.io.pixels import to_bytes
from tests.generate.conftest import MODEL, SaveDit, awake
from tests.generate.test_command import run
from tests.helpers import moving_video

PLACED = DiTConfig.from_json({**MODEL.to_json(), "content_at": "place", "motion_unit": 5.0, "goes_on": True})
PICTURES = torch.from_numpy(moving_video(2, 64, 96)).permute(0, 3, 1, 2) / 127.5 - 1  # (2, 3, 64, 96)
SIZE = torch.tensor([[64, 96]] * 2)
NOISE = torch.randn(2, 16, 4, 2, 3, generator=torch.Generator().manual_seed(0))


def test_numbers_that_are_none_are_refused() -> None:
    for guidance in (math.inf, math.nan, -1, "2", True):
        with pytest.raises(InputError, match=r"guidance is .*; it must be a number of 0 or more"):
            MODEL.sampling_guidance(guidance)  # type: ignore[arg-type]
    for steps in (2.5, "4", True):
        with pytest.raises(InputError, match=r"steps is .*; it must be a whole number"):
            MODEL.sampling_steps(steps)  # type: ignore[arg-type]
    assert MODEL.sampling_steps(np.int64(3)) == 3  # type: ignore[arg-type]
    for seconds in ("3", math.nan, math.inf, True):
        with pytest.raises(InputError, match=r"seconds is .*; it must be a number of 0 or more"):
            frames_of(seconds)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"cache_blocks is 1\.5; a model of 4 blocks allows"):
        BlockCache(1.5, depth=4)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"picture_steps is 2\.5; it must be a whole number"):
        read_request(prompt="a", image=None, seed=0, height=None, width=None, picture_steps=2.5)  # type: ignore[arg-type]


def test_cameras_as_people_write_them() -> None:
    assert read_camera("zoom-in") == CAMERAS["zoom-in"] == Camera(zoom=CAMERAS["zoom-in"].zoom)
    same = Camera(pan_x=0.1, pan_y=-0.2, zoom=0.0, roll=5.0)
    assert read_camera("0.1, -0.2, 0, 5") == read_camera((0.1, -0.2, 0, 5)) == read_camera(same) == same
    for wrong in ("zoom", "1,2,3", "1,2,3,4,5", "1,2,3,nan", "1e39,0,0,0", (1, 2), (1, 2, 3, "x"), "", 5):
        with pytest.raises(InputError, match=r"allowed: still, pan-left, .*, or four numbers"):
            read_camera(wrong)  # type: ignore[arg-type]
    assert check_motion(0.5) == 0.5
    for number in (-0.1, 9, math.nan, True, "1"):
        with pytest.raises(InputError, match="it must be a number from 0 to 8"):
            check_motion(number)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bundled() -> ReducioCodec:
    return ReducioCodec.from_pretrained("reducio-lite")


def filmed(camera: Camera) -> torch.Tensor:
    """(16, 256, 256, 3) uint8: a photograph as such a camera sees it, frame 7 in the middle."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((768, 768), Image.Resampling.BICUBIC)
    frames = []
    for frame in range(16):
        seconds = (frame - 7) / 16
        scale = 1 / (1 + camera.zoom * seconds)
        turn = math.radians(camera.roll * seconds)
        a, b = scale * math.cos(turn), scale * math.sin(turn)
        x, y = 384 + 256 * camera.pan_x * seconds, 384 + 256 * camera.pan_y * seconds
        # of the frame's pixel to the photograph's: turned clockwise, a camera looks along a line that falls to the right
        matrix = (a, -b, x - a * 128 + b * 128, b, a, y - b * 128 - a * 128)
        frames.append(np.asarray(photo.transform((256, 256), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(frames))


@pytest.mark.parametrize(
    "camera",
    [Camera(pan_x=0.2), Camera(pan_y=-0.2), Camera(zoom=0.3), Camera(roll=-15.0), Camera(pan_x=-0.1, zoom=-0.2)],
)
def test_the_camera_is_read_from_a_latent(bundled: ReducioCodec, camera: Camera) -> None:
    latent, _ = bundled.encode(filmed(camera))
    motion, found = LatentMotion(bundled.model, unit=2.0, side=256).measure(latent.plain())
    spread = np.array([0.2, 0.2, 0.3, 15.0])
    assert np.abs((found[0].numpy() - astuple(camera)) / spread).max() < 0.2, found
    flow = LatentMotion(bundled.model, unit=1.0, side=256).flow(latent.plain())
    assert flow.shape == (1, 16, 2, 16, 16)
    assert float(motion) == pytest.approx(float(flow[:, [*range(7), *range(8, 16)]].norm(dim=2).mean()) / 2)


@torch.no_grad()
def test_a_latent_is_steered_to_the_camera_that_is_asked_for(bundled: ReducioCodec) -> None:
    """Read from its latent, and from the pixels that are decoded of it."""
    start, key = bundled.encode(filmed(Camera(pan_x=0.1, zoom=-0.1)))
    reader = LatentMotion(bundled.model, unit=2.0, side=256)
    asked = torch.tensor([[-0.05, 0.1, 0.2, 8.0], [0.0, 0.0, 0.0, 0.0]])
    latent = reader.steered(start.plain().expand(2, -1, -1, -1, -1), asked)
    assert torch.allclose(reader.measure(latent)[1], asked, atol=1e-4)
    changed = (latent - start.plain()).abs().mean((0, 2, 3, 4))  # of each channel
    assert changed[12:].max() < 0.1 * changed[:12].max()  # what is added to moved pixels is left as it is
    for one, wanted in zip(latent, asked, strict=True):
        clip = to_bytes(bundled.decode(one[None], key, decoder="linear"))[0].permute(1, 2, 3, 0)
        found = reader.measure(bundled.encode(clip)[0].plain())[1][0]
        assert ((found - wanted).abs() < torch.tensor([0.03, 0.03, 0.05, 2.0])).all(), (found, wanted)


def test_channels_count_by_what_they_do(bundled: ReducioCodec) -> None:
    weights = LatentMotion(bundled.model, unit=1.0, side=256).channel_weights()
    assert float(weights.mean()) == pytest.approx(1)
    assert weights[:12].min() > weights[12:].max()  # flow against what is added


def _context(model: ReducioDiT, **more: object) -> Context:
    return model.context(Conditions(size=SIZE, keyframe=PICTURES, **more))  # type: ignore[arg-type]


@torch.no_grad()
def _velocity(model: ReducioDiT, **more: object) -> torch.Tensor:
    found: torch.Tensor = model(NOISE, torch.tensor([500.0, 500.0]), _context(model, **more))
    return found


def test_what_is_told_has_an_influence_and_what_isnt_has_none() -> None:
    model = awake(ReducioDiT(PLACED))
    plain, nothing = _velocity(model), torch.full((2, 4), math.nan)
    untold = _velocity(model, motion=nothing[:, 0], camera=nothing)
    assert torch.equal(plain, untold)
    motion = torch.tensor([2.0, math.nan])
    moved = _velocity(model, motion=motion)
    assert not torch.allclose(moved[0], plain[0], atol=1e-3) and torch.allclose(moved[1], plain[1], atol=1e-5)
    turned = _velocity(model, camera=torch.tensor([[0.2, 0, 0, 0], [math.nan] * 4]))
    assert not torch.allclose(turned[0], plain[0], atol=1e-3) and torch.allclose(turned[1], plain[1], atol=1e-5)
    fresh = ReducioDiT(PLACED).eval()
    with torch.no_grad():
        fresh.patch_out.weight.normal_()
    assert torch.equal(_velocity(fresh), _velocity(fresh, motion=motion))  # a new model is told nothing


def test_guidance_goes_away_from_being_told_nothing() -> None:
    model = awake(ReducioDiT(PLACED))
    with torch.no_grad():
        guided = _context(model, motion=torch.tensor([2.0, 2.0])).guided()
        both = model(torch.cat([NOISE, NOISE]), torch.full((4,), 500.0), guided)
        alone = model(NOISE, torch.tensor([500.0, 500.0]), model.context(Conditions(size=SIZE)))
    assert torch.allclose(both[:2], _velocity(model, motion=torch.tensor([2.0, 2.0])), atol=1e-5)
    assert torch.allclose(both[2:], alone, atol=1e-5)
    dropped = Conditions(size=SIZE, keyframe=PICTURES).leave_out(torch.tensor([[False, False], [True, True]]))
    with torch.no_grad():
        assert torch.allclose(model(NOISE, torch.tensor([500.0, 500.0]), model.context(dropped)), alone, atol=1e-5)


@pytest.mark.parametrize("patch_time", [1, 4])
def test_content_reaches_the_token_at_its_place(patch_time: int) -> None:
    """Without attention to carry it, content of a corner changes the latent of that corner alone."""
    config = DiTConfig.from_json({**PLACED.to_json(), "patch_time": patch_time})
    model = awake(ReducioDiT(config))
    for block in model.blocks:
        block.attn.proj.weight.data.zero_()  # type: ignore[union-attr]
    content = torch.randn(2, model.content.channels, 4, 6)
    other = content.clone()
    other[:, :, :2, :2] += 1
    times = torch.tensor([500.0] * 2)
    with torch.no_grad():
        plain, changed = (
            model(NOISE, times, model.context(Conditions(size=SIZE, content=each))) for each in (content, other)
        )
    where = (changed - plain).abs().amax((0, 1, 2))  # (2, 3)
    assert where[0, 0] > 1e-3 and where[1, 2] < 1e-5


def test_what_is_known_of_a_latent_is_kept_and_seen() -> None:
    config = DiTConfig.from_json({**PLACED.to_json(), "objective": "flow"})
    model = awake(ReducioDiT(config))
    given = torch.randn(2, 16, 4, 2, 3, generator=torch.Generator().manual_seed(1))
    conditions = Conditions(size=SIZE, keyframe=PICTURES)
    found = []
    for latent in (given, -given):
        told = Known(latent=latent, slots=2).told_to(conditions)
        found.append(sample(model, model.context(told), noise=NOISE, sampler="euler", steps=2, guidance=2.0))
        assert torch.equal(found[-1][:, :, :2], latent[:, :, :2])
    assert (found[0] - found[1])[:, :, 2:].abs().max() > 1e-3
    with pytest.raises(InputError, match="known has shape"):
        model.context(Known(latent=given[..., :1], slots=2).told_to(conditions))


def test_a_model_without_controls_says_so(dit_folder: SaveDit, codec_folder: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(moving_video(1, 32, 32)[0]).save(photo)
    for option, value in (("--motion", "0.5"), ("--camera", "zoom-in")):
        where = ("--image", photo, "-m", dit_folder(), "--codec", codec_folder, "-o", tmp_path / "out.mp4")
        refused = run(*where, option, value)
        assert refused.exit_code == 2 and not (tmp_path / "out.mp4").exists()
        assert f"{option[2:]} is" in refused.stderr.replace("--", "") and "trained without" in refused.stderr
    plain = ReducioDiT(MODEL)
    for more, words in (
        ({"motion": torch.ones(2)}, "takes none \\(motion_unit is 0\\)"),
        ({"known": NOISE, "is_known": torch.ones(2, 4, dtype=torch.bool)}, "takes none \\(goes_on is False\\)"),
    ):
        with pytest.raises(InputError, match=words):
            _context(plain, **more)
    with pytest.raises(InputError, match="camera has shape"):
        _context(ReducioDiT(PLACED), camera=torch.ones(2, 3))


def test_a_pipeline_asks_for_motion_and_goes_on(dit_folder: SaveDit, codec: ReducioCodec) -> None:
    changes = {name: getattr(PLACED, name) for name in ("content_at", "motion_unit", "goes_on")}
    folder = dit_folder("placed", **changes, objective="flow", default_steps=2, default_guidance=1.0, shift=3.0)
    pipeline = ReducioDiTPipeline(load_dit(folder), codec)
    picture = moving_video(1, 64, 64)[0]
    calls: list[tuple[int, int | None]] = []
    video = pipeline(image=picture, seed=0, seconds=1.5, progress=lambda done, total: calls.append((done, total)))
    assert video.shape == (24, 64, 64, 3) and calls[-1] == (4, 4)  # two clips of two steps
    assert not np.array_equal(video[:16], pipeline(image=picture, seed=0, motion=4.0))
    assert not np.array_equal(video[:16], pipeline(image=picture, seed=0, camera="pan-left"))
    assert np.array_equal(video[:16], pipeline(image=picture, seed=0))
    with pytest.raises(InputError, match="motion is 20"):
        pipeline(image=picture, motion=20)


def test_gain_of_channels_is_taken_before_decoding(dit_folder: SaveDit, codec: ReducioCodec) -> None:
    picture = moving_video(1, 64, 64)[0]
    found = []
    for gain in ((0.0,) * 16, (1.0,) * 16, ()):
        folder = dit_folder(f"gain{len(found)}", channel_gain=gain)
        found.append(ReducioDiTPipeline(load_dit(folder), codec)(image=picture, seed=0, steps=1))
    assert np.array_equal(found[1], found[2]) and not np.array_equal(found[0], found[1])
    key = torch.from_numpy(picture).permute(2, 0, 1)[None, :, None] / 127.5 - 1
    nothing = codec.decode(torch.zeros(1, 16, 4, 2, 2), key, output="uint8")[0].numpy()
    assert np.abs(found[0].astype(int) - nothing).max() <= 1


def test_a_shift_takes_more_steps_where_there_is_noise() -> None:
    for name in ("euler", "heun"):
        plain, shifted = (make_scheduler(name, steps=4, shift=shift).sigmas.tolist() for shift in (1.0, 3.0))
        assert shifted[0] == plain[0] == 1 and shifted[-1] == plain[-1] == 0
        assert all(a > b for a, b in zip(shifted[1:-1], plain[1:-1], strict=True))
    assert make_scheduler("euler", steps=4, shift=3.0).sigmas.tolist() == pytest.approx([1, 0.9, 0.75, 0.5, 0])


def test_how_much_moves_is_drawn_where_nobody_says(dit_folder: SaveDit, codec: ReducioCodec) -> None:
    pipe = ReducioDiTPipeline(load_dit(dit_folder("plain", motion_unit=5.0)), codec)
    drawing = ReducioDiTPipeline(
        load_dit(dit_folder("drawn", motion_unit=5.0, motion_quantiles=(0.1, 0.2, 4.0))), codec
    )
    told: list[Any] = []
    for each in (pipe, drawing):
        real = each._latents
        each._latents = lambda conditions, real=real, **more: told.append(conditions.motion) or real(conditions, **more)  # type: ignore
    picture = moving_video(1, 64, 64)[0]
    pipe(image=picture, seed=0, steps=1)
    pipe(image=picture, seed=0, steps=1, motion=2)
    assert told[0] is None and told[1].tolist() == [2]
    told.clear()
    drawing(image=[picture] * 3, seed=[4, 5, 6], steps=1)
    drawing(image=picture, seed=5, steps=1, seconds=2)
    drawing(image=picture, seed=5, steps=1, motion=0.5)
    assert len(set(told[0].tolist())) == 3 and all(0.1 <= value <= 4 for value in told[0].tolist())
    # a seed draws the same whatever is made beside it, and for all clips of a video
    assert all(torch.equal(one, told[0][1:2]) for one in told[1:-1]) and len(told) > 3
    assert told[-1].tolist() == [0.5]


def test_clips_wilder_than_can_be_asked_for_end_no_training() -> None:
    found = quantiles_of([0.5, 9.0, 40.0])
    assert max(found) == 8 and replace(PLACED, motion_quantiles=found).motion_quantiles == found


def test_drawn_motions_are_as_clips_have_them() -> None:
    motions = np.random.default_rng(0).lognormal(-0.5, 1.5, 2000).clip(0, 8)
    drawn = draw_motions(quantiles_of(motions), seeds=range(3000)).numpy()
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):  # of the calmer nine tenths
        assert np.quantile(drawn, share) == pytest.approx(np.quantile(motions, 0.9 * share), rel=0.15)
    noise = draw_noise((1,), generators=make_generators(range(3000)))[:, 0].numpy()
    assert abs(np.corrcoef(np.argsort(np.argsort(drawn)), noise)[0, 1]) < 0.05  # independent of the clip's noise
