"""The two networks of pix2pix, as functions that return keras models.

    generator       image -> 7 x [conv 4x4 /2, LeakyReLU 0.2, batch norm (not on the first)]
                          -> 6 x [nearest upsampling x2, conv 4x4, ReLU, dropout 0.5 on the first three, batch norm,
                                  concatenation with the encoder's map of that size]
                          -> nearest upsampling x2, conv 4x4, tanh -> image
    discriminator   input and target, concatenated -> 4 x [conv 4x4 /2, LeakyReLU 0.2, batch norm (not on the first)]
                          -> conv 4x4 -> one logit per patch

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017), in the form that the Keras-GAN
collection made popular. Importing this module loads TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.data import Size

DEEPEST = 7
DROPOUT = 0.5
SLOPE = 0.2
DARKEST = 0.02  # added to the white of the paper, so that a black frame is divided by something
MOMENTUM = 0.9  # how much of the moving statistics each step keeps; every exported picture is made with them


SMALLEST, LARGEST, LEAST_LEVELS = 32, 2048, 4


def widths(filters: int, image_size: Size) -> list[int]:
    """Return the channels of each encoder level: f, 2f, 4f, 8f, 8f, … down to a map of 2 pixels, at most 7 levels.

    As many levels as both sides can be halved. Raises InputError unless filters is at least 1 and both sides are
    multiples of 16 from 32 to 2048.
    """
    height, width = both_sides(image_size)
    if filters < 1:
        raise InputError(f"--filters must be at least 1, not {filters}")
    levels = min(DEEPEST, *(min((side & -side).bit_length() - 1, side.bit_length() - 2) for side in (height, width)))
    if levels < LEAST_LEVELS or not all(SMALLEST <= side <= LARGEST for side in (height, width)):
        raise InputError(
            f"--image-size must be of multiples of {2**LEAST_LEVELS} from {SMALLEST} to {LARGEST}, not {width}x{height}"
        )
    return [filters * min(2**level, 8) for level in range(levels)]


def both_sides(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def generator(
    filters: int = 64,
    image_size: Size = 256,
    *,
    channels: tuple[int, int] = (3, 3),
    folded: bool = False,
    even_light: bool = False,
) -> keras.Model:
    """Return the U-Net: float32 [N, H, W, C] in [-1, 1] -> the same; 41.8 M weights with 64 filters at 256.

    channels: of the images that it takes, and of those that it gives.
    folded: for training: upsampling and convolution are one step, and batch norm sees the batch of all replicas. The
    weights and the function are the same; only the plain form consists of standard layers, so that is the one to save.
    even_light: the image is divided by the brightness of the paper first, for drawings that a camera sees.
    Below 256 there are fewer levels, and dropout only where the map has its full 8 x filters channels.
    Raises InputError as widths() does.
    """
    synchronized = folded and tf.distribute.has_strategy()
    norm = partial(keras.layers.BatchNormalization, momentum=MOMENTUM, synchronized=synchronized)
    down = widths(filters, image_size)
    image = keras.Input((*both_sides(image_size), channels[0]), name="image")
    x = evened(image, both_sides(image_size)) if even_light else image
    skips = []
    for level, width in enumerate(down):
        name = f"down{level + 1}"
        x = keras.layers.Conv2D(width, 4, strides=2, padding="same", name=name)(x)
        x = keras.layers.LeakyReLU(negative_slope=SLOPE)(x)
        if level > 0:
            x = norm(name=f"{name}_norm")(x)
        skips.append(x)
    for level, skip in enumerate(reversed(skips[:-1])):
        width, name = skip.shape[-1], f"up{level + 1}"
        x = _upsampled(x, width, "relu", folded, name)
        if level < 3 and width == 8 * filters:
            x = keras.layers.Dropout(DROPOUT)(x)
        x = norm(name=f"{name}_norm")(x)
        x = keras.layers.Concatenate()([x, skip])
    return keras.Model(image, _upsampled(x, channels[1], "tanh", folded, f"up{len(down)}"), name="generator")


def evened(image: Any, sides: tuple[int, int]) -> Any:
    """Return an image divided, channel by channel, by the white of the paper around each pixel: [-1, 1] -> [-1, 1].

    The white is a morphological closing of a small picture of brightest spots: what is dark over less than a quarter of
    the side is filled, and a slope of light stays. So neither lamp nor tint reaches the first convolution, and a
    stroke, or a hatched window, is black beside it. All layers are standard ones without weights.
    """
    together = math.gcd(*sides)
    cell = min(1 << max(0, (min(sides) // 64).bit_length() - 1), (together & -together) // 4)  # divides both sides
    positive = keras.layers.Rescaling(0.5, 0.5)(image)
    white = keras.layers.AveragePooling2D(cell)(positive)  # without noise
    white = keras.layers.MaxPooling2D(4)(white)
    for _ in range(2):  # dilate, then erode
        white = keras.layers.MaxPooling2D(5, strides=1, padding="same")(white)
        white = keras.layers.Rescaling(-1.0)(white)
    white = keras.layers.AveragePooling2D(3, strides=1, padding="same")(white)
    white = keras.layers.UpSampling2D(4 * cell, interpolation="bilinear")(white)
    share = keras.ops.divide(positive, keras.layers.Rescaling(1.0, DARKEST)(white))
    return keras.layers.Rescaling(2.0, -1.0)(keras.layers.ReLU(max_value=1.0)(share))


def discriminator(
    filters: int = 64,
    image_size: Size = 256,
    *,
    channels: tuple[int, int] = (3, 3),
    scales: int = 1,
    spectral: bool = False,
) -> keras.Model:
    """Return the PatchGAN: two images [N, H, W, C] -> logits [N, H/16, W/16, 1], above 0 where a patch looks real.

    channels: of the generator's input, and of its output.
    scales: so many networks, each of which sees the images at half the size of the one before, so that one judges the
    grain of a wall and another a window with its wall; a list of logits (Wang et al., "pix2pixHD", arXiv 1711.11585).
    spectral: each kernel is divided by its largest singular value, in place of batch norm, which at batch 1 would
    hide a picture's mean colours from it (Miyato et al., arXiv 1802.05957).
    The article ends in a sigmoid; here it is part of the loss, where it cannot overflow.
    Raises InputError when there are more scales than the images can be halved.
    """
    if scales > (most := min(both_sides(image_size)).bit_length() - 1):
        raise InputError(f"--scales {scales} halves the images to less than a pixel; give at most {most}")
    source, target = (
        keras.Input((*both_sides(image_size), count), name=name)
        for name, count in zip(("source", "target"), channels, strict=True)
    )
    conv = SpectralConv2D if spectral else keras.layers.Conv2D
    images = keras.layers.Concatenate()([source, target])
    logits = []
    for scale in range(1, scales + 1):
        x = images
        for level in range(1, 5):
            name = f"scale{scale}_down{level}"
            x = conv(filters * 2 ** (level - 1), 4, strides=2, padding="same", name=name)(x)
            x = keras.layers.LeakyReLU(negative_slope=SLOPE, name=f"{name}_map")(x)
            if level > 1 and not spectral:
                norm = keras.layers.BatchNormalization(momentum=MOMENTUM, synchronized=tf.distribute.has_strategy())
                x = norm(x)
        logits.append(conv(1, 4, padding="same", name=f"scale{scale}_logits")(x))
        images = keras.layers.AveragePooling2D(2)(images)
    return keras.Model([source, target], logits[0] if scales == 1 else logits, name="discriminator")


def feature_extractor(discriminator: keras.Model) -> keras.Model:
    """Return the model of what a discriminator sees: its two images -> by scale, its maps, and its logits last.

    Raises InputError when it has no such maps.
    """
    scales: dict[str, list[Any]] = {}
    for name in sorted(layer.name for layer in discriminator.layers):  # Keras lists them by depth
        if name.startswith("scale") and name.endswith(("_map", "_logits")):
            scales.setdefault(name.partition("_")[0], []).append(discriminator.get_layer(name).output)
    if not scales:
        raise InputError("the network to judge by is no discriminator; give the discriminator.keras of a run")
    return keras.Model(discriminator.inputs, scales)


def plain_discriminator(network: keras.Model) -> keras.Model:
    """Return a copy of a discriminator in float32 and standard layers: what discriminator.keras holds."""

    def plain(layer: keras.Layer) -> keras.Layer:
        kind = keras.layers.Conv2D if isinstance(layer, SpectralConv2D) else type(layer)
        return kind.from_config(layer.get_config() | {"dtype": "float32"})

    copy = keras.models.clone_model(network, clone_function=plain)
    for layer, original in zip(copy.layers, network.layers, strict=True):
        if isinstance(original, SpectralConv2D):
            layer.set_weights([original.normalized(original.left)[0].numpy(), original.bias.numpy()])
        else:
            layer.set_weights(original.get_weights())
    return copy


@contextmanager
def precision_of(name: str) -> Iterator[None]:
    """Make layers in this block compute in float32 or, with float32 weights, in bfloat16."""
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if name == "bfloat16" else name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(former)


def _upsampled(x: Any, width: int, activation: str, folded: bool, name: str) -> Any:
    if folded:
        # the last layer's float32 keeps all 255 levels apart
        return FoldedUpConv2D(width, activation, name=name, dtype="float32" if activation == "tanh" else None)(x)
    x = keras.layers.UpSampling2D(2)(x)
    return keras.layers.Conv2D(width, 4, padding="same", activation=activation, name=name)(x)


class FoldedUpConv2D(keras.layers.Layer):
    """Nearest upsampling x2 and a 4x4 convolution in one step, exactly, with a quarter of the multiplications.

    Upsampling is zero-stuffing followed by a 2x2 box filter, and the box filter commutes with the convolution. So the
    kernel is applied to the zero-stuffed map, which a transposed convolution of stride 2 does at the price of the small
    map, and the box filter to its result (docs/decisions.md, "box").

    Its weights are those of the Conv2D it stands for: kernel [4, 4, in, out] and bias [out].
    """

    def __init__(self, width: int, activation: str, name: str, dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.width = width
        self.activation = keras.activations.get(activation)

    def build(self, shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight((4, 4, shape[-1], self.width), "glorot_uniform", name="kernel")
        self.bias = self.add_weight((self.width,), "zeros", name="bias")

    def call(self, x: Any) -> Any:
        kernel = tf.transpose(tf.reverse(tf.convert_to_tensor(self.kernel), [0, 1]), [0, 1, 3, 2])
        full = [tf.shape(x)[0], 2 * x.shape[1] + 2, 2 * x.shape[2] + 2, self.width]
        stuffed = tf.nn.conv2d_transpose(x, kernel, full, strides=2, padding="VALID")
        boxes = 4 * tf.nn.avg_pool2d(stuffed[:, 1:, 1:], ksize=2, strides=1, padding="VALID")
        return self.activation(boxes + self.bias)

    def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        return (shape[0], shape[1] * 2, shape[2] * 2, self.width)


class SpectralConv2D(keras.layers.Conv2D):
    """A convolution by its kernel divided by an estimate of the kernel's largest singular value.

    Each call in training improves the estimate by one step of the power method, as Miyato et al. do.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, autocast=False, **kwargs)  # the singular value is sought in float32

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        same = {"trainable": False, "aggregation": "only_first_replica"}  # every replica finds the same
        self.left = self.add_weight((self.filters,), "random_normal", name="left", **same)

    def normalized(self, left: Any) -> tuple[Any, Any]:
        """Return the kernel divided by its largest singular value, float32, and a better left singular vector."""
        kernel = tf.convert_to_tensor(self.kernel)
        flat = tf.stop_gradient(tf.reshape(kernel, (-1, self.filters)))
        right = tf.math.l2_normalize(tf.linalg.matvec(flat, tf.convert_to_tensor(left)))
        better = tf.math.l2_normalize(tf.linalg.matvec(flat, right, transpose_a=True))
        outer = tf.reshape(right[:, None] * better, kernel.shape)
        return kernel / tf.reduce_sum(kernel * outer), better

    def call(self, x: Any, training: bool | None = None) -> Any:
        kernel, better = self.normalized(self.left)
        if training:
            self.left.assign(better)
        kind = self.compute_dtype
        return tf.nn.conv2d(tf.cast(x, kind), tf.cast(kernel, kind), self.strides, "SAME") + tf.cast(self.bias, kind)
