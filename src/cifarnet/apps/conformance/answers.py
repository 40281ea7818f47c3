"""Read the JSON file with an app's outputs."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cifarnet.errors import DataError, reason


def read_outputs(path: Path) -> dict[str, Any]:
    """Return the outputs in a JSON file by image name, without the folder.

    Raises ``DataError`` for any other file, and for an image that occurs twice.
    """
    try:
        outputs = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = reason(error) if isinstance(error, OSError) else "it is no JSON"
        raise DataError(f"{path} cannot be read ({what}); expected JSON: check the path and the file") from error
    if not isinstance(outputs, dict):
        raise DataError(f"{path} holds a {type(outputs).__name__}; expected {{image name: [numbers]}}: name the images")
    named = {Path(name).name: values for name, values in outputs.items()}
    if len(named) < len(outputs):
        raise _duplicate(path, outputs)
    return named


def _duplicate(path: Path, outputs: Iterable[str]) -> DataError:
    ((twice, _),) = Counter(Path(name).name for name in outputs).most_common(1)
    given = [name for name in outputs if Path(name).name == twice]
    return DataError(
        f"{path} has {len(given)} entries for {twice} ({', '.join(given)}); expected one per golden image: remove the "
        "others"
    )
