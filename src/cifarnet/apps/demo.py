"""Serve the browser app with a run's model, to this machine alone."""

import io
import json
import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from cifarnet.atomic import reason
from cifarnet.contract import shell_word
from cifarnet.data.cache import cache_folder
from cifarnet.errors import ModelError, UsageError
from cifarnet.run_folder import Run
from cifarnet.run_state import require_own_export
from cifarnet.runtime import read_model

from .assets import shipped

ADDRESS = "127.0.0.1"
"""Of this machine, and not to be reached from any other."""
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
"""Values of the Host header that name the browser's own machine, at any port: a tunnel may have another one."""
FOREIGN_HOST = (
    "the address names the host {host!r}; expected localhost or 127.0.0.1: open http://localhost:{port}/, from another "
    "machine through `ssh -L {port}:localhost:{port} HOST`"
)
PAGE = "/browser/"
RUNTIME = "node_modules/onnxruntime-web/dist"
"""Where npm puts the runtime's files, seen from the page and from the folder that they were installed in."""


class DemoServer(ThreadingHTTPServer):
    """Serves the folder ``export``, the runtime of the browser, and the model in memory in place of a file."""

    def __init__(self, port: int, folder: Path, runtime: Path, made: Mapping[str, bytes]) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.folder, self.runtime, self.made = folder, runtime, made

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{ADDRESS}:{self.server_port}{PAGE}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that hung up; anything else is told with its traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(SimpleHTTPRequestHandler):
    """Answers one request."""

    # The system's own table may lack these, and a browser runs no module of another type.
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
        """Send the headers and return the content to be sent, if any."""
        # Any site may give its name this machine's address (DNS rebinding), and would then read what is served here.
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
        content = self._demo.made.get(self.path)
        return super().send_head() if content is None else self._send_made(content)

    def _send_made(self, content: bytes) -> io.BytesIO:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(self.path))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)

    def translate_path(self, path: str) -> str:
        """Return the file behind an address."""
        prefix = f"{PAGE}{RUNTIME}/"
        inside = path.startswith(prefix)
        self.directory = str(self._demo.runtime if inside else self._demo.folder)
        return super().translate_path(f"/{path.removeprefix(prefix)}" if inside else path)

    def list_directory(self, path: Any) -> None:
        """Refuse: nobody needs to browse here."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Forbid copies: the next demo on this port has another model."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Say nothing: the terminal is the person's."""


def open_demo(model: Path, port: int) -> DemoServer:
    """Return a server, already listening, that shows the page with the model file; port 0 takes a free one.

    Raises ``ModelError`` for a file that is not ours and ``UsageError`` where the browser's runtime is missing or the
    port is taken.
    """
    content, contract = read_model(model)
    made = {"model.onnx": content, "model.json": json.dumps(contract).encode()}
    runtime = _runtime()
    try:
        return DemoServer(port, shipped(), runtime, {PAGE + name: data for name, data in made.items()})
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"port {port} cannot be used ({reason(error)}); expected a free one: give another with --port"
        ) from error


def model_of(run: Run) -> Path:
    """Return the model file of a run. Raises ``ModelError`` when it has none yet, and as ``require_own_export``."""
    path = run.model
    if not path.is_file():
        raise ModelError(f"{run} has no model.onnx yet; expected one: `cifarnet export {shell_word(str(run))}`")
    require_own_export(run)
    return path


def _runtime() -> Path:
    """Return the folder of onnxruntime-web's files. Raises ``UsageError`` that says how to get them.

    Beside the page they lie in a clone whose apps are tested. What is typed for the demo goes to the cache, since an
    installed package may be read-only.
    """
    app, cache = shipped() / "browser", cache_folder() / "browser"
    for home in (app, cache):
        if (home / RUNTIME).is_dir():
            return home / RUNTIME
    version = json.loads((app / "package.json").read_text(encoding="utf-8"))["dependencies"]["onnxruntime-web"]
    raise UsageError(
        f"the browser's runtime is neither in {app} nor in {cache}; expected onnxruntime-web, which npm brings once: "
        f"npm install --ignore-scripts --prefix {shell_word(str(cache))} onnxruntime-web@{version}"
    )
