"""The doctor knows which versions do not go together, and reports a broken backend instead of breaking on it."""

import json

import pytest

from cifarnet import doctor
from cifarnet.doctor import KNOWN_BAD, Timing, fastest, known_bad_pairs, time_backends
from cifarnet.environment import PACKAGES, versions


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ({"keras": "3.11.2", "numpy": "2.1.0"}, {"keras": "3.11.3", "numpy": "2.1.0"}),
        ({"keras": "3.9.0.dev1", "numpy": "1.26.4"}, {"keras": "3.15.1", "numpy": "1.26.4"}),
        ({"tensorflow": "2.17.1", "numpy": "2.0.0"}, {"tensorflow": "2.17.1", "numpy": "1.26.4"}),
        ({"tensorflow-cpu": "2.16.2", "numpy": "2.0.0"}, {"tensorflow-cpu": "2.18.0", "numpy": "2.0.0"}),
        ({"torch": "2.2.2+cpu", "numpy": "2.4.6"}, {"torch": "2.3.0+cpu", "numpy": "2.4.6"}),
        ({"torch": "2.2.2", "numpy": "2.0.0"}, {"torch": "2.2.2", "numpy": "1.26.4"}),
        ({"jax": "0.4.25", "numpy": "2.0.0"}, {"jax": "0.4.26", "numpy": "2.0.0"}),
    ],
)
def test_a_known_bad_pair_is_reported_and_its_good_twin_is_not(bad, good):
    (sentence,) = known_bad_pairs(bad)
    (one, first), (other, second) = bad.items()
    assert sentence.startswith(f"{one} {first} with {other} {second}: ")
    assert known_bad_pairs(good) == []


def test_half_a_pair_is_no_pair():
    assert known_bad_pairs({}) == []
    assert known_bad_pairs({"torch": "1.0", "jax": "0.1"}) == []


def test_every_bad_pair_among_many_versions_is_reported():
    found = {"numpy": "2.4.6", "keras": "3.0", "torch": "2.0", "jax": "0.4.1", "tensorflow": "2.10"}
    assert len(known_bad_pairs(found)) == 4
    assert {pair[0] for pair in KNOWN_BAD} <= set(PACKAGES)


def test_what_is_installed_here_goes_together_and_is_named():
    found = versions()
    assert {"python", "cifarnet", "keras", "numpy"} <= set(found)
    assert known_bad_pairs(found) == []


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


def test_a_bad_pair_reaches_the_reader(run_doctor, monkeypatch):
    monkeypatch.setattr(doctor, "KNOWN_BAD", [("keras", ">=3", "numpy", ">=2", "made up for this test")])
    (sentence,) = json.loads(run_doctor("--json"))["known_bad"]
    assert sentence.endswith("made up for this test")
