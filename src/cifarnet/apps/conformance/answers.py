"""The file that an app's author hands in."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cifarnet.atomic import reason
from cifarnet.errors import DataError


def read_answers(path: Path) -> dict[str, Any]:
    """Return what the JSON file at ``path`` says by the name of each image, which may stand there with its folder.

    Raises ``DataError`` for any other file, and for two answers for one image.
    """
    try:
        answers = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = reason(error) if isinstance(error, OSError) else "it is no JSON"
        raise DataError(f"{path} cannot be read ({what}); expected JSON: check the path and the file") from error
    if not isinstance(answers, dict):
        raise DataError(f"{path} holds a {type(answers).__name__}; expected {{image name: [numbers]}}: name the images")
    named = {Path(name).name: values for name, values in answers.items()}
    if len(named) < len(answers):
        raise _told_twice(path, answers)
    return named


def _told_twice(path: Path, answers: Iterable[str]) -> DataError:
    ((twice, _),) = Counter(Path(name).name for name in answers).most_common(1)
    given = [name for name in answers if Path(name).name == twice]
    return DataError(
        f"{path} has {len(given)} answers for {twice} ({', '.join(given)}); expected one per golden image: leave the "
        "others out"
    )
