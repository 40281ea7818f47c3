"""The adapter for JAX."""

from .engine import compile, micro_batches, predictor  # noqa: A004
from .faulty_jaxlib import sums_are_right
from .joining import join
from .operations import apply_adam, batch_norm, conv2d, max_pool2d
from .process import THREAD_VARIABLES, devices, framework_defaults, prepare_process, threads

__all__ = [
    "THREAD_VARIABLES",
    "apply_adam",
    "batch_norm",
    "compile",
    "conv2d",
    "devices",
    "framework_defaults",
    "join",
    "max_pool2d",
    "micro_batches",
    "predictor",
    "prepare_process",
    "sums_are_right",
    "threads",
]
