"""``cifarnet tune``: search for better settings of a recipe."""

import json
import math
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifarnet.dataset import IMAGE_SIZE
from cifarnet.errors import ConfigError, RunError, UsageError, counted, shell_word
from cifarnet.interrupt import INTERRUPTED, stop_on_signal
from cifarnet.recipes import RECIPES, Recipe, recipe_and_settings

from .display import download_bar, out, out_lines, percent, say, table
from .notes import recipe_label, say_left_out
from .options import BackendOption, DataOption, ImageSizeOption, SkipBrokenOption

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SHOWN = 10
"""Maximum number of trials in the table."""


def command(
    recipe: Annotated[str, typer.Option(help=f"Start from this recipe: {', '.join(RECIPES)} or a JSON file.")] = "fast",
    data: DataOption = "cifar10",
    image_size: ImageSizeOption = IMAGE_SIZE,
    skip_broken: SkipBrokenOption = False,
    backend: BackendOption = None,
    trials: Annotated[int, typer.Option(help="Stop when the journal has this many trials.", min=1)] = 20,
    max_minutes: Annotated[
        float | None, typer.Option(help="Stop after this time; the running trial is lost.", min=0)
    ] = None,
    minutes: Annotated[float | None, typer.Option(hidden=True, min=0)] = None,  # former name of --max-minutes
    storage: Annotated[
        Path, typer.Option(help="Journal of the trials. Processes that share it, on any machine, share the search.")
    ] = Path("tune.journal"),
) -> None:
    """Search for better settings of a recipe, by validation loss.

    Tries values of learning rate, weight decay, dropout, label smoothing, translation, cutout and batch size around
    those of the recipe. Trials that are worse than the others are pruned. The test images are not used. After Ctrl-C,
    which loses the running trial, the same command continues the search. The best settings are written beside the
    journal, as a recipe for `cifarnet train`.
    """
    from cifarnet.atomic import write_atomically
    from cifarnet.backends import choose
    from cifarnet.data import load_dataset

    settings, changes = recipe_and_settings(recipe)
    if not storage.name:
        raise UsageError(f"--storage is {storage}, a folder; expected a journal: name a file")
    best = storage.with_name(f"{storage.name.removesuffix('.journal')}.best.json")
    _require_own(best, recipe)
    choose(backend)
    from cifarnet.training.search import importance, require_usable, search  # Keras, now that its framework is chosen

    require_usable(storage)  # before the images are decoded
    with download_bar() as progress:
        dataset = load_dataset(
            data, seed=settings.train.seed, image_size=image_size, progress=progress, skip_broken=skip_broken
        )
    say_left_out(dataset)
    adapted = settings.for_dataset(dataset, changes)
    say(f"backend {choose()}, recipe {recipe_label(recipe)}, data {data}, journal {storage}")
    with stop_on_signal() as stop:
        limit = max_minutes if max_minutes is not None else minutes if minutes is not None else math.inf
        study = search(
            adapted, dataset, storage, trials=trials, max_minutes=limit, stop=lambda: bool(stop), on_trial=_say_trial
        )
    if not _finished(study):
        if stop:
            raise typer.Exit(INTERRUPTED)
        raise RunError("no trial has finished; expected one at least: run the command again, with more time or trials")
    _show(study, importance(study))
    documents = _recipes(settings, changes, study)
    best = _not_edited(best, documents)
    write_atomically(best, f"{json.dumps(documents[0], indent=2)}\n".encode())
    words = [] if data == "cifar10" else ["--data", data]
    words += ([] if image_size == IMAGE_SIZE else ["--image-size", str(image_size)]) + ["--skip-broken"] * skip_broken
    words += [] if backend is None else ["--backend", backend]
    out("\n" + " ".join(map(shell_word, ["cifarnet", "train", "--recipe", str(best), *words])))
    if stop:
        raise typer.Exit(INTERRUPTED)


def _require_own(best: Path, recipe: str) -> None:
    """Raise ``UsageError`` if the file ``best``, which the search writes, is no recipe or the one it starts from."""
    why = "from which it starts" if best.resolve() == Path(recipe).resolve() else ""
    try:
        _ = best.exists() and recipe_and_settings(str(best))
    except ConfigError:
        why = "which is no recipe"
    if why:
        raise UsageError(
            f"the search would overwrite {best}, {why}; expected a journal beside which that name is free: name "
            "another with --storage"
        )


def _recipes(settings: Recipe, changes: dict[str, Any], study: "Study") -> list[dict[str, Any]]:
    """Return the content of a recipe file for each finished trial, the best first."""
    return [{"recipe": settings.name, "settings": changes | trial.params} for trial in _finished(study)]


def _not_edited(best: Path, documents: list[dict[str, Any]]) -> Path:
    """Return ``best``, or that name with a number if the file was edited: if it is none of ``documents``."""
    numbered = (best.with_suffix(f".{number}.json") for number in count(2))
    chosen = next(path for path in chain([best], numbered) if not path.exists() or _json_or_none(path) in documents)
    if chosen != best:
        say(f"note: {best} has other settings than the trials: it is kept, and the best ones are written to {chosen}")
    return chosen


def _json_or_none(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _finished(study: "Study") -> "list[FrozenTrial]":
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    return sorted(trials, key=lambda trial: trial.value)


def _say_trial(trial: "FrozenTrial") -> None:
    epochs = len(trial.intermediate_values)
    if trial.state.name == "COMPLETE":
        accuracy = percent(trial.user_attrs["accuracy"], 2)
        say(f"trial {trial.number}: validation loss {trial.value:.4f}, accuracy {accuracy}, {counted(epochs, 'epoch')}")
    else:
        say(f"trial {trial.number}: {'pruned' if trial.state.name == 'PRUNED' else 'interrupted'} after epoch {epochs}")


def _show(study: "Study", importance: dict[str, float]) -> None:
    finished, trials = _finished(study), study.get_trials(deepcopy=False)
    pruned = sum(trial.state.name == "PRUNED" for trial in trials)
    say(f"{counted(len(finished), 'trial')} finished, {pruned} pruned")
    names = list(finished[0].params)
    rows = [
        [
            str(trial.number),
            f"{trial.value:.4f}",
            percent(trial.user_attrs["accuracy"], 2),
            str(trial.user_attrs["epoch"]),
            *(f"{trial.params[name]:.3g}" for name in names),
        ]
        for trial in finished[:SHOWN]
    ]
    rows.append(["importance", *[""] * 3, *(percent(importance.get(name), 0) for name in names)])
    head = ["trial", "valid. loss", "accuracy", "epoch", *(name.replace("_", " ") for name in names)]
    out_lines(table(head, rows))
