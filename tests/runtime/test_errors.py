from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pix2pix_edge.runtime.cli import CommandParser, run_command, run_subcommand
from pix2pix_edge.runtime.errors import GateFailedError, InputError, MissingPackageError, as_typed, require, warn
from tests.commands import python
from tests.conftest import REPOSITORY


def raising(error: BaseException | None) -> Callable[[argparse.Namespace], int | None]:
    def main(_: argparse.Namespace) -> int | None:
        if error:
            raise error
        return None

    return main


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (InputError("no\n such   file"), 2, "error: no such file\n"),
        (GateFailedError("34 dB is below 35"), 1, "error: 34 dB is below 35\n"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), 2, "error: a.png: No such file or directory\n"),
        (OSError("odd"), 2, "error: the system: odd\n"),
        (MemoryError(), 2, "error: out of memory"),
        (ModuleNotFoundError("", name="numpy"), 2, f"error: {sys.executable} has no package numpy; run: make setup"),
        (ModuleNotFoundError("", name="onnx"), 2, f"error: {sys.executable} has no package onnx; run: pip install "),
        (ModuleNotFoundError("", name="pyarrow"), 2, f"error: {sys.executable} has no package pyarrow; run: pip inst"),
        (ZeroDivisionError("x"), 2, "error: unexpected ZeroDivisionError: x (a defect"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_every_error_has_its_line_and_status(
    capsys: pytest.CaptureFixture[str], error: BaseException | None, code: int, message: str
) -> None:
    assert run_command(raising(error), CommandParser(), []) == code
    stderr = capsys.readouterr().err
    assert stderr.startswith(message) and stderr.count("\n") == bool(message)


def test_debug_lets_an_error_through() -> None:
    with pytest.raises(InputError):
        run_command(raising(InputError("x")), CommandParser(), ["--debug"])


def test_a_bad_command_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="tool")
    parser.add_argument("--size", type=int)
    with pytest.raises(SystemExit) as caught:
        run_command(raising(None), parser, ["--size", "x"])
    stderr = capsys.readouterr().err
    assert caught.value.code == 2 and stderr.count("\n") == 1 and stderr.endswith("see: tool --help\n")


def test_require_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert require("json", "export", "x").loads("1") == 1
    with pytest.raises(MissingPackageError, match=r"not installed; run: pip install 'pix2pix-edge\[export\]'"):
        require("absent_package.part", "export", "converting")
    with pytest.raises(MissingPackageError, match=r"run: pip install absent_package$"):
        require("absent_package", "", "running")
    (tmp_path / "broken_package.py").write_text("raise ImportError('libx.so: no such file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingPackageError, match=r"cannot be loaded \(libx\.so"):
        require("broken_package", "export", "converting")


COMMAND = '''"""Double a number."""


def add_arguments(parser):
    parser.add_argument("number", type=int)


def run(args):
    print(args.number * 2)
'''


def test_a_subcommand_is_imported_only_when_it_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "doubling.py").write_text(COMMAND)
    (tmp_path / "exploding.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    commands = {"double": ("doubling", "doubles"), "explode": ("exploding", "never")}
    assert run_subcommand("tool", "Does.", commands, ["double", "4"]) == 0
    assert capsys.readouterr().out == "8\n"
    for argv, code in ((["--help"], 0), (["nothing"], 2), ([], 2), (["double", "x"], 2), (["double", "--help"], 0)):
        with pytest.raises(SystemExit) as caught:
            run_subcommand("tool", "Does.", commands, argv)
        assert caught.value.code == code
        output = capsys.readouterr()
        assert (output.out if code == 0 else output.err).count("\n") == 1 or code == 0
        if argv == ["double", "--help"]:
            assert "Double a number." in output.out


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = (
        "import sys; from pix2pix_edge.runtime.cli import *;"
        "sys.exit(run_command(lambda _: [print('x' * 99) for _ in range(99999)] and 0, CommandParser(), []))"
    )
    done = subprocess.run(
        f"{sys.executable} -c \"{program}\" | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 1


def test_an_installed_package_advises_its_own_commands() -> None:
    text = "python -m export convert A --out B, python -m train.grid x, python -m train --data D, runtime/run.py doctor"
    assert as_typed(text, installed=False) == text
    assert as_typed(text, installed=True) == (
        "pix2pix-edge convert A --out B, python -m pix2pix_edge.train.grid x, pix2pix-edge train --data D,"
        " pix2pix-edge doctor"
    )
    assert as_typed("python -m benchmarks run; runtime/run.py --engine E", installed=True) == (
        "pix2pix-edge bench run; pix2pix-edge run --engine E"
    )


def test_what_a_terminal_would_obey_is_written_as_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    warn("a\x1b[2Jb\x07c \udce9.png\nnext \u202e \x9b31m grün ×")
    assert capsys.readouterr().err == "warning: a\\x1b[2Jb\\x07c \\udce9.png next \\u202e \\x9b31m grün ×\n"


@pytest.mark.parametrize(("text", "times", "warned"), [("4", "4.0", False), ("0", "1.0", True), ("long", "1.0", True)])
def test_patience_is_a_number_of_the_environment(text: str, times: str, warned: bool) -> None:
    program = "from pix2pix_edge.runtime.errors import PATIENCE; print(PATIENCE)"
    done = python("-c", program, PIX2PIX_EDGE_PATIENCE=text)
    assert done.stdout == f"{times}\n" and ("counts as 1; run: unset" in done.stderr) == warned


@pytest.mark.parametrize("given", ["https://me:secret@host/a.onnx", "--data=me:secret@host:80/x"])
def test_no_secret_of_the_command_line_is_printed(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(given.removeprefix("--data="))
    parser = CommandParser()
    parser.add_argument("--data")
    parser.add_argument("file", nargs="?")
    assert run_command(raising(InputError(f"there is no file {path}; make it")), parser, [given]) == 2
    assert "***@host" in (said := capsys.readouterr().err) and "secret" not in said


def test_names_that_no_encoding_holds_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of files in another encoding than the terminal's come with surrogates (PEP 383)."""
    assert run_command(lambda args: print("caf\udce9.png"), CommandParser(prog="p"), []) == 0
    assert capsys.readouterr().out == "caf\\udce9.png\n"
