"""Key pictures as users have them: any file, mode and size, to uint8 pixels of the size that is wanted."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from reducio_codec.clips.inputs import check_range
from reducio_codec.config import PIXEL_MULTIPLE
from reducio_codec.errors import InputError, VideoError
from reducio_codec.generate.buckets import nearest_bucket
from reducio_codec.io.files import check_input
from reducio_codec.io.images import picture_to_rgb
from reducio_codec.io.pixels import to_bytes

Picture = NDArray[np.uint8]

FORMS = "a path, a PIL picture, a uint8 array (H, W, 3), (H, W, 4) or (H, W), or a float tensor (3, H, W) in [-1, 1]"


def load_picture(source: Any) -> Picture:
    """A picture as (H, W, 3) uint8: turned as its EXIF says, grey repeated, 16 bit scaled, transparency on black.

    Args:
        source: a path, a PIL picture, a uint8 array (H, W, 3), (H, W, 4) or (H, W), or a float tensor (3, H, W).

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
    if isinstance(source, Image.Image):
        return picture_to_rgb(source)
    if isinstance(source, Tensor) and source.is_floating_point():
        if source.ndim != 3 or source.shape[0] != 3 or not source.numel():
            raise InputError(f"image is a float tensor {tuple(source.shape)}; it must be (3, H, W)")
        check_range(source, name="image")
        return np.ascontiguousarray(to_bytes(source.detach().cpu()).permute(1, 2, 0).numpy())
    array = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        found = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(source).__name__}"
        raise InputError(f"image is {found}; allowed: {FORMS}")
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)) or not array.size:
        raise InputError(f"image has shape {array.shape}; allowed: (H, W, 3), (H, W, 4) or (H, W)")
    return picture_to_rgb(Image.fromarray(np.ascontiguousarray(array)))


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
