"""LPIPS as one file of numbers, for machines that don't have the authors' package.

    python -m reducio_codec.train.packed.lpips_file vgg --out lpips-vgg.safetensors

29 MB for VGG-16, 5 MB for AlexNet, as float16. Where the trunks come from, ``metrics.lpips`` says.
"""

from __future__ import annotations

from pathlib import Path

import click
from safetensors.torch import save_file
from torch import Tensor

from reducio_codec.metrics.lpips import Lpips


@click.command()
@click.argument("net", type=click.Choice(["alex", "vgg"]))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(net: str, out: Path) -> None:
    metric = Lpips("vgg" if net == "vgg" else "alex")
    tensors: dict[str, Tensor] = {}
    trunk = {key.split(".", 1)[1]: value for key, value in metric.model.net.state_dict().items()}  # sliceK.N.weight
    numbers = sorted({int(key.split(".")[0]) for key in trunk})
    for place, number in enumerate(numbers):
        for kind in ("weight", "bias"):
            tensors[f"conv.{place}.{kind}"] = trunk[f"{number}.{kind}"].half().contiguous()
    for place in range(5):
        head = getattr(metric.model, f"lin{place}").model[-1].weight
        tensors[f"head.{place}"] = head.detach().flatten().half().contiguous()
    save_file(tensors, out)


if __name__ == "__main__":
    main()
