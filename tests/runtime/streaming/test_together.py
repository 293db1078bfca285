from __future__ import annotations

import threading

import pytest

from pix2pix_edge.runtime.engines.shared import SharedEngine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.stream import translate
from pix2pix_edge.runtime.streaming.together import Together
from tests.conftest import eventually, in_threads
from tests.runtime.doubles import Camera, Recorder, SlowEngine


def test_one_that_fails_one_that_hangs_and_one_whose_sink_hangs_leave_the_others_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    over = threading.Event()
    hangs = lambda: over.wait() and None  # noqa: E731
    cameras = {
        "well": Camera(200),
        "live": Camera(60, live=True, period_s=0.01),
        "dies": Camera(trouble={5: InputError("unplugged")}),
        "hangs": Camera(trouble={5: hangs}),
        "stuck": Camera(),
    }
    sinks = {name: Recorder(trouble={3: hangs} if name == "stuck" else {}) for name in cameras}
    with SlowEngine(0.001) as engine, SharedEngine(engine, len(cameras)) as shared:
        streams = {
            name: translate(camera, share, [sinks[name]])
            for (name, camera), share in zip(cameras.items(), shared.shares, strict=True)
        }
        together = Together(streams)
        with in_threads(together.run):
            assert eventually(lambda: len(sinks["well"].indices) == 200 and sinks["live"].closed)
            assert sinks["well"].indices == list(range(200)) and sinks["live"].indices[-1] == 59
            assert sinks["dies"].indices == list(range(5)) and str(together.failed["dies"]) == "unplugged"
            assert sinks["hangs"].indices == list(range(5)) and sinks["stuck"].indices == list(range(3))
            over.set()
            together.stop()
    assert list(together.failed) == ["dies"]
    assert "dies has ended: unplugged" in capsys.readouterr().err
    assert all(sink.closed == 1 for sink in sinks.values()) and all(camera.closed == 1 for camera in cameras.values())


def test_stopping_ends_all_in_order() -> None:
    sinks = [Recorder() for _ in range(3)]
    with SlowEngine(0.001) as engine, SharedEngine(engine, 3) as shared:
        streams = {
            str(number): translate(Camera(None), share, [sink])
            for number, (share, sink) in enumerate(zip(shared.shares, sinks, strict=True))
        }
        together = Together(streams)
        with in_threads(together.run):
            assert eventually(lambda: all(len(sink.indices) > 5 for sink in sinks))
            together.stop()
    for sink in sinks:
        assert sink.indices == list(range(len(sink.indices))) and sink.closed == 1
    assert not any(stream.finished or stream.left_behind for stream in streams.values())
