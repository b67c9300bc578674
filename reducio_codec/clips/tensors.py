"""Whole videos in memory, to latents and key frames and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from reducio_codec.clips.forms import as_keyframes, as_video
from reducio_codec.clips.inputs import as_tensor, check_latent, check_neighbours, frames_and_index
from reducio_codec.clips.latent import Latent
from reducio_codec.clips.references import references_of_clips
from reducio_codec.clips.refine import Refinement
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.clips.spans import ClipSpan, batches_of_alike, plan_clips, take_clip
from reducio_codec.clips.streams import encode_clip
from reducio_codec.config import check_choice
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.contract import Reference

Output = Literal["float", "uint8"]
Checked = TypeVar("Checked")


def encode_video(
    runner: ClipRunner, video: Tensor, *, keyframe_index: int, refinement: Refinement | None
) -> tuple[Latent, Tensor]:
    """Video (B, 3, T, H, W) uint8 or float in [-1, 1]; see :meth:`reducio_codec.codec.ReducioCodec.encode`."""
    (result,) = encode_videos(runner, [video], keyframe_index=keyframe_index, refinement=refinement, together=1)
    return result


def encode_videos(
    runner: ClipRunner,
    videos: Sequence[Tensor],
    *,
    keyframe_index: int,
    refinement: Refinement | None,
    together: int,
) -> list[tuple[Latent, Tensor]]:
    """Videos (B, 3, T, H, W) of any lengths and sizes; of clips that look alike ``together`` run as one batch."""
    results: list[tuple[Latent, Tensor]] = []
    clips: list[_ToEncode] = []
    for video in videos:
        batch, _, frames, height, width = video.shape
        spans = plan_clips(frames, keyframe_index=keyframe_index)
        shape = (batch, runner.latent_channels, len(spans) * runner.latent_frames, *runner.grid(height, width))
        latent = video.new_empty(shape, dtype=torch.float32)
        keyframes = video.new_empty((batch, 3, len(spans), height, width), dtype=torch.float32)
        parts = latent.split(runner.latent_frames, dim=2)
        results.append((Latent.of(latent, num_frames=frames, keyframe_index=keyframe_index), keyframes))
        for span, part, keyframe in zip(spans, parts, keyframes.unbind(dim=2), strict=True):
            clips.append(_ToEncode(video=video, span=span, latent=part, keyframe=keyframe))

    def looks(clip: _ToEncode) -> Hashable:
        if _in_tiles(runner, clip.keyframe):
            return clip
        return clip.keyframe.shape, clip.video.dtype, clip.video.device, clip.span.frames

    def encode(group: list[_ToEncode]) -> None:
        span = group[0].span
        pixels = _join([take_clip(clip.video, clip.span, dim=2) for clip in group])  # (n*B, 3, 16, H, W)
        own = Reference.of_frame(pixels, keyframe_index)
        found = encode_clip(runner, pixels, references=[own], span=span, refinement=refinement)
        for clip, latent, picture in zip(group, found.chunk(len(group)), own.picture.chunk(len(group)), strict=True):
            clip.latent.copy_(latent)
            clip.keyframe.copy_(to_unit(picture))

    sizes = {(clip.keyframe.shape[-2], clip.keyframe.shape[-1]) for clip in clips}
    groups = batches_of_alike(clips, looks=looks, together=together)
    for _ in runner.clips_at_once(encode, groups, sizes=sizes):
        pass
    return results


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
    grad: bool = False,
) -> Tensor:
    """See :meth:`reducio_codec.codec.ReducioCodec.decode`."""
    if grad:
        _check_grad(runner, output)
        runner = runner.with_gradients()
    coded = _coded_video(
        runner,
        latent,
        keyframe,
        decoder=decoder,
        neighbours=neighbours,
        num_frames=num_frames,
        keyframe_index=keyframe_index,
    )
    (video,) = _decode(runner, [coded], decoder=decoder, output=output, together=1)
    return video


def decode_videos(
    runner: ClipRunner, pairs: Iterable[tuple[Tensor, Tensor]], *, decoder: str, output: Output, together: int
) -> list[Tensor]:
    """See :meth:`reducio_codec.codec.ReducioCodec.decode_batch`; of clips that look alike ``together`` run as one batch."""

    def checked(pair: Any) -> _CodedVideo:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"a {type(pair).__name__} is given; allowed: (latent, keyframe)")
        return _coded_video(runner, *pair, decoder=decoder)

    return _decode(runner, each(pairs, checked, name="pair"), decoder=decoder, output=output, together=together)


def as_videos(videos: Iterable[Any]) -> list[Tensor]:
    """Each of several videos in memory as ``as_video`` gives it."""

    def in_memory(video: Any) -> Tensor:
        if isinstance(video, str | os.PathLike):
            raise InputError(f"{video} is a path; allowed: videos in memory (encode and compress take paths)")
        return as_video(video)

    return each(videos, in_memory, name="video")


def each(items: Iterable[Any], check: Callable[[Any], Checked], *, name: str) -> list[Checked]:
    """What ``check`` makes of each item; its InputError gets the item's number."""
    if isinstance(items, str | bytes | os.PathLike | Mapping) or not isinstance(items, Iterable):
        raise InputError(f"{name}s are a {type(items).__name__}; allowed: a list, one {name} an item")
    found = []
    for number, item in enumerate(items):
        try:
            found.append(check(item))
        except InputError as error:
            raise InputError(f"{name} {number}: {error}") from error
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _ToEncode:
    """A clip, and where its results go."""

    video: Tensor
    """``(B, 3, T, H, W)``, that it is a part of."""
    span: ClipSpan
    latent: Tensor
    """``(B, z, t, h, w)``."""
    keyframe: Tensor
    """``(B, 3, H, W)``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _CodedClip:
    """A clip to decode."""

    latent: Tensor
    """``(B, z, t, h, w)``."""
    references: tuple[Reference, ...]
    """Those that the decoder makes use of."""
    span: ClipSpan


@dataclass(frozen=True, kw_only=True, eq=False)
class _CodedVideo:
    """A video to decode, checked."""

    clips: list[_CodedClip]
    frames: int
    size: tuple[int, int]
    """Height and width."""


def _coded_video(
    runner: ClipRunner,
    latent: Any,
    keyframe: Any,
    *,
    decoder: str,
    neighbours: tuple[Tensor | None, Tensor | None] | None = None,
    num_frames: int | None = None,
    keyframe_index: int | None = None,
) -> _CodedVideo:
    latent, keyframe = as_tensor(latent), as_keyframes(keyframe)
    count = check_latent(latent, keyframe, runner=runner)
    frames, index = frames_and_index(latent, count, num_frames=num_frames, keyframe_index=keyframe_index, runner=runner)
    if not runner.gradients:
        latent, keyframe = latent.detach(), keyframe.detach()
    wanted = runner.model.decoder(decoder)
    if neighbours is not None:
        check_neighbours(neighbours, keyframe, decoder=wanted)
    spans = plan_clips(frames, keyframe_index=index)
    references = references_of_clips(
        keyframe.unbind(dim=2), spans, keyframe_index=index, outside=neighbours or (None, None)
    )
    parts = torch.split(latent.as_subclass(Tensor), runner.latent_frames, dim=2)
    clips = [
        _CodedClip(latent=part, references=wanted.select(given), span=span)
        for part, given, span in zip(parts, references, spans, strict=True)
    ]
    return _CodedVideo(clips=clips, frames=frames, size=(keyframe.shape[3], keyframe.shape[4]))


def _decode(
    runner: ClipRunner, videos: Sequence[_CodedVideo], *, decoder: str, output: Output, together: int
) -> list[Tensor]:
    check_choice(output, name="output", allowed=("float", "uint8"))
    results: list[Tensor] = []
    clips: list[tuple[_CodedClip, Tensor]] = []  # with (B, 3, T, H, W), its video's frames
    for video in videos:
        first = video.clips[0].latent
        result, view = _empty(first.shape[0], video.frames, video.size, output=output, device=first.device)
        results.append(result)
        clips += [(clip, view) for clip in video.clips]

    def place(clip: tuple[_CodedClip, Tensor]) -> Tensor:
        """(B, 3, n, H, W), where its frames go. Of gradients a view knows that is made when it is written."""
        coded, frames = clip
        return frames.narrow(2, coded.span.start, coded.span.frames)

    def looks(clip: tuple[_CodedClip, Tensor]) -> Hashable:
        coded, frames = clip[0], place(clip)
        if _in_tiles(runner, frames):
            return coded
        pictures = tuple((item.place, item.beside, item.picture.dtype) for item in coded.references)
        return frames.shape, coded.latent.dtype, coded.latent.device, pictures

    def decode(group: list[tuple[_CodedClip, Tensor]]) -> None:
        coded, parts = [clip for clip, _ in group], [place(clip) for clip in group]
        latent = _join([clip.latent for clip in coded])  # (n*B, z, t, h, w)
        references = [
            replace(same[0], picture=_join([item.picture for item in same]))
            for same in zip(*(clip.references for clip in coded), strict=True)
        ]
        out = parts[0] if len(parts) == 1 else parts[0].new_empty((latent.shape[0], *parts[0].shape[1:]))
        runner.decode(latent, references, decoder=decoder, span=coded[0].span, out=out)
        if len(parts) > 1:
            for part, decoded in zip(parts, out.chunk(len(parts)), strict=True):
                part.copy_(decoded)

    groups = batches_of_alike(clips, looks=looks, together=together)
    for _ in runner.clips_at_once(decode, groups, sizes={video.size for video in videos}):
        pass
    return results


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


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Along the batch axis; one alone isn't copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _in_tiles(runner: ClipRunner, pixels: Tensor) -> bool:
    """Whether a single clip (..., H, W) fills a batch by itself."""
    return len(runner.plan(pixels.shape[-2], pixels.shape[-1]).windows) > 1
