"""What the launcher says in the environment decides whether a process is one of several workers."""

import pytest

from cifarnet.backends.workers import Workers
from cifarnet.errors import BackendError, UsageError
from cifarnet.training.distributed import COUNTS, TIMEOUT_VARIABLE, timeout_s, workers_started


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (TIMEOUT_VARIABLE, *(name for names in COUNTS.values() for name in names)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("backend", "variable"), [(each, name) for each, names in COUNTS.items() for name in names])
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
