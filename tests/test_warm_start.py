"""No image that weights were trained on is held out, or tested by, when another training starts from them."""

from dataclasses import replace
from pathlib import Path

import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import hold_out, synthetic
from cifarnet.errors import ConfigError, RunError
from cifarnet.job import Job
from cifarnet.run import Run
from cifarnet.spec import Dataset, SplitBy
from cifarnet.warm_start import Seen, WarmStart, has_changed, require_unseen, warm_start_from

JOB = Job(recipe="seed", model=ModelConfig(), train=TrainConfig(), source="/photos")
DATASET = synthetic(train=60, test=20)
SEEN = Seen(source="/photos", data=DATASET.fingerprint, hold_out="a division", seed=0, validation_fraction=0.3)
OTHER = "another division"
REFUSAL = r"hold out or test by images of synthetic that the weights of earlier were trained on; expected seed 0 and"


def started(*seen: Seen) -> WarmStart:
    return WarmStart("earlier", Path("best.weights.h5"), seen)


def seeded(seed: int, source: str = "/photos") -> Job:
    return replace(JOB, train=replace(JOB.train, seed=seed), source=source)


def test_the_same_division_of_the_same_images_is_allowed():
    require_unseen(started(SEEN), JOB, DATASET, "a division")
    assert not has_changed(started(SEEN), JOB, DATASET)


@pytest.mark.parametrize("source", ["/photos", "/the same photos elsewhere"])
def test_another_division_of_the_same_images_is_refused_wherever_they_lie(source):
    with pytest.raises(ConfigError, match=REFUSAL):
        require_unseen(started(SEEN), seeded(1, source), DATASET, OTHER)


def test_another_seed_in_the_same_place_is_refused_although_another_fifth_is_the_test_then():
    with pytest.raises(ConfigError, match=REFUSAL):
        require_unseen(started(replace(SEEN, data="as divided by seed 0")), seeded(1), DATASET, OTHER)


def test_what_an_earlier_run_still_saw_counts_too():
    between = Seen(source="/other", data="of other photos", hold_out="b", seed=1, validation_fraction=0.3)
    require_unseen(started(between), seeded(1), DATASET, OTHER)
    with pytest.raises(ConfigError, match=REFUSAL):
        require_unseen(started(SEEN, between), seeded(1), DATASET, OTHER)


def divided(split_seed: int, split_by: SplitBy = "content") -> Dataset:
    return DATASET.opened_by("/photos", split_by=split_by, split_seed=split_seed)


def test_the_test_part_of_a_folder_is_that_of_the_weights_although_images_came_to_it():
    before = replace(SEEN, data="of fewer pictures", split_by="content", split_seed=4)
    require_unseen(started(before), JOB, divided(4), OTHER)
    with pytest.raises(ConfigError, match=r"drawn by content with seed 0, and the weights of earlier .* with seed 4"):
        require_unseen(started(before), JOB, divided(0), OTHER)


def test_a_folder_that_an_earlier_version_divided_by_position_is_refused_in_another_division():
    before = started(replace(SEEN, data="as divided by position"))
    with pytest.raises(ConfigError, match=r"drawn by content with seed 0, and the weights .* position with seed 0"):
        require_unseen(before, JOB, divided(0), OTHER)
    require_unseen(before, JOB, divided(0, "position"), OTHER)


def test_a_folder_is_the_same_place_by_any_of_its_names(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    before = started(replace(SEEN, source=str(tmp_path / "photos"), data="of fewer pictures"))
    with pytest.raises(ConfigError, match=REFUSAL):
        require_unseen(before, seeded(1, str(tmp_path / "link")), DATASET, OTHER)
    assert has_changed(before, seeded(0, str(tmp_path / "link")), DATASET)


@pytest.mark.parametrize(("earlier", "now"), [("/photos", "/photos/train"), ("/photos/train", "/photos")])
def test_the_training_part_of_a_folder_and_the_folder_are_never_divided_alike(earlier, now):
    before = started(replace(SEEN, source=earlier, data="of the other folder"))
    with pytest.raises(ConfigError, match=rf"has images of {earlier}, .* weights of earlier .* start anew"):
        require_unseen(before, seeded(0, now), DATASET, OTHER)


def test_drawn_images_are_others_for_another_seed():
    drawn = replace(SEEN, source="synthetic", data="of seed 0")
    require_unseen(started(drawn), seeded(1, "synthetic"), DATASET, OTHER)
    assert not has_changed(started(drawn), seeded(1, "synthetic"), DATASET)


def test_a_folder_with_more_pictures_than_before_is_found_out():
    before = started(replace(SEEN, data="of fewer pictures"))
    require_unseen(before, JOB, DATASET, OTHER)
    assert has_changed(before, JOB, DATASET)


def test_the_record_of_a_run_tells_what_its_weights_and_those_before_were_trained_on(tmp_path):
    parts = hold_out(DATASET.train, 0.3, 0, 10)
    record = {
        "format": 1,
        "recipe": "seed",
        "model": JOB.model.to_json(),
        "train": JOB.train.to_json(),
        "data": {"source": "/photos", "fingerprint": DATASET.fingerprint},
        "hold_out": {"train": len(parts.train), "fingerprint": "a division"},
    }
    first = Run(tmp_path / "first")
    first.path.mkdir()
    first.best_weights.write_bytes(b"weights")
    first.write_record(record)
    once = warm_start_from(first)
    assert (once.run, once.weights, once.seen) == ("first", first.best_weights, (SEEN,))
    first.write_record(
        record | {"warm_start": once.to_json(b"weights"), "data": {"source": "/more", "fingerprint": "more"}}
    )
    assert warm_start_from(first).seen == (SEEN, replace(SEEN, source="/more", data="more"))
    first.write_record(record | {"warm_start": {"seen": [{"colour": 1}]}})
    with pytest.raises(RunError, match=r"damaged run\.json"):
        warm_start_from(first)
