"""Train the same job on several backends, each in a process of its own, and say how alike they came out.

``compare_backends`` does all of it and leaves a folder with the runs, every figure and one picture.
"""

from .children import interruptible
from .comparing import compare_backends
from .values import Comparison, Measured, Pair, Plan, Training

__all__ = ["Comparison", "Measured", "Pair", "Plan", "Training", "compare_backends", "interruptible"]
