"""What a Reducio-DiT is made of, and the sizes that have names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from reducio_codec.config import CLIP_LENGTH, MAX_DEPTH, PIXEL_MULTIPLE, JsonConfig, check_amount, check_count
from reducio_codec.errors import InputError

LEAST_MOTION, MOST_MOTION = 0.0, 8.0
"""Of ``motion``, over the median of the corpus: nearly no clip has more."""

AttentionKind = Literal["joint", "factorised"]
"""Attention over all latent tokens, or over space and then over time (Tab. 13)."""

ImageCondition = Literal["both", "semantic", "content"]
"""What the model is told of the key picture (Tab. 8)."""

ContentKind = Literal["sd", "conv", "alexnet"]
"""Where content tokens come from: the SD2.1-VAE's encoder, continued in training; a small one trained from nothing; or
AlexNet's layers as they were trained on ImageNet, which don't learn."""

ContentAt = Literal["attention", "place"]
"""How content tokens reach the latent's: blocks attend to them, or each is added to the token at its own place."""

EmbeddingKind = Literal["pixart", "first"]
"""How places, times and sizes are told: as PixArt-alpha does (times by learned codes), or as to the first models here."""

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 2.5
"""Of sampling, for models that aren't distilled (Sec. 4.1)."""

GuidanceOf = Literal["all", "text"]
"""What guidance strengthens: all conditions against none, or the text against the picture alone."""

Objective = Literal["noise", "flow"]
"""What the network predicts: the noise of the paper's schedule, or the velocity of a straight path from data to noise."""


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")


@dataclass(frozen=True, kw_only=True)
class DiTConfig(JsonConfig):
    """Reducio-DiT. The defaults are DiT-XL/1 at 256 pixels (Sec. 3.2)."""

    architecture: ClassVar[str] = "dit"

    depth: int = 28
    """Transformer blocks."""
    width: int = 1152
    """Channels of a token, a multiple of ``4 * heads``, and of 3 (height, width and their ratio share them)."""
    heads: int = 16
    """Heads of every attention."""
    mlp_ratio: int = 4
    """Hidden channels of the MLP over ``width``."""
    attention: AttentionKind = "joint"
    """``joint`` sees all positions at once, ``factorised`` the positions of a time, then the times of a position."""
    latent_channels: int = 16
    """Channels z of the codec's latent."""
    temporal_compression_ratio: int = 4
    """The codec's f_t: a clip's latent has 16 / f_t positions in time."""
    spatial_compression_ratio: int = 32
    """The codec's f_s: pixels for each position of the latent along a side."""
    patch_time: int = 1
    """Latent positions in time that make one token (Tab. 7)."""
    patch_space: int = 1
    """Latent positions along a side that make one token (Tab. 7)."""
    sample_size: int = 256
    """Side in pixels of the square that this model was trained for; other shapes have about its area."""
    embeddings: EmbeddingKind = "pixart"
    """How places, times and sizes are told. A model knows the way that it was trained with, and no other."""
    place_reach: int = 16
    """Places count from 0 to this along a side, whatever its size: 16 in PixArt-alpha's weights for 256 pixels, 32 in those
    for 512 and 1024."""
    image_condition: ImageCondition = "both"
    """Semantic tokens, content tokens, or both."""
    text_channels: int = 4096
    """Channels of the text encoder's tokens (Flan-T5-XXL: 4096). 0: the model takes no text."""
    text_tokens: int = 120
    """Longest prompt in tokens."""
    semantic_channels: int = 1280
    """Channels of the image encoder's tokens (OpenCLIP ViT-H: 1280). Without a meaning for ``content`` alone."""
    content: ContentKind = "sd"
    """The content encoder. Without a meaning for ``semantic`` alone."""
    content_base: int = 128
    """Channels of the content encoder at full resolution, a multiple of 32. Without a meaning for ``alexnet``."""
    content_at: ContentAt = "attention"
    """How content reaches the latent. At their ``place``, blocks have no cross-attention: for models that are told nothing
    else in tokens."""
    content_groups: Literal[1, 4] = 1
    """4: the grid of content tokens is divided into 4 interleaved ones that layers take in turn (Fig. 11)."""
    motion_unit: float = 0.0
    """Mean flow in pixels of clips that ``motion=1`` asks for; 0: the model takes neither motion nor camera."""
    motion_quantiles: tuple[float, ...] = ()
    """Motion of clips at equally spaced probabilities from 0 to 1: of the calmer nine tenths of those that it learned from, as
    fast as they were filmed. Where a user says nothing of it, it is drawn from these, see ``motions``; empty: whatever the
    picture makes likely."""
    goes_on: bool = False
    """Whether parts of a clip's latent can be given, as when it goes on after another."""
    objective: Objective = "noise"
    """What the network predicts."""
    condition_dropout: float = 0.1
    """Probability, in training, that a clip's text is left out, and apart from it that its picture is (Sec. 4.1)."""
    control_dropout: float = 0.5
    """Probability, in training, that a clip's motion isn't told, and apart from it that its camera isn't: most users give
    neither. Without a meaning where ``motion_unit`` is 0."""
    default_steps: int = DEFAULT_STEPS
    """Steps of the sampler unless a user says otherwise."""
    default_guidance: float = DEFAULT_GUIDANCE
    """Guidance unless a user says otherwise."""
    shift: float = 1.0
    """Steps of the sampler where there is much noise, over those where there is little; 1: equal steps. Flow matching only."""
    channel_gain: tuple[float, ...] = ()
    """What each channel of a generated latent is multiplied by before it is decoded. Empty: nothing."""
    distilled_steps: int = 0
    """Steps of the sampler that this student was distilled for, and the only number it knows. 0: not distilled."""
    distilled_guidance: float = 1.0
    """Guidance that a student's predictions have inside; 1: none."""
    codec: str = ""
    """The codec this model was trained with: a bundled name, or ``org/name``. Empty: a user must name it."""
    latent_space: str = ""
    """Identity of that codec's latent space; see ``codec_match.py``. Empty: random weights, which fit any codec."""

    def __post_init__(self) -> None:
        for name in (
            "depth",
            "width",
            "heads",
            "mlp_ratio",
            "latent_channels",
            "patch_time",
            "patch_space",
            "place_reach",
        ):
            check_count(getattr(self, name), name=name, least=1)
        if self.depth > MAX_DEPTH:
            raise InputError(f"depth is {self.depth}; it must be at most {MAX_DEPTH}")
        for name in ("text_channels", "text_tokens", "semantic_channels"):
            check_count(getattr(self, name), name=name, least=0)
        for name, kind in (
            ("attention", AttentionKind),
            ("image_condition", ImageCondition),
            ("content", ContentKind),
            ("objective", Objective),
            ("embeddings", EmbeddingKind),
            ("content_at", ContentAt),
        ):
            _one_of(name, getattr(self, name), get_args(kind))
        _one_of("content_groups", self.content_groups, (1, 4))
        _one_of("temporal_compression_ratio", self.temporal_compression_ratio, (1, 2, 4, 8, 16))
        _one_of("spatial_compression_ratio", self.spatial_compression_ratio, (16, 32, 64))
        if self.width % (4 * self.heads):
            raise InputError(
                f"width is {self.width}; with {self.heads} heads it must be a multiple of {4 * self.heads}"
            )
        if self.embeddings == "pixart" and self.width % 3:
            raise InputError(f"width is {self.width}; with embeddings 'pixart' it must be a multiple of 3")
        if self.embeddings == "first" and self.place_reach != 16:
            raise InputError(f"place_reach is {self.place_reach}; with embeddings 'first' it has no effect")
        if self.content_base < 32 or self.content_base % 32:
            raise InputError(f"content_base is {self.content_base}; it must be a positive multiple of 32")
        if self.latent_frames % self.patch_time:
            raise InputError(f"patch_time is {self.patch_time}; it must divide {self.latent_frames} latent frames")
        if self.sample_size < self.pixel_multiple or self.sample_size % self.pixel_multiple:
            raise InputError(f"sample_size is {self.sample_size}; it must be a multiple of {self.pixel_multiple}")
        if not 0 <= self.condition_dropout < 1:
            raise InputError(f"condition_dropout is {self.condition_dropout}; it must be in [0, 1)")
        self._check_place()
        self._check_controls()
        self._check_sampling()
        check_count(self.distilled_steps, name="distilled_steps", least=0)
        if self.distilled_steps and self.objective != "flow":
            raise InputError(f"distilled_steps is {self.distilled_steps}; objective is 'noise', it must be 'flow'")
        check_amount(self.distilled_guidance, name="distilled_guidance")
        if self.distilled_guidance != 1 and not self.distilled_steps:
            raise InputError(
                f"distilled_guidance is {self.distilled_guidance}, but distilled_steps is 0: not distilled"
            )
        if self.uses_semantic and not self.semantic_channels:
            raise InputError(f"semantic_channels is 0, but image_condition {self.image_condition!r} needs such tokens")
        if self.text_channels and not self.text_tokens:
            raise InputError("text_tokens is 0; a model that takes text needs at least 1")

    def _check_place(self) -> None:
        if self.content_at == "place":
            if self.image_condition != "content" or self.text_channels:
                raise InputError(
                    f"content_at is 'place'; image_condition is {self.image_condition!r} and text_channels "
                    f"{self.text_channels}: they must be 'content' and 0, since blocks have no cross-attention then"
                )
            if self.content_groups != 1:
                raise InputError(f"content_groups is {self.content_groups}; with content_at 'place' it must be 1")
        if self.content == "alexnet" and self.content_base != 128:
            raise InputError(f"content_base is {self.content_base}; with content 'alexnet' it has no effect")

    def _check_controls(self) -> None:
        check_amount(self.motion_unit, name="motion_unit")
        if not 0 <= self.control_dropout < 1:
            raise InputError(f"control_dropout is {self.control_dropout}; it must be in [0, 1)")
        self._check_quantiles()
        if not self.motion_unit and self.control_dropout != DiTConfig.control_dropout:
            raise InputError(f"control_dropout is {self.control_dropout}, but motion_unit is 0; it has no effect")

    def _check_quantiles(self) -> None:
        found = self.motion_quantiles
        if not found:
            return
        named = f"motion_quantiles is {found!r}"
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in found)
        if (
            not numbers
            or len(found) < 2
            or not all(0 <= value <= MOST_MOTION for value in found)
            or sorted(found) != [*found]
        ):
            raise InputError(f"{named}; allowed: two numbers or more from 0 to {MOST_MOTION:g}, in ascending order")
        if not self.motion_unit:
            raise InputError(f"{named}, but motion_unit is 0; it has no effect")

    def _check_sampling(self) -> None:
        check_count(self.default_steps, name="default_steps", least=1)
        check_amount(self.default_guidance, name="default_guidance")
        if not 0 < self.shift < float("inf"):
            raise InputError(f"shift is {self.shift}; it must be a number above 0")
        if self.shift != 1 and (self.objective != "flow" or self.distilled_steps):
            raise InputError(f"shift is {self.shift}; it must be 1 unless objective is 'flow' and distilled_steps 0")
        if self.channel_gain and len(self.channel_gain) != self.latent_channels:
            raise InputError(
                f"channel_gain has {len(self.channel_gain)} numbers; it must be empty, or have {self.latent_channels}"
            )
        for gain in self.channel_gain:
            if type(gain) not in (int, float) or not abs(gain) < float("inf"):
                raise InputError(f"channel_gain has {gain!r:.40}; it must be numbers")

    def sampling_steps(self, steps: int | None) -> int:
        """``steps``, or where it is None what the model was made for. InputError for what it can't."""
        if steps is None:
            return self.distilled_steps or self.default_steps
        steps = check_count(steps, name="steps", least=1)
        if self.distilled_steps and steps != self.distilled_steps:
            raise InputError(
                f"steps is {steps}; this model was distilled for {self.distilled_steps} and no other number"
            )
        return steps

    def sampling_guidance(self, guidance: float | None) -> float:
        """``guidance``, or where it is None the default. InputError for what the model can't."""
        if guidance is None:
            return 1.0 if self.distilled_steps else self.default_guidance
        check_amount(guidance, name="guidance")
        if self.distilled_steps and guidance != 1:
            raise InputError(
                f"guidance is {guidance}; this model was distilled with guidance {self.distilled_guidance} inside, "
                "so it must be left out, or 1"
            )
        return guidance

    def check_guidance_of(self, guidance_of: str, *, guidance: float, text: bool) -> GuidanceOf:
        """``guidance_of``, if it is known and has an effect where there is ``text`` or none. InputError otherwise."""
        _one_of("guidance_of", guidance_of, get_args(GuidanceOf))
        if guidance_of == "all":
            return "all"
        if guidance == 1 or not text or not self.text_channels:
            why = "guidance is 1: none" if guidance == 1 else "the model is told no text"
            raise InputError(f"guidance_of is {guidance_of!r}, but {why}; it has no effect")
        return "text"

    @property
    def latent_frames(self) -> int:
        """Positions of a clip's latent in time."""
        return CLIP_LENGTH // self.temporal_compression_ratio

    @property
    def pixel_multiple(self) -> int:
        """Sides of a padded picture are multiples of this."""
        return max(PIXEL_MULTIPLE, self.spatial_compression_ratio * self.patch_space)

    @property
    def uses_semantic(self) -> bool:
        return self.image_condition != "content"

    @property
    def uses_content(self) -> bool:
        return self.image_condition != "semantic"


PRESETS: dict[str, DiTConfig] = {
    "256": DiTConfig(),
    "512": DiTConfig(sample_size=512),
    "1024": DiTConfig(sample_size=1024, content_groups=4),
    # small enough for float16 in the package (23 M parameters) and for training on two cores: no text, no pretrained encoder,
    # and one token for all times of a place, which makes a step three times faster than a token for each time
    "lite": DiTConfig(
        depth=8,
        width=384,
        heads=6,
        patch_time=4,
        image_condition="content",
        text_channels=0,
        text_tokens=0,
        semantic_channels=0,
        content="conv",
        content_base=32,
        objective="flow",
        codec="reducio-lite",
    ),
    # what is in a picture is learned from photographs, not from a few hundred videos, and reaches the token at its place: half
    # of the work of "lite" for a step, and no attention to content
    "small": DiTConfig(
        depth=7,
        width=336,
        heads=6,
        patch_time=4,
        image_condition="content",
        text_channels=0,
        text_tokens=0,
        semantic_channels=0,
        content="alexnet",
        content_at="place",
        motion_unit=5.0,
        goes_on=True,
        default_steps=4,
        default_guidance=1.0,
        channel_gain=(1.0,) * 12 + (0.0,) * 4,  # what is added to moved pixels makes smudges when it is guessed
        objective="flow",
        codec="reducio-lite",
    ),
}
"""Configurations with a name: the paper's three training stages, and the small models."""


def preset(name: str, **changes: object) -> DiTConfig:
    """The configuration of that name, with some of its values replaced."""
    if name not in PRESETS:
        raise InputError(f"preset is {name!r}; allowed: {', '.join(PRESETS)}")
    try:
        return replace(PRESETS[name], **changes)  # type: ignore[arg-type]
    except TypeError as error:
        raise InputError(f"preset {name!r}: {error}") from error
