"""``ReducioDiTPipeline``: picture, text or both to video."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reducio_codec.clips.padding import pad
from reducio_codec.codec import ReducioCodec
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate.codec_match import check_latent_space
from reducio_codec.generate.conditioning import Conditions
from reducio_codec.generate.config import DiTConfig
from reducio_codec.generate.continuation import (
    clips_of,
    forth_and_back,
    known_start,
    picture_detail,
    sharpened,
    without_offset,
)
from reducio_codec.generate.dit import ReducioDiT
from reducio_codec.generate.evaluations import EvaluationCount, Progress
from reducio_codec.generate.folder import load_dit, read_config
from reducio_codec.generate.latent_motion import LatentMotion
from reducio_codec.generate.motions import draw_motions
from reducio_codec.generate.pictures import cover, load_picture, natural_size
from reducio_codec.generate.request import Request, read_request
from reducio_codec.generate.sampling import (
    Known,
    draw_noise,
    evaluations,
    make_generators,
    sample,
)
from reducio_codec.generate.semantic import DEFAULT_IMAGE_ENCODER, ImageEncoder
from reducio_codec.generate.settings import Options, Settings, read_settings
from reducio_codec.generate.stages import Movable, Stage
from reducio_codec.generate.text import DEFAULT_TEXT_ENCODER, TextEncoder
from reducio_codec.generate.text_to_image import DEFAULT_TEXT_TO_IMAGE, TextToImage
from reducio_codec.io.pixels import to_bytes, to_unit
from reducio_codec.models.precision import Dtype, resolve_device, resolve_dtype
from reducio_codec.weights.zoo import DEFAULT_GENERATOR, resolve

logger = logging.getLogger(__name__)

Part = TypeVar("Part")


class ReducioDiTPipeline:
    """A transformer with the codec whose latents it makes, and the stages in front of it.

    Args:
        model: in eval mode, where it shall run.
        codec: the codec that it was trained with; ``WeightsError`` for another.
        text_encoder: for models that take text, when prompts are to be followed.
        image_encoder: for models that take semantic tokens.
        text_to_image: makes the key picture where only a prompt is given.
    """

    def __init__(
        self,
        model: ReducioDiT,
        codec: ReducioCodec,
        *,
        text_encoder: TextEncoder | None = None,
        image_encoder: ImageEncoder | None = None,
        text_to_image: TextToImage | None = None,
    ) -> None:
        check_latent_space(model.config, codec.model, codec_name=codec.model_id)
        self._set_up(
            model.config,
            _held(model),
            _held(codec),
            text_encoder=None if text_encoder is None else _held(text_encoder),
            image_encoder=None if image_encoder is None else _held(image_encoder),
            text_to_image=None if text_to_image is None else _held(text_to_image),
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path = DEFAULT_GENERATOR,
        *,
        codec: str | Path | None = None,
        text_encoder: str | Path | None = None,
        image_encoder: str | Path | None = None,
        text_to_image: str | Path | None = None,
        device: torch.device | str = "cpu",
        dtype: Dtype | Literal["auto"] = "auto",
        offload: bool = False,
        revision: str | None = None,
        sha256: str | None = None,
        offline: bool = False,
    ) -> Self:
        """Load a transformer by name, folder or ``org/name``, and its codec.

        Args:
            name_or_folder: a bundled name, by default ``"reducio-dit-small"``, a folder (``folder.save_dit``, or a
                training run's), or ``org/name`` on the hub.
            codec: the codec's name or folder; by default the one that the transformer names.
            text_encoder: folder or ``org/name`` of a T5, for example ``google/flan-t5-xxl``.
            image_encoder: folder or ``org/name`` of an OpenCLIP model.
            text_to_image: folder or ``org/name`` of a text-to-image pipeline in diffusers' layout.
            device, dtype: where all run, and what they compute in; ``"auto"`` is bfloat16 where the device has it.
            offload: give each model's memory back when its turn is over: as little as the largest one takes, and slower. On an
                accelerator its weights wait in the host's memory; on the CPU they are read again at its next turn.
            revision, sha256, offline: see :func:`reducio_codec.weights.zoo.resolve`. ``offline`` holds for all parts.

        Raises:
            WeightsError: a part isn't there or is damaged, or codec and transformer don't belong together.
        """
        source = resolve(name_or_folder, revision=revision, sha256=sha256, offline=offline)
        config = read_config(source.folder)
        codec_name = codec if codec is not None else config.codec
        if not codec_name:
            raise InputError(f"the transformer {source.id!r} names no codec; pass codec=, the one it was trained with")
        place = resolve_device(device)
        kind = resolve_dtype(dtype, device=place)

        def load_codec() -> ReducioCodec:
            # checked before the codec may change its weights for reduced precision
            plain = ReducioCodec.from_pretrained(codec_name, device=place, offline=offline)
            check_latent_space(config, plain.model, codec_name=str(codec_name))
            return plain.to(dtype=kind)

        def stage(load: Callable[[], Part], weights: Callable[[Part], Movable]) -> Stage[Part]:
            return Stage(load, offload=offload, weights=weights, device=place)

        def other(
            kind_of: Callable[..., Part], name: str | Path | None, weights: Callable[[Part], Movable], **more: Any
        ) -> Stage[Part] | None:
            if name is None:
                return None
            return stage(lambda: kind_of(name, device=place, dtype=kind, offline=offline, **more), weights)

        pipeline = cls.__new__(cls)
        pipeline._set_up(
            config,
            stage(
                lambda: load_dit(source.folder, device=place, dtype=kind, expected_sha256=source.sha256),
                lambda model: model,
            ),
            stage(load_codec, lambda codec: codec.model),
            text_encoder=other(
                TextEncoder.from_pretrained,
                text_encoder,
                lambda encoder: encoder.model,
                max_tokens=max(1, config.text_tokens),
            ),
            image_encoder=other(ImageEncoder.from_pretrained, image_encoder, lambda encoder: encoder.visual),
            text_to_image=other(TextToImage.from_pretrained, text_to_image, lambda maker: maker.pipeline),
        )
        if not offload:
            with pipeline._model.use():
                pass  # damaged weights are refused now
        return pipeline

    def _set_up(
        self,
        config: DiTConfig,
        model: Stage[ReducioDiT],
        codec: Stage[ReducioCodec],
        *,
        text_encoder: Stage[TextEncoder] | None,
        image_encoder: Stage[ImageEncoder] | None,
        text_to_image: Stage[TextToImage] | None,
    ) -> None:
        self.config = config
        self._model = model
        self._codec = codec
        self._text_encoder = text_encoder
        self._image_encoder = image_encoder
        self._text_to_image = text_to_image
        with codec.use() as found:  # one that doesn't fit is refused now, not after minutes of sampling
            self.decoders = found.decoders
            """Names that ``decoder`` takes."""
            self.keyframe_index = found.model.default_keyframe_index
            """Which of a clip's 16 frames is its key picture."""

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        image: Any = None,
        seed: int | Sequence[int] | None = None,
        height: int | None = None,
        width: int | None = None,
        picture_steps: int | None = None,
        picture_guidance: float | None = None,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
        **options: Unpack[Options],
    ) -> NDArray[np.uint8]:
        """Make video.

        A list as ``image``, ``prompt`` or ``seed`` makes several clips at once, all of one size; one value serves all.

        Args:
            prompt: what shall happen. Without ``image`` the text-to-image stage makes the key picture from it.
            image: the key picture, frame 7 of the (first) clip: see :func:`pictures.load_picture` for what is taken.
            seed: of the clip's noise: the same clip in any batch. Clip i of several takes ``seed + i``. None: random,
                and logged.
            seconds: length at 16 frames per second, 1 or more. What is over one clip is made from the last frame of the
                clip before (``continuation``), 8 frames each time.
            height, width: of the video, both or none; the picture is resized to cover it and cropped. None: the picture's
                own, reduced to the scale that the model was trained at where it is larger.
            steps: of the sampler. None: 20, or what the model was distilled for.
            guidance: how strongly conditions are followed; 1 is without guidance and twice as fast. None: 2.5, or 1 for a
                distilled model, which has it inside.
            guidance_of: what guidance strengthens: all conditions against none, or the text against the picture alone.
            cache_blocks: so many of the transformer's middle blocks run at every second evaluation only; 0: off.
            sampler: ``"dpm++"``, ``"unipc"``, ``"ddim"``, or ``"euler"``, ``"heun"`` for flow matching models.
            decoder: one of the codec's, by default its choice.
            motion: how much moves, 1 as much as in half of the clips that the model learned from. None: each seed draws another,
                as clips have it (``config.motion_quantiles``); other models move as the picture makes likely.
            camera: what the camera does, a name of ``controls.CAMERAS`` (``"zoom-in"``) or four numbers as ``controls.Camera``
                has them. None: the model's choice. Both are for models that were trained with them.
            match_motion: let a clip that goes on after another move as that one did.
            match_colour: take the decoder's error in mean colour off a clip that goes on after another.
            loop: go back to the first frame on the same way, so that the video can be shown over and over: nearly twice as long.
            sharpen: give the picture that a clip goes on from as much detail as the first one had.
            picture_steps, picture_guidance: of the text-to-image stage; None: its own.
            progress: called after each network evaluation, and each step of the text-to-image stage, with those done and in all.
            should_stop: asked as often; True ends with ``GenerationCancelled``.

        Returns:
            (T, H, W, 3) uint8, or (B, T, H, W, 3) if a list was given.

        Raises:
            InputError: a wrong argument, or a stage is missing. VideoError: the picture can't be read.
        """
        request = read_request(
            prompt=prompt,
            image=image,
            seed=seed,
            height=height,
            width=width,
            picture_steps=picture_steps,
            picture_guidance=picture_guidance,
        )
        settings = self.check(text=request.prompts is not None, **options)
        self._check_stages(request)
        seeds = request.seeds or [secrets.randbits(31) for _ in range(request.count)]
        if not request.seeds:
            logger.info("seeds: %s", ", ".join(map(str, seeds)))
        index = self.keyframe_index
        clips = clips_of(settings.frames, keyframe_index=index)
        if clips == 1 and not (settings.match_motion and settings.match_colour and settings.sharpen):
            logger.warning("this is one clip: match_motion, match_colour and sharpen have no effect")
        total = clips * evaluations(settings.sampler, settings.steps)
        counted = EvaluationCount(total, progress=progress, should_stop=should_stop)
        pictures = self._key_pictures(request, seeds=seeds, counted=counted)  # (B, 3, H, W) uint8
        height, width = pictures.shape[-2:]
        text = self._text_tokens(request)
        drawn = self.drawn_motions(seeds)
        generators = make_generators(seeds)
        keyframe = to_unit(pad(pictures, multiple=self.config.pixel_multiple)).contiguous()  # (B, 3, H', W')
        first_detail = picture_detail(keyframe)  # (B,)
        known: Known | None = None
        parts: list[Tensor] = []  # (B, n, H', W', 3) uint8 each
        for number in range(clips):
            controls = settings.controls(len(keyframe), drawn=drawn)
            conditions = self._conditions(keyframe, seen=(height, width), text=text, controls=controls)
            latent = self._latents(conditions, generators=generators, known=known, settings=settings, counted=counted)
            latent = self._decodable(latent)
            with self._codec.use() as codec:
                if settings.camera is not None:  # the model hears it, and is no more exact than its training clips
                    reader = LatentMotion(codec.model, unit=self.config.motion_unit, side=self.config.sample_size)
                    latent = reader.steered(latent, controls["camera"])
                video = codec.decode(latent, keyframe[:, :, None], decoder=settings.decoder)  # (B, 3, 16, H', W')
                if number and settings.match_colour:
                    video = without_offset(video, keyframe, keyframe_index=index)
                clip = to_bytes(video).permute(0, 2, 3, 4, 1).contiguous()  # (B, 16, H', W', 3)
                if settings.match_motion and number + 1 < clips:
                    known = known_start(codec, clip, keyframe_index=index)
            keyframe = to_unit(clip[:, -1].permute(0, 3, 1, 2)).contiguous()
            if settings.sharpen and number + 1 < clips:
                keyframe = sharpened(keyframe, to=first_detail)
            parts.append(clip if number == 0 else clip[:, index + 1 :])
        joined = torch.cat(parts, dim=1)[:, : settings.frames, :height, :width]
        if settings.loop:
            joined = forth_and_back(joined)
        result = np.ascontiguousarray(joined.numpy())
        return result if request.several else result[0]

    def drawn_motions(self, seeds: Sequence[int]) -> Tensor | None:
        """(B,): how much moves in clips of these seeds of which nobody says so, as ``motion`` counts it; None where the model
        leaves that to the picture."""
        quantiles = self.config.motion_quantiles
        return draw_motions(quantiles, seeds=seeds) if quantiles else None

    def check(self, *, text: bool = False, **options: Unpack[Options]) -> Settings:
        """What a call with these options would do, without doing it.

        Args:
            text: whether there will be a prompt.

        Raises:
            InputError: as a call would.
        """
        return read_settings(self.config, decoders=self.decoders, text=text, **options)

    def _check_stages(self, request: Request) -> None:
        """Refuse a request that needs a stage which isn't there, before any work."""
        config = self.config
        needs = "{} needs {}: pass {}=, a folder or a name such as {!r}"
        if request.images is None and self._text_to_image is None:
            raise InputError(
                needs.format(
                    "a prompt without an image", "a text-to-image stage", "text_to_image", DEFAULT_TEXT_TO_IMAGE
                )
            )
        if config.uses_semantic and self._image_encoder is None:
            raise InputError(needs.format("this model", "an image encoder", "image_encoder", DEFAULT_IMAGE_ENCODER))
        if request.prompts is None:
            return
        if config.text_channels and self._text_encoder is None:
            raise InputError(needs.format("a prompt", "a text encoder", "text_encoder", DEFAULT_TEXT_ENCODER))
        if not config.text_channels and request.images is not None:
            logger.warning("this model takes no text: beside an image, the prompt has no effect")

    def _key_pictures(self, request: Request, *, seeds: Sequence[int], counted: EvaluationCount) -> Tensor:
        """(B, 3, H, W) uint8."""
        size = request.size
        if request.images is None:
            assert self._text_to_image is not None and request.prompts is not None  # _check_stages
            height, width = size or (self.config.sample_size,) * 2
            with self._text_to_image.use() as maker:
                counted.expect(request.picture_steps or maker.steps)
                pictures = maker.make(
                    request.prompts,
                    height=height,
                    width=width,
                    seeds=seeds,
                    steps=request.picture_steps,
                    guidance=request.picture_guidance,
                    after_step=counted,
                )
        else:
            loaded = [load_picture(image) for image in request.images]
            if size is None:
                own = {natural_size(*picture.shape[:2], sample_size=self.config.sample_size) for picture in loaded}
                if len(own) > 1:
                    shapes = ", ".join(sorted(f"{width}x{height}" for height, width in own))
                    raise InputError(f"the images make videos of {shapes}; several at once need height= and width=")
                size = own.pop()
            pictures = [cover(picture, height=size[0], width=size[1]) for picture in loaded]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)

    def _text_tokens(self, request: Request) -> tuple[Tensor, Tensor] | None:
        """Tokens (B, L, C) and their mask (B, L), or None where the model is told no text."""
        if request.prompts is None or not self.config.text_channels:
            return None
        assert self._text_encoder is not None  # _check_stages
        with self._text_encoder.use() as encoder:
            if encoder.channels != self.config.text_channels:
                raise InputError(
                    f"the text encoder has {encoder.channels} channels; this model was made for "
                    f"{self.config.text_channels} ({DEFAULT_TEXT_ENCODER} has 4096)"
                )
            return encoder.encode(request.prompts)

    def _decodable(self, latent: Tensor) -> Tensor:
        """Latents (B, z, t, h, w) as they are decoded, on the host."""
        gain = self.config.channel_gain
        return latent.cpu() * torch.tensor(gain)[:, None, None, None] if gain else latent.cpu()

    def _conditions(
        self,
        keyframe: Tensor,
        *,
        seen: tuple[int, int],
        text: tuple[Tensor, Tensor] | None,
        controls: dict[str, Tensor],
    ) -> Conditions:
        """For padded key pictures (B, 3, H', W'), of which ``seen`` (H, W) is the video."""
        semantic = None
        if self._image_encoder is not None and self.config.uses_semantic:
            with self._image_encoder.use() as encoder:
                semantic = encoder.encode(keyframe[..., : seen[0], : seen[1]])
        return Conditions(
            size=torch.tensor([keyframe.shape[-2:]] * len(keyframe)),
            text=None if text is None else text[0],
            text_mask=None if text is None else text[1],
            semantic=semantic,
            keyframe=keyframe if self.config.uses_content else None,
            **controls,
        )

    def _latents(
        self,
        conditions: Conditions,
        *,
        generators: Sequence[torch.Generator],
        known: Known | None,
        settings: Settings,
        counted: EvaluationCount,
    ) -> Tensor:
        """(B, z, t, h, w) float32."""
        config = self.config
        grid = [int(side) // config.spatial_compression_ratio for side in conditions.size[0]]
        noise = draw_noise((config.latent_channels, config.latent_frames, *grid), generators=generators)
        if known is not None and config.goes_on:
            conditions, known = known.told_to(conditions), None
        with self._model.use() as model:
            with torch.inference_mode():
                context = model.context(conditions)
            latent = sample(
                model,
                context,
                noise=noise,
                sampler=settings.sampler,
                steps=settings.steps,
                guidance=settings.guidance,
                guidance_of=settings.guidance_of,
                cache_blocks=settings.cache_blocks,
                known=known,
                after_evaluation=counted,
            )
        if not bool(torch.isfinite(latent).all()):
            raise ReducioError("the sampler gave infinite or undefined latents; try more steps or less guidance")
        return latent


def _held(model: Part) -> Stage[Part]:
    """A stage around a model that exists."""
    return Stage(lambda: model)
