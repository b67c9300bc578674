"""Everything that decides a transformer's training run; sections as in a codec's recipe (``reducio_codec.train``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from reducio_codec.errors import InputError
from reducio_codec.generate.config import PRESETS, DiTConfig
from reducio_codec.generate.extract.options import ExtractOptions
from reducio_codec.training.options import OptimizerOptions, RunOptions, StoredType, check, check_idle
from reducio_codec.training.recipe_file import bundled_recipes, read_document, section_values

PACKAGE = "reducio_codec.generate.train"


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """Which samples of the shards a model sees."""

    batch: int = 16
    """Clips a process sees at once; a step has batch x run.accumulate x processes. All are of one size."""
    motion_power: float = 0.5
    """Clips are drawn by their motion over the median to this power, motion limited to 1/9 to 9 medians; 0: equally."""
    storage: Literal["memory", "disk"] = "memory"
    """Where samples are: all in memory, key pictures decoded, or in their shards, read and decoded at each use."""
    workers: int = 0
    """Processes that read samples; 0 reads them in the training process (storage memory needs 0)."""

    def __post_init__(self) -> None:
        check("data.batch", self.batch, self.batch >= 1, "at least 1")
        check("data.motion_power", self.motion_power, 0 <= self.motion_power <= 4, "in 0 to 4")
        check("data.workers", self.workers, self.workers >= 0, "0 or more")
        if self.storage == "memory":
            check("data.workers", self.workers, self.workers == 0, "0 with data.storage 'memory'")


@dataclass(frozen=True, kw_only=True)
class DenoisingOptions:
    """The objective; what the network predicts is model.objective."""

    timesteps: Literal["uniform", "logit-normal"] = "uniform"
    """How time steps are drawn; logit-normal draws more from the middle (flow matching only)."""
    weighting: Literal["plain", "min-snr"] = "plain"
    """plain: all time steps count the same; min-snr: those with little noise count less (noise prediction only)."""
    channels: Literal["equal", "pixels"] = "equal"
    """equal: all channels of the latent count the same; pixels: by how much they change the picture (codecs of lite)."""
    min_snr: float = 5.0
    """Signal-to-noise ratio from which on min-snr reduces the weight."""

    teacher_steps: int = 2
    """For a student: midpoint steps of its teacher (two evaluations each) for each of its own."""
    teacher_batches: int = 300
    """For a student: how many different batches there are; after them the first comes again, with the same noise."""

    def __post_init__(self) -> None:
        check("loss.min_snr", self.min_snr, self.min_snr > 0, "above 0")
        check("loss.teacher_steps", self.teacher_steps, self.teacher_steps >= 1, "at least 1")
        check("loss.teacher_batches", self.teacher_batches, self.teacher_batches >= 1, "at least 1")


@dataclass(frozen=True, kw_only=True)
class DitStartOptions:
    """The weights at step 0."""

    weights: str = ""
    """A transformer's bundled name or folder, or the output folder of a run (the stage before this one). What has another
    shape isn't taken, and named."""
    teacher: str = ""
    """For a student (model.distilled_steps): the trained transformer that it learns from and starts as, a bundled name, a
    folder, or the output folder of its run."""
    pixart: str = ""
    """Folder of a PixArt-alpha transformer (or of a whole pipeline) in diffusers' layout."""
    image_vae: str = ""
    """Folder of an image VAE in diffusers' layout, for the content encoder (model.content 'sd')."""

    def __post_init__(self) -> None:
        if self.teacher and (self.weights or self.pixart or self.image_vae):
            raise InputError(
                f"start.teacher is {self.teacher!r}; start.weights, start.pixart and start.image_vae can't go with it"
            )
        if self.weights and (self.pixart or self.image_vae):
            raise InputError(f"start.weights is {self.weights!r}; start.pixart and start.image_vae can't go with it")


@dataclass(frozen=True, kw_only=True)
class DitValidationOptions:
    """What a validation measures: the loss at fixed noise and time steps, and on a few pictures the generated motion."""

    samples: int = 128
    """At most so many samples, evenly spread, for the loss."""
    clips: int = 4
    """Clips that are generated for the strip, and for their motion over the real clips'; 0: none."""
    steps: int = 20
    """Of the sampler."""
    guidance: float = 2.5
    """Of these clips."""

    def __post_init__(self) -> None:
        check("validation.samples", self.samples, self.samples >= 1, "at least 1")
        check("validation.clips", self.clips, self.clips >= 0, "0 or more")
        check("validation.steps", self.steps, self.steps >= 1, "at least 1")
        check("validation.guidance", self.guidance, self.guidance >= 0, "0 or more")


@dataclass(frozen=True, kw_only=True)
class DitExportOptions:
    """The model folder at the end, OUT/model."""

    name: str = ""
    """Its name in the card; empty: that of the run's folder."""
    licence: str = "unknown"
    """SPDX name in the card."""
    dtype: StoredType = "float16"
    """What weights are stored as."""


@dataclass(frozen=True, kw_only=True)
class DitRecipe:
    """A whole run. Read one with ``read_dit_recipe``."""

    model: DiTConfig
    """preset ("256", "512", "1024", "lite" or "small") and what differs from it."""
    run: RunOptions
    extract: ExtractOptions = field(default_factory=ExtractOptions)
    data: BatchOptions = field(default_factory=BatchOptions)
    loss: DenoisingOptions = field(default_factory=DenoisingOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    start: DitStartOptions = field(default_factory=DitStartOptions)
    validation: DitValidationOptions = field(default_factory=DitValidationOptions)
    export: DitExportOptions = field(default_factory=DitExportOptions)

    def __post_init__(self) -> None:
        objective = self.model.objective
        if self.loss.weighting == "min-snr" and objective != "noise":
            raise InputError(f"loss.weighting is 'min-snr'; model.objective {objective!r} has no such weights")
        if self.loss.timesteps == "logit-normal" and objective != "flow":
            raise InputError(f"loss.timesteps is 'logit-normal'; model.objective {objective!r} has whole steps")
        if self.model.distilled_steps:
            self._check_student()
        elif self.start.teacher:
            raise InputError(f"start.teacher is {self.start.teacher!r}, but model.distilled_steps is 0: not a student")
        else:
            names = ("teacher_steps", "teacher_batches")
            check_idle("loss", self.loss, names, why="model.distilled_steps is 0: this is no student")
            if not self.validation.clips:
                why = "validation.clips is 0: none is generated"
                check_idle("validation", self.validation, ("steps", "guidance"), why=why)
        if self.loss.weighting == "plain":
            check_idle("loss", self.loss, ("min_snr",), why="loss.weighting is 'plain'")
        if self.start.image_vae and self.model.content != "sd":
            raise InputError(f"start.image_vae is given; model.content is {self.model.content!r}, it must be 'sd'")
        if self.model.latent_space:
            raise InputError("model.latent_space is given; it is that of the shards")
        if self.extract.size != self.model.sample_size:
            raise InputError(
                f"extract.size is {self.extract.size} and model.sample_size {self.model.sample_size}; they must be equal"
            )

    def _check_student(self) -> None:
        if self.loss.timesteps != "uniform":
            raise InputError(f"loss.timesteps is {self.loss.timesteps!r}; a student has its own steps: 'uniform'")
        check_idle("loss", self.loss, ("channels",), why="model.distilled_steps says that this is a student")
        steps, guidance = self.validation.steps, self.validation.guidance
        needed = self.model.distilled_steps
        check("validation.steps", steps, steps == needed, f"{needed}, model.distilled_steps")
        check("validation.guidance", guidance, guidance == 1, "1: a student has it inside")

    def to_document(self) -> dict[str, Any]:
        """Plain values of what a run depends on; its samples are made already."""
        return {name: value for name, value in asdict(self).items() if name != "extract"}


def dit_recipes() -> list[str]:
    """Names of the recipes that ship inside the package."""
    return bundled_recipes(PACKAGE)


def read_dit_recipe(name_or_path: str | Path, *, changes: Sequence[str] = ()) -> DitRecipe:
    """A recipe by bundled name or file; see ``recipe_file.read_document``."""
    return build_dit_recipe(read_document(name_or_path, changes=changes, package=PACKAGE))


def build_dit_recipe(document: Mapping[str, Any]) -> DitRecipe:
    """A recipe from plain values, as TOML or JSON give them."""
    values = dict(document)
    model = values.pop("model", None)
    if not isinstance(model, Mapping) or model.get("preset") not in PRESETS:
        raise InputError(f"[model] must name a preset: {', '.join(map(repr, PRESETS))}")
    changes = {key: value for key, value in model.items() if key != "preset"}
    base = asdict(PRESETS[model["preset"]])
    config = DiTConfig(**{**base, **section_values(DiTConfig, changes, "model")})
    _check_idle_model(config, changes)
    if "run" not in values:
        raise InputError("the recipe has no [run]; it must say how long: steps or minutes")
    return DitRecipe(model=config, **section_values(DitRecipe, values, ""))


def _check_idle_model(config: DiTConfig, changes: Mapping[str, Any]) -> None:
    """Refuse changes of what the model hasn't got."""
    missing: dict[str, tuple[bool, tuple[str, ...]]] = {
        "model.text_channels is 0: it takes no text": (not config.text_channels, ("text_tokens",)),
        "model.image_condition is 'content'": (not config.uses_semantic, ("semantic_channels",)),
        "model.image_condition is 'semantic'": (
            not config.uses_content,
            ("content", "content_base", "content_groups"),
        ),
    }
    for why, (lacks, names) in missing.items():
        for name in names:
            if lacks and changes.get(name, 0):
                raise InputError(f"model.{name} is {changes[name]!r}, but {why}; it has no effect")
