"""Bring a file over HTTP: resumed where an earlier attempt ended, and proved before anybody reads it."""

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from cifarnet.atomic import reason
from cifarnet.errors import DataError, FetchError, IntegrityError

from .progress import Progress
from .sources import HttpArchive
from .storage import disk_errors, write_all

_CONNECT_TIMEOUT_S = 5.0
"""An unreachable host is given up while a person still waits."""

_READ_TIMEOUT_S = 30.0
"""A slow line may stall for longer than a connection may take."""

_ATTEMPTS = 5
"""A line that drops is taken up again as long as each attempt brings something."""

_CHUNK_BYTES = 1 << 18


def download(source: HttpArchive, folder: Path, progress: Progress) -> Path:
    """Bring the archive into a folder, going on where an earlier attempt ended.

    Returns the path of a file with the promised size and MD5. Raises FetchError when the host cannot be reached or
    the line drops (what has arrived stays for the next attempt), IntegrityError when the bytes are others (nothing
    stays), DataError when the disk is full (nothing stays).
    """
    target, partial = (folder / name for name in source.file_names)
    for _ in range(_ATTEMPTS):
        if _size_bytes(partial) >= source.size_bytes:
            break
        _advance(source, partial, progress)
    _check(source, partial)
    return partial.replace(target)


def _advance(source: HttpArchive, partial: Path, progress: Progress) -> None:
    """Make one attempt; one that brought nothing raises its FetchError."""
    before_bytes = _size_bytes(partial)
    try:
        _transfer(source, partial, progress)
    except (OSError, http.client.HTTPException) as error:
        if _size_bytes(partial) <= before_bytes:
            raise FetchError(_reason(error)) from error


def _transfer(source: HttpArchive, partial: Path, progress: Progress) -> None:
    with _request(source, partial) as response:
        # 206 means that the server goes on at our offset; anything else starts from the first byte
        done_bytes = _size_bytes(partial) if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        _check_announcement(source, partial, done_bytes, response.length)
        _append(response, partial, done_bytes, source, progress)


def _append(
    response: http.client.HTTPResponse, partial: Path, done_bytes: int, source: HttpArchive, progress: Progress
) -> None:
    with disk_errors(partial):
        file = partial.open("ab" if done_bytes else "wb")
    with file:
        while done_bytes <= source.size_bytes and (chunk := response.read(_CHUNK_BYTES)):
            try:
                with disk_errors(partial):
                    write_all(file, chunk)
            except DataError:
                partial.unlink()
                raise
            done_bytes += len(chunk)
            progress("downloading", done_bytes, source.size_bytes)


def _check_announcement(source: HttpArchive, partial: Path, done_bytes: int, announced_bytes: int | None) -> None:
    """Refuse another file before it is brought here; a chunked answer announces nothing."""
    if announced_bytes is not None and done_bytes + announced_bytes != source.size_bytes:
        partial.unlink(missing_ok=True)
        raise IntegrityError(
            f"{source.url} offers {done_bytes + announced_bytes} bytes; expected {source.size_bytes}: it was altered, "
            "or something between answers instead of it"
        )


def _check(source: HttpArchive, partial: Path) -> None:
    size_bytes = _size_bytes(partial)
    if size_bytes < source.size_bytes:
        raise FetchError(
            f"the line dropped after {size_bytes} of {source.size_bytes} bytes: run again to go on from there"
        )
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if size_bytes > source.size_bytes or found != source.md5:
        partial.unlink()
        raise IntegrityError(
            f"{source.url} gave {size_bytes} bytes with MD5 {found}; expected {source.size_bytes} with "
            f"{source.md5}: the download was deleted, run again"
        )


def _request(source: HttpArchive, partial: Path) -> http.client.HTTPResponse:
    headers = {"User-Agent": "cifarnet"}
    if offset := _size_bytes(partial):
        headers["Range"] = f"bytes={offset}-"
    opener = urllib.request.build_opener(_HttpHandler, _HttpsHandler)
    response: http.client.HTTPResponse = opener.open(
        urllib.request.Request(source.url, headers=headers), timeout=_CONNECT_TIMEOUT_S
    )
    return response


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection: {error.reason if isinstance(error.reason, str) else reason(error.reason)}"
    return f"the line dropped: {reason(error) or type(error).__name__}"


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _HttpConnection(http.client.HTTPConnection):
    """Waits longer for data than for the connection; urllib knows one time limit for both."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_READ_TIMEOUT_S)


class _HttpsConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_READ_TIMEOUT_S)


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, request)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        # the default context verifies, and honours SSL_CERT_FILE and SSL_CERT_DIR
        return self.do_open(_HttpsConnection, request, context=ssl.create_default_context())
