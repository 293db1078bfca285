"""A frame on its way, where it comes from and where it goes, and the two pure functions that shape it: fit and view."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.errors import InputError

Image = NDArray[Any]
"""uint8 [H, W, 3], RGB, C-contiguous. What a network takes or gives may have 1 (grey) or 4 channels (RGBA), and what it
gives 16 bits, uint16."""

STAGES = ("capture", "prepare", "engine", "deliver")


@dataclass(slots=True)
class Frame:
    """One picture and what became of it.

    index: its place in the source, from 0; a jump means that the source lost pictures in between.
    captured_at: time.monotonic_ns() when the picture was taken (live) or asked for (stored).
    source: a name without folder or ending, the same picture the same name: what a folder sink calls its file.
    image: as captured. prepared: as the engine takes it. translated: the engine's picture.
    position_ns: when its own video shows it, in nanoseconds from the first frame; None where there is no such clock.
        In a video of variable rate these, and not the rate, say how long a picture is shown.
    timings: stage -> nanoseconds of work, waiting left out; the stages are STAGES, "deliver" of the slowest
        sink so far.
    delivered_at: time.monotonic_ns() when the first sink had taken it, or the caller where there is no sink.
    """

    index: int
    captured_at: int
    source: str
    image: Image
    prepared: Image | None = None
    translated: Image | None = None
    position_ns: int | None = None
    timings: dict[str, int] = field(default_factory=dict)
    delivered_at: int | None = None


def as_image(picture: Any) -> Image:
    """Return what a camera object gave as an Image: grey is repeated, alpha dropped, 16 bits cut to their upper 8.

    picture: uint8 or uint16 [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (RGBA). No copy where none is needed.
    Raises InputError for anything else.
    """
    if not isinstance(picture, np.ndarray) or picture.dtype not in (np.uint8, np.uint16) or picture.size == 0:
        raise InputError(f"the source gave {_shape_of(picture)}; it must give a non-empty uint8 array [H, W, 3], RGB")
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4):
        raise InputError(f"the source gave {_shape_of(picture)}; it must give a uint8 array [H, W, 3], RGB")
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.shape[2] == 1:
        picture = np.repeat(picture, 3, axis=2)
    return np.ascontiguousarray(picture[:, :, :3])


def _shape_of(picture: Any) -> str:
    if isinstance(picture, np.ndarray):
        return f"{picture.dtype}{list(picture.shape)}"
    return f"a {type(picture).__name__}"


def fit(image: Image, shape: tuple[int, ...], mode: str = "stretch") -> Image:
    """Return `image` as [height, width, channels]; `image` itself where it has that shape already.

    shape: (height, width, channels); channels: 3, or 4, of which the last is opaque where the picture has none. mode:
    "stretch" changes the aspect, "crop" cuts the longer side equally at both ends, "pad" adds black bars. Resampled
    with INTER_AREA, as the training reads its pictures: the mean over a pixel's area when shrinking, sharp edges when
    enlarging, so that a label map gains as few mixed colours as can be.
    """
    import cv2

    rows, columns, channels = shape
    if image.shape[2] != channels:
        image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]) if channels == 4 else image[:, :, :3]
    height, width = image.shape[:2]
    if mode == "crop" and height * columns != width * rows:
        scale = min(height / rows, width / columns)
        inner = (min(height, max(1, round(rows * scale))), min(width, max(1, round(columns * scale))))
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        image = image[top : top + inner[0], left : left + inner[1]]
    elif mode == "pad" and height * columns != width * rows:
        scale = min(rows / height, columns / width)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        top, left = (rows - inner[0]) // 2, (columns - inner[1]) // 2
        padded = np.zeros((rows, columns, channels), np.uint8)
        padded[top : top + inner[0], left : left + inner[1]] = fit(image, (*inner, channels))
        return padded
    if image.shape[:2] == (1, 1):  # which OpenCV 4.5.4 takes for damaged
        image = np.broadcast_to(image, (rows, columns, channels))
    elif image.shape[:2] != (rows, columns):
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image)


def view(frame: Frame, mode: str = "output", *, raw: bool = False) -> Image:
    """Return what a sink shows of a translated frame: "output" [H, W, 3], "side-by-side" [H, 2 W, 3], input left.

    raw: of the output alone, the channels and bits that the network gives: for files, which can keep them.
    """
    assert frame.prepared is not None and frame.translated is not None, "the frame has not been translated yet"
    if mode == "side-by-side":
        return np.concatenate([as_image(frame.prepared), as_image(frame.translated)], axis=1)
    return frame.translated if raw else as_image(frame.translated)


STALE = "stale"
"""A newer frame was there before the engine was free, or the frame was older than max_staleness."""

QUEUE_FULL = "queue full"
"""A sink was slower than the stream: counted for each sink that missed the frame."""

SOURCE_GAP = "source gap"
"""The source itself lost it, as its index shows: nobody fetched it in time, or the connection was down."""

RATE_LIMIT = "rate limit"
"""More frames came than max_fps allows."""


class Source(abc.ABC):
    """Where frames come from: derive from it, and set what differs. One thread calls read(); close() may come from any.

    name: for messages and file names; never holds a password. live: time passes whether or not anyone reads, as with a
    camera. frames: how many it will give, None where nobody knows. fps: of its own clock, None where it has none, as a
    folder of images. files: what it reads from disk, which no sink may write over. skipped: files that it was pointed
    at and does not read. outage: while a live one gives nothing, why, since when, and the next try (time.monotonic()),
    None while one is being made.
    """

    name: str = "source"
    live: bool = False
    frames: int | None = None
    fps: float | None = None
    files: Sequence[Path] = ()
    skipped: Sequence[Path] = ()
    outage: tuple[str, float, float | None] | None = None

    @abc.abstractmethod
    def read(self) -> Frame | None:
        """Return the next frame with timings["capture"] set, or None when it has ended.

        Raises BadPictureError for one picture that cannot be used, InputError when there will be no more.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Free the device or file; a second call does nothing. A read() that waits then returns None soon."""


def check_methods(given: object, kind: str, *methods: str) -> None:
    """Raise InputError for an object that lacks a method of what it is to be: a source, a sink."""
    for method in methods:
        if not callable(getattr(given, method, None)):
            raise InputError(f"a {type(given).__name__} is no {kind}: it has no method {method}()")


class BadPictureError(InputError):
    """One picture of a source cannot be used; the next read() gives the one after it, with the next index."""


class ViewerQuitError(Exception):
    """The viewer asked to stop: no error, but the end of the stream."""


@dataclass(frozen=True)
class Recent:
    """The last few seconds: frames delivered, their rate, and percentiles of their age; None where too few came."""

    frames: int
    fps: float | None
    age_p50_ms: float | None
    age_p95_ms: float | None
    age_p99_ms: float | None


@dataclass(frozen=True)
class Histogram:
    """Of all frames: how many took no longer than each bound, in seconds; how many there were; their sum in seconds."""

    below: dict[float, int]
    count: int
    sum_s: float


class Measured(Protocol):
    """What a stream has measured so far. Usable from any thread."""

    @property
    def frames(self) -> int: ...

    def recent(self, seconds: float = 10.0) -> Recent: ...

    def column(self, name: str) -> NDArray[np.int64]: ...

    def ages(self) -> Histogram: ...


class Described(Protocol):
    """What can say, for people, what it is: an engine."""

    def describe(self) -> dict[str, str]: ...


class Watched(Protocol):
    """What a sink may ask of the stream that it shows: a runtime.stream.Stream. Usable from any thread."""

    @property
    def source(self) -> Source: ...

    @property
    def engine(self) -> Described: ...

    @property
    def timings(self) -> Measured: ...

    @property
    def dropped(self) -> Mapping[str, int]: ...


class Sink(abc.ABC):
    """Where translated frames go: derive from it, and set what differs. write() and close() come from one thread.

    name: for messages. newest: a frame replaces the one before, so that none need wait in line on a live source.
    in_main_thread: it must be written by the thread that runs the stream. watched: somebody looks at it while it is
    written, so that a stored source plays at its own rate. stays: with a stored source it is closed only when the
    stream is stopped, so that its last frame can still be looked at. writes: the file, or the folder of files.
    """

    name: str = "sink"
    newest: bool = False
    in_main_thread: bool = False
    watched: bool = False
    stays: bool = False
    writes: Path | None = None

    def attach(self, stream: Watched) -> None:
        """Get to know the stream, once, before the first frame."""
        return

    @abc.abstractmethod
    def write(self, frame: Frame) -> None:
        """Take one translated frame. Raises InputError when it cannot, ViewerQuitError to end the stream."""

    def rest(self) -> None:
        """Called where the sink stays: no more frames come, and close() only when the stream is stopped."""
        return

    @abc.abstractmethod
    def close(self) -> None:
        """Finish what was written; a second call does nothing. Raises InputError when it is not whole."""
