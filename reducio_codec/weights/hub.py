"""Models on the Hugging Face hub. The only module that imports huggingface_hub (extra ``[hub]``), and only when asked.

A download is pinned: a branch or tag is resolved to its commit once, every file comes from that commit, and the
commit is part of the model's id. Files are data (safetensors, JSON); no code from a repository runs.
"""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path
from typing import Any

from reducio_codec.errors import MissingDependencyError, WeightsError
from reducio_codec.weights.layout import CARD_FILE, CONFIG_FILE, ENTROPY_FILE, TENSOR_FILE, ModelSource

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger(__name__)


def fetch(
    repository: str, *, revision: str | None = None, sha256: str | None = None, offline: bool = False
) -> ModelSource:
    """Download ``org/name`` (or find it in the local cache) and return the folder of the pinned commit.

    ``revision`` is a commit, tag or branch (None: the default branch), ``sha256`` what model.safetensors must hash to
    (None: the hub's own record of the file). With ``offline``, or HF_HUB_OFFLINE=1, only the cache is read.
    Raises WeightsError, which says what to fetch by hand, when the hub can't be reached and the cache has no copy.
    """
    hub = _huggingface_hub()
    if offline or hub.constants.HF_HUB_OFFLINE:
        return _from_cache(hub, repository, revision=revision, sha256=sha256)
    try:
        info = hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        at = "" if revision is None else f" at revision {revision!r}"
        raise WeightsError(f"the hub has no public model {repository!r}{at}; bundled models need no hub") from error
    except hub.errors.HFValidationError as error:
        raise WeightsError(f"{repository!r} is no name that the hub allows: {error}") from error
    except _connection_errors(hub) as error:
        logger.info("hub not reached (%s), looking in the cache", error)
        return _from_cache(hub, repository, revision=revision, sha256=sha256)
    files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    missing = [name for name in (CONFIG_FILE, TENSOR_FILE) if name not in files]
    if missing:
        raise WeightsError(f"{repository} has no {missing[0]}; it isn't a model of this package")
    commit = str(info.sha)
    if revision != commit:
        logger.info("%s: %s is commit %s", repository, revision or "the default branch", commit)
    recorded = getattr(files[TENSOR_FILE].lfs, "sha256", None)
    wanted = [name for name in (CONFIG_FILE, TENSOR_FILE, ENTROPY_FILE, CARD_FILE) if name in files]
    try:
        paths = {name: Path(hub.hf_hub_download(repository, name, revision=commit)) for name in wanted}
    except _connection_errors(hub) as error:
        raise WeightsError(f"the download of {repository} broke off: {error}. {_by_hand(repository)}") from error
    if sha256 is not None and recorded is not None and sha256.lower() != recorded:
        raise WeightsError(f"{repository}@{commit}: {TENSOR_FILE} has sha256 {recorded} on the hub, not {sha256}")
    return ModelSource(folder=paths[CONFIG_FILE].parent, id=f"{repository}@{commit}", sha256=sha256 or recorded)


def _from_cache(hub: Any, repository: str, *, revision: str | None, sha256: str | None) -> ModelSource:
    try:
        paths = {
            name: Path(hub.hf_hub_download(repository, name, revision=revision, local_files_only=True))
            for name in (CONFIG_FILE, TENSOR_FILE)
        }
    except _connection_errors(hub) as error:
        raise WeightsError(
            f"{repository} isn't in the local cache, and the hub can't be reached. {_by_hand(repository)}"
        ) from error
    folder = paths[CONFIG_FILE].parent
    commit = folder.name if _COMMIT.fullmatch(folder.name) else "unknown"
    # The cache stores a large file under the sha256 that the hub gave for it.
    blob = paths[TENSOR_FILE].resolve().name
    return ModelSource(
        folder=folder,
        id=f"{repository}@{commit}",
        sha256=sha256 or (blob if _SHA256.fullmatch(blob) else None),
    )


def _by_hand(repository: str) -> str:
    folder = repository.rsplit("/", 1)[-1]
    return (
        f"On a machine with a network, fetch {CONFIG_FILE}, {TENSOR_FILE} and, where it is listed, {ENTROPY_FILE} "
        f"from the model's page ({repository}, tab Files), put them into one folder, for example ./{folder}, "
        f"and pass that folder as the model"
    )


def _huggingface_hub() -> Any:
    try:
        hub = importlib.import_module("huggingface_hub")
        importlib.import_module("huggingface_hub.errors")
        importlib.import_module("huggingface_hub.constants")
    except ImportError as error:
        raise MissingDependencyError(
            "models from the hub need huggingface_hub: pip install 'reducio-codec[hub]'"
        ) from error
    return hub


def _connection_errors(hub: Any) -> tuple[type[Exception], ...]:
    """What the client raises without a network, or with one that answers for the hub.

    It has had three HTTP libraries by now. The error of the one it has is what its own HTTP error is derived from, and
    what connections fail with is derived from that, too, or from OSError. ValueError: an answer that isn't JSON.
    """
    return (OSError, ValueError, *hub.errors.HfHubHTTPError.__bases__)
