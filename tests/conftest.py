"""Fixtures of the whole suite: a header that names the backend, one thread for torch, and the real images."""

import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

from cifarnet import backends, cli
from cifarnet.data import cache_state

# Before torch is imported, here or in a process that a test starts: tests run side by side, one on each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "default",
    max_examples=60,
    derandomize=True,  # the same damage on every machine and in every run
    deadline=None,  # the machine may be busy; a hang has its own limit
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("nightly", settings.get_profile("default"), max_examples=300)
settings.load_profile("default")


def pytest_configure(config) -> None:
    """Use an own cache, so that the decoded images of the tests do not fill that of this machine."""
    cifar10, folder = cache_state().path, TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    (Path(folder.name) / cifar10.name).symlink_to(cifar10, target_is_directory=True)
    os.environ["CIFARNET_CACHE"] = folder.name


def pytest_report_header() -> str:
    chosen = os.environ.get("KERAS_BACKEND", "not fixed")
    return f"cifarnet backend: {chosen}, installed: {', '.join(backends.installed())}"


@pytest.fixture(autouse=True)
def ctrl_c_is_the_suites():
    """Give Ctrl-C back after a test that ran the command in this process."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def typed(monkeypatch, capsys):
    """Return a function that runs ``cifarnet`` in this process and returns exit code, stdout and stderr."""

    def typed(*arguments):
        monkeypatch.setattr(sys, "argv", ["cifarnet", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code or 0, *capsys.readouterr()

    return typed


@pytest.fixture(scope="session")
def real_images():
    """CIFAR-10 from this machine's cache; skipped where it is missing."""
    from cifarnet.data import cache_state, load_dataset

    if cache_state().present:
        return load_dataset("cifar10")
    return pytest.skip("CIFAR-10 is not in the cache: run `cifarnet data fetch`")
