"""Everything whose speed is measured, behind one interface: open it, prepare an operation at a point, call it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, Literal, Protocol, cast

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.codecs.anchors import ENCODERS
from bench.codecs.conventional import LONG_GOP, Encoder
from bench.methods import NotRunError
from bench.speed.points import FRAME_RATE, Axis, Point
from bench.subjects import LITE_TINY, PAPER_TINY, fill, same_video
from reducio_codec.codec import ReducioCodec
from reducio_codec.config import LiteConfig, ReducioConfig
from reducio_codec.errors import WeightsError
from reducio_codec.io.colour import ToRgb
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.reducio.vae import ReducioVAE

Operation = Literal["encode", "decode"]
Call = Callable[[], object]

DECODERS = ("linear", "add", "attention", "sharp", "none")


class Coder(Protocol):
    """An opened subject."""

    weights: str
    """Which weights or which encoder settings, in words."""

    def prepare(self, operation: Operation, point: Point) -> Call:
        """The timed call; everything it needs is made here."""
        ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something to time, by name. ``open`` raises NotRunError where it can't be had."""

    name: str
    open: Callable[..., Coder]
    """``open(dtype=..., tiny=...)``; the result is kept for all points of that type."""
    operations: tuple[Operation, ...] = ("encode", "decode")
    axes: tuple[Axis, ...] = ("resolution", "length", "threads", "batch", "dtype")
    """What makes a difference to it."""
    pictures: bool = False
    """Codes single pictures: one frame is timed, the others cost the same."""

    def frames(self, point: Point) -> int:
        """Frames that a call goes through."""
        return (1 if self.pictures else point.frames) * point.batch


@lru_cache(maxsize=2)
def clip_at(width: int, height: int) -> NDArray[np.uint8]:
    """(16, H, W, 3): a texture that slides and zooms, the same for everybody."""
    side = max(width, height)
    video = same_video(size=side, seed=0)[0, :, :, :height, :width]  # (3, 16, H, W)
    return ((video + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous().numpy()


@dataclass(kw_only=True)
class ClipCoder:
    """A model of this package, one clip after another, in tiles where the picture is larger than one."""

    codec: ReducioCodec
    decoder: str
    weights: str

    def prepare(self, operation: Operation, point: Point) -> Call:
        codec, clips = self.codec, point.clips
        if operation == "encode":
            frames = torch.from_numpy(clip_at(point.width, point.height)).expand(point.batch, -1, -1, -1, -1)
            return lambda: [_done(codec.encode(frames)) for _ in range(clips)]
        runner = codec.runner
        shape = (point.batch, runner.latent_channels, runner.latent_frames, *runner.grid(point.height, point.width))
        latent = torch.randn(shape, generator=torch.Generator().manual_seed(0))  # (B, z, t, h, w)
        before, picture, after = (
            (torch.from_numpy(clip_at(point.width, point.height)[number]).permute(2, 0, 1) / 127.5 - 1)
            .expand(point.batch, -1, -1, -1)
            .contiguous()  # (B, 3, H, W)
            for number in (0, 7, 15)
        )
        # a clip in the middle of a video has both
        beside = (before, after) if codec.model.decoder(self.decoder).uses_neighbours else None
        keyframe, decode = picture[:, :, None], codec.decode  # (B, 3, 1, H, W)
        return lambda: [
            _done(decode(latent, keyframe, decoder=self.decoder, neighbours=beside, output="uint8"))
            for _ in range(clips)
        ]


def _done(_: object) -> None:
    """Forget a clip's result, as a program that writes it to a file does."""


def _lite(decoder: str) -> Callable[..., Coder]:
    return lambda *, dtype, tiny: ClipCoder(**lite_codec(dtype, tiny), decoder=decoder)


@cache
def lite_codec(dtype: torch.dtype, tiny: bool, device: str = "cpu") -> dict[str, Any]:
    """``codec`` and ``weights``: the bundled model, or random weights."""
    if not tiny:
        try:
            codec = ReducioCodec.from_pretrained("reducio-lite", dtype=dtype, device=device)
            return {"codec": codec, "weights": f"{codec.model_id} {codec.model_hash}"}
        except WeightsError:
            pass  # a checkout without weights: time doesn't depend on them
    config = replace(LITE_TINY if tiny else LiteConfig(), decoders=DECODERS)
    return {"codec": _random(ReducioLite(config), dtype, device), "weights": "random"}


def _paper(*, dtype: torch.dtype, tiny: bool) -> Coder:
    codec = paper_codec(dtype, tiny)
    return ClipCoder(codec=codec, decoder=codec.model.default_decoder, weights="random")


def paper_codec(dtype: torch.dtype, tiny: bool, device: str = "cpu") -> ReducioCodec:
    """The paper's model with random weights."""
    with torch.device("meta"):
        network = ReducioVAE(PAPER_TINY if tiny else ReducioConfig())
    return _random(network.to_empty(device=device), dtype, device)


def _random(network: ReducioLite | ReducioVAE, dtype: torch.dtype, device: str) -> ReducioCodec:
    fill(network, seed=0)
    return ReducioCodec(cast(CodecModel, network.eval().requires_grad_(False)), dtype=dtype, device=device)


@dataclass(kw_only=True)
class PictureCoder:
    """An image VAE of diffusers, frame by frame: its architecture, random weights."""

    model: Any
    dtype: torch.dtype
    weights: str = "random"

    def prepare(self, operation: Operation, point: Point) -> Call:
        if max(point.width, point.height) > 512:  # else attention fills the memory
            self.model.enable_tiling()
        else:
            self.model.disable_tiling()
        picture = torch.from_numpy(clip_at(point.width, point.height)[:1]).permute(0, 3, 1, 2) / 127.5 - 1
        pictures = _multiple_of_8(picture).expand(point.batch, -1, -1, -1).contiguous()  # (B, 3, H, W)
        if operation == "encode":
            return lambda: self._run(lambda: self.model.encode(pictures).latent_dist.mode())
        size = [side // 8 for side in pictures.shape[2:]]
        latent = torch.randn((point.batch, 4, *size), generator=torch.Generator().manual_seed(0))
        return lambda: self._run(lambda: self.model.decode(latent).sample)

    def _run(self, call: Callable[[], Tensor]) -> None:
        with torch.inference_mode(), torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            call()


def _multiple_of_8(picture: Tensor) -> Tensor:
    height, width = picture.shape[-2:]
    return torch.nn.functional.pad(picture, (0, -width % 8, 0, -height % 8), mode="replicate")


def _image_vae(*, dtype: torch.dtype, tiny: bool) -> Coder:
    """Stable Diffusion's and SDXL's VAE have one architecture (their weights differ)."""
    try:
        build = importlib.import_module("diffusers").AutoencoderKL
    except ImportError as error:
        raise NotRunError("needs diffusers: pip install 'reducio-codec[bench]'") from error
    widths = (32, 32, 32, 32) if tiny else (128, 256, 512, 512)
    model = build(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )
    fill(model, seed=0)
    return PictureCoder(model=model.eval().requires_grad_(False), dtype=dtype)


@dataclass(kw_only=True)
class ConventionalCoder:
    """An encoder through PyAV at the slow preset of the other benchmark, one key frame, the middle of its qualities."""

    encoder: Encoder
    weights: str

    def prepare(self, operation: Operation, point: Point) -> Call:
        rate = Fraction(FRAME_RATE)
        crf = self.encoder.crf[len(self.encoder.crf) // 2]
        threads = point.threads or torch.get_num_threads()
        encoder = replace(self.encoder, private_options=_with_threads(self.encoder, threads))
        frames = cast(Any, Repeated(clip_at(point.width, point.height), count=point.frames))

        def encode() -> tuple[bytes, list[bytes]]:
            return encoder.encode(frames, rate=rate, crf=crf, gop=LONG_GOP)

        if operation == "encode":
            return encode
        headers, packets = encode()
        return lambda: _decode(encoder, headers, packets, threads=threads)


_THREADS = {"libx264": "threads", "libx265": "pools", "libsvtav1": "lp"}


def _with_threads(encoder: Encoder, threads: int) -> dict[str, str]:
    return encoder.private_options | {_THREADS[encoder.library]: str(threads)}


class Repeated:
    """A short clip again and again, forwards and backwards so that no cut is in it, without holding all frames."""

    def __init__(self, clip: NDArray[np.uint8], *, count: int) -> None:
        self._clip, self._count = clip, count
        self.shape = (count, *clip.shape[1:])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        period = 2 * len(self._clip) - 2
        for number in range(self._count):
            place = number % period
            yield self._clip[min(place, period - place)]


def _decode(encoder: Encoder, headers: bytes, packets: list[bytes], *, threads: int) -> int:
    """All pictures to RGB, one after another; how many there were."""
    context: Any = av.CodecContext.create(encoder.decoder, "r")
    context.thread_count = threads
    if headers:
        context.extradata = headers
    convert = ToRgb(name=encoder.library, codec=encoder.codec)
    count = 0
    for data in [*packets, None]:
        for frame in context.decode(None if data is None else av.Packet(data)):
            convert(frame)
            count += 1
    return count


def _conventional(name: str) -> Callable[..., Coder]:
    def open_encoder(*, dtype: torch.dtype, tiny: bool) -> Coder:
        encoder = ENCODERS[name]
        encoder.check()
        options = " ".join(f"{key}={value}" for key, value in encoder.options.items())
        return ConventionalCoder(encoder=encoder, weights=f"{encoder.library} {options}")

    return open_encoder


_NETWORK: tuple[Axis, ...] = ("resolution", "threads", "batch", "dtype")
_CODEC: tuple[Axis, ...] = ("resolution", "length", "threads")

SUBJECTS: tuple[Subject, ...] = (
    Subject(name="lite, linear", open=_lite("linear")),
    *(Subject(name=f"lite, {name}", open=_lite(name), operations=("decode",)) for name in DECODERS[1:]),
    Subject(name="paper", open=_paper),
    Subject(name="sd-vae, sdxl-vae", open=_image_vae, axes=_NETWORK, pictures=True),
    *(Subject(name=name, open=_conventional(name), axes=_CODEC) for name in ("x264", "x265", "svtav1")),
)
