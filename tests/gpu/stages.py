"""The stages of the GPU report that are no command of the project.

python -m tests.gpu.stages overlap          # do more frames in flight overlap copies with computing?
python -m tests.gpu.stages meter            # does the power meter read, and more under load than idle?
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
    """Print readings of two idle seconds and of a busy GPU; ends with an error where none is, or none sees the load."""
    with open_meter() as opened:
        time.sleep(2)
        idle = list(opened.readings)
        overlap(4000)
        busy = opened.readings[len(idle) :]
    if not idle or not busy:
        sys.exit("no meter of power reads here; run: pip install nvidia-ml-py")
    watts = [max(reading.watts or 0 for reading in readings) for readings in (idle, busy)]
    print(
        f"{opened.name}: {len(idle)} readings idle, the last one {idle[-1]}; {len(busy)} busy, the last one {busy[-1]}"
    )
    print(f"at most {watts[0]:.1f} W idle, {watts[1]:.1f} W busy")
    if watts[1] < watts[0]:
        sys.exit("the meter does not see the load")


def graphs(folder: str) -> None:
    """Write bench.fp32.onnx, bench.fp16.onnx and bench.int8.onnx, uint8 [1, 256, 256, 3] in and out."""
    from tests.export.small_network import PRECISIONS, write_small_network

    Path(folder).mkdir(parents=True, exist_ok=True)
    for precision in PRECISIONS:
        print(write_small_network(Path(folder) / f"bench.{precision}.onnx", precision, size=256, width=64))


if __name__ == "__main__":
    {"overlap": overlap, "meter": meter, "graphs": graphs}[sys.argv[1]](*sys.argv[2:])
