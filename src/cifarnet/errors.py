"""The exceptions of cifarnet.

CifarnetError
├── UsageError            options that contradict each other or are out of range
├── ConfigError           a model or training setting out of range
├── BackendError          no framework, the wrong one, or one chosen too late
├── DataError             images or labels that cannot be used
│   ├── SizeError         an image with more pixels than is safe to decode
│   ├── FetchError        CIFAR-10 could not be downloaded
│   └── IntegrityError    bytes that do not match their expected hash or size
├── ModelError            weights or a model file that do not match
│   └── ParityError       an exported file that does not match the trained model
├── RunError              a run folder that is missing, incomplete or in use
│   └── CheckpointError   no checkpoint to resume training from
├── TrackingError         a tracking backend that is missing or fails
└── WorkerError           another worker of a training that ended or differs

Each message states in one line the actual value, the expected value and what to do.
"""

import os
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class CifarnetError(Exception):
    """Base class of all exceptions of cifarnet."""


class UsageError(CifarnetError):
    """Options that contradict each other or are out of range."""


class ConfigError(CifarnetError):
    """A model or training setting out of range."""


class BackendError(CifarnetError):
    """No framework, the wrong one, or one chosen too late."""


class DataError(CifarnetError):
    """Images or labels that cannot be used."""


class SizeError(DataError):
    """An image with more pixels than is safe to decode."""


class FetchError(DataError):
    """CIFAR-10 could not be downloaded."""


class IntegrityError(DataError):
    """Bytes that do not match their expected hash or size."""


class ModelError(CifarnetError):
    """Weights or a model file that do not match."""


class ParityError(ModelError):
    """An exported file that does not match the trained model."""


class RunError(CifarnetError):
    """A run folder that is missing, incomplete or in use."""


class CheckpointError(RunError):
    """No checkpoint to resume training from."""


class TrackingError(CifarnetError):
    """A tracking backend that is missing or fails."""


class WorkerError(CifarnetError):
    """Another worker of a training that ended or differs."""


def printable(text: str) -> str:
    """Escape characters that would break the line or control the terminal, which file names may contain."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number and the words after it: ``one`` after 1, otherwise ``several``, by default with an s."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def listed(names: Iterable[str], most: int = 3) -> str:
    """Return the first ``most`` names, separated by commas, and an ellipsis if there are more."""
    names = list(names)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def shown(path: Path) -> str:
    """Return ``path`` as a person would write it: relative to the working directory if it lies there."""
    with suppress(OSError, ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def shell_word(text: str) -> str:
    """Quote the text as one word of a shell command, with bash's and zsh's $'...' for unprintable characters."""
    plain = text.replace("\\", r"\\").replace("'", r"\'")
    hexed = (c if c.isprintable() else "".join(rf"\x{byte:02x}" for byte in os.fsencode(c)) for c in plain)
    return shlex.quote(text) if text.isprintable() else f"$'{''.join(hexed)}'"


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, without the path of an ``OSError``."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
