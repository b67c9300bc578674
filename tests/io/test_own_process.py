"""Waiting threads sleep and freed memory is kept where the process is ours, and only there."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SHOW = "import os, sys; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"


def policy(*arguments: str, given: str | None = None) -> str:
    """What a process that is started so says of OMP_WAIT_POLICY when it ends, and whether it had torch."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if given is None else {"OMP_WAIT_POLICY": given})
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT
    )
    return done.stdout.splitlines()[-1]


def at_the_end(program: str) -> str:
    return f"import atexit; atexit.register(lambda: exec({SHOW!r})); {program}"


COMMAND = "from reducio_codec.cli import main; main(['models'])"


def test_the_command_lets_them_sleep_unless_the_user_wants_otherwise() -> None:
    assert policy("-c", at_the_end(COMMAND)) == "PASSIVE False"
    assert policy("-c", at_the_end(COMMAND), given="active") == "active False"


def test_an_import_changes_nothing() -> None:
    assert policy("-c", f"import reducio_codec.io.own_process, reducio_codec; {SHOW}") == "None False"
    assert policy("-c", f"import reducio_codec; {SHOW}", "-m", "reducio_codec") == "None False"


@pytest.mark.parametrize(
    "module",
    [
        "reducio_codec",
        "reducio_codec.measure.evaluate",
        "reducio_codec.generate.protocols",
        "bench",
        "bench.roundtrips",
    ],
)
def test_each_module_that_runs_sets_it_before_torch_is_loaded(module: str, tmp_path: Path) -> None:
    """A torch of the test's own tells what it finds when it is loaded; a module that never needs torch tells at its end."""
    (tmp_path / "torch.py").write_text(f"{SHOW}\nraise SystemExit\n")
    (tmp_path / "sitecustomize.py").write_text(f"import atexit; atexit.register(lambda: exec({SHOW!r}))\n")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], env=environment, capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    told = [line for line in done.stdout.splitlines() if line.endswith((" True", " False"))]
    assert told and {line.split()[0] for line in told} == {"PASSIVE"}, done.stdout + done.stderr


FAULTS = """
import resource
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(8):
    frames = [b"x" * (24 << 20) for _ in range(4)]
    del frames
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone is its way known")
def test_freed_memory_is_kept_where_the_process_is_ours() -> None:
    """Four blocks of 24 MiB, eight times over: 24,576 pages, which the process has after the first time."""

    def touched(first: str, **given: str) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        environment |= {"PYTHONPATH": str(ROOT), **given}
        call = [sys.executable, "-c", first + FAULTS]
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True, timeout=120)
        return int(done.stdout.splitlines()[-1])

    ours = "try:\n    from reducio_codec.cli import main; main(['models'])\nexcept SystemExit:\n    pass\n"
    assert touched(ours) < 2 * 24_576
    assert touched("import reducio_codec\n") > 4 * 24_576
    assert touched(ours, MALLOC_TRIM_THRESHOLD_="131072") > 4 * 24_576
