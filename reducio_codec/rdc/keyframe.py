"""Key frames as coded pictures, through Pillow. AVIF and JPEG keep chroma at full size (4:4:4).

The key frames of clips that follow one another are much alike. As one AVIF image sequence, where each picture is predicted
from those before it, they take about a quarter less.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from reducio_codec.errors import FormatError, InputError

KeyframeCodec = Literal["avif", "webp", "jpeg", "png"]
KEYFRAME_CODECS: tuple[str, ...] = get_args(KeyframeCodec)

MAX_PIXELS = 1 << 28
"""Pictures that claim more are refused before anything is allocated (16384 x 16384)."""

MAX_GROUP = 16
"""Most key frames that are coded together."""

_RAW, _PACKED, _PACKED_SEQUENCE = b"\0", b"\1", b"\2"


def encode_keyframe(rgb: npt.NDArray[np.uint8], *, codec: str = "avif", quality: int = 50) -> bytes:
    """A picture to bytes.

    Args:
        rgb: (H, W, 3) uint8.
        codec: "avif", "webp", "jpeg" or "png"; PNG is lossless and has no use for ``quality``.
        quality: 0 (smallest) to 100 (best), in the picture format's own scale.

    Raises:
        InputError: unknown codec, quality out of range, wrong shape or dtype.
    """
    return encode_keyframes([rgb], codec=codec, quality=quality)


def encode_keyframes(pictures: Sequence[npt.NDArray[np.uint8]], *, codec: str = "avif", quality: int = 50) -> bytes:
    """Pictures of one size to bytes; more than one become an AVIF image sequence, each predicted from those before it.

    Arguments and errors are ``encode_keyframe``'s; several pictures need ``codec="avif"``.
    """
    check_keyframe_codec(codec)
    if isinstance(quality, bool) or not isinstance(quality, int) or not 0 <= quality <= 100:
        raise InputError(f"keyframe_quality is {quality!r}; allowed: whole numbers from 0 to 100")
    check_keyframe_group(len(pictures), codec=codec)
    for rgb in pictures:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise InputError(f"a key frame is {rgb.dtype} {rgb.shape}; allowed: uint8 (H, W, 3)")
    picture, *more = (Image.fromarray(rgb) for rgb in pictures)
    height, width, _ = pictures[0].shape
    sequence: dict[str, Any] = {"save_all": True, "append_images": more, "duration": 1000} if more else {}
    out = io.BytesIO()
    try:
        if codec == "avif":
            picture.save(out, "AVIF", quality=quality, subsampling="4:4:4", speed=4, **sequence)
            return _pack_avif(out.getvalue())
        if codec == "webp":
            picture.save(out, "WEBP", quality=quality, method=6)
        elif codec == "jpeg":
            picture.save(out, "JPEG", quality=quality, subsampling="4:4:4", optimize=True)
        else:
            picture.save(out, "PNG", optimize=True)
    except (OSError, ValueError) as error:
        raise InputError(f"a key frame of {width}x{height} can't be written as {codec}: {error}") from error
    return out.getvalue()


def decode_keyframe(data: bytes, *, codec: str, width: int, height: int, place: int = 0) -> npt.NDArray[np.uint8]:
    """The picture (height, width, 3) uint8 that ``encode_keyframe`` wrote, or the one at ``place`` of several.

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
        if place:
            picture.seek(place)
        return np.array(picture.convert("RGB"))
    except FormatError:
        raise
    except Exception as error:  # Pillow's plugins raise many kinds on damaged data
        raise FormatError(f"a key frame is damaged: {error}") from error


def code_keyframe(
    rgb: npt.NDArray[np.uint8], *, codec: str = "avif", quality: int = 50
) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """A picture's bytes, and the picture (H, W, 3) that a reader gets of them; arguments as for ``encode_keyframe``."""
    data, (seen,) = code_keyframes([rgb], codec=codec, quality=quality)
    return data, seen


def code_keyframes(
    pictures: Sequence[npt.NDArray[np.uint8]], *, codec: str = "avif", quality: int = 50
) -> tuple[bytes, list[npt.NDArray[np.uint8]]]:
    """The bytes of one or several pictures, and what a reader gets of them; arguments as for ``encode_keyframes``."""
    data = encode_keyframes(pictures, codec=codec, quality=quality)
    return data, [
        decode_keyframe(data, codec=codec, width=rgb.shape[1], height=rgb.shape[0], place=place)
        for place, rgb in enumerate(pictures)
    ]


def check_keyframe_group(count: int, *, codec: str) -> None:
    """InputError unless so many key frames can be coded together."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_GROUP:
        raise InputError(f"keyframe_group is {count!r}; allowed: 1 to {MAX_GROUP}")
    if count > 1 and codec != "avif":
        raise InputError(f"keyframe_group is {count} and keyframe_codec {codec!r}; only avif codes several together")


def check_keyframe_codec(codec: str) -> None:
    """InputError unless the codec is known and this Pillow has it."""
    if codec not in KEYFRAME_CODECS:
        raise InputError(f"keyframe_codec is {codec!r}; allowed: {', '.join(KEYFRAME_CODECS)}")
    if codec in ("avif", "webp") and not features.check(codec):
        raise InputError(f"this Pillow was built without {codec}; use one of webp, jpeg, png, or another Pillow")


def _pack_avif(data: bytes) -> bytes:
    """An AVIF's boxes before its coded picture (280 bytes, a sequence's 1000, alike in all) deflate to a few dozen."""
    split = _coded_picture(data)
    kind = _PACKED_SEQUENCE if b"moov" in data[:split] else _PACKED
    boxes = _without_times(data[:split])
    head = zlib.compressobj(9, wbits=-15, zdict=_BOXES[kind])
    packed = head.compress(boxes) + head.flush()
    if split == 0 or len(packed) > 0xFFFF or len(packed) >= split:
        return _RAW + boxes + data[split:]
    return kind + struct.pack("<H", len(packed)) + packed + data[split:]


def _without_times(boxes: bytes) -> bytes:
    """A sequence's boxes say when it was made; the same pictures have to give the same bytes."""
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        found = boxes.find(name)
        if found >= 0 and boxes[found + 4] == 1:  # version 1: after version and flags, two times of 8 bytes
            boxes = boxes[: found + 8] + bytes(16) + boxes[found + 24 :]
    return boxes


def _unpack_avif(data: bytes) -> bytes:
    if data[:1] == _RAW:
        return data[1:]
    if data[:1] not in _BOXES or len(data) < 3:
        raise FormatError("a key frame is damaged: no AVIF follows")
    (size,) = struct.unpack_from("<H", data, 1)
    inflate = zlib.decompressobj(wbits=-15, zdict=_BOXES[data[:1]])
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


_AVIF_BOXES = (
    "00000020667479706176696600000000617669666d6966316d6961664d413141000000eb6d657461000000000000002168646c72"
    "000000000000000070696374000000000000000000000000000000000e7069746d0000000000010000001e696c6f630000000044"
    "0000010001000000010000011300007a7c0000002869696e660000000000010000001a696e666502000000000100006176303143"
    "6f6c6f72000000006a697072700000004b6970636f00000014697370650000000000000100000001000000001070697869000000"
    "00030808080000000c617631438120000000000013636f6c726e636c780001000d0006800000001769706d610000000000000001"
    "0001040102830400007a846d646174"
)

_SEQUENCE_BOXES = (
    "0000002c66747970617669730000000061766966617669736d73663169736f386d6966316d6961664d413141000000eb6d657461"
    "000000000000002168646c72000000000000000070696374000000000000000000000000000000000e7069746d00000000000100"
    "00001e696c6f630000000044000001000100000001000003ed00001b6e0000002869696e660000000000010000001a696e666502"
    "0000000001000061763031436f6c6f72000000006a697072700000004b6970636f00000014697370650000000000000100000001"
    "00000000107069786900000000030808080000000c617631438120000000000013636f6c726e636c780001000d00068000000017"
    "69706d61000000000000000100010401028304000002ce6d6f6f76000000786d7668640100000000000000000000000000000000"
    "000000000003e8ffffffffffffffff00010000010000000000000000000000000100000000000000000000000000000001000000"
    "000000000000000000000040000000000000000000000000000000000000000000000000000000000000010000024e7472616b00"
    "000068746b686401000001000000000000000000000000000000000000000100000000ffffffffffffffff000000000000000000"
    "00000000000000000100000000000000000000000000000001000000000000000000000000000040000000010000000100000000"
    "00002c6564747300000024656c737401000001000000010000000000000fa0000000000000000000010000000001b26d64696100"
    "00002c6d6468640100000000000000000000000000000000000000000003e80000000000000fa055c400000000002168646c7200"
    "0000000000000070696374000000000000000000000000000000015d6d696e6600000014766d6864000000010000000000000000"
    "0000002464696e660000001c6472656600000000000000010000000c75726c20000000010000011d7374626c0000009573747364"
    "00000000000000010000008561763031000000000000000100000000000000000000000000000000010001000048000000480000"
    "0000000000010a414f4d20436f64696e670000000000000000000000000000000000000000000018ffff0000000c617631438120"
    "000000000013636f6c726e636c780001000d0006800000001063637374000000007c000000000000187374747300000000000000"
    "0100000004000003e80000001c737473630000000000000001000000010000000400000001000000247374737a00000000000000"
    "000000000400001b6e000000fe000000230000001d000000147374636f0000000000000001000003ed0000001473747373000000"
    "00000000010000000100001cb46d646174"
)

_BOXES = {_PACKED: bytes.fromhex(_AVIF_BOXES), _PACKED_SEQUENCE: bytes.fromhex(_SEQUENCE_BOXES)}
"""The boxes of an AVIF picture and of a sequence (ISO/IEC 23008-12, AV1 Image File Format) with common values, for deflate."""
