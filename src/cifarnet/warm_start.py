"""Where a training starts from, if not anew: the convolutions of an earlier run, and what images they have seen."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError, RunError
from .job import Job, job_of, real_place, require_weights, source_of
from .run import Run
from .spec import Dataset, SplitBy

DRAWN = "synthetic"
"""The source whose images are others for every seed."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Images that weights were trained on."""

    source: str | None
    """What ``open_dataset`` was given, or None where nobody told."""
    data: str
    """Fingerprint of the data set."""
    hold_out: str
    """Fingerprint of its division into images to train on and images held out."""
    seed: int
    """By which they were divided into images to train on and images held out."""
    validation_fraction: float
    """Part of them that was held out."""
    split_by: SplitBy | None = "position"
    """Rule that drew the test part, or None where it was given; runs of earlier versions do not tell."""
    split_seed: int | None = None
    """Seed that drew the test part; where it is not told, that of the training."""

    @property
    def test_part(self) -> tuple[SplitBy | None, int]:
        """Return rule and seed of the test part."""
        return self.split_by, self.seed if self.split_seed is None else self.split_seed


@dataclass(frozen=True)
class WarmStart:
    """The run whose convolutions another one starts from."""

    run: str
    """Name of its folder."""
    weights: Path
    """File with its weights, in Keras' format."""
    seen: tuple[Seen, ...] = ()
    """What they were trained on, by that run and by those that it started from in turn."""

    def to_json(self, content: bytes) -> dict[str, Any]:
        """Return what the record of the new run tells; ``content`` is that of the file with the weights."""
        digest = hashlib.sha256(content).hexdigest()
        return {"run": self.run, "weights_sha256": digest, "seen": [asdict(each) for each in self.seen]}


def warm_start_from(run: Run) -> WarmStart:
    """Return the start from the best weights of ``run``. Raises ``RunError`` when it has none or a damaged record."""
    require_weights(run)
    record = run.read_record()
    job = job_of(record)
    try:
        own = Seen(
            source=job.source,
            data=record["data"]["fingerprint"],
            hold_out=record["hold_out"]["fingerprint"],
            seed=job.train.seed,
            validation_fraction=job.train.validation_fraction,
            split_by=record["data"].get("split_by", "position"),
            split_seed=record["data"].get("split_seed"),
        )
        earlier = _seen(record.get("warm_start", {}))
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(run, error) from error
    return WarmStart(run.path.resolve().name, run.best_weights, (*earlier, own))


def warm_start_of(run: Run) -> WarmStart | None:
    """Return what ``run`` started from, if it did not start anew: its own copy of the weights.

    Raises ``RunError`` when that is not the one that the run began with.
    """
    recorded = run.read_record().get("warm_start")
    if recorded is None:
        return None
    path = run.start_weights
    try:
        name, digest, seen = str(recorded["run"]), str(recorded["weights_sha256"]), _seen(recorded)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(run, error) from error
    except OSError as error:
        raise RunError(
            f"{path} could not be read ({error.strerror}); expected what the run began with: restore it or start anew"
        ) from error
    if found != digest:
        raise RunError(
            f"{path} has the SHA-256 {found[:12]}…; expected {digest[:12]}… as when the run began: restore it or start "
            "anew"
        )
    return WarmStart(name, path, seen)


def require_unseen(warm_start: WarmStart, job: Job, dataset: Dataset, hold_out: str) -> None:
    """Raise ``ConfigError`` where images that are now held out, or to be tested by, were trained on before.

    ``hold_out`` is the fingerprint of the division of ``dataset``. Images that were copied, or that lie in a folder
    which has changed, are not found out.
    """
    wanted, source = (job.train.seed, job.train.validation_fraction), source_of(job, dataset)
    test_part = (dataset.split_by, dataset.split_seed)
    for seen in warm_start.seen:
        divided_anew = seen.data == dataset.fingerprint and seen.hold_out != hold_out
        same_place = _is_same_place(seen.source, source)
        if divided_anew or (same_place and wanted != (seen.seed, seen.validation_fraction)):
            raise ConfigError(
                f"seed {wanted[0]} and validation_fraction {wanted[1]:g} hold out or test by images of {dataset.name} "
                f"that the weights of {warm_start.run} were trained on; expected seed {seen.seed} and "
                f"validation_fraction {seen.validation_fraction:g}: take those or start anew"
            )
        if _is_part(seen.source, source) or _is_part(source, seen.source):
            raise ConfigError(
                f"{dataset.name} has images of {seen.source}, divided in another way, that the weights of "
                f"{warm_start.run} were trained on; expected the same folder or other images: take that or start anew"
            )
        if same_place and dataset.split_by is not None and test_part != seen.test_part:
            raise ConfigError(
                f"the test part of {dataset.name} is drawn by {test_part[0]} with seed {test_part[1]}, and the weights "
                f"of {warm_start.run} were trained on some of it; expected {seen.test_part[0]} with seed "
                f"{seen.test_part[1]}: open the images so, or start anew"
            )


def has_changed(warm_start: WarmStart, job: Job, dataset: Dataset) -> bool:
    """Return whether the weights were trained on what was once in the place that ``dataset`` is from."""
    source = source_of(job, dataset)
    return any(_is_same_place(seen.source, source) and seen.data != dataset.fingerprint for seen in warm_start.seen)


def _is_same_place(first: str | None, second: str | None) -> bool:
    if first is None or second is None or DRAWN in (first, second):
        return False
    return first == second or (real_place(first) is not None and real_place(first) == real_place(second))


def _is_part(part: str | None, whole: str | None) -> bool:
    """Return whether ``part`` is the training part of the folder ``whole``."""
    folder = real_place(whole)
    return folder is not None and real_place(part) == folder / "train"


def _seen(recorded: Mapping[str, Any]) -> tuple[Seen, ...]:
    return tuple(Seen(**each) for each in recorded.get("seen", ()))


def _damaged(run: Run, error: Exception) -> RunError:
    return RunError(f"{run} has a damaged run.json ({error!r}); expected the record of a run: start anew")
