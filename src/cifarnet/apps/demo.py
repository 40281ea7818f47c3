"""Serve the browser app with a run's model on the loopback interface."""

import io
import json
import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from cifarnet.data.cache import cache_folder
from cifarnet.errors import UsageError, reason, shell_word
from cifarnet.runtime import read_model

from .assets import package_data

ADDRESS = "127.0.0.1"
"""Loopback address, not reachable from other machines."""
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
"""Accepted Host headers, with any port, since a tunnel may use another one."""
FOREIGN_HOST = (
    "the address names the host {host!r}; expected localhost or 127.0.0.1: open http://localhost:{port}/, from another "
    "machine through `ssh -L {port}:localhost:{port} HOST`"
)
PAGE = "/browser/"
RUNTIME = "node_modules/onnxruntime-web/dist"
"""Folder of the runtime's files, relative to the page and to the folder of the npm installation."""


class DemoServer(ThreadingHTTPServer):
    """Serves the folder ``export``, onnxruntime-web, and the model from memory."""

    def __init__(self, port: int, folder: Path, runtime: Path, in_memory: Mapping[str, bytes]) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.folder, self.runtime, self.in_memory = folder, runtime, in_memory

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{ADDRESS}:{self.server_port}{PAGE}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore closed connections; print the traceback of other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(SimpleHTTPRequestHandler):
    """Handles one request."""

    # The system's table may lack these, and browsers refuse modules of another type.
    extensions_map = {  # noqa: RUF012  # as the base class declares it
        **SimpleHTTPRequestHandler.extensions_map,
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".mjs": "text/javascript; charset=utf-8",
        ".onnx": "application/octet-stream",
        ".wasm": "application/wasm",
    }

    @property
    def _demo(self) -> DemoServer:
        return cast("DemoServer", self.server)

    def send_head(self) -> Any:
        """Send the headers and return the content to send, or None."""
        # DNS rebinding: any site may resolve its name to this address and then read what is served.
        host = self.headers.get("Host", "")
        if not LOCAL_HOST.fullmatch(host):
            self.send_error(HTTPStatus.FORBIDDEN, explain=FOREIGN_HOST.format(host=host, port=self._demo.server_port))
            return None
        if self.path == "/":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", PAGE)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        content = self._demo.in_memory.get(self.path)
        return super().send_head() if content is None else self._send_content(content)

    def _send_content(self, content: bytes) -> io.BytesIO:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(self.path))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)

    def translate_path(self, path: str) -> str:
        """Return the file path of a URL path."""
        prefix = f"{PAGE}{RUNTIME}/"
        inside = path.startswith(prefix)
        self.directory = str(self._demo.runtime if inside else self._demo.folder)
        return super().translate_path(f"/{path.removeprefix(prefix)}" if inside else path)

    def list_directory(self, path: Any) -> None:
        """Refuse to list folders."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Disable caching, since the next demo on this port may have another model."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Do not log requests to the terminal."""


def open_demo(model: Path, port: int) -> DemoServer:
    """Return a listening server of the page and the model; port 0 chooses a free one.

    Raises ``ModelError`` for a file not written by cifarnet and ``UsageError`` if onnxruntime-web is missing or the
    port is in use.
    """
    content, contract = read_model(model)
    files = {"model.onnx": content, "model.json": json.dumps(contract).encode()}
    runtime = _runtime()
    try:
        return DemoServer(port, package_data(), runtime, {PAGE + name: data for name, data in files.items()})
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"port {port} cannot be used ({reason(error)}); expected a free one: give another with --port"
        ) from error


def _runtime() -> Path:
    """Return the folder of onnxruntime-web's files. Raises ``UsageError`` with the command that installs them.

    In a clone they may be installed beside the page. The command installs to the cache, since an installed package may
    be read-only.
    """
    app, cache = package_data() / "browser", cache_folder() / "browser"
    for home in (app, cache):
        if (home / RUNTIME).is_dir():
            return home / RUNTIME
    version = json.loads((app / "package.json").read_text(encoding="utf-8"))["dependencies"]["onnxruntime-web"]
    raise UsageError(
        f"onnxruntime-web is neither in {app} nor in {cache}; expected it there, install it once: "
        f"npm install --ignore-scripts --prefix {shell_word(str(cache))} onnxruntime-web@{version}"
    )
