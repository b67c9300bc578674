"""LPIPS (Zhang et al. 2018), version 0.1, by the authors' package; on frames in [-1, 1], the range it was made for.

The package ships its small calibrated layers; the trunk (AlexNet or VGG-16, trained on ImageNet) is torchvision's file.
It is read from a path or from torch's cache, and never downloaded here: the package itself would do so unasked.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import lpips
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.io.pixels import to_unit
from reducio_codec.metrics.weights import NeedsFileError, checked, torch_cache

Net = Literal["alex", "vgg"]

TRUNKS: dict[str, tuple[str, str]] = {
    "alex": ("alexnet-owt-7be5be79.pth", "7be5be79"),
    "vgg": ("vgg16-397923af.pth", "397923af"),
}
"""torchvision's file and the beginning of its SHA-256."""

BATCH = 16
"""Frames that go through the trunk together."""


class Lpips:
    """The distance itself; loading takes a second, so make one and keep it.

    Args:
        net: ``"alex"`` is the authors' choice for evaluation, ``"vgg"`` is what training losses use.
        trunk: torchvision's weight file; by default looked for in torch's cache.
        sha256: what the file's hash must begin with, by default torchvision's.

    Raises:
        NeedsFileError: the trunk isn't there. WeightsError: it is another file.
    """

    def __init__(
        self, net: Net = "alex", *, trunk: Path | None = None, sha256: str | None = None, device: str = "cpu"
    ) -> None:
        if net not in TRUNKS:
            raise InputError(f"net is {net!r}; allowed: {', '.join(TRUNKS)}")
        name, prefix = TRUNKS[net]
        path = torch_cache(name) if trunk is None else trunk
        if not path.is_file():
            raise NeedsFileError(name, hint=f"{path} doesn't exist; it is torchvision's ImageNet file of that name")
        self.net = net
        self.sha256 = checked(path, sha256=prefix if sha256 is None else sha256)
        self.device = torch.device(device)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # the package uses torchvision's older arguments
            model = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
        _fill(model.net, path)
        self._model = model.to(self.device).eval().requires_grad_(False)

    def describe(self) -> dict[str, str]:
        """What a result has to say about this metric."""
        return {"net": self.net, "version": "0.1", "range": "[-1, 1]", "trunk_sha256": self.sha256}

    def distance(self, reference: Tensor, decoded: Tensor) -> Tensor:
        """Frames (N, 3, H, W) float in [-1, 1] each to distances (N, 1, 1, 1), with gradients: for training losses."""
        found: Tensor = self._model(reference, decoded)
        return found

    def __call__(self, reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Frames ``(T, H, W, 3)`` uint8 each to ``(T,)`` distances; 0 is equal."""
        if reference.shape != decoded.shape or reference.ndim != 4 or reference.dtype != np.uint8:
            raise InputError(
                f"clips are {reference.dtype} {reference.shape} and {decoded.dtype} {decoded.shape}; "
                "both must be uint8 (T, H, W, 3) of one shape"
            )
        values = []
        with torch.inference_mode():
            for first in range(0, len(reference), BATCH):
                a, b = (
                    to_unit(torch.from_numpy(np.ascontiguousarray(clip[first : first + BATCH])))
                    .permute(0, 3, 1, 2)
                    .to(self.device)  # (n, 3, H, W)
                    for clip in (reference, decoded)
                )
                values.append(self._model(a, b).flatten().double().cpu().numpy())
        return np.concatenate(values)


@dataclass
class LpipsMeter:
    """Mean LPIPS over frames; holds two numbers."""

    metric: Lpips
    _sum: float = field(default=0.0)
    _frames: int = field(default=0)

    def add(self, reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> None:
        """Frames ``(T, H, W, 3)`` uint8 each."""
        values = self.metric(reference, decoded)
        self._sum += float(values.sum())
        self._frames += len(values)

    def result(self) -> float:
        """Mean over the frames so far."""
        if not self._frames:
            raise InputError("no frame was added; LPIPS needs at least one")
        return self._sum / self._frames


def _fill(trunk: torch.nn.Module, path: Path) -> None:
    """Put torchvision's weights (``features.N.weight``) where the package has them (``sliceK.N.weight``)."""
    published = torch.load(path, map_location="cpu", weights_only=True)
    own = trunk.state_dict()
    missing = [name for name in own if f"features.{name.split('.', 1)[1]}" not in published]
    if missing:
        raise WeightsError(f"{path} has no weights for {missing[0]}; it isn't torchvision's file of this network")
    trunk.load_state_dict({name: published[f"features.{name.split('.', 1)[1]}"] for name in own})
