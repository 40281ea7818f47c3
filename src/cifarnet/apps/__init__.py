"""Applications around a model file: demo page, conformance check, environment check; and the files that they need."""

from pathlib import Path

from cifarnet.errors import IntegrityError

INSTALLED = Path(__file__).parents[1] / "_export"
"""Folder in the wheel with files of the top-level folder ``export``."""
CHECKOUT = Path(__file__).parents[3] / "export"
PRESENT = Path("golden/golden.json")
"""A file that exists wherever the others do."""


def package_data() -> Path:
    """Return the folder that contains ``golden`` and ``browser``. Raises ``IntegrityError`` if there is none."""
    for folder in (INSTALLED, CHECKOUT):
        if (folder / PRESENT).is_file():
            return folder
    raise IntegrityError(
        f"{PRESENT} is neither in {INSTALLED} nor in {CHECKOUT}; expected it in the package: "
        "pip install --force-reinstall --no-deps . in your clone of cifarnet"
    )
