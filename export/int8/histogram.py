"""How the values of a tensor are distributed, gathered image by image in constant memory, and what range suits them.

Each channel has bins of its own, over [-reach, reach] with reach a power of two that doubles as values grow, so the
result does not depend on the order of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.export.graph.graph import Array

BINS = 1024
"""Bins of each channel, half of them for negative values: the largest value has at least 256 bins below it."""
MERGED_BINS = 4096

SMALLEST_REACH = 2.0**-20
# Of the TensorRT and ONNX Runtime calibrators: as many magnitudes as INT8 has.
LEVELS = 128

Range = tuple[float, float]


class Histogram:
    """Counts of the values of each channel of one tensor."""

    def __init__(self, channels: int) -> None:
        self.reach = np.full(channels, SMALLEST_REACH)
        self.counts: NDArray[np.int64] = np.zeros((channels, BINS), np.int64)
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)

    def add(self, values: Array) -> None:
        """Count values: [N, channels, ...], finite."""
        rows = np.moveaxis(values, 1, 0).reshape(len(self.counts), -1)
        low, high = rows.min(axis=1), rows.max(axis=1)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self._reach_to(np.maximum(-low, high).astype(np.float64))
        bins = rows * (BINS / 2 / self.reach).astype(np.float32)[:, None]  # a power of two: exact
        places = np.floor(bins, out=bins).astype(np.int32)
        places += (np.arange(len(rows), dtype=np.int32) * BINS + BINS // 2)[:, None]
        self.counts += np.bincount(places.reshape(-1), minlength=self.counts.size).reshape(self.counts.shape)

    def _reach_to(self, sizes: Array) -> None:
        while (short := self.reach <= sizes).any():
            halves = self.counts[short].reshape(-1, BINS // 2, 2).sum(axis=2)
            self.counts[short] = np.pad(halves, ((0, 0), (BINS // 4, BINS // 4)))
            self.reach[short] *= 2

    def sizes(self, share: float) -> Array:
        """Return for each channel the size (absolute value) that all but `share` of its values stay below."""
        half = BINS // 2
        folded = self.counts[:, half:] + self.counts[:, half - 1 :: -1]
        kept = np.cumsum(folded, axis=1) >= (1 - share) * folded.sum(axis=1, keepdims=True)
        found = (np.argmax(kept, axis=1) + 1) * self.reach / half
        sizes: Array = np.minimum(found, np.maximum(-self.low, self.high))
        return sizes


def merged(histograms: Sequence[Histogram], scales: Sequence[Array]) -> tuple[Array, Range]:
    """Return (counts, (lowest, highest)) of several tensors together, each channel times its scale (> 0).

    counts: [MERGED_BINS] over [-reach, reach], reach = max(-lowest, highest).
    """
    lowest = min(float((h.low * k).min()) for h, k in zip(histograms, scales, strict=True))
    highest = max(float((h.high * k).max()) for h, k in zip(histograms, scales, strict=True))
    reach = max(-lowest, highest)
    counts = np.zeros(MERGED_BINS)
    if reach > 0:
        middles = (np.arange(BINS) + 0.5) / (BINS / 2) - 1
        for h, k in zip(histograms, scales, strict=True):
            places = (h.reach * k)[:, None] * middles / reach
            bins = np.clip((places + 1) * (MERGED_BINS / 2), 0, MERGED_BINS - 1).astype(np.int64)
            counts += np.bincount(bins.reshape(-1), h.counts.reshape(-1), MERGED_BINS)
    return counts, (lowest, highest)


def percentile_range(counts: Array, ends: Range, share: float) -> Range:
    """Return the range that leaves out `share` of the values at either end."""
    reach = max(-ends[0], ends[1])
    below = np.cumsum(counts) / max(counts.sum(), 1)
    low = int(np.searchsorted(below, share, side="right"))
    high = int(np.searchsorted(below, 1 - share, side="left")) + 1
    edge = np.linspace(-reach, reach, len(counts) + 1)
    return max(float(edge[low]), ends[0]), min(float(edge[min(high, len(counts))]), ends[1])


def entropy_range(counts: Array, ends: Range) -> Range:
    """Return the range whose INT8 codes lose the least information about the sizes of the values.

    The size at which to clip is the one with the smallest Kullback-Leibler divergence between the clipped histogram
    and the same in LEVELS steps: Migacz, "8-bit Inference with TensorRT" (2017), as ONNX Runtime implements it.
    """
    half = len(counts) // 2
    sizes = counts[half:] + counts[half - 1 :: -1]
    reach = max(-ends[0], ends[1])
    best, clip = np.inf, half
    for kept in range(LEVELS, half + 1, LEVELS // 8):
        clipped = sizes[:kept].copy()
        clipped[-1] += sizes[kept:].sum()
        steps = np.minimum(np.arange(kept) * LEVELS // kept, LEVELS - 1)
        filled = sizes[:kept] > 0
        total = np.bincount(steps, sizes[:kept], LEVELS)
        places = np.bincount(steps, filled, LEVELS)
        coarse = np.where(filled, (total / np.maximum(places, 1))[steps], 0)
        p, q = clipped / max(clipped.sum(), 1), coarse / max(coarse.sum(), 1)
        both = (p > 0) & (q > 0)
        lost = float(np.sum(p[both] * np.log(p[both] / q[both]))) + float(p[(p > 0) & (q == 0)].sum()) * 30
        if lost < best:
            best, clip = lost, kept
    threshold = reach * clip / half
    return max(-threshold, ends[0]), min(threshold, ends[1])


def closest_range(counts: Array, ends: Range) -> Range:
    """Return the range with the least squared error of 8-bit codes: that of rounding within it, of clipping beyond.

    As Nagel et al., "A White Paper on Neural Network Quantization" (2021), 3.1, choose it; here among the bins' edges.
    """
    half = len(counts) // 2
    reach = max(-ends[0], ends[1])
    edges = np.arange(1, half + 1) / half * reach
    error = np.zeros(half)
    for sizes, end in ((counts[half:], ends[1]), (counts[half - 1 :: -1], -ends[0])):
        middles = edges - reach / half / 2
        clipped = np.minimum(edges, max(end, 0.0))
        beyond = [np.cumsum((sizes * middles**power)[::-1])[::-1] - sizes * middles**power for power in (0, 1, 2)]
        error += beyond[2] - 2 * clipped * beyond[1] + clipped**2 * beyond[0]
    lows, highs = np.maximum(-edges, min(ends[0], 0.0)), np.minimum(edges, max(ends[1], 0.0))
    error += counts.sum() * ((highs - lows) / 255) ** 2 / 12
    best = int(np.argmin(error))
    return max(-float(edges[best]), ends[0]), min(float(edges[best]), ends[1])


METHODS: dict[str, Callable[[Array, Range], Range]] = {
    "minmax": lambda counts, ends: ends,
    "percentile": lambda counts, ends: percentile_range(counts, ends, 1e-4),
    "percentile-99.9": lambda counts, ends: percentile_range(counts, ends, 1e-3),
    "percentile-99.999": lambda counts, ends: percentile_range(counts, ends, 1e-5),
    "entropy": entropy_range,
    "closest": closest_range,
}
"""Name -> the range [low, high] from (counts, (lowest, highest)) as `merged` gives them. "percentile" is 99.99."""
