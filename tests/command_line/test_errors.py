"""Every error of the command line is one line that starts with ``error:``, and an exit code."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from cifarnet import cli, pretrained
from cifarnet.backends import NAMES
from cifarnet.errors import RunError
from tests.photos import make_noise

from .conftest import BACKEND, DATA, MODEL, TRAIN, fails_after_messages, write_run

OTHER = next(name for name in NAMES if name != BACKEND)


# Settings and backend


def test_an_unknown_recipe(fails):
    assert fails("train", "--recipe", "sead") == (
        "there is no recipe named 'sead'; expected one of fast, seed, strong, or a recipe file whose name ends in .json"
    )


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_unknown_backend(fails, tmp_path, command):
    write_run(tmp_path, has_weights=True)
    message = "the backend 'theano' is not supported; expected one of jax, torch, tensorflow"
    assert fails(command, "--backend", "theano") == message


# Data


def test_a_missing_data_folder(run):
    message = fails_after_messages(run, "train", "--data", "no/such/folder")
    assert message.startswith("no/such/folder is no such file or folder; expected `cifar10`, `synthetic`")


def test_verifying_an_empty_cache(run):
    assert "run `cifarnet data fetch`" in fails_after_messages(run, "data", "verify")


# Runs


@pytest.mark.parametrize("command", [("train", "--resume", "never"), ("evaluate", "never")])
def test_a_missing_run(fails, command):
    message = "never does not exist; expected a folder with run.json: train one with `cifarnet train`"
    assert fails(*command) == message


@pytest.mark.parametrize("command", [("train", "--resume", "latest"), ("evaluate",)])
def test_a_folder_without_runs(fails, command):
    assert fails(*command).startswith("runs holds no run; expected a folder with run.json")


def test_a_broken_record(fails, tmp_path):
    write_run(tmp_path)
    (tmp_path / "runs" / "stored" / "run.json").write_text('{"format": 1')
    assert "run.json could not be read" in fails("train", "--resume", "stored")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "other"), "recipe is other; expected seed"),
        (("--batch-size", "31"), f"batch-size is 31; expected {TRAIN.batch_size}"),
        (("--dropout", "0.125"), f"dropout is 0.125; expected {MODEL.dropout}"),
        (("--seed", str(TRAIN.seed), "--patience", "19"), f"patience is 19; expected {TRAIN.patience}"),
    ],
)
def test_resuming_with_other_settings(fails, tmp_path, options, message):
    expected = f"{message} as when the run began: leave it out, or start a new run without --resume"
    assert fails("train", "--resume", write_run(tmp_path), *options) == expected


@pytest.mark.parametrize("asked", ["--backend", "KERAS_BACKEND"])
def test_resuming_with_another_backend_names_the_command(fails, tmp_path, monkeypatch, asked):
    monkeypatch.setenv("KERAS_BACKEND", BACKEND if asked == "--backend" else OTHER)
    name = write_run(tmp_path)
    assert fails("train", "--resume", name, *(["--backend", OTHER] if asked == "--backend" else [])) == (
        f"{asked} is {OTHER}; expected {BACKEND} as when the run began: resume it with "
        f"`cifarnet train --resume runs/{name} --backend {BACKEND}`"
    )


def test_resuming_a_finished_run_is_refused_before_its_data_is_opened(run, tmp_path):
    gone = DATA | {"source": str(tmp_path / "gone")}
    name = write_run(tmp_path, status="finished", why_stopped="patience", epochs=37, data=gone)
    message = fails_after_messages(run, "train", "--resume", name, "--learning-rate", str(TRAIN.learning_rate))
    assert message.startswith(
        "runs/stored has finished after epoch 37: the validation loss stopped improving; expected a run that was "
        "interrupted"
    )


def test_resuming_with_a_damaged_record(run, tmp_path):
    message = fails_after_messages(run, "train", "--resume", write_run(tmp_path, data={}))
    expected = "run.json is damaged (data.name is None; expected a string); expected the record of a run"
    assert message.startswith(expected)


def test_resuming_with_the_record_of_a_later_version(run, tmp_path):
    message = fails_after_messages(run, "train", "--resume", write_run(tmp_path, format=2))
    assert message.startswith("the run's format is 2; expected 1: use the cifarnet that wrote it")


@pytest.mark.parametrize(
    ("command", "facts", "shown"),
    [
        ("evaluate", {}, "`cifarnet train --resume 'runs/my run'`"),
        ("demo", {"has_weights": True}, "`cifarnet export 'runs/my run' --onnx`"),
        ("robustness", {"has_weights": True}, "`cifarnet export 'runs/my run' --onnx`"),
    ],
)
def test_a_command_in_an_error_can_be_pasted_into_a_shell(fails, tmp_path, command, facts, shown):
    assert shown in fails(command, write_run(tmp_path, "my run", **facts))


def test_a_run_without_a_source_is_resumed_with_data(run, tmp_path):
    name = write_run(tmp_path, data=DATA | {"source": None})
    message = fails_after_messages(run, "train", "--resume", name)
    assert message.endswith(
        "was trained on synthetic, whose location is unknown; expected --data with its location, in Python dataset="
    )
    assert "the images have the fingerprint" in fails_after_messages(
        run, "train", "--resume", name, "--data", "synthetic"
    )


# Model files


def test_one_output_for_two_files(fails):
    message = "--output names one file; expected one of --onnx, --fp16 and --int8 with it: run one export per file"
    assert fails("export", "--onnx", "--int8", "--output", "model.onnx") == message


def test_the_pretrained_classifier_needs_no_export(fails):
    message = f"pretrained is exported already; expected a run of yours: copy {pretrained.MODEL}"
    assert fails("export", "pretrained", "--output", "model.onnx") == message


def test_all_names_of_an_export_are_checked_before_a_file_is_written(run, tmp_path):
    folder = tmp_path / "runs" / write_run(tmp_path, has_weights=True)
    (folder / "model.int8.onnx").write_bytes(b"mine")
    message = fails_after_messages(run, "export", "--fp16", "--int8")
    assert message.startswith("the export would replace ")
    assert "model.int8.onnx, which is not an exported model" in message
    assert {path.name for path in folder.glob("model*")} == {"model.int8.onnx"}


def test_exporting_a_run_of_other_images(run, tmp_path):
    assert "fingerprint" in fails_after_messages(run, "export", write_run(tmp_path, has_weights=True))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "model.onnx cannot be read (No such file or directory); expected an ONNX file: check the path, or use "),
        (b"Not a model", "model.onnx is no ONNX file; expected one: use "),
    ],
)
def test_inspecting_a_file_that_is_not_a_model(fails, tmp_path, content, message):
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    assert fails("inspect", "model.onnx").startswith(message)


# Notes, system errors and usage errors


@pytest.fixture
def pets(tmp_path):
    return make_noise(tmp_path / "pets", count=3)


def test_class_names_are_escaped(run, tmp_path, pets):
    (tmp_path / "file").touch()  # so that training fails there
    (pets / "dog").rename(pets / "\x1b[2Jdog")
    _, _, lines = run("train", "--data", str(pets), "--runs", "file/runs")
    assert "of 2 classes: \\x1b[2Jdog, cat" in "\n".join(lines)


def test_settings_unusual_for_few_images_are_noted(run, tmp_path, pets):
    (tmp_path / "file").touch()  # so that training fails there
    _, _, lines = run("train", "--recipe", "seed", "--data", str(pets), "--runs", "file/runs")
    assert [line for line in lines if line.startswith("note: ")] == [
        "note: batch size 30 is larger than the training split of 2 images",
        "note: cat and 1 more with a single validation image: the validation loss will be noisy",
        "note: 2 validation images: confidences and their threshold will be unreliable",
    ]


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ((), "note: for 2 images: batch size 512 -> 64, epochs 10 -> 100, patience 20 -> 100"),
        (("--batch-size", "2", "--patience", "3"), "note: for 2 images: epochs 10 -> 100"),
        (("--batch-size", "2", "--epochs", "30"), "note: for 30 epochs: patience 20 -> 30"),
    ],
)
def test_settings_adapted_to_few_images_are_noted(run, tmp_path, pets, options, note):
    (tmp_path / "file").touch()  # so that training fails there
    _, _, lines = run("train", "--recipe", "fast", "--data", str(pets), "--runs", "file/runs", *options)
    assert [line for line in lines if line.startswith("note: for")] == [note]
    assert not any("larger than the training split" in line for line in lines)


def test_a_system_error_names_the_path(run, tmp_path, pets):
    (tmp_path / "file").touch()
    message = fails_after_messages(run, "train", "--data", str(pets), "--runs", "file/runs")
    assert message == (
        "a run could not be made in file/runs (Not a directory); expected a writable folder: give another "
        "(--runs, in Python runs=)"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("only words"), "the system: only words; check space and permissions"),
        (OSError(28, "No space left on device"), "the system: No space left on device; check space and permissions"),
        (RunError("two\n  lines"), "two lines"),
    ],
)
def test_unusual_errors_give_one_line(fails, monkeypatch, error, message):
    def broken():
        raise error

    monkeypatch.setattr(cli, "app", broken)
    assert fails() == message


def test_the_version_is_printed_to_stdout(run):
    assert run("--version") == (0, f"cifarnet {version('cifarnet')}\n", [])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("keras", 'keras is not installed; expected for this command: pip install ".[tensorflow]" in y'),
        ("sklearn", 'sklearn is not installed; expected for this command: pip install ".[evidence]"'),
    ],
)
def test_a_missing_package_is_reported_with_the_install_command(fails, monkeypatch, module, message):
    def bare():
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(cli, "app", bare)
    assert fails().startswith(message)


DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Names of packages that differ from those of their modules."""


def test_the_modules_of_the_extras_are_those_in_pyproject():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = (*extras["training"], *extras["evidence"], *extras["tune"])
    listed = {line.split(">")[0] for line in lines} - {"cifarnet[evidence]"}
    assert listed == {DISTRIBUTIONS.get(module, module) for module in cli.EXTRAS}


def test_inspecting_a_model_without_a_parity_check(run):
    golden = Path(__file__).parents[2] / "export" / "golden" / "model.onnx"
    code, shown, stderr = run("inspect", str(golden))
    assert (code, stderr) == (0, [])
    assert "not verified: written without the parity check" in shown
    assert "never trained" in shown


def test_an_unexpected_error_is_not_hidden(monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--colour", "red"),
        ("trian",),
        ("train", "--epochs", "many"),
        ("train", "--max-minutes", "-1"),
        ("train", "--max-minutes", "nan"),
    ],
)
def test_a_usage_error_exits_with_2(run, arguments):
    code, stdout, lines = run(*arguments)
    assert (code, stdout) == (2, "")
    assert "Usage" in lines[0]


@pytest.mark.parametrize(
    "command", [("train", "--data"), ("data", "check"), ("evaluate", "pretrained", "--images"), ("tune", "--data")]
)
def test_the_home_of_an_unknown_user(run, command):
    expected = "begins with the name of an unknown user; expected a path: correct it"
    assert fails_after_messages(run, *command, "~nobody-of-this-name/photos").endswith(expected)


def test_a_cache_in_the_home_of_an_unknown_user(fails, monkeypatch):
    monkeypatch.setenv("CIFARNET_CACHE", "~nobody-of-this-name/cache")
    assert "begins with the name of an unknown user" in fails("data", "cache")
