"""Check the outputs of an app in any language on the golden images, and name a common mistake."""

from .check import TOLERANCES, Verdict, check_outputs, read_outputs

__all__ = ["TOLERANCES", "Verdict", "check_outputs", "read_outputs"]
