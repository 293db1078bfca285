"""Images to compare on: a user's folder of any layout, or drawn ones where there is no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Image, fit
from pix2pix_edge.runtime.images import IMAGE_ENDINGS, list_images, read_image


def image_files(data: str | Path) -> list[Path]:
    """Return the image files in a folder and the folders below it, in natural order; or the one image that it is.

    Raises InputError when there is none.
    """
    data = Path(data)
    if data.is_file():
        return [data]
    found = list_images(data, recursive=True)
    if not found:
        reason = "holds no images" if data.is_dir() else "does not exist"
        raise InputError(f"--data {data} {reason}; give a folder with {', '.join(IMAGE_ENDINGS)} files in it")
    return found


# Folders of a data set that hold what the generator reads, label2picture: to calibrate on, and held out to judge on.
CALIBRATING = ("train_label", "trainB")
JUDGING = ("test_label", "testB")
HELD_OUT = 4  # of a folder without a layout, every so-manyth image is held out


def judging_files(data: str | Path) -> list[Path]:
    """Return the images to judge on: those of test_label/ or testB/ where `data` has one, else all in it.

    For a generator that reads pictures, give that folder itself (DIR/test_picture). Raises InputError for none.
    """
    folder = next((Path(data) / name for name in JUDGING if (Path(data) / name).is_dir()), data)
    return image_files(folder)


def calibration_split(data: str | Path) -> tuple[list[Path], list[Path]]:
    """Return the images to calibrate on and those to judge on; no file is in both.

    train_label/ and test_label/, or trainB/ and testB/; in any other folder every HELD_OUT-th image is judged on.
    Raises InputError when either would be empty.
    """
    for train, test in zip(CALIBRATING, JUDGING, strict=True):
        if (Path(data) / train).is_dir() and (Path(data) / test).is_dir():
            return image_files(Path(data) / train), image_files(Path(data) / test)
    files = image_files(data)
    if len(files) < HELD_OUT:
        raise InputError(f"--data {data} holds {len(files)} images; give at least {HELD_OUT}, better 200")
    held_out = files[HELD_OUT - 1 :: HELD_OUT]
    return [path for path in files if path not in set(held_out)], held_out


def evenly(paths: list[Path], count: int) -> list[Path]:
    """Return at most `count` of the paths, spread evenly over the list."""
    if len(paths) <= count:
        return paths
    return [paths[i * len(paths) // count] for i in range(count)]


def read_images(paths: list[Path], shape: tuple[int, ...]) -> list[Image]:
    """Read image files as uint8 of `shape`, [H, W, C]. Raises InputError for a file that is no whole image."""
    return [fit(read_image(path, channels=shape[2]), shape) for path in paths]


def drawn_images(shape: tuple[int, ...]) -> list[Image]:
    """Return the same twelve uint8 images of `shape`, [H, W, C], every time: what a network may meet.

    Black, white, grey, a gradient, noise, smooth noise, and six label-map-like pictures of flat rectangles.
    """
    random = np.random.default_rng(0)
    height, width, channels = shape
    across = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height).astype(np.uint8)[:, None], (height, width))
    coarse = random.integers(0, 256, (max(height // 8, 1), max(width // 8, 1), channels), np.uint8)
    return [
        *(np.full((height, width, channels), level, np.uint8) for level in (0, 128, 255)),
        np.ascontiguousarray(np.stack([across, down] * 2, axis=2)[:, :, :channels]),
        random.integers(0, 256, (height, width, channels), np.uint8),
        fit(coarse, shape),
        *(_rectangles((height, width, channels), random) for _ in range(6)),
    ]


def _rectangles(shape: tuple[int, int, int], random: np.random.Generator) -> Image:
    image = np.empty(shape, np.uint8)
    image[:] = random.integers(0, 256, shape[2])
    for _ in range(40):
        top, left = random.integers(0, shape[:2])
        height, width = random.integers(1, np.maximum(np.array(shape[:2]) // 3, 2))
        image[top : top + height, left : left + width] = random.integers(0, 256, shape[2])
    return image
