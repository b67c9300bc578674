"""What an encoder gives: a Gaussian over latents, and the norm that makes a latent ready for a decoder or a diffusion model."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from reducio_codec.errors import InputError

LOGVAR_RANGE = (-30.0, 20.0)
"""Bounds of the log variance, as in latent diffusion: beyond them the exponential leaves float32's useful range."""

LATENT_NORM_EPS = 1e-5


class Posterior:
    """A diagonal Gaussian over latents.

    Attributes:
        mean: (B, z, t, h, w) float.
        logvar: (B, z, t, h, w) float, natural logarithm of the variance, clamped to [-30, 20].
    """

    def __init__(self, mean: Tensor, logvar: Tensor) -> None:
        if mean.shape != logvar.shape:
            raise InputError(
                f"mean has shape {tuple(mean.shape)} and logvar {tuple(logvar.shape)}; they must be the same"
            )
        self.mean = mean
        self.logvar = logvar.clamp(*LOGVAR_RANGE)

    @classmethod
    def from_moments(cls, moments: Tensor) -> Posterior:
        """Split ``moments`` (B, 2 * z, t, h, w): the mean is the first half of the channels, the log variance the second."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar)

    def mode(self) -> Tensor:
        """The most likely latent, (B, z, t, h, w): what a codec takes, since two encodes must agree."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw from the Gaussian, (B, z, t, h, w): what training takes."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """Divergence from the standard normal, in nats, summed over each clip: (B,)."""
        nats = 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar)
        return nats.flatten(1).sum(dim=1)


def layer_norm_latent(latent: Tensor) -> Tensor:
    """Zero mean and unit variance over (z, t, h, w) of each clip, no learned scale (Sec. 3.1, after LaMD).

    It runs once, over the stitched latent of the whole picture, in float32 whatever the input's type.
    """
    if latent.ndim != 5:
        raise InputError(f"latent has shape {tuple(latent.shape)}; it must be (B, z, t, h, w)")
    normed = functional.layer_norm(latent.float(), latent.shape[1:], eps=LATENT_NORM_EPS)
    return normed.to(latent.dtype)


def latent_norm_scale(latent: Tensor) -> Tensor:
    """What ``layer_norm_latent`` divides (B, z, t, h, w) by: (B, 1, 1, 1, 1)."""
    variance = latent.float().var((1, 2, 3, 4), correction=0, keepdim=True)
    return (variance + LATENT_NORM_EPS).sqrt().to(latent.dtype)
