"""A correct app conforms, and each known mistake, made by independent code, is named."""

import base64
import json

import numpy as np
import pytest

from cifarnet.apps.conformance import NO_TEMPERATURE, PIXEL_MISTAKES, SOFTMAX_TWICE, check_outputs
from cifarnet.errors import DataError
from tests.golden_apps import (
    APPS_WITH_A_MISTAKE,
    ENTRIES,
    GOLDEN,
    app,
    as_probabilities,
    prepared,
    with_calibrated,
)


@pytest.fixture(scope="module")
def correct():
    """Return the outputs of the correct app."""
    return app()


@pytest.mark.parametrize(
    "change",
    [lambda outputs: outputs, as_probabilities, with_calibrated],
    ids=["logits", "probabilities", "logits and calibrated"],
)
def test_an_app_without_mistakes_conforms(correct, change):
    verdict = check_outputs(change(correct), GOLDEN)
    assert (verdict.conforms, verdict.mistakes) == (True, ())


@pytest.mark.parametrize("mistake", APPS_WITH_A_MISTAKE)
def test_each_mistake_is_named_from_the_outputs(mistake):
    verdict = check_outputs(APPS_WITH_A_MISTAKE[mistake](), GOLDEN)
    (found,) = (name for each in (verdict, *verdict.others) for name in each.mistakes)
    named = max((name for name in APPS_WITH_A_MISTAKE if found.startswith(name)), key=len)
    assert (verdict.conforms, named) == (False, mistake)


def test_every_mistake_has_an_app_that_makes_it():
    known = (*PIXEL_MISTAKES, SOFTMAX_TWICE, NO_TEMPERATURE)
    assert len(known) == len(APPS_WITH_A_MISTAKE)
    assert all(any(name.startswith(committed) for committed in APPS_WITH_A_MISTAKE) for name in known)


def test_a_mistake_is_named_from_probabilities_or_calibrated_ones_alone_too():
    spoiled = with_calibrated(APPS_WITH_A_MISTAKE["passes BGR"]())
    alone = {name: {"calibrated": numbers["calibrated"]} for name, numbers in spoiled.items()}
    logits = {name: numbers["logits"] for name, numbers in spoiled.items()}
    for outputs, kind in ((as_probabilities(logits), "probabilities"), (alone, "calibrated")):
        verdict = check_outputs(outputs, GOLDEN)
        assert (verdict.kind, verdict.others) == (kind, ())
        assert verdict.mistakes == ("passes BGR: blue and red are swapped",)


def test_every_output_is_checked(correct):
    named = {
        name: {"probabilities": ENTRIES[name]["probabilities"], **row} for name, row in with_calibrated(correct).items()
    }
    verdict = check_outputs(named, GOLDEN)
    assert [verdict.kind, *(other.kind for other in verdict.others)] == ["logits", "probabilities", "calibrated"]
    assert verdict.conforms
    named["tiny.png"]["calibrated"][0] += 0.01
    spoiled = check_outputs(named, GOLDEN)
    assert (spoiled.conforms, spoiled.differing, [*spoiled.others[1].differing]) == (False, {}, ["tiny.png"])


def test_an_output_given_for_some_images_only_does_not_conform(correct):
    some = correct | {"tiny.png": {"logits": correct["tiny.png"], "calibrated": ENTRIES["tiny.png"]["calibrated"]}}
    (calibrated,) = check_outputs(some, GOLDEN).others
    assert (calibrated.kind, len(calibrated.missing), calibrated.conforms) == ("calibrated", 17, False)


def test_outputs_that_no_single_mistake_explains_are_not_explained(correct):
    verdict = check_outputs({name: row[::-1] for name, row in correct.items()}, GOLDEN)
    assert (verdict.conforms, verdict.mistakes, verdict.is_near) == (False, (), False)
    assert set(verdict.differing) == set(ENTRIES)
    two = app(lambda name: prepared(name, drop=True)[..., ::-1])
    assert check_outputs(two, GOLDEN).mistakes == ()


def test_pixels_off_by_one_are_reported_as_near():
    rng = np.random.Generator(np.random.PCG64(7))
    moved = app(lambda name: np.clip(prepared(name) + rng.integers(-1, 2, (32, 32, 3)), 0, 255))
    verdict = check_outputs(moved, GOLDEN)
    assert (verdict.conforms, verdict.is_near, verdict.mistakes) == (False, True, ())
    (calibrated,) = check_outputs(with_calibrated(moved), GOLDEN).others
    assert (calibrated.conforms, calibrated.is_near, calibrated.mistakes) == (False, True, ())


def test_differing_images_are_listed_largest_difference_first_and_a_missing_one_is_named(correct):
    changed = correct | {"tiny.png": [value + 0.01 for value in correct["tiny.png"]]}
    changed["wide.png"] = [value + 0.02 for value in correct["wide.png"]]
    assert list(check_outputs(changed, GOLDEN).differing) == ["wide.png", "tiny.png"]
    verdict = check_outputs({name: row for name, row in correct.items() if name != "tiny.png"}, GOLDEN)
    assert (verdict.conforms, verdict.missing, verdict.differing) == (False, ("tiny.png",), {})


def test_the_golden_pixels_are_those_of_the_correct_app():
    for name, entry in ENTRIES.items():
        assert prepared(name).tobytes() == base64.b64decode(entry["pixels"]), name


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "there are 0 outputs; expected one per golden image"),
        ({"cat.png": [0.0] * 10}, "cat.png is no golden image; expected exact.png, "),
        ({"exact.png": [0.0] * 9}, "the entry for exact.png has shape (9,) and 9 finite numbers; expected (10,)"),
        ({"exact.png": [float("nan")] + [0.0] * 9}, "the entry for exact.png has shape (10,) and 9 finite numbers"),
        ({"exact.png": "frog"}, "the entry for exact.png is no list of numbers; expected 10 of them: give the logits"),
        ({"exact.png": [10**400] + [0] * 9}, "the entry for exact.png is no list of numbers; expected 10"),
        ({"exact.png": [{"frog": 1}]}, "the entry for exact.png is no list of numbers; expected 10"),
        (
            {"exact.png": {"frog": 1}},
            "the entry for exact.png names frog; expected one or more of logits, probabilities, calibrated: name",
        ),
        ({"exact.png": {}}, "the entry for exact.png names nothing; expected one or more of logits, probabilities"),
        ({"exact.png": {"calibrated": [0.1]}}, "the entry for exact.png (calibrated) has shape (1,) and 1 finite num"),
    ],
)
def test_invalid_outputs_are_refused(outputs, message):
    with pytest.raises(DataError) as caught:
        check_outputs(outputs, GOLDEN)
    assert str(caught.value).startswith(message)


# The command


@pytest.fixture
def conformance(typed, tmp_path):
    """Return a function that runs ``cifarnet conformance`` on outputs and returns exit code, stdout and stderr."""

    def conformance(outputs, *options):
        path = tmp_path / "outputs.json"
        path.write_text(outputs if isinstance(outputs, str) else json.dumps(outputs))
        return typed("conformance", path, *options)

    return conformance


def test_the_command_reports_conformance_or_the_mistake_of_each_output_once(conformance, correct):
    named = {f"golden/images/{name}": row for name, row in with_calibrated(correct).items()}
    code, stdout, stderr = conformance(named)
    assert (code, stderr, [line.split(",")[0] for line in stdout.splitlines()]) == (
        0,
        "",
        ["conforms: logits of 18 images", "conforms: calibrated of 18 images"],
    )
    code, stdout, stderr = conformance(with_calibrated(APPS_WITH_A_MISTAKE["passes BGR"]()))
    assert (code, stderr, stdout.count("the app ")) == (1, "", 1)
    assert stdout.splitlines()[:2] == ["does not conform", "  the app passes BGR: blue and red are swapped"]
    assert "exact.png: logits differ by" in stdout
    assert "exact.png: calibrated differ by" in stdout
    code, stdout, _ = conformance(correct, "--json")
    verdict = json.loads(stdout)
    assert (code, verdict["conforms"], verdict["kind"], len(verdict["differences"])) == (0, True, "logits", 18)
    assert verdict["others"] == []
    code, stdout, _ = conformance(APPS_WITH_A_MISTAKE["omits the temperature"]())
    message = "  the app omits the temperature: that is `probabilities`, not `calibrated`"
    assert (code, stdout.splitlines()[1]) == (1, message)


def test_the_command_says_if_no_mistake_explains_the_differences(conformance, correct):
    _, stdout, _ = conformance({name: row[::-1] for name, row in correct.items()})
    assert stdout.splitlines()[1] == "  no single known mistake explains these differences; see which images differ"
    _, stdout, _ = conformance({"tiny.png": [value + 0.01 for value in correct["tiny.png"]]})
    assert stdout.splitlines()[1].startswith("  close: pixels off by one")
    assert stdout.splitlines()[-1].startswith("  no logits for exact.png, square.png")


def test_a_file_without_outputs_gives_one_line(conformance):
    for content, reason in (
        ("{", "outputs.json cannot be read (it is no JSON); expected JSON: check"),
        ("[1]", "outputs.json holds no JSON object; expected"),
        (
            '{"a/exact.png": [1], "b/tiny.png": [1], "b/exact.png": [2]}',
            "outputs.json has 3 entries for 2 images; expected one per image: ",
        ),
    ):
        code, stdout, stderr = conformance(content)
        assert (code, stdout, stderr.startswith("error: "), reason in stderr) == (1, "", True, True)
