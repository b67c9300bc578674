"""Prompts to tokens: T5 encoders by way of transformers (Sec. 3.2: Flan-T5-XXL)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.generate.optional import diffusers, transformers
from reducio_codec.models.precision import Dtype, as_dtype

DEFAULT_TEXT_ENCODER = "google/flan-t5-xxl"

logger = logging.getLogger(__name__)


class TextEncoder:
    """A T5 encoder with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, *, max_tokens: int) -> None:
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; it must be at least 1")
        self.model = model
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path = DEFAULT_TEXT_ENCODER,
        *,
        max_tokens: int,
        device: torch.device | str = "cpu",
        dtype: Dtype = torch.float32,
        offline: bool = False,
    ) -> Self:
        """Load from a folder, or ``org/name`` from the hub or its local cache. Only safetensors weights are read.

        Raises:
            WeightsError: it isn't there; the message says what to fetch. MissingDependencyError: no transformers.
        """
        package, kind = transformers(), as_dtype(dtype)
        name = str(name_or_folder)
        try:
            tokenizer = package.AutoTokenizer.from_pretrained(name, local_files_only=offline)
            model = package.T5EncoderModel.from_pretrained(
                name, dtype=kind, local_files_only=offline, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"the text encoder {name!r} can't be loaded: {_first_line(error)} Fetch the repository "
                f"{DEFAULT_TEXT_ENCODER} (config.json, tokenizer files, safetensors weights) or another T5 "
                "with as many channels into a folder, and pass that folder as text_encoder"
            ) from error
        return cls(model.to(device).requires_grad_(False).eval(), tokenizer, max_tokens=max_tokens)

    @property
    def channels(self) -> int:
        return int(self.model.config.d_model)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (B, L, channels) float32 and which of them count (B, L) bool; L is the longest prompt's length.

        Prompts are cleaned first (``clean_prompts``). One over ``max_tokens`` is cut, with a warning that says what is lost.
        """
        if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
            raise InputError("prompts must be a list of strings")
        prompts = clean_prompts(prompts)
        whole = self.tokenizer(prompts, truncation=False, verbose=False)["input_ids"]
        for prompt, ids in zip(prompts, whole, strict=True):
            if len(ids) > self.max_tokens:
                kept = self.tokenizer.decode(ids[: self.max_tokens - 1], skip_special_tokens=True)
                logger.warning(
                    "the prompt %.40r... has %d tokens and is cut to %d; the model reads up to ...%r",
                    prompt,
                    len(ids),
                    self.max_tokens,
                    kept[-40:],
                )
        # padded to the longest prompt, not to the limit: masked tokens cost time in each layer
        batch = self.tokenizer(
            prompts, truncation=True, max_length=self.max_tokens, padding="longest", return_tensors="pt"
        )
        ids, mask = (batch[key].to(self.model.device) for key in ("input_ids", "attention_mask"))
        tokens = self.model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, L, C)
        return tokens.float(), mask.bool()


def clean_prompts(prompts: Sequence[str]) -> list[str]:
    """As PixArt-alpha's pipeline does, whose transformer was trained on such: small letters, no addresses, markup, numbers of
    articles and the like. Without beautifulsoup4 or ftfy it warns, and only makes letters small."""
    kind = diffusers().PixArtAlphaPipeline
    # its method is of no use outside the class; the object has none of a pipeline's models
    cleaned: list[str] = kind.__new__(kind)._text_preprocessing(list(prompts), clean_caption=True)
    return cleaned


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."
