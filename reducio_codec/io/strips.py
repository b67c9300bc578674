"""Pictures for people to look at: source and result side by side, and a strip of frames of one clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]

ERROR_GAIN = 4
"""Differences are shown this many times larger."""
STRIP_COLUMNS = 8
PANEL_WIDTHS = (128, 1280)
"""Narrowest and widest panel of the side-by-side video: below, text doesn't fit; above, players give up."""
STRIP_WIDTHS = (96, 320)
LABEL_HEIGHT = 22


def amplified_error(reference: Picture, decoded: Picture) -> Picture:
    """Absolute difference times 4, clipped: ``(..., 3)`` uint8 each."""
    difference = np.abs(reference.astype(np.int16) - decoded) * ERROR_GAIN
    error: Picture = difference.clip(0, 255).astype(np.uint8)
    return error


class SideBySide:
    """Makes frames ``source | decoded | difference x 4`` with a line of labels above.

    Small videos are enlarged by whole factors, so that labels fit and pixels stay visible; large ones are reduced.
    """

    def __init__(self, *, height: int, width: int) -> None:
        self._panel = fit(width=width, height=height, widths=PANEL_WIDTHS)
        panel_width, panel_height = self._panel
        labels = ("source", "decoded", f"difference x {ERROR_GAIN}")
        # even sides: the video codecs of the world halve the colour
        self.width = (3 * panel_width + 1) // 2 * 2
        self.height = (panel_height + LABEL_HEIGHT + 1) // 2 * 2
        self._blank = np.zeros((self.height, self.width, 3), np.uint8)
        for number, label in enumerate(labels):
            self._blank[:LABEL_HEIGHT, number * panel_width : (number + 1) * panel_width] = text_bar(label, panel_width)

    def frame(self, source: Picture, decoded: Picture) -> Picture:
        """``(H, W, 3)`` uint8 twice to ``(self.height, self.width, 3)`` uint8."""
        panel_width, panel_height = self._panel
        result = self._blank.copy()
        for number, picture in enumerate((source, decoded, amplified_error(source, decoded))):
            left = number * panel_width
            area = result[LABEL_HEIGHT : LABEL_HEIGHT + panel_height, left : left + panel_width]
            area[:] = resize(picture, self._panel)
        return result


def strip(source: Picture, keyframe: Picture, decoded: Mapping[str, Picture]) -> Picture:
    """Labelled rows of eight frames of a clip: source, key frame repeated, and each result with its error.

    Args:
        source: ``(n, H, W, 3)`` uint8, at most 16 frames; of fewer than eight, some are shown twice.
        keyframe: ``(H, W, 3)`` uint8.
        decoded: label to ``(n, H, W, 3)`` uint8.
    """
    places = np.rint(np.linspace(0, len(source) - 1, STRIP_COLUMNS)).astype(int)
    size = fit(width=source.shape[2], height=source.shape[1], widths=STRIP_WIDTHS)
    rows: list[tuple[str, Sequence[Picture]]] = [
        ("source, frames " + ", ".join(str(place) for place in places), [source[i] for i in places]),
        ("key frame repeated", [keyframe] * STRIP_COLUMNS),
    ]
    for label, result in decoded.items():
        rows += [
            (label, [result[i] for i in places]),
            (
                f"difference of source and {label} x {ERROR_GAIN}",
                [amplified_error(source[i], result[i]) for i in places],
            ),
        ]
    return stack_rows(rows, size=size)


def clip_strip(clips: Mapping[str, Picture]) -> Picture:
    """Labelled rows of eight frames of each clip ``(n, H, W, 3)`` uint8; all clips have one shape."""
    count, height, width, _ = next(iter(clips.values())).shape
    places = np.rint(np.linspace(0, count - 1, STRIP_COLUMNS)).astype(int)
    size = fit(width=width, height=height, widths=STRIP_WIDTHS)
    return stack_rows([(label, [clip[i] for i in places]) for label, clip in clips.items()], size=size)


def stack_rows(rows: Sequence[tuple[str, Sequence[Picture]]], *, size: tuple[int, int]) -> Picture:
    """Each row a line of text above its pictures, which are resized to ``size`` (width, height)."""
    lines = []
    for label, pictures in rows:
        lines.append(text_bar(label, size[0] * len(pictures)))
        lines.append(np.concatenate([resize(picture, size) for picture in pictures], axis=1))
    return np.concatenate(lines)


def fit(*, width: int, height: int, widths: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a panel: enlarged by a whole factor to the narrowest, or reduced to the widest."""
    narrowest, widest = widths
    if width < narrowest:
        factor = -(-narrowest // width)
        return width * factor, height * factor
    if width > widest:
        return widest, max(1, round(height * widest / width))
    return width, height


def resize(picture: Picture, size: tuple[int, int]) -> Picture:
    """``(H, W, 3)`` to ``size`` (width, height): pixels repeated when larger, averaged when smaller."""
    height, width, _ = picture.shape
    if (width, height) == size:
        return picture
    method = Image.Resampling.NEAREST if size[0] > width else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize(size, method))


def text_bar(text: str, width: int) -> Picture:
    """White text on a dark bar ``(22, width, 3)``."""
    bar = Image.new("RGB", (width, LABEL_HEIGHT), (24, 24, 24))
    ImageDraw.Draw(bar).text((5, 4), text, fill=(235, 235, 235), font=ImageFont.load_default(12))
    return np.asarray(bar)
