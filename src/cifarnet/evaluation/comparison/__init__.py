"""Train the same model on several backends, each in its own process, and measure how the results differ."""

from .compare import Comparison, Plan, ScoreWithInterval, Training, compare_backends

__all__ = ["Comparison", "Plan", "ScoreWithInterval", "Training", "compare_backends"]
