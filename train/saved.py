"""Networks on disk: loaded, checked, put to use as a teacher or as first weights. Importing this loads TensorFlow."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.images import GIT_LFS
from pix2pix_edge.train.networks import generator
from pix2pix_edge.train.settings import Settings, read_settings

NEARLY = 0.05


def load(path: Path) -> Any:
    """Return the network in `path`. Raises InputError when there is none."""
    if not path.exists():
        raise InputError(f"there is no file {path}; give the generator.keras of a run")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the network in it: {shlex.quote(str(path / 'generator.keras'))}")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty; copy it again, or let its run write it again by --resume")
    try:
        network = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError, zipfile.BadZipFile) as error:
        if own := re.search(r"Could not locate (?:class|function) '(\w+)'|`?(Lambda)`? layer", str(error)):
            raise InputError(
                f"{path} has a layer that only its own code knows ({own[1] or own[2]}); convert it as docs/models.md"
                " says, and judge the engine"
            ) from error
        begins = path.read_bytes()[:42]
        if begins[:2] == b"PK":
            raise InputError(f"{path} is damaged; copy it again, or let its run write it again by --resume") from error
        if begins.startswith(GIT_LFS):
            raise InputError(f"{path} is a pointer of Git LFS; fetch the file: git lfs pull") from error
        reason = "it is no zip file" if path.suffix == ".keras" else f"its name ends in {path.suffix or 'no .keras'}"
        if path.suffix == ".h5":
            reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a network saved by Keras ({reason}); make one with: python -m train --data DIR --out RUN"
        ) from error
    if not all(np.isfinite(weight).all() for weight in network.get_weights()):
        raise InputError(f"{path} has weights that are not finite, as its training diverged; take an earlier one")
    return network


def shapes_of(network: Any) -> list[tuple[int | None, ...]]:
    """Return the shapes of a network's inputs."""
    return [tuple(tensor.shape) for tensor in network.inputs]


def ends_of(path: Path, generator: Any) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return (H, W, C) of what the generator in `path` takes and of what it gives.

    Raises InputError for another network.
    """
    ends = [*shapes_of(generator), *(tuple(tensor.shape) for tensor in generator.outputs)]
    if [len(shape) for shape in ends] != [4, 4] or None in ends[0][1:] or ends[0][1:3] != ends[1][1:3]:
        raise InputError(f"{path} is not a generator of this project; give a RUN/generator.keras")
    return ends[0][1:], ends[1][1:]


def check_direction(path: Path, direction: str) -> None:
    """Raise InputError when the network in `path` was trained the other way, as far as its run's settings tell."""
    try:
        own = read_settings(path.parent).direction
    except InputError:  # no settings, or of another program
        return
    if own != direction:
        raise InputError(
            f"{path} was trained with --direction {own}, not {direction}; give the same, or another network"
        )


def teacher_of(settings: Settings) -> keras.Model | None:
    """Return the settings' teacher, folded where it is one of our generators, by its function.

    Raises InputError when it takes other images, or goes the other way.
    """
    if not settings.teacher:
        return None
    path = Path(settings.teacher)
    teacher = load(path)
    takes, gives = ends_of(path, teacher)
    wanted = tuple((*settings.size, count) for count in settings.channels)
    if (takes, gives) != wanted:
        raise InputError(
            f"--teacher {path} makes {list(gives)} of {list(takes)}, and this run {list(wanted[1])} of"
            f" {list(wanted[0])}; give its --image-size and channels, or another teacher"
        )
    check_direction(path, settings.direction)
    check_values(path, teacher, takes)
    first = next((layer for layer in teacher.layers if isinstance(layer, keras.layers.Conv2D)), None)
    if first is not None:
        folded = generator(first.filters, settings.size, channels=settings.channels, folded=True)
        weights = teacher.get_weights()
        if [value.shape for value in weights] == [value.shape for value in folded.get_weights()]:
            folded.set_weights(weights)
            if same_function(teacher, folded, takes):
                teacher = folded
    teacher.trainable = False
    return teacher


def check_values(path: Path, teacher: keras.Model, shape: tuple[int, ...]) -> None:
    """Raise InputError when a teacher's pictures do not have the values of ours, [-1, 1]: by its function."""
    random = np.random.default_rng(0)
    flat = np.broadcast_to(np.linspace(-1, 1, 4).reshape(4, 1, 1, 1), (4, *shape))
    inputs = np.concatenate([random.uniform(-1, 1, (4, *shape)), flat]).astype(np.float32)
    pictures = np.concatenate([np.asarray(teacher(one[None], training=False)) for one in inputs])
    low, high = float(pictures.min()), float(pictures.max())
    if low >= 0 or max(-low, high) > 1 + NEARLY:
        raise InputError(
            f"--teacher {path} gives {low:.2f} to {high:.2f} whatever it is shown, where our pictures are in [-1, 1];"
            " give a teacher with these values, one that ends in tanh"
        )


def same_function(one: keras.Model, other: keras.Model, shape: tuple[int, ...]) -> bool:
    """Tell whether two networks make the same picture of noise, rounding apart."""
    noise = np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype(np.float32)
    return bool(np.allclose(one(noise, training=False), other(noise, training=False), atol=1e-3))


def initialise(settings: Settings, *networks: keras.Model) -> None:
    """Give the networks, of one shape, the weights of --init. Raises InputError when they are of another network."""
    path = Path(settings.init)
    weights = load(path).get_weights()
    if [value.shape for value in weights] != [value.shape for value in networks[0].get_weights()]:
        raise InputError(
            f"--init {path} is no generator of {settings.filters} filters for images of"
            f" {settings.size[1]}x{settings.size[0]}; give its --filters, --image-size and channels"
        )
    for network in networks:
        network.set_weights(weights)
