"""Sensor noise: Gaussian noise, shot noise and impulse noise."""

import numpy as np

from .pixels import Generators, Pixels, drawn

DEVIATIONS = (0.04, 0.06, 0.08, 0.09, 0.10)
"""Standard deviation of Gaussian noise per severity, as a fraction of the maximum value."""
PHOTONS = (500, 250, 100, 75, 50)
"""Number of photons at the maximum value, per severity."""
SHARES = (0.01, 0.02, 0.03, 0.05, 0.07)
"""Share of the channel values that become black or white, per severity."""


def gaussian_noise(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Add Gaussian noise to each channel of each pixel."""
    shape, deviation = pixels.shape[1:], np.float32(DEVIATIONS[severity - 1])
    return pixels + deviation * drawn(rngs, lambda rng: rng.standard_normal(shape, np.float32))


def shot_noise(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Add Poisson noise of a photon count."""
    photons = PHOTONS[severity - 1]
    counts = [rng.poisson(each * photons) for each, rng in zip(pixels, rngs, strict=True)]
    return np.stack(counts).astype(np.float32) / np.float32(photons)


def impulse_noise(pixels: Pixels, severity: int, rngs: Generators) -> Pixels:
    """Set a share of the values to black or white, with equal probability."""
    shape, half = pixels.shape[1:], SHARES[severity - 1] / 2
    uniform = drawn(rngs, lambda rng: rng.random(shape, np.float32))
    return np.where(uniform < half, np.float32(0), np.where(uniform >= 1 - half, np.float32(1), pixels))
