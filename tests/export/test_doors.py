"""Every command that takes a model's file, given files that are not for it: one sentence, about this very file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pix2pix_edge.export.images import drawn_images
from pix2pix_edge.runtime import draw
from pix2pix_edge.runtime import run as stream
from pix2pix_edge.runtime.batch import command as batch
from pix2pix_edge.runtime.cli import CommandParser, run_command
from pix2pix_edge.runtime.images import write_image
from tests.commands import benchmarks, export

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
PICTURE, OPEN = ("x", FLOAT, [1, 3, 16, 16]), (FLOAT, ["n", 3, "h", "w"])


def write_graph(
    path: Path, inputs: list[Any], outputs: list[Any], last: str = "Tanh", *, domain: str = "", width: int = 3
) -> Path:
    """Write a convolution and an operator with these ends, in the layout NCHW or, for uint8, NHWC."""
    uint8, channels = inputs[0][1] == UINT8, inputs[0][2][3 if inputs[0][1] == UINT8 else 1]
    weight = numpy_helper.from_array(np.full((width, channels, 3, 3), 0.02, np.float32), "w")
    nodes = [helper.make_node("Conv", ["t" if uint8 else "x", "w"], ["c"], pads=[1] * 4)]
    result = "o" if uint8 else outputs[0][0]
    nodes.append(helper.make_node(last, ["c"], [result], domain=domain))
    if uint8:
        name = inputs[0][0]
        nodes.insert(0, helper.make_node("Cast", [name], ["f"], to=FLOAT))
        nodes.insert(1, helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Transpose", ["o"], ["p"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Cast", ["p"], [outputs[0][0]], to=UINT8))
    nodes += [helper.make_node("Identity", ["c"], [name]) for name, _, _ in outputs[1:]]
    ends = [[helper.make_tensor_value_info(*end) for end in side] for side in (inputs, outputs)]
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, [weight]), ir_version=8)
    model.opset_import[0].version = 17
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(model, path)
    return path


def engine(path: Path, takes: int = 3, gives: int = 3, **changes: Any) -> Path:
    """Write a graph of the contract, but for `changes`."""
    size = [changes.get("batch", 1), 16, 16]
    names = changes.get("names", ("image", "translated"))
    return write_graph(
        path, [(names[0], UINT8, [*size, takes])], [(names[1], UINT8, [*size, gives])], "Relu", width=gives
    )


def foreign(path: Path, shape: list[Any], *more: Any, **options: Any) -> Path:
    return write_graph(path, [PICTURE], [("y", options.pop("kind", FLOAT), shape), *more], **options)


def beside(path: Path) -> Path:
    model = onnx.load(foreign(path, [1, 3, 16, 16]))
    onnx.save_model(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    return path


def holding(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    return write


CONVERT = r"make one of it with: python -m export convert \S*{} --out DIR"
TWO_IN = "takes x .* z float32.* one picture in and one out"
FOREIGN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nchw.onnx": (lambda p: foreign(p, [1, 3, 16, 16]), CONVERT),
    "open.onnx": (lambda p: write_graph(p, [("x", *OPEN)], [("y", *OPEN)]), f"{CONVERT} --size 256x256"),
    "names.onnx": (lambda p: engine(p, names=("a", "b")), CONVERT),
    "grey.onnx": (lambda p: engine(p, 1, 1), CONVERT),
    "free.onnx": (lambda p: engine(p, batch="n"), CONVERT),
    "beside.onnx": (beside, r"make one file of both with: python -m export convert \S*{} --out DIR"),
    "two_in.onnx": (lambda p: write_graph(p, [PICTURE, ("z", FLOAT, [1, 3])], [("y", FLOAT, [1, 3, 16, 16])]), TWO_IN),
    "two_out.onnx": (lambda p: foreign(p, [1, 3, 16, 16], ("z", FLOAT, [1, 3, 16, 16])), "gives y .* one picture in"),
    "enlarges.onnx": (lambda p: foreign(p, [1, 3, 32, 32]), "a picture must keep its size"),
    "vector.onnx": (lambda p: foreign(p, [1, 7], last="Flatten"), r"both must be pictures, \[N, H, W, C\]"),
    "classes.onnx": (lambda p: foreign(p, [1, 21, 16, 16], last="Softmax", width=21), "of 1, 3 or 4 channels"),
    "indices.onnx": (lambda p: foreign(p, [1, 1, 16, 16], kind=TensorProto.INT64, last="ArgMax"), "labels or indices"),
    "domain.onnx": (lambda p: foreign(p, [1, 3, 16, 16], domain="com.microsoft"), "'com.microsoft'.* not ONNX's own"),
    "empty.onnx": (holding(b""), "it is empty"),
    "text.onnx": (holding(b"hello" * 9), "cannot be opened as an exported graph"),
    "m.keras": (holding(b"PK"), CONVERT),
    "m.pth": (holding(b"PK"), r"torch\.onnx\.export"),
    "none.onnx": (lambda p: p, "there is no file .* make one with: python -m export convert MODEL"),
}


def of_export(command: str, *words: str) -> Callable[[Path, Path], int]:
    def door(file: Path, folder: Path) -> int:
        given = [word.format(folder=folder, file=file) for word in words]
        return export(command, file, *given)

    return door


def of_batch(file: Path, folder: Path) -> int:
    parser = CommandParser("batch")
    batch.add_arguments(parser)
    words = ["--engine", str(file), "--source", f"{folder}/images", "--sink", f"{folder}/out"]
    return run_command(batch.run, parser, words)


def of_benchmarks(file: Path, folder: Path) -> int:
    words = ["run", "--engine", str(file), "--data", f"{folder}/images", "--out", f"{folder}/out", "--seconds", "1"]
    return benchmarks(*words)


def of_stream(file: Path, folder: Path) -> int:
    return stream.main(["--engine", str(file), "--source", f"{folder}/images", "--sink", f"{folder}/out"])


DOORS: dict[str, Callable[[Path, Path], int]] = {
    "quantize": of_export("quantize", "--data", "{folder}/images"),
    "check": of_export("check", "{file}", "--data", "{folder}/images"),
    "build": of_export("build", "--out", "{folder}/out/a.plan"),
    "triton": of_export("triton", "--out", "{folder}/out"),
    "web": of_export("web", "--out", "{folder}/out"),
    "draw": lambda file, folder: draw.main(["--engine", str(file), "--at", "http://127.0.0.1:8080"]),
    "run": of_stream,
    "batch": of_batch,
    "benchmarks": of_benchmarks,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, image in enumerate(drawn_images((16, 16, 3))[-4:]):
        write_image(tmp_path / "images" / f"{number}.png", image)
    return tmp_path


def complaint(door: str, file: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert DOORS[door](file, folder) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    out = folder / "out"
    assert not [path for path in out.rglob("*") if path.is_file()], "nothing half-written"
    return line


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_for_this_door(
    folder: Path, capsys: pytest.CaptureFixture[str], door: str, name: str
) -> None:
    make, words = FOREIGN[name]
    if door == "check" and name == "m.keras":
        words = "is not a whole .keras file"  # there, a trained model may stand on either side
    line = complaint(door, make(folder / name), folder, capsys)
    assert re.search(words.format(re.escape(name)), line) and name in line


@pytest.mark.parametrize("name", ["nchw.onnx", "open.onnx", "names.onnx", "grey.onnx", "free.onnx", "beside.onnx"])
def test_the_command_that_the_sentence_gives_makes_an_engine_of_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    line = complaint("run", FOREIGN[name][0](folder / name), folder, capsys)
    words = shlex.split(line.rpartition("export ")[2].replace("DIR", str(folder / "exported")))
    assert export(*words) == 0
    assert of_stream(folder / "exported" / "generator.fp32.onnx", folder) == 0


@pytest.mark.parametrize(("takes", "gives"), [(3, 1), (4, 3), (4, 4), (3, 4)])
def test_engines_of_other_channels_pass_every_door_that_has_room_for_them(
    folder: Path, capsys: pytest.CaptureFixture[str], takes: int, gives: int
) -> None:
    file = engine(folder / "e.onnx", takes, gives)
    assert "no convolution that could be INT8" in complaint("quantize", file, folder, capsys)
    assert DOORS["check"](file, folder) == DOORS["run"](file, folder) == 0


def test_a_batch_built_in_is_named_where_pictures_come_one_by_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = engine(folder / "four.onnx", batch=4)
    for door in ("run", "draw", "web", "batch"):
        assert "convert its model again, which gives it a batch of 1" in complaint(door, file, folder, capsys)


def test_inspect_counts_any_graph_of_known_shapes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect = of_export("inspect")
    for name in ("nchw.onnx", "two_in.onnx", "classes.onnx", "indices.onnx", "free.onnx"):
        assert inspect(FOREIGN[name][0](folder / name), folder) == 0
        assert "Conv" in capsys.readouterr().out
    assert inspect(FOREIGN["open.onnx"][0](folder / "open.onnx"), folder) == 2
    assert re.search(r"open sizes.*convert \S+open\.onnx --out DIR --size", capsys.readouterr().err)
