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

from functools import partial
from typing import Any

import keras
import tensorflow as tf

from pix2pix_edge.runtime.errors import InputError

DEEPEST = 7
DROPOUT = 0.5
SLOPE = 0.2
MOMENTUM = 0.9  # how much of the moving statistics each step keeps; every exported picture is made with them


def widths(filters: int, image_size: int) -> list[int]:
    """Return the channels of each encoder level: f, 2f, 4f, 8f, 8f, … down to a map of 2x2, at most 7 levels.

    Raises InputError unless filters is at least 1 and image_size a power of two from 32 to 1024.
    """
    if filters < 1:
        raise InputError(f"--filters must be at least 1, not {filters}")
    if not 32 <= image_size <= 1024 or image_size & (image_size - 1):
        raise InputError(f"--image-size must be 32, 64, 128, 256, 512 or 1024, not {image_size}")
    levels = min(DEEPEST, image_size.bit_length() - 2)
    return [filters * min(2**level, 8) for level in range(levels)]


def generator(
    filters: int = 64,
    image_size: int = 256,
    *,
    folded: bool = False,
    momentum: float = MOMENTUM,
    norm_first: bool = False,
) -> keras.Model:
    """Return the U-Net: float32 [N, S, S, 3] in [-1, 1] -> the same; 41.8 M weights with 64 filters at 256.

    folded: for training: upsampling and convolution are one step, and batch norm can be frozen (BatchNorm) and sees the
    batch of all replicas. The weights and the function are the same; only the plain form consists of standard layers,
    so that is the one to save.
    norm_first: batch norm before the activation, not after it as in the article.
    Below 256 there are fewer levels, and dropout only where the map has its full 8 x filters channels.
    Raises InputError as widths() does.
    """
    norm = partial(BatchNorm, synchronized=tf.distribute.has_strategy()) if folded else keras.layers.BatchNormalization

    def activated(x: Any, activation: Any, name: str, dropout: bool = False) -> Any:
        steps = [activation, norm(momentum=momentum, name=f"{name}_norm")]
        if dropout:
            steps.insert(1, keras.layers.Dropout(DROPOUT))
        if norm_first:
            steps.insert(0, steps.pop())
        for step in steps:
            x = step(x)
        return x

    down = widths(filters, image_size)
    image = keras.Input((image_size, image_size, 3), name="image")
    x = image
    skips = []
    for level, width in enumerate(down):
        name = f"down{level + 1}"
        x = keras.layers.Conv2D(width, 4, strides=2, padding="same", name=name)(x)
        leaky = keras.layers.LeakyReLU(negative_slope=SLOPE)
        x = activated(x, leaky, name) if level > 0 else leaky(x)
        skips.append(x)
    for level, skip in enumerate(reversed(skips[:-1])):
        width, name = skip.shape[-1], f"up{level + 1}"
        dropout = level < 3 and width == 8 * filters
        if norm_first:
            x = activated(_upsampled(x, width, "linear", folded, name), keras.layers.ReLU(), name, dropout)
        else:
            x = activated(_upsampled(x, width, "relu", folded, name), lambda x: x, name, dropout)
        x = keras.layers.Concatenate()([x, skip])
    return keras.Model(image, _upsampled(x, 3, "tanh", folded, f"up{len(down)}"), name="generator")


def discriminator(filters: int = 64, image_size: int = 256) -> keras.Model:
    """Return the PatchGAN: two images [N, S, S, 3] -> logits [N, S/16, S/16, 1], above 0 where a patch looks real.

    The article ends in a sigmoid; here it is part of the loss, where it cannot overflow.
    """
    source = keras.Input((image_size, image_size, 3), name="source")
    target = keras.Input((image_size, image_size, 3), name="target")
    x = keras.layers.Concatenate()([source, target])
    for level in range(4):
        x = keras.layers.Conv2D(filters * 2**level, 4, strides=2, padding="same")(x)
        x = keras.layers.LeakyReLU(negative_slope=SLOPE)(x)
        if level > 0:
            x = keras.layers.BatchNormalization(momentum=MOMENTUM, synchronized=tf.distribute.has_strategy())(x)
    logits = keras.layers.Conv2D(1, 4, padding="same")(x)
    return keras.Model([source, target], logits, name="discriminator")


def _upsampled(x: Any, width: int, activation: str, folded: bool, name: str) -> Any:
    if folded:
        return FoldedUpConv2D(width, activation, name=name)(x)
    x = keras.layers.UpSampling2D(2)(x)
    return keras.layers.Conv2D(width, 4, padding="same", activation=activation, name=name)(x)


class BatchNorm(keras.layers.BatchNormalization):
    """Batch norm that, once frozen, trains with the moving statistics that exported pictures are made with."""

    frozen = False

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=training and not self.frozen, mask=mask)


class FoldedUpConv2D(keras.layers.Layer):
    """Nearest upsampling x2 and a 4x4 convolution in one step, exactly, with a quarter of the multiplications.

    Upsampling is zero-stuffing followed by a 2x2 box filter, and the box filter commutes with the convolution. So the
    kernel is applied to the zero-stuffed map, which a transposed convolution of stride 2 does at the price of the small
    map, and the box filter to its result (docs/decisions.md, 10).

    Its weights are those of the Conv2D it stands for: kernel [4, 4, in, out] and bias [out].
    """

    def __init__(self, width: int, activation: str, name: str) -> None:
        super().__init__(name=name)
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
