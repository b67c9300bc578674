"""Tiny codecs, transformers, encoders and text-to-image pipelines, saved as real ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import LiteConfig
from reducio_codec.generate import DiTConfig, ReducioDiT, latent_space_id, save_dit
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.weights.card import ModelCard
from reducio_codec.weights.io import save_model

CARD = ModelCard(name="toy", licence="MIT", summary="For tests.").text()
TEXT_CHANNELS = 16
SEMANTIC_CHANNELS = 32
MODEL = DiTConfig(
    depth=4,
    width=48,
    heads=2,
    image_condition="content",
    text_channels=0,
    text_tokens=0,
    semantic_channels=0,
    content="conv",
    content_base=32,
    sample_size=64,
)
"""Image-conditioned, predicts noise; other tests replace values of it."""


def awake(model: ReducioDiT, *, seed: int = 0) -> ReducioDiT:
    """Layers that start at zero get values, so that every part has an influence."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def toy_codec(seed: int) -> ReducioLite:
    torch.manual_seed(seed)
    network = ReducioLite(
        LiteConfig(channels_4=4, channels_8=4, channels_16=4, channels_32=8, decoders=("linear", "none"))
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("mend."):  # so that a picture is shown as it is
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(toy_codec(0), tmp_path_factory.mktemp("codec") / "toy-codec", card=CARD)


@pytest.fixture(scope="session")
def other_codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape, another encoder."""
    return save_model(toy_codec(1), tmp_path_factory.mktemp("codec") / "other-codec", card=CARD)


@pytest.fixture(scope="session")
def codec(codec_folder: Path) -> ReducioCodec:
    return ReducioCodec.from_pretrained(codec_folder)


SaveDit = Callable[..., Path]


@pytest.fixture
def dit_folder(codec: ReducioCodec, tmp_path: Path) -> SaveDit:
    """``dit_folder(**changes)``: a transformer for the toy codec, ``MODEL`` with some values replaced."""

    def save(name: str = "toy-dit", **changes: object) -> Path:
        values = {**MODEL.to_json(), "latent_space": latent_space_id(codec.model), **changes}
        torch.manual_seed(0)
        return save_dit(awake(ReducioDiT(DiTConfig.from_json(values))), tmp_path / name, card=CARD)

    return save


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 of two layers and a tokenizer that knows letters."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("t5")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -1.0), *((letter, -2.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(vocabulary), d_model=TEXT_CHANNELS, d_kv=8, d_ff=16, num_layers=2, num_heads=2, pad_token_id=0
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pixart_folder(t5_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PixArt-alpha pipeline of toy parts: pictures of about 256x256."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=32,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=TEXT_CHANNELS,
        cross_attention_dim=16,
        in_channels=4,
        out_channels=8,
        num_embeds_ada_norm=1000,
        use_additional_conditions=False,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=256,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    folder = tmp_path_factory.mktemp("pixart")
    diffusers.PixArtAlphaPipeline(
        tokenizer=transformers.AutoTokenizer.from_pretrained(t5_folder),
        text_encoder=transformers.T5EncoderModel.from_pretrained(t5_folder),
        vae=vae,
        transformer=transformer,
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OpenCLIP model of toy size in the layout of the hub."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip_torch isn't installed (extra [generate])")
    folder = tmp_path_factory.mktemp("clip")
    model = {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": 28,
            "layers": 2,
            "width": SEMANTIC_CHANNELS,
            "head_width": 16,
            "patch_size": 14,
        },
        "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 8, "heads": 1, "layers": 1},
    }
    torch.manual_seed(0)
    network = open_clip.model.CLIP(model["embed_dim"], model["vision_cfg"], model["text_cfg"])
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder
