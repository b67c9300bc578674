"""What a model and a codec are made of: frozen dataclasses, checked when they are built, JSON both ways."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

from reducio_codec.errors import InputError

CLIP_LENGTH = 16
"""Frames in a clip. The reference bakes it into its weights (time embeddings), so it is one constant everywhere."""

DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}
"""Names that every ``dtype`` argument and option takes, and torch's own. Here, so that a command's help needn't import torch."""

HEADS = 8
"""Heads of self-attention, 64 channels each at 512. (The image VAE that the paper starts from has one head.)"""

MAX_DEPTH = 64
"""Blocks of a level, or of a transformer, that a configuration may ask for."""

MAX_WIDTH = 1 << 16
"""The largest whole number in a configuration from outside, and the most channels."""

_LONGEST = 300
"""Characters of a value in a configuration from outside, so that a message can quote it."""

PIXEL_MULTIPLE = 32
"""Sides are padded to a multiple of this before a model sees them (Sec. 3.1: spatial factor 32)."""


Choice = TypeVar("Choice")


def check_choice(value: Choice, *, name: str, allowed: Collection[object]) -> Choice:
    """``value``, which must be one of a few."""
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")
    return value


def check_whole(value: Any, *, name: str, most: int, least: int = 0) -> int:
    """``value``, which must be a whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} is {value!r}; allowed: {least} to {most}, a whole number")
    return value


def check_count(value: Any, *, name: str, least: int) -> int:
    """``value``, which must be a whole number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} is {value!r}; it must be a whole number")
    if value < least:
        raise InputError(f"{name} is {value}; it must be at least {least}")
    return int(value)


def check_amount(value: Any, *, name: str) -> float:
    """``value``, which must be a number of 0 or more, and no infinite one."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
        raise InputError(f"{name} is {value!r}; it must be a number of 0 or more")
    return float(value)


def attribute_docs(cls: type[Any]) -> dict[str, str]:
    """The docstring below each field of a dataclass, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                docs[statement.target.id] = " ".join(text.value.split())
    return docs


@dataclass(frozen=True, kw_only=True)
class JsonConfig:
    """A dataclass that reads and writes plain JSON values, and refuses keys it doesn't know."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(data) - set(names))
        if unknown:
            raise InputError(f"{cls.__name__}: unknown key {unknown[0]!r:.60}; allowed: {', '.join(names)}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        for field in fields(cls):
            if field.name in values and field.default is not MISSING:
                _check_kind(values[field.name], like=field.default, name=field.name)
        return cls(**values)


def _check_kind(value: Any, *, like: Any, name: str) -> None:
    """InputError unless a number, or each of several, is of the default's kind and of a size that models have."""
    if len(repr(value)) > _LONGEST:
        raise InputError(f"{name} is {value!r:.40}..., {len(repr(value))} characters; at most {_LONGEST} are possible")
    if isinstance(like, tuple) and isinstance(value, tuple):
        for item in value:
            _check_kind(item, like=like[0] if like else None, name=name)
    elif type(like) is int and (type(value) is not int or abs(value) > MAX_WIDTH):
        raise InputError(f"{name} is {value!r:.40}; allowed: whole numbers up to {MAX_WIDTH}")
    elif type(like) is float and type(value) not in (int, float):
        raise InputError(f"{name} is {value!r:.40}; allowed: numbers")


@dataclass(frozen=True, kw_only=True)
class TilingConfig(JsonConfig):
    """How large pictures are cut (Sec. 3.1 and appendix: 256 px tiles, 64 px overlap, linear blending).

    A model may have its own, an attribute ``tiling``.
    """

    tile_size: int = 256
    """Side of a tile in pixels, a multiple of 32. Pictures no larger than this are not cut."""
    tile_overlap: int = 64
    """Pixels that neighbouring tiles share, a multiple of 32, at most half the tile."""
    tile_batch: int = 2
    """Tiles that run through the network together. More is no faster on a CPU, and takes its multiple of memory."""
    tile_threads: int = 1
    """On a CPU, batches of tiles of up to 512 x 512 (or clips of one such tile) that are computed at once, each by its share of
    torch's threads, where there are as many: for small networks, which are faster so. It takes its multiple of memory, too."""
    shrink: bool = False
    """Take smaller tiles where as many of them cover a side: less work, for models that no fixed size was trained into."""

    def __post_init__(self) -> None:
        if self.tile_size < PIXEL_MULTIPLE or self.tile_size % PIXEL_MULTIPLE:
            raise InputError(f"tile_size is {self.tile_size}; it must be a positive multiple of {PIXEL_MULTIPLE}")
        if self.tile_overlap < 0 or self.tile_overlap % PIXEL_MULTIPLE or self.tile_overlap > self.tile_size // 2:
            raise InputError(
                f"tile_overlap is {self.tile_overlap}; it must be a multiple of {PIXEL_MULTIPLE} "
                f"from 0 to {self.tile_size // 2} (half of tile_size {self.tile_size})"
            )
        for name in ("tile_batch", "tile_threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def of_size(self, tile_size: int) -> TilingConfig:
        """The same with tiles of another size, whose overlap is no larger than half of them."""
        return replace(
            self,
            tile_size=tile_size,
            tile_overlap=min(self.tile_overlap, tile_size // 2 // PIXEL_MULTIPLE * PIXEL_MULTIPLE),
        )


@dataclass(frozen=True, kw_only=True)
class LiteConfig(JsonConfig):
    """The bundled small model (``reducio_codec.models.lite.model``): the paper's latent grid at a thousandth of its cost, and
    decoders that all start from the latent's motion."""

    architecture: ClassVar[str] = "lite"
    latent_channels: ClassVar[int] = 16
    temporal_compression_ratio: ClassVar[int] = 4
    spatial_compression_ratio: ClassVar[int] = 32

    channels_4: int = 48
    """Channels of a frame at a quarter of the picture's size."""
    channels_8: int = 80
    """Channels of a frame at an eighth."""
    channels_16: int = 24
    """Channels of a frame that the latent is unfolded to, at a sixteenth."""
    channels_32: int = 192
    """Channels of the whole clip on the latent grid."""
    decoders: tuple[str, ...] = ("attention", "add", "linear", "none")
    """Decoders that share encoder and trunk; the first is the default. ``sharp`` is ``attention`` trained for the eye."""

    def __post_init__(self) -> None:
        for name in ("channels_4", "channels_8", "channels_16", "channels_32"):
            if getattr(self, name) < 4 or getattr(self, name) % 4:
                raise InputError(f"{name} is {getattr(self, name)}; it must be a positive multiple of 4")
        allowed = ("attention", "add", "linear", "none", "sharp")
        if not self.decoders or len(set(self.decoders)) < len(self.decoders) or not set(self.decoders) <= set(allowed):
            raise InputError(
                f"decoders is {self.decoders}; it must name one or more of {', '.join(allowed)}, each once"
            )


FusionName = Literal["attention", "add", "linear", "none"]
"""How a decoder of the paper's model takes in the key frame (Tab. 6)."""

ContentFrame = Literal["middle", "first", "random", "none"]
"""Which frame of a clip is its key frame (Tab. 11)."""


@dataclass(frozen=True, kw_only=True)
class ReducioConfig(JsonConfig):
    """The paper's model (``reducio_codec.models.reducio.vae``). The defaults are the published 4x32x32 model."""

    architecture: ClassVar[str] = "reducio"

    temporal_compression_ratio: int = 4
    """Frames for each position of the latent in time: 1, 2, 4, 8 or 16 (Tab. 4)."""
    spatial_compression_ratio: int = 32
    """Pixels for each position of the latent along a side: 16, 32 or 64 (Tab. 4), or 8 as image VAEs have it."""
    latent_channels: int = 16
    """Channels z of the latent (Tab. 5)."""
    conv: Literal["3d", "2d", "image"] = "3d"
    """Convolutions over time and space, or over space only; the latter can't compress time (Tab. 10). ``image``: every
    frame by itself, norms and attention too, without key frame and latent norm; that is Stable Diffusion's image VAE."""
    content_frame: ContentFrame = "middle"
    """The key frame. With ``none`` there is no content encoder, and only the decoder ``none`` is possible (Tab. 11)."""
    decoders: tuple[FusionName, ...] = ("attention",)
    """Decoders over the one encoder; the first is the default (Tab. 6)."""
    base_channels: int = 128
    """Channels at full resolution, a multiple of ``norm_groups`` and of 8 (Tab. 9)."""
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4, 4, 4)
    """Channels of each level over ``base_channels``: one level more than the picture is halved (Tab. 9)."""
    depth: int = 2
    """Residual blocks of a level; a decoder has twice as many (Tab. 9)."""
    fuse_levels: tuple[int, ...] = (2, 3)
    """Levels i of the decoders that fuse content level i, where maps are H / 2**i (Sec. 3.1: H / 4 and H / 8)."""
    content_channels: int = 128
    """``base_channels`` of the content encoder."""
    content_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    """Multipliers of the content encoder. The paper's table 9 says 1, 2, 2, 4, 4; the published models have these."""
    content_depth: int = 2
    """Residual blocks of a level of the content encoder."""
    norm_groups: int = 32
    """Groups of every group norm. Narrow models need fewer than the published 32: a group of one channel
    is normalised by itself, so that brightness and contrast of a clip can't reach its pixels."""

    def __post_init__(self) -> None:
        check_choice(self.temporal_compression_ratio, name="temporal_compression_ratio", allowed=(1, 2, 4, 8, 16))
        check_choice(self.spatial_compression_ratio, name="spatial_compression_ratio", allowed=(8, 16, 32, 64))
        check_choice(self.conv, name="conv", allowed=("3d", "2d", "image"))
        check_choice(self.content_frame, name="content_frame", allowed=get_args(ContentFrame))
        if self.conv != "3d" and self.temporal_compression_ratio != 1:
            raise InputError(
                f"temporal_compression_ratio is {self.temporal_compression_ratio}; with conv={self.conv!r} it must be 1"
            )
        if self.conv == "image" and self.content_frame != "none":
            raise InputError(f"content_frame is {self.content_frame!r}; with conv='image' it must be 'none'")
        self._check_widths()
        self._check_decoders()

    def _check_widths(self) -> None:
        for name in ("latent_channels", "depth", "content_depth", "norm_groups"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("depth", "content_depth"):
            if getattr(self, name) > MAX_DEPTH:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at most {MAX_DEPTH}")
        unit = math.lcm(self.norm_groups, HEADS)
        for name in ("base_channels", "content_channels"):
            if getattr(self, name) < unit or getattr(self, name) % unit:
                raise InputError(
                    f"{name} is {getattr(self, name)}; it must be a positive multiple of {unit} "
                    f"({self.norm_groups} norm_groups, {HEADS} attention heads)"
                )
        levels = self.spatial_compression_ratio.bit_length()
        if len(self.channel_multipliers) != levels or min(self.channel_multipliers) < 1:
            raise InputError(
                f"channel_multipliers is {self.channel_multipliers}; spatial_compression_ratio "
                f"{self.spatial_compression_ratio} needs {levels} positive numbers"
            )
        if not self.content_multipliers or min(self.content_multipliers) < 1:
            raise InputError(f"content_multipliers is {self.content_multipliers}; it must be positive numbers")
        widest = max(
            self.base_channels * max(self.channel_multipliers), self.content_channels * max(self.content_multipliers)
        )
        if widest > MAX_WIDTH:
            raise InputError(
                f"base_channels and multipliers ask for {widest} channels; at most {MAX_WIDTH} are possible"
            )
        shared = min(levels, len(self.content_multipliers))
        if any(level not in range(shared) for level in self.fuse_levels):
            raise InputError(f"fuse_levels is {self.fuse_levels}; allowed: levels 0 to {shared - 1}")

    def _check_decoders(self) -> None:
        names = get_args(FusionName) if self.content_frame != "none" else ("none",)
        if not self.decoders or len(set(self.decoders)) != len(self.decoders):
            raise InputError(f"decoders is {self.decoders}; it must name one or more, each once: {', '.join(names)}")
        for name in self.decoders:
            check_choice(name, name=f"decoders (content_frame {self.content_frame!r})", allowed=names)

    @property
    def levels(self) -> int:
        """Resolutions of the encoder: the picture is halved ``levels - 1`` times."""
        return len(self.channel_multipliers)

    def halves_time(self, level: int) -> bool:
        """Whether the encoder halves time, too, after this level: it does at the deepest ones."""
        halvings = self.temporal_compression_ratio.bit_length() - 1
        return self.levels - 1 - halvings <= level < self.levels - 1

    def frames_at(self, level: int) -> int:
        """Frames that maps of this level have."""
        return CLIP_LENGTH >> sum(self.halves_time(above) for above in range(level))
