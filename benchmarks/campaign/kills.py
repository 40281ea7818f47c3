"""``kill -9`` at random instants of real trainings, exports and reports, which then continue to the same bits.

A story is one run that dies several times and may finish at last. It is compared with the undisturbed run of the same
settings: weights array by array, history, record, exported model and contract byte by byte. After each death every
file must be whole. An export that is repeated must never leave the run without its model.
"""

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.backends import adapter, choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import synthetic
from cifarnet.errors import RunError
from cifarnet.evaluation import measures
from cifarnet.export import export_run
from cifarnet.job import Job
from cifarnet.report import draw_curves, write_report
from cifarnet.run import EpochRecord, find_run
from cifarnet.spec import Dataset
from cifarnet.subject import FileSubject
from cifarnet.training import Silent, carry_out, start

from .calls import Call, watch
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
    "adam": (PLAIN, SHORT),
    "sgd": (PLAIN, replace(SHORT, optimizer="sgd", schedule="linear")),
    "adamw moved": (PLAIN, replace(AUGMENTED, optimizer="adamw")),
    "rmsprop normalised": (NORMALIZED, replace(AUGMENTED, optimizer="rmsprop", patience=1, epochs=4)),
    "muon bfloat16": (NORMALIZED, MUON),
}
"""Network and training by the names in the records."""
STAGES = {"start": 1, "first step": 1, "train": 6, "export": 3, "report": 2, "export again": 2}
"""Stages of a story, and how many of the deaths fall into each."""
HOW = ("time", "time", "half", "half", "before", "after", "after")
"""Kinds of death: at a random time, from outside; half-way in, before or after a random call that changes the disk."""
STORIES, MOST_DEATHS = 6, 8
"""Stories compared with one undisturbed run, and deaths of a story."""


@dataclass(frozen=True)
class Death:
    """The instant at which a process is killed."""

    stage: str
    how: str
    at: float
    """Seconds after the stage began, or the number of the call in it."""


class Life(Silent):
    """One process' part of a story: it continues from the files on disk and notes where it is."""

    def __init__(self, runs: Path, job: Job, dataset: Dataset, death: Death | None) -> None:
        self.runs, self.job, self.dataset, self.death = runs, job, dataset, death
        self.notes = os.open(notes_of(runs), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self.stage, self.calls, self.seconds = "", Counter[str](), dict[str, float]()
        self.began = time.monotonic()

    def note(self, where: str) -> None:
        """Write down where this process is; the notes of a killed process stay."""
        os.write(self.notes, f"{self.stage}: {where}\n".encode())

    def enter(self, stage: str) -> None:
        """Begin a stage, or die at once if the instant of the death did not come in the stage before."""
        now = time.monotonic()
        self.seconds[self.stage], self.stage, self.began = now - self.began, stage, now
        order = list(STAGES)
        if self.death and stage and order.index(stage) > order.index(self.death.stage):
            self.note("at its beginning")
            die()
        self.note("begins")

    def on_progress(self, progress: Any) -> None:
        """Note the position; the first step begins the stage ``train``."""
        if self.stage == "first step":
            self.enter("train")
        self.note(f"epoch {progress.epoch} step {progress.step}")

    def before(self, call: Call) -> None:
        """Count a call, and die before it or half-way in it."""
        self.calls[self.stage] += 1
        if self._is_due("before", "half"):
            self.note(f"{self.death.how} {call}")
            if self.death.how == "half":
                call.half()
            die()

    def after(self, call: Call) -> None:
        """Die after a call, for example between a rename and the sync of its folder."""
        if self._is_due("after"):
            self.note(f"after {call}")
            die()

    def _is_due(self, *how: str) -> bool:
        death = self.death
        return bool(death and death.how in how and (death.stage, death.at) == (self.stage, self.calls[self.stage]))

    def work(self) -> None:
        """Train, export and report, each unless it is done."""
        watch(self.runs, self.before, self.after)
        self.enter("start")
        try:
            run = find_run(self.runs)
        except RunError:  # it died before there was a record
            run = start(self.job, self.dataset, self.runs)
        if run.read_record()["status"] != "finished":
            self.enter("first step")
            carry_out(run, self.dataset, self)
        if not run.model.exists():
            self.enter("export")
            export_run(run, self.dataset)
        self.enter("report")
        subject = FileSubject(run.model)
        write_report(run, subject.judge(self.dataset.test, self.dataset), self.dataset, subject.engine)
        if self.death is None or self.death.stage == "export again":
            self.enter("export again")
            export_run(run, self.dataset)
        self.enter("")
        os.write(self.notes, json.dumps({"calls": self.calls, "seconds": self.seconds}).encode())


def notes_of(runs: Path) -> Path:
    """Return the notes file of a story."""
    return runs.with_name(f"{runs.name}.notes")


class Batch:
    """Some stories of one setting and seed."""

    def __init__(self, folder: Path, seed: list[int]) -> None:
        folder.mkdir()
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.setting = str(self.rng.choice(list(SETTINGS)))
        model, train = SETTINGS[self.setting]
        train = replace(train, seed=int(self.rng.integers(2**31)))
        self.job = Job(recipe="seed", model=model, train=train, source="synthetic")
        self.dataset = synthetic(320, 100, seed=0)
        self.deaths, self.unexplained, self.stories = list[list[Any]](), list[dict[str, Any]](), 0

    def run(self, stories: int, deadline: float) -> None:
        """Run once undisturbed, and then the stories."""
        undisturbed = self.folder / "undisturbed"
        end = self._live(undisturbed, None)
        if end.status:
            self._add_finding("the undisturbed run failed", end)
            return
        lived = json.loads(notes_of(undisturbed).read_text().splitlines()[-1])
        for number in range(stories):
            if time.monotonic() > deadline:
                break
            runs, before = self.folder / f"story{number}", len(self.unexplained)
            self._run_story(runs, undisturbed, self._drawn(lived["calls"], lived["seconds"]))
            if len(self.unexplained) > before and (kept := os.environ.get("CAMPAIGN_KEEP")):
                shutil.copytree(runs, Path(kept) / f"{self.folder.name}-{runs.name}", symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(runs)
            self.stories += 1

    def _run_story(self, runs: Path, undisturbed: Path, deaths: list[Death]) -> None:
        for death in deaths:
            model = next(runs.glob("2*/model.onnx"), None)
            end = self._live(runs, death)
            if end.status == 0:  # it was done before the instant came
                break
            if end.status != -9 or end.hung:
                self._add_finding(f"a process ended otherwise than by the kill, {death}", end)
                return
            where = notes_of(runs).read_text().splitlines()[-1]
            self.deaths.append([self.stories, death.stage, death.how, round(death.at, 3), where])
            found = problems(runs) + (["the earlier model is gone"] if model and not model.exists() else [])
            if found:
                self._add_finding(f"after death {where!r}: {'; '.join(found)}")
        end = self._live(runs, None)
        if end.status:
            self._add_finding("it could not be resumed", end)
        elif found := problems(runs) + differences(find_run(undisturbed), find_run(runs)) + temporary_files(runs):
            self._add_finding(f"not as undisturbed: {'; '.join(found)}")

    def _drawn(self, calls: dict[str, int], seconds: dict[str, float]) -> list[Death]:
        """Draw the deaths of a story in the order of its stages; the more there are of one, the sooner they come."""
        order, weights = list(STAGES), np.array(list(STAGES.values()))
        drawn = self.rng.choice(order, self.rng.integers(2, MOST_DEATHS + 1), p=weights / weights.sum())
        found = []
        for stage in sorted(drawn.tolist(), key=order.index):
            sooner = float(np.sqrt(np.sum(drawn == stage)))
            most_calls = int(calls.get(stage, 0) / sooner)
            how = str(self.rng.choice(HOW)) if most_calls else "time"
            at = self.rng.uniform(0, seconds[stage] / sooner) if how == "time" else self.rng.integers(1, most_calls + 1)
            found.append(Death(stage, how, float(at)))
        return found

    def _live(self, runs: Path, death: Death | None) -> End:
        runs.mkdir(exist_ok=True)
        log = runs.with_name(f"{runs.name}.log")
        notes_of(runs).unlink(missing_ok=True)
        pid = begin(lambda: Life(runs, self.job, self.dataset, death).work(), log)
        return wait(pid, log, watch=_clock(notes_of(runs), death))

    def _add_finding(self, what: str, end: End | None = None) -> None:
        facts = {} if end is None else {"status": end.status, "hung": end.hung, "said": end.output[-1500:]}
        deaths = [death for death in self.deaths if death[0] == self.stories]
        self.unexplained.append({"what": what, "setting": self.setting, "deaths": deaths, **facts})


def _clock(notes: Path, death: Death | None) -> Callable[[], bool]:
    """Return a function that returns True at the time of a death from outside."""
    began: list[float] = []

    def is_due() -> bool:
        if death is None or death.how != "time":
            return False
        if not began and notes.exists() and f"{death.stage}: begins\n" in notes.read_text():
            began.append(time.monotonic())
        return bool(began) and time.monotonic() - began[0] >= death.at

    return is_due


def campaign(minutes: float, seed: int, output: Path, *, short: bool = False) -> int:
    """Kill for so long, store a record per batch, and return the number of unexplained findings."""
    deadline, unexplained, number = time.monotonic() + 60 * minutes, 0, 0
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        warm_up(Path(folder))
        while time.monotonic() < deadline and not (short and number):
            began, batch = time.monotonic(), Batch(Path(folder) / str(number), [seed, number])
            batch.run(1 if short else STORIES, deadline)
            unexplained += len(batch.unexplained)
            store(
                output,
                "kills",
                backend=choose(),
                seed=seed,
                batch=number,
                setting=batch.setting,
                train_seed=batch.job.train.seed,
                counts=dict(Counter(f"{how} in {stage}" for _, stage, how, *_ in batch.deaths)),
                compared=batch.stories,
                seconds=round(time.monotonic() - began, 1),
                deaths=batch.deaths,
                unexplained=batch.unexplained,
            )
            shutil.rmtree(batch.folder)
            number += 1
    return unexplained


def warm_up(folder: Path) -> None:
    """Import and cache what each process needs, and execute nothing on a framework."""
    import jinja2  # noqa: F401
    import matplotlib.pyplot as plt  # noqa: F401
    import yaml  # noqa: F401

    adapter()
    if choose() == "jax":
        import jax

        jax.config.update("jax_compilation_cache_dir", str(folder / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    measures.reliability  # noqa: B018  # with scikit-learn
    draw_curves([EpochRecord(1, 0.1, 1.0, 0.5, 1.0, 0.5)], 1, folder / "curves.png")  # fonts
