"""Classification metrics: correct on worked examples, and None if undefined."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from cifarnet.errors import DataError
from cifarnet.evaluation.calibration import BINS, TEMPERATURES, calibrate, reliability
from cifarnet.evaluation.metrics import measure
from cifarnet.evaluation.scoring import score, softmax
from cifarnet.evaluation.significance import Interval, compare, wilson
from cifarnet.run.record import Calibration
from cifarnet.run.typed_json import members, read

NAMES = ("ant", "bee", "cow")


def logits_for(probabilities):
    return np.log(np.array(probabilities, np.float32))


def labels_of(*labels):
    return np.array(labels, np.int32)


def overconfident(images=4000, classes=5, factor=3.0, seed=0):
    """Logits whose true probabilities are those at temperature ``factor``, and labels drawn from these."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, classes)).astype(np.float32)
    draws = rng.random((images, 1))
    labels = (softmax(logits).cumsum(axis=1) < draws).sum(axis=1).astype(np.int32)
    return logits * np.float32(factor), labels


# Probabilities and intervals


def test_the_softmax_is_finite_and_sums_to_one_whatever_the_logits_which_a_temperature_divides():
    probabilities = softmax(np.array([[1e4, -1e4, 0], [0, 0, 0]], np.float32))
    np.testing.assert_array_equal(probabilities[0], [1, 0, 0])
    np.testing.assert_allclose(probabilities[1], 1 / 3)
    np.testing.assert_allclose(softmax(np.array([[2, 4]], np.float32), 2.0), softmax(np.array([[1, 2]], np.float32)))


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(8, 10, 0.4901625, 0.9433178), (0, 10, 0.0, 0.2775328), (1, 1, 0.2065493, 1.0)],
)
def test_the_wilson_interval(hits, trials, low, high):
    found = wilson(hits, trials)
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=1e-6)


# Metrics


def test_a_worked_evaluation():
    probabilities = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]]
    found = measure(logits_for(probabilities), labels_of(0, 1, 1, 2), NAMES, files=["a/0", "b/1", "b/2", "c/3"])
    assert (found.images, found.accuracy, found.top2_accuracy) == (4, 0.5, 0.75)
    assert found.confusion == ((1, 0, 0), (1, 1, 0), (1, 0, 0))
    ant, bee, cow = found.classes
    assert (ant.images, ant.predicted, ant.recall) == (1, 3, 1.0)
    np.testing.assert_allclose([ant.precision, ant.f1, bee.precision, bee.recall], [1 / 3, 0.5, 1, 0.5])
    assert (cow.precision, cow.recall, cow.f1) == (None, 0.0, 0.0)
    assert [(each.label, each.predicted, each.share) for each in found.confused_pairs] == [
        ("bee", "ant", 0.5),
        ("cow", "ant", 1.0),
    ]
    assert [(each.index, each.file, each.label, each.predicted) for each in found.confident_errors] == [
        (1, "b/1", "bee", "ant"),
        (3, "c/3", "cow", "ant"),
    ]
    np.testing.assert_allclose(found.confident_errors[0].probability, 0.6, rtol=1e-6)
    # (0.3² + 0.2² + 0.1²) + (0.6² + 0.7² + 0.1²) + (0.1² + 0.2² + 0.1²) + (0.5² + 0.4² + 0.9²), a quarter of it
    np.testing.assert_allclose(found.reliability.brier, (0.14 + 0.86 + 0.06 + 1.22) / 4, rtol=1e-6)
    # In each bin one image: |1 - 0.7|, |0 - 0.6|, |1 - 0.8|, |0 - 0.5|, a quarter each
    np.testing.assert_allclose(found.reliability.ece, (0.3 + 0.6 + 0.2 + 0.5) / 4, rtol=1e-6)


def test_floating_point_errors_that_the_program_lets_numpy_raise_change_nothing():
    logits, labels = 1e3 * np.eye(3, dtype=np.float32), labels_of(0, 1, 1)
    expected = measure(logits, labels, NAMES, 0.1, 0.5)
    with np.errstate(all="raise"):
        assert measure(logits, labels, NAMES, 0.1, 0.5) == expected


def test_the_first_of_equal_logits_counts_for_accuracy_and_top_2_and_a_class_without_images_has_no_recall():
    found = measure(np.zeros((2, 3), np.float32), labels_of(0, 1), NAMES)
    np.testing.assert_allclose([found.accuracy, found.top2_accuracy], [1 / 2, 1])
    assert (found.classes[2].images, found.classes[2].recall, found.classes[2].precision) == (0, None, None)
    json.dumps(asdict(found), allow_nan=False)
    logits, labels = overconfident()
    found, short = measure(logits, labels, tuple("abcde")), score(logits, labels)
    assert (found.loss, found.accuracy, found.images) == (short.loss, short.accuracy, short.images)


def test_logits_that_are_not_finite_are_refused():
    odd, fine = np.array([[0, np.nan, 0]], np.float32), np.zeros((1, 3), np.float32)
    for use in (
        lambda: measure(odd, labels_of(0), NAMES),
        lambda: calibrate(np.array([[np.inf, 0]], np.float32), labels_of(0)),
        lambda: compare(odd, fine, labels_of(0), NAMES),
        lambda: compare(fine, odd, labels_of(0), NAMES),
    ):
        with pytest.raises(DataError, match="not all finite"):
            use()


# Calibration


def test_every_image_is_in_one_bin():
    found = reliability(np.array([[1e3, 0], [1e3, 0], [0, 0]], np.float32), labels_of(0, 0, 0))
    assert len(found.bins) == BINS
    assert sum(each.images for each in found.bins) == 3
    assert (found.bins[-1].images, found.bins[-1].accuracy, found.bins[-1].confidence) == (2, 1.0, 1.0)
    assert found.bins[0].accuracy is None


def test_the_temperature_of_overconfident_logits_is_recovered():
    found = calibrate(*overconfident(factor=3.0))
    assert found.temperature == pytest.approx(3.0, abs=0.2)  # from 4,000 draws; 2.98 was measured
    assert found.ece_after < 0.02 < found.ece_before
    assert found.loss_after < found.loss_before


def test_no_other_temperature_has_a_lower_loss():
    logits, labels = overconfident(factor=0.5)
    best = calibrate(logits, labels)
    for temperature in (best.temperature * 0.99, best.temperature * 1.01):
        assert reliability(logits, labels, temperature).loss > best.loss_after - 1e-4  # four decimals are kept


def test_few_images_without_an_error_do_not_make_every_prediction_certain():
    for images in (2, 200):
        logits = np.tile(np.array([[1.5, 0], [1, 0]], np.float32), (images // 2, 1))
        assert 0.2 < calibrate(logits, np.zeros(images, np.int32)).temperature < 1
    wrong = np.tile(np.array([[500, 0]], np.float32), (1000, 1))
    assert calibrate(wrong, np.ones(1000, np.int32)).temperature == pytest.approx(TEMPERATURES[1], rel=1e-2)
    assert 1 < calibrate(logits[:2], labels_of(1, 1)).temperature < 4


def test_a_stored_threshold_has_the_stored_coverage_and_accuracy():
    logits, labels = overconfident()
    found = calibrate(logits, labels)
    probabilities = softmax(logits, found.temperature)
    for trade in (*found.coverage, found.abstention):
        answered = probabilities.max(axis=1) >= trade.threshold
        right = logits.argmax(axis=1)[answered] == labels[answered]
        np.testing.assert_allclose([trade.coverage, trade.accuracy], [answered.mean(), right.mean()], atol=5.1e-5)
    assert found.abstention.accuracy >= 0.9
    assert found.coverage[0].coverage == 1.0
    assert [each.threshold for each in found.coverage] == sorted(each.threshold for each in found.coverage)


def test_there_is_no_threshold_if_the_target_accuracy_is_not_reached_and_a_perfect_classifier_has_full_coverage():
    logits = np.array([[5, 0], [0, 4]] * 5, np.float32)
    assert calibrate(logits, labels_of(*[1, 0] * 5)).abstention is None
    assert calibrate(logits, labels_of(*[0, 1] * 5)).abstention.coverage == 1.0


def test_a_calibration_is_read_back_from_json_with_its_threshold():
    found = calibrate(*overconfident())
    again = read(Calibration, json.loads(json.dumps(members(found))), "calibration")
    assert (again, again.threshold) == (found, found.abstention.threshold)
    assert replace(found, abstention=None).threshold is None


def test_selective_prediction():
    probabilities = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]]
    found = measure(logits_for(probabilities), labels_of(0, 1, 1, 2), NAMES, 1.0, 0.55).abstaining
    assert (found.answered, found.coverage, round(found.accuracy, 4)) == (3, 0.75, 0.6667)
    nothing = measure(logits_for(probabilities), labels_of(0, 1, 1, 2), NAMES, 1.0, 0.9).abstaining
    assert (nothing.answered, nothing.accuracy) == (0, None)
    assert measure(logits_for(probabilities), labels_of(0, 1, 1, 2), NAMES, 1.0).abstaining is None


# Comparison of two classifiers


def test_a_worked_comparison():
    first = logits_for([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    second = logits_for([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    found = compare(first, second, labels_of(0, 1, 1, 0), NAMES)
    assert (found.first_accuracy, found.second_accuracy, found.agreement) == (0.25, 0.75, 0.25)
    assert (found.only_first_right, found.only_second_right, found.accuracy_difference) == (0, 2, 0.5)
    assert found.p_value == 0.5  # two coins with the same side up, either one
    assert [(each.index, each.first, each.second) for each in found.differences] == [
        (1, "ant", "bee"),
        (2, "ant", "bee"),
        (3, "cow", "bee"),
    ]


def test_a_much_better_classifier_is_significant_and_the_same_one_differs_in_nothing():
    logits, labels = overconfident()
    worse = np.roll(logits, 1, axis=0)
    found = compare(worse, logits, labels, tuple("abcde"))
    assert found.p_value < 1e-6
    assert found.difference_interval.low > 0.2
    same = compare(logits, logits, labels, tuple("abcde"))
    assert (same.agreement, same.p_value, same.differences) == (1.0, 1.0, ())
    assert same.difference_interval.low < 0 < same.difference_interval.high
    mirrored = compare(logits, worse, labels, tuple("abcde"))
    assert mirrored.difference_interval == Interval(-found.difference_interval.high, -found.difference_interval.low)
