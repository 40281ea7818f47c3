"""The adapter for PyTorch: what ``Adapter`` names."""

from .engine import compile, micro_batches, predictor  # noqa: A004
from .joining import join
from .operations import apply_adam, batch_norm, conv2d, max_pool2d
from .process import THREAD_VARIABLES, devices, framework_defaults, prepare_process, threads
