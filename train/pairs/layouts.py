"""Pairs of images on disk, in the layouts that people have them in.

Folders say by their names which set they are of and which member of a pair they hold:

    train_label/ train_picture/    test_… or val_…; also train_img/, train_mask/, and so on
    trainA/ trainB/                A is the picture, B the label, as in pix2pix and CycleGAN
    train_A/ train_B/              A is the label, B the picture, as in pix2pixHD
    train/A/ train/B/, A/train/ B/train/, train/images/ train/masks/, input/ target/
    train/                         images side by side (the left half is the picture), or 1_label.png beside 1_real.png
    no folders                     the same, all to train on; also the results of pix2pix: 1_real_A.png, 1_real_B.png

The usual direction, `label2picture`, therefore is what other pix2pix programs call BtoA; `picture2label` is AtoB.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.files import files_in, folders_below, identity
from pix2pix_edge.runtime.images import only_images
from pix2pix_edge.train.pairs.matching import Pair, matched, side_of, stop_if_any

DEEPEST = 5  # folders to go down where each holds nothing but the next
DRAW = "python -m train.drawings --out DIR --pairs 400"

LIKELY_LABELS = re.compile(
    "annot|class|cond|depth|edge|grey|gray|gt|input|label|line|low|lr|mas[kq]|raw|seg|sketch|truth", re.I
)
ARCHIVES = re.compile(r"\.(zip|tar|t?gz|bz2|xz|7z|rar|parquet|np[yz]|h5|hdf5|mat|tfrecords?|lmdb|mdb)$", re.I)
SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tests", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
}
HELD_OUT = ("test", "val")


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The pairs to train on, those held out, in which folders labels and pictures were found, and what is not read.

    left_out: files beside them. unread: further splits, and lists of them.
    """

    train: list[Pair]
    held_out: list[Pair]
    label: str
    picture: str
    left_out: list[Path]
    unread: tuple[str, ...] = ()

    def direction(self, wanted: str) -> str:
        """Return label2picture or picture2label for either of them, AtoB or BtoA, A being the left half or folder."""
        if wanted not in ("AtoB", "BtoA"):
            return wanted
        a_is_label = self.label.lower() in ("train_a", "real_a") or self.train[0].label.stem.lower().endswith("real_a")
        return "label2picture" if (wanted == "AtoB") == a_is_label else "picture2label"

    def warn_of_left_out(self) -> None:
        """Name the files that nothing here reads."""
        if files := self.left_out:
            named = ", ".join(path.name for path in files[:5]) + (" …" if len(files) > 5 else "")
            warn(
                f"{len(files)} files are left out: of other kinds, in folders beside pictures, made by a network, or"
                f" classes beside colours: {named}"
            )

    def way(self, direction: str) -> str:
        """Return in words what becomes what."""
        sides = [f"{self.label}/", f"{self.picture}/"]
        if self.label == self.picture:
            halves = self.train[0].label == self.train[0].picture
            sides = ["right half", "left half"] if halves else ["*_label", "its picture"]
        source, target = sides if direction == "label2picture" else sides[::-1]
        unread = f" ({', '.join(self.unread)}: not read)" if self.unread else ""
        return f"learning: {source} -> {target}{unread}"


def find_data_set(data: Path) -> DataSet:
    """Return the pairs under a folder, in natural order, without opening any.

    Raises InputError when there is no such folder, no layout or several, a side missing or empty, or a file unmatched.
    """
    if not data.is_dir():
        unpack = "unpack it, and " if data.is_file() and ARCHIVES.search(data.name) else ""
        raise InputError(f"{data} is not a folder; {unpack}give --data a folder of pairs, or draw one: {DRAW}")
    root, found = data, layouts_in(data)
    for _ in range(DEEPEST):
        below = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] not in "._"]
        if found or len(below) != 1:
            break
        root, found = below[0], layouts_in(below[0])
    if not found and not below and only_images(files_in(root)):
        found = {"train": ("beside", ".", ".")}
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
    if label != picture and identity(root / label) == identity(root / picture):
        raise InputError(f"{root / label} and {root / picture} are one folder; let the link go to that of the others")
    train = matched(root, label, picture, problems, left_out)
    whole = root.resolve()
    one = next((side for _, form, _, side in _readings(whole.parent, whole.name) if form != "beside"), None)
    if label == "." and one and train[0].label == train[0].picture:
        raise InputError(
            f"{root} is named as the {one}s alone; give --data the folder above it, with the other side in it too, or,"
            " where each file holds both, rename it to train"
        )
    test = matched(root, *found[held][1:], problems, left_out) if held else []
    stop_if_any(problems, root)
    read = {(root / folder).resolve() for split in ("train", held) if split for folder in found[split][1:]}
    further = [
        f"{path.relative_to(root)}/"
        for parent in sorted({root, *((root / side).parent for side in (label, picture) if side != ".")})
        for path in sorted(parent.iterdir())
        if path.name[0] not in "._" and path.is_dir() and only_images(files_in(path, recursive=True))
        if not any(path.resolve() in (folder, *folder.parents) for folder in read)
    ]
    lists = [path.name for path in files_in(root) if split_of(path.stem.lower()) and path.suffix in (".txt", ".csv")]
    return DataSet(train, test, label, picture, left_out, (*further, *lists))


def find_pairs(data: Path) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs to train on and those held out (perhaps none). Raises InputError as find_data_set() does."""
    found = find_data_set(data)
    return found.train, found.held_out


def layouts_in(root: Path) -> dict[str, tuple[str, str, str]]:
    """Return split -> (form, folder of labels, folder of pictures) of each that stands in a folder.

    A split that stands there in two forms is found under the names of both.
    """
    sides: dict[tuple[str, str], dict[str, str]] = {}  # (form, split) -> side -> folder
    folders = sorted(
        path.name
        for path in root.iterdir()
        if path.is_dir() and path.name[0] not in "._" and not (path / "settings.json").exists()  # a run's
    )
    for first in folders:
        for name, form, split, side in _readings(root, first):
            other = sides.setdefault((form, split), {}).setdefault(side, name)
            if other != name and all(only_images(files_in(root / each, recursive=True)) for each in (other, name)):
                raise InputError(
                    f"{root} holds {other}/ and {name}/, and only one of them can be the {side}s; move the other away"
                )
    for (form, split), names in list(sides.items()):
        if form == "named" and len(names) == 1 and (whole := sides.pop(("beside", split), None)):
            names["picture" if "label" in names else "label"] = whole["label"]  # train/ and train_masks/
    found: dict[str, tuple[str, str, str]] = {}
    for (form, split), names in sides.items():
        lonely = form == "alone" or (form == "outside" and len(folders) == 1)  # pictures, or maps/train/
        if lonely and len(names) < 2:
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
    splits = "|".join(sorted(SPLITS, key=len, reverse=True))
    if match := re.fullmatch(rf"({splits})([ab])", low):  # trainA
        return [(first, "joined", SPLITS[match[1]], "picture" if match[2] == "a" else "label")]
    below = sorted(path.name for path in (root / first).iterdir() if path.is_dir())
    if own := split_of(low):
        known = [(f"{first}/{name}", side_of(name)) for name in below]
        inner = [(name, "inside", own, side) for name, side in known if side]
        return inner or [(first, "beside", own, side) for side in ("label", "picture")]
    if match := re.fullmatch(rf"({splits})_([ab])", low):
        return [(first, "pix2pixHD", SPLITS[match[1]], "label" if match[2] == "a" else "picture")]
    for form in (rf"(?P<split>{splits})(?:\d{{4}})?[_. -]?(?P<word>.+)", rf"(?P<word>.+)[_. -](?P<split>{splits})"):
        if (match := re.fullmatch(form, low)) and (side := side_of(match["word"])):
            return [(first, "named", SPLITS[match["split"]], side)]
    if side := side_of(low):
        parts = [(f"{first}/{name}", "outside", part, side) for name in below if (part := split_of(name.lower()))]
        return parts or [(first, "alone", "train", side)]
    return []


def split_of(word: str) -> str | None:
    """Return of which split a folder of that name is: train, training_set, testset, train2017, …"""
    return SPLITS.get(re.sub(r"[_-]?(set|\d{2,4})$", "", word))


def _counterpart(name: str, side: str) -> str:
    """Return the name that the other folder of a layout would have: trainA -> trainB, train_label -> train_picture."""
    word = re.search(r"[A-Za-z]+$", name.rstrip("/"))
    assert word is not None
    if (name[-1] in "abAB" and side_of(word[0].lower()) is None) or word[0].lower() in ("a", "b"):
        return name[:-1] + {"a": "b", "b": "a", "A": "B", "B": "A"}[name[-1]]
    other = {"input": "target", "inputs": "targets", "target": "input", "output": "input"}.get(word[0].lower(), side)
    return name[: -len(word[0])] + other


def _nothing_found(data: Path) -> str:
    seen = sorted(path.name + "/" * path.is_dir() for path in data.iterdir() if path.name[0] != ".")
    holds = f"holds no pairs (it holds {', '.join(seen[:8])}{' …' if len(seen) > 8 else ''})" if seen else "is empty"
    holding = sorted(seen, key=lambda name: not LIKELY_LABELS.search(name))
    folders = [data / name for name in holding if only_images(files_in(data / name, recursive=True))]
    names = [
        {path.relative_to(folder).with_suffix("") for path in files_in(folder, recursive=True)} for folder in folders
    ]
    alike = len(folders) == 2 and names[0] == names[1]  # HE/train/1.png and IHC/train/1.png
    deeper = next((folder for folder in folders_below(data) if folder != data and layouts_in(folder)), None)
    if deeper and not alike:
        return f"{data} {holds}; pairs stand in {deeper}: give --data {shlex.quote(str(deeper))}"
    if not only_images(files_in(data, recursive=True)):
        packed = next((path for path in files_in(data, recursive=True) if ARCHIVES.search(path.name)), None)
        if packed:
            return f"{data} holds no images, but {packed.relative_to(data)}; unpack it, or write its images out as PNG"
    if alike or (len(folders) == 2 and all(only_images(files_in(folder)) for folder in folders)):
        moves = [
            shlex.join(["mv", str(old), str(data / new)])
            for old, new in zip(folders, ("label", "picture"), strict=True)
        ]
        return f"{data} {holds}; say which is which, for example: {'; '.join(moves)}"
    return (
        f"{data} {holds}: it needs train_label/ and train_picture/, or trainA/ and trainB/, or train/ with images side"
        f" by side; rename its folders so, or draw some pairs: {DRAW}"
    )
