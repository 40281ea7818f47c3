"""The page in a real Chromium: golden pixels and outputs, every input of an image, the badge, and no network.

Twice: with `cifarnet demo`, where the server classifies, and from a plain file server, where onnxruntime-web does.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.apps import address_of, page_served, running
from tests.runtime import models

from cifarnet.apps.conformance import TOLERANCES
from cifarnet.apps.demo import open_demo
from cifarnet.preprocessing import read_pixels
from cifarnet.runtime import Classifier


def driven(command, leave):
    """Return the facts of the driver, which continues after ``leave`` stopped the server.

    The driver and the browser end in any case.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        try:
            first = driver.stdout.readline()
            assert first == "loaded\n"
            leave()
            stdout, _ = driver.communicate("go on\n", timeout=60)
        finally:
            driver.kill()
    assert driver.returncode == 0
    return json.loads(stdout)


SIDE = 48
DRIVER = Path(__file__).with_name("drive.mjs")


def larger_model(folder):
    """Write a model of larger images, with its contract beside it, and return its path."""
    path = folder / "model.onnx"
    path.write_bytes(models.sized(SIDE))
    path.with_suffix(".json").write_text(json.dumps(Classifier(path).contract))
    return path


def tensor_of(shown):
    rgba = np.array(shown["pixels"], np.uint8).reshape(32, 32, 4)
    np.testing.assert_array_equal(rgba[..., 3], 255)
    return rgba[..., :3]


def golden_tensor(entry):
    return np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(32, 32, 3)


def check_images(facts, golden, entries):
    """Check the pixels, probabilities and order that were shown of each golden image, however it was brought in."""
    labels = json.loads((golden / "model.json").read_text())["labels"]
    for entry in entries.values():
        shown = facts["chosen"][entry["file"]]
        np.testing.assert_array_equal(tensor_of(shown), golden_tensor(entry), entry["file"])
        widths = dict(zip([row[0] for row in shown["bars"]], shown["widths"], strict=True))
        tolerance = TOLERANCES["calibrated"]
        np.testing.assert_allclose([widths[label] for label in labels], entry["calibrated"], rtol=0, atol=tolerance)
        assert shown["widths"] == sorted(shown["widths"], reverse=True)
        label, _, percent = shown["bars"][0]
        assert (label, percent) == (labels[np.argmax(entry["calibrated"])], f"{100 * shown['widths'][0]:.1f}%")
        assert shown["verdict"] == f"{label}, {percent}"
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(tensor_of(facts["chosen"]["images/wide.png"]), golden_tensor(entries["tall.png"]))
    for way, name in (("dropped", "square.png"), ("pasted", "wide.png"), ("clicked", "exact.png")):
        np.testing.assert_array_equal(tensor_of(facts[way]), golden_tensor(entries[name]))
        assert facts[way]["name"].endswith(name)
    best = [entries[name]["calibrated"] for name in ("square.png", "tall.png")]  # dropped around a broken file
    captions = [f"{labels[np.argmax(each)]} {100 * max(each):.1f}%" for each in best]
    assert facts["gallery"] == {"before": len(entries) + 2, "captions": captions, "pressed": 1}
    assert facts["dropped"]["error"] == facts["refused"]["error"]
    taken = tensor_of(facts["taken"])
    assert facts["taken"]["name"] == "your photo"
    assert np.ptp(taken) > 100  # Chromium's test image: not blank
    assert not np.array_equal(taken, golden_tensor(entries["wide.png"]))


def check_page(facts, address, golden, entries):
    """Check selective prediction, a model of larger images, the width, and that nothing else is requested."""
    sure, unsure = (f"{100 * max(entries[name]['calibrated']):.1f}%" for name in ("exact.png", "square.png"))
    assert facts["abstaining"] == {
        "words": "No answer below 27.0% (on validation images: coverage 38.9%, accuracy 0.0%)",
        "sure": f"frog, {sure}",
        "unsure": f"Not sure, perhaps automobile, {unsure}",
        "answered": f"automobile, {unsure}",
    }
    larger = facts["larger"]
    assert (larger["about"], larger["title"]) == ("3 classes, 48×48 pixels, float32", "Probabilities")  # noqa: RUF001
    assert (larger["width"], larger["height"], larger["bars"]) == (SIDE, SIDE, 3)
    shown = np.array(larger["data"], np.uint8).reshape(SIDE, SIDE, 4)[..., :3]
    np.testing.assert_array_equal(shown, read_pixels(golden / "images" / "exact.png", (SIDE, SIDE, 3)))
    assert (facts["overflow"], facts["complaints"]) == (0, [])
    own = (address.removesuffix("browser/"), "blob:", "data:")
    assert len(facts["requested"]) > 20
    assert [url for url in facts["requested"] if not url.startswith(own)] == []


# One test per page: to drive it takes most of the time, and fixtures would be made again in each process.


def test_the_page_of_the_demo_shows_what_the_library_finds(golden, entries, node, chromium, tmp_path):
    larger_path = larger_model(tmp_path)
    with running(open_demo(golden / "model.onnx", 0)) as server, running(open_demo(larger_path, 0)) as larger:
        command = [node, DRIVER, chromium, server.url, golden, "demo", larger.url]
        stdout = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    facts = json.loads(stdout)
    check_images(facts, golden, entries)
    check_page(facts, server.url, golden, entries)
    assert not facts["badgeIsVisible"]  # the library classifies
    assert facts["refused"]["error"] == (
        "model.json: the image cannot be used (no image in a known format); "
        "expected a whole image: replace it or leave it out"
    )


def test_the_page_of_a_file_server_classifies_tells_whether_it_agrees_and_works_without_its_server(
    golden, entries, node, chromium, tmp_path
):
    with page_served(golden / "model.onnx") as server, page_served(larger_model(tmp_path)) as larger:

        def leave():
            server.shutdown()
            server.server_close()

        address = address_of(server)
        facts = driven([node, DRIVER, chromium, address, golden, "web", address_of(larger)], leave)
    check_images(facts, golden, entries)
    check_page(facts, address, golden, entries)
    assert facts["refused"]["error"] == "model.json: this browser cannot read it: choose a PNG, JPEG, GIF or WebP file"
    badge, spoilt, offline = facts["badge"], facts["spoilt"], facts["offline"]
    assert (badge["state"], badge["text"]) == ("agrees", "golden images: 18 of 18")
    assert [row[0] for row in badge["rows"]] == list(entries)
    assert {row[1] for row in badge["rows"]} == {"0"}
    assert max(float(row[2]) for row in badge["rows"]) <= TOLERANCES["logits"]
    assert (spoilt["state"], spoilt["text"]) == ("differs", "golden images: 16 of 18")
    (_, no_bytes, spoilt_logit), (_, bytes_of_another_image, _), *_ = spoilt["rows"]
    assert (no_bytes, spoilt_logit) == ("0", "1.0e-3")
    assert int(bytes_of_another_image) > 1000
    assert not spoilt["offersToAbstain"]  # its file has no threshold
    assert offline["badge"]["text"] == "golden images: 18 of 18"
    np.testing.assert_array_equal(tensor_of(offline["chosen"]), golden_tensor(entries["exact.png"]))


def test_a_driver_with_unexpected_output_is_stopped():
    program = "import time; print('odd', flush=True); time.sleep(600)"
    with pytest.raises(AssertionError, match="odd"):
        driven([sys.executable, "-c", program], lambda: None)
