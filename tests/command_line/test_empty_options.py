"""An empty option, as an unset variable leaves, is refused by its name before anything else."""

import pytest

# No epoch is out of range: what gets past an empty option ends there.
EMPTY = {
    ("train", "--epochs", "0", "--recipe", ""): "--recipe is empty; expected its name",
    ("train", "--epochs", "0", "--data", ""): "--data is empty; expected cifar10, synthetic or a path",
    ("train", "--epochs", "0", "--backend", ""): "--backend is empty; expected jax, torch or tensorflow",
    ("train", "--epochs", "0", "--resume", ""): "--resume is empty; expected a run folder or its name",
    ("train", "--epochs", "0", "--runs", ""): "--runs is empty; expected a folder",
    ("evaluate", ""): "RUN is empty; expected a run folder, its name, a model file, or pretrained",
    ("evaluate", "--images", ""): "--images is empty; expected a folder of class folders",
    ("evaluate", "--data="): "--data is empty; expected cifar10, synthetic or a path",
    ("export", ""): "RUN is empty; expected a run folder or its name",
    ("export", "--output", ""): "--output is empty; expected a file name",
    ("export", "--runs="): "--runs is empty; expected a folder",
    ("report", ""): "RUN is empty; expected a run folder or its name",
    ("report", "--data", ""): "--data is empty; expected cifar10, synthetic or a path",
    ("robustness", ""): "MODEL is empty; expected a run folder, its name, a model file, or pretrained",
    ("robustness", "--data", ""): "--data is empty; expected cifar10, synthetic or a path",
    ("reproduce", ""): "RUN is empty; expected a run folder or its name",
    ("reproduce", "--output", ""): "--output is empty; expected a folder",
    ("compare", "--data", ""): "--data is empty; expected cifar10, synthetic or a path",
    ("compare", "--output", ""): "--output is empty; expected a folder",
    ("inspect", ""): "MODEL is empty; expected a run folder, its name, a model file, or pretrained",
    ("inspect", "--runs", ""): "--runs is empty; expected a folder",
    ("conformance", ""): "OUTPUTS is empty; expected a JSON file",
    ("demo", ""): "MODEL is empty; expected a run folder, its name, a model file, or pretrained",
}


@pytest.mark.parametrize(
    ("command", "message"), EMPTY.items(), ids=lambda part: " ".join(part) if part in EMPTY else ""
)
def test_an_empty_option_is_refused_by_its_name(fails, tmp_path, command, message):
    assert fails(*command) == f"{message}: is the variable set?"
    assert list(tmp_path.iterdir()) == []


def test_options_with_a_value_pass(fails):
    assert fails("evaluate", "never", "--runs", "here", "--backend", "jax").startswith("never is no run folder")


def test_a_file_is_no_folder_of_runs(fails, tmp_path):
    (tmp_path / "file").touch()
    expected = "--runs is file, which is a file; expected a folder of run folders: give another"
    assert fails("train", "--data", "synthetic", "--runs", "file") == expected
    assert fails("evaluate", "--runs", "file") == expected
