"""How alike two pictures are: PSNR, SSIM and the largest difference. Needs numpy and OpenCV only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.errors import GateFailedError
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.sidecar import FidelitySummary, Gate

EQUAL_PSNR_DB = 100.0
"""Stands for the infinite PSNR of equal pictures in a mean, and in JSON, which knows no infinity."""

# Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004).
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def levels(picture: Images) -> NDArray[np.float64]:
    """Return a uint8 or uint16 array in levels of 255."""
    return picture.astype(np.float64) / (257 if picture.dtype == np.uint16 else 1)


def psnr(a: Images, b: Images) -> float:
    """Return the peak signal-to-noise ratio in dB of two uint8 arrays of one shape, over all their values together.

    Infinite where they are equal.
    """
    error = float(np.mean(np.square(levels(a) - levels(b))))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def ssim(a: Image, b: Image) -> float:
    """Return the mean structural similarity of two uint8 pictures [H, W, C], 1 where they are equal.

    As its authors define it: an 11×11 Gaussian window of sigma 1.5, only where it fits into the picture; here for each
    channel, then the mean. A picture smaller than the window is compared as one whole.
    """
    x, y = levels(a), levels(b)
    window = min(WINDOW, *a.shape[:2])
    kernel = cv2.getGaussianKernel(window, SIGMA)
    edge = window // 2

    def weighted(values: Any) -> Any:
        blurred = cv2.sepFilter2D(values, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REFLECT)
        return blurred[edge : blurred.shape[0] - window + edge + 1, edge : blurred.shape[1] - window + edge + 1]

    mean_x, mean_y = weighted(x), weighted(y)
    variance_x, variance_y = weighted(x * x) - mean_x**2, weighted(y * y) - mean_y**2
    covariance = weighted(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return float(np.mean(likeness / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))))


def max_difference(a: Images, b: Images) -> int:
    """Return the largest difference of two arrays of one shape and type, in levels of 255, of uint16 rounded up."""
    largest = int(cv2.absdiff(a.reshape(-1), b.reshape(-1)).max())
    return -(-largest // 257) if a.dtype == np.uint16 else largest


@dataclass(frozen=True)
class Fidelity:
    """How alike pairs of pictures are; one entry for each pair, in the order given."""

    psnr_db: list[float]
    ssim: list[float]
    max_difference: list[int]

    @property
    def mean_psnr_db(self) -> float:
        """The mean of the pictures' PSNR, where a pair of equal pictures counts EQUAL_PSNR_DB."""
        return float(np.mean(np.minimum(self.psnr_db, EQUAL_PSNR_DB)))

    @property
    def worst_psnr_db(self) -> float:
        """The lowest PSNR of a picture, EQUAL_PSNR_DB where all are equal."""
        return min(*self.psnr_db, EQUAL_PSNR_DB)

    @property
    def mean_ssim(self) -> float:
        return float(np.mean(self.ssim))

    def worst_first(self) -> list[int]:
        """Return the pairs' positions, the lowest PSNR first."""
        return [int(i) for i in np.argsort(self.psnr_db, kind="stable")]

    def summary(self, reference: str = "") -> FidelitySummary:
        """Return what a sidecar keeps. reference: the file that the pictures were compared with."""
        return FidelitySummary(
            len(self.psnr_db),
            round(self.mean_psnr_db, 2),
            round(self.mean_ssim, 5),
            max(self.max_difference),
            reference,
            round(self.worst_psnr_db, 2),
        )

    def passes(self, gate: Gate) -> bool:
        means = self.mean_psnr_db >= gate.min_psnr_db and self.mean_ssim >= gate.min_ssim
        return means and (gate.min_worst_db is None or self.worst_psnr_db >= gate.min_worst_db)

    def require(self, min_psnr_db: float, min_ssim: float, what: str, remedy: str) -> None:
        """Raise GateFailedError, saying what was compared and what to do, unless both means reach the gate."""
        if not self.passes(Gate(min_psnr_db, min_ssim)):
            raise GateFailedError(
                f"{what}: mean PSNR {self.mean_psnr_db:.1f} dB and SSIM {self.mean_ssim:.4f} on"
                f" {len(self.psnr_db)} images, where {min_psnr_db:g} dB and {min_ssim:g} are asked for; {remedy}"
            )


def compare(pairs: Iterable[tuple[Image, Image]]) -> Fidelity:
    """Compare pairs of uint8 pictures [H, W, C], one pair at a time."""
    found = Fidelity([], [], [])
    for a, b in pairs:
        found.psnr_db.append(psnr(a, b))
        found.ssim.append(ssim(a, b))
        found.max_difference.append(max_difference(a, b))
    return found
