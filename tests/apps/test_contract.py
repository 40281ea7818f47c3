"""The contract outside of the package equals that of the package."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from cifarnet import contract as spec
from cifarnet.apps.conformance import TOLERANCES
from cifarnet.dataset import CIFAR10_LABELS
from cifarnet.run.record import Calibration

EXPORT = Path(__file__).parents[2] / "export"


def expected_contract():
    """Return the contract as the constants of the package have it now."""
    height, width, channels = spec.IMAGE_SHAPE
    return {
        "version": spec.CONTRACT_VERSION,
        "metadata": {"contract": spec.CONTRACT_KEY, "digest": spec.DIGEST_KEY, "standard": spec.IMAGE_METADATA},
        "input": {**spec.INPUT, "shape": [spec.BATCH_DIMENSION, height, width, channels]},
        "outputs": {
            name: {**stdout, "shape": [spec.BATCH_DIMENSION, "classes"]} for name, stdout in spec.OUTPUTS.items()
        },
        "resize": dict(spec.RECIPE),
        "cifar10_labels": list(CIFAR10_LABELS),
        "tolerances": TOLERANCES,
    }


@pytest.fixture(scope="module")
def contract():
    return json.loads((EXPORT / "contract.json").read_text())


def test_the_contract_equals_that_of_the_package(contract):
    described = contract["calibration"].keys()
    assert contract == expected_contract() | {"calibration": contract["calibration"]}
    assert described == {field.name for field in fields(Calibration)}


def test_a_changed_constant_is_detected(contract, monkeypatch):
    for name, value in (
        ("CONTRACT_VERSION", 2),
        ("CONTRACT_KEY", "other"),
        ("DIGEST_KEY", "other"),
        ("INPUT", spec.INPUT | {"name": "image"}),
        ("OUTPUTS", {"scores": spec.OUTPUTS["logits"]}),
        ("BATCH_DIMENSION", "n"),
        ("IMAGE_METADATA", {}),
        ("IMAGE_SHAPE", (64, 64, 3)),
        ("RECIPE", {}),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(spec, name, value)
            assert contract != expected_contract() | {"calibration": contract["calibration"]}, name


def test_the_golden_model_has_the_same_contract(contract):
    model = json.loads((EXPORT / "golden" / "model.json").read_text())
    assert {name: model[name] for name in ("version", "input", "resize")} == {
        name: contract[name] for name in ("version", "input", "resize")
    }
    assert model["calibration"].keys() == contract["calibration"].keys()
    classes = len(model["labels"])
    for name, output in contract["outputs"].items():
        assert model["outputs"][name] == output | {"shape": ["batch", classes]}


def test_the_page_has_the_same_tolerance(contract):
    assert (
        f"const TOLERANCE = {contract['tolerances']['logits']:.0e}".replace("e-0", "e-")
        in (EXPORT / "browser" / "parity.js").read_text()
    )


def test_the_readme_names_every_part_of_the_contract(contract):
    text = (EXPORT / "README.md").read_text()
    words = [contract["input"]["name"], *contract["outputs"], *contract["resize"], *contract["cifar10_labels"]]
    words += [*contract["calibration"]]
    words += [contract["metadata"]["contract"], contract["metadata"]["digest"]]
    assert [word for word in words if f"`{word}`" not in text] == []
