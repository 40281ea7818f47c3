"""A classifier takes one image or several, of any kind, from any thread."""

import copy
import multiprocessing
import os
import pickle
import re
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.contract import Coverage
from cifarnet.errors import DataError, ModelError, UsageError
from cifarnet.runtime import Classifier, Outcome, files, open_model
from cifarnet.runtime import classifier as module
from cifarnet.runtime.prediction import Prediction
from tests.runtime import models


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


# One image or several


def test_one_image_gives_a_prediction_with_every_class_in_order(classifier, painted):
    prediction = classifier(painted("green"))
    assert isinstance(prediction, Prediction)
    expected = softmax(np.array([10, 200, 10]) / 16)
    assert (prediction.label, prediction.probability) == ("green", pytest.approx(expected[1], abs=1e-6))
    assert [label for label, _ in prediction.scores] == ["green", "red", "blue"]  # equal ones in the file's order
    assert sum(probability for _, probability in prediction.scores) == pytest.approx(1, abs=1e-6)
    assert prediction.top(2) == prediction.scores[:2]
    for count in (-1, 0, 4):
        with pytest.raises(UsageError, match=f"^top is {count}; expected 1 to 3, the number of classes"):
            prediction.top(count)


def test_a_batch_of_any_size_and_layout_in_memory_gives_a_list_in_its_order(classifier, painted):
    names = ["blue", "red", "green", "red"] * module.LARGEST_CALL  # more than fit into one call
    batch = np.stack([painted(name) for name in names])
    strided = np.asfortranarray(batch[:4])[::-1, ::-1]
    assert not strided.flags.c_contiguous
    for images, expected in ((batch, names), (batch[:1], ["blue"]), ([batch[0]], ["blue"]), (strided, names[3::-1])):
        assert [each.label for each in classifier(images)] == expected


def test_a_list_may_mix_kinds_and_sizes(classifier, painted, photos):
    mixed = [
        painted("red", 7, 90),
        photos / "b" / "1.jpg",
        str(photos / "b" / "2.JPG"),
        (photos / "a.png").read_bytes(),
        bytearray((photos / "d.gif").read_bytes()),
        memoryview((photos / "c.webp").read_bytes()),
        Image.fromarray(painted("blue", 33, 32)),
    ]
    assert [each.label for each in classifier(mixed)] == ["red", "green", "blue", "red", "green", "red", "blue"]
    assert [each.label for each in classifier(tuple(mixed[:2]))] == ["red", "green"]


def test_logits_and_probabilities_are_float32_in_the_order_of_the_labels(classifier, painted):
    logits, probabilities = classifier.logits(painted("red")), classifier.probabilities(painted("red"))
    assert logits.dtype == probabilities.dtype == "float32"
    np.testing.assert_allclose(logits, np.array([[200, 10, 10]]) / 16, rtol=1e-6)
    np.testing.assert_allclose(probabilities, softmax(logits), rtol=1e-6)


# Copies and processes


def test_a_copy_gives_the_same_answers_though_its_file_is_gone(calibrated_path, photos):
    original = Classifier(calibrated_path, threads=2)
    calibrated_path.write_bytes(models.content())
    for duplicate in (pickle.loads(pickle.dumps(original)), copy.copy(original), copy.deepcopy(original)):
        assert (duplicate.labels, duplicate.contract) == (original.labels, original.contract)
        assert list(duplicate.stream(photos)) == list(original.stream(photos))


def test_a_classifier_reaches_a_process_that_is_spawned(classifier, photos):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(classifier, photos / "a.png").result(timeout=60) == classifier(photos / "a.png")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")  # of Python and of JAX
def test_a_process_that_is_forked_while_files_are_decoded_opens_a_stream_of_its_own(classifier, photos):
    with module._decoding:  # as a thread of an open stream holds it
        child = os.fork()
        if not child:
            try:
                os._exit(len(list(classifier.stream(photos))))
            finally:
                os._exit(255)
    ended = threading.Timer(60, os.kill, (child, signal.SIGKILL))
    ended.start()
    _, status = os.waitpid(child, 0)
    ended.cancel()
    assert os.waitstatus_to_exitcode(status) == 5


# Calibrated probabilities


def shades(count: int) -> np.ndarray:
    """Return pictures whose red is more and more than their green."""
    pictures = np.full((count, 32, 32, 3), 100, np.uint8)
    pictures[..., 0] += np.arange(count, dtype=np.uint8)[:, None, None] % 100
    return pictures


def test_calibrated_probabilities_are_the_softmax_at_the_temperature(calibrated):
    images = shades(5)
    found = calibrated.calibrated(images)
    assert (found.dtype, found.shape) == ("float32", (5, 3))
    np.testing.assert_allclose(found, softmax(calibrated.logits(images) / 3), rtol=1e-6)
    assert np.abs(calibrated.probabilities(images) - found).max() > 0.01
    np.testing.assert_array_equal(calibrated.calibrated(images[1]), found[1:2])


def test_a_confidence_is_the_calibrated_probability_of_the_label(calibrated, photos):
    images = shades(2 * module.LARGEST_CALL + 1)
    images[::2] = images[::2, ..., ::-1]  # every other one has most of its blue
    predictions = calibrated(images)
    np.testing.assert_array_equal([each.confidence for each in predictions], calibrated.calibrated(images).max(axis=1))
    assert predictions[20].confidence < predictions[20].probability
    outcomes = list(calibrated.stream(photos))
    assert [each.prediction for each in outcomes] == calibrated([each.path for each in outcomes])
    assert outcomes[0].prediction.confidence > 0.95


def test_a_file_says_what_it_is_and_when_to_abstain_or_that_it_does_not_know(classifier, calibrated, painted):
    assert (classifier.labels, classifier.contract) == (models.LABELS, models.CONTRACT)
    assert calibrated.temperature == 3
    assert calibrated.abstention == Coverage(threshold=0.6, coverage=0.7, accuracy=0.9)
    unsure = Classifier(models.calibrated(abstention=None))
    assert (unsure.temperature, unsure.abstention) == (3, None)
    prediction = classifier(painted("red"))  # of a file of before there was a temperature
    assert (classifier.temperature, classifier.abstention, prediction.confidence) == (None, None, None)
    message = "^the model has no calibrated probabilities; expected a file with a temperature: export the run again$"
    with pytest.raises(ModelError, match=message):
        classifier.calibrated(painted("red"))


def test_a_model_may_have_another_size_than_cifar10(painted):
    sized = models.graph()
    for side in (1, 2):
        sized.input[0].type.tensor_type.shape.dim[side].dim_value = 8 * side
    shape = models.CONTRACT["input"] | {"shape": ["batch", 8, 16, 3]}
    contract = models.contract(input=shape, resize=models.CONTRACT["resize"] | {"height": 8, "width": 16})
    assert Classifier(models.content(sized, contract))(painted("green", 50, 60)).label == "green"


def test_any_source_and_number_of_threads_gives_the_same_answer(model_path, painted):
    for source, threads in ((model_path, 0), (str(model_path), 1), (model_path.read_bytes(), 2)):
        assert Classifier(source, threads=threads)(painted("blue")).label == "blue"


def test_there_is_a_thread_per_core_at_most_and_a_number_that_cannot_be_is_refused(model_path, monkeypatch):
    monkeypatch.setattr("cifarnet.runtime.session.usable_cores", lambda: 3)
    for asked, started in ((1, 1), (4, 3), (0, 0)):
        opened = open_model(model_path, threads=asked)
        for each in (opened, pickle.loads(pickle.dumps(opened))):
            assert each.threads == asked
            assert each.session.get_session_options().intra_op_num_threads == started
    for threads in (-1, 1025, 1.5, True):
        with pytest.raises(UsageError, match=f"^threads is {threads!r}; expected 1 to 1,024, or 0 for one per core"):
            Classifier(model_path, threads=threads)


def test_many_threads_may_ask_at_once(classifier):
    pixels = np.random.Generator(np.random.PCG64(5)).integers(0, 256, (64, 32, 32, 3), np.uint8)
    expected = classifier.probabilities(pixels)
    start = threading.Barrier(8)

    def ask(offset: int) -> np.ndarray:
        start.wait(timeout=60)
        rolled = [classifier.probabilities(np.roll(pixels, -offset, axis=0)) for _ in range(5)]
        return np.roll(rolled[-1], offset, axis=0)

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(ask, range(8)):
            np.testing.assert_array_equal(found, expected)


# Streams of files


def names(outcomes: list[Outcome], root: Path) -> list[str]:
    return [outcome.path.relative_to(root).as_posix() for outcome in outcomes]


def test_files_and_folders_come_in_the_order_of_the_call_the_images_of_a_folder_sorted(classifier, photos):
    outcomes = list(classifier.stream(photos))
    assert names(outcomes, photos) == ["a.png", "b/1.jpg", "b/2.JPG", "c.webp", "d.gif"]
    assert [outcome.prediction.label for outcome in outcomes] == ["red", "green", "blue", "red", "green"]
    outcomes = list(classifier.stream([photos / "d.gif", str(photos / "b"), photos / "a.png"]))
    assert names(outcomes, photos) == ["d.gif", "b/1.jpg", "b/2.JPG", "a.png"]
    assert [outcome.prediction.label for outcome in outcomes] == ["green", "green", "blue", "red"]


def test_a_bad_file_does_not_end_the_stream(classifier, photos):
    (photos / "b" / "1.jpg").write_text("no image")
    outcomes = list(classifier.stream([photos, photos / "gone.png"]))
    assert [outcome.prediction is None for outcome in outcomes] == [False, True, False, False, False, True]
    assert all((outcome.prediction is None) != (outcome.error is None) for outcome in outcomes)
    assert str(outcomes[1].error) == (
        f"{photos / 'b' / '1.jpg'} cannot be used (no image in a known format); "
        "expected a whole image: replace it or leave it out"
    )
    assert "gone.png cannot be read (No such file or directory); expected an image file" in str(outcomes[-1].error)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a" * 300, f"{'a' * 300} cannot be read (File name too long); expected an image file: check the path"),
        (b"a.png", "an image path is of type bytes; expected text or a path"),
        ("", "an image path is empty; expected a file or folder: is the variable set?"),
    ],
)
def test_what_cannot_be_a_path_does_not_end_the_stream(classifier, photos, path, message):
    with pytest.raises(UsageError, match="the image paths are None; expected a path or several"):
        classifier.stream(None)
    refused, good = classifier.stream([path, photos / "a.png"])
    assert str(refused.error).startswith(message)
    assert good.prediction.label == "red"


def test_paths_that_fail_are_answered_as_far_as_they_went(classifier, photos):
    def failing():
        yield from [photos / "a.png"] * 9
        raise OSError("unplugged")

    answered = []
    with pytest.raises(OSError, match="unplugged"):
        answered.extend(outcome.prediction.label for outcome in classifier.stream(failing()))
    assert answered == ["red"] * 9


def test_a_folder_without_images_is_an_error_among_the_others(classifier, photos, tmp_path):
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "empty" / "deep" / "notes.txt").touch()
    empty, *others = classifier.stream([tmp_path / "empty", photos])
    assert empty.path == tmp_path / "empty"
    assert isinstance(empty.error, DataError)
    assert str(empty.error).startswith(f"{tmp_path / 'empty'} has no images; expected at least one file, at any depth")
    assert len(others) == 5


def test_links_to_folders_are_left_out_and_links_to_files_are_followed(classifier, photos):
    (photos / "b" / "loop").symlink_to(photos, target_is_directory=True)
    (photos / "e.png").symlink_to(photos / "a.png")
    (photos / "f.png").symlink_to(photos / "f.png")
    outcomes = list(classifier.stream(photos))
    assert names(outcomes[5:], photos) == ["e.png", "f.png"]
    assert outcomes[5].prediction.label == "red"
    assert "cannot be read" in str(outcomes[6].error)


def test_a_folder_that_cannot_be_listed_is_named(classifier, photos, monkeypatch):
    real = files.os.scandir

    def refusing(folder):
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(files.os, "scandir", refusing)
    outcomes = list(classifier.stream(photos))
    assert names(outcomes, photos) == ["a.png", "b", "c.webp", "d.gif"]
    assert str(outcomes[1].error).startswith(f"{photos / 'b'} cannot be listed (Permission denied); expected")


def test_shards_of_a_stream_are_disjoint_whole_and_about_equal(classifier):
    names = [f"{number:05}.png" for number in range(4000)]
    shards = [[str(found.path) for found in files.find_images(names, (index, 8))] for index in range(8)]
    assert sorted(name for shard in shards for name in shard) == names
    assert all(400 < len(shard) < 600 for shard in shards)
    assert sum(len(list(classifier.stream([7, ""], shard=(index, 5)))) for index in range(5)) == 2
    for shard in ((2, 2), (-1, 2), (0, 1.5), (1,), "0/2"):
        with pytest.raises(UsageError, match=rf"shard is {re.escape(repr(shard))}; expected \(I, N\), I from 0 to N-1"):
            classifier.stream([], shard=shard)


def test_a_stream_looks_at_no_more_files_than_it_has_to(classifier, photos):
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield photos / "a.png"

    stream = classifier.stream(endless())
    assert asked == 0
    assert next(stream).prediction.label == "red"
    workers = min(os.cpu_count() or 1, module.MAX_WORKERS)
    tasks = list(islice(module._growing(iter(range(10**6))), module.TASKS_PER_WORKER * workers))
    assert asked <= sum(map(len, tasks))
    assert [len(task) for task in module._growing(iter(range(150)))] == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 24]
    stream.close()
