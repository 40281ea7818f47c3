"""The launcher's environment variables decide whether a process is one of several workers."""

import os
import signal

import pytest

from cifarnet.backends import choose
from cifarnet.backends.workers import Workers
from cifarnet.errors import BackendError, UsageError
from cifarnet.training import launch
from cifarnet.training.launch import (
    TIMEOUT_VARIABLE,
    _ended,
    _share,
    _started,
    start_workers,
    timeout_s,
    workers_started,
)

LAUNCHERS = [
    ("torch", "WORLD_SIZE"),
    ("jax", "JAX_NUM_PROCESSES"),
    ("jax", "SLURM_STEP_NUM_TASKS"),
    ("jax", "OMPI_COMM_WORLD_SIZE"),
]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (TIMEOUT_VARIABLE, *(variable for _, variable in LAUNCHERS)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("backend", "variable"), LAUNCHERS)
def test_each_launcher_is_recognized_for_its_backend(backend, variable, monkeypatch):
    assert workers_started(backend) == 1
    monkeypatch.setenv(variable, "3")
    assert workers_started(backend) == 3


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_workers_of_another_backend_than_their_launchers_are_refused(backend, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BackendError, match=f"WORLD_SIZE is 2, the backend {backend}; expected torch"):
        workers_started(backend)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_time_limit_that_is_no_number_of_seconds_is_refused(text, monkeypatch):
    monkeypatch.setenv(TIMEOUT_VARIABLE, text)
    with pytest.raises(UsageError, match=f"{TIMEOUT_VARIABLE} is '{text}'; expected a number of seconds above 0"):
        timeout_s()


@pytest.mark.parametrize(("count", "workers"), [(3, 2), (2, 4), (7, 3), (1, 2)])
def test_every_item_is_computed_and_by_one_worker_unless_there_are_too_few(count, workers):
    shares = [Workers(rank, workers).own(count) for rank in range(workers)]
    assert sorted({item for share in shares for item in share}) == list(range(count))
    assert max(map(len, shares)) == -(-count // workers)
    assert min(map(len, shares)) > 0
    if count >= workers:
        assert sum(map(len, shares)) == count


@pytest.fixture
def kept_handlers():
    kept = {number: signal.getsignal(number) for number in launch.SIGNALS}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("kept_handlers")
def test_the_others_are_killed_when_a_started_worker_fails(monkeypatch, capfd):
    monkeypatch.setattr(launch, "GRACE_S", 0.0)
    program = "import os, time; os._exit(3) if os.environ['RANK'] == '1' else time.sleep(20); print('still here')"
    assert start_workers(2, "torch", ["-c", program]) == 1
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("kept_handlers")
@pytest.mark.parametrize(("codes", "code"), [((0, 0), 0), ((130, 130), 130), ((0, 130), 1)])
def test_the_exit_code_is_that_of_all_started_workers_or_one(codes, code):
    program = f"import os; os._exit({codes}[int(os.environ['JAX_PROCESS_ID'])])"
    assert start_workers(2, "jax", ["-c", program]) == code


@pytest.mark.usefixtures("kept_handlers")
def test_sigterm_before_the_workers_train_is_an_interruption(monkeypatch, typed):
    def ended(processes):
        signal.raise_signal(signal.SIGTERM)
        return _ended(processes)

    def start(count, backend, _):
        return start_workers(count, backend, ["-c", "import time; time.sleep(60)"])

    monkeypatch.setattr(launch, "_ended", ended)
    monkeypatch.setattr(launch, "start_workers", start)
    code, stdout, stderr = typed("train", "--workers", "2", "--backend", choose())
    assert (code, stdout, stderr) == (130, "", "interrupted\n")


@pytest.mark.usefixtures("kept_handlers")
def test_a_failed_start_leaves_no_worker_behind(monkeypatch):
    first = []

    def start(*arguments):
        if first:
            raise OSError("no more processes")
        first.append(_started(*arguments))
        return first[0]

    monkeypatch.setattr(launch, "_started", start)
    with pytest.raises(OSError, match="no more processes"):
        start_workers(2, "torch", ["-c", "import time; time.sleep(600)"])
    assert first[0].wait(60) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("cores", "count", "shares"),
    [
        ({0, 1}, 2, [{0}, {1}]),
        ({3, 5, 8, 9, 11}, 2, [{3, 5}, {8, 9}]),
        ({4, 6}, 3, [{4}, {6}, {4}]),
    ],
)
def test_each_worker_has_as_many_cores_as_the_others(cores, count, shares, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    assert [_share(rank, count) for rank in range(count)] == shares
