"""The trainer: both networks, both optimisers, and the one step that moves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.train.data import Pairs
from pix2pix_edge.train.measures.statistics import settle
from pix2pix_edge.train.networks import discriminator, feature_extractor, generator, precision_of
from pix2pix_edge.train.settings import Settings

BETA_1 = 0.5
FINISHING = 0.1  # of the rates, in the epochs that finish a run
LOSSES = ("generator_loss", "discriminator_loss", "adversarial", "features", "l1", "fringes")

Seen = Mapping[str, Sequence[Any]]
"""What a discriminator sees of a pair: by scale its maps, and its logits last."""


class Trainer(keras.Model):
    """A generator and a discriminator that learn together from (source, target) batches in [-1, 1].

    generator_loss = adversarial + feature_weight x features + l1_weight x l1 + fringe_weight x fringes: adversarial
    says how far the discriminator is from taking predictions for real, features is the mean absolute difference to the
    target in the discriminator's maps, summed over each scale's maps and averaged over its scales (pix2pixHD, arXiv
    1711.11585), l1 that in the picture, fringes that in its colours at fine scale. With a teacher these three are to
    its picture in place of the target's, and what is real is still the target.
    discriminator_loss is the mean of its losses on real and on predicted pairs. (Isola et al. 2017 have adversarial and
    l1 alone.)

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
        with precision_of(settings.precision):
            self.generator = self._generator(folded=True)
            self.discriminator = discriminator(
                settings.discriminator_filters or settings.filters,
                settings.size,
                channels=settings.channels,
                scales=settings.scales,
                spectral=settings.adversarial == "hinge",
            )
            self.seen = feature_extractor(self.discriminator)
        self.generator_optimizer = FusedAdam(settings.learning_rate, beta_1=BETA_1)
        self.discriminator_optimizer = FusedAdam(settings.discriminator_rate, beta_1=BETA_1)
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.averaged = self.generator
        if settings.average:
            self.averaged = self._generator(folded=True)
        self.averaged.set_weights(self.generator.get_weights())
        self.losses_so_far = {name: keras.metrics.Mean(name) for name in LOSSES}
        self.strategy = tf.distribute.get_strategy()
        self.step = tf.function(self._step, autograph=False, jit_compile=False)  # XLA is several times slower on a CPU

    def _generator(self, folded: bool) -> keras.Model:
        wanted = self.settings
        return generator(
            wanted.filters, wanted.size, channels=wanted.channels, folded=folded, even_light=wanted.even_light
        )

    def call(self, source: Any, training: bool = False) -> Any:
        return self.averaged(source, training=training)

    def begin_epoch(self, epoch: int) -> None:
        """Set the learning rates by how far the run is (epoch counts from 0)."""
        left = self.settings.epochs - epoch
        share = 1.0
        if left <= 0:
            share = FINISHING
        elif self.settings.schedule == "linear":  # constant for the first half, then down to 0 (the paper's authors)
            share = min(1.0, 2 * left / (self.settings.epochs + 1))
        self.generator_optimizer.learning_rate = self.settings.learning_rate * share
        self.discriminator_optimizer.learning_rate = self.settings.discriminator_rate * share

    def begin_finish(self, pairs: Pairs) -> None:
        """Go on from the weights to export, with batch norm's statistics of the pairs' sources, as if run anew."""
        self.generator.set_weights(self.averaged.get_weights())
        settle(self.generator, pairs)
        self.averaged.set_weights(self.generator.get_weights())
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for variable in optimizer.variables:  # their moments are of gradients in training mode
                variable.assign(tf.zeros_like(variable))

    def _step(self, batch: tuple[Any, Any], training: bool = True) -> dict[str, Any]:
        """Move both networks once; return the losses' means since reset_metrics(), as scalar tensors by name.

        training: whether the generator has dropout and batch statistics, as before the epochs that finish a run.
        Where there are several replicas, the means are those of this process's first one.
        """
        means = self.strategy.run(self.train_step, args=(batch, training))
        if self.averaged is not self.generator:
            self._average()
        return {name: self.strategy.experimental_local_results(mean)[0] for name, mean in means.items()}

    def train_step(self, data: tuple[Any, Any], training: bool = True) -> dict[str, Any]:
        """Move both networks once, on one replica."""
        source, target = data
        wanted = self.settings
        loss = ADVERSARIAL_LOSSES[wanted.adversarial]
        likeness, fringes = tf.constant(0.0), tf.constant(0.0)
        with tf.GradientTape(persistent=True) as tape:
            predicted = self.generator(source, training=training)
            fake = self.seen([source, predicted], training=True)
            real = wanted_maps = self.seen([source, target], training=True)
            if self.teacher is not None:
                target = self.teacher(source, training=False)
                wanted_maps = self.seen([source, target], training=True)
            adversarial = mean_over_scales(loss.generator, fake)
            l1 = tf.reduce_mean(tf.abs(target - predicted))
            generator_loss = adversarial + wanted.l1_weight * l1
            if wanted.feature_weight:
                likeness = feature_distance(fake, wanted_maps)
                generator_loss += wanted.feature_weight * likeness
            if wanted.fringe_weight and wanted.output_channels >= 3:
                fringes = tf.reduce_mean(tf.abs(fine_colours(target - predicted)))
                generator_loss += wanted.fringe_weight * fringes
            discriminator_loss = (mean_over_scales(loss.real, real) + mean_over_scales(loss.fake, fake)) / 2
            # The optimisers add up the replicas' gradients.
            shares = [loss / self.strategy.num_replicas_in_sync for loss in (generator_loss, discriminator_loss)]
        for network, optimizer, loss in (
            (self.generator, self.generator_optimizer, shares[0]),
            (self.discriminator, self.discriminator_optimizer, shares[1]),
        ):
            variables = network.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        losses = (generator_loss, discriminator_loss, adversarial, likeness, l1, fringes)
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
        """Return each loss's mean since reset_metrics()."""
        return {name: float(mean.result()) for name, mean in self.losses_so_far.items()}

    def reset_metrics(self) -> None:
        for mean in self.losses_so_far.values():
            mean.reset_state()

    def translate(self, images: Image) -> Image:
        """Return the generator's pictures in inference mode: uint8 [N, H, W, C] -> the same."""
        predicted = self.averaged(images.astype(np.float32) / 127.5 - 1.0, training=False)
        pictures: Image = np.clip(np.rint((predicted.numpy() + 1.0) * 127.5), 0, 255).astype(np.uint8)
        return pictures

    def plain_generator(self) -> keras.Model:
        """Return the generator in standard layers, with the present weights: what generator.keras holds."""
        plain = self._generator(folded=False)
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
    """Return the mean binary cross-entropy of patch logits against all real (1.0) or all fake (0.0)."""
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), real), logits))


def mean_over_scales(loss: Callable[[Any], Any], seen: Seen) -> Any:
    """Return the mean over the scales of a loss of their logits."""
    return sum(loss(tf.cast(scale[-1], tf.float32)) for scale in seen.values()) / len(seen)


def feature_distance(fake: Seen, real: Seen) -> Any:
    """Return the mean absolute difference of maps, summed over a scale's, averaged over scales; `real` stays."""
    pairs = [pair for scale in fake for pair in zip(fake[scale][:-1], real[scale][:-1], strict=True)]
    differences = (tf.cast(tf.abs(a - tf.stop_gradient(b)), tf.float32) for a, b in pairs)
    return sum(tf.reduce_mean(difference) for difference in differences) / len(fake)


def fine_colours(image: Any) -> Any:
    """Return red and blue less green, [N, S, S, 2], without their means over 5x5 pixels.

    A photograph hardly has any: sensors and JPEG keep colours at half the size. So here, unlike in brightness, the one
    true picture is a fair teacher, and no blur follows from it.
    """
    colours = tf.stack([image[..., 0] - image[..., 1], image[..., 2] - image[..., 1]], -1)
    return colours - tf.nn.avg_pool2d(colours, 5, 1, "SAME")


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
    """One adversarial loss of patch logits: the discriminator's on real and on fake pairs, the generator's on fakes."""

    real: Callable[[Any], Any]
    fake: Callable[[Any], Any]
    generator: Callable[[Any], Any]


ADVERSARIAL_LOSSES = {
    "hinge": AdversarialLoss(  # Lim and Ye, "Geometric GAN", arXiv 1705.02894
        lambda logits: tf.reduce_mean(tf.nn.relu(1 - logits)),
        lambda logits: tf.reduce_mean(tf.nn.relu(1 + logits)),
        lambda logits: -tf.reduce_mean(logits),
    ),
    "cross-entropy": AdversarialLoss(
        partial(cross_entropy, real=1.0), partial(cross_entropy, real=0.0), partial(cross_entropy, real=1.0)
    ),
}
