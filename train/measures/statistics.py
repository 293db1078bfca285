"""Batch norm's statistics measured anew, as inference meets them. Importing this module loads TensorFlow.

The moving statistics were kept with dropout before them, which widens what they see (Li et al., "Understanding the
Disharmony between Dropout and Batch Normalization by Variance Shift", arXiv 1801.05134), and with each picture's own
statistics in the layers before.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pix2pix_edge.train.data import Pairs

LOOKED_AT = 200
"""Sources at most; 200 and 400 of the facades give the same pictures."""


def settle(network: keras.Model, pairs: Pairs) -> None:
    """Give each batch norm the mean and variance of what it reads in inference of the pairs' sources.

    Layer by layer, because what one reads follows from those before it.
    """
    chosen = range(0, len(pairs), -(-len(pairs) // LOOKED_AT))
    for norm in network.layers:
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        before = keras.Model(network.input, norm.input)

        def moments(source: Any, before: Any = before) -> Any:
            read = tf.cast(before(tf.cast(source, tf.float32) / 127.5 - 1, training=False), tf.float32)
            return tf.reduce_mean(read, (0, 1, 2)), tf.reduce_mean(tf.square(read), (0, 1, 2))

        traced = tf.function(moments)
        mean, square = np.mean([[each.numpy() for each in traced(pairs[index][0][None])] for index in chosen], axis=0)
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(np.maximum(square - np.square(mean), 0))
