"""The codecs on a device: the paper's model in four ways of running it, lite's decoders, and whether a CPU agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.device.rows import Call, Facts, Method, Row
from bench.speed.coders import clip_at, lite_codec, paper_codec
from bench.subjects import same_video
from reducio_codec.codec import ReducioCodec
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.metrics.psnr import decibels
from reducio_codec.models.contract import Reference

STEP = 0.5
"""Quantiser's step of the check of symbols."""

WAYS = ("eager float32", "optimised bfloat16", "cuda graphs", "compiled")
"""How the paper's model runs: plain; changed by ``optimize_for_inference``; plain under autocast, captured as graphs; the
same through Inductor, with graphs."""

_COMPILE_SECONDS = {"cuda graphs": 10.0, "compiled": 75.0}
"""That the first call takes at least, for each shape."""


@dataclass(kw_only=True)
class Paper:
    """The paper's model in one way, on inputs of a batch size."""

    way: str
    device: str
    tiny: bool
    seen: dict[str, Tensor] = field(default_factory=dict)
    """The plain model's pixels, which the others are compared with."""

    def rows(self) -> list[Row]:
        dtype = torch.bfloat16 if self.way == "optimised bfloat16" else torch.float32
        network: Any = paper_codec(dtype, self.tiny, self.device).model
        if self.way in _COMPILE_SECONDS:
            network.to(memory_format=torch.channels_last_3d)
        encode, decode = (self._way_of(call) for call in (network.encode, network.decode))
        place = network.default_keyframe_index
        slow = _COMPILE_SECONDS.get(self.way, 0.0) * (not self.tiny)

        def inputs(batch: int) -> tuple[Tensor, Tensor, list[Reference]]:
            side = 64 if self.tiny else 256
            video = same_video(size=side, seed=0).expand(batch, -1, -1, -1, -1).contiguous().to(self.device)
            grid = side // network.config.spatial_compression_ratio
            frames = CLIP_LENGTH // network.config.temporal_compression_ratio
            shape = (batch, network.config.latent_channels, frames, grid, grid)
            latent = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
            return video, latent, [Reference(picture=video[:, :, place].contiguous(), place=place)]

        def prepare(operation: str, batch: int) -> Call:
            video, latent, references = inputs(batch)
            if operation == "encode":
                return _without_gradients(lambda: encode(video))
            return _without_gradients(lambda: decode(latent, references))

        def agreement() -> Call:
            _, latent, references = inputs(1)

            def call() -> Facts:
                with torch.inference_mode():
                    pixels = decode(latent, references).float().clamp(-1, 1).cpu()
                plain = self.seen.setdefault("pixels", pixels)
                return {"dB to eager float32": round(decibels(float((pixels - plain).square().mean()) / 4), 1)}

            return call

        batches = (1, 2) if self.tiny else (1, 8, 32)
        if self.way == "compiled":  # each size is compiled by itself
            batches = batches[:2]
        return [
            Row(name="agreement", unit="", count=0, prepare=agreement, slow_start=slow, once=True),
            *(
                Row(
                    name=f"{operation}, {batch} clip{'s' * (batch > 1)}",
                    unit="clips",
                    count=batch,
                    prepare=lambda operation=operation, batch=batch: prepare(operation, batch),  # type: ignore[misc]
                    slow_start=slow,
                )
                for batch in batches
                for operation in ("encode", "decode")
            ),
        ]

    def _way_of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        if self.way not in _COMPILE_SECONDS:
            return call
        kind = torch.device(self.device).type

        def autocast(*arguments: Any) -> Any:
            with torch.autocast(kind, dtype=torch.bfloat16):
                return call(*arguments)

        if self.way == "cuda graphs":
            return torch.compile(autocast, backend="cudagraphs")
        return torch.compile(autocast, mode="reduce-overhead")


def _without_gradients(call: Callable[[], object]) -> Call:
    def run() -> None:
        with torch.inference_mode():
            call()

    return run


def lite_rows(device: str, *, tiny: bool) -> Iterator[Row]:
    """Encoding, and every decoder from memory of the device to bytes there, at sizes that are watched."""
    found = lite_codec(torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32, tiny, device)
    codec: ReducioCodec = found["codec"]
    sizes = {"64 px": (64, 64)} if tiny else {"256 px": (256, 256), "720p": (720, 1280), "1080p": (1080, 1920)}
    for name, size in sizes.items():
        small = name == next(iter(sizes))
        for batch in ((1, 2) if tiny else (1, 32)) if small else (1,):
            many = f", {batch} clips" if batch > 1 else ""
            prepare = _coder(codec, size, batch=batch, decoder=None)
            yield Row(name=f"encode {name}{many}", unit="frames", count=batch * CLIP_LENGTH, prepare=prepare)
            for decoder in codec.decoders:
                prepare = _coder(codec, size, batch=batch, decoder=decoder)
                yield Row(name=f"{decoder} {name}{many}", unit="frames", count=batch * CLIP_LENGTH, prepare=prepare)


def large_tile_rows(device: str, *, tiny: bool) -> Iterator[Row]:
    """The same with the largest tiles that fit, in one batch."""
    small: ReducioCodec = lite_codec(torch.float32, tiny, device)["codec"]
    codec = ReducioCodec(small.model, device=device, dtype="auto", tile_size="auto")
    sizes = {"96 px": (96, 96)} if tiny else {"720p": (720, 1280), "1080p": (1080, 1920)}
    for name, size in sizes.items():
        for decoder in dict.fromkeys((codec.model.default_decoder, "linear")):
            prepare = _coder(codec, size, batch=1, decoder=decoder)
            yield Row(name=f"{decoder} {name}", unit="frames", count=CLIP_LENGTH, prepare=prepare)


def compiled_rows(device: str, *, tiny: bool) -> Iterator[Row]:
    """Lite with ``compile=True``."""
    small: ReducioCodec = lite_codec(torch.float32, tiny, device)["codec"]
    codec = ReducioCodec(small.model, device=device, dtype="auto", compile=True)
    side = 64 if tiny else 256
    for batch in (1, 2 if tiny else 32):
        yield Row(
            name=f"linear {side} px, {batch} clip{'s' * (batch > 1)}", unit="frames", count=batch * CLIP_LENGTH,
            prepare=_coder(codec, (side, side), batch=batch, decoder="linear"), slow_start=0 if tiny else 30,
        )  # fmt: skip


def _coder(codec: ReducioCodec, size: tuple[int, int], *, batch: int, decoder: str | None) -> Callable[[], Call]:
    """Prepares a call that encodes (``decoder`` None) or decodes; everything lies on the device."""

    def prepare() -> Call:
        height, width = size
        frames = torch.from_numpy(clip_at(width, height)).to(codec.device)  # (16, H, W, 3)
        if decoder is None:
            clips = frames.expand(batch, -1, -1, -1, -1)
            return lambda: _nothing(codec.encode(clips))
        pictures = [
            (frames[number].permute(2, 0, 1) / 127.5 - 1).expand(batch, -1, -1, -1).contiguous()
            for number in (0, 7, 15)
        ]  # (B, 3, H, W) each
        runner = codec.runner
        shape = (batch, runner.latent_channels, runner.latent_frames, *runner.grid(height, width))
        latent = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(codec.device)
        beside = (pictures[0], pictures[2]) if codec.model.decoder(decoder).uses_neighbours else None
        keyframe = pictures[1][:, :, None]
        return lambda: _nothing(codec.decode(latent, keyframe, decoder=decoder, neighbours=beside, output="uint8"))

    return prepare


def _nothing(_: object) -> None:
    """Forgets it."""


def parity_rows(device: str, *, tiny: bool) -> list[Row]:
    """Whether the device's latents round to the CPU's symbols, and how far its pixels are from the CPU's."""

    def prepare(name: str) -> Call:
        side = 64 if tiny or name == "paper" else 256
        codecs: list[ReducioCodec] = [
            ReducioCodec.from_pretrained("reducio-lite", device=place)  # random weights: the norm divides by nothing
            if name == "lite"
            else paper_codec(torch.float32, tiny, place)
            for place in ("cpu", device)
        ]
        frames = torch.from_numpy(clip_at(side, side))

        def call() -> Facts:
            with _exact():
                latents = [codec.encode(frames)[0].cpu() for codec in codecs]
                symbols = [codecs[0].coder.quantize(latent[0], step=STEP) for latent in latents]
                keyframe = codecs[0].encode(frames)[1]
                pixels = [codec.decode(latents[0], keyframe, output="uint8").int().cpu() for codec in codecs]
            error = (pixels[0] - pixels[1]).abs().float()
            different = int((symbols[0] != symbols[1]).sum())
            return {
                "symbols": int(symbols[0].size),
                "different symbols": different,
                "largest pixel error": int(error.max()),
                "mean pixel error": round(float(error.mean()), 6),
            }

        return call

    return [
        Row(name=name, unit="", count=0, prepare=lambda name=name: prepare(name), once=True)  # type: ignore[misc]
        for name in ("lite", "paper")
    ]


@contextmanager
def _exact() -> Iterator[None]:
    """Without the short float32 of tensor cores."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def codec_methods(device: str, *, tiny: bool) -> Sequence[Method]:
    """What costs little comes first; compilers come last."""
    seen: dict[str, Tensor] = {}

    def paper(way: str) -> Method:
        return Method(name=f"paper, {way}", open=Paper(way=way, device=device, tiny=tiny, seen=seen).rows)

    return [
        Method(name="parity", open=lambda: parity_rows(device, tiny=tiny)),
        *(paper(way) for way in WAYS[:2]),
        Method(name="lite", open=lambda: list(lite_rows(device, tiny=tiny))),
        Method(name="lite, large tiles", open=lambda: list(large_tile_rows(device, tiny=tiny))),
        Method(name="lite, compiled", open=lambda: list(compiled_rows(device, tiny=tiny))),
        *(paper(way) for way in WAYS[2:]),
    ]
