"""Every command prints in any encoding, and fails if its output cannot be written."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cifarnet import cli
from cifarnet.cli.export import _print_result
from cifarnet.data import load_dataset
from tests.golden_apps import app
from tests.records import document, put
from tests.report_runs import run_of
from tests.runtime import models

COLORS = {"красный": (200, 10, 10), "µ grün": (10, 200, 10), "→ 蓝": (10, 10, 200)}
RUN, PHOTOS, MODEL = "runs/прогон", "фото", "модель.onnx"
COMMANDS = {
    "train": (),
    "tune": (),
    "evaluate": (MODEL, "--images", PHOTOS),
    "report": ("прогон",),
    "export": (),
    "inspect": (MODEL,),
    "predict": (MODEL, PHOTOS),
    "compare": (),
    "reproduce": (),
    "conformance": ("ответы.json",),
    "robustness": ("прогон",),
    "demo": (),
    "doctor": ("--no-timing",),
    "data": ("check", "data"),
}
"""Arguments with which each command succeeds in the folder ``worked``; none where it needs a framework or a network."""
HELP = [(name, "--help") for name in COMMANDS] + [("data", "fetch", "--help"), ("--help",), ("--version",)]
PRINTING = [
    *((name, *arguments) for name, arguments in COMMANDS.items() if arguments),
    ("evaluate", MODEL, MODEL, "--images", PHOTOS),
    ("predict", MODEL, PHOTOS, "--csv"),
]
JSON = [(*command, "--json") for command in PRINTING if command[0] in ("evaluate", "inspect", "conformance", "data")]


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """Return a folder with a model, images and a run, all of whose names are outside of most encodings."""
    folder = tmp_path_factory.mktemp("folder")
    for split in ("train", "test"):
        for label, color in COLORS.items():
            place = folder / "data" / split / label
            place.mkdir(parents=True)
            for number in range(2):
                pixels = np.full((32, 32, 3), color, np.uint8)
                pixels[0, 0] = 10 * (split == "train") + number  # no test image is trained on
                Image.fromarray(pixels).save(place / f"{number}.png")
    (folder / PHOTOS).symlink_to(folder / "data" / "test")
    (folder / "part").mkdir()
    (folder / "part" / "красный").symlink_to(folder / "data" / "test" / "красный")
    dataset = load_dataset(str(folder / "data"))
    run = run_of(folder / RUN, dataset)
    put(run, document(run) | {"data": document(run)["data"] | {"source": str(folder / "data")}})
    run.best_weights.touch()
    content = models.content(contract=models.contract(labels=list(dataset.labels), training={}))
    run.model.write_bytes(content)
    (folder / MODEL).write_bytes(content)
    (folder / "ответы.json").write_text(json.dumps(app()), encoding="utf-8")
    return folder


@pytest.fixture
def printed(monkeypatch, worked):
    """Return a function that runs ``cifarnet`` with stdout in an encoding and returns exit code and text."""
    monkeypatch.chdir(worked)

    def printed(encoding, *arguments):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        monkeypatch.setattr(sys, "argv", ["cifarnet", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
        sys.stdout.flush()
        return done.value.code or 0, written.getvalue().decode(encoding)

    return printed


def test_every_command_is_listed_here():
    program = cli.program()
    assert [info.name for info in (*program.registered_commands, *program.registered_groups)] == list(COMMANDS)


@pytest.mark.parametrize(
    ("encoding", "command"),
    [("ascii", command) for command in (*PRINTING, *HELP)] + [("gbk", PRINTING[0])],
    ids=lambda each: each if isinstance(each, str) else " ".join(each),
)
def test_a_command_prints_in_any_encoding(printed, encoding, command):
    code, text = printed(encoding, *command)
    assert code == 0
    assert text


@pytest.mark.parametrize("command", JSON, ids=" ".join)
def test_json_is_the_same_in_any_encoding(printed, command):
    code, text = printed("ascii", *command)
    assert (code, json.loads(text)) == (0, json.loads(printed("utf-8", *command)[1]))


def test_characters_that_an_encoding_lacks_are_escaped(printed):
    _, text = printed("cp1252", "predict", MODEL, PHOTOS, "--csv", "--top", "1")
    labels = {row[1] for row in csv.reader(text.splitlines()[1:])}
    assert labels == {"\\u043a\\u0440\\u0430\\u0441\\u043d\\u044b\\u0439", "µ grün", "\\u2192 \\u84dd"}


def test_the_microseconds_of_an_export_are_printed_in_any_encoding(printed, monkeypatch):
    latency = SimpleNamespace(speedup=2.0, batch_size=1, microseconds=5.0, float32_microseconds=10.0)
    parity = SimpleNamespace(
        checks=[SimpleNamespace(probability_difference=0.0)], images=1, accuracy=1, trained_accuracy=1
    )
    exported = SimpleNamespace(
        path=Path("a.onnx"), precision="int8", size_bytes=1, sha256="0", parity=parity, latencies=[latency]
    )
    monkeypatch.setattr(cli, "app", lambda: sys.exit(_print_result(exported)))
    for encoding in ("ascii", "gbk"):
        code, text = printed(encoding)
        assert (code, text.count("\\xb5s")) == (0, 2)


# Streams that are closed or full


def shell(line, folder):
    """Run a line in which ``cifarnet`` stands for the command; return exit code, stdout and stderr."""
    line = line.replace("cifarnet", f"{sys.executable} -m cifarnet", 1)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    return done.returncode, done.stdout, done.stderr


FULL, CLOSED = ("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")


@pytest.mark.parametrize(
    ("command", "stream"),
    [
        (f"predict {MODEL} {PHOTOS} --csv", FULL),
        (f"inspect {MODEL}", CLOSED),
        ("doctor --no-timing --json", FULL),
        ("--version", CLOSED),
        ("--help", FULL),
    ],
)
def test_output_that_cannot_be_written_is_an_error(worked, command, stream):
    redirected, reason = stream
    code, _, stderr = shell(f"cifarnet {command} {redirected}", worked)
    assert code == 1
    assert re.fullmatch(
        f"error: (standard output|the system): {reason}; check space and permissions", stderr.splitlines()[-1]
    )
    assert "Exception ignored" not in stderr


def test_a_closed_pipe_ends_the_command_silently(worked):
    line = "cifarnet predict модель.onnx фото фото фото --json | true; echo ${PIPESTATUS[0]}"
    assert shell(line, worked) == (0, "1\n", "")


@pytest.mark.parametrize("redirected", ["2> /dev/full", "2>&-"])
def test_messages_that_cannot_be_written_do_not_matter(worked, redirected):
    line = f"cifarnet evaluate {MODEL} --images part --json"
    _, expected, stderr = shell(line, worked)
    assert "no images of " in stderr
    assert shell(f"{line} {redirected}", worked) == (0, expected, "")
    assert shell(f"cifarnet evaluate nothing {redirected}", worked) == (1, "", "")


def test_closed_standard_input_contains_no_image(worked):
    code, _, stderr = shell(f"cifarnet predict {MODEL} - <&-", worked)
    assert code == 1
    assert stderr.startswith("error: standard input: ")


def test_no_file_replaces_a_closed_stream(worked):
    code, _, _ = shell("cifarnet report прогон >&- 2>&-", worked)
    assert code == 1
    assert (worked / RUN / "report.html").read_text(encoding="utf-8").endswith("</html>")


def test_results_that_cannot_be_printed_are_stored(worked):
    kept = worked / RUN / "robustness.json"
    kept.unlink()
    code, _, _ = shell("cifarnet robustness прогон > /dev/full", worked)
    assert code == 1
    assert json.loads(kept.read_text(encoding="utf-8"))["families"]
