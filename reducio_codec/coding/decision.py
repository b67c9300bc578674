"""How the clips of a file are coded: all that the encoder chooses is chosen here, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reducio_codec.clips.inputs import check_keyframe_index
from reducio_codec.clips.refine import Refinement
from reducio_codec.clips.spans import clip_span
from reducio_codec.clips.streams import FrameClip
from reducio_codec.coding.effort import plan_refinement
from reducio_codec.coding.engine import Engine
from reducio_codec.coding.options import EncodeOptions
from reducio_codec.coding.rate_control import RateControl
from reducio_codec.coding.trial import coded_error, encode_alone
from reducio_codec.models.contract import choose_decoder
from reducio_codec.rdc.keyframe import code_keyframe
from reducio_codec.rdc.ranges import UNIT, step_units

KEYFRAMES = (3, 7, 11)
"""Places of the key frame that ``keyframe="best"`` tries."""

_GROUP = 4
"""Clips whose key frames are coded together, and so what a damaged record costs and a jump into the file has to decode."""

_GROUP_BYTES = 1 << 28
"""Frames that may wait for it: 4 clips up to 720p, 2 at 1080p, 1 at 4K."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """How the clips of one group are coded."""

    clips: Sequence[FrameClip]
    """Each with its key frame where it is to be."""
    quality: int
    """Of their key frames, 0 to 100."""
    step: float
    """Of their latents' quantiser, a multiple of 1/1024 unless a target chose it."""
    refinement: Refinement | None
    """Of their latents."""


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
        self.step = step_units(options.step)
        """The file's own quantiser step, in units."""
        self._engine, self._options = engine, options
        self._control: RateControl | None = None
        if options.targeted:
            kbps, psnr = options.target_kbps, options.target_psnr
            self._control = RateControl(target_kbps=kbps, target_psnr=psnr, decoder=self.decoder)
        self._refinement = plan_refinement(
            options.effort,
            runner=engine.runner,
            coder=engine.coder,
            decoder=self.decoder,
            latent_step=options.step,
        )

    def group(self, first: FrameClip) -> int:
        """How many clips are decided on, and their key frames coded, together."""
        if self._options.keyframe_group is not None:
            return self._options.keyframe_group
        if self._options.keyframe_codec != "avif":
            return 1
        return min(_GROUP, max(1, _GROUP_BYTES // first.frames.nbytes))

    def decide(self, clips: Sequence[FrameClip], *, seconds: float) -> Decision:
        """For a group that lasts so many ``seconds``."""
        quality, step = self._options.quality, self.step / UNIT
        if self._control is not None:
            quality, step = self._control.choose(
                self._engine, clips, codec=self._options.keyframe_codec, seconds=seconds
            )
        if self._options.keyframe == "best":
            clips = [self._best_keyframe(clip, quality=quality, step=step) for clip in clips]
        refinement = self._refinement and self._refinement.at(self._engine.coder.steps(step))
        return Decision(clips=clips, quality=quality, step=step, refinement=refinement)

    def spend(self, size: int, *, seconds: float) -> None:
        """The group that was decided on took ``size`` bytes."""
        if self._control is not None:
            self._control.spend(size, seconds=seconds)

    def missed(self, kbps: float) -> str | None:
        """What to tell the user of a file of so many kbit/s that isn't what was asked for."""
        return None if self._control is None else self._control.missed(kbps)

    def _best_keyframe(self, clip: FrameClip, *, quality: int, step: float) -> FrameClip:
        """The clip with its key frame at the place, of ``KEYFRAMES``, from which it decodes with the least error."""
        engine, codec = self._engine, self._options.keyframe_codec
        found: list[tuple[float, FrameClip]] = []
        for index in KEYFRAMES:
            span = clip_span(start=clip.span.start, frames=clip.span.frames, keyframe_index=index)
            tried = FrameClip(frames=clip.frames, span=span, keyframe_index=index)
            _, seen = code_keyframe(tried.keyframe, codec=codec, quality=quality)
            latent = encode_alone(engine, tried, seen)
            found.append((coded_error(engine, tried, seen, latent, step=step, decoder=self.decoder), tried))
        return min(found, key=lambda item: item[0])[1]
