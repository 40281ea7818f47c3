"""Tolerances of the parity check for each precision."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from cifarnet.errors import ConfigError

PRECISIONS = ("float32", "float16", "int8")
MAX_DROP = 0.005
"""Default of the accuracy that a smaller file may lose, as a fraction of the test set."""
FLOAT16_PROBABILITY = 0.02
"""Maximum difference of a probability in float16, with its 11-bit significand. Measured: 2e-3."""


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Tolerances of the parity check; the defaults are for float32."""

    probability: float | None = 1e-5
    """Maximum absolute difference of a probability, or None for no limit. Measured for float32: up to 7e-6."""
    calibrated: float | None = 1e-5
    """Maximum absolute difference of a calibrated probability, or None for no limit. Measured: up to 7e-6."""
    heads: float = 1e-5
    """Maximum absolute difference of either from the softmax of the file's own logits. Measured: up to 3e-7 in float32,
    float16 and int8."""
    margin: float | None = 1e-4
    """Top-2 margin above which the predicted class must match, or None to disable the check."""
    accuracy_drop: float = 0.0
    """Maximum loss of accuracy, as a fraction of the test set."""
    equal_accuracy: bool = True
    """Whether the number of correct predictions must match exactly."""

    def at(self, temperature: float | None) -> "Tolerances":
        """Return the tolerances at a temperature, above 0; below 1 it magnifies the rounding of logits."""
        factor = max(1.0, 1.0 / (temperature or 1.0))
        calibrated = None if self.calibrated is None else self.calibrated * factor
        return replace(self, calibrated=calibrated, heads=self.heads * factor)

    def to_json(self) -> dict[str, Any]:
        """Return the tolerances that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def tolerances_of(precision: str, max_drop: float = MAX_DROP) -> Tolerances:
    """Return the tolerances of a precision; float16 and int8 may lose ``max_drop`` accuracy, a fraction.

    Raises ``ConfigError`` for another precision or a fraction outside 0 to 1.
    """
    if precision not in PRECISIONS or not 0 <= max_drop < 1:
        raise ConfigError(
            f"precision is {precision} and max_drop {max_drop}; expected one of {', '.join(PRECISIONS)} and a "
            "fraction from 0 up to but not including 1"
        )
    if precision == "float32":
        return Tolerances()
    probability = FLOAT16_PROBABILITY if precision == "float16" else None
    return Tolerances(
        probability=probability, calibrated=probability, margin=None, accuracy_drop=max_drop, equal_accuracy=False
    )
