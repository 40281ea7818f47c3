"""An app that is right conforms; each known mistake, committed by other code, is named by its numbers."""

import base64
import json

import numpy as np
import pytest

from cifarnet.apps.conformance import check_outputs, mistakes
from cifarnet.errors import DataError
from tests.mistaken_apps import (
    ENTRIES,
    GOLDEN,
    MISTAKEN_APPS,
    app,
    as_probabilities,
    prepared,
    with_calibrated,
)


@pytest.fixture(scope="module")
def right():
    """Return the answers of an app that makes no mistake."""
    return app()


@pytest.mark.parametrize(
    "change",
    [lambda answers: answers, as_probabilities, with_calibrated],
    ids=["logits", "probabilities", "logits and calibrated"],
)
def test_an_app_without_mistakes_conforms(right, change):
    verdict = check_outputs(change(right), GOLDEN)
    assert (verdict.conforms, verdict.mistakes) == (True, ())


@pytest.mark.parametrize("mistake", MISTAKEN_APPS)
def test_a_mistake_is_named_by_the_numbers_that_it_leaves(mistake):
    verdict = check_outputs(MISTAKEN_APPS[mistake](), GOLDEN)
    (found,) = (name for each in (verdict, *verdict.others) for name in each.mistakes)
    named = max((name for name in MISTAKEN_APPS if found.startswith(name)), key=len)
    assert (verdict.conforms, named) == (False, mistake)


def test_every_mistake_that_can_be_named_is_committed_by_an_app():
    known = (*mistakes.PIXEL_MISTAKES, mistakes.SOFTMAX_TWICE, mistakes.NO_TEMPERATURE)
    assert len(known) == len(MISTAKEN_APPS)
    assert all(any(name.startswith(committed) for committed in MISTAKEN_APPS) for name in known)


def test_a_mistake_is_named_from_probabilities_too():
    verdict = check_outputs(as_probabilities(MISTAKEN_APPS["passes BGR"]()), GOLDEN)
    assert verdict.mistakes == ("passes BGR: blue and red are swapped",)


def test_two_mistakes_at_once_are_not_explained():
    both = app(lambda name: prepared(name, drop=True)[..., ::-1])
    assert check_outputs(both, GOLDEN).mistakes == ()


def test_what_spoils_the_pixels_is_named_of_the_calibrated_numbers_alone_too():
    spoiled = with_calibrated(MISTAKEN_APPS["passes BGR"]())
    alone = {name: {"calibrated": numbers["calibrated"]} for name, numbers in spoiled.items()}
    verdict = check_outputs(alone, GOLDEN)
    assert (verdict.kind, verdict.others) == ("calibrated", ())
    assert verdict.mistakes == ("passes BGR: blue and red are swapped",)


def test_every_output_may_be_handed_in_and_each_has_to_be_right(right):
    named = {
        name: {"probabilities": ENTRIES[name]["probabilities"], **row} for name, row in with_calibrated(right).items()
    }
    verdict = check_outputs(named, GOLDEN)
    assert [verdict.kind, *(other.kind for other in verdict.others)] == ["logits", "probabilities", "calibrated"]
    assert verdict.conforms
    named["tiny.png"]["calibrated"][0] += 0.01
    spoiled = check_outputs(named, GOLDEN)
    assert (spoiled.conforms, spoiled.differing, [*spoiled.others[1].differing]) == (False, {}, ["tiny.png"])


def test_an_app_may_be_without_calibrated_numbers_but_not_for_some_of_the_images(right):
    some = right | {"tiny.png": {"logits": right["tiny.png"], "calibrated": ENTRIES["tiny.png"]["calibrated"]}}
    (calibrated,) = check_outputs(some, GOLDEN).others
    assert (calibrated.kind, len(calibrated.missing), calibrated.conforms) == ("calibrated", 17, False)


def test_numbers_that_no_mistake_explains_are_not_explained(right):
    verdict = check_outputs({name: row[::-1] for name, row in right.items()}, GOLDEN)
    assert (verdict.conforms, verdict.mistakes, verdict.is_near) == (False, (), False)
    assert set(verdict.differing) == set(ENTRIES)


def test_pixels_that_are_off_by_one_step_are_called_near():
    rng = np.random.Generator(np.random.PCG64(7))
    moved = app(lambda name: np.clip(prepared(name) + rng.integers(-1, 2, (32, 32, 3)), 0, 255))
    verdict = check_outputs(moved, GOLDEN)
    assert (verdict.conforms, verdict.is_near, verdict.mistakes) == (False, True, ())
    (calibrated,) = check_outputs(with_calibrated(moved), GOLDEN).others
    assert (calibrated.conforms, calibrated.is_near, calibrated.mistakes) == (False, True, ())


def test_an_image_without_an_answer_keeps_an_app_from_conforming(right):
    verdict = check_outputs({name: row for name, row in right.items() if name != "tiny.png"}, GOLDEN)
    assert (verdict.conforms, verdict.missing, verdict.differing) == (False, ("tiny.png",), {})


def test_the_images_that_differ_are_listed_the_worst_first(right):
    changed = right | {"tiny.png": [value + 0.01 for value in right["tiny.png"]]}
    changed["wide.png"] = [value + 0.02 for value in right["wide.png"]]
    assert list(check_outputs(changed, GOLDEN).differing) == ["wide.png", "tiny.png"]


def test_the_golden_pixels_are_what_a_careful_app_reads():
    for name, entry in ENTRIES.items():
        assert prepared(name).tobytes() == base64.b64decode(entry["pixels"]), name


@pytest.mark.parametrize(
    ("answers", "message"),
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
def test_what_is_no_answer_is_refused(answers, message):
    with pytest.raises(DataError) as caught:
        check_outputs(answers, GOLDEN)
    assert str(caught.value).startswith(message)


# The command


@pytest.fixture
def conformance(typed, tmp_path):
    """Return a function that hands in answers and returns exit code, stdout and stderr."""

    def conformance(answers, *options):
        path = tmp_path / "answers.json"
        path.write_text(answers if isinstance(answers, str) else json.dumps(answers))
        return typed("conformance", path, *options)

    return conformance


def test_the_command_says_that_an_app_conforms(conformance, right):
    code, said, talk = conformance({f"golden/images/{name}": row for name, row in right.items()})
    assert (code, talk) == (0, "")
    assert said.startswith("conforms: logits of 18 images, largest difference ")


def test_the_command_names_the_mistake_and_exits_with_one(conformance):
    code, said, talk = conformance(MISTAKEN_APPS["passes BGR"]())
    assert (code, talk) == (1, "")
    assert said.splitlines()[:2] == ["does not conform", "  the app passes BGR: blue and red are swapped"]


def test_the_command_says_what_was_judged_and_names_a_mistake_once(conformance, right):
    code, said, _ = conformance(with_calibrated(right))
    assert (code, [line.split(",")[0] for line in said.splitlines()]) == (
        0,
        ["conforms: logits of 18 images", "conforms: calibrated of 18 images"],
    )
    code, said, _ = conformance(with_calibrated(MISTAKEN_APPS["passes BGR"]()))
    assert (code, said.count("the app ")) == (1, 1)
    assert "exact.png: logits differ by" in said
    assert "exact.png: calibrated differ by" in said
    code, said, _ = conformance(MISTAKEN_APPS["omits the temperature"]())
    assert (code, said.splitlines()[1]) == (
        1,
        "  the app omits the temperature: that is `probabilities`, not `calibrated`",
    )


def test_the_command_says_what_it_cannot_explain(conformance, right):
    _, said, _ = conformance({name: row[::-1] for name, row in right.items()})
    assert said.splitlines()[1] == "  no single known mistake explains these differences; see which images differ"
    _, said, _ = conformance({"tiny.png": [value + 0.01 for value in right["tiny.png"]]})
    assert said.splitlines()[1].startswith("  close: pixels off by one")
    assert said.splitlines()[-1].startswith("  no logits for exact.png, square.png")


def test_the_command_writes_json(conformance, right):
    code, said, _ = conformance(right, "--json")
    verdict = json.loads(said)
    assert (code, verdict["conforms"], verdict["kind"], len(verdict["differences"])) == (0, True, "logits", 18)
    assert verdict["others"] == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "answers.json cannot be read (it is no JSON); expected JSON: check"),
        ("[1]", "answers.json holds a list; expected"),
        (
            '{"a/exact.png": [1], "b/tiny.png": [1], "b/exact.png": [2]}',
            "answers.json has 2 entries for exact.png (a/exact.png, b/exact.png); expected one per golden image: ",
        ),
    ],
)
def test_a_file_that_holds_no_answers_ends_in_one_line(conformance, content, reason):
    code, said, talk = conformance(content)
    assert (code, said) == (1, "")
    assert talk.startswith("error: ")
    assert reason in talk
