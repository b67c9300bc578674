"""A whole video in memory, to latent and key frames and back."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from reducio_codec.clips.inputs import check_keyframe_index, check_latent, check_neighbours
from reducio_codec.clips.latent import Latent, known_facts
from reducio_codec.clips.references import references_of_clips
from reducio_codec.clips.refine import Refinement
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.clips.spans import count_clips, plan_clips, take_clip
from reducio_codec.clips.streams import encode_clip
from reducio_codec.config import CLIP_LENGTH, check_choice
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
    latent: Tensor,
    keyframe: Tensor,
    *,
    decoder: str,
    neighbours: tuple[Tensor | None, Tensor | None] | None,
    num_frames: int | None,
    keyframe_index: int | None,
    output: Output,
) -> Tensor:
    """See :meth:`reducio_codec.codec.ReducioCodec.decode`."""
    check_choice(output, name="output", allowed=("float", "uint8"))
    clips = check_latent(latent, keyframe, runner=runner)
    frames, index = _frames_and_index(
        latent, clips, num_frames=num_frames, keyframe_index=keyframe_index, runner=runner
    )
    if neighbours is not None:
        check_neighbours(neighbours, keyframe, decoder=runner.model.decoder(decoder))
    spans = plan_clips(frames, keyframe_index=index)
    references = references_of_clips(
        keyframe.detach().unbind(dim=2), spans, keyframe_index=index, outside=neighbours or (None, None)
    )
    result, video = _empty(
        latent.shape[0], frames, (keyframe.shape[3], keyframe.shape[4]), output=output, device=latent.device
    )
    parts = torch.split(latent.detach().as_subclass(Tensor), runner.latent_frames, dim=2)
    for part, given, span in zip(parts, references, spans, strict=True):
        runner.decode(part, given, decoder=decoder, span=span, out=video.narrow(2, span.start, span.frames))
    return result


def _frames_and_index(
    latent: Tensor, clips: int, *, num_frames: int | None, keyframe_index: int | None, runner: ClipRunner
) -> tuple[int, int]:
    """How many frames a latent of so many clips stands for, and which of a clip's is the key frame: as said, else as the
    latent knows."""
    known_frames, known_index = known_facts(latent)
    if num_frames is None:
        num_frames = clips * CLIP_LENGTH if known_frames is None else known_frames
    if count_clips(num_frames) != clips:
        low, high = (clips - 1) * CLIP_LENGTH + 1, clips * CLIP_LENGTH
        raise InputError(f"num_frames is {num_frames}; a latent of {clips} clips holds {low} to {high}")
    carried = runner.model.default_keyframe_index if known_index is None else known_index
    return num_frames, check_keyframe_index(keyframe_index, default=carried)


def _empty(
    batch: int, frames: int, size: tuple[int, int], *, output: Output, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Memory for a video of ``size`` (height, width): as it is given back, and as (B, 3, T, H, W), a view."""
    if output == "uint8":
        result = torch.empty((batch, frames, *size, 3), dtype=torch.uint8, device=device)
        return result, result.permute(0, 4, 1, 2, 3)
    result = torch.empty((batch, 3, frames, *size), dtype=torch.float32, device=device)
    return result, result
