"""What the page reads is what the package reads: records, latents, key frames, tiles; whole, damaged and made up."""

from __future__ import annotations

import base64
import io
import random
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reducio_codec.clips.tiling import plan_tiles
from reducio_codec.config import TilingConfig
from reducio_codec.errors import FormatError
from reducio_codec.models.lite.plan import plan_references
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.keyframe import code_keyframes
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.tables import LADDER, LatentTables, frequencies
from reducio_codec.rdc.timing import clock_of_header
from tests.helpers import moving_video
from tests.rdc.test_golden import GOLDEN, STEPS
from tests.web.conftest import Run, as_text

FILES = (GOLDEN / "default.rdc", *sorted((GOLDEN / "real").glob("*.rdc")))

READ = """
const { readFile } = await import("/reader.js");
const { picturesBeside } = await import("/plan.js");
return Promise.all(files.map(async (file) => {
  try {
    const { header, clips, frames, seconds, sequences, damage } = await readFile(bytes(file));
    const found = clips.map(({ latent, bytes, expected, lack, ...clip }) =>
      ({ ...clip, latent: latent && text(latent), beside: picturesBeside(clips, clip.index) }));
    const members = [...sequences].map(([frame, { group, place }]) =>
      [frame, group.frames.slice(0, place + 1), text(group.samples[place])]);
    return { header, clips: found, frames, seconds, sequences: members, damaged: damage.length > 0 };
  } catch (error) {
    return { refused: error.message };
  }
}));
"""


def one_more(line: str) -> str:
    """The page counts clips from 1."""
    return re.sub(r"^clip (\d+)", lambda found: f"clip {int(found[1]) + 1}", line)


def read_by_package(data: bytes) -> dict[str, Any]:
    """The same facts as ``READ`` gives."""
    reader = RdcReader(io.BytesIO(data))
    header = reader.header
    if not reader.clips:
        raise FormatError("the file holds no clip")
    clock, ticks, clips = clock_of_header(header), [], []
    for clip in reader:
        times = list(clip.timestamps) if clip.timestamps else None
        ticks += times or clock.times(clip.start, clip.frames)
        beside = reader.beside(clip.index)
        clips.append(
            {
                "index": clip.index,
                "start": clip.start,
                "frames": clip.frames,
                "lead": clip.lead,
                "step": clip.step,
                "pictures": list(clip.references),
                "times": times,
                "cut": int(reader.cut(clip.index)),
                "latent": None if clip.latent is None else as_text(clip.latent),
                "beside": {**asdict(beside), "lost": [one_more(line) for line in beside.lost]},
                "damage": [one_more(line) for line in clip.damage],
            }
        )
    ticks.append(clock.end(reader.frames - 1, time=ticks[-1]) if reader.end is None else reader.end)
    for number in range(1, len(ticks)):
        ticks[number] = max(ticks[number], ticks[number - 1] + 1)
    sequences = []
    for frame in reader.pictures.frames:
        group, place = reader.pictures.group(frame)
        sequences.append([frame, list(group.frames[: place + 1]), as_text(reader.read_pictures(group)[place])])
    return {
        "clips": clips,
        "frames": reader.frames,
        "seconds": [float((tick - ticks[0]) * header.time_base) for tick in ticks],
        "sequences": sequences,
        "damaged": bool(reader.damage),
    }


def damaged(path: Path, *, count: int) -> list[bytes]:
    """A file with a few flipped bits behind its header, cut short or whole."""
    rng, data = random.Random(path.stem), path.read_bytes()
    body = RdcReader(io.BytesIO(data))._body
    found = []
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(body, len(data))] ^= 1 << rng.randrange(8)
        found.append(bytes(changed[: rng.choice((len(data), rng.randrange(body, len(data))))]))
    return found


def test_files_are_read_alike_whole_and_damaged(run: Run) -> None:
    files = [data for path in FILES for data in (path.read_bytes(), *damaged(path, count=25))]
    known = 0
    for data, found in zip(files, run(READ, files=[as_text(data) for data in files]), strict=True):
        try:
            expected = read_by_package(data)
        except FormatError:
            assert "no clip" in found["refused"]
            continue
        header = found.pop("header")
        assert [header["width"], header["latent_space"]] == [
            RdcReader(io.BytesIO(data)).header.width,
            header["latent_space"],
        ]
        assert found.pop("seconds") == pytest.approx(expected.pop("seconds"), abs=1e-9)
        assert found == expected
        known += 1
    assert known > 0.8 * len(files)


def test_what_is_no_file_is_one_line(run: Run) -> None:
    good = FILES[0].read_bytes()
    body = RdcReader(io.BytesIO(good))._body
    flipped = bytes([*good[: body - 1], good[body - 1] ^ 1, *good[body:]])
    newer = bytes([*good[:8], 2, *good[9:]])
    files = [b"", b"no video at all", good[:8], good[:12], good[: body - 1], good[:body], flipped, newer]
    lines = [found["refused"] for found in run(READ, files=[as_text(data) for data in files])]
    words = ("empty", "not an .rdc", "header", "header", "header", "no clip", "checksum", "version 2")
    for line, word in zip(lines, words, strict=True):
        assert word in line and "\\n" not in line


SYMBOLS = """
const { LatentDecoder } = await import("/entropy.js");
return latents.map(({ tables, data, shape, step }) => {
  try {
    const decoder = new LatentDecoder(tables), symbols = decoder.decode(bytes(data), shape, step);
    return { symbols: text(symbols), values: text(decoder.dequantize(symbols, shape[0], step)) };
  } catch (error) {
    return { refused: error.message };
  }
});
"""


def test_latents_are_the_same_numbers(run: Run) -> None:
    rng, cases = np.random.default_rng(3), []
    for clip, step in zip(np.load(GOLDEN / "symbols.npy"), STEPS, strict=True):
        cases.append((LatentTables.default(16), clip, step))
    for shape in ((1, 1, 1, 1), (3, 2, 5, 4), (6, 6, 1, 7), (2, 6, 2, 2), (5, 1, 9, 11), (16, 4, 12, 20)):
        tables = LatentTables(
            multipliers=tuple(rng.integers(300, 3000, shape[0]).tolist()),
            follow=rng.integers(0, 17, (shape[0], 4)).tolist(),
            weights=rng.integers(0, 1500, (shape[0], 4, 5, 3)).tolist(),
            scales=rng.integers(0, 38, (shape[0], 4, 5, 16)).tolist(),
        )
        symbols = np.rint(rng.laplace(scale=5, size=shape)).astype(np.int32)
        cases.append((tables, symbols, 0.3))
        symbols = np.where(rng.random(shape) < 0.02, rng.integers(-(1 << 19), 1 << 19, shape), symbols).astype(np.int32)
        cases.append((tables, symbols, 0.016))
    latents = [
        {
            "tables": tables.to_json(),
            "data": as_text(LatentCoder(tables).encode(symbols, step=step)),
            "shape": list(symbols.shape),
            "step": round(1024 * step),
        }
        for tables, symbols, step in cases
    ]
    for (tables, symbols, step), found in zip(cases, run(SYMBOLS, latents=latents), strict=True):
        mine = np.frombuffer(base64.b64decode(found["symbols"]), np.int32).reshape(symbols.shape)
        assert np.array_equal(mine, symbols)
        values = np.frombuffer(base64.b64decode(found["values"]), np.float32).reshape(symbols.shape)
        assert np.array_equal(values, LatentCoder(tables).dequantize(symbols, step=step))


def test_damaged_latents_are_refused_alike(run: Run) -> None:
    rng, tables = random.Random(1), LatentTables.default(16)
    coder, shape = LatentCoder(tables), (16, 2, 3, 2)
    symbols = np.rint(np.random.default_rng(1).laplace(scale=3, size=shape)).astype(np.int32)
    good, latents = coder.encode(symbols, step=0.5), []
    for _ in range(25):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        cut = bytes(data[: rng.choice((len(data), rng.randrange(1, len(data))))])
        latents.append({"tables": tables.to_json(), "data": as_text(cut), "shape": list(shape), "step": 512})
    refused = 0
    for case, found in zip(latents, run(SYMBOLS, latents=latents), strict=True):
        try:
            expected = coder.decode(base64.b64decode(case["data"]), shape, step=0.5)
        except FormatError:
            assert found["refused"]
            refused += 1
            continue
        assert found["symbols"] == as_text(expected.tobytes())
    assert refused


def test_frequencies_are_the_same(run: Run) -> None:
    steps = (1, 3, 16, 100, 512, 1000, 4096, 100_000, 1 << 20)
    pairs = [(scale, step) for scale in LADDER for step in steps]
    body = 'const { frequencies } = await import("/entropy.js"); return pairs.map(([scale, step]) => frequencies(scale, step))'
    assert run(body, pairs=pairs) == [frequencies(scale, step).tolist() for scale, step in pairs]


PICTURES = """
const { Pictures } = await import("/pictures.js");
const found = [];
for (const { width, height, codec, samples } of groups) {
  const group = { frames: samples.map((_, i) => i), samples: samples.map(bytes) };
  const sequences = new Map(group.frames.map((frame) => [frame, { group, place: frame }]));
  const pictures = new Pictures({ header: { width, height, keyframe_codec: codec }, sequences });
  const own = [];
  for (const frame of group.frames) own.push(await pictures.get(frame).then(text, (error) => error.message));
  found.push(own);
}
return found;
"""


def test_key_frames_are_the_same_pixels(run: Run) -> None:
    groups, expected = [], []
    for codec, width, height, count in (
        ("avif", 16, 16, 1),
        ("avif", 75, 51, 3),
        ("avif", 48, 32, 16),
        ("avif", 512, 288, 1),
        ("webp", 130, 90, 1),
        ("jpeg", 130, 90, 1),
        ("png", 17, 33, 1),
    ):
        coded, pictures = code_keyframes(list(moving_video(count, height, width)), codec=codec, quality=50)
        groups.append({"width": width, "height": height, "codec": codec, "samples": [as_text(part) for part in coded]})
        expected.append(pictures)
    for group, pictures, found in zip(groups, expected, run(PICTURES, groups=groups), strict=True):
        for picture, mine in zip(pictures, found, strict=True):
            pixels = np.frombuffer(base64.b64decode(mine), np.uint8).reshape(group["height"], group["width"], 4)
            assert np.array_equal(pixels[..., :3], picture), group["codec"]


def test_a_damaged_key_frame_costs_those_behind_it_alone(run: Run) -> None:
    coded, _ = code_keyframes(list(moving_video(4, 64, 96)), codec="avif", quality=50)
    broken = [coded[0], coded[1], b"\x12\x34\x56", coded[3]]
    other, _ = code_keyframes(list(moving_video(1, 32, 32)), codec="avif", quality=50)
    png, _ = code_keyframes(list(moving_video(1, 32, 32)), codec="png")
    groups = [
        {"width": 96, "height": 64, "codec": "avif", "samples": [as_text(part) for part in broken]},
        {"width": 96, "height": 64, "codec": "avif", "samples": [as_text(other[0])]},
        {"width": 96, "height": 64, "codec": "png", "samples": [as_text(png[0])]},
        {"width": 32, "height": 32, "codec": "png", "samples": [as_text(png[0][:50])]},
    ]
    sequence, smaller, picture, short = run(PICTURES, groups=groups)
    assert [len(item) > 1000 for item in sequence] == [True, True, False, False]
    assert "frame 3: a key frame is damaged" in sequence[2] and "damaged or missing" in sequence[3]
    assert "32x32 pixels; the file says 96x64" in smaller[0] and "32x32 pixels; the file says 96x64" in picture[0]
    assert "a key frame is damaged" in short[0]


def test_frames_are_made_from_the_same_pictures(run: Run) -> None:
    cases = [
        ([7], [False]),
        ([-9, 7, 23], [True, False, True]),
        ([3, 11], [False, False]),
        ([-3, 18], [True, True]),
        ([-9, 0, 8, 15, 20], [True, False, False, False, True]),
        ([4, 10], [False, True]),
    ]
    body = """
    const { planReferences } = await import("/plan.js");
    return cases.map(([places, beside]) => planReferences(places, beside));
    """
    for (places, beside), found in zip(cases, run(body, cases=cases), strict=True):
        plan = vars(plan_references(places, beside=beside, present=[[True] * len(places)]))
        expected = {name: values.tolist() for name, values in plan.items()}
        assert found.pop("time") == pytest.approx(expected.pop("time"))
        found["shown"] = [[item[number] for item in found["shown"]] for number in range(2)]
        assert found == expected


@pytest.mark.parametrize("size", [(384, 384), (416, 385), (1000, 700), (16, 2000)])
def test_tiles_lie_where_the_package_lays_them(run: Run, size: tuple[int, int]) -> None:
    width, height = size
    tiling = TilingConfig(tile_size=384, shrink=True)
    padded = [-(-side // 32) * 32 for side in (height, width)]
    plan = plan_tiles(*padded, tile_size=384, tile_overlap=64, shrink=32)
    body = """
    const { planTiles } = await import("/tiles.js");
    return planTiles(width, height, tiling).map((tile) => ({ ...tile, rows: [...tile.rows], columns: [...tile.columns] }));
    """
    found = run(
        body,
        width=width,
        height=height,
        tiling={"size": tiling.tile_size, "overlap": tiling.tile_overlap, "shrink": True},
    )
    assert [(tile["top"], tile["left"]) for tile in found] == plan.windows
    weights = [(rows, columns) for rows in plan.rows.weights() for columns in plan.columns.weights()]
    for tile, (rows, columns) in zip(found, weights, strict=True):
        assert torch.equal(torch.tensor(tile["rows"]), rows) and torch.equal(torch.tensor(tile["columns"]), columns)
