"""The layout of a folder of shards: tar files that webdataset reads, and ``shards.json``, which says what they hold.

A sample is a run of members with one name and several suffixes: ``latent.npy`` (z, t, h, w), the key picture (``jpg``,
``png`` or ``webp``), ``json`` with where it comes from and its motion, and where they were asked for ``text.npy`` (L, C)
and ``semantic.npy`` (S, C).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reducio_codec.errors import InputError, ReducioError
from reducio_codec.io.files import PendingFile, atomic_write, writing_errors
from reducio_codec.training.recipe_file import differences
from reducio_codec.training.scan import CACHE_FOLDER

INDEX_FILE = "shards.json"
FORMAT = 1
SUFFIXES = {"jpeg": "jpg", "png": "png", "webp": "webp"}
"""Of key pictures, by codec."""


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """What ``shards.json`` says."""

    codec: str
    """Name or folder of the codec."""
    latent_space: str
    """Identity of its latent space; see ``generate.codec_match``."""
    latent_channels: int
    temporal_compression_ratio: int
    spatial_compression_ratio: int
    keyframe_index: int
    text_encoder: str | None
    image_encoder: str | None
    options: Mapping[str, Any]
    """Of ``ExtractOptions``."""
    samples: int
    plan: str
    """Identity of the list of samples."""
    shards: tuple[str, ...]


def write_shard(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> int:
    """A tar file that is there as a whole or not at all; how many samples it has. The same input gives the same bytes."""
    count = 0
    pending = PendingFile(path)
    try:
        with writing_errors(path), tarfile.open(pending.temporary, "x", format=tarfile.USTAR_FORMAT) as tar:
            for key, parts in samples:
                for suffix, data in parts.items():
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                count += 1
        pending.commit()
    finally:
        pending.discard()
    return count


def claim_shards(out: Path, index: ShardIndex) -> None:
    """Make ``out`` and write ``shards.json``; or, where there is one, check that it says the same.

    Raises:
        InputError: other shards are in ``out`` (the differences are named), or something else.
    """
    path = out / INDEX_FILE
    document = {"format": FORMAT, **asdict(index)}
    if path.is_file():
        before = read_index(out)
        if before.latent_space != index.latent_space:
            raise InputError(
                f"{out} holds latents of the codec {before.codec!r} (latent space {before.latent_space}); those of "
                f"{index.codec!r} ({index.latent_space}) don't go with them: choose another --out"
            )
        old, new = ({**asdict(one), "shards": len(one.shards)} for one in (before, index))
        old, new = (json.loads(json.dumps(one)) for one in (old, new))
        changed = [line for line in differences(old, new) if not line.startswith("codec")]
        if changed:
            raise InputError(
                f"{out} holds shards of other videos or options ({'; '.join(changed)}); choose another --out: training "
                "takes several folders"
            )
        return
    check_folder(out)
    with writing_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())


def check_folder(out: Path) -> None:
    """Refuse a folder that holds other things than shards, or their cache."""
    if out.is_dir() and not (out / INDEX_FILE).is_file() and any(path.name != CACHE_FOLDER for path in out.iterdir()):
        raise InputError(f"{out} isn't empty and holds no {INDEX_FILE}; choose another --out")


def read_index(folder: Path) -> ShardIndex:
    """What ``shards.json`` says.

    Raises:
        InputError: there is none. ReducioError: it is damaged, or of another version.
    """
    path = folder / INDEX_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        layout = document.pop("format")
        if layout != FORMAT:
            raise ReducioError(f"{path}: format is {layout!r}; this version reads {FORMAT}")
        return ShardIndex(**{**document, "shards": tuple(document["shards"])})
    except FileNotFoundError:
        raise InputError(f"{folder} has no {INDEX_FILE}; 'reducio-codec extract' makes such folders") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReducioError(f"{path} is damaged: {error}") from error


def missing_shards(folder: Path, index: ShardIndex) -> list[str]:
    """Names of the shards that aren't finished."""
    return [name for name in index.shards if not (folder / name).is_file()]
