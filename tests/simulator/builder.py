"""The build side of the simulated TensorRT: builder, configuration, profiles, timing cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.fake_cuda import FakeGpu
from tests.simulator.basics import start_cuda
from tests.simulator.bindings import Simulated, Tensorrt
from tests.simulator.inspector import layers_of
from tests.simulator.plan import Plan

Phase = tuple[str, "list[Phase] | int"]
"""Name, and the phases inside it (each is one of its steps) or the number of its steps."""


def build_behaviours(trt: Callable[[], Tensorrt], version: list[int], gpu: FakeGpu) -> dict[str, type]:
    """Return the behaviours of the build side; `trt` gives the module, which is made of them."""

    class Builder(Simulated):
        def _start(self, logger: Any) -> None:
            start_cuda(gpu, logger, trt().ILogger.ERROR)
            self._logger = logger

        @property
        def logger(self) -> Any:
            return self._logger

        def create_network(self, flags: int = 0) -> Any:
            strong = trt().NetworkDefinitionCreationFlag.STRONGLY_TYPED
            return trt().new("INetworkDefinition", self, version[0] >= 11 or bool(flags >> int(strong) & 1))

        def create_builder_config(self) -> Any:
            return trt().new("IBuilderConfig", self._logger)

        def create_optimization_profile(self) -> Any:
            return trt().new("IOptimizationProfile")

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            problem = _problem(network, config, version)
            if not problem and gpu.total_memory - gpu.used_memory < len(network._onnx):
                problem = "Error Code 2: OutOfMemory (Requested size was more than is free.)"
            if problem:
                self._logger.log(trt().ILogger.ERROR, f"[optimizer.cpp::simulated] {problem}")
                return None
            layers = layers_of(network._graph)
            if not _report(config.progress_monitor, _phases(layers, config._cache._timed), None):
                text = "IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (Build canceled by user)"
                self._logger.log(trt().ILogger.ERROR, text)
                return None
            config._cache._timed.update(layer["Name"] for layer in layers)
            for tensor in network._inputs:
                if -1 in tensor._tensor.shape:
                    tensor._tensor.profile = config._profiles[0]._shapes[tensor.name]
            plan = Plan(
                version=version,
                compute_capability=list(gpu.compute_capability),
                inputs=[t._tensor for t in network._inputs],
                outputs=[t._tensor for t in network._outputs],
                layers=layers,
                detailed=config.profiling_verbosity == trt().ProfilingVerbosity.DETAILED,
                onnx=network._onnx,
            )
            return trt().new("IHostMemory", plan.to_bytes())

    class IBuilderConfig(Simulated):
        values = (
            ("builder_optimization_level", 3),
            ("profiling_verbosity", None),
            ("progress_monitor", None),
        )

        def _start(self, logger: Any) -> None:
            self._logger = logger
            self._values["profiling_verbosity"] = trt().ProfilingVerbosity.LAYER_NAMES_ONLY
            self._flags = {int(trt().BuilderFlag.TF32)}  # on by default
            self._pools = {0: gpu.total_memory}
            self._profiles: list[Any] = []
            self._cache: Any = trt().new("ITimingCache", set())

        def set_flag(self, flag: Any) -> None:
            self._flags.add(int(flag))

        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(int(flag))

        def get_flag(self, flag: Any) -> bool:
            return int(flag) in self._flags

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self._pools[int(pool)] = int(pool_size)

        def get_memory_pool_limit(self, pool: Any) -> int:
            return self._pools.get(int(pool), 0)

        def add_optimization_profile(self, profile: Any) -> int:
            if not profile._shapes:
                return -1
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
            data = bytes(serialized_timing_cache)
            made = trt().new("ITimingCache", set())
            if data.startswith(b"{"):
                known = json.loads(data)
                made._timed, made._device = set(known["timed"]), known["device"]
            elif data:
                self._logger.log(trt().ILogger.WARNING, "The timing cache cannot be read; an empty one is used")
            return made

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            if cache._device != _device() and not ignore_mismatch:
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            return self._cache

    def _device() -> list[Any]:
        return [version, gpu.name, list(gpu.compute_capability)]

    class ITimingCache(Simulated):
        def _start(self, timed: set[str]) -> None:
            self._timed, self._device = timed, _device()

        def serialize(self) -> Any:
            text = json.dumps({"device": self._device, "timed": sorted(self._timed)})
            return trt().new("IHostMemory", text.encode())

    class IOptimizationProfile(Simulated):
        def _start(self) -> None:
            self._shapes: dict[str, list[list[int]]] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            shapes = [list(shape) for shape in (min, opt, max)]
            if any(not low <= best <= high for low, best, high in zip(*shapes, strict=True)):
                raise ValueError("the shapes of an optimisation profile must satisfy min <= opt <= max")
            self._shapes[input] = shapes

    return {name: value for name, value in locals().items() if isinstance(value, type)}


def _problem(network: Any, config: Any, version: list[int]) -> str:
    """Return what the builder logs instead of building, or ""."""
    if not network._outputs:
        return "Error Code 4: API Usage Error (Network must have at least one output)"
    dynamic = [t.name for t in network._inputs if -1 in t._tensor.shape]
    if dynamic and not config._profiles:
        return (
            "Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no optimization profile has been"
            " defined.)"
        )
    if dynamic and set(dynamic) - set(config._profiles[0]._shapes):
        return f"Error Code 4: API Usage Error (No profile for the input {dynamic[0]}.)"
    if network._strong and version[0] < 11 and config._flags & {0, 1, 9, 10}:  # FP16, INT8 and the constraints
        return "Error Code 3: API Usage Error (Precision flags cannot be set when the network is strongly typed.)"
    if not network._strong:
        return "Error Code 3: the simulator builds strongly typed networks only"
    return ""


def _phases(layers: list[dict[str, Any]], timed: set[str]) -> Phase:
    """Return the phases of a build, named as 11.4 names them; only layers that the timing cache lacks are timed."""
    new = sum(layer["Name"] not in timed for layer in layers)
    timing: Phase = ("Computing profile costs", [("Timing tactics", [("Timing graph nodes", new)])])
    subgraph: Phase = ("Building engine from subgraph", [("Optimizing graph", 1), timing])
    return "Building engine", [("Cloning network graph", 1), ("Preparing graph for optimization", 1), subgraph]


def _report(monitor: Any, phase: Phase, parent: str | None) -> bool:
    """Tell the progress monitor of a phase and those inside it; False where the monitor cancels."""
    if monitor is None:
        return True
    name, inside = phase
    inner = inside if isinstance(inside, list) else [None] * inside
    monitor.phase_start(name, parent, len(inner))
    try:
        return all(
            (child is None or _report(monitor, child, name)) and monitor.step_complete(name, step)
            for step, child in enumerate(inner)
        )
    finally:
        monitor.phase_finish(name)
