"""What FFmpeg can't write into a GIF: how long the last picture is shown. Browsers loop after it."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_CONTROL, _IMAGE = b"\x21\xf9\x04", b"\x00\x2c\x00\x00\x00\x00"
LONGEST_DELAY = 0xFFFF
"""In 1/100 s."""


def set_last_delay(path: Path, *, ticks: int) -> None:
    """``ticks``: 1/100 s, at most 655.35 s. Each picture of the file must cover all of it."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        size = data[6:10]  # width and height, as the image descriptor repeats them
        image = data.rfind(_IMAGE + size)
        control = image - 8 + len(_IMAGE[:1])
        if image < 0 or data[control : control + 3] != _CONTROL:
            return
        data[control + 4 : control + 6] = struct.pack("<H", min(ticks, LONGEST_DELAY))
