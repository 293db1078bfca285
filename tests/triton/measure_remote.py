"""Measure an engine behind tritonserver on loopback: TRITON_ENV=… python -m tests.triton.measure_remote ENGINE.onnx.

Interleaved streams of the same pictures, in process and through the server; then a server that is away for 10 s.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from pix2pix_edge.export.triton import write_repository
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.stream import Stream, translate
from tests.conftest import picture
from tests.runtime.doubles import Camera
from tests.triton.test_triton_server import Server, free_port

ROUNDS, FRAMES, AWAY_S = 5, 60, 10.0


def stream(engine: Engine, count: int) -> float:
    """Return the frames per second of a stored source."""
    frames = {number: picture(number % 64, 256, 256) for number in range(count)}
    running = translate(Camera(count, trouble=frames), engine, ["null"])
    running.run()
    return running.timings.fps or 0.0


def away(server: Server, engine: Engine, folder: Path, repository: Path) -> Stream:
    """Run a live stream for 30 s, in which the server is away for AWAY_S."""
    running = translate("test://256x256@20", engine, ["null"])
    thread = threading.Thread(target=running.run)
    thread.start()
    time.sleep(5)
    server.stop(signal.SIGKILL)
    before = running.timings.frames
    time.sleep(AWAY_S)
    second = Server(repository, folder / "again", server.port)
    try:
        time.sleep(15)
    finally:
        running.stop()
        thread.join()
        second.stop()
    print(f"away: {before} frames before, {running.timings.frames - before} after; dropped {dict(running.dropped)}")
    return running


def main() -> None:
    file = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_repository(file, folder / "models", name="model")
        server = Server(folder / "models", folder / "server", free_port())
        try:
            server.wait()
            with open_engine(file, backend="onnxruntime") as here, open_engine(server.address("model")) as there:
                for engine in (here, there):
                    stream(engine, 5)
                for _ in range(ROUNDS):
                    own, remote = stream(here, FRAMES), stream(there, FRAMES)
                    print(f"in process {own:.1f} fps, through Triton {remote:.1f}: {remote / own:.3f}", flush=True)
                away(server, there, folder, folder / "models")
        finally:  # so that a measurement cut short leaves no server
            server.stop()


if __name__ == "__main__":
    main()
