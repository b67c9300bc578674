"""Train a small diffusion transformer on the codec's latents: what moves in a picture.

    pip install 'reducio-codec[generate]'
    python examples/train_dit_on_latents.py VIDEOS --steps 2000 --out motion.webp

VIDEOS is a folder of videos. Without one the clip that ships with the package is used: enough to see how it goes. A clip of
16 frames is encoded once, to a latent of 4 x H/32 x W/32 positions; the network learns to make it from noise for the clip's key
frame (flow matching). For a real one see `reducio-codec train-dit`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.video_processor import VideoProcessor
from PIL import Image, ImageOps
from torch import Tensor, nn

import reducio_codec
from reducio_codec.integrations.diffusers import AutoencoderKLReducio

BUNDLED = Path(reducio_codec.__file__).parent / "assets" / "flower.mp4"


class Block(nn.Module):
    """Attention and an MLP, both scaled, shifted and gated by the noise level (adaLN-Zero)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:  # (B, N, C), (B, C)
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(level)[:, None].chunk(6, -1)  # (B, 1, C) each
        y = self.norms[0](x) * (1 + scale) + shift
        x = x + gate * self.attention(y, y, y, need_weights=False)[0]
        return x + gate2 * self.mlp(self.norms[1](x) * (1 + scale2) + shift2)


class MotionDiT(nn.Module):
    """Noisy latent, noise level and key frame to the velocity; a token for each position of the latent."""

    def __init__(self, channels: int, *, ratio: int, width: int = 128, depth: int = 4) -> None:
        super().__init__()
        self.latent_in = nn.Conv3d(channels, width, 1)
        self.keyframe_in = nn.Conv2d(3, width, ratio, ratio)  # what the picture shows where a token lies
        self.place_in = nn.Linear(6 * 8, width)
        self.level_in = nn.Sequential(nn.Linear(2 * 8, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.out = nn.Linear(width, channels)

    def forward(self, z: Tensor, level: Tensor, keyframe: Tensor) -> Tensor:
        """z (B, C, t, h, w), level (B,) in 0 to 1, keyframe (B, 3, H, W)."""
        axes = [torch.arange(side, device=z.device) / 16 for side in z.shape[2:]]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (t, h, w, 3)
        x = self.latent_in(z) + self.keyframe_in(keyframe)[:, :, None]  # (B, width, t, h, w)
        x = x.flatten(2).transpose(1, 2) + self.place_in(waves(place).flatten(0, 2))  # (B, N, width)
        for block in self.blocks:
            x = block(x, self.level_in(waves(level[:, None])))
        return self.out(x).transpose(1, 2).unflatten(2, z.shape[2:])


def waves(x: Tensor) -> Tensor:
    """(..., n) to (..., n * 16): sines and cosines of eight frequencies."""
    angles = x[..., None] * 2.0 ** torch.arange(8, device=x.device)
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


def clips_of(path: Path, size: int) -> Iterator[list[Image.Image]]:
    """A video's frames, 16 at a time, cropped to squares."""
    with av.open(str(path)) as container:
        frames = [ImageOps.fit(frame.to_image(), (size, size)) for frame in container.decode(video=0)]
    yield from (frames[start : start + 16] for start in range(0, len(frames) - 15, 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="?", type=Path, help="a folder; by default the bundled clip")
    parser.add_argument("--codec", default="reducio-lite", help="name or folder")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=128, help="of the square clips, a multiple of 32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("motion.webp"), help="what is made from the first key frame")
    options = parser.parse_args()
    torch.manual_seed(0)
    vae = AutoencoderKLReducio.from_pretrained(options.codec).to(options.device)
    video = VideoProcessor(vae_scale_factor=vae.spatial_compression_ratio)

    paths = [BUNDLED] if options.videos is None else sorted(path for path in options.videos.rglob("*.mp4"))
    latents, keyframes = [], []
    for path in paths:
        for clip in clips_of(path, options.size):
            with torch.no_grad():
                encoded = vae.encode(video.preprocess_video(clip).to(options.device))
            latents.append(encoded.latent_dist.mode())  # (1, 16, 4, h, w), unit variance already
            keyframes.append(encoded.keyframe[:, :, 0])  # (1, 3, H, W)
    if not latents:
        raise SystemExit(f"no .mp4 file with 16 frames in {options.videos}")
    data, keys = torch.cat(latents), torch.cat(keyframes)
    print(f"{len(data)} clips of {len(paths)} videos")

    dit = MotionDiT(vae.config.latent_channels, ratio=vae.spatial_compression_ratio).to(options.device)
    optimizer = torch.optim.AdamW(dit.parameters(), lr=1e-3)
    for step in range(options.steps):
        chosen = torch.randint(len(data), (options.batch,), device=data.device)
        z, noise, level = data[chosen], torch.randn_like(data[chosen]), torch.rand(options.batch, device=data.device)
        share = level[:, None, None, None, None]
        velocity = dit((1 - share) * z + share * noise, level, keys[chosen])
        loss = (velocity - (noise - z)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == options.steps - 1:
            print(f"step {step}: loss {loss.item():.3f}")

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(20, device=options.device)
    z, key = torch.randn_like(data[:1]), keys[:1]
    with torch.no_grad():
        for time in scheduler.timesteps:
            z = scheduler.step(dit(z, time[None] / 1000, key), time, z).prev_sample
        sample = vae.decode(z, keyframe=key).sample  # (1, 3, 16, H, W)
    first, *rest = video.postprocess_video(sample, output_type="pil")[0]
    first.save(options.out, save_all=True, append_images=rest, duration=62, loop=0)
    print(options.out)


if __name__ == "__main__":
    main()
