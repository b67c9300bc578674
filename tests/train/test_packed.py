"""Packed scenes: what is packed comes back, a training learns and goes on, and nothing of it needs FFmpeg."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor

from reducio_codec.codec import ReducioCodec
from reducio_codec.config import LiteConfig
from reducio_codec.errors import InputError
from reducio_codec.io.video import read_clip
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.rdc.tables import LatentTables
from reducio_codec.train.packed.__main__ import main
from reducio_codec.train.packed.batch_loss import BatchLoss, Weights
from reducio_codec.train.packed.data import LAYOUTS, Sampler, batches, open_pack
from reducio_codec.train.packed.evaluate import held_out, measure
from reducio_codec.train.packed.export import main as export_command
from reducio_codec.train.packed.pack import pack_videos
from reducio_codec.train.packed.parts import PARTS, load_weights, save_weights
from reducio_codec.train.packed.perceptual import Lpips

TINY = LiteConfig(channels_4=8, channels_8=8, channels_16=4, channels_32=16, decoders=("attention", "linear"))


@pytest.fixture(scope="module")
def pack(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    pack_videos(videos, folder, side=64)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = ReducioLite(TINY)
    save_weights(folder, model, model.state_dict(), widths=torch.full((16,), 0.5), step=0)
    return folder


def test_what_was_packed_comes_back(videos: Path, pack: Path, tmp_path: Path) -> None:
    scenes = open_pack(pack)
    assert [scene.shape for scene in scenes] == [(40, 64, 85, 3)] * 3
    mapped = open_pack(pack, cache=tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(scenes, mapped, strict=True))
    original = read_clip(sorted(videos.iterdir())[0]).astype(float)
    assert abs(original.mean((1, 2)) - scenes[0].astype(float).mean((1, 2))).max() < 3
    with pytest.raises(InputError, match=r"has no \.avif files"):
        open_pack(tmp_path / "nothing")


def test_a_batch_depends_on_its_number_alone(pack: Path) -> None:
    one, other = (Sampler(open_pack(pack), seed=1) for _ in range(2))
    layouts = set()
    for number in (5, 3, 4, 8, 13, 21):
        a, b = one.batch(number, size=2, side=32), other.batch(number, size=2, side=32)
        assert torch.equal(a.video, b.video) and torch.equal(a.references, b.references)
        layouts.add(a.layout.places)
        for n, place in enumerate(a.layout.places):
            for clip in range(2):
                if 0 <= place < 16:  # a reference inside the clip is that frame, perhaps coded
                    difference = a.references[clip, n].float() - a.video[clip, :, place].float()
                    assert difference.abs().mean() < 20
                elif not a.present[clip, n]:
                    assert not a.references[clip, n].any()
    assert len(layouts) > 1 and layouts <= {layout.places for _, layout in LAYOUTS}


def run(pack: Path, weights: Path, out: Path, *more: str) -> list[dict[str, float]]:
    arguments = [str(pack), "--start", str(weights), "--out", str(out), "--side", "32", "--batch", "1", "--warmup", "2"]
    arguments += ["--decoder", "attention", "--decoder", "linear", "--precision", "fp32", *more]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_twenty_steps_and_on(pack: Path, weights: Path, tmp_path: Path) -> None:
    """A broken training ends where an unbroken one does."""
    once, twice = tmp_path / "once", tmp_path / "twice"
    rows = run(pack, weights, once, "--steps", "20")
    assert rows[-1]["step"] == 20 and np.isfinite(list(rows[-1].values())).all()
    run_state(pack, weights, twice)
    for name in PARTS:
        assert (once / name).read_bytes() == (twice / name).read_bytes()
    start, _ = load_weights(weights)
    end, widths = load_weights(once)
    changed = [k for k, v in end.state_dict().items() if not torch.allclose(v, start.state_dict()[k], atol=1e-5)]
    assert any(key.startswith("decoders.linear") for key in changed) and any(key.startswith("mend") for key in changed)
    assert not any(key.startswith("encoder") for key in changed)
    assert widths.tolist() == [0.5] * 16


def test_what_is_frozen_stays_as_it_is_to_the_bit(pack: Path, weights: Path, tmp_path: Path) -> None:
    """The sign of a zero, too: a latent space is told by the bits of its encoder."""
    model, widths = load_weights(weights)
    state = model.state_dict()
    for key in state:
        if key.startswith("encoder."):
            state[key].flatten()[0] = -0.0
    save_weights(tmp_path / "start", model, state, widths=widths, step=0)
    run(
        pack, tmp_path / "start", tmp_path / "run", "--steps", "20", "--train", "decoders.linear", "--decoder", "linear"
    )
    (first, _), (last, _) = load_weights(tmp_path / "start"), load_weights(tmp_path / "run")
    for key, value in last.state_dict().items():
        same = value.numpy().tobytes() == first.state_dict()[key].numpy().tobytes()
        assert same or key.startswith("decoders.linear."), key
    assert not alike(linear_of(first), linear_of(last))


def test_batches_come_again_with_the_latents_that_they_had(pack: Path, weights: Path) -> None:
    sampler = Sampler(open_pack(pack), seed=0)
    made = batches(sampler, first=1, size=1, side=32, workers=1, distinct=3)
    taken = [next(made) for _ in range(7)]
    assert [batch.number for batch in taken] == [1, 2, 0, 1, 2, 0, 1] and taken[1] is taken[4]
    model, widths = load_weights(weights)
    losses = {}
    for repeats in (False, True):
        loss_of = BatchLoss(
            model,
            widths=widths,
            encoder=False,
            weights=Weights(),
            perceptual=None,
            repeats=repeats,
        )
        losses[repeats] = [
            loss_of(batch, decoders=["linear"], generator=torch.Generator().manual_seed(1))[0].item() for batch in taken
        ]
    assert losses[True] == losses[False]


def linear_of(model: ReducioLite) -> dict[str, Tensor]:
    return dict(model.decoders["linear"].state_dict())


def alike(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_decoder_starts_untrained_where_the_folder_has_another_or_none(weights: Path, tmp_path: Path) -> None:
    model, widths = load_weights(weights)
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("decoders.linear.")}
    save_weights(tmp_path, model, {**state, "decoders.linear.in_8.weight": torch.ones(3)}, widths=widths, step=1)
    with pytest.raises(InputError, match=r"no decoders.linear.* \(--fresh linear\)"):
        load_weights(tmp_path)
    fresh, _ = load_weights(tmp_path, fresh=["linear"])
    assert not fresh.decoders["linear"].out_4.weight.any() and fresh.decoders["linear"].in_16.weight.any()
    assert alike(dict(fresh.decoders["attention"].state_dict()), dict(model.decoders["attention"].state_dict()))
    with pytest.raises(InputError, match="decoder is 'warp'; allowed: attention, linear"):
        load_weights(tmp_path, fresh=["warp"])


def test_decoders_of_two_trainings_in_one_model(weights: Path, tmp_path: Path) -> None:
    """Over the same shared parts only."""
    first, widths = load_weights(weights)
    (tmp_path / "entropy.json").write_text(json.dumps(LatentTables.default(16).to_json()))
    for name, part in (("linear", "decoders.linear."), ("other", "trunk.")):
        state = {key: value + key.startswith(part) for key, value in first.state_dict().items()}
        save_weights(tmp_path / name, first, state, widths=widths, step=1)

    def export(*more: str) -> Result:
        arguments = [str(weights), "--tables", str(tmp_path), "--out", str(tmp_path / "model"), *more]
        return CliRunner().invoke(export_command, arguments)

    assert export("--take", f"linear={tmp_path / 'linear'}").exit_code == 0
    second, _ = load_weights(tmp_path / "linear")
    joined, _ = load_weights(tmp_path / "model", config=TINY)
    assert alike(linear_of(joined), linear_of(second)) and not alike(linear_of(first), linear_of(second))
    assert torch.equal(joined.decoders["attention"].in_8.weight, first.decoders["attention"].in_8.weight)
    for wrong, message in (
        (f"linear={tmp_path / 'other'}", "has another trunk"),
        ("linear", "'linear' must be NAME=FOLDER"),
        (f"sharp={tmp_path / 'linear'}", "decoder is 'sharp'; allowed: attention, linear"),
    ):
        with pytest.raises(InputError, match=message):
            raise export("--take", wrong).exception or AssertionError(wrong)


def run_state(pack: Path, weights: Path, out: Path) -> None:
    from reducio_codec.train.packed import __main__ as command

    class Stop(Exception):
        pass

    count = 0
    original = command.Run.follow

    def follow(self: command.Run, *, decay: float) -> None:
        nonlocal count
        original(self, decay=decay)
        count += 1
        if count == 9:
            self.save(out)
            raise Stop

    command.Run.follow = follow  # type: ignore[method-assign]
    try:
        with pytest.raises(Stop):
            run(pack, weights, out, "--steps", "20")
    finally:
        command.Run.follow = original  # type: ignore[method-assign]
    run(pack, weights, out, "--steps", "20")


TOGETHER = """
import sys, torch
from reducio_codec.train.packed import __main__ as command
from reducio_codec.train.packed.processes import join

processes = join()
one, other = (torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(2))
one.grad = torch.full((2, 3), 1.0 + processes.rank)
if processes.first:
    other.grad = torch.arange(6.0).view(2, 3)
processes.average([one, other])
assert one.grad.flatten().tolist() == [1.5] * 6 and other.grad.flatten().tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
assert processes.longest(3.0 - processes.rank) == 3.0 and processes.count == 2
assert {processes.seed(7)} == {14 + processes.rank}
command.join = lambda: processes
command.main(sys.argv[1:])
"""


def test_processes_train_together(pack: Path, weights: Path, tmp_path: Path) -> None:
    """As the manual starts them: what both learned is there, written by one of them."""
    (tmp_path / "together.py").write_text(TOGETHER)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--",
        str(tmp_path / "together.py"),
    ]
    command += [str(pack), "--start", str(weights), "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    command += [
        "--side",
        "32",
        "--batch",
        "1",
        "--decoder",
        "attention",
        "--decoder",
        "linear",
        "--turns",
        "--steps",
        "20",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20] and {"attention", "linear"} <= rows[0].keys()
    alone = run(pack, weights, tmp_path / "alone", "--steps", "20")
    assert alone[0]["loss"] != rows[0]["loss"]
    assert not list((tmp_path / "cache").glob("*.part.npy"))


def test_encoder_and_perceptual_loss(pack: Path, weights: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    channels = (3, 64, 192, 384, 256, 256)
    tensors = {}
    for number, (before, after) in enumerate(pairwise(channels)):
        size = (11, 5, 3, 3, 3)[number]
        tensors[f"conv.{number}.weight"] = 0.05 * torch.randn(after, before, size, size, generator=generator)
        tensors[f"conv.{number}.bias"] = torch.zeros(after)
        tensors[f"head.{number}"] = torch.ones(after)
    save_file(tensors, tmp_path / "alex.safetensors")
    metric = Lpips(tmp_path / "alex.safetensors")
    picture = torch.rand(1, 3, 64, 64, generator=generator)
    assert metric(picture, picture).item() == 0 and metric(picture, -picture).item() > 0
    options = ["--lpips", str(tmp_path / "alex.safetensors"), "--train", "encoder", "--train", "decoders.linear"]
    rows = run(pack, weights, tmp_path / "run", "--steps", "20", "--side", "64", *options)
    assert {"attention/lpips", "linear/lpips", "bits"} <= rows[-1].keys()
    end, _ = load_weights(tmp_path / "run")
    start, _ = load_weights(weights)
    assert not torch.equal(end.encoder.out_conv.weight, start.encoder.out_conv.weight)
    assert torch.equal(end.trunk.in_conv.weight, start.trunk.in_conv.weight)


def test_an_evaluation_and_a_model_folder(videos: Path, weights: Path, tmp_path: Path) -> None:
    pack_videos(videos, tmp_path / "pack", side=256)  # videos of 72x96 stay as small as they are
    scenes = [np.repeat(np.repeat(scene, 4, 1), 4, 2) for scene in open_pack(tmp_path / "pack")]
    clips = list(held_out(scenes, every=3))
    assert [clip.frames.shape for clip in clips] == [(16, 256, 256, 3)] * 2
    assert [sorted(clip.beside) for clip in clips] == [[23], [-9, 23]]
    model, widths = load_weights(weights)
    found = measure(model, clips[0], widths=widths, decoders=("attention", "linear"), lpips=None)
    assert found["attention raw"] == pytest.approx(found["copy"], abs=3)  # untrained: near to the key frame repeated
    assert found["linear by frame"].shape == (16,) and found["linear by frame"].argmax() == 7

    (tmp_path / "entropy.json").write_text(json.dumps(LatentTables.default(16).to_json()))
    arguments = [str(weights), "--tables", str(tmp_path), "--out", str(tmp_path / "model")]
    assert CliRunner().invoke(export_command, arguments, catch_exceptions=False).exit_code == 0
    codec = ReducioCodec.from_pretrained(tmp_path / "model")
    frames = read_clip(sorted(videos.iterdir())[0])
    codec.compress(iter(frames), tmp_path / "v.rdc", rate=Fraction(16))
    codec.decompress(tmp_path / "v.rdc", tmp_path / "v.mkv", lossless=True)
    assert read_clip(tmp_path / "v.mkv").shape == frames.shape


def test_it_needs_neither_ffmpeg_nor_the_coder() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('av', 'constriction', 'lpips')));"
        "import reducio_codec.train.packed.__main__"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
