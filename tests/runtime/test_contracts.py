"""A contract is accepted only if this package implements everything that it describes."""

import pytest

from cifarnet.runtime import Classifier
from tests.runtime import models
from tests.runtime.conftest import refused


@pytest.mark.parametrize("changes", [{"version": 2}, {"version": 99, "labels": "of another kind"}])
def test_a_newer_contract(changes):
    message = f"the model has contract version {changes['version']}; expected at most 1: install a newer cifarnet"
    assert refused(models.content(contract=models.contract(**changes))) == message


@pytest.mark.parametrize("views", [4, True, None, []])
def test_another_number_of_views(views):
    found = refused(models.content(contract=models.contract(flip=True, views=views)))
    assert found == f"the model averages {views!r} views; expected 1, 2, 6: install a newer cifarnet"


RECIPE = models.CONTRACT["resize"]
INPUT = models.CONTRACT["input"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (RECIPE | {"filter": "lanczos"}, "'filter' 'lanczos'; expected bilinear-antialias in this version"),
        (RECIPE | {"crop": None}, "'crop' None; expected centre-square in this version"),
        (RECIPE | {"gamma": 2.2}, "'gamma' 2.2; there is no such step in this version"),
    ],
)
def test_a_recipe_of_another_kind_is_not_replaced_by_ours(recipe, message):
    found = refused(models.content(contract=models.contract(resize=recipe)))
    assert found == f"the model resizes images with {message}: install a newer cifarnet"


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        ("", "it is no JSON: Expecting value"),
        ("{", "it is no JSON: "),
        ("[" * 100_000, "it is no JSON: "),
        ("[1]", "it is no JSON object"),
        ("null", "it is no JSON object"),
        (models.contract(version=...), "its version is None"),
        (models.contract(version="1"), "its version is '1'"),
        (models.contract(version=True), "its version is True"),
        (models.contract(version=1.0), "its version is 1.0"),
        (models.contract(version=0), "its version is 0"),
        (models.contract(labels=...), "its labels is None"),
        (models.contract(labels={"red": 0}), "its labels is {'red': 0}"),
        (models.contract(labels=["red"]), "its labels are ['red'], not two or more different names"),
        (models.contract(labels=["red", 5, "blue"]), "its labels are ['red', 5, 'blue'], not two"),
        (models.contract(labels=["red", "", "blue"]), "its labels are ['red', '', 'blue'], not two"),
        (models.contract(labels=["red", "\udce9", "blue"]), "its labels are ['red', '\\udce9', 'blue'], not two"),
        (models.contract(labels=["red", "red", "blue"]), "its labels are ['red', 'red', 'blue'], not two"),
        (models.contract(labels=["red", ["x"], "blue"]), "its labels are ['red', ['x'], 'blue'], not two"),
        (
            models.contract(labels=["red"] * 99),
            "its labels are ['red', 'red', 'red', 'red', 'red', 'red', 'red', 'red', ..., not",
        ),
        (models.contract(input=[]), "its input is []"),
        (models.contract(input=INPUT | {"color": "BGR"}), "its input has color 'BGR', not 'RGB'"),
        (models.contract(input=INPUT | {"range": [0, 1]}), "its input has range [0, 1], not [0, 255]"),
        (models.contract(input=INPUT | {"layout": "NCHW"}), "its input has layout 'NCHW', not 'NHWC'"),
        (models.contract(input={}), "its input has name None, not 'images'"),
        (models.contract(input=INPUT | {"shape": "square"}), "its input has shape 'square', not ['batch', height"),
        (models.contract(input=INPUT | {"shape": ["batch", 32, 32]}), "its input has shape ['batch', 32, 32], not"),
        (models.contract(input=INPUT | {"shape": ["batch", 32, 32, 1]}), "its input has shape ['batch', 32, 32, 1]"),
        (models.contract(input=INPUT | {"shape": [1, 32, 32, 3]}), "its input has shape [1, 32, 32, 3], not"),
        (
            models.contract(input=INPUT | {"shape": ["batch", True, 32, 3]}),
            "its input has shape ['batch', True, 32, 3]",
        ),
        (models.contract(input=INPUT | {"shape": ["batch", 0, 32, 3]}), "its input has shape ['batch', 0, 32, 3]"),
        (
            models.contract(input=INPUT | {"shape": ["batch", 32, 10**9, 3]}),
            "its input has shape ['batch', 32, 1000000000",
        ),
        (models.contract(resize=...), "its resize is None"),
        (models.contract(resize="bilinear"), "its resize is 'bilinear'"),
        (
            models.contract(resize={}),
            "its resize recipe lacks alpha, color_profile, crop, depth, filter, frame, height",
        ),
        (
            models.contract(resize=RECIPE | {"height": 64}),
            "its resize recipe has another size than its input, ['batch'",
        ),
        (models.contract(resize=RECIPE | {"width": "32"}), "its resize recipe has another size than its input"),
        (models.contract(precision=32), "its precision is 32"),
        (models.contract(model=...), "its model is None"),
        (models.contract(calibration=[]), "its calibration is []"),
        (models.contract(calibration={}), "its temperature is None, not a number above 0 and up to 1000"),
        *(
            (
                models.contract(calibration=models.CALIBRATION | {"temperature": value}),
                f"its temperature is {value!r}, not",
            )
            for value in (0, -1.0, "1.2", True, float("nan"), float("inf"), 10**50)
        ),
        *(
            (
                models.contract(calibration=models.CALIBRATION | {"abstention": value}),
                f"its abstention is {value!r}, not t",
            )
            for value in (0.5, {}, {"threshold": 0.5, "coverage": 1.01, "accuracy": 1})
        ),
    ],
)
def test_a_damaged_contract(contract, reason):
    message = refused(models.content(contract=contract))
    assert message.startswith(f"the model has a damaged contract ({reason}")
    assert message.endswith("; expected one written by `cifarnet export`: export it again")


def test_what_a_contract_adds_beside_is_left_alone():
    contract = models.contract(note="for us", input=INPUT | {"note": "too"})
    assert Classifier(models.content(contract=contract)).contract == contract
