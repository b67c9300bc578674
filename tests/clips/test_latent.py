"""A latent keeps its number of frames through everything that keeps its time axis."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from reducio_codec.clips.latent import Latent
from reducio_codec.codec import ReducioCodec
from tests.helpers import TinyModel, moving_video


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
    "copy": copy.copy,
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


def python(code: str, *, path: Path, flags: tuple[str, ...] = ()) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(path)
    subprocess.run([sys.executable, *flags, "-c", code], check=True, timeout=120, env=environment, cwd=path)


CHECK = """
assert type(loaded) is torch.Tensor, type(loaded)
assert loaded.shape == (2, 16, 8, 3, 5) and loaded.num_frames == 17 and loaded.keyframe_index == 5
assert torch.equal(loaded, torch.arange(2.0 * 16 * 8 * 15).view(2, 16, 8, 3, 5))
"""


@pytest.mark.parametrize("reader", ["without the package", "with the package"])
def test_a_saved_latent_is_plain_data(reader: str, tmp_path: Path) -> None:
    latent = Latent.of(torch.arange(2.0 * 16 * 8 * 15).view(2, 16, 8, 3, 5), num_frames=17, keyframe_index=5)
    torch.save({"latent": latent, "frames": 17}, tmp_path / "latent.pt")
    (tmp_path / "latent.pickle").write_bytes(pickle.dumps(latent))
    if reader == "without the package":
        # not even where it is installed
        begin, path = "import sys; sys.modules['reducio_codec'] = None\n", tmp_path
    else:
        begin, path = "import reducio_codec; reducio_codec.Latent\n", Path(__file__).resolve().parents[2]
    folder = str(tmp_path)
    python(
        f"{begin}import pickle, torch\n"
        f"for only in (True, False):\n"
        f"    loaded = torch.load({folder!r} + '/latent.pt', weights_only=only)['latent']\n"
        + textwrap.indent(CHECK, "    ")
        + f"loaded = pickle.load(open({folder!r} + '/latent.pickle', 'rb'))\n"
        + CHECK,
        path=path,
    )


def test_a_loaded_latent_decodes_to_the_same_video(tmp_path: Path) -> None:
    codec = ReducioCodec(TinyModel())
    latent, keyframe = codec.encode(moving_video(17, 32, 32), keyframe_index=3)
    torch.save((latent, keyframe), tmp_path / "a.pt")
    loaded, picture = torch.load(tmp_path / "a.pt")
    video = codec.decode(loaded, picture)
    assert video.shape[2] == 17 and torch.equal(video, codec.decode(latent, keyframe))
    again = Latent.of(loaded, num_frames=loaded.num_frames, keyframe_index=loaded.keyframe_index)
    assert isinstance(2 * again, Latent) and (2 * again).num_frames == 17


def test_printing_and_gradients_work(latent: Latent) -> None:
    assert "Latent" in repr(latent)
    latent.requires_grad_()
    (latent * 2).sum().backward()
    assert latent.grad is not None
