"""The networks: their size, their shape, and the folded form that computes the same."""

from __future__ import annotations

import json
import zipfile
from typing import Any

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.networks import (
    FoldedUpConv2D,
    SpectralConv2D,
    discriminator,
    evened,
    feature_extractor,
    generator,
    plain_discriminator,
    widths,
)
from tests.conftest import REPOSITORY

PROTOTYPE = REPOSITORY.parent / "shared" / "models" / "prototype-32.keras"


def scatter(model: Any) -> None:
    """Give every weight a random value, batch norm's statistics too, so that equal outputs mean equal functions."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        positive = weight.path.endswith("moving_variance")
        low, high = (0.5, 2.0) if positive else (-0.1, 0.1)
        weight.assign(random.uniform(low, high, weight.shape))


def test_generator_has_the_article_s_weights() -> None:
    assert generator(64, 256).count_params() == 41_843_331
    assert generator(32, 256).count_params() == 10_468_675


def test_generator_is_the_prototype_s_network() -> None:
    if not PROTOTYPE.exists():
        pytest.skip("the prototype is not beside the checkout")
    written_by = json.loads(zipfile.ZipFile(PROTOTYPE).read("metadata.json"))["keras_version"]
    if [int(n) for n in keras.__version__.split(".")[:2]] < [int(n) for n in written_by.split(".")[:2]]:
        pytest.skip(f"Keras {keras.__version__} does not read what {written_by} wrote")
    prototype = keras.models.load_model(PROTOTYPE, compile=False)
    ours = generator(32, 256)
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in prototype.layers]
    ours.set_weights(prototype.get_weights())
    image = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
    np.testing.assert_array_equal(ours(image), prototype(image))


@pytest.mark.parametrize(
    ("size", "levels"),
    [(256, 7), (512, 7), (128, 6), (32, 4), ((512, 1024), 7), ((720, 1280), 4), ((64, 96), 5), ((288, 512), 5)],
)
def test_levels_are_as_many_as_both_sides_can_be_halved(size: int | tuple[int, int], levels: int) -> None:
    assert widths(3, size) == [3, 6, 12, 24, 24, 24, 24][:levels]


@pytest.mark.parametrize("size", [32, 64, 128])
def test_small_generator_keeps_size_and_range(size: int) -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    fake = generator(2, size)(image).numpy()
    assert fake.shape == image.shape
    assert np.abs(fake).max() <= 1


def test_evened_light_keeps_every_size_that_a_generator_takes() -> None:
    for sides in ((32, 32), (48, 112), (240, 320), (256, 256), (272, 2048)):
        image = keras.Input((*sides, 3))
        assert evened(image, sides).shape == (None, *sides, 3)


@pytest.mark.parametrize("size", [64, 256])
def test_light_and_tint_of_the_paper_do_not_reach_the_first_convolution(size: int) -> None:
    random = np.random.default_rng(0)
    paper = np.ones((size, size, 3), np.float32)
    for left, top, right, bottom in random.uniform(0, size, (20, 4)).astype(int):
        cv2.rectangle(paper, (left, top), (right, bottom), (0.1,) * 3, max(1, size // 128))
    across, down = np.meshgrid(*[np.linspace(0, 1, size, dtype=np.float32)] * 2)
    image = keras.Input((size, size, 3))
    even = keras.Model(image, evened(image, (size, size)))
    sheets = [paper * (0.3 + 0.3 * across)[..., None] * (1, 0.9, 0.7), paper * (0.9 - 0.4 * down * across)[..., None]]
    flat, *lit = (even(sheet[None].astype(np.float32) * 2 - 1).numpy() for sheet in (paper, *sheets))
    assert -0.9 < flat.min() < -0.7 and 0.9 < flat.max() <= 1
    for sheet, found in zip(sheets, lit, strict=True):
        before = np.abs(2 * (sheet - paper)).mean()
        assert np.abs(found - flat).mean() < before / 4
    assert np.isfinite(even(np.full((1, size, size, 3), -1, np.float32))).all()  # a black frame


def test_order_of_layers() -> None:
    kinds = [type(layer).__name__ for layer in generator(2, 256).layers]
    assert kinds[1:6] == ["Conv2D", "LeakyReLU", "Conv2D", "LeakyReLU", "BatchNormalization"]
    decoder = kinds[kinds.index("UpSampling2D") :]
    assert decoder[:5] == ["UpSampling2D", "Conv2D", "Dropout", "BatchNormalization", "Concatenate"]
    assert decoder[-2:] == ["UpSampling2D", "Conv2D"]
    assert kinds.count("Dropout") == 3
    assert kinds.count("BatchNormalization") == 12


@pytest.mark.parametrize("size", [32, 128])
def test_folded_form_is_the_same_function_with_the_same_weights(size: int) -> None:
    plain, folded = (generator(4, size, folded=form) for form in (False, True))
    scatter(plain)
    folded.set_weights(plain.get_weights())
    assert not any(isinstance(layer, keras.layers.UpSampling2D) for layer in folded.layers)
    assert [w.shape for w in plain.trainable_weights] == [w.shape for w in folded.trainable_weights]
    image = np.random.default_rng(1).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    np.testing.assert_allclose(plain(image), folded(image), atol=2e-5)


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 5),
    filters=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_folding_is_upsampling_and_convolution(
    batch: int, height: int, width: int, channels: int, filters: int, seed: int
) -> None:
    """In float64, at the borders too: the gradients with respect to map and kernel are the same as well."""
    random = np.random.default_rng(seed)
    image = tf.constant(random.normal(size=(batch, height, width, channels)))
    folded = FoldedUpConv2D(filters, "linear", name="folded")
    folded.build((batch, height, width, channels))
    folded.kernel = kernel = tf.constant(random.normal(size=(4, 4, channels, filters)))
    folded.bias = bias = tf.constant(random.normal(size=filters))
    sought = tf.constant(random.normal(size=(batch, 2 * height, 2 * width, filters)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([image, kernel])
        large = tf.repeat(tf.repeat(image, 2, axis=1), 2, axis=2)
        plain = tf.nn.conv2d(large, kernel, strides=1, padding="SAME") + bias
        fake = folded.call(image)
        losses = [tf.reduce_sum(sought * pictures) for pictures in (plain, fake)]
    np.testing.assert_allclose(fake, plain, atol=1e-12)
    for one, other in zip(*(tape.gradient(loss, [image, kernel]) for loss in losses), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)


def test_discriminator_judges_patches_of_both_images() -> None:
    network = discriminator(4, 256)
    assert network.output_shape == (None, 16, 16, 1)
    random = np.random.default_rng(0)
    first, second, third = random.uniform(-1, 1, (3, 1, 256, 256, 3)).astype(np.float32)
    logits = network([first, second]).numpy()
    assert not np.allclose(logits, network([third, second]))
    assert not np.allclose(logits, network([first, third]))


def test_discriminator_of_the_article() -> None:
    # conv 4x4: 6 -> 64 -> 128 -> 256 -> 512 -> 1, with biases; batch norm on three levels
    weights = 16 * (6 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 128 + 256 + 512 + 1 + 4 * (128 + 256 + 512)
    assert discriminator(64, 256).count_params() == weights


def test_every_scale_judges_at_half_the_size_of_the_one_before() -> None:
    network = discriminator(4, 64, scales=3, spectral=True)
    random = np.random.default_rng(0)
    source, target = random.uniform(-1, 1, (2, 1, 64, 64, 3)).astype(np.float32)
    assert [logits.shape for logits in network([source, target])] == [(1, 4, 4, 1), (1, 2, 2, 1), (1, 1, 1, 1)]
    grain = np.tile(np.array([[1, -1], [-1, 1]], np.float32), (32, 32))[..., None]  # only full size shows it
    differs = [
        not np.allclose(one, other, atol=1e-5)
        for one, other in zip(network([source, target]), network([source, target + 0.5 * grain]), strict=True)
    ]
    assert differs == [True, False, False]
    seen = feature_extractor(network)([source, target])
    assert [[x.shape[1] for x in scale] for scale in seen.values()] == [
        [32, 16, 8, 4, 4],
        [16, 8, 4, 2, 2],
        [8, 4, 2, 1, 1],
    ]
    for scale, logits in zip(seen.values(), network([source, target]), strict=True):
        np.testing.assert_array_equal(scale[-1], logits)


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    layer = SpectralConv2D(5, 4, strides=2, padding="same")
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    for _ in range(50):
        layer(x, training=True)
    kernel = np.array(layer.kernel)
    largest = np.linalg.svd(kernel.reshape(-1, 5), compute_uv=False)[0]
    plain = keras.layers.Conv2D(5, 4, strides=2, padding="same")
    plain.build(x.shape)
    plain.set_weights([kernel / largest, np.array(layer.bias)])
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-4)
    before = np.array(layer.left)
    layer(x)
    np.testing.assert_array_equal(layer.left, before)


def test_the_saved_discriminator_is_the_same_function_in_standard_layers() -> None:
    network = discriminator(2, 64, scales=2, spectral=True)
    pair = np.random.default_rng(0).uniform(-1, 1, (2, 1, 64, 64, 3)).astype(np.float32)
    network(list(pair), training=True)
    plain = plain_discriminator(network)
    assert {type(layer).__module__.partition(".")[0] for layer in plain.layers} == {"keras"}
    for one, other in zip(network(list(pair)), plain(list(pair)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("filters", "size"), [(0, 256), (-1, 256), (8, 0), (8, 16), (8, 40), (8, 4096)])
def test_impossible_networks_are_refused(filters: int, size: int) -> None:
    with pytest.raises(InputError, match=r"--filters|--image-size"):
        generator(filters, size)


def test_no_more_scales_than_the_images_can_be_halved() -> None:
    discriminator(1, (128, 64), scales=6)
    with pytest.raises(InputError, match=r"--scales 7 halves .* at most 6"):
        discriminator(1, (128, 64), scales=7)
