"""``AutoencoderKLReducio``: the codec's models as diffusers' autoencoders are, for those who know ``AutoencoderKLWan``.

Two things differ from those. A latent comes with key frames: ``encode`` gives both, ``decode`` needs both. And latents are
normalised already, so that ``config.scaling_factor`` is 1 and a DiT takes them as they are: about zero mean and unit variance, by
the statistics of each channel in training (``reducio-lite``) or by a norm over each clip (the paper's models).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

from reducio_codec.errors import InputError, MissingDependencyError

try:
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.models.autoencoders import vae as diffusers_vae
    from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
    from diffusers.models.modeling_outputs import AutoencoderKLOutput
    from diffusers.models.modeling_utils import ModelMixin
    from diffusers.utils.accelerate_utils import apply_forward_hook
except ImportError as error:
    raise MissingDependencyError(
        f"reducio_codec.integrations.diffusers needs diffusers ({error}): pip install 'reducio-codec[generate]'"
    ) from error

import torch
from torch import Tensor

from reducio_codec.clips.inputs import check_keyframe_index, check_shapes
from reducio_codec.clips.padding import padded_length
from reducio_codec.clips.references import references_of_clips
from reducio_codec.clips.runner import ClipRunner
from reducio_codec.clips.spans import count_clips, plan_clips, take_clip
from reducio_codec.config import CLIP_LENGTH, TilingConfig, check_choice
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.models.factory import CONFIGS, build_model
from reducio_codec.models.posterior import Posterior
from reducio_codec.models.precision import as_dtype, resolve_dtype
from reducio_codec.weights.io import aligned
from reducio_codec.weights.layout import TENSOR_FILE
from reducio_codec.weights.zoo import find_entry, load_pretrained

_AutoencoderMixin: Any = getattr(diffusers_vae, "AutoencoderMixin", object)  # older diffusers have none


@dataclass
class ReducioEncoderOutput(AutoencoderKLOutput):
    """What ``AutoencoderKLReducio.encode`` gives."""

    keyframe: Tensor
    """(B, 3, N, H, W), of each of N clips the frame that its latent is relative to; ``decode`` needs it."""


class AutoencoderKLReducio(ModelMixin, ConfigMixin, _AutoencoderMixin):
    """A model of this package with the interface of diffusers' video autoencoders.

    Videos are float (B, 3, T, H, W) in [-1, 1], of any T, H and W; latents (B, z, N*t, h, w) for the N clips of 16 frames that
    they make, h and w being H and W over ``spatial_compression_ratio``, rounded up.

    Args:
        architecture: ``"reducio"``, the paper's, or ``"lite"``, the small one's.
        network: its configuration, as in a model folder's config.json; what is left out has its default.
        latent_channels: z. It follows from the rest, and is here for those who read ``config``.
        scaling_factor: what a DiT's inputs are multiplied by; 1, as latents have unit variance.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        architecture: str = "reducio",
        network: Mapping[str, Any] | None = None,
        latent_channels: int | None = None,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice(architecture, name="architecture", allowed=CONFIGS)
        config = CONFIGS[architecture].from_json(network or {})
        if latent_channels not in (None, config.latent_channels):
            raise InputError(f"latent_channels is {latent_channels}; this network has {config.latent_channels}")
        self.register_to_config(network=config.to_json(), latent_channels=config.latent_channels)
        self.model = build_model(config)
        self.spatial_compression_ratio = config.spatial_compression_ratio
        self.temporal_compression_ratio = config.temporal_compression_ratio
        self.use_slicing = False
        self.use_tiling = False
        self.tiling = self.model.tiling

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load what ``save_pretrained`` wrote, or diffusers finds on the hub, with all of diffusers' options; or a bundled model
        by name (``"reducio-lite"``), or a model folder of this package, with ``torch_dtype`` or ``dtype`` only.

        Raises:
            WeightsError: no such model, or its files are damaged.
        """
        name = str(pretrained_model_name_or_path)
        folder = Path(name)
        ours = find_entry(name) is not None or (folder / TENSOR_FILE).is_file()
        if not ours and (folder.is_dir() or "/" in name):
            found: Any = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
            model: Self = found[0] if isinstance(found, tuple) else found  # with output_loading_info its facts, too
            for value in (*model.parameters(), *model.buffers()):
                value.data = aligned(value.data)
            return cast(Self, found)
        dtype = kwargs.pop("torch_dtype", None) or kwargs.pop("dtype", None)
        if kwargs:
            raise InputError(f"{next(iter(kwargs))} has no effect on {name!r}; allowed: torch_dtype, dtype")
        bare, info = load_pretrained(name, dtype=None if dtype is None else as_dtype(dtype))
        return cls._around(bare, name=info.id)

    @classmethod
    def _around(cls, model: CodecModel, *, name: str) -> Self:
        with torch.device("meta"):
            found: Self = cls(architecture=model.config.architecture, network=model.config.to_json())
        found.model = model.requires_grad_(True)
        found.register_to_config(_name_or_path=name)
        found.eval()
        return found

    # ------------------------------------------------------------------ switches

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
    ) -> None:
        """Cut larger pictures into tiles, and blend these.

        Args:
            tile_sample_min_height, tile_sample_min_width: side of a tile in pixels, a multiple of 32; tiles are square. By
                default the model's own.
            tile_sample_stride_height, tile_sample_stride_width: from one tile to the next: the side less what tiles share. By
                default they share what the model's own tiles do, at most half of one.
        """
        own = self.model.tiling
        given = _square(tile_sample_min_height, tile_sample_min_width, name="tile_sample_min")
        side = own.tile_size if given is None else given
        stride = _square(tile_sample_stride_height, tile_sample_stride_width, name="tile_sample_stride")
        tiling = own.of_size(side)
        self.tiling = tiling if stride is None else replace(own, tile_size=side, tile_overlap=side - stride)
        self.use_tiling = True

    def disable_tiling(self) -> None:
        """One pass over the whole picture."""
        self.use_tiling = False

    def enable_slicing(self) -> None:
        """One video of a batch after another."""
        self.use_slicing = True

    def disable_slicing(self) -> None:
        """All videos of a batch together."""
        self.use_slicing = False

    # ------------------------------------------------------------------ what it does

    @apply_forward_hook
    def encode(
        self, x: Tensor, return_dict: bool = True, *, keyframe_index: int | None = None
    ) -> ReducioEncoderOutput | tuple[DiagonalGaussianDistribution, Tensor]:
        """Video to the Gaussian of its normalised latents, and its key frames.

        Args:
            x: (B, 3, T, H, W) float in [-1, 1].
            return_dict: False gives the tuple.
            keyframe_index: which of a clip's 16 frames is its key frame, by default the model's choice.

        Returns:
            ``latent_dist`` and ``keyframe`` (B, 3, N, H, W). With tiling on, ``latent_dist.mode()`` is what
            ``ReducioCodec.encode`` gives.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 5 or x.shape[1] != 3 or not x.numel():
            found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise InputError(f"video is {found}; allowed: float (B, 3, T, H, W) in [-1, 1]")
        index = check_keyframe_index(keyframe_index, default=self.model.default_keyframe_index)
        runner = self._runner(x.shape[-2], x.shape[-1])
        parts = [_encode(runner, part, keyframe_index=index) for part in self._slices(x)]
        moments, keyframe = (torch.cat(each).to(self.dtype) for each in zip(*parts, strict=True))
        posterior = DiagonalGaussianDistribution(moments)
        if not return_dict:
            return posterior, keyframe
        return ReducioEncoderOutput(latent_dist=posterior, keyframe=keyframe)

    @apply_forward_hook
    def decode(
        self,
        z: Tensor,
        keyframe: Tensor | None = None,
        return_dict: bool = True,
        *,
        decoder: str | None = None,
        num_frames: int | None = None,
        keyframe_index: int | None = None,
    ) -> DecoderOutput | tuple[Tensor]:
        """Latents and key frames to video.

        Args:
            z: (B, z, N*t, h, w).
            keyframe: (B, 3, N, H, W) float in [-1, 1], or (B, 3, H, W) for one clip; its size is the video's. The decoder
                ``none`` does without.
            return_dict: False gives a tuple.
            decoder: one of ``config.network["decoders"]``, by default the first.
            num_frames: ``16 * (N - 1) + 1`` to ``16 * N``, the default.
            keyframe_index: as for ``encode``.

        Returns:
            ``sample`` (B, 3, T, H, W), not clipped: it may leave [-1, 1] a little.
        """
        name = self.model.decoder(decoder).name
        keyframe = self._own_keyframe(z, keyframe, decoder=name)
        runner = self._runner(keyframe.shape[-2], keyframe.shape[-1])
        clips = check_shapes(z, keyframe, runner=runner)
        frames = CLIP_LENGTH * clips if num_frames is None else num_frames
        if count_clips(frames) != clips:
            low, high = (clips - 1) * CLIP_LENGTH + 1, clips * CLIP_LENGTH
            raise InputError(f"num_frames is {num_frames}; a latent of {clips} clips holds {low} to {high}")
        index = check_keyframe_index(keyframe_index, default=self.model.default_keyframe_index)
        pairs = zip(self._slices(z), self._slices(keyframe), strict=True)
        parts = [_decode(runner, *pair, decoder=name, num_frames=frames, keyframe_index=index) for pair in pairs]
        sample = torch.cat(parts).to(self.dtype)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[Tensor]:
        """``sample`` (B, 3, T, H, W) encoded and decoded; with ``sample_posterior`` from a draw, not the mode."""
        posterior, keyframe = self.encode(sample, return_dict=False)
        z = posterior.sample(generator=generator) if sample_posterior else posterior.mode()
        found: DecoderOutput | tuple[Tensor] = self.decode(z, keyframe, return_dict, num_frames=sample.shape[2])
        return found

    # ------------------------------------------------------------------ how

    def _runner(self, height: int, width: int) -> ClipRunner:
        """For pictures of ``height x width``. It computes in the weights' type, or the one of an autocast around the call."""
        device = self.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else resolve_dtype(self.dtype, device=device)
        tiling = self.tiling
        if not self.use_tiling:
            sides = (padded_length(side, multiple=self._multiple) for side in (height, width))
            tiling = TilingConfig(tile_size=max(sides), tile_overlap=0)
        return ClipRunner(self.model, device=device, dtype=dtype, tiling=tiling, compile=False, gradients=True)

    @property
    def _multiple(self) -> int:
        return max(32, self.spatial_compression_ratio)

    def _slices(self, batch: Tensor) -> tuple[Tensor, ...]:
        return batch.split(1) if self.use_slicing else (batch,)

    def _own_keyframe(self, z: Tensor, keyframe: Tensor | None, *, decoder: str) -> Tensor:
        """(B, 3, N, H, W); grey where none is needed."""
        if isinstance(keyframe, Tensor):
            return keyframe[:, :, None] if keyframe.ndim == 4 else keyframe
        if self.model.decoder(decoder).least or self.model.decoder(decoder).inside.least:
            raise InputError(
                f"keyframe is {keyframe!r}; the decoder {decoder!r} needs it: (B, 3, N, H, W) float in [-1, 1]"
            )
        clips = max(1, z.shape[2] * self.temporal_compression_ratio // CLIP_LENGTH)
        sides = (side * self.spatial_compression_ratio for side in z.shape[-2:])
        return z.new_zeros((z.shape[0], 3, clips, *sides))


def _encode(runner: ClipRunner, video: Tensor, *, keyframe_index: int) -> tuple[Tensor, Tensor]:
    """(B, 3, T, H, W) to normalised moments (B, 2 * z, N*t, h, w) and key frames (B, 3, N, H, W)."""
    moments, keyframes = [], []
    for span in plan_clips(video.shape[2], keyframe_index=keyframe_index):
        clip = take_clip(video, span, dim=2)  # (B, 3, 16, H, W)
        own = Reference.of_frame(clip, keyframe_index)
        moments.append(_normalised(runner.model, runner.posterior(clip, references=[own])))
        keyframes.append(own.picture)
    return torch.cat(moments, 2), torch.stack(keyframes, 2)


def _normalised(model: CodecModel, posterior: Posterior) -> Tensor:
    """Mean and log variance of the latent after its norm, (B, 2 * z, t, h, w)."""
    scale = model.latent_scale(posterior.mean)
    return torch.cat([model.latent(posterior.mean), posterior.logvar - 2 * scale.log()], 1)


def _decode(
    runner: ClipRunner, latent: Tensor, keyframe: Tensor, *, decoder: str, num_frames: int, keyframe_index: int
) -> Tensor:
    """(B, z, N*t, h, w) and (B, 3, N, H, W) to (B, 3, T, H, W)."""
    spans = plan_clips(num_frames, keyframe_index=keyframe_index)
    references = references_of_clips(keyframe.unbind(2), spans, keyframe_index=keyframe_index)
    clips = []
    for part, given, span in zip(latent.split(runner.latent_frames, 2), references, spans, strict=True):
        size = (keyframe.shape[-2], keyframe.shape[-1])
        clip = torch.empty((latent.shape[0], 3, CLIP_LENGTH, *size), device=runner.device)
        for piece in runner.decode_pieces(part, given, decoder=decoder, size=size):
            piece.place(clip)
        clips.append(clip[:, :, span.keep])  # (B, 3, n, H, W)
    return torch.cat(clips, 2).to(latent.device)


def _square(height: int | None, width: int | None, *, name: str) -> int | None:
    """The side that both mean, where one or both are given."""
    if height is not None and width is not None and height != width:
        raise InputError(f"{name}_height is {height} and {name}_width {width}; tiles are square")
    return width if height is None else height
