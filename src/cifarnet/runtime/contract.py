"""Parse and validate the contract of a model file."""

import json
from collections.abc import Mapping
from typing import Any

from cifarnet.contract import BATCH_DIMENSION, CONTRACT_VERSION, INPUT, RECIPE, fault_of_labels
from cifarnet.errors import ModelError

MAX_SIDE = 4096
"""Maximum image height and width in pixels, which limits the memory that a file can request."""
SIZES = frozenset(("height", "width"))
"""Preprocessing settings that differ between models; the others must have the known values."""
MAX_TEMPERATURE = 1000
"""Maximum temperature, at which all classes are nearly equally probable."""
SHARES = ("threshold", "coverage", "accuracy")
"""Keys of the selective prediction threshold."""
KINDS = {"labels": list, "input": dict, "resize": dict, "precision": str, "model": dict}


def read_contract(text: str, name: str) -> dict[str, Any]:
    """Parse and validate the contract of the file ``name``.

    Raises ``ModelError`` for a contract that is missing, damaged or of a newer version.
    """
    try:
        contract = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"it is no JSON: {error}") from error
    if not isinstance(contract, dict):
        raise _damaged(name, "it is no JSON object")
    version = contract.get("version")
    if type(version) is not int or version < 1:
        raise _damaged(name, f"its version is {version!r}")
    if version > CONTRACT_VERSION:
        raise _newer(name, f"has contract version {version}; expected at most {CONTRACT_VERSION}")
    _require_usable(contract, name)
    return contract


def _require_usable(contract: Mapping[str, Any], name: str) -> None:
    """Raise ``ModelError`` unless labels, input, preprocessing and calibration are valid."""
    for key, kind in KINDS.items():
        if not isinstance(contract.get(key), kind):
            raise _damaged(name, f"its {key} is {_short(contract.get(key))}")
    if fault_of_labels(contract["labels"]):
        raise _damaged(name, f"its labels are {_short(contract['labels'])}, not two or more different names")
    _require_input(contract["input"], name)
    _require_recipe(contract["resize"], contract["input"]["shape"], name)
    if contract.get("calibration") is not None:  # absent in files of earlier versions
        _require_calibration(contract["calibration"], name)


def _require_input(described: Mapping[str, Any], name: str) -> None:
    for key, value in INPUT.items():
        if described.get(key) != value:
            raise _damaged(name, f"its input has {key} {_short(described.get(key))}, not {value!r}")
    shape: Any = described.get("shape")
    is_shape = isinstance(shape, list) and len(shape) == 4 and (shape[0], shape[3]) == (BATCH_DIMENSION, 3)
    if not (is_shape and all(type(side) is int and 1 <= side <= MAX_SIDE for side in shape[1:])):
        raise _damaged(name, f"its input has shape {_short(shape)}, not ['{BATCH_DIMENSION}', height, width, 3]")


def _require_recipe(recipe: Mapping[str, Any], shape: list[Any], name: str) -> None:
    if missing := RECIPE.keys() - recipe.keys():
        raise _damaged(name, f"its resize recipe lacks {', '.join(sorted(missing))}")
    if [recipe["height"], recipe["width"]] != shape[1:3]:
        raise _damaged(name, f"its resize recipe has another size than its input, {_short(shape)}")
    for word in sorted(recipe.keys() - SIZES):
        if recipe[word] != RECIPE.get(word):
            known = f"expected {RECIPE[word]}" if word in RECIPE else "there is no such step"
            raise _newer(name, f"resizes images with {_short(word)} {_short(recipe[word])}; {known} in this version")


def _require_calibration(calibration: Any, name: str) -> None:
    if not isinstance(calibration, dict):
        raise _damaged(name, f"its calibration is {_short(calibration)}")
    temperature: Any = calibration.get("temperature")
    abstention = calibration.get("abstention")
    if not (_is_number(temperature) and 0 < temperature <= MAX_TEMPERATURE):
        raise _damaged(
            name, f"its temperature is {_short(temperature)}, not a number above 0 and up to {MAX_TEMPERATURE}"
        )
    if abstention is not None:
        shares: list[Any] = [abstention.get(key) for key in SHARES] if isinstance(abstention, dict) else [None]
        if not all(_is_number(share) and 0 <= share <= 1 for share in shares):
            raise _damaged(name, f"its abstention is {_short(abstention)}, not {', '.join(SHARES)} of 0 to 1")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _damaged(name: str, reason: str) -> ModelError:
    return ModelError(
        f"{name} has a damaged contract ({reason}); expected one written by `cifarnet export`: export it again"
    )


def _newer(name: str, found: str) -> ModelError:
    return ModelError(f"{name} {found}: install a newer cifarnet")


def _short(value: Any) -> str:
    """Return the repr of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
