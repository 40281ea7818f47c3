"""Each corruption has its effect, grows with the severity, and does not depend on the other images."""

import colorsys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from cifarnet.evaluation.corruptions import FAMILIES, SEVERITIES, blur, corrupt_at, digital, weather

FIXED = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
"""Deterministic families."""
GROWING = FIXED | {"gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "snow", "fog"}
"""Families whose change grows with the severity; glass, frost and elastic have several parameters."""
STRENGTH = {"motion_blur": (1, 2, 5)}
"""Severities to compare if two adjacent ones are too close."""


def smooth(count=12, height=32, width=32):
    """Return images, uint8 (count, height, width, 3), with soft shapes like those of photographs, of full contrast."""
    noise = np.random.default_rng(5).standard_normal((count, height, width, 3))
    soft = gaussian_filter(noise, (0, 2, 2, 0)) + 0.05 * noise
    low, high = (end(soft, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
    return (200 * (soft - low) / (high - low) + 20).astype(np.uint8)


IMAGES = smooth()


def change(corrupted, images=IMAGES):
    return np.abs(corrupted.astype(int) - images).mean()


def corrupt(images, family, severity, seed=0, first_index=0):
    """Corrupt images that follow one another in their dataset."""
    return corrupt_at(images, np.arange(len(images)) + first_index, family, severity, seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_corruption_depends_on_seed_severity_and_index_and_on_nothing_else(family):
    images, state = IMAGES.copy(), np.random.get_state()[1].copy()  # noqa: NPY002  # it must stay untouched
    whole = corrupt(images, family, 3, seed=1)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert change(whole) > 0.5
    chosen = np.array([9, 2])
    np.testing.assert_array_equal(corrupt_at(IMAGES[chosen], chosen, family, 3, seed=1), whole[chosen])
    if family not in FIXED:
        for other in (
            corrupt(IMAGES[:2], family, 3, seed=2),
            corrupt(IMAGES[:2], family, 4, seed=1),
            corrupt(IMAGES[:2], family, 3, seed=1, first_index=2),
        ):
            assert not np.array_equal(whole[:2], other)


@pytest.mark.parametrize("family", sorted(GROWING))
def test_a_higher_severity_changes_more(family):
    changes = [change(corrupt(IMAGES, family, severity)) for severity in STRENGTH.get(family, SEVERITIES)]
    assert changes == sorted(set(changes)), changes
    assert (len(FAMILIES), SEVERITIES) == (15, (1, 2, 3, 4, 5))  # of the paper


@pytest.mark.parametrize("family", FAMILIES)
def test_any_shape_and_a_black_and_a_white_image_are_accepted(family):
    """Warnings are errors here: a division by nothing would show."""
    for shape, severity in (((2, 8, 8, 3), 1), ((2, 9, 33, 3), 5)):
        for images in (
            np.random.default_rng(0).integers(0, 256, shape, np.uint8),
            np.stack([np.zeros(shape[1:], np.uint8), np.full(shape[1:], 255, np.uint8)]),
        ):
            corrupted = corrupt(images, family, severity)
            assert (corrupted.shape, corrupted.dtype) == (shape, np.uint8)
            assert not np.shares_memory(corrupted, images)


# Each corruption


def test_noise_has_the_standard_deviation_of_its_severity():
    grey = np.full((20, 32, 32, 3), 128, np.uint8)
    for severity, deviation in zip(SEVERITIES, (0.04, 0.06, 0.08, 0.09, 0.10), strict=True):
        noise = corrupt(grey, "gaussian_noise", severity) / 255 - 128 / 255
        np.testing.assert_allclose((noise.mean(), noise.std()), (0, deviation), atol=0.002)
    photons = corrupt(grey, "shot_noise", 5) / 255
    np.testing.assert_allclose((photons.mean(), photons.var()), (128 / 255, 128 / 255 / 50), atol=0.002)


def test_impulse_noise_is_black_or_white_with_equal_probability():
    struck = corrupt(np.full((20, 32, 32, 3), 128, np.uint8), "impulse_noise", 5)
    assert set(np.unique(struck)) == {0, 128, 255}
    np.testing.assert_allclose([np.mean(struck == 0), np.mean(struck == 255)], 0.035, atol=0.004)


def test_a_blur_keeps_a_uniform_image():
    plain = np.broadcast_to(np.array([200, 90, 17], np.uint8), (2, 32, 32, 3))
    for family in ("defocus_blur", "motion_blur", "zoom_blur"):
        np.testing.assert_array_equal(corrupt(plain, family, 5), plain, family)


def test_glass_blur_displaces_pixels_like_the_original_code():
    """The original loop swaps views of one array, which copies."""
    steps = np.random.default_rng(0).integers(0, 2, (1, 2, 32, 32))
    expected = IMAGES[0].copy()
    for row in range(31, 1, -1):
        for column in range(31, 1, -1):
            above, before = row - steps[0, 0, row, column], column - steps[0, 1, row, column]
            expected[row, column], expected[above, before] = expected[above, before], expected[row, column]
    np.testing.assert_array_equal(blur._displaced(IMAGES[:1], steps)[0], expected)


def test_motion_blur_is_half_a_gaussian_along_its_angle():
    point = np.zeros((1, 21, 21, 1), np.float32)
    point[0, 10, 10] = 1
    trace = np.exp(-np.square(np.arange(5) / 1.5) / 2)
    trace /= trace.sum()
    np.testing.assert_allclose(blur.motion_blurred(point, 2, 1.5, [0])[0, 10, 6:11, 0], trace[::-1], atol=1e-6)
    np.testing.assert_allclose(blur.motion_blurred(point, 2, 1.5, [90])[0, 6:11, 10, 0], trace[::-1], atol=1e-6)


@pytest.mark.parametrize("factor", [1, 1.05, 2.25])
def test_zoom_equals_that_of_scipy_on_the_center(factor):
    plane = IMAGES[0, :, :, 0].astype(np.float32)
    kept = int(np.ceil(32 / factor))
    first = (32 - kept) // 2
    large = zoom(plane[first : first + kept, first : first + kept], factor, order=1)
    at = (len(large) - 32) // 2
    np.testing.assert_allclose(blur.zoomed(plane, factor), large[at : at + 32, at : at + 32], atol=1e-3)


def test_brightness_changes_only_the_hsv_value():
    pixels = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    pixels[0, 0, 0] = 0
    brighter = np.clip(weather.brightness(pixels, 4, []), 0, 1)
    for before, after in zip(pixels.reshape(-1, 3), brighter.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before.tolist())
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1)), atol=1e-5)


def test_contrast_keeps_the_mean_and_scales_the_deviation():
    flat = corrupt(IMAGES, "contrast", 5)
    np.testing.assert_allclose(flat.mean(axis=(1, 2)), IMAGES.mean(axis=(1, 2)), atol=0.5)
    np.testing.assert_allclose(flat.std(axis=(1, 2)), 0.15 * IMAGES.std(axis=(1, 2)), atol=0.5)


@pytest.mark.parametrize(("repeats", "mode"), [(0, "mirror"), (1, "reflect")])
def test_sampling_equals_that_of_scipy_beyond_the_borders(repeats, mode):
    rows, columns = np.random.default_rng(1).uniform(-20, 52, (2, 1, 32, 32)).astype(np.float32)
    pixels = IMAGES[:1].astype(np.float32)
    found = digital._sampled(pixels, rows, columns, repeats=repeats)
    for channel in range(3):
        expected = map_coordinates(pixels[0, :, :, channel], [rows[0], columns[0]], order=1, mode=mode)
        np.testing.assert_allclose(found[0, :, :, channel], expected, atol=1e-2)


def test_equal_pulls_translate_the_image():
    pulls = np.broadcast_to(np.array([1, -2], np.float32), (1, 3, 2))
    rows, columns = digital._affine((32, 32), pulls)
    y, x = np.mgrid[:32, :32]
    np.testing.assert_allclose([rows[0], columns[0]], [y - 1, x + 2], atol=1e-4)


def test_clouds_fill_their_range_and_wrap_around():
    cloud = weather.clouds([np.random.default_rng(3)], 40, 2.0)[0]
    assert (cloud.shape, cloud.min(), cloud.max()) == ((64, 64), 0, 1)
    seam, inside = np.abs(cloud[:, 0] - cloud[:, -1]).mean(), np.abs(np.diff(cloud, axis=1)).mean()
    assert seam < 2 * inside


def test_frost_is_bluish_white_and_varies_between_images():
    black = np.zeros((30, 32, 32, 3), np.uint8)
    ice = corrupt(black, "frost", 5)
    assert 20 < ice.mean() < 80
    assert ice.std() > 20
    assert (ice[..., 2] >= ice[..., 0]).all()
    assert np.ptp(ice.mean(axis=(1, 2, 3))) > 20
    assert len({weather._texture(number).tobytes() for number in range(weather.TEXTURES)}) == weather.TEXTURES


def test_fog_keeps_the_maximum_and_reduces_contrast():
    foggy = corrupt(IMAGES, "fog", 5)
    assert (foggy.max(axis=(1, 2, 3)) <= IMAGES.max(axis=(1, 2, 3))).all()
    assert foggy.std(axis=(1, 2)).mean() < IMAGES.std(axis=(1, 2)).mean()


def test_pixelate_leaves_few_colors():
    assert len(np.unique(corrupt(IMAGES[:1], "pixelate", 5)[0].reshape(-1, 3), axis=0)) <= 20 * 20
