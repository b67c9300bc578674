"""First training of the small model: start from principal components of searched flow, then learn the rest.

    python -m reducio_codec.train.lite --data VIDEOS --val VIDEOS --out runs/lite --minutes 120

Resumes from ``OUT/latest.pt``. Stages are a share of ``--minutes``: 128 px with an L1 loss, 192 px, then squared error.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from reducio_codec.config import CLIP_LENGTH, LiteConfig
from reducio_codec.models.lite import ReducioLite
from reducio_codec.models.lite_blocks import SLOTS
from reducio_codec.models.lite_decoders import WarpDecoder
from reducio_codec.models.motion import estimate_flow
from reducio_codec.train.data import ClipSampler, Video, load_videos

_log = logging.getLogger(__name__)
_FLOW_CHANNELS = 12
_PIXEL_STEP = 1.5
"""Quantiser step of a flow component, in pixels, at ``latent_step`` 0.5: costs the searched flow 0.3 dB."""
_RESIDUAL_STEP = 0.6
"""The same for a component of the residual, in pixel values over 127.5: per component it costs what one of flow does."""


@torch.no_grad()
def start_from_flow(model: ReducioLite, sampler: ClipSampler, *, clips: int = 288) -> None:
    """Sets the linear route of the motion to the leading principal components of searched flow, and the statistics."""
    found = []
    for i in range(clips):
        video = sampler.batch(i, size=1, side=256)
        flow = F.avg_pool2d(estimate_flow(video, video[:, :, model.default_keyframe_index])[0], 2)  # (16, 2, 16, 16)
        found.append(rearrange(flow, "(s t) c (h y) (w x) -> s (h w) (t c y x)", s=SLOTS, y=2, x=2))
    samples = torch.cat(found, 1)  # (4, N, 32)
    variance, basis = torch.linalg.eigh(samples.transpose(1, 2) @ samples / samples.shape[1])
    weight = _as_weight(basis.flip(2)[:, :, :_FLOW_CHANNELS], model, first=0, side=2)
    model.encoder.flow_in.weight.copy_(weight)
    model.encoder.flow_basis.copy_(weight)
    for decoder in model.decoders.values():
        if isinstance(decoder, WarpDecoder):
            decoder.flow_out.weight.copy_(weight)
    model.latent_std[:_FLOW_CHANNELS] = variance.flip(1)[:, :_FLOW_CHANNELS].mean(0).sqrt()


@torch.no_grad()
def start_residual(model: ReducioLite, sampler: ClipSampler, *, clips: int = 160, side: int = 256) -> None:
    """Sets the linear route of the residual: in, its leading principal components; out, least squares.

    Out is fitted to what the model as it is leaves unexplained, so that it helps a model that has been trained, too.
    Every clip counts by the inverse of its error, as in a mean of PSNRs.
    """
    seen, left, weights = [], [], []
    inputs: list[Tensor] = []
    hook = model.encoder.residual_in.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    for i in range(clips):
        video = sampler.batch(10_000 + i, size=1, side=side)
        decoded = model.decode(model.latent(model.encode(video).mode()), video[:, :, model.default_keyframe_index])
        rest = F.avg_pool2d(rearrange(video - decoded, "b c t h w -> (b t) c h w"), 4)
        seen.append(_blocks(inputs.pop()))
        left.append(_blocks(rearrange(rest, "(b t) c h w -> b (t c) h w", t=CLIP_LENGTH)))
        weights.append(1 / (seen[-1].square().mean().sqrt() + 0.02))
    hook.remove()
    covariance = sum(x.transpose(1, 2) @ x * w * w for x, w in zip(seen, weights, strict=True))
    basis = torch.linalg.eigh(covariance)[1].flip(2)[
        :, :, : model.config.latent_channels - _FLOW_CHANNELS
    ]  # (4, 768, 4)
    codes = [x @ basis for x in seen]
    pairs = list(zip(codes, left, weights, strict=True))
    gram = sum(c.transpose(1, 2) @ c * w * w for c, _, w in pairs)
    out = torch.linalg.solve(gram, sum(c.transpose(1, 2) @ r * w * w for c, r, w in pairs))  # (4, 4, 768)
    model.encoder.residual_in.weight.copy_(_as_weight(basis, model, first=_FLOW_CHANNELS, side=8))
    for decoder in model.decoders.values():
        if isinstance(decoder, WarpDecoder):
            decoder.residual_out.weight.copy_(_as_weight(out.transpose(1, 2), model, first=_FLOW_CHANNELS, side=8))
    model.latent_std[_FLOW_CHANNELS:] = torch.cat(codes, 1).square().mean((0, 1)).sqrt()


def _blocks(x: Tensor) -> Tensor:
    """(1, 48, 8h, 8w) -> (4, h*w, 768): what each position of the latent stands for."""
    return rearrange(x, "b (s t c) (h y) (w x) -> s (b h w) (t c y x)", s=SLOTS, c=3, y=8, x=8)


def _as_weight(basis: Tensor, model: ReducioLite, *, first: int, side: int) -> Tensor:
    """(4, values of a block, k) -> weight of a grouped convolution whose channels from ``first`` on are those k."""
    weight = torch.zeros(SLOTS, model.config.latent_channels, basis.shape[1])
    weight[:, first : first + basis.shape[2]] = basis.transpose(1, 2)
    return rearrange(weight, "s z (c y x) -> (s z) c y x", y=side, x=side)


def step_multipliers(model: ReducioLite, *, ratio: Tensor | None = None) -> Tensor:
    """(16,): quantiser step of each channel, in its standard deviations, at ``latent_step`` 1.

    ``ratio`` undoes what ``export.set_unit_variance`` did to the standard deviations since training.
    """
    trained = model.latent_std if ratio is None else model.latent_std / ratio
    steps = torch.full_like(trained, 2 * _RESIDUAL_STEP)
    steps[:_FLOW_CHANNELS] = 2 * _PIXEL_STEP
    steps = steps / trained
    return steps if ratio is None else steps / ratio


@torch.no_grad()
def adopt(model: ReducioLite, old: dict[str, Tensor]) -> None:
    """Takes weights of a model from before it had a residual route."""
    new = model.state_dict()
    for name, value in old.items():
        if new[name].shape != value.shape:
            grown = torch.zeros_like(new[name])
            grown[:, : value.shape[1]] = value
            value = grown
        new[name] = value
    new["encoder.block_8.conv1.weight"][:, -2:] = 0
    new["encoder.residual_in.weight"].zero_()
    model.load_state_dict(new)


def clip_loss(decoded: Tensor, video: Tensor, *, squared: bool) -> Tensor:
    """Mean over clips of the log of the mean error of the 15 frames that aren't the key frame.

    The log makes every clip count the same, as it does in a mean of PSNRs.
    """
    keep = [i for i in range(CLIP_LENGTH) if i != (CLIP_LENGTH - 1) // 2]
    difference = (decoded - video)[:, :, keep].flatten(1)
    error = difference.square() if squared else (difference.square() + 1e-4).sqrt()
    return torch.log(error.mean(1) + (2e-4 if squared else 5e-3)).mean()


@torch.no_grad()
def evaluate(model: ReducioLite, clips: np.ndarray[Any, Any], *, decoder: str) -> dict[str, float]:
    """Mean pooled PSNR over the 15 other frames, decoded and with the key frame repeated. clips: (N, 16, H, W, 3) uint8."""
    scores = []
    keep = [i for i in range(CLIP_LENGTH) if i != model.default_keyframe_index]
    for clip in clips:
        target = torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float()
        video = target / 127.5 - 1
        keyframe = video[:, :, model.default_keyframe_index]
        with torch.autocast("cpu", torch.bfloat16):
            decoded = model.decode(model.latent(model.encode(video).mode()), keyframe, decoder=decoder)
        levels = ((decoded.clamp(-1, 1) + 1) * 127.5).round()
        copied = target[:, :, [model.default_keyframe_index]]
        scores.append(
            [
                10 * math.log10(255**2 / max((x - target)[:, :, keep].square().mean().item(), 1e-3))
                for x in (levels, copied.expand_as(target))
            ]
        )
    decoded_db, copied_db = np.mean(scores, 0)
    return {"psnr": round(float(decoded_db), 3), "gain": round(float(decoded_db - copied_db), 3)}


def centre_clips(videos: list[Video], *, side: int = 256, every: int = 3) -> np.ndarray[Any, Any]:
    """Clips one after another, the shorter side resized to ``side``, centre crop; one in ``every``."""
    clips = []
    for video in videos:
        for start in range(0, len(video.motion), CLIP_LENGTH):
            x = torch.from_numpy(video.frames[start : start + CLIP_LENGTH].copy()).permute(0, 3, 1, 2).float()
            scale = side / min(x.shape[2:])
            size = (round(x.shape[2] * scale), round(x.shape[3] * scale))
            x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
            top, left = (size[0] - side) // 2, (size[1] - side) // 2
            x = x[:, :, top : top + side, left : left + side].round().clamp(0, 255).byte()
            clips.append(x.permute(0, 2, 3, 1).numpy())
    return np.stack(clips[::every])


@click.command()
@click.option("--data", required=True)
@click.option("--val", required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--minutes", default=120.0, help="Length of the whole run, over all resumes.")
@click.option("--stop-after", default=1e9, help="Minutes after which this process saves and ends.")
@click.option("--decoder", default="warp")
@click.option("--freeze-encoder", is_flag=True)
@click.option("--init", type=click.Path(path_type=Path), help="Checkpoint whose EMA weights to start from.")
@click.option("--lr", default=6e-4)
@click.option("--rate-weight", default=0.01, help="Weight of the latent's bits a value in the loss.")
@click.option("--cache", type=click.Path(path_type=Path))
@click.option("--final-side", default=192)
def main(
    data: str, val: str, out: Path, minutes: float, stop_after: float, decoder: str, freeze_encoder: bool,
    init: Path | None, lr: float, rate_weight: float, cache: Path | None, final_side: int,
) -> None:  # fmt: skip
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    cache = cache or out
    sampler = ClipSampler(load_videos(data, cache=cache / "train.bin"))
    clips = centre_clips(load_videos(val, cache=cache / "val.bin"))
    model = ReducioLite(LiteConfig())
    latest = out / "latest.pt"
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    if latest.exists():
        state = torch.load(latest, weights_only=True)
        model.load_state_dict(state["model"])
    elif init:
        weights = torch.load(init, weights_only=True)["ema"]
        if "encoder.flow_basis" in weights:
            model.load_state_dict(weights)
        else:
            start_from_flow(model, sampler)
            basis = model.encoder.flow_basis.clone()
            adopt(model, weights)
            model.encoder.flow_basis.copy_(basis)
            start_residual(model, sampler)
    else:
        start_from_flow(model, sampler)
        start_residual(model, sampler)
    model = model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    if "ema" in state:
        average.load_state_dict(state["ema"])
    model.encoder.requires_grad_(not freeze_encoder)
    parts = [model.decoders[decoder]] + ([] if freeze_encoder else [model.encoder])
    named = [(n, p) for part in parts for n, p in part.named_parameters()]
    slow = [p for n, p in named if n.startswith(("flow_", "residual_"))]  # in pixels: a tenth of the rate
    groups = [{"params": [p for n, p in named if not n.startswith(("flow_", "residual_"))], "scale": 1.0}]
    optimizer = torch.optim.AdamW(groups + ([{"params": slow, "scale": 0.1}] if slow else []), lr=lr, weight_decay=1e-4)
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
    steps_of = step_multipliers(model)[:, None, None, None]
    step, seconds = state["step"], state["seconds"]
    started = saved = shown = time.monotonic()
    base, evaluated, losses = seconds, seconds if step else -1e9, []

    def save() -> None:
        torch.save({"model": model.state_dict(), "ema": average.state_dict(), "optimizer": optimizer.state_dict(),
                    "step": step, "seconds": seconds}, out / "latest.tmp")  # fmt: skip
        (out / "latest.tmp").replace(latest)

    def log(**values: Any) -> None:
        with (out / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "minutes": round(seconds / 60, 2), **values}) + "\n")
        _log.info("step %d, %.1f min: %s", step, seconds / 60, values)

    while True:
        seconds = base + time.monotonic() - started
        progress = min(seconds / 60 / minutes, 1.0)
        ended = progress >= 1 or time.monotonic() - started > stop_after * 60
        if seconds - evaluated > 600 or ended:
            evaluated = seconds
            log(**evaluate(average, clips[::2] if not ended else clips, decoder=decoder))
        if ended or time.monotonic() - saved > 300:
            save()
            saved = time.monotonic()
        if ended:
            break
        side, size, squared = (
            (128, 6, False) if progress < 0.1 else (192, 3, True) if progress < 0.6 else (256, 2, True)
        )
        rng = np.random.default_rng((1, step))
        video = sampler.batch(step, size=size, side=side)
        keyframe = video[:, :, model.default_keyframe_index]
        rate = lr * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        with torch.autocast("cpu", torch.bfloat16):
            with torch.set_grad_enabled(not freeze_encoder):
                latent = model.latent(model.encode(video).mode())
            # latent_step log-uniform in 0.15 to 1.5, and a fifth of the batches unquantised
            q = steps_of * (0.0 if rng.random() < 0.2 else math.exp(rng.uniform(math.log(0.15), math.log(1.5))))
            noisy = latent + q * (torch.rand_like(latent) - 0.5)
            decoded = model.decode(noisy, keyframe, decoder=decoder)
        bits = torch.log2(1 + (latent / (0.5 * steps_of)).abs()).mean()
        loss = clip_loss(decoded, video, squared=squared) + rate_weight * bits
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for part in parts for p in part.parameters()], 1.0)
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {loss.item()} at step {step}")
        optimizer.step()
        step += 1
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for target, source in zip(average.parameters(), model.parameters(), strict=True):
                target.lerp_(source, 1 - decay)
        losses.append((loss.item(), bits.item()))
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            log(
                loss=round(float(np.mean([x for x, _ in losses])), 4),
                bits=round(float(np.mean([b for _, b in losses])), 3),
            )
            losses.clear()


if __name__ == "__main__":
    main()
