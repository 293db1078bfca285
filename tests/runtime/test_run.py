"""runtime/run.py as its users meet it: a process, its output, its files and its exit status."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.commands import run as run_here
from tests.commands import start
from tests.conftest import REPOSITORY, eventually, index_of, picture, read_video, write_rgb, write_video

SCRIPT = REPOSITORY / "runtime" / "run.py"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("OPENCV", "DISPLAY"))}


def in_a_process(*words: object, cwd: Path, **options: object) -> tuple[int, str, str]:
    process = start(SCRIPT, *words, cwd=cwd, env=ENVIRONMENT, **options)
    stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process and a folder of its own; returns its status, output and standard error."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: (run_here(*words), *capfd.readouterr())


def labels(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for index in range(count):
        write_rgb(folder / f"{index}.png", picture(index))
    return folder


def test_a_folder_to_a_folder_side_by_side(inverter: Path, tmp_path: Path) -> None:
    labels(tmp_path / "in")
    code, stdout, stderr = in_a_process(
        "--engine", inverter, "--source", "in", "--sink", "out/", "--view", "side-by-side", cwd=tmp_path
    )
    assert (code, stderr) == (0, "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    for index in range(3):
        shown = cv2.imread(str(tmp_path / f"out/{index}.png"))[..., ::-1]
        assert np.array_equal(shown, np.hstack([picture(index), 255 - picture(index)]))
    assert stdout.startswith("3 frames in ") and " fps" in stdout and "p50 needs 10" in stdout


def test_a_video_to_a_video_and_a_folder_keeps_count_and_order(
    inverter: Path, clip: Path, tmp_path: Path, run: Run
) -> None:
    code, stdout, stderr = run(
        "--engine", inverter, "--source", clip, "--sink", "out.mp4", "--sink", "pictures", "--backend", "onnxruntime"
    )  # fmt: skip
    assert (code, stderr) == (0, "")
    assert [index_of(image, inverted=True) for image in read_video(tmp_path / "out.mp4")] == list(range(40))
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FPS) == 25
    assert len(list((tmp_path / "pictures").iterdir())) == 40
    assert "40 frames" in stdout and "ONNX Runtime" in stdout and "was kept" not in stdout
    for stage in ("capture", "prepare", "engine", "deliver"):
        assert stage in stdout


def test_sound_that_is_left_out_is_said_once(inverter: Path, tmp_path: Path, run: Run) -> None:
    path = write_video(tmp_path / "a.avi", 5)
    path.write_bytes(path.read_bytes() + b"strh8\0\0\0auds")
    _, _, stderr = run("--engine", inverter, "--source", "a.avi", "--loop", 2)
    assert stderr == "warning: a.avi has sound, which is left out\n"


def test_limit_and_loop(inverter: Path, tmp_path: Path, run: Run) -> None:
    labels(tmp_path / "in")
    for arguments, frames in ((("--loop", 4), 12), (("--loop", 0, "--limit", 7), 7), (("--limit", 99), 3)):
        code, stdout, _ = run("--engine", inverter, "--source", "in", *arguments)
        assert code == 0 and stdout.startswith(f"{frames} frames in ")
        assert "no picture was kept or shown: add --sink out/" in stdout


def test_many_frames_have_p99(inverter: Path, tmp_path: Path, run: Run) -> None:
    write_rgb(tmp_path / "a.png", picture(1))
    _, stdout, _ = run("--engine", inverter, "--source", "a.png", "--loop", 500)
    assert "p99" in stdout and "needs" not in stdout


def test_a_signal_while_the_engine_loads_leaves_nothing(inverter: Path, tmp_path: Path) -> None:
    process = start(SCRIPT, "--engine", inverter, "--source", "test://8x8@30", "--sink", "out.mp4", cwd=tmp_path)
    maps = Path(f"/proc/{process.pid}/maps")
    loading = ("onnxruntime_pybind11_state", "libopenvino.so")
    assert eventually(lambda: process.poll() is not None or any(name in maps.read_text() for name in loading))
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert not (tmp_path / "out.mp4").exists() or read_video(tmp_path / "out.mp4")


BAD = {
    "no engine": (["--source", "in"], "arguments are required: --engine; see: runtime/run.py --help"),
    "no source": (["--engine", "ENGINE"], "arguments are required: --source"),
    "absent engine": (["--engine", "x.onnx", "--source", "in"], "there is no file x.onnx; make one with"),
    "absent source": (["--engine", "ENGINE", "--source", "x.mp4"], "there is no file or folder x.mp4"),
    "empty folder": (["--engine", "ENGINE", "--source", "empty"], "holds no images"),
    "text as image": (["--engine", "ENGINE", "--source", "text.jpg", "--sink", "o/"], "text.jpg is not a whole image"),
    "text as video": (["--engine", "ENGINE", "--source", "text.mp4"], "text.mp4 is not a video"),
    "strict": (["--engine", "ENGINE", "--source", "bad", "--strict", "--sink", "o.mp4"], "b.jpg is not a whole image"),
    "truncated engine": (["--engine", "cut.onnx", "--source", "in"], "cut.onnx cannot be opened"),
    "plan": (["--engine", "a.plan", "--source", "in"], "--engine a.onnx"),
    "sink below a file": (["--engine", "ENGINE", "--source", "in", "--sink", "text.jpg/o/"], "cannot make the folder"),
    "sink of unknown kind": (["--engine", "ENGINE", "--source", "in", "--sink", "o.exe"], "nothing it can write"),
    "sink over source": (["--engine", "ENGINE", "--source", "in", "--sink", "in/"], "would write over"),
    "sink over video": (["--engine", "ENGINE", "--source", "text.mp4", "--sink", "text.mp4"], "error"),
    "no display": (["--engine", "ENGINE", "--source", "in", "--sink", "window"], "no window can be shown"),
    "no camera": (["--engine", "ENGINE", "--source", "93"], "there is no camera /dev/video93"),
    "limit 0": (["--engine", "ENGINE", "--source", "in", "--limit", "0"], "must be at least 1"),
    "limit x": (["--engine", "ENGINE", "--source", "in", "--limit", "x"], "expected a whole number, got 'x'"),
    "unknown view": (["--engine", "ENGINE", "--source", "in", "--view", "x"], "invalid choice: 'x'"),
    "freshest of a file": (["--engine", "ENGINE", "--source", "in", "--policy", "freshest"], "nothing is dropped"),
    "staleness of a file": (["--engine", "ENGINE", "--source", "in", "--max-staleness", "1"], "--max-staleness is for"),
    "slots 0": (["--engine", "ENGINE", "--source", "in", "--slots", "0"], "must be at least 1"),
    "unknown option": (["--engine", "ENGINE", "--source", "0?zoom=2"], "has no option 'zoom'; for example"),
    "no GStreamer": (["--engine", "ENGINE", "--source", "csi://0?size=8x8@30&flip=2"], "OpenCV built with GStreamer"),
    "no network camera": (["--engine", "ENGINE", "--source", "rtsp://u:secret@127.0.0.1:9/x"], "rtsp://***@127.0.0.1"),
    "sink at no port": (
        ["--engine", "ENGINE", "--source", "in", "--sink", "http://localhost"],
        "http://127.0.0.1:8080",
    ),
    "network address that is none": (["--engine", "ENGINE", "--source", "rtsp://[::1/x"], "rtsp://[::1/x gives no"),
    "empty source": (["--engine", "ENGINE", "--source", ""], "--source is empty"),
    "empty sink": (["--engine", "ENGINE", "--source", "in", "--sink", ""], "--sink is empty"),
    "sink twice": (["--engine", "ENGINE", "--source", "in", "--sink", "o.mp4", "--sink", "o.mp4"], "is given twice"),
    "token for nobody": (["--engine", "ENGINE", "--source", "in", "--token", "word"], "--token is for a page"),
    "threads without CPUs": (["--engine", "ENGINE", "--source", "in", "--threads", "99999"], "--threads is from 1 to"),
    "loop of live": (["--engine", "ENGINE", "--source", "test://", "--loop", "2"], "--loop is for files"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(
    inverter: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    labels(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "text.mp4").write_text("hello")
    write_rgb(labels(tmp_path / "bad", 1) / "b.jpg", picture(9, 64, 64))
    whole = (tmp_path / "bad/b.jpg").read_bytes()
    (tmp_path / "bad/b.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.onnx").write_bytes(inverter.read_bytes()[:100])
    (tmp_path / "a.onnx").write_bytes(inverter.read_bytes())
    (tmp_path / "a.plan").write_bytes(b"ftrt")
    arguments, message = BAD[case]
    assert run_here(*[inverter if a == "ENGINE" else a for a in arguments]) == 2
    stdout, stderr = capfd.readouterr()
    assert stdout == "" and message in stderr
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".writing-")]


def test_a_truncated_video_is_reported(inverter: Path, tmp_path: Path, run: Run) -> None:
    path = write_video(tmp_path / "clip.avi", 60, size=(128, 128))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    code, _, stderr = run("--engine", inverter, "--source", "clip.avi")
    assert code == 1 and "clip.avi is truncated: it gave" in stderr and "of about 60 frames" in stderr


def test_a_video_that_does_not_fit_the_disk_is_one_line(inverter: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    for index in range(30):
        write_rgb(tmp_path / f"in/{index}.png", noise.integers(0, 256, (32, 32, 3), np.uint8))
    code, stdout, stderr = in_a_process(
        "--engine", inverter, "--source", "in", "--sink", "out.avi", "--backend", "onnxruntime", cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)),
    )  # fmt: skip
    said = [line for line in stderr.splitlines() if not line.startswith("[mjpeg @ ")]  # OpenCV 4.5's FFmpeg
    assert code == 2 and len(said) == 1 and "not all 30 frames reached the disk" in said[0]
    assert stdout == "" and sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("form", [[str(SCRIPT)], [sys.executable, str(SCRIPT)], [sys.executable, "-m", "runtime.run"]])
def test_it_runs_in_three_ways_and_its_help_loads_nothing_heavy(form: list[str], tmp_path: Path) -> None:
    cwd = REPOSITORY if "-m" in form else tmp_path
    environment = {**ENVIRONMENT, "PYTHONPROFILEIMPORTTIME": "1", "PYTHONPATH": ""}
    done = subprocess.run([*form, "--help"], cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    assert "--engine" in done.stdout and "side-by-side" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & {"tensorflow", "onnx", "onnxruntime", "openvino", "cv2", "numpy", "tensorrt"}


def test_as_a_script_our_modules_hide_no_library(tmp_path: Path) -> None:
    probe = "import runpy, sys; runpy.run_path(sys.argv[1]); print([p for p in sys.path if p.endswith('runtime')])"
    done = subprocess.run([sys.executable, "-c", probe, str(SCRIPT)], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


def test_real_label_maps_keep_their_names(inverter: Path, facades: Path, tmp_path: Path, run: Run) -> None:
    code, stdout, _ = run("--engine", inverter, "--source", facades / "test_label", "--sink", "out/")
    assert code == 0 and "66 frames" in stdout
    assert {p.stem for p in (tmp_path / "out").iterdir()} == {p.stem for p in (facades / "test_label").iterdir()}


def test_a_bad_picture_ends_no_run_and_is_named(inverter: Path, tmp_path: Path, run: Run) -> None:
    labels(tmp_path / "in", 5)
    (tmp_path / "in" / "2b.png").write_bytes(b"no picture")
    (tmp_path / "in" / "._3.png").write_bytes(b"what macOS leaves")
    (tmp_path / "in" / "x.heic").write_bytes(b"what a phone takes")
    code, stdout, stderr = run("--engine", inverter, "--source", "in", "--sink", "o/")
    assert code == 1 and "could not be read:" in stdout and "2b.png is not a whole image" in stdout
    assert "skipped" in stderr and "1 .heic" in stderr and "x.heic" in stderr
    assert len(list((tmp_path / "o").iterdir())) == 5


OVERWRITING = {
    "glob": ("in/**/*.png", "in/"),
    "question mark": ("i?/*.png", "in/"),
    "link to the folder": ("in", "link/"),
    "link to a picture": ("links", "in/"),
    "hard link": ("hard", "in/"),
    "picture": ("in/0.png", "in/0.png"),
    "two sinks": ("in", "o.mp4", "./o.mp4"),
}


@pytest.mark.parametrize("case", OVERWRITING)
def test_no_sink_writes_over_what_is_read(
    inverter: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], str]
) -> None:
    monkeypatch.chdir(tmp_path)
    labels(tmp_path / "in", 3)
    (tmp_path / "link").symlink_to("in")
    for folder in ("links", "hard"):
        (tmp_path / folder).mkdir()
    (tmp_path / "links" / "a.png").symlink_to(tmp_path / "in" / "0.png")
    (tmp_path / "hard" / "a.png").hardlink_to(tmp_path / "in" / "0.png")
    before = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    source, *sinks = OVERWRITING[case]
    words = [word for sink in sinks for word in ("--sink", sink)]
    stderr = refused(run_here("--engine", inverter, "--source", source, *words))
    assert "would write over" in stderr or "two sinks write to" in stderr
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_it_runs_with_closed_standard_streams(inverter: Path, tmp_path: Path, closed: str) -> None:
    labels(tmp_path / "in", 3)
    line = f"{sys.executable} {SCRIPT} --engine {inverter} --source in --sink o.avi {closed}"
    assert subprocess.run(line, shell=True, cwd=tmp_path, timeout=300, check=False).returncode == 0
    assert len(read_video(tmp_path / "o.avi")) == 3


def test_sighup_finishes_the_video_and_nohup_ignores_it(inverter: Path, tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--engine", str(inverter), "--source", "test://32x32@30"]
    for ignored in (False, True):
        out = tmp_path / f"{ignored}.avi"
        command = [*words, "--sink", str(out), "--sink", str(out.with_suffix(".png")), "--limit", "1000000"]
        process = subprocess.Popen(
            ["nohup", *command] if ignored else command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert eventually(out.with_suffix(".png").exists)
        process.send_signal(signal.SIGHUP)
        if ignored:
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=1)
            process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 130 and read_video(out)


def test_a_page_stays_after_a_clip_until_ctrl_c_even_where_a_shell_has_ignored_it(
    inverter: Path, clip: Path, tmp_path: Path
) -> None:
    process = start(
        SCRIPT, "--engine", inverter, "--source", clip, "--sink", "http://127.0.0.1:0", "--sink", "out/", cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert eventually(lambda: len(list((tmp_path / "out").glob("*.png"))) == 40)
    moments = [path.stat().st_mtime for path in (tmp_path / "out").iterdir()]
    assert max(moments) - min(moments) > 0.8, "40 pictures at 25 a second: the clip plays at its own rate"
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 0 and stdout.startswith("40 frames") and "interrupted" not in stderr


def test_no_name_steers_the_terminal(inverter: Path, tmp_path: Path, run: Run) -> None:
    write_rgb(labels(tmp_path / "in", 1) / "a.png", picture(1))
    (tmp_path / "in" / "\x1b[31m\x9bbad.png").write_bytes(b"x")
    code, stdout, stderr = run("--engine", inverter, "--source", "in")
    assert code == 1 and r"\x1b[31m\x9bbad.png is not a whole image" in stdout and r"\x1b[31m" in stderr
    assert "\x1b" not in stdout + stderr and "\x9b" not in stdout + stderr


def test_several_sources_at_once_each_with_its_own_sinks_and_numbers(inverter: Path, tmp_path: Path, run: Run) -> None:
    labels(tmp_path / "first")
    labels(tmp_path / "second", 4)
    (tmp_path / "second" / "broken.png").write_bytes(b"no picture")
    both = ("--source", "first", "--source", "second")
    code, stdout, stderr = run(
        *("--engine", inverter, "--backend", "onnxruntime", *both, "--sink", "out/{source}", "--limit", 9)
    )
    assert code == 1 and "broken.png" in stderr, "as of one alone"
    assert [len(list((tmp_path / "out" / name).iterdir())) for name in ("first", "second")] == [3, 4]
    assert "first: 3 frames in " in stdout and "second: 4 frames in " in stdout and stdout.count("ONNX Runtime") == 1
    code, _, stderr = run("--engine", inverter, *both, "--sink", "out")
    assert (
        code == 2
        and stderr.strip() == "error: --sink out would get 2 sources; say where each goes: --sink 'out/{source}/'"
    )


def test_a_source_that_dies_ends_alone_and_the_status_tells(inverter: Path, tmp_path: Path, run: Run) -> None:
    labels(tmp_path / "first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "broken.png").write_bytes(b"no picture")
    code, stdout, stderr = run(
        *("--engine", inverter, "--source", "first", "--source", "second", "--sink", "{source}-out/", "--strict")
    )
    assert code == 2 and "warning: second has ended: " in stderr and stderr.count("error: ") == 1
    assert "first: 3 frames in " in stdout and len(list((tmp_path / "first-out").iterdir())) == 3
