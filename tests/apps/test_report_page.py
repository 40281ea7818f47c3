"""A report in a real Chromium: on a phone, on a desktop, in dark mode and printed, with ordinary and odd classes."""

import json
import subprocess
from pathlib import Path

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


def seen_in(folder, node, chromium):
    """Return what was seen of each page, by its name."""
    for name, labels in PAGES.items():
        dataset = dataset_of(labels, images=300)
        evidence = read_evidence(run_of(folder / "runs" / name, dataset), "onnxruntime")
        (folder / f"{name}.html").write_text(draw_page(evidence, evaluation_of(dataset), dataset, "onnxruntime"))
    (folder / "bad.html").write_text(BAD)
    files = [folder / f"{name}.html" for name in (*PAGES, "bad")]
    command = [node, Path(__file__).with_name("look.mjs"), chromium, *files]
    stdout = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return {Path(file).stem: found for file, found in json.loads(stdout).items()}


def test_a_report_fits_every_screen_is_readable_and_requests_nothing_and_a_bad_page_is_detected(
    node, chromium, tmp_path
):
    facts = seen_in(tmp_path, node, chromium)
    bad, phone = facts["bad"], facts.pop("bad")["looks"]["phone"]
    for name, page in facts.items():
        looks = page["looks"]
        assert tuple(looks) == LOOKS
        for look, seen in looks.items():
            assert seen["scrollWidth"] <= seen["width"], (name, look)
            counts = [seen[each] for each in ("beyond", "hidden", "unnamed", "images", "sections")]
            assert counts == [0, 0, 0, 0, 11], (name, look)
            contrast, text = seen["faintest"]
            assert contrast >= 4.5, (name, look, text)  # WCAG 2, level AA
        assert min(looks["desk"]["ground"]) > 200
        assert max(looks["desk, dark"]["ground"]) < 50
        assert page["chosen"] == looks["desk, dark"]["ground"]
        assert page["paper"]["ground"] == [255, 255, 255]
        assert page["paper"]["faintest"][0] >= 4.5
        assert {url.split(":")[0] for url in page["requested"]} <= {"file", "data"}
        assert sum(url.startswith("file:") for url in page["requested"]) == len(LOOKS)
        assert page["complaints"] == []
    assert phone["scrollWidth"] > phone["width"]
    assert phone["faintest"][0] < 4.5
    assert (phone["unnamed"], phone["images"]) == (2, 1)
    assert any(url.startswith("http:") for url in bad["requested"])
    assert "ran" in bad["complaints"]
