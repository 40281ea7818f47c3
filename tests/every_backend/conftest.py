"""The suite here runs once per backend, chosen from outside."""

import atexit
import os
import shutil
import tempfile

from cifarnet.backends import adapter, choose

choose()  # before any test module imports Keras

# Every training here compiles the same few small functions again: JAX may take them from this folder instead.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the processes that the tests start inherit it
    COMPILED = tempfile.mkdtemp(prefix="cifarnet-jax-")
    atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

from tests.small_runs import dataset, job, normalised, runs, whole  # noqa: E402, F401  # fixtures

adapter()  # before a test runs a command in this process, which would be set up for it alone
