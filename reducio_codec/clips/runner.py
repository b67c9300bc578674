"""One clip of 16 frames through a model: padding, tiles in batches, precision, joining.

Everything above this file (tensors, streams, files) works clip by clip through a :class:`ClipRunner`, so all of them
compute the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reducio_codec.clips.padding import padded_length, window
from reducio_codec.clips.spans import ClipSpan, own_keyframe
from reducio_codec.clips.tiling import TilePlan, blend_tiles, plan_tiles
from reducio_codec.config import CLIP_LENGTH, PIXEL_MULTIPLE, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.models.contract import CodecModel
from reducio_codec.models.posterior import Posterior


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Key frames of the clips before and after, ``(B, 3, H, W)`` uint8 or float in [-1, 1], or None."""

    previous: Tensor | None = None
    next: Tensor | None = None
    places: tuple[int, int] | None = None
    """Where they lie, in frames of the clip between them (-9 and 23); by default 16 before and after its key frame."""


class ClipRunner:
    """Runs clips of any size through ``model``.

    Args:
        model: in eval mode, on ``device``.
        device: where the model is. Clips and latents may lie elsewhere; results come back to where they lay.
        dtype: what convolutions and products compute in (autocast); weights stay as they are.
        tiling: how pictures larger than a tile are cut.
        compile: pass ``model.encode`` and ``model.decode`` through ``torch.compile``.
    """

    def __init__(
        self, model: CodecModel, *, device: torch.device, dtype: torch.dtype, tiling: TilingConfig, compile: bool
    ) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        self.tiling = tiling
        config = model.config
        self.ratio = config.spatial_compression_ratio
        self.multiple = max(PIXEL_MULTIPLE, self.ratio)
        """Sides are padded to a multiple of this."""
        self.latent_channels = config.latent_channels
        self.latent_frames = CLIP_LENGTH // config.temporal_compression_ratio
        """Length of one clip's latent in time (t)."""
        for name in ("tile_size", "tile_overlap"):
            if getattr(tiling, name) % self.multiple:
                raise InputError(
                    f"{name} is {getattr(tiling, name)}; this model needs a multiple of {self.multiple} pixels"
                )
        # users call encode and decode: compiling forward would change nothing
        self._encode: Callable[..., Posterior] = torch.compile(model.encode) if compile else model.encode
        self._decode: Callable[..., Tensor] = torch.compile(model.decode) if compile else model.decode

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Latent height and width for a picture of ``height x width`` pixels."""
        return tuple(padded_length(side, multiple=self.multiple) // self.ratio for side in (height, width))  # type: ignore[return-value]

    def plan(self, height: int, width: int) -> TilePlan:
        """Tiles of a picture of ``height x width`` pixels, after padding."""
        return plan_tiles(
            padded_length(height, multiple=self.multiple),
            padded_length(width, multiple=self.multiple),
            tile_size=self.tiling.tile_size,
            tile_overlap=self.tiling.tile_overlap,
            shrink=self.multiple if self.tiling.shrink else None,
        )

    def posterior(self, clip: Tensor, *, keyframe_index: int, keyframe: Tensor | None = None) -> Posterior:
        """The moments of a clip, blended over its tiles.

        Args:
            clip: ``(B, 3, 16, H, W)`` uint8, or float in [-1, 1].
            keyframe_index: 0 to 15.
            keyframe: ``(B, 3, H, W)``, the picture that the decoder will have; by default the frame itself.

        Returns:
            ``(B, z, t, h, w)`` float32 mean and log variance, where ``clip`` lies.
        """
        plan = self.plan(*clip.shape[-2:])
        moments = (
            torch.cat([part.mean, part.logvar], dim=1).to(clip.device, torch.float32)  # (B, 2z, t, tile h, tile w)
            for part in self._encoded_tiles(clip, plan=plan, keyframe_index=keyframe_index, keyframe=keyframe)
        )
        bands = [band.clone() for band in blend_tiles(moments, plan.divided(self.ratio))]
        mean, logvar = torch.cat(bands, dim=-2).chunk(2, dim=1)  # 2 x (B, z, t, h, w)
        return Posterior(mean, logvar)

    def encode(self, clip: Tensor, *, keyframe_index: int, keyframe: Tensor | None = None) -> Tensor:
        """The normalised latent ``(B, z, t, h, w)`` float32 of ``clip``; arguments as for :meth:`posterior`.

        The mode is taken, not a sample: two runs give the same bits. The norm sees the whole clip, once.
        """
        mean = self.posterior(clip, keyframe_index=keyframe_index, keyframe=keyframe).mode()
        with torch.inference_mode():
            latent = self.model.latent(mean.to(self.device))
        return latent.to(mean.device, torch.float32).clone()

    def decode_bands(
        self,
        latent: Tensor,
        keyframe: Tensor,
        *,
        decoder: str,
        keyframe_index: int,
        neighbours: Neighbours | None = None,
    ) -> Iterator[Tensor]:
        """The clip's pixels from the top down, a band of rows at a time; each is valid until the next.

        Args:
            latent: ``(B, z, t, h, w)``.
            keyframe: ``(B, 3, H, W)`` uint8, or float in [-1, 1]; its size is the clip's.
            neighbours: key frames of the clips before and after, for a decoder that uses them.

        Yields:
            ``(B, 3, 16, rows, W)`` float32, not clipped.
        """
        height, width = keyframe.shape[-2:]
        plan = self.plan(height, width)
        tiles = self._decoded_tiles(
            latent, keyframe, plan=plan, decoder=decoder, keyframe_index=keyframe_index, neighbours=neighbours
        )
        top = 0
        for band in blend_tiles(tiles, plan):
            rows = min(band.shape[-2], height - top)
            if rows <= 0:  # padding alone
                return
            yield band[..., :rows, :width]
            top += rows

    def decode(
        self,
        latent: Tensor,
        keyframe: Tensor,
        *,
        decoder: str,
        keyframe_index: int,
        span: ClipSpan,
        out: Tensor,
        neighbours: Neighbours | None = None,
    ) -> None:
        """Write the real frames of ``span`` into ``out: (B, 3, n, H, W)``, float (clipped to [-1, 1]) or uint8."""
        top = 0
        for band in self.decode_bands(
            latent, keyframe, decoder=decoder, keyframe_index=keyframe_index, neighbours=neighbours
        ):
            real = band[:, :, span.keep]  # (B, 3, n, rows, W)
            pixels = to_bytes(real) if out.dtype == torch.uint8 else real.clamp(-1, 1)
            out[..., top : top + band.shape[-2], :] = pixels
            top += band.shape[-2]

    def _encoded_tiles(
        self, clip: Tensor, *, plan: TilePlan, keyframe_index: int, keyframe: Tensor | None
    ) -> Iterator[Posterior]:
        for places in self.batches(plan, batch=clip.shape[0]):
            video = self.cut(clip, places, plan=plan)  # (n*B, 3, 16, tile, tile)
            picture = None if keyframe is None else self.cut(keyframe, places, plan=plan)
            with torch.inference_mode(), self.autocast():
                found = self._encode(video, keyframe_index=keyframe_index, keyframe=picture)
            for mean, logvar in zip(found.mean.chunk(len(places)), found.logvar.chunk(len(places)), strict=True):
                yield Posterior(mean, logvar)

    def _decoded_tiles(
        self,
        latent: Tensor,
        keyframe: Tensor,
        *,
        plan: TilePlan,
        decoder: str,
        keyframe_index: int,
        neighbours: Neighbours | None,
    ) -> Iterator[Tensor]:
        latent_plan = plan.divided(self.ratio)
        for places in self.batches(plan, batch=latent.shape[0]):
            corners = [(y // self.ratio, x // self.ratio) for y, x in places]
            motion = self.cut(latent, corners, plan=latent_plan)  # (n*B, z, t, tile h, tile w)
            picture = self.cut(keyframe, places, plan=plan)  # (n*B, 3, tile, tile)
            around = self.cut_neighbours(neighbours, places, plan=plan)
            with torch.inference_mode(), self.autocast():
                video = self._decode(motion, picture, decoder=decoder, keyframe_index=keyframe_index, **around)
            yield from video.to(latent.device, torch.float32).chunk(len(places))

    def cut_neighbours(
        self, neighbours: Neighbours | None, places: list[tuple[int, int]], *, plan: TilePlan
    ) -> dict[str, Any]:
        """The model's arguments for neighbours, of the tiles at ``places``; none for None."""
        if neighbours is None:
            return {}
        pictures = (neighbours.previous, neighbours.next)
        tiles = tuple(None if picture is None else self.cut(picture, places, plan=plan) for picture in pictures)
        return {"neighbours": tiles, "neighbour_places": neighbours.places}

    def batches(self, plan: TilePlan, *, batch: int) -> Iterator[list[tuple[int, int]]]:
        """Corners of the tiles that run together; ``tile_batch`` counts tiles of all videos of a batch."""
        windows = plan.windows
        together = max(1, self.tiling.tile_batch // batch)
        for first in range(0, len(windows), together):
            yield windows[first : first + together]

    def cut(self, tensor: Tensor, places: list[tuple[int, int]], *, plan: TilePlan) -> Tensor:
        """The tiles at ``places`` along the batch axis, as floats where the model is: (n*B, ..., tile, tile)."""
        tiles = [
            to_unit(window(tensor, top=y, left=x, height=plan.rows.tile, width=plan.columns.tile).to(self.device))
            for y, x in places
        ]
        # one memory layout, whatever the input had: else the same video as bytes and as floats takes other kernels
        return torch.cat(tiles).contiguous()

    def autocast(self) -> torch.autocast:
        """What the model computes in, as a context."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def find_neighbours(
    keyframes: Sequence[Tensor],
    spans: Sequence[ClipSpan],
    *,
    keyframe_index: int,
    outside: tuple[Tensor | None, Tensor | None] = (None, None),
) -> list[Neighbours]:
    """For each clip of a video the key frames of the clips beside it.

    Args:
        keyframes: ``(B, 3, H, W)`` of each clip.
        spans: where the clips' frames lie.
        keyframe_index: which of a clip's 16 frames is its key frame.
        outside: key frames before the first clip, 16 frames before its own, and after the last, or None.
    """
    frames = [span.start + own_keyframe(span.frames, keyframe_index=keyframe_index) for span in spans]
    frames = [frames[0] - CLIP_LENGTH, *frames, frames[-1] + CLIP_LENGTH]
    pictures = [outside[0], *keyframes, outside[1]]
    return [
        Neighbours(
            previous=pictures[number],
            next=pictures[number + 2],
            places=(span.place(frames[number]), span.place(frames[number + 2])),
        )
        for number, span in enumerate(spans)
    ]
