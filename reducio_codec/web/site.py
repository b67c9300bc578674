"""The player's files by their addresses: the page, onnxruntime-web, a model's tables and graphs, a video."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from reducio_codec.errors import FormatError, InputError, WeightsError
from reducio_codec.integrations.onnx import DESCRIPTION_FILE, export_onnx
from reducio_codec.io.files import atomic_write, check_file, check_input, writing_errors
from reducio_codec.models.lite.model import ReducioLite
from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.web.runtime import RUNTIME_FILES, cache_folder, runtime_folder
from reducio_codec.weights.io import ModelInfo
from reducio_codec.weights.layout import read_document
from reducio_codec.weights.zoo import load_pretrained

PAGE = Path(__file__).resolve().parent / "page"

DECODER = "linear"
"""The fast one, which the page takes unless somebody chooses another."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a web server has to serve."""

    files: Mapping[str, Path | bytes]
    """Relative addresses, each with a file, or with what would be in one."""
    start: str
    """What the page's address ends with to show the video; empty without one."""
    damage: tuple[str, ...]
    """What is wrong with the video, in words."""


def build_site(model: str | Path, *, graphs: Path | None, video: Path | BinaryIO | None) -> Site:
    """The player for the files of one model.

    Args:
        model: as ``ReducioCodec.from_pretrained`` takes it.
        graphs: folder that ``export_onnx`` wrote of that model; None: one with the fast decoder, made on first use and kept.
        video: an .rdc file that the page shows at once.

    Raises:
        WeightsError: the page can't play the model, or the video needs another one. FormatError: the video is no .rdc file,
            or holds no clip. InputError: graphs of another model, or none. MissingDependencyError:
            onnxruntime-web isn't there.
    """
    loaded, info = load_pretrained(model, decoders=DECODER)
    if not isinstance(loaded, ReducioLite):
        raise WeightsError(f"the player can't play the model {info.id!r}: its decoders have no graphs for a page")
    files: dict[str, Path | bytes] = {path.name: path for path in sorted(PAGE.iterdir())}
    start, damage = "", tuple[str, ...]()
    if video is not None:
        name, files["video.rdc"], damage = _read_video(video, info)
        start = f"?file=video.rdc&name={quote(name, safe='')}"
    runtime = runtime_folder()
    paths = _find_graphs(_own_graphs(model, info) if graphs is None else check_input(graphs), info)
    decoders = sorted(paths, key=lambda name: name != DECODER)
    files |= {f"runtime/{name}": runtime / name for name in RUNTIME_FILES}
    files |= {f"model/{name}.onnx": path for name, path in paths.items()}
    facts = _facts(loaded, info, decoders=decoders)
    files["model/player.json"] = json.dumps(facts, separators=(",", ":")).encode()
    return Site(files=files, start=start, damage=damage)


def save_site(site: Site, folder: Path) -> None:
    """Write a site's files into a folder, for any web server."""
    for address, source in site.files.items():
        target = folder / address
        with writing_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            if isinstance(source, bytes):
                file.write(source)
            else:
                with source.open("rb") as opened:
                    shutil.copyfileobj(opened, file)


def _own_graphs(model: str | Path, info: ModelInfo) -> Path:
    """The folder with the fast decoder's graph, made if it isn't there."""
    folder = cache_folder() / "graphs" / info.hash
    if not (folder / DESCRIPTION_FILE).is_file():
        _log.info("making the page's decoder, once for this model: half a minute or so")
        export_onnx(model, folder, graphs=(DECODER,))
    return folder


def _find_graphs(folder: Path, info: ModelInfo) -> dict[str, Path]:
    """The decoders in a folder that ``export_onnx`` wrote, if it is of this model."""
    document = read_document(folder / DESCRIPTION_FILE)
    if document.get("hash") != info.hash:
        raise InputError(f"{folder} has graphs of {document.get('model')!r}; this is another model, {info.id!r}")
    paths = {path.stem: path for path in sorted(folder.glob("*.onnx")) if path.stem != "encoder"}
    if not paths:
        raise InputError(f"{folder} has no decoder's graph, such as {DECODER}.onnx")
    return paths


def _read_video(video: Path | BinaryIO, info: ModelInfo) -> tuple[str, bytes, tuple[str, ...]]:
    """Its name, its bytes, and what is damaged of it."""
    if isinstance(video, Path):
        name, shown = str(video), video.name
        with check_file(video, allowed="an .rdc file").open("rb") as file:
            return shown, *_check_video(file, info, name=name)
    return "standard input", *_check_video(video, info, name="standard input")


def _check_video(file: BinaryIO, info: ModelInfo, *, name: str) -> tuple[bytes, tuple[str, ...]]:
    try:
        reader = RdcReader(file)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from error
    header = reader.header
    if not reader.clips:
        raise FormatError(f"{name}: the file holds no clip")
    if header.latent_space != info.latent_hash:
        raise WeightsError(
            f"{name} needs model {header.model!r} version {header.version} (latent space {header.latent_space}); "
            f"the page would have {info.id!r}, version {info.version} (latent space {info.latent_hash})"
        )
    damage = (*reader.damage, *(line for clip in reader for line in clip.damage))
    file.seek(0)
    return file.read(), damage


_TILE = 512
"""Pixels: a browser computes all frames of a tile together, so that whole pictures would take more memory than it has."""


def _facts(model: ReducioLite, info: ModelInfo, *, decoders: Sequence[str]) -> dict[str, Any]:
    """What the page has to know of a model beside its graphs."""
    config, tiling = model.config, model.tiling.of_size(_TILE)
    flow = model.code.flow_out.weight.detach()  # (slots * z, frames of a slot * 2, 2, 2)
    motion = {"mean": model.latent_mean, "std": model.latent_std, "weights": flow.flatten()}
    return {
        "name": info.id,
        "version": info.version,
        "latent_space": info.latent_hash,
        "latent": [config.latent_channels, flow.shape[0] // config.latent_channels],
        "decoders": list(decoders),
        "tiling": {"size": tiling.tile_size, "overlap": tiling.tile_overlap, "shrink": tiling.shrink},
        "tables": LatentCoder.load(info.folder, channels=config.latent_channels).tables.to_json(),
        "motion": {name: values.tolist() for name, values in motion.items()},
    }
