"""The demo serves the page and the model to this machine only, or gives one error line."""

import html
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from cifarnet.apps import assets as where
from cifarnet.apps import demo
from cifarnet.apps.assets import package_data
from cifarnet.errors import IntegrityError, ModelError, UsageError
from tests.records import RUNNING

MODEL = package_data() / "golden" / "model.onnx"
PROJECT = Path(__file__).parents[1]
LEFT_AT_HOME = {".npmrc", "package-lock.json", "screenshot.png"}
"""Files of the page's folder that the wheel does without."""


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """Put a small file where onnxruntime-web's files would be."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    (folder / "ort.wasm").write_bytes(b"wasm")
    monkeypatch.setattr(demo, "_runtime", lambda: folder)
    return folder


@pytest.fixture
def server(runtime):
    with demo.open_demo(MODEL, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def get(server):
    """Return a function that asks for a path as it stands, and returns status, headers and content."""

    def get(path):
        connection = http.client.HTTPConnection(*server.server_address, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content

    return get


def test_the_root_redirects_to_the_page(get, server):
    status, headers, _ = get("/")
    assert (status, headers["Location"]) == (302, "/browser/")
    status, headers, content = get("/browser/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert content == (package_data() / "browser" / "index.html").read_bytes()
    assert server.url.endswith("/browser/")


def test_the_model_is_served_with_its_contract(get):
    assert get("/browser/model.onnx")[2] == MODEL.read_bytes()
    assert json.loads(get("/browser/model.json")[2]) == json.loads(MODEL.with_suffix(".json").read_text())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/browser/app.js", "text/javascript; charset=utf-8"),
        ("/browser/style.css", "text/css; charset=utf-8"),
        ("/browser/node_modules/onnxruntime-web/dist/ort.wasm", "application/wasm"),
        ("/golden/golden.json", "application/json"),
        ("/golden/images/exact.png", "image/png"),
    ],
)
def test_each_file_has_its_content_type(get, path, kind):
    status, headers, content = get(path)
    assert (status, headers["Content-Type"]) == (200, kind)
    assert content


def test_caching_is_disabled(get):
    for path in ("/browser/", "/browser/app.js", "/browser/model.onnx"):
        assert get(path)[1]["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/pyproject.toml",
        "/browser/node_modules/onnxruntime-web/dist/../../../../../pyproject.toml",
        "/golden/",
        "/golden/images/",
        "/pyproject.toml",
    ],
)
def test_nothing_else_is_served(get, path):
    assert get(path)[0] == 404


def answer_to(server, request: bytes) -> bytes:
    """Return the first line of the answer to a request that is sent as it stands."""
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline().strip()


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "evil.example",
        "localhost.evil.example:{port}",
        "[::1].evil.example",
        "localhost:{port}x",
        "",
    ],
)
def test_a_foreign_host_header_is_refused(server, host):
    named = f"Host: {host}\r\n" if host else ""
    request = f"GET /browser/model.onnx HTTP/1.1\r\n{named}\r\n".format(port=server.server_port)
    assert answer_to(server, request.encode()).split()[1] == b"403"


def test_a_refusal_names_the_address_to_open(server):
    connection = http.client.HTTPConnection(*server.server_address, timeout=10)
    connection.request("GET", "/browser/", headers={"Host": "<b>gpu.example"})
    answer = connection.getresponse()
    page = html.unescape(answer.read().decode())
    connection.close()
    port = server.server_port
    assert (answer.status, answer.headers.get_content_charset()) == (403, "utf-8")
    assert (
        f"the address names the host '<b>gpu.example'; expected localhost or 127.0.0.1: open http://localhost:{port}/"
        in page
    )
    assert f"`ssh -L {port}:localhost:{port} HOST`" in page


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:{port}", "LocalHost:9000", "[::1]:{port}"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_local_host_headers_are_accepted_with_any_port(server, method, host):
    request = f"{method} /browser/model.onnx HTTP/1.1\r\nHost: {host}\r\n\r\n".format(port=server.server_port)
    assert answer_to(server, request.encode()).split()[1] == b"200"


@pytest.fixture
def answered(server, monkeypatch):
    """Return an event that is set once a request is over and its error was handled."""
    over, close = threading.Event(), server.shutdown_request
    monkeypatch.setattr(server, "shutdown_request", lambda request: (close(request), over.set()))
    return over


def test_a_closed_connection_is_ignored(server, answered, capfd):
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(b"GET /bro")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing is a reset then
    assert answered.wait(timeout=10)
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_server_is_not_hidden(server, answered, monkeypatch, capfd):
    monkeypatch.setattr(server, "in_memory", None)
    assert answer_to(server, f"GET /x HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n\r\n".encode()) == b""
    assert answered.wait(timeout=10)
    assert "AttributeError" in capfd.readouterr().err


def test_only_the_loopback_interface_is_used(server):
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_reported(runtime):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^port {port} cannot be used \(Address already in use\); .*--port$"):
            demo.open_demo(MODEL, port)


@pytest.fixture
def page(monkeypatch, tmp_path):
    """Let the page lie in a folder where npm has not been, as in a fresh clone or an installed package."""
    folder = tmp_path / "package"
    (folder / "browser").mkdir(parents=True)
    (folder / "browser" / "package.json").write_bytes((package_data() / "browser" / "package.json").read_bytes())
    monkeypatch.setattr(demo, "package_data", lambda: folder)
    return folder / "browser"


def test_a_missing_runtime_is_reported_with_the_install_command(page, monkeypatch, tmp_path):
    cache = tmp_path / "a cache"
    monkeypatch.setenv("CIFARNET_CACHE", str(cache))
    with pytest.raises(UsageError) as caught:
        demo.open_demo(MODEL, 0)
    pinned = json.loads((package_data() / "browser" / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    assert str(caught.value).endswith(
        f"npm install --ignore-scripts --prefix '{cache / 'browser'}' onnxruntime-web@{pinned}"
    )
    (cache / "browser" / demo.RUNTIME).mkdir(parents=True)
    demo.open_demo(MODEL, 0).server_close()


def test_a_runtime_installed_beside_the_page_is_used(page, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path / "cache"))
    (page / demo.RUNTIME).mkdir(parents=True)
    with demo.open_demo(MODEL, 0) as server:
        assert server.runtime == page / demo.RUNTIME


def test_a_file_that_is_no_model_is_refused(runtime, tmp_path):
    (tmp_path / "model.onnx").write_bytes(MODEL.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"model\.onnx does not end in the SHA-256 of its content"):
        demo.open_demo(tmp_path / "model.onnx", 0)


def test_the_command_prints_the_address_and_ends_with_ctrl_c(tmp_path):
    run = tmp_path / "runs" / "sto\x1bred"  # \x1b would command the terminal
    run.mkdir(parents=True)
    facts = {"recipe": "golden", "backend": "none", "data": RUNNING["data"] | {"fingerprint": ""}}
    facts["model"] = json.loads(MODEL.with_suffix(".json").read_text())["model"]
    (run / "run.json").write_text(json.dumps(RUNNING | facts))
    (run / "model.onnx").write_bytes(MODEL.read_bytes())
    (tmp_path / "cache" / "browser" / demo.RUNTIME).mkdir(parents=True)
    program = (
        # A suite in the background hands down that Ctrl-C is to be ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cifarnet.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "demo", "--port", "0"]
    environment = os.environ | {"CIFARNET_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stdout.readline().strip()
        connection = http.client.HTTPConnection(address.removeprefix("http://").removesuffix("/browser/"), timeout=10)
        connection.request("GET", "/browser/model.onnx")
        content = connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=30)
        finally:
            process.kill()  # or leaving the block would wait for ever
    assert content == MODEL.read_bytes()
    assert (process.returncode, stderr) == (
        130,
        "serving runs/sto\\x1bred/model.onnx; press Ctrl-C to stop\ninterrupted\n",
    )


def test_the_wheel_contains_every_file_of_the_page():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    taken = {Path(source) for source in settings["force-include"]}
    files = {path.relative_to(PROJECT) for path in (PROJECT / "export" / "browser").iterdir() if path.is_file()}
    assert taken == {file for file in files if file.name not in LEFT_AT_HOME} | {Path("export/golden")}
    for source, target in settings["force-include"].items():
        assert target == f"cifarnet/_{source}"


def test_missing_package_data_is_reported_with_a_solution(monkeypatch, tmp_path):
    monkeypatch.setattr(where, "INSTALLED", tmp_path / "installed")
    monkeypatch.setattr(where, "CHECKOUT", tmp_path / "checkout")
    with pytest.raises(IntegrityError) as caught:
        package_data()
    assert str(caught.value) == (
        f"golden/golden.json is neither in {tmp_path}/installed nor in {tmp_path}/checkout; expected it in the "
        "package: pip install --force-reinstall --no-deps cifarnet"
    )
