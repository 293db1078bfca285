"""The stages of the GPU report that are no command of the project.

python -m tests.gpu.stages overlap          # do more frames in flight overlap copies with computing?
python -m tests.gpu.stages meter            # does the power meter read?
python -m tests.gpu.stages graphs DIR       # a U-Net of two wide levels in FP32, FP16 and INT8, to build plans of
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pix2pix_edge.benchmarks.machine.power import open_meter
from pix2pix_edge.runtime.engine import open_engine
from tests.gpu.inverting_tensorrt import PLAN, make_module


def overlap(count: int = 2000) -> None:
    """Print frames a second for one, two and three slots; raises AssertionError where a picture is wrong."""
    sys.modules["tensorrt"] = make_module(256, times=201)
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "inverter.plan"
        plan.write_bytes(PLAN)
        rates = {slots: round(_frames_a_second(plan, slots, count)) for slots in (1, 2, 3)}
    print("frames a second by slots, every picture right:", rates)


def _frames_a_second(plan: Path, slots: int, count: int) -> float:
    frames = np.random.default_rng(0).integers(0, 256, (16, 1, 256, 256, 3), dtype=np.uint8)
    pending = []
    with open_engine(plan, slots=slots) as engine:
        start = time.perf_counter()
        for index in range(count + slots):
            if len(pending) == slots or index >= count:
                done, ticket = pending.pop(0)
                np.testing.assert_array_equal(ticket.result(), 255 - frames[done % 16])
            if index < count:
                pending.append((index, engine.submit(frames[index % 16])))
        assert not pending
        return count / (time.perf_counter() - start)


def meter() -> None:
    """Print the meter's last reading after two seconds; ends with an error where it reads nothing."""
    with open_meter() as opened:
        time.sleep(2)
        readings = list(opened.readings)
    if not readings:
        sys.exit("no meter of power reads here; run: pip install nvidia-ml-py")
    print(f"{opened.name}: {len(readings)} readings, the last one {readings[-1]}")


def graphs(folder: str) -> None:
    """Write bench.fp32.onnx, bench.fp16.onnx and bench.int8.onnx, uint8 [1, 256, 256, 3] in and out."""
    from tests.export.small_network import PRECISIONS, write_small_network

    Path(folder).mkdir(parents=True, exist_ok=True)
    for precision in PRECISIONS:
        print(write_small_network(Path(folder) / f"bench.{precision}.onnx", precision, size=256, width=64))


if __name__ == "__main__":
    {"overlap": overlap, "meter": meter, "graphs": graphs}[sys.argv[1]](*sys.argv[2:])
