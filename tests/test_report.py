"""A report shows what was measured and what is missing, escapes names, and needs no network."""

import base64
import html
import inspect
import io
import json
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.main import get_command

from cifarnet.cli import program, train
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import RunError
from cifarnet.evaluation.metrics import measure
from cifarnet.recipes import RECIPES, SETTINGS
from cifarnet.report import CARD, PAGE, findings, write_report
from cifarnet.report.card import draw_card
from cifarnet.report.charts import draw_figures
from cifarnet.report.commands import OPTIONS, settings_beyond_options, split_note, train_command
from cifarnet.report.evidence import Absent, read_evidence
from cifarnet.report.page import draw_page
from cifarnet.run.find import find_run
from cifarnet.run.record import RunRecord, StartedFrom
from tests.records import RUNNING, document, put
from tests.report_runs import dataset_of, evaluation_of, history_of, record_of, run_of, write_model

ATTACK = '<script>alert("x")</script>'
PICTURES = ("curves", "confusion", "reliability", "classes", "errors", "robustness")


@pytest.fixture(scope="module")
def dataset():
    return dataset_of()


@pytest.fixture(scope="module")
def evaluation(dataset):
    return evaluation_of(dataset)


@pytest.fixture
def run(tmp_path, monkeypatch, dataset):
    monkeypatch.chdir(tmp_path)
    return run_of(tmp_path / "runs" / "20260304-050607-seed-torch", dataset)


def page_of(run, evaluation, dataset):
    return draw_page(read_evidence(run, "onnxruntime"), evaluation, dataset, "onnxruntime")


def card_of(run, evaluation):
    return draw_card(read_evidence(run, "onnxruntime"), evaluation, "onnxruntime")


def text_of(page):
    """Return what a person reads: without tags and styles, each blank as one space."""
    bare = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(bare).replace("\u00a0", " ").split())


def header_of(card):
    return yaml.safe_load(card.split("---\n")[1])


@pytest.fixture(scope="module")
def page(tmp_path_factory, evaluation, dataset):
    return page_of(run_of(tmp_path_factory.mktemp("runs") / "20260304-050607-seed-torch", dataset), evaluation, dataset)


# Contents


def test_the_page_has_the_metrics_of_the_evaluation(page, evaluation):
    text, low, high = text_of(page), evaluation.accuracy_interval.low, evaluation.accuracy_interval.high
    assert f"{100 * evaluation.accuracy:.1f} % of 120 test images classified correctly" in text
    assert f"95% interval {100 * low:.2f}% to {100 * high:.2f}%; chance level 33.3%" in text
    assert f"Top-2 accuracy {100 * evaluation.top2_accuracy:.1f}%" in text
    assert f"Log loss {evaluation.loss:.3f} nats" in text
    assert f"Calibration error {100 * evaluation.reliability.ece:.1f}%" in text
    assert f"{100 * evaluation.calibrated.ece:.1f}% calibrated" in text
    assert "Time per epoch 5.0 s on 2 cores" in text
    assert "Best class: " in text


def test_the_page_has_every_part_with_its_data(page, evaluation, dataset):
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", page) == [
        *("Training", "Classes", "Confusion matrix", "Most confident errors", "Calibration", "Selective prediction"),
        *("Robustness", "Parity check", "Environment", "Reproduce"),
    ]
    assert 'class="absent"' not in page
    text = text_of(page)
    assert "cifarnet evaluate cifarnet export --onnx cifarnet robustness" in text
    assert "lowest after epoch 7; after epoch 12 training stopped: the last epoch is done" in text
    assert "The mean accuracy on corrupted images is 56.7% (mean corruption error 43.3%), on clean ones 80.0%" in text
    assert "Worst: jpeg compression, pixelate, elastic " in text
    assert "test set, optimized 120" in text  # of a file with the former spelling
    assert "Largest probability difference 1.5e-06 Tolerance of probabilities 1.0e-05" in text
    table = page[page.index('class="matrix"') : page.index("Most confused pairs")]
    numbers = [int(each) for each in re.findall(r'<td class="(?:right|wrong)[^>]*>(\d+)</td>', table)]
    np.testing.assert_array_equal(np.reshape(numbers, (3, 3)), evaluation.confusion)
    sources = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page)
    assert len(sources) == len(evaluation.confident_errors) > 0
    for source, error in zip(sources, evaluation.confident_errors, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))
        np.testing.assert_array_equal(shown, dataset.test.images[error.index])


def test_page_card_and_figures_are_written_to_the_run_folder_and_stale_figures_removed(
    run, evaluation, dataset, monkeypatch
):
    with monkeypatch.context() as without_figures:
        without_figures.setattr("cifarnet.report.draw_figures", lambda *_: {})
        (run.path / "robustness.png").write_bytes(b"of somebody else, since there is no report yet")
        write_report(run, evaluation, dataset, "onnxruntime")
        assert (run.path / "robustness.png").exists()
    assert write_report(run, evaluation, dataset, "onnxruntime") == run.path / PAGE
    assert (run.path / PAGE).read_text() == page_of(run, evaluation, dataset)
    assert (run.path / CARD).read_text() == card_of(run, evaluation)
    for name in PICTURES:
        with Image.open(run.path / f"{name}.png") as picture:
            assert picture.format == "PNG"
            assert len(np.unique(np.asarray(picture.convert("L")))) > 5  # not blank
    assert not list(run.path.glob(".*"))
    monkeypatch.setattr("cifarnet.report.draw_figures", lambda *_: {"confusion.png": b"drawn"})
    write_report(run, evaluation, dataset, "onnxruntime")
    assert {path.stem for path in run.path.glob("*.png")} == {"curves", "confusion"}


# Missing and damaged parts


def test_a_missing_part_has_the_command_that_creates_it(run):
    for part, file, why, command in (
        ("robustness", "robustness.json", "there is no robustness.json.", "robustness {}"),
        ("parity", "model.parity.json", "there is no model.parity.json.", "export {} --onnx"),
        ("parity", "model.onnx", "This run is not exported yet.", "export {} --onnx"),
    ):
        (run.path / file).unlink()
        absent = getattr(read_evidence(run, "onnxruntime"), part)
        assert absent.why.endswith(why)
        assert absent.command == f"cifarnet {command.format(run.path.name)}"


def test_a_run_with_only_a_record_is_reported(tmp_path, dataset):
    run = run_of(
        tmp_path / "run", dataset, metrics={}, best_epoch=None, why_stopped="interrupted", status="interrupted"
    )
    record = document(run)
    del record["calibration"], record["seconds_per_epoch"], record["elapsed_s"]
    put(run, record)
    for name in ("model.onnx", "model.parity.json", "robustness.json", "history.csv"):
        (run.path / name).unlink()
    text = text_of(page_of(run, evaluation_of(dataset, None), dataset))
    assert "No temperature was fitted for this run. To get it: cifarnet evaluate run" in text
    assert "No epoch has finished yet. To resume: cifarnet train --resume" in text
    assert "its status is interrupted" in text
    assert "Not measured." in card_of(run, evaluation_of(dataset, None))


def test_a_finished_run_without_its_history_is_not_to_be_resumed(tmp_path, dataset):
    run = run_of(tmp_path / "run", dataset)
    (run.path / "history.csv").unlink()
    text = text_of(page_of(run, evaluation_of(dataset, None), dataset))
    assert "The run has lost history.csv, its results of each epoch." in text
    assert "To resume" not in text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model.parity.json", {"sha256": "0" * 64}, "in model.parity.json is of another file than model.onnx"),
        ("robustness.json", {"sha256": "0" * 64}, "in robustness.json is of another file than model.onnx"),
        ("robustness.json", {"images_in_split": 500}, "in robustness.json is of other images than the run's."),
        ("model.parity.json", {"checks": []}, "in model.parity.json is damaged"),
        ("model.parity.json", {"accuracy": math.nan}, "in model.parity.json is damaged"),
        ("robustness.json", {"clean": {"hits": -1}}, "in robustness.json is damaged"),
        ("robustness.json", {"clean": {"accuracy": math.nan}}, "in robustness.json is damaged"),
        *(
            (file, text, f"in {file} is damaged")
            for file in ("model.parity.json", "robustness.json")
            for text in ("", "[]", '{"sha256": SHA}', "[" * 9999)
        ),
    ],
)
def test_results_of_another_file_or_other_images_and_damaged_ones_are_not_shown(run, file, change, message):
    whole = json.loads((run.path / file).read_text())
    sha256 = json.dumps(whole["sha256"])
    content = json.dumps(whole | change) if isinstance(change, dict) else change.replace("SHA", sha256)
    (run.path / file).write_text(content)
    evidence = read_evidence(run, "onnxruntime")
    part = evidence.parity if "parity" in file else evidence.robustness
    assert isinstance(part, Absent)
    assert message in part.why


def test_a_damaged_calibration_is_refused(run):
    whole = document(run)["calibration"]
    words = whole | {"coverage": [{"coverage": "all", "threshold": 0.1, "accuracy": 0.9}]}
    put(run, document(run) | {"calibration": words})
    with pytest.raises(RunError, match=r"damaged \(calibration\.coverage\[0\]\.coverage is 'all'; expected a num"):
        read_evidence(run, "onnxruntime")


def test_a_history_with_nan_is_drawn(run, evaluation, dataset):
    rows = history_of()
    run.write_history([*rows[:-1], replace(rows[-1], train_loss=math.nan, validation_loss=math.inf)])
    page = page_of(run, evaluation, dataset)
    assert not re.search(r'points="[^"]*(nan|inf)', page)
    assert not re.search(r'c[xy]="(nan|inf)', page)


def test_the_best_epoch_has_the_lowest_loss_to_within_min_delta_and_the_text_says_what_the_training_loss_includes(run):
    def curves(**changes):
        put(run, record | changes)
        return findings.curves(read_evidence(run, "onnxruntime"))

    rows, record = history_of(), document(run)
    run.write_history([*rows[:-1], replace(rows[-1], validation_loss=rows[6].validation_loss - 1e-4)])
    sentence = "The validation loss was lowest, to within 0.001 nats, after epoch 7; after epoch 12"
    smoothing = "The training loss includes label smoothing."
    assert sentence in curves()
    assert sentence.replace("0.001 nats", "0.1%") in curves(custom={"loss": {"name": "focal"}})
    assert smoothing not in curves()
    assert smoothing in curves(train=record["train"] | {"label_smoothing": 0.2})
    weighted = record["train"] | {"class_weights": "balanced"}
    assert "The training loss includes class weights." in curves(train=weighted)
    both = "The training loss includes label smoothing and class weights."
    assert both in curves(train=weighted | {"label_smoothing": 0.2})
    other = curves(train=weighted | {"label_smoothing": 0.2}, custom={"loss": {"name": "focal"}})
    assert other.endswith("not the cross-entropy of the other figures. The training loss includes class weights.")


def test_near_ties_are_excepted_from_equal_predictions(run):
    exact = findings.parity(read_evidence(run, "onnxruntime").parity)
    assert exact == "The file predicts the same class as the trained network for all 120 test images."
    write_model(run, proof={"bars": {"probability": 1e-5, "accuracy_drop": 0.0, "margin": 1e-4}})
    sentence = findings.parity(read_evidence(run, "onnxruntime").parity)
    assert sentence.endswith(" for all 120 test images, except near ties with a top-2 margin of at most 0.0001.")


def test_test_time_augmentation_is_mentioned_where_it_applies(run, evaluation, dataset):
    calibration = document(run)["calibration"] | {"images": 4321}
    write_model(run, flip=True, calibration=calibration)
    page, card = text_of(page_of(run, evaluation, dataset)), card_of(run, evaluation)
    for text in (page, card):
        assert "Both apply test-time augmentation." in text
        assert "with torch, evaluated with test-time augmentation. " in text
        assert "4,321 validation images" in text
    assert "without TTA" in card
    assert "cifarnet evaluate --tta 2 cifarnet export --onnx --tta 2 cifarnet robustness" in page
    network = draw_card(read_evidence(run, "torch"), evaluation, "torch")
    for words in ("evaluated with test-time", "4,321", "without TTA"):
        assert words not in network
    assert "Both apply test-time augmentation." in network  # the parity check is of the file
    write_model(run, flip=True, calibration=calibration | {"coverage": None})
    assert read_evidence(run, "onnxruntime").calibration == Absent(
        "model.onnx does not contain its calibration.", f"cifarnet export {run.path.name} --onnx --tta 2"
    )


def test_a_warm_start_is_mentioned(run, evaluation, dataset):
    origin = {"run": "20260303-111213-fast-jax", "weights_sha256": "0" * 64}
    put(run, document(run) | {"warm_start": origin})
    page, card = text_of(page_of(run, evaluation, dataset)), card_of(run, evaluation)
    assert "Started from the convolutions of 20260303-111213-fast-jax" in page
    assert "The convolutions were initialized from another run, 20260303-111213-fast-jax, which" in card
    assert "cifarnet train --from 20260303-111213-fast-jax --data" in page


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("runs/my first", "'my first'"),
        ("my runs/mine", "mine --runs 'my runs'"),
        ("{}/mine", "mine --runs {}"),
    ],
)
def test_every_command_on_the_page_parses_and_finds_the_run(tmp_path, monkeypatch, dataset, evaluation, path, words):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    begun = {"metrics": {}, "best_epoch": None, "why_stopped": "interrupted", "status": "interrupted"}
    run = run_of(Path(path.format(tmp_path)), dataset, **begun)
    record = document(run)
    put(run, {name: value for name, value in record.items() if name != "calibration"})
    for name in ("model.onnx", "history.csv"):
        (run.path / name).unlink()
    written = html.unescape(page_of(run, evaluation, dataset)) + card_of(run, evaluation)
    lines = re.findall(r"^(?:.*<code>)?(cifarnet .*?)(?:</code>.*)?$", written, re.MULTILINE)
    ours = [line for line in lines if words.format(tmp_path) in line]
    assert {line.split()[1] for line in ours} == {"train", "evaluate", "export", "robustness", "report"}
    for line in lines:
        _, command, *arguments = shlex.split(line)
        given = get_command(program()).commands[command].make_context(command, arguments).params
        name = next(filter(None, (given.get(each) for each in ("run", "models", "model", "resume"))), None)
        assert (line in ours) == (name is not None), line
        if name:
            assert find_run(given["runs"], name if isinstance(name, str) else name[0]).path.samefile(run.path)


# Names


@pytest.fixture
def odd():
    return dataset_of((ATTACK, "a" * 300, "$x_{$ & | *b*", "猫\n\t- {{ 7 * 7 }}", "' onload='x"))


def test_class_names_are_escaped_in_page_and_card_and_drawn_verbatim(tmp_path, odd):
    run, evaluation = run_of(tmp_path / "run", replace(odd, name="--- x: [<b>")), evaluation_of(odd)
    page, card = page_of(run, evaluation, odd), card_of(run, evaluation)
    assert "<script" not in page
    assert ATTACK in html.unescape(page)
    assert "{{ 7 * 7 }}" in page
    assert "' onload='x" not in page
    assert header_of(card)["model-index"][0]["results"][0]["dataset"]["name"] == "--- x: [<b>"
    body = card.split("---\n", 2)[2].split("<!-- cifarnet: SHA-256 ")[0]
    assert not re.search(r"(?<!\\)<", body.replace("(x < y)", ""))
    (row,) = [line for line in body.splitlines() if line.startswith(r"| \$x\_{\$ ")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    assert r"猫 - {{ 7 \* 7 }}" in body
    assert len(draw_figures(evaluation, odd, Absent("", ""))) == 4  # the suite makes errors of warnings


def test_control_and_direction_override_characters_and_what_is_no_utf8_are_escaped_in_page_and_card(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("cifarnet.report.draw_figures", lambda *_: {})  # they take a second
    odd = dataset_of(("\x1b[2J", "right \u202eot left"))
    run = run_of(tmp_path / "my \udcff \u202enur", replace(odd, name="photos \udcff \u202etset"))
    page = write_report(run, evaluation_of(odd), odd, "onnxruntime").read_text(encoding="utf-8")
    card = (run.path / CARD).read_text(encoding="utf-8")
    for text in (page, card):
        assert all(line.replace("\N{NO-BREAK SPACE}", " ").isprintable() for line in text.splitlines())
    for shown in (r"\x1b[2J", r"right \u202eot left", r"my \udcff \u202enur", r"photos \udcff \u202etset"):
        assert shown in page
    assert "\N{NO-BREAK SPACE}kB" in page
    assert r"right \\u202eot left" in card
    assert r"photos \\udcff" in card.split("---\n", 2)[2]
    model = header_of(card)["model-index"][0]
    assert model["name"].startswith("my ")
    assert model["results"][0]["dataset"]["name"].endswith("\u202etset")


def test_a_hundred_classes_are_drawn_as_a_small_confusion_matrix(tmp_path):
    many = dataset_of(tuple(f"class {index}" for index in range(100)), images=300)
    page = page_of(run_of(tmp_path / "run", many), evaluation_of(many), many)
    assert 'class="dots"' in page
    assert page.count("<td") < 1000
    assert len(page) < 400_000


def test_a_perfect_classifier_has_no_gallery_and_no_worst_class(run, dataset):
    perfect = measure(9 * np.eye(3, dtype=np.float32)[dataset.test.labels], dataset.test.labels, dataset.labels)
    text = text_of(page_of(run, perfect, dataset))
    assert "errors.png" not in draw_figures(perfect, dataset, Absent("", ""))
    assert "Best class: " not in findings.summary(read_evidence(run, "onnxruntime"), perfect)
    assert "every test image was classified correctly" in text
    assert "Every prediction is correct." in text
    logits = 9 * np.eye(3, dtype=np.float32)[dataset.test.labels]
    logits[np.flatnonzero(dataset.test.labels == 1)[0]] = (9, 0, 0)  # one error, in the class 1
    tied = findings.classes(measure(logits, dataset.test.labels, dataset.labels))
    assert re.match(rf"The recall is highest for ({dataset.labels[0]}|{dataset.labels[2]}) and 1 other class \(", tied)


# Self-contained and private


def test_the_page_loads_nothing_runs_nothing_and_reveals_no_location(run, page, evaluation):
    for text in (page, card_of(run, evaluation)):
        assert "somebody" not in text
        assert "path/to/photos" in text
    page = re.sub(r"base64,[^\"]*", "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|<script|<link|<iframe|javascript:", page)
    assert set(re.findall(r'(?:src|href)="(.)', page)) == {"d", "#"}
    assert "default-src 'none'" in page


# The model card


def test_the_model_card_has_every_section_and_the_metadata_of_the_hugging_face_hub(run, evaluation):
    card = card_of(run, evaluation)
    assert re.findall(r"^## (.*)", card, flags=re.MULTILINE) == [
        *("Model details", "Intended use and limits", "Training data", "Training", "Evaluation", "Calibration"),
        *("Robustness", "Cost", "How to use", "How to reproduce"),
    ]
    header = header_of(card)
    (model,) = header["model-index"]
    (result,) = model["results"]
    assert (header["pipeline_tag"], header["library_name"]) == ("image-classification", "onnx")
    assert (result["task"]["type"], result["dataset"]["type"]) == ("image-classification", "imagefolder")
    assert result["metrics"][0] == {"type": "accuracy", "name": "Accuracy", "value": round(evaluation.accuracy, 6)}
    assert "license" not in header
    assert "datasets" not in header  # a hub knows no folder of a person's own
    record = document(run)
    put(run, record | {"data": record["data"] | {"source": "cifar10"}})
    assert header_of(card_of(run, evaluation))["datasets"] == ["uoft-cs/cifar10"]


# The commands

EARLIER = StartedFrom(run="earlier", weights_sha256="")


def recorded(recipe, model, train):
    """Return the record of a run with these settings on CIFAR-10."""
    settings = {"recipe": recipe, "model": model.to_json(), "train": train.to_json()}
    data = RUNNING["data"] | {"source": "cifar10"}
    return RunRecord.from_json(RUNNING | settings | {"data": data, "backend": "jax"})


def test_the_command_names_what_differs_from_the_recipe():
    assert SETTINGS & set(inspect.signature(train.command).parameters) == OPTIONS
    settings = TrainConfig(seed=3, batch_size=64, floor_fraction=0.5)
    record = recorded("seed", ModelConfig(dropout=0.1, classes=3), settings)
    assert train_command(record) == (
        "cifarnet train --recipe seed --data cifar10 --backend jax --dropout 0.1 --batch-size 64 --seed 3"
    )
    assert settings_beyond_options(record) == {"floor_fraction": 0.5}


def test_the_command_of_a_warm_start_lists_what_differs_from_its_recipe():
    model = ModelConfig(dropout=0.3, filters=(8, 8), classes=3)  # that run may have had another dropout
    from_scratch = recorded("seed", model, TrainConfig(floor_fraction=0.5))
    record = replace(from_scratch, warm_start=EARLIER)
    assert train_command(record) == (
        "cifarnet train --from earlier --data cifar10 --backend jax --seed 0 --validation-fraction 0.3 --dropout 0.3"
    )
    fast = replace(recorded("fast", RECIPES["fast"].model, RECIPES["fast"].train), warm_start=EARLIER)
    assert "--dropout" not in train_command(fast)  # which a network without dense layers refuses
    assert settings_beyond_options(record) == {"floor_fraction": 0.5}
    assert settings_beyond_options(from_scratch) == {"filters": (8, 8), "floor_fraction": 0.5}


def test_the_command_of_a_fixed_schedule_fixes_batch_size_and_epochs():
    fast = RECIPES["fast"]
    train = replace(fast.train, epochs=67, patience=67)  # in batches of 512, which the recipe has too
    words = train_command(recorded("fast", fast.model, train))
    for option in ("--batch-size 512", "--epochs 67", "--patience 67"):
        assert option in words


@pytest.mark.parametrize(
    ("source", "split_by", "seed", "started_from", "note"),
    [
        ("cifar10", None, None, "earlier", ""),
        ("/photos", "content", 3, None, ""),
        ("/photos", "content", 0, None, "drawn with seed 0; the command draws with 3."),
        ("/photos", "content", 3, "earlier", "draws with the seed of earlier."),
        ("/photos", "content", 3, "pretrained", ""),
        ("/photos", "position", 3, None, "the command draws by their content."),
        ("synthetic", None, 0, None, "The images were drawn with seed 0; the command draws with 3."),
        (None, None, None, None, "which the command cannot open"),
    ],
)
def test_the_report_says_where_the_command_may_open_other_images(source, split_by, seed, started_from, note):
    data = RUNNING["data"] | {"source": source, "split_by": split_by, "split_seed": seed}
    warm_start = {"warm_start": {"run": started_from, "weights_sha256": ""}} if started_from else {}
    record = RUNNING | {"train": TrainConfig(seed=3).to_json(), "data": data} | warm_start
    found = split_note(RunRecord.from_json(record))
    assert note in found
    assert bool(note) == bool(found)


def test_page_and_card_say_where_the_command_may_open_other_images(tmp_path, dataset, evaluation):
    data = record_of(dataset)["data"] | {"split_by": "content", "split_seed": 9}
    run = run_of(tmp_path / "run", dataset, data=data)
    for text in (text_of(page_of(run, evaluation, dataset)), card_of(run, evaluation)):
        assert "The test split was drawn with seed 9; the command draws with 0." in text
