"""Compress a folder of videos, and say what each takes.

    python examples/compress_folder.py VIDEOS OUT --kbps 60

Without --kbps the defaults are taken. Files that are there already are kept, so the same command goes on after an interruption.
On several machines, or GPUs of one, each takes a part: `--part 0/4`, `--part 1/4`, ... `reducio-codec encode VIDEOS -o OUT` does
the same in several processes, without the table.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from reducio_codec import ReducioCodec, ReducioError
from reducio_codec.coding.options import EncodeKeywords

SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi"}


def part(text: str) -> tuple[int, int]:
    """``"1/4"``: the second of four."""
    number, count = (int(value) for value in text.split("/"))
    if not 0 <= number < count:
        raise ValueError(text)
    return number, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="a folder")
    parser.add_argument("out", type=Path, help="a folder for .rdc files and table.csv")
    parser.add_argument("--kbps", type=float, help="wanted rate of each file")
    parser.add_argument("--part", type=part, default=(0, 1), metavar="N/COUNT", help="of the files")
    parser.add_argument("--codec", default="reducio-lite", help="name or folder")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    number, count = options.part
    paths = sorted(path for path in options.videos.rglob("*") if path.suffix.lower() in SUFFIXES)[number::count]
    if not paths:
        raise SystemExit(f"no video in {options.videos}, or none in this part of it")
    codec = ReducioCodec.from_pretrained(options.codec, device=options.device, dtype="auto")
    keywords: EncodeKeywords = {} if options.kbps is None else {"target_kbps": options.kbps}

    failed, rows = 0, []
    for path in paths:
        relative = path.relative_to(options.videos)
        target = options.out / relative.with_name(relative.name + ".rdc")  # a.mp4 and a.mkv stay two
        if target.exists():
            print(f"{relative}: is there")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            report = codec.compress(path, target, **keywords)
        except ReducioError as error:  # one bad file doesn't end the night
            print(f"{relative}: {error}")
            failed += 1
            continue
        row = {
            "file": str(relative),
            "frames": report.frames,
            "bytes_before": path.stat().st_size,
            "bytes": report.bytes,
            "kbit_s": round(report.kbits_per_second, 2),
            "bpp": round(report.bpp, 5),
            "keyframes_percent": round(100 * report.keyframe_bytes / report.bytes),
        }
        rows.append(row)
        print(f"{relative}: {row['kbit_s']} kbit/s, {row['bytes_before']} -> {row['bytes']} bytes")
    if rows:
        table = options.out / ("table.csv" if count == 1 else f"table-{number}.csv")
        new = not table.exists()
        with table.open("a", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            if new:
                writer.writeheader()
            writer.writerows(rows)
    if failed:
        raise SystemExit(f"{failed} of {len(paths)} files failed")


if __name__ == "__main__":
    main()
