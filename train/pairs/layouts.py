"""Pairs of images on disk, in the layouts that people have them in.

Folders say by their names which set they are of and which member of a pair they hold:

    train_label/ train_picture/    test_… or val_…; also train_img/, train_mask/, and so on
    trainA/ trainB/                A is the picture, B the label, as in pix2pix and CycleGAN
    train_A/ train_B/              A is the label, B the picture, as in pix2pixHD
    train/A/ train/B/, A/train/ B/train/, train/images/ train/masks/, input/ target/
    train/                         images side by side (the left half is the picture), or 1_label.png beside 1_real.png

The usual direction, `label2picture`, therefore is what other pix2pix programs call BtoA; `picture2label` is AtoB.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import files_in, folders_below, natural_key
from pix2pix_edge.runtime.images import IMAGE_ENDINGS, only_images

NAMED = 20
DEEPEST = 3  # folders to go down where each holds nothing but the next
DRAW = "python -m train.drawings --out DIR --pairs 400"

LABEL_WORDS = ("label", "labels", "mask", "masks", "segmentation", "input", "inputs", "source", "b")
PICTURE_WORDS = ("picture", "pictures", "img", "image", "images", "photo", "photos", "real", "target", "targets", "a")
SPLITS = {"train": "train", "training": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
HELD_OUT = ("test", "val")
READ_BY_OTHERS = (".gif", ".heic", ".heif", ".avif", ".jxl", ".jfif", ".dng", ".cr2", ".nef", ".svg", ".exr", ".npy")
SUFFIXES = re.compile(
    r"[_-](leftImg8bit|gtFine_color|gtFine_labelIds|labels?|masks?|reals?|imgs?|images?|photos?|[AB])$", re.I
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one label and its picture; the same file twice when they are side by side in it."""

    label: Path
    picture: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.label, self.picture)))


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The pairs to train on, those held out, and in which folders labels and pictures were found."""

    train: list[Pair]
    held_out: list[Pair]
    label: str
    picture: str
    left_out: list[Path]

    def direction(self, wanted: str) -> str:
        """Return label2picture or picture2label for either of them, AtoB or BtoA, A being the left half or folder."""
        if wanted not in ("AtoB", "BtoA"):
            return wanted
        a_is_label = self.label.lower() == "train_a"
        return "label2picture" if (wanted == "AtoB") == a_is_label else "picture2label"

    def way(self, direction: str) -> str:
        """Return in words what becomes what."""
        sides = [f"{self.label}/", f"{self.picture}/"]
        if self.label == self.picture:
            halves = self.train[0].label == self.train[0].picture
            sides = ["right half", "left half"] if halves else ["*_label", "its picture"]
        source, target = sides if direction == "label2picture" else sides[::-1]
        return f"learning: {source} -> {target}"


def find_data_set(data: Path) -> DataSet:
    """Return the pairs under a folder, in natural order, without opening any.

    Raises InputError when there is no such folder, no layout or several, a side missing or empty, or a file unmatched.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; give --data a folder of pairs, or draw one: {DRAW}")
    root, found = data, layouts_in(data)
    for _ in range(DEEPEST):
        below = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] not in "._"]
        if found or len(below) != 1:
            break
        root, found = below[0], layouts_in(below[0])
    if not found:
        raise InputError(_nothing_found(data))
    forms = {form for form, _, _ in found.values()}
    if len(forms) > 1:
        names = ", ".join(sorted(f"{label}/" for _, label, _ in found.values()))
        raise InputError(f"{root} holds more than one layout of pairs ({names}); leave only one of them there")
    problems: list[str] = []
    left_out: list[Path] = []
    held = next((split for split in HELD_OUT if split in found), None)
    if "train" not in found:
        raise InputError(
            f"{root} holds {'/, '.join(found)}/ but nothing to train on; it needs train/ in the same layout"
        )
    _, label, picture = found["train"]
    train = matched(root, label, picture, problems, left_out)
    test = matched(root, *found[held][1:], problems, left_out) if held else []
    stop_if_any(problems, root)
    return DataSet(train, test, label, picture, left_out)


def find_pairs(data: Path) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs to train on and those held out (perhaps none). Raises InputError as find_data_set() does."""
    found = find_data_set(data)
    return found.train, found.held_out


def layouts_in(root: Path) -> dict[str, tuple[str, str, str]]:
    """Return split -> (form, folder of labels, folder of pictures) of each that stands in a folder.

    A split that stands there in two forms is found under the names of both.
    """
    sides: dict[tuple[str, str], dict[str, str]] = {}
    for first in sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] not in "._"):
        for name, form, split, side in _readings(root, first):
            sides.setdefault((form, split), {}).setdefault(side, name)
    found: dict[str, tuple[str, str, str]] = {}
    for (form, split), names in sides.items():
        if form == "alone" and len(names) < 2:  # a folder of pictures is no data set
            continue
        if not {"label", "picture"} <= names.keys() and form != "beside":
            other = "picture" if "label" in names else "label"
            names[other] = _counterpart(next(iter(names.values())), other)
        key = split if split not in found or form == "beside" else f"{split} ({form})"
        if form == "beside" and split in found:
            continue  # train/ that holds train/A and train/B
        found[key] = (form, names["label"], names["picture"])
    return found


def _readings(root: Path, first: str) -> list[tuple[str, str, str, str]]:
    """Return (folder, form, split, side) of every way in which a folder's name can be read."""
    low = first.lower()
    if match := re.fullmatch(r"(train(?:ing)?|test|val(?:id(?:ation)?)?)([ab])", low):  # trainA
        return [(first, "joined", SPLITS[match[1]], "picture" if match[2] == "a" else "label")]
    split, _, word = low.partition("_")
    if split in SPLITS and word:
        if word in ("a", "b"):
            return [(first, "pix2pixHD", SPLITS[split], "label" if word == "a" else "picture")]
        side = side_of(word)
        return [(first, "named", SPLITS[split], side)] if side else []
    below = sorted(path.name for path in (root / first).iterdir() if path.is_dir())
    if low in SPLITS:
        known = [(f"{first}/{name}", side_of(name.lower())) for name in below]
        inner = [(name, "inside", SPLITS[low], side) for name, side in known if side]
        return inner or [(first, "beside", SPLITS[low], side) for side in ("label", "picture")]
    if side := side_of(low):
        splits = [
            (f"{first}/{name}", "outside", SPLITS[name.lower()], side) for name in below if name.lower() in SPLITS
        ]
        return splits or [(first, "alone", "train", side)]
    return []


def side_of(word: str) -> str | None:
    """Return which member of a pair a folder of that name holds, if any."""
    return "label" if word in LABEL_WORDS else "picture" if word in PICTURE_WORDS else None


def _counterpart(name: str, side: str) -> str:
    """Return the name that the other folder of a layout would have: trainA -> trainB, train_label -> train_picture."""
    word = re.search(r"[A-Za-z]+$", name.rstrip("/"))
    assert word is not None
    if (name[-1] in "abAB" and side_of(word[0].lower()) is None) or word[0].lower() in ("a", "b"):
        return name[:-1] + {"a": "b", "b": "a", "A": "B", "B": "A"}[name[-1]]
    other = {"input": "target", "inputs": "targets", "target": "input", "targets": "inputs"}.get(word[0].lower(), side)
    return name[: -len(word[0])] + other


def _nothing_found(data: Path) -> str:
    seen = sorted(path.name + "/" * path.is_dir() for path in data.iterdir() if path.name[0] != ".")
    holds = f"holds no pairs (it holds {', '.join(seen[:8])}{' …' if len(seen) > 8 else ''})" if seen else "is empty"
    deeper = next((folder for folder in folders_below(data) if folder != data and layouts_in(folder)), None)
    if deeper:
        return f"{data} {holds}; pairs stand in {deeper}: give --data {shlex.quote(str(deeper))}"
    return (
        f"{data} {holds}: it needs train_label/ and train_picture/, or trainA/ and trainB/, or train/ with images side"
        f" by side; rename its folders so, or draw some pairs: {DRAW}"
    )


def matched(data: Path, label: str, picture: str, problems: list[str], left_out: list[Path]) -> list[Pair]:
    """Return the pairs of two folders, or of one that holds both; add what does not pair up to `problems`."""
    labels = _images(data / label, problems, left_out)
    if label == picture:
        return _of_one_folder(labels, data / label)
    pictures = _images(data / picture, problems, left_out)
    unpaired: list[str] = []
    for key in (_exact, _without_suffix, _loose):
        one, other = (_by_key(files, key) for files in ((data / label, labels), (data / picture, pictures)))
        named = [*one.values(), *other.values()]
        doubles = [f"{path} has the name of {paths[0].name}" for paths in named for path in paths[1:]]
        alone = [f"{one[name][0]} has no partner in {picture}/" for name in one.keys() - other.keys()]
        alone += [f"{other[name][0]} has no partner in {label}/" for name in other.keys() - one.keys()]
        if not doubles + alone:
            return [Pair(paths[0], other[name][0]) for name, paths in one.items()]
        if not unpaired or len(doubles + alone) < len(unpaired):
            unpaired = doubles + alone
    problems += unpaired
    return []


def _of_one_folder(files: list[Path], folder: Path) -> list[Pair]:
    """Return the pairs of a folder: two files each by their suffixes (1_label, 1_real), or one file side by side."""
    sides: dict[str | None, dict[str, Path]] = {}
    for path in files:
        match = SUFFIXES.search(path.stem)
        sides.setdefault(side_of(match[1].lower()) if match else None, {})[SUFFIXES.sub("", path.stem)] = path
    if sides.keys() == {"label", "picture"}:
        labels, pictures = sides["label"], sides["picture"]
        if alone := sorted(labels.keys() ^ pictures.keys()):
            raise InputError(
                f"{folder} holds only one of label and picture of {', '.join(alone[:NAMED])}; add the other"
            )
        return [Pair(path, pictures[name]) for name, path in labels.items()]
    twice = [name for name, count in Counter(path.stem for path in files).items() if count > 1]
    if twice:
        both = ", ".join(path.name for path in files if path.stem == twice[0])
        raise InputError(
            f"{folder} holds {both} and the like under one name; move the labels into {folder.name}_label/ and the"
            f" pictures into {folder.name}_picture/ beside it"
        )
    return [Pair(path, path) for path in files]


def _images(folder: Path, problems: list[str], left_out: list[Path]) -> list[Path]:
    """Return the images of a folder, or else of those below it; what cannot be read goes into one of the lists."""
    files = files_in(folder) or files_in(folder, recursive=True)
    images = only_images(files)
    others = [path for path in files if path.suffix.lower() in READ_BY_OTHERS]
    left_out += others
    if folder.is_dir():
        dangling = [path for path in folder.iterdir() if path.is_symlink() and not path.exists()]
        problems += [f"{path} is a link to nothing" for path in sorted(dangling, key=natural_key)]
    if images:
        return images
    if others:
        kinds = ", ".join(f"{count} {ending}" for ending, count in Counter(path.suffix for path in others).items())
        raise InputError(
            f"{folder} holds no images that can be read here ({kinds}); convert them, for example:"
            f" magick mogrify -format png {shlex.quote(str(folder))}/*{others[0].suffix}"
        )
    what = "holds no images" if folder.is_dir() else "does not exist"
    raise InputError(f"{folder} {what}; it needs one image of every pair ({', '.join(IMAGE_ENDINGS)})")


Key = Callable[[str], str]


def _by_key(side: tuple[Path, list[Path]], key: Key) -> dict[str, list[Path]]:
    folder, files = side
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(key(str(path.relative_to(folder).with_suffix(""))), []).append(path)
    return found


def _exact(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS writes é as two characters


def _without_suffix(name: str) -> str:
    return SUFFIXES.sub("", _exact(name))


def _loose(name: str) -> str:
    """Case and leading zeros apart: IMG_007 and img_7."""
    return re.sub(r"0+(?=\d)", "", _without_suffix(name).casefold())


def stop_if_any(problems: Iterable[str], data: Path) -> None:
    """Raise InputError when there are any problems, naming the first of them."""
    listed = sorted(problems, key=lambda problem: natural_key(Path(problem)))
    if not listed:
        return
    shown = "; ".join(problem.removeprefix(f"{data}{os.sep}") for problem in listed[:NAMED])
    more = f"; and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    raise InputError(
        f"{len(listed)} of the files in {data} cannot be used: {shown}{more}; mend each, or remove it with its partner"
    )
