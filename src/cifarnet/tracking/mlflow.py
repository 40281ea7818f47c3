"""MLflow's store of plain files, beside the runs: no server, no network, nothing told to anybody."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifarnet.run import EpochRecord, Run

from .interface import FIGURES, figures_of, final_figures_of, settings_of

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

FOLDER = "mlruns"
"""Beside the run folders, so that MLflow shows all of them in one table."""
EXPERIMENT = "cifarnet"
RUN_TAG = "cifarnet.run"
"""Names the run's folder, by which a resume finds its own again."""
FINAL = ("test/loss", "test/accuracy")
MOST_RUNS = 50_000
"""The largest number that MLflow returns at once."""


def open_tracker(run: Run) -> "MlflowRun":
    """Return MLflow's own run of ``run``: the one that an earlier session made, or a new one."""
    path = run.path.resolve()
    return MlflowRun(open_client(path.parent / FOLDER), path.name, run.read_record())


def open_client(store: Path) -> "MlflowClient":
    """Import MLflow with its telemetry off and return its client of a folder."""
    # MLflow reads both. Without the second it refuses the store that needs neither server nor database.
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=store.as_uri())


class MlflowRun:
    """One run in a store of files."""

    def __init__(self, client: "MlflowClient", name: str, record: Mapping[str, Any]) -> None:
        self._client = client
        self._id = self._find(name) or self._create(name, record)
        self._client.update_run(self._id, status="RUNNING")
        self._shown = {(key, metric.step) for key in (*FIGURES, *FINAL) for metric in self._history(key)}

    def log_epoch(self, row: EpochRecord) -> None:
        """Show a finished epoch; see ``Tracker``."""
        self._show(figures_of(row), row.epoch)

    def log_end(self, record: Mapping[str, Any]) -> None:
        """Show the test metrics of a finished run and how it ended; see ``Tracker``."""
        self._show(final_figures_of(record), record["epochs"])
        usable = "FINISHED" if record["best_epoch"] else "FAILED"
        self._client.set_terminated(self._id, status=usable if record["status"] == "finished" else "KILLED")

    def _find(self, name: str) -> str | None:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return None
        # Compared here: a filter has no way to write a name with both kinds of quotes.
        runs = self._client.search_runs([experiment.experiment_id], max_results=MOST_RUNS)
        return next((str(run.info.run_id) for run in runs if run.data.tags.get(RUN_TAG) == name), None)

    def _create(self, name: str, record: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        made = self._client.create_run(number, run_name=name, tags={RUN_TAG: name})
        self._client.log_batch(made.info.run_id, params=[Param(*each) for each in settings_of(record).items()])
        return str(made.info.run_id)

    def _history(self, key: str) -> list["Metric"]:
        return list(self._client.get_metric_history(self._id, key))

    def _show(self, figures: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(1000 * time.time())
        new = [Metric(key, value, now_ms, step) for key, value in figures.items() if (key, step) not in self._shown]
        self._client.log_batch(self._id, metrics=new)
        self._shown |= {(key, step) for key in figures}
