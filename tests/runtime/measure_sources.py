"""Measure several sources at one engine: python -m tests.runtime.measure_sources ENGINE.onnx [ROUNDS] [SECONDS].

Interleaved, each round with the engine's rate of that moment: one live source at that rate; one at a quarter of it;
four at a quarter each, with moments that are spread evenly, and four that all fire at once, where the last must wait
for three. Then one of four is killed and started again 20 times, and the others' losses stand beside those of a run in
which none is.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.engines.shared import SharedEngine
from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.sources.pattern import TestSource
from pix2pix_edge.runtime.stream import Stream, translate
from pix2pix_edge.runtime.streaming.together import Together
from tests.runtime.sources.ip_camera import IpCamera


class Late(TestSource):
    """A pattern whose first moment is at `begin`, of time.monotonic()."""

    def __init__(self, fps: float, begin: float) -> None:
        super().__init__(256, 256, fps)
        self._begin = begin

    def read(self) -> Frame | None:
        time.sleep(max(0.0, self._begin - time.monotonic()))
        return super().read()


def run(engine: Engine, fps: float, seconds: float, count: int = 1, spread: float = 0.0) -> list[Stream]:
    """Run so many sources for so long, each later by a part of a period than the one before; return their streams."""
    begin = time.monotonic() + 0.2
    sources = [Late(fps, begin + spread * n / fps) for n in range(count)]
    if count == 1:
        streams = {"only": translate(sources[0], engine, ["null"])}
        together = Together(streams)
        _end_after(together, seconds)
    else:
        with SharedEngine(engine, count) as shared:
            streams = {
                f"{n}": translate(s, e, ["null"]) for n, (s, e) in enumerate(zip(sources, shared.shares, strict=True))
            }
            _end_after(Together(streams), seconds)
    return list(streams.values())


def _end_after(together: Together, seconds: float) -> None:
    timer = threading.Timer(seconds, together.stop)
    timer.start()
    together.run()
    timer.join()


def rate(streams: list[Stream]) -> float:
    return sum(stream.timings.fps or 0.0 for stream in streams)


def p99(stream: Stream) -> float:
    return float(np.percentile(stream.timings.column("age"), 99)) / 1e6


def losses(engine: Engine, fps: float, kills: int) -> list[int]:
    """Return what three test sources lose beside a camera that is killed and started again so many times."""
    camera = IpCamera(fps)
    with SharedEngine(engine, 4) as shared:
        sources = [f"http://127.0.0.1:{camera.port}/", *(f"test://256x256@{fps:.2f}",) * 3]
        streams = {
            f"{n}": translate(s, e, ["null"]) for n, (s, e) in enumerate(zip(sources, shared.shares, strict=True))
        }
        together = Together(streams)
        thread = threading.Thread(target=together.run)
        thread.start()
        for _ in range(20):
            time.sleep(1.0)
            if kills:
                camera.stop()
                time.sleep(0.3)
                camera = IpCamera(fps, camera.port)
            else:
                time.sleep(0.3)
        together.stop()
        thread.join()
    camera.stop()
    return [sum(stream.dropped.values()) for stream in list(streams.values())[1:]]


def main() -> None:
    file, rounds, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    shares: dict[str, list[float]] = {}
    with open_engine(file) as engine:
        full = rate(run(engine, 1000.0, seconds))
        for _ in range(rounds):
            full = rate(run(engine, 1.3 * full, seconds))
            begun = time.process_time()
            one = run(engine, full, seconds)
            cost = (time.process_time() - begun) * 1e3 / one[0].timings.frames
            alone = run(engine, full / 4, seconds)[0]
            engine_ms = float(np.median(alone.timings.column("engine"))) / 1e6
            print(
                f"engine {full:.1f} fps, {engine_ms:.1f} ms; one at that {rate(one):.1f} ({cost:.2f} ms CPU each);"
                f" alone at {full / 4:.1f} p99 {p99(alone):.1f} ms"
            )
            for what, spread in (("spread", 0.25), ("at once", 0.0)):
                begun = time.process_time()
                four = run(engine, full / 4, seconds, 4, spread)
                cost = (time.process_time() - begun) * 1e3 / sum(stream.timings.frames for stream in four)
                shares.setdefault(what, []).append(rate(four) / rate(one))
                added = ", ".join(f"{p99(stream) - p99(alone):.1f}" for stream in four)
                total = f"sum {rate(four):.1f} ({shares[what][-1]:.3f}, {cost:.2f} ms CPU each)"
                print(f"  four {what}: {total}; added {added} (allowed {8 + engine_ms:.1f})", flush=True)
        for what, found in shares.items():
            print(f"four {what}: {np.median(found):.3f} of one source at the engine's rate, median of {rounds}")
        for kills in (0, 20):
            print(f"{kills} kills: the others lose {losses(engine, full / 8, kills)}", flush=True)


if __name__ == "__main__":
    main()
