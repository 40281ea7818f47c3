"""A report in a real Chromium: on a phone, on a desktop, in dark mode and printed, with ordinary and odd classes."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.report_runs import dataset_of, evaluation_of, run_of

from cifarnet.report.evidence import read_evidence
from cifarnet.report.page import draw_page

ODD = ("a" * 300, '<b style="width:9999px">wide</b>', "two words " * 30, "$x$")
PAGES = {
    "ordinary": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "odd": ODD,
    "many": (*ODD, *(f"class {index}" for index in range(96))),
}
BAD = """<!doctype html><main><p style="width: 2000px; color: #ddd">wide and faint</p><p>Dark</p><svg></svg>
<script>console.log("ran")</script><img src="http://127.0.0.1:9/x.png"></main>"""
LOOKS = ("phone", "phone, dark", "desk", "desk, dark")


@pytest.fixture(scope="module")
def facts(node, chromium, tmp_path_factory):
    """Return what was seen of each page, by its name."""
    folder = tmp_path_factory.mktemp("pages")
    for name, labels in PAGES.items():
        dataset = dataset_of(labels, images=300)
        evidence = read_evidence(run_of(folder / "runs" / name, dataset), "onnxruntime")
        (folder / f"{name}.html").write_text(draw_page(evidence, evaluation_of(dataset), dataset, "onnxruntime"))
    (folder / "bad.html").write_text(BAD)
    files = [folder / f"{name}.html" for name in (*PAGES, "bad")]
    command = [node, Path(__file__).with_name("look.mjs"), chromium, *files]
    stdout = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return {Path(file).stem: found for file, found in json.loads(stdout).items()}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_overflows_and_every_part_is_visible(facts, name, look):
    seen = facts[name]["looks"][look]
    assert seen["scrollWidth"] <= seen["width"]
    assert (seen["beyond"], seen["hidden"], seen["unnamed"], seen["images"], seen["sections"]) == (0, 0, 0, 0, 11)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_every_text_has_enough_contrast(facts, name, look):
    contrast, text = facts[name]["looks"][look]["faintest"]
    assert contrast >= 4.5, text  # WCAG 2, level AA


@pytest.mark.parametrize("name", PAGES)
def test_the_theme_follows_the_reader_and_prints_on_white(facts, name):
    looks = facts[name]["looks"]
    assert min(looks["desk"]["ground"]) > 200
    assert max(looks["desk, dark"]["ground"]) < 50
    assert facts[name]["chosen"] == looks["desk, dark"]["ground"]
    assert facts[name]["paper"]["ground"] == [255, 255, 255]
    assert facts[name]["paper"]["faintest"][0] >= 4.5


@pytest.mark.parametrize("name", PAGES)
def test_the_page_requests_nothing_else(facts, name):
    assert {url.split(":")[0] for url in facts[name]["requested"]} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in facts[name]["requested"]) == len(LOOKS)
    assert facts[name]["complaints"] == []


def test_a_bad_page_is_detected(facts):
    bad = facts["bad"]
    phone = bad["looks"]["phone"]
    assert phone["scrollWidth"] > phone["width"]
    assert phone["faintest"][0] < 4.5
    assert (phone["unnamed"], phone["images"]) == (2, 1)
    assert any(url.startswith("http:") for url in bad["requested"])
    assert "ran" in bad["complaints"]
