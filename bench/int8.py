"""``python -m bench int8 FILE``: what 8 bits instead of bfloat16 give a decoder's convolutions, in time and in decibels.

torch's own kernels (oneDNN, by an operator that torch doesn't promise to keep); activations of one scale a layer, calibrated on
the very clip that is measured, and weights of one scale a channel. CPU time of one thread, in turns, medians; ``kernels alone``
leaves out the rounding of activations, which a network that stays in 8 bits from end to end would do without.
"""

from __future__ import annotations

import copy
import statistics
import time
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from bench.markdown import markdown
from reducio_codec.config import CLIP_LENGTH
from reducio_codec.io.pixels import to_unit
from reducio_codec.io.video import read_clip
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.weights.zoo import load_pretrained

_TURNS = 9


class EightBitConv(nn.Module):
    """A convolution that learns its input's range while ``calibrating``, and then computes in 8 bits; bfloat16 in and out."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer, self.largest, self.calibrating, self.rounds = layer, 0.0, True, True
        self.weight, self.bias = layer.weight, layer.bias  # the decoder asks whether they are zero
        self.scales = (layer.weight.abs().amax((1, 2, 3)) / 127).clamp_min(1e-12)
        self.whole = (layer.weight / self.scales[:, None, None, None]).round().to(torch.int8)
        self.packed: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if self.calibrating:
            self.largest = max(self.largest, float(x.abs().max()))
            found: Tensor = self.layer(x)
            return found
        scale, layer, form = self.largest / 127, self.layer, torch.channels_last
        steps = (layer.stride, layer.padding, layer.dilation, layer.groups)
        if self.rounds:
            units = (x / scale + 128.5).clamp_(0, 255).to(torch.uint8, memory_format=form)
        else:
            units = torch.empty_like(x, dtype=torch.uint8, memory_format=form)
        if x.shape not in self.packed:
            self.packed[x.shape] = torch.ops.onednn.qconv_prepack(self.whole, self.scales, scale, 128, *steps, x.shape)
        result: Tensor = torch.ops.onednn.qconv2d_pointwise(
            units, scale, 128, self.packed[x.shape], self.scales, torch.zeros(len(self.scales), dtype=torch.int32),
            layer.bias, *steps, 1.0, 0, torch.bfloat16, "none", [], "",
        )  # fmt: skip
        return result


def in_eight_bits(module: nn.Module) -> list[EightBitConv]:
    """Replace the convolutions below a module, but those that take pixels and those that training left at zero."""
    found = []
    for name, layer in list(module.named_children()):
        if not isinstance(layer, nn.Conv2d):
            found += in_eight_bits(layer)
        elif layer.in_channels > 3 and layer.weight.any():
            found.append(EightBitConv(layer))
            setattr(module, name, found[-1])
    return found


def row(model: CodecModel, name: str, video: Tensor) -> list[str]:
    """Of the table: a decoder's times and errors. video: (1, 3, 16, H, W) in [-1, 1]."""
    key = Reference.of_frame(video, 7)
    latent = model.latent(model.encode(video, references=[key]).mode())
    plain = model.decoders[name]
    other = copy.deepcopy(plain)
    layers = in_eight_bits(other)
    kinds, spent, quality = ("bfloat16", "8 bits", "kernels alone"), {}, {}
    for turn in range(_TURNS + 1):
        for kind in kinds:
            model.decoders[name] = plain if kind == "bfloat16" else other
            for layer in layers:
                layer.calibrating, layer.rounds = turn == 0, kind != "kernels alone"
            start = time.process_time()
            decoded = model.decode(latent, [key], decoder=name)
            spent.setdefault(kind, []).append(1000 * (time.process_time() - start))
            quality[kind] = float(-10 * ((decoded - video) / 2).square().mean().log10())
    model.decoders[name] = plain
    times = [statistics.median(spent[kind][1:]) for kind in kinds]
    change = quality["8 bits"] - quality["bfloat16"]
    return [f"`{name}`", *(f"{value:.0f}" for value in times), f"{times[0] / times[1]:.2f}", f"{change:+.2f}"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True))
def int8(file: Path) -> None:
    """Time and quality of decoders in 8 bits, on the first clip of FILE."""
    torch.set_num_threads(1)
    model, _ = load_pretrained("reducio-lite", decoders=("linear", "attention"))
    model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    frames = read_clip(file)[:CLIP_LENGTH, :256, :256]
    video = to_unit(torch.from_numpy(frames).permute(3, 0, 1, 2)[None])
    head = ["CPU-milliseconds", "bfloat16", "8 bits", "kernels alone", "times as fast", "PSNR, dB"]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        click.echo(markdown([head, *(row(model, name, video) for name in model.decoder_names)]))
