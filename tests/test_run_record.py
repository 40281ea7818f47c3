"""Reading a run record: the epoch of the best weights, and the images that the run was trained on."""

import hashlib
import math

import h5py
import pytest

from cifarnet.config import TrainConfig
from cifarnet.contract import EPOCH_ATTRIBUTE
from cifarnet.data import synthetic
from cifarnet.errors import RunError
from cifarnet.run.exported import require_own_export
from cifarnet.run.folder import BEST_WEIGHTS, EpochRecord, Run, require_weights
from cifarnet.run.origin import DataRecord, require_outside
from cifarnet.run.state import best_epoch_of
from tests.records import RUNNING, put
from tests.runtime import models

UNFINISHED = RUNNING | {"train": TrainConfig(min_delta=0.01).to_json()}


def run_with(folder, losses, **facts):
    """Return a run whose epochs have these losses, of training and validation."""
    run = Run(folder)
    put(run, UNFINISHED | facts)
    if losses:
        run.write_history(
            [EpochRecord(epoch, 0.1, train, 0.5, held_out, 0.5) for epoch, (train, held_out) in enumerate(losses, 1)]
        )
    return run


def test_while_there_are_no_results_the_history_tells_and_a_damaged_record_is_refused(tmp_path):
    for losses, best in (
        ([], None),
        ([(1.0, 0.9), (1.0, 0.5), (1.0, 0.7)], 2),
        ([(1.0, 0.9), (1.0, 0.5), (1.0, 0.495)], 2),  # a fall of less than min_delta
        ([(1.0, 0.9), (1.0, 0.5), (math.inf, 0.1)], 2),  # an epoch that overflowed
        ([(1.0, math.nan)], None),
    ):
        assert best_epoch_of(run_with(tmp_path, losses)) == best
    for recorded in ("2", 0, True):
        message = r"run.json is damaged \(best_epoch is .*; expected a whole number from 1\)"
        with pytest.raises(RunError, match=message):
            best_epoch_of(run_with(tmp_path, [(1.0, 0.9)], best_epoch=recorded))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"best_epoch": 9}, "best_epoch 9; expected 2, as"),
        ({"best_epoch": None}, "best_epoch None; expected 2, as"),
        ({"epochs": 3}, "epochs 3; expected 2, as"),
        ({"metrics": {"validation": {"loss": 0.4, "accuracy": 0.5}}}, r"validation\.loss 0\.4; expected 0\.5, as"),
        ({"metrics": {"validation": {"loss": 0.5, "accuracy": 0.9}}}, r"validation\.accuracy 0\.9; expected 0\.5, as"),
    ],
)
def test_results_that_contradict_the_history_are_refused(tmp_path, edit, message):
    results = {"why_stopped": "epochs", "epochs": 2, "best_epoch": 2}
    results |= {"metrics": {"validation": {"loss": 0.5, "accuracy": 0.5}}}
    run = run_with(tmp_path, [(1.0, 0.9), (1.0, 0.5)], **results)
    assert best_epoch_of(run) == 2
    put(run, UNFINISHED | results | edit)
    with pytest.raises(RunError, match=f"^run.json of .* has {message} history.csv says: restore the file"):
        best_epoch_of(run)
    (run.path / "history.csv").write_text("damaged")
    assert best_epoch_of(run) == edit.get("best_epoch", 2)


@pytest.mark.parametrize(("epoch", "best"), [(2, 2), (0, 1), ("two", 1), ([1, 2], 1), (None, 1)])
def test_while_there_are_no_results_the_weights_tell_before_the_history(tmp_path, epoch, best):
    run = run_with(tmp_path, [(1.0, 0.9)])  # the second epoch is not in it yet
    with h5py.File(run.best_weights, "w") as file:
        if epoch is not None:
            file.attrs[EPOCH_ATTRIBUTE] = epoch
    assert best_epoch_of(run) == best
    run.best_weights.write_bytes(b"damaged")
    assert best_epoch_of(run) == 1


def test_weights_that_were_swapped_after_the_training_are_refused(tmp_path):
    (tmp_path / BEST_WEIGHTS).write_bytes(b"weights")
    require_weights(run_with(tmp_path, [], status="finished"))  # of an earlier version, which does not tell
    run = run_with(tmp_path, [], status="finished", weights_sha256=hashlib.sha256(b"weights").hexdigest())
    require_weights(run)
    run.best_weights.write_bytes(b"others")
    with pytest.raises(
        RunError,
        match=r"best\.weights\.h5 has the SHA-256 \w{12}…; expected \w{12}… as when its training ended: restore it or",
    ):
        require_weights(run)


def test_the_export_of_other_weights_with_the_same_settings_is_refused(tmp_path):
    run = run_with(tmp_path, [], status="finished", why_stopped="epochs", weights_sha256="1" * 64)
    training = run.record.to_json()
    run.model.write_bytes(models.content(contract=models.contract(training=training)))
    require_own_export(run)
    for other, message in (
        ({"weights_sha256": "2" * 64}, "weights_sha256 is 222222222222; expected 111111111111"),
        ({"train": TrainConfig(min_delta=0.01, class_weights="balanced").to_json()}, "class_weights is balanced; expe"),
        ({"custom": {"loss": {"name": "focal"}}}, "its custom is {'loss': {'n; expected None"),
    ):
        run.model.write_bytes(models.content(contract=models.contract(training=training | other)))
        with pytest.raises(RunError, match=f"{message}.*: export it again"):
            require_own_export(run)
    # Settings that JSON omits, on the other side.
    put(run, training | {"train": TrainConfig(min_delta=0.01, class_weights="balanced").to_json()})
    run.model.write_bytes(models.content(contract=models.contract(training=training)))
    with pytest.raises(RunError, match="class_weights is none; expected balanced: export it again"):
        require_own_export(run)


# The images

DRAWN = synthetic(20, 10).opened_by("/photos", split_by="content", split_seed=8)


def test_the_images_of_a_run_open_by_the_seed_that_divided_them_or_as_in_an_earlier_version_that_of_the_training(
    tmp_path,
):
    data, train = DataRecord.of(DRAWN).to_json(), TrainConfig(seed=3).to_json()
    assert "image_size" not in data  # 32 is not recorded
    larger = DataRecord.of(DRAWN.opened_by("/photos", split_by="content", split_seed=8, image_size=96)).to_json()
    for recorded, size in ((data, 32), (larger, 96)):
        found = run_with(tmp_path, [], train=train, data=recorded).record.origin
        assert (found.source, found.fingerprint) == ("/photos", DRAWN.fingerprint)
        assert (found.split_by, found.split_seed, found.image_size) == ("content", 8, size)
    earlier = {name: value for name, value in RUNNING["data"].items() if name not in ("split_by", "split_seed")}
    found = run_with(tmp_path, [], train=train, data=earlier).record.origin
    assert (found.split_by, found.split_seed) == ("position", 3)


def test_a_record_that_does_not_tell_its_images_or_has_a_number_that_json_does_not_have_is_refused(tmp_path):
    for damage in ({"image_size": 16}, {"split_by": "colour"}, {"split_seed": -1}, {"name": None}):
        run = run_with(tmp_path, [], data=DataRecord.of(DRAWN).to_json() | damage)
        with pytest.raises(RunError, match=r"run\.json is damaged"):
            _ = run.record
    run = run_with(tmp_path, [], note=["number"])  # even in a member of a later version
    path = run.path / "run.json"
    path.write_text(path.read_text().replace('"number"', "1e999"))
    with pytest.raises(RunError, match=r"could not be read .it has the number 1e999.; expected the record of a run"):
        _ = run.record


@pytest.mark.parametrize("linked", ["cat", "train", "val/cat"])
def test_a_place_behind_a_linked_class_folder_is_inside_the_images(tmp_path, linked):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos" / linked).parent.mkdir(parents=True)
    (tmp_path / "photos" / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"elsewhere/runs, inside the images in .*photos; .* one \(--output\)"):
        require_outside(tmp_path / "elsewhere" / "runs", str(tmp_path / "photos"), "--output")
    require_outside(tmp_path / "runs", str(tmp_path / "photos"), "--output")
