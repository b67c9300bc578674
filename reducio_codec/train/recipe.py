"""Everything that decides a codec's training run, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reducio_codec.config import PIXEL_MULTIPLE, LiteConfig, ReducioConfig
from reducio_codec.errors import InputError
from reducio_codec.models.factory import CONFIGS, describe_decoder, training_of
from reducio_codec.train.options import (
    DataOptions,
    ExportOptions,
    GanOptions,
    KeyframeOptions,
    LatentOptions,
    LossOptions,
    Perceptual,
    Stage,
    StartOptions,
    TrainOptions,
    ValidationOptions,
)
from reducio_codec.training.options import OptimizerOptions, RunOptions, check, check_idle
from reducio_codec.training.recipe_file import build_section, bundled_recipes, read_document, section_values

PACKAGE = "reducio_codec.train"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run. Read one with ``read_recipe``."""

    model: LiteConfig | ReducioConfig
    """architecture ("lite" or "reducio") and the fields of its configuration."""
    run: RunOptions
    data: DataOptions = field(default_factory=DataOptions)
    keyframe: KeyframeOptions = field(default_factory=KeyframeOptions)
    latent: LatentOptions = field(default_factory=LatentOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    gan: GanOptions = field(default_factory=GanOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    stages: tuple[Stage, ...] = (Stage(),)
    start: StartOptions = field(default_factory=StartOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    validation: ValidationOptions = field(default_factory=ValidationOptions)
    export: ExportOptions = field(default_factory=ExportOptions)

    def __post_init__(self) -> None:
        ends = [stage.until for stage in self.stages]
        check("stages.until", ends, bool(ends) and ends == sorted(set(ends)) and ends[-1] == 1, "rising, the last 1.0")
        multiple = max(PIXEL_MULTIPLE, self.model.spatial_compression_ratio)
        for name, sides in (
            ("stages.side", [s.side for s in self.stages]),
            ("validation.side", [self.validation.side]),
        ):
            check(name, sides, all(side % multiple == 0 for side in sides), f"multiples of {multiple} for this model")
        unknown = [name for name in self.train.decoders if name not in self.model.decoders]
        check(
            "train.decoders", self.train.decoders, not unknown, f"among the model's: {', '.join(self.model.decoders)}"
        )
        self._check_combinations()
        self._check_idle()

    def _check_combinations(self) -> None:
        can, kind = training_of(self.model), f"this model ({self.model.architecture})"
        batches = sorted({stage.batch for stage in self.stages})
        if self.run.total_batch and len(batches) > 1:
            raise InputError(
                f"run.total_batch is {self.run.total_batch}, but stages have batches of {', '.join(map(str, batches))}; "
                "give run.accumulate"
            )
        for way, wanted in (("flow", self.start.flow), ("image_vae", self.start.image_vae)):
            if wanted and way not in can.starts:
                raise InputError(
                    f"start.{way} is {wanted!r}; {kind} can't start so, but: {', '.join(can.starts) or 'afresh'}"
                )
        if self.loss.kl and not can.learned_variance:
            raise InputError(
                f"loss.kl is {self.loss.kl}; the posterior of {kind} has a constant variance, it must be 0"
            )
        if "content" in self.train.freeze and "content" not in can.shared:
            raise InputError(f"train.freeze names content; decoders of {kind} have a content encoder each")
        if "encoder" in self.train.freeze and not self.start.weights:
            raise InputError("train.freeze names encoder, but there are no weights to keep: give start.weights")
        using = [name for name in self.decoders if describe_decoder(self.model, name).uses_neighbours]
        if self.keyframe.neighbours != bool(using):
            raise InputError(
                f"keyframe.neighbours is {str(self.keyframe.neighbours).lower()}; it must be true if and only if a decoder "
                f"is trained that uses references beside the clip, and here {', '.join(using) or 'none'} does"
            )
        if self.latent.quantize and not any(stage.quantize for stage in self.stages):
            raise InputError("latent.quantize is given, but no stage has it in force")
        if self.gan.weight and self.run.steps and self.gan.start >= self.run.steps:
            raise InputError(f"gan.start is {self.gan.start}, but the run ends at step {self.run.steps}")

    def _check_idle(self) -> None:
        """What stages, model and trained parts leave without effect."""
        replaced = "every stage replaces it"
        if all(stage.perceptual for stage in self.stages):
            check_idle("loss", self.loss, ("perceptual",), why=replaced)
        if all(stage.reconstruction for stage in self.stages):
            check_idle("loss", self.loss, ("reconstruction",), why=replaced)
        if not self.perceptual_losses:
            check_idle("loss", self.loss, ("perceptual_weight",), why="no stage has a perceptual loss")
        if "lpips" not in self.perceptual_losses:
            check_idle("loss", self.loss, ("lpips_trunk",), why="no stage has the perceptual loss 'lpips'")
        if "encoder" in self.train.freeze:
            why = "train.freeze names encoder, which alone could learn from it"
            check_idle("loss", self.loss, ("kl", "rate") if self.loss.kl else ("rate",), why=why)
        if self.train.take_turns and len(self.decoders) == 1:
            raise InputError("train.take_turns is true, but one decoder alone is trained; it has no effect")
        if getattr(self.model, "content_frame", "") == "none":
            why = "model.content_frame is 'none': the model sees no key frame"
            check_idle("keyframe", self.keyframe, ("coded", "dropout"), why=why)
            if "content" in self.train.freeze:
                raise InputError(f"train.freeze names content, but {why}; it has no effect")

    @property
    def decoders(self) -> tuple[str, ...]:
        """Decoders that are trained."""
        return self.train.decoders or self.model.decoders

    def stage_number(self, share: float) -> int:
        """The stage that is in force when ``share`` of the run is done."""
        return next((i for i, stage in enumerate(self.stages) if share < stage.until), len(self.stages) - 1)

    @property
    def perceptual_losses(self) -> tuple[Perceptual, ...]:
        """Perceptual losses that some stage needs, each once."""
        named = {stage.perceptual or self.loss.perceptual for stage in self.stages}
        return tuple(sorted(named - {"none"}))


def codec_recipes() -> list[str]:
    """Names of the recipes that ship inside the package."""
    return bundled_recipes(PACKAGE)


def read_recipe(name_or_path: str | Path, *, changes: Sequence[str] = (), weights: str | None = None) -> Recipe:
    """A recipe from a TOML file, or by the name of a bundled one (``lite`` or ``recipes/lite.toml``).

    Args:
        changes: ``section.option=value`` each, the value as TOML has it; quotes around text may be left out.
        weights: a model to start from, instead of all that the recipe's [start] says.

    Raises:
        InputError: no such recipe, not TOML, an unknown option (the message lists the allowed ones), a wrong value.
    """
    document = read_document(name_or_path, changes=changes, package=PACKAGE)
    if weights is not None:
        document["start"] = {"weights": weights}
    return build_recipe(document)


def build_recipe(document: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, as TOML or JSON give them."""
    values = dict(document)
    model = values.pop("model", None)
    if not isinstance(model, Mapping) or model.get("architecture") not in CONFIGS:
        raise InputError(f"[model] must name an architecture: {', '.join(CONFIGS)}")
    config = CONFIGS[model["architecture"]]
    fields = {key: value for key, value in model.items() if key != "architecture"}
    if "run" not in values:
        raise InputError("the recipe has no [run]; it must say how long: steps or minutes")
    return Recipe(model=build_section(config, fields, "model"), **section_values(Recipe, values, ""))


def to_document(recipe: Recipe) -> dict[str, Any]:
    """Plain values that ``build_recipe`` makes the same recipe of."""
    document = asdict(recipe)
    document["model"] = {"architecture": recipe.model.architecture, **recipe.model.to_json()}
    return document
