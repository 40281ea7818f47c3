"""``kill -9`` at random instants of real trainings, exports and reports, which then go on to the same bits.

A story is one run that dies several times and is let finish. It is compared with the undisturbed run of the same
settings: weights array by array, history, record, exported model and contract byte by byte. After each death every
file under a name of its own has to be whole. An export that is repeated must never leave the run without its model.
"""

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cifarnet.backends import adapter, choose
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.contract import Dataset
from cifarnet.data import synthetic
from cifarnet.errors import RunError
from cifarnet.evaluation import metrics as measures
from cifarnet.evaluation.target import FileSubject
from cifarnet.export.export import export_run
from cifarnet.job import Job
from cifarnet.report import draw_curves, write_report
from cifarnet.run_folder import EpochRecord, find_run
from cifarnet.training.observer import Silent
from cifarnet.training.train import carry_out, start

from .calls import Call, watch
from .processes import End, begin, die, wait
from .records import store
from .whole import differences, problems, strays

PLAIN = ModelConfig(filters=(6,), dense_units=(16,), dropout=0.25)
NORMALISED = ModelConfig(
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
MOVED = replace(SHORT, batch_size=48, flip="random", translation=2, cutout=8, label_smoothing=0.1)
SETTINGS = {
    "adam": (PLAIN, SHORT),
    "sgd": (PLAIN, replace(SHORT, optimizer="sgd", schedule="linear")),
    "adamw moved": (PLAIN, replace(MOVED, optimizer="adamw")),
    "rmsprop normalised": (NORMALISED, replace(MOVED, optimizer="rmsprop", patience=1, epochs=4)),
    "muon bfloat16": (
        NORMALISED,
        replace(MOVED, optimizer="muon", learning_rate=0.1, flip="alternating", precision="bfloat16"),
    ),
}
STAGES = {"start": 1, "first step": 1, "train": 6, "export": 3, "report": 2, "export again": 2}
"""Where deaths fall, and how often against each other."""
HOW = ("time", "time", "half", "half", "before", "after", "after")
"""At a random time, from outside; half-way in, just before or just after a random call that changes the disk."""
STORIES, MOST_DEATHS = 6, 8
"""Stories of one setting and seed, compared with the same undisturbed run, and deaths of a story."""
LIMIT_S = 300


@dataclass(frozen=True)
class Death:
    """Where a life is to end."""

    stage: str
    how: str
    at: float
    """Seconds after the stage began, or the number of the call in it."""


class Life(Silent):
    """One process' share of a story: it goes on from what lies on the disk and tells a notes file where it is."""

    def __init__(self, runs: Path, job: Job, dataset: Dataset, death: Death | None) -> None:
        self.runs, self.job, self.dataset, self.death = runs, job, dataset, death
        self.notes = os.open(notes_of(runs), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self.stage, self.calls, self.seconds = "", Counter[str](), dict[str, float]()
        self.began = time.monotonic()

    def note(self, where: str) -> None:
        """Write down where this life is; what a killed process has written stays."""
        os.write(self.notes, f"{self.stage}: {where}\n".encode())

    def enter(self, stage: str) -> None:
        """Begin a stage, or die at once if the instant to die did not come in the one before."""
        now = time.monotonic()
        self.seconds[self.stage], self.stage, self.began = now - self.began, stage, now
        order = list(STAGES)
        if self.death and stage and order.index(stage) > order.index(self.death.stage):
            self.note("at its beginning")
            die()
        self.note("begins")

    def on_progress(self, progress: Any) -> None:
        """Note the position: from the first step on it is the training itself that dies."""
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
        """Die after a call: between a rename and the sync of its folder, for one."""
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
        judged = FileSubject(run.model)
        write_report(run, judged.judge(self.dataset.test, self.dataset), self.dataset, judged.engine)
        if self.death is None or self.death.stage == "export again":
            self.enter("export again")
            export_run(run, self.dataset)
        self.enter("")
        os.write(self.notes, json.dumps({"calls": self.calls, "seconds": self.seconds}).encode())


def notes_of(runs: Path) -> Path:
    """Return where a life says how far it has got."""
    return runs.with_name(f"{runs.name}.notes")


def campaign(minutes: float, seed: int, output: Path, *, short: bool = False) -> int:
    """Kill for so long, store a record per batch, and return how much was unexplained."""
    deadline, unexplained, number = time.monotonic() + 60 * minutes, 0, 0
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        warm_up(Path(folder))
        while time.monotonic() < deadline and not (short and number):
            batch = Batch(Path(folder) / str(number), [seed, number])
            batch.carry_out(1 if short else STORIES, deadline)
            unexplained += len(batch.unexplained)
            store(output, "kills", **batch.facts(seed, number))
            shutil.rmtree(batch.folder)
            number += 1
    return unexplained


def warm_up(folder: Path) -> None:
    """Import and cache what each life would again, and execute nothing on a framework."""
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


class Batch:
    """Some stories of one setting and seed."""

    def __init__(self, folder: Path, seed: list[int]) -> None:
        folder.mkdir()
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        self.setting = str(self.rng.choice(list(SETTINGS)))
        model, train = SETTINGS[self.setting]
        train = replace(train, seed=int(self.rng.integers(2**31)))
        self.job = Job(recipe="seed", model=model, train=train, source="synthetic")
        self.dataset = synthetic(320, 100, seed=0)
        self.deaths, self.unexplained, self.stories = list[list[Any]](), list[dict[str, Any]](), 0
        self.began = time.monotonic()

    def carry_out(self, stories: int, deadline: float) -> None:
        """Let one run live undisturbed, and others die and go on."""
        self.undisturbed = self.folder / "undisturbed"
        end = self._live(self.undisturbed, None)
        if end.status:
            self._complain("the undisturbed run failed", end)
            return
        self.lived = json.loads(notes_of(self.undisturbed).read_text().splitlines()[-1])
        for number in range(stories):
            if time.monotonic() > deadline:
                break
            self._tell(self.folder / f"story{number}")
            self.stories += 1

    def _tell(self, runs: Path) -> None:
        with self._kept_if_unexplained(runs):
            for death in self._drawn():
                model = next(runs.glob("2*/model.onnx"), None)
                end = self._live(runs, death)
                if end.status == 0:  # it was done before the instant came
                    break
                if end.status != -9 or end.hung:
                    self._complain(f"a life ended otherwise than by the kill, {death}", end)
                    return
                where = notes_of(runs).read_text().splitlines()[-1]
                self.deaths.append([self.stories, death.stage, death.how, round(death.at, 3), where])
                found = problems(runs)
                if model and not model.exists():
                    found.append("the model of the earlier export is gone")
                if found:
                    self._complain(f"after death {where!r}: {'; '.join(found)}")
            end = self._live(runs, None)
            if end.status:
                self._complain("it could not be resumed", end)
            elif found := differences(find_run(self.undisturbed), find_run(runs)) + strays(runs):
                self._complain(f"not as undisturbed: {'; '.join(found)}")

    def _drawn(self) -> list[Death]:
        """Draw the deaths of a story in the order of its stages; the more there are of one, the sooner they come."""
        order, weights = list(STAGES), np.array(list(STAGES.values()))
        drawn = self.rng.choice(order, self.rng.integers(2, MOST_DEATHS + 1), p=weights / weights.sum())
        found = []
        for stage in sorted(drawn.tolist(), key=order.index):
            sooner = float(np.sqrt(np.sum(drawn == stage)))
            calls = int(self.lived["calls"].get(stage, 0) / sooner)
            how = str(self.rng.choice(HOW)) if calls else "time"
            seconds = self.lived["seconds"][stage] / sooner
            at = self.rng.uniform(0, seconds) if how == "time" else self.rng.integers(1, calls + 1)
            found.append(Death(stage, how, float(at)))
        return found

    def _live(self, runs: Path, death: Death | None) -> End:
        runs.mkdir(exist_ok=True)
        log = runs.with_name(f"{runs.name}.log")
        notes_of(runs).unlink(missing_ok=True)
        pid = begin(lambda: Life(runs, self.job, self.dataset, death).work(), log)
        if death and death.how == "time":
            return wait(pid, log, limit_s=LIMIT_S, watch=_clock(notes_of(runs), death))
        return wait(pid, log, limit_s=LIMIT_S)

    def _complain(self, what: str, end: End | None = None) -> None:
        facts = {} if end is None else {"status": end.status, "hung": end.hung, "said": end.output[-1500:]}
        deaths = [death for death in self.deaths if death[0] == self.stories]
        self.unexplained.append({"what": what, "setting": self.setting, "deaths": deaths, **facts})

    @contextmanager
    def _kept_if_unexplained(self, runs: Path) -> Iterator[None]:
        """Keep the folder of a story that needs an explanation, where a variable says where."""
        before = len(self.unexplained)
        yield
        if len(self.unexplained) > before and (place := os.environ.get("CAMPAIGN_KEEP")):
            shutil.copytree(runs, Path(place) / f"{runs.parent.name}-{runs.name}", symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(runs)

    def facts(self, seed: int, number: int) -> dict[str, Any]:
        """Return the record of this batch."""
        return {
            "backend": choose(),
            "seed": seed,
            "batch": number,
            "setting": self.setting,
            "train_seed": self.job.train.seed,
            "counts": dict(Counter(f"{how} in {stage}" for _, stage, how, *_ in self.deaths)),
            "compared": self.stories,
            "seconds": round(time.monotonic() - self.began, 1),
            "deaths": self.deaths,
            "unexplained": self.unexplained,
        }


def _clock(notes: Path, death: Death) -> Callable[[], bool]:
    """Return whether it is time to kill: so long after the stage began."""
    began: list[float] = []
    opening = f"{death.stage}: begins\n"

    def due() -> bool:
        if not began and notes.exists() and opening in notes.read_text():
            began.append(time.monotonic())
        return bool(began) and time.monotonic() - began[0] >= death.at

    return due
