"""Where the files of the top-level folder ``export`` are: inside the installed package, or beside its sources."""

from pathlib import Path

from cifarnet.errors import IntegrityError

INSTALLED = Path(__file__).parents[1] / "_export"
"""Where the wheel carries them."""
CHECKOUT = Path(__file__).parents[3] / "export"
PROOF = Path("golden/golden.json")
"""What is there where the others are."""


def shipped() -> Path:
    """Return the folder that holds ``golden`` and ``browser``. Raises ``IntegrityError`` when there is none."""
    for folder in (INSTALLED, CHECKOUT):
        if (folder / PROOF).is_file():
            return folder
    raise IntegrityError(
        f"{PROOF} is neither in {INSTALLED} nor in {CHECKOUT}; expected it in the package: "
        "pip install --force-reinstall --no-deps cifarnet"
    )
