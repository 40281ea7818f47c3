"""Serve a page that classifies images with a model file, on the loopback interface."""

import base64
import json
import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cifarnet.errors import CifarnetError, UsageError, reason
from cifarnet.runtime import Classifier
from cifarnet.runtime.inputs import as_batch

from . import package_data

ADDRESS = "127.0.0.1"
"""Loopback address, not reachable from other machines."""
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
"""Accepted Host headers, with any port, since a tunnel may use another one."""
FOREIGN_HOST = (
    "the address names the host {host!r}; expected localhost or 127.0.0.1: open http://localhost:{port}/, from another "
    "machine through `ssh -L {port}:localhost:{port} HOST`"
)
MAX_BYTES = 100_000_000
"""Maximum size of an image file; each request holds one in memory."""
CHUNK_BYTES = 1_000_000
"""Bytes of a file above that size that are read at once, to be thrown away."""
PAGE = {"/": "index.html", "/app.js": "app.js", "/main.js": "demo.js", "/style.css": "style.css"}
"""Files of the page by URL path. ``main.js`` is the part that runs onnxruntime-web, in an app without this server."""
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
"""Content types; the system's table may lack some, and browsers refuse modules of another type."""


class DemoServer(ThreadingHTTPServer):
    """Serves the page and the contract of a model from memory, and classifies image files."""

    def __init__(self, port: int, classifier: Classifier, files: Mapping[str, tuple[bytes, str]]) -> None:
        super().__init__((ADDRESS, port), Handler)
        self.classifier, self.files = classifier, files

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def classify(self, file: bytes) -> dict[str, object]:
        """Return the model's input, base64 of uint8 (h, w, 3), and the probabilities in the order of the labels.

        The probabilities are calibrated ones if the model file has a temperature. Raises as ``Classifier``.
        """
        classifier = self.classifier
        images = as_batch(file, classifier.image_shape)
        is_calibrated = classifier.temperature is not None
        probabilities = classifier.calibrated(images) if is_calibrated else classifier.probabilities(images)
        return {"pixels": base64.b64encode(images.tobytes()).decode(), "probabilities": probabilities[0].tolist()}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore closed connections; print the traceback of other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Handles one request. A refusal is one line of plain text."""

    server: DemoServer

    @property
    def _place(self) -> str:
        """Path of the URL without its query."""
        return self.path.partition("?")[0]

    def do_GET(self) -> None:
        """Send a file of the page, or to HEAD only its headers."""
        if not self._is_local():
            return
        if self._place in self.server.files:
            self._send(HTTPStatus.OK, *self.server.files[self._place])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"{self._place} is not part of the page: open /")

    do_HEAD = do_GET  # noqa: N815  # the same without the content

    def do_POST(self) -> None:
        """Classify the image file in the body."""
        if not self._is_local() or not self._is_same_origin():
            return
        if self._place != "/classify":
            self._refuse(HTTPStatus.NOT_FOUND, f"{self._place} takes no images: send them to /classify")
        elif (file := self._body()) is not None:
            try:
                answer = json.dumps(self.server.classify(file))
            except CifarnetError as error:
                self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
            else:
                self._send(HTTPStatus.OK, answer.encode(), TYPES[".json"])

    def _is_local(self) -> bool:
        """Refuse foreign hosts: any site may resolve its name to this address (DNS rebinding)."""
        host = self.headers.get("Host", "")
        if LOCAL_HOST.fullmatch(host):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, FOREIGN_HOST.format(host=host, port=self.server.server_port))
        return False

    def _is_same_origin(self) -> bool:
        """Refuse pages of other origins, for which a browser sends a file without asking. Programs name no origin."""
        origin, own = self.headers.get("Origin"), f"http://{self.headers['Host']}"
        if origin in (None, own):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"the request comes from {origin!r}; expected {own}: open {own}/")
        return False

    def _body(self) -> bytes | None:
        """Return the body, or refuse one of unknown or too large size."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, f"Content-Length is {length!r}; expected the size: send it")
        elif (size := int(length)) > MAX_BYTES:
            message = f"the file has {size:,} bytes; expected at most {MAX_BYTES:,}: scale the image down"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
            while size > 0 and (chunk := self.rfile.read(min(size, CHUNK_BYTES))):  # or a browser reports no answer
                size -= len(chunk)
        else:
            return self.rfile.read(size)
        return None

    def _refuse(self, status: HTTPStatus, line: str) -> None:
        self._send(status, line.encode(), TYPES[".txt"])

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")  # the next demo on this port may have another model
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Do not log requests to the terminal."""


def open_demo(model: Path, port: int) -> DemoServer:
    """Return a listening server; port 0 chooses a free one. Raises ``ModelError``, and ``UsageError`` for the port."""
    classifier, folder = Classifier(model), package_data() / "browser"
    files = {path: ((folder / name).read_bytes(), TYPES[Path(name).suffix]) for path, name in PAGE.items()}
    files["/model.json"] = (json.dumps(classifier.contract).encode(), TYPES[".json"])
    try:
        return DemoServer(port, classifier, files)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"port {port} cannot be used ({reason(error)}); expected a free one: give another with --port"
        ) from error
