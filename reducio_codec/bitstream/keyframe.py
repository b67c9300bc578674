"""Key frames as coded pictures, through Pillow. AVIF and JPEG keep chroma at full size (4:4:4)."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from reducio_codec.errors import FormatError, InputError

KeyframeCodec = Literal["avif", "webp", "jpeg", "png"]
KEYFRAME_CODECS: tuple[str, ...] = get_args(KeyframeCodec)

MAX_PIXELS = 1 << 28
"""Pictures that claim more are refused before anything is allocated (16384 x 16384)."""

_RAW, _PACKED = b"\0", b"\1"


def encode_keyframe(rgb: npt.NDArray[np.uint8], *, codec: str = "avif", quality: int = 50) -> bytes:
    """A picture to bytes.

    Args:
        rgb: (H, W, 3) uint8.
        codec: "avif", "webp", "jpeg" or "png"; PNG is lossless and has no use for ``quality``.
        quality: 0 (smallest) to 100 (best), in the picture format's own scale.

    Raises:
        InputError: unknown codec, quality out of range, wrong shape or dtype.
    """
    check_keyframe_codec(codec)
    if isinstance(quality, bool) or not isinstance(quality, int) or not 0 <= quality <= 100:
        raise InputError(f"keyframe_quality is {quality!r}; allowed: whole numbers from 0 to 100")
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise InputError(f"a key frame is {rgb.dtype} {rgb.shape}; allowed: uint8 (H, W, 3)")
    picture, out = Image.fromarray(rgb), io.BytesIO()
    try:
        if codec == "avif":
            picture.save(out, "AVIF", quality=quality, subsampling="4:4:4", speed=4)
            return _pack_avif(out.getvalue())
        if codec == "webp":
            picture.save(out, "WEBP", quality=quality, method=6)
        elif codec == "jpeg":
            picture.save(out, "JPEG", quality=quality, subsampling="4:4:4", optimize=True)
        else:
            picture.save(out, "PNG", optimize=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"a key frame of {rgb.shape[1]}x{rgb.shape[0]} can't be written as {codec}: {error}"
        ) from error
    return out.getvalue()


def decode_keyframe(data: bytes, *, codec: str, width: int, height: int) -> npt.NDArray[np.uint8]:
    """The picture (height, width, 3) uint8 that ``encode_keyframe`` wrote.

    Raises:
        FormatError: damaged, or not of this size; the size is checked before pixels are decoded.
    """
    check_keyframe_codec(codec)
    if width * height > MAX_PIXELS:
        raise FormatError(f"a key frame claims {width}x{height} pixels; at most {MAX_PIXELS} are read")
    raw = _unpack_avif(data) if codec == "avif" else data
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(raw), formats=[codec.upper()])
        if picture.size != (width, height):
            raise FormatError(
                f"a key frame is {picture.size[0]}x{picture.size[1]} pixels; the file says {width}x{height}"
            )
        return np.array(picture.convert("RGB"))
    except FormatError:
        raise
    except Exception as error:  # Pillow's plugins raise many kinds on damaged data
        raise FormatError(f"a key frame is damaged: {error}") from error


def code_keyframe(
    rgb: npt.NDArray[np.uint8], *, codec: str = "avif", quality: int = 50
) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """A picture's bytes, and the picture (H, W, 3) that a reader gets of them; arguments as for ``encode_keyframe``."""
    data = encode_keyframe(rgb, codec=codec, quality=quality)
    return data, decode_keyframe(data, codec=codec, width=rgb.shape[1], height=rgb.shape[0])


def check_keyframe_codec(codec: str) -> None:
    """InputError unless the codec is known and this Pillow has it."""
    if codec not in KEYFRAME_CODECS:
        raise InputError(f"keyframe_codec is {codec!r}; allowed: {', '.join(KEYFRAME_CODECS)}")
    if codec in ("avif", "webp") and not features.check(codec):
        raise InputError(f"this Pillow was built without {codec}; use one of webp, jpeg, png, or another Pillow")


def _pack_avif(data: bytes) -> bytes:
    """An AVIF's boxes before its coded picture (about 280 bytes, alike in all) deflate to a few dozen."""
    split = _coded_picture(data)
    head = zlib.compressobj(9, wbits=-15, zdict=_avif_dictionary())
    packed = head.compress(data[:split]) + head.flush()
    if split == 0 or len(packed) > 0xFFFF or len(packed) >= split:
        return _RAW + data
    return _PACKED + struct.pack("<H", len(packed)) + packed + data[split:]


def _unpack_avif(data: bytes) -> bytes:
    if data[:1] == _RAW:
        return data[1:]
    if data[:1] != _PACKED or len(data) < 3:
        raise FormatError("a key frame is damaged: no AVIF follows")
    (size,) = struct.unpack_from("<H", data, 1)
    inflate = zlib.decompressobj(wbits=-15, zdict=_avif_dictionary())
    try:
        head = inflate.decompress(data[3 : 3 + size], 1 << 16)
    except zlib.error as error:
        raise FormatError(f"a key frame is damaged: {error}") from error
    if not inflate.eof:
        raise FormatError("a key frame is damaged: its boxes don't end")
    return head + data[3 + size :]


def _coded_picture(data: bytes) -> int:
    """Where the payload of the ``mdat`` box starts, or 0 if there is none."""
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"mdat":
            return place + 8
        if size < 8:
            return 0
        place += size
    return 0


def _avif_dictionary() -> bytes:
    """The boxes of a still AVIF picture (ISO/IEC 23008-12, AV1 Image File Format) with common values, for deflate."""
    return bytes.fromhex(_AVIF_BOXES)


_AVIF_BOXES = (
    "00000020667479706176696600000000617669666d6966316d6961664d413141000000eb6d657461000000000000002168646c72"
    "000000000000000070696374000000000000000000000000000000000e7069746d0000000000010000001e696c6f630000000044"
    "0000010001000000010000011300007a7c0000002869696e660000000000010000001a696e666502000000000100006176303143"
    "6f6c6f72000000006a697072700000004b6970636f00000014697370650000000000000100000001000000001070697869000000"
    "00030808080000000c617631438120000000000013636f6c726e636c780001000d0006800000001769706d610000000000000001"
    "0001040102830400007a846d646174"
)
