"""The search for the INT8 graph of a target: the most arithmetic in INT8 with which held-out images pass the gate."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.export.fidelity import Fidelity, compare
from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.images import calibration_split, evenly
from pix2pix_edge.export.int8.calibrate import LEAST_IMAGES, Calibration, calibrate, channels_of, image_hashes
from pix2pix_edge.export.int8.equalize import Channels, equalize
from pix2pix_edge.export.int8.histogram import Range
from pix2pix_edge.export.int8.placement import Layer, scale_groups
from pix2pix_edge.export.int8.rounding import IMAGES, measure_moments
from pix2pix_edge.export.int8.sensitivity import (
    Judge,
    errors_of,
    mean_squared_error,
    select_layers,
    sensitivity,
    squared_error,
    translated,
)
from pix2pix_edge.export.int8.targets import Target
from pix2pix_edge.export.int8.weight_only import quantize_weights
from pix2pix_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pix2pix_edge.runtime.errors import GateFailedError, InputError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.frame import Image, fit
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.runtime.sidecar import Gate

TRIED_BY_AUTO = ("minmax", "percentile-99.999", "closest", "percentile")
"""The widest first."""
UNSEEN = 0.002
"""Of the error that the gate allows, so much is given for a wider range: a picture unlike all others is not clipped."""
WEIGHT_ONLY = 0.05
"""Of the error that the gate allows, so much is given for weights of 8 bits in layers that stay in floating point."""
RANKING = 8
"""Calibration images set apart to rank layers and methods on."""
JUDGED = 100
"""At most so many images decide the gate."""


@dataclass(frozen=True)
class Request:
    """What the user asked for. images: how many to calibrate on. method: "auto", or how ranges are chosen.

    epochs: how often an INT8 graph learns from the FP32 pictures of all images that are not held out.
    """

    model: Path
    data: Path
    images: int
    method: str
    gate: Gate
    cache: Path | None = None
    epochs: int = 0

    @property
    def stem(self) -> str:
        return self.model.name.removesuffix(".onnx").removesuffix(".fp32")


@dataclass(frozen=True)
class Found:
    """What passed. file: the graph as it was judged. alone: layer -> fidelity with this layer alone in INT8."""

    graph: Graph
    file: Path
    kept: Sequence[Layer]
    fidelity: Fidelity
    alone: Mapping[str, Fidelity]


class Search:
    """One model, its images and its calibration."""

    def __init__(self, request: Request, graph: Graph, layers: Sequence[Layer], folder: Path) -> None:
        """folder: for passing files. Raises InputError where no image is left to judge on."""
        self.request, self.layers, self.folder = request, layers, folder
        self.shape = graph.shapes()[graph.input.name][1:]
        calibrating, judging = calibration_split(request.data)
        every, calibrating = calibrating, evenly(calibrating, request.images)
        ranking = evenly(calibrating, RANKING)
        self.training = [path for path in every if path not in ranking] or every
        self.cache = request.cache or request.model.with_name(f"{request.stem}.calibration.json")
        self.calibration = self._calibration(graph, calibrating, ranking)
        self.graph = graph.copy()
        channels = Channels(graph)
        equalize(self.graph, channels, self.calibration.scales(channels))
        self.judging = evenly(judging, JUDGED)
        if request.cache:  # it may be of other images, or of another split of these
            used = set(self.calibration.images)
            self.judging = [path for path in self.judging if sha256_of(path) not in used]
        if not self.judging:
            raise InputError(
                f"every image in {request.data} was calibrated on, so none is left to judge on; give others"
            )
        self.rounding = measure_moments(
            self.graph,
            layers,
            (self._read(path) for path in _bar(evenly(calibrating, IMAGES), "what weights multiply")),
        )
        with OnnxRuntimeEngine(request.model) as reference:
            ranked = [self._read(path) for path in ranking]
            self.ranking = Judge(ranked, list(translated(reference, ranked)), folder)
            self.expected = list(translated(reference, self.images("FP32 pictures")))

    def images(self, what: str) -> Iterable[Image]:
        """Return the held-out images, behind a bar that says what they are for."""
        return (self._read(path) for path in _bar(self.judging, what))

    def _read(self, path: Path) -> Image:
        return fit(read_image(path, channels=self.shape[2]), self.shape)

    def _calibration(self, graph: Graph, calibrating: Sequence[Path], ranking: Sequence[Path]) -> Calibration:
        """Return the cached calibration where it is of these images, or was named with --cache; else calibrate."""
        model = sha256_of(self.request.model)
        hashes = image_hashes(calibrating)
        if self.request.cache or self.cache.is_file():
            try:
                found = Calibration.load(self.cache, model, channels_of(graph, self.layers))
                if self.request.cache or found.images == tuple(sorted(hashes)):
                    print(f"calibration: {self.cache}, of {len(found.images)} images", flush=True)
                    return found
            except InputError:
                if self.request.cache and self.cache.exists():
                    raise
        if len(calibrating) < LEAST_IMAGES:
            few = "image is" if len(calibrating) == 1 else "images are"
            print(f"warning: {len(calibrating)} {few} few to calibrate on; give 200 if you can", file=sys.stderr)
        # ranked on what the ranges have not seen, where there is enough
        apart = set(ranking) if len(calibrating) >= LEAST_IMAGES else set()
        paths = [path for path in calibrating if path not in apart]
        images = (self._read(path) for path in _bar(paths, "calibrating"))
        found = calibrate(graph, self.layers, images, hashes, model)
        found.save(self.cache)
        return found

    def best(self, target: type[Target]) -> Found:
        """Return the graph of a target in which as much is INT8 as the gate allows. Raises GateFailedError for none."""
        gate, ranges = self.request.gate, self._ranges(target)
        alone = self._alone(target, ranges, "one layer at a time")
        errors = errors_of(alone)
        found: Found | None = None
        reached = ""
        budget, passing, failing = float("inf"), 0.0, float("inf")
        tried: list[list[Layer]] = [[]]
        while (kept := select_layers(self.layers, errors, budget)) not in tried:
            tried.append(kept)
            judged, graph, file = self._attempt(kept, ranges, target, len(tried))
            total = sum(errors[layer.name] for layer in kept)
            if judged.passes(gate):
                found, passing = Found(graph, file, kept, judged, alone), total
            else:
                failing = total
                reached = (
                    f" (reached: PSNR {judged.mean_psnr_db:.1f} dB and SSIM {judged.mean_ssim:.4f}, worst image"
                    f" {judged.worst_psnr_db:.1f} dB)"
                )
            allowed = total * min(0.95, max(0.25, _allowed_share(judged, gate)))
            budget = (passing + failing) / 2 if passing else allowed
        # Sums of mean errors do not tell the worst image: what stayed out comes back, the largest first, where it may.
        for layer in sorted(
            set(self.layers) - set(found.kept if found else ()), key=lambda layer: -layer.multiply_adds
        ):
            kept = [each for each in self.layers if each is layer or (found and each in found.kept)]
            if kept in tried or sum(errors[each.name] for each in kept) > squared_error(gate.min_psnr_db):
                continue
            tried.append(kept)
            judged, graph, file = self._attempt(kept, ranges, target, len(tried))
            if judged.passes(gate):
                found = Found(graph, file, kept, judged, alone)
        if found:
            return found
        raise GateFailedError(
            f"{target.name}: no layer can be INT8 at PSNR {gate.min_psnr_db:g} dB, SSIM {gate.min_ssim:g} and"
            f" {gate.min_worst_db or 0:g} dB for the worst image{reached}; nothing was written; use the FP16 or FP32"
            " file, or lower --min-psnr, --min-ssim or --min-worst"
        )

    def _ranges(self, target: type[Target]) -> dict[str, Range]:
        """Return tensor -> range by the method asked for; with "auto", by one for each scale group.

        It is the widest that costs hardly more than the best, for a few images do not show what rare ones clip.
        """
        if self.request.method != "auto":
            return self.calibration.of_method(self.request.method)
        errors = {}
        for method in TRIED_BY_AUTO:
            errors[method] = errors_of(self._alone(target, self.calibration.of_method(method), f"{method} ranges"))
        groups, chosen = scale_groups(self.layers), {}
        spared = UNSEEN * squared_error(self.request.gate.min_psnr_db)
        for group in set(groups.values()):
            touched = [x.name for x in self.layers if group in {groups.get(t) for t in (*x.parts, *x.results)}]
            costs = {method: sum(errors[method][name] for name in touched) for method in TRIED_BY_AUTO}
            chosen[group] = next(method for method in costs if costs[method] <= min(costs.values()) + spared)
        return {name: self.calibration.ranges[name][chosen[group]] for name, group in groups.items()}

    @cached_property
    def weight_only(self) -> list[Layer]:
        """The layers whose weights alone may be INT8 where the layer may not: most of the file, for hardly an error."""
        with _bar(None, "weights of one layer at a time", len(self.layers)) as bar:
            alone = sensitivity(
                lambda layers: quantize_weights(self.graph, layers, self.rounding), self.layers, self.ranking, bar
            )
        budget = WEIGHT_ONLY * squared_error(self.request.gate.min_psnr_db)
        return select_layers(self.layers, errors_of(alone), budget, attrgetter("weights"))

    def _alone(self, target: type[Target], ranges: Mapping[str, Range], what: str) -> dict[str, Fidelity]:
        with _bar(None, f"{target.name}: {what}", len(self.layers)) as bar:
            return sensitivity(
                lambda layers: target.quantized(self.graph, layers, ranges, self.rounding),
                self.layers,
                self.ranking,
                bar,
            )

    def _attempt(
        self, kept: Sequence[Layer], ranges: Mapping[str, Range], target: type[Target], number: int
    ) -> tuple[Fidelity, Graph, Path]:
        """Return what the held-out images say of these layers in INT8, in ONNX Runtime, the graph, and its file."""
        graph, file = target.quantized(self.graph, kept, ranges, self.rounding), self.folder / f"judged-{number}.onnx"
        ranked = self.ranking.fidelity(graph)
        if ranked.mean_psnr_db < self.request.gate.min_psnr_db - 3:  # not worth the time of all images
            return ranked, graph, file
        if self.request.epochs:
            graph = self._trained(graph, ranked, f"{target.name}: {len(kept)} layers learn")
        graph = quantize_weights(graph, [layer for layer in self.weight_only if layer not in kept], self.rounding)
        graph = target.finished(graph)
        file.write_bytes(graph.to_model().SerializeToString(deterministic=True))
        with OnnxRuntimeEngine(file) as engine:
            images = self.images(f"{target.name}: {len(kept)} of {len(self.layers)} layers")
            return compare(zip(translated(engine, images), self.expected, strict=True)), graph, file

    def _trained(self, graph: Graph, ranked: Fidelity, what: str) -> Graph:
        """Return a quantised graph after training, or as it was where that is closer on what it did not learn from."""
        from pix2pix_edge.export.int8.training import BATCH, distil

        steps = max(self.request.epochs * len(self.training) // BATCH, 1)
        with OnnxRuntimeEngine(self.request.model) as reference, _bar(None, what, steps) as bar:
            trained = distil(graph, reference, self._examples(), steps, bar)
        closer = mean_squared_error(self.ranking.fidelity(trained)) < mean_squared_error(ranked)
        return trained if closer else graph

    def _examples(self) -> Iterator[Image]:
        """Yield images to learn from without end, in random order, half of them mirrored: FP32 says what is right."""
        random = np.random.default_rng(0)
        while True:
            for i in random.permutation(len(self.training)):
                image = self._read(self.training[i])
                yield np.ascontiguousarray(image[:, ::-1]) if random.random() < 0.5 else image


def _allowed_share(judged: Fidelity, gate: Gate) -> float:
    """Return what part of the measured error the gate allows: of the mean, and of the worst image."""
    mean = squared_error(gate.min_psnr_db) / max(mean_squared_error(judged), 1e-9)
    if gate.min_worst_db is None:
        return mean
    return min(mean, squared_error(gate.min_worst_db) / max(squared_error(judged.worst_psnr_db), 1e-9))


def _bar(items: Iterable[Any] | None, what: str, total: int | None = None) -> Any:
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, disable=None, dynamic_ncols=True, leave=False)
