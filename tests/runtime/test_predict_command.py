"""``cifarnet predict`` prints predictions for people and programs, and continues after a file that cannot be read."""

import csv
import io
import json
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from cifarnet.cli import display
from cifarnet.run.folder import Run
from cifarnet.runtime import Classifier
from tests.png import png_bytes
from tests.records import FINISHED, put
from tests.runtime import models


@pytest.fixture
def feed(monkeypatch):
    """Return a function that puts bytes on standard input."""
    return lambda content: monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


@pytest.fixture
def photos(photos):
    """The folder without the file that is no image."""
    (photos / "notes.txt").unlink()
    return photos


# What comes out


def test_the_table_has_a_line_per_image_with_the_file_last(run, model_path, photos):
    code, lines, talk = run("predict", model_path, photos / "a.png", photos / "b")
    assert (code, talk) == (0, [])
    assert lines == [
        "1.              2.              3.              file",
        f"red   100.00%   green   0.00%   blue    0.00%   {photos}/a.png",
        f"green 100.00%   red     0.00%   blue    0.00%   {photos}/b/1.jpg",
        f"blue  100.00%   red     0.00%   green   0.00%   {photos}/b/2.JPG",
    ]


def test_files_in_folders_that_are_not_read_are_counted_by_extension_on_one_shard(run, model_path, photos):
    note = "note: 3 files are not read, by extension: 2 .psd, 1 without extension"
    for name in ("b/1.PSD", "c.psd", "README", ".hidden.psd"):
        (photos / name).write_bytes(b"")
    (photos / "link").symlink_to(photos / "b")
    for shard, notes in (([], [note]), (["--shard", "0/2"], [note]), (["--shard", "1/2"], [])):
        assert run("predict", model_path, photos, *shard)[2] == notes
    assert run("predict", model_path, photos / "c.psd")[2] != [note]


def test_json_is_one_document_per_line_as_the_library_says_and_an_image_may_come_on_standard_input(
    run, feed, model_path, classifier, photos
):
    content = (photos / "b" / "2.JPG").read_bytes()
    feed(content)
    code, lines, talk = run("predict", model_path, photos / "a.png", "-", photos / "d.gif", "--json", "--top", 2)
    assert (code, talk) == (0, [])
    for line, (name, image) in zip(
        lines,
        {photos / "a.png": photos / "a.png", "-": content, photos / "d.gif": photos / "d.gif"}.items(),
        strict=True,
    ):
        prediction = classifier(image)
        assert json.loads(line) == {
            "file": str(name),
            "label": prediction.label,
            "probability": prediction.probability,
            "confidence": None,
            "top": [{"label": label, "probability": probability} for label, probability in prediction.top(2)],
        }


def test_a_model_of_two_classes_names_both(run, tmp_path, photos):
    narrow = models.graph(
        tensors=[models.numpy_helper.from_array(models.np.eye(3, 2, dtype="float32"), "weights")], classes=2
    )
    (tmp_path / "two.onnx").write_bytes(models.content(narrow, models.contract(labels=["red", "green"])))
    code, lines, _ = run("predict", tmp_path / "two.onnx", photos / "a.png")
    assert (code, lines[0].split()) == (0, ["1.", "2.", "file"])
    (line,) = run("predict", tmp_path / "two.onnx", photos / "a.png", "--json")[1]
    assert [each["label"] for each in json.loads(line)["top"]] == ["red", "green"]


# Abstaining


@pytest.fixture
def shades(tmp_path):
    """Return a folder with a picture that the calibrated model is sure of, confidence 0.90, and one at 0.40."""
    folder = tmp_path / "shades"
    folder.mkdir()
    for name, red in {"sure.png": 240, "unsure.png": 112}.items():
        Image.new("RGB", (32, 32), (red, 100, 100)).save(folder / name)
    return folder


def confidences(path, shades):
    return [each.prediction.confidence for each in Classifier(path).stream(shades)]


def test_abstaining_takes_the_threshold_of_the_file(run, calibrated_path, shades):
    sure, unsure = confidences(calibrated_path, shades)
    assert unsure < models.CALIBRATION["abstention"]["threshold"] < sure
    code, lines, talk = run("predict", calibrated_path, shades, "--abstain")
    least = "answers have a calibrated confidence of 60.00% or more"
    assert (code, talk) == (0, [least])
    assert lines == [
        "answer              1.                  2.                  file",
        f"red       {100 * sure:6.2f}%   red       {100 * sure:6.2f}%   green       4.88%   {shades}/sure.png",
        f"abstained {100 * unsure:6.2f}%   red       {100 * unsure:6.2f}%   green      30.45%   {shades}/unsure.png",
    ]


def test_another_threshold_may_be_given_and_is_reached_exactly(run, calibrated_path, shades):
    _, unsure = confidences(calibrated_path, shades)
    for threshold, answers in ((0, 2), (repr(unsure), 2), (repr(unsure + 1e-9), 1), (1, 0)):
        code, lines, _ = run("predict", calibrated_path, shades, "--json", "--threshold", threshold)
        assert (code, [json.loads(line)["answer"] is not None for line in lines].count(True)) == (0, answers)
    assert run("predict", calibrated_path, shades, "--json", "--threshold", 1, "--abstain")[1] == lines


def test_json_and_csv_tell_the_answer_the_confidence_and_the_best_guess(run, calibrated_path, shades):
    sure, unsure = confidences(calibrated_path, shades)
    _, lines, _ = run("predict", calibrated_path, shades, "--abstain", "--json")
    found = [json.loads(line) for line in lines]
    assert [(each["answer"], each["label"], each["confidence"]) for each in found] == [
        ("red", "red", sure),
        (None, "red", unsure),
    ]
    assert list(found[0]) == ["file", "answer", "label", "probability", "confidence", "top"]
    _, lines, _ = run("predict", calibrated_path, shades, "--abstain", "--csv", "--top", 1)
    rows = list(csv.reader(lines))
    assert rows[0] == ["file", "answer", "confidence", "label_1", "probability_1"]
    assert run("predict", calibrated_path, shades, "--csv", "--top", 1)[1][0] == "file,label_1,probability_1"
    assert [row[1:4] for row in rows[1:]] == [["red", str(sure), "red"], ["", str(unsure), "red"]]


def test_without_a_threshold_a_temperature_or_a_share_abstaining_is_refused(
    run, model_path, calibrated_path, tmp_path, shades
):
    path = tmp_path / "unsure.onnx"
    path.write_bytes(models.calibrated(abstention=None))
    message = f"{path} contains no threshold, since none reached the target accuracy; expected one: give --threshold"
    assert run("predict", path, shades, "--abstain") == (1, [], [f"error: {message}"])
    assert run("predict", path, shades, "--threshold", 0.5)[0] == 0
    message = (
        f"{model_path} has no calibrated probabilities, which --abstain needs; expected a file with a temperature: "
        "export the run again, or give export_model validation images"
    )
    for options in (["--abstain"], ["--threshold", 0.5]):
        assert run("predict", model_path, shades, *options) == (1, [], [f"error: {message}"])
    for threshold in (-0.1, 1.5, "nan"):
        code, lines, talk = run("predict", calibrated_path, shades, "--threshold", threshold)
        assert (code, lines, "--threshold" in " ".join(talk)) == (2, [], True)


# Long labels


# What goes wrong


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_a_bad_file_is_reported_and_the_others_still_come_out(run, model_path, photos, form):
    (photos / "b" / "1.jpg").write_text("no image")
    code, lines, talk = run("predict", "a" * 300, photos / "a.png", "--json")  # too long to be a file's name
    assert (code, len(lines), "name too long" in talk[-1]) == (1, 1, True)
    code, lines, talk = run("predict", model_path, photos, photos / "gone.png", photos / "a.png", *form)
    assert (code, len(lines)) == (1, 5 + (form != ["--json"]))
    reason = "cannot be used (no image in a known format); expected a whole image: replace it or leave it out"
    assert talk == [
        f"error: {photos}/b/1.jpg {reason}",
        f"error: {photos}/gone.png cannot be read (No such file or directory); expected an image file: check the path",
    ]


def test_where_nothing_can_be_used_nothing_is_on_stdout(run, feed, model_path, photos, tmp_path):
    feed(b"")
    empty = tmp_path / "empty"
    empty.mkdir()
    code, lines, (folder, stdin) = run("predict", model_path, empty, "-")
    assert (code, lines) == (1, [])
    assert folder.startswith(f"error: {empty} has no images; expected at least one file, at any depth, ending")
    assert stdin.startswith("error: standard input: the image cannot be used (no image in a known format); expected")
    assert sorted(run("predict", model_path, empty, "--shard", f"{index}/3")[0] for index in range(3)) == [0, 0, 1]
    (photos / "odd.onnx").write_bytes(b"no model")
    code, lines, (talk,) = run("predict", photos / "odd.onnx", photos / "a.png")
    assert (code, lines) == (1, [])
    assert talk.startswith(f"error: {photos}/odd.onnx is no ONNX file; expected one: use a file written")


def test_arguments_that_do_not_fit_together_or_to_the_model(run, model_path, photos):
    image = photos / "a.png"
    for arguments, message in (
        ([model_path, image, "--top", 0], "--top is 0; expected 1 to 3, the number of the model's classes: change it"),
        ([model_path, image, "--top", 4], "--top is 4; expected 1 to 3, the number of the model's classes: change it"),
        (
            [model_path, image, "--json", "--csv"],
            "--json and --csv were both given; expected one of them at most: leave the other out",
        ),
        (
            [image, model_path, image],
            f"the model {model_path} comes after an image; expected the model first: swap the two",
        ),
        (
            [photos, model_path],
            f"the model {model_path} comes after an image; expected the model first: swap the two",
        ),
        ([model_path], f"only the model {model_path} was given; expected images after it: name files or folders"),
        (
            [model_path, "-", "--shard", "0/2"],
            "--shard was given with -; expected files or folders, which it divides: leave one out",
        ),
        *(
            (
                [model_path, image, f"--shard={shard}"],
                f"--shard is {shard!r}; expected I/N, I from 0 to N-1, such as 0/8 to 7/8: number the tasks of the "
                "array from 0",
            )
            for shard in ("3", "3/3", "-1/3", "a/b", "0/9999999999", "1/2/3")
        ),
    ):
        assert run("predict", *arguments) == (1, [], [f"error: {message}"])


# Without naming the model file


def made_run(runs, name, content):
    """Return a run that began at the time of day in ``name``, with an exported model if ``content`` is given."""
    made = Run(runs / name)
    made.path.mkdir(parents=True)
    put(made, FINISHED | {"started": f"2026-03-04T{name}:00+00:00"})
    if content:
        made.model.write_bytes(content)
    return made


def test_without_a_model_it_is_the_one_of_the_newest_exported_run_and_else_that_of_the_package(run, photos, tmp_path):
    runs, content = tmp_path / "runs", models.content(models.graph(), models.contract(training={}))
    code, lines, talk = run("predict", photos / "a.png", "--json", "--runs", runs)
    assert (code, talk) == (0, ["using the bundled CIFAR-10 classifier"])
    assert json.loads(lines[0])["probability"] == Classifier()(photos / "a.png").confidence
    made_run(runs, "10:00", content)
    exported, newer = made_run(runs, "11:00", content), made_run(runs, "12:00", None)
    note = f"note: the newest run, {newer}, has no exported model: `cifarnet export {newer} --onnx`"
    assert run("predict", photos, "--runs", runs)[2] == [note, f"using {exported.model}"]
    assert run("predict", "latest", photos / "a.png", "--runs", runs)[2] == [note]
    for name in ("11:00", exported.path):
        code, lines, talk = run("predict", name, photos / "a.png", "--json", "--runs", runs)
        assert (code, talk, json.loads(lines[0])["label"]) == (0, [], "red")
    code, _, (line,) = run("predict", newer.path, photos / "a.png")
    assert (code, line.startswith(f"error: {newer} has no model.onnx")) == (1, True)


def test_latest_is_a_run_and_pretrained_is_the_classifier_of_the_package(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("predict", "latest", photos / "a.png")[2] == [
        "error: runs holds no run; expected a folder with run.json: train one with `cifarnet train`"
    ]
    newer = made_run(tmp_path / "runs", "12:00", None)
    assert run("predict", "latest", photos / "a.png")[2][-1].startswith(f"error: {newer} has no model.onnx")
    code, lines, talk = run("predict", "pretrained", photos / "a.png", "--json")
    assert (code, talk) == (0, [])
    prediction, found = Classifier()(photos / "a.png"), json.loads(lines[0])
    assert [(each["label"], each["probability"]) for each in found["top"]] == list(prediction.calibrated[:3])
    (tmp_path / "pretrained").write_bytes((photos / "a.png").read_bytes())  # an image of that name
    assert json.loads(run("predict", "pretrained", "--json")[1][0])["label"] == prediction.label


def test_names_that_would_command_a_terminal_or_break_a_line_are_escaped_but_in_csv_to_a_file(
    run, model_path, photos, monkeypatch
):
    odd = photos / "\x1b[31m\nred.png"
    (photos / "a.png").rename(odd)
    (photos / "\x1b[2J.png").write_text("no image")
    _, lines, talk = run("predict", model_path, odd, photos / "\x1b[2J.png")
    assert lines[1].endswith("/\\x1b[31m\\nred.png")
    assert talk[0].startswith(f"error: {photos}/\\x1b[2J.png cannot be used")
    odd = odd.rename(photos / "\x1b[2J.png")
    assert run("predict", model_path, odd, "--csv")[1][1].startswith(f"{odd},red,")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run("predict", model_path, odd, "--csv")[1][1].startswith(f"{photos}/\\x1b[2J.png,red,")


ODD = ('a, "b"\nc', "d\re", "f\r\n'g' ;\t")
"""Names with everything that CSV gives a meaning."""


@pytest.mark.parametrize("options", [[], ["--abstain"]])
def test_csv_is_read_back_as_it_was_meant_whatever_the_names_are(typed, tmp_path, painted, options):
    model = tmp_path / "odd.onnx"
    contract = models.contract(labels=ODD, calibration=models.CALIBRATION)
    model.write_bytes(models.content(models.graph(temperature=3.0), contract))
    files = [tmp_path / f"{index}{name}.png" for index, name in enumerate(ODD)]
    for file, color in zip(files, ("red", "green", "blue"), strict=True):
        Image.fromarray(painted(color)).save(file)
    code, text, _ = typed("predict", model, *files, "--csv", "--top", 1, *options)
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert code == 0
    assert [len(row) for row in rows] == [len(header)] * 3
    assert [row[0] for row in rows] == [str(file) for file in files]
    assert [row[header.index("label_1")] for row in rows] == list(ODD)


def test_the_table_shortens_and_escapes_labels(run, tmp_path, photos):
    labels = ["r" * 250, "g\x1b[2J", "b"]
    (tmp_path / "odd.onnx").write_bytes(models.content(contract=models.contract(labels=labels)))
    _, lines, _ = run("predict", tmp_path / "odd.onnx", photos / "a.png")
    cells = ("r" * 19 + "… 100.00%", r"g\x1b[2J".ljust(20) + "   0.00%", "b".ljust(20) + "   0.00%")
    assert lines[1] == "   ".join([*cells, f"{photos}/a.png"])
    assert json.loads(run("predict", tmp_path / "odd.onnx", photos / "a.png", "--json")[1][0])["label"] == labels[0]


# The bar


@pytest.mark.parametrize(("bar_from", "watched", "moves"), [(5, True, True), (6, True, False), (1, False, False)])
def test_many_files_move_a_bar_where_somebody_watches(run, model_path, photos, monkeypatch, bar_from, watched, moves):
    monkeypatch.setattr(display, "BAR_FROM", bar_from)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    code, lines, talk = run("predict", model_path, photos, "--json")
    assert (code, len(lines)) == (0, 5)
    assert ("5/5" in "".join(talk), talk != []) == (moves, moves)


@pytest.mark.filterwarnings("default")  # as on the command line: Pillow would only warn of the first one
def test_a_bomb_is_an_error_without_a_warning_beside_by_the_limit_that_was_set(run, model_path, photos, monkeypatch):
    message = (
        "error: {} is too large (Image size ({} pixels), which may be a decompression bomb); expected at most {} "
        "pixels: scale it down or raise CIFARNET_MAX_PIXELS"
    )
    (photos / "wide.png").write_bytes(png_bytes(30_000, 3_000, b""))
    lines = [message.format(photos / "wide.png", 90_000_000, "89,478,485")]
    assert run("predict", model_path, photos / "wide.png") == (1, [], lines)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("CIFARNET_MAX_PIXELS", "10")
    Image.new("RGB", (33, 40)).save(photos / "a.bmp")
    lines = [message.format(photos / "a.bmp", 1320, 10)]
    assert run("predict", model_path, photos / "a.bmp") == (1, [], lines)


# Shards


@pytest.mark.parametrize("output", ["--json", "--csv"])
def test_shards_give_every_line_once_and_one_without_images_a_header_alone(run, model_path, photos, output):
    _, whole, _ = run("predict", model_path, photos, output)
    shards = [run("predict", model_path, photos, output, "--shard", f"{index}/9")[1] for index in range(9)]
    if output == "--csv":
        header = "file,label_1,probability_1,label_2,probability_2,label_3,probability_3"
        assert {shard.pop(0) for shard in (*shards, whole)} == {header}
    lines = [line for shard in shards for line in shard]
    assert [] in shards
    assert sorted(lines) == sorted(whole)
    assert lines != whole, "expected another order: more than one shard with images"


def test_a_shard_keeps_its_files_when_others_come_or_the_folder_moves(run, model_path, photos):
    def files(folder):
        return {
            json.loads(line)["file"].removeprefix(f"{folder}/"): index
            for index in range(4)
            for line in run("predict", model_path, folder, "--json", "--shard", f"{index}/4")[1]
        }

    before = files(photos)
    for name in ("0.png", "b/0.png", "z.png"):
        (photos / name).write_bytes((photos / "a.png").read_bytes())
    after = files(photos.rename(photos.with_name("moved")))
    assert len(before) == 5
    assert len(after) == 8
    assert before.items() <= after.items()
