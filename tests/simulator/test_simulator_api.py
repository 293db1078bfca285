"""The simulated TensorRT has the API of the real module of its version, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, write_inverter
from tests.simulator import Simulator, build_plan, install, spec
from tests.simulator.conftest import SIZE


@pytest.mark.parametrize(
    ("version", "call"),
    [
        ("10.3", "trt.Builder(logger).build_engine"),  # removed in 10.0
        ("10.3", "trt.Builder(logger).create_builder_config().max_workspace_size"),
        ("11.4", "trt.BuilderFlag.FP16"),
        ("11.4", "trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH"),
        ("11.4", "trt.IInt8EntropyCalibrator2"),
        ("11.4", "trt.Builder(logger).platform_has_fast_int8"),
        ("10.3", "trt.IRuntimeConfig"),  # came with 10.13
        ("10.13", "trt.EngineStat"),  # came with 10.16
        ("10.16", "engine.num_bindings"),
        ("10.3", "engine.get_binding_shape"),
        ("11.4", "engine.device_memory_size"),
        ("10.3", "len(engine)"),
    ],
)
def test_a_call_that_the_version_does_not_have(tmp_path: Path, version: str, call: str) -> None:
    with install(version) as simulator:
        trt, logger = simulator.tensorrt, simulator.tensorrt.Logger()
        plan = build_plan(write_inverter(tmp_path / "inverter.onnx", SIZE), tmp_path / "inverter.plan")
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan.read_bytes())
        with pytest.raises((AttributeError, TypeError)):
            eval(call, {"trt": trt, "logger": logger, "engine": engine})


def test_calls_with_other_arguments_than_the_versions(plan: Path, simulator: Simulator) -> None:
    trt = simulator.tensorrt
    logger = trt.Logger()
    builder = trt.Builder(logger)
    config, network = builder.create_builder_config(), builder.create_network()
    for wrong in (
        lambda: trt.Builder(),
        lambda: trt.Builder("logger"),
        lambda: builder.create_network(trt.DataType.FLOAT),
        lambda: config.set_timing_cache(config.create_timing_cache(b"")),  # ignore_mismatch is no option
        lambda: config.set_flag(trt.MemoryPoolType.WORKSPACE),
        lambda: trt.OnnxParser(network, logger).parse("a string"),
        lambda: trt.OnnxParser(network, logger).parse_from_file(file="x"),
        lambda: trt.ICudaEngine(),
        lambda: trt.Dims([1])["x"],
    ):
        with pytest.raises(TypeError):
            wrong()
    for read_only in ((network, "num_layers"), (builder, "logger"), (config, "num_optimization_profiles")):
        with pytest.raises(AttributeError):
            setattr(*read_only, 1)
    with pytest.raises(AttributeError, match="has no attribute 'max_workspace'"):
        config.max_workspace = 1
    with pytest.raises(NotImplementedError, match="is in the API, and the simulator does not simulate it"):
        config.int8_calibrator = None
    assert trt.DataType.FLOAT != 0 and int(trt.DataType.HALF) == 1 and trt.DataType(3) == trt.DataType.INT32
    assert trt.ILogger.ERROR < trt.Logger.WARNING and trt.Logger.Severity.INFO == trt.ILogger.INFO


def test_a_logger_must_call_its_base_class(simulator: Simulator) -> None:
    class Silent(simulator.tensorrt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="must be called when overriding __init__"):
        simulator.tensorrt.Builder(Silent())


def test_host_memory_is_a_buffer_and_nothing_more(plan: Path, simulator: Simulator) -> None:
    memory = (
        simulator.tensorrt.Runtime(simulator.tensorrt.Logger()).deserialize_cuda_engine(plan.read_bytes()).serialize()
    )
    assert bytes(memory) == plan.read_bytes() and memory.nbytes == memoryview(memory).nbytes == plan.stat().st_size
    for wrong in (lambda: len(memory), lambda: memory[0], lambda: memory.hex()):
        with pytest.raises((TypeError, AttributeError)):
            wrong()


def test_nothing_of_the_simulator_stays_installed(tmp_path: Path) -> None:
    before = {name for name in sys.modules if name.partition(".")[0] in ("tensorrt", "pycuda", "cuda")}
    with install("10.3"):
        import tensorrt

        assert tensorrt.__version__ == "10.3.0"
    assert {name for name in sys.modules if name.partition(".")[0] in ("tensorrt", "pycuda", "cuda")} == before


def test_the_api_is_the_one_of_the_published_signatures() -> None:
    """api.json against every signature of the wheels, where they lie beside the checkout."""
    path = REPOSITORY.parent / "shared" / "notes" / "tensorrt_python_signatures.json"
    if not path.is_file():
        pytest.skip("the signatures are not beside the checkout")
    for version, classes in json.loads(path.read_text()).items():
        found = spec.api(version)
        assert set(found) == set(classes)
        for name, members in classes.items():
            if isinstance(members, list):
                assert found[name] == [spec.compact(s) for s in members]
                continue
            for member, value in members.items():
                wanted = [spec.compact(s) for s in value] if isinstance(value, list) else value
                assert found[name][member] == wanted, f"{version} {name}.{member}"


@pytest.mark.real_tensorrt
def test_the_api_is_the_one_of_the_real_module() -> None:
    """api.json against the real package that is installed here."""
    trt = pytest.importorskip("tensorrt")
    if trt.__version__ not in spec.versions():
        pytest.skip(f"api.json does not know TensorRT {trt.__version__}; add it with: python -m tests.simulator.spec")
    assert spec.installed_api(trt) == spec.api(trt.__version__)
