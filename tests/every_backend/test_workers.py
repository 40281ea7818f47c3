"""Several workers train to the same bits as one, and all stop when one of them fails."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cifarnet.backends import adapter, choose
from cifarnet.errors import WorkerError
from cifarnet.evaluation.reproduce import reproduce
from cifarnet.run.find import find_run
from cifarnet.training.begin import begin
from cifarnet.training.observer import Observer
from cifarnet.training.train import resume
from tests.small_runs import WORKERS_JOB

PROJECT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "tests.worker_program"]
TRAIN = ["train", "--recipe", "tiny", "--data", "synthetic"]

several = pytest.mark.skipif(choose() == "tensorflow", reason="TensorFlow trains in one process")
# On two cores their processes take JAX half a minute or more.
slow_with_jax = pytest.mark.nightly if choose() == "jax" else lambda test: test


def variables(rank, count, port):
    """The environment of one worker, as its launcher would set it."""
    if choose() == "jax":
        found = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": count, "JAX_PROCESS_ID": rank}
    else:
        found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "RANK": rank}
    return {name: str(value) for name, value in found.items()}


def started(count, arguments, fault=None, program=PROGRAM, **more):
    """Start the workers and return their processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = os.environ | {"KERAS_BACKEND": choose(), "FAULT": json.dumps(fault or {})} | more
    return [
        subprocess.Popen(
            [*program, *map(str, arguments)],
            cwd=PROJECT,
            env=shared | variables(rank, count, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def ended(processes):
    """Return exit code, stdout and stderr of each."""
    return [(process.wait(), *said) for process, said in [(each, each.communicate()) for each in processes]]


def results(run):
    files = {name: (run.path / name).read_bytes() for name in ("best.weights.h5", "history.csv")}
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.fixture(scope="module")
def by_one(dataset, tmp_path_factory):
    """The files of the same training in one process."""
    run = begin(WORKERS_JOB, dataset, tmp_path_factory.mktemp("one"))
    return results(resume(run, dataset))


@several
def test_two_workers_train_to_the_same_bits_as_one(by_one, runs):
    (code, out, err), *others = ended(started(2, [*TRAIN, "--runs", runs, "--json", "--track", "tensorboard"]))
    assert code == 0, err
    assert others == [(0, "", "")]  # the first alone prints
    machine = json.loads(out)["machine"]
    assert (machine["workers"], machine["parts"]) == (2, 3)
    assert "2 workers" in err
    assert results(find_run(runs)) == by_one
    assert len(list(find_run(runs).path.glob("tensorboard/*"))) == 1  # the first alone writes


@several
@slow_with_jax
def test_a_killed_worker_ends_the_others_and_four_resume_to_the_same_bits_as_one(by_one, runs):
    fault = {"rank": 1, "signal": "SIGKILL", "call": 10}  # in the second epoch
    (code, _, err), (killed, _, _) = ended(started(2, [*TRAIN, "--runs", runs], fault))
    assert (code, killed) == (1, -signal.SIGKILL)
    assert sum(line.startswith("error: another worker ended or did not answer") for line in err.splitlines()) == 1, err
    run = find_run(runs)
    assert list(run.checkpoints.iterdir())
    assert [code for code, *_ in ended(started(4, ["train", "--resume", run, "--runs", runs]))] == [0] * 4
    assert results(run) == by_one


@several
@pytest.mark.nightly
def test_a_worker_that_hangs_ends_the_others(runs):
    fault = {"rank": 1, "signal": "SIGSTOP", "call": 3}
    waiting, hanging = started(2, [*TRAIN, "--runs", runs], fault, CIFARNET_WORKER_TIMEOUT="5")
    ((code, _, err),) = ended([waiting])
    hanging.kill()
    hanging.communicate()
    assert code == 1
    assert err.splitlines()[-1].startswith("error: another worker ended or did not answer")


@several
def test_a_worker_with_other_images_is_refused_before_anything_is_made(runs):
    refused, silent = ended(started(2, [*TRAIN, "--runs", runs], {"rank": 1, "images": {"train": 330}}))
    assert (refused[0], silent[0]) == (1, 1)
    assert "error: worker 1 has images" in refused[2]
    assert not runs.exists()


FROM_PYTHON = """
import sys, numpy as np
import cifarnet
labels = np.arange(20) % 2
images = np.zeros((20, 32, 32, 3), np.uint8)
dataset = cifarnet.Dataset.from_arrays((images, labels), (images[:2] + 1, labels[:2]), ("cat", "dog"))
if sys.argv[1] == "train":
    cifarnet.train(dataset, warm_start="nobody")
cifarnet.resume(cifarnet.Run(sys.argv[2]), dataset)
"""


@several
@pytest.mark.parametrize("function", ["train", "resume"])
def test_training_from_python_joins_the_workers_before_it_uses_the_framework(function, tmp_path):
    arguments = [function, tmp_path / "nowhere"]
    for code, _, err in ended(started(2, arguments, program=[sys.executable, "-c", FROM_PYTHON])):
        assert code == 1
        refusal = "UsageError: warm_start is 'nobody'" if function == "train" else "nowhere/run.json could not be read"
        assert refusal in err.splitlines()[-1], err


@several
def test_a_wrong_variable_of_a_launcher_is_not_taken_for_a_lost_worker(monkeypatch):
    for name, value in variables("x", 2, 1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")  # torch takes it from the environment alone
    before = dict(os.environ)
    with pytest.raises(WorkerError, match=r"could not join the other workers \(.*'x'\); expected the variables of one"):
        adapter().join(1.0)
    assert dict(os.environ) == before  # or the next workers would take it for their launcher's


ALONE_WITH_GLOO = """
import atexit, glob
import numpy as np
from cifarnet.backends import adapter
adapter().join(10.0).all_gather(np.zeros(3, np.float32))
for _ in range(2):
    print(any("gloo" in open(name).read() for name in glob.glob("/proc/self/task/*/comm")))
    atexit._run_exitfuncs()
"""


@pytest.mark.skipif(choose() != "torch" or sys.platform != "linux", reason="threads of torch, as Linux lists them")
def test_the_threads_of_gloo_end_before_python_does():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = os.environ | {"KERAS_BACKEND": "torch"} | variables(0, 1, port)
    command = [sys.executable, "-c", ALONE_WITH_GLOO]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert said.stdout.split() == ["True", "False"], said.stderr


@pytest.mark.skipif(choose() != "torch", reason="torch alone comes with a launcher")
def test_torchrun_restarts_workers_that_resume_the_run_they_began(by_one, runs):
    fault = {"rank": 1, "signal": "SIGKILL", "call": 10}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    command = [sys.executable, *launcher, *PROGRAM[1:], *TRAIN, "--runs", str(runs)]
    environment = os.environ | {"KERAS_BACKEND": "torch", "FAULT": json.dumps(fault)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(runs.glob("2*"))) == 1
    assert results(find_run(runs)) == by_one


@several
@slow_with_jax
def test_a_run_without_batch_normalization_keeps_the_division_among_its_workers(dataset, runs, tmp_path):
    arguments = ["train", "--recipe", "plain", "--data", "synthetic", "--runs", runs]
    assert [code for code, *_ in ended(started(2, arguments))] == [0, 0]
    run = find_run(runs)
    assert run.record.machine.parts == 2
    assert reproduce(run, dataset, tmp_path, Observer()).outcome == "bit-equal"


@pytest.mark.skipif(choose() != "tensorflow", reason="the others train with several workers")
def test_tensorflow_refuses_several_workers(typed):
    code, _, err = typed("train", "--workers", 2)
    assert code == 1
    assert err.startswith("error: the backend tensorflow trains in one process; expected torch or jax for --workers 2")
