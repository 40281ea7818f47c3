"""The training loop, the same for all frameworks."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.backends import ALONE, Steps, Workers, adapter
from cifarnet.data import HoldOut, batch_order
from cifarnet.data.augmentation import Augmentation
from cifarnet.dataset import Split
from cifarnet.errors import CheckpointError
from cifarnet.model.network import logits_of
from cifarnet.model.weights import get_weights, save_weights, set_weights
from cifarnet.recipes import Recipe
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.record import StopReason

from .batches import filled_steps, own_positions, prefetched
from .checkpoint import Checkpoint, Position, save_checkpoint, settings_of
from .custom import NO_CUSTOM, Custom, build_custom, rate_after
from .early_stopping import EarlyStopping
from .launch import digest_of, require_alike
from .observer import Observer, Progress
from .optimizer import build_optimizer, compile_engine, learning_rate_at

IMAGES_PER_CALL = 750
"""Maximum number of images per call of the engine, unless a batch is larger. Each call waits for the device."""
CALLS_PER_EPOCH = 8
"""Minimum number of calls per epoch, if it has as many steps."""


@dataclass(frozen=True)
class Outcome:
    """Result of a training session."""

    why_stopped: StopReason
    best_epoch: int
    """Counted from 1; 0 if no epoch had a finite loss."""
    history: list[EpochRecord]
    elapsed_s: float
    """Duration of all sessions together, seconds."""
    epoch_seconds: list[float]
    """Duration of each finished epoch, validation included, seconds."""

    @property
    def resumable(self) -> bool:
        """Whether training can be resumed."""
        return self.why_stopped in ("interrupted", "time limit")


class Session:
    """A training session in this process, on ``split.images[parts.train]``.

    The first of the ``workers`` writes best weights, history and checkpoints to ``run``. ``custom`` replaces optimizer
    and loss of ``settings``. A batch is divided into ``micro_batches``, by default as the adapter chooses.
    """

    def __init__(
        self,
        model: keras.Model,
        split: Split,
        parts: HoldOut,
        settings: Recipe,
        run: Run,
        observer: Observer,
        *,
        custom: Custom = NO_CUSTOM,
        clock: Callable[[], float] = time.monotonic,
        micro_batches: int | None = None,
        workers: Workers = ALONE,
    ) -> None:
        self._model, self._run, self._observer, self._clock, self._workers = model, run, observer, clock, workers
        self._config = config = settings.train
        self._split, self._indices = split, parts.train
        self._validation = Split(split.images[parts.validation], split.labels[parts.validation])
        network, self._custom = logits_of(model), custom
        if custom.optimizer is None:
            self._optimizer = build_optimizer(config, network)
        else:
            self._optimizer = build_custom(custom.optimizer, network)
        labels = split.labels[parts.train]
        self._engine = compile_engine(
            network, self._optimizer, settings, labels, custom=custom, parts=micro_batches, workers=workers
        )
        self._batch_size = min(config.batch_size, len(self._indices))  # few images are not padded to a large batch
        ranges = adapter().micro_batches(self._batch_size, settings.model.ghost_batch, micro_batches)
        self._own = own_positions(ranges, workers)
        self._steps = math.ceil(len(self._indices) / self._batch_size)
        self._steps_per_call = max(1, min(IMAGES_PER_CALL // self._batch_size, self._steps // CALLS_PER_EPOCH))
        self._stopping = EarlyStopping(config.min_delta, config.patience, is_relative=custom.loss is not None)
        # What a checkpoint holds. Its variables and those of early stopping are added when it is saved.
        self._at = Checkpoint(Position(), {}, {}, {}, settings=settings_of(settings, custom.record(), parts))
        self._mark = clock()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore ``checkpoint``. Raises ``CheckpointError`` for one of another network."""
        try:
            self._engine.restore(checkpoint.state)
            self._stopping = EarlyStopping(**checkpoint.stopping)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self._run.checkpoints} holds the state of another network; expected one of this run: start a new run"
            ) from error
        self._at = replace(checkpoint, state={}, settings=self._at.settings)
        if self._workers.is_first:
            self._run.write_history(self._at.history)

    def train(self, stop: Callable[[], bool], max_minutes: float) -> Outcome:
        """Train until a reason to stop, then restore the best weights. The arguments are as in ``train.train``."""
        self._stop, self._deadline = stop, self._clock() + 60 * max_minutes
        if self._workers.count > 1:
            self._require_same_state(self._engine.state())
        reason = self._reason_to_end() if self._at.history else None
        while reason is None:
            reason = self._train_epoch() or self._end_epoch()
        self._tick()
        if self._at.best:
            set_weights(self._model, self._at.best)
            self._save_weights(self._stopping.best_epoch)
        elapsed_s = sum(self._at.epoch_seconds) + self._at.position.seconds
        return Outcome(reason, self._stopping.best_epoch, self._at.history, elapsed_s, self._at.epoch_seconds)

    def _train_epoch(self) -> StopReason | None:
        # Closed when training stops or fails, because it has a thread.
        with closing(prefetched(self._calls())) as calls:
            for steps in calls:
                self._take(steps)
                if not math.isfinite(self._at.position.loss_sum):
                    return "nan"
                self._observer.on_progress(self._progress())
                if reason := self._interruption():
                    self._save(self._engine.state())
                    return reason
        return None

    def _interruption(self) -> StopReason | None:
        """Return a reason to stop that any of the workers has, the same in all of them."""
        reasons: tuple[StopReason | None, ...] = (None, "time limit", "interrupted")
        own = 2 if self._stop() else int(self._clock() >= self._deadline)
        return reasons[int(self._workers.all_gather(np.array(own, np.int32)).max())]

    def _calls(self) -> Iterator[Steps]:
        """Yield the remaining steps of the epoch, grouped by call of the engine."""
        size, first, epoch = self._batch_size, self._at.position.step, self._at.position.epoch
        ordered = self._indices[batch_order(len(self._indices), self._config.seed, epoch)]
        views = Augmentation(self._config, len(self._split), epoch)
        while first < self._steps:
            # Calls begin at the same steps in every session, wherever an earlier one stopped.
            stop = min((first // self._steps_per_call + 1) * self._steps_per_call, self._steps)
            chosen = ordered[first * size : stop * size]
            rates = [learning_rate_at(self._config, epoch - 1 + step / self._steps) for step in range(first, stop)]
            filled = np.concatenate([chosen, ordered[: len(rates) * size - len(chosen)]])
            yield filled_steps(self._split, filled, len(chosen), rates, views, self._own)
            first = stop

    def _take(self, steps: Steps) -> None:
        for sums in self._engine.train(steps):
            self._at.position.loss_sum += float(sums.loss)
            self._at.position.correct += float(sums.correct)
        self._at.position.step += len(steps.learning_rates)

    def _end_epoch(self) -> StopReason | None:
        state = self._engine.state()  # also updates the variables of model and optimizer
        record = self._measure()
        self._at.history.append(record)
        self._require_same_state(state)
        if self._stopping.update(record.epoch, record.comparable_loss):
            self._at.best = get_weights(self._model)
            self._save_weights(record.epoch)
        if self._workers.is_first:
            self._run.write_history(self._at.history)
        self._tick()
        self._observer.on_epoch(record, self._progress())
        self._at.epoch_seconds.append(self._at.position.seconds)
        self._at.position = Position(epoch=record.epoch + 1)
        self._save(state)
        return self._reason_to_end()

    def _measure(self) -> EpochRecord:
        validation = self._custom.evaluate(self._engine.logits, self._validation, self._workers)
        return EpochRecord(
            epoch=self._at.position.epoch,
            learning_rate=self._last_rate(),
            train_loss=self._at.position.loss_sum / len(self._indices),
            train_accuracy=self._at.position.correct / len(self._indices),
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
        )

    def _last_rate(self) -> float:
        if self._custom.optimizer is not None:
            return rate_after(self._optimizer, self._at.position.epoch * self._steps - 1)
        return learning_rate_at(self._config, self._at.position.epoch - 1 / self._steps)

    def _reason_to_end(self) -> StopReason | None:
        last = self._at.history[-1]
        if not (math.isfinite(last.validation_loss) and math.isfinite(last.train_loss)):
            return "nan"
        if self._stopping.patience_left == 0:
            return "patience"
        return "epochs" if last.epoch >= self._config.epochs else None

    def _save_weights(self, epoch: int) -> None:
        if self._workers.is_first:
            save_weights(self._model, self._run.best_weights, epoch)

    def _require_same_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        # At the end of each epoch as well: processors of two kinds may round the steps of an optimizer differently.
        if self._workers.count > 1:
            where = f"epoch {self._at.position.epoch}, step {self._at.position.step}, state {digest_of(state)}"
            require_alike(self._workers, {"the training at": where})

    def _save(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._tick()
        if self._workers.is_first:
            checkpoint = replace(self._at, stopping=asdict(self._stopping), state=state)
            save_checkpoint(self._run.checkpoints, checkpoint)

    def _tick(self) -> None:
        now = self._clock()
        self._at.position.seconds += now - self._mark
        self._mark = now

    def _progress(self) -> Progress:
        self._tick()
        seen = min(self._at.position.step * self._batch_size, len(self._indices))
        return Progress(
            epoch=self._at.position.epoch,
            step=self._at.position.step,
            steps=self._steps,
            train_loss=self._at.position.loss_sum / seen,
            train_accuracy=self._at.position.correct / seen,
            seconds=self._at.position.seconds,
            images_per_s=seen / max(self._at.position.seconds, 1e-9),
            best_epoch=self._stopping.best_epoch,
            best_loss=self._stopping.best_loss,
            patience_left=self._stopping.patience_left,
            workers=self._workers.count,
        )
