"""Key pictures as users have them: any file, mode and size, to uint8 pixels of the size that is wanted."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from reducio_codec.clips.forms import as_picture
from reducio_codec.config import PIXEL_MULTIPLE
from reducio_codec.errors import InputError, VideoError
from reducio_codec.generate.buckets import nearest_bucket
from reducio_codec.io.files import check_input
from reducio_codec.io.images import picture_to_rgb

Picture = NDArray[np.uint8]


def load_picture(source: Any) -> Picture:
    """A picture as (H, W, 3) uint8: turned as its EXIF says, grey repeated, 16 bit scaled, transparency on black.

    Args:
        source: a path, a picture as ``clips.forms.as_frame`` takes it, or uint8 (H, W) or (H, W, 4).

    Raises:
        InputError: no such file, or another kind of value. VideoError: the file isn't a whole, readable picture.
    """
    if isinstance(source, str | os.PathLike):
        path = check_input(source)
        if path.is_dir():
            raise InputError(f"{path} is a folder; give one picture")
        try:
            with Image.open(path) as picture:
                return picture_to_rgb(picture)
        except UnidentifiedImageError:
            raise VideoError(f"{path} is not a picture that can be read") from None
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise VideoError(f"{path} can't be read as a picture: {error}") from error
    array = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
    if (
        isinstance(array, np.ndarray)
        and array.dtype == np.uint8
        and array.size
        and array.ndim > 1
        and array.shape[2:] in ((), (4,))
    ):
        return picture_to_rgb(Image.fromarray(np.ascontiguousarray(array)))
    return as_picture(source, name="image").cpu().numpy()


_SQUARES = 512
"""Models for pictures up to this size learn from squares as high as the picture; larger ones from buckets."""


def natural_size(height: int, width: int, *, sample_size: int) -> tuple[int, int]:
    """Height and width to generate a picture at, by how a model was trained.

    Up to 512: the picture's own size, or reduced so that the shorter side is that of the squares, with at most twice their
    area; sides below 32 count as 32, which they are padded to. Above: the nearest bucket.
    """
    if sample_size > _SQUARES:
        return nearest_bucket(height, width, sample_size=sample_size)
    area = 2 * sample_size**2
    scale = math.sqrt(area / (height * width))
    if min(height, width) * scale < PIXEL_MULTIPLE:  # so long and thin that padding makes most of its area
        scale = area / PIXEL_MULTIPLE / max(height, width)
    scale = min(1.0, scale, sample_size / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def cover(picture: Picture, *, height: int, width: int) -> Picture:
    """Resize (Lanczos) so that the wanted size is covered, and cut off evenly what is over: (height, width, 3)."""
    rows, columns, _ = picture.shape
    if (rows, columns) == (height, width):
        return picture
    scale = max(height / rows, width / columns)
    # the part of the source that will be seen, in its own pixels
    top, left = (rows - height / scale) / 2, (columns - width / scale) / 2
    box = (left, top, columns - left, rows - top)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box))
