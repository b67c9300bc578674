"""The sections of a codec's recipe, each option documented where it is declared.

The attribute docstrings are what ``reducio-codec train --options`` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from reducio_codec.config import PIXEL_MULTIPLE
from reducio_codec.errors import InputError
from reducio_codec.training.options import StoredType, check, check_idle

Reconstruction = Literal["l1", "charbonnier", "log-l1", "log-l2"]
Perceptual = Literal["none", "haar", "ms-ssim", "lpips"]


def _is_range(value: tuple[float, ...], least: float, most: float) -> bool:
    return len(value) == 2 and least <= value[0] <= value[1] <= most


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which clips a model sees."""

    frame_rate: float = 16.0
    """Frames per second: faster videos are thinned to it by their time stamps, slower ones stay. 0 takes every frame."""
    frame_steps: tuple[int, ...] = (1,)
    """Distances between the frames of a clip, one drawn for each clip; a step that doesn't fit into a scene isn't used."""
    frame_step_weights: tuple[float, ...] = ()
    """How often each of frame_steps is drawn; empty: equally often."""
    crop: Literal["zoom", "area"] = "zoom"
    """What crop_range counts: sides of the crop over the training side, or the crop's share of the picture's area."""
    crop_range: tuple[float, ...] = (0.95, 1.6)
    """Smallest and largest crop, before it is resized to the training side."""
    crop_aspect: tuple[float, ...] = (1.0, 1.0)
    """Least and largest width over height of a crop."""
    flip: float = 0.5
    """Share of the clips that are mirrored left to right."""
    reverse: float = 0.5
    """Share of the clips that are played backwards."""
    motion_power: float = 0.5
    """Clips are drawn by their motion over the median to this power, motion limited to 1/9 to 9 medians; 0: equally."""
    find_cuts: bool = True
    """Look for scene cuts, which no clip crosses."""
    storage: Literal["stream", "disk", "memory", "device"] = "disk"
    """Where decoded frames are: nowhere (decoded again for each clip), in a cache on disk, in memory, on the device."""
    stored_side: int = 288
    """Decoded frames are kept with their shorter side reduced to this many pixels; 0 keeps every size. Not for stream."""
    workers: int = 2
    """Processes that prepare clips; 0 prepares them in the training process (storage device needs 0)."""

    def __post_init__(self) -> None:
        check(
            "data.frame_rate", self.frame_rate, self.frame_rate == 0 or self.frame_rate >= 1e-3, "0, or 0.001 or more"
        )
        steps = self.frame_steps
        check("data.frame_steps", steps, bool(steps) and all(step >= 1 for step in steps), "numbers of 1 or more")
        weights = self.frame_step_weights
        fits = not weights or (len(weights) == len(steps) and min(weights) >= 0 and sum(weights) > 0)
        check("data.frame_step_weights", weights, fits, f"empty or {len(steps)} numbers of 0 or more, not all 0")
        if len(steps) == 1:
            check_idle("data", self, ("frame_step_weights",), why=f"data.frame_steps is {steps}: nothing is drawn")
        most = 1.0 if self.crop == "area" else 64.0
        check("data.crop_range", self.crop_range, _is_range(self.crop_range, 0.01, most), f"two numbers up to {most:g}")
        check("data.crop_aspect", self.crop_aspect, _is_range(self.crop_aspect, 0.25, 4), "two numbers in 0.25 to 4")
        for name in ("flip", "reverse"):
            check(f"data.{name}", getattr(self, name), 0 <= getattr(self, name) <= 1, "in 0 to 1")
        check("data.motion_power", self.motion_power, 0 <= self.motion_power <= 4, "in 0 to 4")
        check("data.stored_side", self.stored_side, self.stored_side == 0 or self.stored_side >= 32, "0, or 32 or more")
        check("data.workers", self.workers, self.workers >= 0, "0 or more")
        if self.storage == "stream":
            check_idle("data", self, ("stored_side",), why="data.storage is 'stream': nothing is stored")
        if self.storage == "device":
            check(
                "data.workers", self.workers, self.workers == 0, "0 with data.storage 'device': other processes can't"
            )


@dataclass(frozen=True, kw_only=True)
class KeyframeOptions:
    """The key frame that encoder and decoder get."""

    coded: float = 0.0
    """Share of the clips whose key frame went through a picture codec."""
    codec: Literal["avif", "webp", "jpeg"] = "avif"
    """That picture codec."""
    quality: tuple[int, ...] = (20, 90)
    """Lowest and highest quality of a coded key frame, drawn evenly."""
    dropout: float = 0.0
    """Share of the clips whose key frame is replaced by grey."""
    neighbours: bool = False
    """Give decoders that use them the key frames of the clips before and after, coded alike. Clips whose scene has neither
    aren't drawn."""
    neighbour_dropout: float = 0.0
    """Share of those key frames that are withheld."""

    def __post_init__(self) -> None:
        for name in ("coded", "dropout", "neighbour_dropout"):
            check(f"keyframe.{name}", getattr(self, name), 0 <= getattr(self, name) <= 1, "in 0 to 1")
        check("keyframe.quality", self.quality, _is_range(self.quality, 0, 100), "two numbers in 0 to 100")
        if not self.coded:
            check_idle("keyframe", self, ("codec", "quality"), why="keyframe.coded is 0: none is coded")
        if not self.neighbours:
            check_idle("keyframe", self, ("neighbour_dropout",), why="keyframe.neighbours is false")


@dataclass(frozen=True, kw_only=True)
class LatentOptions:
    """What happens to the latent between encoder and decoder."""

    sample: bool = True
    """Draw it from the posterior, as in a VAE; otherwise its mode is taken."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on the normalised latent."""
    quantize: tuple[float, ...] = ()
    """Least and largest latent_step of the uniform noise that stands for quantisation, drawn log-evenly; empty: none."""
    unquantized: float = 0.2
    """Share of the clips without that noise."""

    def __post_init__(self) -> None:
        check("latent.noise", self.noise, 0 <= self.noise <= 10, "in 0 to 10")
        good = not self.quantize or _is_range(self.quantize, 1 / 64, 16)
        check("latent.quantize", self.quantize, good, "empty, or two numbers in 1/64 to 16")
        check("latent.unquantized", self.unquantized, 0 <= self.unquantized <= 1, "in 0 to 1")
        if not self.quantize:
            check_idle("latent", self, ("unquantized",), why="latent.quantize is empty")


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """The objective; stages can change part of it."""

    reconstruction: Reconstruction = "l1"
    """Mean absolute error, its Charbonnier form, or the log of each clip's mean absolute or squared error: with the log
    every clip counts the same, as in a mean of PSNRs."""
    skip_keyframe: bool = False
    """Leave the key frame out of the reconstruction loss: decoders that copy it can't learn from it."""
    kl: float = 1e-6
    """Weight of the KL divergence, summed over a clip's latent (reducio.md: 1e-6)."""
    rate: float = 0.0
    """Weight of the estimated bits for each value of the latent."""
    perceptual: Perceptual = "none"
    """none, haar (high frequencies), ms-ssim, or lpips (VGG; `reducio-codec convert-lpips --help` says how to get it)."""
    perceptual_weight: float = 0.1
    """Weight of the perceptual loss."""
    lpips_trunk: str = ""
    """torchvision's vgg16-397923af.pth; empty: looked for in torch's cache."""
    outliers: float = 0.0
    """Weight of a penalty for values more than three standard deviations above a frame's mean; the published code has
    1.0, the paper doesn't mention it."""

    def __post_init__(self) -> None:
        for name in ("kl", "rate", "perceptual_weight", "outliers"):
            check(f"loss.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")


@dataclass(frozen=True, kw_only=True)
class GanOptions:
    """The discriminator (3-D PatchGAN, hinge loss) and its own optimiser."""

    weight: float = 0.0
    """Weight of the adversarial loss, times the adaptive weight; 0: no discriminator. The published code has 0.05."""
    start: int = 10001
    """Step from which on both its losses count."""
    channels: int = 64
    """Channels of the first layer."""
    learning_rate: float = 2e-6
    """Learning rate of its Adam."""
    betas: tuple[float, ...] = (0.5, 0.9)
    """Betas of its Adam."""
    clip_norm: float = 0.0
    """Largest norm of its gradient; 0: not limited."""
    slow_steps: int = 5000
    """Steps with a tenth of its learning rate, before it rises to the whole within ramp_steps."""
    ramp_steps: int = 1000
    """Steps in which its learning rate rises."""

    def __post_init__(self) -> None:
        for name in ("weight", "start", "clip_norm", "slow_steps", "ramp_steps"):
            check(f"gan.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")
        check("gan.channels", self.channels, self.channels >= 4, "4 or more")
        check("gan.learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        check(
            "gan.betas", self.betas, len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two in [0, 1)"
        )
        if not self.weight:
            others = tuple(field.name for field in fields(self) if field.name != "weight")
            check_idle("gan", self, others, why="gan.weight is 0: there is no discriminator")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the run. Stages follow one another; the last goes to the end."""

    until: float = 1.0
    """Share of the run at which the stage ends."""
    side: int = 256
    """Side of the clips in pixels."""
    batch: int = 4
    """Clips a process sees at once; a step has batch x run.accumulate x processes."""
    reconstruction: Reconstruction | Literal[""] = ""
    """Replaces loss.reconstruction."""
    perceptual: Perceptual | Literal[""] = ""
    """Replaces loss.perceptual."""
    quantize: bool = True
    """Whether latent.quantize is in force."""

    def __post_init__(self) -> None:
        check("stages.until", self.until, 0 < self.until <= 1, "above 0, at most 1")
        good = self.side >= PIXEL_MULTIPLE and self.side % PIXEL_MULTIPLE == 0
        check("stages.side", self.side, good, f"a multiple of {PIXEL_MULTIPLE}")
        check("stages.batch", self.batch, self.batch >= 1, "at least 1")


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """The weights at step 0."""

    weights: str = ""
    """A model to start from: a bundled name, a model folder, or the output folder of a run. Decoders that it hasn't got
    start afresh."""
    flow: bool = False
    """Start lite's linear route of motion from principal components of searched flow."""
    flow_clips: int = 288
    """Training clips the components are found from."""
    flow_channels: int = 12
    """Channels of the latent they fill."""
    flow_pixel_step: float = 1.5
    """Quantiser step of a component of flow in pixels, at latent_step 0.5."""
    image_vae: str = ""
    """Folder of an image VAE (Stable Diffusion's, diffusers' layout) to start the content encoder from, and the motion
    encoder's first levels with its kernels in the middle of time."""

    def __post_init__(self) -> None:
        check("start.flow_clips", self.flow_clips, self.flow_clips >= 1, "at least 1")
        check("start.flow_channels", self.flow_channels, 1 <= self.flow_channels <= 16, "in 1 to 16")
        check("start.flow_pixel_step", self.flow_pixel_step, self.flow_pixel_step > 0, "above 0")
        if not self.flow:
            names = ("flow_clips", "flow_channels", "flow_pixel_step")
            check_idle("start", self, names, why="start.flow is false")
        if self.weights and (self.flow or self.image_vae):
            raise InputError(f"start.weights is {self.weights!r}; start.flow and start.image_vae can't go with it")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Which parts learn."""

    decoders: tuple[str, ...] = ()
    """Decoders that are trained; empty: all of the model's. What all decoders share (the paper's content encoder; lite's
    linear code, trunk and mending of references) learns only when all of them are trained."""
    freeze: tuple[Literal["encoder", "content"], ...] = ()
    """Parts that don't learn: encoder (everything that makes the latent), content (the paper's content encoder)."""
    take_turns: bool = False
    """Train one decoder a step, in turns, rather than all of them at every step."""


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """What a validation measures: PSNR pooled over the 15 frames that aren't the key frame, against repeating it."""

    side: int = 256
    """The shorter side is resized to this, then the centre is cropped."""
    clips: int = 64
    """At most so many clips, evenly spread over the videos."""

    def __post_init__(self) -> None:
        good = self.side >= PIXEL_MULTIPLE and self.side % PIXEL_MULTIPLE == 0
        check("validation.side", self.side, good, f"a multiple of {PIXEL_MULTIPLE}")
        check("validation.clips", self.clips, self.clips >= 1, "at least 1")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The model folder at the end, OUT/model."""

    name: str = ""
    """Its name in the card; empty: that of the run's folder."""
    licence: str = "unknown"
    """SPDX name in the card."""
    dtype: StoredType = "float16"
    """What weights are stored as."""
    table_clips: int = 48
    """Training clips the latent coder's tables are fitted to; 0: no tables, files get larger."""

    def __post_init__(self) -> None:
        check("export.table_clips", self.table_clips, self.table_clips >= 0, "0 or more")
