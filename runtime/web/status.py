"""The numbers of a running stream, for the page and for Prometheus: read once a second, however many ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pix2pix_edge.runtime.board import Board, read_board
from pix2pix_edge.runtime.errors import printable
from pix2pix_edge.runtime.frame import QUEUE_FULL, RATE_LIMIT, SOURCE_GAP, STALE, Histogram, Recent, Watched
from pix2pix_edge.runtime.streaming.timings import AGE
from pix2pix_edge.runtime.web.broadcast import Broadcast
from pix2pix_edge.runtime.web.prometheus import Metrics

FRESH_S = 0.9
"""A status younger than this is given again."""

STALLED_S = 5.0
"""Without a new frame for so long, the stream has stalled."""

RATE_WINDOW_S = 5.0
AGE_WINDOW_S = 30.0
"""Frames that fps and latency are of; the longer, because a p95 needs a hundred."""

HISTORY_S, STEP_S = 600.0, 10.0
"""What the page's chart shows, and of how many seconds each point is."""

NOTHING = Recent(0, None, None, None, None)

CAUSES = (STALE, QUEUE_FULL, SOURCE_GAP, RATE_LIMIT)


@dataclass(frozen=True)
class Outage:
    """Why a source gives nothing, for how long, and in how many seconds it is tried again; None for just now."""

    why: str
    since_s: float
    next_try_s: float | None


@dataclass(frozen=True)
class Status:
    """state: waiting (for the first frame), streaming, stalled or ended. Latency, ages: from capture to delivery.

    view: what is shown until the viewer chooses. among: how many streams the page shows. What is not known, or what
    too few frames support, is None or "".
    """

    state: str
    view: str
    among: int
    frames: int
    frame_age_s: float | None
    uptime_s: float | None
    outage: Outage | None
    fps: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    ages: Histogram
    dropped: dict[str, int]
    viewers: int
    source: str
    engine: str
    precision: str
    device: str
    temperature_c: float | None
    watts: float | None


@dataclass(frozen=True)
class History:
    """fps and latency_ms (the median) of each step, oldest first; None where there was nothing."""

    fps: list[float | None]
    latency_ms: list[float | None]


class StatusBoard:
    """Reads the status of a stream. Usable from any thread."""

    def __init__(
        self, broadcast: Broadcast, viewers: Callable[[], int], mode: str = "output", name: str = "", among: int = 1
    ) -> None:
        """viewers: how many there are now. mode: what is shown until the viewer chooses.

        name: of the source, where the source's own is not its alone. among: how many streams the page shows.
        """
        self._broadcast, self._viewers, self._mode = broadcast, viewers, mode
        self._name, self._among = name, among
        self._stream: Watched | None = None
        self._attached_at: float | None = None
        self._about: dict[str, str] = {}
        self._lock = threading.Lock()
        self._last: tuple[Recent, Recent, Board] | None = None  # what takes time to read
        self._read_at = 0.0

    def attach(self, stream: Watched) -> None:
        """Take the numbers from this stream."""
        self._stream = stream
        self._about = stream.engine.describe()
        self._attached_at = time.monotonic()

    def state(self) -> tuple[str, float | None]:
        """Return Status.state and the seconds since the newest frame, now."""
        newest = self._broadcast.newest_at
        age = None if newest is None else time.monotonic() - newest
        if self._broadcast.ended.is_set():
            return "ended", age
        if age is None:
            return "waiting", None
        return "stalled" if age > STALLED_S else "streaming", age

    def read(self) -> Status:
        """Return the status, at most FRESH_S old, its state and counts up to date; after the end, the last one."""
        state, age = self.state()
        now, stream, about = time.monotonic(), self._stream, self._about
        until = now - (age or 0.0) if state == "ended" else now
        with self._lock:
            if self._last is None or (state != "ended" and now - self._read_at > FRESH_S):
                windows = (RATE_WINDOW_S, AGE_WINDOW_S)
                rate, ages = (stream.timings.recent(seconds) if stream else NOTHING for seconds in windows)
                self._last, self._read_at = (rate, ages, read_board()), now
            rate, ages, board = self._last
        return Status(
            state=state,
            view=self._mode,
            among=self._among,
            frames=stream.timings.frames if stream else self._broadcast.number,
            frame_age_s=age,
            uptime_s=None if self._attached_at is None else max(0.0, until - self._attached_at),
            outage=self._outage(),
            fps=rate.fps,
            latency_p50_ms=ages.age_p50_ms,
            latency_p95_ms=ages.age_p95_ms,
            latency_p99_ms=ages.age_p99_ms,
            ages=stream.timings.ages() if stream else Histogram({}, 0, 0.0),
            dropped=dict.fromkeys(CAUSES, 0) | (dict(stream.dropped) if stream else {}),
            viewers=self._viewers(),
            source=printable(self._name or (stream.source.name if stream else "")),
            engine=f"{about.get('engine', '')} {about.get('version', '')}".strip(),
            precision=about.get("precision", ""),
            device=about.get("device", ""),
            temperature_c=board.temperature_c,
            watts=board.watts,
        )

    def history(self) -> History:
        """Return rate and latency over the last HISTORY_S, in steps of STEP_S, the newest last."""
        steps = round(HISTORY_S / STEP_S)
        fps: list[float | None] = [None] * steps
        latency: list[float | None] = [None] * steps
        if self._stream and self._attached_at is not None:
            delivered, ages = self._stream.timings.column("delivered_at"), self._stream.timings.column(AGE)
            length, now = min(len(delivered), len(ages)), time.monotonic_ns()  # one may have come in between
            edges = now - np.arange(steps, -1, -1) * round(STEP_S * 1e9)
            places = np.searchsorted(delivered[:length], edges)
            known = np.flatnonzero(edges[1:] > self._attached_at * 1e9)
            for step in known:
                first, last = places[step], places[step + 1]
                fps[step] = (last - first) / STEP_S if step > known[0] else None  # the first one is not whole
                latency[step] = float(np.median(ages[first:last])) / 1e6 if last > first else None
        return History(fps, latency)

    def _outage(self) -> Outage | None:
        if not self._stream or (outage := self._stream.source.outage) is None:
            return None
        (why, since, next_try), now = outage, time.monotonic()
        return Outage(printable(why), now - since, max(0.0, next_try - now) if next_try is not None else None)


def as_prometheus(statuses: Sequence[Status]) -> str:
    """Return what streams of one board did in Prometheus' text format, version 0.0.4; what is not known is left out."""
    metrics = Metrics()

    def each(
        name: str, kind: str, help: str, values: Callable[[Status], Mapping[str, float | None]], label: str
    ) -> None:
        """Add a metric with a value, or for each value of `label` one, of every stream."""
        metrics.add(name, kind, help, *(
            ({"source": status.source} | ({label: key} if label else {}), value)
            for status in statuses for key, value in values(status).items()
        ))  # fmt: skip

    def one(name: str, kind: str, help: str, value: Callable[[Status], float | None]) -> None:
        each(name, kind, help, lambda status: {"": value(status)}, "")

    about = ("source", "engine", "precision", "device")
    infos = [{key: getattr(status, key) for key in about if getattr(status, key)} for status in statuses]
    metrics.add("info", "gauge", "What runs.", *((labels, 1) for labels in infos))
    one("streaming", "gauge", "1 while frames come.", lambda status: int(status.state == "streaming"))
    one("frames_total", "counter", "Frames delivered.", lambda status: status.frames)
    each("frames_dropped_total", "counter", "Frames dropped, by cause.", lambda status: status.dropped, "cause")
    one("frames_per_second", "gauge", f"Rate over the last {RATE_WINDOW_S:g} s.", lambda status: status.fps)
    ages = (({"source": status.source}, status.ages) for status in statuses)
    metrics.histogram("latency_seconds", "From capture to delivery.", *ages)
    one("last_frame_age_seconds", "gauge", "Time since the newest frame.", lambda status: status.frame_age_s)
    metrics.add("viewers", "gauge", "Browsers that show the picture.", ({}, statuses[0].viewers))
    metrics.add("board_temperature_celsius", "gauge", "The board's hottest sensor.", ({}, statuses[0].temperature_c))
    metrics.add("board_power_watts", "gauge", "What the board takes.", ({}, statuses[0].watts))
    return str(metrics)
