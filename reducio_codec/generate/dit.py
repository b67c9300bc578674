"""Reducio-DiT: noise to a clip's motion latent, given its key picture and a text (Sec. 3.2)."""

from __future__ import annotations

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reducio_codec.errors import InputError
from reducio_codec.generate.block_cache import BlockCache
from reducio_codec.generate.blocks import NORM_EPS, Block, modulate
from reducio_codec.generate.conditioning import Conditions, check_conditions
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.content import STRIDE, content_encoder
from reducio_codec.generate.context import Context, Told
from reducio_codec.generate.controls import ControlEmbedding
from reducio_codec.generate.embeddings import TimeEmbedding, first_place_codes, place_codes, sinusoids
from reducio_codec.models.reducio.layers import ResidualBlock

INIT_STD = 0.02

_FIRST_GRID = 8
"""Positions of a latent along a side of 256 pixels: what the first models' places are counted in."""


class ReducioDiT(nn.Module):
    """The transformer with the layers that take its conditions in, its content encoder among them."""

    def __init__(self, config: DiTConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiTConfig()
        self._gradient_checkpointing = False
        width = config.width
        patch = config.latent_channels * config.patch_time * config.patch_space**2
        self.patch_in = nn.Linear(patch, width)
        self.time = TimeEmbedding(width, kind=config.embeddings)
        if config.embeddings == "pixart":
            self.time_code = nn.Parameter(torch.zeros(config.latent_frames // config.patch_time, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)
        self.offset_out = nn.Parameter(torch.zeros(2, width))
        self.patch_out = nn.Linear(width, patch)
        self.null_image = nn.Parameter(torch.zeros(1, 1, width))
        if config.text_channels:
            self.text_in = _mlp(config.text_channels, width)
            self.null_text = nn.Parameter(torch.zeros(1, config.text_tokens, config.text_channels))
        if config.uses_semantic:
            self.semantic_in = _mlp(config.semantic_channels, width)
        if config.uses_content:
            self.content = content_encoder(config)
            channels = self.content.channels
            at_place = config.content_at == "place"
            self.content_in = _mlp(channels * self._cells**2, width) if at_place else nn.Linear(channels, width)
        if config.motion_unit:
            self.controls = ControlEmbedding(width)
        if config.goes_on:
            self.known_in = nn.Linear(config.latent_frames, width)
        self._start()

    def _start(self) -> None:
        """Starting values (PixArt-alpha): each block begins as the identity for conditions, and the output as zero."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("content."):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for part in (self.time, self.modulation):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=INIT_STD)
        self.time.start()
        if self.config.motion_unit:
            self.controls.start()
        if self.config.goes_on:
            nn.init.zeros_(self.known_in.weight)
        for block in self.blocks:
            nn.init.normal_(cast(Block, block).offset, std=self.config.width**-0.5)
            cross = cast(Block, block).cross
            if cross is not None:
                nn.init.zeros_(cross.proj.weight)
            attn_time = cast(Block, block).attn_time
            if attn_time is not None:
                nn.init.zeros_(attn_time.proj.weight)
        nn.init.normal_(self.offset_out, std=self.config.width**-0.5)
        nn.init.normal_(self.null_image, std=INIT_STD)
        if self.config.text_channels:
            nn.init.normal_(self.null_text, std=self.config.text_channels**-0.5)
        nn.init.zeros_(self.patch_out.weight)

    @property
    def gradient_checkpointing(self) -> bool:
        """Recompute blocks, the content encoder's too, in the backward pass: less memory, about a third more time."""
        return self._gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self._gradient_checkpointing = value
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.checkpointing = value

    @property
    def dtype(self) -> torch.dtype:
        return self.patch_in.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.patch_in.weight.device

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of the parts: transformer, content_encoder, and what takes text and semantic tokens in."""
        counts = {"transformer": 0, "content_encoder": 0, "condition_layers": 0}
        for name, parameter in self.named_parameters():
            if name.startswith("content."):
                part = "content_encoder"
            elif name.startswith(("text_in.", "semantic_in.", "content_in.", "null_", "controls.", "known_in.")):
                part = "condition_layers"
            else:
                part = "transformer"
            counts[part] += parameter.numel()
        return counts

    def context(self, conditions: Conditions) -> Context:
        """Keys and values of the condition tokens for every block.

        Raises:
            InputError: conditions of another kind or shape than this model takes.
        """
        check_conditions(conditions, config=self.config)
        conditions = conditions.to(self.device, dtype=self.dtype)
        batch = conditions.batch
        always = torch.ones(batch, dtype=torch.bool, device=self.device)
        has_image = conditions.semantic is not None or self._has_picture(conditions)
        keep_image = (always if conditions.keep_image is None else conditions.keep_image) & has_image  # (B,)
        keep_text = (always if conditions.keep_text is None else conditions.keep_text) & (conditions.text is not None)
        shared: list[Tensor] = []  # (B, S_i, C) each
        if conditions.text is not None:
            shared.append(self.text_in(conditions.text))
        if conditions.semantic is not None:
            shared.append(self.semantic_in(conditions.semantic))
        groups = self._content_groups(conditions)  # up to 4 x (B, S_c, C)
        nulls = [self.null_image]  # (1, S_n, C) each
        if self.config.text_channels:
            nulls.append(self.text_in(self.null_text))
        pictured = sum(part.shape[1] for part in (*shared[conditions.text is not None :], *groups[:1]))

        def told(image: Tensor, text: Tensor) -> Tensor:
            """(B,) twice, whether picture and text are told, to the mask (B, S)."""
            parts = [] if conditions.text_mask is None else [conditions.text_mask.bool() & text[:, None]]
            untold = [
                ~keep[:, None].expand(-1, part.shape[1]) for keep, part in zip((image, text), nulls, strict=False)
            ]
            return torch.cat([*parts, image[:, None].expand(-1, pictured), *untold], dim=1)

        tail = [part.expand(batch, -1, -1) for part in nulls]
        sequences = [torch.cat([*shared, group, *tail], dim=1) for group in groups]  # (B, S, C) each
        sequences = sequences or [torch.cat([*shared, *tail], dim=1)]
        crosses = [cast(Block, block).cross for block in self.blocks]
        key_values = tuple(
            cross.project(sequences[number % len(sequences)])
            for number, cross in enumerate(crosses)
            if cross is not None
        )
        return Context(
            key_values=key_values,
            mask=told(keep_image, keep_text),
            nothing=told(~always, ~always),
            wordless=told(keep_image, ~always),
            size=conditions.size.to(self.device, non_blocking=self.device.type != "cpu"),
            sides=conditions.sides,
            places=self._content_places(conditions, keep=keep_image),
            controls=self._controls(conditions),
            known=conditions.known,
            is_known=None if conditions.is_known is None else conditions.is_known[:, None, :, None, None],
        )

    def forward(self, latent: Tensor, timestep: Tensor, context: Context, *, cache: BlockCache | None = None) -> Tensor:
        """The network's prediction for noisy latents: noise, or velocity (``config.objective``).

        Args:
            latent: (B, z, t, h, w).
            timestep: (B,) in [0, 1000].
            context: of ``context()``, for the same B clips.
            cache: lets the middle blocks rest at every second evaluation.

        Returns:
            (B, z, t, h, w).
        """
        config = self.config
        self._check_latent(latent, context)
        p_t, p_s = config.patch_time, config.patch_space
        if context.known is not None and context.is_known is not None:
            latent = torch.where(context.is_known, context.known.to(latent), latent)
        patches = rearrange(
            latent.to(self.dtype), "b z (t p) (h q) (w r) -> b t h w (z p q r)", p=p_t, q=p_s, r=p_s
        )  # (B, t, h, w, patch)
        _, t, h, w, _ = patches.shape
        x = self.patch_in(patches.flatten(1, 3)) + self._positions(t, h, w)  # (B, N, C)
        if context.places is not None:
            x = x + context.places.told.repeat(1, t, 1)
        if context.is_known is not None:
            x = x + self.known_in(context.is_known.flatten(1).to(self.dtype))[:, None]
        vector = self.time(timestep.to(self.device), context.size)  # (B, C)
        if context.controls is not None:
            vector = vector + context.controls.told
        modulation = rearrange(self.modulation(vector), "b (six c) -> b six c", six=6)  # (B, 6, C)

        def run(x: Tensor, first: int, end: int) -> Tensor:
            for number in range(first, end):
                key_value = context.key_values[number] if context.key_values else None
                inputs = (x, modulation, key_value, context.mask)
                if self.gradient_checkpointing and torch.is_grad_enabled():
                    x = checkpoint(self.blocks[number], *inputs, times=t, use_reentrant=False)
                else:
                    x = self.blocks[number](*inputs, times=t)  # (B, N, C)
            return x

        depth = len(self.blocks)
        if cache is None:
            x = run(x, 0, depth)
        else:
            x = cache(run(x, 0, cache.first), lambda x: run(x, cache.first, cache.end))
            x = run(x, cache.end, depth)
        shift, scale = (vector[:, None] + self.offset_out).chunk(2, dim=1)  # (B, 1, C) each
        out = self.patch_out(modulate(self.norm_out(x), shift, scale))  # (B, N, patch)
        noise: Tensor = rearrange(
            out, "b (t h w) (z p q r) -> b z (t p) (h q) (w r)", t=t, h=h, w=w, p=p_t, q=p_s, r=p_s
        )  # (B, z, t, h, w)
        return noise

    def _positions(self, t: int, h: int, w: int) -> Tensor:
        """Codes of places and times, added up: (t * h * w, C)."""
        config = self.config
        place = self._places(h, w, pixels=config.spatial_compression_ratio * config.patch_space)  # (h * w, C)
        if config.embeddings == "pixart":
            time = self.time_code.to(place)  # (t, C)
        else:
            time = sinusoids(torch.arange(t, device=self.device), channels=config.width)
        return (time[:, None] + place[None]).flatten(0, 1).to(self.dtype)

    def _places(self, rows: int, columns: int, *, pixels: int) -> Tensor:
        """Codes of places on a grid, one for each square of so many pixels: (rows * columns, C) float32."""
        config = self.config
        if config.embeddings == "pixart":
            return place_codes(rows, columns, reach=config.place_reach, channels=config.width, device=self.device)
        spacing = _FIRST_GRID * pixels / config.sample_size
        return first_place_codes(rows, columns, spacing=spacing, channels=config.width, device=self.device)

    def _content_groups(self, conditions: Conditions) -> list[Tensor]:
        """Content tokens (B, S_c, C): all of them, or four interleaved grids of a quarter each (Fig. 11)."""
        if not self._has_picture(conditions) or self.config.content_at == "place":
            return []
        features = self._features(conditions)
        rows, columns = features.shape[-2:]
        place = self._places(rows, columns, pixels=STRIDE)
        tokens = self.content_in(features.flatten(2).transpose(1, 2)) + place.to(self.dtype)  # (B, rows * columns, C)
        if self.config.content_groups == 1:
            return [tokens]
        grid = rearrange(tokens, "b (h y w x) c -> y x b (h w) c", w=columns // 2, y=2, x=2)
        return [grid[y, x] for y in range(2) for x in range(2)]

    def _features(self, conditions: Conditions) -> Tensor:
        """(B, C, H / 16, W / 16)."""
        if conditions.content is not None:
            return conditions.content
        return cast(Tensor, self.content(cast(Tensor, conditions.keyframe)))

    @property
    def _cells(self) -> int:
        """Content tokens for each latent token, along a side."""
        return self.config.spatial_compression_ratio * self.config.patch_space // STRIDE

    def _content_places(self, conditions: Conditions, *, keep: Tensor) -> Told | None:
        """Content (B, places, C) at the place of each latent token, where ``keep`` (B,) says so."""
        if self.config.content_at != "place":
            return None
        rows, columns = (side // STRIDE // self._cells for side in conditions.sides)
        nothing = self.null_image.expand(conditions.batch, rows * columns, -1)
        if not self._has_picture(conditions):
            return Told(nothing, nothing)
        tokens = rearrange(
            self._features(conditions), "b c (h y) (w x) -> b (h w) (c y x)", y=self._cells, x=self._cells
        )  # (B, places, C * cells^2)
        return Told(torch.where(keep[:, None, None], self.content_in(tokens.to(self.dtype)), nothing), nothing)

    def _controls(self, conditions: Conditions) -> Told | None:
        if not self.config.motion_unit:
            return None
        unsaid = torch.full((conditions.batch, 5), float("nan"), device=self.device)
        motion = unsaid[:, 0] if conditions.motion is None else conditions.motion
        camera = unsaid[:, 1:] if conditions.camera is None else conditions.camera
        return Told(self.controls(motion, camera), self.controls(unsaid[:, 0], unsaid[:, 1:]))

    @staticmethod
    def _has_picture(conditions: Conditions) -> bool:
        return conditions.keyframe is not None or conditions.content is not None

    def _check_latent(self, latent: Tensor, context: Context) -> None:
        config = self.config
        sides = [side // config.spatial_compression_ratio for side in context.sides]
        needed = (len(context.size), config.latent_channels, config.latent_frames, *sides)
        if tuple(latent.shape) != needed:
            raise InputError(f"latent has shape {tuple(latent.shape)}; these conditions need {needed}")


def _mlp(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, width), nn.GELU(approximate="tanh"), nn.Linear(width, width))
