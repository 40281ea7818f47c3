"""Commands that need weights use the newest run with weights; others are refused with the next step."""

import pytest

from cifarnet.cli.runs import trained_run
from cifarnet.errors import RunError
from cifarnet.run.find import find_run, point_latest
from cifarnet.run.folder import Run

from .conftest import DATA, fails_after_messages, write_run


@pytest.fixture
def runs(tmp_path):
    """Three runs: the second has weights, the newest, which is the latest, has none."""
    for number, has_weights in enumerate([True, True, False], start=1):
        write_run(
            tmp_path, f"2026010{number}-000000-seed-jax", has_weights=has_weights, data=DATA | {"source": "/gone"}
        )
    point_latest(Run(tmp_path / "runs" / "20260103-000000-seed-jax"))
    return tmp_path / "runs"


def test_the_newest_run_with_weights_is_used_with_a_note(runs, capsys):
    assert trained_run(runs, None).path.name == "20260102-000000-seed-jax"
    assert capsys.readouterr() == (
        "",
        f"using {Run(runs)}/20260102-000000-seed-jax: the newest, 20260103-000000-seed-jax, has no best weights\n",
    )


def test_the_latest_run_with_weights_is_used_without_a_note(runs, capsys):
    newest = write_run(runs.parent, "20260104-000000-seed-jax", has_weights=True)
    point_latest(Run(runs / newest))
    assert trained_run(runs, None).path.name == newest
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_an_unfinished_run_is_used_with_a_note(run, tmp_path, status):
    write_run(tmp_path, has_weights=True, status=status, data=DATA | {"source": "/gone"})
    for command in ("evaluate", "export", "report"):
        for names in ((), ("stored",)):
            _, _, lines = run(command, *names)
            assert lines[0] == "note: runs/stored has not finished training; using its best weights so far"


@pytest.mark.parametrize("command", ["evaluate", "export", "report", "reproduce"])
def test_every_command_that_needs_weights_does_so(run, runs, command):
    _, _, lines = run(command)
    assert lines[0].startswith("using runs/20260102-000000-seed-jax: ")
    assert "no best weights" not in lines[-1]


def test_resuming_the_latest_means_the_newest(run, runs):
    assert find_run(runs).path.name == "20260103-000000-seed-jax"
    _, _, lines = run("train", "--resume", "latest")
    assert any("resuming" in line and "20260103-000000-seed-jax" in line for line in lines)


def test_a_named_run_is_never_replaced(runs):
    with pytest.raises(RunError, match="20260103-000000-seed-jax has no best weights yet"):
        trained_run(runs, "20260103-000000-seed-jax")
    assert find_run(runs, "20260103-000000-seed-jax", with_weights=True).path.name == "20260103-000000-seed-jax"


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"status": "interrupted", "why_stopped": "time limit"},
            "runs/stored has no best weights yet; expected at least one finished epoch: continue with "
            "`cifarnet train --resume runs/stored`",
        ),
        (
            {"status": "running"},
            "runs/stored has no best weights yet; expected at least one finished epoch: continue with "
            "`cifarnet train --resume runs/stored`",
        ),
        (
            {"status": "finished", "why_stopped": "nan"},
            "runs/stored has no best weights, since its loss was no number before an epoch was done; expected a run "
            "with a finite loss: start a new one with a lower learning rate",
        ),
        (
            {"status": "finished", "why_stopped": "patience"},
            "runs/stored has lost its best weights; expected runs/stored/best.weights.h5: restore it or start a new "
            "run",
        ),
    ],
)
@pytest.mark.parametrize("names", [(), ("stored",)], ids=["latest", "named"])
def test_a_run_without_weights_is_refused_with_the_next_step(fails, tmp_path, facts, message, names):
    write_run(tmp_path, **facts)
    assert fails("evaluate", *names).replace(f"{tmp_path}/", "") == message


# Location of an export


@pytest.mark.parametrize("name", ["model.ort", "folder.onnx", "model", ".onnx", "model.json"])
def test_an_invalid_file_name_is_refused_first(fails, tmp_path, name):
    write_run(tmp_path, has_weights=True)
    (tmp_path / "folder.onnx").mkdir()
    message = f"the file is to be called {name!r}; expected a name that ends in .onnx, such as model.onnx: give another"
    assert fails("export", "--output", name) == message


def test_a_folder_that_is_not_writable_is_refused_first(fails, tmp_path):
    write_run(tmp_path, has_weights=True)
    (tmp_path / "file").touch()
    message = "file/model.onnx cannot be written (Not a directory); expected a folder to write to: give another name"
    assert fails("export", "--output", "file/model.onnx") == message


def test_checking_a_folder_leaves_nothing_behind(run, tmp_path):
    write_run(tmp_path, has_weights=True, data=DATA | {"source": "/gone"})
    assert "/gone" in fails_after_messages(run, "export", "--output", "new/folder/model.onnx")
    assert {path.name for path in tmp_path.iterdir()} - {"keras"} == {"runs"}  # Keras makes its own when it is imported
