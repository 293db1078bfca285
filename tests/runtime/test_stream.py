from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.engine import open_engine
from runtime.errors import EngineError, InputError
from runtime.frame import STAGES, Frame
from runtime.sinks import ViewerQuitError, open_sink
from runtime.stream import SOURCE_GAP, translate
from tests.conftest import index_of, picture, write_inverter, write_rgb


class Recorder:
    """A sink that keeps what it gets and fails on demand."""

    def __init__(self, fail_at: int = -1, error: Exception | None = None) -> None:
        self.indices: list[int] = []
        self.closed = 0
        self.stream: object = None
        self._fail_at, self._error = fail_at, error

    def attach(self, stream: object) -> None:
        self.stream = stream

    def write(self, frame: Frame) -> None:
        if frame.index == self._fail_at and self._error:
            raise self._error
        self.indices.append(frame.index)

    def close(self) -> None:
        self.closed += 1


class Camera:
    """Gives numbered pictures; counts how often it was closed."""

    def __init__(self, count: int) -> None:
        self.left, self.closed = list(range(count)), 0

    def read(self) -> np.ndarray | None:
        return picture(self.left.pop(0), 64, 64) if self.left else None

    def close(self) -> None:
        self.closed += 1


def test_translate_gives_every_frame_in_order_with_its_timings(inverter: Path, clip: Path) -> None:
    with open_engine(inverter, backend="onnxruntime") as engine:
        stream = translate(str(clip), engine)
        frames = list(stream)
    assert [frame.index for frame in frames] == list(range(40))
    for frame in frames:
        assert frame.prepared is not None and frame.translated is not None
        assert np.array_equal(frame.translated, 255 - frame.prepared)
        assert set(frame.timings) == set(STAGES) and frame.timings["engine"] > 0
    assert [index_of(frame.translated, inverted=True) for frame in frames if frame.translated is not None] == list(
        range(40)
    )
    assert stream.timings.frames == 40 and stream.timings.fps and not +stream.dropped


def test_everything_is_closed_once_however_the_stream_ends(inverter: Path) -> None:
    with open_engine(inverter, backend="onnxruntime") as engine:
        for end in ("exhausted", "limit", "break", "stop", "quit", "unused"):
            camera = Camera(5)
            sinks = [Recorder(), Recorder(2, ViewerQuitError()) if end == "quit" else Recorder()]
            stream = translate(camera, engine, sinks, limit=3 if end == "limit" else None)
            assert sinks[0].stream is stream
            with stream:
                for frame in [] if end == "unused" else stream:
                    if frame.index == 2:
                        if end == "break":
                            break
                        if end == "stop":
                            stream.stop()
            stream.close()
            assert (camera.closed, sinks[0].closed, sinks[1].closed) == (1, 1, 1), end
            wanted = {"exhausted": 5, "unused": 0}.get(end, 3)
            assert len(sinks[0].indices) == wanted, end
            assert stream.exhausted == (end == "exhausted")


def test_a_failing_sink_ends_the_stream_and_the_others_are_still_closed(inverter: Path) -> None:
    with open_engine(inverter, backend="onnxruntime") as engine:
        camera, good, bad = Camera(5), Recorder(), Recorder(1, InputError("the disk is full"))
        with pytest.raises(InputError, match="the disk is full"):
            list(translate(camera, engine, [bad, good]))
        assert (camera.closed, good.closed, bad.closed) == (1, 1, 1)


def test_a_failing_close_does_not_keep_the_others_open(inverter: Path, tmp_path: Path) -> None:
    class Broken(Recorder):
        def close(self) -> None:
            super().close()
            raise InputError("cannot finish")

    with open_engine(inverter, backend="onnxruntime") as engine:
        camera, sinks = Camera(2), [Broken(), open_sink(tmp_path / "out.mp4"), Broken()]
        with pytest.raises(InputError, match="cannot finish"):
            list(translate(camera, engine, sinks))
    assert camera.closed == 1 and (tmp_path / "out.mp4").exists()


def test_pictures_that_the_source_lost_are_counted(inverter: Path) -> None:
    class Gappy:
        name, live, frames, fps = "gappy", True, None, 30.0

        def __init__(self) -> None:
            self.indices = [0, 1, 5, 6, 9]

        def read(self) -> Frame | None:
            return Frame(self.indices.pop(0), 0, "g", picture(1)) if self.indices else None

        def close(self) -> None:
            pass

    with open_engine(inverter, backend="onnxruntime") as engine:
        stream = translate(Gappy(), engine)
        assert len(list(stream)) == 5
    assert stream.dropped == {SOURCE_GAP: 5}


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_fit_decides_how_a_frame_meets_the_square(inverter: Path, tmp_path: Path, fit: str) -> None:
    write_rgb(tmp_path / "wide.png", np.full((10, 40, 3), 200, np.uint8))
    with open_engine(inverter, backend="onnxruntime") as engine:
        (frame,) = translate(tmp_path, engine, fit=fit)
    assert frame.translated is not None
    assert (frame.translated == 255).any() == (fit == "pad"), "only bars of black become white"


def test_an_engine_with_a_batch_is_refused(tmp_path: Path) -> None:
    with (
        open_engine(write_inverter(tmp_path / "b.onnx", batch=4), backend="onnxruntime") as engine,
        pytest.raises(EngineError, match="batch of 1"),
    ):
        translate(Camera(1), engine)
