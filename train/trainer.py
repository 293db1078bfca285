"""The trainer: both networks, both optimisers, and the one step that moves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.train.networks import BatchNorm, discriminator, generator
from pix2pix_edge.train.settings import Settings

BETA_1 = 0.5
LOSSES = ("generator_loss", "discriminator_loss", "adversarial", "l1", "teacher")


class Trainer(keras.Model):
    """A generator and a discriminator that learn together from (source, target) batches in [-1, 1].

    generator_loss = adversarial + l1_weight x l1 + teacher_weight x teacher: adversarial says how far the discriminator
    is from taking predictions for real, l1 is the mean absolute difference to the target, teacher that to the
    pictures of the teacher, where there is one. discriminator_loss is the mean of its losses on real and on predicted
    pairs. (Isola et al. 2017; l1_weight 0 leaves the adversarial loss alone.)

    Both networks move in one traced function, from one forward pass of the generator and two of the discriminator.
    Neither is ever frozen: each optimiser is given its own network's variables and no others. Made in the scope of a
    tf.distribute strategy, its step takes one part of the batch for each replica and moves the networks as the whole
    batch would.

    teacher: a generator [N, S, S, 3] -> the same, in [-1, 1]; it does not learn.
    """

    def __init__(self, settings: Settings, teacher: keras.Model | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.teacher = teacher
        self.generator = self._network(folded=True)
        self.discriminator = discriminator(settings.filters, settings.image_size)
        self.generator_optimizer = FusedAdam(settings.learning_rate, beta_1=BETA_1)
        self.discriminator_optimizer = FusedAdam(settings.learning_rate, beta_1=BETA_1)
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.averaged = self._network(folded=True) if settings.average else self.generator
        self.averaged.set_weights(self.generator.get_weights())
        self.losses_so_far = {name: keras.metrics.Mean(name) for name in LOSSES}
        self.strategy = tf.distribute.get_strategy()
        self.step = tf.function(self._step, jit_compile=False)  # XLA is several times slower on a CPU

    def _network(self, folded: bool) -> keras.Model:
        wanted = self.settings
        return generator(
            wanted.filters,
            wanted.image_size,
            folded=folded,
            momentum=wanted.momentum,
            norm_first=wanted.norm == "first",
        )

    def call(self, source: Any, training: bool = False) -> Any:
        return self.averaged(source, training=training)

    def begin_epoch(self, epoch: int) -> None:
        """Set what depends on how far the run is (epoch counts from 0): learning rate, and batch norm frozen or not."""
        left = self.settings.epochs - epoch
        if self.settings.schedule == "linear":  # constant for the first half, then down to 0 (the paper's authors)
            rate = self.settings.learning_rate * min(1.0, 2 * left / (self.settings.epochs + 1))
            for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
                optimizer.learning_rate = rate
        frozen = left <= self.settings.frozen_epochs
        norms = [layer for layer in self.generator.layers if isinstance(layer, BatchNorm)]
        if frozen != norms[0].frozen:
            for norm in norms:
                norm.frozen = frozen
            self.step = tf.function(self._step, jit_compile=False)

    def _step(self, batch: tuple[Any, Any]) -> dict[str, Any]:
        """Move both networks once; return the losses' means since forget_means(), as scalar tensors by name.

        Where there are several replicas, the means are those of this process's first one.
        """
        means = self.strategy.run(self.train_step, args=(batch,))
        if self.averaged is not self.generator:
            self._average()
        return {name: self.strategy.experimental_local_results(mean)[0] for name, mean in means.items()}

    def train_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
        """Move both networks once, on one replica."""
        source, target = data
        judge = JUDGEMENTS[self.settings.adversarial]
        with tf.GradientTape(persistent=True) as tape:
            predicted = self.generator(source, training=True)
            judged_predicted = self.discriminator([source, predicted], training=True)
            judged_real = self.discriminator([source, target], training=True)
            adversarial = judge.made_for_real(judged_predicted)
            l1 = tf.reduce_mean(tf.abs(target - predicted))
            generator_loss = adversarial + self.settings.l1_weight * l1
            taught = tf.constant(0.0)
            if self.teacher is not None:
                taught = tf.reduce_mean(tf.abs(self.teacher(source, training=False) - predicted))
                generator_loss += self.settings.teacher_weight * taught
            discriminator_loss = (judge.real(judged_real) + judge.made(judged_predicted)) / 2
            # The optimisers add up the replicas' gradients.
            shares = [loss / self.strategy.num_replicas_in_sync for loss in (generator_loss, discriminator_loss)]
        for network, optimizer, loss in (
            (self.generator, self.generator_optimizer, shares[0]),
            (self.discriminator, self.discriminator_optimizer, shares[1]),
        ):
            variables = network.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        losses = (generator_loss, discriminator_loss, adversarial, l1, taught)
        for name, loss in zip(LOSSES, losses, strict=True):
            self.losses_so_far[name].update_state(loss)
        return {name: mean.result() for name, mean in self.losses_so_far.items()}

    def _average(self) -> None:
        """Move the average of the weights, and of the moving statistics, a little towards the present ones."""
        steps = tf.cast(self.generator_optimizer.iterations, tf.float32)
        decay = tf.minimum(self.settings.average, (1 + steps) / (10 + steps))  # short at first, as in TensorFlow's EMA
        for mean, now in zip(self.averaged.variables, self.generator.variables, strict=True):
            if mean.dtype == "float32":  # the others are the random states of dropout
                mean.assign_sub((1 - decay) * (mean.value - now.value))

    def state(self) -> list[Any]:
        """Return every variable that the next steps depend on, in fixed order: weights, optimisers, dropout, losses."""
        holders = (
            self.generator,
            self.discriminator,
            self.generator_optimizer,
            self.discriminator_optimizer,
            *self.losses_so_far.values(),
            *([self.averaged] if self.averaged is not self.generator else []),
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
        predicted = self.averaged(images.astype(np.float32) / 127.5 - 1.0, training=False)
        return np.clip(np.rint((predicted.numpy() + 1.0) * 127.5), 0, 255).astype(np.uint8)

    def plain_generator(self) -> keras.Model:
        """Return the generator in standard layers, with the present weights: what generator.keras holds."""
        plain = self._network(folded=False)
        plain.set_weights(self.averaged.get_weights())
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


def square(logits: Any, real: float) -> Any:
    """Return the mean squared difference of patch scores to `real`."""
    return tf.reduce_mean(tf.square(logits - real))


@dataclasses.dataclass(frozen=True)
class Judgement:
    """One adversarial loss: of the discriminator on real and on made pairs, and of the generator on what it made.

    loss: (scores, 1.0 for real or 0.0 for made) -> a scalar. real_target: what the discriminator aims at on real pairs.
    """

    loss: Callable[[Any, float], Any]
    real_target: float = 1.0

    def real(self, scores: Any) -> Any:
        return self.loss(scores, self.real_target)

    def made(self, scores: Any) -> Any:
        return self.loss(scores, 0.0)

    def made_for_real(self, scores: Any) -> Any:
        return self.loss(scores, 1.0)


JUDGEMENTS = {
    "cross-entropy": Judgement(cross_entropy),
    "smoothed": Judgement(cross_entropy, 0.9),  # one-sided label smoothing: Salimans et al., arXiv 1606.03498, 3.4
    "least-squares": Judgement(square),  # Mao et al., arXiv 1611.04076
}
