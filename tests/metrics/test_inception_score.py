"""Inception score: closed forms, another implementation, and the classifier's two kinds of files."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reducio_codec.errors import InputError, WeightsError
from reducio_codec.metrics.inception_score import CLASSES, C3d, C3dNetwork, inception_score
from reducio_codec.metrics.weights import NeedsFileError

CLIP = np.random.default_rng(0).integers(0, 256, (16, 24, 32, 3), dtype=np.uint8)


def test_clips_that_all_look_alike_score_one() -> None:
    row = np.random.default_rng(0).dirichlet(np.ones(7))
    found = inception_score(np.repeat(row[None], 30, 0), splits=3)
    assert (found.mean, found.std) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    assert (found.splits, found.clips) == (3, 30)


def test_each_class_clearly_and_equally_often_scores_the_number_of_classes() -> None:
    found = inception_score(np.tile(np.eye(7), (4, 1)), splits=4, seed=None)
    assert found.mean == pytest.approx(7)
    # a part that lacks classes can't reach that, and zeros bring no infinity
    assert inception_score(np.eye(7), splits=2, seed=None).mean == pytest.approx((3 + 4) / 2)


def test_two_kinds_of_unsure_clips() -> None:
    sure, unsure = 0.9, 0.1
    rows = np.array([[sure, unsure], [unsure, sure]])
    divergence = sure * np.log(sure / 0.5) + unsure * np.log(unsure / 0.5)
    assert inception_score(rows, splits=1).mean == pytest.approx(np.exp(divergence))


def test_agrees_with_torch_fidelity() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_isc")
    logits = torch.randn((57, 12), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    theirs = fidelity.isc_features_to_metric(logits, splits=5, shuffle=False)
    ours = inception_score(logits.softmax(1).numpy(), splits=5, seed=None)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-9)


def test_shuffling_is_repeatable_and_mixes_classes_that_come_in_order() -> None:
    rows = np.repeat(np.eye(5), 40, 0)  # class after class, as data sets are read
    assert inception_score(rows, splits=5, seed=None).mean == pytest.approx(1)
    shuffled = inception_score(rows, splits=5)
    assert shuffled.mean > 4 and shuffled == inception_score(rows, splits=5)


@pytest.mark.parametrize(
    ("rows", "splits", "message"),
    [
        (np.ones((3, 2)), 1, "row 0 holds no probabilities: least 1, sum 2"),
        (np.array([[0.5, 0.5], [1.5, -0.5]]), 1, "row 1 .* least -0.5"),
        (np.array([[0.5, np.nan]]), 1, "row 0"),
        (np.full((3, 2), 0.5), 4, "splits is 4"),
        (np.full(3, 0.5), 1, r"shape \(3,\)"),
    ],
)
def test_what_is_refused(rows: np.ndarray, splits: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        inception_score(rows, splits=splits)


class Script(nn.Module):
    """The TorchScript file's calling convention: bytes in, probabilities out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.uint8 and x.shape[2] == 16
        return torch.softmax(x.float().mean((2, 3, 4)).repeat(1, 34)[:, :101] / 20, 1)


def test_a_torchscript_classifier(tmp_path) -> None:
    path = tmp_path / "c3d.pt"
    torch.jit.script(Script()).save(str(path))
    model = C3d(path)
    found = model(CLIP)
    assert found.shape == (CLASSES,) and found.sum() == pytest.approx(1, abs=1e-4)
    assert found[0] / found[1] == pytest.approx(np.exp((CLIP[..., 0].mean() - CLIP[..., 1].mean()) / 20), rel=1e-3)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match="begin with 00"):
        C3d(path, sha256="00")
    with pytest.raises(InputError, match="uint8 \\(16"):
        model(CLIP[:8])


def test_tensors_of_a_c3d(tmp_path) -> None:
    torch.manual_seed(0)
    network = C3dNetwork(width=4, hidden=16).eval()
    network.mean.normal_(100, 20)
    path = tmp_path / "c3d.safetensors"
    tensors = network.state_dict()
    save_file(tensors, path)
    video = torch.from_numpy(CLIP.copy()).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        expected = network(video)[0].numpy()
    assert C3d(path)(CLIP) == pytest.approx(expected, abs=1e-6)
    assert not np.allclose(C3d(path)(CLIP), C3d(path)(CLIP[..., ::-1].copy()), atol=1e-6), "the order of colours counts"
    del tensors["fc7.bias"]
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="neither TorchScript nor a C3D's tensors"):
        C3d(path)


def test_at_full_width_it_has_c3ds_parameters() -> None:
    with torch.device("meta"):
        network = C3dNetwork()
    assert sum(parameter.numel() for parameter in network.parameters()) == 78_409_573


def test_files_that_are_no_classifier(tmp_path) -> None:
    with pytest.raises(NeedsFileError, match=r"c3d_ucf101\.pt"):
        C3d(None)
    with pytest.raises(NeedsFileError, match="doesn't exist"):
        C3d(tmp_path / "nowhere.pt")
    path = tmp_path / "broken.pt"
    path.write_bytes(b"no model at all")
    with pytest.raises(WeightsError, match="neither TorchScript nor"):
        C3d(path)
    for pickled in ({"anything": Script()}, C3dNetwork(width=4, hidden=16).state_dict()):  # pickles aren't read at all
        torch.save(pickled, path)
        with pytest.raises(WeightsError, match="neither TorchScript nor"):
            C3d(path)


class Logits(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linspace(-1, 1, 101)[None]


def test_logits_are_no_probabilities(tmp_path) -> None:
    path = tmp_path / "logits.pt"
    torch.jit.script(Logits()).save(str(path))
    with pytest.raises(WeightsError, match="least -1, sum"):
        C3d(path)(CLIP)
