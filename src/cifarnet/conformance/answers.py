"""The file that an app's author hands in."""

import json
from pathlib import Path
from typing import Any

from cifarnet.errors import DataError


def read_answers(path: Path) -> dict[str, Any]:
    """Return what the JSON file at ``path`` says by the name of each image. Raises ``DataError`` for any other file."""
    try:
        answers = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); expected JSON: check the path and the file") from error
    if not isinstance(answers, dict):
        raise DataError(f"{path} holds a {type(answers).__name__}; expected {{image name: [numbers]}}: name the images")
    return {Path(name).name: values for name, values in answers.items()}
