"""One clip of 16 frames through a model: padding, tiles in batches, precision, joining.

Everything above this file (tensors, streams, files) works clip by clip through a :class:`ClipRunner`, so all of them
compute the same numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from reducio_codec.clips.padding import padded_length, window
from reducio_codec.clips.spans import ClipSpan
from reducio_codec.clips.tiling import Piece, TilePlan, blend_tiles, plan_tiles
from reducio_codec.config import CLIP_LENGTH, PIXEL_MULTIPLE, TilingConfig
from reducio_codec.errors import InputError
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.io.stages import stage, timed
from reducio_codec.io.threads import in_threads
from reducio_codec.models.contract import CodecModel, Reference
from reducio_codec.models.posterior import Posterior

_LARGEST_AT_ONCE = 512 * 512
"""Pixels of a tile: larger ones, and clips of one, are computed after one another, each by all threads. They lose less of the
time then, and at once they would take their multiple of memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ClipRunner:
    """Runs clips of any size through ``model``.

    Args:
        model: in eval mode, on ``device``.
        device: where the model is. Clips and latents may lie elsewhere; results come back to where they lay.
        dtype: what convolutions and products compute in (autocast); weights stay as they are.
        tiling: how pictures larger than a tile are cut.
        compile: pass ``model.encode`` and ``model.decode`` through ``torch.compile``.
        gradients: record gradients where the caller does, for training; by default nothing ever does.
    """

    def __init__(
        self,
        model: CodecModel,
        *,
        device: torch.device,
        dtype: torch.dtype,
        tiling: TilingConfig,
        compile: bool,
        gradients: bool = False,
    ) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        self.gradients = gradients
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
        self._compiled = compile
        self._encode: Callable[..., Posterior] = torch.compile(model.encode) if compile else model.encode
        self._decode: Callable[..., Tensor] = torch.compile(model.decode) if compile else model.decode

    def with_gradients(self) -> ClipRunner:
        """The same with ``gradients``."""
        other = copy.copy(self)
        other.gradients = True
        return other

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Latent height and width for a picture of ``height x width`` pixels."""
        return tuple(padded_length(side, multiple=self.multiple) // self.ratio for side in (height, width))  # type: ignore[return-value]

    def plan(self, height: int, width: int, *, tiling: TilingConfig | None = None) -> TilePlan:
        """Tiles of a picture of ``height x width`` pixels, after padding; by another ``tiling`` than the runner's if given."""
        tiling = tiling or self.tiling
        return plan_tiles(
            padded_length(height, multiple=self.multiple),
            padded_length(width, multiple=self.multiple),
            tile_size=tiling.tile_size,
            tile_overlap=tiling.tile_overlap,
            shrink=self.multiple if tiling.shrink else None,
        )

    def posterior(self, clip: Tensor, *, references: Sequence[Reference]) -> Posterior:
        """The moments of a clip, blended over its tiles.

        Args:
            clip: ``(B, 3, 16, H, W)`` uint8, or float in [-1, 1].
            references: the pictures inside the clip that the decoder will have, as it will have them: ``(B, 3, H, W)`` uint8,
                or float in [-1, 1]. Those beside it have a part in the latent of a clip that has none inside.

        Returns:
            ``(B, z, t, h, w)`` float32 mean and log variance, where ``clip`` lies.
        """
        plan = self.plan(*clip.shape[-2:])
        given = [item for item in references if not item.beside] or list(references)
        moments = (
            torch.cat([part.mean, part.logvar], dim=1).to(torch.float32)  # (B, 2z, t, tile h, tile w)
            for part in self._encoded_tiles(clip, given, plan=plan)
        )
        grid = plan.divided(self.ratio)
        shape = (clip.shape[0], 2 * self.latent_channels, self.latent_frames, grid.rows.length, grid.columns.length)
        whole = torch.empty(shape, device=self.device)
        for piece in timed(blend_tiles(moments, grid), "blending"):
            piece.place(whole)
        mean, logvar = whole.to(clip.device).chunk(2, dim=1)  # 2 x (B, z, t, h, w)
        return Posterior(mean, logvar)

    def encode(self, clip: Tensor, *, references: Sequence[Reference]) -> Tensor:
        """The normalised latent ``(B, z, t, h, w)`` float32 of ``clip``; arguments as for :meth:`posterior`.

        The mode is taken, not a sample: two runs give the same bits. The norm sees the whole clip, once.
        """
        mean = self.posterior(clip, references=references).mode()
        with self._inference():
            latent = self.model.latent(mean.to(self.device))
        return latent.to(mean.device, torch.float32).clone()

    def decode_pieces(
        self, latent: Tensor, references: Sequence[Reference], *, decoder: str, size: tuple[int, int]
    ) -> Iterator[Piece]:
        """The clip's pixels, piece by piece, where the model is.

        Args:
            latent: ``(B, z, t, h, w)``.
            references: whatever there is inside the clip and beside it, ``(B, 3, H, W)`` uint8 or float in [-1, 1]; the
                decoder takes those that it makes use of.
            size: H and W.

        Yields:
            Pieces ``(B, 3, 16, rows, columns)`` float32, not clipped, which cover H x W.
        """
        height, width = size
        self._check_sizes(references, height, width)
        plan = self.plan(height, width)
        tiles = self._decoded_tiles(latent, references, plan=plan, decoder=decoder)
        for top, left, values in blend_tiles(tiles, plan):
            if top < height and left < width:  # else padding alone
                yield Piece(top, left, values[..., : height - top, : width - left])
            del values  # not to be held while the next piece is made

    def decode(
        self, latent: Tensor, references: Sequence[Reference], *, decoder: str, span: ClipSpan, out: Tensor
    ) -> None:
        """Write the real frames of ``span`` into ``out: (B, 3, n, H, W)``, float (clipped to [-1, 1]) or uint8.

        Tiles are blended and rounded where the model is; what is copied to ``out`` is the finished pixels, once.
        """
        size = (out.shape[-2], out.shape[-1])
        if len(self.plan(*size).windows) == 1 and not self.gradients and not self._compiled:
            self._decode_whole(latent, references, decoder=decoder, span=span, out=out)
            return
        pieces = self.decode_pieces(latent, references, decoder=decoder, size=size)
        for top, left, values in timed(pieces, "blending"):
            with stage("blending"):
                real = values[:, :, span.keep]  # (B, 3, n, rows, columns)
                if out.dtype != torch.uint8:
                    Piece(top, left, real.clamp(-1, 1)).place(out)
                else:
                    for number in range(real.shape[2]):  # one by one: what is between floats and bytes stays small
                        Piece(top, left, to_bytes(real[:, :, number])).place(out[:, :, number])
            del values, real  # not to be held while the next piece is made

    def _decode_whole(
        self, latent: Tensor, references: Sequence[Reference], *, decoder: str, span: ClipSpan, out: Tensor
    ) -> None:
        """``decode`` of a picture that is one tile: no clip of floats is made where the model needs none."""
        height, width = out.shape[-2:]
        self._check_sizes(references, height, width)
        plan = self.plan(height, width)
        kept = range(CLIP_LENGTH)[span.keep]

        def put(frames: slice, pixels: Tensor) -> None:
            with stage("blending"):
                for number, picture in zip(range(len(latent) * CLIP_LENGTH)[frames], pixels, strict=True):
                    clip, frame = divmod(number, CLIP_LENGTH)
                    if frame in kept:
                        real = picture[:, :height, :width]
                        out[clip, :, frame - kept.start] = (
                            to_bytes(real) if out.dtype == torch.uint8 else real.clamp(-1, 1)
                        )

        motion = self.cut(latent, [(0, 0)], plan=plan.divided(self.ratio))
        selected = self.model.decoder(decoder).select(references)
        used = self.cut_references(selected, [(0, 0)], plan=plan, floats=not self.model.takes_bytes)
        with stage("network"), self._inference(), self.autocast():
            self.model.decode_each(motion, used, decoder=decoder, put=put)

    @staticmethod
    def _check_sizes(references: Sequence[Reference], height: int, width: int) -> None:
        for item in references:
            if tuple(item.picture.shape[-2:]) != (height, width):
                found = "x".join(map(str, item.picture.shape[:-3:-1]))
                raise InputError(f"a reference is {found}, its clip {width}x{height}; they must have one size")

    def _encoded_tiles(self, clip: Tensor, references: Sequence[Reference], *, plan: TilePlan) -> Iterator[Posterior]:
        def encoded(places: list[tuple[int, int]]) -> list[Posterior]:
            video = self.cut(clip, places, plan=plan, floats=not self.model.takes_bytes)  # (n*B, 3, 16, tile, tile)
            pictures = self.cut_references(references, places, plan=plan)
            with stage("network"), self._inference(), self.autocast():
                found = self._encode(video, references=pictures)
            parts = zip(found.mean.chunk(len(places)), found.logvar.chunk(len(places)), strict=True)
            return [Posterior(mean, logvar) for mean, logvar in parts]

        for tiles in self._tiles_at_once(encoded, plan=plan, batch=clip.shape[0]):
            yield from tiles

    def _decoded_tiles(
        self, latent: Tensor, references: Sequence[Reference], *, plan: TilePlan, decoder: str
    ) -> Iterator[Tensor]:
        latent_plan = plan.divided(self.ratio)
        used = self.model.decoder(decoder).select(references)

        def decoded(places: list[tuple[int, int]]) -> list[Tensor]:
            corners = [(y // self.ratio, x // self.ratio) for y, x in places]
            motion = self.cut(latent, corners, plan=latent_plan)  # (n*B, z, t, tile h, tile w)
            pictures = self.cut_references(used, places, plan=plan)
            with stage("network"), self._inference(), self.autocast():
                return [*self._decode(motion, pictures, decoder=decoder).to(torch.float32).chunk(len(places))]

        for tiles in self._tiles_at_once(decoded, plan=plan, batch=latent.shape[0]):
            while tiles:
                yield tiles.pop(0)  # not to be held while the next ones are made

    def _tiles_at_once(
        self, job: Callable[[list[tuple[int, int]]], Result], *, plan: TilePlan, batch: int
    ) -> Generator[Result]:
        return in_threads(job, self.batches(plan, batch=batch), most=self._most_at_once(plan))

    def clips_at_once(
        self, job: Callable[[Item], Result], items: Iterable[Item], *, sizes: Iterable[tuple[int, int]]
    ) -> Generator[Result]:
        """What ``job`` makes of each item, in order, several of them at a time where all are small clips, see ``in_threads``.

        Args:
            sizes: height and width of all of them.
        """
        return in_threads(job, items, most=min((self.most_clips_at_once(*size) for size in sizes), default=1))

    def most_clips_at_once(self, height: int, width: int) -> int:
        """How many clips of that size are computed at once here and now."""
        plan = self.plan(height, width)
        return self._most_at_once(plan) if len(plan.windows) == 1 else 1

    def _most_at_once(self, plan: TilePlan) -> int:
        alone = self.gradients or self._compiled or self.device.type != "cpu"
        # who counts or records operations hears of those of its own thread alone
        if alone or _get_current_dispatch_mode() is not None or plan.rows.tile * plan.columns.tile > _LARGEST_AT_ONCE:
            return 1
        return min(self.tiling.tile_threads, torch.get_num_threads())

    def cut_references(
        self,
        references: Sequence[Reference],
        places: list[tuple[int, int]],
        *,
        plan: TilePlan,
        floats: bool = True,
    ) -> list[Reference]:
        """Their tiles at ``places``, as ``cut`` makes them."""
        return [
            replace(
                item,
                picture=self.cut(item.picture, places, plan=plan, floats=floats),  # (n*B, 3, tile, tile)
                present=None if item.present is None else item.present * len(places),
            )
            for item in references
        ]

    def batches(self, plan: TilePlan, *, batch: int) -> list[list[tuple[int, int]]]:
        """Corners of the tiles that run together; ``tile_batch`` counts tiles of all videos of a batch."""
        windows = plan.windows
        together = max(1, self.tiling.tile_batch // batch)
        return [windows[first : first + together] for first in range(0, len(windows), together)]

    def cut(self, tensor: Tensor, places: list[tuple[int, int]], *, plan: TilePlan, floats: bool = True) -> Tensor:
        """The tiles at ``places`` along the batch axis where the model is: (n*B, ..., tile, tile). Bytes stay as they are unless
        they are wanted as ``floats``."""
        tiles = [
            window(tensor, top=y, left=x, height=plan.rows.tile, width=plan.columns.tile).to(self.device)
            for y, x in places
        ]
        if floats:
            tiles = [to_unit(tile) for tile in tiles]
        # one memory layout, whatever the input had: else the same video as bytes and as floats takes other kernels
        return torch.cat(tiles).contiguous()

    def _inference(self) -> AbstractContextManager[object]:
        return nullcontext() if self.gradients else torch.no_grad()

    def autocast(self) -> torch.autocast:
        """What the model computes in, as a context."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
