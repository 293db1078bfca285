"""Two real packages of NVIDIA's that need no GPU to be asked: TensorRT's lean runtime, and TensorRT for RTX cards.

pip install --no-deps tensorrt-lean-cu13-libs tensorrt-lean-cu13-bindings
pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pix2pix_edge.export.build import build
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import EngineError, InputError
from pix2pix_edge.runtime.nvidia import capabilities
from pix2pix_edge.runtime.nvidia.plan import package_of, read_plan
from pix2pix_edge.runtime.sidecar import BuiltBy
from tests.commands import python
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
def rtx(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """TensorRT for RTX cards: it builds ahead of time, on any machine."""
    package = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", package)  # it hands on what is in the other, and no more
    capabilities.probe.cache_clear()
    if capabilities.probe().gpu is not None:
        pytest.skip("there is a GPU here")
    yield package
    capabilities.probe.cache_clear()


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
    theirs = python("-c", program)
    assert (
        theirs.returncode < 0
        and "made" in theirs.stdout
        and "CUDA initialization failure" in theirs.stdout + theirs.stderr
    )


@pytest.mark.parametrize("graph", [*PRECISIONS, "bundled"])
def test_plans_for_three_generations_of_cards_are_built_here_and_opened_there(
    rtx: Any, tmp_path: Path, graph: str
) -> None:
    source = REPOSITORY / "models" / "facades.int8.onnx"
    if graph != "bundled":
        source = write_small_network(tmp_path / "a.onnx", graph)
    plan = tmp_path / "rtx.plan"
    sidecar = build(source, plan, rtx=True, cards=((8, 6), (8, 9), (12, 0)), batch=4)
    assert sidecar.precision.asked == ("int8" if graph == "bundled" else graph)
    assert sidecar.tensorrt == BuiltBy(rtx.__version__, compute_capability="8.6, 8.9, 12.0", max_batch=4)
    assert sidecar.fidelity is None and not sidecar.precision.layers  # not tried, and so not proven
    assert plan.read_bytes()[:4] == b"vtrt" and package_of(plan) == "tensorrt_rtx"

    def read(capability: tuple[int, int], **other: str) -> str:
        machine = replace(capabilities.probe(package="tensorrt_rtx"), **other)  # type: ignore[arg-type]
        try:
            data, _ = read_plan(plan, machine, capabilities.Gpu("NVIDIA RTX", capability, False, 8 << 30))
        except EngineError as error:
            return str(error)
        return f"{len(data)} bytes"

    size = f"{plan.stat().st_size} bytes"
    assert read((8, 6)) == read((8, 9)) == read((12, 0)) == size
    assert "was built for the compute capability 8.6, 8.9, 12.0, but here it is 9.0; build it here with: " in read(
        (9, 0)
    )
    assert f"by TensorRT-RTX {rtx.__version__}, but 1.8.0 is here" in (refusal := read((8, 6), tensorrt="1.8.0"))
    assert refusal.endswith("rtx.plan --rtx")
    assert "is not a TensorRT plan" in read((8, 6), package="tensorrt")
    with pytest.raises(EngineError, match="there is no NVIDIA driver here"):
        open_engine(plan)


def test_the_rtx_builder_refuses_a_jetson_and_a_server(rtx: Any, tmp_path: Path) -> None:
    source = write_small_network(tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"does not build for sm87, sm90; give --gpu some of sm75,.*without --rtx"):
        build(source, tmp_path / "a.plan", rtx=True, cards=((8, 7), (8, 6), (9, 0)))
    with pytest.raises(InputError, match=r"there is no GPU here to build for \(.*\); name the cards: --gpu sm86"):
        build(source, tmp_path / "a.plan", rtx=True)
    assert not (tmp_path / "a.plan").exists()
