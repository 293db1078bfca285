"""Pairs of images: reading them, checking them, and feeding them to the trainer. train.pairs.layouts finds them."""

from __future__ import annotations

import os
import re
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
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.train.pairs.matching import MEND, Pair, stop_if_any
from pix2pix_edge.train.pairs.palette import painted

# The paper enlarges to 286 and crops 256 of it; other sizes keep the ratio.
ENLARGED = 286 / 256
KEPT_IN_MEMORY = 1 << 30
SQUARE = 0.05  # halves of a file that holds both may differ from a square, or from the size's form, by so much
Size = int | tuple[int, int]
"""The side of a square, or (height, width)."""


def read_pair(
    pair: Pair, size: Size | None = None, indexed: bool = False, channels: tuple[int, int] = (3, 3)
) -> tuple[Image, Image]:
    """Return label and picture of a pair, [H, W, C] of a size or, where that is None, as they are.

    indexed: label maps hold class indices, which are painted. channels: of label and picture: 1 for grey, 4 with alpha.
    Raises InputError when a file cannot be read, the two differ in size, or one that should hold both is not as wide as
    two of them.
    """
    label = read_image(pair.label, channels=channels[0])
    if pair.label == pair.picture:
        height, width = label.shape[:2]
        across, down = (size[1], size[0]) if isinstance(size, tuple) else (1, 1)
        if width % 2 or abs(width * down - 2 * height * across) > SQUARE * height * across:
            raise InputError(
                f"{pair.label} is {width}x{height}, but a picture and its label side by side are {_wide(across, down)}"
                " together; if they are files of their own, call their folders train_label/ and train_picture/"
            )
        picture, label = label[:, : width // 2], label[:, width // 2 :]
    else:
        picture = read_image(pair.picture, channels=channels[1])
        if label.shape[:2] != picture.shape[:2]:
            sizes = "x".join(map(str, label.shape[1::-1])), "x".join(map(str, picture.shape[1::-1]))
            raise InputError(f"{pair.label} is {sizes[0]} but its picture {sizes[1]}")
        two = label.shape[1] == 2 * label.shape[0] and pair.label.parent == pair.picture.parent
        if two and re.search(r"[_. -][abxy]$", pair.label.stem, re.I):
            raise InputError(
                f"{pair.label} and {pair.picture.name} are twice as wide as tall: if each holds picture and label, end"
                " their names otherwise; if not, move them into train_label/ and train_picture/"
            )
    if indexed:
        label = painted(label, pair.label)
    if size is None:
        return label, picture
    first, second = (as_channels(one, size, count) for one, count in zip((label, picture), channels, strict=True))
    return first, second


def _wide(across: int, down: int) -> str:
    return "twice as wide as tall" if across == down else f"as wide to tall as {2 * across} to {down}"


def as_channels(image: Image, size: Size, count: int) -> Image:
    """Return a picture of a size with 1 (grey, as an engine makes it of RGB), 3 or 4 channels."""
    import cv2

    height, width = (size, size) if isinstance(size, int) else size
    fitted = fit(image, (height, width, max(3, count)))
    return np.asarray(cv2.cvtColor(fitted, cv2.COLOR_RGB2GRAY)[..., None], np.uint8) if count == 1 else fitted


def middle(image: Image, size: tuple[int, int]) -> Image:
    """Return the middle of a picture, [height, width, C]: of one that was enlarged to be cropped, what is seen most."""
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]


class Pairs:
    """Pairs at one size: pairs[i] is (source, target), uint8 [H, W, C] each, as the direction says.

    Up to 1 GiB of them stay in memory once read; the rest is read again each time.
    """

    def __init__(
        self,
        pairs: list[Pair],
        size: Size,
        direction: str,
        indexed: bool = False,
        channels: tuple[int, int] = (3, 3),
    ) -> None:
        """channels: of source and target."""
        self.pairs = pairs
        self.indexed = indexed
        self.size = (size, size) if isinstance(size, int) else size
        self.channels = channels
        self.direction = direction
        self.flip = direction == "picture2label"
        room = KEPT_IN_MEMORY // (sum(channels) * self.size[0] * self.size[1])
        self.memory: list[tuple[Image, Image] | None] = [None] * min(room, len(pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def only(self, pairs: list[Pair]) -> Pairs:
        """Return some of the pairs, with what of them is in memory."""
        chosen = Pairs(pairs, self.size, self.direction, self.indexed, self.channels)
        known = dict(zip(self.pairs, self.memory, strict=False))
        chosen.memory = [known.get(pair) for pair in pairs[: len(chosen.memory)]]
        return chosen

    def at(self, size: tuple[int, int]) -> Pairs:
        """Return the same pairs at another size."""
        return self if self.size == size else Pairs(self.pairs, size, self.direction, self.indexed, self.channels)

    def of_epoch(self, epoch: int) -> Pairs:
        """Return the pairs of an epoch: on disk they are always the same."""
        return self

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        pair = self.memory[index] if index < len(self.memory) else None
        if pair is None:
            channels = self.channels[::-1] if self.flip else self.channels
            pair = read_pair(self.pairs[index], self.size, self.indexed, channels)
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
        if not problems and _lines_of_damage(complaints):
            problems = [
                f"{path} is damaged"
                for pairs, index in work
                for path in pairs.pairs[index].files
                if _complained_about(path)
            ]
    remedies = {problem.partition("; ")[2] for problem in problems}
    shared = remedies.pop() if len(remedies) == 1 and len(problems) >= len(work) else ""
    stop_if_any((problem.partition(";")[0] for problem in problems), data, shared or MEND)


def _problems(pairs: Pairs, index: int) -> list[str]:
    whole = _failure(lambda: pairs[index])
    each = [_failure(partial(read_image, path)) for path in pairs.pairs[index].files] if whole else []
    return [problem for problem in each if problem] or ([whole] if whole else [])


def _failure(read: Callable[[], object]) -> str | None:
    try:
        read()
    except InputError as error:
        return str(error)
    return None


def _complained_about(path: Path) -> bool:
    """Tell whether decoding makes libjpeg complain: a JPEG that is damaged in its middle raises no error."""
    with native_stderr() as complaints:
        read_image(path)
        lines = _lines_of_damage(complaints)
    return any(not _is_padding(line, path) for line in lines)


def _lines_of_damage(complaints: IO[bytes]) -> list[bytes]:
    """Return what decoders say of lost pixels, which libjpeg fills up and goes on.

    Everything else that they say is of colour profiles, unknown tags, odd versions; what they cannot decode is refused
    where it is read.
    """
    complaints.seek(0)
    return [
        line for line in complaints.read().splitlines() if re.match(rb"Corrupt JPEG data|Premature end of JPEG", line)
    ]


def _is_padding(line: bytes, path: Path) -> bool:
    """Tell whether a complaint is of bytes behind the last pixel, which phones and network cameras write.

    A decoder that lost its way ends early too, but then picture data is left over, which looks like noise.
    """
    found = re.search(rb"(\d+) extraneous bytes before marker 0xd9", line)
    if not found:
        return False
    data = path.read_bytes()
    end = data.rfind(b"\xff\xd9")
    return int(found[1]) <= 16 or len(set(data[end - int(found[1]) : end])) <= 4


def prefetch(dataset: Iterable[Any]) -> Iterator[Any]:
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
    image_size: Size,
    batch_size: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    worker: int = 0,
    workers: int = 1,
    replicas: int = 1,
) -> Any:
    """Return one epoch as a tf.data.Dataset of (source, target), float32 [batch_size / replicas, H, W, C] in [-1, 1].

    Order, crops and mirroring follow from seed and epoch alone, so a run that stopped after `skip` batches goes on
    exactly where it was. Pairs enlarged beyond image_size are cropped at random and mirrored half of the time, source
    and target alike. The last batch is left out when it would be smaller.
    """
    import tensorflow as tf

    pairs = pairs.of_epoch(epoch)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    room = (pairs.size[0] - height, pairs.size[1] - width)

    def prepare(index: NDArray[np.int64]) -> Image:
        pair = np.concatenate(pairs[int(index)], axis=2)
        if max(room) > 0:
            random = np.random.default_rng((seed, epoch, int(index)))
            top, left = random.integers(0, room, 2, endpoint=True)
            pair = pair[top : top + height, left : left + width]
            if random.random() < 0.5:
                pair = pair[:, ::-1]
        return np.ascontiguousarray(pair)

    def scaled(pair: Any) -> tuple[Any, Any]:
        pair = tf.ensure_shape(pair, (batch_size // replicas, height, width, sum(pairs.channels)))
        pair = tf.cast(pair, tf.float32) / 127.5 - 1.0
        return pair[..., : pairs.channels[0]], pair[..., pairs.channels[0] :]

    whole = len(pairs) // batch_size
    order = np.random.default_rng((seed, epoch)).permutation(len(pairs))[: whole * batch_size]
    mine = order.reshape(whole, workers, -1)[skip:, worker].ravel()
    dataset = tf.data.Dataset.from_tensor_slices(mine)
    dataset = dataset.map(lambda index: tf.numpy_function(prepare, [index], tf.uint8), num_parallel_calls=2)
    return dataset.batch(batch_size // replicas, drop_remainder=True).map(scaled).prefetch(4)
