"""Rate and quality of your videos, beside x264 that can be entered as often: every four seconds.

    pip install 'reducio-codec[bench]'
    python examples/rate_distortion.py VIDEO... --csv curves.csv --plot curves.png

For each video: PSNR, one error over all its frames, at each quality; every byte of our files and of x264's stream is counted.
The BD-rate says how many bits we need more (+) or fewer (-) at equal quality, over the qualities that both reach. The
measurements that are published, with more codecs, measures and their best presets, are made by `python -m bench`.
"""

from __future__ import annotations

import argparse
import csv
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from reducio_codec import ReducioCodec
from reducio_codec.coding.options import SEEK_EVERY
from reducio_codec.io.video import open_video, read_clip
from reducio_codec.metrics.bd_rate import bd_rate, convex_hull
from reducio_codec.metrics.psnr import psnr

Curve = list[tuple[float, float]]
"""Rate in kbit/s and PSNR in dB of each point."""


def ours(codec: ReducioCodec, path: Path, frames: np.ndarray, *, decoder: str | None, qualities: list[int]) -> Curve:
    curve = []
    for quality in qualities:
        file = io.BytesIO()
        report = codec.compress(path, file, keyframe_quality=quality, audio=False)
        with codec.open_file(io.BytesIO(file.getvalue())) as video:
            decoded = np.concatenate([video.shown_clip(clip, decoder=decoder) for clip in range(video.clips)])
        curve.append((report.kbits_per_second, psnr(frames, decoded)))
    return curve


def x264(frames: np.ndarray, *, rate: Fraction, crfs: list[int], preset: str) -> Curve:
    """4:2:0, so its sides are even: an odd row or column is repeated, and cut off again."""
    count, height, width, _ = frames.shape
    gop = str(max(1, round(SEEK_EVERY * rate)))
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    curve = []
    for crf in crfs:
        encoder = av.CodecContext.create("libx264", "w")
        encoder.height, encoder.width = even.shape[1:3]
        encoder.pix_fmt, encoder.framerate, encoder.time_base = "yuv420p", rate, 1 / rate
        encoder.options = {"crf": str(crf), "preset": preset, "tune": "psnr", "g": gop}
        packets = []
        for number, rgb in enumerate(even):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        decoder = av.CodecContext.create("h264", "r")
        pictures = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in pictures])[:, :height, :width]
        size = sum(packet.size for packet in packets)
        curve.append((float(8 * size / 1000 / (count / rate)), psnr(frames, decoded)))
    return curve


def plot(curves: dict[str, dict[str, Curve]], target: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(curves), 4), layout="constrained")
    for axes, (name, by_method) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for method, curve in by_method.items():
            axes.plot(*zip(*sorted(curve), strict=True), marker="o", label=method)
        axes.set(title=name, xlabel="kbit/s", ylabel="PSNR, dB", xscale="log")
        axes.legend()
    figure.savefig(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--codec", default="reducio-lite", help="name or folder")
    parser.add_argument("--decoder", help="by default the codec's choice")
    parser.add_argument("--qualities", default="5,20,40,60", help="of our key frames, 0 to 100")
    parser.add_argument("--crfs", default="24,30,36,42", help="of x264, 0 to 51")
    parser.add_argument("--preset", default="medium", help="of x264; veryslow is its best")
    parser.add_argument("--csv", type=Path, help="write every point")
    parser.add_argument("--plot", type=Path, help="write a picture of the curves")
    options = parser.parse_args()
    qualities, crfs = ([int(value) for value in text.split(",")] for text in (options.qualities, options.crfs))
    codec = ReducioCodec.from_pretrained(options.codec, dtype="auto")

    curves: dict[str, dict[str, Curve]] = {}
    for path in options.videos:
        frames = read_clip(path)
        with open_video(path) as reader:
            rate = Fraction(reader.info.rate)
        found = {
            codec.model_id: ours(codec, path, frames, decoder=options.decoder, qualities=qualities),
            "x264": x264(frames, rate=rate, crfs=crfs, preset=options.preset),
        }
        curves[str(path)] = found
        print(path)
        for method, curve in found.items():
            for kbps, quality in curve:
                print(f"  {method:16} {kbps:9.1f} kbit/s {quality:6.2f} dB")
        mine, anchor = (convex_hull(curve) for curve in found.values())
        change = bd_rate(anchor, mine) if min(len(mine), len(anchor)) > 1 else None
        print("  no common quality" if change is None else f"  {change:+.1f}% bits against x264 at equal PSNR")
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["video", "method", "kbit_s", "psnr_db"])
            writer.writerows(
                [name, method, *point]
                for name, found in curves.items()
                for method, curve in found.items()
                for point in curve
            )
    if options.plot is not None:
        plot(curves, options.plot)


if __name__ == "__main__":
    main()
