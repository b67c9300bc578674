"""What a user may ask of a clip's motion: how much moves, and what the camera does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from reducio_codec.errors import InputError
from reducio_codec.generate.config import LEAST_MOTION, MOST_MOTION


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A steady movement of the camera. What it shows moves the other way."""

    pan_x: float = 0.0
    """To the right, in sides of the square that the model was trained at, a second."""
    pan_y: float = 0.0
    """Downwards, likewise."""
    zoom: float = 0.0
    """Inwards: by how much things grow in a second, over their size."""
    roll: float = 0.0
    """Clockwise, in degrees a second."""


CAMERAS: dict[str, Camera] = {
    "still": Camera(),
    "pan-left": Camera(pan_x=-0.15),
    "pan-right": Camera(pan_x=0.15),
    "pan-up": Camera(pan_y=-0.15),
    "pan-down": Camera(pan_y=0.15),
    "zoom-in": Camera(zoom=0.1),
    "zoom-out": Camera(zoom=-0.1),
    "roll-left": Camera(roll=-6.5),
    "roll-right": Camera(roll=6.5),
}
"""Movements that have a name, about as fast as the fastest tenth of the training clips."""


def read_camera(value: Camera | str | Sequence[float]) -> Camera:
    """A camera by its name, as four numbers (pan x, pan y, zoom, roll), or as their text with commas between them.

    Raises:
        InputError: another name, or other numbers.
    """
    if isinstance(value, str) and value in CAMERAS:
        return CAMERAS[value]
    numbers = value.split(",") if isinstance(value, str) else astuple(value) if isinstance(value, Camera) else value
    try:
        found = [float(number) for number in numbers]
    except (TypeError, ValueError, OverflowError):
        found = []
    if len(found) != 4 or not torch.tensor(found, dtype=torch.float32).isfinite().all():  # as the model is told
        raise InputError(
            f"camera is {value!r}; allowed: {', '.join(CAMERAS)}, or four numbers: pan x and pan y in sides of the picture a "
            "second, zoom in growth a second, roll in degrees a second"
        )
    return Camera(pan_x=found[0], pan_y=found[1], zoom=found[2], roll=found[3])


def check_motion(value: float) -> float:
    """``value`` if it is a motion that can be asked for."""
    if isinstance(value, bool | str) or not LEAST_MOTION <= value <= MOST_MOTION:
        raise InputError(
            f"motion is {value}; it must be a number from {LEAST_MOTION:g} to {MOST_MOTION:g}, 1 as much as usual"
        )
    return float(value)


_SPREAD = (0.1, 0.1, 0.1, 5.0)
"""What counts as 1 of a camera's four numbers."""
_FLOOR = 0.05
"""Added to motion before its logarithm."""


class ControlEmbedding(nn.Module):
    """Motion and camera of clips to what is added to the vector that modulates all blocks. It begins as zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(1 + 4 + 2, width)
        self.last = nn.Linear(width, width)

    def start(self) -> None:
        """A new model is told nothing."""
        nn.init.zeros_(self.last.weight)

    def forward(self, motion: Tensor, camera: Tensor) -> Tensor:
        """Motion (B,) over the unit and camera (B, 4), NaN where they aren't told, to (B, C)."""
        moved = (motion.float() + _FLOOR).log()[:, None]
        turned = torch.asinh(camera.float() / torch.tensor(_SPREAD, device=camera.device))
        told = torch.stack([~motion.isnan(), ~camera.isnan().any(1)], dim=1)  # (B, 2)
        numbers = torch.cat([moved, turned], dim=1).nan_to_num(0.0)
        inputs = torch.cat([numbers, told.float()], dim=1)  # (B, 7)
        result: Tensor = self.last(functional.silu(self.first(inputs.to(self.first.weight.dtype))))
        return result
