"""A latent and its key frames as an ``.rdc`` file, and a file's as tensors: for who has them, and no video."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from reducio_codec.clips.forms import as_keyframes
from reducio_codec.clips.inputs import as_tensor, check_latent, frames_and_index
from reducio_codec.clips.sources import FrameSource, Rate, TimedClip, exact_rate
from reducio_codec.clips.spans import plan_clips
from reducio_codec.clips.streams import FrameClip
from reducio_codec.coding.compress import open_target
from reducio_codec.coding.decision import grouped
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.options import EncodeOptions
from reducio_codec.coding.output import Output
from reducio_codec.coding.pictures import PictureCoder
from reducio_codec.coding.report import CompressReport
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_bytes
from reducio_codec.rdc.keyframe import check_keyframe_codec
from reducio_codec.rdc.ranges import UNIT, step_units


def write_latent(
    engine: Engine,
    latent: Any,
    keyframe: Any,
    dst: str | os.PathLike[str] | BinaryIO,
    *,
    rate: Rate,
    options: EncodeOptions,
    num_frames: int | None = None,
    keyframe_index: int | None = None,
) -> CompressReport:
    """See :meth:`reducio_codec.codec.ReducioCodec.write_file`."""
    began = time.perf_counter()
    check_keyframe_codec(options.keyframe_codec)
    latent, keyframe = as_tensor(latent), as_keyframes(keyframe)
    count = check_latent(latent, keyframe, runner=engine.runner)
    if len(latent) > 1:
        raise InputError(
            f"latent is a batch of {len(latent)}; a file holds one video: give latent[i:i + 1] and its key frames"
        )
    frames, index = frames_and_index(
        latent, count, num_frames=num_frames, keyframe_index=keyframe_index, runner=engine.runner
    )
    exact, step = exact_rate(rate), step_units(options.step) / UNIT
    values = latent.detach().as_subclass(Tensor).float().cpu()[0]
    symbols = [
        engine.coder.quantize(part.numpy(), step=step) for part in values.split(engine.runner.latent_frames, dim=1)
    ]
    source = FrameSource(frames=iter(()), time_base=1 / exact, rate=exact, expected_frames=frames)
    clips = _still_clips(keyframe, frames=frames, keyframe_index=index)
    with open_target(dst, inputs=()) as file:
        output = Output(
            file,
            engine=engine,
            source=source,
            first=clips[0],
            step=step_units(step),
            codec=options.keyframe_codec,
            references=1,  # without the frames there is no telling where scenes are cut
        )
        coder = PictureCoder(codec=options.keyframe_codec)
        for group in grouped(clips, options=options, time_base=source.time_base):
            pictures = coder.code([item.clip for item in group], quality=options.quality)
            for number, item in enumerate(group):
                data = engine.coder.encode(symbols[output.clips], step=step)
                output.write(item, number, pictures=pictures, latent=data, step=step)
            coder.follow(pictures)
        output.close()
        file.flush()
    return output.report(began=began)


def _still_clips(keyframe: Tensor, *, frames: int, keyframe_index: int) -> list[TimedClip]:
    """Clips as long as the video's that show their key frames (1, 3, N, H, W), which take the memory of these."""
    pictures = to_bytes(keyframe.detach())[0].permute(1, 2, 3, 0).cpu().numpy()  # (N, H, W, 3)

    def clips() -> Iterator[TimedClip]:
        for picture, span in zip(pictures, plan_clips(frames, keyframe_index=keyframe_index), strict=True):
            still = np.broadcast_to(np.ascontiguousarray(picture), (span.frames, *picture.shape))
            clip = FrameClip(frames=still, span=span, keyframes=(keyframe_index - span.lead,))
            end = span.start + span.frames
            yield TimedClip(clip=clip, times=range(span.start, end), end=end)

    return list(clips())
