"""Fixtures shared by every test: a tiny exported graph that inverts, pictures, a video, and where the checkout is."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tests.simulator import Start

# what nohup, and a shell's background, have set would be inherited by what the tests start
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as the commands say
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("PIX2PIX_EDGE_PATIENCE", "12")  # before the package is imported; what is started inherits it

# a busy machine is no defect, and a failure must be there again the next time
settings.register_profile("project", deadline=None, derandomize=True, database=None)
settings.load_profile("project")

REPOSITORY = Path(__file__).resolve().parent.parent

NEEDED = {
    "tensorflow": [
        *(
            f"train/test_{name}.py"
            for name in ("distribution", "judge", "main", "networks", "resume", "shapes", "trainer")
        ),
        "train/measures/test_sets.py",
        "benchmarks/claims/test_train.py",
    ],
    "matplotlib": ["benchmarks/*"],
}
"""Package of an extra -> what cannot be tested without it, as on a board."""

collect_ignore_glob = [
    str(REPOSITORY / "tests" / path)
    for package, paths in NEEDED.items()
    if not importlib.util.find_spec(package)
    for path in paths
]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    random.seed(0)  # Keras draws from it what it gives weights to begin with
    return (yield from _skip_without_tensorflow())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _skip_without_tensorflow())


def _skip_without_tensorflow() -> Generator[None, object, object]:
    """Skip a test where TensorFlow or Keras is absent and the test itself, or train/, imports it: nothing else may."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        importer = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        allowed = any(importer.is_relative_to(REPOSITORY / folder) for folder in ("tests", "train"))
        if error.name not in ("tensorflow", "keras") or not allowed:
            raise
        pytest.skip(f"{error.name} is not installed")


@contextlib.contextmanager
def in_threads(*actions: Callable[[], object]) -> Iterator[None]:
    """Run each in a thread of its own beside the block, and wait for all at its end."""
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def kept_ports(count: int = 1) -> Iterator[list[int]]:
    """Ports at which nobody listens, and which the system gives to nobody else while inside; one may listen there."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in sockets]


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's own cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[int], str]:
    """Takes the exit status of a command that was given bad input, and returns the one line that it said."""

    def line(status: int) -> str:
        error = capsys.readouterr().err
        assert status == 2 and error.startswith("error: ") and error.count("\n") == 1, (status, error)
        return error

    return line


def eventually(condition: Callable[[], object]) -> bool:
    """Wait until something is true: longer than any busy machine needs. Return whether it came to be."""
    until = time.monotonic() + 600
    while not (done := condition()) and time.monotonic() < until:
        time.sleep(0.005)
    return bool(done)


def write_inverter(
    path: Path, size: int | tuple[int, int] = 32, *, batch: int = 1, channels: tuple[int, int] = (3, 3), **names: str
) -> Path:
    """Write an ONNX file of the exported graph's contract: translated = 255 - image, exactly.

    size: of a side, or (height, width). channels: of the image, and how many of them are translated.
    names: input=… or output=… to break the contract.
    """
    import onnx

    from tests.export.arithmetic import model_of

    height, width = (size, size) if isinstance(size, int) else size
    takes, makes = ([batch, height, width, count] for count in channels)
    image, translated = names.get("input", "image"), names.get("output", "translated")
    body = f"""real = Cast <to = 1> ({image})  inverted = Sub (white, real)
        kept = Slice (inverted, first, last, axis)  {translated} = Cast <to = 2> (kept)"""
    constants = {"white": np.float32(255), "first": [0], "last": [makes[3]], "axis": [3]}
    onnx.save(model_of(f"(uint8{takes} {image}) => (uint8{makes} {translated})", body, constants), path)
    return path


def picture(index: int, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Return a smooth RGB picture whose index can be read back, even from a lossy video, with index_of."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = np.linspace(0, 200, width).astype(np.uint8)
    for bit in range(6):  # six vertical bars of the upper half are the index in binary
        if index >> bit & 1:
            image[: height // 2, bit * width // 6 : (bit + 1) * width // 6] = 255
    return image


def index_of(image: NDArray[np.uint8], *, inverted: bool = False) -> int:
    """Read the index that picture() drew, from a picture of any size."""
    height, width = image.shape[:2]
    bars = image[height // 8 : height * 3 // 8, :, 0].astype(float).mean(axis=0)
    means = [bars[bit * width // 6 + width // 24 : (bit + 1) * width // 6 - width // 24].mean() for bit in range(6)]
    return sum(((mean > 127) != inverted) << bit for bit, mean in enumerate(means))


def write_rgb(path: Path, image: NDArray[np.uint8]) -> Path:
    """Write an RGB picture with OpenCV."""
    import cv2

    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def write_video(
    path: Path, count: int, *, fps: float = 25.0, size: tuple[int, int] = (64, 96), codec: str = "mp4v"
) -> Path:
    """Encode picture(0) … picture(count - 1); size is (height, width)."""
    import cv2

    writer = cv2.VideoWriter(str(path), int.from_bytes(codec.encode(), "little"), fps, size[::-1])
    assert writer.isOpened()
    for index in range(count):
        writer.write(np.ascontiguousarray(picture(index, *size)[..., ::-1]))
    writer.release()
    return path


def read_video(path: Path) -> list[NDArray[np.uint8]]:
    """Decode every frame of a video as RGB."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.isOpened(), path
    frames = []
    while (frame := capture.read()[1]) is not None:
        frames.append(frame[..., ::-1])
    return frames


@pytest.fixture(scope="session")
def inverter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported graph, uint8 [1, 32, 32, 3], that inverts its picture exactly."""
    return write_inverter(tmp_path_factory.mktemp("engine") / "inverter.fp32.onnx")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 numbered pictures, 96 × 64 at 25 fps."""
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", 40)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of this machine, signed by nobody, and its key; skips where openssl is missing."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    key, file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(file)]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    return file, key


@pytest.fixture
def simulated_tensorrt() -> Iterator[Start]:
    """Starts a simulated TensorRT, in place of any that is there: tests/simulator."""
    from tests.simulator import simulations

    with simulations() as start:
        yield start


@pytest.fixture(scope="session")
def facades() -> Path:
    """The real facade pairs beside the checkout; skips where they are not."""
    folder = REPOSITORY.parent / "shared" / "data" / "facades"
    if not folder.is_dir():
        pytest.skip("the facade pairs are not beside the checkout")
    return folder
