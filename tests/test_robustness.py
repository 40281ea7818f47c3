"""Robustness: the accuracy of a model file under each corruption, its record, and the command."""

import hashlib
import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image

from cifarnet.config import ModelConfig
from cifarnet.contract import ROBUSTNESS
from cifarnet.data import load_dataset, synthetic
from cifarnet.dataset import Split
from cifarnet.errors import DataError
from cifarnet.evaluation import robustness
from cifarnet.evaluation.corruptions import DRAWING, FAMILIES, SEVERITIES, corrupt_at
from cifarnet.evaluation.robustness import FamilyResult, Robustness, Tally, choose_images, measure_robustness
from cifarnet.evaluation.significance import wilson
from cifarnet.runtime import open_model
from tests.records import RUNNING
from tests.runtime import models

COLORS = ((160, 150, 150), (150, 160, 150), (150, 150, 160))
"""Red, green and blue, so faint that noise sometimes hides them."""
MODEL = models.content()


def colors(count):
    """Return ``count`` images of each color, alternating."""
    labels = np.tile(np.arange(3, dtype=np.int32), count)
    noise = np.random.default_rng(0).integers(-90, 91, (3 * count, 32, 32, 3))
    return Split((np.array(COLORS)[labels][:, None, None] + noise).astype(np.uint8), labels)


SPLIT = colors(5)


@pytest.fixture(scope="module")
def measured():
    return measure_robustness(open_model(MODEL), SPLIT, sha256="abc", seed=3)


# Results


def test_each_tally_counts_correct_predictions_of_corrupted_images(measured):
    opened = open_model(MODEL)
    assert measured.clean.hits == np.sum(opened.logits(SPLIT.images).argmax(axis=1) == SPLIT.labels)
    for name, family in measured.families.items():
        for severity, tally in zip(SEVERITIES, family.severities, strict=True):
            logits = opened.logits(corrupt_at(SPLIT.images, np.arange(len(SPLIT)), name, severity, seed=3))
            assert tally == Tally.of(int(np.sum(logits.argmax(axis=1) == SPLIT.labels)), 15)
    assert len({tally.hits for family in measured.families.values() for tally in family.severities}) > 2


def test_neither_the_batch_size_nor_floating_point_errors_that_numpy_may_raise_change_the_result(measured, monkeypatch):
    monkeypatch.setattr(robustness, "BATCH", 4)
    with np.errstate(all="raise"):
        assert measure_robustness(open_model(MODEL), SPLIT, sha256="abc", seed=3) == measured


def test_images_are_corrupted_by_their_position_in_the_split_and_progress_is_reported(monkeypatch):
    seen, shown = [], []
    monkeypatch.setattr(robustness, "corrupt_at", lambda pixels, indices, *_: seen.append(indices.tolist()) or pixels)
    options = {"images": 6, "seed": 1, "advance": lambda *each: shown.append(each)}
    measure_robustness(open_model(MODEL), SPLIT, sha256="", **options)
    assert seen[0] == choose_images(SPLIT.labels, 6, 1).tolist()
    assert seen[0] != list(range(6))
    assert shown == [("clean", 0), *((family, severity) for family in FAMILIES for severity in SEVERITIES)]


def test_metrics_follow_from_the_counts(measured):
    interval = wilson(7, 10)
    assert Tally.of(7, 10) == Tally(7, 0.7, (interval.low, interval.high))
    assert FamilyResult.of([Tally.of(7, 10)] * 5).mean_error == pytest.approx(0.3)
    errors = {name: 1 - np.mean(family.accuracies) for name, family in measured.families.items()}
    assert measured.mean_corruption_error == pytest.approx(np.mean(list(errors.values())))
    assert measured.added_error == pytest.approx(measured.mean_corruption_error - 1 + measured.clean.accuracy)
    assert [errors[name] for name in measured.worst] == pytest.approx(sorted(errors.values(), reverse=True)[:3])


@pytest.mark.parametrize("labels", [[0], [1, 1, 1, 2]])
def test_few_images_and_missing_classes_give_valid_results(labels):
    split = Split(colors(2).images[: len(labels)], np.array(labels, np.int32))
    shown = measure_robustness(open_model(MODEL), split, sha256="").to_json()
    assert (shown["images"], shown["images_in_split"]) == (len(labels), len(labels))
    assert 0 <= shown["mean_corruption_error"] <= 1
    json.dumps(shown, allow_nan=False)


def test_a_model_with_infinite_logits_is_refused():
    endless = numpy_helper.from_array(np.full((3, 3), np.inf, np.float32), "weights")
    graph = models.graph(tensors=[endless])
    with pytest.raises(DataError, match="the logits are not all finite"):
        measure_robustness(open_model(models.content(graph)), SPLIT, sha256="")


# Sample


def test_the_sample_is_stratified_and_holds_every_class():
    labels = np.repeat(np.arange(10, dtype=np.int32), 100)
    chosen = choose_images(labels, 200, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[chosen]), 20)
    assert (np.diff(chosen) > 0).all()
    uneven = np.repeat(np.arange(3, dtype=np.int32), [600, 300, 1])
    np.testing.assert_allclose(np.bincount(uneven[choose_images(uneven, 91, seed=0)]), [60, 30, 1], atol=1)
    few = np.array([0] * 50 + [1] * 2 + [4], np.int32)
    assert all(set(few[choose_images(few, 3, seed)]) == {0, 1, 4} for seed in range(5))


def test_a_sample_depends_on_its_seed_and_is_a_subset_of_a_larger_one():
    labels = np.arange(300, dtype=np.int32) % 7
    few, many, other = (choose_images(labels, *each) for each in ((30, 5), (80, 5), (30, 6)))
    np.testing.assert_array_equal(few, choose_images(labels, 30, 5))
    assert set(few) < set(many)
    assert set(few) != set(other)
    np.testing.assert_array_equal(choose_images(labels, 1000, 5), np.arange(300))


# The record


def test_a_record_is_read_back_unchanged(measured):
    shown = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert Robustness.from_json(shown) == measured
    assert shown["drawing"] == DRAWING
    assert list(shown) == [
        *("sha256", "seed", "images", "images_in_split", "corrupted_images", "drawing", "clean", "families"),
        *("mean_corruption_error", "added_error", "worst"),
    ]
    tally = measured.families["fog"].severities[4]
    assert shown["families"]["fog"]["severities"][4] == asdict(tally) | {"interval": list(tally.interval)}


def test_a_damaged_record_is_refused(measured):
    for damage in (
        lambda shown: shown.pop("clean"),
        lambda shown: shown.update(images=0),
        lambda shown: shown.update(seed="0"),
        lambda shown: shown.update(families=[]),
        lambda shown: shown["families"].pop("snow"),
        lambda shown: shown["families"]["snow"]["severities"].pop(),
        lambda shown: shown["families"]["snow"]["severities"][0].update(accuracy=1.1),
        lambda shown: shown["families"]["snow"]["severities"][0].update(hits=True),
    ):
        shown = json.loads(json.dumps(measured.to_json()))
        damage(shown)
        with pytest.raises(ValueError, match=r"expected|is missing"):
            Robustness.from_json(shown)


# The command


@pytest.fixture(autouse=True)
def clean_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(typed):
    """Return a function that runs ``cifarnet robustness`` and returns exit code, stdout and the lines of stderr."""

    def run(*arguments):
        code, stdout, stderr = typed("robustness", *arguments)
        return code, stdout, stderr.splitlines()

    return run


@pytest.fixture
def photos(tmp_path):
    """Return a folder of images, one of each of the model's classes to test on and one to train on."""
    for shade, part in enumerate(("test", "train")):
        for name, color in zip(models.LABELS, COLORS, strict=True):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            # A shade apart: no test image is a training image.
            pixels = np.abs(np.full((32, 32, 3), color, np.int16) - shade).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / part / name / "1.png")
    return tmp_path / "photos"


def model_by_name(**trained):
    return models.by_name(**{"data": {"name": "photos", "fingerprint": "00"}, "train": {"seed": 0}} | trained)


@pytest.fixture
def run_folder(tmp_path, photos):
    """Return the folder of a run on the photos, with an exported model."""
    folder = tmp_path / "runs" / "20260101-000000-seed-jax"
    folder.mkdir(parents=True)
    data = {"source": str(photos), "name": "photos", "fingerprint": load_dataset(photos).fingerprint}
    record = RUNNING | {"model": ModelConfig(classes=3).to_json(), "data": RUNNING["data"] | data}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "model.onnx").write_bytes(
        model_by_name(data={"name": "photos", "fingerprint": record["data"]["fingerprint"]})
    )
    return folder


def test_the_latest_run_is_evaluated_and_its_record_stored(run, run_folder):
    code, stdout, stderr = run()
    assert code == 0
    assert [line for line in stderr if line != "decoding"] == ["clean", *FAMILIES]
    lines = stdout.splitlines()
    assert [line.split()[0] for line in lines[1:16]] == list(FAMILIES)
    assert "clean accuracy 100.00% (95% CI: 43.85% to 100.00%)" in stdout
    assert f"3 of 3 test images, seed 0, runs/{run_folder.name}/model.onnx" in stdout
    kept = Robustness.from_json(json.loads((run_folder / ROBUSTNESS).read_text()))
    assert kept.sha256 == hashlib.sha256((run_folder / "model.onnx").read_bytes()).hexdigest()
    assert [float(lines[1].split()[1])] == [round(100 * kept.families[FAMILIES[0]].accuracies[0], 2)]
    assert not list(run_folder.glob(".*"))


def test_json_is_the_record_also_of_the_export_of_an_earlier_version(run, run_folder):
    path = run_folder / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"why_stopped": "epochs", "best_epoch": 7}))  # the export has no best epoch
    code, stdout, _ = run(run_folder, "--json", "--seed", "7")
    shown = json.loads(stdout)
    assert (code, shown["seed"]) == (0, 7)
    assert shown["data"] == {
        "source": str(run_folder.parents[1] / "photos"),
        "name": "photos",
        "fingerprint": record["data"]["fingerprint"],
        "images": 3,
        "same_as_run": True,
        "unseen": True,
    }
    assert shown == json.loads((run_folder / ROBUSTNESS).read_text())


def test_the_newest_exported_run_is_taken_and_a_newer_one_named(run, run_folder):
    newer = run_folder.with_name("20260102-000000-seed-jax")
    newer.mkdir()
    (newer / "run.json").write_text((run_folder / "run.json").read_text())
    for name in ((), ("latest",)):
        code, stdout, stderr = run(*name)
        assert (code, f"runs/{run_folder.name}/model.onnx" in stdout) == (0, True), stderr
        note = "note: the newest run, {0}, has no exported model: `cifarnet export {0} --onnx`"
        assert stderr[0] == note.format(f"runs/{newer.name}")


def test_all_uses_every_image(run, run_folder, monkeypatch):
    monkeypatch.setattr(robustness, "DEFAULT_IMAGES", 2)
    assert "2 of 3 test images" in run()[1]
    _, stdout, stderr = run("--all")
    assert "3 of 3 test images" in stdout
    assert f"note: the results in runs/{run_folder.name}/{ROBUSTNESS} will be replaced" in stderr


def test_the_export_of_another_run_or_epoch_is_refused(run, run_folder):
    path = run_folder / "run.json"
    record = json.loads(path.read_text()) | {"why_stopped": "epochs", "best_epoch": 7, "backend": "jax"}
    path.write_text(json.dumps(record))
    own = {"best_epoch": 7, "data": record["data"], "hold_out": record["hold_out"], "backend": "jax", "recipe": "seed"}
    for facts, shown in (
        ({"best_epoch": 3}, "best_epoch"),
        ({"train": {"seed": 1}}, "train.seed"),
        ({"hold_out": {"fingerprint": "of another division"}}, "hold_out.fingerprint"),
        ({"backend": "torch"}, "backend"),
    ):
        (run_folder / "model.onnx").write_bytes(model_by_name(**own | facts))
        code, stdout, (line,) = run()
        assert (code, stdout) == (1, "")
        assert f"/model.onnx is not the export of this run's best weights: its {shown} is " in line
        assert line.endswith(f"export it again with `cifarnet export runs/{run_folder.name} --onnx`")
    assert not (run_folder / ROBUSTNESS).exists()


def test_a_model_file_is_evaluated_on_the_named_dataset_that_it_was_trained_on(run, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "DEFAULT_IMAGES", 11)
    labels = synthetic(10, 10).labels
    matrix = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    weights = numpy_helper.from_array(matrix - matrix.mean(axis=0), "weights")
    trained = {"train": {"seed": 5}, "data": {"name": "synthetic", "fingerprint": synthetic(seed=5).fingerprint}}
    contract = models.contract(labels=list(labels), training=trained)
    path = tmp_path / "model.onnx"
    path.write_bytes(models.content(models.graph(tensors=[weights], classes=10), contract))
    code, stdout, _ = run(path, "--json")
    shown = json.loads(stdout)
    assert (code, shown["images"], shown["images_in_split"]) == (0, 11, 500)
    test = synthetic(seed=5).test
    expected = measure_robustness(open_model(path), test, sha256=shown["sha256"], images=11)
    assert Robustness.from_json(shown) == expected
    assert not (tmp_path / ROBUSTNESS).exists()


def test_results_on_other_images_are_not_stored(run, run_folder, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "other")
    for index, path in enumerate((tmp_path / "other" / "test").rglob("*.png")):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(path)
    (run_folder / ROBUSTNESS).write_text("of the run")
    (tmp_path / "other" / "test" / models.LABELS[0] / "2.png").write_text("no image")
    assert run("--data", tmp_path / "other", "--json")[0] == 1
    code, stdout, stderr = run("--data", tmp_path / "other", "--json", "--skip-broken")
    assert f"note: 1 file that cannot be read is left out: test/{models.LABELS[0]}/2.png (no image" in " ".join(stderr)
    shown = json.loads(stdout)["data"]
    assert (code, shown["source"], shown["images"], shown["same_as_run"]) == (0, str(tmp_path / "other"), 3, False)
    assert "the results are not stored in its folder" in " ".join(stderr)
    assert (run_folder / ROBUSTNESS).read_text() == "of the run"


def test_cifar10_is_not_downloaded_for_a_model_of_other_classes(run, run_folder, monkeypatch):
    monkeypatch.setattr("cifarnet.data.fetch", lambda *_: pytest.fail("a download"))
    code, stdout, (line,) = run("--data", "cifar10")
    assert (code, stdout) == (1, "")
    assert line.startswith("error: cifar10 has the classes airplane, automobile, ")


def test_a_record_that_cannot_be_written_is_refused_first(run, run_folder):
    (run_folder / ROBUSTNESS).mkdir()
    code, stdout, stderr = run()
    assert (code, stdout) == (1, "")
    assert stderr[-1].startswith(
        f"error: runs/{run_folder.name}/{ROBUSTNESS} cannot be written (Is a directory); expected"
    )
