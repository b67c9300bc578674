"""A page for this machine alone: files by their addresses, served from loopback."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Thread
from typing import Any
from urllib.parse import unquote

from reducio_codec.web.site import Site

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
"""Written down, since what the system says of suffixes may be anything, and browsers refuse programs of other types."""


@contextmanager
def serving(site: Site) -> Iterator[str]:
    """Serve a site on a free port of 127.0.0.1 until the block ends; gives its address, which ends with a slash."""
    server = _Server(site)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, site: Site) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = site.files

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        port = self.server.server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(403)  # another site's name that leads here: what it asks for is none of its business
            return
        address = unquote(self.path.partition("?")[0]).removeprefix("/") or "index.html"
        source = self.server.files.get(address)
        try:
            opened = None if source is None else io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        except OSError:
            opened = None
        if opened is None:
            self.send_error(404)
            return
        with opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(0)
            self.send_response(200)
            self.send_header("Content-Type", _TYPES.get(PurePosixPath(address).suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(size))
            self.send_header("Cache-Control", "no-store")
            # WebAssembly gets threads only on a page that nothing of elsewhere shares
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.end_headers()
            if body:
                shutil.copyfileobj(opened, self.wfile)

    def log_message(self, *_: Any) -> None:
        """Nothing: the command's output is the address."""
