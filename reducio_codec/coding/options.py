"""What decides how a video becomes a file: one list of options, for Python and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypedDict, get_args

from reducio_codec.config import CLIP_LENGTH, check_choice, check_whole
from reducio_codec.errors import InputError
from reducio_codec.rdc.ranges import KEYFRAME_CODECS, KeyframeCodec, step_units

KeyframeChoice = Literal["middle", "best"]
Keyframes = Literal["auto", 1, 2, 4, 8, 16]

MAX_EFFORT = 1000

QUALITY = 50
"""Of key frames, where nothing else decides it."""
AUTO_QUALITY = 15
"""Likewise where there are as many as pay: more of them, each for fewer bytes."""
STEP = 0.5
"""Of the latent's quantiser, likewise."""
SEEK_EVERY = 4.0


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Options of ``ReducioCodec.compress``. What would do nothing beside the others is refused; None stands for not given.

    Of the key frames beside a clip effort uses those that are coded by then, the one before and the next one in the same group;
    targets and the best key frame do without.

    Raises:
        InputError: names the value, and what is allowed or what leaves it without effect.
    """

    keyframe_quality: int | None = None
    """Quality of the key frames, 0 (smallest) to 100, in the scale of their format; png is lossless and has none. By default
    15 where keyframes is auto, which gives more of it to those that are shown for long, else 50."""
    keyframe_codec: KeyframeCodec = "avif"
    """Format of the key frames inside the file. By default avif."""
    latent_step: float | None = None
    """Quantiser step of the motion latent, 1/64 to 16 of its standard deviations; smaller is finer and larger. By default
    what goes with the quality where keyframes is auto, else 0.5."""
    keyframe_index: int | None = None
    """Which of a clip's 16 frames is its key frame, 0 to 15. By default the model's choice."""
    keyframe: KeyframeChoice | None = None
    """Where a clip's key frame is; best tries three places and keeps the best. By default middle."""
    keyframes: Keyframes | None = None
    """How many of a clip's 16 frames are key frames: 1, 2, 4, 8, 16, or auto, which decides clip by clip, gives a clip that shows
    what was there before none, and so spends bits where something moves. By default auto, where model and format allow it, else
    1."""
    seek_every: float | None = None
    """Seconds, up to 60, after which a new sequence of key frames begins: within one each is predicted from those before it,
    so longer sequences take fewer bytes, but a jump into the file decodes them from the start, a damaged one costs those after
    it, and so much video waits in memory, though never more than 256 MB. By default 4."""
    target_kbps: float | None = None
    """Wanted rate without sound, in kbit/s: quality and step are searched for. Bits that show nothing are not spent."""
    target_psnr: float | None = None
    """Wanted PSNR in dB, up to 60, pooled over the frames of each sequence of key frames (seek_every): likewise."""
    target_lpips: float | None = None
    """Wanted LPIPS (AlexNet), up to 1, mean over those frames; less is better:
    likewise."""
    effort: int = 0
    """Gradient steps, up to 1000, that refine each clip's latent: better at about equal bits, slower to write. By default 0;
    try 4."""
    decoder: str | None = None
    """The decoder that effort, targets and the best key frame are for. By default the model's choice."""
    references: int | None = None
    """2 marks scene cuts between clips, over which the key frames of the clips beside aren't used; 1, or a decoder that takes
    one, leaves them unmarked, and then one is the default for reading, too. By default 2 where the decoder makes use of them."""

    def __post_init__(self) -> None:
        self._check_values()
        self._check_effects()

    def _check_values(self) -> None:
        if self.keyframe_quality is not None:
            check_whole(self.keyframe_quality, name="keyframe_quality", most=100)
        check_choice(self.keyframe_codec, name="keyframe_codec", allowed=KEYFRAME_CODECS)
        if self.latent_step is not None:
            step_units(self.latent_step)
        if self.keyframe_index is not None:
            check_whole(self.keyframe_index, name="keyframe_index", most=CLIP_LENGTH - 1)
        if self.keyframe is not None:
            check_choice(self.keyframe, name="keyframe", allowed=get_args(KeyframeChoice))
        if self.keyframes not in (None, "auto"):
            check_choice(
                None if isinstance(self.keyframes, bool) else self.keyframes,
                name="keyframes",
                allowed=get_args(Keyframes),
            )
        _check_positive(self.seek_every, name="seek_every", most=60.0)
        _check_positive(self.target_kbps, name="target_kbps", most=1e6)
        _check_positive(self.target_psnr, name="target_psnr", most=60.0)
        _check_positive(self.target_lpips, name="target_lpips", most=1.0)
        check_whole(self.effort, name="effort", most=MAX_EFFORT)

    def _check_effects(self) -> None:
        targets = self._targets
        if len(targets) > 1:
            given = " and ".join(f"{name}={getattr(self, name):g}" for name in targets)
            raise InputError(f"{given} are given; give one of them")
        for target in targets:
            value = getattr(self, target)
            if self.keyframe_codec == "png":
                raise InputError(
                    f"{target} is {value}, which has nothing to search for: keyframe_codec='png' is lossless"
                )
            self._refuse("keyframe_quality", "latent_step", because=f"{target}={value:g} searches for it")
        if self.keyframe_codec == "png":
            self._refuse("keyframe_quality", because="keyframe_codec='png' is lossless")
        if self.keyframe_codec != "avif":
            self._refuse("seek_every", because=f"keyframe_codec={self.keyframe_codec!r} codes each by itself")
        if self.keyframe is not None and self.keyframe_index is not None:
            raise InputError(
                f"keyframe_index is {self.keyframe_index}, which keyframe={self.keyframe!r} would not keep to"
            )
        if self.keyframes not in (None, 1):
            self._refuse(
                "keyframe", "keyframe_index", because=f"keyframes={self.keyframes!r} chooses places of its own"
            )
        if self.decoder is not None and not self.searches:
            raise InputError(
                f"decoder is {self.decoder!r}, which has no effect without effort, a target or keyframe='best'"
            )

    def _refuse(self, *names: str, because: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise InputError(f"{name} is {getattr(self, name)}, which has no effect: {because}")

    @property
    def targeted(self) -> bool:
        """Whether quality and step are searched for."""
        return bool(self._targets)

    @property
    def _targets(self) -> list[str]:
        names = ("target_kbps", "target_psnr", "target_lpips")
        return [name for name in names if getattr(self, name) is not None]

    @property
    def searches(self) -> bool:
        """Whether decoding decides what is written."""
        return bool(self.effort) or self.targeted or self.keyframe == "best"

    @property
    def sequence_seconds(self) -> float:
        """``seek_every`` with its default."""
        return SEEK_EVERY if self.seek_every is None else self.seek_every

    @property
    def quality(self) -> int:
        """That of the key frames where one each is all there is to decide."""
        return QUALITY if self.keyframe_quality is None else self.keyframe_quality

    @property
    def step(self) -> float:
        """That of the latent, likewise."""
        return STEP if self.latent_step is None else self.latent_step


class EncodeKeywords(TypedDict, total=False):
    """``EncodeOptions`` as keyword arguments, for a type checker; a test holds it to the same list."""

    keyframe_quality: int | None
    keyframe_codec: KeyframeCodec
    latent_step: float | None
    keyframe_index: int | None
    keyframe: KeyframeChoice | None
    keyframes: Keyframes | None
    seek_every: float | None
    target_kbps: float | None
    target_psnr: float | None
    target_lpips: float | None
    effort: int
    decoder: str | None
    references: int | None


def _check_positive(value: Any, *, name: str, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= most:
        raise InputError(f"{name} is {value!r}; it must be above 0, at most {most:g}")
