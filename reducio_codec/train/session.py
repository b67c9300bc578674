"""Everything that lives as long as a run: its parts, how they are made, saved and read back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reducio_codec.models.contract import CodecModel
from reducio_codec.models.discriminator import PatchDiscriminator
from reducio_codec.models.factory import training_of
from reducio_codec.train.checkpoint import Checkpoints, Progress, claim_folder
from reducio_codec.train.losses import PerceptualLoss, perceptual_loss
from reducio_codec.train.manifest import find_videos
from reducio_codec.train.monitor import Monitor
from reducio_codec.train.objective import Objective
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.recipe_file import to_document
from reducio_codec.train.render import render
from reducio_codec.train.run import Run, make_accelerator, make_optimizer, prepare, shown_copies, to_channels_last
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.train.scan import ScanOptions, ScanResult, scan
from reducio_codec.train.store import FrameStore, open_store
from reducio_codec.train.validate import HeldOutClip, Validation, validation_clips

_log = logging.getLogger(__name__)

_APART = 1_000_000
"""Places in the batch from here on are clips for statistics, which no step sees."""


@dataclass(kw_only=True)
class Session(Run):
    """A run of a codec."""

    recipe: Recipe
    discriminator: Any
    discriminator_optimizer: Any
    clips: list[HeldOutClip]
    last: Validation | None = None


def codec_accelerator(recipe: Recipe) -> Any:
    # decoders that rest at a step, and a frozen part, leave parameters without a gradient
    unused = recipe.train.take_turns or bool(recipe.gan.weight)
    return make_accelerator(recipe.run, recipe.optimizer, unused=unused)


def scan_videos(
    recipe: Recipe, data: str | Path, val: str | Path | None, *, cache: Path
) -> tuple[ScanResult, ScanResult | None]:
    """What a run learns from, and what it is validated on."""
    options = ScanOptions(
        frame_rate=recipe.data.frame_rate,
        stored_side=recipe.data.stored_side,
        store=recipe.data.storage != "stream",
        find_cuts=recipe.data.find_cuts,
    )
    learned, held_out = find_videos(data), [] if val is None else find_videos(val)
    both = {path.resolve() for path in learned} & {path.resolve() for path in held_out}
    if both:
        _log.warning(
            "%d of the %d videos of --val %s in --data too: validation also measures what was learned by heart",
            len(both),
            len(held_out),
            "is" if len(both) == 1 else "are",
        )
    # the fewer first: what is wrong with them is known before hours of decoding
    seen = scan(held_out, cache=cache, options=options) if held_out else None
    return scan(learned, cache=cache, options=options), seen


def held_out_clips(recipe: Recipe, found: ScanResult) -> list[HeldOutClip]:
    storage = "stream" if recipe.data.storage == "stream" else "disk"
    store = open_store(found.videos, storage=storage, device=torch.device("cpu"))
    return validation_clips(found.videos, store, side=recipe.validation.side, count=recipe.validation.clips)


def statistics_clips(sampler: ClipSampler, store: FrameStore, *, side: int) -> Iterator[Tensor]:
    """Training clips (1, 3, 16, side, side) uint8 for statistics, always the same ones."""
    for number in count():
        video, _ = render(store, sampler.plan(number, _APART, side=side), codec="avif")
        yield video[None].cpu()


def set_up(
    recipe: Recipe,
    accelerator: Any,
    model: CodecModel,
    *,
    widths: Tensor,
    progress: Progress,
    checkpoints: Checkpoints,
    clips: list[HeldOutClip],
    profile: bool,
) -> Session:
    options = recipe.optimizer
    if recipe.run.channels_last:
        to_channels_last(model)
    if training_of(recipe.model).gradient_checkpointing:
        model.gradient_checkpointing = recipe.run.gradient_checkpointing
    _freeze(model, recipe)
    average, whole = shown_copies(model, accelerator, options)
    perceptual: dict[str, PerceptualLoss] = {
        name: perceptual_loss(name, trunk=recipe.loss.lpips_trunk, device=accelerator.device)
        for name in recipe.perceptual_losses
    }
    objective = Objective(model, recipe, widths=widths, perceptual=perceptual)
    optimizer = make_optimizer(model, options)
    objective, optimizer = prepare(accelerator, objective, optimizer, layers=training_of(recipe.model).block)
    discriminator = discriminator_optimizer = None
    if recipe.gan.weight:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.run.seed)
            discriminator = PatchDiscriminator(recipe.gan.channels)
        betas = (recipe.gan.betas[0], recipe.gan.betas[1])
        discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=recipe.gan.learning_rate, betas=betas)
        discriminator, discriminator_optimizer = prepare(accelerator, discriminator, discriminator_optimizer)
    if accelerator.is_main_process and not profile:  # last, when nothing can be wrong with the run any more
        claim_folder(checkpoints.out, to_document(recipe))
    return Session(
        recipe=recipe,
        options=recipe.run,
        learning=options,
        accelerator=accelerator,
        model=model,
        average=average,
        whole=whole,
        objective=objective,
        optimizer=optimizer,
        discriminator=discriminator,
        discriminator_optimizer=discriminator_optimizer,
        progress=progress,
        checkpoints=checkpoints,
        monitor=Monitor(checkpoints.out, main=accelerator.is_main_process and not profile, step=progress.step),
        clips=clips,
        profile=profile,
    )


def _freeze(model: nn.Module, recipe: Recipe) -> None:
    """Parts that don't learn get no gradients."""
    everything = set(recipe.decoders) == set(recipe.model.decoders)
    for name, parameter in model.named_parameters():
        part, _, rest = name.partition(".")
        if part == "decoders":
            learns = rest.split(".")[0] in recipe.decoders
        elif part == "content":
            learns = everything and "content" not in recipe.train.freeze
        else:
            learns = "encoder" not in recipe.train.freeze
        parameter.requires_grad_(learns)
