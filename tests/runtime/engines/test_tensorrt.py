"""The TensorRT engine over the SIMULATED TensorRT and real pycuda on a fake driver: no line here has run on a GPU."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pix2pix_edge.runtime.errors import EngineError, MissingPackageError, ToolkitError
from tests.commands import start
from tests.conftest import eventually, in_threads, write_inverter, write_rgb
from tests.export.small_network import images, write_small_network
from tests.fake_cuda import ILLEGAL_ADDRESS
from tests.simulator import VERSIONS, Start, build_plan, run_simulated

SIZE = 32


@pytest.fixture(scope="module")
def expected(generator: Path) -> list[NDArray[np.uint8]]:
    """What ONNX Runtime makes of images(5)."""
    with OnnxRuntimeEngine(generator) as engine:
        return [engine(image) for image in images(5)]


# Pictures


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("machine", "start", "memory"),
    [
        ({}, "CUDA graph", "copies"),
        ({"integrated": True}, "CUDA graph", "zero-copy"),
        ({"graphs": False}, "plain enqueue (cuda-bindings is not installed; run: pip install cuda-bindings)", "copies"),
        ({"capturable": False}, "plain enqueue (capturing it failed: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)", "copies"),
        ({"graphs": False, "integrated": True}, "plain enqueue (cuda-bindings is not installed", "zero-copy"),
    ],
    ids=["graph", "graph-zero-copy", "no-bindings", "no-capture", "plain-zero-copy"],
)
def test_pictures_are_those_of_onnxruntime(
    simulated_tensorrt: Start,
    generator: Path,
    expected: list[NDArray[np.uint8]],
    tmp_path: Path,
    version: str,
    machine: dict[str, Any],
    start: str,
    memory: str,
) -> None:
    simulator = simulated_tensorrt(version, **machine)
    with open_engine(build_plan(generator, tmp_path / "tiny.plan")) as engine:
        about = engine.describe()
        assert about["version"] == simulator.tensorrt.__version__
        assert about["start"].startswith(start) and about["memory"].startswith(memory)
        for image, picture in zip(images(5), expected, strict=True):
            ticket = engine.submit(image)
            np.testing.assert_array_equal(ticket.result(), picture)
            assert ticket.compute_ns > 0


def test_a_plan_of_tensorrt_rtx_runs_by_that_package(
    plan: Path, expected: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both packages have one API: the simulated one stands in the other's place, and its plans begin as the other's."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", sys.modules["tensorrt"])
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr("tests.simulator.plan.MAGIC", b"vtrt")
    plan.write_bytes(b"vtrt" + plan.read_bytes()[4:])
    with open_engine(plan) as engine:
        np.testing.assert_array_equal(engine(images(1)[0]), expected[0])
        assert engine.describe()["engine"] == "TensorRT-RTX"
    plan.write_bytes(b"ftrt" + plan.read_bytes()[4:])
    with pytest.raises(MissingPackageError, match=r"^TensorRT .*; run: pip install 'pix2pix-edge\[tensorrt\]'"):
        open_engine(plan)


def test_frames_in_flight_keep_their_order_and_their_pictures(plan: Path, expected: list[NDArray[np.uint8]]) -> None:
    with open_engine(plan, slots=3) as engine:
        tickets = [engine.submit(image) for image in images(3)]
        first = tickets[0].result()
        fourth = engine.submit(images(4)[3])
        third = tickets[2].result()  # results may be taken in any order
        np.testing.assert_array_equal(tickets[1].result(), expected[1])
        np.testing.assert_array_equal(fourth.result(), expected[3])
        np.testing.assert_array_equal(first, expected[0])  # still, though its slot has been used again
        np.testing.assert_array_equal(third, expected[2])


def test_a_free_batch_becomes_the_one_it_was_optimised_for(simulated_tensorrt: Start, tmp_path: Path) -> None:
    simulated_tensorrt("10.16")
    graph = write_small_network(tmp_path / "free.onnx", batch="N")
    four = write_small_network(tmp_path / "four.onnx", batch=4)
    with (
        open_engine(build_plan(graph, tmp_path / "batch.plan", batch=4)) as engine,
        OnnxRuntimeEngine(four) as reference,
    ):
        assert engine.input.shape == engine.output.shape == (4, SIZE, SIZE, 3)
        for batch in images(3, batch=4):
            np.testing.assert_array_equal(engine(batch), reference(batch))


def test_two_engines_at_once(simulated_tensorrt: Start, generator: Path, tmp_path: Path, expected: list[Any]) -> None:
    simulated_tensorrt("11.4")
    inverted = write_inverter(tmp_path / "inverter.onnx", SIZE)
    first, second = (build_plan(g, tmp_path / f"{g.stem}.plan") for g in (generator, inverted))
    with open_engine(first) as one:
        with open_engine(second) as two:
            for image, picture in zip(images(5), expected, strict=True):
                pair = one.submit(image), two.submit(image)
                np.testing.assert_array_equal(pair[0].result(), picture)
                np.testing.assert_array_equal(pair[1].result(), 255 - image)
        np.testing.assert_array_equal(one(images(1)[0]), expected[0])  # the other's end does not touch it


# Threads


def test_any_thread_may_open_use_and_close_it(plan: Path, expected: list[NDArray[np.uint8]]) -> None:
    def in_thread(action: Callable[[], Any]) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(action()))
        thread.start()
        thread.join(600)
        return found[0]

    engine = in_thread(lambda: open_engine(plan))
    ticket = in_thread(lambda: engine.submit(images(1)[0]))
    np.testing.assert_array_equal(in_thread(ticket.result), expected[0])
    np.testing.assert_array_equal(engine(images(2)[1]), expected[1])
    in_thread(engine.close)


def test_submit_waits_for_a_slot(plan: Path) -> None:
    with open_engine(plan, slots=2) as engine:
        tickets = [engine.submit(image) for image in images(2)]
        third: list[Any] = []
        thread = threading.Thread(target=lambda: third.append(engine.submit(images(3)[2])))
        thread.start()
        thread.join(0.1)
        assert thread.is_alive() and not third
        tickets[0].result()
        thread.join(600)
        tickets[1].result()
        third[0].result()


def test_submit_from_one_thread_and_results_in_another(plan: Path, expected: list[NDArray[np.uint8]]) -> None:
    from queue import SimpleQueue

    def submit() -> None:
        for i in range(100):
            tickets.put(engine.submit(images(5)[i % 5]))

    tickets: SimpleQueue[Any] = SimpleQueue()
    with open_engine(plan) as engine, in_threads(submit):
        for i in range(100):
            np.testing.assert_array_equal(tickets.get().result(), expected[i % 5])


# Memory


def test_ten_thousand_frames_leave_memory_flat(simulated_tensorrt: Start, tmp_path: Path) -> None:
    simulator = simulated_tensorrt("10.3")
    graph = write_inverter(tmp_path / "inverter.onnx", 8)
    image = np.full((1, 8, 8, 3), 7, np.uint8)
    with open_engine(build_plan(graph, tmp_path / "inverter.plan")) as engine:
        blocks = {}
        for frame in range(10_001):
            out = engine(image)
            if frame in (1_000, 10_000):
                gc.collect()  # what earlier tests left is none of this one's
                blocks[frame] = sys.getallocatedblocks(), simulator.gpu.used_memory, len(simulator.gpu.leftovers())
        assert (out == 248).all()
    assert blocks[10_000][1:] == blocks[1_000][1:]
    assert blocks[10_000][0] - blocks[1_000][0] < 2_000  # one object a frame would be 9 000; other threads have some


# Ends


def test_closing_twice_and_using_it_afterwards(plan: Path) -> None:
    engine = open_engine(plan)
    ticket = engine.submit(images(1)[0])
    ticket.result()
    with pytest.raises(EngineError, match="already taken"):
        ticket.result()
    late = engine.submit(images(1)[0])
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed before this result"):
        late.result()
    with pytest.raises(EngineError, match="the engine is closed; open it again"):
        engine.submit(images(1)[0])
    with pytest.raises(EngineError, match="the engine is closed"):
        engine(images(1)[0])


def test_closing_wakes_a_submit_that_waits(plan: Path) -> None:
    engine = open_engine(plan, slots=1)
    engine.submit(images(1)[0])
    failures: list[ToolkitError] = []

    def wait() -> None:
        try:
            engine.submit(images(1)[0])
        except ToolkitError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(0.1)
    engine.close()
    thread.join(600)
    assert "closed" in str(failures[0])


def test_wrong_images_are_refused_and_cost_no_slot(plan: Path) -> None:
    with open_engine(plan, slots=1) as engine:
        for wrong in (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, SIZE, SIZE, 3), np.float32)):
            with pytest.raises(EngineError, match=r"the engine takes uint8\[1, 32, 32, 3\]"):
                engine.submit(wrong)
        engine(images(1)[0])


def test_a_fault_of_the_gpu_is_told_and_does_not_hang(
    simulated_tensorrt: Start, generator: Path, tmp_path: Path
) -> None:
    simulator = simulated_tensorrt("10.13")
    with open_engine(build_plan(generator, tmp_path / "tiny.plan")) as engine:
        simulator.gpu.settings.fault = ILLEGAL_ADDRESS  # as the driver answers from then on
        tickets = [engine.submit(images(1)[0]) for _ in range(2)]
        for ticket in tickets:
            with pytest.raises(EngineError, match=r"failed while translating \(.*illegal memory.*restart the program"):
                ticket.result()


def test_a_program_that_forgets_to_close_ends_without_an_abort(plan: Path, tmp_path: Path) -> None:
    script = tmp_path / "forgets.py"
    script.write_text(
        "import numpy as np\nfrom runtime.engine import open_engine\n"
        f"engine, image = open_engine({str(plan)!r}), np.zeros((1, {SIZE}, {SIZE}, 3), np.uint8)\n"
        "engine(image)\nengine.submit(image)\nprint('end')\n"
    )
    done = run_simulated(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_ctrl_c_ends_a_stream_with_130_and_no_abort(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["runtime/run.py", "--engine", plan, "--source", "test://32x32@30", "--sink", out]
    process = start("-m", "tests.simulator", "10.3", *words, stderr=subprocess.STDOUT)
    try:
        assert eventually(lambda: process.poll() is not None or (out.is_dir() and any(out.iterdir())))
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130, text
    assert "simulator:" not in text and "Traceback" not in text


@pytest.mark.parametrize(
    "version", ["10.3", "11.4", *(pytest.param(v, marks=pytest.mark.slow) for v in ("10.13", "10.16"))]
)
def test_the_whole_path_from_graph_to_pictures(generator: Path, tmp_path: Path, version: str) -> None:
    """`export build`, then `runtime/run.py`, each as a user runs it, under the simulator."""
    import cv2

    plan, out = tmp_path / "tiny.plan", tmp_path / "out"
    built = run_simulated("-m", "export", "build", generator, "--out", plan, version=version)
    assert built.returncode == 0, built.stderr
    picture = images(1)[0][0]
    ran = run_simulated(
        *("runtime/run.py", "--engine", plan, "--source", write_rgb(tmp_path / "in.png", picture), "--sink", out),
        version=version,
    )
    assert ran.returncode == 0, ran.stderr
    found = cv2.imread(str(out / "in.png"))[..., ::-1]
    with OnnxRuntimeEngine(generator) as reference:
        np.testing.assert_array_equal(found, reference(picture[None])[0])
