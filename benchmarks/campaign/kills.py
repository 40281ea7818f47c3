"""``kill -9`` at random instants of real trainings, exports and reports, which then continue to the same bits.

A story is a sequence of commands on one folder; some die, several times, before they may finish. Its run is compared
with the undisturbed run of the same settings: weights array by array, history, record, exported model and contract byte
by byte. After each death every file of a run must be whole, and a model that was exported before must still be there.
"""

import os
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.backends import choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import RunError
from cifarnet.recipes import RECIPES, Recipe
from cifarnet.run.find import find_run

from .calls import Call, watch
from .commands import draw_photos, typed, warm_up, write_note
from .files import differences, problems, temporary_files
from .processes import End, begin, die, wait
from .records import store

PLAIN = ModelConfig(filters=(6,), dense_units=(16,), dropout=0.25)
NORMALIZED = ModelConfig(
    whitening=2,
    filters=(8,),
    convolutions_per_block=2,
    pooling="first",
    ghost_batch=32,
    global_pooling="average",
    dense_units=(),
    dropout=0.0,
)
SHORT = TrainConfig(epochs=3, schedule_epochs=3, learning_rate=3e-3, weight_decay=0.01, min_delta=0.0)
AUGMENTED = replace(SHORT, batch_size=48, flip="random", translation=2, cutout=8, label_smoothing=0.1)
MUON = replace(AUGMENTED, optimizer="muon", learning_rate=0.1, flip="alternating", precision="bfloat16")
SETTINGS = {
    "adam": Recipe(name="campaign", model=PLAIN, train=SHORT),
    "sgd": Recipe(name="campaign", model=PLAIN, train=replace(SHORT, optimizer="sgd", schedule="linear")),
    "adamw moved": Recipe(name="campaign", model=PLAIN, train=replace(AUGMENTED, optimizer="adamw")),
    "rmsprop normalised": Recipe(
        name="campaign", model=NORMALIZED, train=replace(AUGMENTED, optimizer="rmsprop", patience=1, epochs=4)
    ),
    "muon bfloat16": Recipe(name="campaign", model=NORMALIZED, train=MUON),
}
"""Network and training by the names in the records."""
STAGES = {"train": 8, "export": 3, "report": 2, "export again": 2}
"""Commands of a story, and their shares of the deaths."""
HOW = ("time", "time", "half", "half", "before", "after", "after")
"""Kinds of death: at a random time, from outside; half-way in, before or after a random call that changes the disk."""
STORIES, MOST_DEATHS = 6, 8
"""Stories compared with one undisturbed run, and deaths of a story."""
IMAGES = 60
"""Images of each of three classes."""


@dataclass(frozen=True)
class Death:
    """The instant at which a command is killed."""

    stage: str
    how: str
    at: float
    """Seconds after the start of the command, or the number of the call in it."""


class Killer:
    """Counts the calls of this process, and kills it at one of them."""

    def __init__(self, death: Death | None, note: Path) -> None:
        self.death, self.note, self.calls = death, note, 0

    def before(self, call: Call) -> None:
        """Count a call, and die before it or half-way in it."""
        self.calls += 1
        if self._is_due("half"):
            write_note(self.note, f"half {call}")
            call.half()
            die()
        if self._is_due("before"):
            write_note(self.note, f"before {call}")
            die()

    def after(self, call: Call) -> None:
        """Die after a call, for example between a rename and the sync of its folder."""
        if self._is_due("after"):
            write_note(self.note, f"after {call}")
            die()

    def _is_due(self, how: str) -> bool:
        return self.death is not None and (self.death.how, self.death.at) == (how, self.calls)


class Batch:
    """Some stories of one setting and seed."""

    def __init__(self, folder: Path, photos: Path, seed: list[int]) -> None:
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.setting = str(self.rng.choice(list(SETTINGS)))
        self.train_seed = int(self.rng.integers(2**31))
        RECIPES["campaign"] = SETTINGS[self.setting]
        data = ("--recipe", "campaign", "--data", str(photos), "--seed", str(self.train_seed))
        self.start = ("train", *data, "--backend", choose())
        self.calls, self.seconds = dict[str, int](), dict[str, float]()
        self.deaths, self.unexplained, self.stories = list[list[Any]](), list[dict[str, Any]](), 0

    def run(self, stories: int, deadline: float) -> None:
        """Run once undisturbed, and then the stories."""
        undisturbed = self.folder / "undisturbed"
        for stage in STAGES:
            began = time.monotonic()
            end = self._run_command(undisturbed, stage, None)
            if end.status:
                self._add_finding(f"the undisturbed {stage} failed", end)
                return
            self.seconds[stage], self.calls[stage] = time.monotonic() - began, int(self._note())
        while self.stories < stories and time.monotonic() < deadline:
            folder, before = self.folder / f"story{self.stories}", len(self.unexplained)
            self._run_story(folder, undisturbed)
            if len(self.unexplained) > before and (kept := os.environ.get("CAMPAIGN_KEEP")):
                shutil.copytree(folder, Path(kept) / f"{self.folder.name}-{folder.name}", symlinks=True)
            shutil.rmtree(folder)
            self.stories += 1

    def _run_story(self, folder: Path, undisturbed: Path) -> None:
        deaths = self._drawn()
        for stage in STAGES:
            for death in [*(death for death in deaths if death.stage == stage), None]:
                model = next(folder.glob("runs/2*/model.onnx"), None)
                end = self._run_command(folder, stage, death)
                if end.status == 0:  # it was done before the instant came
                    break
                if death is None or end.status != -9 or end.hung:
                    self._add_finding(f"{stage} ended otherwise than by the kill, {death}", end)
                    return
                where = self._note() or "time"
                self.deaths.append([self.stories, stage, death.how, round(death.at, 3), where])
                found = problems(folder / "runs")
                if model and not model.exists():
                    found.append("the earlier model is gone")
                if found:
                    self._add_finding(f"after death {where!r}: {'; '.join(found)}")
        runs = folder / "runs"
        if (
            found := problems(runs)
            + differences(find_run(undisturbed / "runs"), find_run(runs))
            + temporary_files(runs)
        ):
            self._add_finding(f"not as undisturbed: {'; '.join(found)}")

    def _drawn(self) -> list[Death]:
        """Draw the deaths of a story; the more there are of one command, the sooner they come."""
        stages, weights = list(STAGES), np.array(list(STAGES.values()))
        drawn = self.rng.choice(stages, self.rng.integers(2, MOST_DEATHS + 1), p=weights / weights.sum())
        found = []
        for stage in drawn.tolist():
            sooner, how = float(np.sqrt(np.sum(drawn == stage))), str(self.rng.choice(HOW))
            seconds, calls = self.seconds[stage] / sooner, int(self.calls[stage] / sooner)
            at = self.rng.uniform(0, seconds) if how == "time" else self.rng.integers(1, calls + 1)
            found.append(Death(stage, how, float(at)))
        return found

    def _run_command(self, folder: Path, stage: str, death: Death | None) -> End:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        log, note = self.folder / "log", self.folder / "note"
        note.unlink(missing_ok=True)
        killer = Killer(death, note)
        work = typed(folder, self._arguments(folder, stage), lambda: watch(folder, killer.before, killer.after))
        began = time.monotonic()
        pid = begin(lambda: work() or write_note(note, str(killer.calls)), log)
        is_timed = death is not None and death.how == "time"
        return wait(pid, log, watch=lambda: is_timed and time.monotonic() - began >= death.at)

    def _arguments(self, folder: Path, stage: str) -> tuple[str, ...]:
        if stage != "train":
            return (stage.partition(" ")[0],)
        try:
            status = find_run(folder / "runs").record.status
        except RunError:  # it died before there was a record
            return self.start
        return ("--version",) if status == "finished" else ("train", "--resume", "latest")

    def _note(self) -> str:
        note = self.folder / "note"
        return note.read_text() if note.exists() else ""

    def _add_finding(self, what: str, end: End | None = None) -> None:
        facts = {} if end is None else {"status": end.status, "hung": end.hung, "said": end.output[-1500:]}
        deaths = [death for death in self.deaths if death[0] == self.stories]
        self.unexplained.append({"what": what, "setting": self.setting, "deaths": deaths, **facts})


def campaign(minutes: float, seed: int, output: Path, *, short: bool = False) -> int:
    """Kill for so long, store a record per batch, and return the number of unexplained findings."""
    deadline, unexplained, number = time.monotonic() + 60 * minutes, 0, 0
    with tempfile.TemporaryDirectory(prefix="campaign-") as root:
        folder = Path(root).resolve()
        warm_up(folder)
        draw_photos(folder / "photos", IMAGES)
        while time.monotonic() < deadline and not (short and number):
            began, batch = time.monotonic(), Batch(folder / str(number), folder / "photos", [seed, number])
            batch.run(1 if short else STORIES, deadline)
            unexplained += len(batch.unexplained)
            store(
                output,
                "kills",
                backend=choose(),
                seed=seed,
                batch=number,
                setting=batch.setting,
                train_seed=batch.train_seed,
                counts=dict(Counter(f"{how} in {stage}" for _, stage, how, *_ in batch.deaths)),
                compared=batch.stories,
                seconds=round(time.monotonic() - began, 1),
                deaths=batch.deaths,
                unexplained=batch.unexplained,
            )
            shutil.rmtree(batch.folder)
            number += 1
    return unexplained
