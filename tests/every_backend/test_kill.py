"""After ``kill -9`` in training or writing, a resumed run has the same bits as one that was never killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

from cifarnet.backends import choose

PROJECT = Path(__file__).parents[2]


def test_killed_at_drawn_instants_and_resumed_is_as_never_killed(tmp_path):
    output = tmp_path / "campaigns.jsonl"
    arguments = ["kills", "--short", "--seed", "3", "--backend", choose(), "--output", output]
    command = [sys.executable, "-m", "benchmarks.campaign", *arguments]
    # With as many threads as torch takes by itself, where every other test gives it one.
    threads = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, cwd=PROJECT, env=threads, capture_output=True, text=True, check=False)
    assert output.exists(), done.stdout + done.stderr
    record = json.loads(output.read_text())
    assert (done.returncode, record["compared"], record["unexplained"]) == (0, 1, [])
    assert len(record["deaths"]) >= 2, record["deaths"]
