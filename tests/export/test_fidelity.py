"""PSNR, SSIM and their gate, against definitions written out."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_edge.export.fidelity import EQUAL_PSNR_DB, compare, max_difference, psnr, ssim
from pix2pix_edge.runtime.errors import GateFailedError
from pix2pix_edge.runtime.frame import Image


def noisy(seed: int, size: int = 24) -> tuple[Image, Image]:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (size, size, 3), np.uint8)
    return image, np.clip(image + random.normal(0, 9, image.shape), 0, 255).astype(np.uint8)


def ssim_by_definition(a: Image, b: Image) -> float:
    """Every 11x11 window by itself, weighted by a Gaussian of sigma 1.5 (Wang et al. 2004)."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    found = []
    for channel in range(3):
        for top in range(a.shape[0] - 10):
            for left in range(a.shape[1] - 10):
                x, y = (v[top : top + 11, left : left + 11, channel].astype(float) for v in (a, b))
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                cov = (weights * (x - mx) * (y - my)).sum()
                c1, c2 = 6.5025, 58.5225
                found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


def test_psnr_of_a_constant_error() -> None:
    a = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(a, a + 5) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(a, a) == float("inf")


@pytest.mark.parametrize("seed", [0, 1])
def test_ssim_is_its_definition(seed: int) -> None:
    a, b = noisy(seed)
    assert ssim(a, b) == pytest.approx(ssim_by_definition(a, b), abs=1e-9)
    assert ssim(a, a) == pytest.approx(1)


@pytest.mark.parametrize("size", [1, 2, 7, 10, 11, 12])
def test_small_pictures_have_an_ssim(size: int) -> None:
    a, b = noisy(0, size)
    assert ssim(a, a) == pytest.approx(1) and -1 <= ssim(a, b) <= 1


def test_differences_do_not_wrap_around() -> None:
    a, b = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert max_difference(a, b) == max_difference(b, a) == 255 and psnr(a, b) == 0


def test_means_count_equal_pictures_as_a_hundred_and_the_worst_comes_first() -> None:
    a, b = noisy(0)
    found = compare([(a, a), (a, b), (a, 255 - a)])
    assert found.mean_psnr_db == pytest.approx((EQUAL_PSNR_DB + psnr(a, b) + psnr(a, 255 - a)) / 3)
    assert found.worst_first() == [2, 1, 0]
    assert found.summary().images == 3 and found.summary().max_difference == max_difference(a, 255 - a)


def test_the_gate_needs_both() -> None:
    found = compare([noisy(0)])
    found.require(found.mean_psnr_db, found.mean_ssim, "b", "mend it")
    for psnr_db, likeness in ((found.mean_psnr_db + 1, 0.0), (0.0, 1.0)):
        with pytest.raises(GateFailedError, match="mend it"):
            found.require(psnr_db, likeness, "b", "mend it")
