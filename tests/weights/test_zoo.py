"""Names become folders: bundled models, folders, and the hub through a stand-in for its client."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reducio_codec import ReducioCodec
from reducio_codec.errors import InputError, MissingDependencyError, WeightsError
from reducio_codec.weights import hub, zoo
from reducio_codec.weights.io import load_model
from reducio_codec.weights.layout import CONFIG_FILE, ENTROPY_FILE, TENSOR_FILE, ModelSource
from tests.helpers import moving_video

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_names_are_unique_and_described() -> None:
    entries = zoo.list_models()
    assert [entry.name for entry in entries] == list(dict.fromkeys(entry.name for entry in entries))
    for entry in entries:
        assert entry.summary and entry.licence and entry.paper.startswith("https://")


def test_bundled_weights_are_the_recorded_ones() -> None:
    for entry in zoo.list_models():
        path = entry.folder / TENSOR_FILE
        assert path.is_file(), f"{entry.name}: no bundled {TENSOR_FILE}"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry.sha256 == digest, f'weights/zoo.py, {entry.name}: write sha256="{digest}"'
        most = {"codec": 30, "generator": 60}[entry.kind]
        assert path.stat().st_size <= most * 1_000_000, f"{entry.name}: more than {most} MB in the wheel"
        assert (entry.folder / CONFIG_FILE).is_file()
        assert (entry.folder / "README.md").is_file(), "weights without a card"


def test_the_wheel_stays_below_80_megabytes() -> None:
    """Everything of the package goes into it, each file deflated."""
    folder = Path(zoo.__file__).parents[1]
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {entry.folder / "model.safetensors" for entry in zoo.list_models()} <= set(files)
    assert sum(len(zlib.compress(path.read_bytes(), 1)) for path in files) < 80e6


def test_unknown_name_lists_the_bundled_ones() -> None:
    with pytest.raises(WeightsError, match=r"reducio-huge.*reducio-lite"):
        zoo.resolve("reducio-huge")


def test_a_generator_is_no_codec() -> None:
    with pytest.raises(WeightsError, match="a generator's transformer, not a codec"):
        zoo.load_pretrained("reducio-dit-small")


def test_models_are_called_after_what_is_around_them(tmp_path: Path) -> None:
    source = zoo.resolve("reducio-test").folder
    for place, name in (("runs/first/model", "first"), ("mine", "mine"), ("model/model", tmp_path.name)):
        shutil.copytree(source, tmp_path / place)
        assert zoo.resolve(tmp_path / place).id == name
        assert zoo.load_pretrained(tmp_path / place)[1].id == name
        assert load_model(tmp_path / place)[1].id == name
    codec = ReducioCodec.from_pretrained(tmp_path / "runs/first/model")
    file = io.BytesIO()
    codec.compress(moving_video(2, 32, 32), file, rate=8)
    with codec.open_file(file) as video:
        assert video.header.model == "first"


def test_a_run_stands_for_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (run / "recipe.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"first holds a run that isn't finished; .*--export"):
        zoo.resolve(run)
    shutil.copytree(zoo.resolve("reducio-test").folder, run / "model")
    assert zoo.resolve(run) == ModelSource(folder=run / "model", id="first")
    monkeypatch.chdir(run)
    assert zoo.resolve(".").id == zoo.resolve("model").id == "first"


def test_bundled_name_and_folder(tmp_path: Path) -> None:
    assert zoo.resolve("reducio-lite").id == "reducio-lite"
    folder = tmp_path / "mine"
    folder.mkdir()
    assert zoo.resolve(folder) == ModelSource(folder=folder, id="mine")
    assert zoo.resolve(str(folder), sha256="ab" * 32).sha256 == "ab" * 32


def test_options_of_the_hub_are_refused_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="revision"):
        zoo.resolve("reducio-lite", revision="main")
    with pytest.raises(InputError, match="revision"):
        zoo.resolve(tmp_path, revision="main")
    with pytest.raises(InputError, match="sha256"):
        zoo.resolve("reducio-lite", sha256="00" * 32)


class FakeHub:
    """The few calls of huggingface_hub that the package makes, over a folder on disk."""

    def __init__(self, folder: Path, *, recorded: str | None = None, reachable: bool = True) -> None:
        self.cache = folder / "snapshots" / COMMIT
        self.cache.mkdir(parents=True)
        self.recorded = recorded
        self.reachable = reachable
        self.asked: list[tuple[str, str | None, bool]] = []
        self.files = {CONFIG_FILE: b"{}", TENSOR_FILE: b"tensors", "train.py": b"raise SystemExit"}
        self.constants = SimpleNamespace(HF_HUB_OFFLINE=False)

        class HfHubHTTPError(OSError): ...

        class RepositoryNotFoundError(HfHubHTTPError): ...

        class RevisionNotFoundError(HfHubHTTPError): ...

        class LocalEntryNotFoundError(FileNotFoundError): ...

        class HFValidationError(ValueError): ...

        self.errors = SimpleNamespace(
            HfHubHTTPError=HfHubHTTPError,
            RepositoryNotFoundError=RepositoryNotFoundError,
            RevisionNotFoundError=RevisionNotFoundError,
            LocalEntryNotFoundError=LocalEntryNotFoundError,
            HFValidationError=HFValidationError,
        )

    def HfApi(self) -> FakeHub:
        return self

    def model_info(self, repository: str, *, revision: str | None, files_metadata: bool) -> Any:
        assert files_metadata
        if not self.reachable:
            raise ConnectionError("no route to host")
        if repository != "org/name":
            raise self.errors.RepositoryNotFoundError("404")
        if revision not in (None, "main", COMMIT):
            raise self.errors.RevisionNotFoundError("404")
        siblings = [
            SimpleNamespace(
                rfilename=name,
                lfs=SimpleNamespace(sha256=self.recorded) if name == TENSOR_FILE and self.recorded else None,
            )
            for name in self.files
        ]
        return SimpleNamespace(sha=COMMIT, siblings=siblings)

    def hf_hub_download(
        self, repository: str, name: str, *, revision: str | None, local_files_only: bool = False
    ) -> str:
        self.asked.append((name, revision, local_files_only))
        path = self.cache / name
        if local_files_only:
            if not path.exists():
                raise self.errors.LocalEntryNotFoundError(name)
            return str(path)
        path.write_bytes(self.files[name])
        return str(path)


@pytest.fixture
def use_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def use(**options: Any) -> FakeHub:
        fake = FakeHub(tmp_path / "hub", **options)
        monkeypatch.setattr(hub, "_huggingface_hub", lambda: fake)
        return fake

    return use


def test_a_branch_is_resolved_to_its_commit_once(use_hub: Any) -> None:
    fake = use_hub(recorded="cd" * 32)
    source = zoo.resolve("org/name", revision="main")
    assert source.id == f"org/name@{COMMIT}"
    assert source.sha256 == "cd" * 32
    assert {revision for _, revision, _ in fake.asked} == {COMMIT}
    assert "train.py" not in {name for name, _, _ in fake.asked}
    assert ENTROPY_FILE not in {name for name, _, _ in fake.asked}


def test_hub_hash_must_be_the_given_one(use_hub: Any) -> None:
    use_hub(recorded="cd" * 32)
    with pytest.raises(WeightsError, match="sha256"):
        zoo.resolve("org/name", sha256="ef" * 32)


def test_unknown_repository_and_revision(use_hub: Any) -> None:
    use_hub()
    with pytest.raises(WeightsError, match="org/other"):
        zoo.resolve("org/other")
    with pytest.raises(WeightsError, match="v9"):
        zoo.resolve("org/name", revision="v9")


def test_repository_without_a_model(use_hub: Any) -> None:
    fake = use_hub()
    del fake.files[TENSOR_FILE]
    with pytest.raises(WeightsError, match=TENSOR_FILE):
        zoo.resolve("org/name")


@pytest.mark.parametrize("way", ["no network", "offline=True", "environment"])
def test_offline_says_what_to_fetch_and_where_to_put_it(use_hub: Any, way: str) -> None:
    fake = use_hub(reachable=False)
    fake.constants.HF_HUB_OFFLINE = way == "environment"
    with pytest.raises(WeightsError) as caught:
        zoo.resolve("org/name", offline=way == "offline=True")
    for word in (CONFIG_FILE, TENSOR_FILE, ENTROPY_FILE, "org/name", "./name"):
        assert word in str(caught.value)


def test_offline_uses_the_cache_and_the_hash_it_keeps(use_hub: Any) -> None:
    fake = use_hub(reachable=False)
    digest = hashlib.sha256(b"tensors").hexdigest()
    blobs = fake.cache.parents[1] / "blobs"
    blobs.mkdir()
    (blobs / digest).write_bytes(b"tensors")
    (fake.cache / TENSOR_FILE).symlink_to(blobs / digest)
    (fake.cache / CONFIG_FILE).write_bytes(b"{}")
    assert zoo.resolve("org/name") == ModelSource(folder=fake.cache, id=f"org/name@{COMMIT}", sha256=digest)


def test_missing_client_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'reducio-codec\[hub\]'"):
        zoo.resolve("org/name")


@pytest.mark.parametrize("way", ["HF_HUB_OFFLINE", "nobody answers", "no such host"])
def test_the_real_client_without_a_network(tmp_path: Path, way: str) -> None:
    """One model that the cache has, one that it hasn't, and a name that the hub doesn't allow."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is in the extras [test] and [hub]")
    cached = tmp_path / "hub" / "models--org--cached"
    snapshot = cached / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    for name in (CONFIG_FILE, TENSOR_FILE):
        (snapshot / name).write_bytes(b"{}")
    code = (
        "import sys\n"
        "from reducio_codec.errors import WeightsError\n"
        "from reducio_codec.weights import zoo\n"
        "print(zoo.resolve('org/cached'))\n"
        "for name in ('org/name', 'org/na--me'):\n"
        "    try:\n"
        "        zoo.resolve(name)\n"
        "    except WeightsError as error:\n"
        "        print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    if way == "no such host":
        environment["HF_ENDPOINT"] = "http://nowhere.invalid"
    if way == "HF_HUB_OFFLINE":
        environment |= {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    found, missing, wrong = done.stdout.splitlines()
    assert f"org/cached@{COMMIT}" in found and str(snapshot) in found
    assert "isn't in the local cache" in missing and "./name" in missing and TENSOR_FILE in missing
    assert "org/na--me" in wrong


def test_no_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zoo.list_models()[0].folder)
    assert zoo.resolve(".").id == "reducio-lite"
    with pytest.raises(WeightsError, match="no model ''"):
        zoo.resolve("")


def test_one_decoder_may_be_given_by_itself() -> None:
    model, info = zoo.load_pretrained("reducio-test", decoders="linear")
    assert info.decoders == tuple(model.decoder_names) == ("linear",)


@pytest.mark.parametrize(
    "entry", [each for each in zoo.list_models() if each.kind == "codec"], ids=lambda each: each.name
)
def test_a_bundled_model_is_of_the_version_that_its_folder_says(entry: zoo.ModelEntry) -> None:
    assert entry.version == json.loads((entry.folder / "config.json").read_text()).get("version", 1)
