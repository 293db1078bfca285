"""Pictures of 16 bits: read as 8, alpha included, and written whole where a network gives them."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pix2pix_edge.export.fidelity import compare
from pix2pix_edge.export.images import drawn_images
from pix2pix_edge.runtime import run as stream
from pix2pix_edge.runtime.batch.worker import Worker
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.images import read_image, write_image
from pix2pix_edge.runtime.sinks import open_sink
from tests.commands import export
from tests.export.arithmetic import model_of

SIZE = 16


def depth(path: Path, kind: int = TensorProto.FLOAT) -> Path:
    """Write a network as PyTorch exports one for depth: RGB in [-1, 1] to one channel of many fine levels in (0, 1)."""
    random = np.random.default_rng(0)
    shapes = {"u": (8, 3, 3, 3), "v": (8, 8, 3, 3), "w": (1, 8, 3, 3)}
    weights = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    name, size = TensorProto.DataType.Name(kind).lower(), f"{SIZE}, {SIZE}"
    body = """a = Conv <pads = [1, 1, 1, 1]> (x, u)  ar = Relu (a)
        b = Conv <pads = [1, 1, 1, 1]> (ar, v)  br = Relu (b)
        c = Conv <pads = [1, 1, 1, 1]> (br, w)  s = Sigmoid (c)"""
    if kind == TensorProto.FLOAT:
        body = body.replace("s = Sigmoid", "y = Sigmoid")
    else:
        body += f"m = Mul (s, white)  y = Cast <to = {kind}> (m)"
        weights["white"] = np.float32(65535)
    onnx.save(model_of(f"(float[1, 3, {size}] x) => ({name}[1, 1, {size}] y)", body, weights, opset=17), path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, image in enumerate(drawn_images((SIZE, SIZE, 3))[3:]):
        write_image(tmp_path / "photos" / f"{number}.png", image)
    return tmp_path / "photos"


def converted(tmp_path: Path, photos: Path, kind: int = TensorProto.FLOAT) -> Path:
    words = ["--bits", "16"] if kind == TensorProto.FLOAT else []
    source = depth(tmp_path / "depth.onnx", kind)
    assert export("convert", source, "--out", tmp_path, "--data", photos, "--input-range", "-1,1", *words) == 0
    assert not (tmp_path / "generator.fp16.onnx").exists(), "FP16 tells fewer numbers apart than the picture has"
    return tmp_path / "generator.fp32.onnx"


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT16])
def test_sixteen_bits_reach_the_files_whole(tmp_path: Path, photos: Path, kind: int) -> None:
    import onnxruntime as ort

    file = converted(tmp_path, photos, kind)
    session = ort.InferenceSession(str(tmp_path / "depth.onnx"), providers=["CPUExecutionProvider"])
    assert stream.main(["--engine", str(file), "--source", str(photos), "--sink", str(tmp_path / "out")]) == 0
    for path in photos.iterdir():
        x = read_image(path).astype(np.float32).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
        expected = session.run(None, {"x": x})[0][0, 0].astype(np.float64)
        written = cv2.imread(str(tmp_path / "out" / path.name), cv2.IMREAD_UNCHANGED)
        assert written.dtype == np.uint16 and len(np.unique(written & 0xFF)) > 16, "the lower bits are used"
        scale = 65535 if kind == TensorProto.FLOAT else 1
        assert np.abs(written - expected * scale).max() <= 3
        image = tmp_path / f"{path.stem}.tif"
        assert stream.main(["--engine", str(file), "--source", str(path), "--sink", str(image)]) == 0
        assert np.array_equal(cv2.imread(str(image), cv2.IMREAD_UNCHANGED), written)


def test_every_other_door_takes_or_refuses_them(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = converted(tmp_path, photos)
    assert export("quantize", file, "--data", photos, "--min-psnr", "20", "--min-worst", "10", "--min-ssim", "0.5") == 0
    assert "INT8: " in capsys.readouterr().out
    int8 = tmp_path / "generator.int8.cpu.onnx"
    assert not (tmp_path / "generator.int8.onnx").exists()
    gallery = tmp_path / "g.png"
    words = ("--data", photos, "--min-psnr", "20", "--min-ssim", "0.5", "--gallery", gallery)
    assert export("check", file, int8, *words) == 0 and gallery.exists()
    assert export("inspect", int8) == 0
    assert export("triton", file, "--out", tmp_path / "models") == 0
    assert "TYPE_UINT16" in (tmp_path / "models" / "generator" / "config.pbtxt").read_text()
    for words, says in (
        (
            ["quantize", file, "--data", photos, "--target", "tensorrt"],
            "16 bits, which TensorRT cannot; give --target cpu",
        ),
        (["build", file, "--out", tmp_path / "a.plan"], "pictures of 16 bits, and TensorRT has no such type"),
        (
            ["web", file, "--out", tmp_path / "w"],
            "shows pictures of 8 bits, and those of .* have 16; translate folders",
        ),
    ):
        capsys.readouterr()
        assert export(*words) == 2
        assert re.search(says, capsys.readouterr().err)


def test_openvino_and_tiles_and_batches_give_the_same_sixteen_bits(tmp_path: Path, photos: Path) -> None:
    from pix2pix_edge.runtime.streaming.tiles import Tiles

    file = converted(tmp_path, photos)
    image = read_image(photos / "4.png")
    with open_engine(file, backend="onnxruntime") as engine:
        expected = engine(image[None])[0]
        tiled = Tiles(engine).submit(image[None]).result()[0]
    assert expected.dtype == tiled.dtype == np.uint16 and np.array_equal(expected, tiled)
    written = tmp_path / "b.png"
    rows = pytest.importorskip("pyarrow").table({"source": [str(photos / "4.png")], "output": [str(written)]})
    assert Worker(str(file), "onnxruntime", 1, "stretch")(rows)["error"].to_pylist() == [""]
    assert np.array_equal(cv2.imread(str(written), cv2.IMREAD_UNCHANGED)[..., None], expected)
    pytest.importorskip("openvino")
    with open_engine(file, backend="openvino", precision="fp32") as engine:
        assert np.abs(engine(image[None])[0].astype(int) - expected).max() <= 4


@pytest.mark.parametrize(("spec", "bits"), [("a.png", 16), ("a.jpg", 8)])
def test_files_that_cannot_keep_them_get_the_upper_bits(tmp_path: Path, spec: str, bits: int) -> None:
    picture = np.full((SIZE, SIZE, 1), 0x8055, np.uint16)
    sink = open_sink(str(tmp_path / spec), mode="output", fps=None, frames=1, live=False, token=None)
    sink.write(Frame(0, 0, "a", picture, prepared=np.zeros((SIZE, SIZE, 3), np.uint8), translated=picture))
    sink.close()
    found = cv2.imread(str(tmp_path / spec), cv2.IMREAD_UNCHANGED)
    assert found.dtype == f"uint{bits}" and abs(int(found.flat[0]) - (0x8055 if bits == 16 else 0x80)) <= (bits == 8)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_of_a_file_reaches_a_network_that_takes_it(tmp_path: Path, ending: str, dtype: type) -> None:
    rgba = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (8, 9, 4), dtype)
    cv2.imwrite(str(tmp_path / f"a.{ending}"), rgba)
    upper = rgba if dtype == np.uint8 else (rgba >> 8).astype(np.uint8)
    found = read_image(tmp_path / f"a.{ending}", channels=4)
    assert np.array_equal(found, upper[..., [2, 1, 0, 3]])


def test_fidelity_of_sixteen_bits_is_in_levels_of_255() -> None:
    random = np.random.default_rng(0)
    a = random.integers(0, 256, (32, 32, 1), np.uint8)
    b = np.clip(a + random.integers(-3, 4, a.shape), 0, 255).astype(np.uint8)
    eight, sixteen = compare([(a, b)]), compare([(a * np.uint16(257), b * np.uint16(257))])
    assert eight.max_difference == sixteen.max_difference
    assert np.allclose([eight.psnr_db, eight.ssim], [sixteen.psnr_db, sixteen.ssim])
