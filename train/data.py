"""Pairs of images on disk: finding them, checking them, and feeding them to the trainer.

Three layouts are recognised, and each says which member of a pair is the label and which the picture:

    {train,test}_label/ and {train,test}_picture/     as the folders are named
    trainA/ and trainB/, testA/ and testB/            A is the picture, B the label
    train/, and test/ or val/, images side by side    the left half is the picture (A), the right half the label (B)

The usual direction, `label2picture`, therefore is what other pix2pix programs call BtoA; `picture2label` is AtoB.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pix2pix_edge.runtime.errors import InputError, native_stderr
from pix2pix_edge.runtime.frame import Image, fit
from pix2pix_edge.runtime.images import list_images, natural_key, read_image

# The paper enlarges to 286 and crops 256 of it; other sizes keep the ratio.
ENLARGED = 286 / 256
KEPT_IN_MEMORY = 1 << 30
NAMED = 20
DRAW = "python -m train.drawings --out DIR --pairs 400"

# Folder of labels, folder of pictures; held-out pairs come from the first that exists.
LAYOUTS = (
    (("train_label", "train_picture"), (("test_label", "test_picture"),)),
    (("trainB", "trainA"), (("testB", "testA"),)),
    (("train", "train"), (("test", "test"), ("val", "val"))),
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one label and its picture; the same file twice when they are side by side in it."""

    label: Path
    picture: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.label, self.picture)))


def find_pairs(data: Path) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs to train on and those held out (perhaps none), in natural order, without opening any.

    Raises InputError when there is no such folder, no layout or several, a side missing or empty, or a file unmatched.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; give --data a folder of pairs, or draw one: {DRAW}")
    present = [layout for layout in LAYOUTS if any((data / folder).is_dir() for folder in layout[0])]
    if not present:
        raise InputError(
            f"{data} holds no pairs: it needs train_label/ and train_picture/, or trainA/ and trainB/, or train/ with"
            f" images side by side; or draw some: {DRAW}"
        )
    if len(present) > 1:
        names = ", ".join(f"{layout[0][0]}/" for layout in present)
        raise InputError(f"{data} holds more than one layout of pairs ({names}); leave only one of them there")
    (train_folders, held_out_folders) = present[0]
    problems: list[str] = []
    train = _matched(data, *train_folders, problems)
    existing = [folders for folders in held_out_folders if any((data / folder).is_dir() for folder in folders)]
    test = _matched(data, *existing[0], problems) if existing else []
    _stop_if_any(problems, data)
    return train, test


def _matched(data: Path, label_folder: str, picture_folder: str, problems: list[str]) -> list[Pair]:
    labels = _by_name(data / label_folder, problems)
    if label_folder == picture_folder:
        return [Pair(path, path) for path in labels.values()]
    pictures = _by_name(data / picture_folder, problems)
    problems += [f"{labels[name]} has no partner in {picture_folder}/" for name in labels.keys() - pictures.keys()]
    problems += [f"{pictures[name]} has no partner in {label_folder}/" for name in pictures.keys() - labels.keys()]
    return [Pair(path, pictures[name]) for name, path in labels.items() if name in pictures]


def _by_name(folder: Path, problems: list[str]) -> dict[str, Path]:
    """Return the images of a folder by stem, a trailing _A or _B apart."""
    files = list_images(folder)
    if not files:
        what = "holds no images" if folder.is_dir() else "does not exist"
        raise InputError(f"{folder} {what}; it needs one image of every pair")
    found: dict[str, Path] = {}
    for path in files:
        name = path.stem[:-2] if path.stem[-2:] in ("_A", "_B") else path.stem
        if found.setdefault(name, path) is not path:
            problems.append(f"{path} has the name of {found[name].name}")
    return found


def _stop_if_any(problems: list[str], data: Path) -> None:
    if not problems:
        return
    problems.sort(key=lambda problem: natural_key(Path(problem)))
    listed = "; ".join(problem.removeprefix(f"{data}{os.sep}") for problem in problems[:NAMED])
    more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    raise InputError(
        f"{len(problems)} of the files in {data} cannot be used: {listed}{more}; mend each, or remove it with its"
        " partner"
    )


def read_pair(pair: Pair, side: int | None = None) -> tuple[Image, Image]:
    """Return label and picture of a pair, both [side, side, 3] or, where side is None, as they are.

    Raises InputError when a file cannot be read or the two differ in size.
    """
    label = read_image(pair.label)
    if pair.label == pair.picture:
        width = label.shape[1]
        if width % 2:
            raise InputError(f"{pair.label} is {width} pixels wide, so it cannot be two images side by side")
        picture, label = label[:, : width // 2], label[:, width // 2 :]
    else:
        picture = read_image(pair.picture)
        if label.shape != picture.shape:
            sizes = "x".join(map(str, label.shape[1::-1])), "x".join(map(str, picture.shape[1::-1]))
            raise InputError(f"{pair.label} is {sizes[0]} but its picture {sizes[1]}")
    if side is None:
        return label, picture
    return fit(label, side), fit(picture, side)


class Pairs:
    """Pairs at one size: pairs[i] is (source, target), uint8 [side, side, 3] each, as the direction says.

    Up to 1 GiB of them stay in memory once read; the rest is read again each time.
    """

    def __init__(self, pairs: list[Pair], side: int, direction: str) -> None:
        self.pairs = pairs
        self.side = side
        self.flip = direction == "picture2label"
        room = KEPT_IN_MEMORY // (2 * 3 * side * side)
        self.memory: list[tuple[Image, Image] | None] = [None] * min(room, len(pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def only(self, pairs: list[Pair]) -> Pairs:
        """Return some of the pairs, with what of them is in memory."""
        chosen = Pairs(pairs, self.side, "picture2label" if self.flip else "label2picture")
        known = dict(zip(self.pairs, self.memory, strict=False))
        chosen.memory = [known.get(pair) for pair in pairs[: len(chosen.memory)]]
        return chosen

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        pair = self.memory[index] if index < len(self.memory) else None
        if pair is None:
            pair = read_pair(self.pairs[index], self.side)
            if index < len(self.memory):
                self.memory[index] = pair
        return pair[::-1] if self.flip else pair


def checked(data: Path, sets: Iterable[Pairs]) -> None:
    """Read every file of the sets once. Raises InputError naming all that are unreadable, damaged or of odd sizes."""
    work = [(pairs, index) for pairs in sets for index in range(len(pairs))]
    with (
        os.fdopen(os.dup(2), "w") as terminal,
        native_stderr() as complaints,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        results = pool.map(lambda item: _problems(*item), work)
        bar = tqdm(results, "checking pairs", len(work), unit="pair", leave=False, disable=None, file=terminal)
        problems = [problem for found in bar for problem in found]
        if not problems and _of_damage(complaints):
            problems = [
                f"{path} is damaged"
                for pairs, index in work
                for path in pairs.pairs[index].files
                if _complained_about(path)
            ]
    _stop_if_any(problems, data)


def _problems(pairs: Pairs, index: int) -> list[str]:
    whole = _failure(lambda: pairs[index])
    each = [_failure(partial(read_image, path)) for path in pairs.pairs[index].files] if whole else []
    return [problem for problem in each if problem] or ([whole] if whole else [])


def _failure(read: Callable[[], object]) -> str | None:
    try:
        read()
    except InputError as error:
        return str(error).partition(";")[0]
    return None


def _complained_about(path: Path) -> bool:
    """Tell whether decoding makes libjpeg complain: a JPEG that is damaged in its middle raises no error."""
    with native_stderr() as complaints:
        read_image(path)
        return _of_damage(complaints)


def _of_damage(complaints: IO[bytes]) -> bool:
    """Tell whether any of them is of pixels; libpng warns of colour profiles and dates, and refuses what is damaged."""
    complaints.seek(0)
    return any(not line.startswith(b"libpng warning") for line in complaints.read().splitlines())


def ahead(dataset: Iterable[Any]) -> Iterator[Any]:
    """Yield a dataset's batches, each fetched while the one before is in use.

    TensorFlow takes half a millisecond to hand over even a batch that is ready: 1.5 % of a step with 16 filters on two
    cores, where all waiting for data was 2.2 %, and is 0.4 % so (median 0.03 ms).
    """
    batches = iter(dataset)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch


def batches(
    pairs: Pairs,
    image_size: int,
    batch_size: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    worker: int = 0,
    workers: int = 1,
    replicas: int = 1,
) -> Any:
    """Return one epoch as a tf.data.Dataset of (source, target), float32 [batch_size / replicas, S, S, 3] in [-1, 1].

    Order, crops and mirroring follow from seed and epoch alone, so a run that stopped after `skip` batches goes on
    exactly where it was. Pairs enlarged beyond image_size are cropped at random and mirrored half of the time, source
    and target alike. The last batch is left out when it would be smaller.
    """
    import tensorflow as tf

    def prepare(index: NDArray[np.int64]) -> Image:
        pair = np.stack(pairs[int(index)])
        if pairs.side > image_size:
            random = np.random.default_rng((seed, epoch, int(index)))
            top, left = random.integers(0, pairs.side - image_size, 2, endpoint=True)
            pair = pair[:, top : top + image_size, left : left + image_size]
            if random.random() < 0.5:
                pair = pair[:, :, ::-1]
        return np.ascontiguousarray(pair)

    def scaled(pair: Any) -> tuple[Any, Any]:
        pair = tf.ensure_shape(pair, (batch_size // replicas, 2, image_size, image_size, 3))
        pair = tf.cast(pair, tf.float32) / 127.5 - 1.0
        return pair[:, 0], pair[:, 1]

    whole = len(pairs) // batch_size
    order = np.random.default_rng((seed, epoch)).permutation(len(pairs))[: whole * batch_size]
    mine = order.reshape(whole, workers, -1)[skip:, worker].ravel()
    dataset = tf.data.Dataset.from_tensor_slices(mine)
    dataset = dataset.map(lambda index: tf.numpy_function(prepare, [index], tf.uint8), num_parallel_calls=2)
    return dataset.batch(batch_size // replicas, drop_remainder=True).map(scaled).prefetch(4)
