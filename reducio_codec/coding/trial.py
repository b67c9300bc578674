"""Trials: a clip encoded and decoded by itself, to see what a setting would give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from reducio_codec.clips.references import Reference, for_model
from reducio_codec.clips.streams import FrameClip
from reducio_codec.coding.engine import Engine


def encode_alone(engine: Engine, clip: FrameClip, seen: Sequence[Reference]) -> NDArray[np.float32]:
    """Latent (z, t, h, w) of a clip whose key frames a reader has as ``seen``."""
    own = for_model(seen, [], span=clip.span)
    latent = engine.runner.encode(clip.padded(), references=own)
    values: NDArray[np.float32] = latent[0].numpy()
    return values


def coded_error(
    engine: Engine,
    clip: FrameClip,
    seen: Sequence[Reference],
    latent: NDArray[np.float32],
    *,
    step: float,
    decoder: str,
) -> float:
    """Mean squared error, in grey levels, of a clip decoded from the key frames that a reader has as ``seen`` and from a
    latent (z, t, h, w) after coding."""
    _, read = engine.coder.code(latent, step=step)
    own = for_model(seen, [], span=clip.span)
    frames = torch.empty(clip.frames.shape, dtype=torch.uint8)
    out = frames.permute(3, 0, 1, 2)[None]  # (1, 3, n, H, W), a view
    engine.runner.decode(torch.from_numpy(read)[None], own, decoder=decoder, span=clip.span, out=out)
    difference = frames.numpy().astype(np.int32) - clip.frames
    return float(np.square(difference).mean())
