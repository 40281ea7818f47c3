"""`cifarnet doctor` names conflicting packages and reports a broken backend."""

import json
import sys

import pytest

from cifarnet.apps import doctor
from cifarnet.apps.doctor import Timing, fastest, known_bad_pairs, notes, time_backend
from cifarnet.backends import KERAS_DEFAULTS
from cifarnet.system import print_result, results_in, versions


def test_two_onnxruntime_packages_are_named_with_the_remedy():
    (sentence,) = known_bad_pairs({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.0", "numpy": "2.4.6"})
    assert sentence == (
        "onnxruntime 1.32.0 with onnxruntime-gpu 1.31.0: both install the module onnxruntime, so either may run; "
        "pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu alone"
    )
    assert known_bad_pairs({"onnxruntime-gpu": "1.31.0"}) == known_bad_pairs({"onnxruntime": "1.32.0"}) == []


def test_changed_settings_of_keras_are_noted(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert list(notes({})) == []
    (tmp_path / "keras.json").write_text(json.dumps(KERAS_DEFAULTS | {"backend": "torch"}))
    assert list(notes({})) == []
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": "float16", "epsilon": 0.1}))
    (sentence,) = notes({})
    assert sentence == (f"{tmp_path}/keras.json has floatx float16, epsilon 0.1: cifarnet's models ignore this")


def test_an_unusable_backend_in_the_environment_is_noted(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    assert list(notes({})) == [
        "the backend 'theano' in KERAS_BACKEND is not supported; expected one of jax, torch, tensorflow"
    ]


def test_the_installed_packages_do_not_conflict():
    found = versions()
    assert {"python", "cifarnet", "keras", "numpy"} <= set(found)
    assert known_bad_pairs(found) == []


def test_a_process_that_ends_without_a_result_or_takes_too_long_is_a_failure(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho '{a framework talks}'\necho []\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert time_backend("jax") == Timing("jax", failure="the process ended without a result")
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(doctor, "TIMING_LIMIT_S", 0.05)
    assert time_backend("jax") == Timing("jax", failure="no result within 0.05 s")


def test_a_result_is_found_among_other_output(capsys):
    print("{a framework talks}")
    print_result(images_per_s=3)
    print("{again}")
    assert list(results_in(capsys.readouterr().out.splitlines())) == [{"images_per_s": 3}]


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ([Timing("jax", 400), Timing("torch", 900), Timing("tensorflow", 500)], "torch"),
        ([Timing("jax", 0), Timing("torch", failure="broken")], "jax"),
        ([], None),
    ],
)
def test_the_fastest_backend_has_the_most_images_per_second(timings, expected):
    assert fastest(iter(timings)) == expected


def test_a_broken_backend_is_reported_and_not_raised():
    timing = time_backend("nonexistent")
    assert (timing.backend, timing.images_per_s, timing.devices) == ("nonexistent", None, [])
    assert "nonexistent" in timing.failure
    assert "\n" not in timing.failure
    assert fastest([timing]) is None


@pytest.fixture
def run_doctor(typed, monkeypatch, tmp_path):
    """Return a function that runs ``cifarnet doctor --no-timing`` with an empty cache and returns its stdout."""
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path))

    def run(*options):
        code, stdout, stderr = typed("doctor", "--no-timing", *options)
        assert (code, stderr) == (0, "")
        return stdout

    return run


def test_json_is_one_document_and_the_text_has_its_conflicts_and_notes(run_doctor, monkeypatch, tmp_path):
    document = json.loads(run_doctor("--json"))
    assert document["versions"] == versions()
    assert (document["known_bad"], document["timings"]) == ([], [])
    assert document["cache"]["present"] is False
    assert document["cache"]["path"].startswith(str(tmp_path))
    monkeypatch.setattr(doctor, "known_bad_pairs", lambda _: ["a pair"])
    monkeypatch.setattr(doctor, "notes", lambda _: ["a note"])
    document = json.loads(run_doctor("--json"))
    assert (document["known_bad"], document["notes"]) == (["a pair"], ["a note"])
    assert {"known conflicts a pair", "note            a note"} <= set(run_doctor().splitlines())


def test_the_text_names_versions_backends_and_how_to_fill_the_cache(run_doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path / "\x1b[2J"))
    lines = run_doctor().splitlines()
    assert any(line.split() == ["keras", versions()["keras"]] for line in lines)
    assert any(line.startswith("backends") and "jax" in line for line in lines)
    (message,) = [line for line in lines if "`cifarnet data fetch` puts it in " in line]
    assert r"\x1b[2J" in message
    assert all(line.isprintable() for line in lines)


def test_without_any_framework_the_install_command_is_printed(run_doctor, monkeypatch):
    monkeypatch.setattr("cifarnet.backends.installed", tuple)
    line = 'backends        none; install: pip install ".[tensorflow]" in your clone of cifarnet'
    assert line in run_doctor().splitlines()
