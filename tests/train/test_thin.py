"""A training that starts from a model with larger layers: what is smaller is fitted to what they make."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import nn

from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.train.packed.data import Batch, Sampler, open_pack
from reducio_codec.train.packed.pack import pack_videos
from reducio_codec.train.packed.parts import load_weights
from reducio_codec.train.packed.thin import larger, main, thinned
from reducio_codec.weights.zoo import resolve
from tests.models.test_lite import references


@pytest.fixture(scope="module")
def pack(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    pack_videos(videos, folder, side=64)
    return folder


def weights(*, spread: float) -> dict[str, torch.Tensor]:
    """``reducio-test`` with layers of 3x3 and one block more; ``spread``: of the weights around the middle."""
    torch.manual_seed(0)
    folder = resolve("reducio-test").folder
    state = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    for path in ("up_4", "in_4", "out_4", "second.out_4"):
        key = f"decoders.attention.{path}.weight"
        wide = spread * torch.randn(*state[key].shape[:2], 3, 3)
        wide[:, :, 1, 1] = state[key][:, :, 0, 0] + 0.05 * torch.randn(state[key].shape[:2])
        state[key] = wide
    for name in [key for key in state if key.startswith("decoders.attention.blocks_8.0.")]:
        state[name.replace("blocks_8.0", "blocks_8.2")] = torch.zeros_like(state[name])
    return state


@torch.no_grad()
def difference(one: ReducioLite, other: ReducioLite, batch: Batch) -> float:
    """Root mean square of what the two decode, of values in [-1, 1]."""
    video = batch.video.float() / 127.5 - 1
    known = references(video, (7,))
    latent = one.latent(one.encode(video, references=known).mode())
    return float((one.decode(latent, known) - other.decode(latent, known)).square().mean().sqrt())


@torch.no_grad()
def test_layers_that_see_one_position_anyway_are_found_again(pack: Path) -> None:
    config = load_weights(resolve("reducio-test").folder)[0].config
    old = larger(config, weights(spread=0.0))
    assert isinstance(old.decoders["attention"].in_4, nn.Conv2d) and old.decoders["attention"].in_4.kernel_size == (
        3,
        3,
    )
    sampler = Sampler(open_pack(pack), seed=0)
    batches = [sampler.batch(number, size=2, side=64) for number in range(6)]
    new = thinned(old, batches)
    assert difference(old, new, batches[0]) < 0.002
    assert torch.equal(new.decoders["linear"].out_4.weight, old.decoders["linear"].out_4.weight)


@torch.no_grad()
def test_others_are_fitted_and_a_training_starts_from_the_folder(pack: Path, tmp_path: Path) -> None:
    source = resolve("reducio-test").folder
    for name in ("config.json", "entropy.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    state = weights(spread=0.03)
    save_file(state, tmp_path / "model.safetensors")
    result = CliRunner().invoke(
        main, [str(tmp_path), "--pack", str(pack), "--out", str(tmp_path / "run"), "--side", "64", "--clips", "8"]
    )
    assert not result.exit_code, result.output
    new, _ = load_weights(tmp_path / "run")
    old = larger(new.config, state)
    middles = ReducioLite(new.config).eval()
    own = middles.state_dict()
    middles.load_state_dict(
        {key: state[key][..., 1:2, 1:2] if state[key].shape != own[key].shape else state[key] for key in own}
    )
    batch = Sampler(open_pack(pack), seed=1).batch(0, size=2, side=64)
    assert difference(old, new.eval(), batch) < 0.8 * difference(old, middles, batch)
