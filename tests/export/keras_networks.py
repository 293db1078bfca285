"""Small Keras image-to-image networks of several public shapes, with weights that give lively pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def unet(size: int = 32, filters: int = 4) -> Any:
    """Our own generator's shape: strided 4x4 convolutions down, upsampling and 4x4 convolutions up, skips."""
    import keras
    from keras import layers

    image = keras.Input((size, size, 3))
    x, skips = image, []
    for level in range(3):
        x = layers.Conv2D(filters * 2**level, 4, strides=2, padding="same", name=f"down{level + 1}")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
        if level > 0:
            x = layers.BatchNormalization()(x)
        skips.append(x)
    for level in (1, 0):
        x = layers.UpSampling2D()(x)
        x = layers.Conv2D(filters * 2**level, 4, padding="same", activation="relu", name=f"up{2 - level}")(x)
        x = layers.Dropout(0.5)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Concatenate()([x, skips[level]])
    x = layers.UpSampling2D()(x)
    return keras.Model(image, layers.Conv2D(3, 4, padding="same", activation="tanh", name="up3")(x), name="unet")


def resnet(size: int = 32) -> Any:
    """A residual generator: 7x7 convolutions at the ends, group norm, residual blocks, upsampling before 3x3."""
    import keras
    from keras import layers

    image = keras.Input((size, size, 3))
    x = layers.Conv2D(6, 7, padding="same")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.ReLU()(layers.GroupNormalization(groups=2)(x))
    inner = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same")(inner)])
    x = layers.UpSampling2D()(x)
    x = layers.Conv2D(6, 3, padding="same", activation="silu")(x)
    return keras.Model(image, layers.Conv2D(3, 7, padding="same", activation="tanh")(x))


def classic_unet(size: int = 32) -> Any:
    """Max pooling down; up: upsampling, batch norm and activation while still NHWC, concatenation, convolution."""
    import keras
    from keras import layers

    image = keras.Input((size, size, 3))
    skip = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = layers.Conv2D(6, 3, padding="same")(layers.MaxPooling2D()(skip))
    x = layers.UpSampling2D()(x)
    x = layers.LeakyReLU()(layers.BatchNormalization()(x))
    x = layers.ZeroPadding2D(1)(layers.Concatenate()([x, skip]))
    return keras.Model(image, layers.Conv2D(3, 3, activation="tanh")(x))


def transposed(size: int = 32) -> Any:
    """Transposed convolutions up, depthwise and separable ones in between."""
    import keras
    from keras import layers

    image = keras.Input((size, size, 3))
    x = layers.Conv2D(4, 4, strides=2, padding="same")(image)
    x = layers.SeparableConv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2DTranspose(4, 4, strides=2, padding="same")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="tanh")(x))


def nested(size: int = 32) -> Any:
    """Two Sequential models inside one; bilinear upsampling, which is to be left alone, and ×3, and 1×4."""
    import keras
    from keras import layers

    encoder = keras.Sequential(
        [layers.Conv2D(4, 3, padding="same"), layers.AveragePooling2D(4), layers.PReLU(shared_axes=[1, 2])],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            layers.UpSampling2D((4, 1)),
            layers.UpSampling2D((1, 4)),
            layers.Conv2D(4, 3, padding="same", name="inner"),
            layers.AveragePooling2D(2),
            layers.UpSampling2D(interpolation="bilinear"),
        ],
        name="decoder",
    )
    image = keras.Input((size, size, 3))
    return keras.Model(image, layers.Conv2D(3, 1, activation="tanh", name="head")(decoder(encoder(image))))


def transposed_kinds(size: int = 32) -> Any:
    """Transposed convolutions as Keras pads them: kernels of 2 to 5, padding, output padding."""
    import keras
    from keras import layers

    image = keras.Input((size, size, 3))
    x, kernels = image, range(2, 6)
    kinds = [(k, "same", None) for k in kernels] + [(k, "valid", tail) for k in kernels for tail in (0, 1)]
    for kernel, padding, tail in kinds:
        x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
        x = layers.Conv2DTranspose(4, kernel, strides=2, padding=padding, output_padding=tail, activation="elu")(x)
        x = layers.CenterCrop(size, size)(x)
    return keras.Model(image, layers.Conv2D(3, 1, activation="tanh")(layers.Concatenate()([x, image])))


def autoencoder(size: int = 36) -> Any:
    """The shape of many public autoencoders and DCGANs: valid and odd kernels, ELU, no skips, batch norm before."""
    import keras
    from keras import layers

    image = keras.Input((size, size, 3))
    x = image
    for filters in (6, 8):
        x = layers.Conv2D(filters, 5, strides=2, padding="same", use_bias=False)(x)
        x = layers.LeakyReLU()(layers.BatchNormalization()(x))
    x = layers.UpSampling2D()(layers.ZeroPadding2D(2)(x))  # 26
    x = layers.BatchNormalization()(layers.Conv2D(8, 5, activation="elu")(x))  # 22
    x = layers.UpSampling2D()(x)  # 44
    x = layers.BatchNormalization()(layers.Conv2D(6, 6, activation="relu")(x))  # 39
    x = layers.Conv2D(6, 4, activation="relu")(x)  # 36
    return keras.Model(image, layers.Conv2D(3, 3, padding="same", activation="tanh")(x))


def cyclegan(size: int = 32) -> Any:
    """A residual generator as in public CycleGAN code, with resize convolutions and instance norm."""
    import keras
    from keras import layers

    def normalized(x: Any) -> Any:
        return layers.ReLU()(layers.GroupNormalization(groups=-1)(x))

    image = keras.Input((size, size, 3))
    x = normalized(layers.Conv2D(4, 7, padding="same", use_bias=False)(image))
    for filters in (8, 16):
        x = normalized(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x))
    for _ in range(2):
        inner = normalized(layers.Conv2D(16, 3, padding="same", use_bias=False)(x))
        x = layers.Add()([x, layers.Conv2D(16, 3, padding="same", use_bias=False)(inner)])
    for filters in (8, 4):
        x = normalized(layers.Conv2D(filters, 3, padding="same", use_bias=False)(layers.UpSampling2D()(x)))
    return keras.Model(image, layers.Conv2D(3, 7, padding="same", activation="tanh")(x))


NETWORKS = {
    build.__name__: build
    for build in (unet, resnet, classic_unet, transposed, transposed_kinds, nested, autoencoder, cyclegan)
}


def save(model: Any, path: Path) -> Path:
    """Give the model seeded weights that keep the signal's size from layer to layer, and save it."""
    random = np.random.default_rng(0)
    model.set_weights(
        [
            random.uniform(0.5, 1.5, w.shape)
            if w.ndim == 1
            else random.normal(0, np.prod(w.shape[:-1]) ** -0.5, w.shape)
            for w in model.get_weights()
        ]
    )
    model.save(path)
    return path
