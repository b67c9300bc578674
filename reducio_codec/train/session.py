"""Everything that lives as long as a run: its parts, how they are made, saved and read back."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reducio_codec.errors import InputError, MissingDependencyError, ReducioError
from reducio_codec.models.discriminator import PatchDiscriminator
from reducio_codec.models.interface import CodecModel
from reducio_codec.models.vae import ReducioVAE
from reducio_codec.train.checkpoint import Checkpoints, Progress
from reducio_codec.train.losses import PerceptualLoss, perceptual_loss
from reducio_codec.train.manifest import find_videos
from reducio_codec.train.monitor import Monitor
from reducio_codec.train.objective import Objective
from reducio_codec.train.recipe import Recipe
from reducio_codec.train.render import render
from reducio_codec.train.sampling import ClipSampler
from reducio_codec.train.scan import ScanOptions, ScanResult, scan
from reducio_codec.train.store import FrameStore, open_store
from reducio_codec.train.validate import HeldOutClip, Validation, validation_clips

_AVERAGE_FILE = "ema.safetensors"
_APART = 1_000_000
"""Places in the batch from here on are clips for statistics, which no step sees."""

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Session:
    """Everything that lives as long as the loop."""

    recipe: Recipe
    accelerator: Any
    model: nn.Module
    """Not wrapped."""
    average: nn.Module | None
    objective: Any
    optimizer: Any
    discriminator: Any
    discriminator_optimizer: Any
    progress: Progress
    checkpoints: Checkpoints
    monitor: Monitor
    clips: list[HeldOutClip]
    profile: bool
    last: Validation | None = None
    times: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.accelerator.device)

    @property
    def shown(self) -> nn.Module:
        """The weights that are validated and exported."""
        return self.model if self.average is None else self.average


def make_accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs accelerate ({error}): pip install 'reducio-codec[train]'"
        ) from error
    # decoders that rest at a step, and a frozen part, leave parameters without a gradient
    unused = recipe.train.take_turns or bool(recipe.gan.weight)
    accelerator = Accelerator(
        mixed_precision="bf16" if recipe.run.precision == "bf16" else "no",
        gradient_accumulation_steps=recipe.run.accumulate,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
    if recipe.optimizer.ema and str(accelerator.distributed_type).endswith("FSDP"):
        raise InputError(f"optimizer.ema is {recipe.optimizer.ema}; with FSDP it must be 0: the average isn't sharded")
    return accelerator


def scan_videos(recipe: Recipe, source: str | Path, *, cache: Path) -> ScanResult:
    options = ScanOptions(
        frame_rate=recipe.data.frame_rate,
        stored_side=recipe.data.stored_side,
        store=recipe.data.storage != "stream",
        find_cuts=recipe.data.find_cuts,
    )
    return scan(find_videos(source), cache=cache, options=options)


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
    model: nn.Module,
    *,
    widths: Tensor,
    progress: Progress,
    checkpoints: Checkpoints,
    clips: list[HeldOutClip],
    profile: bool,
) -> Session:
    options = recipe.optimizer
    if recipe.run.channels_last:
        _to_channels_last(model)
    if isinstance(model, ReducioVAE):
        model.gradient_checkpointing = recipe.run.gradient_checkpointing
    _freeze(model, recipe)
    average = copy.deepcopy(model).eval().requires_grad_(False).to(accelerator.device) if options.ema else None
    perceptual: dict[str, PerceptualLoss] = {
        name: perceptual_loss(name, trunk=recipe.loss.lpips_trunk, device=accelerator.device)
        for name in recipe.perceptual_losses
    }
    objective = Objective(cast(CodecModel, model), recipe, widths=widths, perceptual=perceptual)
    optimizer = _optimizer(model, recipe)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    discriminator = discriminator_optimizer = None
    if recipe.gan.weight:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.run.seed)
            discriminator = PatchDiscriminator(recipe.gan.channels)
        betas = (recipe.gan.betas[0], recipe.gan.betas[1])
        discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=recipe.gan.learning_rate, betas=betas)
        discriminator, discriminator_optimizer = accelerator.prepare(discriminator, discriminator_optimizer)
    return Session(
        recipe=recipe,
        accelerator=accelerator,
        model=model,
        average=average,
        objective=objective,
        optimizer=optimizer,
        discriminator=discriminator,
        discriminator_optimizer=discriminator_optimizer,
        progress=progress,
        checkpoints=checkpoints,
        monitor=Monitor(checkpoints.out, main=accelerator.is_main_process, step=progress.step),
        clips=clips,
        profile=profile,
    )


def _to_channels_last(model: nn.Module) -> None:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


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


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    options = recipe.optimizer
    fast: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_slow = options.slow_layers and any(part.startswith(options.slow_layers) for part in name.split("."))
            (slow if is_slow else fast).append(parameter)
    groups = [
        {"params": parameters, "scale": scale}
        for parameters, scale in ((fast, 1.0), (slow, options.slow_factor))
        if parameters
    ]
    if not groups:
        raise InputError("nothing learns: train.freeze and train.decoders leave no parameter")
    kind = torch.optim.AdamW if options.kind == "adamw" else torch.optim.Adam
    betas = (options.betas[0], options.betas[1])
    return kind(groups, lr=options.learning_rate, betas=betas, weight_decay=options.weight_decay)


def write_state(session: Session, folder: Path) -> None:
    """Model, optimisers and random states, by accelerate; the average beside them."""
    session.accelerator.wait_for_everyone()
    session.accelerator.save_state(str(folder))
    if session.average is not None and session.accelerator.is_main_process:
        save_file(
            {key: value.contiguous() for key, value in session.average.state_dict().items()}, folder / _AVERAGE_FILE
        )


def load_state(session: Session, folder: Path) -> None:
    try:
        session.accelerator.load_state(str(folder))
        if session.average is not None:
            session.average.load_state_dict(load_file(folder / _AVERAGE_FILE))
            for target, source in zip(session.average.buffers(), session.model.buffers(), strict=True):
                target.copy_(source)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise ReducioError(f"the checkpoint {folder} can't be read: {str(error).splitlines()[0]}") from error
