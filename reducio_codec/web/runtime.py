"""onnxruntime-web, which runs the decoders in a browser: 41 MB that are fetched once by who wants the player, never by us."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

from reducio_codec.errors import InputError, MissingDependencyError
from reducio_codec.io.files import atomic_write, check_file, writing_errors

VERSION = "1.30.0"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
"""Of the package as npm has it."""

RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""Of the package's folder ``dist``: what runs as WebAssembly, then what runs on a graphics card."""


def cache_folder() -> Path:
    """Where this program keeps what can be made or fetched again."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reducio-codec"


def runtime_folder() -> Path:
    """The folder that has ``RUNTIME_FILES``; MissingDependencyError, which says how to get them, if there is none."""
    folder = cache_folder() / f"onnxruntime-web-{VERSION}"
    if all((folder / name).is_file() for name in RUNTIME_FILES):
        return folder
    raise MissingDependencyError(
        f"the player needs onnxruntime-web {VERSION} (33 MB to fetch, once), which isn't in {folder}: "
        f"run 'npm pack onnxruntime-web@{VERSION}', then this command with --runtime {ARCHIVE}"
    )


def install_runtime(archive: Path) -> None:
    """Unpack what the player needs of the npm package; InputError unless it is that very file."""
    path = check_file(archive, allowed=ARCHIVE)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise InputError(f"{path} has sha256 {found}; {ARCHIVE} has {SHA256}")
    folder = cache_folder() / f"onnxruntime-web-{VERSION}"
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path) as packed:
        for name in RUNTIME_FILES:
            member = packed.extractfile(f"package/dist/{name}")
            assert member is not None
            with atomic_write(folder / name) as file:
                file.write(member.read())
