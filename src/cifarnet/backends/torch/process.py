"""Process-wide settings of PyTorch, its devices and its threads."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Constants of glibc's ``malloc.h``."""
KEPT_BYTES = 2**30
"""More than the largest allocation of a step, in bytes."""
OLDER_MAXIMUM = 2**25
"""Maximum of ``M_MMAP_THRESHOLD`` before glibc 2.35, in bytes."""


def prepare_process() -> None:
    """Let the C library keep freed memory, because every step allocates tensors of the same sizes again.

    By default glibc returns large blocks to the system, which then has to clear each page again: up to 4,000 pages and
    10 ms per step of the recipe ``seed``.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if any(libc.mallopt(M_MMAP_THRESHOLD, size) for size in (KEPT_BYTES, OLDER_MAXIMUM)):
            libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


@contextmanager
def framework_defaults() -> Iterator[None]:
    """Disable autocast and inference mode; float32 is the default dtype and never less exact."""
    kinds = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,
        torch.backends.mkldnn.matmul,
        torch.backends.mkldnn.conv,
    )
    before, dtype = [kind.fp32_precision for kind in kinds], torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    for kind in kinds:
        kind.fp32_precision = "ieee"  # cuDNN's convolutions are TF32 by default
    try:
        with torch.inference_mode(mode=False), torch.enable_grad(), ExitStack() as autocasts:
            for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
                autocasts.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        torch.set_default_dtype(dtype)
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def devices() -> list[str]:
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *apple, *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def threads() -> int:
    return int(torch.get_num_threads())
