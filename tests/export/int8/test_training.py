"""Quantisation-aware distillation: the graph as TensorFlow computes it, against ONNX Runtime; what is learned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.int8 import training
from pix2pix_edge.export.int8.calibrate import observe
from pix2pix_edge.export.int8.rounding import Rounding
from pix2pix_edge.export.int8.targets import TARGETS
from pix2pix_edge.export.int8.training import Network
from pix2pix_edge.runtime.engines.onnx_file import only_inputs_quantized
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.sidecar import Sidecar, read_sidecar
from tests.export.test_quantize import LOW, photos, quantize, write_small_network

pytest.importorskip("tensorflow")
random = np.random.default_rng(11)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small network in FP32 and in INT8, and 44 images in images/."""
    folder = tmp_path_factory.mktemp("learning")
    photos(folder / "images")
    write_small_network(folder / "small.fp32.onnx")
    assert quantize(folder / "small.fp32.onnx", "--data", folder / "images", *LOW) == 0
    return folder


def pictures(model: bytes | str, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": image[None]})[0]).astype(float)


def learning(network: Network, image: np.ndarray, **options: bool) -> np.ndarray:
    (values,) = observe(network.graph, network.reads, [image])
    read = {name: np.moveaxis(value, 1, -1) for name, value in values.items()}
    return np.asarray(network(read, **options))


@pytest.mark.parametrize("rounded", [True, False], ids=["results rounded", "inputs alone"])
def test_a_file_for_cpus_is_computed_as_engines_do(files: Path, rounded: bool) -> None:
    path = files / "small.int8.cpu.onnx"
    network = Network(Graph.load(path))
    image = random.integers(0, 256, (32, 32, 3), np.uint8)
    expected = pictures(str(path) if rounded else only_inputs_quantized(path), image)
    found = learning(network, image, results_rounded=rounded)
    assert np.abs(np.round(found) - expected).mean() < 0.05


def layer(op: str, *shapes: tuple[int, ...], **attributes: Any) -> Graph:
    """Return a graph of one operator on [1, 8, 6, 10], after an addition that can be learned."""
    shift = numpy_helper.from_array(random.normal(size=(1, 8, 1, 1)).astype(np.float32), "shift")
    values = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    constants = [numpy_helper.from_array(value, f"c{i}") for i, value in enumerate(values)]
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2], name="planes"),
        helper.make_node("Add", ["planes", "shift"], ["shifted"], name="shifted"),
        helper.make_node(op, ["shifted", *(c.name for c in constants)], ["made"], name="made", **attributes),
        helper.make_node("Transpose", ["made"], ["translated"], perm=[0, 2, 3, 1], name="last"),
    ]
    read = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 6, 10, 8])
    made = helper.make_tensor_value_info("translated", TensorProto.FLOAT, [1, None, None, None])
    graph = helper.make_graph(nodes, "one", [read], [made], [shift, *constants])
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


@pytest.mark.parametrize(
    "graph",
    [
        layer("Conv", (5, 8, 3, 3), (5,), pads=[1, 1, 1, 1]),
        layer("Conv", (5, 8, 4, 2), strides=[2, 1], pads=[1, 0, 2, 1]),
        layer("Conv", (5, 8, 3, 3), dilations=[2, 2], pads=[2, 2, 2, 2]),
        layer("Conv", (8, 1, 3, 3), (8,), group=8, pads=[0, 1, 0, 1]),
        layer("DepthToSpace", blocksize=2),
        layer("DepthToSpace", blocksize=2, mode="CRD"),
        layer("Mul", (1, 8, 1, 1)),
        layer("Sub", (8, 1, 1)),
        layer("Div", ()),
        layer("Max", (1,)),
        layer("LeakyRelu", alpha=0.2),
        layer("LeakyRelu"),
        layer("InstanceNormalization", (8,), (8,), epsilon=0.01),
        layer("Relu"),
        layer("Sigmoid"),
        layer("Tanh"),
        layer("Clip", (), ()),
    ],
    ids=lambda graph: " ".join((graph.nodes[3].op_type, *(str(a.name) for a in graph.nodes[3].attribute))),
)
def test_operators_are_those_of_onnx(graph: Graph) -> None:
    image = random.integers(0, 256, (6, 10, 8), np.uint8)
    expected = pictures(graph.to_model().SerializeToString(), image)
    assert np.allclose(learning(Network(graph), image), expected, rtol=1e-4, atol=1e-3)


def test_what_cannot_be_trained_is_named() -> None:
    with pytest.raises(InputError, match=r"made computes Softplus.*leave --train out"):
        learning(Network(layer("Softplus")), random.integers(0, 256, (6, 10, 8), np.uint8))


def sidecar(path: Path) -> Sidecar:
    found = read_sidecar(path)
    assert found is not None
    return found


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_what_rounding_got_wrong_is_learned_with_the_same_operators_and_scales(
    target: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Rounding.lost

    def wrong(rounding: Rounding, name: str, rest: np.ndarray) -> np.ndarray:
        return lost(rounding, name, rest) + np.random.default_rng(len(rest)).normal(0, 0.02, len(rest))

    monkeypatch.setattr(Rounding, "lost", wrong)
    monkeypatch.setattr(training, "RATE", 0.05)
    found = {}
    for epochs in (0, 10):
        model = Path(shutil.copy(files / "small.fp32.onnx", tmp_path))
        options = ("--data", files / "images", *LOW, "--target", target, "--train", epochs)
        assert quantize(model, *options) == 0
        path = tmp_path / f"small{TARGETS[target].ending}"
        found[epochs] = Graph.load(path), sidecar(path).fidelity
    (before, was), (after, now) = found.values()
    assert [(n.op_type, n.name) for n in after.nodes] == [(n.op_type, n.name) for n in before.nodes]
    changed = [name for name, value in before.constants.items() if not np.array_equal(value, after.constants[name])]
    assert [name for name in changed if "weight_codes" in name]
    assert not [name for name in changed if name.endswith(("scale", "zero", "weight_scales", "weight_zeros"))]
    assert was and now and now.psnr_db > was.psnr_db + 2


def test_a_negative_number_of_epochs_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize(files / "small.fp32.onnx", "--data", files / "images", "--train", -1) == 2
    assert "--train -1 must be 0 or more epochs" in capsys.readouterr().err


def test_training_that_brings_nothing_is_not_kept(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(files / "small.fp32.onnx", tmp_path)
    monkeypatch.setattr(training, "RATE", 20.0)
    options = ("--data", files / "images", *LOW, "--target", "cpu", "--train", 1)
    assert quantize(tmp_path / "small.fp32.onnx", *options) == 0
    assert (tmp_path / "small.int8.cpu.onnx").read_bytes() == (files / "small.int8.cpu.onnx").read_bytes()
