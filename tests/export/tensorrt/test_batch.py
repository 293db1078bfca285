"""Freeing the batch of an ONNX file: only that changes, and ONNX Runtime then takes any number of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from pix2pix_edge.export.tensorrt.batch import free_batch
from pix2pix_edge.runtime.errors import InputError
from tests.conftest import write_inverter


def test_only_the_first_dimension_of_input_and_output_changes(tmp_path: Path) -> None:
    path = write_inverter(tmp_path / "a.onnx", 16)
    expected = onnx.load(path)
    for tensor in (expected.graph.input[0], expected.graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    assert onnx.load_from_string(free_batch(path.read_bytes())) == expected


def test_freeing_twice_is_freeing_once(tmp_path: Path) -> None:
    once = free_batch(write_inverter(tmp_path / "a.onnx", 16, batch=300).read_bytes())
    assert free_batch(once) == once


def test_onnxruntime_takes_any_batch_afterwards(tmp_path: Path) -> None:
    path = write_inverter(tmp_path / "a.onnx", 16)
    session = onnxruntime.InferenceSession(free_batch(path.read_bytes()), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    (translated,) = session.run(None, {"image": images})
    assert np.array_equal(translated, 255 - images)


def test_large_messages_keep_their_bytes(tmp_path: Path) -> None:
    model = onnx.load(write_inverter(tmp_path / "a.onnx", 16))
    weights = np.random.default_rng(0).normal(size=200_000).astype(np.float32)  # its length takes three bytes
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "unused"))
    freed = onnx.load_from_string(free_batch(model.SerializeToString()))
    assert np.array_equal(onnx.numpy_helper.to_array(freed.graph.initializer[-1]), weights)
    assert freed.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("keep", [3, 40, 150, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    whole = write_inverter(tmp_path / "a.onnx", 16).read_bytes()
    with pytest.raises(InputError, match="not a whole ONNX file"):
        free_batch(whole[:keep])


@pytest.mark.parametrize("text", [b"ftrt and then a plan", b"\xff" * 30, b"PK\x03\x04 a zip, as .keras files are"])
def test_other_files_are_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="not a whole ONNX file"):
        free_batch(text)
