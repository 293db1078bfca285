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

from typing import Any

import keras
import tensorflow as tf

from runtime.errors import InputError

DEEPEST = 7
DROPOUT = 0.5
SLOPE = 0.2
# How much of the moving statistics each step keeps. Every exported picture is made with them. 0.99 averages over more
# images, but lags when the weights move fast: seen over 150 steps on facades, its error on held-out pairs swung from
# 0.37 to 0.42, that of 0.9 from 0.37 to 0.39 (mean absolute difference in [-1, 1]; batch statistics: 0.38).
MOMENTUM = 0.9
# When folding is faster than upsampling first, and when phase by phase (measured on a CPU, 64 and 16 filters).
FOLD_FROM_SIDE = 32
FOLD_FROM_SIDE_WITH_MANY_CHANNELS = 16
MANY_CHANNELS = 512


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


def generator(filters: int = 64, image_size: int = 256, *, folded: bool = False) -> keras.Model:
    """Return the U-Net: float32 [N, S, S, 3] in [-1, 1] -> the same; 41.8 M weights with 64 filters at 256.

    folded: write upsampling and convolution as one step where that is faster. The weights and the function are the
    same; only the plain form consists of standard layers, so that is the one to save.
    Below 256 there are fewer levels, and dropout only where the map has its full 8 x filters channels.
    Raises InputError as widths() does.
    """
    down = widths(filters, image_size)
    image = keras.Input((image_size, image_size, 3), name="image")
    x = image
    skips = []
    for level, width in enumerate(down):
        x = keras.layers.Conv2D(width, 4, strides=2, padding="same", name=f"down{level + 1}")(x)
        x = keras.layers.LeakyReLU(negative_slope=SLOPE)(x)
        if level > 0:
            x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"down{level + 1}_norm")(x)
        skips.append(x)
    for level, skip in enumerate(reversed(skips[:-1])):
        width = skip.shape[-1]
        x = _upsampled(x, width, "relu", folded, f"up{level + 1}")
        if level < 3 and width == 8 * filters:
            x = keras.layers.Dropout(DROPOUT)(x)
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"up{level + 1}_norm")(x)
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
            x = keras.layers.BatchNormalization(momentum=MOMENTUM)(x)
    logits = keras.layers.Conv2D(1, 4, padding="same")(x)
    return keras.Model([source, target], logits, name="discriminator")


def _upsampled(x: Any, width: int, activation: str, folded: bool, name: str) -> Any:
    side, channels = x.shape[1], x.shape[3]
    if folded and side >= (FOLD_FROM_SIDE_WITH_MANY_CHANNELS if channels >= MANY_CHANNELS else FOLD_FROM_SIDE):
        return FoldedUpConv2D(width, activation, name=name)(x)
    x = keras.layers.UpSampling2D(2)(x)
    return keras.layers.Conv2D(width, 4, padding="same", activation=activation, name=name)(x)


class FoldedUpConv2D(keras.layers.Layer):
    """Nearest upsampling x2 and a 4x4 convolution in one step on the small map, exactly.

    Each output pixel sees only two or three source pixels per axis, so its phase (even or odd row, even or odd column)
    is a convolution of 3x3, 3x2, 2x3 or 2x2 summed taps. With many channels these four are computed one by one: 25 taps
    where upsampling first spends 64. With few, one 3x3 convolution to all four phases is faster: 36 taps.

    Its weights are those of the Conv2D it stands for: kernel [4, 4, in, out] and bias [out].
    """

    def __init__(self, width: int, activation: str, name: str) -> None:
        super().__init__(name=name)
        self.width = width
        self.activation = keras.activations.get(activation)

    def build(self, shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight((4, 4, shape[-1], self.width), "glorot_uniform", name="kernel")
        self.bias = self.add_weight((self.width,), "zeros", name="bias")
        self.one_by_one = shape[-1] >= MANY_CHANNELS

    def call(self, x: Any) -> Any:
        kernels = [
            _summed_taps(rows, axis=1, odd=odd_column, pad=not self.one_by_one)
            for odd_row in (False, True)
            for rows in [_summed_taps(tf.convert_to_tensor(self.kernel), 0, odd_row, pad=not self.one_by_one)]
            for odd_column in (False, True)
        ]
        if self.one_by_one:
            x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
            starts = ((0, 0), (0, 1), (1, 0), (1, 1))
            phases = [
                tf.nn.conv2d(x[:, top:, left:], kernel, strides=1, padding="VALID")
                for kernel, (top, left) in zip(kernels, starts, strict=True)
            ]
            x = tf.concat(phases, axis=3)
        else:
            x = tf.nn.conv2d(x, tf.concat(kernels, axis=3), strides=1, padding="SAME")
        return self.activation(tf.nn.depth_to_space(x, 2) + self.bias)

    def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        return (shape[0], shape[1] * 2, shape[2] * 2, self.width)


def _summed_taps(kernel: Any, axis: int, odd: bool, pad: bool) -> Any:
    """Sum four taps over an upsampled axis to those over the source, for its even or its odd positions.

    Even positions see source pixels -1, 0, 1; odd ones 0 and 1, to which `pad` adds a zero at -1.
    """
    first, second, third, fourth = tf.split(kernel, 4, axis=axis)
    if not odd:
        return tf.concat([first, second + third, fourth], axis=axis)
    taps = [first + second, third + fourth]
    return tf.concat([tf.zeros_like(first), *taps] if pad else taps, axis=axis)
