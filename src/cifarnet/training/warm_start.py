"""Where a training starts from, if not anew: the convolutions of an earlier run, and what images they have seen."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cifarnet.data import HoldOut
from cifarnet.dataset import Dataset
from cifarnet.errors import ConfigError, RunError
from cifarnet.run.folder import Run
from cifarnet.run.record import RunRecord, StartedFrom
from cifarnet.run.state import require_weights

from .seen import Digests, count_seen, digests, seen_by


@dataclass(frozen=True, eq=False)
class WarmStart:
    """The run whose convolutions another one starts from."""

    run: str
    """Name of its folder."""
    weights: Path
    """File with its weights, in Keras' format."""
    seen: Digests | None = None
    """Digests of what they were trained on, by that run and by those before it, or None where that is not known."""
    division: tuple[str, str] | None = None
    """Fingerprints of its data set and of the division into images to train on and images held out."""

    def recorded(self, content: bytes) -> StartedFrom:
        """Return what the record of the new run tells; ``content`` is that of the file with the weights."""
        return StartedFrom(run=self.run, weights_sha256=hashlib.sha256(content).hexdigest())


def warm_start_from(run: Run) -> WarmStart:
    """Return the start from the best weights of ``run``. Raises ``RunError`` when it has none or a damaged record."""
    require_weights(run)
    division = _division(run.read_record())
    return WarmStart(run.path.resolve().name, run.best_weights, seen_by(run), division)


def warm_start_of(run: Run) -> WarmStart | None:
    """Return what ``run`` started from, if it did not start anew: its own copy of the weights.

    Its own images count as seen too. Raises ``RunError`` when the weights are not those that the run began with.
    """
    record = run.read_record()
    recorded = record.warm_start
    if recorded is None:
        return None
    path = run.start_weights
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunError(
            f"{path} could not be read ({error.strerror}); expected what the run began with: restore it or start anew"
        ) from error
    if found != recorded.weights_sha256:
        raise RunError(
            f"{path} has the SHA-256 {found[:12]}…; expected {recorded.weights_sha256[:12]}… as when the run "
            "began: restore it or start anew"
        )
    return WarmStart(recorded.run, path, seen_by(run), _division(record))


def require_unseen(warm_start: WarmStart, dataset: Dataset, parts: HoldOut, hold_out: str) -> None:
    """Raise ``ConfigError`` where images that are now held out, or to be tested by, were trained on before.

    ``parts`` is the division of the training images of ``dataset``, and ``hold_out`` its fingerprint. Where both are
    those of the earlier run nothing is compared, so that images which are there twice are no hindrance.
    """
    data, held_out_before = warm_start.division or (None, None)
    is_same = data == dataset.fingerprint
    seen = digests(dataset.train.images) if is_same else warm_start.seen
    if seen is None or (is_same and held_out_before == hold_out):
        return
    validation = dataset.train.images[parts.validation]
    if count := count_seen(validation, seen) + count_seen(dataset.test.images, seen):
        raise ConfigError(
            f"{count} of the {len(validation) + len(dataset.test)} images to be held out or tested by are training "
            f"images of {warm_start.run} or of a run before it; expected images that are new to its weights: take "
            "that run's images, seed and validation_fraction, or start anew"
        )


def _division(record: RunRecord) -> tuple[str, str]:
    return record.data.fingerprint, record.hold_out.fingerprint
