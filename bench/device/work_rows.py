"""Making clips, latents for data sets, and training steps on a device."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.device.rows import Call, Facts, Method, Row
from bench.speed.coders import clip_at, paper_codec
from bench.speed.generation import SAMPLINGS
from bench.speed.generation_parts import Opened, config_of, parts_of
from bench.subjects import LITE_TINY
from reducio_codec.codec import ReducioCodec
from reducio_codec.generate.config import PRESETS
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.extract.clips import Work, load_clips, plan_work
from reducio_codec.generate.extract.maker import Encoders, ShardMaker
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.generate.extract.plan import Shard, plan_samples, plan_shards
from reducio_codec.generate.sampling import predict
from reducio_codec.generate.train.denoise import DenoisingLoss
from reducio_codec.generate.train.recipe import DenoisingOptions
from reducio_codec.generate.train.samples import LatentBatch
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.packed.batch_loss import BatchLoss, Weights
from reducio_codec.train.packed.data import Sampler
from reducio_codec.train.packed.parts import load_weights
from reducio_codec.training.manifest import find_videos
from reducio_codec.training.scan import ScanOptions, Video, scan
from reducio_codec.weights.zoo import BUNDLED

_LOADER_CLIPS, _LOADER_SIDES = 80, (288, 512)
"""Of the made-up video whose clips are extracted: what a cache on disk has of 16:9."""


def preset_rows(preset: str, device: str, *, tiny: bool) -> list[Row]:
    """The parts of a clip, and a clip from its key picture to its bytes."""
    opened = Opened(subject=preset, device=device, tiny=tiny)

    def prepare(part: Any) -> Call:
        call = opened.prepare(part, batch=1)
        return lambda: _nothing(call())

    def whole(steps: int, guidance: float, decoder: str) -> Call:
        parts = parts_of(preset, samplings=(), tiny=tiny)
        decode = opened.prepare(next(part for part in parts if part.decoder == decoder), batch=1)
        model, conditions, config = opened.transformer, opened.conditions(1), opened.config
        grid = config_of(preset, tiny=tiny).sample_size // config.spatial_compression_ratio
        noise = torch.randn((1, config.latent_channels, config.latent_frames, grid, grid)).to(device)

        def call() -> None:
            with torch.inference_mode():
                context = model.context(conditions)
                context = context.guided() if guidance != 1 else context
                latent = noise
                for step in range(steps):  # a sampler's arithmetic costs nothing beside the network's
                    time_ = 1000 * (1 - step / steps)
                    latent = latent - predict(model, latent, time_, context=context, guidance=guidance) / steps
            decode()

        return call

    side = config_of(preset, tiny=tiny).sample_size
    decoders = ("lite",) if preset == "lite" else ("lite", "paper")
    return [
        *(
            Row(
                name=f"16x{side}x{side} end to end, {steps} steps, guidance {guidance:g}, decoder {decoder}",
                unit="clips", count=1,
                prepare=lambda s=steps, g=guidance, d=decoder: whole(s, g, d),  # type: ignore[misc]
            )
            for decoder in decoders
            for steps, guidance in (SAMPLINGS[2], SAMPLINGS[0])
        ),
        *(
            Row(name=part.name, unit="clips", count=1, prepare=lambda part=part: prepare(part))  # type: ignore[misc]
            for part in parts_of(preset, samplings=SAMPLINGS[:1], tiny=tiny)
            if part.role != "picture"
        ),
    ]  # fmt: skip


def _nothing(_: object) -> None:
    """Forgets it."""


def extraction_rows(device: str, *, tiny: bool, videos: Path | None, folder: Path) -> Iterator[Row]:
    """Latents of clips by the paper's encoder, and what its loaders do alone.

    Args:
        videos: to be decoded by loaders; None leaves that row out.
        folder: for what is made up and written.
    """
    loaders = 1 if tiny else os.cpu_count() or 1
    options = ExtractOptions(size=64 if tiny else 256)
    made = [_made_up_video(folder, clips=4 if tiny else _LOADER_CLIPS)]
    shards = plan_shards(made, plan_samples(made, options), count=256)
    batch = 2 if tiny else 16
    for number in dict.fromkeys((0, loaders)):
        yield Row(
            name=f"loaders alone, frames on disk, {number} processes", unit="", count=0,
            prepare=lambda n=number: _loading(plan_work(shards, batch=batch), options, loaders=n), once=True,  # type: ignore[misc]
        )  # fmt: skip
    if videos is not None:
        yield Row(
            name=f"loaders alone, video files, {loaders} processes", unit="", count=0, once=True,
            prepare=lambda: _from_files(videos, folder, loaders=loaders, batch=batch),
        )  # fmt: skip
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    for number in dict.fromkeys((0, loaders)):
        encoders = Encoders(codec="paper, random", device=device, dtype=dtype, batch=batch, loaders=number)
        yield Row(
            name=f"paper, batches of {batch}, {number} loaders", unit="", count=0, once=True,
            prepare=lambda e=encoders: _extracting(shards, folder, options, e, tiny=tiny),  # type: ignore[misc]
        )  # fmt: skip


def _made_up_video(folder: Path, *, clips: int) -> Video:
    height, width = _LOADER_SIDES
    count = 8 * (clips + 1)
    path = folder / "made-up.rgb"
    clip = clip_at(width, height)
    with path.open("wb") as file:
        for number in range(count):
            file.write(clip[number % len(clip)].tobytes())
    return Video(
        path=path, name=path.name, shape=(count, height, width, 3), times=tuple(range(count)),
        numbers=tuple(range(count)), scenes=((0, count),), motion=np.zeros(count - 15, np.float32), pixels=path,
    )  # fmt: skip


def _loading(work: Sequence[Work], options: ExtractOptions, *, loaders: int) -> Call:
    """Times itself from the first batch on, so that the start of processes doesn't count."""

    def call() -> Facts:
        began = [time.thread_time(), time.perf_counter()]
        later = 0
        for index, clips in enumerate(load_clips(work, options, keyframe_index=7, loaders=loaders, pinned=False)):
            if index == 0 and loaders:
                began = [time.thread_time(), time.perf_counter()]
            else:
                later += len(clips.video)
        seconds = time.perf_counter() - began[1]
        facts = {"clips/s": round(later / seconds, 1)}
        return (
            facts if loaders else {**facts, "CPU ms a clip": round(1000 * (time.thread_time() - began[0]) / later, 1)}
        )

    return call


def _from_files(videos: Path, folder: Path, *, loaders: int, batch: int) -> Call:
    options = ExtractOptions(storage="stream")
    looked = ScanOptions(frame_rate=16.0, stored_side=0, store=False, find_cuts=True)
    found = scan(find_videos(videos), cache=folder / "cache", options=looked).videos
    shards = plan_shards(found, plan_samples(found, options), count=256)
    return _loading(plan_work(shards, batch=batch), options, loaders=loaders)


class _Watched(ReducioCodec):
    """Notes when encodings are under way."""

    def watch(self) -> None:
        self._spans: list[tuple[Any, Any]] = []
        self.clips = 0
        self.began = 0.0
        """When the first encoding did."""

    def encode(self, video: Any, **options: Any) -> Any:
        self.began = self.began or time.perf_counter()
        started = self._now()
        result = super().encode(video, **options)
        self._spans.append((started, self._now()))
        self.clips += len(video)
        return result

    def busy_seconds(self) -> float:
        if self.device.type != "cuda":
            return float(sum(end - start for start, end in self._spans))
        torch.cuda.synchronize(self.device)
        return float(sum(start.elapsed_time(end) for start, end in self._spans)) / 1000

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _extracting(
    shards: Sequence[Shard], folder: Path, options: ExtractOptions, encoders: Encoders, *, tiny: bool
) -> Call:
    """Times itself from the first encoding on, so that the start of processes doesn't count."""
    plain = paper_codec(torch.float32, tiny, encoders.device)
    codec = _Watched(plain.model, device=encoders.device, dtype=encoders.dtype)
    codec.watch()
    shape = (encoders.batch, 3, 16, options.size, options.size)
    codec.encode(torch.zeros(shape, dtype=torch.uint8, device=codec.device))  # warm
    maker = ShardMaker(out=folder, options=options, encoders=encoders, codec=codec)

    def call() -> Facts:
        codec.watch()
        for result in maker.make(shards):
            (folder / result.name).unlink()
        busy = codec.busy_seconds()
        seconds = time.perf_counter() - codec.began
        return {"clips/s": round(codec.clips / seconds, 2), "busy share": round(busy / seconds, 3)}

    return call


def training_rows(device: str, *, tiny: bool) -> Iterator[Row]:
    """Steps of the packed trainer and of the generator's, without what loads their batches."""
    side, batch = (64, 1) if tiny else (128, 16)
    yield Row(
        name=f"codec, {batch} clips of {side} px", unit="steps", count=1,
        prepare=lambda: _codec_steps(device, side=side, batch=batch, tiny=tiny),
    )  # fmt: skip
    for preset, size in (("lite", 2 if tiny else 32), ("256", 2 if tiny else 8)):
        yield Row(
            name=f"generator {preset}, {size} clips", unit="steps", count=1,
            prepare=lambda p=preset, b=size: _generator_steps(p, device, batch=b, tiny=tiny),  # type: ignore[misc]
        )  # fmt: skip


def _codec_steps(device: str, *, side: int, batch: int, tiny: bool) -> Call:
    if tiny:
        model, widths = ReducioLite(LITE_TINY), torch.ones(LITE_TINY.latent_channels)
    else:
        model, widths = load_weights(BUNDLED / "reducio-lite")
    model.to(device, memory_format=torch.channels_last)
    decoders = tuple(name for name in ("attention", "add", "linear") if name in model.decoder_names)
    loss_of = BatchLoss(
        model, widths=widths, encoder=False, weights=Weights(), perceptual=None
    ).to(device)  # fmt: skip
    scenes = [np.concatenate([clip_at(256, 256), clip_at(256, 256)[::-1]]) for _ in range(2)]
    ready = Sampler(scenes, seed=0).batch(0, size=batch, side=side).to(torch.device(device))
    return _steps(
        model, lambda: loss_of(ready, decoders=decoders, generator=torch.Generator().manual_seed(0))[0], device=device
    )


def _generator_steps(preset: str, device: str, *, batch: int, tiny: bool) -> Call:
    opened = Opened(subject=preset, device=device, tiny=tiny)
    config = opened.config
    model = ReducioDiT(config).to(device)
    grid = config.sample_size // config.spatial_compression_ratio
    ready = LatentBatch(
        latent=torch.randn((batch, config.latent_channels, config.latent_frames, grid, grid)),
        conditions=opened.conditions(batch), step=0, indices=tuple(range(batch)), names=("made up",) * batch,
        paces=(1,) * batch,
    ).to(torch.device(device))  # fmt: skip
    loss_of = DenoisingLoss(model, DenoisingOptions(), seed=0)
    return _steps(model, lambda: loss_of(ready).mean(), device=device)


def _steps(model: torch.nn.Module, loss_of: Callable[[], Tensor], *, device: str) -> Call:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def step() -> None:
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def work_methods(device: str, *, tiny: bool, videos: Path | None, presets: Sequence[str] = ()) -> list[Method]:
    """The generator's presets, extraction and training."""

    def extraction() -> Sequence[Row]:
        folder = tempfile.TemporaryDirectory(prefix="reducio-bench-")
        rows = list(extraction_rows(device, tiny=tiny, videos=videos, folder=Path(folder.name)))
        # the folder lives as long as its rows
        return [replace(row, prepare=_keeping(row.prepare, folder)) for row in rows]

    return [
        Method(name="extraction", open=extraction),
        Method(name="training", open=lambda: list(training_rows(device, tiny=tiny))),
        *(
            Method(name=f"generator {preset}", open=lambda p=preset: preset_rows(p, device, tiny=tiny))  # type: ignore[misc]
            for preset in presets or tuple(sorted(PRESETS, key=lambda name: (name != "lite", -len(name), name)))
        ),
    ]


def _keeping(prepare: Callable[[], Call], thing: object) -> Callable[[], Call]:
    def kept() -> Call:
        assert thing
        return prepare()

    return kept
