"""The Triton repository: config.pbtxt is read back by protobuf, which is told of ModelConfig here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format

from pix2pix_edge.export.triton import write_repository
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.sidecar import BuiltBy, Precision, Sidecar, Source, TensorSpec, read_sidecar, write_sidecar
from tests.commands import export
from tests.export.small_network import write_small_network

# From triton-inference-server/common, protobuf/model_config.proto: message -> field -> type; a list means repeated.
MESSAGES: dict[str, dict[str, Any]] = {
    "ModelTensor": {"name": "string", "data_type": ("TYPE_UINT8", "TYPE_FP32"), "dims": ["int32"]},
    "ModelInstanceGroup": {"name": "string", "count": "int32", "gpus": ["int32"],
                           "kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL")},
    "ModelDynamicBatching": {"preferred_batch_size": ["int32"], "max_queue_delay_microseconds": "int32"},
    "ModelConfig": {"name": "string", "platform": "string", "backend": "string", "max_batch_size": "int32",
                    "input": ["ModelTensor"], "output": ["ModelTensor"], "instance_group": ["ModelInstanceGroup"],
                    "dynamic_batching": "ModelDynamicBatching", "default_model_filename": "string"},
}  # fmt: skip


def read_pbtxt(text: str) -> dict[str, Any]:
    """Read protobuf text as inference.ModelConfig, with protobuf's own reader."""
    file, kinds = descriptor_pb2.FileDescriptorProto(name="a.proto"), descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            label, kind = (3, kind[0]) if isinstance(kind, list) else (1, kind)
            made = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, tuple):
                made.type, made.type_name = kinds.TYPE_ENUM, f".{name}.{field.title()}"
                values = message.enum_type.add(name=field.title()).value
                for value, word in enumerate(kind):
                    values.add(name=word, number=value)
            elif kind in MESSAGES:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".{kind}"
            else:
                made.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = text_format.Parse(text, message_factory.GetMessageClass(pool.FindMessageTypeByName("ModelConfig"))())
    return json_format.MessageToDict(found, preserving_proto_field_name=True)


def exported(folder: Path, name: str = "facades.fp16.onnx", *, batch: int = 1, fault: str = "") -> Path:
    path = write_small_network(folder / name, "fp16", batch=batch, fault=fault)
    ends = (TensorSpec(name, (batch, 32, 32, 3), "uint8") for name in ("image", "translated"))
    write_sidecar(path, Sidecar("onnx", "", Source(), Precision("fp16"), *ends))
    return path


def plan(folder: Path, max_batch: int | None) -> Path:
    """A file with the sidecar that `export build` writes; Triton's files do not depend on the plan's bytes."""
    path = folder / "facades.plan"
    path.write_bytes(b"ftrt" + bytes(60))
    ends = (TensorSpec(name, (max_batch or 1, 256, 256, 3), "uint8") for name in ("image", "translated"))
    content = Sidecar("plan", "", Source("facades.fp16.onnx", "0"), Precision("fp16"), *ends)
    write_sidecar(path, replace(content, tensorrt=BuiltBy("10.3.0", "Orin", "8.7", max_batch=max_batch)))
    return path


def config(model: Path) -> dict[str, Any]:
    return read_pbtxt((model.parent.parent / "config.pbtxt").read_text())


def test_a_fixed_batch_is_served_without_batching(tmp_path: Path) -> None:
    file = plan(tmp_path, None)
    model = write_repository(file, tmp_path / "models")
    assert model == tmp_path / "models" / "facades" / "1" / "model.plan"
    assert model.read_bytes() == file.read_bytes()
    image = {"name": "image", "data_type": "TYPE_UINT8", "dims": [1, 256, 256, 3]}
    assert config(model) == {
        "name": "facades",
        "platform": "tensorrt_plan",
        "max_batch_size": 0,
        "input": [image],
        "output": [image | {"name": "translated"}],
        "instance_group": [{"count": 1, "kind": "KIND_GPU"}],
    }


def test_a_plan_with_a_free_batch_is_served_with_dynamic_batching(tmp_path: Path) -> None:
    model = write_repository(plan(tmp_path, 4), tmp_path / "models", instances=2)
    found = config(model)
    assert (found["max_batch_size"], found["dynamic_batching"]) == (4, {})
    assert found["input"][0]["dims"] == found["output"][0]["dims"] == [256, 256, 3]
    assert found["instance_group"] == [{"count": 2, "kind": "KIND_GPU"}]
    assert config(write_repository(plan(tmp_path, 4), tmp_path / "models", max_batch=2))["max_batch_size"] == 2


@pytest.mark.parametrize(("built_for", "words"), [(None, "for exactly 1"), (4, "for up to 4 images")])
def test_a_plan_serves_no_larger_batch_than_it_was_built_for(tmp_path: Path, built_for: int | None, words: str) -> None:
    with pytest.raises(InputError, match=rf"is built {words} .*export build .*facades\.fp16\.onnx .* --batch 8"):
        write_repository(plan(tmp_path, built_for), tmp_path / "models", max_batch=8)
    assert not (tmp_path / "models").exists()


def test_an_onnx_file_is_served_as_it_is(tmp_path: Path) -> None:
    file = exported(tmp_path)
    model = write_repository(file, tmp_path / "models", name="mine")
    assert model == tmp_path / "models" / "mine" / "1" / "model.onnx"
    assert model.read_bytes() == file.read_bytes()
    found = config(model)
    assert (found["name"], found["platform"], found["max_batch_size"]) == ("mine", "onnxruntime_onnx", 0)
    assert found["instance_group"] == [{"count": 1, "kind": "KIND_AUTO"}]
    cpu = config(write_repository(exported(tmp_path, "facades.int8.cpu.onnx"), tmp_path / "models"))
    assert cpu["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]


def test_the_batch_of_an_onnx_file_is_freed_in_the_copy(tmp_path: Path) -> None:
    file = exported(tmp_path)
    model = write_repository(file, tmp_path / "models", max_batch=8)
    assert config(model)["max_batch_size"] == 8 and config(model)["input"][0]["dims"] == [32, 32, 3]
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (together,) = session.run(None, {"image": images})
    with open_engine(file, backend="onnxruntime") as engine:
        alone = np.concatenate([engine(image[None]) for image in images])
    assert np.abs(together.astype(int) - alone).max() <= 1
    assert len(np.unique(alone)) > 50


def test_an_onnx_file_that_cannot_take_batches_is_refused(tmp_path: Path) -> None:
    file = exported(tmp_path, fault="batch")
    with pytest.raises(InputError, match="has its batch built in; leave --max-batch out"):
        write_repository(file, tmp_path / "models", max_batch=8)
    assert not list((tmp_path / "models").rglob("*.*"))


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_repository(plan(tmp_path, None), tmp_path / "models")
    model = write_repository(plan(tmp_path, 4), tmp_path / "models")
    assert config(model)["max_batch_size"] == 4
    assert sorted(p.name for p in (tmp_path / "models" / "facades").rglob("*")) == ["1", "config.pbtxt", "model.plan"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../elsewhere"}, "cannot be a model's name"),
        ({"name": "two words"}, "cannot be a model's name"),
        ({"max_batch": 1}, "--max-batch 1 joins nothing"),
        ({"instances": 0}, "--instances 0 serves nothing"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_repository(plan(tmp_path, 4), tmp_path / "models", **change)
    assert not (tmp_path / "models").exists()


def test_bad_files_are_refused(tmp_path: Path) -> None:
    file = plan(tmp_path, None)
    file.write_bytes(b"altered")
    with pytest.raises(InputError, match="was altered after its sidecar was written"):
        write_repository(file, tmp_path / "models")
    file.write_bytes(b"vtrt" + bytes(99))
    write_sidecar(file, read_sidecar(file) or Sidecar())
    with pytest.raises(InputError, match=r"is a plan of TensorRT-RTX, which Triton does not serve; give its \.onnx"):
        write_repository(file, tmp_path / "models")
    (tmp_path / "facades.plan.json").unlink()
    with pytest.raises(InputError, match=r"facades\.plan\.json is missing"):
        write_repository(file, tmp_path / "models")


def test_the_command_says_how_to_serve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, models = plan(tmp_path, 4), tmp_path / "models"
    assert export("triton", file, "--out", models) == 0
    said = capsys.readouterr().out
    assert "with a Triton release that has TensorRT 10.3.0:" in said
    assert f"tritonserver --model-repository={models}" in said


def test_a_server_without_the_onnx_backend_is_given_our_own(tmp_path: Path) -> None:
    file, models = exported(tmp_path), tmp_path / "models"
    model = write_repository(file, models, python=True, instances=2)
    config = read_pbtxt((model.parents[1] / "config.pbtxt").read_text())
    assert config["backend"] == "python" and "platform" not in config and config["max_batch_size"] == 0
    assert config["instance_group"] == [{"count": 2, "kind": "KIND_CPU"}]
    assert {path.name for path in model.parent.iterdir()} == {"model.onnx", "model.onnx.json", "model.py"}
    with open_engine(model), open_engine(file):
        pass
    compile((model.parent / "model.py").read_text(), "model.py", "exec")
    assert write_repository(file, models) == model and not (model.parent / "model.py").exists()
    with pytest.raises(InputError, match="leave --max-batch out"):
        write_repository(file, models, python=True, max_batch=4)
