"""What boards can do at most: dense multiply-adds a second by precision, and memory bandwidth.

From the number of streaming multiprocessors, their clock in the highest power mode, and what one does in a clock; never
from a vendor's "AI performance", which counts sparse matrices and other accelerators. Sources: NVIDIA's Jetson module
data sheets (multiprocessors, clocks, memory), and its architecture papers for the operations in a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# Multiply-adds of one multiprocessor in one clock; a multiply-add is two of the operations that vendors count.
MAXWELL = {"fp32": 128, "fp16": 256}
VOLTA = {"fp32": 64, "fp16": 512, "int8": 1024}
AMPERE = {"fp32": 128, "fp16": 1024, "int8": 2048}
BLACKWELL = {"fp32": 128, "fp16": 4096, "int8": 8192}  # INT8 at the rate of FP8: not verified
CORTEX_A76 = {"fp32": 8, "int8": 32}  # a core: two 128-bit FMLA, two UDOT or SDOT (Arm's optimisation guide of it)


@dataclass(frozen=True)
class BoardSpec:
    """A board in its highest power mode. bandwidth: bytes a second. model: what its device tree says, in part."""

    name: str
    multiprocessors: int
    megahertz: float
    per_clock: dict[str, int]
    bandwidth: float
    model: str

    @property
    def peak(self) -> dict[str, float]:
        """Precision -> dense multiply-adds a second."""
        return {
            precision: self.multiprocessors * self.megahertz * 1e6 * count
            for precision, count in self.per_clock.items()
        }


BOARDS = {
    "nano": BoardSpec("Jetson Nano", 1, 921, MAXWELL, 25.6e9, "Nano"),
    "xavier-nx": BoardSpec("Jetson Xavier NX", 6, 1100, VOLTA, 59.7e9, "Xavier NX"),
    "agx-xavier": BoardSpec("Jetson AGX Xavier", 8, 1377, VOLTA, 136.5e9, "AGX Xavier"),
    "orin-nano-4gb": BoardSpec("Jetson Orin Nano 4GB", 4, 625, AMPERE, 34e9, "Orin Nano 4GB"),
    "orin-nano-4gb-super": BoardSpec("Jetson Orin Nano 4GB Super", 4, 1020, AMPERE, 51e9, "Orin Nano 4GB Super"),
    "orin-nano": BoardSpec("Jetson Orin Nano 8GB", 8, 625, AMPERE, 68e9, "Orin Nano"),
    "orin-nano-super": BoardSpec("Jetson Orin Nano 8GB Super", 8, 1020, AMPERE, 102e9, "Orin Nano Developer Kit Super"),
    "orin-nx-8gb": BoardSpec("Jetson Orin NX 8GB", 8, 765, AMPERE, 102.4e9, "Orin NX 8GB"),
    "orin-nx": BoardSpec("Jetson Orin NX 16GB", 8, 918, AMPERE, 102.4e9, "Orin NX"),
    "orin-nx-super": BoardSpec("Jetson Orin NX 16GB Super", 8, 1173, AMPERE, 102.4e9, "Orin NX Super"),
    "agx-orin-32gb": BoardSpec("Jetson AGX Orin 32GB", 14, 930, AMPERE, 204.8e9, "AGX Orin 32GB"),
    "agx-orin": BoardSpec("Jetson AGX Orin 64GB", 16, 1300, AMPERE, 204.8e9, "AGX Orin"),
    "thor-t4000": BoardSpec("Jetson T4000", 12, 1530, BLACKWELL, 273e9, "T4000"),
    "thor-t5000": BoardSpec("Jetson T5000 (Thor)", 20, 1575, BLACKWELL, 273e9, "Thor"),
    "raspberry-pi-5": BoardSpec("Raspberry Pi 5 (four cores)", 4, 2400, CORTEX_A76, 17e9, "Raspberry Pi 5"),
}


def board_of(model: str, megahertz: float | None = None) -> BoardSpec | None:
    """Return the board that a device tree's model names, the most exact match first; None for any other machine.

    megahertz: the GPU's highest clock in the power mode that is set, where it is known.
    """
    matches = [board for board in BOARDS.values() if all(word in model for word in board.model.split())]
    found = max(matches, key=lambda board: len(board.model), default=None)
    return replace(found, megahertz=megahertz) if found and megahertz else found
