"""export quantize on a small network: what each target's file holds, the gate, the cache, and bad inputs."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.images import calibration_split
from pix2pix_edge.export.int8.calibrate import Calibration, channels_of
from pix2pix_edge.export.int8.placement import find_layers
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.images import write_image
from pix2pix_edge.runtime.sidecar import Precision, Sidecar, read_sidecar
from tests.commands import export
from tests.export.accepts import accepted, needs_tool
from tests.export.arithmetic import model_of
from tests.export.small_network import write_small_network

QUANTIZED = ["down1", "down2", "up1"]  # all but the one that makes the picture


LOW = ("--min-psnr", 30, "--min-ssim", 0.9, "--min-worst", 20)

quantize = partial(export, "quantize")


def photos(folder: Path, count: int = 44) -> Path:
    random = np.random.default_rng(3)
    for index in range(count):
        image = np.empty((32, 32, 3), np.uint8)
        image[:] = random.integers(0, 256, 3)
        for _ in range(6):
            top, left, height, width = random.integers(1, 24, 4)
            image[top : top + height, left : left + width] = random.integers(0, 256, 3)
        write_image(folder / f"{index}.png", image)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_network(tmp_path_factory.mktemp("plain") / "small.fp32.onnx")


@pytest.fixture(scope="module")
def done(plain: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run for both targets."""
    folder = tmp_path_factory.mktemp("done")
    model = Path(shutil.copy(plain, folder))
    assert quantize(model, "--data", data, *LOW) == 0
    return folder


@pytest.fixture()
def model(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(plain, tmp_path))


def constants(path: Path) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray], int]:
    found = onnx.load(path)
    values = {t.name: numpy_helper.to_array(t) for t in found.graph.initializer}
    return list(found.graph.node), values, found.opset_import[0].version


def test_tensorrt_codes_are_int8_around_zero_and_the_rest_is_fp16(done: Path) -> None:
    nodes, values, opset = constants(done / "small.int8.onnx")
    assert opset >= 19
    pairs = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        scale, zero = values[node.input[1]], values[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any()
        assert scale.dtype == np.float16 and (scale > 0).all() and np.isfinite(scale).all()
    assert all(value.dtype != np.float32 for value in values.values())
    by_name = {node.name: node for node in nodes}
    for name in [*QUANTIZED, "up2"]:
        assert values[by_name[name].input[2]].dtype == np.float16  # the bias stays float
        assert (values.get(by_name[name].input[1]) is None) == (name in QUANTIZED)


def test_weights_have_a_scale_for_each_output_channel_and_concatenated_codes_share_one(done: Path) -> None:
    nodes, values, _ = constants(done / "small.int8.onnx")
    producers = {name: node for node in nodes for name in node.output}
    weights = producers[next(node for node in nodes if node.name == "up1").input[1]]
    assert values[weights.input[1]].shape == (64,) and values[weights.input[0]].dtype == np.int8
    graph = Graph.load(write_two_levels(done / "two.onnx"))
    layer = next(layer for layer in find_layers(graph) if len(layer.parts) > 1)
    assert layer.parts == ("up_act", "one_act")


def write_two_levels(path: Path) -> Path:
    """Write a graph in which an INT8 convolution reads a concatenation."""
    random = np.random.default_rng(0)
    shapes = {"u": (8, 3, 3, 3), "v": (8, 8, 3, 3), "w": (8, 16, 3, 3), "x": (3, 8, 3, 3)}
    body = """real = Cast <to = 1> (image)  planes = Transpose <perm = [0, 3, 1, 2]> (real)
        one = Conv <pads = [1, 1, 1, 1]> (planes, u)  one_act = Relu (one)
        up = Conv <pads = [1, 1, 1, 1]> (one_act, v)  up_act = Relu (up)  both = Concat <axis = 1> (up_act, one_act)
        two = Conv <pads = [1, 1, 1, 1]> (both, w)  last = Conv <pads = [1, 1, 1, 1]> (two, x)
        pixels = Transpose <perm = [0, 2, 3, 1]> (last)  translated = Cast <to = 2> (pixels)"""
    weights = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    onnx.save(model_of("(uint8[1, 16, 16, 3] image) => (uint8[1, 16, 16, 3] translated)", body, weights), path)
    return path


def test_cpu_codes_are_uint8_and_onnxruntime_computes_in_int8(done: Path, tmp_path: Path) -> None:
    import onnxruntime

    path = done / "small.int8.cpu.onnx"
    nodes, values, _ = constants(path)
    activations = [node for node in nodes if node.op_type == "QuantizeLinear"]
    assert activations and all(values[node.input[2]].dtype == np.uint8 for node in activations)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    optimized = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert optimized.count("QLinearConv") == len(QUANTIZED)


def test_the_sidecar_tells_layers_costs_calibration_and_each_backend(done: Path, data: Path) -> None:
    for name, rest in (("small.int8.onnx", "fp16"), ("small.int8.cpu.onnx", "fp32")):
        told = read_sidecar(done / name)
        assert told is not None
        assert told.sha256 == sha256_of(done / name)
        assert told.precision == Precision("int8", {**dict.fromkeys(QUANTIZED, "int8"), "up2": rest})
        assert set(told.sensitivity) == set(QUANTIZED)
        assert told.fidelity and told.fidelity.psnr_db >= 30
        assert told.fidelity.images == len(calibration_split(data)[1])
        assert told.calibration and told.calibration.images == len(calibration_split(data)[0])
    assert told.backends["onnxruntime"].passed and all(verdict.ms for verdict in told.backends.values())
    assert ("openvino" in told.backends) == (importlib.util.find_spec("openvino") is not None)


def test_the_same_inputs_give_the_same_bytes_with_and_without_the_cache(done: Path, data: Path, model: Path) -> None:
    for _ in range(2):  # the second run finds the calibration of the first
        assert quantize(model, "--data", data, *LOW) == 0
        for name in ("small.int8.onnx", "small.int8.cpu.onnx", "small.int8.onnx.json", "small.calibration.json"):
            assert (model.parent / name).read_bytes() == (done / name).read_bytes(), name
        one, other = (read_sidecar(folder / "small.int8.cpu.onnx") or Sidecar() for folder in (model.parent, done))
        timeless = {way: replace(verdict, ms=None) for way, verdict in other.backends.items()}
        assert {way: replace(verdict, ms=None) for way, verdict in one.backends.items()} == timeless
        assert replace(one, backends={}) == replace(other, backends={})


def test_below_the_gate_no_file_is_left(data: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize(model, "--data", data, "--min-psnr", 99) == 1
    left = {path.name for path in model.parent.iterdir()}
    assert left == {"small.fp32.onnx", "small.calibration.json"}
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "tensorrt" in error and "cpu" in error


def test_the_worst_image_decides_too(done: Path, data: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (read_sidecar(done / "small.int8.cpu.onnx") or Sidecar()).fidelity
    assert before is not None and before.worst_psnr_db is not None and before.worst_psnr_db < before.psnr_db
    worst = round(before.worst_psnr_db + 0.3, 2)
    words = ["--target", "cpu", "--min-psnr", 20, "--min-ssim", 0.5, "--min-worst", worst]
    assert quantize(model, "--data", data, *words) == 0
    after = read_sidecar(model.parent / "small.int8.cpu.onnx") or Sidecar()
    assert after.fidelity is not None and (after.fidelity.worst_psnr_db or 0) >= worst
    assert after.gate is not None and after.gate.min_worst_db == worst
    assert "fp32" in [after.precision.layers[name] for name in QUANTIZED]
    assert "of all arithmetic" in capsys.readouterr().out


def test_a_higher_gate_keeps_the_costliest_layers_in_floating_point(
    done: Path, data: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_sidecar(done / "small.int8.cpu.onnx")
    assert before is not None and before.fidelity is not None
    gate = before.fidelity.psnr_db + 1
    assert (
        quantize(model, "--data", data, "--target", "cpu", "--min-psnr", gate, "--min-ssim", 0.9, "--min-worst", 0) == 0
    )
    told = read_sidecar(model.parent / "small.int8.cpu.onnx")
    assert told is not None and told.fidelity is not None and told.fidelity.psnr_db >= gate
    layers = {name: told.precision.layers[name] for name in QUANTIZED}
    assert set(layers.values()) == {"int8", "fp32"}
    assert "stays in floating point" in capsys.readouterr().out
    assert not (model.parent / "small.int8.onnx").exists()


def test_a_calibration_travels_and_that_of_another_model_is_refused(
    done: Path, data: Path, model: Path, tmp_path: Path, refused: Callable[[int], str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for index in range(1, 13):  # of these, 4, 8 and 12 would be held out
        shutil.copy(data / f"{index}.png", other)
    carried = tmp_path / "carried.json"
    shutil.copy(done / "small.calibration.json", carried)
    words = ["--target", "tensorrt", "--min-psnr", 20, "--min-ssim", 0.5, "--min-worst", 0, "--cache", carried]
    said = refused(quantize(model, "--data", other, *words))  # its images are those that were calibrated on
    assert "none is left to judge on" in said
    for index, path in enumerate(sorted(other.iterdir())):
        write_image(path, np.full((32, 32, 3), 10 * index, np.uint8))
    assert quantize(model, "--data", other, *words) == 0
    told = read_sidecar(model.parent / "small.int8.onnx")
    assert told is not None and told.calibration is not None
    assert told.calibration.images == len(calibration_split(data)[0])
    stranger = write_small_network(tmp_path / "stranger.fp32.onnx", width=8)
    assert "another model" in refused(quantize(stranger, "--data", other, *words))


@pytest.mark.parametrize("level", [0, 255, None])
def test_constant_and_tiny_sets_warn_and_give_usable_scales(
    level: int | None, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "few"
    for index in range(4):
        value = 60 * index if level is None else level
        write_image(folder / f"{index}.png", np.full((8, 8, 3), value, np.uint8))
    assert quantize(model, "--data", folder, "--min-psnr", 5, "--min-ssim", -1, "--min-worst", 0) == 0
    assert "warning: 3 images are few" in capsys.readouterr().err
    for name in ("small.int8.onnx", "small.int8.cpu.onnx"):
        nodes, values, _ = constants(model.parent / name)
        for node in nodes:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                scale = values[node.input[1]].astype(np.float64)
                assert np.isfinite(scale).all() and (scale > 0).all()
        with open_engine(model.parent / name, backend="onnxruntime") as engine:
            engine(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("missing.onnx", "there is no file"),
        ("small.fp32.onnx --images 0", "at least 1"),
        ("small.fp32.onnx --cache broken.json", "is not a calibration"),
        ("small.fp32.onnx --data nowhere", "nowhere"),
        ("quantised.onnx", "quantised already"),
    ],
)
def test_bad_inputs_end_with_2_and_one_line(
    words: str, message: str, done: Path, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[int], str],
) -> None:  # fmt: skip
    monkeypatch.chdir(model.parent)
    Path("broken.json").write_text(json.dumps({"format": "something"}))
    shutil.copy(done / "small.int8.cpu.onnx", "quantised.onnx")
    name, *options = words.split()
    assert message in refused(quantize(name, "--data", data, *options))


def test_the_calibration_file_is_small_and_reads_back(done: Path) -> None:
    path = done / "small.calibration.json"
    model = sha256_of(done / "small.fp32.onnx")
    graph = Graph.load(done / "small.fp32.onnx")
    graph.sort()
    found = Calibration.load(path, model, channels_of(graph, find_layers(graph)))
    assert path.stat().st_size < 50_000
    found.save(done / "again.json")
    assert (done / "again.json").read_bytes() == path.read_bytes()


@needs_tool
def test_tensorrt_accepts_it_and_lowers_nothing(done: Path) -> None:
    weights = sum(value.size for value in Graph.load(done / "small.fp32.onnx").constants.values())
    stored, lowered = accepted(done / "small.int8.onnx")
    assert lowered == 0 and stored <= 1.15 * weights + 8192  # padding, and scales of a network this small
