"""Files written before still mean the same: stored bytes decode to stored symbols, and encode to the same bytes again.

``REFRESH_GOLDEN=1 pytest tests/rdc/test_golden.py`` writes the files anew; only a new format version may do so.
"""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reducio_codec.rdc.container import RdcReader, RdcWriter
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.header import RdcHeader
from reducio_codec.rdc.tables import LatentTables
from reducio_codec.weights.zoo import BUNDLED

GOLDEN = Path(__file__).parent / "golden"
STEPS = (0.25, 0.5, 1.0)
HEADER = RdcHeader(
    model="reducio-lite", model_hash="00ff", width=96, height=64, time_base=Fraction(1, 25), frame_duration=1, step=512
)


def coder(name: str) -> LatentCoder:
    return LatentCoder(LatentTables.default(16)) if name == "default" else LatentCoder.load(BUNDLED / name)


@pytest.fixture(scope="module", autouse=True)
def refresh() -> None:
    if not os.environ.get("REFRESH_GOLDEN"):
        return
    rng = np.random.default_rng(7)
    scale = np.exp(rng.normal(-1, 1.2, (3, 1, 1, 2, 3)))
    symbols = np.rint(rng.laplace(size=(3, 16, 4, 2, 3)) * scale * 3).astype(np.int32)
    symbols[2, 3, 1, 0, 0] = 70_000  # an escape
    GOLDEN.mkdir(exist_ok=True)
    np.save(GOLDEN / "symbols.npy", symbols)
    with (GOLDEN / "default.rdc").open("wb") as file:
        writer = RdcWriter(file, HEADER)
        for clip, step in zip(symbols, STEPS, strict=True):
            writer.write_clip(frames=16, keyframe=b"key", latent=coder("default").encode(clip, step=step))
        writer.close()


def test_stored_file_decodes_to_stored_symbols() -> None:
    symbols = np.load(GOLDEN / "symbols.npy")
    with (GOLDEN / "default.rdc").open("rb") as file:
        reader = RdcReader(file)
        assert (reader.header, reader.clips, reader.damage) == (HEADER, 3, [])
        for record, clip, step in zip(reader, symbols, STEPS, strict=True):
            assert record.latent is not None
            assert np.array_equal(coder("default").decode(record.latent, clip.shape, step=step), clip)
            assert coder("default").encode(clip, step=step) == record.latent


def test_the_bundled_models_tables_code_the_same_symbols() -> None:
    symbols = np.load(GOLDEN / "symbols.npy")
    lite = coder("reducio-lite")
    for clip, step in zip(symbols, STEPS, strict=True):
        assert np.array_equal(lite.decode(lite.encode(clip, step=step), clip.shape, step=step), clip)
