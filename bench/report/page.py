"""Results and players to one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from bench.machine import describe
from bench.over_time_plot import plot_over_time, read_over_time
from bench.plots import AXES, plot
from bench.rd_curves import read_rd
from bench.report.players import Player, Track
from bench.tables import everything
from reducio_codec.errors import MissingDependencyError

HERE = Path(__file__).parent

_CODE = re.compile("`([^`]+)`")

_PLOT = (640, 160)
"""Width and height of the PSNR plots, in SVG units."""


def build(
    results: Path, *, players: Sequence[Player], skipped: Mapping[str, str] | None = None, no_players: str = ""
) -> str:
    """The page.

    Args:
        skipped: videos that have no player, and why.
        no_players: why there are none, for the reader.

    Raises:
        InputError: the folder has no results.
    """
    tables = everything(results)
    sections = [("tables", "Tables", from_markdown(tables)), ("curves", "Rate and distortion", _curves(results))]
    sections.append(("over-time", "Quality over time", _over_time(results)))
    shown = "".join(_player(number, player) for number, player in enumerate(players))
    words = (
        "<p>Source, this codec at its defaults, with one key frame a clip instead, and x264 at about as many bytes as the "
        "first, frame by frame. Below them a wipe between the source (left) and one of the others, and four times their "
        "difference. Bytes: ours is the whole file; x264 is "
        "packets and headers, without a container. PSNR is that of each frame, and its mean. What plays here went through "
        "VP9 once more to fit the page; every number was measured before that.</p>"
    )
    words += "".join(f"<p>No player of {escape(name)}: {escape(why)}</p>" for name, why in (skipped or {}).items())
    if players:  # what a person came for
        sections.insert(0, ("players", "Side by side", words + shown))
    else:
        sections.append(("players", "Side by side", f"<p>not made: {escape(no_players)}</p>"))
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{text}</section>' for name, title, text in sections if text)
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, text in sections if text)
    machine = describe()
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>reducio-codec: measurements</title><style>{_text('page.css')}</style></head><body>"
        "<h1>reducio-codec: measurements</h1>"
        f'<p class="quiet">Made on {date.today().isoformat()} from {escape(str(results))} by '
        f"<code>python -m bench report</code>, on {escape(str(machine['cpu']))}, {machine['cores']} cores; "
        f"{escape(versions)}. The results say what each of them was measured on.</p>"
        f"<nav><ul>{links}</ul></nav>{body}<script>{_text('page.js')}</script></body></html>\n"
    )


def from_markdown(text: str) -> str:
    """The headings, paragraphs and tables that ``bench table`` writes, as HTML."""
    parts = []
    for block in text.strip().split("\n\n"):
        if block.startswith("### "):
            parts.append(f"<h3>{escape(block[4:])}</h3>")
        elif block.startswith("| "):
            head, _, *rows = (_cells(line) for line in block.splitlines())
            parts.append(_table(head, rows))
        else:
            parts.append(f'<p class="quiet">{escape(block)}</p>')
    return "".join(parts)


def _cells(line: str) -> list[str]:
    hidden = line.strip().removeprefix("|").removesuffix("|").replace("\\|", "\0")
    return [cell.strip().replace("\0", "|") for cell in hidden.split("|")]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cell(text: str, columns: int = 1) -> str:
        words = ' class="words"' if len(text) > 40 or text.startswith("not run") else ""
        span = f' colspan="{columns}"' if columns > 1 else ""
        marked = _CODE.sub(r"<code>\1</code>", escape(text))
        return f"<td{words}{span}>{marked}</td>"

    def line(row: Sequence[str]) -> str:
        """A reason takes the empty cells before it, too: in one column it would be narrow and tall."""
        name, *rest = row
        empty = next((number for number, text in enumerate(rest) if text), len(rest))
        if empty == len(rest) or not rest[empty].startswith("not run"):
            return "".join(map(cell, row))
        return cell(name) + cell(rest[empty], empty + 1) + "".join(map(cell, rest[empty + 1 :]))

    lines = "".join(f"<tr>{line(row)}</tr>" for row in rows)
    headings = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{headings}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def _curves(results: Path) -> str:
    """The curves as pictures; nothing where there are no rate-distortion results."""
    if not (results / "rd").is_dir():
        return ""
    data = read_rd(results)
    if not data.methods:
        return "<p>No method has results for every sample, so there is nothing to draw.</p>"
    return _pictures(partial(plot, data), lambda path: f"{AXES[path.stem.removeprefix('rd-')]} against bits per pixel")


def _over_time(results: Path) -> str:
    """The saw tooth as a picture; nothing where it wasn't measured."""
    found = read_over_time(results)
    if not found:
        return ""
    return _pictures(partial(plot_over_time, found), lambda _: "PSNR and LPIPS by distance from the key frame")


def _pictures(draw: Callable[[Path], list[Path]], describe_picture: Callable[[Path], str]) -> str:
    """What ``draw`` writes into a folder, inside the page."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            paths = [path for path in draw(Path(folder)) if path.suffix == ".svg"]
        except MissingDependencyError as error:
            return f"<p>not drawn: {escape(str(error))}</p>"
        images = []
        for path in paths:
            coded = base64.b64encode(path.read_bytes()).decode()
            images.append(f'<img alt="{escape(describe_picture(path))}" src="data:image/svg+xml;base64,{coded}">')
    return f'<div class="curves">{"".join(images)}</div>'


def _player(number: int, player: Player) -> str:
    facts = player.to_json()
    tracks = facts["tracks"]
    views = "".join(
        f'<figure><canvas data-track="{i}" role="img" aria-label="{escape(track["name"])}"></canvas>'
        f"<figcaption>{_caption(i, track)}</figcaption></figure>"
        for i, track in enumerate(tracks)
    )
    options = "".join(f'<option value="{i}">{escape(track["name"])}</option>' for i, track in enumerate(tracks) if i)
    width, _ = _PLOT
    kept = {name: facts[name] for name in ("size", "rate", "frames", "video")}
    return (
        f'<article class="player" id="player-{number}"><h3>{escape(player.title)}</h3><div class="views">{views}</div>'
        f'<div class="controls"><button type="button" data-do="play">Play</button>'
        f'<input type="range" data-do="seek" min="0" max="{facts["frames"] - 1}" value="0" aria-label="frame">'
        f'<span class="quiet" data-show="frame">frame 1 of {facts["frames"]}</span></div>'
        f'<div class="controls"><label>compare <select data-do="track">{options}</select></label></div>'
        '<div class="compare">'
        '<figure><canvas data-view="wipe" role="img" aria-label="wipe"></canvas>'
        '<input type="range" data-do="wipe" min="0" max="100" value="50" aria-label="place of the wipe">'
        "<figcaption>source on the left of the line, compared on its right</figcaption></figure>"
        '<figure><canvas data-view="difference" role="img" aria-label="difference"></canvas>'
        "<figcaption>four times the difference to the source</figcaption></figure></div>"
        f"{_psnr_plot(player.tracks[1:], width=width)}{_bars(player.tracks[1:])}"
        f'<video muted playsinline loop preload="auto"></video>'
        f'<script type="application/json">{json.dumps(kept)}</script></article>'
    )


def _caption(number: int, track: dict[str, Any]) -> str:
    if not number:
        return "source"
    mean = sum(track["psnr"]) / len(track["psnr"])
    return (
        f'<span class="dot{number}">●</span> {escape(track["name"])}: {track["bytes"]:,} bytes, {track["kbps"]:g} kbit/s, '
        f"{track['bpp']:g} bpp, {mean:.2f} dB mean"
    )


def _psnr_plot(tracks: Sequence[Track], *, width: int) -> str:
    """PSNR of each frame as SVG; the script moves the cursor."""
    height = _PLOT[1]
    values = [value for track in tracks for value in track.psnr]
    low, high = 2 * (min(values) // 2), 2 * (max(values) // 2) + 2
    left, bottom = 66, height - 20
    across, up = width - left - 10, bottom - 10
    frames = max(1, len(tracks[0].psnr) - 1)
    lines = "".join(
        f'<polyline class="t{number}" points="'
        + " ".join(
            f"{left + across * i / frames:.1f},{bottom - up * (value - low) / (high - low):.1f}"
            for i, value in enumerate(track.psnr)
        )
        + '"/>'
        for number, track in enumerate(tracks, start=1)
    )
    levels = "".join(
        f'<line class="axis" x1="{left}" y1="{y:g}" x2="{width - 10}" y2="{y:g}"/>'
        f'<text x="{left - 6}" y="{y + 4:g}" text-anchor="end">{value:g} dB</text>'
        for value, y in ((low, bottom), ((low + high) / 2, (bottom + 10) / 2), (high, 10))
    )
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="PSNR of each frame">'
        f"{levels}"
        f'<text x="{width - 10}" y="{height - 4}" text-anchor="end">frame</text>{lines}'
        f'<line class="cursor" data-width="{across}" x1="{left}" y1="8" x2="{left}" y2="{bottom}"/></svg>'
    )


def _bars(tracks: Sequence[Track]) -> str:
    """Where the bytes of each go, to one scale."""
    most = max(track.bytes for track in tracks)
    rows = []
    for track in tracks:
        pieces = "".join(
            f'<span class="p{i % 4}" style="width:{100 * size / most:.2f}%" title="{escape(name)}: {size:,} bytes"></span>'
            for i, (name, size) in enumerate(track.parts.items())
        )
        legend = ", ".join(
            f'<span class="key p{i % 4}"></span> {escape(name)} {size:,}'
            for i, (name, size) in enumerate(track.parts.items())
        )
        rows.append(f'<span>{escape(track.name)}</span><span><span class="bar">{pieces}</span>{legend}</span>')
    return f'<div class="bars" aria-label="bytes">{"".join(rows)}</div>'


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
