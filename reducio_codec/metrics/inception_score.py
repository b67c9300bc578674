"""Inception score (Salimans et al. 2016) and the classifier that it is taken with on UCF-101 (Saito et al. 2017, TGAN).

``exp(mean_i KL(p(y | x_i) || mean_j p(y | x_j)))`` over the class probabilities of generated clips: high where every clip
shows one class clearly and all classes occur. It looks at no real clip. The score depends on the number of clips and of
splits, so a result carries both.

The classifier of published numbers is C3D, trained on Sports-1M and finetuned on UCF-101; in PyTorch it goes round as the
TorchScript file of StyleGAN-V, which takes bytes and gives probabilities.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.metrics.weights import NeedsFileError, checked

C3D_FILE = "c3d_ucf101.pt"
"""What StyleGAN-V calls the TorchScript file."""

FRAMES = 16
"""Frames of a clip that C3D looks at."""
CLASSES = 101
SPLITS = 10
"""Parts that published scores are means over."""
SHUFFLE_SEED = 42
"""Of the order in which clips go into parts; StyleGAN-V's."""

_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class InceptionScore:
    """A score with what it depends on."""

    mean: float
    """Over the parts."""
    std: float
    """Over the parts (divided by their number)."""
    splits: int
    clips: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def inception_score(
    probabilities: NDArray[np.floating], *, splits: int = SPLITS, seed: int | None = SHUFFLE_SEED
) -> InceptionScore:
    """The score of ``(n, classes)`` probabilities: 1 at the least, the number of classes at most.

    Args:
        probabilities: rows of numbers of 0 or more that sum to 1.
        splits: parts of (almost) equal size that are scored apart, 1 to n.
        seed: of the order in which rows go into parts; None leaves their own order, which must then mean nothing.

    Raises:
        InputError: rows that aren't probabilities, or more splits than rows.
    """
    if probabilities.ndim != 2 or not 1 <= splits <= len(probabilities):
        raise InputError(
            f"probabilities have shape {probabilities.shape} and splits is {splits}; allowed: (n, classes), 1 to n splits"
        )
    values = probabilities.astype(np.float64)
    wrong = ~np.isfinite(values).all(1) | (values < 0).any(1) | (abs(values.sum(1) - 1) > _TOLERANCE)
    if wrong.any():
        first = int(wrong.argmax())
        raise InputError(
            f"row {first} holds no probabilities: least {values[first].min():.4g}, sum {values[first].sum():.4g}; "
            "they must be 0 or more and sum to 1"
        )
    if seed is not None:
        values = values[np.random.RandomState(seed).permutation(len(values))]
    edges = [number * len(values) // splits for number in range(splits + 1)]
    scores = [_score(values[first:last]) for first, last in pairwise(edges)]
    return InceptionScore(mean=float(np.mean(scores)), std=float(np.std(scores)), splits=splits, clips=len(values))


def _score(part: NDArray[np.float64]) -> float:
    mean = part.mean(0)
    # 0 log 0 is 0; where a class has no probability in any clip, it has none in their mean
    ratio = np.divide(part, mean, out=np.ones_like(part), where=part > 0)
    return float(np.exp((part * np.log(ratio)).sum(1).mean()))


class C3d:
    """The classifier.

    Args:
        path: TorchScript ((N, 3, 16, H, W) uint8 to (N, 101) probabilities), or a state dict of :class:`C3dNetwork` as
            safetensors; pickles aren't read.
        sha256: hash that the file must have. None takes any: no hash is published, so results name the file's.

    Raises:
        NeedsFileError: no path, or nothing there. WeightsError: another file.
    """

    def __init__(self, path: Path | None, *, sha256: str | None = None, device: str = "cpu") -> None:
        if path is None or not path.is_file():
            where = "give its path" if path is None else f"{path} doesn't exist"
            raise NeedsFileError(C3D_FILE, hint=f"{where}; it is C3D finetuned on UCF-101")
        self.sha256 = checked(path, sha256=sha256 or "")
        self.device = torch.device(device)
        self._model = _load(path).to(self.device).eval()

    def __call__(self, clip: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One clip ``(16, H, W, 3)`` uint8 to probabilities ``(101,)``.

        Raises:
            WeightsError: the file gives something else.
        """
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[0] != FRAMES or clip.shape[-1] != 3:
            raise InputError(f"clip is {clip.dtype} {clip.shape}; allowed: uint8 ({FRAMES}, H, W, 3)")
        video = torch.from_numpy(np.ascontiguousarray(clip)).permute(3, 0, 1, 2)[None]  # (1, 3, 16, H, W)
        with torch.inference_mode():
            found = self._model(video.contiguous().to(self.device))
        values: NDArray[np.float32] = found.flatten().float().cpu().numpy()
        if values.shape != (CLASSES,) or (values < 0).any() or abs(values.sum() - 1) > _TOLERANCE:
            raise WeightsError(
                f"the classifier gives {tuple(found.shape)}, least {values.min():.4g}, sum {values.sum():.4g}; a C3D for "
                f"UCF-101 gives {CLASSES} probabilities"
            )
        return values


class C3dNetwork(nn.Module):
    """C3D (Tran et al. 2015) for UCF-101 with TGAN's preprocessing: BGR, 112x112, a mean clip taken off."""

    def __init__(self, *, width: int = 64, hidden: int = 4096) -> None:
        """``width`` and ``hidden`` are smaller in tests only."""
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 4 * width, *(8 * width,) * 4)
        for name, inside, outside in zip(_CONVOLUTIONS, channels, channels[1:], strict=False):
            self.add_module(name, nn.Conv3d(inside, outside, 3, padding=1))
        self.fc6 = nn.Linear(8 * width * 16, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, CLASSES)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(3, FRAMES, 112, 112))  # BGR, 0 to 255

    def forward(self, video: Tensor) -> Tensor:
        """(N, 3, 16, H, W) uint8 RGB to (N, 101) probabilities."""
        unit = video.flip(1).float() / 127.5 - 1  # as TGAN's generator gives them, BGR
        size = (FRAMES, 112, 112)
        h = functional.interpolate(unit, size, mode="trilinear", align_corners=True) * 128 + 128 - self.mean
        for name in _CONVOLUTIONS:
            h = functional.relu(cast(nn.Module, getattr(self, name))(h))
            if name in _POOLED:
                # time is halved later than space, and an odd side keeps its last row (Caffe's rounding)
                h = functional.max_pool3d(h, (1, 2, 2) if name == "conv1a" else 2, ceil_mode=True)
        h = functional.relu(self.fc6(h.flatten(1)))  # (N, 512 * 1 * 4 * 4)
        return torch.softmax(self.fc8(functional.relu(self.fc7(h))), dim=1)


_CONVOLUTIONS = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
_POOLED = ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b")


def _load(path: Path) -> nn.Module:
    try:
        if path.suffix != ".safetensors":
            script: nn.Module = torch.jit.load(str(path), map_location="cpu")
            return script
        tensors = load_file(path)
        with torch.device("meta"):
            network = C3dNetwork(width=len(tensors["conv1a.bias"]), hidden=len(tensors["fc6.bias"]))
        network.load_state_dict(tensors, strict=True, assign=True)
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is neither TorchScript nor a C3D's tensors as safetensors: {reason}") from error
    return network.requires_grad_(False)
