from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import EngineError, InputError
from pix2pix_edge.runtime.frame import QUEUE_FULL, RATE_LIMIT, SOURCE_GAP, STAGES, STALE, Frame, ViewerQuitError
from pix2pix_edge.runtime.sinks import open_sink
from pix2pix_edge.runtime.sources import open_source
from pix2pix_edge.runtime.stream import translate
from pix2pix_edge.runtime.streaming.bounded_queue import BoundedQueue, ClosedError
from pix2pix_edge.runtime.streaming.outlets import RECORDER_QUEUE
from pix2pix_edge.runtime.streaming.policy import Pacer, Policy
from pix2pix_edge.runtime.streaming.threads import PREFIX
from tests.conftest import eventually, in_threads, index_of, picture, read_video, write_inverter, write_rgb
from tests.runtime.doubles import Camera, Given, Recorder, SlowEngine, leaves_nothing, stream_threads


def test_translate_gives_every_frame_in_order_with_its_timings(inverter: Path, clip: Path) -> None:
    with open_engine(inverter, backend="onnxruntime") as engine:
        stream = translate(str(clip), engine)
        frames = list(stream)
    assert [frame.index for frame in frames] == list(range(40))
    for frame in frames:
        assert frame.prepared is not None and frame.translated is not None and frame.delivered_at is not None
        assert np.array_equal(frame.translated, 255 - frame.prepared)
        assert set(frame.timings) == set(STAGES) and frame.timings["engine"] > 0
        assert frame.delivered_at > frame.captured_at
    pictures = [frame.translated for frame in frames if frame.translated is not None]
    assert [index_of(image, inverted=True) for image in pictures] == list(range(40))
    assert stream.timings.frames == 40 and stream.timings.fps and not stream.dropped and not stream_threads()


def test_stages_run_in_threads_of_their_own_and_sinks_are_closed_by_the_thread_that_wrote_them() -> None:
    seen: set[str] = set()
    sink, other = Recorder(name="a"), Recorder(name="a")
    with SlowEngine(trouble=lambda call: seen.update(stream_threads())) as engine:
        translate(Camera(20), engine, [sink, other]).run()  # more than the stages together can hold
    assert seen >= {f"{PREFIX}{stage}" for stage in ("capture", "prepare", "translate")}
    assert sink.threads == {f"{PREFIX}deliver a"} and other.threads == {f"{PREFIX}deliver a (1)"}
    assert not stream_threads()


@pytest.mark.parametrize("end", ["exhausted", "limit", "break", "stop", "quit", "unused", "close"])
def test_everything_is_closed_once_however_the_stream_ends(end: str) -> None:
    camera = Camera(20)
    sinks = [Recorder(), Recorder(trouble={2: ViewerQuitError()} if end == "quit" else {})]
    with SlowEngine() as engine:
        stream = translate(camera, engine, sinks, limit=3 if end == "limit" else None)
        assert sinks[0].stream is stream
        with stream:
            for frame in [] if end == "unused" else stream:
                if frame.index == 2:
                    if end == "break":
                        break
                    if end in ("stop", "close"):
                        getattr(stream, end)()
        stream.close()
    assert (camera.closed, sinks[0].closed, sinks[1].closed) == (1, 1, 1)
    assert sinks[0].indices == list(range(len(sinks[0].indices))), "in order, none missing"
    exact = {"exhausted": 20, "limit": 3, "unused": 0}
    assert len(sinks[0].indices) == exact.get(end, len(sinks[0].indices)) and not stream_threads()
    assert stream.exhausted == (end == "exhausted") or end in ("stop", "quit", "break", "close")


def test_leaving_a_for_loop_without_with_ends_the_threads() -> None:
    sink = Recorder()
    with SlowEngine(0.005) as engine:
        for frame in translate(Camera(None), engine, [sink]):
            if frame.index == 3:
                break
        gc.collect()
        assert not stream_threads() and sink.closed == 1


def test_a_stream_runs_once() -> None:
    with SlowEngine() as engine:
        stream = translate(Camera(2), engine)
        assert len(list(stream)) == 2
        with pytest.raises(RuntimeError, match="runs once"):
            list(stream)


def test_the_camera_gives_and_the_sink_takes_while_the_engine_computes() -> None:
    captured, written, together = threading.Event(), threading.Event(), []
    camera = Camera(10, trouble={5: lambda: captured.set() or picture(5)})
    sink = Recorder(trouble={1: written.set})

    def meanwhile(call: int) -> None:
        if call == 4:  # the frame of index 3
            together.append(captured.wait(60) and written.wait(60))

    with SlowEngine(trouble=meanwhile) as engine:
        translate(camera, engine, [sink]).run()
    assert together == [True] and sink.indices == list(range(10))


def test_every_frame_loses_none_whatever_the_sinks_do() -> None:
    slow, fast = Recorder(delay_s=0.005), Recorder()
    with SlowEngine() as engine:
        stream = translate(Camera(100), engine, [slow, fast])
        for frame in stream:
            if frame.index % 10 == 0:
                time.sleep(0.005)
    assert slow.indices == fast.indices == list(range(100)) and not stream.dropped


def test_every_frame_of_a_live_source_when_asked() -> None:
    sink = Recorder(delay_s=0.002)
    with SlowEngine(0.002) as engine:
        stream = translate(Camera(50, live=True), engine, [sink], policy="every_frame")
        stream.run()
    assert sink.indices == list(range(50)) and not stream.dropped


def test_a_live_source_faster_than_the_engine_stays_fresh_and_its_losses_are_counted() -> None:
    camera, sink = Camera(60, live=True, period_s=0.001), Recorder()
    with SlowEngine(trouble=lambda call: eventually(lambda: camera.given >= min(60, 3 * call)) and None) as engine:
        stream = translate(camera, engine, [sink])
        stream.run()
    assert sink.indices[-1] == 59, "the newest is never the one that is dropped"
    assert stream.dropped[STALE] == 60 - len(sink.indices) > 20
    assert sink.indices == sorted(set(sink.indices))


def test_a_slow_sink_of_a_live_source_stalls_neither_the_engine_nor_the_other_sink() -> None:
    enough, waited = threading.Event(), []

    class Slow(Recorder):
        def write(self, frame: Frame) -> None:
            waited.append(enough.wait(60))
            enough.set()  # or the camera would go on for ever
            super().write(frame)

    class Fast(Recorder):
        def write(self, frame: Frame) -> None:
            super().write(frame)
            if len(self.indices) == 40:  # while the other one is in its first
                enough.set()

    class UntilEnough(Camera):
        def read(self) -> object:
            return None if enough.is_set() else super().read()

    slow, fast = Slow(name="slow"), Fast(name="fast")
    with SlowEngine() as engine:
        stream = translate(UntilEnough(None, live=True, period_s=0.002), engine, [slow, fast])
        stream.run()
    assert all(waited)
    outlets = {outlet.name: outlet for outlet in stream.outlets}
    assert outlets["slow"].dropped >= 40 - RECORDER_QUEUE - 1
    assert outlets["slow"].dropped + outlets["fast"].dropped == stream.dropped[QUEUE_FULL]
    assert outlets["slow"].dropped + outlets["slow"].written == outlets["fast"].dropped + outlets["fast"].written
    assert "deliver slow" in stream.timings.table() and slow.indices == sorted(slow.indices)


def test_a_caller_slower_than_a_live_source_gets_the_newest() -> None:
    camera = Camera(40, live=True, period_s=0.001)
    with SlowEngine() as engine:
        stream = translate(camera, engine)
        indices = []
        for frame in stream:
            indices.append(frame.index)
            assert eventually(lambda: camera.given >= min(40, 4 * len(indices)))
    assert len(indices) < 30 and stream.dropped[QUEUE_FULL] > 0 and indices == sorted(set(indices))


def test_a_sink_of_the_main_thread_is_written_there_and_by_nobody_else() -> None:
    class Window(Recorder):
        in_main_thread = True

    window, file = Window(name="window"), Recorder(name="file")
    with SlowEngine() as engine:
        stream = translate(Camera(10), engine, [window, file])
        stream.run()
        assert window.threads == {threading.current_thread().name} and window.indices == file.indices == list(range(10))
        window, file = Window(trouble={4: ViewerQuitError()}), Recorder()
        indices = [frame.index for frame in translate(Camera(10), engine, [window, file])]
    assert indices == [0, 1, 2, 3] and (window.closed, file.closed) == (1, 1)


def test_max_staleness_drops_what_is_too_old() -> None:
    def late() -> Iterator[Frame]:
        """A camera whose driver hands over every other picture an hour late."""
        for index in range(10):
            time.sleep(0.02)
            yield Frame(index, time.monotonic_ns() - (index % 2) * 3600 * 10**9, "late", picture(1))

    sink = Recorder()
    with SlowEngine() as engine:
        stream = translate(Given(late(), live=True), engine, [sink], max_staleness=1800)
        stream.run()
    assert sink.indices and all(index % 2 == 0 for index in sink.indices) and stream.dropped[STALE] >= 5


def test_max_fps_drops_from_a_live_source_and_slows_a_stored_one() -> None:
    with SlowEngine() as engine:
        live = translate(Camera(50, live=True), engine, [Recorder()], max_fps=0.001)
        live.run()
        stored = translate(Camera(10), engine, sink := [Recorder()], max_fps=50)
        begun = time.monotonic()
        stored.run()
    assert live.dropped[RATE_LIMIT] == 49
    assert sink[0].indices == list(range(10)) and not stored.dropped and time.monotonic() - begun > 8 / 50


def test_pictures_that_the_source_lost_are_counted() -> None:
    with SlowEngine() as engine:
        stream = translate(Given(Frame(index, 0, "g", picture(1)) for index in (0, 1, 5, 6, 10)), engine)
        assert len(list(stream)) == 5
    assert stream.dropped == {SOURCE_GAP: 6}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "newest"}, "no policy newest"),
        ({"policy": "freshest"}, "of a file nothing is dropped"),
        ({"max_staleness": 1.0}, "--max-staleness is for"),
        ({"max_fps": 0.0}, "--max-fps"),
        ({"slots": 3}, "2 slots"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_and_the_source_closed(options: dict[str, object], message: str) -> None:
    camera, sink = Camera(), Recorder()
    with SlowEngine() as engine, pytest.raises(InputError, match=message):
        translate(camera, engine, [sink], **options)  # type: ignore[arg-type]
    assert camera.closed == 1


def test_auto_is_freshest_for_live_sources_only_with_one_frame_in_the_engine() -> None:
    live = Policy.choose("auto", live=True, slots=None, engine_slots=2)
    stored = Policy.choose("auto", live=False, slots=None, engine_slots=2)
    assert (live.freshest, live.slots, stored.freshest, stored.slots) == (True, 1, False, 2)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_fit_decides_how_a_frame_meets_the_square(inverter: Path, tmp_path: Path, fit: str) -> None:
    write_rgb(tmp_path / "wide.png", np.full((10, 40, 3), 200, np.uint8))
    with open_engine(inverter, backend="onnxruntime") as engine:
        (frame,) = translate(tmp_path, engine, fit=fit)
    assert frame.translated is not None
    assert (frame.translated == 255).any() == (fit == "pad"), "only bars of black become white"


def test_sinks_may_be_named_as_on_the_command_line(tmp_path: Path, clip: Path) -> None:
    with SlowEngine() as engine:
        translate(str(clip), engine, [str(tmp_path / "o.mp4"), "null"], view="side-by-side").run()
        with pytest.raises(InputError, match="nothing it can write"):
            translate(str(clip), engine, [str(tmp_path / "p.mp4"), "x.exe"])
    images = read_video(tmp_path / "o.mp4")
    assert len(images) == 40 and images[0].shape == (32, 64, 3) and [p.name for p in tmp_path.iterdir()] == ["o.mp4"]


def test_an_engine_with_a_batch_is_refused(tmp_path: Path) -> None:
    with (
        open_engine(write_inverter(tmp_path / "b.onnx", batch=4), backend="onnxruntime") as engine,
        pytest.raises(EngineError, match="batch of 1"),
    ):
        translate(Camera(1), engine)


def test_a_video_of_a_live_source_lasts_as_long_as_it_took(tmp_path: Path) -> None:
    sink, captured_ns = open_sink(tmp_path / "o.mp4", fps=50, live=True), []
    write = sink.write
    sink.write = lambda frame: (captured_ns.append(frame.captured_at), write(frame))
    with SlowEngine(0.05) as engine:
        translate(Camera(40, live=True, period_s=0.02), engine, [sink]).run()
    with contextlib.closing(open_source(tmp_path / "o.mp4")) as source:
        shown_ns = [frame.position_ns for frame in iter(source.read, None)]
    assert shown_ns == pytest.approx([moment - captured_ns[0] for moment in captured_ns], abs=1e6)


def test_threads_and_files_are_given_back(clip: Path, tmp_path: Path) -> None:
    def run(number: int) -> None:
        translate(str(clip), engine, [str(tmp_path / f"{number}.mp4")]).run()
        translate("test://64x48@400", engine, ["null"], limit=10).run()

    with SlowEngine() as engine:
        run(0)
        with leaves_nothing():
            for number in range(5):
                run(number)


@pytest.mark.slow
def test_memory_stays_where_it_is_over_20000_frames() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with SlowEngine() as engine:
        for frame in translate(Camera(20_000), engine, [Recorder()]):
            if frame.index == 500:
                early = resident()
        assert frame.index == 19_999 and resident() - early < 10e6


def test_a_queue_is_bounded_and_in_order() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    got: list[int | None] = []
    with in_threads(lambda: got.extend(queue.get() for _ in range(6))):
        for item in range(1, 6):
            assert queue.put(item) is None
        queue.end()
    assert got == [1, 2, 3, 4, 5, None]
    with pytest.raises(ClosedError):
        queue.put(6)


def test_a_dropping_queue_keeps_the_newest_and_says_which_went() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2, drops=True)
    assert [queue.put(item) for item in (1, 2, 3, 4)] == [None, None, 1, 2]
    assert [queue.get(), queue.get(), queue.get(wait=False)] == [3, 4, None]


def test_abort_wakes_both_sides_and_forgets() -> None:
    full: BoundedQueue[int] = BoundedQueue(1)
    full.put(1)
    errors: list[object] = []

    def put() -> None:
        try:
            full.put(2)
        except ClosedError as error:
            errors.append(error)

    with in_threads(put):
        time.sleep(0.02)
        full.abort()
    assert len(errors) == 1 and full.get() is None


@pytest.mark.parametrize(("rate", "wanted"), [(30, 10), (30, 30), (25, 10), (120, 50)])
def test_the_pacer_keeps_the_mean_rate(rate: int, wanted: int) -> None:
    pacer, unlimited = Pacer(wanted), Pacer(None)
    taken = sum(pacer.delay(round(index * 1e9 / rate)) == 0 for index in range(rate * 10))
    assert taken == pytest.approx(min(rate, wanted) * 10, rel=0.03)
    assert [unlimited.delay(now) for now in (5, 9, 3)] == [0, 0, 0]
