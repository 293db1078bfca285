"""Measures of a set of pictures that a blur cannot please: against a set of real ones, not pair by pair.

A label map tells neither colour nor light, so a measure that compares a picture with the one true photograph rewards
the mean of all possible ones, which is grey and soft. These compare what the pictures of a set are like.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.frame import Image

FINE_SIGMA = 1.5  # pixels: what a Gaussian of this width takes away is fine
BLOCKS = 8  # in each direction
PATCHES = 2000  # of a set, at most, in the kernel distance: its cost grows with their square


@dataclasses.dataclass(frozen=True)
class PictureStatistics:
    """What the pictures of a set are like.

    fine: mean energy of Lab's L at fine scale. fringes: the same of a and b, which the grid of a decoder's upsampling
    shows in and photographs hardly have. chroma: standard deviation of a and b over blocks of an eighth of the side.
    features: of patches, [n, d].
    """

    fine: float
    fringes: float
    chroma: float
    features: NDArray[np.float64]


def picture_statistics(pictures: Sequence[Image], features: Sequence[NDArray[np.float32]]) -> PictureStatistics:
    """Return the statistics of pictures, uint8 [H, W, 3] RGB each, and of their patches' features, [n, d] each."""
    energies, blocks = [], []
    for picture in pictures:
        lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)  # L 0 to 100, a and b -128 to 127
        energies.append(np.square(lab - cv2.GaussianBlur(lab, (0, 0), FINE_SIGMA)).mean((0, 1)))
        blocks.append(cv2.resize(lab, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)[..., 1:].reshape(-1, 2))
    fine = np.mean(energies, 0)
    chroma = float(np.sqrt(np.concatenate(blocks).var(0).sum()))
    patches = np.concatenate(features).astype(np.float64)
    return PictureStatistics(float(fine[0]), float(fine[1:].sum()), chroma, patches)


def compare(fake: PictureStatistics, real: PictureStatistics) -> dict[str, float]:
    """Return fine, fringes and chroma as shares of the real ones', and patches.

    patches: 1000 x the kernel distance of the features of patches.
    """
    return {
        "fine": fake.fine / max(real.fine, 1e-9),
        "fringes": fake.fringes / max(real.fringes, 1e-9),
        "chroma": fake.chroma / max(real.chroma, 1e-9),
        "patches": 1000 * kernel_distance(fake.features, real.features),
    }


def kernel_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the squared maximum mean discrepancy of two sets of features [n, d], without bias; 0 for like sets.

    The kernel is (x·y / d + 1)³, as in the kernel inception distance (Bińkowski et al., arXiv 1801.01401).
    """
    x, y = (features[:: -(-len(features) // PATCHES)] for features in (first, second))

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (a @ b.T / a.shape[1] + 1) ** 3
        return values

    def within(a: NDArray[np.float64]) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / max(1, len(a) * (len(a) - 1)))

    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


class LabelReading:
    """Collects what the label reader sees in pictures: features of their patches, and how well labels read back."""

    def __init__(self, reader: Any) -> None:
        import tensorflow as tf

        self.read = tf.function(lambda pictures: reader(pictures, training=False))
        self.features: list[NDArray[np.float32]] = []
        self.confusion: NDArray[np.int64] | None = None

    def add(self, picture: Image, label: Image | None) -> None:
        """Look at a picture, and where its label map is given, compare with it."""
        from pix2pix_edge.runtime.facades.styles import CLASSES
        from pix2pix_edge.train.measures.label_reader import STRIDE, WHOLE, classes_of

        height, width = (length - length % WHOLE for length in picture.shape[:2])
        picture, label = picture[:height, :width], None if label is None else label[:height, :width]
        logits, features = self.read(picture[None].astype(np.float32) / 127.5 - 1)
        self.features.append(features.numpy().reshape(-1, features.shape[-1]))
        if label is None:
            return
        small = label[None, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        wanted = classes_of(small.astype(np.float32) / 127.5 - 1).numpy().ravel()
        found = logits.numpy().argmax(-1).ravel()
        count = len(CLASSES)
        table = np.bincount(wanted * count + found, minlength=count * count).reshape(count, count)
        self.confusion = table if self.confusion is None else self.confusion + table

    def mean_iou(self) -> float:
        """Return the mean over the classes present of intersection over union of labels read and labels given."""
        assert self.confusion is not None
        both = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - both
        present = self.confusion.sum(1) > 0
        return float((both[present] / union[present]).mean())
