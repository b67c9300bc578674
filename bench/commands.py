"""``python -m bench run commands``: whole commands, from the start of the process to its end, beside the bare calls.

A video of each size is made, encoded and decoded by ``reducio-codec`` in processes of their own, and by the calls below the
command in this one, in turns; what the process alone and its imports take has rows of its own, and what a process takes
beyond ``import torch`` is this package's own memory.

The video is 16 frames to and fro, which by content become key frames nearly all: then pictures are coded and hardly anything
else. So its files have one key frame a clip (``--keyframes 1``), and all frames but those are the network's; what is done by
default, by content, has rows of its own.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.json_files import RESULTS, write_json
from bench.machine import describe
from bench.speed.coders import Repeated, clip_at
from bench.speed.points import FRAME_RATE, Point
from reducio_codec.codec import ReducioCodec
from reducio_codec.coding.options import EncodeKeywords
from reducio_codec.errors import InputError
from reducio_codec.io.writer import VideoWriter

PROTOCOL = "commands/2"

STARTS = {
    "python": ("-c", ""),
    "import torch": ("-c", "import torch"),
    "import reducio_codec": ("-c", "import reducio_codec.codec"),
    "reducio-codec --help": ("-m", "reducio_codec", "--help"),
    "reducio-codec decode --help": ("-m", "reducio_codec", "decode", "--help"),
}
"""What a process takes before it does anything: arguments of Python."""

_OTHERS = "import torch"
"""The one of them whose memory isn't ours: nearly all of it are torch's libraries."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a process took."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """What is run."""

    sizes: tuple[str, ...] = ("256x256", "1280x720", "1920x1080")
    seconds: int = 4
    decoders: tuple[str, ...] = ("linear", "sharp")
    rounds: int = 3
    model: str = "reducio-lite"

    def __post_init__(self) -> None:
        for size in self.sizes:
            Point().at("resolution", size)

    @property
    def frames(self) -> int:
        return self.seconds * FRAME_RATE


_WEIGH = """
import os, subprocess, sys, time
began = time.perf_counter()
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - began, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
"""A small process between: a child's peak begins with the memory of the process that starts it, and this one is large."""


def spent_by(arguments: Sequence[str]) -> Spent:
    """Run Python with these arguments. RuntimeError if it fails."""
    done = subprocess.run([sys.executable, "-c", _WEIGH, *arguments], capture_output=True, text=True, check=True)
    seconds, peak, code = done.stdout.split()
    if code != "0":
        said = done.stderr.strip().splitlines()
        raise RuntimeError(said[-1] if said else f"{' '.join(arguments)} ended with {code}")
    return Spent(seconds=float(seconds), peak_bytes=int(peak) * (1 if sys.platform == "darwin" else 1024))


def measure(
    config: CommandConfig, *, console: Console, spend: Callable[[Sequence[str]], Spent] = spent_by
) -> dict[str, Any]:
    """All rows, medians of the rounds."""
    codec = ReducioCodec.from_pretrained(config.model, dtype="auto")
    for name in config.decoders:
        codec.check_decoder(name)
    rows: list[dict[str, Any]] = []
    starts = {name: [spend(arguments) for _ in range(config.rounds)] for name, arguments in STARTS.items()}
    others = min(item.peak_bytes for item in starts[_OTHERS])
    for name, spent in starts.items():
        rows.append(_row(name, spent, others=others))
        console.print(_text(rows[-1]), markup=False)
    for size in config.sizes:
        with TemporaryDirectory() as folder:
            for row in _at_size(config, size, Path(folder), codec=codec, others=others, spend=spend):
                rows.append(row)
                console.print(_text(row), markup=False)
    return {"protocol": PROTOCOL, "config": asdict(config), "machine": describe(), "rows": rows}


def _at_size(
    config: CommandConfig,
    size: str,
    folder: Path,
    *,
    codec: ReducioCodec,
    others: int,
    spend: Callable[[Sequence[str]], Spent],
) -> list[dict[str, Any]]:
    width, height = map(int, size.split("x"))
    frames = list(Repeated(clip_at(width, height), count=config.frames))
    source, out = folder / "a.mp4", folder / "b.mp4"
    with VideoWriter(
        source, width=width, height=height, time_base=Fraction(1, FRAME_RATE), rate=Fraction(FRAME_RATE)
    ) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, number)

    def encode(options: EncodeKeywords, *, to: Path | None = None) -> object:
        return codec.compress(frames, to or io.BytesIO(), rate=FRAME_RATE, **options)

    def decode(rdc: Path, decoder: str) -> None:
        with codec.open_file(rdc) as video:
            for clip in range(video.clips):
                video.shown_clip(clip, decoder=decoder)

    pairs: dict[str, tuple[Callable[[], object], Sequence[str]]] = {}
    module, model = ("-m", "reducio_codec"), ("-f", "-m", config.model)
    one: EncodeKeywords = {"keyframes": 1}
    kinds: tuple[tuple[str, EncodeKeywords, tuple[str, ...], tuple[str, ...]], ...] = (
        ("", one, ("--keyframes", "1"), config.decoders),
        (" by content", {}, (), config.decoders[:1]),
    )
    for kind, options, given, decoders in kinds:
        rdc = folder / f"a{kind}.rdc"
        encode(options, to=rdc)  # what is decoded
        made = (*module, "encode", str(source), "-o", str(folder / "c.rdc"), *given, *model)
        pairs[f"encode{kind}"] = partial(encode, options), made
        for name in decoders:
            shown = (*module, "decode", str(rdc), "-o", str(out), "--decoder", name, *model)
            pairs[f"decode{kind}, {name}"] = partial(decode, rdc, name), shown
    rows = []
    for name, (call, command) in pairs.items():
        bare, whole = [], []
        for _ in range(config.rounds):
            began = time.perf_counter()
            call()
            bare.append(time.perf_counter() - began)
            whole.append(spend(command))
        rows.append(_row(f"{size} {name}", whole, others=others, frames=config.frames, bare=bare))
    return rows


def _row(
    name: str, spent: Sequence[Spent], *, others: int, frames: int = 0, bare: Sequence[float] = ()
) -> dict[str, Any]:
    peak = max(item.peak_bytes for item in spent)
    return {
        "name": name,
        "frames": frames,
        "seconds": median(item.seconds for item in spent),
        "peak_bytes": peak,
        "own_bytes": max(0, peak - others),
        "bare_seconds": median(bare) if bare else None,
    }


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table: seconds and peak memory of the process, what of it lies above ``import torch``, frames a second of it
    and of the bare calls, their ratio."""
    memory, own = (f"{row[key] / 1e6:.0f} MB" for key in ("peak_bytes", "own_bytes"))
    shown = [row["name"], f"{row['seconds']:.2f}", memory, own]
    if row["bare_seconds"] is None:
        return [*shown, "", "", ""]
    whole, bare = row["frames"] / row["seconds"], row["frames"] / row["bare_seconds"]
    return [*shown, f"{whole:.1f}", f"{bare:.1f}", f"{whole / bare:.0%}"]


HEAD = ("", "seconds", "peak memory", "above torch", "frames/s", "bare calls", "share")


def table(data: dict[str, Any]) -> list[list[str]]:
    """A row a command."""
    return [list(HEAD), *(cells(row) for row in data["rows"])]


def words(data: dict[str, Any]) -> str:
    """What was measured."""
    config, machine = data["config"], data["machine"]
    return (
        f"Whole commands on {machine['cpu']}, {machine['cores']} cores: {config['seconds']} s of {FRAME_RATE} frames a second, "
        f"medians of {config['rounds']}."
    )


def _text(row: dict[str, Any]) -> str:
    return "  ".join(part for part in cells(row) if part)


@click.command()
@click.option("--sizes", default=",".join(CommandConfig.sizes), show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=CommandConfig.seconds, show_default=True)
@click.option("--decoders", default=",".join(CommandConfig.decoders), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=CommandConfig.rounds, show_default=True)
@click.option(
    "-o", "--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, show_default=True,
    help="Folder of commands.json.",
)  # fmt: skip
def commands(sizes: str, seconds: int, decoders: str, rounds: int, results: Path) -> None:
    """Time reducio-codec encode and decode as whole processes, beside the bare calls, and weigh them."""
    try:
        config = CommandConfig(
            sizes=tuple(sizes.split(",")), seconds=seconds, decoders=tuple(decoders.split(",")), rounds=rounds
        )
        data = measure(config, console=Console(stderr=True))
    except InputError as error:
        raise click.BadParameter(str(error)) from error
    write_json(results / "commands.json", data)
    shown = Table()
    for head in HEAD:
        shown.add_column(head, justify="right" if head else "left")
    for row in data["rows"]:
        shown.add_row(*cells(row))
    Console().print(shown)
