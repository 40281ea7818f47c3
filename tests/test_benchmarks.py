"""The benchmarks run at toy size, run rounds one by one, and hide no implementation that fails."""

import itertools
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import gpu, own_images
from benchmarks.harness.records import WRONG_MEMORY, WRONG_MEMORY_NOTE, Results, ResultsFile
from benchmarks.harness.rounds import Implementation, run_rounds, started
from benchmarks.inference.__main__ import require_stock
from benchmarks.inference.table import percentile
from benchmarks.inference.timing import check_classes, check_probabilities
from benchmarks.peak import inference_operations, training_operations
from benchmarks.recipes.published import forward_operations
from benchmarks.recipes.table import trainings
from benchmarks.scaling.table import growth
from benchmarks.training.table import table as training_table

import cifarnet
from cifarnet import pretrained
from cifarnet.export.inspect import inspect_model
from tests.processes import printed, python

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
def test_each_benchmark_runs_at_toy_size_and_leaves_samples_and_a_table(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    stdout = printed("-m", f"benchmarks.{name}", "--toy", "--results", tmp_path, cwd=PROJECT)
    results = Results.read(tmp_path / f"{name}.jsonl")
    assert not [line for line in results.lines if line["kind"] in ("failed", "refused")]
    absent = {line["contender"] for line in results.lines if line["kind"] == "not installed"}
    assert absent <= {"the same file, OpenCV"}  # of the extra [bench] alone
    assert results.head["machine"]["cores"] >= 1
    assert {line["kind"] for line in results.lines} >= {"start", "turn"}
    for row in TOY_ROWS[name]:
        assert row in stdout


def test_without_a_gpu_the_benchmark_of_gpus_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "installed", lambda: ("torch",))  # one framework's import is enough
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "argv", ["gpu", "--results", str(tmp_path / "gpu.jsonl")])
    gpu.main()
    assert capsys.readouterr().out == "no GPU is seen by the installed backends (torch): nothing was measured\n"
    assert not any(tmp_path.iterdir())


def test_a_gpu_is_known_by_the_name_of_its_device():
    assert all(gpu.on_gpu(["cpu", device]) for device in ("cuda:0", "/device:GPU:0"))
    assert not gpu.on_gpu(["TFRT_CPU_0", "/device:CPU:0", "cpu"])


@pytest.mark.nightly
def test_what_is_measured_on_a_gpu_can_be_measured_without_one():
    code = (
        "from benchmarks import gpu; from cifarnet.backends import choose;"
        "choose('torch'); gpu.STEPS = gpu.CALLS = 1;"
        "print(gpu.product_error() < gpu.LARGEST_ERROR, gpu.images_per_second('fast') > 0)"
    )
    assert printed("-c", code, cwd=PROJECT).split() == ["True", "True"]


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


def test_rounds_never_overlap_and_an_implementation_that_fails_or_is_not_installed_is_a_row_with_its_reason(tmp_path):
    programs = {"good": GOOD, "other": TALKS, "never_ready": NEVER_READY, "fails_later": FAILS_LATER}
    results = run_programs(tmp_path, programs)
    heads = results.implementations("batch 30")
    kinds = {"good": "start", "other": "start", "never_ready": "failed", "fails_later": "failed"}
    assert {name: line["kind"] for name, line in heads.items()} == kinds | {"absent": "not installed"}
    assert heads["other"]["said"] == "other"
    text = training_table(tmp_path / "results.jsonl")
    for row in (
        "| never_ready | failed: ValueError: no such thing |",
        "| absent | not installed: no_such_package |",
        "| fails_later | failed: ValueError: out of breath |",
    ):
        assert row in text
    lines = [line for line in results.lines if line.get("contender") in ("good", "other") and "span" in line]
    assert sorted((line["contender"], line["kind"]) for line in lines) == [
        (name, kind) for name in ("good", "other") for kind in ("turn", "turn", "warm-up")
    ]
    spans = [line["span"] for line in lines]
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans))
    assert_peak_memory_is_shown_unless_it_counts_the_driver(tmp_path / "results.jsonl")


def assert_peak_memory_is_shown_unless_it_counts_the_driver(path):
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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak in a second way")
def test_the_peak_memory_of_an_implementation_is_its_own(tmp_path):
    held = np.ones(200_000_000, np.uint8)
    results = run_programs(tmp_path, {"light": TELLS_ITS_PEAK}, rounds=1)
    [peak_bytes], [status] = (results.values("batch 30", "light", key) for key in ("peak_memory_bytes", "status"))
    told_bytes = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert told_bytes <= peak_bytes < told_bytes + 2**20 < len(held)


def test_an_implementation_with_other_answers_is_refused_before_it_may_be_timed(tmp_path):
    results = run_programs(tmp_path, {"wrong": WRONG}, check=check_probabilities(np.full((100, 10), 0.1, np.float32)))
    assert results.implementations("batch 30")["wrong"]["kind"] == "refused"
    assert results.implementations("batch 30")["wrong"]["reason"] == "a probability differs by 1.0e-01 from cifarnet's"
    assert not results.values("batch 30", "wrong", "seconds")


def test_probabilities_are_checked_by_the_largest_difference_and_classes_by_how_many_are_equal(tmp_path):
    probabilities, answers = np.full((100, 10), 0.1, np.float32), tmp_path / "answers.npy"
    for change, accepted in ((0.0, True), (5e-5, True), (2e-4, False), (np.nan, False)):
        np.save(answers, probabilities[:7] + np.eye(7, 10, dtype=np.float32) * np.float32(change))
        assert (check_probabilities(probabilities)(tmp_path) is None) == accepted
    expected = np.tile(np.eye(10, dtype=np.float32), (200, 1))
    for wrong, accepted in ((0, True), (1, True), (3, False), (2000, False)):
        classes = expected.argmax(axis=1)
        classes[:wrong] += 1
        np.save(answers, classes)
        assert (check_classes(expected)(tmp_path) is None) == accepted
    np.save(answers, np.array([], int))
    assert check_classes(expected)(tmp_path) == "0 answers"


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
    config = cifarnet.ModelConfig.from_json(found.contract.document["model"])
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


def test_the_growth_of_a_power_law_is_its_power_and_the_percentile_is_a_sample():
    works = [10.0, 100.0, 1000.0]
    for power in (0.5, 1.0):
        np.testing.assert_allclose(growth(works, [3 * work**power for work in works]), power)
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([5.0], 99) == 5.0


def test_the_results_of_each_benchmark_are_stored_and_open_with_the_machine():
    stored = {path.stem: json.loads(path.read_text().splitlines()[0]) for path in STORED.glob("*.jsonl")}
    assert stored.keys() >= {"ablation", "own_images", "recipes", "tuning"}.union(TOY_ROWS)
    for name, head in stored.items():
        # Of the oldest trials of tuning nothing but the machine's kind is known.
        assert head["machine"] if name == "tuning" else head["machine"]["processor"], name
        assert "date" not in json.dumps(head), name


@pytest.mark.nightly
def test_a_recipe_is_timed_from_the_start_of_its_process(tmp_path):
    results = tmp_path / "recipes.jsonl"
    changed = json.dumps({"filters": [4, 4, 4], "epochs": 2})
    options = ["--results", results, "--data", "synthetic", "--changed", changed]
    stdout = printed("-m", "benchmarks.recipes", "fast", "torch", "3", "4", *options, cwd=PROJECT)
    found = trainings(results)
    assert [training.head["seed"] for training in found] == [3, 4]
    for training in found:
        assert [epoch["epoch"] for epoch in training.epochs] == [1, 2]
        assert 0 < training.epochs[0]["seconds"] < training.epochs[1]["seconds"] <= training.end["seconds"]
        assert {"test_accuracy", "flip_test_accuracy"} <= set(training.end)
    assert "| `fast` | torch | 3, 4 |" in stdout
    assert results.with_suffix(".png").exists()


def test_a_recipe_that_fails_leaves_no_results(tmp_path):
    done = python(
        "-m", "benchmarks.recipes", "slow", "torch", "0", "--results", tmp_path / "recipes.jsonl", cwd=PROJECT
    )
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
    lines = json.loads(printed("-c", code, tmp_path / "runs", cwd=PROJECT).splitlines()[-1])
    assert [line["way"] for line in lines] == list(own_images.WAYS)
    assert all(line["test_images"] == 8 and 0 <= line["test_accuracy"] <= 1 for line in lines)
    stored = tmp_path / "own_images.jsonl"
    stored.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(own_images.table(stored).splitlines()) == 2 + len(lines)
