"""Write the page to draw on as a folder of files for any static host; the browser computes, also without a connection.

  python -m export web facades.int8.cpu.onnx --out site/
  python -m export web facades.int8.cpu.onnx sketch.int8.cpu.onnx --out site/
  python -m export web facades.int8.cpu.onnx --out site/ --onnxruntime-web node_modules/onnxruntime-web

ONNX Runtime's WebAssembly build comes from its npm package, which the command fetches with npm.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pix2pix_edge.runtime.cli import add_out
from pix2pix_edge.runtime.engine import check_file, open_engine
from pix2pix_edge.runtime.errors import InputError, warn
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.images import write_image
from pix2pix_edge.runtime.web.drawing import Houses, Model, house, model_of, samples_for, settings, takes_houses
from pix2pix_edge.runtime.web.site import page_files

PACKAGE = "onnxruntime-web@1.23.2"
"""Its files are 12 MB, and the bundled models are translated bit for bit as by ONNX Runtime itself; 1.30 has 14 MB."""

RUNTIME_FILES = {"ort.wasm.bundle.min.mjs": "onnxruntime.js", "ort-wasm-simd-threaded.wasm": "onnxruntime.wasm"}
"""A file of the package's dist/ -> what it is called in the site: endings for which every host knows the type."""

HOUSES = 64

MOST_BYTES = 17_000_000
"""More than that nobody waits for on a phone."""

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "engines",
        type=Path,
        nargs="+",
        metavar="ENGINE.onnx",
        help="what the page offers; the first one is shown first",
    )
    add_out(parser, "folder of the site; it must not hold anything yet")
    parser.add_argument(
        "--onnxruntime-web", type=Path, metavar="DIR", help=f"the unpacked npm package (default: npm fetches {PACKAGE})"
    )


def run(args: argparse.Namespace) -> None:
    size = write_site(args.engines, args.out, runtime=args.onnxruntime_web)
    print(
        f"{args.out}: models: {len(args.engines)}, {size / 1e6:.1f} MB in all; try it, at http://127.0.0.1:8000, with:"
    )
    print(f"  python -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(args.out))} 8000")
    if size > MOST_BYTES:
        warn(
            f"that is more than {MOST_BYTES / 1e6:.0f} MB, for which few wait on a phone; offer fewer or smaller models"
        )


def write_site(engines: Sequence[Path], out: Path, *, runtime: Path | None = None) -> int:
    """Write the site of one or more .onnx files to the folder `out`, whole or not at all; return its bytes.

    runtime: the unpacked package onnxruntime-web; None fetches it. Raises InputError and EngineError.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} already holds files; choose another --out, or delete it")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out is a folder")
    models = [_model(path, number) for number, path in enumerate(engines, start=1)]
    if len({model.name for model in models}) < len(models):
        raise InputError(
            f"two engines are called {models[0].name}; rename one, because the page tells them apart by name"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        site = Path(tempfile.mkdtemp(prefix=".writing-", dir=out.parent))
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose a folder you may write to") from error
    try:
        with _package(runtime) as dist:
            for source, name in RUNTIME_FILES.items():
                if not (dist / source).is_file():
                    raise InputError(
                        f"{dist} has no {source}; give --onnxruntime-web the unpacked npm package {PACKAGE}"
                    )
                shutil.copyfile(dist / source, site / name)
        _fill(site, engines, models)
        site.chmod(0o755)
        if out.exists():
            out.rmdir()
        site.rename(out)
    finally:
        shutil.rmtree(site, ignore_errors=True)
    return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


def _model(path: Path, number: int) -> Model:
    """Return what the page is told of an engine that a browser can run."""
    check_file(path, (".onnx",))
    with open_engine(path, backend="onnxruntime") as engine:
        if engine.output.dtype != "uint8":
            raise InputError(
                f"a browser shows pictures of 8 bits, and those of {path} have 16; translate folders with: pix2pix-edge"
                f" run --engine {shlex.quote(str(path))} --source DIR --sink DIR"
            )
        return dataclasses.replace(model_of(path, engine.input), file=f"model-{number}.onnx")


@contextlib.contextmanager
def _package(given: Path | None) -> Iterator[Path]:
    """Yield the folder dist/ of onnxruntime-web, fetched where none is given."""
    if given is not None:
        yield given / "dist" if (given / "dist").is_dir() else given
        return
    by_hand = f"fetch it where you can, with: npm pack {PACKAGE}; unpack it, and give --onnxruntime-web package"
    if shutil.which("npm") is None:
        raise InputError(f"npm, which fetches {PACKAGE}, is not installed; install Node.js, or {by_hand}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", folder]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        except (subprocess.SubprocessError, OSError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines() or [""]
            raise InputError(f"npm could not fetch {PACKAGE} ({said[0][:200]}); {by_hand}") from error
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
            for name in RUNTIME_FILES:
                content = package.extractfile(f"package/dist/{name}")
                assert content is not None
                (Path(folder) / name).write_bytes(content.read())
        yield Path(folder)


def _fill(site: Path, engines: Sequence[Path], models: Sequence[Model]) -> None:
    """Put everything but the runtime into the folder of a site that has that already."""
    pages = {file.name: file for file in page_files("draw")}
    for name, file in pages.items():
        if not name.startswith("sign-in") and name != "remote.js":
            shutil.copyfile(file, site / name)
    runtime_bytes = (site / "onnxruntime.wasm").stat().st_size
    told = []
    for path, model in zip(engines, models, strict=True):
        shutil.copyfile(path, site / model.file)
        told.append(dataclasses.replace(_with_starts(site, model), bytes=runtime_bytes + path.stat().st_size))
    (site / "model.json").write_bytes(settings(told))
    page = (site / "index.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    page = page.replace('<meta charset="utf-8">\n', f'<meta charset="utf-8">\n{policy}', 1)
    (site / "index.html").write_text(page, encoding="utf-8")
    _list_for_offline(site)


def _with_starts(site: Path, model: Model) -> Model:
    """Write the drawings that a model may start from, unless another one has; return the model with their addresses."""
    samples = []
    for number, sample in enumerate(samples_for(model), start=1):
        (site / "samples").mkdir(exist_ok=True)
        shutil.copyfile(sample, site / "samples" / f"{number}.png")
        samples.append(f"samples/{number}.png")
    houses = None
    if takes_houses(model):
        houses = Houses(f"houses/{model.width}/N.png", HOUSES)
        for number in range(HOUSES):
            write_image(site / houses.url.replace("N", str(number)), house(number, model.width))
    return dataclasses.replace(model, samples=tuple(samples), houses=houses)


def _list_for_offline(site: Path) -> None:
    """Tell the service worker every file, and a version that follows from what is in them."""
    worker = site / "service-worker.js"
    names = sorted(file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file() and file != worker)
    version = sha256_of_all([site / name for name in names])
    listed = ", ".join(json.dumps(name) for name in ["./", *names])
    script = worker.read_text(encoding="utf-8").replace('"{{files}}"', listed).replace("{{version}}", version)
    worker.write_text(script, encoding="utf-8")


def sha256_of_all(files: Sequence[Path]) -> str:
    """Return one SHA-256, in hex, of the names and contents of files in order."""
    import hashlib

    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()
