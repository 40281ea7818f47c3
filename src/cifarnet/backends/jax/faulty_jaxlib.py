"""The check of a faulty jaxlib."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from cifarnet.errors import BackendError
from cifarnet.system import FAULTY_JAXLIB, YNNPACK_FLAG, versions


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
