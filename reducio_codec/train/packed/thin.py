"""Starts a training from a model whose decoders have larger layers and more blocks than they are built with now.

    python -m reducio_codec.train.packed.thin LARGER --pack PACK --out RUN

Layer by layer, from the first to the last, what is smaller now is fitted by least squares to what the larger one makes of the
same clips. Two decibels are lost by that, and come back by training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from reducio_codec.config import LiteConfig
from reducio_codec.models.lite.blocks import ResBlock
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.packed.batch_loss import unpacked
from reducio_codec.train.packed.data import Batch, Sampler, open_pack
from reducio_codec.train.packed.parts import save_weights

_SMALLER = ("up_4", "in_4", "out_4", "second.out_4")
"""Layers that saw 3x3 positions and see one, in the order in which they are computed."""
_DAMPING = 1e-4
"""Of the least squares, beside the inputs' own squares."""


def larger(config: LiteConfig, state: Mapping[str, Tensor]) -> ReducioLite:
    """The model of these weights: this one, with their layers."""
    model = ReducioLite(config)
    for name in _aligned(model):
        decoder = model.decoders[name]
        for path in _SMALLER:
            weight = state[f"decoders.{name}.{path}.weight"]
            decoder.set_submodule(path, nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1))
        for blocks in ("blocks_8", "blocks_4"):
            chain = decoder.get_submodule(blocks)
            assert isinstance(chain, nn.Sequential)
            channels = state[f"decoders.{name}.{blocks}.0.conv1.weight"].shape[0]
            while f"decoders.{name}.{blocks}.{len(chain)}.conv1.weight" in state:
                chain.append(ResBlock(channels, temporal=blocks == "blocks_8"))
    model.load_state_dict({key: value.float() for key, value in state.items()})
    return model.eval()


def thinned(old: ReducioLite, batches: list[Batch]) -> ReducioLite:
    """The model as it is built now, as near to ``old`` as a fit to these clips brings it."""
    model = ReducioLite(old.config).eval()
    found = old.state_dict()
    own = model.state_dict()
    model.load_state_dict({k: found[k] if found[k].shape == v.shape else v for k, v in own.items()})
    for name in _aligned(model):
        wanted = {path: _seen(old, name, path, batches)[1] for path in _SMALLER}
        for path in _SMALLER:
            _fit(model.decoders[name].get_submodule(path), _seen(model, name, path, batches)[0], wanted[path])
    return model


def _aligned(model: ReducioLite) -> list[str]:
    return [name for name in model.decoder_names if name not in ("linear", "none")]


def _fit(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """inputs (n, C), outputs (n, D): the layer's weights and bias."""
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    known = F.pad(inputs.double(), (0, 1), value=1.0)  # the last one's weight is the bias
    square = known.T @ known
    square.diagonal().mul_(1 + _DAMPING)
    weights = torch.linalg.solve(square, known.T @ outputs.double())  # (C + 1, D)
    layer.weight.data = weights[:-1].T[:, :, None, None].float()
    layer.bias.data = weights[-1].float()


@torch.no_grad()
def _seen(model: ReducioLite, name: str, path: str, batches: list[Batch]) -> tuple[Tensor, Tensor]:
    """What goes into a layer (n, C) and what comes out of it (n, D), at some of the positions."""
    pairs: list[tuple[Tensor, Tensor]] = []
    with _watched(model.decoders[name].get_submodule(path), pairs):
        for batch in batches:
            video, references = unpacked(batch)
            own = [item for item in references if not item.beside]
            model.decode_by((name,), model.latent(model.encode(video, references=own).mode()), references)
    inputs, outputs = zip(*pairs, strict=True)
    return torch.cat(inputs), torch.cat(outputs)


@contextmanager
def _watched(layer: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    def keep(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        pairs.append((_positions(inputs[0]), _positions(output)))

    handle = layer.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _positions(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (n, C): every second position along both sides."""
    return x[..., ::2, ::2].permute(0, 2, 3, 1).flatten(0, 2).clone()


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pack", type=click.Path(path_type=Path), required=True, help="Packed training scenes.")
@click.option("--cache", type=click.Path(path_type=Path), default=None, help="Where decoded frames are kept.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of weights to write.")
@click.option("--side", default=128, show_default=True, help="Of their crops, in pixels.")
@click.option("--clips", default=48, show_default=True, help="To fit to.")
def main(folder: Path, pack: Path, cache: Path | None, out: Path, side: int, clips: int) -> None:
    document = json.loads((folder / "config.json").read_text())
    sizes = {key: value for key, value in document.items() if key.startswith("channels_")}
    config = LiteConfig(decoders=tuple(document["decoders"]), **sizes)
    widths = torch.tensor(json.loads((folder / "entropy.json").read_text())["multipliers"]) / 1024
    sampler = Sampler(open_pack(pack, cache=cache), seed=2)
    batches = [sampler.batch(number, size=2, side=side) for number in range(max(1, clips // 2))]
    model = thinned(larger(config, load_file(folder / "model.safetensors")), batches)
    save_weights(out, model, model.state_dict(), widths=widths, step=0)


if __name__ == "__main__":
    main()
