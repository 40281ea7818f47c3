"""The public API is a list that agrees with the lazy table, nothing heavy is imported early, and errors form a tree."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import cifarnet
from cifarnet import errors
from cifarnet.backends import choose
from tests.runtime import models

HEAVY = {"keras", "jax", "torch", "tensorflow", "h5py", "matplotlib", "onnx", "onnxruntime"}
"""What neither the package root nor the help may import."""


def modules_after(program: str) -> set[str]:
    """Return the top-level modules that a new interpreter has loaded at the end of ``program``."""
    ending = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{ending}"], capture_output=True, text=True, timeout=120, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def literal_all() -> list[str]:
    """Read ``__all__`` from the source: a list that is computed is not found."""
    for statement in ast.parse(Path(cifarnet.__file__).read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return ast.literal_eval(statement.value)
    raise AssertionError("no literal __all__")


def test_the_public_names_are_a_sorted_literal_list():
    assert literal_all() == cifarnet.__all__ == sorted(set(cifarnet.__all__))


def test_list_lazy_table_and_completion_agree():
    assert cifarnet.__all__ == list(cifarnet._HOMES) == dir(cifarnet)


@pytest.mark.parametrize("name", cifarnet.__all__)
def test_every_public_name_can_be_imported_and_is_what_its_home_defines(name):
    choose()
    found = getattr(cifarnet, name)
    module, _, attribute = cifarnet._HOMES[name].partition(":")
    assert attribute == ("choose" if name == "choose_backend" else name)  # `cifarnet.choose` would not say what
    assert found is getattr(sys.modules[f"cifarnet.{module}"], attribute)
    assert found.__module__.startswith("cifarnet.")
    assert found.__doc__


def test_an_unknown_name_is_an_attribute_error_that_repeats_it():
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
sys.argv = ["cifarnet", "predict", *{arguments}]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
"""


def test_predicting_imports_neither_keras_nor_a_framework_nor_onnx(tmp_path):
    (tmp_path / "model.onnx").write_bytes(models.content())
    Image.new("RGB", (50, 40)).save(tmp_path / "image.png")
    loaded = modules_after(PREDICT.format(arguments=[str(tmp_path / "model.onnx"), str(tmp_path)]))
    assert loaded.isdisjoint(FOR_TRAINING)
    assert {"onnxruntime", "PIL"} <= loaded


def test_predicting_imports_neither_other_commands_nor_run_records_nor_the_decoders_of_rare_formats(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "image.png")
    ending = "print(*sys.modules)"
    program = f"{PREDICT.format(arguments=['pretrained', str(tmp_path / 'image.png')])}\n{ending}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "cifarnet.cli.predict" in loaded
    assert loaded.isdisjoint({"cifarnet.cli.train", "cifarnet.run.record", "PIL.PdfImagePlugin"})


def test_classifying_an_array_needs_no_pillow(tmp_path):
    (tmp_path / "model.onnx").write_bytes(models.content())
    program = f"""
import numpy as np
from cifarnet import Classifier
print(Classifier({str(tmp_path / "model.onnx")!r})(np.zeros((2, 32, 32, 3), np.uint8)))
"""
    assert modules_after(program).isdisjoint(FOR_TRAINING | {"PIL", "typer", "rich", "filelock"})


def test_what_is_imported_is_noticed():
    assert "numpy" in modules_after("import cifarnet; cifarnet.evaluate")


def drawn_tree() -> dict[str, str | None]:
    """Read the drawing at the top of ``errors.py``: the parent of each class, by the column that its name begins in."""
    tree, path = {}, {}
    for line in errors.__doc__.splitlines():
        words = line.strip("│├└─ ").split()
        if not words or not words[0].endswith("Error"):
            continue
        column = line.index(words[0])
        path = {other: name for other, name in path.items() if other < column}
        tree[words[0]] = path[max(path)] if path else None
        path[column] = words[0]
    return tree


def real_tree() -> dict[str, str | None]:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    return {kind.__name__: None if kind.__base__ is Exception else kind.__base__.__name__ for kind in classes}


def test_the_tree_of_errors_is_drawn_as_it_is():
    assert drawn_tree() == real_tree()
    assert "CifarnetError" in real_tree()


def test_the_drawing_says_of_each_error_what_its_docstring_says():
    said = {words[0]: words[1] for line in errors.__doc__.splitlines() if len(words := spoken(line)) == 2}
    docstrings = {name: getattr(errors, name).__doc__ for name in said}
    assert len(said) == len(real_tree()) - 1  # the root needs no words
    assert {name: f"{words[0].upper()}{words[1:]}." for name, words in said.items()} == docstrings


def spoken(line: str) -> list[str]:
    words = line.strip("│├└─ ").split(maxsplit=1)
    return words if words and words[0].endswith("Error") else []
