"""Text encoders, image encoders and text-to-image pipelines, through the code that loads real ones."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate import GenerationCancelled, ImageEncoder, ReducioDiTPipeline, TextEncoder, TextToImage
from reducio_codec.generate.sampling import draw_noise, make_generators
from reducio_codec.generate.stages import Stage
from reducio_codec.generate.text import clean_prompts
from tests.generate.conftest import SEMANTIC_CHANNELS, TEXT_CHANNELS, SaveDit
from tests.helpers import moving_video

PICTURE = moving_video(1, 64, 64, seed=3)[0]
FAST: dict[str, Any] = {"steps": 2, "seed": 0}


def test_prompts_to_tokens(t5_folder: Path) -> None:
    encoder = TextEncoder.from_pretrained(t5_folder, max_tokens=20, offline=True)
    assert encoder.channels == TEXT_CHANNELS
    tokens, mask = encoder.encode(["a boat", "wind"])
    assert tokens.shape == (2, mask.shape[1], TEXT_CHANNELS) and tokens.dtype == torch.float32
    lengths = mask.sum(dim=1).tolist()
    assert lengths[0] > lengths[1] and max(lengths) == mask.shape[1]
    alone, _ = encoder.encode(["wind"])  # padding has no influence
    torch.testing.assert_close(tokens[1, : lengths[1]], alone[0], atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="list of strings"):
        encoder.encode("a boat")


def test_a_prompt_over_the_limit_is_cut_and_told(t5_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = TextEncoder.from_pretrained(t5_folder, max_tokens=6, offline=True)
    with caplog.at_level(logging.WARNING):
        tokens, mask = encoder.encode(["abcdefghijkl", "abc"])
    assert tokens.shape[1] == 6 and mask[0].all()
    (record,) = (record for record in caplog.records if record.name.startswith("reducio_codec"))  # others warn, too
    assert "is cut to 6" in record.getMessage() and "abcd" in record.getMessage()


def test_missing_models_say_what_to_fetch(tmp_path: Path) -> None:
    for load, words in (
        (lambda: TextEncoder.from_pretrained(tmp_path, max_tokens=8, offline=True), "google/flan-t5-xxl"),
        (lambda: TextToImage.from_pretrained(tmp_path, offline=True), "PixArt-alpha/PixArt-XL-2-1024-MS"),
        (lambda: TextEncoder.from_pretrained("nobody/nothing", max_tokens=8, offline=True), "pass that folder"),
        (lambda: TextToImage.from_pretrained("nobody/nothing", offline=True), "pass that folder"),
    ):
        with pytest.raises(WeightsError) as caught:
            load()
        assert words in str(caught.value)


def test_missing_image_encoder(tmp_path: Path) -> None:
    pytest.importorskip("open_clip", reason="open_clip_torch isn't installed (extra [generate])")
    for name in (tmp_path, "nobody/nothing"):
        with pytest.raises(WeightsError, match=r"open_clip_config\.json"):
            ImageEncoder.from_pretrained(name, offline=True)


def test_pictures_to_semantic_tokens(clip_folder: Path) -> None:
    encoder = ImageEncoder.from_pretrained(clip_folder, offline=True)
    keyframe = torch.rand(2, 3, 48, 80) * 2 - 1
    tokens = encoder.encode(keyframe)
    assert tokens.shape == (2, 1 + 4, SEMANTIC_CHANNELS)
    torch.testing.assert_close(encoder.encode(keyframe[1:]), tokens[1:], atol=1e-5, rtol=1e-4)
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3
    # the reference's own forward, projected, agrees with the picture's own token
    open_clip = pytest.importorskip("open_clip")
    whole = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    normed = torch.nn.functional.interpolate(keyframe, size=(28, 28), mode="bicubic", antialias=True).clamp(-1, 1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (whole.visual.image_mean, whole.visual.image_std))
    with torch.no_grad():
        expected = whole.encode_image(((normed + 1) / 2 - mean) / std)
        torch.testing.assert_close(tokens[:, 0] @ whole.visual.proj, expected, atol=1e-5, rtol=1e-4)


def test_text_to_picture(pixart_folder: Path) -> None:
    maker = TextToImage.from_pretrained(pixart_folder, offline=True)
    both = maker.make(["a boat", "wind"], height=20, width=40, seeds=[1, 2])
    assert [picture.shape for picture in both] == [(20, 40, 3)] * 2
    (alone,) = maker.make(["wind"], height=20, width=40, seeds=[2])
    assert np.abs(alone.astype(int) - both[1]).max() <= 2


def test_text_to_video(
    dit_folder: SaveDit, codec_folder: Path, pixart_folder: Path, t5_folder: Path, clip_folder: Path
) -> None:
    """All stages of the paper: text to picture, text and picture to tokens, latent, video; kept and offloaded."""
    folder = dit_folder(
        image_condition="both",
        semantic_channels=SEMANTIC_CHANNELS,
        text_channels=TEXT_CHANNELS,
        text_tokens=12,
        content_groups=4,
    )
    videos = []
    for offload in (False, True):
        pipe = ReducioDiTPipeline.from_pretrained(
            folder,
            codec=codec_folder,
            text_encoder=t5_folder,
            image_encoder=clip_folder,
            text_to_image=pixart_folder,
            dtype=torch.float32,
            offload=offload,
            offline=True,
        )
        videos.append(pipe("a boat", **FAST))
        stages = (pipe._text_encoder, pipe._image_encoder, pipe._text_to_image, pipe._model, pipe._codec)
        assert [stage.loaded for stage in stages if stage is not None] == [not offload] * 5
    assert videos[0].shape == (16, 64, 64, 3)
    assert np.array_equal(*videos)
    other = pipe("wind", image=PICTURE, height=40, width=64, **FAST)
    assert other.shape == (16, 40, 64, 3)
    assert not np.array_equal(other, pipe("a boat", image=PICTURE, height=40, width=64, **FAST))
    assert pipe(["a boat", "wind"], **FAST).shape == (2, 16, 64, 64, 3)
    by_text = pipe("wind", image=PICTURE, height=40, width=64, guidance_of="text", **FAST)
    assert not np.array_equal(by_text, other)
    with pytest.raises(InputError, match="guidance_of is 'text', but guidance is 1"):
        pipe("wind", image=PICTURE, guidance=1.0, guidance_of="text", **FAST)
    with pytest.raises(InputError, match="guidance_of is 'words'; allowed: all, text"):
        pipe("wind", image=PICTURE, guidance_of="words", **FAST)


def test_the_picture_stage_is_told_of_and_stopped(dit_folder: SaveDit, codec_folder: Path, pixart_folder: Path) -> None:
    pipe = ReducioDiTPipeline.from_pretrained(
        dit_folder(), codec=codec_folder, text_to_image=pixart_folder, dtype=torch.float32, offline=True
    )
    told: list[tuple[int, int | None]] = []

    def note(done: int, total: int | None) -> None:
        told.append((done, total))

    video = pipe("a boat", picture_steps=3, progress=note, **FAST)
    assert told == [(done, 5) for done in range(1, 6)], "3 of the picture, 2 of the clip"
    assert not np.array_equal(video[7], pipe("a boat", picture_steps=2, **FAST)[7])
    assert not np.array_equal(video[7], pipe("a boat", picture_steps=3, picture_guidance=1.0, **FAST)[7])
    told.clear()
    with pytest.raises(GenerationCancelled, match="stopped after 1 of 5"):
        pipe("a boat", picture_steps=3, progress=note, should_stop=lambda: True, **FAST)
    for wrong in ({"picture_steps": 3}, {"picture_guidance": 2.0}):
        with pytest.raises(InputError, match="the picture is given; it has no effect"):
            pipe("a boat", image=PICTURE, **wrong, **FAST)
    with pytest.raises(InputError, match="picture_steps is 0"):
        pipe("a boat", picture_steps=0, **FAST)


def test_the_pictures_noise_is_not_the_clips(pixart_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = TextToImage.from_pretrained(pixart_folder, offline=True)
    seen: list[torch.Tensor] = []
    prepare = type(maker.pipeline).prepare_latents

    def watch(*arguments: Any, **more: Any) -> torch.Tensor:
        seen.append(prepare(*arguments, **more))
        return seen[-1]

    monkeypatch.setattr(type(maker.pipeline), "prepare_latents", watch)
    maker.make(["wind"], height=256, width=256, seeds=[5], steps=2)
    numbers = seen[0].flatten()
    clip = draw_noise((len(numbers),), generators=make_generators([5]))[0]
    assert abs(float((numbers * clip).mean())) < 0.1, "as many numbers from the same seed"


@pytest.mark.parametrize("callback", ["new", "old", "none"])
def test_each_kind_of_pipeline_tells_its_steps(callback: str) -> None:
    """diffusers' pipelines have one callback or the other, and a few have none."""

    class Pipeline:
        def set_progress_bar_config(self, **_: Any) -> None:
            pass

        def make(self, steps: int, height: int, width: int, **options: Any) -> Any:
            for step in range(steps):
                if "callback" in options:
                    options["callback"](step, 0, None)
                if "callback_on_step_end" in options:
                    assert options["callback_on_step_end"](self, step, 0, {"latents": 1}) == {"latents": 1}
            return SimpleNamespace(images=[Image.new("RGB", (width, height))])

    class New(Pipeline):
        def __call__(self, _p: Any, *, num_inference_steps: int = 4, callback_on_step_end: Any, **more: Any) -> Any:
            return self.make(
                num_inference_steps, more["height"], more["width"], callback_on_step_end=callback_on_step_end
            )

    class Old(Pipeline):
        def __call__(self, _p: Any, *, num_inference_steps: int = 4, callback: Any, **more: Any) -> Any:
            return self.make(num_inference_steps, more["height"], more["width"], callback=callback)

    class Silent(Pipeline):
        def __call__(self, _p: Any, *, num_inference_steps: int = 4, **more: Any) -> Any:
            return self.make(num_inference_steps, more["height"], more["width"])

    maker = TextToImage({"new": New, "old": Old, "none": Silent}[callback]())
    assert maker.steps == 4
    for steps in (None, 7):
        done: list[int] = []
        maker.make(["a"], height=32, width=32, seeds=[0], steps=steps, after_step=lambda done=done: done.append(1))
        assert len(done) == (steps or 4)


def test_weights_that_take_turns_wait_in_memory() -> None:
    """On an accelerator nothing is read twice: here a device that only remembers where it was asked to go."""

    class Weights:
        moves: ClassVar[list[str]] = []

        def to(self, device: torch.device) -> None:
            self.moves.append(device.type)

    loads: list[int] = []

    def load() -> Weights:
        loads.append(1)
        return Weights()

    stage = Stage(load, offload=True, weights=lambda model: model, device=torch.device("cuda"))
    for _ in range(3):
        with stage.use() as model:
            assert isinstance(model, Weights)
    assert len(loads) == 1 and Weights.moves == ["cpu", "cuda", "cpu", "cuda", "cpu"]
    with pytest.raises(RuntimeError, match="out of luck"), stage.use():
        raise RuntimeError("out of luck")
    assert Weights.moves[-2:] == ["cuda", "cpu"]


def test_prompts_are_cleaned_as_pixarts_pipeline_does(t5_folder: Path, pixart_folder: Path) -> None:
    pipeline = TextToImage.from_pretrained(pixart_folder, offline=True).pipeline
    prompts = [" A Boat  ", "A CAT -- at https://example.com/a.png &amp; <b>more</b>"]
    assert clean_prompts(prompts) == pipeline._text_preprocessing(prompts, clean_caption=True)
    assert clean_prompts(prompts)[0] == "a boat"
    encoder = TextEncoder.from_pretrained(t5_folder, max_tokens=20, offline=True)
    one, other = (encoder.encode([prompt])[0] for prompt in (" A Boat  ", "a boat"))
    assert torch.equal(one, other)


def test_stages_that_are_missing_or_do_not_fit(
    dit_folder: SaveDit, codec_folder: Path, t5_folder: Path, pixart_folder: Path
) -> None:
    text = dit_folder(text_channels=TEXT_CHANNELS, text_tokens=12)
    pipe = ReducioDiTPipeline.from_pretrained(text, codec=codec_folder)
    assert pipe(image=PICTURE, **FAST).shape == (16, 64, 64, 3)  # text is optional
    with pytest.raises(InputError, match="guidance_of is 'text', but the model is told no text"):
        pipe(image=PICTURE, guidance_of="text", **FAST)
    with pytest.raises(InputError, match=r"a prompt needs a text encoder: pass text_encoder=.*google/flan-t5-xxl"):
        pipe("a boat", image=PICTURE, **FAST)
    wide = dit_folder("wide", text_channels=24, text_tokens=12)
    pipe = ReducioDiTPipeline.from_pretrained(wide, codec=codec_folder, text_encoder=t5_folder, offline=True)
    with pytest.raises(InputError, match="has 16 channels; this model was made for 24"):
        pipe("a boat", image=PICTURE, **FAST)
    semantic = dit_folder("semantic", image_condition="semantic", semantic_channels=SEMANTIC_CHANNELS)
    with pytest.raises(InputError, match="image_encoder="):
        ReducioDiTPipeline.from_pretrained(semantic, codec=codec_folder)(image=PICTURE, **FAST)
