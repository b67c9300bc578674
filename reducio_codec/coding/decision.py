"""How the clips of a file are coded: all that the encoder chooses is chosen here, group by group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from reducio_codec.clips.inputs import check_keyframe_index
from reducio_codec.clips.sources import TimedClip
from reducio_codec.clips.spans import clip_span
from reducio_codec.clips.streams import FrameClip
from reducio_codec.coding.effort import plan_refinement
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.group import CodedGroup, GroupCoder
from reducio_codec.coding.keyframes import KeyframePlanner, Plan
from reducio_codec.coding.options import AUTO_QUALITY, EncodeOptions, Keyframes
from reducio_codec.coding.rate_control import RateControl, step_for
from reducio_codec.coding.trial import coded_error, encode_alone
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import InputError
from reducio_codec.models.contract import Decoder, choose_decoder
from reducio_codec.rdc.keyframe import code_keyframes
from reducio_codec.rdc.ranges import MAX_SEQUENCE, step_units

BEST_PLACES = (3, 7, 11)
"""Places of the key frame that ``keyframe="best"`` tries."""

_GROUP_CLIPS = MAX_SEQUENCE // CLIP_LENGTH
_GROUP_BYTES = 1 << 28
"""Frames that may wait for their key frames to be coded: 6 clips at 720p, 2 at 1080p, 1 at 4K."""


def grouped(clips: Iterable[TimedClip], *, options: EncodeOptions, time_base: Fraction) -> Iterator[list[TimedClip]]:
    """Clips whose key frames are coded together."""
    group: list[TimedClip] = []
    for clip in clips:
        if group and _is_full(group, clip, options=options, time_base=time_base):
            yield group
            group = []  # not cleared: it is somebody else's
        group.append(clip)
    if group:
        yield group


def _is_full(group: Sequence[TimedClip], clip: TimedClip, *, options: EncodeOptions, time_base: Fraction) -> bool:
    seconds = float((clip.end - group[0].times[0]) * time_base)
    frames = sum(item.clip.frames.nbytes for item in group) + clip.clip.frames.nbytes
    return (
        options.keyframe_codec != "avif"
        or seconds > options.sequence_seconds
        or frames > _GROUP_BYTES
        or len(group) >= _GROUP_CLIPS
    )


class Decider:
    """Decides for one group of clips after another.

    Raises:
        InputError: an option that this model can't follow.
    """

    def __init__(self, engine: Engine, options: EncodeOptions) -> None:
        model = engine.runner.model
        self.decoder, self.references = choose_decoder(model, decoder=options.decoder, references=options.references)
        """What the file is made for: a decoder, and whether each clip's neighbours lend it their key frames."""
        self.keyframe_index = check_keyframe_index(options.keyframe_index, default=model.default_keyframe_index)
        """Which of a clip's 16 frames is the key frame, unless ``decide`` finds a better one."""
        self.keyframes = _keyframes(model.decoder(self.decoder), options)
        """Of each clip, or "auto"."""
        auto = self.keyframes == "auto"
        self._quality = AUTO_QUALITY if auto and options.keyframe_quality is None else options.quality
        self._step = options.latent_step
        if self._step is None and not auto and not options.targeted:
            self._step = options.step
        step = step_for(self._quality) if self._step is None else self._step
        self.step = step_units(step)
        """The file's own quantiser step, in units; clips may have another."""
        self._engine, self._options = engine, options
        self._planner = KeyframePlanner()
        self._coder = GroupCoder(engine, codec=options.keyframe_codec, references=self.references, decoder=self.decoder)
        self._control = RateControl(options, coder=self._coder) if options.targeted else None
        self._refinement = plan_refinement(
            options.effort,
            runner=engine.runner,
            coder=engine.coder,
            decoder=self.decoder,
            latent_step=step,
        )

    def groups(self, clips: Iterable[TimedClip], *, time_base: Fraction) -> Iterator[list[TimedClip]]:
        """Clips that are decided on, and their key frames coded, together."""
        return grouped(clips, options=self._options, time_base=time_base)

    def code(self, clips: Sequence[FrameClip], *, seconds: float) -> CodedGroup:
        """A group that lasts so many ``seconds``, as it is written; the next one comes then."""
        if self._control is None:
            plan = self._plan(clips, quality=self._quality)
            group = self._code(plan, step_for(plan.quality) if self._step is None else self._step)
        else:
            group = self._control.choose(
                lambda quality: self._plan(clips, quality=quality),
                self._planner.foretell,
                self._code,
                seconds=seconds,
            )
        self._planner.follow(group.clips)
        self._coder.follow(group)
        return group

    def _code(self, plan: Plan, step: float) -> CodedGroup:
        if self._options.keyframe == "best":
            best = [self._best_keyframe(clip, quality=plan.quality, step=step) for clip in plan.clips]
            plan = replace(plan, clips=best)
        refinement = self._refinement and self._refinement.at(self._engine.coder.steps(step))
        return self._coder.code(plan, step=step, refinement=refinement)

    def _plan(self, clips: Sequence[FrameClip], *, quality: int) -> Plan:
        """The clips with their key frames."""
        if self.keyframes == "auto":
            return self._planner.plan(clips, quality=quality)
        if self.keyframes != 1:
            clips = [clip.with_keyframes(self.keyframes) for clip in clips]
        return Plan(clips=clips, quality=quality)

    def spend(self, size: int, *, seconds: float) -> None:
        """The group that was decided on took ``size`` bytes."""
        if self._control is not None:
            self._control.spend(size, seconds=seconds)

    def missed(self, kbps: float) -> str | None:
        """What to tell the user of a file of so many kbit/s that isn't what was asked for."""
        return None if self._control is None else self._control.missed(kbps)

    def _best_keyframe(self, clip: FrameClip, *, quality: int, step: float) -> FrameClip:
        """The clip with its key frame at the place, of ``BEST_PLACES``, from which it decodes with the least error."""
        engine, codec = self._engine, self._options.keyframe_codec
        found: list[tuple[float, FrameClip]] = []
        for index in BEST_PLACES:
            span = clip_span(start=clip.span.start, frames=clip.span.frames, keyframe_index=index)
            tried = replace(clip, span=span, keyframes=(index - span.lead,))
            _, pictures = code_keyframes([item.picture for item in tried.pictures], codec=codec, quality=quality)
            seen = tried.seen(pictures)
            latent = encode_alone(engine, tried, seen)
            found.append((coded_error(engine, tried, seen, latent, step=step, decoder=self.decoder), tried))
        return min(found, key=lambda item: item[0])[1]


def _keyframes(decoder: Decoder, options: EncodeOptions) -> Keyframes:
    many = decoder.inside.most is None
    alone = options.keyframe is not None or options.keyframe_index is not None or options.keyframe_codec != "avif"
    wanted = options.keyframes
    if wanted is None:
        return "auto" if many and not alone else 1
    if wanted == "auto" and options.keyframe_codec != "avif":
        raise InputError(f"keyframes is auto; keyframe_codec={options.keyframe_codec!r} takes a number, 1 to 16")
    if wanted != 1 and not many:
        raise InputError(f"keyframes is {wanted}; the decoder {decoder.name!r} takes {decoder.inside} in a clip")
    return wanted
