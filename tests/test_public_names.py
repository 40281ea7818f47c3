"""The public API is a list that agrees with the lazy table, nothing heavy is imported early, and errors form a tree."""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import cifarnet
from cifarnet import errors
from cifarnet.backends import choose
from tests.processes import printed

HEAVY = {"keras", "jax", "torch", "tensorflow", "h5py", "matplotlib", "onnx", "onnxruntime"}
"""What neither the package root nor the help may import."""


def modules_after(program: str) -> set[str]:
    """Return the modules that a new interpreter has loaded at the end of ``program``."""
    return set(printed("-c", f"{program}\nimport sys; print(*sys.modules)").splitlines()[-1].split())


def test_the_public_names_are_a_sorted_literal_list_that_agrees_with_lazy_table_and_completion():
    (literal,) = (
        ast.literal_eval(statement.value)
        for statement in ast.parse(Path(cifarnet.__file__).read_text()).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
    )
    assert literal == cifarnet.__all__ == sorted(set(cifarnet.__all__)) == list(cifarnet._HOMES) == dir(cifarnet)


def test_every_public_name_is_what_its_home_defines_and_an_unknown_one_is_an_attribute_error():
    choose()
    for name in cifarnet.__all__:
        found = getattr(cifarnet, name)
        module, _, attribute = cifarnet._HOMES[name].partition(":")
        assert attribute == ("choose" if name == "choose_backend" else name)  # `cifarnet.choose` would not say what
        assert found is getattr(sys.modules[f"cifarnet.{module}"], attribute)
        assert found.__module__.startswith("cifarnet.")
        assert found.__doc__, name
    with pytest.raises(AttributeError, match="module 'cifarnet' has no attribute 'trian'"):
        _ = cifarnet.trian


def test_importing_cifarnet_imports_neither_numpy_nor_anything_heavier():
    assert modules_after("import cifarnet").isdisjoint(HEAVY | {"numpy", "PIL", "typer", "rich", "filelock"})


HELP = """
import sys
from cifarnet.cli import main
commands = ["train", "evaluate", "export", "inspect", "predict", "report", "robustness", "compare", "reproduce"]
commands += ["conformance", "demo", "doctor", "data"]
for arguments in ([], *([name] for name in commands)):
    sys.argv = ["cifarnet", *arguments, "--help"]
    try:
        main()
    except SystemExit as done:
        assert done.code == 0, done.code
    else:
        raise AssertionError("the help did not end the program")
"""


def test_the_help_of_every_command_exits_with_zero_and_imports_no_framework():
    assert modules_after(HELP).isdisjoint(HEAVY | {"numpy", "scipy", "sklearn", "jinja2"})


FOR_TRAINING = HEAVY - {"onnxruntime"}
"""What an app does without."""

PREDICT = """
import sys
from cifarnet.cli import main
sys.argv = ["cifarnet", "predict", "pretrained", {image!r}]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
"""


def test_predicting_imports_nothing_for_training_no_other_command_and_no_decoder_of_a_rare_format(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "image.png")
    loaded = modules_after(PREDICT.format(image=str(tmp_path / "image.png")))
    assert {"onnxruntime", "PIL", "cifarnet.cli.predict"} <= loaded
    assert loaded.isdisjoint(FOR_TRAINING | {"cifarnet.cli.train", "cifarnet.run.record", "PIL.PdfImagePlugin"})


def test_classifying_an_array_needs_no_pillow():
    program = """
import numpy as np
from cifarnet import Classifier
Classifier()(np.zeros((2, 32, 32, 3), np.uint8))
"""
    assert modules_after(program).isdisjoint(FOR_TRAINING | {"PIL", "typer", "rich", "filelock"})


def test_what_is_imported_is_noticed():
    assert "numpy" in modules_after("import cifarnet; cifarnet.evaluate")


def drawn_errors() -> Iterator[tuple[int, str, str]]:
    """Yield column, name and words of each line of the drawing at the top of ``errors.py``."""
    for line in errors.__doc__.splitlines():
        name, _, words = line.strip("│├└─ ").partition(" ")
        if name.endswith("Error"):
            yield line.index(name), name, words.strip()


def test_the_tree_of_errors_is_drawn_as_it_is_in_the_words_of_the_docstrings():
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    tree, path = {}, {}
    for column, name, _ in drawn_errors():
        path = {other: parent for other, parent in path.items() if other < column}
        tree[name] = path[max(path)] if path else "Exception"
        path[column] = name
    assert tree == {kind.__name__: kind.__base__.__name__ for kind in classes}
    docstrings = {
        kind.__name__: kind.__doc__ for kind in classes if kind.__base__ is not Exception
    }  # the root needs none
    assert {name: f"{words[0].upper()}{words[1:]}." for _, name, words in drawn_errors() if words} == docstrings
