"""Hand each translated picture to code of your own: any object with write(frame) and close() is a sink.

python examples/03_sink_of_your_own.py
"""

from pathlib import Path

import pix2pix_edge

BUNDLED = Path(pix2pix_edge.__file__).parent


class Brightness:
    """Prints how bright each picture is; it has a thread of its own, so that the engine never waits for it."""

    name = "brightness"

    def write(self, frame: pix2pix_edge.Frame) -> None:
        print(f"{frame.source}: {frame.translated.mean():.0f} of 255")

    def close(self) -> None:
        print("done")


with (
    pix2pix_edge.open_engine(BUNDLED / "models" / "facades.int8.cpu.onnx") as engine,
    pix2pix_edge.translate(BUNDLED / "samples", engine, [Brightness()]) as stream,
):
    stream.run()
