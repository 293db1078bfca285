"""What one training run was asked to do, kept beside its results so that it can be resumed."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from pix2pix_edge.runtime.cli import at_least
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.sidecar import from_json, read_json

DIRECTIONS = ("label2picture", "picture2label")
OTHER_NAMES = ("AtoB", "BtoA")  # of directions; A is the left half, or the folder of that name
ADVERSARIAL = ("hinge", "cross-entropy")
SCHEDULES = ("constant", "linear")
PRECISIONS = ("float32", "bfloat16")
FORMAT = "pix2pix-edge-run/3"


def add_direction(parser: argparse.ArgumentParser) -> None:
    """Add --direction, for what reads pairs without a run's settings."""
    names = (*DIRECTIONS, *OTHER_NAMES)
    parser.add_argument("--direction", choices=names, default=DIRECTIONS[0], help="what becomes what")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Every option that decides what the weights become; the defaults are this project's recipe.

    But for finish, so that a run of before is not finished when it is resumed: the recipe has 1.
    """

    data: str = ""
    epochs: int = 100
    finish: int = 0  # epochs more, in inference mode
    batch_size: int = 1
    filters: int = 64
    discriminator_filters: int | None = None  # of the discriminators, where they are not as wide as the generator
    image_size: int = 256  # the height; and the width, where that is not said
    image_width: int | None = None
    input_channels: int = 3
    output_channels: int = 3
    direction: str = "label2picture"
    adversarial: str = "hinge"
    scales: int = 2
    feature_weight: float = 10.0
    l1_weight: float = 10.0
    fringe_weight: float = 50.0
    teacher: str = ""
    learning_rate: float = 2e-4
    discriminator_rate: float = 4e-4
    schedule: str = "linear"
    average: float = 0.999  # how much of the averaged weights each step keeps; 0: no average is kept
    precision: str = "float32"
    validation: int = 0
    augment: bool = True
    even_light: bool = False
    seed: int = 0
    limit: int | None = None
    samples: str = ""
    init: str = ""
    palette: bool = False
    pairs: int | None = None  # found on disk: the order of the pairs follows from their number
    teacher_sha256: str = ""  # found on disk: another file would teach other pictures

    @property
    def last(self) -> int:
        """Number of the last epoch, finishing included."""
        return self.epochs + self.finish

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.image_size, self.image_width or self.image_size

    @property
    def channels(self) -> tuple[int, int]:
        """Of the images that the generator takes, and of those that it gives."""
        return self.input_channels, self.output_channels


def size_of(text: str) -> tuple[int, int]:
    """Return (height, width) of S or WxH, for argparse."""
    width, x, height = text.lower().partition("x")
    sides = at_least(1)(height if x else width), at_least(1)(width)
    if any(side % 16 or not 32 <= side <= 2048 for side in sides):
        raise argparse.ArgumentTypeError(f"must be S or WxH, multiples of 16 from 32 to 2048, got {text}")
    return sides


# "paper" is the article's: Isola et al. 2017, by its loop of 50 epochs.
RECIPES = {
    "sharp": Settings(finish=1),
    "paper": Settings(
        epochs=50,
        adversarial="cross-entropy",
        scales=1,
        feature_weight=0.0,
        l1_weight=100.0,
        fringe_weight=0.0,
        discriminator_rate=2e-4,
        schedule="constant",
        average=0.0,
    ),
}


# A resumed run may be told to train longer, and its files may have moved; anything else would be another run.
MAY_CHANGE = {"epochs", "finish", "data", "teacher", "samples", "init"}


def settings_path(run: Path) -> Path:
    return run / "settings.json"


def write_settings(run: Path, settings: Settings) -> None:
    """Write RUN/settings.json. Raises InputError when the folder cannot be written."""
    with written_beside(settings_path(run)) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(settings)}, indent=2) + "\n")


def read_settings(run: Path) -> Settings:
    """Return the settings of the run in `run`. Raises InputError when there is none that this version can read."""
    path = settings_path(run)
    if not path.exists():
        raise InputError(f"{run} holds no run to resume; leave out --resume to start one there")
    try:
        return from_json(Settings, read_json(path, FORMAT))
    except (ValueError, InputError) as error:
        raise InputError(f"{path} cannot be read ({error}); start a new run in another folder") from error


def resumed(saved: Settings, given: dict[str, object]) -> Settings:
    """Return the saved settings with the given options on top. Raises InputError when they would change the result."""
    whole = dataclasses.replace(saved, **given)  # type: ignore[arg-type]
    may_change = set(MAY_CHANGE)
    if bool(saved.teacher) != bool(whole.teacher):
        may_change.remove("teacher")
    before, now = ({**vars(one), "image_size": "{1}x{0}".format(*one.size)} for one in (saved, whole))
    differing = [
        f"--{name.replace('_', '-')} {before[name]} (now {now[name]})"
        for name in before
        if name not in may_change | {"image_width"} and before[name] != now[name]
    ]
    if differing:
        raise InputError(
            f"the run was started with {', '.join(differing)}; leave the option out, or start a new run with"
            " another --out"
        )
    return whole
