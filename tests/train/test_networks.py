"""The networks: their size, their shape, and the folded form that computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.errors import InputError
from tests.conftest import REPOSITORY
from train.networks import FoldedUpConv2D, discriminator, generator, widths

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
    import keras

    prototype = keras.models.load_model(PROTOTYPE, compile=False)
    ours = generator(32, 256)
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in prototype.layers]
    ours.set_weights(prototype.get_weights())
    image = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
    np.testing.assert_array_equal(ours(image), prototype(image))


@pytest.mark.parametrize(
    ("size", "expected"),
    [(256, [1, 2, 4, 8, 8, 8, 8]), (512, [1, 2, 4, 8, 8, 8, 8]), (128, [1, 2, 4, 8, 8, 8]), (32, [1, 2, 4, 8])],
)
def test_levels_follow_from_the_image_size(size: int, expected: list[int]) -> None:
    assert widths(3, size) == [3 * width for width in expected]


@pytest.mark.parametrize("size", [32, 64, 128])
def test_small_generator_keeps_size_and_range(size: int) -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    made = generator(2, size)(image).numpy()
    assert made.shape == image.shape
    assert np.abs(made).max() <= 1


def test_order_of_layers() -> None:
    kinds = [type(layer).__name__ for layer in generator(2, 256).layers]
    assert kinds[1:6] == ["Conv2D", "LeakyReLU", "Conv2D", "LeakyReLU", "BatchNormalization"]
    decoder = kinds[kinds.index("UpSampling2D") :]
    assert decoder[:5] == ["UpSampling2D", "Conv2D", "Dropout", "BatchNormalization", "Concatenate"]
    assert decoder[-2:] == ["UpSampling2D", "Conv2D"]
    assert kinds.count("Dropout") == 3
    assert kinds.count("BatchNormalization") == 12


@pytest.mark.parametrize(("size", "many"), [(64, 512), (128, 512), (64, 1)])
def test_folded_form_is_the_same_function_with_the_same_weights(
    size: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.networks.MANY_CHANNELS", many)
    plain, folded = generator(4, size), generator(4, size, folded=True)
    scatter(plain)
    folded.set_weights(plain.get_weights())
    found = [layer.one_by_one for layer in folded.layers if isinstance(layer, FoldedUpConv2D)]
    assert found
    assert set(found) == {many == 1}
    assert [w.shape for w in plain.trainable_weights] == [w.shape for w in folded.trainable_weights]
    image = np.random.default_rng(1).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    np.testing.assert_allclose(plain(image), folded(image), atol=2e-5)


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


@pytest.mark.parametrize(("filters", "size"), [(0, 256), (-1, 256), (8, 0), (8, 16), (8, 96), (8, 2048)])
def test_impossible_networks_are_refused(filters: int, size: int) -> None:
    with pytest.raises(InputError, match=r"--filters|--image-size"):
        generator(filters, size)
