"""``cifarnet predict`` prints predictions for people and programs, and continues after a file that cannot be read."""

import csv
import io
import json
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from cifarnet import cli
from cifarnet.cli import display
from cifarnet.run.folder import Run
from cifarnet.runtime import Classifier
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


@pytest.mark.parametrize(("shard", "is_said"), [("0/2", True), ("1/2", False)])
def test_files_in_folders_that_are_not_read_are_counted_by_extension(run, model_path, photos, shard, is_said):
    note = "note: 3 files are not read, by extension: 2 .heic, 1 without extension"
    for name in ("b/1.HEIC", "c.heic", "README", ".hidden.heic"):
        (photos / name).write_bytes(b"")
    (photos / "link").symlink_to(photos / "b")
    assert run("predict", model_path, photos)[2] == [note]
    assert run("predict", model_path, photos, "--shard", shard)[2] == [note] * is_said
    assert run("predict", model_path, photos / "c.heic")[2] != [note]


def test_json_is_one_document_per_line(run, model_path, classifier, photos):
    code, lines, talk = run("predict", model_path, photos, "--json", "--top", 2)
    documents = [json.loads(line) for line in lines]
    assert (code, talk, len(documents)) == (0, [], 5)
    prediction = classifier(photos / "a.png")
    assert documents[0] == {
        "file": str(photos / "a.png"),
        "label": "red",
        "probability": prediction.probability,
        "confidence": None,
        "top": [{"label": label, "probability": probability} for label, probability in prediction.top(2)],
    }
    assert [each["label"] for each in documents] == ["red", "green", "blue", "red", "green"]


def test_csv_has_a_header_and_quotes_what_needs_it(run, model_path, classifier, photos):
    (photos / "a.png").rename(photos / 'a, "b".png')
    code, lines, talk = run("predict", model_path, photos, "--csv", "--top", 1)
    rows = list(csv.reader(lines))
    assert (code, talk) == (0, [])
    assert rows[0] == ["file", "label_1", "probability_1"]
    probability = classifier(photos / 'a, "b".png').probability
    assert rows[1] == [str(photos / 'a, "b".png'), "red", str(probability)]
    assert [row[1] for row in rows[1:]] == ["red", "green", "blue", "red", "green"]


def test_an_image_may_come_on_standard_input_among_others(run, feed, model_path, photos):
    feed((photos / "b" / "2.JPG").read_bytes())
    code, lines, _ = run("predict", model_path, photos / "a.png", "-", photos / "d.gif", "--json")
    found = [(each["file"], each["label"]) for each in map(json.loads, lines)]
    assert code == 0
    assert found == [(f"{photos}/a.png", "red"), ("-", "blue"), (f"{photos}/d.gif", "green")]


@pytest.mark.parametrize(("top", "count"), [(None, 3), (1, 1), (2, 2), (3, 3)])
def test_top_says_how_many_classes_are_named(run, model_path, photos, top, count):
    options = [] if top is None else ["--top", top]
    _, (line,), _ = run("predict", model_path, photos / "a.png", "--json", *options)
    assert len(json.loads(line)["top"]) == count


def test_a_model_of_two_classes_names_both(run, tmp_path, photos):
    narrow = models.graph(
        tensors=[models.numpy_helper.from_array(models.np.eye(3, 2, dtype="float32"), "weights")], classes=2
    )
    (tmp_path / "two.onnx").write_bytes(models.content(narrow, models.contract(labels=["red", "green"])))
    code, lines, _ = run("predict", tmp_path / "two.onnx", photos / "a.png")
    assert (code, lines[0].split()) == (0, ["1.", "2.", "file"])


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


@pytest.mark.parametrize("options", [[], ["--abstain"]])
def test_another_threshold_may_be_given_and_is_reached_exactly(run, calibrated_path, shades, options):
    _, unsure = confidences(calibrated_path, shades)
    for threshold, answers in ((0, 2), (repr(unsure), 2), (repr(unsure + 1e-9), 1), (1, 0)):
        code, lines, _ = run("predict", calibrated_path, shades, "--json", "--threshold", threshold, *options)
        assert (code, [json.loads(line)["answer"] is not None for line in lines].count(True)) == (0, answers)


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
    assert [row[1:4] for row in rows[1:]] == [["red", str(sure), "red"], ["", str(unsure), "red"]]


def test_without_abstaining_every_image_is_answered_as_before(run, calibrated_path, shades):
    _, lines, _ = run("predict", calibrated_path, shades)
    assert lines[0] == "1.              2.              3.              file"
    _, lines, _ = run("predict", calibrated_path, shades, "--json")
    assert [list(json.loads(line)) for line in lines] == [["file", "label", "probability", "confidence", "top"]] * 2


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "nan"])
def test_a_threshold_that_is_no_share_is_refused(run, calibrated_path, shades, threshold):
    code, lines, talk = run("predict", calibrated_path, shades, "--threshold", threshold)
    assert (code, lines) == (2, [])
    assert "--threshold" in " ".join(talk)


def test_a_file_that_names_no_threshold_asks_for_one(run, tmp_path, shades):
    path = tmp_path / "unsure.onnx"
    path.write_bytes(models.calibrated(abstention=None))
    code, lines, talk = run("predict", path, shades, "--abstain")
    assert (code, lines) == (1, [])
    assert talk == [
        f"error: {path} contains no threshold, since none reached the target accuracy; expected one: give --threshold"
    ]
    assert run("predict", path, shades, "--threshold", 0.5)[0] == 0


@pytest.mark.parametrize("options", [["--abstain"], ["--threshold", 0.5]])
def test_a_file_without_a_temperature_cannot_abstain(run, model_path, shades, options):
    message = (
        "has no calibrated probabilities, which --abstain needs; expected a file with a temperature: "
        "export the run again, or give export_model validation images"
    )
    assert run("predict", model_path, shades, *options) == (1, [], [f"error: {model_path} {message}"])


# Long labels


LONG = ("a class with a name of many words", "another class with many words", "blue")


@pytest.fixture
def long_path(tmp_path):
    path = tmp_path / "long.onnx"
    path.write_bytes(
        models.content(models.graph(temperature=3.0), models.contract(labels=LONG, calibration=models.CALIBRATION))
    )
    return path


def test_long_labels_are_shortened_in_the_table_alone(run, long_path, shades):
    _, lines, _ = run("predict", long_path, shades)
    assert lines[1].startswith("a class with a name…  90.23%   another class with …")
    assert len({line.index("%") for line in lines[1:]}) == 1
    assert json.loads(run("predict", long_path, shades, "--json")[1][0])["label"] == LONG[0]


# What goes wrong


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_a_bad_file_is_reported_and_the_others_still_come_out(run, model_path, photos, form):
    (photos / "b" / "1.jpg").write_text("no image")
    code, lines, talk = run("predict", model_path, photos, photos / "gone.png", photos / "a.png", *form)
    assert (code, len(lines)) == (1, 5 + (form != ["--json"]))
    reason = "cannot be used (no image in a known format); expected a whole image file: replace it"
    assert talk == [
        f"error: {photos}/b/1.jpg {reason}",
        f"error: {photos}/gone.png cannot be read (No such file or directory); expected an image file: check the path",
    ]


def test_where_nothing_can_be_used_nothing_is_on_stdout(run, feed, model_path, tmp_path):
    feed(b"")
    (tmp_path / "empty").mkdir()
    code, lines, talk = run("predict", model_path, tmp_path / "empty", "-")
    assert (code, lines, len(talk)) == (1, [], 2)
    assert talk[0].startswith(
        f"error: {tmp_path}/empty has no images; expected at least one file, at any depth, ending"
    )
    assert talk[1].startswith("error: standard input: the image cannot be used (no image in a known format); expected")


@pytest.mark.parametrize("top", [-1, 0, 4])
def test_top_out_of_range(run, model_path, photos, top):
    message = f"error: --top is {top}; expected 1 to 3, the number of the model's classes: change it"
    assert run("predict", model_path, photos, "--top", top) == (1, [], [message])


def test_two_forms_at_once(run, model_path, photos):
    message = "error: --json and --csv were both given; expected one of them at most: leave the other out"
    assert run("predict", model_path, photos, "--json", "--csv") == (1, [], [message])


def test_a_model_that_is_none(run, photos):
    (photos / "odd.onnx").write_bytes(b"no model")
    code, lines, talk = run("predict", photos / "odd.onnx", photos / "a.png")
    assert (code, lines, len(talk)) == (1, [], 1)
    assert talk[0].startswith(f"error: {photos}/odd.onnx is no ONNX file; expected one: use a file written")


def test_model_and_image_in_the_wrong_order(run, model_path, photos):
    message = f"error: the model {model_path} comes after an image; expected the model first: swap the two"
    for first in (photos / "a.png", photos):
        assert run("predict", first, model_path, photos / "a.png") == (1, [], [message])


def test_no_image_at_all(run, model_path):
    message = f"error: only the model {model_path} was given; expected images after it: name files or folders"
    assert run("predict", model_path) == (1, [], [message])


def test_a_name_that_is_too_long_for_a_file_is_an_image_that_cannot_be_read(run, photos):
    code, lines, talk = run("predict", "a" * 300, photos / "a.png", "--json")
    assert (code, len(lines)) == (1, 1)
    assert "name too long" in talk[-1]


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


def test_names_that_would_command_a_terminal_or_break_a_line_are_escaped(run, model_path, photos):
    odd = photos / "\x1b[31m\nred.png"
    (photos / "a.png").rename(odd)
    (photos / "\x1b[2J.png").write_text("no image")
    _, lines, talk = run("predict", model_path, odd, photos / "\x1b[2J.png")
    assert lines[1].endswith("/\\x1b[31m\\nred.png")
    assert talk[0].startswith(f"error: {photos}/\\x1b[2J.png cannot be used")


def test_csv_keeps_a_name_as_it_is_but_on_a_terminal(run, model_path, photos, monkeypatch):
    odd = photos / "\x1b[2J.png"
    (photos / "a.png").rename(odd)
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
    model = tmp_path / "odd.onnx"
    model.write_bytes(models.content(contract=models.contract(labels=["r" * 250, "g\x1b[2J", "b"])))
    _, lines, _ = run("predict", model, photos / "a.png")
    cells = ("r" * 19 + "… 100.00%", r"g\x1b[2J".ljust(20) + "   0.00%", "b".ljust(20) + "   0.00%")
    assert lines[1] == "   ".join([*cells, f"{photos}/a.png"])


def test_names_that_the_encoding_lacks_are_written_as_escapes(model_path, photos, monkeypatch):
    (photos / "a.png").rename(photos / "ä\udcff.png")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["cifarnet", "predict", str(model_path), str(photos / "ä\udcff.png"), "--csv"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code
    assert b"/\\xe4\\udcff.png,red," in written.getvalue()


# The bar


def test_many_files_move_a_bar_where_somebody_watches(run, model_path, photos, monkeypatch):
    monkeypatch.setattr(display, "BAR_FROM", 5)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    code, lines, talk = run("predict", model_path, photos, "--json")
    assert (code, len(lines)) == (0, 5)
    assert "5/5" in "".join(talk)


def test_a_handful_of_files_has_no_bar(run, model_path, photos, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert run("predict", model_path, photos)[2] == []


def test_where_nobody_watches_there_is_no_bar(run, model_path, photos, monkeypatch):
    monkeypatch.setattr(display, "BAR_FROM", 1)
    assert run("predict", model_path, photos)[2] == []


@pytest.mark.filterwarnings("default")  # as on the command line: Pillow would only warn of this one
def test_a_bomb_is_an_error_without_a_warning_beside(run, model_path, photos):
    Image.new("1", (30_000, 3_000)).save(photos / "wide.png")
    code, lines, talk = run("predict", model_path, photos / "wide.png")
    assert (code, lines, len(talk)) == (1, [], 1)
    assert "wide.png is too large (Image size (90000000 pixels), which may be a decompression bomb); " in talk[0]
    assert talk[0].endswith("; expected at most 89,478,485 pixels: scale it down or raise CIFARNET_MAX_PIXELS")


@pytest.mark.filterwarnings("default")
def test_the_limit_that_was_set_is_the_only_one_that_is_named(run, model_path, photos, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("CIFARNET_MAX_PIXELS", "10")
    Image.new("RGB", (33, 40)).save(photos / "a.bmp")
    _, _, (told,) = run("predict", model_path, photos / "a.bmp")
    assert "(Image size (1320 pixels), which may be a decompression bomb); expected at most 10 pixels: " in told


def test_the_command_and_the_library_say_the_same(run, model_path, photos):
    _, lines, _ = run("predict", model_path, photos, "--json")
    outcomes = Classifier(model_path).stream(photos)
    expected = [(str(each.path), each.prediction.label, each.prediction.probability) for each in outcomes]
    assert [(each["file"], each["label"], each["probability"]) for each in map(json.loads, lines)] == expected


def test_an_empty_path_is_not_the_working_folder(classifier):
    (outcome,) = classifier.stream([""])
    assert str(outcome.error) == "an image path is empty; expected a file or folder: is the variable set?"


# Shards


@pytest.mark.parametrize("output", ["--json", "--csv"])
def test_shards_give_every_line_once(run, model_path, photos, output):
    _, whole, _ = run("predict", model_path, photos, output)
    shards = [run("predict", model_path, photos, output, "--shard", f"{index}/3")[1] for index in range(3)]
    lines = [line for shard in shards for line in shard]
    if output == "--csv":
        assert [shard[0] for shard in shards] == [whole[0]] * 3
        lines = [whole[0], *(line for shard in shards for line in shard[1:])]
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


def test_a_shard_without_images_is_a_header_alone(run, model_path, photos):
    (header,) = {run("predict", model_path, photos / "a.png", "--csv", "--shard", f"{i}/9")[1][0] for i in range(9)}
    lengths = [len(run("predict", model_path, photos / "a.png", "--csv", "--shard", f"{i}/9")[1]) for i in range(9)]
    assert header.startswith("file,label_1")
    assert sorted(lengths) == [1] * 8 + [2]


def test_a_folder_without_images_is_reported_by_one_shard(run, model_path, tmp_path):
    (tmp_path / "empty").mkdir()
    codes = [run("predict", model_path, tmp_path / "empty", "--shard", f"{index}/3")[0] for index in range(3)]
    assert sorted(codes) == [0, 0, 1]


@pytest.mark.parametrize("given", ["3", "3/", "3/3", "-1/3", "1/0", "a/b", "1.0/3", "0/9999999999", "1/2/3"])
def test_a_shard_that_does_not_exist_is_refused(run, model_path, photos, given):
    code, lines, talk = run("predict", model_path, photos, f"--shard={given}")
    assert (code, lines) == (1, [])
    assert talk == [
        f"error: --shard is {given!r}; expected I/N, I from 0 to N-1, such as 0/8 to 7/8: number the tasks of the "
        "array from 0"
    ]


def test_standard_input_has_no_shards(run, model_path):
    code, lines, talk = run("predict", model_path, "-", "--shard", "0/2")
    assert (code, lines) == (1, [])
    assert talk == ["error: --shard was given with -; expected files or folders, which it divides: leave one out"]
