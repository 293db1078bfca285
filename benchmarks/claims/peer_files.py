"""The files that the peers run, made from the same generator as their users would make them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pix2pix_edge.benchmarks.claims.peer_engines import KerasPredict, LiteRt, Peer, onnx_peer
from pix2pix_edge.benchmarks.measure.reference_work import session_of
from pix2pix_edge.runtime.errors import MissingPackageError, require
from pix2pix_edge.runtime.frame import Image

if TYPE_CHECKING:
    import onnx

BASE = "plain graph, ONNX Runtime"
REFERENCE = "Keras predict"
"""Whose pictures the others are compared with: of itself there is no fidelity."""

LEAST_PSNR_DB = 40.0
"""What NNCF's accuracy control is asked to keep, in the mean over its validation images."""


@dataclass(frozen=True)
class Workshop:
    """What peers are made from. plain: the graph that tf2onnx writes. engines: exported files. calibration: uint8
    [H, W, C] images that nothing is compared on.
    """

    generator: Path
    plain: Path
    engines: list[Path]
    folder: Path
    calibration: list[Image]


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def _in_each_engine(name: str, path: Path, *, ours: bool = False, bf16: bool = False) -> list[Peer]:
    """Return a row for each engine of the runtime. bf16: one more, where the CPU has it."""
    found = [onnx_peer(f"{name}, ONNX Runtime", path, ours)]
    if has_openvino():
        from pix2pix_edge.runtime.engines.openvino import has_bf16

        found.append(onnx_peer(f"{name}, OpenVINO", path, ours, "openvino"))
        if bf16 and has_bf16():
            found.append(onnx_peer(f"{name}, OpenVINO BF16", path, ours, "openvino", "bf16"))
    return found


def plain_graph(shop: Workshop) -> list[Peer]:
    """The graph that tf2onnx writes, in ONNX Runtime (the base of every ratio) and in OpenVINO."""
    return _in_each_engine("plain graph", shop.plain, bf16=True)


def keras(shop: Workshop) -> list[Peer]:
    """Keras' own predict, whose pictures are the reference."""
    return [Peer(REFERENCE, shop.generator, partial(KerasPredict, shop.generator))]


def exported(shop: Workshop) -> list[Peer]:
    """Our files."""
    rows = (_in_each_engine(path.name, path, ours=True, bf16=True) for path in shop.engines)
    return [peer for found in rows for peer in found]


def litert(shop: Workshop) -> list[Peer]:
    """LiteRT with XNNPACK, in FP32 and with INT8 weights. Raises MissingPackageError without it."""
    from pix2pix_edge.export.translator import open_keras

    require("ai_edge_litert", "peers", "the LiteRT peer")
    model, peers = open_keras(shop.generator).model, []
    for name, small in (("LiteRT", False), ("LiteRT, INT8 weights", True)):
        path = shop.folder / f"{'small' if small else 'plain'}.tflite"
        path.write_bytes(_tflite(model, small))
        peers.append(Peer(name, path, partial(LiteRt, path)))
    return peers


def nncf(shop: Workshop) -> list[Peer]:
    """NNCF's INT8: min-max ranges with its full bias correction, of the plain graph and of ours in FP32."""

    def quantize(module: Any, model: onnx.ModelProto, calibration: Any) -> onnx.ModelProto:
        found: onnx.ModelProto = module.quantize(
            model,
            calibration,
            preset=module.QuantizationPreset.MIXED,
            subset_size=len(shop.calibration),
            fast_bias_correction=False,
        )
        return found

    return _by_nncf(shop, "NNCF INT8", quantize)


def nncf_accuracy(shop: Workshop) -> list[Peer]:
    """NNCF's INT8 under accuracy control: layers go back to float until LEAST_PSNR_DB is kept. Takes long."""
    import numpy as np

    from pix2pix_edge.export.fidelity import EQUAL_PSNR_DB, psnr

    def quantize(module: Any, model: onnx.ModelProto, calibration: Any) -> onnx.ModelProto:
        expected: dict[bytes, Image] = {}

        def fidelity(candidate: onnx.ModelProto, inputs: Iterable[dict[str, Image]]) -> tuple[float, list[float]]:
            session, each = session_of(candidate), []
            for feed in inputs:
                output = session.run(None, feed)[0]
                float_output = expected.setdefault(feed["image"].tobytes(), output)  # the model in float comes first
                each.append(min(psnr(output, float_output), EQUAL_PSNR_DB))
            return float(np.mean(each)), each

        found: onnx.ModelProto = module.quantize_with_accuracy_control(
            model,
            calibration,
            calibration,
            fidelity,
            max_drop=EQUAL_PSNR_DB - LEAST_PSNR_DB,
            subset_size=len(shop.calibration),
            preset=module.QuantizationPreset.MIXED,
        )
        return found

    return _by_nncf(shop, "NNCF INT8, accuracy control", quantize)


def _by_nncf(shop: Workshop, name: str, quantize: Callable[[Any, Any, Any], Any]) -> list[Peer]:
    module = require("nncf", "peers", "the NNCF peer")
    onnx = require("onnx", "peers", "the NNCF peer")
    calibration = module.Dataset([{"image": image[None]} for image in shop.calibration])
    return _quantised(shop, name, lambda path, made: onnx.save(quantize(module, onnx.load(path), calibration), made))


def modelopt(shop: Workshop) -> list[Peer]:
    """NVIDIA ModelOpt's INT8 by its own command, of the plain graph and of ours in FP32.

    Its pins do not agree with ours: the variable MODELOPT_PYTHON names the interpreter of an environment that has it.
    Raises MissingPackageError without that.
    """
    import numpy as np

    python = os.environ.get("MODELOPT_PYTHON")
    if not python:
        raise MissingPackageError(
            "the ModelOpt peer needs an environment of its own; run: python -m venv .venv-modelopt &&"
            " .venv-modelopt/bin/python -m pip install 'nvidia-modelopt[onnx]' &&"
            " export MODELOPT_PYTHON=.venv-modelopt/bin/python"
        )
    data = shop.folder / "calibration.npz"
    np.savez(data, image=np.stack(shop.calibration))

    def quantize(path: Path, made: Path) -> None:
        words = ["--quantize_mode=int8", "--calibration_eps=cpu", "--high_precision_dtype=fp32"]  # FP16 is slow on CPUs
        given = shutil.copy(path, shop.folder / "given.onnx")  # ModelOpt 0.47 writes into the file that it reads
        files = [f"--onnx_path={given}", f"--calibration_data_path={data}", f"--output_path={made}"]
        command = [python, "-m", "modelopt.onnx.quantization", *files, *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise MissingPackageError(f"MODELOPT_PYTHON={python} cannot run ({error.strerror or error})") from error
        if done.returncode or not made.is_file():
            last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise MissingPackageError(f"ModelOpt in MODELOPT_PYTHON={python} failed: {last}")

    return _quantised(shop, "ModelOpt INT8", quantize)


def _quantised(shop: Workshop, name: str, quantize: Callable[[Path, Path], None]) -> list[Peer]:
    """Return the plain graph and our FP32 files, each quantised (from a file to another) and in each engine."""
    from pix2pix_edge.benchmarks.report.fidelity import is_fp32

    peers: list[Peer] = []
    graphs = {"plain graph": shop.plain} | {path.name: path for path in shop.engines if is_fp32(path)}
    for number, (graph, path) in enumerate(graphs.items()):
        made = shop.folder / f"{name}-{number}.onnx"
        quantize(path, made)
        peers += _in_each_engine(f"{graph}, {name}", made, bf16=True)
    return peers


def _tflite(model: Any, small: bool) -> bytes:
    """Convert for LiteRT with our contract, uint8 in and out. small: dynamic-range quantisation, its usual INT8."""
    tf = require("tensorflow", "peers", "the LiteRT peer")
    shape = (1, *model.inputs[0].shape[1:])

    def contract(image: Any) -> Any:
        predicted = model(tf.cast(image, tf.float32) / 127.5 - 1.0, training=False)
        return tf.cast(tf.clip_by_value(tf.round((predicted + 1.0) * 127.5), 0.0, 255.0), tf.uint8)

    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # Keras 3's variables are not found by the converter, which then writes a file without weights and says nothing.
    frozen = convert_variables_to_constants_v2(
        tf.function(contract).get_concrete_function(tf.TensorSpec(shape, tf.uint8, name="image"))
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], model)
    if small:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converted: bytes = converter.convert()
    return converted


MAKERS: dict[str, Callable[[Workshop], list[Peer]]] = {
    "plain": plain_graph,
    "keras": keras,
    "litert": litert,
    "nncf": nncf,
    "nncf-accuracy": nncf_accuracy,
    "modelopt": modelopt,
    "ours": exported,
}
"""The word of --peers -> what makes the rows."""
