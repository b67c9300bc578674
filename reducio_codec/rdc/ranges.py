"""What numbers a file may hold: the bitstream owns them, and coder, header and layers keep to them."""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, get_args

from reducio_codec.errors import InputError

UNIT = 1024
"""Steps, scales and multipliers are whole numbers of 1/1024: of a channel's standard deviation, or of one."""

STEPS = (UNIT // 64, 16 * UNIT)
"""Quantiser steps, in units."""

KeyframeCodec = Literal["avif", "webp", "jpeg", "png"]
KEYFRAME_CODECS: tuple[str, ...] = get_args(KeyframeCodec)
"""What pictures may be coded with."""

MAX_SEQUENCE = 255
"""Pictures that are coded together."""

MAX_SIDE = 16384
"""Pixels of width or height."""

MAX_CHANNELS = 1 << 16
"""Of a latent."""

LATEST_TIME = 1 << 60
"""Ticks from 0, either way."""


STEP_RANGE = (STEPS[0] / UNIT, STEPS[1] / UNIT)
"""Allowed ``latent_step``."""


def step_units(step: Any) -> int:
    """``latent_step`` in units of 1/1024, which is what a file stores; InputError unless it is a number in ``STEP_RANGE``."""
    if isinstance(step, bool) or not isinstance(step, Real) or not STEP_RANGE[0] <= float(step) <= STEP_RANGE[1]:
        raise InputError(f"latent_step is {step!r}; allowed: {STEP_RANGE[0]} to {STEP_RANGE[1]:g}")
    return round(float(step) * UNIT)
