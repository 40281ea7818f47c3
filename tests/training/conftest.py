"""What a training leaves and refuses: the same whatever the framework, so that one stands for all."""

from cifarnet.backends import adapter, choose

choose()  # before any test module imports Keras

from tests.small_runs import dataset, job, normalised, runs, watcher, whole  # noqa: E402, F401  # fixtures

adapter()  # before a test runs a command in this process, which would be set up for it alone
