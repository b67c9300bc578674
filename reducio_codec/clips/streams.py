"""Push frames, pull clips, and back: one or two clips of latency and of memory, for any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.clips.inputs import as_frame, check_keyframe_index
from reducio_codec.clips.latent import Latent
from reducio_codec.clips.refine import Refinement, refine
from reducio_codec.clips.runner import ClipRunner, Neighbours
from reducio_codec.clips.scenes import CutFinder
from reducio_codec.clips.spans import ClipSpan, Cut, clip_span, group_frames, own_keyframe, take_clip
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_unit
from reducio_codec.models.contract import uses_neighbours


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedClip:
    """All that a decoder needs for up to 16 frames. A decoder of two references also takes the key frames of the clips
    before and after, if there are any."""

    index: int
    """Number of the clip in its video, from 0."""
    latent: Tensor
    """``(z, t, h, w)`` float32, normalised."""
    keyframe: NDArray[np.uint8]
    """``(H, W, 3)``, at the video's own size."""
    num_frames: int
    """Frames of the video in this clip, 1 to 16."""
    keyframe_index: int
    """Which of the model's 16 frames is the key frame."""
    cut: Cut = Cut.NONE
    """Whether a scene change keeps this clip and the one before from using each other's key frame."""

    @property
    def reference(self) -> Reference:
        """The key frame as the clips beside it see it."""
        own = own_keyframe(self.num_frames, keyframe_index=self.keyframe_index)
        return Reference(picture=self.keyframe, frame=CLIP_LENGTH * self.index + own)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width, _ = self.keyframe.shape
        return height, width

    @property
    def span(self) -> ClipSpan:
        """Where the real frames lie among the model's 16."""
        return clip_span(start=CLIP_LENGTH * self.index, frames=self.num_frames, keyframe_index=self.keyframe_index)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A key frame of a video."""

    picture: NDArray[np.uint8]
    """``(H, W, 3)``."""
    frame: int
    """Its number in the video."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameClip:
    """Up to 16 frames of a video, ready for a model."""

    frames: NDArray[np.uint8]
    """``(n, H, W, 3)``, the real frames."""
    span: ClipSpan
    keyframe_index: int

    @property
    def own_keyframe(self) -> int:
        """Which of the real frames is the key frame."""
        return self.keyframe_index - self.span.lead

    @property
    def keyframe(self) -> NDArray[np.uint8]:
        """``(H, W, 3)``: the key frame, a view of one of the frames."""
        picture: NDArray[np.uint8] = self.frames[self.own_keyframe]
        return picture

    def padded(self) -> Tensor:
        """``(1, 3, 16, H, W)`` uint8, what the model sees."""
        span = ClipSpan(start=0, frames=self.span.frames, lead=self.span.lead)
        clip = take_clip(torch.from_numpy(self.frames), span, dim=0)  # (16, H, W, 3)
        return clip.permute(3, 0, 1, 2)[None]


def cut_clips(frames: Iterable[NDArray[np.uint8] | Tensor], *, keyframe_index: int) -> Iterator[FrameClip]:
    """Collect frames ``(H, W, 3)`` uint8 into clips; reads no frame further than the clip it gives.

    Raises:
        InputError: a frame of another dtype, shape or size than allowed, or no frame at all.
    """
    size: tuple[int, int] | None = None
    start = 0
    for group in group_frames(frames):
        checked: list[NDArray[np.uint8]] = []
        for frame in group:
            array = as_frame(frame, size=size)
            size = array.shape[0], array.shape[1]
            checked.append(array)
        span = clip_span(start=start, frames=len(checked), keyframe_index=keyframe_index)
        yield FrameClip(frames=np.stack(checked), span=span, keyframe_index=keyframe_index)
        start += len(checked)
    if start == 0:
        raise InputError("video has 0 frames; it needs at least one")


def encode_clip(
    runner: ClipRunner,
    clip: Tensor,
    *,
    keyframe_index: int,
    span: ClipSpan,
    refinement: Refinement | None,
    keyframe: Tensor | None = None,
    neighbours: Neighbours | None = None,
) -> Tensor:
    """The latent (B, z, t, h, w) of one clip (B, 3, 16, H, W), refined where that is asked for.

    ``span`` says which of the 16 frames are real; ``keyframe`` (B, 3, H, W) is the picture that the decoder will have, by
    default the frame itself, and ``neighbours`` those of the clips beside it, as far as they are known.
    """
    latent = runner.encode(clip, keyframe_index=keyframe_index, keyframe=keyframe)
    if refinement is None:
        return latent
    picture = clip[:, :, keyframe_index] if keyframe is None else keyframe
    return refine(
        runner,
        latent,
        clip,
        keyframe=picture,
        keyframe_index=keyframe_index,
        frames=span.keep,
        refinement=refinement,
        neighbours=neighbours,
    )


def encode_stream(
    runner: ClipRunner,
    frames: Iterable[NDArray[np.uint8] | Tensor],
    *,
    keyframe_index: int | None = None,
    refinement: Refinement | None = None,
) -> Iterator[EncodedClip]:
    """Encode frames as they arrive: a clip comes out after every 16th frame, and a shorter one at the end.

    Args:
        frames: uint8 ``(H, W, 3)``, all of one size; read no faster than clips are taken.
        keyframe_index: which of 16 frames is the key frame, by default the model's choice.
        refinement: what to refine latents for, if at all.
    """
    index = check_keyframe_index(keyframe_index, default=runner.model.default_keyframe_index)
    return _encode_stream(runner, frames, keyframe_index=index, refinement=refinement)


def _encode_stream(
    runner: ClipRunner,
    frames: Iterable[NDArray[np.uint8] | Tensor],
    *,
    keyframe_index: int,
    refinement: Refinement | None,
) -> Iterator[EncodedClip]:
    finder = CutFinder() if getattr(runner.model, "neighbour_decoders", ()) else None
    for number, clip in enumerate(cut_clips(frames, keyframe_index=keyframe_index)):
        latent = encode_clip(
            runner, clip.padded(), keyframe_index=keyframe_index, span=clip.span, refinement=refinement
        )[0]
        yield EncodedClip(
            index=number,
            latent=latent,
            keyframe=clip.keyframe.copy(),  # a view would keep all 16 frames alive
            num_frames=clip.span.frames,
            keyframe_index=keyframe_index,
            cut=Cut.NONE if finder is None else finder(clip.frames, key=clip.own_keyframe),
        )


def join_clips(clips: Iterable[EncodedClip]) -> tuple[Latent, Tensor]:
    """All clips of a video as ``ReducioCodec.encode`` gives them: (1, z, N*t, h, w) and (1, 3, N, H, W)."""
    latents, keyframes, frames, index = [], [], 0, 0
    for clip in clips:
        latents.append(clip.latent)
        keyframes.append(torch.from_numpy(clip.keyframe))
        frames += clip.num_frames
        index = clip.keyframe_index
    latent = torch.cat(latents, dim=1)[None]  # (1, z, N*t, h, w)
    pictures = torch.stack(keyframes).permute(3, 0, 1, 2)[None]  # (1, 3, N, H, W)
    return Latent.of(latent, num_frames=frames, keyframe_index=index), to_unit(pictures).contiguous()


def decode_stream(runner: ClipRunner, clips: Iterable[EncodedClip], *, decoder: str) -> Iterator[NDArray[np.uint8]]:
    """Decode clips as they arrive into frames ``(H, W, 3)`` uint8.

    With one reference a clip is decoded when it arrives. With two it waits for the next one's key frame: one clip more of
    latency, and of memory. Clips whose numbers follow each other are neighbours; next to a missing one, or at a cut, a
    clip does without.
    """
    both = uses_neighbours(runner.model, decoder)
    previous: EncodedClip | None = None
    waiting: EncodedClip | None = None
    for clip in clips:
        if not isinstance(clip, EncodedClip):
            raise InputError(f"clip is a {type(clip).__name__}; allowed: EncodedClip")
        check_clip(runner, clip)
        if not both:
            yield from decode_clip(runner, clip, decoder=decoder)
            continue
        if waiting is not None:
            yield from _decode_between(runner, previous, waiting, clip, decoder=decoder)
        previous, waiting = waiting, clip
    if waiting is not None:
        yield from _decode_between(runner, previous, waiting, None, decoder=decoder)


def _decode_between(
    runner: ClipRunner, previous: EncodedClip | None, clip: EncodedClip, after: EncodedClip | None, *, decoder: str
) -> NDArray[np.uint8]:
    before = previous is not None and _adjoin(previous, clip) and not clip.cut & Cut.BACKWARD
    behind = after is not None and _adjoin(clip, after) and not after.cut & Cut.FORWARD
    return decode_clip(
        runner,
        clip,
        decoder=decoder,
        previous=previous.reference if previous is not None and before else None,
        after=after.reference if after is not None and behind else None,
    )


def _adjoin(first: EncodedClip, second: EncodedClip) -> bool:
    return first.index + 1 == second.index and first.size == second.size


def decode_clip(
    runner: ClipRunner,
    clip: EncodedClip,
    *,
    decoder: str,
    previous: Reference | None = None,
    after: Reference | None = None,
) -> NDArray[np.uint8]:
    """The real frames of one clip: ``(n, H, W, 3)`` uint8; with the key frames beside it where the decoder uses them."""
    check_clip(runner, clip)
    frames = torch.empty((clip.num_frames, *clip.keyframe.shape), dtype=torch.uint8)
    neighbours = None
    if uses_neighbours(runner.model, decoder):
        neighbours = as_neighbours(previous, after, span=clip.span, keyframe_index=clip.keyframe_index)
    runner.decode(
        clip.latent.to("cpu")[None],
        as_batch(clip.keyframe),
        decoder=decoder,
        keyframe_index=clip.keyframe_index,
        span=clip.span,
        out=frames.permute(3, 0, 1, 2)[None],  # (1, 3, n, H, W), a view
        neighbours=neighbours,
    )
    decoded: NDArray[np.uint8] = frames.numpy()
    return decoded


def as_neighbours(
    previous: Reference | None, after: Reference | None, *, span: ClipSpan, keyframe_index: int
) -> Neighbours:
    """The key frames beside a clip, as its model takes them."""
    return Neighbours(
        previous=None if previous is None else as_batch(previous.picture),
        next=None if after is None else as_batch(after.picture),
        places=(
            keyframe_index - CLIP_LENGTH if previous is None else span.place(previous.frame),
            keyframe_index + CLIP_LENGTH if after is None else span.place(after.frame),
        ),
    )


def as_batch(picture: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) to (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


def check_clip(runner: ClipRunner, clip: EncodedClip) -> None:
    """Refuse a clip of another model or with a latent that doesn't lie under its key frame."""
    expected = (runner.latent_channels, runner.latent_frames, *runner.grid(*clip.size))
    if tuple(clip.latent.shape) != expected:
        raise InputError(
            f"latent of clip {clip.index} has shape {tuple(clip.latent.shape)}; "
            f"a key frame of {clip.size[1]}x{clip.size[0]} needs {expected}"
        )
    if not 1 <= clip.num_frames <= CLIP_LENGTH:
        raise InputError(f"clip {clip.index} has {clip.num_frames} frames; allowed: 1 to {CLIP_LENGTH}")
