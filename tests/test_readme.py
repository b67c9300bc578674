"""README's section on latents, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from reducio_codec import ReducioCodec
from tests.helpers import moving_video

README = Path(__file__).parents[1] / "README.md"


def section(title: str) -> str:
    text = README.read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", section("Latents"), re.DOTALL)
    names = {"video": torch.from_numpy(moving_video(17, 64, 64))}
    exec(compile(code, str(README), "exec"), names)
    codec, latent = names["codec"], names["latent"]
    assert latent.shape == (1, 16, 8, 2, 2) and names["frames"].shape == (1, 17, 64, 64, 3)  # type: ignore[attr-defined]
    assert isinstance(codec, ReducioCodec) and names["wanted"].grad is not None
    posterior = codec.model.encode(torch.zeros(1, 3, 16, 64, 64))
    assert posterior.mean.shape == posterior.logvar.shape == (1, 16, 4, 2, 2)
