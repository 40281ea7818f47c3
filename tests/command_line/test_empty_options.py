"""An empty option, as an unset variable leaves, is refused by its name before anything else."""

import pytest

# No epoch is out of range: what gets past an empty option ends there.
EMPTY = {
    ("train", "--epochs", "0", "--recipe", ""): "the text after --recipe",
    ("train", "--epochs", "0", "--runs="): "--runs=",
    ("evaluate", ""): "the text after evaluate",
    ("evaluate", "--images", ""): "the text after --images",
    ("predict", "", "image.png"): "the text after predict",
    ("",): "the text after cifarnet",
}


@pytest.mark.parametrize(("command", "name"), EMPTY.items(), ids=lambda part: " ".join(part) if part in EMPTY else "")
def test_an_empty_option_is_refused_by_its_name(fails, tmp_path, command, name):
    assert fails(*command) == f"{name.rstrip('=')} is empty; expected a value: is the variable set?"
    assert list(tmp_path.iterdir()) == []


def test_options_with_a_value_pass(fails):
    assert fails("evaluate", "never", "--runs", "here", "--backend", "jax").startswith("never does not exist")
