"""The trainer: one step moves both networks, each by its own loss alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from train.trainer import LOSSES, FusedAdam, Trainer, cross_entropy

SIZE = 32


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(2, SIZE, 100.0)


@pytest.fixture(scope="module")
def batch() -> tuple[Any, Any]:
    import tensorflow as tf

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
    trainer.forget_means()
    single = []
    for _ in range(2):
        total = {name: 0.0 for name in LOSSES} if not single else {n: sum(s[n] for s in single) for n in LOSSES}
        means = {name: float(value) for name, value in trainer.step(batch).items()}
        single.append({name: means[name] * (len(single) + 1) - total[name] for name in LOSSES})
    for step in single:
        assert step["generator_loss"] == pytest.approx(step["adversarial"] + 100 * step["l1"], rel=1e-4)
    means = trainer.means()
    assert means["l1"] == pytest.approx((single[0]["l1"] + single[1]["l1"]) / 2, rel=1e-4)
    trainer.forget_means()
    assert set(trainer.means().values()) == {0.0}


def test_without_l1_the_adversarial_loss_is_left(batch: Any) -> None:
    trainer = Trainer(1, SIZE, 0.0)
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
    import keras
    import tensorflow as tf

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
    made = trainer.translate(images)
    assert made.dtype == np.uint8
    assert np.abs(made - (expected + 1) * 127.5).max() <= 0.51
    np.testing.assert_array_equal(made, trainer.translate(images))
