"""Process-wide settings of JAX, its devices and its threads, and the check of a faulty jaxlib."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np

try:
    from jax import enable_x64
except ImportError:  # older than 0.8
    from jax.experimental import enable_x64

from cifarnet.errors import BackendError
from cifarnet.system import FAULTY_JAXLIB, YNNPACK_FLAG, threads_of_environment, versions

THREAD_VARIABLES = ("PJRT_NPROC", "NPROC")


def prepare_process() -> None:
    """Do nothing: XLA manages cores and memory itself."""


@contextmanager
def framework_defaults() -> Iterator[None]:
    """Compile functions, with float32 and products of all its digits."""
    precision = None if jax.default_backend() == "cpu" else "float32"  # GPUs use TF32 by default, CPUs never
    with jax.disable_jit(False), enable_x64(False), jax.default_matmul_precision(precision):  # noqa: FBT003
        yield


def devices() -> list[str]:
    return [str(device) for device in jax.devices()]


def threads() -> int | None:
    """Return the size of XLA's thread pool. XLA reads it from the environment on its first use."""
    return threads_of_environment(THREAD_VARIABLES)


def sums_are_right() -> bool:
    """Return whether XLA sums more than 32,768 rows of products correctly, which a faulty jaxlib does not."""
    rows = np.random.default_rng(0).standard_normal((2**15 + 1, 3), np.float32)
    sums = jax.jit(jax.vmap(lambda row: jnp.sum(jnp.square(np.eye(3, dtype=np.float32) @ row))))(rows)
    return bool(np.allclose(sums, np.square(rows).sum(axis=1), rtol=1e-3))


@functools.cache
def require_right_sums() -> None:
    """Raise ``BackendError`` if XLA sums wrongly here.

    Not called on import, because JAX cannot be configured (for several processes, for example) after its first use.
    """
    jaxlib = versions(("jaxlib",)).get("jaxlib")
    if jaxlib in FAULTY_JAXLIB and not sums_are_right():
        raise BackendError(
            f"jaxlib {jaxlib} computes wrong sums in this process, where XLA_FLAGS is "
            f"{os.environ.get('XLA_FLAGS', '')!r}; expected JAX to start with {YNNPACK_FLAG}=-reduce: set that before "
            "JAX is first used, or install another jaxlib"
        )
