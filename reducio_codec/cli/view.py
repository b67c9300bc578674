"""``reducio-codec view``: an .rdc file in the browser."""

from __future__ import annotations

import threading
import webbrowser
from contextlib import nullcontext, suppress
from pathlib import Path

import click

from reducio_codec.cli.group import show_information, traceback_option, warn
from reducio_codec.cli.options import model_of
from reducio_codec.cli.paths import RDC, STANDARD, STORED, standard_input


@click.command()
@click.argument("source", metavar="[FILE.rdc]", type=RDC, required=False)
@click.option("-m", "--model", help="Name or folder of the model.  [default: the bundled one that the file names]")
@click.option(
    "--graphs",
    metavar="DIR",
    type=STORED,
    help="Folder that export-onnx wrote of the model, whose decoders can then be chosen.  "
    "[default: the fast one, exported on first use]",
)
@click.option(
    "--runtime",
    metavar="TGZ",
    type=STORED,
    help="The npm package onnxruntime-web. It is needed once, and kept in the cache.",
)
@click.option("--save", metavar="DIR", type=STORED, help="Write the page's files, for any web server, instead.")
@click.option("--no-browser", is_flag=True, help="Open no browser, only print the page's address.")
@traceback_option
def command(
    source: Path | None,
    model: str | None,
    graphs: Path | None,
    runtime: Path | None,
    save: Path | None,
    no_browser: bool,
) -> None:
    """Play an .rdc file (- for standard input) in the browser; nothing leaves this machine.

    Without a file the page asks for one. It is decoded in the browser, by the fast decoder unless another is chosen there.
    Ctrl-C ends it.
    """
    from reducio_codec.web.runtime import install_runtime
    from reducio_codec.web.server import serving
    from reducio_codec.web.site import build_site, save_site

    show_information()
    if runtime is not None:
        install_runtime(runtime)
    with standard_input() if source == STANDARD else nullcontext(source) as video:
        if model is None:
            model = "reducio-lite" if video is None else model_of(video)
        site = build_site(model, graphs=graphs, video=video)
    for line in site.damage:
        warn(line)
    if save is not None:
        save_site(site, save)
        click.echo(f"{save}: {len(site.files)} files")
        return
    with suppress(KeyboardInterrupt), serving(site) as page:
        click.echo(f"{page}{site.start}")
        if not no_browser:
            webbrowser.open(f"{page}{site.start}")
        threading.Event().wait()
