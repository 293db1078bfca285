"""The build path with NVIDIA's real package, parser and builder; no GPU is needed, and none is used.

Run: ../shared/tools/real-tensorrt .venv/bin/python -m pytest -m real_tensorrt
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.export.build import build, cache_name
from pix2pix_edge.export.graph.fold import fold
from pix2pix_edge.export.graph.half import to_half
from pix2pix_edge.export.tensorrt.builder import BuildOptions, build_plan, parse_network
from pix2pix_edge.export.tensorrt.precision import found_precision, narrowest, prove
from pix2pix_edge.export.tensorrt.progress import BuildProgress
from pix2pix_edge.export.translator.reference import plain_graph
from pix2pix_edge.runtime.errors import EngineError, InputError
from pix2pix_edge.runtime.frame import fit
from pix2pix_edge.runtime.nvidia.capabilities import probe
from tests.commands import export, python
from tests.conftest import REPOSITORY, write_rgb
from tests.export.keras_networks import NETWORKS, save
from tests.export.small_network import CONVOLUTIONS, PRECISIONS, write_small_network
from tests.export.tensorrt.test_progress import Bar
from tests.export.test_build import interrupt_at

pytestmark = pytest.mark.real_tensorrt

NEEDS_A_GPU = r"TensorRT built a plan of [\d.]+ MB, but to run it, and so to keep it, needs a GPU: "


@pytest.fixture(scope="module", autouse=True)
def trt() -> Any:
    module = pytest.importorskip("tensorrt", reason="run with ../shared/tools/real-tensorrt")
    probe.cache_clear()
    if probe().gpu is not None:
        pytest.skip("there is a GPU here: pytest -m gpu goes further")
    return module


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Everything that TensorRT says while a test runs."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("pix2pix-edge.tensorrt")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield said
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def inspector_json(said: list[str]) -> str:
    """The builder's own list of layers, from its log, as the JSON that its inspector would make of it on a GPU."""
    text = next(message for message in reversed(said) if message.startswith("Layers:"))
    layers = []
    for line in text.partition("\n\n")[0].splitlines()[1:]:
        name, kind = re.match(r"Name: (.*?), LayerType: (\w+),", line).groups()  # type: ignore[union-attr]
        inputs = line.partition("Inputs: [")[2].partition("], Constants: [")[0]
        tensors = [{"Datatype": datatype} for datatype in re.findall(r"Datatype: (\w+)", inputs)]
        layers.append({"Name": name, "LayerType": kind, "Inputs": tensors, "Metadata": line.partition("Metadata: ")[2]})
    return json.dumps({"Layers": layers})


def built(path: Path, folder: Path, batch: int | None = None) -> tuple[dict[str, str], int, Bar]:
    """Parse and build; return the precision asked, the plan's size and the progress bar."""
    parsed = parse_network(path, probe(), batch)
    bar = Bar()
    options = BuildOptions(batch, 1 << 30, 3, folder / "cache.timing")
    plan = folder / "a.plan"
    plan.write_bytes(build_plan(parsed, options, BuildProgress(bar)))
    return parsed.asked, plan.stat().st_size, bar


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_is_built_and_its_convolutions_compute_in_it(
    tmp_path: Path, log: list[str], precision: str
) -> None:
    asked, size, bar = built(write_small_network(tmp_path / "a.onnx", precision), tmp_path)
    assert asked == CONVOLUTIONS[precision]
    assert narrowest(asked.values()) == precision
    assert size > 10_000
    assert bar.n == 100 and bar.seen == sorted(bar.seen) and "Optimizing graph" in bar.names
    found = found_precision(inspector_json(log), asked)
    assert found == asked
    prove(asked, found)


@pytest.mark.parametrize("form", ("auto", "none"))
@pytest.mark.parametrize("name", NETWORKS)
def test_what_convert_makes_of_any_network_is_built(tmp_path: Path, log: list[str], name: str, form: str) -> None:
    """Every form of folding and every kind of network, in both float types, for one image and for a free batch."""
    graph = plain_graph(save(NETWORKS[name](), tmp_path / "generator.keras"), as_keras_upsamples=False)
    fold(graph, form)
    for precision, exported in (("fp32", graph), ("fp16", to_half(graph))):
        path = tmp_path / f"a.{precision}.onnx"
        path.write_bytes(exported.to_model().SerializeToString())
        for batch in (None,) if name in ("resnet", "cyclegan") else (None, 4):  # their norms hold the batch
            asked, _, _ = built(path, tmp_path, batch)
            assert set(asked.values()) == {precision}
            assert found_precision(inspector_json(log), asked) == asked


def export_all_precisions(folder: Path, generator: Path, size: int, images: int) -> Path:
    """Run convert and quantize on drawn pictures; return the stem of what they write. Gates are not the matter here."""
    random = np.random.default_rng(0)
    for i in range(images):
        coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
        write_rgb(folder / f"{i}.png", fit(coarse, (size, size, 3)))
    convert = ["convert", str(generator), "--out", str(folder), "--name", "a", "--data", str(folder)]
    assert export(*convert) == 0
    quantize = ["quantize", str(folder / "a.fp32.onnx"), "--data", str(folder), "--target", "tensorrt"]
    assert export(*quantize, "--min-psnr", "0", "--min-ssim", "0") == 0
    return folder / "a"


def check_all_precisions(stem: Path, folder: Path, log: list[str]) -> None:
    """Build each of the three files, for one image and for a free batch; INT8 must be INT8 nearly everywhere."""
    for precision in PRECISIONS:
        for batch in (None, 4):
            log.clear()
            asked, _, _ = built(Path(f"{stem}.{precision}.onnx"), folder, batch)
            assert narrowest(asked.values()) == precision
            assert found_precision(inspector_json(log), asked) == asked
        if precision == "int8":
            assert list(asked.values()).count("int8") > len(asked) / 2


def test_what_quantize_writes_is_built_in_int8(tmp_path: Path, log: list[str]) -> None:
    generator = save(NETWORKS["unet"](), tmp_path / "generator.keras")
    check_all_precisions(export_all_precisions(tmp_path, generator, 32, 16), tmp_path, log)


@pytest.mark.slow
@pytest.mark.parametrize("filters", [64, 32, 16])
def test_every_width_is_built_in_every_precision(tmp_path: Path, log: list[str], filters: int) -> None:
    from pix2pix_edge.train.networks import generator

    path = tmp_path / "generator.keras"
    generator(filters).save(path)
    check_all_precisions(export_all_precisions(tmp_path, path, 256, 4), tmp_path, log)


def test_plans_shrink_with_precision(tmp_path: Path) -> None:
    sizes = [built(write_small_network(tmp_path / f"{p}.onnx", p, width=96), tmp_path)[1] for p in PRECISIONS]
    assert sizes[0] > 1.4 * sizes[1] > 1.4 * sizes[2]


def test_a_batch_becomes_one_profile(tmp_path: Path, log: list[str]) -> None:
    built(write_small_network(tmp_path / "a.onnx", "int8"), tmp_path, batch=4)
    profile = "MinShape: [1,32,32,3], OptShape: [4,32,32,3], MaxShape: [4,32,32,3]"
    assert any(profile in message for message in log)


def test_without_a_batch_shapes_are_fixed(tmp_path: Path, log: list[str]) -> None:
    built(write_small_network(tmp_path / "a.onnx", batch=2), tmp_path)
    assert any("MinShape: [2,32,32,3], OptShape: [2,32,32,3]" in message for message in log)


def test_a_batch_built_into_a_layer_is_found_before_the_build(tmp_path: Path) -> None:
    path = write_small_network(tmp_path / "a.onnx", fault="batch")
    with pytest.raises(InputError, match=r"has its batch built into a layer.*; build it without --batch"):
        built(path, tmp_path, batch=4)
    built(path, tmp_path)


def test_tf32_is_off_and_the_rest_is_as_asked(tmp_path: Path, trt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configurations = []
    original = trt.Builder.build_serialized_network

    def spy(builder: Any, network: Any, config: Any) -> Any:
        configurations.append(config)
        return original(builder, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", spy)
    built(write_small_network(tmp_path / "a.onnx"), tmp_path)
    (config,) = configurations
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 30
    assert config.builder_optimization_level == 3
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED


def test_the_timing_cache_is_written_and_given_to_the_next_build(
    tmp_path: Path, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bytes] = []
    original = trt.IBuilderConfig.create_timing_cache

    def spy(config: Any, known: bytes) -> Any:
        given.append(bytes(known))
        return original(config, known)

    monkeypatch.setattr(trt.IBuilderConfig, "create_timing_cache", spy)
    path = write_small_network(tmp_path / "a.onnx")
    built(path, tmp_path)
    kept = (tmp_path / "cache.timing").read_bytes()
    built(path, tmp_path)
    assert kept and given == [b"", kept]


def test_a_damaged_timing_cache_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "cache.timing").write_bytes(b"not a timing cache")
    built(write_small_network(tmp_path / "a.onnx"), tmp_path)
    assert (tmp_path / "cache.timing").read_bytes() != b"not a timing cache"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("uint8", r"QuantizeLinear down2\.q: .*Non-zero zero point is not supported"),
        ("int32 bias", r"DequantizeLinear down2\.bdq: .*input has type Int32 but must have type"),
        ("shape", r"Reshape reshape: .*Reshaping \[1,3,32,32\] to \[1,3,32,33\]"),
    ],
)
def test_refused_graphs_are_reported_in_the_parsers_words(tmp_path: Path, fault: str, words: str) -> None:
    path = write_small_network(tmp_path / "a.int8.onnx", "int8", fault=fault)
    with pytest.raises(InputError, match=rf"^TensorRT 11\.4\.\S+ refuses \S+: {words}.*; export it again with: python"):
        built(path, tmp_path)


def test_the_int8_of_cpus_is_told_apart(tmp_path: Path) -> None:
    path = write_small_network(tmp_path / "a.int8.cpu.onnx", "int8", fault="uint8")
    with pytest.raises(InputError, match=r"that file is for CPUs, build a\.int8\.onnx$"):
        built(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"ftrt" + bytes(60), b"PK\x03\x04 a renamed .keras"])
def test_files_that_are_no_onnx_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "renamed.onnx"
    path.write_bytes(content)
    with pytest.raises((InputError, EngineError), match=r"refuses|cannot be opened"):
        built(path, tmp_path)


def test_a_truncated_onnx_is_refused(tmp_path: Path) -> None:
    path = write_small_network(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="Failed to parse the ONNX model"):
        built(path, tmp_path)


def test_the_command_ends_with_what_only_a_gpu_can_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_small_network(tmp_path / "a.fp16.onnx", "fp16")
    out = tmp_path / "plans" / "a.plan"
    assert export("build", path, "--out", out, "--batch", "2") == 2
    said = capsys.readouterr()
    assert "(fp16, batch 1 to 2) with TensorRT 11.4" in said.out
    assert re.search(rf"^error: {NEEDS_A_GPU}there is no NVIDIA driver here", said.err, re.MULTILINE)
    assert [p.name for p in out.parent.iterdir()] == [cache_name(probe())]


@pytest.mark.parametrize("step", [1, 40])
def test_ctrl_c_cancels_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    steps = interrupt_at(step, monkeypatch)
    out = tmp_path / "plans"
    assert export("build", write_small_network(tmp_path / "a.onnx"), "--out", out / "a.plan") == 130
    assert len(steps) == step
    assert not out.exists() or not list(out.iterdir())
    assert capsys.readouterr().err.endswith("interrupted\n")


def test_a_terminal_sees_a_progress_bar(tmp_path: Path) -> None:
    path = write_small_network(tmp_path / "a.onnx", width=32)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # else it has no columns
    command = [sys.executable, "-m", "export", "build", str(path), "--out", str(tmp_path / "a.plan")]
    ended = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=theirs, timeout=120, check=False)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # how Linux says that the terminal was closed
        pass
    os.close(ours)
    assert ended.returncode == 2
    assert re.search(rb"Building engine\s+\d+%\|", shown) and b"100%|" in shown


def test_neither_tensorflow_nor_onnx_is_loaded(tmp_path: Path) -> None:
    path = write_small_network(tmp_path / "a.onnx")
    program = (
        "import sys; from pathlib import Path; from pix2pix_edge.export.build import build\n"
        "from pix2pix_edge.runtime.errors import EngineError\n"
        f"try: build(Path({str(path)!r}), Path({str(tmp_path / 'a.plan')!r}))\n"
        "except EngineError as error: print(error)\n"
        "print(sorted({'tensorflow', 'keras', 'onnx', 'tf2onnx'} & set(sys.modules)))"
    )
    ended = python("-c", program)
    assert re.search(NEEDS_A_GPU, ended.stdout) and ended.stdout.endswith("[]\n"), ended


def test_build_raises_for_a_program_that_calls_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=NEEDS_A_GPU):
        build(write_small_network(tmp_path / "a.onnx"), tmp_path / "a.plan")
