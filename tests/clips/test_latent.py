"""A latent keeps its number of frames through everything that keeps its time axis."""

import copy
import io
import pickle

import pytest
import torch

from reducio_codec.clips.latent import Latent


@pytest.fixture
def latent() -> Latent:
    return Latent.of(torch.randn(2, 16, 8, 3, 5), num_frames=17, keyframe_index=7)


KEEPS = {
    "clone": lambda x: x.clone(),
    "half": lambda x: x.half(),
    "to": lambda x: x.to(torch.float64),
    "cpu": lambda x: x.cpu(),
    "detach": lambda x: x.detach(),
    "contiguous": lambda x: x.contiguous(),
    "slice of the batch": lambda x: x[:1],
    "crop": lambda x: x[..., :2],
    "times": lambda x: 2 * x + 1,
    "plus itself": lambda x: x + x,
    "round": lambda x: torch.round(x / 0.5) * 0.5,
    "batch of itself": lambda x: torch.cat([x, x]),
    "split": lambda x: x.split(1)[1],
    "in place": lambda x: x.add_(1),
    "zeros_like": torch.zeros_like,
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}

LOSES = {
    "one video": lambda x: x[0],
    "sum": lambda x: x.sum(),
    "half of the time": lambda x: x[:, :, :4],
    "joined in time": lambda x: torch.cat([x, x], dim=2),
    "with another video": lambda x: torch.cat([x, Latent.of(x.plain(), num_frames=20, keyframe_index=7)]),
    "permuted": lambda x: x.permute(0, 2, 1, 3, 4),
    "plain": lambda x: x.plain(),
}


@pytest.mark.parametrize("name", KEEPS)
def test_keeps(latent: Latent, name: str) -> None:
    result = KEEPS[name](latent)
    assert isinstance(result, Latent), name
    assert (result.num_frames, result.keyframe_index) == (17, 7)


@pytest.mark.parametrize("name", LOSES)
def test_becomes_plain(latent: Latent, name: str) -> None:
    result = LOSES[name](latent)
    assert type(result) is torch.Tensor, name
    assert latent.num_frames == 17


def test_saves_and_loads(latent: Latent) -> None:
    file = io.BytesIO()
    torch.save(latent, file)
    file.seek(0)
    loaded = torch.load(file)
    assert loaded.num_frames == 17 and torch.equal(loaded, latent)


def test_printing_and_gradients_work(latent: Latent) -> None:
    assert "Latent" in repr(latent)
    latent.requires_grad_()
    (latent * 2).sum().backward()
    assert latent.grad is not None
