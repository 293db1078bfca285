"""The contract that every engine keeps, run over each CPU engine, and how open_engine chooses."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from pix2pix_edge.runtime.engine import WAYS, open_engine
from pix2pix_edge.runtime.engines.base import Images, TensorSpec, check_contract
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.engines.onnx_file import read_onnx
from pix2pix_edge.runtime.engines.onnxruntime import physical_cores
from pix2pix_edge.runtime.errors import EngineError, InputError, MissingPackageError, ToolkitError
from pix2pix_edge.runtime.sidecar import Precision, Sidecar, Source, Verdict, write_sidecar
from tests.commands import python
from tests.conftest import in_threads, write_inverter
from tests.export.arithmetic import model_of

RANDOM = np.random.default_rng(3)


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def images(size: int = 32) -> Images:
    return RANDOM.integers(0, 256, (1, size, size, 3), np.uint8)


def test_an_engine_translates_and_describes_itself(inverter: Path, backend: str) -> None:
    with open_engine(inverter, backend=backend, threads=1) as engine:
        assert engine.input == TensorSpec("image", (1, 32, 32, 3), "uint8")
        assert engine.output == TensorSpec("translated", (1, 32, 32, 3), "uint8")
        batch = images()
        assert np.array_equal(engine(batch), 255 - batch)
        about = engine.describe()
        assert about["file"] == inverter.name and about["threads"] == "1" and about["version"][0].isdigit()
        assert (engine.kind, engine.on_cpu, engine.threads) == (backend, True, 1)
        assert about["engine"] == {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[backend]


def test_results_in_flight_do_not_share_memory(inverter: Path, backend: str) -> None:
    with open_engine(inverter, backend=backend, slots=3) as engine:
        batches = [images() for _ in range(3)]
        tickets = [engine.submit(batch) for batch in batches]
        results = [ticket.result() for ticket in tickets]
        for batch, result, ticket in zip(batches, results, tickets, strict=True):
            assert np.array_equal(result, 255 - batch) and ticket.compute_ns > 0
        engine(images())
        assert np.array_equal(results[0], 255 - batches[0]), "a result is the caller's to keep"


def test_submit_blocks_beyond_the_slots(inverter: Path, backend: str) -> None:
    with open_engine(inverter, backend=backend, slots=1) as engine:
        first, passed = engine.submit(images()), threading.Event()

        def second() -> None:
            ticket = engine.submit(images())
            passed.set()
            ticket.result()

        with in_threads(second):
            assert not passed.wait(0.2)
            first.result()
        assert passed.is_set()


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 32, 32, 3), np.float32), np.zeros((1, 16, 16, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)]
)
def test_images_of_another_kind_are_refused(inverter: Path, backend: str, wrong: Images) -> None:
    with open_engine(inverter, backend=backend) as engine:
        with pytest.raises(EngineError, match=r"takes uint8\[1, 32, 32, 3\].*fit"):
            engine(wrong)
        batch = images()
        assert np.array_equal(engine(batch), 255 - batch), "the engine goes on after a refusal"


def test_a_closed_engine_says_so_and_leaves_no_thread(inverter: Path, backend: str) -> None:
    engine = open_engine(inverter, backend=backend)
    engine(images())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine(images())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("engine")]


FLOATS = "(float[1, 8, 8, 3] image) => (float[1, 8, 8, 3] translated)"
SPOIL: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "empty": lambda path: path.write_bytes(b""),
    "other input": lambda path: write_inverter(path, input="photo"),
    "other output": lambda path: write_inverter(path, output="picture"),
    "floats": lambda path: onnx.save(model_of(FLOATS, "translated = Neg (image)"), path),
}


@pytest.mark.parametrize("how", SPOIL)
def test_a_file_that_is_no_exported_graph_is_one_sentence(tmp_path: Path, backend: str, how: str) -> None:
    path = write_inverter(tmp_path / "spoilt.onnx")
    SPOIL[how](path)
    with pytest.raises(EngineError, match=r"spoilt\.onnx .*python -m export convert") as caught:
        open_engine(path, backend=backend)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("shape", [(1, 32, 32, 1), (-1, 32, 32, 3), (1, 3, 32, 32), (32, 32, 3)])
def test_the_contract_wants_a_fixed_picture(shape: tuple[int, ...]) -> None:
    ends = [TensorSpec("image", shape, "uint8")], [TensorSpec("translated", (1, 32, 32, 3), "uint8")]
    said = r"image uint8\[.*, not image and translated.*convert a\.onnx|both must be pictures"
    with pytest.raises(EngineError, match=said):
        check_contract(Path("a.onnx"), *ends)


def test_a_file_altered_after_its_export_is_refused(tmp_path: Path) -> None:
    path = write_inverter(tmp_path / "a.fp32.onnx")
    write_sidecar(path, Sidecar(precision=Precision("fp32"), source=Source("g.keras")))
    with open_engine(path, backend="onnxruntime") as engine:
        assert engine.precision == engine.describe()["precision"] == "fp32"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(EngineError, match=r"altered after .*python -m export convert g\.keras --out"):
        open_engine(path)


def quantized(path: Path) -> Path:
    """Write a graph with a Q/DQ pair, as the quantiser makes them."""
    body = """real = Cast <to = 1> (image)  q = QuantizeLinear (real, s, z)  d = DequantizeLinear (q, s, z)
        translated = Cast <to = 2> (d)"""
    ends = "(uint8[1, 8, 8, 3] image) => (uint8[1, 8, 8, 3] translated)"
    onnx.save(model_of(ends, body, {"s": np.float32(1), "z": np.uint8(0)}), path)
    return path


def test_integer_arithmetic_is_int8_without_a_dequantize_node(tmp_path: Path) -> None:
    body = "wide = ConvInteger (image, w)  translated = Cast <to = 2> (wide)"
    ends = "(uint8[1, 3, 8, 8] image) => (uint8[1, 3, 8, 8] translated)"
    onnx.save(model_of(ends, body, {"w": np.zeros((3, 3, 1, 1), np.uint8)}), tmp_path / "a.onnx")
    assert read_onnx(tmp_path / "a.onnx").quantized


@pytest.mark.parametrize(
    ("int8", "verdict", "expected"),
    [
        (False, None, "OpenVINO"),
        (False, Verdict(True), "OpenVINO"),
        (False, Verdict(False), "ONNX Runtime"),
        (True, None, "ONNX Runtime"),
        (True, Verdict(True), "OpenVINO"),
        (True, Verdict(False), "ONNX Runtime"),
    ],
)
def test_auto_takes_openvino_unless_it_may_give_wrong_pictures(
    tmp_path: Path, int8: bool, verdict: Verdict | None, expected: str
) -> None:
    pytest.importorskip("openvino")
    path = quantized(tmp_path / "a.onnx") if int8 else write_inverter(tmp_path / "a.onnx")
    assert read_onnx(path).quantized is int8
    for sidecar in (False, True):
        if sidecar:
            write_sidecar(path, Sidecar(backends={"openvino": verdict} if verdict else {}))
        if sidecar or verdict is None:
            with open_engine(path) as engine:
                assert engine.describe()["engine"] == expected


def test_bf16_only_where_it_passed_and_the_cpu_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from pix2pix_edge.runtime.engines import openvino

    path = write_inverter(tmp_path / "a.onnx")
    for cpu, verdict, expected in (
        (True, Verdict(True), "bf16"),
        (True, Verdict(False), "fp32"),
        (False, Verdict(True), "fp32"),
        (True, None, "fp32"),
    ):
        monkeypatch.setattr(openvino, "has_bf16", lambda cpu=cpu: cpu)
        backends = {"openvino": Verdict(True)} | ({"openvino-bf16": verdict} if verdict else {})
        write_sidecar(path, Sidecar(precision=Precision("fp32"), backends=backends))
        with open_engine(path) as engine:
            assert engine.precision == engine.describe()["precision"] == expected
            batch = images()
            assert np.array_equal(engine(batch), 255 - batch)
        with open_engine(path, precision="fp32") as engine:
            assert engine.precision == "fp32"
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    with pytest.raises(EngineError, match="the CPU has no BF16 arithmetic"):
        open_engine(path, precision="bf16")
    with pytest.raises(InputError, match="leave --precision bf16 out"):
        open_engine(path, precision="bf16", backend="onnxruntime")


def test_auto_takes_the_fastest_of_those_that_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from pix2pix_edge.runtime.engines import openvino

    monkeypatch.setattr(openvino, "has_bf16", lambda: True)
    path = write_inverter(tmp_path / "a.onnx")
    for times, expected in (
        ((3.0, 2.0, 1.0), ("onnxruntime", "fp32")),
        ((3.0, 2.0, 4.0), ("openvino", "fp32")),
        ((1.0, 2.0, 4.0), ("openvino", "bf16")),
        ((1.0, 2.0, None), ("openvino", "bf16")),
    ):
        verdicts = {way: Verdict(True, ms=ms) for way, ms in zip(WAYS, times, strict=True)}
        write_sidecar(path, Sidecar(precision=Precision("fp32"), backends=verdicts))
        with open_engine(path) as engine:
            assert (engine.kind, engine.precision) == expected
        verdicts[WAYS[0]] = Verdict(False, ms=0.1)
        write_sidecar(path, Sidecar(precision=Precision("fp32"), backends=verdicts))
        with open_engine(path) as engine:
            assert engine.precision == "fp32"


def test_auto_does_without_openvino(inverter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with open_engine(inverter) as engine:
        assert engine.describe()["engine"] == "ONNX Runtime"


def test_an_engine_reports_to_nobody(
    inverter: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would keep in the user's home what it reports with, and OpenVINO a thread."""
    program = """
import sys, threading, pix2pix_edge
pix2pix_edge.open_engine(sys.argv[1], backend=sys.argv[2]).close()
assert threading.active_count() == 1, threading.enumerate()
"""
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI"):
        monkeypatch.delenv(name, raising=False)
    done = python("-c", program, inverter, backend, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_backend_says_what_to_install(inverter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, command in (("openvino", r"pip install 'pix2pix-edge\[openvino\]'"), ("onnxruntime", "onnxruntime")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(MissingPackageError, match=command):
            open_engine(inverter, backend=package)


def test_a_plan_that_cannot_run_here_names_the_onnx_beside_it(tmp_path: Path) -> None:
    from pix2pix_edge.runtime.nvidia.capabilities import probe

    if probe().gpu:
        pytest.skip("this machine has a GPU")
    plan = tmp_path / "a.fp16.plan"
    plan.write_bytes(b"ftrt" + bytes(100))
    with pytest.raises(ToolkitError, match=r"give --engine the \.onnx file"):
        open_engine(plan)
    onnx_file = write_inverter(tmp_path / "a.fp32.onnx")
    with pytest.raises(ToolkitError, match=f"--engine {onnx_file}"):
        open_engine(plan)


class Failing(HostEngine):
    """An engine that fails at its second run only."""

    kind = "failing"

    input = output = TensorSpec("image", (1, 2, 2, 3), "uint8")
    runs = 0

    def describe(self) -> dict[str, str]:
        return {}

    def _run(self, batch: Images) -> Images:
        self.runs += 1
        if self.runs == 2:
            raise EngineError("lost")
        return batch


def test_an_engine_that_fails_once_raises_once_and_frees_its_slot() -> None:
    with Failing(slots=1) as engine:
        engine(images(2))
        with pytest.raises(EngineError, match="lost"):
            engine(images(2))
        for _ in range(3):
            engine(images(2))


def test_physical_cores_are_at_most_the_cores_allowed() -> None:
    assert 1 <= physical_cores() <= len(os.sched_getaffinity(0))


def test_ctrl_c_after_openvino_engines_in_other_threads_is_no_crash(inverter: Path) -> None:
    """Freeing OpenVINO's core in another thread once left the main thread a dangling signal stack."""
    pytest.importorskip("openvino")
    script = f"""
import os, signal, threading, time
from pix2pix_edge.runtime.engine import open_engine
first = open_engine({str(inverter)!r}, backend="openvino")
def use():
    with open_engine({str(inverter)!r}, backend="openvino") as engine:
        pass
thread = threading.Thread(target=use); thread.start(); thread.join()
closing = threading.Thread(target=first.close); closing.start(); closing.join()
del first
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(6000):  # the signal may reach another thread, and the main one hears of it between two steps
        time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = python("-c", script)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
