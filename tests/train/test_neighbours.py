"""Training with the key frames of the clips before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from reducio_codec import ReducioCodec
from reducio_codec.errors import InputError
from reducio_codec.train.loading import ClipDataset, collate
from reducio_codec.train.options import DataOptions, KeyframeOptions
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.render import render_neighbours
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.train.task import train
from reducio_codec.training.held_out import validation_clips
from reducio_codec.training.loading import ClipKey
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.run_log import read_log
from reducio_codec.training.scan import ScanOptions, ScanResult, scan
from reducio_codec.training.store import FrameStore, open_store
from tests.helpers import moving_video
from tests.train.conftest import write_video

NAME = "attention"
OPTIONS = ScanOptions(frame_rate=16.0, stored_side=0, store=True, find_cuts=True)
WHOLE = DataOptions(crop_range=(1.0, 1.0), frame_steps=(1, 2))


@pytest.fixture
def found(videos: Path, tmp_path: Path) -> ScanResult:
    """Three videos of 40 frames."""
    return scan(find_videos(videos), cache=tmp_path / "cache", options=OPTIONS)


def disk(found: ScanResult) -> FrameStore:
    return open_store(found.videos, storage="disk", device=torch.device("cpu"))


def sampler(found: ScanResult, *, dropout: float = 0.0, coded: float = 0.0) -> ClipSampler:
    codec = {"codec": "jpeg"} if coded else {}
    options = KeyframeOptions(neighbours=True, neighbour_dropout=dropout, coded=coded, **codec)
    return ClipSampler(found.videos, data=WHOLE, keyframe=options, seed=0, keyframe_index=7)


def test_neighbours_lie_a_clip_away_within_the_scene(found: ScanResult) -> None:
    plans = [sampler(found).plan(step, 0, side=64) for step in range(200)]
    for plan in plans:
        step = plan.frames[1] - plan.frames[0]
        shown = plan.frames[::-1] if plan.reverse else plan.frames
        forward = -step if plan.reverse else step
        expected = [shown[7] + 16 * sign * forward for sign in (-1, 1)]
        assert plan.neighbours == tuple(frame if 0 <= frame < 40 else None for frame in expected)
    assert all(any(frame is not None for frame in p.neighbours) for p in plans if p.frames[1] - p.frames[0] == 1)
    assert {plan.reverse for plan in plans} == {True, False}


def test_neighbours_are_withheld_now_and_then(found: ScanResult) -> None:
    count = [sum(n is not None for i in range(200) for n in sampler(found, dropout=p).plan(i, 0, side=64).neighbours)
             for p in (0.0, 0.3, 1.0)]  # fmt: skip
    assert count[2] == 0 and 0.6 * count[0] < count[1] < 0.8 * count[0]


def test_neighbours_are_cut_mirrored_and_coded_as_the_clip_is(found: ScanResult) -> None:
    """The frame that is one clip's neighbour is another's key frame: a plan moved there gives the same picture."""
    store = disk(found)
    for step in range(20):
        plan = sampler(found, coded=0.5).plan(step, 0, side=64)
        pictures, present = render_neighbours(store, plan, codec="jpeg")
        assert pictures.shape == (2, 3, 64, 64) and pictures.dtype == torch.uint8
        for picture, there, number in zip(pictures, present, plan.neighbours, strict=True):
            assert there == (number is not None)
            if number is None:
                assert (picture == 128).all()
                continue
            frame = moving_video(40, 72, 96, seed=plan.video)[number]
            frame = frame[plan.top : plan.top + plan.height, plan.left : plan.left + plan.width]
            frame = frame[:, ::-1] if plan.flip else frame
            error = np.abs(picture.permute(1, 2, 0).numpy().astype(int) - frame).max()
            assert error == 0 if plan.quality is None else 0 < error < 120


def test_without_them_batches_have_none(found: ScanResult) -> None:
    plain = ClipSampler(found.videos, data=WHOLE, keyframe=KeyframeOptions(), seed=0, keyframe_index=7)
    key = ClipKey(step=0, index=0, stage=0, side=64)
    assert collate([ClipDataset(plain, disk(found), codec="jpeg")[key]]).neighbours is None
    batch = collate([ClipDataset(sampler(found), disk(found), codec="jpeg")[key]] * 2)
    assert batch.neighbours is not None and batch.neighbours.shape == (2, 2, 3, 64, 64)
    assert batch.present is not None and [len(each) for each in batch.present] == [2, 2]


def test_scenes_that_are_too_short_are_named(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mkv", moving_video(20, 48, 64))
    with pytest.raises(InputError, match="no scene is long enough"):
        sampler(scan(find_videos(tmp_path), cache=tmp_path / "cache", options=OPTIONS))


def test_clips_to_validate_on_have_their_neighbours(found: ScanResult) -> None:
    clips = validation_clips(found.videos, disk(found), side=64)
    assert len(clips) == 6
    for first, second in zip(clips[::2], clips[1::2], strict=True):
        assert first.neighbours[0] is None and first.neighbours[1] is not None
        assert np.array_equal(first.neighbours[1], second.frames[7])
        assert second.neighbours[0] is not None and np.array_equal(second.neighbours[0], first.frames[7])
        assert second.neighbours[1] is not None  # frame 39


def test_the_decoder_is_added_to_a_trained_model(recipe: Callable[..., Recipe], videos: Path, tmp_path: Path) -> None:
    """Same latents and the same other decoder to the bit; the added one has learned."""
    first = recipe(model={"decoders": ["linear"]}, export={"dtype": "float32"})
    train(first, data=videos, val=None, out=tmp_path / "a", cache=tmp_path / "cache")
    second = recipe(
        run={"steps": 12, "validate_steps": 6},
        model={"decoders": ["linear", NAME]},
        keyframe={"neighbours": True, "neighbour_dropout": 0.2, "coded": 0.5, "codec": "jpeg"},
        start={"flow": False, "flow_clips": 288, "weights": str(tmp_path / "a")},
        train={"freeze": ["encoder"], "decoders": [NAME]},
        loss={"rate": 0.0},
        optimizer={"ema": 0.5},
        export={"dtype": "float32"},
    )
    report = train(second, data=videos, val=videos, out=tmp_path / "b", cache=tmp_path / "cache")
    before, after = (ReducioCodec.from_pretrained(tmp_path / name / "model") for name in ("a", "b"))
    old, new = before.model.state_dict(), after.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(value, new[key]) for key, value in old.items())
    assert after.decoders == ("linear", NAME) and after.latent_hash == before.latent_hash
    assert new[f"decoders.{NAME}.out_4.weight"].abs().max() > 0
    found = [line[f"val/{NAME}"] for line in read_log(tmp_path / "b" / "log.jsonl") if "val/copy" in line]
    assert found[0] != found[-1]
    assert report.validation is not None and report.validation.decoders[NAME] == pytest.approx(found[-1], abs=1e-3)


@pytest.mark.parametrize("keyframe", [{"neighbours": False}, {"neighbours": False, "neighbour_dropout": 0.3}])
def test_recipes_that_make_no_sense(recipe: Callable[..., Recipe], keyframe: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"keyframe\.neighbour"):
        recipe(model={"decoders": ["linear", NAME]}, keyframe=keyframe)
    with pytest.raises(InputError, match=r"keyframe\.neighbours is true"):
        recipe(keyframe={"neighbours": True})
