"""Trains the small model from packed scenes, on any device, for so many minutes; goes on where it was.

    python -m reducio_codec.train.packed PACK --start reducio_codec/weights/bundled/reducio-lite --out RUN --minutes 60

Several processes train together where ``torchrun --nproc-per-node N -m reducio_codec.train.packed ...`` starts them. The rate
warms up, stays, and falls to nothing as the minutes run out, so a training is as long as it was planned to be.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click
import torch
from torch import Tensor

from reducio_codec.errors import InputError
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.models.precision import resolve_dtype
from reducio_codec.train.packed.batch_loss import BatchLoss, Weights
from reducio_codec.train.packed.data import Sampler, batches, open_pack
from reducio_codec.train.packed.parts import copy_decoder, load_weights, save_weights
from reducio_codec.train.packed.perceptual import Lpips
from reducio_codec.train.packed.processes import join

_STATE = "state.pt"
_LOG = "log.jsonl"


@dataclass
class Run:
    """A training in progress."""

    model: ReducioLite
    widths: Tensor
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    """Moving average of the weights: what is saved for use."""
    step: int = 0
    seconds: float = 0.0
    """Spent in steps, over all the times it was started."""
    unlogged: list[dict[str, float]] = field(default_factory=list)
    """Values of the steps since the last line of the log."""

    def save(self, out: Path) -> None:
        state = {
            "model": self.model.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict(),
            "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        temporary = out / f"{_STATE}.part"
        torch.save(state, temporary)
        temporary.rename(out / _STATE)
        save_weights(out, self.model, self.average, widths=self.widths, step=self.step)

    def resume(self, out: Path, *, device: torch.device) -> None:
        state: dict[str, Any] = torch.load(out / _STATE, map_location=device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]

    @torch.no_grad()
    def follow(self, *, decay: float) -> None:
        """The average takes in the newest weights; at the beginning it is younger than ``decay`` says."""
        share = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for key, value in self.model.named_parameters():
            if value.requires_grad:  # what is frozen stays as it is to the bit: a mean of -0 and -0 is 0
                self.average[key].lerp_(value.float(), share)


def learning_rate(peak: float, *, step: int, warmup: int, share: float) -> float:
    """``share``: how much of the time is spent, 0 to 1. Level for the first third of it, then a cosine down to nothing."""
    falling = max(0.0, (share - 1 / 3) / (2 / 3))
    return peak * min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, falling)))


def chosen_parameters(model: ReducioLite, prefixes: Sequence[str]) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters below these names: all but the linear code, and the linear code, which takes small steps."""
    fast: list[Tensor] = []
    slow: list[Tensor] = []
    for name, parameter in model.named_parameters():
        chosen = any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
        parameter.requires_grad_(chosen)
        if chosen:
            linear = name.startswith("code.") or name.endswith(("flow_in.weight", "residual_in.weight"))
            (slow if linear else fast).append(parameter)
    if not fast and not slow:
        raise InputError(f"nothing is called {', '.join(prefixes)}")
    return fast, slow


@click.command()
@click.argument("pack", type=click.Path(path_type=Path))
@click.option(
    "--start", type=click.Path(path_type=Path), required=True, help="Folder of weights: a model or a training."
)
@click.option("--copy", "copies", multiple=True, help="FROM=TO: a decoder that starts as another one is.")
@click.option("--fresh", multiple=True, help="A decoder that starts untrained, whatever --start has of it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the training.")
@click.option("--cache", type=click.Path(path_type=Path), default=None, help="Where decoded frames are kept.")
@click.option("--decoder", "decoders", multiple=True, default=("attention", "add", "linear"), show_default=True)
@click.option(
    "--turns/--together", default=False, show_default=True, help="Train by one of the decoders a step, in turn."
)
@click.option("--train", "prefixes", multiple=True, default=("decoders", "trunk", "mend", "code"), show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="Of steps, over all the times it is started.")
@click.option("--steps", default=0, help="Stop after so many, whatever the minutes; 0: only they count.")
@click.option("--side", default=128, show_default=True, help="Of the crops, in pixels.")
@click.option("--batch", default=4, show_default=True)
@click.option("--distinct", type=int, default=None, help="Batches that differ; then they come again, from memory.")
@click.option("--rate", default=3e-4, show_default=True)
@click.option("--warmup", default=100, show_default=True, help="Steps.")
@click.option("--decay", default=0.998, show_default=True, help="Of the average.")
@click.option("--reconstruction", default="log-l2", show_default=True)
@click.option("--lpips", type=click.Path(path_type=Path), default=None, help="Weights of the perceptual loss.")
@click.option("--lpips-weight", default=1.0, show_default=True)
@click.option(
    "--bits-weight", default=0.02, show_default=True, help="Of the latent's bits a value, where the encoder learns."
)
@click.option("--lpips-frames", default=4, show_default=True, help="Frames of a batch that it looks at.")
@click.option(
    "--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto", show_default=True,
    help="auto: bfloat16 where the device multiplies it natively. Elsewhere that takes five times as long as float32.",
)  # fmt: skip
@click.option("--channels-last/--no-channels-last", default=True, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Threads that make batches.")
@click.option("--save-minutes", default=5.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(pack: Path, **options: Any) -> None:
    train(pack, **options)


def train(
    pack: Path,
    *,
    start: Path,
    copies: Sequence[str],
    fresh: Sequence[str],
    out: Path,
    cache: Path | None,
    decoders: Sequence[str],
    turns: bool,
    prefixes: Sequence[str],
    minutes: float,
    steps: int,
    side: int,
    batch: int,
    distinct: int | None,
    rate: float,
    warmup: int,
    decay: float,
    reconstruction: str,
    lpips: Path | None,
    lpips_weight: float,
    lpips_frames: int,
    bits_weight: float,
    precision: Literal["auto", "bf16", "fp32"],
    channels_last: bool,
    workers: int,
    save_minutes: float,
    seed: int,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    processes = join()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = resolve_dtype(precision, device=device)
    model, widths = load_weights(start, fresh=fresh)
    for copy in copies:
        source, _, target = copy.partition("=")
        copy_decoder(model, source, target)
    model.to(device)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    fast, slow = chosen_parameters(model, prefixes)
    groups = [{"params": fast, "scale": 1.0}, {"params": slow, "scale": 0.1}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, weight_decay=1e-4)
    average = {key: value.detach().float().clone() for key, value in model.state_dict().items()}
    run = Run(model, widths, optimizer, average)
    if (out / _STATE).is_file():
        run.resume(out, device=device)
    weights = Weights(
        reconstruction=reconstruction,
        perceptual=lpips_weight if lpips else 0.0,
        perceptual_frames=lpips_frames,
        rate=bits_weight,
    )
    loss_of = BatchLoss(
        model,
        widths=widths,
        encoder="encoder" in prefixes,
        weights=weights,
        perceptual=Lpips(lpips).to(device) if lpips else None,
        repeats=distinct is not None,
    ).to(device)
    seed = processes.seed(seed)
    sampler = Sampler(open_pack(pack, cache=cache), seed=seed)
    made = batches(sampler, first=run.step, size=batch, side=side, workers=workers, distinct=distinct)
    saved = time.monotonic()
    while run.seconds < 60 * minutes and not (steps and run.step >= steps):
        began = time.monotonic()
        share = max(run.seconds / (60 * minutes), run.step / steps if steps else 0.0)
        now = learning_rate(rate, step=run.step, warmup=warmup, share=share)
        for group in optimizer.param_groups:
            group["lr"] = now * group["scale"]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + run.step)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            used = (decoders[run.step % len(decoders)],) if turns else decoders
            loss, parts = loss_of(next(made).to(device), decoders=used, generator=generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average([*fast, *slow])
        norm = torch.nn.utils.clip_grad_norm_([*fast, *slow], 1.0)
        if torch.isfinite(norm):  # one bad batch must not end a night's work
            optimizer.step()
        run.step += 1
        run.follow(decay=decay)
        run.seconds = processes.longest(run.seconds + time.monotonic() - began)
        if not processes.first:
            continue
        _log(run, out, {"loss": loss.detach(), "norm": norm, **parts}, rate=now)
        if time.monotonic() - saved > 60 * save_minutes:
            run.save(out)
            saved = time.monotonic()
    if processes.first:
        run.save(out)


_LOG_STEPS = 20


def _log(run: Run, out: Path, values: dict[str, Tensor], *, rate: float) -> None:
    """A line of means every so many steps."""
    run.unlogged.append({key: float(value) for key, value in values.items()})
    if run.step % _LOG_STEPS == 0:
        found: dict[str, list[float]] = {}
        for key, value in (item for row in run.unlogged for item in row.items()):
            found.setdefault(key, []).append(value)
        means = {key: round(sum(of_key) / len(of_key), 5) for key, of_key in found.items()}
        line = {"step": run.step, "minutes": round(run.seconds / 60, 2), "rate": float(f"{rate:.3g}"), **means}
        with (out / _LOG).open("a") as file:
            file.write(json.dumps(line) + "\n")
        run.unlogged.clear()


if __name__ == "__main__":
    main()
