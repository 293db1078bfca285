#!/usr/bin/env python3
"""Serve a page to draw on: what is drawn becomes a picture while the pen moves.

runtime/draw.py --engine models/facades.int8.cpu.onnx
runtime/draw.py --engine facades.fp16.plan --at http://0.0.0.0:8080 --token-file token
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)
if __package__ in (None, "") and sys.path[0] != ROOT:
    sys.path[0] = ROOT  # a script's own folder comes first there

from pix2pix_edge.runtime.cli import CommandParser, add_backend, add_engine, run_command  # noqa: E402
from pix2pix_edge.runtime.web.guard import add_token_arguments, token_from  # noqa: E402


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_engine(parser)
    parser.add_argument(
        "--at", default="http://127.0.0.1:8080", metavar="http://HOST:PORT", help="where to serve it (%(default)s)"
    )
    add_token_arguments(parser)
    add_backend(parser)


def run(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP."""
    from pix2pix_edge.runtime.engine import open_engine
    from pix2pix_edge.runtime.web.drawing import DrawingSite, model_of
    from pix2pix_edge.runtime.web.hosting import Hosting, address_of
    from pix2pix_edge.runtime.web.translator import Translator

    host, port = address_of(args.at, "--at")
    token = token_from(args)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        translator = Translator(lambda: open_engine(args.engine, backend=args.backend, threads=args.threads))
        stack.callback(translator.close)
        site = DrawingSite(translator, model_of(args.engine, translator.input))
        stack.callback(Hosting(site, host, port, token, option="--at", invitation="draw at").close)
        threading.Event().wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = CommandParser("runtime/draw.py", (__doc__ or "").strip())
    add_arguments(parser)
    return run_command(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
