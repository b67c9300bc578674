"""Key frames as coded pictures, through Pillow. AVIF and JPEG keep chroma at full size (4:4:4).

The key frames of clips that follow one another are much alike. As one AV1 sequence, where each picture is predicted from
those before it, they take about a quarter less. Of an AVIF only its AV1 data is kept, see ``rdc.av1``.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from reducio_codec.config import check_choice, check_whole
from reducio_codec.errors import FormatError, InputError
from reducio_codec.rdc.av1 import check_sample, join_avif, split_avif
from reducio_codec.rdc.ranges import KEYFRAME_CODECS, MAX_SEQUENCE

MAX_PIXELS = 1 << 28
"""Pictures that claim more are refused before anything is allocated (16384 x 16384)."""

SPEED = 4
"""Of the AVIF encoder. 3 takes half as long again for 2 to 3% fewer bytes at equal PSNR, none at equal LPIPS; 2 takes three
times as long for 5%. Its tuning is libavif's choice: over seven clips of ``val``, libaom's "psnr" took 5 to 6% fewer bytes of
key frames at equal PSNR of the decoded clips and 5 to 14% more at equal LPIPS; "iq" 5 to 9% fewer at equal LPIPS and 4 to 8%
more at equal PSNR, much more on noise, and a libaom before 3.14 refuses it for sequences."""

LARGE, LARGE_SPEED = 1280 * 720, 6
"""From so many pixels on, the encoder's speed: at 720p it takes 42% of the time of 4 (1.3 and 2.6 s a picture, on one core) for
1 to 4% more bytes and 0.1 to 0.3 dB less. At 4 key frames take longer than all else that encoding does."""

Picture = npt.NDArray[np.uint8]


def encode_keyframe(rgb: Picture, *, codec: str = "avif", quality: int = 50) -> bytes:
    """A picture to bytes.

    Args:
        rgb: (H, W, 3) uint8.
        codec: "avif", "webp", "jpeg" or "png"; PNG is lossless and has no use for ``quality``.
        quality: 0 (smallest) to 100 (best), in the picture format's own scale.

    Raises:
        InputError: unknown codec, quality out of range, wrong shape or dtype.
    """
    return encode_keyframes([rgb], codec=codec, quality=quality)[0]


def encode_keyframes(pictures: Sequence[Picture], *, codec: str = "avif", quality: int = 50) -> list[bytes]:
    """Pictures of one size to the bytes of each. As "avif" they are each predicted from those before it, up to 255 of them;
    arguments and errors are ``encode_keyframe``'s."""
    check_keyframe_codec(codec)
    check_whole(quality, name="keyframe_quality", most=100)
    if codec != "avif" and len(pictures) != 1:
        return [encode_keyframe(rgb, codec=codec, quality=quality) for rgb in pictures]
    if not pictures:
        return []
    assert len(pictures) <= MAX_SEQUENCE, len(pictures)
    for rgb in pictures:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise InputError(f"a key frame is {rgb.dtype} {rgb.shape}; allowed: uint8 (H, W, 3)")
    picture = Image.fromarray(pictures[0]) if len(pictures) == 1 else _as_frames(pictures)
    height, width, _ = pictures[0].shape
    sequence: dict[str, Any] = {"save_all": True, "duration": 1000} if len(pictures) > 1 else {}
    out = io.BytesIO()
    try:
        if codec == "avif":
            speed = LARGE_SPEED if width * height >= LARGE else SPEED
            picture.save(out, "AVIF", quality=quality, subsampling="4:4:4", speed=speed, **sequence)
            return split_avif(out.getvalue())
        if codec == "webp":
            picture.save(out, "WEBP", quality=quality, method=6)
        elif codec == "jpeg":
            picture.save(out, "JPEG", quality=quality, subsampling="4:4:4", optimize=True)
        else:
            picture.save(out, "PNG", optimize=True)
    except (OSError, ValueError) as error:
        raise InputError(f"a key frame of {width}x{height} can't be written as {codec}: {error}") from error
    return [out.getvalue()]


def _as_frames(pictures: Sequence[Picture]) -> Image.Image:
    """Pictures of one size as the frames of one image, as Pillow reads those of a file: of its own kind, with a third more
    bytes, only one is in memory."""
    height, width, _ = pictures[0].shape
    image: Any = Image.new("RGB", (width, height))

    def seek(place: int) -> None:
        if not 0 <= place < len(pictures):
            raise EOFError
        image.frombytes(np.ascontiguousarray(pictures[place]))

    image.n_frames, image.is_animated, image.seek = len(pictures), True, seek
    return cast(Image.Image, image)


class PictureDecoder:
    """Decodes pictures that were coded together, each once as long as they are asked for in order.

    Args:
        coded: the bytes of each, as ``encode_keyframes`` gives them.
        codec: what they are coded with; "avif" pictures are predicted from those before, others stand alone.
    """

    def __init__(self, coded: Sequence[bytes], *, codec: str, width: int, height: int) -> None:
        self._coded, self._codec, self._size = coded, codec, (width, height)
        self._sequence: Image.Image | None = None
        self._refused = b""

    def decode(self, place: int) -> Picture:
        """The picture (height, width, 3) uint8 at ``place``.

        Raises:
            FormatError: damaged, or not of this size; the size is checked before pixels are decoded.
        """
        width, height = self._size
        if width * height > MAX_PIXELS:
            raise FormatError(f"a key frame claims {width}x{height} pixels; at most {MAX_PIXELS} are read")
        if place >= len(self._coded):
            if self._refused:
                check_sample(self._refused, width=width, height=height)  # says why
            raise FormatError(f"a key frame is damaged: there are {len(self._coded)} in its group, it would be {place}")
        if self._codec not in KEYFRAME_CODECS or not _has(self._codec):
            raise FormatError(f"a key frame is coded as {self._codec!r}, which this program's Pillow can't read")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._open(place)
        except FormatError:
            raise
        except Exception as error:  # Pillow's plugins raise many kinds on damaged data
            raise FormatError(f"a key frame is damaged: {error}") from error

    def _open(self, place: int) -> Picture:
        if self._codec != "avif":
            picture: Image.Image = Image.open(io.BytesIO(self._coded[place]), formats=[self._codec.upper()])
        else:
            if self._sequence is None:
                self._sequence = self._open_sequence()
                if place >= len(self._coded):
                    return self.decode(place)
            picture = self._sequence
            picture.seek(place)
        if picture.size != self._size:
            raise FormatError(
                f"a key frame is {picture.size[0]}x{picture.size[1]} pixels; "
                f"the file says {self._size[0]}x{self._size[1]}"
            )
        return np.array(picture.convert("RGB"))

    def _open_sequence(self) -> Image.Image:
        """The pictures up to the first that can't be, which is ``_refused``."""
        width, height = self._size
        for number, sample in enumerate(self._coded):
            try:
                check_sample(sample, width=width, height=height)
            except FormatError:
                if number == 0:
                    raise
                self._coded, self._refused = self._coded[:number], sample
                break
        return Image.open(io.BytesIO(join_avif(self._coded, width=width, height=height)), formats=["AVIF"])


def decode_keyframe(data: bytes, *, codec: str, width: int, height: int) -> Picture:
    """The picture (height, width, 3) uint8 that ``encode_keyframe`` wrote; errors as for :class:`PictureDecoder`."""
    return PictureDecoder([data], codec=codec, width=width, height=height).decode(0)


def code_keyframe(rgb: Picture, *, codec: str = "avif", quality: int = 50) -> tuple[bytes, Picture]:
    """A picture's bytes, and the picture (H, W, 3) that a reader gets of them; arguments as for ``encode_keyframe``."""
    (data,), (seen,) = code_keyframes([rgb], codec=codec, quality=quality)
    return data, seen


def code_keyframes(
    pictures: Sequence[Picture], *, codec: str = "avif", quality: int = 50
) -> tuple[list[bytes], list[Picture]]:
    """The bytes of any number of pictures, and what a reader gets of them; arguments as for ``encode_keyframes``."""
    coded = encode_keyframes(pictures, codec=codec, quality=quality)
    if not coded:
        return [], []
    height, width, _ = pictures[0].shape
    decoder = PictureDecoder(coded, codec=codec, width=width, height=height)
    return coded, [decoder.decode(place) for place in range(len(coded))]


def check_keyframe_codec(codec: str) -> None:
    """InputError unless the codec is known and this Pillow has it."""
    check_choice(codec, name="keyframe_codec", allowed=KEYFRAME_CODECS)
    if not _has(codec):
        raise InputError(f"this Pillow was built without {codec}; use one of webp, jpeg, png, or another Pillow")


def _has(codec: str) -> bool:
    return codec not in ("avif", "webp") or bool(features.check(codec))
