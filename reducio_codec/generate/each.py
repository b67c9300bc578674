"""Many pictures, one after another, with one pipeline: what can't be made is told and stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reducio_codec.errors import InputError, ReducioError, VideoError
from reducio_codec.generate.pictures import load_picture
from reducio_codec.generate.pipeline import ReducioDiTPipeline


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of a picture."""

    image: Any
    """As it was given."""
    video: NDArray[np.uint8] | None
    """(T, H, W, 3), or None where the picture can't be read."""
    error: ReducioError | None
    """Why, then."""


def generate_each(pipeline: ReducioDiTPipeline, images: Iterable[Any], **options: Any) -> Iterator[Made]:
    """A video of each picture, made when it is asked for: only one is in memory.

    Args:
        images: pictures as ``pictures.load_picture`` takes them, in any sizes.
        options: of the pipeline, for each picture alike.

    Raises:
        InputError: of the options.
    """
    for image in images:
        try:
            picture = load_picture(image)
        except (InputError, VideoError) as error:
            yield Made(image=image, video=None, error=error)
            continue
        yield Made(image=image, video=pipeline(image=picture, **options), error=None)
