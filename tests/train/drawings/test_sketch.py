"""Sketches: what a pen draws lies where the picture has it, on paper as a camera sees it."""

from __future__ import annotations

import cv2
import numpy as np

from pix2pix_edge.runtime.facades.scene import random_scene
from pix2pix_edge.train.data import batches
from pix2pix_edge.train.drawings.__main__ import draw_pair
from pix2pix_edge.train.drawings.sketch import photographed, sketch_scene
from pix2pix_edge.train.pairs.drawn import DrawnPairs


def test_a_sketch_is_ink_on_white_along_the_plan() -> None:
    for seed in range(6):
        scene = random_scene(np.random.default_rng(seed), 256)
        paper = sketch_scene(np.random.default_rng(seed), scene)
        assert paper.shape == (256, 256, 3) and paper.dtype == np.uint8
        assert (paper == paper[..., :1]).all()
        assert paper.max() == 255 and paper.min() < 90
        assert 0.02 < (paper[..., 0] < 128).mean() < 0.6
        facade = scene.houses[0].facade
        edge = paper[facade.top + 5 : facade.bottom - 5, max(0, facade.left - 6) : facade.left + 7, 0]
        assert (edge.min(1) < 160).mean() > 0.7  # a stroke runs down it, gaps apart


def test_pens_and_papers_differ() -> None:
    pairs = [draw_pair(0, number, 128, sketch=True) for number in range(12)]
    inks = [float((label < 128).mean()) for label, _ in pairs]
    assert max(inks) > 2 * min(inks)
    papers = {tuple(np.percentile(label.reshape(-1, 3), 95, axis=0).round().astype(int)) for label, _ in pairs}
    assert (255, 255, 255) in papers and len(papers) > 3


def test_paper_and_picture_are_tilted_alike() -> None:
    marks = np.full((128, 128, 3), 255, np.uint8)
    cv2.circle(marks, (40, 90), 5, (0, 0, 0), -1)
    for seed in range(8):
        seen, picture = photographed(np.random.default_rng(seed), marks, marks)
        soft = [cv2.GaussianBlur(image[..., 1], (0, 0), 2) for image in (seen, picture)]
        places = [np.unravel_index(image.argmin(), image.shape) for image in soft]  # the ink is darker than any shade
        np.testing.assert_allclose(places[0], places[1], atol=4)


def test_every_epoch_draws_new_pairs_and_resumes_with_the_same() -> None:
    pairs = DrawnPairs("sketches", "train", 3, 64, 0, "label2picture")
    first, second = (np.concatenate([b[0] for b in batches(pairs, 64, 1, 0, epoch)]) for epoch in (0, 1))
    assert all(np.abs(one - other).mean() > 0.01 for one in first for other in second)
    again = np.concatenate([b[0] for b in batches(pairs, 64, 1, 0, 1, skip=1)])
    np.testing.assert_array_equal(again, second[1:])
    test = DrawnPairs("sketches", "test", 3, 64, 0, "label2picture")
    assert not any(np.array_equal(test[i][0], pairs[j][0]) for i in range(3) for j in range(3))
    flipped = DrawnPairs("sketches", "test", 3, 64, 0, "picture2label")
    np.testing.assert_array_equal(flipped[0][1], test[0][0])
