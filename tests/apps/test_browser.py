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


@pytest.fixture(scope="module")
def larger_model(tmp_path_factory):
    """Return the path of a model of larger images, with its contract beside it."""
    path = tmp_path_factory.mktemp("larger") / "model.onnx"
    path.write_bytes(models.sized(SIDE))
    path.with_suffix(".json").write_text(json.dumps(Classifier(path).contract))
    return path


@pytest.fixture(scope="module")
def web(golden, node, chromium, larger_model):
    """Return what the page of a plain file server showed, the last part of it after its server was gone."""
    with page_served(golden / "model.onnx") as server, page_served(larger_model) as larger:

        def leave():
            server.shutdown()
            server.server_close()

        address = address_of(server)
        return driven([node, DRIVER, chromium, address, golden, "web", address_of(larger)], leave) | {
            "address": address
        }


@pytest.fixture(scope="module")
def demo(golden, node, chromium, larger_model):
    """Return what the page of `cifarnet demo` showed with the golden model and with one of larger images."""
    with running(open_demo(golden / "model.onnx", 0)) as server, running(open_demo(larger_model, 0)) as larger:
        command = [node, DRIVER, chromium, server.url, golden, "demo", larger.url]
        stdout = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return json.loads(stdout) | {"address": server.url}


@pytest.fixture(scope="module", params=["demo", "web"])
def facts(request):
    """Return what either page showed."""
    return request.getfixturevalue(request.param)


def tensor_of(shown):
    rgba = np.array(shown["pixels"], np.uint8).reshape(32, 32, 4)
    np.testing.assert_array_equal(rgba[..., 3], 255)
    return rgba[..., :3]


def golden_tensor(entry):
    return np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(32, 32, 3)


def test_the_page_shows_the_exact_input_of_the_model(facts, entries):
    for entry in entries.values():
        np.testing.assert_array_equal(tensor_of(facts["chosen"][entry["file"]]), golden_tensor(entry), entry["file"])
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(tensor_of(facts["chosen"]["images/wide.png"]), golden_tensor(entries["tall.png"]))


def test_the_page_shows_the_golden_calibrated_probabilities_in_order(facts, golden, entries):
    labels = json.loads((golden / "model.json").read_text())["labels"]
    for entry in entries.values():
        shown = facts["chosen"][entry["file"]]
        widths = dict(zip([row[0] for row in shown["bars"]], shown["widths"], strict=True))
        tolerance = TOLERANCES["calibrated"]
        np.testing.assert_allclose([widths[label] for label in labels], entry["calibrated"], rtol=0, atol=tolerance)
        assert shown["widths"] == sorted(shown["widths"], reverse=True)
        label, _, percent = shown["bars"][0]
        assert (label, percent) == (labels[np.argmax(entry["calibrated"])], f"{100 * shown['widths'][0]:.1f}%")
        assert shown["verdict"] == f"{label}, {percent}"


def test_the_page_supports_selective_prediction(facts, entries):
    sure, unsure = (f"{100 * max(entries[name]['calibrated']):.1f}%" for name in ("exact.png", "square.png"))
    assert facts["abstaining"] == {
        "words": "No answer below 27.0% (on validation images: coverage 38.9%, accuracy 0.0%)",
        "sure": f"frog, {sure}",
        "unsure": f"Not sure, perhaps automobile, {unsure}",
        "answered": f"automobile, {unsure}",
    }


def test_selective_prediction_is_not_offered_without_a_threshold_in_the_file(web):
    assert not web["spoilt"]["offersToAbstain"]


def test_the_badge_shows_that_this_browser_agrees(web, entries):
    badge = web["badge"]
    assert (badge["state"], badge["text"]) == ("agrees", "golden images: 18 of 18")
    assert [row[0] for row in badge["rows"]] == list(entries)
    assert {row[1] for row in badge["rows"]} == {"0"}
    assert max(float(row[2]) for row in badge["rows"]) <= TOLERANCES["logits"]


def test_the_badge_shows_a_browser_that_does_not_agree(web):
    badge = web["spoilt"]
    assert (badge["state"], badge["text"]) == ("differs", "golden images: 16 of 18")
    (_, no_bytes, spoilt_logit), (_, bytes_of_another_image, _), *_ = badge["rows"]
    assert (no_bytes, spoilt_logit) == ("0", "1.0e-3")
    assert int(bytes_of_another_image) > 1000


@pytest.mark.parametrize(("way", "name"), [("dropped", "square.png"), ("pasted", "wide.png"), ("clicked", "exact.png")])
def test_an_image_can_be_dropped_pasted_or_chosen_again(facts, entries, way, name):
    np.testing.assert_array_equal(tensor_of(facts[way]), golden_tensor(entries[name]))
    assert facts[way]["name"].endswith(name)


def test_several_images_can_be_dropped_and_a_broken_one_does_not_hide_the_others(facts, golden, entries):
    labels = json.loads((golden / "model.json").read_text())["labels"]
    best = [entries[name]["calibrated"] for name in ("square.png", "tall.png")]
    captions = [f"{labels[np.argmax(each)]} {100 * max(each):.1f}%" for each in best]
    assert facts["gallery"] == {"before": len(entries) + 2, "captions": captions, "pressed": 1}
    assert facts["dropped"]["error"] == facts["refused"]["error"]


def test_an_image_can_be_taken_with_the_camera(facts, entries):
    taken = tensor_of(facts["taken"])
    assert facts["taken"]["name"] == "your photo"
    assert np.ptp(taken) > 100  # Chromium's test image: not blank
    assert not np.array_equal(taken, golden_tensor(entries["wide.png"]))


def test_another_file_is_refused_with_a_solution(demo, web):
    assert web["refused"]["error"] == "model.json: this browser cannot read it: choose a PNG, JPEG, GIF or WebP file"
    assert demo["refused"]["error"] == (
        "model.json: the image cannot be used (no image in a known format); expected a whole image file: replace it"
    )


def test_the_page_fits_a_narrow_screen(facts):
    assert facts["overflow"] == 0


def test_the_demo_has_no_badge_since_the_library_classifies(demo):
    assert not demo["badgeIsVisible"]


def test_the_page_works_without_its_server(web, entries):
    offline = web["offline"]
    assert offline["badge"]["text"] == "golden images: 18 of 18"
    np.testing.assert_array_equal(tensor_of(offline["chosen"]), golden_tensor(entries["exact.png"]))


def test_the_page_of_a_model_of_larger_images_shows_them_and_what_is_known_of_it(facts, golden):
    larger = facts["larger"]
    assert (larger["about"], larger["title"]) == ("3 classes, 48×48 pixels, float32", "Probabilities")  # noqa: RUF001
    assert (larger["width"], larger["height"], larger["bars"]) == (SIDE, SIDE, 3)
    shown = np.array(larger["data"], np.uint8).reshape(SIDE, SIDE, 4)[..., :3]
    np.testing.assert_array_equal(shown, read_pixels(golden / "images" / "exact.png", (SIDE, SIDE, 3)))


def test_the_page_requests_only_its_server(facts):
    origin = facts["address"].removesuffix("browser/")
    assert len(facts["requested"]) > 20
    assert [url for url in facts["requested"] if not url.startswith((origin, "blob:", "data:"))] == []


def test_the_page_logs_no_errors(facts):
    assert facts["complaints"] == []


def test_a_driver_with_unexpected_output_is_stopped():
    program = "import time; print('odd', flush=True); time.sleep(600)"
    with pytest.raises(AssertionError, match="odd"):
        driven([sys.executable, "-c", program], lambda: None)
