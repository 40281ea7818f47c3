"""Check the outputs of an app in any language on the golden images, and name common mistakes."""

from .answers import read_outputs
from .judging import Verdict, check_outputs

__all__ = ["Verdict", "check_outputs", "read_outputs"]
