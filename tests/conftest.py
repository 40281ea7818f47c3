"""What the whole suite shares: a header that names the backend, and the real images."""

import os
import signal
import sys

import pytest

from cifarnet import backends, cli


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
    """CIFAR-10 from this machine's cache; a failure where CI is set and it is missing, a skip elsewhere."""
    from cifarnet.data import cache_state, open_dataset

    if cache_state().present:
        return open_dataset("cifar10")
    message = "CIFAR-10 is not in the cache: run `cifarnet data fetch`"
    return pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
