"""Exported files describe themselves, have the same bytes each time, and their weights can be imported."""

import errno
import itertools
import json
import os
import shutil
import signal
import socket
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from cifarnet.contract import CONTRACT_KEY
from cifarnet.errors import ConfigError, RunError, UsageError
from cifarnet.evaluation.scoring import predict, softmax, with_tta
from cifarnet.export import export_run as exporting
from cifarnet.export.export_run import export_precisions, export_run
from cifarnet.export.inspect import inspect_model
from cifarnet.export.publish import write_export
from cifarnet.export.tolerances import Tolerances
from cifarnet.export.writer import serialize, write_graph
from cifarnet.interrupt import exit_on_interrupt
from cifarnet.model.layers import BatchNormalization
from cifarnet.model.network import build_model, predictor
from cifarnet.model.weights import get_weights, save_weights, set_weights
from cifarnet.run.folder import Run
from cifarnet.run.record import RESULTS
from cifarnet.run.typed_json import members
from cifarnet.runtime import Classifier, read_model
from cifarnet.training.best_weights import calibration_of, load_best_and_epoch
from cifarnet.training.import_weights import import_features, import_weights
from cifarnet.training.same_data import same_hold_out
from tests.lively import NORMALISED, with_lively_moments
from tests.records import document, put

from .conftest import MODEL


@pytest.fixture(scope="module")
def exports(whole, dataset, tmp_path_factory):
    """Return an export of the run, and one with test-time augmentation, which no test may change."""
    run = Run(shutil.copytree(whole.path, tmp_path_factory.mktemp("exports") / "run"))
    return export_run(run, dataset), export_run(run, dataset, output=run.path / "tta" / "model.onnx", views=2)


@pytest.fixture
def exported(exports):
    return exports[0]


def write_again(exported, path):
    """Write the files of an export to another path, as ``export_run`` does in the end."""
    write_export(replace(exported, path=path), *read_model(exported.path))


def test_the_file_in_the_run_folder_classifies_as_the_trained_model_was_recorded_to(exported, whole, dataset):
    assert exported.path.name == "model.onnx"
    classifier = Classifier(exported.path)
    is_right = classifier.probabilities(dataset.test.images).argmax(axis=1) == dataset.test.labels
    assert is_right.mean() == document(whole)["metrics"]["test"]["accuracy"] == exported.parity.accuracy
    assert classifier.labels == dataset.labels


def test_beside_the_file_lie_its_contract_and_what_was_measured(exported, dataset):
    beside = json.loads(exported.path.with_suffix(".json").read_text())
    assert beside == Classifier(exported.path).contract
    assert beside["proof"]["images"] == len(dataset.test)
    measured = json.loads(exported.path.with_suffix(".parity.json").read_text())
    assert measured["backend"] == keras.config.backend()
    assert [check["name"] for check in measured["checks"]] == beside["proof"]["checks"]
    assert (
        max(check["probability_difference"] for check in measured["checks"]) <= beside["proof"]["bars"]["probability"]
    )


def files(run):
    return {path.name: path.read_bytes() for path in run.path.glob("*model*")}


@pytest.mark.parametrize("call", [1, 2, 3])
def test_where_a_file_cannot_be_written_those_of_the_earlier_export_stay(exports, run, monkeypatch, call):
    old, new = exports
    calls, sync = itertools.count(1), os.fsync

    def full(descriptor):
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    write_again(old, run.path / "model.onnx")
    before = files(run)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"model\.\S+ could not be written \(No space left on device\)"):
        write_again(new, run.path / "model.onnx")
    assert files(run) == before
    for name in before:
        (run.path / name).unlink()
    calls = itertools.count(1)
    with pytest.raises(RunError, match="No space left on device"):
        write_again(new, run.path / "model.onnx")
    assert files(run) == {}


class CrashError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", range(5))
def test_a_crash_between_two_renames_leaves_nothing_that_is_taken_for_what_it_is_not(exports, run, monkeypatch, step):
    old, new = exports
    write_again(old, run.path / "model.onnx")
    steps = itertools.count()

    def crashing(change):
        def changed(path, *rest, **named):
            is_counted = "model" in path.name and (change is replace_file or ".part" not in path.name)
            if is_counted and next(steps) == step:
                raise CrashError
            return change(path, *rest, **named)

        return changed

    replace_file = Path.replace
    monkeypatch.setattr(Path, "replace", crashing(Path.replace))
    monkeypatch.setattr(Path, "unlink", crashing(Path.unlink))
    with pytest.raises(CrashError) if step < 4 else nullcontext():
        write_again(new, run.path / "model.onnx")
    left = {path.name for path in run.path.glob("*model*")}
    found = inspect_model(run.path / "model.onnx")
    assert found.sha256 == (old if step < 3 else new).sha256
    assert (found.parity is None) == (step in (1, 2))
    if "model.json" in left:
        assert json.loads((run.path / "model.json").read_text()) == found.contract.document
    assert ("model.json" in left) == (step not in (2, 3))


def test_ctrl_c_between_two_renames_waits_for_the_last(exported, run, monkeypatch):
    def named_while_interrupted(path, target):
        if target == run.path / "model.onnx":
            signal.raise_signal(signal.SIGINT)
            assert path.exists()
        return replace_file(path, target)

    def end(code):
        raise CrashError(code)

    replace_file = Path.replace
    monkeypatch.setattr(Path, "replace", named_while_interrupted)
    monkeypatch.setattr(os, "_exit", end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    exit_on_interrupt()
    with pytest.raises(CrashError, match="130"):
        write_again(exported, run.path / "model.onnx")
    assert inspect_model(run.path / "model.onnx").parity is not None
    assert files(run).keys() == {"model.onnx", "model.json", "model.parity.json"}


def test_the_same_run_gives_the_same_bytes_without_time_path_or_host(exported, run, dataset, tmp_path):
    again = export_run(run, dataset, output=tmp_path / "again" / "model.onnx")
    content = exported.path.read_bytes()
    assert (exported.sha256, content) == (again.sha256, again.path.read_bytes())
    started = document(run)["started"]
    for secret in (str(tmp_path), str(exported.path.parent), started, started[:10], f'"{socket.gethostname()}"'):
        assert secret.encode() not in content


@pytest.mark.parametrize("views", [1, 2])
def test_the_weights_come_back_bit_for_bit_and_give_the_same_file_again(exports, network, views):
    path = exports[views - 1].path
    config, weights = import_weights(path)
    again = build_model(config, seed=99)
    set_weights(again, weights)
    for name, array in get_weights(network).items():
        np.testing.assert_array_equal(get_weights(again)[name], array, strict=True)
    content, contract = read_model(path)
    graph = write_graph(again, temperature=contract.temperature, views=views)
    assert serialize(graph, contract) == content


@pytest.fixture
def normalised(contract, tmp_path):
    """A network with batch normalisation, and its file."""
    config = replace(MODEL, **NORMALISED)
    model = with_lively_moments(build_model(config, seed=2))
    path = tmp_path / "model.onnx"
    path.write_bytes(serialize(write_graph(model), contract.changed(model=config.to_json())))
    return model, path


def test_a_normalised_network_comes_back_as_the_same_function_without_normalisation(normalised, dataset):
    model, path = normalised
    config, weights = import_weights(path)
    again = build_model(config)
    set_weights(again, weights)
    expected, found = (predict(predictor(each), dataset.test.images) for each in (model, again))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # of logits up to 1; 5e-7 was measured
    assert config == replace(MODEL, **NORMALISED | {"ghost_batch": 0})


def test_the_convolutions_come_back_with_normalization_as_the_same_function_that_trains_from_there(normalised, dataset):
    model, path = normalised
    again, images = build_model(replace(MODEL, **NORMALISED), seed=3), dataset.test.images[:100]
    import_features(again, path, images)
    first, *_, last = [layer.name for layer in model.layers if isinstance(layer, BatchNormalization)]
    expected, found = (keras.Model(each.inputs, each.get_layer(last).output) for each in (model, again))
    np.testing.assert_allclose(found.predict(images, verbose=0), expected.predict(images, verbose=0), rtol=0, atol=1e-5)
    # Training normalizes by the statistics of the batch, whose mean is now that of inference.
    beginning, pixels = keras.Model(again.inputs, again.get_layer(first).output), keras.ops.convert_to_tensor(images)
    trained, inferred = (keras.ops.convert_to_numpy(beginning(pixels, training=each)) for each in (True, False))
    np.testing.assert_allclose(trained.mean(axis=(0, 1, 2)), inferred.mean(axis=(0, 1, 2)), rtol=0, atol=1e-5)
    assert not np.array_equal(get_weights(again)["logits/kernel"], get_weights(model)["logits/kernel"])


@pytest.mark.parametrize(("views", "field"), [(2, "flip_calibration"), (6, "six_view_calibration")])
def test_a_file_with_tta_returns_the_mean_and_is_calibrated_for_it(run, network, dataset, views, field):
    classifier = Classifier(export_run(run, dataset, views=views).path)
    expected = softmax(predict(with_tta(predictor(network), views), dataset.test.images), 1.0)
    close = partial(np.testing.assert_allclose, desired=expected, rtol=0, atol=Tolerances().probability)
    close(classifier.probabilities(dataset.test.images))
    assert (classifier.contract["flip"], classifier.contract.get("views", 2)) == (True, views)
    assert classifier.contract["calibration"] == members(calibration_of(run, network, dataset, views=views))
    assert classifier.contract["calibration"] == document(run)[field]  # the same for every export
    assert classifier.contract["calibration"] != document(run)["calibration"]


def test_an_inspection_counts_what_keras_counts(exports, network, whole):
    found, both = (inspect_model(each.path) for each in exports)
    learned = sum(array.size for array in get_weights(network).values())
    assert found.parameters == learned + 3  # scale and offset of the pixels, and the temperature
    assert found.multiply_adds == 32 * 32 * 27 * 8 + 16 * 16 * 72 * 8 + 512 * 32 + 32 * 10
    assert (both.parameters, both.multiply_adds) == (found.parameters, 2 * found.multiply_adds)
    assert found.parity["backend"] == keras.config.backend()
    assert found.contract.document["proof"]["accuracy"] == document(whole)["metrics"]["test"]["accuracy"]


def test_a_file_tells_where_its_weights_and_images_came_from(exported, run, dataset):
    started = {"run": "20260303-111213-fast-jax", "weights_sha256": "0" * 64, "seen": []}
    drawn = {"name": "photos \udcff", "split_by": "content", "split_seed": 8}  # a name that is no UTF-8
    put(run, document(run) | {"warm_start": started, "data": document(run)["data"] | drawn})
    path = export_run(run, dataset).path
    training = Classifier(path).contract["training"]
    assert training["warm_start"] == {"weights_sha256": "0" * 64}  # no name with a time
    assert started["run"].encode() not in path.read_bytes()
    assert {name: training["data"][name] for name in drawn} == drawn
    assert "warm_start" not in Classifier(exported.path).contract["training"]


def test_the_contract_is_json_in_the_metadata_of_the_file(exported, dataset):
    model = onnx.load(exported.path)
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata["Image.BitmapPixelFormat"] == "Rgb8"
    assert json.loads(metadata[CONTRACT_KEY])["labels"] == list(dataset.labels)


def still_training(run):
    """Take the results out of the record of ``run``, and return them."""
    finished = document(run)
    put(run, {name: value for name, value in finished.items() if name not in RESULTS} | {"status": "running"})
    return finished


def test_a_run_that_was_killed_can_be_exported_and_says_of_its_results_the_best_epoch_alone(run, dataset):
    finished, messages = still_training(run), []
    contract = Classifier(export_run(run, dataset, notice=messages.append).path).contract
    assert messages[0] == "fitting the temperature on the validation split"
    # Fitted for this file alone: the best weights are those of the finished run, whose record it does not touch.
    assert contract["calibration"] == finished["calibration"]
    assert "calibration" not in document(run)
    assert contract["training"]["why_stopped"] is contract["training"]["validation"] is None
    assert contract["training"]["best_epoch"] == finished["best_epoch"]
    assert contract["proof"]["images"] == len(dataset.test)


def test_weights_that_are_replaced_while_an_export_begins_are_labeled_with_their_own_epoch(run, dataset, monkeypatch):
    """The next epoch ends after the export has looked at record and history, and before it reads the weights."""
    still_training(run)
    following = build_model(MODEL, seed=5)

    def end_epoch(*arguments):
        save_weights(following, run.best_weights, 99)
        return same_hold_out(*arguments)

    monkeypatch.setattr(exporting, "same_hold_out", end_epoch)
    exported = export_run(run, dataset)
    assert Classifier(exported.path).contract["training"]["best_epoch"] == 99
    _, weights = import_weights(exported.path)
    np.testing.assert_array_equal(weights["logits/kernel"], get_weights(following)["logits/kernel"])


def test_the_files_of_one_command_have_the_weights_of_one_epoch_while_training_replaces_them(run, dataset):
    still_training(run)
    epochs = []
    for exported in export_precisions(run, dataset, {"float32": None, "float16": None}, max_drop=0.9):
        epochs.append(Classifier(exported.path).contract["training"]["best_epoch"])
        save_weights(build_model(MODEL, seed=5), run.best_weights, 99)
    assert len(epochs) == 2
    assert epochs[0] == epochs[1] != 99


def test_results_of_later_weights_than_those_exported_are_left_out(run, dataset, monkeypatch):
    """The training ends, with a better epoch, after the export has read the weights."""
    finished = still_training(run)

    def load_then_end(run):
        best = load_best_and_epoch(run)
        put(run, finished | {"best_epoch": 99, "calibration": finished["calibration"] | {"temperature": 9.0}})
        return best

    monkeypatch.setattr(exporting, "load_best_and_epoch", load_then_end)
    contract = Classifier(export_run(run, dataset).path).contract
    assert contract["training"]["best_epoch"] == finished["best_epoch"]
    assert contract["training"]["validation"] is contract["training"]["epochs"] is None
    assert contract["calibration"] == finished["calibration"]
    assert document(run)["calibration"]["temperature"] == 9.0


def test_the_weights_of_an_earlier_version_are_of_the_epoch_that_the_record_tells(run, network, dataset):
    save_weights(network, run.best_weights)
    put(run, {name: value for name, value in document(run).items() if name != "weights_sha256"})
    recorded = document(run)["best_epoch"]
    assert Classifier(export_run(run, dataset).path).contract["training"]["best_epoch"] == recorded


def test_the_file_is_calibrated_as_the_record_says_and_names_the_threshold(exported, whole, network, dataset):
    recorded = document(whole)["calibration"]
    classifier = Classifier(exported.path)
    assert classifier.contract["calibration"] == recorded
    assert classifier.abstention.threshold == recorded["abstention"]["threshold"]
    expected = softmax(predict(predictor(network), dataset.test.images), recorded["temperature"])
    found = classifier.calibrated(dataset.test.images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=Tolerances().calibrated)
    assert np.abs(classifier.probabilities(dataset.test.images) - expected).max() > 1e-3


# What cannot be exported


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"precision": "bfloat16"}, ConfigError),
        ({"max_drop": -0.1}, UsageError),
        ({"max_drop": float("nan")}, UsageError),
    ],
)
def test_a_precision_or_a_drop_outside_its_range_is_refused(run, dataset, changes, error):
    with pytest.raises(error, match=r"expected .*a fraction"):
        export_run(run, dataset, **{"precision": "int8"} | changes)


@pytest.mark.parametrize("size", [None, 0, 5], ids=["whole", "empty", "truncated"])
def test_a_model_of_somebody_else_is_not_replaced(run, dataset, monkeypatch, tmp_path, size):
    monkeypatch.setattr(exporting, "check_parity", None)
    content = onnx.ModelProto(ir_version=8, graph={"name": "theirs"}).SerializeToString()[:size]
    (tmp_path / "theirs.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"replace .*theirs\.onnx, which is not an exported model \(.*\); expected"):
        export_run(run, dataset, output=tmp_path / "theirs.onnx")
    assert (tmp_path / "theirs.onnx").read_bytes() == content
    assert len(list(tmp_path.glob("theirs*"))) == 1


@pytest.mark.parametrize("name", ["mine.onnx", "mine.json"])
def test_a_file_that_somebody_makes_during_the_parity_check_is_not_replaced(run, dataset, monkeypatch, tmp_path, name):
    check = exporting.check_parity

    def check_slowly(*arguments, **named):
        (tmp_path / name).write_text("mine")
        return check(*arguments, **named)

    monkeypatch.setattr(exporting, "check_parity", check_slowly)
    with pytest.raises(UsageError, match=rf"{name}, which is not .*; expected"):
        export_run(run, dataset, output=tmp_path / "mine.onnx")
    assert {path.name: path.read_text() for path in tmp_path.glob("*mine*")} == {name: "mine"}


def test_a_path_that_no_file_can_have_is_refused_in_one_line(run, dataset):
    for path in ("two\0parts.onnx", f"{'x' * 300}.onnx", f"{'x' * 300}/model.onnx", "~nobody-of-this-name/model.onnx"):
        with pytest.raises(UsageError, match=r"cannot be written .* expected the path of a file: give another name"):
            export_run(run, dataset, output=path)


def test_the_model_of_another_run_is_not_replaced(exported, run, dataset, tmp_path):
    other = Run(shutil.copytree(run.path, tmp_path / "other"))
    write_again(exported, other.path / "model.onnx")
    before = files(other)
    with pytest.raises(UsageError, match=r"another run; expected the folder of .* or one without a run"):
        export_run(run, dataset, output=other.path / "model.onnx")
    assert files(other) == before
