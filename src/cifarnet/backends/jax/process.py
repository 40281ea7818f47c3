"""Settings of the process, and what JAX has there."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

try:
    from jax import enable_x64
except ImportError:  # older than 0.8
    from jax.experimental import enable_x64

from cifarnet.system import threads_of_environment

THREAD_VARIABLES = ("PJRT_NPROC", "NPROC")  # see ``Adapter``


def prepare_process() -> None:
    """Do nothing: XLA manages cores and memory itself."""


@contextmanager
def framework_defaults() -> Iterator[None]:
    """Compile functions, with float32 and products of all its digits; see ``Adapter``."""
    precision = None if jax.default_backend() == "cpu" else "float32"  # GPUs use TF32 by default, CPUs never
    with jax.disable_jit(False), enable_x64(False), jax.default_matmul_precision(precision):  # noqa: FBT003
        yield


def devices() -> list[str]:
    """Return the names of the devices available to JAX."""
    return [str(device) for device in jax.devices()]


def threads() -> int | None:
    """Return the size of XLA's thread pool; see ``Adapter``. XLA reads it from the environment on its first use."""
    return threads_of_environment(THREAD_VARIABLES)
