"""TensorRT's builder: an exported ONNX graph becomes the bytes of a plan.

One way for TensorRT 10.0 to 11.4: the network is strongly typed, so precision lives in the graph and nowhere else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pix2pix_edge.export.tensorrt.batch import free_batch
from pix2pix_edge.export.tensorrt.precision import asked_precision
from pix2pix_edge.export.tensorrt.progress import BuildProgress
from pix2pix_edge.export.tensorrt.weights import unpack_weights
from pix2pix_edge.runtime.engines.base import INPUT_NAME, TensorSpec, check_contract, read_engine
from pix2pix_edge.runtime.errors import EngineError, InputError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.nvidia.capabilities import Capabilities
from pix2pix_edge.runtime.nvidia.log import forget_reasons, reasons, tensorrt_logger


@dataclass(frozen=True)
class Network:
    """A parsed network, with everything that must live as long as it does."""

    trt: Any  # the package
    builder: Any
    parser: Any
    network: Any
    source: Path
    input: TensorSpec
    output: TensorSpec
    asked: dict[str, str]  # convolution -> precision


@dataclass(frozen=True)
class BuildOptions:
    """batch: most images at once, None for the batch of the file; workspace: bytes of scratch memory, None for all;
    cards: compute capabilities that TensorRT-RTX builds for, none for TensorRT, which builds for the GPU that is here.
    """

    batch: int | None = None
    workspace: int | None = None
    optimization_level: int = 3
    timing_cache: Path | None = None
    cards: tuple[tuple[int, int], ...] = ()


def parse_network(path: Path, capabilities: Capabilities, batch: int | None) -> Network:
    """Parse an exported graph into a strongly typed network; with `batch`, one that takes 1 to `batch` images.

    Raises InputError when TensorRT refuses the graph, in its parser's words, and EngineError when it cannot start.
    """
    trt = capabilities.trt()
    logger = tensorrt_logger(trt)
    forget_reasons()
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # its factory returned nothing, because CUDA does not start
        why = capabilities.gpu_missing or reasons()
        raise EngineError(f"{capabilities.product} cannot start: {why}") from error
    network = builder.create_network(capabilities.network_flags)
    parser = trt.OnnxParser(network, logger)
    try:
        model = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    read_engine(path)  # TensorRT would read what it says lies in other files
    model = unpack_weights(model)
    if not parser.parse(free_batch(model) if batch else model, str(path)):
        builder_name = f"{capabilities.product} {capabilities.tensorrt}"
        raise InputError(f"{builder_name} refuses {path}: {_words(parser)}; {_mend(path)}")
    inputs = [_spec(network.get_input(i), path, batch) for i in range(network.num_inputs)]
    outputs = [_spec(network.get_output(i), path, batch) for i in range(network.num_outputs)]
    check_contract(path, inputs, outputs)
    if batch and network.get_output(0).shape[0] != -1:
        raise InputError(
            f"{path} has its batch built into a layer, as Keras' group normalisation has, so --batch {batch} is not for"
            " it; build it without --batch"
        )
    return Network(trt, builder, parser, network, path, inputs[0], outputs[0], asked_precision(trt, network))


def build_plan(parsed: Network, options: BuildOptions, progress: BuildProgress) -> Any:
    """Return the plan's bytes (anything with the buffer interface). Ctrl-C cancels the build at its next step.

    Raises EngineError with the builder's last words when it fails, KeyboardInterrupt when it was cancelled.
    """
    trt, config = parsed.trt, parsed.builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and then "FP32" is not
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector tells no types
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.cards:
        config.num_compute_capabilities = len(options.cards)
        for index, (major, minor) in enumerate(options.cards):
            config.set_compute_capability(trt.ComputeCapability.__members__[f"SM{major}{minor}"], index)
    if options.batch:
        one, most = ((n, *parsed.input.shape[1:]) for n in (1, options.batch))
        profile = parsed.builder.create_optimization_profile()
        profile.set_shape(INPUT_NAME, one, most, most)
        config.add_optimization_profile(profile)
    monitor = progress.monitor(trt)  # kept here, because the configuration only borrows it
    config.progress_monitor = monitor
    forget_reasons()
    with _timing_cache(config, options.timing_cache):
        plan = progress.run(lambda: parsed.builder.build_serialized_network(parsed.network, config))
        if plan is None:
            raise EngineError(f"TensorRT cannot build {parsed.source}: {reasons()}{_memory_hint(reasons())}")
    return plan


@contextlib.contextmanager
def _timing_cache(config: Any, path: Path | None) -> Iterator[None]:
    """Give the builder what it measured before, and keep what it has measured now, if the block ends well."""
    if path is None:
        yield
        return
    try:
        known = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise InputError(f"cannot read the timing cache {path}: {error.strerror}; delete it") from error
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):  # from another TensorRT or GPU, or damaged
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    yield  # the builder borrows the cache: `cache` must live until here
    with written_beside(path) as temporary:
        temporary.write_bytes(config.get_timing_cache().serialize())


def _spec(tensor: Any, path: Path, batch: int | None) -> TensorSpec:
    """Describe an input or output of a network, a free batch as the largest that it takes."""
    try:
        shape = tuple(tensor.shape)
        if batch and shape[:1] == (-1,):
            shape = (batch, *shape[1:])
        return TensorSpec(tensor.name, shape, tensor.dtype.name.lower())
    except RuntimeError as error:  # raised while inferring shapes, with the reason in the log only
        raise InputError(f"the shapes of {path} do not fit together: {reasons()}; {_mend(path)}") from error


def _words(parser: Any) -> str:
    """Return what the parser said, with the node it stopped at."""
    said = []
    for i in range(parser.num_errors):
        error = parser.get_error(i)
        node = f"{error.node_operator()} {error.node_name()}: " if error.node_operator() else ""
        said.append(node + " ".join(error.desc().split()).rstrip("."))
    return "; ".join(dict.fromkeys(said)) or reasons()


def _mend(path: Path) -> str:
    """Return what to do about a graph that TensorRT refuses."""
    if path.name.endswith(".int8.cpu.onnx"):
        return f"that file is for CPUs, build {path.name.replace('.int8.cpu.onnx', '.int8.onnx')}"
    return "export it again with: python -m export convert GENERATOR.keras --out DIR"


def _memory_hint(words: str) -> str:
    if re.search(r"out ?of ?memory|could not be allocated|insufficient memory", words, re.IGNORECASE):
        return "; give it less with --workspace MIB, close other programs on the GPU, or add swap"
    return "; look at the whole log with: --verbose"
