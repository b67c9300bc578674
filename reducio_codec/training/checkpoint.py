"""The folder of a run, and its checkpoints, which a killed run can't spoil: each is a folder, written under another name
and renamed when it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reducio_codec.errors import InputError, ReducioError
from reducio_codec.io.files import atomic_write, writing_errors
from reducio_codec.training.recipe_file import differences
from reducio_codec.training.run_log import BOARD_FOLDER, LOG_FILE, STRIPS_FOLDER
from reducio_codec.training.scan import CACHE_FOLDER
from reducio_codec.weights.layout import RECIPE_FILE

STATE_FILE = "state.json"

_LEFTOVERS = ("checkpoints", "latest", "best", LOG_FILE, BOARD_FOLDER, STRIPS_FOLDER)
"""What a run writes before it is finished, beside its recipe."""

_HARMLESS = ("run.steps", "run.minutes", "run.checkpoint_", "run.validate_", "run.log_steps", "data.workers",
             "data.storage", "validation.", "export.")  # fmt: skip
"""Options that may change between resumes: they don't change what a step computes."""


@dataclass(kw_only=True)
class Position:
    """Where a run is; everything else that resuming needs is in tensors."""

    step: int = 0
    seconds: float = 0.0
    """Of training, over all resumes."""
    best: float | None = None
    """Highest value of a validation so far."""
    skipped: int = 0
    """Clips that were replaced since their video couldn't be read."""


class Checkpoints:
    """``OUT/checkpoints/step-N``; ``OUT/latest`` and ``OUT/best`` name one each."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "checkpoints"

    def find(self, name: str = "latest") -> Path | None:
        """The newest (or ``best``) checkpoint, or None."""
        try:
            folder = self.folder / (self.out / name).read_text(encoding="utf-8").strip()
        except OSError:
            return None
        return folder if (folder / STATE_FILE).is_file() else None

    def save(self, position: Position, write: Callable[[Path], None], *, best: bool, main: bool) -> None:
        """Write a checkpoint with ``write(folder)``, then forget the ones that neither name needs.

        Args:
            main: whether this process does the renaming; ``write`` runs in all of them.

        Raises:
            ReducioError: it can't be written; the checkpoint before it is kept.
        """
        target = self.folder / f"step-{position.step:08d}"
        temporary = self.folder / f".{target.name}.part"
        try:
            with writing_errors(target):
                if main:
                    shutil.rmtree(temporary, ignore_errors=True)
                    temporary.mkdir(parents=True, exist_ok=True)
                write(temporary)
                if not main:
                    return
                (temporary / STATE_FILE).write_text(json.dumps(asdict(position)), encoding="utf-8")
                if target.exists():
                    shutil.rmtree(target)
                temporary.rename(target)
                for name in ("latest", "best") if best else ("latest",):
                    with atomic_write(self.out / name) as file:
                        file.write(target.name.encode())
        except ReducioError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            kept = self.find()
            raise ReducioError(f"{error}; {f'{kept} is kept' if kept else 'there is no checkpoint yet'}") from error
        needed = {found.name for name in ("latest", "best") if (found := self.find(name))}
        for old in self.folder.glob("step-*"):
            if old.name not in needed:
                shutil.rmtree(old, ignore_errors=True)


def read_position(folder: Path) -> Position:
    """What ``save`` was given."""
    return Position(**json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))


def is_unused(out: Path) -> bool:
    """Whether nothing in OUT would be missed: it is still to be made, has nothing but decoded videos in it, or is what is
    left of a run that ended before its first checkpoint."""
    if not out.exists():
        return True
    if not out.is_dir() or Checkpoints(out).find() is not None:
        return False
    names = {path.name for path in out.iterdir()} - {CACHE_FOLDER}
    return not names or (RECIPE_FILE in names and names <= {RECIPE_FILE, *_LEFTOVERS})


def check_folder(out: Path, document: dict[str, Any]) -> None:
    """Refuse an OUT that this run can't live in.

    Raises:
        InputError: it is a file, or holds a run with another recipe (the differences are named), or something else.
    """
    path = out / RECIPE_FILE
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out must be a folder, a new one or that of this run")
    if is_unused(out):
        return
    if not path.is_file():
        raise InputError(f"{out} isn't empty and holds no run; choose another --out")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); choose another --out") from error
    changed = differences(before, json.loads(json.dumps(document)))
    changed = [line for line in changed if not line.startswith(_HARMLESS)]
    if changed:
        raise InputError(f"{out} holds a run with another recipe ({'; '.join(changed)}); choose another --out")


def claim_folder(out: Path, document: dict[str, Any]) -> None:
    """Make OUT and write the recipe into it; or, where a run is in it, check that this is the same run."""
    check_folder(out, document)
    with writing_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        if is_unused(out):
            _forget_leftovers(out)
    with atomic_write(out / RECIPE_FILE) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())


def _forget_leftovers(out: Path) -> None:
    """What a run wrote that ended before its first checkpoint: nothing goes on from it."""
    for name in _LEFTOVERS:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def nothing_left(out: Path, *, cache: Path) -> Iterator[None]:
    """A wrong argument leaves no new OUT, and no empty cache elsewhere, which other runs may fill at the same time.

    Anything else that goes wrong leaves the videos that are decoded already.
    """
    new = [folder for folder in (out, cache) if not folder.exists()]
    try:
        yield
    except InputError:
        if out in new:
            shutil.rmtree(out, ignore_errors=True)
        if cache in new:
            with suppress(OSError):
                cache.rmdir()
        raise
