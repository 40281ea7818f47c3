"""The fifteen corruptions of CIFAR-10-C at five severities, generated from a seed.

After Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR
2019, with their severities for CIFAR-10. This is an independent implementation with NumPy, SciPy and Pillow: frost is
generated instead of overlaid from photographs, snow and fog use other random numbers, and values are rounded instead of
truncated. Results can therefore not be compared directly with published ones.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from . import blur, digital, noise, weather
from .pixels import Generators, Pixels, generators, to_bytes, to_pixels

DRAWING = (
    "corruptions and severities of CIFAR-10-C (Hendrycks and Dietterich 2019), reimplemented: frost without its "
    "photographs, snow and fog with other random numbers; results cannot be compared directly with published ones"
)
"""Note stored with results on these images."""
SEVERITIES = (1, 2, 3, 4, 5)
_CORRUPTIONS: Final[Mapping[str, Callable[[Pixels, int, Generators], Pixels]]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}
FAMILIES = tuple(_CORRUPTIONS)
"""Names of the corruptions, in the order of the paper."""


def corrupt_at(
    images: NDArray[np.uint8], indices: NDArray[np.int64], family: str, severity: int, seed: int = 0
) -> NDArray[np.uint8]:
    """Return corrupted copies of images uint8 (n, h, w, 3), RGB, 0-255, n at least 1, h and w at least 8.

    ``indices``, int64 (n,), are their positions in the dataset. The random numbers depend only on seed, family,
    severity and index, so the result for an image does not depend on the other images. JPEG results may differ between
    versions of Pillow.
    """
    rngs = generators(seed, family, severity, indices)
    return to_bytes(_CORRUPTIONS[family](to_pixels(images), severity, rngs))
