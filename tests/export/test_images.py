"""Images to compare on: any folder, evenly chosen, or drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.export.images import drawn_images, evenly, image_files, read_images
from pix2pix_edge.runtime.errors import InputError
from tests.conftest import picture, write_rgb


def test_files_at_any_depth_in_natural_order(tmp_path: Path) -> None:
    for name in ("b/10.png", "b/9.png", "a/1.JPG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_rgb(tmp_path / name, picture(3))
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.name for path in image_files(tmp_path)] == ["1.JPG", "9.png", "10.png"]
    assert image_files(tmp_path / "b" / "9.png") == [tmp_path / "b" / "9.png"]


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        image_files(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        image_files(tmp_path / "missing")


def test_evenly_spreads_over_the_whole_list() -> None:
    paths = [Path(str(n)) for n in range(100)]
    assert [int(path.name) for path in evenly(paths, 4)] == [0, 25, 50, 75]
    assert evenly(paths[:3], 4) == paths[:3]


def test_read_images_are_fitted_and_exact(tmp_path: Path) -> None:
    image = picture(5, 32, 32)
    small, large = read_images(
        [write_rgb(tmp_path / "a.png", image), write_rgb(tmp_path / "b.png", picture(5, 64, 96))], (32, 32, 3)
    )
    assert np.array_equal(small, image)
    assert large.shape == (32, 32, 3) and large.dtype == np.uint8


@pytest.mark.parametrize("size", [8, 64])
def test_drawn_images_are_the_same_each_time_and_hold_the_extremes(size: int) -> None:
    images, again = (drawn_images((size, size, 3)) for _ in range(2))
    assert all(image.shape == (size, size, 3) and image.dtype == np.uint8 for image in images)
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))
    assert {0, 255} <= {int(image.min()) for image in images if image.min() == image.max()}
    assert len({image.tobytes() for image in images}) == len(images)
