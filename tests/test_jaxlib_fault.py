"""One version of jaxlib computes wrong sums on a CPU: JAX is started without them, or refused."""

import os
from importlib.metadata import version

import pytest

from cifarnet.apps import doctor
from cifarnet.system import FAULTY_JAXLIB, YNNPACK_FLAG, corrected_xla_flags
from tests.processes import python

FAULTY = "0.10.2"
OFF = f"{YNNPACK_FLAG}=-reduce"


@pytest.mark.parametrize(
    ("flags", "jaxlib", "expected"),
    [
        ("", FAULTY, OFF),
        ("--xla_dump_to=dump", FAULTY, f"--xla_dump_to=dump {OFF}"),
        (f"{YNNPACK_FLAG}=-dot", FAULTY, f"{YNNPACK_FLAG}=-dot"),
        ("flags.txt", FAULTY, "flags.txt"),
        ("", "0.10.1", ""),
        ("", "0.11.0", ""),
        ("", None, ""),
    ],
)
def test_the_faulty_version_alone_gets_the_flag_unless_a_person_chose(flags, jaxlib, expected):
    assert corrected_xla_flags(flags, jaxlib) == expected


needs_fault = pytest.mark.skipif(version("jaxlib") not in FAULTY_JAXLIB, reason="this jaxlib is not known to be wrong")

REPRODUCER = """
import jax, jax.numpy as jnp, numpy as np
rng = np.random.default_rng(0)
matrix, rows = rng.standard_normal((3, 3)).astype(np.float32), rng.standard_normal((2**15 + 1, 3)).astype(np.float32)
found = np.asarray(jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows))
expected = ((rows.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2).sum(axis=1)
print("right" if np.abs(found / expected - 1).max() < 1e-3 else "wrong")
"""
CHOSEN = "import cifarnet; cifarnet.choose_backend('jax')"
PREDICTOR = "from cifarnet.backends import adapter; adapter().predictor(None)"


def output_of(*lines, flags=None):
    """The last line of a process that runs ``lines`` with ``flags`` as XLA_FLAGS, or of the error that ends it."""
    env = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "KERAS_BACKEND")}
    env |= {"JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax"} | ({} if flags is None else {"XLA_FLAGS": flags})
    done = python("-c", "\n".join(lines), env=env)
    return (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1]


@needs_fault
def test_the_sums_of_this_jaxlib_are_wrong_without_the_flag():
    assert output_of(REPRODUCER) == "wrong", (
        f"jaxlib {version('jaxlib')} computes right sums by itself now: take it out of FAULTY_JAXLIB"
    )


def test_sums_are_right_once_jax_was_chosen_also_where_it_was_imported_before_and_flags_of_a_person_are_kept():
    devices = "--xla_force_host_platform_device_count=2"
    count = "import os; print(jax.device_count(), os.environ['XLA_FLAGS'], end=' ')"
    assert output_of("import jax", CHOSEN, PREDICTOR, count, REPRODUCER, flags=devices) == f"2 {devices} {OFF} right"


@needs_fault
@pytest.mark.parametrize(
    ("first", "flags"), [("import jax; jax.devices()", None), ("", f"{YNNPACK_FLAG}=+reduce")], ids=["too late", "on"]
)
def test_jax_is_refused_where_its_sums_are_wrong(first, flags):
    said = (
        f"cifarnet.errors.BackendError: jaxlib {version('jaxlib')} computes wrong sums in this process, where XLA_FLAGS"
    )
    assert output_of(first, CHOSEN, PREDICTOR, flags=flags).startswith(said)


def test_the_doctor_tells_of_the_fault_and_of_what_xla_flags_does_about_it(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", "")
    (switched,) = doctor.notes({"jaxlib": FAULTY})
    starts = f"cifarnet corrects this with XLA_FLAGS='{OFF}'"
    assert switched == f"jaxlib 0.10.2 computes wrong sums on a CPU: {starts}"
    monkeypatch.setenv("XLA_FLAGS", f"{YNNPACK_FLAG}=+reduce")
    (left,) = doctor.notes({"jaxlib": FAULTY})
    assert left.endswith(
        f"XLA_FLAGS is '{YNNPACK_FLAG}=+reduce' and is not changed; cifarnet refuses JAX if sums are wrong with it"
    )
    assert list(doctor.notes({"jaxlib": "0.11.0"})) == list(doctor.notes({})) == []
