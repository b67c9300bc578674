"""What a run leaves for people and programs to look at: a log, TensorBoard, pictures, a learning curve."""

from __future__ import annotations

import importlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from reducio_codec.io.files import atomic_write

LOG_FILE = "log.jsonl"
BOARD_FOLDER = "tensorboard"
STRIPS_FOLDER = "strips"
_log = logging.getLogger(__name__)


class RunLog:
    """Writes into ``out``; in processes other than the first it does nothing.

    ``log.jsonl`` has an object a line: step, minutes, and values. A resumed run drops the lines after its checkpoint.
    """

    def __init__(self, out: Path, *, main: bool, step: int) -> None:
        self._main = main
        self._path = out / LOG_FILE
        self._board: Any = None
        if not main:
            return
        _forget_after(self._path, step)
        try:
            board = importlib.import_module("torch.utils.tensorboard")
            self._board = board.SummaryWriter(out / BOARD_FOLDER, purge_step=step + 1)
        except ImportError:
            _log.info("no TensorBoard log: pip install 'reducio-codec[train]'")
        self._pictures = out / STRIPS_FOLDER

    def values(self, step: int, *, minutes: float, **values: float) -> None:
        if not self._main:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "minutes": round(minutes, 3), **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, pixels: npt.NDArray[np.uint8]) -> None:
        """A strip (H, W, 3) as ``strips/step-N.png``."""
        if not self._main:
            return
        self._pictures.mkdir(exist_ok=True)
        with atomic_write(self._pictures / f"step-{step:08d}.png") as file:
            Image.fromarray(pixels).save(file, "PNG")

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _forget_after(path: Path, step: int) -> None:
    lines = read_log(path)
    if lines and lines[-1]["step"] > step:
        with atomic_write(path) as file:
            for line in lines:
                if line["step"] <= step:
                    file.write((json.dumps(line) + "\n").encode())


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a ``log.jsonl``; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What a learning curve shows below the loss."""

    shown: re.Pattern[str]
    """Names of the log's values."""
    label: str
    """What they are."""


def plot_curve(out: Path, curve: Curve) -> Path | None:
    """``curve.png`` of the log in ``out``: loss above, validation below. None without matplotlib (extra ``[train]``)."""
    try:
        figure_class = importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        _log.info("no learning curve: pip install 'reducio-codec[train]'")
        return None
    lines = read_log(out / LOG_FILE)
    figure = figure_class(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _draw(above, lines, [name for name in _names(lines) if name == "loss"], label="loss")
    _draw(below, lines, [name for name in _names(lines) if curve.shown.fullmatch(name)], label=curve.label)
    below.set_xlabel("minutes of training")
    target = out / "curve.png"
    with atomic_write(target) as file:
        figure.savefig(file, format="png", dpi=120)
    return target


def _names(lines: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in line))


def _draw(axes: Any, lines: list[dict[str, Any]], names: list[str], *, label: str) -> None:
    for name in names:
        points = [(line["minutes"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None, label=name)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if names:
        axes.legend()
