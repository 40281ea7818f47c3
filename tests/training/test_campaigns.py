"""Short versions of the fault injection campaigns find no unexplained failure."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.campaign import fuzz

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.nightly


def short(campaign, tmp_path, *arguments):
    """Run a campaign's short version and return its records."""
    output = tmp_path / "campaigns.jsonl"
    command = [sys.executable, "-m", "benchmarks.campaign", campaign, "--short", "--seed", "3", "--output", output]
    done = subprocess.run([*command, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert output.exists(), done.stderr
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_damaged_inputs_of_every_kind_end_in_an_answer_or_in_an_error_of_ours(tmp_path):
    [record] = short("fuzz", tmp_path)
    assert all(count == fuzz.SHORT for count in record["counts"].values())
    assert record["unexplained"] == []


def test_a_command_whose_calls_fail_ends_in_one_line_and_loses_nothing(tmp_path):
    found = short("faults", tmp_path, "--backend", "torch")
    assert {record["command"] for record in found} == {"train", "predict", "inspect"}
    assert sum(sum(record["counts"].values()) for record in found) >= 3 * 3
    assert [each["what"] for record in found for each in record["unexplained"]] == []
