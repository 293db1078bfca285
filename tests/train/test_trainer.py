"""The trainer: one step moves both networks, each by its own loss alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.networks import generator
from pix2pix_edge.train.saved import initialise, teacher_of
from pix2pix_edge.train.settings import ADVERSARIAL, RECIPES, Settings
from pix2pix_edge.train.trainer import (
    ADVERSARIAL_LOSSES,
    FusedAdam,
    Trainer,
    cross_entropy,
    feature_distance,
    fine_colours,
    mean_over_scales,
)

SIZE = 64
SMALL = Settings(filters=2, image_size=SIZE, epochs=4)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    # At first the hinge's gradients of real and of fake cancel out in the last bias.
    return Trainer(dataclasses.replace(SMALL, adversarial="cross-entropy"))


@pytest.fixture(scope="module")
def batch() -> tuple[Any, Any]:
    source, target = np.random.default_rng(0).uniform(-1, 1, (2, 1, SIZE, SIZE, 3)).astype(np.float32)
    return tf.constant(source), tf.constant(target)


def test_a_step_moves_every_weight_of_both_networks(trainer: Trainer, batch: Any) -> None:
    # The article compiles the discriminator, then freezes it; on Keras 3 it then never learns.
    for network in (trainer.generator, trainer.discriminator):
        before = [np.array(variable) for variable in network.trainable_variables]
        assert before
        trainer.step(batch)
        for variable, then in zip(network.trainable_variables, before, strict=True):
            assert not np.array_equal(variable, then), f"{variable.path} did not move"
    assert trainer.discriminator.trainable


@pytest.mark.parametrize("still", ["generator", "discriminator"])
def test_each_loss_moves_only_its_own_network(trainer: Trainer, batch: Any, still: str) -> None:
    optimizer = getattr(trainer, f"{still}_optimizer")
    rate = float(optimizer.learning_rate)
    optimizer.learning_rate = 0.0
    networks = {"generator": trainer.generator, "discriminator": trainer.discriminator}
    before = {name: [np.array(v) for v in network.trainable_variables] for name, network in networks.items()}
    trainer.step(batch)
    optimizer.learning_rate = rate
    for name, network in networks.items():
        same = [np.array_equal(v, then) for v, then in zip(network.trainable_variables, before[name], strict=True)]
        assert all(same) if name == still else not any(same)


def test_one_trace_serves_every_step(trainer: Trainer, batch: Any) -> None:
    for _ in range(3):
        trainer.step(batch)
    assert trainer.step.experimental_get_tracing_count() == 1


def test_losses_are_means_over_the_epoch(trainer: Trainer, batch: Any) -> None:
    before = [variable.numpy() for variable in trainer.state()]
    trainer.reset_metrics()
    single = []
    for _ in range(2):
        trainer.step(batch)
        single.append(trainer.means())
        trainer.reset_metrics()
    assert set(trainer.means().values()) == {0.0}
    for variable, value in zip(trainer.state(), before, strict=True):
        variable.assign(value)
    trainer.reset_metrics()
    for _ in range(2):
        trainer.step(batch)
    for name, mean in trainer.means().items():
        assert mean == pytest.approx((single[0][name] + single[1][name]) / 2, rel=1e-5), name
    for step in single:
        assert step["l1"] != single[0]["l1"] or step is single[0]
        expected = step["adversarial"] + 10 * step["features"] + 10 * step["l1"] + 50 * step["fringes"]
        assert step["generator_loss"] == pytest.approx(expected, rel=1e-4)


def test_without_weights_the_adversarial_loss_is_left(batch: Any) -> None:
    trainer = Trainer(dataclasses.replace(SMALL, l1_weight=0.0, feature_weight=0.0, fringe_weight=0.0))
    trainer.step(batch)
    means = trainer.means()
    assert means["generator_loss"] == means["adversarial"]
    assert means["l1"] > 0


def test_cross_entropy_is_that_of_the_sigmoid() -> None:
    logits = np.array([[-3.0, 0.0], [0.5, 4.0]], np.float32)
    judged = 1 / (1 + np.exp(-logits))
    assert float(cross_entropy(logits, 1.0)) == pytest.approx(float(-np.log(judged).mean()), rel=1e-5)
    assert float(cross_entropy(logits, 0.0)) == pytest.approx(float(-np.log(1 - judged).mean()), rel=1e-5)
    assert np.isfinite(float(cross_entropy(np.array([-1e4], np.float32), 1.0)))


def test_fused_adam_is_adam() -> None:
    random = np.random.default_rng(0)
    start, *gradients = random.normal(0, 1, (4, 5, 6)).astype(np.float32)
    ends = []
    for kind in (FusedAdam, keras.optimizers.Adam):
        variable = keras.Variable(start)
        optimizer = kind(0.01, beta_1=0.5)
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [variable])
        ends.append(np.array(variable))
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
    assert np.abs(ends[0] - start).min() > 1e-4


def test_translate_is_the_plain_generator_in_inference_mode(trainer: Trainer) -> None:
    images = np.random.default_rng(3).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    expected = trainer.plain_generator()(images.astype(np.float32) / 127.5 - 1, training=False).numpy()
    fake = trainer.translate(images)
    assert fake.dtype == np.uint8
    assert np.abs(fake - (expected + 1) * 127.5).max() <= 0.51
    np.testing.assert_array_equal(fake, trainer.translate(images))


def test_every_adversarial_loss_trains_and_has_its_own_optimum(batch: Any) -> None:
    assert set(ADVERSARIAL_LOSSES) == set(ADVERSARIAL)

    def at(loss: Any, score: float) -> float:
        return float(loss(tf.fill((1, 2, 2, 1), np.float32(score))))

    hinge, entropy = (ADVERSARIAL_LOSSES[name] for name in ("hinge", "cross-entropy"))
    assert at(hinge.real, 1.0) == at(hinge.real, 3.0) == 0 == at(hinge.fake, -1.0) == at(hinge.fake, -3.0)
    assert at(hinge.real, 0.0) == at(hinge.fake, 0.0) == 1
    assert at(hinge.generator, 5.0) == -5  # the generator's has no end
    for loss, away in ((entropy.real, 1), (entropy.fake, -1), (entropy.generator, 1)):
        assert 0 < at(loss, 9 * away) < at(loss, 5 * away) < at(loss, -away)
    for recipe in RECIPES.values():
        trainer = Trainer(dataclasses.replace(recipe, filters=2, image_size=SIZE))
        trainer.step(batch)
        assert all(np.isfinite(list(trainer.means().values())))


def test_discriminators_may_be_wider_than_the_generator() -> None:
    same, wider = (Trainer(dataclasses.replace(SMALL, discriminator_filters=filters)) for filters in (None, 5))
    assert same.generator.count_params() == wider.generator.count_params()
    for trainer, filters in ((same, SMALL.filters), (wider, 5)):
        assert trainer.discriminator.get_layer("scale1_down1").filters == filters


def test_feature_distance_sums_maps_and_averages_scales() -> None:
    maps = [[tf.fill((1, 2, 2, 3), value)] * 2 + [tf.fill((1, 2, 2, 1), value)] for value in (1.0, 4.0)]
    fake, real = ({"scale1": scale, "scale2": scale} for scale in maps)
    assert float(feature_distance(fake, real)) == 6.0  # two maps that differ by 3, on either scale; logits do not count


def test_fine_colours_are_those_of_a_fringe_not_of_detail_or_of_a_wall() -> None:
    grain = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 1)).astype(np.float32)
    walls = np.ones((1, 32, 32, 3), np.float32)
    walls[:, :, 16:] = (0.8, -0.3, 0.1)
    grey, fringe = (np.abs(fine_colours(tf.constant(grain * colour))).mean() for colour in ((1, 1, 1), (1, 1, 0.5)))
    assert grey < 1e-6 and fringe > 0.1
    found = np.abs(fine_colours(tf.constant(walls)))
    assert found[:, :, 4:12].max() < 1e-6 < found[:, :, 15].max()


def test_bfloat16_steps_keep_float32_weights_and_a_float32_picture(batch: Any) -> None:
    trainer = Trainer(dataclasses.replace(SMALL, precision="bfloat16"))
    means = {name: float(value) for name, value in trainer.step(batch).items()}
    assert all(np.isfinite(list(means.values())))
    assert {variable.dtype for variable in trainer.generator.trainable_variables} == {"float32"}
    assert trainer.generator.get_layer("up1").compute_dtype == "bfloat16"
    assert trainer.generator(batch[0], training=False).dtype == tf.float32
    assert keras.config.dtype_policy().name == "float32"
    exact = Trainer(SMALL)
    exact.generator.set_weights(trainer.generator.get_weights())
    pictures = [each.generator(batch[0], training=False) for each in (trainer, exact)]
    np.testing.assert_allclose(*pictures, atol=0.05)


def test_a_teacher_pulls_the_student_and_does_not_learn(batch: Any) -> None:
    keras.utils.set_random_seed(0)
    teacher = generator(3, SIZE, folded=True)
    before = [np.array(weight) for weight in teacher.weights]
    pull = dataclasses.replace(SMALL, l1_weight=1000.0, feature_weight=0.0, learning_rate=1e-3, average=0.0)
    trainer = Trainer(pull, teacher)
    distances = []
    for _ in range(60):
        trainer.reset_metrics()
        trainer.step(batch)
        distances.append(trainer.means()["l1"])
    assert distances[-1] < 0.6 * distances[0], distances
    for weight, then in zip(teacher.weights, before, strict=True):
        np.testing.assert_array_equal(weight, then)


def test_with_a_teacher_its_picture_is_the_likeness_and_the_target_what_is_real(batch: Any) -> None:
    source, target = batch
    teacher = generator(3, SIZE, folded=True)
    trainer = Trainer(SMALL, teacher)
    seen, looked_at = trainer.seen, []

    def look(images: list[Any], training: bool) -> Any:
        looked_at.append((images[1], seen(images, training=training)))
        return looked_at[-1][1]

    trainer.seen = look
    trainer.train_step(batch)
    (fake, fake_maps), (real, real_maps), (taught, taught_maps) = looked_at
    np.testing.assert_array_equal(real, target)
    np.testing.assert_allclose(taught, teacher(source), atol=1e-6)
    found = trainer.means()
    assert found["l1"] == pytest.approx(float(tf.reduce_mean(tf.abs(taught - fake))))
    assert found["features"] == pytest.approx(float(feature_distance(fake_maps, taught_maps)))
    hinge = ADVERSARIAL_LOSSES["hinge"]
    judged = mean_over_scales(hinge.fake, fake_maps) + mean_over_scales(hinge.real, real_maps)
    assert found["discriminator_loss"] == pytest.approx(float(judged) / 2)


def test_the_average_follows_the_weights_and_is_what_translates(batch: Any) -> None:
    trainer = Trainer(dataclasses.replace(SMALL, average=0.999))
    mean = [np.array(w) for w in trainer.averaged.weights]
    for step in range(3):
        trainer.step(batch)
        decay = min(0.999, (2 + step) / (11 + step))
        now = [np.array(w) for w in trainer.generator.weights]
        mean = [decay * m + (1 - decay) * w for m, w in zip(mean, now, strict=True)]
    for weight, expected in zip(trainer.averaged.weights, mean, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6, err_msg=weight.path)
    assert any(not np.allclose(m, w) for m, w in zip(mean, now, strict=True))
    for plain, averaged in zip(trainer.plain_generator().get_weights(), trainer.averaged.get_weights(), strict=True):
        np.testing.assert_array_equal(plain, averaged)


def test_in_inference_mode_only_what_learns_moves(batch: Any) -> None:
    trainer = Trainer(dataclasses.replace(SMALL, average=0.9))
    trainer.step(batch)  # a step in training mode moves statistics and dropout's state
    trainer.reset_metrics()
    network = trainer.generator
    picture = np.asarray(network(batch[0], training=False))
    weights, rest = ([np.array(v) for v in vs] for vs in (network.trainable_variables, network.non_trainable_variables))
    means = trainer.step(batch, training=False)
    assert float(means["l1"]) == pytest.approx(float(np.abs(picture - batch[1]).mean()), rel=1e-5)
    for variable, then in zip(network.non_trainable_variables, rest, strict=True):
        np.testing.assert_array_equal(variable, then, err_msg=variable.path)
    assert not any(np.array_equal(v, then) for v, then in zip(network.trainable_variables, weights, strict=True))


def test_epochs_rule_the_learning_rates(batch: Any) -> None:
    trainer = Trainer(dataclasses.replace(SMALL, schedule="linear"))
    rates = []
    for epoch in range(5):
        trainer.begin_epoch(epoch)
        rates.append(float(trainer.generator_optimizer.learning_rate) / 2e-4)
    assert rates == pytest.approx([1.0, 1.0, 0.8, 0.4, 0.1])  # the last one finishes the run
    assert float(trainer.discriminator_optimizer.learning_rate) == pytest.approx(rates[-1] * 4e-4)


def test_a_saved_teacher_is_the_same_function_folded(tmp_path: Path) -> None:
    saved = generator(3, SIZE)
    saved.save(tmp_path / "generator.keras")
    teacher = teacher_of(dataclasses.replace(SMALL, teacher=str(tmp_path / "generator.keras")))
    assert teacher is not None and not teacher.trainable_weights
    image = np.random.default_rng(0).uniform(-1, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(teacher(image), saved(image), atol=2e-5)


def test_any_translator_of_the_same_size_may_teach_by_its_function(tmp_path: Path) -> None:
    """One of blocks, and one with our weights' shapes but other activations, which weights alone would not tell."""
    image = keras.Input((SIZE, SIZE, 3))
    block = keras.Sequential([keras.layers.Conv2D(4, 3, padding="same"), keras.layers.LeakyReLU()])
    blocks = keras.Model(image, keras.layers.Conv2D(3, 1, activation="tanh")(block(image)))
    other = keras.models.clone_model(generator(3, SIZE))
    for layer in other.layers:
        if isinstance(layer, keras.layers.LeakyReLU):
            layer.negative_slope = 0.9
    noise = np.random.default_rng(0).uniform(-1, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    for name, network in (("blocks", blocks), ("other", other)):
        path = tmp_path / f"{name}.keras"
        network.save(path)
        teacher = teacher_of(dataclasses.replace(SMALL, teacher=str(path)))
        assert teacher is not None and not teacher.trainable_weights
        np.testing.assert_allclose(teacher(noise), keras.models.load_model(path)(noise), atol=1e-5)


def test_first_weights_are_those_of_init(tmp_path: Path) -> None:
    given = generator(2, SIZE)
    given.save(tmp_path / "generator.keras")
    settings = dataclasses.replace(SMALL, init=str(tmp_path / "generator.keras"))
    trainer = Trainer(settings)
    initialise(settings, trainer.generator, trainer.averaged)
    for network in (trainer.generator, trainer.averaged):
        for one, other in zip(network.get_weights(), given.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    wrong = dataclasses.replace(settings, filters=3)
    with pytest.raises(InputError, match="is no generator of 3 filters for images of 64x64"):
        initialise(wrong, generator(3, SIZE))


@pytest.mark.parametrize(("last", "says"), [("sigmoid", r"0\.\d+ to 0\.\d+"), ("levels", r"to \d{2,}\.")])
def test_a_teacher_of_other_values_is_refused_by_what_it_gives(tmp_path: Path, last: str, says: str) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = keras.layers.Conv2D(3, 3, padding="same", activation="sigmoid")(x)
    keras.Model(image, keras.layers.Rescaling(255.0)(x) if last == "levels" else x).save(tmp_path / "t.keras")
    with pytest.raises(InputError, match=rf"t\.keras gives .*{says}.* our pictures are in \[-1, 1\]"):
        teacher_of(dataclasses.replace(SMALL, teacher=str(tmp_path / "t.keras")))
