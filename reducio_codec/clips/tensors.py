"""A whole video in memory, to latent and key frames and back."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from reducio_codec.clips.forms import as_keyframes
from reducio_codec.clips.inputs import as_tensor, check_latent, check_neighbours, frames_and_index
from reducio_codec.clips.latent import Latent
from reducio_codec.clips.references import references_of_clips
from reducio_codec.clips.refine import Refinement
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.clips.spans import plan_clips, take_clip
from reducio_codec.clips.streams import encode_clip
from reducio_codec.config import check_choice
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.contract import Reference

Output = Literal["float", "uint8"]


def encode_video(
    runner: ClipRunner, video: Tensor, *, keyframe_index: int, refinement: Refinement | None
) -> tuple[Latent, Tensor]:
    """Video (B, 3, T, H, W) uint8 or float in [-1, 1]; see :meth:`reducio_codec.codec.ReducioCodec.encode`."""
    batch, _, frames, height, width = video.shape
    spans = plan_clips(frames, keyframe_index=keyframe_index)
    keyframes = torch.empty((batch, 3, len(spans), height, width), dtype=torch.float32, device=video.device)
    latents = []
    for number, span in enumerate(spans):
        clip = take_clip(video, span, dim=2)  # (B, 3, 16, H, W)
        own = [Reference.of_frame(clip, keyframe_index)]
        latents.append(encode_clip(runner, clip, references=own, span=span, refinement=refinement))
        keyframes[:, :, number] = to_unit(clip[:, :, keyframe_index])
    return Latent.of(torch.cat(latents, dim=2), num_frames=frames, keyframe_index=keyframe_index), keyframes


def decode_video(
    runner: ClipRunner,
    latent: Any,
    keyframe: Any,
    *,
    decoder: str,
    neighbours: tuple[Tensor | None, Tensor | None] | None,
    num_frames: int | None,
    keyframe_index: int | None,
    output: Output,
    grad: bool = False,
) -> Tensor:
    """See :meth:`reducio_codec.codec.ReducioCodec.decode`."""
    check_choice(output, name="output", allowed=("float", "uint8"))
    latent, keyframe = as_tensor(latent), as_keyframes(keyframe)
    clips = check_latent(latent, keyframe, runner=runner)
    frames, index = frames_and_index(latent, clips, num_frames=num_frames, keyframe_index=keyframe_index, runner=runner)
    if grad:
        _check_grad(runner, output)
        runner = runner.with_gradients()
    else:
        latent, keyframe = latent.detach(), keyframe.detach()
    if neighbours is not None:
        check_neighbours(neighbours, keyframe, decoder=runner.model.decoder(decoder))
    spans = plan_clips(frames, keyframe_index=index)
    references = references_of_clips(
        keyframe.unbind(dim=2), spans, keyframe_index=index, outside=neighbours or (None, None)
    )
    result, video = _empty(
        latent.shape[0], frames, (keyframe.shape[3], keyframe.shape[4]), output=output, device=latent.device
    )
    parts = torch.split(latent.as_subclass(Tensor), runner.latent_frames, dim=2)
    for part, given, span in zip(parts, references, spans, strict=True):
        runner.decode(part, given, decoder=decoder, span=span, out=video.narrow(2, span.start, span.frames))
    return result


def _check_grad(runner: ClipRunner, output: Output) -> None:
    if output == "uint8":
        raise InputError("grad is True, which has no effect on output='uint8': bytes have no gradients")
    changed = runner.model.optimized_dtype
    if changed is not None:
        name = str(changed).removeprefix("torch.")
        raise InputError(
            f"grad is True, but the model was changed for {name} and has no gradients; load it with dtype='float32'"
        )


def _empty(
    batch: int, frames: int, size: tuple[int, int], *, output: Output, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Memory for a video of ``size`` (height, width): as it is given back, and as (B, 3, T, H, W), a view."""
    if output == "uint8":
        result = torch.empty((batch, frames, *size, 3), dtype=torch.uint8, device=device)
        return result, result.permute(0, 4, 1, 2, 3)
    result = torch.empty((batch, 3, frames, *size), dtype=torch.float32, device=device)
    return result, result
