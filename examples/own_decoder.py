"""Train a decoder of your own on latents that stay as they are.

    python examples/own_decoder.py VIDEOS --steps 500 --out decoder.pt

VIDEOS is a folder of videos; without one the clip that ships with the package is used. Clips are encoded once. What is learned is
how a key frame and a latent become 16 frames: here a few convolutions that add to the key frame. The last layer starts at zero,
so it begins as "repeat the key frame", which is the row to beat.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import reducio_codec
from reducio_codec import ReducioCodec
from reducio_codec.io.video import read_clip

BUNDLED = Path(reducio_codec.__file__).parent / "assets" / "flower.mp4"
SUFFIXES = {".mp4", ".mkv", ".mov", ".webm"}


class OwnDecoder(nn.Module):
    """Features of the key frame and of the latent at an eighth of the size, mixed, to what changes in each frame."""

    def __init__(self, channels: int = 16, width: int = 64) -> None:
        super().__init__()
        self.picture = nn.Conv2d(3 * 64, width, 1)
        self.motion = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.GELU(),
        )
        self.change = nn.Conv2d(2 * width, 16 * 3 * 16, 1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, latent: Tensor, keyframe: Tensor) -> Tensor:
        """(B, 16, 4, h, w) and (B, 3, 32h, 32w) to (B, 3, 16, 32h, 32w)."""
        still = self.picture(F.pixel_unshuffle(keyframe, 8))  # (B, C, 4h, 4w)
        moving = F.interpolate(self.motion(latent.flatten(1, 2)), scale_factor=4.0, mode="bilinear")
        change = F.pixel_shuffle(self.change(self.mix(torch.cat([still, moving], 1))), 4)  # (B, 48, 16h, 16w)
        change = F.interpolate(change, scale_factor=2.0, mode="bilinear").unflatten(1, (3, 16))
        return keyframe[:, :, None] + change


def load(folder: Path | None, codec: ReducioCodec, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Clips (N, 3, 16, size, size) in [-1, 1], their latents (N, 16, 4, size/32, size/32), and key frames (N, 3, size, size)."""
    paths = [BUNDLED] if folder is None else sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    clips = []
    for path in paths:
        video = torch.from_numpy(read_clip(path)).permute(3, 0, 1, 2).float() / 127.5 - 1  # (3, T, H, W)
        scale = size / min(video.shape[2:])
        video = F.interpolate(
            video.transpose(0, 1), scale_factor=scale, mode="bilinear", antialias=True, recompute_scale_factor=False
        )
        top, left = ((side - size) // 2 for side in video.shape[2:])
        video = video[:, :, top : top + size, left : left + size].clamp(-1, 1)
        clips += [clip.transpose(0, 1) for clip in video.split(16) if len(clip) == 16]
    if not clips:
        raise SystemExit(f"no video of 16 frames in {folder}")
    data = torch.stack(clips)
    pairs = [codec.encode(clip[None]) for clip in data]
    return data, torch.cat([latent.plain() for latent, _ in pairs]), torch.cat([key[:, :, 0] for _, key in pairs])


def psnr(made: Tensor, clips: Tensor) -> float:
    """Pooled over all frames, key frames included; values in [-1, 1]."""
    return float(10 * torch.log10(4 / (made.clamp(-1, 1) - clips).square().mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="?", type=Path, help="a folder; by default the bundled clip")
    parser.add_argument("--codec", default="reducio-lite", help="name or folder; it isn't changed")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=128, help="of the square clips, a multiple of 32")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("decoder.pt"))
    options = parser.parse_args()
    torch.manual_seed(0)
    codec = ReducioCodec.from_pretrained(options.codec)
    clips, latents, keyframes = load(options.videos, codec, options.size)

    decoder = OwnDecoder(latents.shape[1])
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3)
    for step in range(options.steps):
        chosen = torch.randint(len(clips), (options.batch,))
        loss = (decoder(latents[chosen], keyframes[chosen]) - clips[chosen]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == options.steps - 1:
            print(f"step {step}: loss {loss.item():.4f}")

    with torch.no_grad():
        made = torch.cat([decoder(z[None], key[None]) for z, key in zip(latents, keyframes, strict=True)])
        theirs = torch.cat(
            [codec.decode(z[None], key[None, :, None]) for z, key in zip(latents, keyframes, strict=True)]
        )
    print(f"repeat the key frame: {psnr(keyframes[:, :, None].expand_as(clips), clips):.2f} dB")
    print(f"own decoder, on what it was trained on: {psnr(made, clips):.2f} dB")
    print(f"{codec.model.default_decoder}: {psnr(theirs, clips):.2f} dB")
    torch.save(decoder.state_dict(), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
