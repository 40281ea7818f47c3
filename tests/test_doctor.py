"""The doctor knows which versions do not go together, and reports a broken backend instead of breaking on it."""

import json
import sys

import pytest

from cifarnet.apps import doctor
from cifarnet.apps.doctor import Timing, fastest, known_bad_pairs, notes, time_backends
from cifarnet.backends import KERAS_DEFAULTS
from cifarnet.system import print_result, results_in, versions


def test_two_packages_of_onnxruntime_are_named_with_the_remedy_and_one_is_not():
    (sentence,) = known_bad_pairs({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.0", "numpy": "2.4.6"})
    assert sentence == (
        "onnxruntime 1.32.0 with onnxruntime-gpu 1.31.0: both install the module onnxruntime, so either may run; "
        "pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu alone"
    )
    assert known_bad_pairs({"onnxruntime-gpu": "1.31.0"}) == known_bad_pairs({"onnxruntime": "1.32.0"}) == []


def test_settings_of_keras_that_are_not_its_own_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert list(notes({})) == []
    (tmp_path / "keras.json").write_text(json.dumps(KERAS_DEFAULTS | {"backend": "torch"}))
    assert list(notes({})) == []
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": "float16", "epsilon": 0.1}))
    (sentence,) = notes({})
    assert sentence == (f"{tmp_path}/keras.json has floatx float16, epsilon 0.1: cifarnet's models ignore this")


def test_what_is_installed_here_goes_together_and_is_named():
    found = versions()
    assert {"python", "cifarnet", "keras", "numpy"} <= set(found)
    assert known_bad_pairs(found) == []


PRINTING = """
import sys
sys.stdout.write({said!r})
"""


@pytest.mark.parametrize("said", ["", "{a framework talks}\n", "[]\n"])
def test_a_process_that_ends_without_a_result_is_a_failure(said, monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{PRINTING.format(said=said)}")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert list(time_backends(["jax"])) == [Timing("jax", failure="the process ended without a result")]


def test_a_result_is_found_among_what_a_framework_prints(capsys):
    print("{a framework talks}")
    print_result(images_per_s=3)
    print("{again}")
    assert list(results_in(capsys.readouterr().out.splitlines())) == [{"images_per_s": 3}]


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ([Timing("jax", 400), Timing("torch", 900), Timing("tensorflow", 500)], "torch"),
        ([Timing("jax", failure="broken"), Timing("torch", 1)], "torch"),
        ([Timing("jax", 0), Timing("torch", failure="broken")], "jax"),
        ([Timing("jax", failure="broken")], None),
        ([], None),
    ],
)
def test_the_fastest_is_the_one_with_most_images_per_second_among_those_that_worked(timings, expected):
    assert fastest(iter(timings)) == expected


def test_a_broken_backend_is_reported_and_not_raised():
    (timing,) = time_backends(["nonexistent"])
    assert (timing.backend, timing.images_per_s, timing.devices) == ("nonexistent", None, [])
    assert "nonexistent" in timing.failure
    assert "\n" not in timing.failure
    assert fastest([timing]) is None


def test_a_backend_that_does_not_answer_in_time_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "TIMING_LIMIT_S", 0.05)
    assert list(time_backends(["jax"])) == [Timing("jax", failure="no answer within 0.05 s")]


@pytest.fixture
def run_doctor(typed, monkeypatch, tmp_path):
    """Return a function that runs ``cifarnet doctor --no-timing`` with an empty cache and returns its stdout."""
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path))

    def run(*options):
        code, said, talk = typed("doctor", "--no-timing", *options)
        assert (code, talk) == (0, "")
        return said

    return run


def test_json_is_one_document_with_versions_pairs_cache_and_timings(run_doctor, tmp_path):
    document = json.loads(run_doctor("--json"))
    assert document["versions"] == versions()
    assert (document["known_bad"], document["timings"]) == ([], [])
    assert document["cache"]["present"] is False
    assert document["cache"]["path"].startswith(str(tmp_path))


def test_the_text_names_versions_backends_and_how_to_fill_the_cache(run_doctor):
    lines = run_doctor().splitlines()
    assert any(line.split() == ["keras", versions()["keras"]] for line in lines)
    assert any(line.startswith("backends") and "jax" in line for line in lines)
    assert any("`cifarnet data fetch`" in line for line in lines)


def test_the_folder_of_the_cache_does_not_command_the_terminal(run_doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path / "\x1b[2J"))
    assert "puts it in " in (said := run_doctor())
    assert r"\x1b[2J" in said
    assert all(line.isprintable() for line in said.splitlines())


def test_where_no_framework_is_installed_the_line_to_type_is_told(run_doctor, monkeypatch):
    monkeypatch.setattr("cifarnet.backends.installed", tuple)
    line = (
        'backends        none; install: pip install "cifarnet[torch]", or in a clone pip install --editable ".[torch]"'
    )
    assert line in run_doctor().splitlines()


def test_a_bad_pair_and_a_note_reach_the_reader(run_doctor, monkeypatch):
    monkeypatch.setattr(doctor, "known_bad_pairs", lambda _: ["a pair"])
    monkeypatch.setattr(doctor, "notes", lambda _: ["a note"])
    document = json.loads(run_doctor("--json"))
    assert (document["known_bad"], document["notes"]) == (["a pair"], ["a note"])
    assert {"known conflicts a pair", "note            a note"} <= set(run_doctor().splitlines())
