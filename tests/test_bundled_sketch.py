"""The bundled sketch model, on simulated photographs of paper drawn by another hand than the one it learned from."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.runtime.stream import translate
from tests.conftest import REPOSITORY

ENGINE = REPOSITORY / "models" / "sketch.int8.cpu.onnx"
WINDOWS = [(x, y) for y in (70, 115, 160) for x in (50, 95, 140, 185)]


def sheet_of_paper(size: int = 256) -> Image:
    """Return a house of straight felt-pen lines without any of training's strokes: uint8 [S, S, 3]."""
    paper = np.full((size, size, 3), 255, np.uint8)
    ink = (20, 20, 20)
    cv2.rectangle(paper, (30, 55), (225, 235), ink, 2)
    cv2.polylines(paper, [np.array(((30, 55), (50, 25), (205, 25), (225, 55)))], True, ink, 2)
    cv2.line(paper, (0, 235), (255, 235), ink, 2)
    for x, y in WINDOWS:
        cv2.rectangle(paper, (x, y), (x + 22, y + 28), ink, 2)
    cv2.rectangle(paper, (115, 200), (138, 235), ink, 2)
    return paper


def under_a_lamp(paper: Image, dark: float, tint: tuple[float, float, float], tilt: int = 0) -> Image:
    """Return the paper with light that falls off to one corner, of one tint, as a tilted camera sees it.

    tilt: by how many pixels two corners move, those of the windows by half of it; 0: a scanner.
    """
    across, down = np.meshgrid(*[np.linspace(0, 1, len(paper))] * 2)
    light = 1 - (1 - dark) * (0.6 * across + 0.4 * down)
    if tilt:
        end = len(paper) - 1
        corners = np.array(((0, 0), (end, 0), (end, end), (0, end)), np.float32)
        moved = corners + np.array(((tilt, 0), (0, 0), (0, tilt), (0, 0)), np.float32)
        turn = cv2.getPerspectiveTransform(corners, moved)
        seen = cv2.warpPerspective(paper, turn, paper.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        paper = np.asarray(cv2.GaussianBlur(seen, (0, 0), 0.9), np.uint8)
    noise = np.random.default_rng(0).normal(0, 4 if tilt else 0, paper.shape)
    return np.clip(np.rint(paper * light[..., None] * tint + noise), 0, 255).astype(np.uint8)


def assert_a_house(picture: Image) -> None:
    """There is sky above, blue; a wall; and windows darker than the wall beside them."""
    sky = picture[4:18, 60:200].reshape(-1, 3).mean(0)
    assert sky[2] > sky[0] + 15
    darker = 0
    for x, y in WINDOWS:
        pane = picture[y + 5 : y + 24, x + 4 : x + 19].mean()
        wall = picture[y + 5 : y + 24, x + 28 : x + 40].mean()
        darker += pane < wall - 10
    assert darker >= 10, darker


def test_paper_under_any_lamp_becomes_the_same_house() -> None:
    flat = sheet_of_paper()
    lit = [
        under_a_lamp(flat, 0.5, (1, 0.92, 0.75)),
        under_a_lamp(flat, 0.8, (0.4, 0.42, 0.45)),
        under_a_lamp(flat, 0.6, (0.9, 0.85, 0.7), tilt=8),
    ]
    with open_engine(ENGINE) as engine:
        first, *others = (engine(sheet[None])[0] for sheet in (flat, *lit))
    for picture in (first, *others):
        assert_a_house(picture)
    for picture in others:
        assert np.abs(picture.astype(int) - first).mean() < 25


def test_a_video_of_paper_goes_through_the_camera_path(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "paper.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 256))
    for number in range(5):
        sheet = under_a_lamp(sheet_of_paper(), 0.5 + 0.05 * number, (0.9, 0.85, 0.7), tilt=2 * number)
        frame = cv2.copyMakeBorder(sheet, 0, 0, 32, 32, cv2.BORDER_REPLICATE)
        writer.write(frame[..., ::-1])
    writer.release()
    with open_engine(ENGINE) as engine, translate(tmp_path / "paper.avi", engine, [f"{tmp_path / 'out'}/"]) as stream:
        frames = list(stream)
    assert len(frames) == 5
    for path in sorted((tmp_path / "out").iterdir()):
        picture = cv2.resize(read_image(path), (256, 256), interpolation=cv2.INTER_AREA)
        assert np.ptp(picture) > 100
