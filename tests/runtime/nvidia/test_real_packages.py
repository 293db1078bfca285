"""Two real packages of NVIDIA's that need no GPU to be asked: TensorRT's lean runtime, and TensorRT for RTX cards.

pip install --no-deps tensorrt-lean-cu13-libs tensorrt-lean-cu13-bindings
pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.plan import read_plan
from tests.conftest import REPOSITORY
from tests.export.small_network import PRECISIONS, write_small_network
from tests.simulator import spec

pytestmark = pytest.mark.real_tensorrt

HEADER = b"ftrt" + bytes(20) + bytes((11, 4, 0, 106)) + bytes(400)


@pytest.fixture
def lean() -> Any:
    """TensorRT 11.4 without a builder."""
    return pytest.importorskip("tensorrt_lean_bindings", reason="the lean runtime is not installed")


@pytest.fixture
def rtx() -> Any:
    """TensorRT for RTX cards: it builds ahead of time, on any machine."""
    return pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")


@pytest.mark.parametrize(
    ("name", "least"), [("Runtime", 5), ("ICudaEngine", 20), ("IExecutionContext", 20), ("ILogger", 2)]
)
def test_the_run_side_of_the_simulator_is_the_lean_runtimes(lean: Any, name: str, least: int) -> None:
    ours = spec.api("11.4")[name]
    text = str(spec.installed_api(lean)[name]).replace("tensorrt_lean_bindings.tensorrt_lean.", "")
    theirs = ast.literal_eval(text.replace("IEngineInspector", "EngineInspector"))  # the lean runtime has none
    assert len(theirs) >= least
    assert theirs == {member: ours[member] for member in theirs}


def test_without_a_driver_we_refuse_where_the_runtime_crashes(
    lean: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes a Runtime, logs that CUDA does not start, and dies of the first plan that it is given."""
    monkeypatch.setitem(sys.modules, "tensorrt", lean)
    capabilities.probe.cache_clear()
    found = capabilities.probe()
    if found.gpu is not None:
        pytest.skip("there is a GPU here")
    assert found.tensorrt == lean.__version__ and found.tensorrt_version[:2] == (11, 4)  # type: ignore[index]
    plan = tmp_path / "a.plan"
    plan.write_bytes(HEADER)
    with pytest.raises(EngineError, match="there is no NVIDIA driver here"):
        open_engine(plan)
    capabilities.probe.cache_clear()
    program = (
        "import tensorrt_lean_bindings as trt; runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR));"
        f" print('made', flush=True); runtime.deserialize_cuda_engine({HEADER!r})"
    )
    theirs = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        theirs.returncode < 0
        and "made" in theirs.stdout
        and "CUDA initialization failure" in theirs.stdout + theirs.stderr
    )


@pytest.mark.parametrize("graph", [*PRECISIONS, "boxed"])
def test_the_rtx_builder_takes_our_graphs_for_three_generations_of_cards(rtx: Any, tmp_path: Path, graph: str) -> None:
    source = REPOSITORY / "models" / "facades.int8.onnx"
    if graph != "boxed":
        source = write_small_network(tmp_path / "a.onnx", graph)
    builder = rtx.Builder(logger := rtx.Logger(rtx.Logger.ERROR))
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(source.read_bytes()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    cards = ("SM86", "SM89", "SM120")
    config.num_compute_capabilities = len(cards)
    for index, card in enumerate(cards):
        config.set_compute_capability(getattr(rtx.ComputeCapability, card), index)
    built = bytes(builder.build_serialized_network(network, config))
    assert built[:4] == b"vtrt" and ".".join(map(str, built[24:28])) == rtx.__version__  # where a plan says it too

    # What it builds is no plan of TensorRT, and the runtime says so before any work.
    plan = tmp_path / "rtx.plan"
    plan.write_bytes(built)
    machine = capabilities.Gpu("NVIDIA RTX A2000", (8, 6), False, 8 << 30)
    with pytest.raises(EngineError, match="is not a TensorRT plan"):
        read_plan(plan, capabilities.probe(), machine)


def test_the_rtx_builder_knows_no_jetson(rtx: Any) -> None:
    assert not {"SM87", "SM90", "SM110"} & set(rtx.ComputeCapability.__members__)
