"""YUV to RGB and back, by conversion and never by tag alone.

swscale does the arithmetic, with matrix and range given explicitly and its exact paths switched on; the defaults
(no accurate rounding, chroma repeated instead of interpolated) are one to two levels off and darker. ``tests/io``
compares it with the formulas of ITU-R BT.601, BT.709 and BT.2020 (non-constant luminance).

What a file doesn't say is decided as players do: matrix BT.709 from 720 lines, else BT.601; limited range, but full
for ``yuvj`` formats and for grey pictures (except H.264 and HEVC, whose standards say limited). Alpha is put on
black. PQ and HLG (HDR) values are taken as they are, without tone mapping, with one warning.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
import numpy.typing as npt

from reducio_codec.errors import VideoError
from reducio_codec.io.stages import stage

logger = logging.getLogger(__name__)

HD_LINES = 720
"""Pictures with at least this many lines and no tag are BT.709, smaller ones BT.601."""

_EXACT = "flags=bicubic+full_chroma_int+full_chroma_inp+accurate_rnd+bitexact"

_GREY = ("gray", "ya")
LIMITED, FULL = 1, 2  # AVColorRange

# AVColorSpace as files tag it -> the matrix as the scale filter names it.
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_UNSPECIFIED = (0, 2, 3)  # RGB on a YUV format is a wrong tag; 2 is unspecified, 3 reserved
_PQ, _HLG = 16, 18  # AVColorTransferCharacteristic

_MATRIX_NAMES = {
    0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
    10: "bt2020c", 14: "ictcp",
}  # fmt: skip
_TRANSFER_NAMES = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 13: "srgb", 14: "bt2020-10",
    15: "bt2020-12", 16: "pq", 18: "hlg",
}  # fmt: skip
_PRIMARIES_NAMES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 11: "dci-p3", 12: "display-p3",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ColourInfo:
    """What a file says about its colours (``"unspecified"`` where it says nothing), as lower-case names."""

    pixel_format: str = "rgb24"
    matrix: str = "rgb"
    range: str = "full"
    primaries: str = "unspecified"
    transfer: str = "unspecified"


def describe_colour(frame: av.VideoFrame, *, context: av.VideoCodecContext) -> ColourInfo:
    """The tags of a decoded frame; transfer and primaries are the codec's (a frame lacks them in older PyAV)."""
    return ColourInfo(
        pixel_format=frame.format.name,
        matrix="rgb" if frame.format.is_rgb else _MATRIX_NAMES.get(int(frame.colorspace), "unspecified"),
        range={LIMITED: "limited", FULL: "full"}.get(int(frame.color_range), "unspecified"),
        primaries=_PRIMARIES_NAMES.get(int(context.color_primaries), "unspecified"),
        transfer=_TRANSFER_NAMES.get(int(context.color_trc), "unspecified"),
    )


class ToRgb:
    """Converts the frames of one stream to RGB. It keeps swscale's tables between frames, so use one per stream."""

    def __init__(self, *, name: str, codec: str = "", transfer: int = 2) -> None:
        self._name = name
        self._grey_is_full = codec not in ("h264", "hevc")
        self._centred = codec in ("mjpeg", "mpeg1video")
        self._graph: tuple[object, av.filter.Graph] | None = None
        if transfer in (_PQ, _HLG):
            logger.warning("%s is HDR (%s); its values are used without tone mapping", name, _TRANSFER_NAMES[transfer])
        self._warned_constant_luminance = False

    def __call__(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """A decoded frame of any pixel format -> (H, W, 3) uint8, contiguous."""
        form = frame.format
        alpha = form.name == "pal8" or any(component.is_alpha for component in form.components)
        full = form.is_rgb or self._is_full(frame)
        options = ""
        if not form.is_rgb:
            place = "" if self._centred else _left_chroma("in", form)
            options = f":in_color_matrix={self._matrix(frame)}:in_range={'pc' if full else 'tv'}{place}"
            # The options say it all; tags of single frames would only make the graph complain of a change.
            frame.colorspace, frame.color_range = 2, 0
        key = (form.name, frame.width, frame.height, options)
        if self._graph is None or self._graph[0] != key:
            target = "rgba" if alpha else "rgb24"
            graph = _scaler(form, target, width=frame.width, height=frame.height, options=options)
            self._graph = (key, graph)
        pixels: npt.NDArray[np.uint8] = np.asarray(_scaled(self._graph[1], frame).to_ndarray(), dtype=np.uint8)
        rgb = pixels[..., :3]  # (H, W, 3), pixels may have alpha as a fourth
        if form.name.startswith(_GREY) and not full:
            rgb = _GREY_TO_FULL[rgb]  # the scale filter takes grey for full range whatever it is told
        if alpha:
            rgb = on_black(rgb, alpha=pixels[..., 3])
        return np.ascontiguousarray(rgb)

    def _is_full(self, frame: av.VideoFrame) -> bool:
        if frame.color_range in (LIMITED, FULL):
            return int(frame.color_range) == FULL
        name = frame.format.name
        return name.startswith("yuvj") or (self._grey_is_full and name.startswith(_GREY))

    def _matrix(self, frame: av.VideoFrame) -> str:
        tag = int(frame.colorspace)
        if tag in _UNSPECIFIED:
            return "bt709" if frame.height >= HD_LINES else "bt601"
        if tag not in _MATRICES:
            raise VideoError(
                f"{self._name}: colour matrix {_MATRIX_NAMES.get(tag, tag)} isn't supported; "
                "allowed: bt601, bt709, bt2020nc, fcc, smpte240m, rgb"
            )
        if tag == 10 and not self._warned_constant_luminance:
            self._warned_constant_luminance = True
            logger.warning("%s: BT.2020 with constant luminance is converted as non-constant", self._name)
        return _MATRICES[tag]


class FromRgb:
    """Converts RGB pictures to limited-range YUV (or to an RGB pixel format, then exactly)."""

    def __init__(
        self, *, pixel_format: str, width: int, height: int, matrix: Literal["bt709", "bt601"] = "bt709"
    ) -> None:
        form = av.VideoFormat(pixel_format, 16, 16)
        self.is_rgb = bool(form.is_rgb)
        self._matrix = 0 if self.is_rgb else {"bt709": 1, "bt601": 6}[matrix]
        options = "" if self.is_rgb else f":out_color_matrix={matrix}:out_range=tv{_left_chroma('out', form)}"
        self._graph = _scaler(av.VideoFormat("rgb24"), pixel_format, width=width, height=height, options=options)

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> av.VideoFrame:
        """(H, W, 3) uint8 -> frame of the pixel format, tagged as what it is; it has no time yet."""
        frame = _scaled(self._graph, av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"))
        frame.colorspace = self._matrix
        frame.color_range = FULL if self.is_rgb else LIMITED
        return frame

    def tag(self, context: av.VideoCodecContext) -> None:
        """Writes the same facts into the encoder, so that the stream says what its samples are."""
        context.colorspace = self._matrix
        context.color_range = FULL if self.is_rgb else LIMITED
        context.color_primaries = 1  # BT.709, which sRGB shares
        context.color_trc = 1


def _scaler(form: av.VideoFormat, target: str, *, width: int, height: int, options: str) -> av.filter.Graph:
    """swscale as a filter graph: unlike PyAV's reformatter it lets us say where the chroma samples lie."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, format=form, time_base=Fraction(1)),
        graph.add("scale", _EXACT + options),
        graph.add("format", target),
        graph.add("buffersink"),
    ).configure()
    return graph


def _scaled(graph: av.filter.Graph, frame: av.VideoFrame) -> av.VideoFrame:
    with stage("colour"):
        graph.push(frame)
        scaled = graph.pull()
    if not isinstance(scaled, av.VideoFrame):
        raise VideoError(f"FFmpeg's scaler gave {type(scaled).__name__}, not a picture")
    return scaled


def _left_chroma(side: str, form: av.VideoFormat) -> str:
    """Subsampled chroma lies on the left luma column and between two rows, as MPEG-2 to VP9 have it.

    swscale's own default is the middle (JPEG, MPEG-1), which shifts all colours by half a pixel.
    """
    across = f":{side}_h_chr_pos=0" if form.chroma_width(16) < 16 else ""
    down = f":{side}_v_chr_pos=128" if form.chroma_height(16) == 8 else ""
    return across + down


def on_black(rgb: npt.NDArray[np.uint8], *, alpha: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 colours with (H, W) uint8 opacity, straight alpha, put on black."""
    scaled = rgb.astype(np.uint16) * alpha[..., None].astype(np.uint16)
    return ((scaled + 127) // 255).astype(np.uint8)


_GREY_TO_FULL = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
