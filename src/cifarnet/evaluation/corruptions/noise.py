"""Noise of the sensor: grain, few photons, dead pixels."""

import numpy as np

from .pixels import Generators, Pixels, drawn

DEVIATIONS = (0.04, 0.06, 0.08, 0.09, 0.10)
"""Of Gaussian noise, as a fraction of the brightest value."""
PHOTONS = (500, 250, 100, 75, 50)
"""That make the brightest value."""
SHARES = (0.01, 0.02, 0.03, 0.05, 0.07)
"""Of channel values that are lost to salt or pepper."""


def gaussian_noise(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Add normal noise to each channel of each pixel."""
    shape, deviation = pixels.shape[1:], np.float32(DEVIATIONS[severity - 1])
    return pixels + deviation * drawn(rngs, lambda rng: rng.standard_normal(shape, np.float32))


def shot_noise(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Count photons: each value becomes a Poisson draw with itself as the mean."""
    photons = PHOTONS[severity - 1]
    counts = [rng.poisson(each * photons) for each, rng in zip(pixels, rngs, strict=True)]
    return np.stack(counts).astype(np.float32) / np.float32(photons)


def impulse_noise(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Set a share of the values to black or to white, one as often as the other."""
    shape, half = pixels.shape[1:], SHARES[severity - 1] / 2
    fate = drawn(rngs, lambda rng: rng.random(shape, np.float32))
    return np.where(fate < half, np.float32(0), np.where(fate >= 1 - half, np.float32(1), pixels))
