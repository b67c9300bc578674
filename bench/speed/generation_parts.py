"""What making a clip is made of: encoders of text and pictures, conditions, transformer, decoders, and all of it together.

Each part is opened apart (its weights alone are in memory) and called on what the part before would give. Weights are
random wherever none are bundled: time doesn't depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.methods import NotRunError
from bench.speed.coders import clip_at, lite_codec, paper_codec
from bench.subjects import fill
from reducio_codec.clips.budget import available_memory
from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import MissingDependencyError
from reducio_codec.generate.conditioning import Conditions
from reducio_codec.generate.config import PRESETS, DiTConfig
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.optional import diffusers, open_clip, transformers
from reducio_codec.generate.pipeline import ReducioDiTPipeline
from reducio_codec.generate.sampling import SAMPLERS, draw_noise, evaluations, make_generators, sample
from reducio_codec.generate.semantic import ImageEncoder
from reducio_codec.models.precision import resolve_dtype

Call = Callable[[], object]

LITE = "lite"
TEXT_ENCODER, IMAGE_ENCODER = "text encoder", "image encoder"
ENCODERS = (TEXT_ENCODER, IMAGE_ENCODER)

SEMANTIC_TOKENS = 257
"""Of ViT-H/14 at 224 pixels: 16 x 16 patches and the picture's own."""

PICTURE = "picture, PixArt-alpha"
"""The key picture of text to video, its text already in tokens."""
PICTURE_STEPS, PICTURE_GUIDANCE = 20, 4.5
"""The defaults of PixArt-alpha's pipeline."""
_PIXART_SIDES = {256: 32, 512: 64, 1024: 128}
"""A picture's side in pixels to its latent's."""
_SD_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
_VAE_TINY = {**_SD_VAE, "block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4}

FLAN_T5_XXL: dict[str, Any] = {
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu", "pad_token_id": 0,
}  # fmt: skip
"""Its encoder, by its published configuration: 4.8 B parameters."""
_T5_TINY = {**FLAN_T5_XXL, "vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
_VIT_TINY = {"image_size": 28, "layers": 1, "width": 32, "head_width": 16, "patch_size": 14}
_TEXT_TINY = {"context_length": 8, "vocab_size": 32, "width": 8, "heads": 1, "layers": 1}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something to time."""

    name: str
    role: str
    """``picture``, ``conditions``, ``transformer``, ``sampling``, ``decoder``, ``whole`` or ``encoder``."""
    work: float
    """How much it is, for one clip: time grows with it among parts of one ``kind``."""
    kind: str
    steps: int = 0
    guidance: float = 1.0
    decoder: str = ""
    """``lite`` or ``paper``."""


def subjects(presets: tuple[str, ...], *, encoders: bool) -> tuple[str, ...]:
    """What is measured: presets, and the encoders that the paper's presets share."""
    return (*presets, *(ENCODERS if encoders else ()))


def takes_text(subject: str) -> bool:
    """Whether it is a preset of the paper's; those for reducio-lite start from a picture alone."""
    return subject in PRESETS and PRESETS[subject].text_channels > 0


def config_of(preset: str, *, tiny: bool) -> DiTConfig:
    """The preset, or a toy with the same kinds of conditions."""
    config = PRESETS[preset]
    if not tiny:
        return config
    return replace(
        config,
        depth=2,
        width=48,
        heads=2,
        content_base=config.content_base if config.content == "alexnet" else 32,
        sample_size=64,
        text_channels=16 if config.text_channels else 0,
        text_tokens=8 if config.text_tokens else 0,
        semantic_channels=32 if config.semantic_channels else 0,
    )


def parts_of(subject: str, *, samplings: tuple[tuple[int, float], ...], tiny: bool) -> list[Part]:
    """The parts of a subject, the cheapest of a kind first."""
    if subject in ENCODERS:
        return [Part(name=subject, role="encoder", work=1, kind=subject)]
    config = config_of(subject, tiny=tiny)
    ours = not takes_text(subject)
    family = LITE if ours else "paper"
    pixels = config.sample_size**2
    tokens = pixels / config.spatial_compression_ratio**2 * config.latent_frames
    sampler = SAMPLERS[config.objective][0]
    runs = [
        (f"{steps} steps, guidance {guidance:g}", steps, guidance, (1 + (guidance != 1)) * evaluations(sampler, steps))
        for steps, guidance in samplings
    ]
    network = f"transformer {family}"
    return [
        *(
            [Part(name=PICTURE, role="picture", work=pixels, kind="picture", steps=PICTURE_STEPS, guidance=PICTURE_GUIDANCE)]
            if not ours
            else []
        ),
        Part(name="conditions", role="conditions", work=pixels, kind=f"conditions {family}"),
        Part(name="transformer, 1 evaluation", role="transformer", work=tokens, kind=network),
        *(
            Part(name=f"transformer, {name}", role="sampling", work=count * tokens, kind=network, steps=steps, guidance=scale)
            for name, steps, scale, count in runs
        ),
        *(
            Part(name=f"decoder {name}", role="decoder", work=pixels, kind=f"decoder {name}", decoder=name)
            for name in ((LITE,) if ours else (LITE, "paper"))
        ),
        *(
            Part(name=f"whole, {name}", role="whole", work=count * tokens, kind="whole", steps=steps, guidance=scale)
            for name, steps, scale, count in runs
            if ours
        ),
    ]  # fmt: skip


@dataclass(kw_only=True)
class Opened:
    """A subject on a device; its models are made when a part first needs them."""

    subject: str
    device: str
    tiny: bool

    def __post_init__(self) -> None:
        self.dtype = resolve_dtype("auto", device=torch.device(self.device))
        self.weights: dict[str, str] = {}
        """Of each model that was opened, in words."""
        self._codecs: dict[str, ReducioCodec] = {}

    @cached_property
    def config(self) -> DiTConfig:
        return config_of(self.subject, tiny=self.tiny)

    @cached_property
    def transformer(self) -> ReducioDiT:
        self.weights["transformer"] = "random"
        with torch.device("meta"):
            model = ReducioDiT(self.config)
        made: ReducioDiT = self._random(model)
        return made

    def codec(self, name: str) -> ReducioCodec:
        """The codec whose decoder is timed."""
        if name not in self._codecs:
            found: dict[str, Any] = {"weights": "random"}
            if name == LITE:
                found = lite_codec(self.dtype, self.tiny, self.device)
            else:
                found["codec"] = paper_codec(self.dtype, self.tiny, self.device)
            self._codecs[name], self.weights[f"decoder {name}"] = found["codec"], found["weights"]
        return self._codecs[name]

    @cached_property
    def pipeline(self) -> ReducioDiTPipeline:
        return ReducioDiTPipeline(self.transformer, self.codec(LITE))

    @cached_property
    def picture_maker(self) -> Any:
        """PixArt-alpha's pipeline without its text encoder, which is timed apart."""
        self.weights["picture"] = "random"
        package, side = diffusers(), 8 if self.tiny else _PIXART_SIDES[self.config.sample_size]
        heads, channels = (2, 24) if self.tiny else (16, 72)
        with torch.device("meta"):
            transformer = package.PixArtTransformer2DModel(
                sample_size=side,
                num_layers=1 if self.tiny else 28,
                num_attention_heads=heads,
                attention_head_dim=channels,
                cross_attention_dim=heads * channels,
                caption_channels=self.config.text_channels,
                use_additional_conditions=side == _PIXART_SIDES[1024],
            )
            vae = package.AutoencoderKL(**(_VAE_TINY if self.tiny else _SD_VAE))
        transformer = self._random(transformer)
        transformer.pos_embed.pos_embed.zero_()  # in no file, so it isn't filled
        found = package.PixArtAlphaPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=self._random(vae),
            transformer=transformer,
            scheduler=package.DPMSolverMultistepScheduler(),
        )
        found.set_progress_bar_config(disable=True)
        return found

    @cached_property
    def encoder(self) -> Any:
        """T5's encoder, or the picture half of OpenCLIP."""
        self.weights[self.subject] = "random"
        try:
            with torch.device("meta"):
                if self.subject == TEXT_ENCODER:
                    package = transformers()
                    model = package.T5EncoderModel(package.T5Config(**(_T5_TINY if self.tiny else FLAN_T5_XXL)))
                else:
                    model = self._clip()
        except MissingDependencyError as error:
            raise NotRunError(str(error)) from error
        return self._random(model)

    def _clip(self) -> nn.Module:
        package = open_clip()
        config = package.get_model_config("ViT-H-14")
        if self.tiny:
            config = {"embed_dim": 8, "vision_cfg": _VIT_TINY, "text_cfg": _TEXT_TINY}
        model = package.model.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
        visual: nn.Module = model.visual
        return visual

    def _random(self, model: Any) -> Any:
        """From the meta device to random weights here, if they fit."""
        needed = sum(parameter.numel() for parameter in model.parameters()) * self.dtype.itemsize
        free = available_memory(torch.device(self.device))
        if 1.1 * needed > free:
            raise NotRunError(
                f"its weights take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on {self.device}"
            )
        model = model.to(self.dtype).to_empty(device=self.device)
        fill(model, seed=0)
        return model.requires_grad_(False).eval()

    def weight_bytes(self, part: Part) -> int:
        """Memory that the weights of a part take."""
        if part.role == "encoder":
            models = [self.encoder]
        elif part.role == "decoder":
            models = [self.codec(part.decoder).model]
        elif part.role == "picture":
            models = [self.picture_maker.transformer, self.picture_maker.vae]
        else:
            models = [self.transformer, *([self.codec(LITE).model] if part.role == "whole" else [])]
        return sum(parameter.numel() * parameter.element_size() for model in models for parameter in model.parameters())

    def prepare(self, part: Part, *, batch: int, brief: bool = False, side: int | None = None) -> Call:
        """The timed call; everything that it needs is made here.

        Args:
            brief: fewer steps, and as much memory.
            side: of a decoder's clip in pixels, other than the preset's.
        """
        steps = min(part.steps, 2) if brief else part.steps
        if part.role == "encoder":
            return self._encoder_call(batch)
        if part.role == "decoder":
            return self._decoder_call(part, batch, side=side or self.config.sample_size)
        if part.role == "picture":
            return self._picture_call(batch, steps=steps, guidance=part.guidance)
        if part.role == "whole":
            side = self.config.sample_size
            picture: Any = np.ascontiguousarray(clip_at(side, side)[7])
            pipeline, seeds = self.pipeline, list(range(batch))
            return lambda: pipeline(image=picture, seed=seeds, steps=steps, guidance=part.guidance)
        model, conditions = self.transformer, self.conditions(batch)
        if part.role == "conditions":
            return _without_gradients(lambda: model.context(conditions))
        with torch.inference_mode():
            context = model.context(conditions)
        grid = [int(side) // self.config.spatial_compression_ratio for side in conditions.size[0]]
        shape = (self.config.latent_channels, self.config.latent_frames, *grid)
        noise = draw_noise(shape, generators=make_generators(range(batch)))
        if part.role == "transformer":
            latent, times = noise.to(self.device), torch.full((batch,), 500.0, device=self.device)
            return _without_gradients(lambda: model(latent, times, context))
        sampler = SAMPLERS[self.config.objective][0]
        return lambda: sample(model, context, noise=noise, sampler=sampler, steps=steps, guidance=part.guidance)

    def _encoder_call(self, batch: int) -> Call:
        model = self.encoder
        if self.subject == TEXT_ENCODER:
            tokens = PRESETS["256"].text_tokens
            ids = torch.randint(1, model.config.vocab_size, (batch, tokens), generator=torch.Generator().manual_seed(0))
            ids, mask = ids.to(self.device), torch.ones_like(ids).to(self.device)
            return _without_gradients(lambda: model(input_ids=ids, attention_mask=mask).last_hidden_state)
        side = 64 if self.tiny else 256
        model.image_mean = model.image_std = (0.5,) * 3
        encoder = ImageEncoder(model)
        picture = self._picture(side, batch).to(self.device)
        return lambda: encoder.encode(picture)

    def _picture_call(self, batch: int, *, steps: int, guidance: float) -> Call:
        pipeline, side, config = self.picture_maker, self.config.sample_size, self.config
        shape = (batch, config.text_tokens, config.text_channels)
        tokens = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        mask = torch.ones(shape[:2], device=self.device)
        told = {"prompt_embeds": tokens, "prompt_attention_mask": mask}
        untold = {f"negative_{name}": value for name, value in told.items()}
        more = {"num_inference_steps": steps, "guidance_scale": guidance, "use_resolution_binning": False}
        return lambda: pipeline(negative_prompt=None, height=side, width=side, **told, **untold, **more)

    def _decoder_call(self, part: Part, batch: int, *, side: int) -> Call:
        codec = self.codec(part.decoder)
        runner = codec.runner
        shape = (batch, runner.latent_channels, runner.latent_frames, *runner.grid(side, side))
        latent = torch.randn(shape, generator=torch.Generator().manual_seed(0))  # (B, z, t, h, w)
        keyframe = self._picture(side, batch)[:, :, None]  # (B, 3, 1, H, W)
        return lambda: codec.decode(latent, keyframe, output="uint8")

    def conditions(self, batch: int) -> Conditions:
        """Of the kinds and sizes that the model gets: pictures, and tokens as the encoders would give them."""
        config, side = self.config, self.config.sample_size
        random = torch.Generator().manual_seed(0)

        def tokens(count: int, channels: int) -> torch.Tensor:
            return torch.randn((batch, count, channels), generator=random)

        return Conditions(
            size=torch.tensor([[side, side]] * batch),
            text=tokens(config.text_tokens, config.text_channels) if config.text_channels else None,
            text_mask=torch.ones((batch, config.text_tokens), dtype=torch.bool) if config.text_channels else None,
            semantic=tokens(SEMANTIC_TOKENS, config.semantic_channels) if config.uses_semantic else None,
            keyframe=self._picture(side, batch) if config.uses_content else None,
        )

    @staticmethod
    def _picture(side: int, batch: int) -> torch.Tensor:
        """(B, 3, side, side) in [-1, 1]."""
        picture = torch.from_numpy(clip_at(side, side)[7]).permute(2, 0, 1) / 127.5 - 1
        return picture[None].expand(batch, -1, -1, -1).contiguous()


def _without_gradients(call: Call) -> Call:
    def run() -> object:
        with torch.inference_mode():
            return call()

    return run


def all_parts(
    presets: tuple[str, ...], *, encoders: bool, samplings: tuple[tuple[int, float], ...], tiny: bool
) -> Iterator[tuple[str, list[Part]]]:
    """Every subject with its parts."""
    for subject in subjects(presets, encoders=encoders):
        yield subject, parts_of(subject, samplings=samplings, tiny=tiny)
