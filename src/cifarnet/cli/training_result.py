"""Results that ``cifarnet train`` prints and draws at the end, and its exit code."""

from collections.abc import Sequence

from cifarnet.errors import RunError, listed, shell_word
from cifarnet.interrupt import INTERRUPTED
from cifarnet.run.folder import Run
from cifarnet.run.record import STOP_REASONS, RecordedScore, RunRecord

from .dataset_notes import MOST_NAMES
from .display import say, shortened
from .tables import percent


def draw_curves(run: Run, record: RunRecord) -> None:
    """Draw the curves of the training, if an epoch has finished, in the run folder."""
    history = run.read_history()
    if history:
        from cifarnet import report

        report.draw_curves(history, record.best_epoch, run.path / "curves.png", record.custom.loss_title)


def say_result(run: Run, record: RunRecord) -> None:
    """Print why the training stopped, its accuracies, and the next command."""
    say("")
    say(f"Stopped after epoch {record.epochs}: {STOP_REASONS[record.why_stopped or 'interrupted']}.")
    validation, test = record.metrics.validation, record.metrics.test
    if validation and test:
        say(
            f"Best epoch {record.best_epoch}: validation accuracy {100 * validation.accuracy:.2f}%, "
            f"test accuracy {100 * test.accuracy:.2f}%."
        )
        _say_recall(test, record.data.labels)
    elif record.epochs or record.why_stopped == "nan":
        say("No epoch has finished with a finite loss, so there are no best weights.")
    else:
        say("No epoch has finished yet, so there are no best weights.")
    say(f"Results are in {run}")
    if run.model.is_file():
        say(f"note: {run.model.name} and any report are of earlier weights: make them again if the best epoch changed")
    name = shell_word(str(run))
    if record.status == "interrupted":
        say(f"Resume with:  cifarnet train --resume {name}")
    elif record.best_epoch:
        say(f"Next:         cifarnet export {name} --onnx")


def _say_recall(test: RecordedScore, labels: Sequence[str]) -> None:
    """Print balanced accuracy and the lowest recalls, if the classes are unbalanced."""
    if test.balanced_accuracy is None or test.recall is None:
        return
    known = [
        (recall, shortened(label)) for label, recall in zip(labels, test.recall, strict=True) if recall is not None
    ]
    lowest = listed((f"{label} {percent(recall)}" for recall, label in sorted(known)), MOST_NAMES)
    say(f"Classes differ in size: balanced accuracy {percent(test.balanced_accuracy, 2)}; recall {lowest}.")


def exit_code(record: RunRecord) -> int:
    """Return the exit code of the command. Raises ``RunError`` if no epoch had a finite loss."""
    if record.why_stopped == "interrupted":
        return INTERRUPTED
    if not record.best_epoch and record.status == "finished":
        raise RunError("training ended without an epoch of finite loss; expected one: lower --learning-rate")
    return 0
