"""From a Keras file to exported files: the contract, parity with Keras, names, determinism, and every bad input."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pix2pix_edge.export import convert
from pix2pix_edge.export.graph.fold import FORMS, fold
from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.images import drawn_images
from pix2pix_edge.export.translator import open_translator
from pix2pix_edge.export.translator.contract import Options
from pix2pix_edge.export.translator.reference import open_reference, plain_graph
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import GateFailedError, InputError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.sidecar import Source, TensorSpec, read_sidecar
from tests.commands import export, python
from tests.conftest import picture, write_rgb
from tests.export.accepts import accepted, needs_tool
from tests.export.keras_networks import NETWORKS, save

CHAIN = {"Tile", "Expand", "Unsqueeze", "Squeeze"}

command = partial(export, "convert")


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the .keras file of one of NETWORKS."""
    folder = tmp_path_factory.mktemp("keras")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.keras"
        return path if path.exists() else save(NETWORKS[name](), path)

    return path_of


@pytest.fixture(scope="session")
def exported(saved: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small U-Net, exported as t.fp32.onnx and t.fp16.onnx."""
    folder = tmp_path_factory.mktemp("exported")
    assert command(saved("unet"), "--out", folder, "--name", "t") == 0
    return folder


def test_files_and_contract(exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == [
        "t.fp16.onnx", "t.fp16.onnx.json", "t.fp32.onnx", "t.fp32.onnx.json", "t.sheet.png",
    ]  # fmt: skip
    for precision in ("fp32", "fp16"):
        model = onnx.load(exported / f"t.{precision}.onnx")
        onnx.checker.check_model(model, full_check=True)
        with open_engine(exported / f"t.{precision}.onnx", backend="onnxruntime") as engine:
            for spec, name in ((engine.input, "image"), (engine.output, "translated")):
                assert (spec.name, spec.shape, spec.dtype) == (name, (1, 32, 32, 3), "uint8")


def test_sidecar(exported: Path, saved: Callable[[str], Path]) -> None:
    sidecar = read_sidecar(exported / "t.fp32.onnx")
    assert sidecar is not None
    assert sidecar.sha256 == sha256_of(exported / "t.fp32.onnx")
    assert sidecar.source == Source("unet.keras", sha256_of(saved("unet")))
    assert sidecar.precision.asked == "fp32"
    assert sidecar.input == TensorSpec("image", (1, 32, 32, 3), "uint8")
    assert sidecar.fidelity and sidecar.fidelity.max_difference <= 1
    assert sidecar.fidelity.images == len(drawn_images((32, 32, 3)))
    assert {"keras", "onnx", "onnxruntime", "tensorflow", "tf2onnx"} <= sidecar.tools.keys()
    assert len(sidecar.rewrites) >= 3
    assert sidecar.backends["onnxruntime"].passed and sidecar.backends["onnxruntime"].psnr_db == 100
    if importlib.util.find_spec("openvino"):
        from pix2pix_edge.runtime.engines.openvino import has_bf16

        assert ("openvino-bf16" in sidecar.backends) == has_bf16() and sidecar.backends["openvino"].passed
        bf16 = sidecar.backends.get("openvino-bf16")
        assert bf16 is None or bf16.passed == ((bf16.psnr_db or 0) >= 45)
    half = read_sidecar(exported / "t.fp16.onnx")
    assert half is not None
    assert half.precision.asked == "fp16"
    assert half.fidelity and half.fidelity.psnr_db >= 45


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_equals_keras(name: str, saved: Callable[[str], Path]) -> None:
    plain = plain_graph(saved(name), as_keras_upsamples=False).to_model().SerializeToString()
    with open_reference(saved(name)) as reference:
        images = drawn_images(reference.input.shape[1:])
        expected = reference(np.stack(images))
    assert np.std(expected) > 10, "the network's pictures are too dull to show a difference"
    for form in FORMS:
        graph = Graph(onnx.ModelProto.FromString(plain))
        forms = [rewrite.form for rewrite in fold(graph, form) if rewrite.rewrite == "upsampling"]
        graph.check()
        operators = [node.op_type for node in graph.nodes]
        assert not CHAIN & set(operators), form
        assert form == "none" or operators.count("Resize") == forms.count("none"), "each is folded, or reported"
        assert form in ("none", "auto") or set(forms) <= {form, "none"}
        translated = np.concatenate([_run(graph, image[None]) for image in images])
        assert np.abs(translated.astype(int) - expected).max() <= 1, form


def test_what_a_user_gets_without_us_repeats_elements(saved: Callable[[str], Path]) -> None:
    graph = plain_graph(saved("unet"))
    assert sum(node.op_type == "Tile" for node in graph.nodes) == 6
    image = drawn_images((32, 32, 3))[5][None]
    with open_reference(saved("unet")) as reference:
        assert np.abs(_run(graph, image).astype(int) - reference(image)).max() <= 1


def test_names_are_those_of_the_keras_layers(saved: Callable[[str], Path]) -> None:
    graph = plain_graph(saved("unet"), as_keras_upsamples=False)
    names = [node.name for node in graph.nodes]
    assert [name for name in names if name.startswith("up2")] == [
        "up2/conv", "up2/relu", "up2/mul", "up2/add", "up2/concat", "up2/resize",
    ]  # fmt: skip
    assert {"down1/conv", "down1/leaky_relu", "input/cast", "output/cast"} <= set(names)
    assert {"down1/conv:weight", "down1/conv:bias", "down3/resize:scales"} <= graph.constants.keys()
    assert sum(node.op_type == "Transpose" for node in graph.nodes) == 2  # NCHW from end to end
    nested = plain_graph(saved("nested"), as_keras_upsamples=False)
    assert {"inner/conv", "head/conv"} <= {node.name for node in nested.nodes}


@pytest.mark.parametrize("content", ['[{"name": "wall", "colour": [0, 48, 255]}]', '[{"name": 1}]', "[[", ""])
def test_the_palette_beside_a_generator_goes_into_the_sidecar(
    saved: Callable[[str], Path], tmp_path: Path, content: str, capsys: Any
) -> None:
    shutil.copy(saved("unet"), tmp_path / "generator.keras")
    (tmp_path / "palette.json").write_text(content)
    code = command(tmp_path / "generator.keras", "--out", tmp_path / "out")
    if code == 0:
        sidecar = read_sidecar(tmp_path / "out" / "generator.fp32.onnx")
        assert sidecar and [(c.name, c.colour) for c in sidecar.palette] == [("wall", (0, 48, 255))]
    else:
        assert code == 2 and "wall" not in content and "is no palette" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_any_batch_can_be_freed(saved: Callable[[str], Path]) -> None:
    """No shape of the rewritten U-Net holds the batch: a TensorRT profile over batches depends on it."""
    graph = plain_graph(saved("unet"), as_keras_upsamples=False)
    fold(graph, "auto")
    images = np.stack(drawn_images((32, 32, 3))[4:7])
    one_by_one = np.concatenate([_run(graph, image[None]) for image in images])
    for value in (graph.input, graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    assert np.abs(_run(graph, images).astype(int) - one_by_one).max() <= 1


def test_same_inputs_same_bytes(exported: Path, saved: Callable[[str], Path], tmp_path: Path) -> None:
    plain_graph(saved("resnet"), as_keras_upsamples=False)  # counters inside TensorFlow and tf2onnx move on
    words = ("-m", "export", "convert", saved("unet"), "--out", tmp_path, "--name", "t")
    assert python(*words, PYTHONHASHSEED="7").returncode == 0

    def content(path: Path) -> Any:
        if path.suffix != ".json":
            return path.read_bytes()
        return re.sub(r'"ms": [\d.]+', "", path.read_text())  # how long each engine took

    for path in sorted(exported.iterdir()):
        assert content(tmp_path / path.name) == content(path), path.name


def test_real_images_of_any_layout(saved: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "data" / "test_picture").mkdir(parents=True)  # what the generator makes is not what it is given
    (tmp_path / "data" / "test_picture" / "1.png").write_bytes(b"no image")
    (tmp_path / "data" / "test_label").mkdir()
    for number in range(30):
        write_rgb(tmp_path / "data" / "test_label" / f"{number}.png", picture(number, 40, 50))
    assert command(saved("unet"), "--out", tmp_path / "out", "--data", tmp_path / "data") == 0
    assert f"on {convert.COMPARED} images" in capsys.readouterr().out
    sidecar = json.loads((tmp_path / "out" / "generator.fp32.onnx.json").read_text())
    assert sidecar["fidelity"]["images"] == convert.COMPARED


def test_a_graph_that_differs_fails_and_leaves_nothing(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from pix2pix_edge.export.graph import fold as module

    true = module.fold

    def wrong(graph: Graph, form: str) -> list[Any]:
        done = true(graph, form)
        weight = next(name for name in graph.constants if name.startswith("up3/"))
        graph.constants[weight] = graph.constants[weight] * 1.5
        return done

    monkeypatch.setattr(module, "fold", wrong)
    assert command(saved("unet"), "--out", tmp_path / "out") == 1
    assert list((tmp_path / "out").iterdir()) == []
    captured = capsys.readouterr()
    assert "differs from Keras 3" in captured.err
    assert captured.err.count("\n") == 1


def test_a_graph_is_not_written_over_the_one_that_is_read(
    inverter: Path, tmp_path: Path, refused: Callable[[int], str]
) -> None:
    given = Path(shutil.copy(inverter, tmp_path / "x.fp32.onnx"))
    said = refused(command(given, "--out", tmp_path, "--name", "x"))
    assert "x.fp32.onnx is read, and would be written over" in said
    assert given.read_bytes() == inverter.read_bytes()


def test_a_failed_write_keeps_the_old_files(exported: Path, tmp_path: Path) -> None:
    def refuse(engine: Any) -> dict[str, Any]:
        raise GateFailedError("too bad")

    old = tmp_path / "t.fp32.onnx"
    old.write_bytes(b"old")
    with pytest.raises(GateFailedError):
        convert.write(Graph.load(exported / "t.fp32.onnx"), old, "fp32", {"source": {"file": "t.keras"}}, refuse)
    assert old.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["t.fp32.onnx"]


def _refused(path: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        open_translator(path, Options())
    assert path.name in str(caught.value)


def test_files_that_are_no_keras_model(saved: Callable[[str], Path], tmp_path: Path) -> None:
    whole = saved("unet").read_bytes()
    (tmp_path / "text.keras").write_text("hello")
    (tmp_path / "empty.keras").touch()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged.keras").write_bytes(whole[:2000] + bytes(b ^ 255 for b in whole[2000:2200]) + whole[2200:])
    _refused(tmp_path / "missing.keras", "does not exist")
    _refused(tmp_path, "is a folder without saved_model.pb")
    (tmp_path / "training_checkpoints").mkdir()
    (tmp_path / "training_checkpoints" / "checkpoint").touch()
    _refused(tmp_path / "training_checkpoints", "is a checkpoint: weights without the network")
    _refused(tmp_path / "empty.keras", r"is empty.*model\.export\(FOLDER\)")
    for name in ("text", "cut"):
        _refused(tmp_path / f"{name}.keras", "not a whole .keras file")
    _refused(tmp_path / "text.txt", r"must end in \.keras, \.h5, \.hdf5 or \.onnx")
    _refused(tmp_path / "damaged.keras", "not a whole .keras file")


def test_models_that_are_no_generator(tmp_path: Path, keras: Any) -> None:
    layers = keras.layers
    image, other = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))

    class Custom(layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    models = {
        "smaller": (keras.Model(image, layers.Conv2D(3, 3)(image)), "only pictures of one size"),
        "larger": (keras.Model(image, layers.UpSampling2D()(image)), "a network that enlarges"),
        "classifier": (keras.Model(image, layers.Dense(10)(layers.Flatten()(image))), "it must take and give pictures"),
        "labels": (keras.Model(image, layers.Conv2D(21, 1)(image)), "21 channels are no picture"),
        "two": (keras.Model([image, other], layers.Add()([image, other])), "takes 2 tensors"),
        "forked": (keras.Model(image, [layers.ReLU()(image), layers.ReLU()(image)]), "gives 2 tensors"),
        "custom": (keras.Model(image, Custom(name="doubled")(image)), "doubled of .* is of the class Custom"),
        "lambda": (keras.Model(image, layers.Lambda(lambda x: x, name="mine")(image)), r"in its layer mine \(Lambda\)"),
    }
    x = keras.Input((None, None, 3))
    models["open"] = (keras.Model(x, layers.ReLU()(x)), "its size is open; choose one, with --size")
    for name, (model, reason) in models.items():
        model.save(tmp_path / f"{name}.keras")
        _refused(tmp_path / f"{name}.keras", reason)


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path, keras: Any) -> None:
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    spread = keras.ops.erfinv(layers.Conv2D(3, 3, padding="same", activation="tanh")(image))
    path = save(keras.Model(image, layers.Activation("tanh")(spread)), tmp_path / "g.keras")
    with pytest.raises(InputError, match=r"g\.keras computes Erfinv"):
        plain_graph(path)


def test_a_loop_and_a_resize_that_the_converter_gets_wrong_are_named(tmp_path: Path, keras: Any) -> None:
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    rows = layers.LSTM(24, return_sequences=True)(layers.Reshape((8, 24))(image))
    areas = layers.Resizing(8, 8)(layers.Resizing(4, 4, interpolation="area")(image))
    for result, said in ((layers.Reshape((8, 8, 3))(rows), "computes Loop"), (areas, "interpolation='area'")):
        path = save(keras.Model(image, result), tmp_path / "g.keras")
        with pytest.raises(InputError, match=rf"g\.keras .*{said}"):
            open_translator(path, Options()).graph()


@pytest.mark.parametrize(
    "words",
    ["text.keras --out out", "missing.keras --out out", "text.keras --out out --name a/b", "", "text.keras",
     "text.keras --out out --data empty", "text.keras --out out --data missing", "text.keras --out out --fold twice"],
)  # fmt: skip
def test_bad_input_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.keras").write_text("hello")
    Path("empty").mkdir()
    refused(command(*words.split()))
    assert not Path("out").exists()


def test_a_discriminator_gives_one_line_and_nothing_else(tmp_path: Path, keras: Any) -> None:
    layers = keras.layers
    source, target = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    patches = layers.Conv2D(1, 4, padding="same", activation="sigmoid")(layers.Concatenate()([source, target]))
    keras.Model([source, target], patches).save(tmp_path / "discriminator.keras")
    done = python("-m", "export", "convert", tmp_path / "discriminator.keras", "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1  # TensorFlow keeps quiet too
    assert "takes 2 tensors" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(
    saved: Callable[[str], Path], tmp_path: Path, refused: Callable[[int], str]
) -> None:
    (tmp_path / "file").touch()
    assert "cannot write" in refused(command(saved("unet"), "--out", tmp_path / "file" / "out"))


@pytest.mark.slow
@needs_tool
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_accepts_the_files(exported: Path, precision: str) -> None:
    assert accepted(exported / f"t.{precision}.onnx")[1] == 0


def _run(graph: Graph, images: Any) -> Any:
    import onnxruntime as ort

    session = ort.InferenceSession(graph.to_model().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["translated"], {"image": images})[0]
