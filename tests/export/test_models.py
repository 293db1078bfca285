"""Translators that were made elsewhere: ranges, channels, sizes, files of every Keras, SavedModels, foreign ONNX."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pix2pix_edge.export.images import drawn_images
from pix2pix_edge.export.translator import open_translator
from pix2pix_edge.export.translator.archive import read_archive
from pix2pix_edge.export.translator.contract import LEVELS, SYMMETRIC, UNIT, Options, Pixels
from pix2pix_edge.export.translator.examine import IMAGENET_BGR, examine
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.images import write_image
from tests.commands import export

Array = Any
IMAGES, TALL = (np.stack(drawn_images(shape)) for shape in ((16, 16, 3), (32, 16, 3)))

convert = partial(export, "convert")


def network(
    shape: tuple[int, int, int] = (16, 16, 3), gives: int = 3, last: str | None = "tanh", norm: bool = False
) -> Any:
    """A small Keras 3 translator with lively random weights."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = keras.Input(shape)
    x = layers.Conv2D(6, 4, strides=2, padding="same", kernel_initializer="he_normal")(image)
    x = layers.BatchNormalization(name="norm")(x) if norm else x
    x = layers.UpSampling2D()(layers.LeakyReLU()(x))
    x = layers.Conv2D(gives, 4, padding="same", activation=last, kernel_initializer="he_normal")(x)
    return keras.Model(image, x)


def settled(model: Any, given: Array) -> Any:
    """Let batch norm keep the statistics of what it is given."""
    for layer in model.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0
    model(given, training=True)
    return model


def assert_equal_pictures(file: Path, images: Array, expected: Array) -> None:
    with open_engine(file, backend="onnxruntime") as engine:
        assert engine.input.shape[1:] == images.shape[1:]
        found = np.concatenate([engine(image[None]) for image in images])
    assert found.shape == expected.shape and expected.std() > 5
    assert np.abs(found.astype(int) - expected).max() <= 1


def scaled(images: Array, limits: tuple[float, float] = SYMMETRIC) -> Array:
    return images.astype(np.float32) / 255 * (limits[1] - limits[0]) + limits[0]


def levels(values: Array, limits: tuple[float, float]) -> Array:
    low, high = limits
    return np.clip(np.rint((np.asarray(values) - low) * 255 / (high - low)), 0, 255).astype(np.uint8)


def assert_converts(
    file: Path,
    network: Callable[[Array], Array],
    *options: object,
    images: Array = IMAGES,
    taken: tuple[float, float] = SYMMETRIC,
    given: tuple[float, float] = SYMMETRIC,
    out: str = "",
) -> None:
    """Convert a file by the command, and compare what its engine makes of images with what the network makes of them.

    taken, given: the ranges of what the network reads and makes.
    """
    assert convert(file, "--out", file.parent / out, *options) == 0
    expected = levels(network(scaled(images, taken)), given)
    assert_equal_pictures(file.parent / out / "generator.fp32.onnx", images, expected)


def one_by_one(network: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda x: np.concatenate([network(one[None]) for one in x])


@pytest.mark.parametrize("taken", [SYMMETRIC, UNIT, LEVELS])
@pytest.mark.parametrize(("last", "given"), [("tanh", SYMMETRIC), ("sigmoid", UNIT)])
def test_ranges_are_seen_where_batch_norm_tells(
    tmp_path: Path, taken: tuple[float, float], last: str, given: tuple[float, float]
) -> None:
    model = settled(network(last=last, norm=True), scaled(IMAGES, taken))
    model.save(tmp_path / "g.keras")
    translator = open_translator(tmp_path / "g.keras", Options())
    pixels, said = examine(translator, translator.graph(), Options(), list(IMAGES), drawn=False)
    assert (pixels.input_range, pixels.output_range) == (taken, given)
    assert "batch norm" in said[0]
    for number, picture in enumerate(IMAGES):
        write_image(tmp_path / "data" / f"{number:02}.png", picture)
    assert_converts(tmp_path / "g.keras", model, "--data", tmp_path / "data", taken=taken, given=given)
    assert (tmp_path / "generator.sheet.png").is_file()


def test_drawn_pictures_do_not_tell_a_factor_of_two(tmp_path: Path, capsys: Any) -> None:
    """Lines on white, as sketches are, have a fraction of the contrast of what is drawn."""
    x = np.where(np.random.default_rng(0).random((8, 16, 16, 1)) < 0.1, 0.2, 1.0).repeat(3, -1).astype(np.float32)
    settled(network(norm=True), x).save(tmp_path / "g.keras")
    assert convert(tmp_path / "g.keras", "--out", tmp_path) == 2
    assert "give pictures of its own kind with --data DIR, or say" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mean", "deviation", "taken"),
    [(60.0, 55.0, LEVELS), (230.0, 40.0, LEVELS), (0.8, 0.3, UNIT), (0.3, 0.7, SYMMETRIC), (-0.5, 0.2, SYMMETRIC)],
)
@pytest.mark.parametrize("keras_2", [False, True])
def test_a_mean_that_the_network_takes_away_tells_its_range(
    tmp_path: Path, mean: float, deviation: float, taken: tuple[float, float], keras_2: bool
) -> None:
    keras = pytest.importorskip("tf_keras" if keras_2 else "keras")
    image = keras.Input((16, 16, 3))
    x = keras.layers.Normalization(mean=[mean] * 3, variance=[deviation**2] * 3)(image)
    x = keras.layers.Conv2D(3, 3, padding="same", activation="tanh", kernel_initializer="he_normal")(x)
    model = keras.Model(image, x)
    model.save(tmp_path / "g.keras")
    assert_converts(tmp_path / "g.keras", model, taken=taken)


def test_the_mean_of_imagenet_that_is_taken_away_outside_is_named(tmp_path: Path) -> None:
    pixels = Pixels((16, 16, 3), (16, 16, 3), UNIT, UNIT, True, tuple(m / 255 for m in IMAGENET_BGR), (1 / 255,))
    model = settled(network(last="sigmoid", norm=True), 40 + pixels.to_network(IMAGES))  # of brighter pictures
    model.save(tmp_path / "g.keras")
    translator = open_translator(tmp_path / "g.keras", Options())
    with pytest.raises(InputError, match=r"with ImageNet's mean taken away; .*preprocess_input.*--channels bgr"):
        examine(translator, translator.graph(), Options(), list(IMAGES))


def test_a_little_below_black_is_asked_for_where_the_input_has_none(tmp_path: Path, keras: Any) -> None:
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    model.set_weights([1.4 * np.eye(3)[None, None], np.full(3, -0.3)])  # [0, 1] becomes [-0.3, 1.1]
    model.save(tmp_path / "g.keras")
    with pytest.raises(InputError, match=r"it gives -0\.\d+ to 1\.\d+ .*--output-range"):
        translator = open_translator(tmp_path / "g.keras", Options())
        examine(translator, translator.graph(), Options(input_range=UNIT), drawn_images((16, 16, 3)))


@pytest.mark.parametrize("activation", ["gelu", "celu"])
def test_activations_that_the_converter_has_no_word_for(
    tmp_path: Path, activation: str, capsys: Any, keras: Any
) -> None:
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(keras.layers.Activation(activation)(image)))
    model.set_weights([3 * np.eye(3)[None, None], np.zeros(3)])
    model.save(tmp_path / "g.keras")
    assert_converts(tmp_path / "g.keras", model, "--input-range=-1,1", "--output-range=-1,1")
    assert re.search(r"\d\d% of what it gives .* lies far beyond \[-1, 1\]", capsys.readouterr().err)


@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
def test_resizes_that_the_converter_has_no_word_for(tmp_path: Path, kernel: str, keras: Any) -> None:
    image = keras.Input((16, 12, 3))
    small = keras.layers.Resizing(7, 5, antialias=True, interpolation=kernel)(image)
    model = keras.Model(image, keras.layers.Resizing(16, 12, interpolation=kernel)(small))
    model.save(tmp_path / "g.keras")
    images = np.stack(drawn_images((16, 12, 3)))
    assert_converts(tmp_path / "g.keras", model, "--input-range=-1,1", "--output-range=-1,1", images=images)


def test_what_cannot_be_told_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    model = network(last="sigmoid")
    model.save(tmp_path / "g.keras")
    assert convert(tmp_path / "g.keras", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "ends in Sigmoid, which keeps [0, 1]" in error and "--input-range 0,1" in error
    assert_converts(tmp_path / "g.keras", model, "--input-range=0,1", taken=UNIT, given=UNIT, out="out")


@pytest.mark.parametrize("rescales", ["both", "input", "uint8"])
def test_rescaling_inside(tmp_path: Path, rescales: str, keras: Any) -> None:
    layers = keras.layers
    core = network()
    image = keras.Input((16, 16, 3), dtype="uint8" if rescales == "uint8" else "float32")
    x = core(layers.Rescaling(1 / 127.5, offset=-1)(image))
    model = keras.Model(image, x if rescales == "input" else layers.Rescaling(127.5, offset=127.5)(x))
    model.save(tmp_path / "g.keras")
    given = SYMMETRIC if rescales == "input" else LEVELS
    assert_converts(tmp_path / "g.keras", lambda x: model(x.astype(image.dtype)), taken=LEVELS, given=given)


def test_bgr_with_mean_and_deviation(tmp_path: Path) -> None:
    model = network()
    model.save(tmp_path / "g.keras")
    mean, std = np.float32((0.4, 0.45, 0.5)), np.float32((0.2, 0.25, 0.3))
    options = ["--channels", "bgr", "--mean", "0.4,0.45,0.5", "--std", "0.2,0.25,0.3"]
    turned = lambda x: model((x[..., ::-1] - mean) / std).numpy()[..., ::-1]  # noqa: E731
    assert_converts(tmp_path / "g.keras", turned, *options, taken=UNIT)


@pytest.mark.parametrize(("takes", "gives"), [(1, 3), (3, 1), (1, 1), (3, 4), (4, 3)])
def test_one_to_four_channels(tmp_path: Path, takes: int, gives: int) -> None:
    import cv2

    model = network((16, 16, takes), gives)
    model.save(tmp_path / "g.keras")
    assert convert(tmp_path / "g.keras", "--out", tmp_path) == 0
    images = np.stack(drawn_images((16, 16, 4 if takes == 4 else 3)))
    seen = np.stack([cv2.cvtColor(i, cv2.COLOR_RGB2GRAY)[..., None] for i in images]) if takes == 1 else images
    assert_equal_pictures(tmp_path / "generator.fp32.onnx", images, levels(model(scaled(seen)), SYMMETRIC))


def test_sizes_that_are_no_squares_and_open_ones(tmp_path: Path) -> None:
    for model, shape, options in (
        (network((16, 32, 3)), (16, 32, 3), []),
        (network((None, None, 3)), (32, 48, 3), ["--size", "48x32"]),
    ):
        model.save(tmp_path / "g.keras")
        assert_converts(tmp_path / "g.keras", model, *options, images=np.stack(drawn_images(shape)))


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "mixed_bfloat16", "float64"])
def test_other_policies_become_true_fp32(tmp_path: Path, policy: str, keras: Any) -> None:
    model = network()
    keras.config.set_dtype_policy(policy)
    try:
        other = network()
        other.set_weights(
            [weight.astype(str(v.dtype)) for weight, v in zip(model.get_weights(), other.weights, strict=True)]
        )
        other.save(tmp_path / "g.keras")
        rounded = [np.asarray(weight, np.float32) for weight in other.get_weights()]
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(rounded)
    assert_converts(tmp_path / "g.keras", model)
    types = {t.data_type for t in onnx.load(tmp_path / "generator.fp32.onnx").graph.initializer}
    assert not types & {TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def test_batch_statistics_are_those_of_training_at_batch_1(tmp_path: Path, capsys: Any) -> None:
    model = settled(network(norm=True), scaled(IMAGES[3:]) * 0.3)
    model.save(tmp_path / "g.keras")
    training = one_by_one(partial(model, training=True))
    assert_converts(tmp_path / "g.keras", training, "--batch-statistics", "--input-range=-1,1", images=IMAGES[3:])
    assert "pictures differ by up to" in capsys.readouterr().err


def test_a_layer_called_in_training_mode_is_named(tmp_path: Path, capsys: Any, keras: Any) -> None:
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.BatchNormalization(name="mine")(layers.Conv2D(4, 3, padding="same")(image), training=True)
    model = keras.Model(image, layers.Conv2D(3, 3, padding="same", activation="tanh")(x))
    model.save(tmp_path / "g.keras")
    assert convert(tmp_path / "g.keras", "--out", tmp_path, "--input-range", "-1,1") == 0
    error = capsys.readouterr().err
    assert "mine is called with training=True" in error and "--batch-statistics" in error


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_files_of_keras_2(tmp_path: Path, ending: str) -> None:
    keras = pytest.importorskip("tf_keras")
    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = layers.Input((16, 16, 3))
    x = layers.BatchNormalization()(layers.Conv2DTranspose(4, 4, padding="same")(image), training=True)
    x = layers.UpSampling2D()(layers.LeakyReLU(alpha=0.2)(layers.Conv2D(4, 4, strides=2, padding="same")(x)))
    model = keras.Model(image, layers.Conv2D(3, 4, padding="same", activation="tanh")(x))
    model.save(tmp_path / f"g.{ending}")
    predict = one_by_one(partial(model.predict, verbose=0))
    assert_converts(tmp_path / f"g.{ending}", predict, "--input-range=-1,1", images=IMAGES[3:])


def test_dropout_that_stays_on_is_named_with_what_it_changes(tmp_path: Path, capsys: Any) -> None:
    keras = pytest.importorskip("tf_keras")
    layers = keras.layers
    image = layers.Input((16, 16, 3))
    x = layers.Dropout(0.5, name="kept")(layers.Conv2D(6, 3, padding="same")(image), training=True)
    keras.Model(image, layers.Conv2D(3, 3, padding="same", activation="tanh")(x)).save(tmp_path / "g.h5")
    assert convert(tmp_path / "g.h5", "--out", tmp_path) == 0
    error = capsys.readouterr().err
    assert "kept is called with training=True: Keras draws them anew" in error
    assert int(re.search(r"as predict\(\) draws them pictures differ by up to (\d+) levels", error)[1]) > 1  # type: ignore[index]


FUNCTIONAL = {"class_name": "Functional", "config": {"layers": []}}


def archive_of_keras_2(path: Path, *layers: dict[str, Any], weights: Path | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.13.1"}))
        archive.writestr("config.json", json.dumps(FUNCTIONAL | {"config": {"layers": layers}}))
        if weights:
            archive.write(weights, "model.weights.h5")
    return path


def test_files_of_keras_2_ask_for_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"written by Keras 2\.13\.1.*pip install 'pix2pix-edge\[keras2\]'"):
        open_translator(archive_of_keras_2(tmp_path / "g.keras"), Options())


def test_a_saved_model_folder(tmp_path: Path) -> None:
    model = network()
    model.export(tmp_path / "saved", verbose=False)
    assert_converts(tmp_path / "saved", model)


@pytest.mark.parametrize("door", ["ReadFile", "ImmutableConst", "PrintV2", "TextLineDataset", "SaveV2", "Save"])
def test_a_saved_model_that_opens_files_is_refused(tmp_path: Path, door: str) -> None:
    import tensorflow as tf

    (tmp_path / "data").write_bytes(bytes(4))
    path = str(tmp_path / "data")

    class Opener(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def serve(self, image: Any) -> Any:
            value = tf.constant(0.0)
            if door == "ReadFile":
                value = tf.cast(tf.strings.length(tf.io.read_file(path)), tf.float32)
            elif door == "ImmutableConst":
                value = tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[1], memory_region_name=path)
            elif door == "PrintV2":
                tf.print("here", output_stream=f"file://{path}")
            elif door == "TextLineDataset":
                value = tf.data.TextLineDataset([path]).reduce(0.0, lambda count, _: count + 1.0)
            elif door == "Save":
                tf.raw_ops.Save(filename=path, tensor_names=["a"], data=[value])
            else:
                tf.raw_ops.SaveV2(prefix=path, tensor_names=["a"], shape_and_slices=[""], tensors=[value])
            return image + value

    module = Opener()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    with pytest.raises(InputError, match=f"computes .*{door}.*, which reads files"):
        open_translator(tmp_path / "saved", Options())


@pytest.mark.parametrize("training", [(True, False), (True, True), (False, False)])
def test_a_saved_model_that_is_partly_in_training_mode_is_refused(tmp_path: Path, training: tuple[bool, bool]) -> None:
    import tensorflow as tf

    class Partly(tf.Module):
        def norm(self, x: Any, training: bool) -> Any:
            moving = None if training else tf.fill([3], 0.3)
            return tf.compat.v1.nn.fused_batch_norm(x, tf.ones(3), tf.zeros(3), moving, moving, is_training=training)[0]

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def serve(self, image: Any) -> Any:
            return tf.tanh(self.norm(self.norm(image, training[0]), training[1]))

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def train(self, image: Any) -> Any:  # what is not served decides nothing
            return self.norm(image, True)

    module = Partly()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    if not any(training):
        assert open_translator(tmp_path / "saved", Options()).takes == (16, 16, 3)
        return
    with pytest.raises(InputError, match=rf"computes {sum(training)} of its 2 batch norms by the picture's own"):
        open_translator(tmp_path / "saved", Options())


def test_a_saved_model_of_keras_3_in_training_mode_is_named_and_one_that_draws_refused(
    tmp_path: Path, keras: Any
) -> None:
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.BatchNormalization(name="mine")(image, training=True)
    keras.Model(image, layers.GlobalAveragePooling2D(keepdims=True)(x) + x).export(tmp_path / "norm", verbose=False)
    (note,) = open_translator(tmp_path / "norm", Options()).notes
    assert re.match(r"mine\w*: by the statistics of the picture itself", note)
    keras.Model(image, layers.Dropout(0.5, name="noisy")(x, training=True)).export(tmp_path / "drop", verbose=False)
    with pytest.raises(InputError, match=r"draws random numbers \(.*noisy.*\), so it gives another picture each time"):
        open_translator(tmp_path / "drop", Options())


@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_a_lambda_layer_never_runs(tmp_path: Path, ending: str, keras: Any) -> None:
    layers = keras.layers
    witness = tmp_path / "ran"
    image = keras.Input((16, 16, 3))
    code = layers.Lambda(lambda x, p=str(witness): (open(p, "w").close(), x)[1], output_shape=(16, 16, 3), name="evil")
    keras.Model(image, code(image)).save(tmp_path / f"g.{ending}")
    witness.unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"Python code in its layer evil \(Lambda\)"):
        open_translator(tmp_path / f"g.{ending}", Options())
    assert not witness.exists()


@pytest.mark.parametrize("way", ["stored elsewhere", "link", "virtual"])
def test_weights_in_another_file_are_not_read(tmp_path: Path, way: str) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(16))
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(FUNCTIONAL)
        layer = file.create_group("model_weights/conv")
        if way == "stored elsewhere":
            layer.create_dataset("kernel", shape=(4,), dtype="f4", external=[(str(tmp_path / "secret"), 0, 16)])
        elif way == "link":
            layer["kernel"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "w")
        else:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "w", shape=(4,))
            layer.create_virtual_dataset("kernel", layout)
    for path in (tmp_path / "g.h5", archive_of_keras_2(tmp_path / "g.keras", weights=tmp_path / "g.h5")):
        with pytest.raises(InputError, match=r"keeps weights in another file .*model_weights/conv"):
            read_archive(path)


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("TFOpLambda", {"function": "io.write_file"}, r"calls tf\.io\.write_file in its layer w"),
        ("TensorFlowOpLayer", {"node_def": {"op": "WriteFile"}}, r"calls the operator 'WriteFile' in its layer w"),
        ("TensorFlowOpLayer", {"node_def": "\n\x01w\x12\x09WriteFile"}, r"the operator .*WriteFile. in its layer w"),
    ],
)
def test_a_keras_2_file_may_not_call_what_writes_files(
    tmp_path: Path, kind: str, config: dict[str, Any], said: str
) -> None:
    path = archive_of_keras_2(
        tmp_path / "g.keras", {"class_name": kind, "name": "w", "config": {"name": "w", **config}}
    )
    with pytest.raises(InputError, match=said):
        open_translator(path, Options())


def with_layer_of(keras: Any, file: Path, code: str) -> Any:
    """Write a file that holds one layer, and return a model with that layer, which knows nothing of the file."""
    file.write_text(code)
    namespace: dict[str, Any] = {"__name__": file.stem}
    exec(code, namespace)
    own = next(kind for kind in namespace.values() if isinstance(kind, type))
    image = keras.Input((16, 16, 3))
    return keras.Model(image, keras.layers.Activation("tanh")(own(name="double")(image)))


def test_layers_of_ones_own(tmp_path: Path, keras: Any) -> None:
    code = (
        "import keras\n@keras.saving.register_keras_serializable(package='own')\nclass Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n        return x * 2\n"
    )
    with_layer_of(keras, tmp_path / "own.py", code).save(tmp_path / "g.keras")
    keras.saving.get_custom_objects().clear()
    with pytest.raises(InputError, match=r"double of .* own>Twice.*--custom FILE\.py"):
        open_translator(tmp_path / "g.keras", Options())
    assert convert(tmp_path / "g.keras", "--out", tmp_path, "--custom", tmp_path / "own.py") == 0
    keras.saving.get_custom_objects().clear()


def foreign(
    path: Path,
    layout: str = "NCHW",
    opset: int = 17,
    *,
    free: str = "",
    kind: int = TensorProto.FLOAT,
    last: str = "Tanh",
) -> Callable[[Array], Array]:
    """Write a translator as PyTorch would export it, and return what it computes of float NHWC pictures."""
    import onnxruntime as ort

    random = np.random.default_rng(0)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = {"down.weight": (6, 3, 4, 4), "up.weight": (6, 3, 4, 4)}
    tensors = [numpy_helper.from_array(random.normal(0, 0.15, s).astype(dtype), n) for n, s in weights.items()]
    nodes = [
        helper.make_node(
            "Conv", ["nchw" if layout == "NHWC" else "x.1", "down.weight"], ["a"], strides=[2, 2], pads=[1] * 4
        ),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.2),
        helper.make_node("ConvTranspose", ["b", "up.weight"], ["c"], strides=[2, 2], pads=[1] * 4),
        helper.make_node(last, ["c"], ["d" if layout == "NHWC" else "1234"]),
    ]
    shape: list[Any] = [1, 3, 32, 16] if layout == "NCHW" else [1, 32, 16, 3]
    if free:
        shape = ["n", 3, "h", "w"] if free == "size" else ["n", *shape[1:]]
    if layout == "NHWC":
        nodes.insert(0, helper.make_node("Transpose", ["x.1"], ["nchw"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Transpose", ["d"], ["1234"], perm=[0, 2, 3, 1]))
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("x.1", "1234")]
    graph = helper.make_graph(nodes, "main_graph", ends[:1], ends[1:], tensors)
    domains = [helper.make_opsetid(*each) for each in (("", opset), ("ai.onnx.ml", 2))]  # tf2onnx names both
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)

    def run(x: Array) -> Array:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        given = np.ascontiguousarray(x.transpose(0, 3, 1, 2) if layout == "NCHW" else x).astype(dtype)
        results = np.concatenate([session.run(None, {"x.1": one[None]})[0] for one in given])
        return results.transpose(0, 2, 3, 1) if layout == "NCHW" else results

    return run


def test_layers_of_ones_own_that_are_not_registered(tmp_path: Path) -> None:
    """As the forks of pix2pix and CycleGAN have them: a class beside the script, and a .h5 that knows its name."""
    keras = pytest.importorskip("tf_keras")
    code = "import tf_keras\nclass Thrice(tf_keras.layers.Layer):\n    def call(self, x):\n        return x * 3\n"
    with_layer_of(keras, tmp_path / "forks.py", code).save(tmp_path / "g.h5")
    with pytest.raises(InputError, match=r"Unknown layer: 'Thrice'.*--custom FILE\.py"):
        open_translator(tmp_path / "g.h5", Options())
    translator = open_translator(tmp_path / "g.h5", Options(custom=tmp_path / "forks.py"))
    x = np.linspace(-1, 1, 16 * 16 * 3, dtype=np.float32).reshape(1, 16, 16, 3)
    assert np.allclose(translator.run(x), np.tanh(3 * x), atol=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 21])
def test_foreign_onnx_of_any_layout_and_age(tmp_path: Path, layout: str, opset: int) -> None:
    assert_converts(tmp_path / "m.onnx", foreign(tmp_path / "m.onnx", layout, opset), images=TALL)


def test_foreign_group_norm_as_an_operator(tmp_path: Path) -> None:
    run = foreign(tmp_path / "m.onnx", opset=21)
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.node[0].output[0] = "raw"
    for name, start in (("scale", 0.5), ("shift", -0.2)):
        values = np.linspace(start, start + 0.5, 6, dtype=np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    model.graph.node.insert(1, helper.make_node("GroupNormalization", ["raw", "scale", "shift"], ["a"], num_groups=2))
    onnx.save(model, tmp_path / "m.onnx")
    assert_converts(tmp_path / "m.onnx", run, images=TALL[3:])
    model.opset_import[0].version = 18  # where its scale was of groups, which ONNX 1.17 takes and ONNX Runtime does not
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(InputError, match=r"GroupNormalization as no opset has it any more|cannot run"):
        open_translator(tmp_path / "old.onnx", Options())


@pytest.mark.parametrize("asked", [True, False])
def test_foreign_batch_norm_by_the_pictures_own_statistics(tmp_path: Path, asked: bool, capsys: Any) -> None:
    """Asked for, or in the file, as PyTorch writes what is exported in training mode; the measure is instance norm."""
    for name, operator in (("m", "BatchNormalization"), ("expected", "InstanceNormalization")):
        run = foreign(tmp_path / f"{name}.onnx", opset=13 if asked else 17)
        model = onnx.load(tmp_path / f"{name}.onnx")
        model.graph.node[0].output[0] = "raw"
        kept = {"norm.weight": 2.0, "norm.bias": 0.1, "norm.mean": 3.0, "norm.var": 0.5}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.full(6, value, np.float32), key) for key, value in kept.items()
        )
        own = name == "m" and not asked
        settings = {"training_mode": 1} if own else {}
        inputs, outputs = list(kept)[: 4 if name == "m" else 2], ["a", "mean", "var"] if own else ["a"]
        model.graph.node.insert(1, helper.make_node(operator, ["raw", *inputs], outputs, **settings))
        onnx.save(model, tmp_path / f"{name}.onnx")
    assert_converts(tmp_path / "m.onnx", run, *["--batch-statistics"][:asked], images=TALL)
    assert re.search(r"(?s)norm: by the statistics of the picture.*differ by up to \d\d", capsys.readouterr().err)
    assert convert(tmp_path / "generator.fp32.onnx", "--out", tmp_path / "again", "--batch-statistics") == 2
    assert "has no batch norm for --batch-statistics" in capsys.readouterr().err


def test_a_scale_behind_a_turn_and_dropout_and_an_output_without_a_shape(tmp_path: Path, capsys: Any) -> None:
    run = foreign(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    graph = model.graph
    values = {"turn": [2, 1, 0], "half": np.float32(127.5), "one": np.float32(1), "ratio": np.float32(0.5), "on": True}
    graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in values.items())
    before = [
        helper.make_node("Gather", ["levels", "turn"], ["rgb"], axis=1),
        helper.make_node("Div", ["rgb", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["sure"]),
        helper.make_node("Dropout", ["sure", "ratio", "on"], ["x.1"], name="noisy"),
    ]
    graph.input[0].name = "levels"
    graph.output[0].type.tensor_type.ClearField("shape")
    graph.node.extend([*before, *graph.node])
    del graph.node[:4]
    onnx.save(model, tmp_path / "turned.onnx")
    assert_converts(tmp_path / "turned.onnx", lambda x: run(x[..., ::-1]), images=TALL)
    assert "noisy: dropout in training mode" in capsys.readouterr().err


@pytest.mark.parametrize("free", ["batch", "size"])
def test_foreign_onnx_with_free_dimensions(tmp_path: Path, free: str, capsys: Any) -> None:
    run = foreign(tmp_path / "m.onnx", free=free)
    options = ["--size", "16x32"] if free == "size" else []
    if options:
        assert convert(tmp_path / "m.onnx", "--out", tmp_path / "out") == 2
        assert "its size is open (float[n, 3, h, w]); choose one, with --size" in capsys.readouterr().err
    assert_converts(tmp_path / "m.onnx", run, *options, images=TALL)


@pytest.mark.parametrize(
    ("kind", "rounding"), [(TensorProto.FLOAT16, 1), (TensorProto.DOUBLE, 1), (TensorProto.BFLOAT16, 3)]
)
def test_foreign_onnx_of_another_precision_becomes_fp32(tmp_path: Path, kind: int, rounding: int, capsys: Any) -> None:
    """The last two are none that ONNX Runtime has operators for, so its weights in FP32 are the measure."""
    run = foreign(tmp_path / "single.onnx")
    foreign(tmp_path / "m.onnx", kind=kind)
    assert convert(tmp_path / "m.onnx", "--out", tmp_path) == 0
    assert "it computes in another precision than FP32" in capsys.readouterr().err
    with open_engine(tmp_path / "generator.fp32.onnx", backend="onnxruntime") as engine:
        found = np.concatenate([engine(image[None]) for image in TALL])
    assert np.abs(found.astype(int) - levels(run(scaled(TALL)), SYMMETRIC)).max() <= rounding


def test_weights_in_a_file_beside_are_read_and_others_refused(tmp_path: Path) -> None:
    run = foreign(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.save_model(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    assert_converts(tmp_path / "e.onnx", run, images=TALL)
    moved = onnx.load(tmp_path / "e.onnx", load_external_data=False)
    for tensor in moved.graph.initializer:
        next(e for e in tensor.external_data if e.key == "location").value = "../../etc/passwd"
    onnx.save(moved, tmp_path / "door.onnx")
    with pytest.raises(InputError, match="which is no file beside it"):
        open_translator(tmp_path / "door.onnx", Options())


def test_foreign_onnx_that_is_no_picture(tmp_path: Path) -> None:
    foreign(tmp_path / "labels.onnx", last="Softmax")
    model = onnx.load(tmp_path / "labels.onnx")
    model.graph.initializer.append(numpy_helper.from_array(np.float32(255), "white"))
    model.graph.node.append(helper.make_node("Mul", ["1234", "white"], ["scaled"]))
    model.graph.output[0].name = "scaled"
    onnx.save(model, tmp_path / "scaled.onnx")
    for name in ("labels", "scaled"):
        translator = open_translator(tmp_path / f"{name}.onnx", Options())
        with pytest.raises(InputError, match="ends in Softmax: it gives labels"):
            examine(translator, translator.graph(), Options(), drawn_images((32, 16, 3)))
    model.graph.node.append(helper.make_node("RandomNormal", [], ["noise"], name="noise", shape=[1]))
    onnx.save(model, tmp_path / "noise.onnx")
    with pytest.raises(InputError, match="draws random numbers"):
        open_translator(tmp_path / "noise.onnx", Options())
    shapes = {"six": [1, 6, 32, 32], "open": [1, None, 32, 16], "one": [3, 32, 16]}
    advice = ("wrap it in a network that takes one picture", "a fixed number of channels", r"export it with \[1, chan")
    for (name, shape), said in zip(shapes.items(), advice, strict=True):
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x.1", TensorProto.FLOAT, shape))
        onnx.save(model, tmp_path / f"{name}.onnx")
        with pytest.raises(InputError, match=said):
            open_translator(tmp_path / f"{name}.onnx", Options())


def test_grey_in_numpy_is_that_of_opencv() -> None:
    import cv2

    images = np.stack(drawn_images((32, 48, 3)))
    pixels = Pixels((32, 48, 1), (32, 48, 1), LEVELS, LEVELS)
    grey = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])[..., None]
    assert np.array_equal(pixels.to_network(images), grey)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_flat_picture_that_the_network_is_unsure_of_decides_nothing(
    tmp_path: Path, dtype: str, capsys: Any, keras: Any
) -> None:
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), dtype=dtype)
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for _ in range(8):
        x = layers.Conv2D(8, 3, padding="valid", use_bias=False, kernel_initializer="he_normal")(
            layers.ZeroPadding2D()(x)
        )
        x = layers.ReLU()(layers.GroupNormalization(groups=-1, epsilon=1e-12)(x))
    model = keras.Model(image, layers.Conv2D(3, 3, padding="same", activation="tanh")(x))
    model.save(tmp_path / "g.keras")
    assert convert(tmp_path / "g.keras", "--out", tmp_path) == 0
