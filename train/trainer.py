"""The trainer: both networks, both optimisers, and the one step that moves them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runtime.frame import Image
from train.networks import discriminator, generator

LEARNING_RATE = 2e-4
BETA_1 = 0.5
LOSSES = ("generator_loss", "discriminator_loss", "adversarial", "l1")


class Trainer(keras.Model):
    """A generator and a discriminator that learn together from (source, target) batches in [-1, 1].

    generator_loss = adversarial + l1_weight x l1, where adversarial is the cross-entropy of the discriminator taking
    predictions for real, and l1 the mean absolute difference to the target. discriminator_loss is the mean of its
    cross-entropies on real and on predicted pairs. (Isola et al. 2017; l1_weight 0 leaves the adversarial loss alone.)

    Both networks move in one traced function, from one forward pass of each. Neither is ever frozen: each optimiser is
    given its own network's variables and no others.
    """

    def __init__(self, filters: int, image_size: int, l1_weight: float) -> None:
        super().__init__()
        self.filters = filters
        self.image_size = image_size
        self.l1_weight = l1_weight
        self.generator = generator(filters, image_size, folded=True)
        self.discriminator = discriminator(filters, image_size)
        self.generator_optimizer = FusedAdam(LEARNING_RATE, beta_1=BETA_1)
        self.discriminator_optimizer = FusedAdam(LEARNING_RATE, beta_1=BETA_1)
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.losses_so_far = {name: keras.metrics.Mean(name) for name in LOSSES}
        self.step = tf.function(self.train_step, jit_compile=False)  # XLA is several times slower on a CPU

    def call(self, source: Any, training: bool = False) -> Any:
        return self.generator(source, training=training)

    def train_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
        """Move both networks once; return the losses' means since forget_means(), as scalar tensors by name."""
        source, target = data
        with tf.GradientTape(persistent=True) as tape:
            predicted = self.generator(source, training=True)
            judged_predicted = self.discriminator([source, predicted], training=True)
            judged_real = self.discriminator([source, target], training=True)
            adversarial = cross_entropy(judged_predicted, 1.0)
            l1 = tf.reduce_mean(tf.abs(target - predicted))
            generator_loss = adversarial + self.l1_weight * l1
            discriminator_loss = (cross_entropy(judged_real, 1.0) + cross_entropy(judged_predicted, 0.0)) / 2
        for network, optimizer, loss in (
            (self.generator, self.generator_optimizer, generator_loss),
            (self.discriminator, self.discriminator_optimizer, discriminator_loss),
        ):
            variables = network.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        for name, loss in zip(LOSSES, (generator_loss, discriminator_loss, adversarial, l1), strict=True):
            self.losses_so_far[name].update_state(loss)
        return {name: mean.result() for name, mean in self.losses_so_far.items()}

    def state(self) -> list[Any]:
        """Return every variable that the next steps depend on, in fixed order: weights, optimisers, dropout, losses."""
        holders = (
            self.generator,
            self.discriminator,
            self.generator_optimizer,
            self.discriminator_optimizer,
            *self.losses_so_far.values(),
        )
        return [variable for holder in holders for variable in holder.variables]

    def means(self) -> dict[str, float]:
        """Return each loss's mean since forget_means()."""
        return {name: float(mean.result()) for name, mean in self.losses_so_far.items()}

    def forget_means(self) -> None:
        for mean in self.losses_so_far.values():
            mean.reset_state()

    def translate(self, images: Image) -> Image:
        """Return the generator's pictures in inference mode: uint8 [N, S, S, 3] RGB -> the same."""
        predicted = self.generator(images.astype(np.float32) / 127.5 - 1.0, training=False)
        return np.clip(np.rint((predicted.numpy() + 1.0) * 127.5), 0, 255).astype(np.uint8)

    def plain_generator(self) -> keras.Model:
        """Return the generator in standard layers, with the present weights: what generator.keras holds."""
        plain = generator(self.filters, self.image_size)
        plain.set_weights(self.generator.get_weights())
        return plain


class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam, with TensorFlow's one-pass update in place of a dozen passes over every weight."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def cross_entropy(logits: Any, real: float) -> Any:
    """Return the mean binary cross-entropy of patch logits against all real (1.0) or all made (0.0)."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), real), logits))
