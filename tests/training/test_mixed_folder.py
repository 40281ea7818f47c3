"""A folder of mixed photos is checked, trained on, exported and classified."""

import csv
import json
import unicodedata

import pytest

from cifarnet.run.folder import Run
from tests.mixed_folder import CLASSES, LEFT_OUT, make_folder
from tests.records import document


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("mixed") / "meine Fotos")


def test_a_mixed_folder_is_checked_trained_on_exported_and_classified(mixed, typed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, stdout, _ = typed("data", "check", mixed.folder, "--json", "--contact-sheet", "sheet.png")
    report = json.loads(stdout)
    assert (code, report["images"], len(report["broken"])) == (1, mixed.images, mixed.broken)
    assert sum(len(group) - 1 for group in report["copies"]) == mixed.copies
    assert (report["others"], report["linked_folders"], report["unequal"]) == (LEFT_OUT, ["sky/more"], True)
    assert (tmp_path / "sheet.png").is_file()
    assert typed("data", "check", mixed.folder, "--skip-broken")[0] == 0

    assert typed("train", "--data", mixed.folder)[0] == 1
    code, _, stderr = typed("train", "--data", mixed.folder, "--skip-broken", "--epochs", "1", "--batch-size", "32")
    assert code == 0, stderr
    assert "decoding" not in stderr.replace("decoding\n", "", 1)
    run = Run(tmp_path / "runs" / "latest")
    record = document(run)
    assert record["data"]["skipped"] == mixed.broken
    assert record["data"]["train_images"] + record["data"]["test_images"] == mixed.images
    with (run.path / "broken.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + mixed.broken

    code, _, stderr = typed("export")
    assert code == 0, stderr
    code, stdout, stderr = typed("predict", run.model, mixed.folder / "sky", "--csv")
    assert "Traceback" not in stderr
    labels = {unicodedata.normalize("NFC", row[1]) for row in list(csv.reader(stdout.splitlines()))[1:]}
    assert labels <= set(CLASSES)
    assert labels
