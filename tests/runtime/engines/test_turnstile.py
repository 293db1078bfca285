"""When the next frame of a live stream is let in, and whose."""

from __future__ import annotations

import threading
import time

from pix2pix_edge.runtime.engines.shared import SharedEngine
from pix2pix_edge.runtime.engines.turnstile import Turnstile
from pix2pix_edge.runtime.stream import translate
from pix2pix_edge.runtime.streaming.together import Together
from tests.conftest import eventually, in_threads, picture
from tests.runtime.doubles import Camera, Recorder, SlowEngine


def test_the_gate_opens_shortly_before_the_engine_is_expected_to_be_free() -> None:
    turnstile = Turnstile(1)
    turnstile.wait("a")
    now = time.monotonic_ns()
    turnstile.started("a", now - 100_000_000)
    assert turnstile.finished("a", now) == 100_000_000
    turnstile.prepared(1_000_000)
    turnstile.started("a", begun := time.monotonic_ns())
    turnstile.wait("a")
    assert time.monotonic_ns() - begun > 0.09e9
    assert len(turnstile._started) == 1, "the engine is still busy"


def test_the_gate_lets_no_second_frame_through_that_would_grow_old_while_it_waits() -> None:
    turnstile = Turnstile(1)
    turnstile.wait("a")
    turnstile.prepared(1_000_000)
    passed = threading.Event()
    with in_threads(lambda: (turnstile.wait("a"), passed.set())):
        assert not passed.wait(0.05), "one is ready, and the engine has not begun"
        turnstile.started("a", time.monotonic_ns())
        assert not passed.wait(0.05), "nobody knows yet how long the engine takes"
        turnstile.finished("a", time.monotonic_ns())
        assert eventually(passed.is_set), "the engine is free and nothing is ready"


def test_streams_are_let_in_in_the_order_in_which_they_came_and_one_that_ends_holds_up_nobody() -> None:
    turnstile, let_in = Turnstile(1), []

    def enter(stream: str) -> None:
        turnstile.wait(stream)
        let_in.append(stream)

    turnstile.wait("a")
    threads = []
    for place, stream in enumerate("bcd", start=1):
        threads.append(threading.Thread(target=enter, args=(stream,)))
        threads[-1].start()
        assert eventually(lambda place=place: len(turnstile._line) == place)  # type: ignore[misc]
    turnstile.started("a", time.monotonic_ns())
    turnstile.finished("a", time.monotonic_ns())
    assert eventually(lambda: let_in == ["b"])
    assert turnstile._line == ["c", "d"], "b prepares"
    turnstile.break_open("b")
    assert eventually(lambda: let_in == ["b", "c"])
    turnstile.started("c", time.monotonic_ns())
    turnstile.leave("c")
    for thread in threads:
        thread.join()
    assert let_in == ["b", "c", "d"]


def test_a_camera_gives_its_newest_frame_at_its_turn_and_one_that_is_silent_or_fails_takes_none() -> None:
    go, silence = threading.Event(), threading.Event()
    cameras = [Camera(None, live=True, period_s=0.002) for _ in range(3)]
    cameras += [
        Camera(None, live=True, trouble={0: lambda: silence.wait() and picture(0, 32, 32)}),
        Camera(None, live=True, period_s=0.002, trouble={5: OSError("gone")}),
    ]
    recorders = [Recorder() for _ in cameras]
    with (
        SlowEngine(0.002, trouble=lambda call: go.wait() and None if call == 1 else None) as engine,
        SharedEngine(engine, len(cameras)) as shared,
    ):
        streams = {
            str(number): translate(camera, share, [recorder])
            for number, (camera, share, recorder) in enumerate(zip(cameras, shared.shares, recorders, strict=True))
        }
        together = Together(streams)
        with in_threads(together.run):
            assert eventually(lambda: all(camera.given > 50 for camera in cameras[:3]) and engine.calls)
            go.set()
            assert eventually(lambda: all(len(recorder.indices) > 9 for recorder in recorders[:3]))
            silence.set()
            together.stop()
    assert list(together.failed) == ["4"]
    firsts = [recorder.indices[0] for recorder in recorders[:3]]
    assert sum(first > 45 for first in firsts) >= 2, f"one was in the engine, the others had not chosen yet: {firsts}"
