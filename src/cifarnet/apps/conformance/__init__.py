"""Judge an app in any language by its numbers for the golden images, and name the mistake that explains them."""

from .answers import read_answers
from .judging import Verdict, judge

__all__ = ["Verdict", "judge", "read_answers"]
