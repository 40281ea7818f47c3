"""The benchmarks run at toy size, give turns one by one, and hide no contender that fails."""

import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import ablation, own_images
from benchmarks.harness.contest import Contender, field_of, take_turns
from benchmarks.harness.records import WRONG_MEMORY, WRONG_MEMORY_NOTE, Results, Sheet, append
from benchmarks.inference.measuring import judge_classes, judge_probabilities
from benchmarks.inference.table import percentile
from benchmarks.limit import inference_operations, training_operations
from benchmarks.recipes.table import changed_table, trainings
from benchmarks.recipes.table import table as recipes_table
from benchmarks.scaling.table import growth
from benchmarks.training.table import table as training_table

import cifarnet
from cifarnet.backends import choose
from cifarnet.contract import CIFAR10_LABELS
from cifarnet.export.inspect import inspect_model
from tests.runtime import models

choose()

from cifarnet.export.file import serialise  # noqa: E402  # Keras, now that its framework is chosen
from cifarnet.export.writer import write_graph  # noqa: E402

PROJECT = Path(__file__).parents[1]
TOY_ROWS = {
    "startup": ["`cifarnet --help`", "`cifarnet predict` of one PNG file"],
    "training": ["cifarnet on torch", "PyTorch loop"],
    "inference": ["cifarnet, probabilities", "the same file, onnxruntime", "cifarnet, stream"],
    "scaling": ["100 images", "40 files"],
}
GOOD = """
import time
def contend(task, turns):
    turns.ready(said=task.options.get("word"))
    while True:
        turns.wait()
        began = time.perf_counter()
        sum(range(1000))
        turns.done(span=[began, time.perf_counter()], images=1, validation_accuracy=0.5)
"""
NEVER_READY = "def contend(task, turns):\n    raise ValueError('no such thing')\n"
FAILS_LATER = """
def contend(task, turns):
    turns.ready()
    turns.wait()
    turns.done(images=1)
    turns.wait()
    raise ValueError('out of breath')
"""
TELLS_ITS_PEAK = """
from pathlib import Path
def contend(task, turns):
    turns.ready()
    while True:
        turns.wait()
        turns.done(status=Path("/proc/self/status").read_text())
"""
TALKS = "print('a library talks')\n" + GOOD
WRONG = """
import numpy as np
def contend(task, turns):
    np.save(task.folder / "answers.npy", np.full((4, 10), 0.2, np.float32))
    turns.ready()
    turns.wait()
"""


@pytest.mark.nightly
@pytest.mark.parametrize("name", TOY_ROWS)
def test_each_benchmark_runs_at_toy_size_and_leaves_samples_a_table_and_a_picture(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--toy", "--results", str(tmp_path)],
        cwd=PROJECT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = Results.read(tmp_path / f"{name}.jsonl")
    failed = [line for line in results.lines if line["kind"] in ("failed", "refused", "not installed")]
    assert not failed
    assert results.head["machine"]["cores"] >= 1
    assert {line["kind"] for line in results.lines} >= {"start", "turn"}
    for row in TOY_ROWS[name]:
        assert row in done.stdout
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def contest(tmp_path, programs, judge=None, rounds=2):
    """Hold a contest of programs given as text; return its results."""
    for module, text in programs.items():
        (tmp_path / f"{module}.py").write_text(text)
    contenders = [
        Contender(
            name=module,
            module=module,
            group="loop",
            options={"word": module},
            environment={"PYTHONPATH": str(tmp_path)},
        )
        for module in programs
    ]
    absent = Contender(name="absent", module="absent", group="loop", needs=("no_such_package",))
    sheet = Sheet(tmp_path / "results.jsonl", "test", {"model": cifarnet.recipe("seed").model.to_json()}, log=False)
    with field_of([*contenders, absent], {}, sheet, cores=1, cell="batch 30", judge=judge) as processes:
        take_turns(processes, sheet, rounds=rounds, cell="batch 30")
    sheet.close()
    return Results.read(sheet.path)


def test_a_contender_that_cannot_start_fails_later_or_is_not_installed_is_a_row_with_its_reason(tmp_path):
    programs = {"good": GOOD, "never_ready": NEVER_READY, "fails_later": FAILS_LATER}
    results = contest(tmp_path, programs)
    heads = results.contenders("batch 30")
    assert {name: line["kind"] for name, line in heads.items()} == {
        "good": "start",
        "never_ready": "failed",
        "fails_later": "failed",
        "absent": "not installed",
    }
    text = training_table(tmp_path / "results.jsonl")
    for row in ("| never_ready | failed: ValueError: no such thing |", "| absent | not installed: no_such_package |"):
        assert row in text
    assert "| fails_later | failed: ValueError: out of breath |" in text
    assert len(results.values("batch 30", "good", "seconds")) == 2


def test_turns_never_overlap_and_the_first_of_each_is_its_warm_up(tmp_path):
    results = contest(tmp_path, {"one": GOOD, "other": TALKS}, rounds=5)
    lines = [line for line in results.lines if line["kind"] in ("turn", "warm-up")]
    assert sorted((line["contender"], line["kind"]) for line in lines) == sorted(
        (name, kind) for name in ("one", "other") for kind in ["warm-up", *["turn"] * 5]
    )
    spans = [line["span"] for line in lines]
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans))
    assert results.contenders("batch 30")["other"]["said"] == "other"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak in a second way")
def test_the_peak_memory_of_a_contender_is_its_own(tmp_path):
    held = np.ones(400_000_000, np.uint8)
    results = contest(tmp_path, {"light": TELLS_ITS_PEAK}, rounds=1)
    [peak_bytes], [status] = (results.values("batch 30", "light", key) for key in ("peak_memory_bytes", "status"))
    told_bytes = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert told_bytes <= peak_bytes < told_bytes + 2**20 < len(held)


def test_a_peak_memory_that_counts_the_driver_is_not_shown_and_a_right_one_is(tmp_path):
    contest(tmp_path, {"good": GOOD})
    path = tmp_path / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    measured = [line.pop("peak_memory_bytes", 0) for line in lines]
    for key, figure, cell, marked in (
        ("peak_memory_bytes", 123_456_789, "123", False),
        ("peak_memory_mb", 1_640, WRONG_MEMORY, True),
    ):
        path.write_text("".join(json.dumps(line | {key: figure}) + "\n" for line in lines))
        text = training_table(path)
        assert re.search(rf"^\| good \|.* {cell} \|$", text, re.MULTILINE)
        assert (WRONG_MEMORY_NOTE in text, "1,640" in text) == (marked, False)
    assert max(measured) > 1e6


def test_a_contender_with_other_answers_is_refused_before_it_may_be_timed(tmp_path):
    results = contest(tmp_path, {"wrong": WRONG}, judge=judge_probabilities(np.full((100, 10), 0.1, np.float32)))
    assert results.contenders("batch 30")["wrong"]["kind"] == "refused"
    assert results.contenders("batch 30")["wrong"]["reason"] == "a probability differs by 1.0e-01 from cifarnet's"
    assert not results.values("batch 30", "wrong", "seconds")


@pytest.mark.parametrize(("change", "accepted"), [(0.0, True), (5e-5, True), (2e-4, False), (np.nan, False)])
def test_probabilities_are_judged_by_the_largest_difference(change, accepted, tmp_path):
    expected = np.full((100, 10), 0.1, np.float32)
    np.save(tmp_path / "answers.npy", expected[:7] + np.eye(7, 10, dtype=np.float32) * np.float32(change))
    assert (judge_probabilities(expected)(tmp_path) is None) == accepted


@pytest.mark.parametrize(("wrong", "accepted"), [(0, True), (1, True), (3, False), (2000, False)])
def test_classes_are_judged_by_how_many_are_equal(wrong, accepted, tmp_path):
    expected = np.tile(np.eye(10, dtype=np.float32), (200, 1))
    classes = expected.argmax(axis=1)
    classes[:wrong] += 1
    np.save(tmp_path / "answers.npy", classes)
    assert (judge_classes(expected)(tmp_path) is None) == accepted


def test_a_contender_without_answers_to_the_files_is_refused(tmp_path):
    np.save(tmp_path / "answers.npy", np.array([], int))
    assert judge_classes(np.eye(10, dtype=np.float32))(tmp_path) == "0 answers"


BY_HAND = {
    "seed": [
        *[(32 * 32, 27, 32), (16 * 16, 9 * 32, 64), (8 * 8, 9 * 64, 128)],
        *[(1, 4 * 4 * 128, 512), (1, 512, 256), (1, 256, 128), (1, 128, 10)],
    ],
    "fast": [
        (31 * 31, 2 * 2 * 3, 24),  # whitens
        *[(31 * 31, 9 * 24, 48), (15 * 15, 9 * 48, 48)],
        *[(15 * 15, 9 * 48, 128), (7 * 7, 9 * 128, 128)],
        *[(7 * 7, 9 * 128, 128), (3 * 3, 9 * 128, 128)],
        (1, 128, 10),
    ],
    "strong": [
        (31 * 31, 2 * 2 * 3, 24),  # whitens
        *[(31 * 31, 9 * 24, 64), (15 * 15, 9 * 64, 64), (15 * 15, 9 * 64, 64)],
        *[(15 * 15, 9 * 64, 256), (7 * 7, 9 * 256, 256), (7 * 7, 9 * 256, 256)],
        *[(7 * 7, 9 * 256, 256), (3 * 3, 9 * 256, 256), (3 * 3, 9 * 256, 256)],
        (1, 256, 10),
    ],
}
"""Of each layer: the pixels that come out, the values that each is computed from, and the filters or units."""


@pytest.mark.parametrize(("name", "mflop"), [("seed", 23.1), ("fast", 86.3), ("strong", 321.3)])
def test_the_operations_of_a_recipe_are_those_counted_by_hand(name, mflop):
    model = cifarnet.recipe(name).model.to_json()
    first, *rest = counts = [2 * math.prod(layer) for layer in BY_HAND[name]]
    assert inference_operations(model) == sum(counts)
    assert round(sum(counts) / 1e6, 1) == mflop
    # Whitening is not trained, and the first layer that is needs no gradient of its inputs.
    trained = first + 2 * rest[0] + 3 * sum(rest[1:]) if model["whitening"] else 2 * first + 3 * sum(rest)
    assert training_operations(model) == trained


@pytest.mark.parametrize(
    "changes",
    [
        {"padding": "valid", "convolutions_per_block": 2, "filters": (4, 5)},
        {"padding": "valid", "convolutions_per_block": 2, "filters": (4, 5), "pooling": "first"},
        {"whitening": 3, "global_pooling": "max", "dense_units": (), "dropout": 0.0},
        {"whitening": 2, "global_pooling": "average", "ghost_batch": 8, "image_shape": (20, 28, 3), "kernel_size": 5},
    ],
    ids=str,
)
def test_the_operations_of_any_network_are_those_of_its_file(changes, tmp_path):
    config = cifarnet.ModelConfig(**{"filters": (4, 5, 6), "dense_units": (7,)} | changes)
    write_model(tmp_path / "model.onnx", config)
    multiply_adds = inspect_model(tmp_path / "model.onnx").multiply_adds
    assert inference_operations(config.to_json()) == 2 * multiply_adds > 0


@pytest.mark.parametrize(
    ("changes", "flip", "told"),
    [
        ({"whitening": 2, "global_pooling": "max"}, False, "whitening 2, global_pooling max, which"),
        (
            {"convolutions_per_block": 2, "pixel_range": "unit"},
            False,
            "pixel_range unit, convolutions_per_block 2, which",
        ),
        ({}, True, "flip True, which"),
    ],
)
def test_a_run_whose_network_the_others_cannot_build_is_refused_in_one_line(changes, flip, told, tmp_path):
    config = cifarnet.ModelConfig(**{"filters": (4,), "dense_units": ()} | changes)
    write_model(tmp_path / "model.onnx", config, flip=flip)
    results = tmp_path / "results"
    command = ["-m", "benchmarks.inference", "--run", str(tmp_path), "--results", str(results)]
    done = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, results.exists()) == (1, "", False)
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'model.onnx'} has {told}")


def write_model(path, config, flip=False):
    """Write a model file with the initial weights of a network."""
    graph = write_graph(cifarnet.build_model(config), flip=flip)
    height, width, _ = config.image_shape
    contract = models.CONTRACT | {
        "labels": CIFAR10_LABELS,
        "model": config.to_json(),
        "flip": flip,
        "calibration": models.CALIBRATION,
    }
    contract |= {
        "input": models.CONTRACT["input"] | {"shape": ["batch", *config.image_shape]},
        "resize": models.CONTRACT["resize"] | {"height": height, "width": width},
    }
    path.write_bytes(serialise(graph, contract))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_growth_of_a_power_law_is_its_power(power):
    works = [10.0, 100.0, 1000.0]
    np.testing.assert_allclose(growth(works, [3 * work**power for work in works]), power)


def test_the_percentile_is_a_sample():
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([5.0], 99) == 5.0


STORED = PROJECT / "benchmarks" / "results"


def test_the_results_of_each_benchmark_are_stored():
    assert {path.stem for path in STORED.glob("*.jsonl")} >= {*TOY_ROWS, "ablation", "own_images", "recipes", "tuning"}


@pytest.mark.parametrize("path", sorted(STORED.glob("*.jsonl")), ids=lambda path: path.name)
def test_stored_results_open_with_the_machine(path):
    head = json.loads(path.read_text().splitlines()[0])
    machine = head["machine"]  # of the oldest trials of tuning nothing but its kind is known
    assert machine if path.name == "tuning.jsonl" else machine["processor"]
    assert "date" not in json.dumps(head)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "changed", "row"),
    [
        ("fast", {"filters": [4, 4, 4], "epochs": 2}, "| `fast` | torch | 3, 4 |"),
        ("by-hand-bfloat16", {"epochs": 2}, "| PyTorch by hand, bfloat16 | torch | 3, 4 |"),
    ],
)
def test_a_recipe_is_timed_from_the_start_of_its_process(tmp_path, name, changed, row):
    results = tmp_path / "recipes.jsonl"
    options = ["--results", str(results), "--data", "synthetic", "--changed", json.dumps(changed)]
    command = ["-m", "benchmarks.recipes", name, "torch", "3", "4", *options]
    done = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = trainings(results)
    assert [training.head["seed"] for training in found] == [3, 4]
    for training in found:
        assert [epoch["epoch"] for epoch in training.epochs] == [1, 2]
        assert 0 < training.epochs[0]["seconds"] < training.epochs[1]["seconds"] <= training.end["seconds"]
        assert {"test_accuracy", "flip_test_accuracy"} <= set(training.end)
    assert row in done.stdout
    assert results.with_suffix(".png").exists()


def test_the_gist_of_the_recipes_is_of_the_quickest_framework_of_each(tmp_path):
    path = tmp_path / "recipes.jsonl"
    for name, backend, seconds, accuracy in (
        ("fast", "jax", 900.0, 0.91),
        ("fast", "torch", 420.0, 0.90),
        ("fast", "torch", 300.0, 0.92),
        ("by-hand", "torch", 60.0, 0.93),
        ("seed", "jax", 600.0, 0.78),
    ):
        head = {"name": name, "backend": backend, "seed": 0, "machine": {"cores": 2, "processor": "A Processor"}}
        ends = ({"test_accuracy": accuracy, "seconds": seconds}, {"flip_test_accuracy": 0.95, "seconds": seconds + 9})
        append(path, head, *ends)
    gist, *_, last, _, _ = recipes_table(path).splitlines()
    assert gist.startswith(
        "**78.00 % in 10 minutes** with `seed` on jax, **91.00 % in 6 minutes** with `fast` on torch: "
    )
    assert last.endswith("| 2 cores of A Processor |")


def test_what_was_tried_for_strong_is_told_beside_it_the_lowest_loss_first(tmp_path):
    recipes, changed = tmp_path / "recipes.jsonl", tmp_path / "changed_recipes.jsonl"
    for path, name, settings, losses in (
        (recipes, "strong", {}, [0.5, 0.4]),
        (recipes, "fast", {}, [0.1, 0.1]),
        (changed, "strong", {"changed": {"filters": [4, 8], "epochs": 2}}, [0.3, 0.35]),
        (changed, "strong", {"changed": {"filters": [4, 8], "epochs": 2}}, [0.3, 0.25]),
    ):
        head = {"name": name, "backend": "torch", "seed": 0, "machine": {"cores": 2, "processor": "A Processor"}}
        epochs = [
            {"epoch": epoch, "validation_accuracy": 1 - loss, "validation_loss": loss, "seconds": 60.0 * epoch}
            for epoch, loss in enumerate(losses, 1)
        ]
        append(path, head | settings, *epochs, {"test_accuracy": 0.9, "flip_test_accuracy": 0.91, "seconds": 180.0})
    *_, first, second = changed_table(changed, recipes).splitlines()
    assert "| 4, 8 |" in first
    assert first.endswith(
        "| 2 | 0, 0 | 72.50 % (70.00 to 75.00) | 0.2750 | 3.0 | 90.00 % | 91.00 % | 2 cores of A Processor |"
    )
    assert f"| {', '.join(map(str, cifarnet.recipe('strong').model.filters))} |" in second
    assert "| 60.00 % | 0.4000 |" in second


def test_a_recipe_that_fails_leaves_no_results(tmp_path):
    command = ["-m", "benchmarks.recipes", "slow", "torch", "0", "--results", str(tmp_path / "recipes.jsonl")]
    done = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "slow on torch with seed 0 ended with code 1" in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.nightly
def test_own_images_are_trained_on_in_every_way(tmp_path):
    code = (
        "import json, cifarnet; from dataclasses import replace; from benchmarks.own_images import Sizes, measure;"
        "from cifarnet.data import synthetic; from cifarnet.contract import CIFAR10_LABELS;"
        "cifarnet.choose_backend('torch'); images = replace(synthetic(train=100, test=40), labels=CIFAR10_LABELS);"
        "print(json.dumps(measure(1, images, Sizes(6, ('--epochs', '1'), 1))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout.splitlines()[-1])
    assert [line["way"] for line in lines] == list(own_images.WAYS)
    assert [line["origin_accuracy"] is None for line in lines] == [True, True, False]
    assert all(line["test_images"] == 8 for line in lines)
    stored = tmp_path / "own_images.jsonl"
    stored.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(own_images.table(stored).splitlines()) == 2 + len(lines)


TRIALS = """
import json, cifarnet
from dataclasses import replace
from benchmarks.ablation import run_trial

cifarnet.choose_backend("torch")
open_dataset, small = cifarnet.open_dataset, {"filters": (4, 4, 4), "epochs": 2}

def without_tests(source):
    dataset = open_dataset(source)
    return replace(dataset, test=replace(dataset.test, images=dataset.test.images[::-1] // 2))

averaged = run_trial("weights averaged every 5 steps", 1, "synthetic", **small)
whole = run_trial("the recipe", 1, "synthetic", **small)
cifarnet.open_dataset = without_tests
print(json.dumps([averaged, whole, run_trial("the recipe", 1, "synthetic", **small)]))
"""


@pytest.mark.nightly
def test_a_trial_of_the_ablation_trains_and_the_test_images_play_no_part():
    done = subprocess.run([sys.executable, "-c", TRIALS], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    averaged, record, other = json.loads(done.stdout.splitlines()[-1])
    assert (record["trial"], record["seed"], record["settings"]["flip"]) == ("the recipe", 1, "alternating")
    assert averaged["validation"] != record["validation"] == other["validation"]
    assert record["flip_accuracy"] == other["flip_accuracy"]
    assert 0 <= record["validation"]["accuracy"] <= 1


def trials_of(name, accuracies, epochs=6, processor="A Processor"):
    rest = {"trial": name, "settings": {"epochs": epochs}, "machine": {"cores": 2, "processor": processor}}
    measured = {"flip_accuracy": 0.95, "minutes": 4.0}
    for seed, accuracy in enumerate(accuracies):
        yield {"seed": seed, "validation": {"accuracy": accuracy, "loss": 0.5}} | rest | measured


def test_the_table_of_the_ablation_has_the_recipe_first_and_what_each_change_costs(tmp_path):
    path = tmp_path / "ablation.jsonl"
    append(path, *trials_of("no flips", (0.88, 0.90)), *trials_of("no shifts", (0.86, 0.88)))
    append(path, *trials_of("one seed alone", (0.95,)))
    assert "| no flips | 6 | 2 | 89.00 % (88.00 to 90.00) |  | 95.00 % |" in ablation.table(path)  # nothing to compare
    append(path, *trials_of("the recipe", (0.91, 0.93)), *trials_of("no shifts", (0.92, 0.94), epochs=10))
    append(path, *trials_of("the recipe", (0.93, 0.95), epochs=10))
    append(path, *trials_of("the recipe", (0.81, 0.83), processor="Another"))
    append(path, *trials_of("no whitening", (0.80, 0.80), processor="Another"))
    append(path, *trials_of("on a third alone", (0.99, 0.99), processor="A Third"))
    _, _, *found, _, told = ablation.table(path).splitlines()
    assert told == "On 2 cores of A Processor and 2 cores of A Third and 2 cores of Another."
    cells = [row.strip("| ").split(" | ") for row in found]
    assert [(name, epochs, points) for name, epochs, _, _, points, *_ in cells] == [
        ("the recipe", "6", ""),
        ("no shifts", "6", "-5.00"),
        ("no flips", "6", "-3.00"),
        ("no whitening", "6", "-2.00"),
        ("on a third alone", "6", ""),
        ("the recipe", "10", ""),
        ("no shifts", "10", "-1.00"),
    ]
