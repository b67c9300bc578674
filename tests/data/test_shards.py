"""The shards of ``extract`` as a stream: each sample once, in one worker of one process, in a new order each epoch."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from reducio_codec.codec import ReducioCodec
from reducio_codec.data import latents
from reducio_codec.errors import InputError, ReducioError
from reducio_codec.generate.extract.extraction import extract
from reducio_codec.generate.extract.maker import Encoders
from reducio_codec.generate.extract.options import ExtractOptions
from tests.helpers import moving_video
from tests.train.conftest import write_video


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 samples of 64x64 in three shards."""
    root = tmp_path_factory.mktemp("extracted")
    (root / "clips").mkdir()
    for number, frames in enumerate((36, 36)):
        write_video(root / "clips" / f"{number}.mkv", moving_video(frames, 64, 80, seed=number))
    options = ExtractOptions(size=64, distance=4, keyframe="png", shard_samples=5)
    report = extract(
        root / "clips", out=root / "shards", options=options, encoders=Encoders(codec="reducio-test", threads=1)
    )
    assert (report.samples, report.shards) == (12, 3)
    return root / "shards"


def name(sample: dict[str, Any]) -> str:
    return f"{sample['video']} {int(sample['frames'][0])}"


def names(loader: DataLoader[Any]) -> list[str]:
    return [name(sample) for batch in loader for sample in batch]


def test_samples_are_what_extract_wrote(shards: Path, codec: ReducioCodec) -> None:
    found = {name(sample): sample for sample in latents(shards)}
    assert len(found) == 12
    for number in range(2):
        video = moving_video(36, 64, 80, seed=number)[:, :, 8:72]
        sample = found[f"{number}.mkv 4"]
        latent, keyframe = codec.encode(np.ascontiguousarray(video[4:20]))
        assert sample["latent"].dtype == sample["keyframe"].dtype == torch.float32
        assert sample["keyframe"].shape == (3, 1, 64, 64) and sample["latent"].shape == latent.shape[1:]
        assert torch.equal(sample["keyframe"], keyframe[0])
        torch.testing.assert_close(sample["latent"], latent.plain()[0], atol=2e-3, rtol=1e-3)  # float16
        assert sample["frames"].tolist() == list(range(4, 20)) and sample["flip"] is False and sample["motion"] > 0
        assert sample["caption"] == ""


def test_a_batch_decodes(shards: Path, codec: ReducioCodec) -> None:
    batch = next(iter(DataLoader(latents(shards), batch_size=4)))
    assert codec.decode(batch["latent"], batch["keyframe"]).shape == (4, 3, 16, 64, 64)


def test_orders(shards: Path) -> None:
    def epochs(stream: Any, count: int = 3) -> list[list[str]]:
        found = []
        for epoch in range(count):
            stream.set_epoch(epoch)
            found.append([name(sample) for sample in stream])
        return found

    one = epochs(latents(shards, seed=1))
    assert one == epochs(latents(shards, seed=1)) and one != epochs(latents(shards, seed=2))
    assert one[0] != one[1] != one[2] and sorted(one[0]) == sorted(one[1])
    plain = epochs(latents(shards, shuffle=False))
    assert plain[0] == plain[1] and plain[0] != one[0] and sorted(plain[0]) == sorted(one[0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_share_the_samples_and_hear_of_the_epoch(shards: Path) -> None:
    """Those that persist get the new order, too."""
    stream = latents(shards, seed=3)
    assert len(stream) == 12
    loader: DataLoader[Any] = DataLoader(
        stream,
        batch_size=2,
        collate_fn=list,
        num_workers=3,
        multiprocessing_context="fork",
        persistent_workers=True,
    )
    found = []
    for epoch in range(2):
        stream.set_epoch(epoch)
        found.append(names(loader))
    assert found[0] != found[1] and sorted(found[0]) == sorted(found[1])
    assert len(found[0]) == len(set(found[0])) == 12


def test_spawned_workers(shards: Path) -> None:
    stream = latents([shards], seed=3)
    stream.set_epoch(1)
    loader = DataLoader(stream, batch_size=3, collate_fn=list, num_workers=2, multiprocessing_context="spawn")
    found = names(loader)
    order = [name(sample) for sample in stream]
    assert sorted(found) == sorted(order) and found[:3] == order[:3] and found[3:6] == order[6:9]  # half each


def test_processes_share_the_samples_evenly(shards: Path) -> None:
    for processes in (1, 2, 3, 5):
        parts = [latents(shards, seed=1, part=(number, processes)) for number in range(processes)]
        shares = [[name(sample) for sample in part] for part in parts]
        assert {len(share) for share in shares} == {len(part) for part in parts} == {12 // processes}
        every = [one for share in shares for one in share]
        assert len(set(every)) == len(every) == processes * (12 // processes)


PROCESS = """
import sys, pickle, torch.distributed as dist
from torch.utils.data import DataLoader
from reducio_codec.data import latents

shards, meeting, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
stream = latents(shards, seed=1)
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")
found = [f"{sample['video']} {int(sample['frames'][0])}" for sample in loader]
spawned = pickle.loads(pickle.dumps(stream))
dist.destroy_process_group()
assert len(spawned) == 6 and len(stream) == 12  # a spawned worker can't ask
print("|".join(found))
"""


def test_torch_distributed_is_asked(shards: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(shards), str(tmp_path / "meeting")]
    running = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    found = [process.communicate(timeout=120)[0].strip().split("|") for process in running]
    assert [len(share) for share in found] == [6, 6]
    assert sorted(found[0] + found[1]) == sorted(name(sample) for sample in latents(shards))


def test_several_folders_and_pickles(shards: Path) -> None:
    stream = latents([shards, str(shards)], shuffle=False)
    assert len(stream) == 24
    again = pickle.loads(pickle.dumps(stream))
    assert [name(sample) for sample in again] == [name(sample) for sample in stream]


def changed(folder: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    out.mkdir()
    for path in folder.glob("*.tar"):
        (out / path.name).write_bytes(path.read_bytes())
    index = json.loads((folder / "shards.json").read_text())
    change(index)
    (out / "shards.json").write_text(json.dumps(index))
    return out


def test_what_is_no_folder_of_shards(shards: Path, tmp_path: Path) -> None:
    other = changed(shards, tmp_path / "other", lambda index: index.update(latent_space="0123456789abcdef"))
    missing = changed(shards, tmp_path / "missing", lambda index: index["shards"].append("none.tar"))
    for wrong, message in (
        ([], "empty"),
        (tmp_path, "no shards.json"),
        ("", "empty"),
        (5, "a path is needed|int"),
        ([shards, other], "can't be mixed"),
        (missing, "isn't finished"),
    ):
        with pytest.raises(InputError, match=message):
            latents(wrong)  # type: ignore[arg-type]


def test_a_damaged_sample_is_named(shards: Path, tmp_path: Path) -> None:
    folder = changed(shards, tmp_path / "bad", lambda index: None)
    path = min(folder.glob("*.tar"))
    with tarfile.open(path) as tar:
        member = next(member for member in tar if member.name.endswith(".png"))
    data = bytearray(path.read_bytes())
    data[member.offset_data : member.offset_data + 8] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(ReducioError, match=rf"{path.name}: the sample .*can't be read"):
        list(latents(folder))
