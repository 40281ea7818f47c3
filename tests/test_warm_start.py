"""Whether fine-tuning is allowed depends on the run record and on the images that the run was trained on."""

import pytest

from cifarnet.data import hold_out, synthetic
from cifarnet.errors import ConfigError, RunError
from cifarnet.run.folder import Run
from cifarnet.training.seen import digests, write_seen
from cifarnet.training.warm_start import require_unseen, warm_start_from
from tests.records import RUNNING, put

DATASET = synthetic(train=60, test=20)
PARTS = hold_out(DATASET.train, 0.3, 0, 10)
RECORD = RUNNING | {
    "data": RUNNING["data"] | {"fingerprint": DATASET.fingerprint},
    "hold_out": RUNNING["hold_out"] | {"fingerprint": PARTS.fingerprint},
}


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "first")
    run.path.mkdir()
    run.best_weights.write_bytes(b"weights")
    put(run, RECORD)
    return run


@pytest.mark.parametrize("is_known", [True, False])
def test_the_same_images_are_divided_as_before_or_refused_whether_or_not_the_run_kept_their_digests(run, is_known):
    if is_known:
        write_seen(run, digests(DATASET.train.images))
    once = warm_start_from(run)
    assert (once.run, once.weights, once.seen is not None) == ("first", run.best_weights, is_known)
    require_unseen(once, DATASET, PARTS)
    another = hold_out(DATASET.train, 0.3, 1, 10)
    count = len(another.validation)
    with pytest.raises(ConfigError, match=rf"{count} of the {count + 20} validation and test images were trained on"):
        require_unseen(once, DATASET, another)


def test_other_images_are_allowed(run):
    write_seen(run, digests(DATASET.train.images))
    other = synthetic(train=60, test=20, seed=1)
    require_unseen(warm_start_from(run), other, hold_out(other.train, 0.3, 1, 10))


def test_what_an_earlier_version_wrote_of_images_is_passed_over(run):
    put(run, RECORD | {"warm_start": {"run": "earlier", "weights_sha256": "0" * 64, "seen": [{"colour": 1}]}})
    assert warm_start_from(run).seen is None


@pytest.mark.parametrize(
    "damage", [{"hold_out": None}, {"hold_out": {}}, {"data": RECORD["data"] | {"fingerprint": 5}}]
)
def test_a_record_that_does_not_tell_its_images_is_refused(run, damage):
    put(run, RECORD | damage)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        warm_start_from(run)
