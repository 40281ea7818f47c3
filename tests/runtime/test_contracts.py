"""A contract is accepted only if this package implements everything that it describes."""

import pytest

from cifarnet.runtime import Classifier
from tests.runtime import models
from tests.runtime.conftest import refused


def test_a_newer_contract_or_another_number_of_views():
    message = refused(models.content(contract=models.contract(version=99, labels="of another kind")))
    assert message == "the model has contract version 99; expected at most 1: install a newer cifarnet"
    for views in (4, True, None):
        message = refused(models.content(contract=models.contract(flip=True, views=views)))
        assert message == f"the model averages {views!r} views; expected 1, 2, 6: install a newer cifarnet"


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
        ("[" * 100_000, "it is no JSON: "),
        ("[1]", "it is no JSON object"),
        *(
            (models.contract(**{name: value}), f"its {name} is {None if value is ... else value!r}")
            for name, values in {
                "version": [..., "1", True, 0],
                "labels": [..., {"red": 0}],
                "input": [[]],
                "resize": [..., "bilinear"],
                "precision": [32],
                "model": [...],
                "calibration": [[]],
            }.items()
            for value in values
        ),
        *(
            (models.contract(labels=labels), f"its labels are {labels!r}, not two or more different names")
            for labels in (["red"], ["red", 5], ["red", ""], ["red", "\udce9"], ["red", "red"], ["red", ["x"]])
        ),
        (
            models.contract(labels=["red"] * 99),
            "its labels are ['red', 'red', 'red', 'red', 'red', 'red', 'red', 'red', ..., not",
        ),
        (models.contract(input=INPUT | {"color": "BGR"}), "its input has color 'BGR', not 'RGB'"),
        (models.contract(input=INPUT | {"range": [0, 1]}), "its input has range [0, 1], not [0, 255]"),
        (models.contract(input={}), "its input has name None, not 'images'"),
        *(
            (models.contract(input=INPUT | {"shape": shape}), f"its input has shape {shape!r}, not ['batch', height")
            for shape in ("square", ["batch", 32, 32], [1, 32, 32, 3], ["batch", True, 32, 3], ["batch", 0, 32, 3])
        ),
        (models.contract(input=INPUT | {"shape": ["batch", 32, 10**9, 3]}), "its input has shape ['batch', 32, 10000"),
        (
            models.contract(resize={}),
            "its resize recipe lacks alpha, color_profile, crop, depth, filter, frame, height",
        ),
        *(
            (models.contract(resize=RECIPE | size), "its resize recipe has another size than its input, ['batch'")
            for size in ({"height": 64}, {"width": "32"})
        ),
        (models.contract(calibration={}), "its temperature is None, not a number above 0 and up to 1000"),
        *(
            (models.contract(calibration=models.CALIBRATION | {name: value}), f"its {name} is {value!r}, not")
            for name, values in {
                "temperature": [0, "1.2", True, float("nan"), 10**50],
                "abstention": [0.5, {}, {"threshold": 0.5, "coverage": 1.01, "accuracy": 1}],
            }.items()
            for value in values
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
