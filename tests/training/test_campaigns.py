"""Short versions of the fault injection campaigns find no unexplained failure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.campaign import fuzz

PROJECT = Path(__file__).parents[2]


def short(campaign, tmp_path, *arguments):
    """Run a campaign's short version and return its records."""
    output = tmp_path / "campaigns.jsonl"
    command = [sys.executable, "-m", "benchmarks.campaign", campaign, "--short", "--seed", "3", "--output", output]
    # With as many threads as torch takes by itself, where every other test gives it one.
    threads = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([*command, *arguments], cwd=PROJECT, env=threads, capture_output=True, text=True, check=False)
    assert output.exists(), done.stdout + done.stderr
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [each["what"] for record in records for each in record["unexplained"]] == []
    assert done.returncode == 0, done.stdout + done.stderr
    return records


def test_killed_at_drawn_instants_and_resumed_a_run_is_as_never_killed(tmp_path):
    [record] = short("kills", tmp_path, "--backend", "torch")
    assert record["compared"] == 1
    assert len(record["deaths"]) >= 2, record["deaths"]


@pytest.mark.nightly
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_nor_does_a_kill_change_a_run_on_the_other_backends(tmp_path, backend):
    [record] = short("kills", tmp_path, "--backend", backend)
    assert record["compared"] == 1


@pytest.mark.nightly
def test_damaged_inputs_of_every_kind_end_in_an_answer_or_in_an_error_of_ours(tmp_path):
    [record] = short("fuzz", tmp_path)
    assert all(count == fuzz.SHORT for count in record["counts"].values())


@pytest.mark.nightly
def test_a_command_whose_calls_fail_ends_in_one_line_and_loses_nothing(tmp_path):
    found = short("faults", tmp_path, "--backend", "torch")
    assert {record["command"] for record in found} == {"train", "predict", "inspect"}
    assert sum(sum(record["counts"].values()) for record in found) >= 3 * 3
