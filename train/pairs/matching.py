"""The files of a layout's folders, paired up by their names."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.files import files_in, folders_below, is_lost, natural_key
from pix2pix_edge.runtime.images import IMAGE_ENDINGS, only_images

NAMED = 20
MEND = "mend each, or remove it with its partner"
LABEL_WORD = (
    r"ann|annots?|annotations?|b|before|canny|cond|conditioning(_images?)?|depths?|edges?|ground_?truths?|gt|gtcoarse"
    r"|gtfine|hints?|inputs?|in|labels?|lbls?|lines?|maps?|masks?|normals|real_a|seg|segmentations?|semantics?|sketch"
    r"|sketches|source|x"
)
PICTURE_WORD = (
    r"a|aerials?|after|images?|imgs?|leftimg8bit|original(_images?)?|outputs?|out|photos?|pictures?|real_b|reals?|rgb|sat"
    r"|satellite|targets?|y"
)
CITYSCAPES = re.compile(r"gt(?:fine|coarse)_([a-z]+)", re.I)
SUFFIX = re.compile(rf"[_. -]({CITYSCAPES.pattern}|{LABEL_WORD}|{PICTURE_WORD})$", re.I)
PREFIX = re.compile(rf"(?<![^/])({LABEL_WORD}|{PICTURE_WORD})[_. -]", re.I)
ENDINGS = re.compile(rf"({'|'.join(map(re.escape, IMAGE_ENDINGS))})+$", re.I)
RESULTS = re.compile(r"_(real|fake|rec|idt)_[ab]$", re.I)  # of pytorch-CycleGAN-and-pix2pix
NO_PICTURES = re.compile(r"\.(csv|db|html?|ini|json|log|md|py|sh|tsv|txt|xml|ya?ml)", re.I)


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one label and its picture; the same file twice when they are side by side in it."""

    label: Path
    picture: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.label, self.picture)))


def side_of(word: str) -> str | None:
    """Return which member of a pair a folder or file of that name, masks or masks_png, holds, if any."""
    word = re.sub(r"[_-](png|jpe?g|tiff?)$", "", word, flags=re.I)
    if re.fullmatch(rf"{LABEL_WORD}|{CITYSCAPES.pattern}", word, re.I):
        return "label"
    return "picture" if re.fullmatch(PICTURE_WORD, word, re.I) else None


def matched(data: Path, label: str, picture: str, problems: list[str], left_out: list[Path]) -> list[Pair]:
    """Return the pairs of two folders, or of one that holds both; add what does not pair up to `problems`."""
    known = len(left_out)
    labels = _images(data / label, problems, left_out, picture)
    if label == picture:
        return _of_one_folder(labels, data / label, data / ("train" if label == "." else label))
    pictures = _images(data / picture, problems, left_out, label)
    unpaired: list[str] = []
    for keys in (_each(_exact), _each(_plain), _each(_loose), _differing):
        one, other = (_by_key(*side, keys) for side in ((data / label, labels), (data / picture, pictures)))
        named = [*one.values(), *other.values()]
        doubles = [f"{path} has the name of {paths[0].name}" for paths in named for path in paths[1:]]
        alone = [f"{one[name][0]} has no partner in {picture}/" for name in one.keys() - other.keys()]
        alone += [f"{other[name][0]} has no partner in {label}/" for name in other.keys() - one.keys()]
        if not doubles + alone:
            pairs = [Pair(paths[0], other[name][0]) for name, paths in one.items()]
            if keys is _differing:
                warn(f"pairs go by what differs in their names: {pairs[0].label.name} with {pairs[0].picture.name}, …")
            return pairs
        if not unpaired or len(doubles + alone) < len(unpaired):
            unpaired = doubles + alone
    if len(unpaired) == len(labels) + len(pictures) > NAMED:
        raise InputError(
            f"no file in {data / label} has a partner in {data / picture}, for example {labels[0].name} and"
            f" {pictures[0].name}; give both of a pair one name"
        )
    problems += unpaired
    if unpaired:  # a partner may be among them
        problems += [f"{path} is not read here" for path in left_out[known:]]
    return []


def _of_one_folder(files: list[Path], folder: Path, better: Path) -> list[Pair]:
    """Return the pairs of a folder: two files each by a word in their names or folders, or one side by side.

    Two are 1_label and 1_real, 1/label and 1/real, or labels/1 and reals/1. better: what folders for the two sides
    would begin with.
    """
    sides: dict[str | None, dict[str, Path]] = {}
    twice: list[Path] = []
    for path in files:
        word, key = _side_and_rest(path.relative_to(folder))
        first = sides.setdefault(side_of(word), {}).setdefault(key, path)
        twice += [first, path] if first != path and not twice else []
    if len(sides) == 2 and None in sides and len({frozenset(side) for side in sides.values()}) == 1:  # 1 and 1_photo
        sides["picture" if "label" in sides else "label"] = sides.pop(None)
    if sides.keys() == {"label", "picture"}:
        labels, pictures = sides["label"], sides["picture"]
        if twice:
            raise InputError(
                f"{folder} holds {twice[0].name} and {twice[1].name}, of which only one can be in a pair; move one kind"
                " away"
            )
        if alone := sorted(labels.keys() ^ pictures.keys()):
            raise InputError(
                f"{folder} holds only one of label and picture of {', '.join(alone[:NAMED])}; add the other"
            )
        return [Pair(path, pictures[name]) for name, path in labels.items()]
    kinds: dict[Path, list[str]] = {}
    for path in files:
        kinds.setdefault(path.with_suffix(""), []).append(path.suffix)
    if alike := next((name for name, endings in kinds.items() if len(endings) > 1), None):
        both = [alike.name + ending for ending in kinds[alike][:2]]
        into = [shlex.quote(f"{better}_{side}") for side in ("label", "picture")]
        raise InputError(
            f"{folder} holds {', '.join(both)} and the like under one name; move the labels into {into[0]} and the"
            f" pictures into {into[1]}"
        )
    words = {_side_and_rest(path.relative_to(folder))[0] for path in files}
    if len(sides) == 1 and None not in sides and min(map(len, words)) > 1:
        raise InputError(
            f"{folder} holds {next(iter(sides))}s alone, by names like {files[0].name}; add their partners or take it"
            " away, or, where each holds both, use other names"
        )
    return [Pair(path, path) for path in files]


def _side_and_rest(path: Path) -> tuple[str, str]:
    """Return the word in a file's name, or else its folders' names, that says its side, and the path without it."""
    if found := SUFFIX.search(path.stem) or PREFIX.match(path.stem):
        return found[1], str(path.with_name(_plain(path.stem) or path.name))
    parts = [*path.parts[:-1], path.stem]
    for at in reversed(range(len(parts))):
        if len(parts[at]) > 1 and side_of(parts[at]) and len(parts) > 1:
            return parts[at], "/".join(parts[:at] + parts[at + 1 :])
    return "", str(path.with_name(_plain(path.stem) or path.name))


def _images(folder: Path, problems: list[str], left_out: list[Path], other: str) -> list[Path]:
    """Return the images of a folder, or else of those below it; what is not taken goes into one of the lists.

    other: the folder of the other side.
    """
    files = files_in(folder, recursive=True)
    images = only_images(files)
    images = [path for path in images if path.parent == folder] or images
    kinds = {path: found[1] for path in images if (found := CITYSCAPES.search(path.stem))}
    kind = next((kind for kind in ("color", "labelIds", "labelTrainIds") if kind in kinds.values()), None)
    images = [path for path in images if kinds.get(path, kind) == kind]
    results = {path: found[1].lower() for path in images if (found := RESULTS.search(path.stem))}
    if cycle := next((path for path, kind in results.items() if kind == "rec"), None):
        raise InputError(f"{cycle} is of a CycleGAN, whose two sides are no pairs; give the results of a pix2pix")
    if "real" in results.values():
        images = [path for path in images if results.get(path, "real") == "real"]
    others = [path for path in files if path not in set(images) and not NO_PICTURES.fullmatch(path.suffix)]
    left_out += others
    if folder.is_dir():
        dangling = [path for path in folder.iterdir() if is_lost(path)]
        problems += [f"{path} is a link to nothing" for path in sorted(dangling, key=natural_key)]
    if images:
        return images
    if endings := Counter(path.suffix for path in others if path.suffix):
        held = ", ".join(f"{count} {ending}" for ending, count in endings.items())
        ending = next(iter(endings))
        into = f"magick mogrify -format png {shlex.quote(str(folder))}/*{ending}"
        if ending == ".npy":
            code = "import sys, cv2, numpy as np; [cv2.imwrite(f[:-3] + 'png', np.load(f)) for f in sys.argv[1:]]"
            into = f"python -c {shlex.quote(code)} {shlex.quote(str(folder))}/*.npy"
        raise InputError(f"{folder} holds no images that can be read here ({held}); convert them, for example: {into}")
    read = ", ".join(IMAGE_ENDINGS)
    if not folder.is_dir():
        names = (path.name for path in folder.parent.iterdir() if path.is_dir() and path.name[0] not in "._")
        unknown = [folder.with_name(name) for name in names if not side_of(name) and name != Path(other).name]
        unknown = [next((below for below in folders_below(path) if files_in(below)), path) for path in unknown]
        move = f"; or rename one: {shlex.join(['mv', str(unknown[0]), str(folder)])}" if len(unknown) == 1 else ""
        away = f", or {other}/ taken away" if any(word in other.lower() for word in ("test", "val")) else ""
        raise InputError(f"{folder} does not exist; it needs one image of every pair ({read}){away}{move}")
    held = ", ".join(sorted({path.suffix or "without an ending" for path in files}))
    what = f"holds no images{f' (its files are {held})' if files else ''}"
    raise InputError(f"{folder} {what}; it needs one image of every pair ({read})")


Keys = Callable[[list[str]], list[str]]


def _by_key(folder: Path, files: list[Path], keys: Keys) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    names = keys([str(path.relative_to(folder).with_suffix("")) for path in files])
    for name, path in zip(names, files, strict=True):
        found.setdefault(name, []).append(path)
    return found


def _each(key: Callable[[str], str]) -> Keys:
    return lambda names: [key(name) for name in names]


def _exact(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS writes é as two characters


def _plain(name: str) -> str:
    """Without a word for the side, before or behind, and without a second ending: mask_7, 7_label and 7.jpg are 7."""
    return PREFIX.sub("", SUFFIX.sub("", ENDINGS.sub("", _exact(name))))


def _loose(name: str) -> str:
    """Case, leading zeros and what stands between words apart too: IMG_007 and "img 7"."""
    words = re.sub(r"(?<!\d)0+(?=\d)", "", _plain(name).casefold()).split("/")
    return "/".join(re.sub(r"[\W_]+", "_", word).strip("_") for word in words)


def _differing(names: list[str]) -> list[str]:
    """Without the words, which are no numbers, that all names of a folder begin or end with: um_7, um_road_7, 7_L."""
    parts = [re.findall(r"\d+|[^\d_/]+|[_/]+", _loose(name)) for name in names]
    for _ in range(2):
        while len(parts) > 1 and all(len(words) > 1 for words in parts):
            first = {words[0] for words in parts}
            if len(first) > 1 or first.pop().isdecimal():
                break
            parts = [words[1:] for words in parts]
        parts = [words[::-1] for words in parts]
    return ["".join(words) for words in parts]


def stop_if_any(problems: Iterable[str], data: Path, remedy: str = MEND) -> None:
    """Raise InputError when there are any problems, naming the first of them."""
    listed = sorted(problems, key=lambda problem: natural_key(Path(problem)))
    if not listed:
        return
    shown = "; ".join(problem.removeprefix(f"{data}{os.sep}") for problem in listed[:NAMED])
    more = f"; and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    raise InputError(f"{len(listed)} of the files in {data} cannot be used: {shown}{more}; {remedy}")
