"""``reducio-codec convert``: a published checkpoint to a model folder."""

from __future__ import annotations

from pathlib import Path

import click

from reducio_codec.cli.group import traceback_option
from reducio_codec.cli.options import force_option
from reducio_codec.cli.paths import STORED, check_new
from reducio_codec.weights.layout import CARD_FILE, CONFIG_FILE, TENSOR_FILE


@click.command()
@click.argument("checkpoint", metavar="CKPT", type=STORED)
@click.argument("folder", metavar="OUTDIR", type=STORED)
@force_option
@traceback_option
def command(checkpoint: Path, folder: Path, force: bool) -> None:
    """Turn a published checkpoint of the paper into a model folder.

    CKPT is a Lightning checkpoint (reducio-ft4-fs32-attn23.ckpt, reducio-ft2-fs32-attn23.ckpt); it is read without
    running code from it. OUTDIR then works as --model.
    """
    check_new(*(folder / name for name in (CONFIG_FILE, TENSOR_FILE, CARD_FILE)), force=force)
    from reducio_codec.weights.convert import convert_checkpoint

    convert_checkpoint(checkpoint, folder)
    click.echo(f"{folder}: written; use it as --model {folder}")
