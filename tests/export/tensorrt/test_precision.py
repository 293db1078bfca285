"""The proof of precision, on inspector JSON as TensorRT 10 and 11 write it (shortened to what is read)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pix2pix_edge.export.tensorrt.precision import UNSEEN, found_precision, narrowest, prove
from pix2pix_edge.runtime.errors import EngineError


def ten(*layers: dict[str, Any]) -> str:
    return json.dumps({"Layers": list(layers), "Bindings": ["image", "translated"]})


def eleven(*layers: dict[str, Any]) -> str:
    tensor = {"Name": "image", "IOMode": "Input", "DataType": "UInt8", "Location": "Device"}
    return json.dumps(
        {"Layers": list(layers), "I/O Tensors": [tensor], "Engine Metadata": {"Multi-Device": "Disabled"}}
    )


def old_tensor(text: str) -> dict[str, Any]:
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 64, 32, 32], "Format/Datatype": text}


def new_tensor(datatype: str) -> dict[str, Any]:
    text = "(NHWC) Channel major format"
    return {"Name": "t", "Dimensions": [1, 64, 32, 32], "Datatype": datatype, "Format": text}


def old_convolution(name: str, reads: str, weights: str | None = None) -> dict[str, Any]:
    layer: dict[str, Any] = {
        "Name": f"{name}.weight + {name}.weight/q + {name} + PWN({name}/relu)",
        "LayerType": "CaskConvolution",
        "Inputs": [old_tensor(reads)],
        "Outputs": [old_tensor("Row major linear FP32")],
        "TacticName": "sm80_xmma_fprop_implicit_gemm_f32",
        "Metadata": f"[ONNX Layer: {name}]\x1f[ONNX Layer: {name}/relu]",
    }
    return layer | ({"Weights": {"Type": weights, "Count": 9408}} if weights else {})


def new_layer(kind: str, nodes: list[str], *reads: str) -> dict[str, Any]:
    return {
        "Name": f"__myl_{kind}_0",
        "LayerType": kind,
        "Inputs": [new_tensor(read) for read in reads],
        "Constants": [new_tensor("Float")],
        "Outputs": [new_tensor("Half")],
        "Metadata": "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Four wide channel vectorized row major Int8 format", "int8"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Half", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Float", "fp32"),
        ("Row major linear UInt8 format", UNSEEN),
        ("N/A due to dynamic shapes", UNSEEN),
    ],
)
def test_tensorrt_10_spells_types_in_sentences(text: str, expected: str) -> None:
    assert found_precision(ten(old_convolution("conv", text)), ["conv"]) == {"conv": expected}


def test_weights_tell_more_than_inputs() -> None:
    """A convolution with an FP16 residual input computes in INT8 if its weights are."""
    layer = old_convolution("conv", "Thirty-two wide channel vectorized row major FP16 format", weights="Int8")
    assert found_precision(ten(layer), ["conv"]) == {"conv": "int8"}


@pytest.mark.parametrize(("datatype", "expected"), [("Int8", "int8"), ("Half", "fp16"), ("Float", "fp32")])
def test_tensorrt_11_has_types_of_their_own(datatype: str, expected: str) -> None:
    information = eleven(new_layer("correlation", ["conv", "conv.dq", "conv.wdq"], datatype))
    assert found_precision(information, ["conv"]) == {"conv": expected}


def test_layers_that_only_took_over_the_bias_or_a_cast_do_not_count() -> None:
    information = eleven(
        new_layer("kgen", ["image_cast", "conv"], "UInt8"),
        new_layer("correlation", ["conv"], "Float"),
        new_layer("kgen", ["conv", "relu", "next.q"], "Float", "Half"),
    )
    assert found_precision(information, ["conv"]) == {"conv": "fp32"}


def test_names_are_matched_whole() -> None:
    information = ten(old_convolution("conv_1", "Half"), old_convolution("conv_11", "Row major linear FP32"))
    assert found_precision(information, ["conv_1", "conv_11", "conv"]) == {
        "conv_1": "fp16",
        "conv_11": "fp32",
        "conv": UNSEEN,
    }


def test_a_fused_pair_tells_for_both() -> None:
    information = ten(old_convolution("a", "Half") | {"Name": "a || b", "Metadata": ""})
    assert found_precision(information, ["a", "b"]) == {"a": "fp16", "b": "fp16"}


def test_layer_names_only_prove_nothing() -> None:
    """Without detailed verbosity the inspector lists names as plain strings."""
    found = found_precision(json.dumps({"Layers": ["conv"], "Bindings": []}), ["conv"])
    assert found == {"conv": UNSEEN}
    with pytest.raises(EngineError, match="cannot be proven"):
        prove({"conv": "fp16"}, found)


def test_an_opaque_region_is_said_and_allowed() -> None:
    prove({"a": "int8", "b": "int8"}, {"a": "int8", "b": UNSEEN})


@pytest.mark.parametrize(("asked", "found"), [("int8", "fp16"), ("int8", "fp32"), ("fp16", "fp32")])
def test_a_silent_fallback_is_an_error(asked: str, found: str) -> None:
    with pytest.raises(EngineError, match=rf"1 of 2 convolutions in a wider type.*b \({asked} asked, {found} found\)"):
        prove({"a": asked, "b": asked}, {"a": asked, "b": found})


def test_a_narrower_type_than_asked_is_no_fallback() -> None:
    prove({"a": "fp32"}, {"a": "fp16"})


def test_many_fallbacks_are_counted_not_listed() -> None:
    names = [f"conv_{i}" for i in range(9)]
    with pytest.raises(EngineError, match=r"9 of 9 .*conv_2 \(.*\), …;") as error:
        prove(dict.fromkeys(names, "int8"), dict.fromkeys(names, "fp16"))
    assert "conv_3" not in str(error.value)


def test_a_graph_is_named_after_its_narrowest_convolution() -> None:
    assert narrowest(["fp16", "int8", "fp16"]) == "int8"
    assert narrowest(["fp32", "fp16"]) == "fp16"
    assert narrowest([]) == "fp32"
