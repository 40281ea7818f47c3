"""The backend is chosen once, by a fixed precedence of four sources, and every error names the way out."""

import importlib.util
import json
import os
import sys

import pytest

from cifarnet.backends import NAMES, choose, installed
from cifarnet.errors import BackendError
from tests.processes import printed, python


@pytest.fixture(autouse=True)
def nothing_wished(monkeypatch, tmp_path):
    """Forget variable, file and running Keras for the length of a test; what `choose` sets is undone after it."""
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "keras", raising=False)


@pytest.fixture
def install(monkeypatch):
    """Return a function that hides every framework but the ones named, and Keras and h5py unless named."""
    real = importlib.util.find_spec

    def only(*names):
        hidden = {*NAMES, "keras", "h5py"} - set(names)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, package=None: None if name in hidden else real(name, package)
        )

    return only


def configure(folder, backend):
    (folder / "keras.json").write_text(json.dumps({"backend": backend, "floatx": "float32"}))


def test_the_argument_wins_over_the_variable_and_that_over_the_file(monkeypatch, tmp_path):
    assert choose() == "jax"
    monkeypatch.delenv("KERAS_BACKEND")
    configure(tmp_path, "tensorflow")
    assert choose() == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert choose() == "torch"
    assert choose("jax") == os.environ["KERAS_BACKEND"] == choose() == "jax"  # so it is handed to Keras
    assert "keras" not in sys.modules


@pytest.mark.parametrize(
    ("present", "expected"),
    [(NAMES, "jax"), (("torch", "tensorflow"), "torch"), (("tensorflow",), "tensorflow")],
)
def test_without_a_wish_the_first_installed_is_taken(install, present, expected):
    install(*present, "keras", "h5py")
    assert installed() == tuple(present)
    assert choose() == expected


@pytest.mark.parametrize("backend", ["torch", "numpy", None, ["jax"]])
def test_a_file_that_names_what_is_not_here_expresses_no_wish(install, tmp_path, backend):
    install("jax", "keras", "h5py")
    configure(tmp_path, backend)
    assert choose() == "jax"


def test_the_file_is_looked_for_below_home_when_keras_has_no_home_of_its_own(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras").mkdir()
    configure(tmp_path / ".keras", "torch")
    assert choose() == "torch"


@pytest.mark.parametrize("content", ["", "[]", '"jax"', "\0", None])
def test_a_broken_file_is_an_error_that_names_it_unless_there_is_a_nearer_wish(tmp_path, content):
    if content is None:
        (tmp_path / "keras.json").mkdir()
    else:
        (tmp_path / "keras.json").write_text(content)
    with pytest.raises(BackendError, match=rf"{tmp_path}/keras\.json could not be read .*: fix or remove it"):
        choose()
    if content == "":  # with which Keras starts
        assert choose("torch") == "torch"


@pytest.mark.parametrize(("name", "way"), [("theano", "argument"), ("JAX", "argument"), ("cupy", "variable")])
def test_an_unknown_backend_is_refused_with_the_known_ones(monkeypatch, name, way):
    if way == "variable":
        monkeypatch.setenv("KERAS_BACKEND", name)
    named = " in KERAS_BACKEND" if way == "variable" else ""
    with pytest.raises(
        BackendError, match=f"^the backend '{name}'{named} is not supported; expected one of jax, torch"
    ):
        choose(name if way == "argument" else None)
    assert os.environ.get("KERAS_BACKEND") == (name if way == "variable" else None)


def test_a_missing_backend_is_refused_with_the_line_that_installs_it(install):
    install("jax", "keras", "h5py")
    with pytest.raises(
        BackendError,
        match=r'^torch is not installed; .*: pip install "\.\[torch\]" in your clone of cifarnet$',
    ):
        choose("torch")
    assert "KERAS_BACKEND" not in os.environ


def test_what_else_is_missing_is_named_too(install):
    install("jax")
    with pytest.raises(
        BackendError,
        match=r'^keras and h5py are not installed; .*: pip install "\.\[jax\]" in your clone of cifarnet$',
    ):
        choose("jax")
    with pytest.raises(BackendError, match=r"^torch, keras and h5py are not installed; expected for the backend torch"):
        choose("torch")


def test_without_any_framework_the_line_that_installs_one_is_named(install):
    install("keras", "h5py")
    assert installed() == ()
    with pytest.raises(
        BackendError,
        match=r'^no framework is installed; .*: pip install "\.\[tensorflow\]" in your clone of cifarnet$',
    ):
        choose()


LATE = """
import sys
import cifarnet
cifarnet.build_model
import keras
from cifarnet.backends import adapter, choose, installed
from cifarnet.errors import BackendError
assert installed()[0] == choose("jax") == choose() == keras.config.backend() == "jax"
try:
    choose("torch")
except BackendError as error:
    print(error)
assert adapter().__name__ == "cifarnet.backends.jax"
assert "torch" not in sys.modules
"""


def test_a_public_name_settles_on_a_backend_another_is_refused_and_the_file_of_keras_changes_nothing(tmp_path):
    """Keras names TensorFlow in the file that it writes at its first start."""
    assert printed("-c", LATE) == "Keras already runs on jax; torch was asked for: start a new process for it\n"
    assert (tmp_path / "keras.json").exists()
    assert choose() == "jax"


def test_what_a_command_imports_before_it_chooses_a_backend_imports_no_keras():
    modules = ["cli.train", "training.warm_start", "training.tracking", "training.launch", "evaluation.reproduce"]
    program = (
        f"import sys, {', '.join(f'cifarnet.{each}' for each in modules)}; raise SystemExit('keras' in sys.modules)"
    )
    printed("-c", program)


PREPARED = """
import os, signal, sys
import cifarnet.system, cifarnet.backends, cifarnet.interrupt
cifarnet.interrupt.exit_on_interrupt()
cifarnet.system.prepare_process()
cifarnet.backends.choose("tensorflow")
import tensorflow
os.write(2, b"after it")
"""


@pytest.mark.parametrize(
    ("program", "level", "shown"),
    [
        ("", "2", "after it"),
        ("", "0", "about the processor\nafter it"),
        ("os.kill(os.getpid(), signal.SIGINT)", "2", "interrupted\n"),
        ("raise ImportError('unusable')", "2", "about the processor\nTraceback"),
    ],
    ids=["quiet", "wanted", "interrupted", "failed"],
)
def test_tensorflow_is_imported_without_its_messages(tmp_path, program, level, shown):
    """A stand-in writes them as the C++ code does, which does so on some processors only."""
    (tmp_path / "tensorflow.py").write_text(f"import os, signal\nos.write(2, b'about the processor\\n')\n{program}\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = level
    assert python("-c", PREPARED, env=environment).stderr.startswith(shown)
