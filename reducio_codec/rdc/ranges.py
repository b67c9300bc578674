"""What numbers a file may hold: the bitstream owns them, and coder, header and layers keep to them."""

from __future__ import annotations

from typing import Literal, get_args

UNIT = 1024
"""Steps, scales and multipliers are whole numbers of 1/1024: of a channel's standard deviation, or of one."""

STEPS = (UNIT // 64, 16 * UNIT)
"""Quantiser steps, in units."""

KeyframeCodec = Literal["avif", "webp", "jpeg", "png"]
KEYFRAME_CODECS: tuple[str, ...] = get_args(KeyframeCodec)
"""What pictures may be coded with."""

MAX_SIDE = 16384
"""Pixels of width or height."""

MAX_CHANNELS = 1 << 16
"""Of a latent."""

LATEST_TIME = 1 << 60
"""Ticks from 0, either way."""
