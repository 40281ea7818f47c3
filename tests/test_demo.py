"""The demo serves the page and classifies for this machine only, exactly as ``Classifier``, or says one error line."""

import base64
import http.client
import io
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest
from benchmarks.apps import running
from PIL import Image

from cifarnet import apps
from cifarnet.apps import demo, package_data
from cifarnet.errors import DataError, IntegrityError, ModelError, UsageError
from cifarnet.preprocessing import pixels
from cifarnet.runtime import Classifier
from tests.records import RUNNING
from tests.runtime import models

MODEL = package_data() / "golden" / "model.onnx"
WIDE = (MODEL.parent / "images" / "wide.png").read_bytes()
PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def server():
    """Return a running demo of the golden model."""
    with running(demo.open_demo(MODEL, 0)) as server:
        yield server


@pytest.fixture
def ask(server):
    """Return a function that sends a request as it stands, and returns status, headers and content."""

    def ask(path, file=None, **headers):
        connection = http.client.HTTPConnection(*server.server_address, timeout=10)
        connection.request("GET" if file is None else "POST", path, file, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content

    return ask


def test_the_contract_and_each_file_of_the_page_are_served_with_their_type_uncached_and_nothing_else(ask):
    assert json.loads(ask("/model.json")[2]) == json.loads(MODEL.with_suffix(".json").read_text())
    for path, file, language in (
        ("/?x=1", "index.html", "html"),
        ("/app.js", "app.js", "javascript"),
        ("/main.js", "demo.js", "javascript"),
        ("/style.css", "style.css", "css"),
    ):
        status, headers, content = ask(path)
        kind = f"text/{language}; charset=utf-8"
        assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, kind, "no-store"), path
        assert content == (package_data() / "browser" / file).read_bytes()
    for path in ("/../pyproject.toml", "/%2e%2e/pyproject.toml", "/classifier.js", "/classify"):
        assert ask(path)[0] == 404


@pytest.mark.parametrize(("path", "status"), [("/app.js?v=2", 200), ("/classifier.js", 404)])
def test_head_is_answered_as_get_without_the_content(server, ask, path, status):
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head, _, content = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert (int(head.split()[1]), content) == (status, b"")
    assert f"Content-Length: {len(ask(path)[2])}\r\n".encode() in head


@pytest.mark.parametrize("name", ["turned.jpg", "grey-16-bit.png"])
def test_an_image_file_is_classified_exactly_as_by_the_library(ask, name):
    file = (MODEL.parent / "images" / name).read_bytes()
    answer = json.loads(ask("/classify", file)[2])
    np.testing.assert_array_equal(np.float32(answer["probabilities"]), Classifier(MODEL).calibrated(file)[0])
    sent = np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8).reshape(32, 32, 3)
    np.testing.assert_array_equal(sent, pixels(Image.open(io.BytesIO(file))))


@pytest.mark.parametrize("content", [models.content(), models.sized(48)])
def test_a_model_of_another_size_or_without_calibration_is_used_too(content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    with demo.open_demo(tmp_path / "model.onnx", 0) as server:
        answer = server.classify(WIDE)
    np.testing.assert_array_equal(answer["probabilities"], Classifier(content).probabilities(WIDE)[0])


def test_a_broken_image_is_refused_with_the_line_of_the_library(ask):
    status, headers, content = ask("/classify", b"no image")
    with pytest.raises(DataError) as caught:
        Classifier(MODEL)(b"no image")
    assert (status, headers["Content-Type"]) == (422, "text/plain; charset=utf-8")
    assert content.decode() == str(caught.value)


def test_a_file_above_the_limit_is_refused_after_it_was_sent(ask, monkeypatch):
    monkeypatch.setattr(demo, "MAX_BYTES", 5_000_000)
    status, _, content = ask("/classify", bytes(5_000_001))
    assert (status, content) == (413, b"the file has 5,000,001 bytes; expected at most 5,000,000: scale the image down")


@pytest.mark.parametrize("length", ["", "Content-Length: -1\r\n", f"Content-Length: {'9' * 5000}\r\n"])
def test_a_file_of_unknown_size_is_refused(server, length):
    request = f"POST /classify HTTP/1.1\r\nHost: localhost\r\n{length}\r\n"
    assert answer_to(server, request.encode()).split()[1] == b"411"


def test_only_pages_of_this_server_may_send_images(ask, server):
    file, own = WIDE, f"127.0.0.1:{server.server_port}"
    for origin in ("https://evil.example", f"http://127.0.0.1:{server.server_port + 1}", "null"):
        status, _, content = ask("/classify", file, Origin=origin)
        assert (status, content.decode().partition(";")[0]) == (403, f"the request comes from '{origin}'")
    assert ask("/classify", file, Origin=f"http://{own}")[0] == 200
    assert ask("/classify", file, Host="localhost:9000", Origin="http://localhost:9000")[0] == 200  # through a tunnel
    assert ask("/classify", file, Host="evil.example", Origin="http://evil.example")[0] == 403


def answer_to(server, request: bytes) -> bytes:
    """Return the first line of the answer to a request that is sent as it stands."""
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline().strip()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example:{port}", 403),
        ("localhost.evil.example:{port}", 403),
        ("[::1].evil.example", 403),
        ("localhost:{port}x", 403),
        ("", 403),
        ("127.0.0.1", 200),
        ("LocalHost:9000", 200),
        ("[::1]:{port}", 200),
    ],
)
def test_local_host_headers_are_accepted_with_any_port_and_others_refused(server, host, status):
    assert server.server_address[0] == "127.0.0.1"
    named = f"Host: {host}\r\n" if host else ""
    request = f"GET /model.json HTTP/1.1\r\n{named}\r\n".format(port=server.server_port)
    assert answer_to(server, request.encode()).split()[1] == str(status).encode()


def test_a_refusal_names_the_address_to_open(ask, server):
    status, headers, content = ask("/", Host="<b>gpu.example")
    port = server.server_port
    message = (
        f"the address names the host '<b>gpu.example'; expected localhost or 127.0.0.1: open http://localhost:{port}/, "
        f"from another machine through `ssh -L {port}:localhost:{port} HOST`"
    )
    assert (status, headers["Content-Type"], content.decode()) == (403, "text/plain; charset=utf-8", message)


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
    monkeypatch.setattr(server, "files", None)
    assert answer_to(server, f"GET /x HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n\r\n".encode()) == b""
    assert answered.wait(timeout=10)
    assert "TypeError" in capfd.readouterr().err


def test_a_port_in_use_is_reported():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^port {port} cannot be used \(Address already in use\); .*--port$"):
            demo.open_demo(MODEL, port)


def test_a_file_that_is_no_model_is_refused(tmp_path):
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
    program = (
        # A suite in the background hands down that Ctrl-C is to be ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cifarnet.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "demo", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        connection = http.client.HTTPConnection(address.removeprefix("http://").removesuffix("/"), timeout=10)
        connection.request("GET", "/model.json")
        content = connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        try:
            _, stderr = process.communicate(timeout=30)
        finally:
            process.kill()  # or leaving the block would wait for ever
    assert json.loads(content)["model"] == facts["model"]
    assert (process.returncode, stderr) == (
        130,
        "serving runs/sto\\x1bred/model.onnx; press Ctrl-C to stop\ninterrupted\n",
    )


def test_the_wheel_contains_the_page_and_the_golden_images():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    files = {f"export/browser/{file}" for file in demo.PAGE.values()} | {"export/golden"}
    assert settings["force-include"] == {file: f"cifarnet/_{file}" for file in files}


def test_missing_package_data_is_reported_with_a_solution(monkeypatch, tmp_path):
    monkeypatch.setattr(apps, "INSTALLED", tmp_path / "installed")
    monkeypatch.setattr(apps, "CHECKOUT", tmp_path / "checkout")
    with pytest.raises(IntegrityError) as caught:
        package_data()
    assert str(caught.value) == (
        f"golden/golden.json is neither in {tmp_path}/installed nor in {tmp_path}/checkout; expected it in the "
        "package: pip install --force-reinstall --no-deps . in your clone of cifarnet"
    )
