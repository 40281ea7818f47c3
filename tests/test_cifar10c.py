"""`cifarnet robustness --cifar10c` evaluates a model on the published arrays, or says in one line why it cannot."""

import gc
import io
import json

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image

from cifarnet.contract import PUBLISHED_ROBUSTNESS, ROBUSTNESS
from cifarnet.data import load_dataset
from cifarnet.dataset import CIFAR10_LABELS
from cifarnet.evaluation.corruptions import FAMILIES, SEVERITIES
from cifarnet.evaluation.robustness import PUBLISHED, Robustness
from cifarnet.report import draw_card, draw_page, read_evidence
from cifarnet.runtime import open_model
from tests.report_runs import evaluation_of, run_of
from tests.runtime import models

PER_CLASS = 2


@pytest.fixture(autouse=True)
def clean_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset(tmp_path):
    """A folder of images with the classes of CIFAR-10, two test images per class."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in CIFAR10_LABELS:
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(PER_CLASS):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    return load_dataset(tmp_path / "photos")


@pytest.fixture
def model(tmp_path, dataset):
    weights = np.random.default_rng(1).standard_normal((3, 10)).astype(np.float32)
    tensor = numpy_helper.from_array(weights - weights.mean(axis=0), "weights")
    training = {"data": {"name": "photos", "fingerprint": dataset.fingerprint}, "train": {"seed": 0}}
    contract = models.contract(labels=list(CIFAR10_LABELS), training=training)
    path = tmp_path / "model.onnx"
    path.write_bytes(models.content(models.graph(tensors=[tensor], classes=10), contract))
    return path


@pytest.fixture
def arrays(tmp_path, dataset, monkeypatch):
    """The folder of the published format for the dataset, which stands for CIFAR-10."""
    monkeypatch.setattr("cifarnet.evaluation.robustness.CIFAR10_FINGERPRINT", dataset.fingerprint)
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    rng = np.random.default_rng(2)
    for name in (*FAMILIES, "spatter"):
        np.save(folder / f"{name}.npy", rng.integers(0, 256, (5 * len(dataset.test), 32, 32, 3), np.uint8))
    np.save(folder / "labels.npy", np.tile(dataset.test.labels, 5).astype(np.uint8))
    return folder


def test_every_published_image_is_evaluated_at_its_severity(typed, dataset, model, arrays):
    code, stdout, _ = typed("robustness", model, "--data", "photos", "--cifar10c", arrays, "--json")
    document = json.loads(stdout)
    assert (code, document["corrupted_images"], document["images"]) == (0, "published", 10 * PER_CLASS)
    assert document["data"]["unseen"] is True
    found, opened = Robustness.from_json(document), open_model(model)
    assert (list(found.families), list(found.extra)) == (list(FAMILIES), ["spatter"])
    for name, family in (found.families | found.extra).items():
        images = np.load(arrays / f"{name}.npy").reshape(5, -1, 32, 32, 3)
        for severity, tally in zip(SEVERITIES, family.severities, strict=True):
            predicted = opened.logits(images[severity - 1]).argmax(axis=1)
            assert tally.hits == np.sum(predicted == dataset.test.labels)
    assert found.clean.hits == np.sum(opened.logits(dataset.test.images).argmax(axis=1) == dataset.test.labels)


def test_the_mean_is_over_the_standard_corruptions_and_the_others_are_printed_apart(typed, model, arrays):
    code, stdout, _ = typed("robustness", model, "--data", "photos", "--cifar10c", arrays, "--all")
    lines = stdout.splitlines()
    assert (code, lines[17].split()[:2], lines[18].split()[0]) == (0, ["additional", "corruptions"], "spatter")
    means = [float(line.split()[-1]) for line in lines[1:16]]
    assert f"mean accuracy {np.mean(means):.2f}" in stdout
    assert lines[-1] == PUBLISHED


WHOLE = (100, 32, 32, 3)


def archive():
    np.savez(file := io.BytesIO(), np.zeros(1))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fog", None, "cannot be read (No such file or directory); expected"),
        ("fog", b"", "cannot be read (EOF: reading magic string"),
        ("fog", archive(), "cannot be read ("),
        ("fog", -1, "cannot be read (mmap length is greater than file"),
        ("fog", np.array([{}]), "cannot be read ("),
        ("fog", np.zeros(WHOLE), f"has dtype float64 and shape {WHOLE}; expected uint8 {WHOLE}"),
        (
            "spatter",
            np.zeros((20, 32, 32, 3), np.uint8),
            f"has dtype uint8 and shape (20, 32, 32, 3); expected uint8 {WHOLE}",
        ),
        ("labels", None, "cannot be read (No such file or directory)"),
        (
            "labels",
            np.zeros(100, int),
            "has dtype int64 and shape (100,); expected the 100 test labels of photos in their order",
        ),
    ],
)
def test_arrays_of_another_format_are_refused_in_one_line(typed, model, arrays, name, content, message):
    path = arrays / f"{name}.npy"
    if content is None:
        path.unlink()
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(path.read_bytes()[:-1] if content == -1 else content)
    code, stdout, stderr = typed("robustness", model, "--data", "photos", "--cifar10c", arrays)
    assert (code, stdout) == (1, "")
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert f"CIFAR-10-C/{name}.npy {message}" in line
    assert stderr.splitlines()[-1] == line
    gc.collect()  # a file that was left open is a warning, and so a failure, here


def test_other_images_than_those_of_cifar10_are_refused(typed, model, arrays, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / "train" / "cat" / "more.png")
    code, _, stderr = typed("robustness", model, "--data", "photos", "--cifar10c", arrays)
    assert code == 1
    assert (
        ", CIFAR-10, whose test images the arrays of --cifar10c show: add --data cifar10, or" in stderr.splitlines()[-1]
    )


def test_a_seed_does_not_fit_published_images(typed):
    code, _, stderr = typed("robustness", "--cifar10c", "x", "--seed", 1)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "--seed 1 does not apply to the images of --cifar10c" in stderr


def test_a_report_shows_published_images_under_their_own_heading(tmp_path, typed, dataset, model, arrays):
    run, evaluation = run_of(tmp_path / "run", dataset), evaluation_of(dataset)
    run.model.write_bytes(model.read_bytes())
    code, stdout, _ = typed("robustness", model, "--data", "photos", "--cifar10c", arrays, "--json")
    (run.path / PUBLISHED_ROBUSTNESS).write_text(stdout)
    (run.path / ROBUSTNESS).write_text("damaged")  # of drawn images
    evidence = read_evidence(run, "onnxruntime")
    page = draw_page(evidence, evaluation, dataset, "onnxruntime")
    assert (code, "Robustness on the published CIFAR-10-C images</h2>" in page) == (0, True)
    assert page.index("Additional corruptions, not part of the mean") < page.index(">spatter<")
    card = draw_card(evidence, evaluation, "onnxruntime")
    assert "### Published CIFAR-10-C images" in card
    assert "| spatter (not part of the mean) |" in card
