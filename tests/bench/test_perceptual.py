"""VMAF, VMAF-NEG, XPSNR and SSIMULACRA2 on a real clip: equal is best, more damage is worse, colours go one way."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.nn import functional

import reducio_codec
from bench import perceptual, program
from bench.methods import Candidate, Frames
from bench.perceptual import COLUMNS, Perceptual, ssimulacra2, vmaf, xpsnr
from bench.protocol import fit
from bench.quality import Quality
from bench.rd import run
from bench.rd_curves import read_rd
from bench.results import NOT_RUN
from reducio_codec.errors import InputError, MissingDependencyError
from reducio_codec.io.video import open_video
from tests.bench.fakes import NO_NETWORKS, Noise, quiet, video_folder

RATE = Fraction(16)

MEASURES: dict[str, Callable[[Frames, Frames], float]] = {
    "vmaf": lambda a, b: vmaf(a, b, rate=RATE).vmaf,
    "vmaf_neg": lambda a, b: vmaf(a, b, rate=RATE).neg,
    "xpsnr": lambda a, b: xpsnr(a, b, rate=RATE).weighted,
    "ssimulacra2": lambda a, b: ssimulacra2(a, b, every=4),
}
BEST = {"vmaf": 100, "vmaf_neg": 100, "xpsnr": 80, "ssimulacra2": 100}


@pytest.fixture(scope="module")
def frames() -> Frames:
    """The bundled clip, a real one, 128 x 128."""
    path = Path(reducio_codec.__file__).parent / "assets" / "flower.mp4"
    with open_video(path) as reader:
        return np.stack([fit(frame.rgb, size=128) for _, frame in zip(range(8), reader, strict=False)])


def noisy(frames: Frames, strength: float) -> Frames:
    noise = np.random.default_rng(0).normal(0, strength, frames.shape)
    return np.rint(frames + noise).clip(0, 255).astype(np.uint8)


def blurred(frames: Frames, *, side: int = 7) -> Frames:
    values = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    padded = functional.pad(values, [side // 2] * 4, mode="replicate")
    return functional.avg_pool2d(padded, side, stride=1).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize("name", MEASURES)
def test_equal_is_best_and_damage_is_worse(name: str, frames: Frames) -> None:
    measure = MEASURES[name]
    equal = measure(frames, frames)
    # VMAF gives less than 100 to frames that nothing moves in front of, equal or not
    assert equal == pytest.approx(BEST[name], abs=4 if name.startswith("vmaf") else 1e-6)
    scores = [measure(frames, noisy(frames, strength)) for strength in (3, 10, 30)]
    assert equal >= scores[0] > scores[1] > scores[2]
    assert measure(frames, blurred(frames)) < measure(frames, blurred(frames, side=3)) < equal


def test_neg_does_not_reward_sharpening(frames: Frames) -> None:
    soft = blurred(frames, side=3)
    sharpened = (frames + 0.8 * (frames.astype(float) - soft)).clip(0, 255).astype(np.uint8)
    found, plain = vmaf(soft, sharpened, rate=RATE), vmaf(soft, soft, rate=RATE)
    assert found.neg < found.vmaf and found.neg <= plain.neg


def test_xpsnr_is_that_of_ffmpegs_program(frames: Frames, tmp_path: Path) -> None:
    """The same filter in another build, fed by files: neither the order of clips nor that of planes is mixed up."""
    other = noisy(frames, 10)
    inputs = []
    for name, clip in (("decoded", other), ("reference", frames)):
        (tmp_path / name).write_bytes(program.raw(clip, pixel_format="yuv420p"))
        inputs += program.raw_input(name, frames=clip, rate=RATE, pixel_format="yuv420p")
    program.call([*inputs, "-lavfi", "xpsnr=stats_file=log", "-f", "null", "-"], folder=tmp_path)
    words = (tmp_path / "log").read_text().splitlines()[-1].split()
    found = xpsnr(frames, other, rate=RATE)
    for plane in "yuv":
        assert getattr(found, plane) == pytest.approx(float(words[words.index(f"{plane}:") + 1]), abs=1e-3)
    assert found.weighted == pytest.approx((4 * found.y + found.u + found.v) / 6)
    assert found != xpsnr(other, frames, rate=RATE)


def test_both_clips_take_the_same_way_of_colours(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours that 4:2:0 can't hold cost nothing, because both sides lose them; a shift of hue costs chroma alone."""
    stripes = frames.copy()
    stripes[:, :, ::2, 0] //= 2
    assert xpsnr(stripes, stripes, rate=RATE).weighted == 80
    assert vmaf(stripes, stripes, rate=RATE).neg > 95
    assert xpsnr(frames, frames[..., ::-1].copy(), rate=RATE).v < 30


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_what_can_not_be_compared(measure: Callable[[Frames, Frames], float], frames: Frames) -> None:
    for other in (frames[:4], frames.astype(np.float32), frames[:, :64]):
        with pytest.raises(InputError, match="of one shape"):
            measure(frames, other)
    with pytest.raises(InputError, match="pixels or more"):
        measure(frames[:, :4, :4], frames[:, :4, :4])


def test_odd_sides_are_said(frames: Frames) -> None:
    odd = frames[:, :127]
    with pytest.raises(InputError, match="even sides"):
        vmaf(odd, odd, rate=RATE)


def test_what_is_not_installed_is_a_sentence(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    hidden = ("imageio_ffmpeg", "ssimulacra2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in hidden else find(name, *a))
    monkeypatch.setattr(av.filter, "filters_available", set())
    found = Perceptual.open(list(COLUMNS)).measure(frames, frames, rate=RATE)
    assert found["vmaf"] == found["vmaf_neg"] == NOT_RUN + "needs imageio-ffmpeg"
    assert (
        found["ssimulacra2"] == NOT_RUN + "needs ssimulacra2" and found["xpsnr"] == NOT_RUN + "this PyAV has no xpsnr"
    )
    with pytest.raises(MissingDependencyError, match="has no filter xpsnr"):
        xpsnr(frames, frames, rate=RATE)
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    with pytest.raises(MissingDependencyError, match=r"reducio-codec\[bench\]"):
        ssimulacra2(frames, frames)
    with pytest.raises(InputError, match="allowed: vmaf, xpsnr, ssimulacra2"):
        Perceptual.open(["taste"])


def test_a_benchmark_has_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    videos = video_folder(tmp_path / "videos", {"a.mp4": 16})
    codec = Candidate(name="noise", points={"only": lambda: Noise(strength=8, bits=0.1)})

    def again(*names: str) -> tuple[object, object]:
        quality = Quality(lpips=NO_NETWORKS.lpips, i3d=NO_NETWORKS.i3d, perceptual=Perceptual.open(names))
        run([codec], data=videos, results=tmp_path, quality=quality, console=quiet())
        data = read_rd(tmp_path)
        return data.curve("noise", "a.mp4", "vmaf_neg"), data.mean_points("noise", "xpsnr")

    not_asked = NOT_RUN + "not asked for"
    assert again() == (not_asked, not_asked)
    neg, ((rate, decibels),) = again("xpsnr")  # a number is added to what was finished
    assert neg == not_asked and rate == pytest.approx(0.1, abs=1e-3) and 25 < decibels < 45


def test_the_escape_of_paths() -> None:
    assert perceptual._escaped(Path("/a:b/it's")) == r"/a\:b/it\'s"
