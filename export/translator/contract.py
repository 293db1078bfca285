"""What a network's numbers mean: which values its pixels have, in which order its channels stand, and in which layout.

A Pixels says how uint8 pictures become the network's input and how its output becomes pictures again, in numpy. The
same conversions as nodes of a graph are in wrap.py; that both agree is checked whenever a file is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pix2pix_edge.runtime.errors import InputError

Range = tuple[float, float]
"""The values that black and white have."""

SYMMETRIC: Range = (-1.0, 1.0)
UNIT: Range = (0.0, 1.0)
LEVELS: Range = (0.0, 255.0)
WHITE = {8: 255, 16: 65535}
"""What white is in a picture of so many bits."""

# The luma of ITU-R BT.601 in fifteen bits, as OpenCV computes it: exact in FP32, and white stays white.
LUMA = (9798 / 32768, 19235 / 32768, 3735 / 32768)

Floats = NDArray[Any]


@dataclass(frozen=True)
class Options:
    """What a user says of a network whose file does not say it; None where it is to be examined.

    size: (height, width). mean, std: per channel, of pictures in [0, 1], as torchvision has them. custom: a Python
    file that registers layers. batch_statistics: batch norm by the statistics of the picture itself. bits: of each
    value of the picture that comes out, 8 or 16.
    """

    size: tuple[int, int] | None = None
    input_range: Range | None = None
    output_range: Range | None = None
    bgr: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    batch_statistics: bool = False
    custom: Path | None = None
    bits: int = 8


@dataclass(frozen=True)
class Pixels:
    """How pictures, uint8 [N, H, W, C] RGB, and what the network takes and gives belong together.

    takes, gives: (height, width, channels). A network that takes one channel is given the grey of RGB pictures. bits:
    of the pictures that it gives, 8 or 16.
    """

    takes: tuple[int, int, int]
    gives: tuple[int, int, int]
    input_range: Range
    output_range: Range
    bgr: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bits: int = 8

    @property
    def picture(self) -> tuple[int, int, int]:
        """The shape of the pictures that it is given."""
        return picture_shape(self.takes)

    def to_network(self, images: NDArray[np.uint8]) -> Floats:
        """Return uint8 [N, H, W, C] as float32 [N, H, W, C] in the network's own values and channels."""
        values = images.astype(np.float32)
        if self.takes[2] == 1:
            values = np.floor(values @ np.array(LUMA, np.float32)[:, None] + np.float32(0.5))
        if self.bgr:
            values = values[..., order(self.takes[2])]
        if self.mean or self.std:
            mean, std = (np.array(v or (d,), np.float32) for v, d in ((self.mean, 0), (self.std, 1)))
            centred: Floats = (values / np.float32(255) - mean) / std
            return centred
        low, high = self.input_range
        scaled: Floats = values / np.float32(255 / (high - low)) + np.float32(low)
        return scaled

    def to_levels(self, values: Floats) -> Floats:
        """Return the network's output as float32 levels 0 … 255 in RGB, neither rounded nor clipped."""
        low, high = self.output_range
        levels: Floats = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
        return levels[..., order(self.gives[2])] if self.bgr else levels

    def to_picture(self, values: Floats) -> Floats:
        """Return the network's output as uint8 or, of 16 bits, uint16 [N, H, W, C], RGB."""
        white = np.float32(WHITE[self.bits])
        levels = self.to_levels(values) * (white / np.float32(255))
        picture: Floats = np.clip(np.round(levels), 0, white).astype(f"uint{self.bits}")
        return picture


def picture_shape(takes: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape of the pictures for a network: one that takes grey is given RGB."""
    return (*takes[:2], 3 if takes[2] == 1 else takes[2])


def order(channels: int) -> list[int]:
    """Return the places that turn RGB to BGR, and back; alpha stays last."""
    return [2, 1, 0, *range(3, channels)] if channels >= 3 else list(range(channels))


def check_options(options: Options) -> None:
    """Raise InputError for ranges, means and deviations that contradict themselves."""
    for name, limits in (("--input-range", options.input_range), ("--output-range", options.output_range)):
        if limits and not limits[0] < limits[1]:
            raise InputError(f"{name} {limits[0]:g},{limits[1]:g} must be the value of black and then that of white")
    if (options.mean or options.std) and options.input_range:
        raise InputError("--mean and --std say what --input-range says; give the one or the other")
    if any(value <= 0 for value in options.std):
        raise InputError("--std must be more than 0 for each channel; torchvision's are 0.229,0.224,0.225")


def described(limits: Range) -> str:
    return f"[{limits[0]:g}, {limits[1]:g}]"
