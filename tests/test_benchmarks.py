"""The benchmarks run at toy size, run rounds one by one, and hide no implementation that fails."""

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
from benchmarks import own_images
from benchmarks.gpu import on_gpu
from benchmarks.harness.records import WRONG_MEMORY, WRONG_MEMORY_NOTE, Results, ResultsFile, append
from benchmarks.harness.rounds import Implementation, run_rounds, started
from benchmarks.inference.__main__ import require_stock
from benchmarks.inference.table import percentile
from benchmarks.inference.timing import check_classes, check_probabilities
from benchmarks.peak import inference_operations, training_operations
from benchmarks.recipes.published import forward_operations
from benchmarks.recipes.table import changed_table, short_table, trainings
from benchmarks.scaling.table import growth
from benchmarks.training.table import table as training_table
from benchmarks.trials import ablation_table

import cifarnet
from cifarnet import pretrained
from cifarnet.export.inspect import inspect_model

PROJECT = Path(__file__).parents[1]
STORED = PROJECT / "benchmarks" / "results"
TOY_ROWS = {
    "startup": ["`cifarnet --help`", "`cifarnet predict` of one PNG file"],
    "training": ["cifarnet on torch", "PyTorch loop"],
    "inference": [
        *("cifarnet, probabilities", "the same file, onnxruntime", "cifarnet, stream", "test accuracy"),
        *("OpenVINO in bfloat16", "OpenCV", "int8 file, onnxruntime", "int8 file, cifarnet, probabilities"),
    ],
    "scaling": ["100 images", "40 files"],
    "ray": ["`cifarnet predict`", "`export/ray/score.py`, Parquet"],
    "workers": ["torch, seed", "Calculated, not measured"],
}
GOOD = """
import time
def run(task, rounds):
    rounds.ready(said=task.options.get("word"))
    while True:
        rounds.wait()
        began = time.perf_counter()
        sum(range(1000))
        rounds.done(span=[began, time.perf_counter()], images=1, validation_accuracy=0.5)
"""
NEVER_READY = "def run(task, rounds):\n    raise ValueError('no such thing')\n"
FAILS_LATER = """
def run(task, rounds):
    rounds.ready()
    rounds.wait()
    rounds.done(images=1)
    rounds.wait()
    raise ValueError('out of breath')
"""
TELLS_ITS_PEAK = """
from pathlib import Path
def run(task, rounds):
    rounds.ready()
    while True:
        rounds.wait()
        rounds.done(status=Path("/proc/self/status").read_text())
"""
TALKS = "print('a library talks')\n" + GOOD
WRONG = """
import numpy as np
def run(task, rounds):
    np.save(task.folder / "answers.npy", np.full((4, 10), 0.2, np.float32))
    rounds.ready()
    rounds.wait()
"""


@pytest.mark.nightly
@pytest.mark.parametrize("name", TOY_ROWS)
def test_each_benchmark_runs_at_toy_size_and_leaves_samples_and_a_table(name, tmp_path):
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
    assert not [line for line in results.lines if line["kind"] in ("failed", "refused")]
    absent = {line["contender"] for line in results.lines if line["kind"] == "not installed"}
    assert absent <= {"the same file, OpenCV"}  # of the extra [bench] alone
    assert results.head["machine"]["cores"] >= 1
    assert {line["kind"] for line in results.lines} >= {"start", "turn"}
    for row in TOY_ROWS[name]:
        assert row in done.stdout


def test_without_a_gpu_the_benchmark_of_gpus_says_so_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--results", str(tmp_path / "gpu.jsonl")],
        cwd=PROJECT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith("no GPU is seen by the installed backends (jax, torch, tensorflow)")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("device", "is_gpu"),
    [("cuda:0", True), ("/device:GPU:0", True), ("TFRT_CPU_0", False), ("/device:CPU:0", False), ("cpu", False)],
)
def test_a_gpu_is_known_by_the_name_of_its_device(device, is_gpu):
    assert on_gpu(["cpu", device]) == is_gpu


@pytest.mark.nightly
def test_what_is_measured_on_a_gpu_can_be_measured_without_one():
    code = (
        "from benchmarks import gpu; from cifarnet.backends import choose;"
        "choose('torch'); gpu.STEPS = gpu.CALLS = 1;"
        "print(gpu.product_error() < gpu.LARGEST_ERROR, gpu.images_per_second('fast') > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr


def run_programs(tmp_path, programs, rounds=2, **options):
    """Run programs given as text in rounds; return the results."""
    for module, text in programs.items():
        (tmp_path / f"{module}.py").write_text(text)
    environment = {"PYTHONPATH": str(tmp_path)}
    implementations = [
        Implementation(name=name, program=f"{name}:run", group="loop", options={"word": name}, environment=environment)
        for name in programs
    ]
    absent = Implementation(name="absent", program="absent:run", group="loop", needs=("no_such_package",))
    results = ResultsFile(tmp_path / "results.jsonl", "test", {"model": cifarnet.recipe("seed").model.to_json()})
    with started([*implementations, absent], {}, results, cores=1, cell="batch 30", **options) as workers:
        run_rounds(workers, results, rounds=rounds, cell="batch 30")
    results.close()
    return Results.read(results.path)


def test_an_implementation_that_cannot_start_fails_later_or_is_not_installed_is_a_row_with_its_reason(tmp_path):
    programs = {"good": GOOD, "never_ready": NEVER_READY, "fails_later": FAILS_LATER}
    results = run_programs(tmp_path, programs)
    heads = results.implementations("batch 30")
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


def test_rounds_never_overlap_and_the_first_of_each_is_its_warm_up(tmp_path):
    results = run_programs(tmp_path, {"one": GOOD, "other": TALKS}, rounds=5)
    lines = [line for line in results.lines if line["kind"] in ("turn", "warm-up")]
    assert sorted((line["contender"], line["kind"]) for line in lines) == sorted(
        (name, kind) for name in ("one", "other") for kind in ["warm-up", *["turn"] * 5]
    )
    spans = [line["span"] for line in lines]
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans))
    assert results.implementations("batch 30")["other"]["said"] == "other"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak in a second way")
def test_the_peak_memory_of_an_implementation_is_its_own(tmp_path):
    held = np.ones(400_000_000, np.uint8)
    results = run_programs(tmp_path, {"light": TELLS_ITS_PEAK}, rounds=1)
    [peak_bytes], [status] = (results.values("batch 30", "light", key) for key in ("peak_memory_bytes", "status"))
    told_bytes = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert told_bytes <= peak_bytes < told_bytes + 2**20 < len(held)


def test_a_peak_memory_that_counts_the_driver_is_not_shown_and_a_right_one_is(tmp_path):
    run_programs(tmp_path, {"good": GOOD})
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


def test_an_implementation_with_other_answers_is_refused_before_it_may_be_timed(tmp_path):
    results = run_programs(tmp_path, {"wrong": WRONG}, check=check_probabilities(np.full((100, 10), 0.1, np.float32)))
    assert results.implementations("batch 30")["wrong"]["kind"] == "refused"
    assert results.implementations("batch 30")["wrong"]["reason"] == "a probability differs by 1.0e-01 from cifarnet's"
    assert not results.values("batch 30", "wrong", "seconds")


@pytest.mark.parametrize(("change", "accepted"), [(0.0, True), (5e-5, True), (2e-4, False), (np.nan, False)])
def test_probabilities_are_checked_by_the_largest_difference(change, accepted, tmp_path):
    expected = np.full((100, 10), 0.1, np.float32)
    np.save(tmp_path / "answers.npy", expected[:7] + np.eye(7, 10, dtype=np.float32) * np.float32(change))
    assert (check_probabilities(expected)(tmp_path) is None) == accepted


@pytest.mark.parametrize(("wrong", "accepted"), [(0, True), (1, True), (3, False), (2000, False)])
def test_classes_are_checked_by_how_many_are_equal(wrong, accepted, tmp_path):
    expected = np.tile(np.eye(10, dtype=np.float32), (200, 1))
    classes = expected.argmax(axis=1)
    classes[:wrong] += 1
    np.save(tmp_path / "answers.npy", classes)
    assert (check_classes(expected)(tmp_path) is None) == accepted


def test_an_implementation_without_answers_to_the_files_is_refused(tmp_path):
    np.save(tmp_path / "answers.npy", np.array([], int))
    assert check_classes(np.eye(10, dtype=np.float32))(tmp_path) == "0 answers"


def test_the_operations_of_the_recipe_are_those_counted_manually():
    layers = [
        *[(32 * 32, 27, 32), (16 * 16, 9 * 32, 64), (8 * 8, 9 * 64, 128)],
        *[(1, 4 * 4 * 128, 512), (1, 512, 256), (1, 256, 128), (1, 128, 10)],
    ]  # pixels that come out, values that each is computed from, filters or units
    first, *rest = (2 * math.prod(layer) for layer in layers)
    config = cifarnet.recipe("seed").model
    assert inference_operations(config.to_json()) == forward_operations(config) == first + sum(rest)
    # The first layer needs no gradient of its inputs.
    assert training_operations(config.to_json()) == 2 * first + 3 * sum(rest)


def test_the_operations_of_a_network_with_batch_normalization_are_those_of_its_model_file():
    found = inspect_model(pretrained.MODEL)
    config = cifarnet.ModelConfig.from_json(found.contract["model"])
    assert config.ghost_batch
    assert forward_operations(config) == 2 * found.multiply_adds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"whitening": 2, "global_pooling": "max"}, "whitening 2, global_pooling max, which"),
        ({"convolutions_per_block": 2, "pixel_range": "unit"}, "pixel_range unit, convolutions_per_block 2, which"),
        ({"flip": True}, "flip True, which"),
    ],
)
def test_a_run_whose_network_the_baselines_cannot_build_is_refused_in_one_line(changes, message):
    model = cifarnet.recipe("seed").model.to_json()
    require_stock(Path("model.onnx"), {"model": model})
    contract = {"model": model | changes, "flip": changes.get("flip", False)}
    with pytest.raises(SystemExit, match=re.escape(f"error: model.onnx has {message}")):
        require_stock(Path("model.onnx"), contract)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_growth_of_a_power_law_is_its_power(power):
    works = [10.0, 100.0, 1000.0]
    np.testing.assert_allclose(growth(works, [3 * work**power for work in works]), power)


def test_the_percentile_is_a_sample():
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([5.0], 99) == 5.0


def test_the_results_of_each_benchmark_are_stored():
    others = {"ablation", "own_images", "recipes", "tuning"}
    assert {path.stem for path in STORED.glob("*.jsonl")} >= others.union(TOY_ROWS)


@pytest.mark.parametrize("path", sorted(STORED.glob("*.jsonl")), ids=lambda path: path.name)
def test_stored_results_open_with_the_machine(path):
    head = json.loads(path.read_text().splitlines()[0])
    machine = head["machine"]  # of the oldest trials of tuning nothing but its kind is known
    assert machine if path.name == "tuning.jsonl" else machine["processor"]
    assert "date" not in json.dumps(head)


@pytest.mark.nightly
def test_a_recipe_is_timed_from_the_start_of_its_process(tmp_path):
    results = tmp_path / "recipes.jsonl"
    options = [
        "--results",
        str(results),
        "--data",
        "synthetic",
        "--changed",
        json.dumps({"filters": [4, 4, 4], "epochs": 2}),
    ]
    command = ["-m", "benchmarks.recipes", "fast", "torch", "3", "4", *options]
    done = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = trainings(results)
    assert [training.head["seed"] for training in found] == [3, 4]
    for training in found:
        assert [epoch["epoch"] for epoch in training.epochs] == [1, 2]
        assert 0 < training.epochs[0]["seconds"] < training.epochs[1]["seconds"] <= training.end["seconds"]
        assert {"test_accuracy", "flip_test_accuracy"} <= set(training.end)
    assert "| `fast` | torch | 3, 4 |" in done.stdout
    assert results.with_suffix(".png").exists()


def test_the_short_table_has_the_fastest_framework_of_each_recipe(tmp_path):
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
    _, _, *rows = short_table(path).splitlines()
    assert [row.split(" | ")[:3] for row in rows] == [["| `seed`", "jax", "0"], ["| `fast`", "torch", "0, 0"]]
    assert "| 6.0 (5.0 to 7.0) | 91.00% (90.00 to 92.00) | 95.00% | 2 cores of A Processor |" in rows[1]


def test_the_trials_for_strong_stand_beside_it_the_lowest_loss_first(tmp_path):
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
        "| 2 | 0, 0 | 72.50% (70.00 to 75.00) | 0.2750 | 3.0 | 90.00% | 91.00% | 2 cores of A Processor |"
    )
    assert f"| {', '.join(map(str, cifarnet.recipe('strong').model.filters))} |" in second
    assert "| 60.00% | 0.4000 |" in second


def test_a_recipe_that_fails_leaves_no_results(tmp_path):
    command = ["-m", "benchmarks.recipes", "slow", "torch", "0", "--results", str(tmp_path / "recipes.jsonl")]
    done = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "slow on torch with seed 0 ended with code 1" in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.nightly
def test_own_images_are_trained_on_in_every_way(tmp_path):
    code = (
        "import json, sys, cifarnet; from dataclasses import replace; from pathlib import Path;"
        "from benchmarks.own_images import TWO, measure, of_classes, train_others;"
        "from cifarnet.data import synthetic; from cifarnet.dataset import CIFAR10_LABELS;"
        "cifarnet.choose_backend('torch'); images = replace(synthetic(train=100, test=40), labels=CIFAR10_LABELS);"
        "origin = train_others(images, Path(sys.argv[1]), 1, 1);"
        "print(json.dumps(measure(1, of_classes(images, TWO), 6, 1, trials=1, origin=origin)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout.splitlines()[-1])
    assert [line["way"] for line in lines] == list(own_images.WAYS)
    assert all(line["test_images"] == 8 and 0 <= line["test_accuracy"] <= 1 for line in lines)
    stored = tmp_path / "own_images.jsonl"
    stored.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(own_images.table(stored).splitlines()) == 2 + len(lines)


def trials_of(name, accuracies, epochs=6, processor="A Processor"):
    rest = {"trial": name, "settings": {"epochs": epochs}, "machine": {"cores": 2, "processor": processor}}
    measured = {"flip_accuracy": 0.95, "minutes": 4.0}
    for seed, accuracy in enumerate(accuracies):
        yield {"seed": seed, "validation": {"accuracy": accuracy, "loss": 0.5}} | rest | measured


def test_the_table_of_the_ablation_has_the_recipe_first_and_what_each_change_costs(tmp_path):
    path = tmp_path / "ablation.jsonl"
    append(path, *trials_of("no flips", (0.88, 0.90)), *trials_of("no shifts", (0.86, 0.88)))
    append(path, *trials_of("one seed alone", (0.95,)))
    assert "| no flips | 6 | 2 | 89.00% (88.00 to 90.00) |  | 95.00% |" in ablation_table(path)  # nothing to compare
    append(path, *trials_of("the recipe", (0.91, 0.93)), *trials_of("no shifts", (0.92, 0.94), epochs=10))
    append(path, *trials_of("the recipe", (0.93, 0.95), epochs=10))
    append(path, *trials_of("the recipe", (0.81, 0.83), processor="Another"))
    append(path, *trials_of("no whitening", (0.80, 0.80), processor="Another"))
    append(path, *trials_of("on a third alone", (0.99, 0.99), processor="A Third"))
    _, _, *found, _, machines = ablation_table(path).splitlines()
    assert machines == "On 2 cores of A Processor and 2 cores of A Third and 2 cores of Another."
    cells = [row.strip("| ").split(" | ") for row in found]
    assert [(name, epochs, points) for name, epochs, _, _, points, *_ in cells] == [
        ("the recipe", "6", ""),
        ("no random crop", "6", "-5.00"),
        ("no flips", "6", "-3.00"),
        ("no whitening", "6", "-2.00"),
        ("on a third alone", "6", ""),
        ("the recipe", "10", ""),
        ("no random crop", "10", "-1.00"),
    ]
