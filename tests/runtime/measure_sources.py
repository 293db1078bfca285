"""Measure several sources at one engine: python -m tests.runtime.measure_sources ENGINE.onnx [ROUNDS] [SECONDS].

Interleaved: one live source faster than the engine; one at a quarter of that rate; four at a quarter each. Then one of
four is killed and started again 20 times, and the others' losses stand beside those of a run in which none is.
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
from pix2pix_edge.runtime.stream import Stream, translate
from pix2pix_edge.runtime.streaming.together import Together
from tests.runtime.sources.ip_camera import IpCamera


def run(engine: Engine, sources: list[str], seconds: float) -> list[Stream]:
    """Run the sources at once for so long, and return their streams."""
    if len(sources) == 1:
        streams = {"only": translate(sources[0], engine, ["null"])}
        together = Together(streams)
        _end_after(together, seconds)
    else:
        with SharedEngine(engine, len(sources)) as shared:
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
    with open_engine(file) as engine:
        image = np.zeros(engine.input.shape, np.uint8)
        begun = time.monotonic()
        for _ in range(100):
            engine(image)
        full = f"test://256x256@{130 / (time.monotonic() - begun):.0f}"  # faster than the engine
        quarter = rate(run(engine, [full], seconds)) / 4
        for _ in range(rounds):
            one = run(engine, [full], seconds)
            alone = run(engine, [f"test://256x256@{quarter:.2f}"], seconds)[0]
            four = run(engine, [f"test://256x256@{quarter:.2f}"] * 4, seconds)
            engine_ms = float(np.median(alone.timings.column("engine"))) / 1e6
            added = [p99(stream) - p99(alone) for stream in four]
            print(
                f"one {rate(one):.1f} fps; four at {quarter:.1f}: sum {rate(four):.1f} ({rate(four) / rate(one):.3f});"
                f" engine {engine_ms:.1f} ms; alone p99 {p99(alone):.1f} ms, added"
                f" {', '.join(f'{ms:.1f}' for ms in added)} (allowed {8 + engine_ms:.1f})",
                flush=True,
            )
        for kills in (0, 20):
            print(f"{kills} kills: the others lose {losses(engine, quarter / 2, kills)}", flush=True)


if __name__ == "__main__":
    main()
