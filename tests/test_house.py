"""The house: no import circle, walls that hold, rooms and modules of a size that one can keep in mind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

grimp = pytest.importorskip("grimp")
FOLDERS = ("pix2pix_edge", "train", "export", "runtime", "benchmarks")
LONGEST_MODULE, FULLEST_FOLDER = 300, 14


@cache
def imports() -> dict[str, set[str]]:
    """module -> modules that it imports, anywhere in it, type checking included."""
    graph = grimp.build_graph("pix2pix_edge", cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Each set of modules that reach one another (strongly connected components of more than one, Tarjan)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in edges[module]:
            if other not in number:
                yield from visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == number[module]:
            component = [stack.pop()]
            while component[-1] != module:
                component.append(stack.pop())
            if len(component) > 1:
                yield sorted(component)

    for module in edges:
        if module not in number:
            yield from visit(module)


def test_no_import_circle_exists() -> None:
    assert len(imports()) > 100
    assert not list(circles(imports()))


def test_a_circle_would_be_found() -> None:
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == [["a", "b", "c"]]


def modules() -> list[Path]:
    found = [p for folder in FOLDERS for p in (REPOSITORY / folder).rglob("*.py") if "__pycache__" not in p.parts]
    return [
        p for p in found if not (p.parts[len(REPOSITORY.parts)] == "pix2pix_edge" and p.parent.name != "pix2pix_edge")
    ]


def test_no_module_is_long_and_no_folder_full() -> None:
    lengths = {str(p.relative_to(REPOSITORY)): len(p.read_text().splitlines()) for p in modules()}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE}
    folders = {p.parent for p in modules()}
    counts = {str(f.relative_to(REPOSITORY)): len([p for p in f.iterdir() if p.suffix == ".py"]) for f in folders}
    assert not {name: files for name, files in counts.items() if files > FULLEST_FOLDER}


@pytest.mark.parametrize("folder", FOLDERS[1:])
def test_tests_mirror_the_rooms(folder: str) -> None:
    rooms = {p.parent.relative_to(REPOSITORY) for p in modules() if p.is_relative_to(REPOSITORY / folder)}
    tests = {p.parent.relative_to(REPOSITORY / "tests") for p in (REPOSITORY / "tests" / folder).rglob("test_*.py")}
    assert tests <= rooms, "each folder of tests has its room"


def test_everything_is_imported_by_the_one_name() -> None:
    pattern = re.compile(r"^\s*(?:from|import) (train|export|runtime|benchmarks)\b", re.MULTILINE)
    assert not [p for p in [*modules(), *(REPOSITORY / "tests").rglob("*.py")] if pattern.search(p.read_text())]


GROUND = {"errors", "cli", "files", "addresses", "frame", "images", "sidecar", "board", "doctor"}


def room(module: str) -> str | None:
    """The room that a module lies in, as the picture names it; None at the ground and outside the four folders."""
    folder, *rest = module.split(".")[1:] or [""]
    if folder not in FOLDERS or (not rest and folder == "runtime"):
        return None
    if folder == "runtime":
        return None if rest[0] in GROUND else f"{folder}/{rest[0]}"
    inside = bool(rest) and (REPOSITORY / folder / rest[0]).is_dir()
    return f"{folder}/{rest[0]}" if inside else folder


def picture_of_rooms() -> str:
    """The rooms and who imports whom, as Mermaid: room to room inside a folder, folder to folder between them."""
    pairs = {(room(module), room(other)) for module, others in imports().items() for other in others}
    edges = sorted((a, b) for a, b in pairs if a and b and a != b)
    between = sorted({(a.partition("/")[0], b.partition("/")[0]) for a, b in edges})
    lines = ["flowchart TD"]
    for folder in FOLDERS[1:]:
        inside = [(a, b) for a, b in edges if {a.partition("/")[0], b.partition("/")[0]} == {folder}]
        names = sorted({name for edge in inside for name in edge})
        lines += [f"    subgraph {folder}_[{folder}]", *(f"        {n.replace('/', '_')}[{n}]" for n in names)]
        lines += [f"        {a.replace('/', '_')} --> {b.replace('/', '_')}" for a, b in inside] + ["    end"]
    lines += [f"    {a}_ ==> {b}_" for a, b in between if a != b]
    return "\n".join(["```mermaid", *lines, "```"])


def test_the_picture_of_the_rooms_is_true() -> None:
    """To draw it anew: python -m tests.test_house"""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    assert text.partition("<!-- rooms -->\n")[2].partition("\n<!-- end of rooms -->")[0] == picture_of_rooms()


if __name__ == "__main__":
    PAGE = REPOSITORY / "docs" / "architecture.md"
    BEFORE, _, REST = PAGE.read_text().partition("<!-- rooms -->\n")
    AFTER = REST.partition("<!-- end of rooms -->")[2]
    PAGE.write_text(f"{BEFORE}<!-- rooms -->\n{picture_of_rooms()}\n<!-- end of rooms -->{AFTER}")
