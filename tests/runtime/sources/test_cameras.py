from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Source
from pix2pix_edge.runtime.sources import open_source
from pix2pix_edge.runtime.sources.pattern import TestSource


class Driver:
    """An industrial camera's driver, as one would write it."""

    def __init__(self, *pictures: object) -> None:
        self.pictures = list(pictures)
        self.closed = 0

    def read(self) -> object:
        return self.pictures.pop(0) if self.pictures else None

    def close(self) -> None:
        self.closed += 1


def test_an_object_with_read_and_close_is_a_source() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    driver = Driver(np.dstack([grey] * 3), grey)
    source = open_source(driver)
    assert isinstance(source, Source) and source.live and source.frames is None
    first, second = source.read(), source.read()
    assert first and second and np.array_equal(first.image, second.image)
    assert [first.index, second.index] == [0, 1] and second.source == "camera_000001"
    assert source.read() is None
    source.close()
    source.close()
    assert driver.closed == 1


def test_garbage_from_a_driver_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"the source gave float64\[2, 2, 3\]"):
        open_source(Driver(np.zeros((2, 2, 3)))).read()


def test_an_object_without_read_is_no_source() -> None:
    with pytest.raises(InputError, match=r"no method read\(\)"):
        open_source(object())


def test_a_source_is_returned_as_it_is() -> None:
    source = TestSource(8, 8, 100)
    assert open_source(source) is source


@pytest.mark.parametrize(
    ("spec", "shape", "fps"),
    [
        ("test://64x32@200", (32, 64), 200.0),
        ("test://20x10", (10, 20), 30.0),
        ("test://", (480, 640), 30.0),
        ("test://8x8@59.94", (8, 8), 59.94),
    ],
)
def test_the_pattern_has_the_size_and_rate_asked_for(spec: str, shape: tuple[int, int], fps: float) -> None:
    source = open_source(spec)
    assert (source.name, source.live, source.frames, source.fps) == ("test", True, None, fps)
    frame = source.read()
    assert frame and frame.image.shape == (*shape, 3) and frame.image.flags.c_contiguous
    source.close()


def test_the_pattern_moves_and_is_the_same_every_time() -> None:
    first, second = open_source("test://64x32@500"), open_source("test://64x32@500")
    pictures = {frame.index: frame.image for frame in (first.read() for _ in range(5)) if frame}
    for frame in (second.read() for _ in range(5)):
        assert frame and (frame.index not in pictures or np.array_equal(frame.image, pictures[frame.index]))
    assert len({picture.tobytes() for picture in pictures.values()}) == 5


def test_the_pattern_is_paced_by_the_clock_and_loses_what_nobody_fetched() -> None:
    source = open_source("test://8x8@100")
    first = source.read()
    time.sleep(0.055)
    late = source.read()
    assert first and late and late.index >= 5, "five pictures were due meanwhile"
    after = source.read()
    assert after and after.captured_at - first.captured_at >= after.index * 10_000_000 * 0.99


def test_close_wakes_a_waiting_read() -> None:
    source = open_source("test://8x8@0.01")
    assert source.read()
    answers: list[object] = []
    reader = threading.Thread(target=lambda: answers.append(source.read()))
    reader.start()
    source.close()
    reader.join(timeout=600)
    assert answers == [None]


@pytest.mark.parametrize(
    "spec", ["test://0x10@30", "test://10x10@0", "test://big", "test://10x10@-1", "test://9x9@1e9"]
)
def test_a_bad_pattern_shows_a_good_one(spec: str) -> None:
    with pytest.raises(InputError, match="test://640x480@30"):
        open_source(spec)


@pytest.mark.parametrize("spec", ["97", "/dev/video97"])
def test_an_absent_camera_is_said_to_be_absent(spec: str) -> None:
    with pytest.raises(InputError, match="there is no camera /dev/video97"):
        open_source(spec)
