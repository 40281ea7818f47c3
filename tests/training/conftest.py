"""Fixtures of training tests whose results do not depend on the backend, so that they run once."""

from cifarnet.backends import adapter, choose

choose()  # before any test module imports Keras

from tests.small_runs import dataset, job, normalised, runs, whole  # noqa: E402, F401  # fixtures

adapter()  # before a test runs a command in this process, which would be set up for it alone
