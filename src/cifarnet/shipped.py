"""Where the files of the top-level folder ``export`` are: inside the installed package, or beside its sources."""

from pathlib import Path

from .errors import CifarnetError

INSTALLED = Path(__file__).parent / "_export"
"""Where the wheel carries them."""
CHECKOUT = Path(__file__).parents[2] / "export"


def shipped() -> Path:
    """Return the folder that holds ``golden`` and ``browser``. Raises ``CifarnetError`` when it is in neither place."""
    for folder in (INSTALLED, CHECKOUT):
        if (folder / "golden" / "golden.json").is_file():
            return folder
    raise CifarnetError(f"{INSTALLED} is missing; expected it in the package: install cifarnet again")
