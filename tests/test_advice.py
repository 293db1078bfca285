"""Every command that a message, a help text or a page prints is parsed by the real parser."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pix2pix_edge.__main__ import COMMANDS
from tests.commands import parse, parser_of
from tests.conftest import REPOSITORY

START = re.compile(
    r"(?:\S*python3? )?-m (?:export|benchmarks|train(?:\.\w+)?)(?![\w.])|\S*runtime/(?:run|draw)\.py\b"
    r"|(?<![\w/.'-])pix2pix-edge (?=(?:" + "|".join(COMMANDS) + r")\b)"
)
MUST_PARSE = re.compile(r"(?:\b(?:run|with|from|try|next|again|then):? ?|^\s*(?:\$ )?|^#? {2,}.*)$")
"""What stands before a command that a reader will paste; elsewhere a command is only spoken of."""

PLACEHOLDER = "64"
"""Stands for what an f-string fills in: a number, a name and a path alike."""

PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "docker/Dockerfile")]
PAGES += [*sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "models/README.md"]
MODULES = sorted(p for top in ("train", "export", "runtime", "benchmarks") for p in (REPOSITORY / top).rglob("*.py"))
MODULES += sorted((REPOSITORY / "pix2pix_edge").glob("*.py"))


def texts(module: Path) -> Iterator[str]:
    """Every string of a module, f-strings with PLACEHOLDER in their gaps."""
    parts: set[int] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else PLACEHOLDER for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def commands(text: str) -> Iterator[tuple[str, bool]]:
    """(a command, whether it must parse as it stands) for each in a text."""
    for line in re.sub(r"[ \t]*\\\n[# \t]*", " ", text).splitlines():
        for found in START.finditer(line):
            rest = line[found.start() :]
            end = re.search(r"[;`\"…()]|, |\. | (?:or|and|as|in|on|where|then|of|has|is)\b|  +|[.:,]?$| #| -->", rest)
            words = rest[: end.start()] if end else rest
            before = line[: found.start()].replace("$(BIN)/", "").rstrip("`")
            pasted = bool(MUST_PARSE.search(before)) and not rest[len(words) :].startswith("…")
            words = re.sub(r"\$[A-Z]\w*", "", re.sub(r"\$[a-z]\w*", "x", words))
            bare = 3 + ("-m " in words and "-m train" not in words) - (".py" in words) - ("-edge " in words)
            whole = len(words.split()) > bare or (before.strip() and len(words.split()) == bare > 2)
            yield words.strip(), pasted and whole and words.split()[-1] != PLACEHOLDER


FOUND = [
    (path.relative_to(REPOSITORY), command, pasted)
    for path, pieces in [*((m, texts(m)) for m in MODULES), *((page, [page.read_text()]) for page in PAGES)]
    for piece in pieces
    for command, pasted in commands(piece)
]
PASTED = sorted({(str(path), command) for path, command, pasted in FOUND if pasted})


@pytest.mark.parametrize(("where", "command"), PASTED, ids=[f"{path}: {command}" for path, command in PASTED])
def test_what_a_reader_pastes_parses(where: str, command: str) -> None:
    parse(shlex.split(command))


def test_what_is_only_spoken_of_exists() -> None:
    for path, command, pasted in FOUND:
        words = command.split()
        bare = len(words) < 2 or words[-2] == "-m" or words[-1] == "bench"
        if pasted or bare or words[-1].isupper() or PLACEHOLDER in words:
            continue
        parser, rest = parser_of(words)
        known = parser._option_string_actions
        assert not [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known], (
            path,
            command,
        )


def test_there_is_much_to_parse_and_a_wrong_command_fails() -> None:
    assert len(PASTED) > 60 and {"README.md", "export/convert.py", "runtime/engine.py"} <= {path for path, _ in PASTED}
    for wrong in ("python -m export quantize a.onnx --out b", "runtime/run.py --engin a", "pix2pix-edge bench nothing"):
        with pytest.raises((SystemExit, AssertionError)):
            parse(wrong.split())


def test_files_that_pages_name_exist() -> None:
    file = re.compile(r"\b(?:tests|export|train|runtime|benchmarks)/[\w./-]+\.(?:py|sh)\b")
    named = {name for page in PAGES for name in file.findall(page.read_text())}
    assert len(named) > 30 and not [name for name in named if not (REPOSITORY / name).is_file()]
