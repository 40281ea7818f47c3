"""`cifarnet tune` searches settings by validation loss, in several processes, and continues after interruptions."""

import copy
import json
import shlex
import signal
import subprocess
import sys

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from cifarnet.atomic import own_process
from cifarnet.backends import choose
from cifarnet.data import synthetic
from cifarnet.errors import RunError
from cifarnet.recipes import recipe, recipe_and_settings
from cifarnet.run.folder import Run
from cifarnet.training.search import importance, search, search_space
from cifarnet.training.train import train
from tests.photos import make_photos

TINY = {"filters": [3], "dense_units": [5], "epochs": 2, "schedule_epochs": 2, "validation_fraction": 0.9}


@pytest.fixture
def settings(job, dataset):
    return job.changed(TINY).for_dataset(dataset, TINY)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "tune.journal"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Write a recipe file of a network that trains in a second, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({"recipe": "seed", "settings": TINY}))
    return path


TUNE = ("tune", "--data", "synthetic", "--recipe", "tiny.json")


@pytest.fixture
def tuning(file, tmp_path):
    """Return a function that starts a search in a process of its own."""

    def tuning(trials):
        command = [sys.executable, "-m", "cifarnet", *TUNE, "--trials", str(trials)]
        return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return tuning


# The search


class CountedOnly:
    """A test split with a length and nothing else."""

    def __len__(self):
        return 100


def test_the_first_trial_is_a_training_of_the_recipe_the_others_lie_around_it_and_no_test_image_is_read(
    settings, dataset, journal
):
    assert dataset.fingerprint  # computed once, from all images
    blind, seen = copy.copy(dataset), []
    object.__setattr__(blind, "test", CountedOnly())
    study = search(settings, blind, journal, trials=3, on_trial=seen.append)
    first, space = study.trials[0], search_space(settings)
    assert [trial.number for trial in seen] == [0, 1, 2]
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert settings.changed(first.params) == settings
    assert all(trial.params.keys() == space.keys() for trial in study.trials)
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 3
    assert sum(importance(study).values()) == pytest.approx(1)
    assert sorted(path.name for path in journal.parent.iterdir()) == [f".{journal.name}.lock", journal.name]
    run = train(dataset, "seed", model_config=settings.model, train_config=settings.train, runs=journal.parent / "runs")
    metrics = run.record.metrics.validation
    assert first.value == pytest.approx(metrics.loss)
    assert (first.user_attrs["accuracy"], first.user_attrs["epoch"]) == (metrics.accuracy, run.record.best_epoch)


def test_every_recipe_has_a_space_that_it_lies_in():
    extreme = recipe("seed").changed({"dropout": 0.99, "label_smoothing": 0.99, "translation": 31, "batch_size": 1})
    for each in (recipe("seed"), recipe("fast"), recipe("strong"), extreme):
        values = each.model.to_json() | each.train.to_json()
        for name, distribution in search_space(each).items():
            assert distribution._contains(distribution.to_internal_repr(values[name])), name
    assert "dropout" not in search_space(recipe("fast"))


def test_a_trial_that_is_worse_than_the_others_is_pruned(settings, dataset, journal):
    study = search(settings, dataset, journal, trials=1)
    space = search_space(settings)
    for _ in range(5):
        losses = {1: 0.1, 2: 0.1}
        values = study.trials[0].params
        study.add_trial(
            optuna.trial.create_trial(params=values, distributions=space, value=0.1, intermediate_values=losses)
        )
    pruned = search(settings, dataset, journal, trials=7).trials[-1]
    assert (pruned.state, list(pruned.intermediate_values)) == (TrialState.PRUNED, [1])


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_a_trial_without_a_finite_loss_counts_as_pruned(settings, dataset, journal):
    broken = settings.changed({"learning_rate": 1e38, "optimizer": "sgd", "weight_decay": 0.0, "warmup_epochs": 0.0})
    (trial,) = search(broken, dataset, journal, trials=1).trials
    assert trial.state == TrialState.PRUNED


def test_an_interrupted_trial_is_lost_and_does_not_count(settings, dataset, journal):
    asked = iter([False, True])
    study = search(settings, dataset, journal, trials=2, stop=lambda: next(asked, True))
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
    assert search(settings, dataset, journal, trials=2, max_minutes=0).trials == study.trials
    study = search(settings, dataset, journal, trials=2)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    recipes = [settings.changed(trial.params) == settings for trial in study.trials]
    assert recipes == [True, True, False]  # the recipe itself is tried again


def test_other_images_and_settings_need_another_journal(settings, dataset, journal):
    others = settings.changed({"pixel_range": "unit"})
    images = synthetic(train=320, test=100, seed=1)
    assert len(search(settings, dataset, journal, trials=1).trials) == 1
    before = journal.read_bytes()
    for found in [(others, dataset), (settings, images)]:
        with pytest.raises(
            RunError, match=r"tune.journal has another search, around the recipe \w+; expected the same"
        ):
            search(*found, journal, trials=1)
    assert journal.read_bytes() == before
    assert len(search(settings, dataset, journal, trials=2).trials) == 2


@pytest.mark.parametrize("content", [b"no journal\n", b"[1]\n", b'{"op_code": 0}\n', b"\xff\xfe\n\n"])
def test_another_file_is_refused_and_left_as_it_is(settings, dataset, journal, content):
    journal.write_bytes(content)
    with pytest.raises(RunError, match=r"tune.journal cannot be used \(.*\); expected a journal of `cifarnet tune`"):
        search(settings, dataset, journal, trials=1)
    assert journal.read_bytes() == content


@pytest.mark.parametrize("place", ["missing/x", "notes.txt"])
@pytest.mark.usefixtures("file")
def test_a_journal_that_cannot_be_used_is_refused_before_the_images_are_read(typed, tmp_path, place):
    (tmp_path / "notes.txt").write_text("my notes\n")
    code, stdout, stderr = typed("tune", "--data", "no such folder", "--recipe", "tiny.json", "--storage", place)
    assert (code, stdout) == (1, "")
    assert stderr.startswith(f"error: {place} cannot be used (")


@pytest.mark.usefixtures("file")
def test_a_file_with_the_name_of_the_lock_is_kept_and_refused(typed, tmp_path):
    mine = tmp_path / "here" / ".tune.journal.lock"
    mine.parent.mkdir()
    mine.write_text("my notes\n")
    code, _, stderr = typed(*TUNE, "--trials", "1", "--storage", "here/tune.journal")
    assert code == 1
    assert stderr.splitlines()[-1].startswith(
        "error: here/tune.journal cannot be used (.tune.journal.lock beside it is not its lock file, which "
    )
    assert mine.read_text() == "my notes\n"
    (tmp_path / "tune.journal.lock").write_text("my notes\n")  # the name of Optuna's own lock
    code, _, stderr = typed(*TUNE, "--trials", "1")
    assert code == 0, stderr
    assert (tmp_path / "tune.journal.lock").read_text() == "my notes\n"


DIES_AT_FSYNC = """
import os, sys
left, fsync = int(sys.argv.pop(1)), os.fsync

def dying(file):
    global left
    left -= ".journal" in os.readlink(f"/proc/self/fd/{file}")
    if not left:
        os.kill(os.getpid(), 9)
    fsync(file)

os.fsync = dying
from cifarnet.__main__ import main
main()
"""


@pytest.mark.parametrize("writes", [4, 6])
def test_a_search_killed_while_it_writes_its_journal_goes_on_with_the_recipe(writes, file, typed, tmp_path):
    (tmp_path / "there").mkdir()
    search = (*TUNE, "--trials", "1", "--storage", "there/tune.journal")
    killed = subprocess.run([sys.executable, "-c", DIES_AT_FSYNC, str(writes), *search], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    code, _, stderr = typed(*search)
    assert code == 0, stderr
    loaded = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend("there/tune.journal")))
    assert [trial.state.name for trial in loaded.trials] == ["FAIL", "COMPLETE"]
    assert all("fixed_params" in trial.system_attrs for trial in loaded.trials)


@pytest.mark.parametrize("lost", [1, 20])
def test_a_journal_whose_last_line_is_incomplete_goes_on_without_it(settings, dataset, journal, lost):
    search(settings, dataset, journal, trials=2)
    journal.write_bytes(journal.read_bytes()[:-lost])  # as after a full disk: the end of trial 1
    states = [TrialState.COMPLETE, TrialState.RUNNING, TrialState.COMPLETE]
    for _ in range(2):  # the second only reads
        assert [trial.state for trial in search(settings, dataset, journal, trials=2).trials] == states
    assert sorted(path.name for path in journal.parent.iterdir()) == [f".{journal.name}.lock", journal.name]


def test_running_trials_of_killed_processes_fail_and_none_of_them_counts(settings, dataset, journal):
    study = search(settings, dataset, journal, trials=1)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    host, pid, started = own_process().split("-")
    processes = {
        f"{host}-{ended.pid}-{started}": "FAIL",
        f"{host}-{pid}-{int(started) + 1}": "FAIL",  # the process ID was used again
        own_process(): "RUNNING",
        f"{'0' * 8}-{ended.pid}-{started}": "RUNNING",  # of another machine
        None: "RUNNING",  # of an earlier version
    }
    for process in processes:
        trial = study.ask()
        if process is not None:
            trial.set_user_attr("process", process)
    states = [trial.state.name for trial in search(settings, dataset, journal, trials=2).trials]
    assert states == ["COMPLETE", *processes.values(), "COMPLETE"]


# The command


@pytest.mark.usefixtures("file")
def test_what_tune_writes_is_a_recipe_of_train(typed, tmp_path):
    code, stdout, stderr = typed(*TUNE, "--trials", "2")
    assert code == 0, stderr
    assert "recipe tiny.json (seed with filters [3], dense units [5], epochs 2, schedule epochs 2, validation" in stderr
    lines = stdout.splitlines()
    assert lines[0].split()[:5] == ["trial", "valid.", "loss", "accuracy", "epoch"]
    assert lines[3].startswith("importance")
    assert lines[-1] == "cifarnet train --recipe tune.best.json --data synthetic"
    _, found = recipe_and_settings("tune.best.json")
    assert found | TINY == found
    code, _, stderr = typed(*lines[-1].split()[1:], "--max-minutes", "0")
    assert code == 0, stderr
    run = Run(tmp_path / "runs" / "latest")
    record = run.record
    written = record.model.to_json() | record.train.to_json()
    assert {name: written[name] for name in found} == found
    assert record.recipe == "seed"
    code, _, stderr = typed("train", "--resume", "latest", "--recipe", "tune.best.json")
    assert code == 0, stderr
    assert run.record.metrics.validation.loss == pytest.approx(float(lines[1].split()[1]), abs=5e-5)


def test_a_file_that_is_no_best_recipe_is_not_overwritten(file, typed, tmp_path):
    (tmp_path / "mine.best.json").write_text("my notes")
    code, stdout, stderr = typed(*TUNE, "--storage", "mine.journal")
    assert (code, stdout) == (1, "")
    assert stderr == (
        "error: the search would overwrite mine.best.json, which is no recipe; expected a journal beside which that "
        "name is free: name another with --storage\n"
    )
    assert (tmp_path / "mine.best.json").read_text() == "my notes"
    (tmp_path / "tune.best.json").write_bytes(file.read_bytes())
    code, _, stderr = typed(*TUNE, "--recipe", "./tune.best.json")
    assert code == 1
    assert "the search would overwrite tune.best.json, from which it starts; expected" in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.best.json", "tiny.json", "tune.best.json"]


@pytest.mark.usefixtures("file")
def test_best_settings_that_were_edited_are_kept(typed, tmp_path):
    words = (*TUNE, "--backend", choose(), "--storage", "mine.v1")
    assert typed(*words, "--trials", "1")[0] == 0
    kept = "note: mine.v1.best.json has other settings than the trials: it is kept, and the best ones are written to"
    for name, then in (("mine.v1.best.json", "mine.v1.best.2.json"), ("mine.v1.best.2.json", "mine.v1.best.3.json")):
        best = tmp_path / name  # mine.v2 has another
        edited = best.read_text().replace('"settings": {', '"settings": {"patience": 3,')
        best.write_text(edited)
        code, stdout, stderr = typed(*words, "--trials", "1")
        assert (code, stderr.splitlines()[-1]) == (0, f"{kept} {then}")
        assert best.read_text() == edited
        assert recipe_and_settings(then)[1].items() >= TINY.items()
        assert stdout.splitlines()[-1] == f"cifarnet train --recipe {then} --data synthetic --backend {choose()}"


@pytest.mark.usefixtures("file")
def test_a_journal_without_a_name_is_refused(typed):
    code, stdout, stderr = typed(*TUNE, "--storage", "/")
    assert (code, stdout) == (1, "")
    assert stderr == "error: --storage is /, a folder; expected a journal: name a file\n"


@pytest.mark.usefixtures("file")
def test_a_folder_is_searched_in_another_size_without_its_broken_files(typed, tmp_path):
    make_photos(tmp_path / "my photos", train=8, test=4)
    (tmp_path / "my photos" / "test" / "red" / "broken.png").write_text("no image")
    images = ("--image-size", "48", "--skip-broken")
    code, stdout, stderr = typed("tune", "--data", "my photos", *images, "--recipe", "tiny.json", "--trials", "1")
    assert code == 0, stderr
    assert "note: 1 file that cannot be read is left out: test/red/broken.png (no image" in stderr
    command = shlex.split(stdout.splitlines()[-1])
    assert command == ["cifarnet", "train", "--recipe", "tune.best.json", "--data", "my photos", *images]
    code, _, stderr = typed(*command[1:])
    assert code == 0, stderr
    record = Run(tmp_path / "runs" / "latest").record
    assert (record.model.image_shape, record.data.skipped) == ((48, 48, 3), 1)
    assert record.metrics.validation.loss == pytest.approx(float(stdout.splitlines()[1].split()[1]), abs=5e-5)


def test_tune_continues_after_a_kill_and_leaves_no_other_files(tuning, typed, tmp_path):
    with tuning(99) as process:
        next(line for line in process.stderr if line.startswith("trial 0: validation loss"))
        # In the middle of the next one.
        while not [*tmp_path.glob(".tune.journal-*.part/history.csv")] and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
    code, stdout, stderr = typed(*TUNE, "--trials", "3")
    assert code == 0, stderr
    assert "trial 0:" not in stderr
    loaded = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend("tune.journal")))
    assert [trial.state.name for trial in loaded.trials].count("FAIL") == 1
    assert "RUNNING" not in {trial.state.name for trial in loaded.trials}
    assert {"0", "importance"} <= {line.split()[0] for line in stdout.splitlines() if line}
    files = [".tune.journal.lock", "tiny.json", "tune.best.json", "tune.journal"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_two_processes_share_a_journal(tuning):
    processes = [tuning(3) for _ in range(2)]
    talks = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], talks
    lines = [line for talk in talks for line in talk.splitlines() if line.startswith("trial")]
    assert sorted(int(line.split()[1][:-1]) for line in lines) in ([0, 1, 2], [0, 1, 2, 3])


def test_ctrl_c_ends_tune_with_the_best_trials_so_far(tuning):
    with tuning(99) as process:
        next(line for line in process.stderr if line.startswith("trial 0: validation loss"))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stdout.splitlines()[-1] == "cifarnet train --recipe tune.best.json --data synthetic"


@pytest.mark.parametrize("option", ["--max-minutes", "--minutes"])
@pytest.mark.usefixtures("file")
def test_tune_without_a_finished_trial_is_a_one_line_error(typed, tmp_path, option):
    code, stdout, stderr = typed(*TUNE, option, "0")
    assert (code, stdout) == (1, "")
    assert stderr.splitlines()[-1] == (
        "error: no trial has finished; expected one at least: run the command again, with more time or trials"
    )
    assert not (tmp_path / "tune.best.json").exists()
