"""Serialize a graph and its contract to one file with deterministic bytes and a digest."""

import json
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import helper

from cifarnet.contract import CONTRACT_KEY, IMAGE_METADATA, seal
from cifarnet.errors import ModelError

from .writer import IR_VERSION, OPSET

PRODUCER = "cifarnet"


def serialize(graph: onnx.GraphProto, contract: Mapping[str, Any], opset: int = OPSET) -> bytes:
    """Return the content of a model file: checked, with shapes and a digest. Raises ``ModelError`` for a bad graph."""
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION, producer_name=PRODUCER
    )
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the exported graph is not valid ({error}); expected a valid one: report it") from error
    text = contract_text(contract)
    helper.set_model_props(model, {CONTRACT_KEY: text, **IMAGE_METADATA})
    content: bytes = model.SerializeToString(deterministic=True)
    return content + seal(content)


def contract_text(contract: Mapping[str, Any]) -> str:
    """Return the contract as canonical JSON."""
    text = json.dumps(contract, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace").decode()  # a folder name may be invalid UTF-8
