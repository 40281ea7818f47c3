"""Every exception that cifarnet raises on purpose.

CifarnetError
├── UsageError            options that contradict each other, or are out of range
├── ConfigError           a model or training setting outside its range
├── BackendError          no framework, the wrong one, or one asked for too late
├── DataError             images or labels that cannot be used
│   ├── SizeError         a picture of more pixels than is safe to decode
│   ├── FetchError        CIFAR-10 could not be brought here
│   └── IntegrityError    bytes that are not the bytes that were promised
├── ModelError            weights or a model file that do not fit
│   └── ParityError       an exported file that does not say what the trained model says
└── RunError              a run folder that is missing, incomplete or in use
    └── CheckpointError   no checkpoint from which training could go on

Each message says what came, what was expected and what to do, in one line.
"""


class CifarnetError(Exception):
    """The root: catch this to catch everything that cifarnet raises on purpose."""


class UsageError(CifarnetError):
    """Options that contradict each other, or are out of range."""


class ConfigError(CifarnetError):
    """A model or training setting outside its range."""


class BackendError(CifarnetError):
    """No framework, the wrong one, or one asked for too late."""


class DataError(CifarnetError):
    """Images or labels that cannot be used."""


class SizeError(DataError):
    """A picture of more pixels than is safe to decode."""


class FetchError(DataError):
    """CIFAR-10 could not be brought here."""


class IntegrityError(DataError):
    """Bytes that are not the bytes that were promised."""


class ModelError(CifarnetError):
    """Weights or a model file that do not fit."""


class ParityError(ModelError):
    """An exported file that does not say what the trained model says."""


class RunError(CifarnetError):
    """A run folder that is missing, incomplete or in use."""


class CheckpointError(RunError):
    """No checkpoint from which training could go on."""
