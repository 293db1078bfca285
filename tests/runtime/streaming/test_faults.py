"""What goes wrong around a stream: it must end within two seconds, close everything, and say so once."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime import stream as stream_module
from pix2pix_edge.runtime.errors import EngineError, InputError
from pix2pix_edge.runtime.sinks import open_sink
from pix2pix_edge.runtime.stream import Stream, translate
from tests.commands import python, start
from tests.conftest import REPOSITORY, eventually, index_of, picture, read_video
from tests.runtime.doubles import Camera, Recorder, SlowEngine, stream_threads

SCRIPT = REPOSITORY / "runtime" / "run.py"


@contextlib.contextmanager
def ends() -> Iterator[None]:
    """What hangs below hangs for ever: whoever waits for it fails here, later than any busy machine needs."""
    faulthandler.dump_traceback_later(600, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def forever() -> Iterator[threading.Event]:
    """What a source waits for that hangs; it is let go at the end, for the next test counts the threads."""
    yield (event := threading.Event())
    event.set()
    assert eventually(lambda: not stream_threads())


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hangs is left behind after three seconds, as these tests are about it."""
    monkeypatch.setattr(stream_module, "DRAIN_S", 1.0)
    monkeypatch.setattr(stream_module, "LEAVE_S", 3.0)


def stop_once(stream: Stream, condition: Callable[[], object]) -> None:
    """Stop a stream from another thread when something has come true."""
    threading.Thread(target=lambda: eventually(condition) and stream.stop()).start()


@pytest.mark.parametrize("live", [True, False])
def test_a_source_that_raises(live: bool) -> None:
    camera, sink = Camera(live=live, period_s=0.01, trouble={7: OSError("the cable is out")}), Recorder()
    with SlowEngine() as engine, pytest.raises(OSError, match="the cable is out"):
        translate(camera, engine, [sink]).run()
    assert (camera.closed, sink.closed) == (1, 1) and eventually(lambda: not stream_threads())
    assert live or sink.indices == list(range(7)), "what came before the error is delivered"


def test_frames_before_an_error_reach_the_loop_and_the_error_surfaces_once() -> None:
    stream = None
    seen = []
    with SlowEngine() as engine:
        with pytest.raises(OSError), translate(Camera(trouble={5: OSError("gone")}), engine) as stream:
            for frame in stream:
                seen.append(frame.index)
        stream.close()
    assert seen == [0, 1, 2, 3, 4]


def test_a_source_that_stalls_in_read_is_left_behind(
    soon: None, forever: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = threading.Event()
    camera, sink = Camera(live=True, trouble={3: lambda: reading.set() or forever.wait()}), Recorder()
    with SlowEngine() as engine:
        stream = translate(camera, engine, [sink])
        stop_once(stream, lambda: reading.is_set() and sink.indices)
        with ends():
            stream.run()
    assert stream.left_behind == ["capture"] and (camera.closed, sink.closed) == (1, 1) and sink.indices
    assert capsys.readouterr().err.count("capture still hangs") == 1


def test_a_source_whose_close_stalls_too(soon: None, forever: threading.Event) -> None:
    class Stuck(Camera):
        def close(self) -> None:
            forever.wait()

    def stall() -> None:
        stream.stop()  # only now, so that the capture is surely in read()
        forever.wait()

    with SlowEngine() as engine, ends():
        stream = translate(Stuck(live=True, trouble={3: stall}), engine, [Recorder()])
        stream.run()
    assert stream.left_behind == ["capture", "close source"]


@pytest.mark.parametrize(
    ("garbage", "message"),
    [
        (np.zeros((2, 2), np.float32), r"float32\[2, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8\[0, 4, 3\]"),
        (np.zeros((4, 4, 5), np.uint8), r"uint8\[4, 4, 5\]"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"uint8\[2, 3, 4, 5\]"),
        ("picture", "a str"),
    ],
)
def test_a_source_that_gives_garbage_is_told_what_it_gave(garbage: object, message: str) -> None:
    sink = Recorder()
    with SlowEngine() as engine, pytest.raises(InputError, match=message):
        translate(Camera(trouble={3: garbage}), engine, [sink]).run()
    assert sink.indices == [0, 1, 2] and sink.closed == 1


def test_a_source_may_change_its_size_shape_and_depth(tmp_path: Path) -> None:
    odd = {
        2: picture(2, 48, 128), 3: picture(3, 33, 17), 4: picture(4, 64, 64).astype(np.uint16) * 257,
        5: np.full((1, 1, 3), 255, np.uint8), 6: picture(6, 64, 64)[..., 2], 7: picture(7, 900, 1600)[:, ::-1],
    }  # fmt: skip
    with SlowEngine() as engine:
        frames = list(translate(Camera(12, trouble=odd), engine, [open_sink(tmp_path / "o.mp4")]))
    assert len(read_video(tmp_path / "o.mp4")) == 12 and frames[3].image.shape == (33, 17, 3)
    shown = [frame.translated for frame in frames if frame.translated is not None]
    assert [index_of(image, inverted=True) for image in shown[:5]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("live", [True, False])
def test_a_sink_that_raises_ends_all_and_the_others_keep_their_files(tmp_path: Path, live: bool) -> None:
    camera = Camera(None, live=live, period_s=0.002)
    bad = Recorder(trouble=dict.fromkeys(range(20, 100_000), InputError("the disk is full")))
    with SlowEngine() as engine, pytest.raises(InputError, match="the disk is full"), ends():
        translate(camera, engine, [bad, open_sink(tmp_path / "o.mp4"), Recorder()]).run()
    assert (camera.closed, bad.closed) == (1, 1) and eventually(lambda: not stream_threads())
    assert read_video(tmp_path / "o.mp4")


def test_the_error_of_a_write_is_not_hidden_by_the_error_of_the_close() -> None:
    class Broken(Recorder):
        def close(self) -> None:
            super().close()
            raise InputError("cannot finish")

    with SlowEngine() as engine:
        with pytest.raises(InputError, match="cannot write"):
            translate(Camera(), engine, [Broken(trouble={1: InputError("cannot write")})]).run()
        sinks = [Broken(), Recorder()]
        with pytest.raises(InputError, match="cannot finish"):
            translate(Camera(2), engine, sinks).run()
    assert [sink.closed for sink in sinks] == [1, 1] and sinks[1].indices == [0, 1]


@pytest.mark.parametrize("live", [True, False])
def test_a_sink_that_blocks_is_left_behind_after_a_stop(live: bool, soon: None, tmp_path: Path) -> None:
    block = threading.Event()
    blocked = Recorder(trouble=dict.fromkeys(range(100_000), block.wait), name="tape")
    camera = Camera(None, live=live, period_s=0.01)
    with SlowEngine() as engine:
        stream = translate(camera, engine, [blocked, open_sink(tmp_path / "o.mp4")])
        _, film = stream.outlets
        stop_once(stream, lambda: film.written > (10 if live else 0))
        with ends():
            stream.run()
        assert stream.left_behind == ["deliver tape"] and camera.closed == 1
        frames = len(read_video(tmp_path / "o.mp4"))
        assert frames > (10 if live else 0), "a live stream goes on without it; of a stored one nothing is dropped"
        block.set()
        assert eventually(lambda: not stream_threads())
    assert blocked.closed == 1, "its own thread closes it once it can"


@pytest.mark.parametrize("always", [True, False])
def test_an_engine_that_raises(always: bool) -> None:
    def trouble(call: int) -> None:
        if call == 5 or always:
            raise EngineError("the GPU fell off")

    camera, sink = Camera(), Recorder()
    with SlowEngine(trouble=trouble) as engine:
        with pytest.raises(EngineError, match="the GPU fell off"):
            translate(camera, engine, [sink]).run()
        assert sink.indices == ([] if always else [0, 1, 2, 3]) and (camera.closed, sink.closed) == (1, 1)
        if not always:  # it has its slots back
            assert len(list(translate(Camera(10), engine))) == 10
    assert eventually(lambda: not stream_threads())


def test_an_engine_that_hangs_is_left_behind(soon: None) -> None:
    forever = threading.Event()
    sink = Recorder()
    with SlowEngine(trouble=lambda call: call == 4 and forever.wait()) as engine:  # type: ignore[arg-type, return-value]
        stream = translate(Camera(), engine, [sink])
        stop_once(stream, lambda: engine.calls == 4 and len(sink.indices) == 3)
        with ends():
            stream.run()
        assert "translate" in stream.left_behind and sink.indices == [0, 1, 2]
        forever.set()


def test_an_error_in_the_loop_itself_finishes_the_files(tmp_path: Path) -> None:
    with (
        SlowEngine() as engine,
        pytest.raises(ZeroDivisionError),
        translate(Camera(None), engine, [open_sink(tmp_path / "o.mp4")]) as stream,
    ):
        for frame in stream:
            if frame.index == 9:
                frame.index // 0
    assert len(read_video(tmp_path / "o.mp4")) >= 9 and eventually(lambda: not stream_threads())


def test_a_program_that_ends_inside_the_loop_finishes_its_video(tmp_path: Path) -> None:
    program = """
import sys
from pix2pix_edge.runtime.stream import Stream, translate
from tests.runtime.doubles import Camera, SlowEngine
frames = iter(translate(Camera(None), SlowEngine(), [sys.argv[1]]))
for _ in range(20):
    next(frames)
sys.exit("enough")
"""
    done = python("-c", program, tmp_path / "o.mp4")
    assert (done.returncode, done.stderr) == (1, "enough\n") and len(read_video(tmp_path / "o.mp4")) >= 19


def interrupt(engine: Path, folder: Path, after_s: float, *, source: str, number: signal.Signals) -> int:
    """Send a signal so long after the first frame; return how many frames the video holds."""
    ready, video = folder / "ready.png", folder / "o.mp4"
    words = [SCRIPT, "--engine", engine, "--backend", "onnxruntime", "--source", source, "--sink", video]
    process = start(*words, "--sink", ready, "--loop", "0" if source.endswith(".mp4") else "1")
    eventually(lambda: ready.exists() or process.poll() is not None)
    time.sleep(after_s)
    process.send_signal(number)
    stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, "interrupted\n")
    slow = re.search(r"o\.mp4 was too slow for \d+ frames, and got (\d+)", stdout)  # a live source
    frames, taken = len(read_video(video)), int(slow[1] if slow else stdout.split()[0])
    assert frames >= taken >= 1 and sorted(path.name for path in folder.iterdir()) == ["o.mp4", "ready.png"]
    for path in (ready, video):
        path.unlink()
    return frames


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("kind", ["live", "stored"])
def test_a_signal_at_a_random_moment_leaves_a_video_that_plays(
    inverter: Path, clip: Path, tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    source = str(clip) if kind == "stored" else "test://96x64@200"
    interrupt(inverter, tmp_path, random.Random(f"{kind}{number}").random() / 3, source=source, number=number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_hundred_signals_each_leave_a_video_that_plays(
    inverter: Path, clip: Path, tmp_path: Path, number: signal.Signals
) -> None:
    moments = random.Random(7)
    for attempt in range(100):
        source = str(clip) if attempt % 2 else "test://96x64@200"
        interrupt(inverter, tmp_path, moments.random() / 2, source=source, number=number)


def test_a_signal_ends_a_stream_whose_source_has_stalled(inverter: Path, tmp_path: Path) -> None:
    """The camera gives a picture every hundred seconds: nothing wakes the stream but the signal."""
    words = ["--source", "test://8x8@0.01", "--sink", tmp_path / "o.png", "--backend", "onnxruntime"]
    process = start(SCRIPT, "--engine", inverter, *words)
    assert eventually((tmp_path / "o.png").exists)
    with ends():
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, "interrupted\n")


def test_what_hangs_while_it_is_opened_is_named(inverter: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as camera:  # takes the connection, and says nothing
        address = f"http://me:secret@127.0.0.1:{camera.getsockname()[1]}/x"
        impatient = os.environ | {"PIX2PIX_EDGE_PATIENCE": "2"}
        process = start(SCRIPT, "--engine", inverter, "--source", address, env=impatient)
        with camera.accept()[0]:
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate()
    where = address.replace("me:secret", "***")
    assert (process.returncode, stderr) == (130, f"interrupted: --source {where} hung while it was opened\n")


def test_a_sink_that_blocks_does_not_hold_up_the_end_of_the_process(inverter: Path, tmp_path: Path) -> None:
    """A named pipe that nobody reads blocks whoever opens it for writing."""
    os.mkfifo(pipe := tmp_path / "pipe")
    program = """
import pathlib, sys
from pix2pix_edge.runtime import run, sinks
from pix2pix_edge.runtime.frame import Sink
class Pipe(Sink):
    name = "pipe"
    def write(self, frame):
        pathlib.Path(sys.argv[-1]).with_name("opening").touch()
        open(sys.argv.pop(), "wb")
    def close(self): pass
real = sinks.open_sink
sinks.open_sink = lambda spec, **options: Pipe() if spec == "pipe" else real(spec, **options)
sys.exit(run.main(sys.argv[1:-1]))
"""
    sinks = ["--sink", "pipe", "--sink", tmp_path / "o.mp4", "--sink", tmp_path / "o.png"]
    words = ["--engine", inverter, "--source", "test://8x8@50", *sinks, "--backend", "onnxruntime", pipe]
    process = start("-c", program, *words, env=os.environ | {"PIX2PIX_EDGE_PATIENCE": "3"})
    assert eventually(lambda: (tmp_path / "opening").exists() and (tmp_path / "o.png").exists())
    with ends():
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    assert process.returncode == 130 and re.match(r"\d+ frames? in ", stdout)
    assert "deliver pipe still hangs" in stderr and stderr.endswith("interrupted\n") and read_video(tmp_path / "o.mp4")
