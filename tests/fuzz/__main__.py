"""``python -m tests.fuzz --minutes 10``: see the package."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import Findings, again, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "files", nargs="*", type=Path, help="stored files to try again: .rdc, .latent, or a model's files"
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="by default a new one each time; it is printed")
    parser.add_argument("--keep", type=Path, help="a folder for files that break a rule; by default a temporary one")
    options = parser.parse_args()
    faulthandler.enable()
    logging.disable()  # what a file makes the product warn of is no finding
    if options.files:
        return _report([again(path) for path in options.files], keep=None)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    keep = Path(tempfile.mkdtemp(prefix="fuzz-")) if options.keep is None else options.keep
    keep.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}; files are kept in {keep}", flush=True)
    return _report([fuzz(seed=seed, seconds=60 * options.minutes, last=keep / "last", told=_tell)], keep=keep)


def _tell(line: str) -> None:
    print(line, flush=True)


def _report(found: list[Findings], *, keep: Path | None) -> int:
    for number, findings in enumerate(found):
        print(findings.report())
        for name, data, _ in findings.broken.values() if keep else ():
            path = keep / f"{len(list(keep.iterdir()))}-{number}-{name}"
            path.write_bytes(data)
            print(f"kept: {path}")
    return int(any(findings.broken for findings in found))


if __name__ == "__main__":
    sys.exit(main())
