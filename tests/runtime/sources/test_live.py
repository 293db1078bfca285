"""Live sources: a real MJPEG camera on loopback, killed and restarted; options, pipelines, and what is never shown."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

from pix2pix_edge.runtime.addresses import Wanted, split_options
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import SOURCE_GAP
from pix2pix_edge.runtime.sources import capture as capture_module
from pix2pix_edge.runtime.sources import live as live_module
from pix2pix_edge.runtime.sources import network, open_source
from pix2pix_edge.runtime.sources.cameras import unmet
from pix2pix_edge.runtime.sources.capture import Capture, open_file
from pix2pix_edge.runtime.sources.gstreamer import csi_pipeline, network_pipeline
from pix2pix_edge.runtime.stream import translate
from tests.conftest import index_of, kept_ports, write_video
from tests.runtime.doubles import Recorder, SlowEngine, served
from tests.runtime.sources.ip_camera import IpCamera
from tests.runtime.sources.rtsp_camera import RtspCamera


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(live_module, "LONGEST_DELAY_S", 0.2)


def test_a_camera_on_the_network_gives_pictures_and_keeps_its_password_to_itself() -> None:
    with IpCamera() as camera:
        source = open_source(f"http://me:secret@127.0.0.1:{camera.port}/video.mjpg?key=abc")
        assert source.live and source.frames is None and source.name == "127.0.0.1"
        frames = [source.read() for _ in range(8)]
        numbers = [index_of(frame.image) for frame in frames if frame]
        assert numbers == list(range(numbers[0], numbers[0] + 8))
        assert [frame.index for frame in frames if frame] == list(range(8))
        assert all(frame and frame.source.startswith("127.0.0.1_") for frame in frames)
        source.close()
        assert source.read() is None


def test_a_camera_that_dies_under_the_stream_is_opened_again(capfd: pytest.CaptureFixture[str]) -> None:
    sink = Recorder()
    with SlowEngine() as engine, kept_ports() as (port,), IpCamera(fps=50, port=port) as first:
        second: list[IpCamera] = []
        revival = threading.Timer(0.8, lambda: second.append(IpCamera(fps=50, port=port)))
        stream = translate(f"http://me:secret@127.0.0.1:{port}/video", engine, [sink])
        for frame in stream:
            if frame.index >= 10 and not first.stopped.is_set():  # the tenth itself may have been dropped
                first.stop()
                revival.start()
            if stream.dropped[SOURCE_GAP] and sink.indices and frame.index > sink.indices[0] + 40:
                break
        stream.close()
        second[0].stop()
    gap = max(after - before for before, after in itertools.pairwise(sink.indices))
    assert stream.dropped[SOURCE_GAP], "the frames of the outage are counted"
    assert stream.dropped.total() >= gap - 1 > 0, "and so is one beside them that was not the newest"
    said = capfd.readouterr().err
    assert said.count("gives no pictures any more") == said.count("is back after") == 1
    assert "http://***@127.0.0.1" in said and "secret" not in said


def test_a_camera_that_falls_silent_is_opened_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It neither sends nor hangs up, as one whose cable was pulled."""
    with IpCamera(fps=50) as camera, SlowEngine() as engine:
        with monkeypatch.context() as patched:  # until it is opened, and not when it is opened again
            patched.setattr(capture_module, "TIMEOUT_MS", 2000)
            stream = translate(f"http://127.0.0.1:{camera.port}/", engine)
        after = 0
        silenced = False
        for frame in stream:
            if frame.index >= 10 and not silenced:
                silenced = True
                camera.silence()
            after += bool(stream.dropped[SOURCE_GAP])
            if after == 10:
                break
        stream.close()
    said = capfd.readouterr().err
    assert said.count("gives no pictures any more") == said.count("is back after") == 1


def test_a_silent_camera_does_not_hold_up_the_end() -> None:
    with IpCamera(fps=50) as camera, SlowEngine() as engine:
        stream = translate(f"http://127.0.0.1:{camera.port}/", engine, ["null"])
        for frame in stream:
            if frame.index > 10:
                camera.silence()
                threading.Timer(0.3, stream.stop).start()
        assert stream.timings.frames
        assert set(stream.left_behind) <= {"capture", "close source"}, "FFmpeg gives up later, in a thread of its own"


def test_a_camera_that_stays_away_does_not_hold_up_the_end() -> None:
    camera = IpCamera(fps=50)
    with SlowEngine() as engine:
        stream = translate(f"http://127.0.0.1:{camera.port}/", engine, ["null"])
        for frame in stream:
            if frame.index > 10 and not camera.stopped.is_set():
                camera.stop()
                threading.Timer(0.7, stream.stop).start()
    assert stream.timings.frames and not stream.left_behind


def test_a_damaged_picture_is_not_the_end_of_a_camera(capfd: pytest.CaptureFixture[str]) -> None:
    with IpCamera(fps=100, sizes=((64, 96), (32, 48))) as camera:  # FFmpeg gives up the first of these
        source = open_source(f"http://127.0.0.1:{camera.port}/")
        assert all(source.read() for _ in range(20))
        source.close()
    assert capfd.readouterr().err == ""


def test_a_video_file_on_a_server_is_a_stored_source(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 12)
    with served(tmp_path) as url:
        source = open_source(f"{url}clip.avi")
        assert not source.live and source.frames == 12
        assert len([frame for frame in iter(source.read, None)]) == 12
        source.close()


def test_an_rtsp_camera_is_killed_and_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with SlowEngine() as engine, kept_ports() as (port,):
        cameras = [RtspCamera(port=port, password="secret")]
        stream = translate(f"rtsp://me:secret@127.0.0.1:{port}/camera", engine, ["null"])
        after = 0
        for frame in stream:
            assert frame.image.shape == (64, 96, 3)
            if frame.index >= 20 and len(cameras) == 1:
                cameras[0].stop()
                cameras.append(RtspCamera(port=port, password="secret"))
            after += bool(stream.dropped[SOURCE_GAP])
            if after > 20:
                break
        stream.close()
        cameras[1].stop()
    said = capfd.readouterr().err
    assert said.count("is back after") == 1 and "secret" not in said


def test_options_behind_the_question_mark() -> None:
    everything = ("size", "format", "flip")
    assert split_options("0", everything) == ("0", Wanted())
    assert split_options("0?size=640x480", everything) == ("0", Wanted(size=(640, 480)))
    address, wanted = split_options("/dev/video2?size=1280x720@59.94&format=mjpg&flip=2", everything)
    assert (address, wanted) == ("/dev/video2", Wanted((1280, 720), 59.94, "MJPG", 2))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("0?zoom=3", r"no option 'zoom'; for example: --source '0\?size=1280x720@30&format=MJPG'"),
        ("0?flip=2", "no option 'flip'"),
        ("0?size=big", "size=big is not understood; write for example size=1280x720@30"),
        ("0?format=H", "format=H is not understood"),
        ("csi://0?flip=9", "flip=9 is not understood"),
        ("csi://front", "write csi://N"),
    ],
)
def test_a_wrong_option_shows_a_right_one(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(spec)


def test_a_camera_that_gives_something_else_is_said_to() -> None:
    wanted = Wanted(size=(800, 600), fps=60)
    assert unmet(wanted, (800, 600), 60.0) == unmet(wanted, (800, 600), None) == unmet(Wanted(), (1, 1), 5.0) == ""
    assert unmet(wanted, (640, 480), 60.0) == "640x480, not 800x600"
    assert unmet(wanted, (800, 600), 15.0) == "15 frames per second, not 60"


def test_pipelines_ask_for_what_was_wanted_and_keep_one_picture() -> None:
    pipeline = csi_pipeline(1, Wanted((1920, 1080), 59.94, None, 2))
    assert pipeline.startswith("nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,")
    assert "framerate=59940/1000" in pipeline and "flip-method=2" in pipeline and "max-buffers=1" in pipeline
    assert "width=1280,height=720,framerate=30/1" in csi_pipeline(0, Wanted())
    quoted = network_pipeline('rtsp://h/a" ! fakesink name="x')
    assert quoted.count(" ! fakesink") == 1 and 'location="rtsp://h/a\\" ! fakesink name=\\"x"' in quoted


def test_on_a_jetson_the_hardware_is_asked_first_and_ffmpeg_when_it_gives_no_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    answers = [Capture(cv2.VideoCapture()), None]  # it does not start; it starts, and gives nothing
    monkeypatch.setattr(network, "probe", lambda: SimpleNamespace(jetson_model="Jetson Orin Nano"))
    monkeypatch.setattr(network, "has_gstreamer", lambda: True)
    monkeypatch.setattr(network, "open_pipeline", lambda pipeline, after: asked.append(pipeline) or answers.pop())
    with RtspCamera() as camera:
        for _ in range(2):
            source = open_source(f"rtsp://127.0.0.1:{camera.port}/video")
            assert source.read() and source.live
            source.close()
    assert len(asked) == 2 and all("decodebin" in pipeline for pipeline in asked)
    assert all(f":{camera.port}" not in pipeline for pipeline in asked), "GStreamer is given the relay's address"


def test_a_capture_is_safe_to_close_while_it_reads(clip: Path) -> None:
    for _ in range(20):
        capture = open_file(str(clip))
        assert capture
        reader = threading.Thread(target=lambda capture=capture: [None for _ in iter(capture.read, None)])
        reader.start()
        capture.close()
        capture.close()
        reader.join(timeout=600)
        assert not reader.is_alive() and capture.read() is None
