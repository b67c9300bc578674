"""Push frames, pull clips, and back: one or two clips of latency and of memory, for any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.clips.forms import frames_of
from reducio_codec.clips.inputs import check_keyframe_index
from reducio_codec.clips.latent import Latent
from reducio_codec.clips.references import Reference, for_model
from reducio_codec.clips.refine import Refinement, refine
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.clips.scenes import CutFinder, mark_scenes
from reducio_codec.clips.spans import ClipSpan, clip_span, group_frames, spread, take_clip
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_unit
from reducio_codec.io.stages import stage
from reducio_codec.models import contract
from reducio_codec.rdc.layers.cuts import Cut


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedClip:
    """All that a decoder needs for up to 16 frames. One that uses the references of the clips before and after takes those
    of their ``EncodedClip``, if there are any."""

    index: int
    """Number of the clip in its video, from 0."""
    latent: Tensor
    """``(z, t, h, w)`` float32, normalised."""
    references: tuple[Reference, ...]
    """Frames of the clip that are coded as pictures, in order of time, at the video's own size."""
    span: ClipSpan
    """Where the real frames lie, in the video and among the model's 16."""
    size: tuple[int, int]
    """Height and width in pixels."""
    cut: Cut = Cut.NONE
    """Whether a scene change keeps this clip and the one before from using each other's references."""

    @property
    def keyframe(self) -> NDArray[np.uint8]:
        """``(H, W, 3)``, of a clip that has one reference; InputError for others, see ``references``."""
        return self._only.picture

    @property
    def keyframe_index(self) -> int:
        """Which of the model's 16 frames that is."""
        return self.span.place(self._only.frame)

    @property
    def num_frames(self) -> int:
        """Frames of the video in this clip, 1 to 16."""
        return self.span.frames

    @property
    def _only(self) -> Reference:
        if len(self.references) != 1:
            raise InputError(
                f"clip {self.index} has {len(self.references)} key frames, and a latent by itself goes with one; "
                "keyframes=1 (--keyframes 1) makes files so"
            )
        return self.references[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameClip:
    """Up to 16 frames of a video, ready for a model."""

    frames: NDArray[np.uint8]
    """``(n, H, W, 3)``, the real frames."""
    span: ClipSpan
    keyframes: tuple[int, ...]
    """Which of the real frames are key frames, in order of time."""
    begins_scene: bool = False
    """Whether it has nothing to do with the clip before."""

    @property
    def needs_latent(self) -> bool:
        """Whether some of its frames are neither key frames nor what a key frame before it shows."""
        return 0 < len(self.keyframes) < self.span.frames

    @property
    def pictures(self) -> list[Reference]:
        """The key frames as they are, views of frames."""
        return [Reference(frame=self.span.start + place, picture=self.frames[place]) for place in self.keyframes]

    def seen(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Reference]:
        """The key frames as a reader sees them, ``(H, W, 3)`` each."""
        found = zip(self.keyframes, pictures, strict=True)
        return [Reference(frame=self.span.start + place, picture=picture) for place, picture in found]

    def with_keyframes(self, count: int) -> FrameClip:
        """The same frames with other key frames, see ``spans.spread``."""
        frames = self.span.frames
        span = ClipSpan(start=self.span.start, frames=frames, lead=(CLIP_LENGTH - frames) // 2)
        return replace(self, span=span, keyframes=spread(span, count))

    def padded(self) -> Tensor:
        """``(1, 3, 16, H, W)`` uint8, what the model sees."""
        span = ClipSpan(start=0, frames=self.span.frames, lead=self.span.lead)
        clip = take_clip(torch.from_numpy(self.frames), span, dim=0)  # (16, H, W, 3)
        return clip.permute(3, 0, 1, 2)[None]


def cut_clips(frames: Any, *, keyframe_index: int, at_scenes: bool = False) -> Iterator[FrameClip]:
    """Collect the frames of a video, in any form of ``forms.as_video``, into clips; reads none further than the clip it gives.

    Args:
        keyframe_index: which of 16 frames is the key frame.
        at_scenes: a clip also ends where its scene does. Reads 4 frames ahead.

    Raises:
        InputError: a frame of another dtype, shape or size than allowed, or no frame at all.
    """
    given = frames_of(frames)
    start = 0
    for group, begins in _scene_groups(given) if at_scenes else ((group, False) for group in group_frames(given)):
        span = clip_span(start=start, frames=len(group), keyframe_index=keyframe_index)
        keyframes = (keyframe_index - span.lead,)
        yield FrameClip(frames=np.stack(group), span=span, keyframes=keyframes, begins_scene=begins)
        start += len(group)
    if start == 0:
        raise InputError("video has 0 frames; it needs at least one")


def _scene_groups(frames: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[list[NDArray[np.uint8]], bool]]:
    """Frames in lists of up to 16 that end where a scene does, and whether one begins with the list."""
    group: list[NDArray[np.uint8]] = []
    new = False
    for frame, begins in mark_scenes(frames):
        if group and (begins or len(group) == CLIP_LENGTH):
            yield group, new
            group, new = [], begins
        group.append(frame)
    if group:
        yield group, new


def encode_clip(
    runner: ClipRunner,
    clip: Tensor,
    *,
    references: Sequence[contract.Reference],
    span: ClipSpan,
    refinement: Refinement | None,
) -> Tensor:
    """The latent (B, z, t, h, w) of one clip (B, 3, 16, H, W), refined where that is asked for.

    ``span`` says which of the 16 frames are real; ``references`` (B, 3, H, W) are the pictures that the decoder will have,
    inside the clip and, for refinement, beside it, as far as they are known.
    """
    latent = runner.encode(clip, references=references)
    if refinement is None:
        return latent
    with stage("network"):
        return refine(runner, latent, clip, references=references, frames=span.keep, refinement=refinement)


def encode_stream(
    runner: ClipRunner,
    frames: Any,
    *,
    keyframe_index: int | None = None,
    refinement: Refinement | None = None,
) -> Iterator[EncodedClip]:
    """Encode frames as they arrive: a clip comes out after every 16th frame, and a shorter one at the end.

    Args:
        frames: a video in any form of ``forms.as_video``; what gives frames is read no faster than clips are taken. Floats are
            rounded to 8 bits.
        keyframe_index: which of 16 frames is the key frame, by default the model's choice.
        refinement: what to refine latents for, if at all.
    """
    index = check_keyframe_index(keyframe_index, default=runner.model.default_keyframe_index)
    return _encode_stream(runner, frames, keyframe_index=index, refinement=refinement)


def _encode_stream(
    runner: ClipRunner,
    frames: Any,
    *,
    keyframe_index: int,
    refinement: Refinement | None,
) -> Iterator[EncodedClip]:
    model = runner.model
    finder = CutFinder() if any(model.decoder(name).uses_neighbours for name in model.decoder_names) else None
    for number, clip in enumerate(cut_clips(frames, keyframe_index=keyframe_index)):
        own = clip.seen([item.picture.copy() for item in clip.pictures])  # a view would keep all 16 frames alive
        latent = encode_clip(
            runner,
            clip.padded(),
            references=for_model(own, [], span=clip.span),
            span=clip.span,
            refinement=refinement,
        )[0]
        yield EncodedClip(
            index=number,
            latent=latent,
            references=tuple(own),
            span=clip.span,
            size=(clip.frames.shape[1], clip.frames.shape[2]),
            cut=Cut.NONE if finder is None else finder(clip.frames, key=clip.keyframes[0]),
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


def decode_stream(
    runner: ClipRunner, clips: Iterable[EncodedClip], *, decoder: str, references: int
) -> Iterator[NDArray[np.uint8]]:
    """Decode clips as they arrive into frames ``(H, W, 3)`` uint8.

    A clip is decoded when it arrives; with ``references`` 2, those beside it included, it waits for the next one's: one clip
    more of latency, and of memory. Clips whose numbers follow each other are neighbours; next to a missing one, or at a cut, a
    clip does without. Frames are those of clips by themselves: to draw them together where clips meet (``clips.joins``), as files
    are shown, would take one clip more of latency.
    """
    previous: EncodedClip | None = None
    waiting: EncodedClip | None = None
    for clip in clips:
        if not isinstance(clip, EncodedClip):
            raise InputError(f"clip is a {type(clip).__name__}; allowed: EncodedClip")
        check_clip(runner, clip)
        if references == 1:
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
    beside: list[Reference] = []
    if previous is not None and _adjoin(previous, clip) and not clip.cut & Cut.BACKWARD:
        beside += previous.references
    if after is not None and _adjoin(clip, after) and not after.cut & Cut.FORWARD:
        beside += after.references
    return decode_clip(runner, clip, decoder=decoder, beside=beside)


def _adjoin(first: EncodedClip, second: EncodedClip) -> bool:
    return first.index + 1 == second.index and first.size == second.size


def decode_clip(
    runner: ClipRunner, clip: EncodedClip, *, decoder: str, beside: Sequence[Reference] = ()
) -> NDArray[np.uint8]:
    """The real frames of one clip: ``(n, H, W, 3)`` uint8. Of the references ``beside`` it the decoder takes what it uses."""
    check_clip(runner, clip)
    if len(clip.references) == clip.num_frames > 1:  # all are there as pictures
        return np.stack([item.picture for item in clip.references])
    frames = torch.empty((clip.num_frames, *clip.size, 3), dtype=torch.uint8)
    runner.decode(
        clip.latent.to("cpu")[None],
        for_model(clip.references, beside, span=clip.span),
        decoder=decoder,
        span=clip.span,
        out=frames.permute(3, 0, 1, 2)[None],  # (1, 3, n, H, W), a view
    )
    decoded: NDArray[np.uint8] = frames.numpy()
    return decoded


def check_clip(runner: ClipRunner, clip: EncodedClip) -> None:
    """Refuse a clip of another model or with a latent that doesn't lie under its key frame."""
    expected = (runner.latent_channels, runner.latent_frames, *runner.grid(*clip.size))
    if tuple(clip.latent.shape) != expected:
        raise InputError(
            f"latent of clip {clip.index} has shape {tuple(clip.latent.shape)}; "
            f"pictures of {clip.size[1]}x{clip.size[0]} need {expected}"
        )
    if not 1 <= clip.num_frames <= CLIP_LENGTH:
        raise InputError(f"clip {clip.index} has {clip.num_frames} frames; allowed: 1 to {CLIP_LENGTH}")
