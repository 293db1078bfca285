from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.sinks import open_sink
from pix2pix_edge.runtime.sinks.files import NullSink
from pix2pix_edge.runtime.sinks.video import VIDEO_CODECS, VideoSink
from pix2pix_edge.runtime.sources import open_source
from tests.commands import python, start
from tests.conftest import index_of, picture, read_video
from tests.runtime.doubles import frame, noise


def test_a_folder_has_a_png_per_frame_named_by_its_source(tmp_path: Path) -> None:
    sink = open_sink(f"{tmp_path}/new/deep/")
    for index in (3, 4):
        sink.write(frame(index, name=f"house.{index}"))
    sink.close()
    assert sorted(p.name for p in (tmp_path / "new/deep").iterdir()) == ["house.3.png", "house.4.png"]
    written = cv2.imread(str(tmp_path / "new/deep/house.3.png"))[..., ::-1]
    assert np.array_equal(written, 255 - picture(3, 64, 64))


def test_a_folder_replaces_the_files_of_an_earlier_run(tmp_path: Path) -> None:
    for index in (1, 2):
        sink = open_sink(tmp_path, mode="side-by-side")
        sink.write(frame(index, name="a"))
        sink.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    shown = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    assert shown.shape == (64, 128, 3) and index_of(shown[:, :64]) == 2 and index_of(shown[:, 64:], inverted=True) == 2


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".mov"])
def test_a_video_holds_every_frame_in_order_and_appears_when_closed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    sink = open_sink(str(path), fps=12.5)
    for index in range(30):
        sink.write(frame(index))
    assert not path.exists()
    sink.close()
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert [index_of(image, inverted=True) for image in read_video(path)] == list(range(30))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 12.5


@pytest.mark.parametrize("fps", [None, 7.3, 29.97, 59.94, 240.0])
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_video_of_any_rate_is_found_whole(tmp_path: Path, ending: str, fps: float | None) -> None:
    for count in (1, 2, 61):
        sink = open_sink(tmp_path / f"{count}{ending}", fps=fps)
        for index in range(count):
            sink.write(frame(index))
        sink.close()
        assert len(read_video(tmp_path / f"{count}{ending}")) == count


def test_a_video_without_frames_leaves_nothing_and_an_old_one_alone(tmp_path: Path) -> None:
    old = tmp_path / "out.mp4"
    old.write_bytes(b"old")
    open_sink(old).close()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"] and old.read_bytes() == b"old"


def test_a_frame_of_another_size_is_refused_and_the_video_stays_whole(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    sink.write(frame(1))
    with pytest.raises(InputError, match="cannot take one of"):
        sink.write(frame(2, size=32))
    sink.close()
    assert len(read_video(tmp_path / "out.mp4")) == 1


def test_a_nearly_full_disk_ends_the_video_while_it_still_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    sink.write(frame(1))
    monkeypatch.setattr("pix2pix_edge.runtime.sinks.video.free_bytes", lambda _: 1000)
    with pytest.raises(InputError, match="is full; the video ends after 1 frames"):
        sink.write(frame(2))
    sink.close()
    assert len(read_video(tmp_path / "out.mp4")) == 1


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow beyond 20 kB: the writer's view of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_a_video_that_did_not_reach_the_disk_is_an_error_and_no_file(
    tmp_path: Path, small_files: None, ending: str, encoder: str
) -> None:
    sink = open_sink(tmp_path / f"out{ending}")
    for index in range(40):
        sink.write(noise(index))
    with pytest.raises(InputError, match="not all 40 frames reached the disk"):
        sink.close()
    assert not list(tmp_path.iterdir())


def test_an_image_that_did_not_reach_the_disk_is_an_error_and_no_file(tmp_path: Path, small_files: None) -> None:
    sink = open_sink(tmp_path)
    with pytest.raises(InputError, match=r"cannot write .*n1\.png: File too large"):
        sink.write(noise(1))
    assert not list(tmp_path.iterdir())


def test_an_image_shows_the_newest_frame(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "now.png")
    for index in (1, 2):
        sink.write(frame(index))
    sink.close()
    assert index_of(cv2.imread(str(tmp_path / "now.png"))[..., ::-1], inverted=True) == 2


def test_many_stored_frames_do_not_fit_into_one_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"66 frames do not fit .*now/"):
        open_sink(tmp_path / "now.png", frames=66)


def test_null_takes_anything() -> None:
    sink = open_sink("null")
    assert isinstance(sink, NullSink)
    sink.write(frame())
    sink.close()


@pytest.mark.parametrize("name", ["out/", "out.mp4", "out.png"])
def test_a_sink_below_a_file_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot (write|make)"):
        open_sink(f"{tmp_path}/file/{name}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", ["", "out.mp4", "out.png"])
def test_a_folder_without_permission_cannot_be_written(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        open_sink(tmp_path / name)


@pytest.mark.parametrize("spec", ["out.exe", "rtmp://host/x", "out.txt"])
def test_an_unknown_sink_shows_the_grammar(spec: str) -> None:
    with pytest.raises(InputError, match="window or null"):
        open_sink(spec)


def test_a_codec_that_opencv_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VIDEO_CODECS, ".mp4", ("zzzz",))
    sink = VideoSink(tmp_path / "out.mp4")
    with pytest.raises(InputError, match=r"cannot encode zzzz .*--sink .*out\.mov"):
        sink.write(frame())
    sink.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
@pytest.mark.parametrize("display", [None, "", ":987", "nonsense", "127.0.0.1:987"])
def test_a_window_without_a_display_is_an_error_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, display: str | None
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    if display is not None:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(InputError, match=r"no window can be shown: .*--sink"):
        open_sink("window")


@pytest.fixture
def virtual_display() -> Iterator[str]:
    """A real X server without a screen."""
    if not shutil.which("Xvfb") or not shutil.which("xdotool"):
        pytest.skip("Xvfb and xdotool are not installed")
    server = subprocess.Popen(["Xvfb", "-displayfd", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout
    yield f":{server.stdout.readline().strip()}"
    server.terminate()
    server.wait()


@pytest.mark.parametrize("key", ["q", "Escape"])
def test_a_window_shows_the_stream_and_a_key_ends_it(virtual_display: str, inverter: Path, key: str) -> None:
    environment = {**os.environ, "DISPLAY": virtual_display}
    words = ["--engine", inverter, "--source", "test://64x64@30", "--sink", "window", "--backend", "onnxruntime"]
    process = start("runtime/run.py", *words, env=environment)
    subprocess.run(
        ["xdotool", "search", "--sync", "--name", "pix2pix-edge", "key", "--window", "%@", key],
        env=environment,
        check=False,  # the key is released into a window that may be gone already
        capture_output=True,
    )
    stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert "ONNX Runtime" in stdout


@pytest.mark.parametrize("ending", [".webm", ".mkv", ".mp4", ".mov", ".avi"])
def test_a_killed_recording_plays_and_is_kept_under_a_name(tmp_path: Path, ending: str, encoder: str) -> None:
    program = """
import os, pathlib, sys, time, numpy as np
from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.sinks import open_sink
sink, random = open_sink(sys.argv[1], fps=30.0), np.random.default_rng(0)
calm, noise = np.full((128, 128, 3), 90, np.uint8), random.integers(0, 256, (128, 128, 3), np.uint8)
for index in range(400):
    picture = np.roll(noise, index) if sys.argv[1].endswith(".avi") else calm  # Motion JPEG waits in FFmpeg's buffer
    sink.write(Frame(index, 0, "x", picture, prepared=picture, translated=picture))
size, (half,) = 0, pathlib.Path(sys.argv[1]).parent.glob(".writing-*")
while size != (size := half.stat().st_size):  # what was encoded is being written
    time.sleep(0.7)
os.kill(os.getpid(), 9)
"""
    out = tmp_path / f"out{ending}"
    python("-c", program, out)
    open_sink(str(tmp_path / "next.avi")).close()  # at once, as a service that is started again
    kept = [path for path in tmp_path.iterdir() if path.name.startswith("recovered-")]
    assert len(kept) == 1 and kept[0].name.endswith(out.name) and not list(tmp_path.glob(".writing-*"))
    assert len(read_video(kept[0])) >= (200 if ending == ".avi" else 400 - 2 * 30)


@pytest.mark.parametrize("ending", [".webm", ".mkv", ".mp4", ".mov", ".avi"])
def test_a_video_of_variable_rate_keeps_its_timing(tmp_path: Path, ending: str, encoder: str) -> None:
    times = [0, 40, 80, 1080, 1120, 1400, 13_400, 13_440]
    sink = open_sink(tmp_path / f"out{ending}", fps=25.0)
    for index, time_ms in enumerate(times):
        shown = frame(index)
        shown.position_ns = time_ms * 1_000_000
        sink.write(shown)
    sink.close()
    with contextlib.closing(open_source(tmp_path / f"out{ending}")) as source:
        frames = list(iter(source.read, None))
    seen = [index_of(one.image, inverted=True) for one in frames]
    begun = [frames[seen.index(index)].position_ns for index in range(len(times))]
    assert begun == pytest.approx([time_ms * 1_000_000 for time_ms in times], abs=1_000_000)
    assert len(frames) == len(times) or ending == ".avi"


def test_a_pause_of_a_live_source_is_shown_cut(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.webm", fps=25.0, live=True)
    for index, second in enumerate([100, 101, 500, 501]):
        shown = frame(index)
        shown.captured_at = second * 10**9
        sink.write(shown)
    sink.close()
    with contextlib.closing(open_source(tmp_path / "out.webm")) as source:
        assert [one.position_ns for one in iter(source.read, None)] == [0, 10**9, 11 * 10**9, 12 * 10**9]
