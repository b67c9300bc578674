"""Multiplications a pixel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from bench.__main__ import main
from bench.macs import thousands
from reducio_codec.config import LiteConfig
from reducio_codec.models.lite.model import ReducioLite

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_what_the_command_counts() -> None:
    done = CliRunner().invoke(main, ["macs"], catch_exceptions=False)
    assert done.exit_code == 0 and done.output in README.read_text(encoding="utf-8")


def test_it_counts_what_a_layer_does() -> None:
    """One more convolution of 12 to 8 channels, kernel 3, at a sixteenth of the size."""
    model = ReducioLite(
        LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=8, decoders=("linear",))
    ).eval()
    before = thousands(model, "linear", beside=False, side=64)
    decoder = model.decoders["linear"]
    decoder.blocks_16 = nn.Sequential(*decoder.blocks_16, nn.Conv2d(8, 8, 3, padding=1))
    assert thousands(model, "linear", beside=False, side=64) - before == pytest.approx(9 * 8 * 8 / 16**2 / 1000)
    assert thousands(model, "linear", beside=False, side=96) == pytest.approx(
        thousands(model, "linear", beside=False, side=64)
    )


def test_layers_at_their_start_cost_nothing() -> None:
    torch.manual_seed(0)
    model = ReducioLite(
        LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=8, decoders=("attention",))
    ).eval()
    whole = thousands(model, "attention", beside=False, side=64)
    nn.init.zeros_(model.decoders["attention"].blocks_4[0].conv2.weight)
    nn.init.zeros_(model.decoders["attention"].blocks_4[0].conv2.bias)
    assert whole - thousands(model, "attention", beside=False, side=64) == pytest.approx(
        15 / 16 * 2 * 9 * 8 * 8 / 4**2 / 1000  # of 16 frames one is the key frame, and shown as it is
    )
