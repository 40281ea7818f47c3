"""Configuration of the model and of its training."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from .arguments import instance, takes
from .contract import IMAGE_SHAPE
from .errors import ConfigError

OptimizerName = Literal["adam", "adamw", "muon", "nadam", "rmsprop", "sgd"]
Schedule = Literal["constant", "cosine", "linear"]
Flip = Literal["none", "random", "alternating"]
ClassWeights = Literal["none", "balanced"]
Precision = Literal["float32", "bfloat16"]

KERNEL_SIZES = range(1, 12, 2)
"""Valid kernel sizes: odd, so that ``same`` padding is symmetric."""
MOST = 2**31 - 1
"""Largest int32, which all frameworks support."""


class Config:
    """Base class of the configurations: field checks, and lossless conversion to and from JSON."""

    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Fields added in later versions. An older document lacks them; the default is the older behavior."""
    SPARSE: ClassVar[frozenset[str]] = frozenset()
    """Fields that ``to_json`` omits if they have their default, so that model files do not change with new fields."""

    def _make_plain(self) -> None:
        """Replace numpy numbers by Python numbers, which JSON can represent."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            object.__setattr__(self, field.name, plain_number(getattr(self, field.name)))

    def _require(self, field: str, holds: bool, expected: str) -> None:  # noqa: FBT001  # reads as a sentence
        if not holds:
            raise ConfigError(f"{field} is {getattr(self, field)!r}; expected {expected}")

    def _require_number(self, field: str, holds: Callable[[float], bool], expected: str) -> None:
        value = getattr(self, field)
        is_number = type(value) is float or (type(value) is int and abs(value) <= MOST)  # float() loses precision above
        self._require(field, is_number and holds(value), expected)

    def _require_whole(self, field: str, low: int, high: int) -> None:
        value = getattr(self, field)
        self._require(field, type(value) is int and low <= value <= high, f"a whole number from {low:,} to {high:,}")

    def _require_choices(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if get_origin(field.type) is Literal:
                names = get_args(field.type)
                self._require(field.name, getattr(self, field.name) in names, "one of " + ", ".join(names))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; tuples become lists."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]  # every subclass is a dataclass
        omitted = {name for name in self.SPARSE if values[name] == getattr(type(self), name)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name not in omitted
        }

    @classmethod
    @takes(document=instance(Mapping, "the fields by name: pass a dict, as to_json returns it"))
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Create a configuration from the result of ``to_json``.

        Missing fields in ``ADDED`` have their defaults. Raises ``ConfigError`` for other missing fields, for unknown
        fields, and for values of the wrong type or out of range.
        """
        fields = {field.name: field.type for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if not set(fields) - cls.ADDED <= set(document) <= set(fields):
            raise ConfigError(
                f"{cls.__name__} has the fields {sorted(document)}; expected {sorted(fields)}: "
                "read it with the cifarnet version that wrote it"
            )
        return cls(
            **{name: _from_json(name, document[name], kind) for name, kind in fields.items() if name in document}
        )


def plain_number(value: Any) -> Any:
    """Convert a numpy number, alone or in a tuple, to a Python number; return any other value unchanged."""
    if isinstance(value, tuple):
        return tuple(map(plain_number, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _from_json(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(value)
    if kind is float:
        return float(value) if type(value) is int and abs(value) <= MOST else value
    expected = str if get_origin(kind) is Literal else kind
    if type(value) is not expected:
        raise ConfigError(f"{name} is {value!r}; expected {getattr(expected, '__name__', expected)}")
    return value


def _positive_integers(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and 0 < value <= MOST for value in values)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """Configuration of the network: blocks of convolutions and max-pooling, dense layers with dropout, and softmax.

    The defaults are the recipe ``seed``. Raises ``ConfigError`` for a value out of range.
    """

    ADDED = frozenset({"whitening", "pooling", "ghost_batch", "global_pooling"})

    image_shape: tuple[int, ...] = IMAGE_SHAPE
    """Height and width of the input in pixels, and its 3 channels, RGB."""
    classes: int = 10
    """Number of classes, 2 to 10,000."""
    pixel_range: Literal["unit", "signed"] = "signed"
    """Range to which the first layer scales pixels: ``unit`` is 0 to 1, ``signed`` is -1 to 1."""
    whitening: int = 0
    """Kernel size, in pixels, of a fixed first convolution that whitens patches of the images, 1 to 4; 0 for none.

    It is not trained and has twice as many filters as a patch has values.
    """
    filters: tuple[int, ...] = (32, 64, 128)
    """Number of filters in each block. Each block halves height and width."""
    convolutions_per_block: int = 1
    """Number of convolutions in each block, 1 to 8."""
    pooling: Literal["last", "first"] = "last"
    """Whether max-pooling follows the first or the last convolution of a block."""
    ghost_batch: int = 0
    """Maximum number of images in a ghost batch, 2 or more; 0 for no batch normalization.

    A batch is divided into ghost batches, which are normalized separately in training (Hoffer et al. 2017). Padding of
    an epoch's last batch is included in the statistics.
    """
    kernel_size: int = 3
    """Height and width of the kernels in pixels, odd, 1 to 11."""
    padding: Literal["same", "valid"] = "same"
    """Padding of convolutions: ``same`` keeps height and width, ``valid`` reduces them by ``kernel_size - 1``."""
    global_pooling: Literal["none", "average", "max"] = "none"
    """Global pooling after the blocks: ``average``, ``max``, or ``none`` to flatten the features."""
    dense_units: tuple[int, ...] = (512, 256, 128)
    """Units of the hidden dense layers; may be empty."""
    dropout: float = 0.3
    """Dropout rate after each hidden dense layer, from 0 up to but not including 1."""
    initializer: Literal["he_normal", "glorot_normal"] = "he_normal"
    """Initializer of the kernels. Biases start at 0."""

    def __post_init__(self) -> None:
        self._make_plain()
        shape = self.image_shape
        self._require(
            "image_shape", _positive_integers(shape) and shape[2:] == (3,), "(height, width, 3), since images are RGB"
        )
        self._require_whole("classes", 2, 10_000)
        self._require_whole("whitening", 0, 4)
        self._require(
            "filters", _positive_integers(self.filters) and self.filters != (), "one positive width per block"
        )
        self._require("dense_units", _positive_integers(self.dense_units), "one positive width per dense layer")
        self._require_whole("convolutions_per_block", 1, 8)
        ghost = self.ghost_batch
        self._require(
            "ghost_batch", type(ghost) is int and (ghost == 0 or 2 <= ghost <= MOST), "0, or 2 or more images"
        )
        size = self.kernel_size
        self._require("kernel_size", type(size) is int and size in KERNEL_SIZES, "1, 3, 5, 7, 9 or 11")
        self._require_number("dropout", lambda value: 0 <= value < 1, "a fraction from 0 up to but not including 1")
        self._require_choices()
        smallest = min(min(shape) for shape in self._sizes())
        self._require("filters", smallest >= 1, f"fewer blocks or no whitening: {shape} images shrink to zero pixels")

    def _sizes(self) -> Iterator[tuple[int, int]]:
        shrink = 0 if self.padding == "same" else self.kernel_size - 1
        before = 1 if self.pooling == "first" else self.convolutions_per_block
        sizes = [size - max(self.whitening - 1, 0) for size in self.image_shape[:2]]
        for _ in self.filters:
            sizes = [(size - before * shrink) // 2 for size in sizes]
            sizes = [size - (self.convolutions_per_block - before) * shrink for size in sizes]
            yield sizes[0], sizes[1]

    @property
    def whitened_channels(self) -> int:
        """Number of input channels of the first block."""
        return 2 * self.whitening**2 * self.image_shape[2] if self.whitening else self.image_shape[2]

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the features that the first dense layer receives."""
        height, width = (1, 1) if self.global_pooling != "none" else list(self._sizes())[-1]
        return height, width, self.filters[-1]

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        total, channels = 0, self.whitened_channels
        for filters in self.filters:
            for _ in range(self.convolutions_per_block):
                total += (self.kernel_size**2 * channels + 1) * filters
                channels = filters
        widths = (math.prod(self.feature_shape), *self.dense_units, self.classes)
        return total + sum((before + 1) * after for before, after in pairwise(widths))


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Configuration of training. The defaults are the recipe ``seed``.

    Raises ``ConfigError`` for a value out of range.
    """

    ADDED = frozenset({"label_smoothing", "flip", "translation", "cutout", "precision", "class_weights"})
    SPARSE = frozenset({"class_weights"})

    optimizer: OptimizerName = "adam"
    """Optimizer, by its name in ``keras.optimizers``; Keras' defaults apply to settings that are not listed here.

    ``muon`` is our own implementation: it orthogonalizes the updates of convolution kernels and uses Adam for all other
    variables.
    """
    learning_rate: float = 2e-3
    """Peak learning rate, above 0."""
    schedule: Schedule = "cosine"
    """Learning rate schedule: ``constant``, or ``linear`` or ``cosine`` decay over ``schedule_epochs``."""
    schedule_epochs: int = 9
    """Epochs of the decay; 0 means ``epochs``. Not used by ``constant``."""
    floor_fraction: float = 0.01
    """Learning rate after the decay, as a fraction of the peak, 0 to 1. Not used by ``constant``."""
    warmup_epochs: float = 0.25
    """Epochs of linear learning rate warmup, 0 or more."""
    weight_decay: float = 0.3
    """Decoupled weight decay of kernels (not biases) per step, as a multiple of the learning rate, 0 or more.

    With ``muon``, which normalizes convolution kernels, it only applies to dense layers.
    """
    label_smoothing: float = 0.0
    """Label smoothing in training, from 0 up to but not including 1."""
    class_weights: ClassWeights = "none"
    """Class weights of the training loss. ``balanced`` is, as in scikit-learn, the number of training images divided by
    the number of classes and by the number of training images of the class. The validation loss is not weighted."""
    flip: Flip = "none"
    """Horizontal flip: ``random`` flips a random half of the images, ``alternating`` each image every other epoch."""
    translation: int = 0
    """Random translation (crop) by up to this many pixels in each direction, with reflection padding."""
    cutout: int = 0
    """Height and width of a gray cutout square in pixels; part of it may lie outside the image. 0 for none."""
    precision: Precision = "float32"
    """Precision of the inputs and outputs of convolutions in training. Everything else is float32.

    ``bfloat16`` has 8 significant bits. It is faster in TensorFlow and PyTorch on CPUs with bfloat16 instructions; JAX
    uses these only in larger convolutions. On other CPUs values are only rounded.
    """
    batch_size: int = 30
    """Batch size, 1 or more. The last batch of an epoch may be smaller."""
    epochs: int = 1000
    """Maximum number of epochs, 1 or more."""
    patience: int = 20
    """Early stopping: epochs without improvement of the validation loss, 1 or more."""
    min_delta: float = 1e-3
    """Minimum decrease of the validation loss that counts as an improvement, nats, 0 or more.

    With a loss other than the cross-entropy, it is a fraction of the best loss so far.
    """
    validation_fraction: float = 0.3
    """Fraction of the training images in the validation split, stratified by class, above 0 and below 1."""
    seed: int = 0
    """Random seed, 0 to 2,147,483,647."""

    def __post_init__(self) -> None:
        self._make_plain()
        self._require_choices()
        for field in ("batch_size", "epochs", "patience"):
            self._require_whole(field, 1, MOST)
        for field in ("schedule_epochs", "translation", "cutout", "seed"):
            self._require_whole(field, 0, MOST)
        for field in ("warmup_epochs", "weight_decay", "min_delta"):
            self._require_number(field, lambda value: 0 <= value < math.inf, "a finite number, 0 or more")
        self._require_number(
            "label_smoothing", lambda value: 0 <= value < 1, "a fraction from 0 up to but not including 1"
        )
        self._require_number("learning_rate", lambda value: 0 < value < math.inf, "a finite number above 0")
        self._require_number("floor_fraction", lambda value: 0 <= value <= 1, "a fraction from 0 to 1")
        self._require_number("validation_fraction", lambda value: 0 < value < 1, "a fraction above 0 and below 1")
