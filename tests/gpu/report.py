"""What a machine with an NVIDIA GPU proves, in one folder to send back: `make gpu-report`, on a PC or a Jetson.

python -m tests.gpu.report --out runs/gpu-report

Runs the doctor, the gpu tests three times, copies that overlap computing, the power meter idle and busy, builds of
plans in FP32, FP16 and INT8, each compared with ONNX Runtime, benchmarks with power, streams, and trtexec. On a PC with
a GPU, pycuda and TensorRT are installed first. What the machine lacks is left out and said. Writes FOLDER.zip: a page,
the same as JSON, and each stage's log, without names of people, machines or folders.
"""

from __future__ import annotations

import argparse
import getpass
import html
import importlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pix2pix_edge.runtime.nvidia.capabilities import Capabilities, probe
from tests.conftest import REPOSITORY
from tests.fake_cuda import SITE

SECONDS = 1800
"""A stage that takes longer is ended: a build on a small board takes minutes, not half an hour."""


@dataclass(frozen=True)
class Stage:
    """One command. `lacks`: why it cannot run here, "" where it can."""

    name: str
    proves: str
    command: tuple[str, ...]
    lacks: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: "ok", "failed" or "left out", and the last line that it printed or why it was not run."""

    name: str
    proves: str
    command: str
    state: str
    seconds: float
    said: str


def packages(machine: Capabilities) -> Iterator[Stage]:
    """Yield the installation of pycuda, compiled without a toolkit, and of TensorRT, which a Jetson has."""
    make = ("tests/fake_cuda/install.sh", sys.executable)
    yield Stage(
        "install-pycuda", "it is to be had", make, machine.gpu_missing or ("it is here" if machine.pycuda else "")
    )
    board = "a Jetson's TensorRT comes with JetPack" if machine.jetson_model else ""
    for package, distribution in (("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")):
        there = probe(package=package).tensorrt and "it is here"
        cuda = f"-cu{machine.cuda.partition('.')[0]}"  # the newest that the driver runs
        command = ours("pip", "install", "--quiet", "--disable-pip-version-check", distribution + cuda)
        yield Stage(f"install-{distribution}", "it is to be had", command, machine.gpu_missing or board or there)


def stages(machine: Capabilities, out: Path) -> Iterator[Stage]:
    """Yield every stage in order; plans that were built by then are measured."""
    no_gpu = machine.gpu_missing
    no_pycuda = no_gpu or ("" if machine.pycuda else "pycuda is not installed; run: pip install pycuda")
    no_plans = no_pycuda or ("" if machine.tensorrt else f"TensorRT {machine.tensorrt_missing}")
    yield Stage("doctor", "what is installed", ours("runtime.run", "doctor"))
    smi = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap,power.draw", "--format=csv")
    yield Stage("nvidia-smi", "driver, card", smi, "" if shutil.which(smi[0]) else "there is no nvidia-smi")
    tests = ours("pytest", "-p", "no:cacheprovider", "-rs", "-m", "gpu")
    for time_ in ("", "-again", "-a-third-time"):
        yield Stage(f"gpu-tests{time_}", "memory, streams, events, graphs, threads", (*tests, "tests/gpu"), no_pycuda)
    yield Stage("overlap", "slots overlap copies with computing", ours("tests.gpu.stages", "overlap"), no_pycuda)
    yield Stage("meter", "power idle and under load, clock", ours("tests.gpu.stages", "meter"), no_pycuda)
    yield Stage("build-tests", "the builder's options", (*tests, "tests/export/test_build_gpu.py"), no_plans)
    graphs = out / "graphs"
    yield Stage("graphs", "graphs to build", ours("tests.gpu.stages", "graphs", str(graphs)), no_plans)
    sources = (Path("models/facades.int8.onnx"), *(graphs / f"bench.{p}.onnx" for p in ("fp32", "fp16", "int8")))
    plans = [out / "plans" / source.with_suffix(".plan").name for source in sources]
    for source, plan in zip(sources, plans, strict=True):
        build = ours("export", "build", str(source), "--out", str(plan), "--data", "samples")
        yield Stage(f"build-{plan.stem}", "precision proven, pictures as ONNX Runtime's", build, no_plans)
    plans.append(out / "plans" / "rtx.plan")
    build = ours("export", "build", str(sources[0]), "--out", str(plans[-1]), "--data", "samples", "--rtx")
    yield Stage("build-rtx", "pictures as ONNX Runtime's", build, no_pycuda or lacks_rtx(machine))
    built = [str(plan) for plan in plans if plan.exists()]
    engines = [*built, "models/facades.int8.cpu.onnx"]
    measure = ours("benchmarks", "run", "--data", "samples", "--out", str(out / "benchmarks"), "--engine", *engines)
    yield Stage("benchmarks", "latency, throughput, fidelity, power", measure)
    stream = ours("benchmarks", "stream", "--out", str(out / "stream"), "--seconds", "10", "--engine", engines[0])
    yield Stage("stream", "the streaming loop", stream)
    trtexec = shutil.which("trtexec") or shutil.which("trtexec", path="/usr/src/tensorrt/bin")
    no_trtexec = no_plans or ("" if built else "no plan was built") or ("" if trtexec else "there is no trtexec")
    for plan in [plan for plan in built if not plan.endswith("rtx.plan")] or ["FILE.plan"]:
        command = (trtexec or "trtexec", f"--loadEngine={plan}")
        yield Stage(f"trtexec-{Path(plan).stem}", "NVIDIA's own figures", command, no_trtexec)


def lacks_rtx(machine: Capabilities) -> str:
    """Return why TensorRT-RTX cannot build for the GPU that is here, or ""."""
    found, (major, minor) = probe(package="tensorrt_rtx"), machine.require_gpu().compute_capability
    if not found.tensorrt:
        return f"TensorRT-RTX {found.tensorrt_missing}"
    known = f"SM{major}{minor}" in found.trt().ComputeCapability.__members__
    return "" if known else f"TensorRT-RTX does not build for sm{major}{minor}"


def ours(module: str, *words: str) -> tuple[str, ...]:
    """Return the command of one of this project's modules."""
    return (sys.executable, "-m", module, *words)


def run(stage: Stage, log: Path) -> Outcome:
    """Run a stage, and write what it printed into `log`."""
    words = clean(shlex.join(stage.command))
    if stage.lacks:
        return Outcome(stage.name, stage.proves, words, "left out", 0, clean(stage.lacks))
    start = time.monotonic()
    try:
        done = subprocess.run(
            stage.command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        text, failed = done.stdout.decode(errors="replace"), done.returncode != 0
    except subprocess.TimeoutExpired as error:
        text, failed = f"{(error.stdout or b'').decode(errors='replace')}\nended after {SECONDS} s", True
    except OSError as error:
        text, failed = str(error), True
    text = clean(text)
    log.write_text(text)
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return Outcome(stage.name, stage.proves, words, "failed" if failed else "ok", time.monotonic() - start, last[:200])


def clean(text: str) -> str:
    """Return a text without what says who and where: folders, users, machines, addresses, passwords, serial numbers."""
    user = getpass.getuser()
    places = ((sys.executable, "python"), (str(REPOSITORY), "."), (str(Path.home()), "~"), (platform.node(), "HOST"))
    for secret, word in (*places, ("" if user == "root" else user, "USER")):
        if len(secret) > 1:
            text = re.sub(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", word, text)
    text = re.sub(r"://[^/\s@]+@", "://***@", text)
    text = re.sub(r"(?i)\b((?:\w*(?:token|password|passwd|secret|api_?key))\s*[=:]\s*)\S+", r"\1***", text)
    # A version may look like an address that begins with 10, unless it is a URL's or has a port.
    text = re.sub(r"\b(?:127|169\.254|172|192\.168)(?:\.\d{1,3}){2,3}\b", "ADDRESS", text)
    text = re.sub(r"(?<=://)10(?:\.\d{1,3}){3}|\b10(?:\.\d{1,3}){3}(?=:\d)", "ADDRESS", text)
    identity = r"\b(?:GPU-)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b"
    return re.sub(identity, "ID", text)


def page(facts: dict[str, str], outcomes: list[Outcome], out: Path) -> str:
    """Return the page: one file that opens offline."""
    rows = "".join(f"<tr><th>{html.escape(k)}<td>{html.escape(v)}" for k, v in facts.items())
    table = ""
    for o in outcomes:
        log = out / f"{o.name}.log"
        text = html.escape(log.read_text()) if log.exists() else ""
        shown = f"<details><summary>log</summary><pre>{text}</pre></details>" if text else ""
        table += (
            f"<tr class='{o.state.split()[0]}'><td>{o.name}<td>{html.escape(o.proves)}<td>{o.state}"
            f"<td>{o.seconds:.0f} s<td>{html.escape(o.said)}{shown}"
        )
    style = (
        "body{font:15px sans-serif;max-width:70em;margin:2em auto}td,th{padding:.3em .6em;text-align:left;"
        "vertical-align:top;border-top:1px solid #ccc}.ok td:nth-child(3){color:#070}"
        ".failed td:nth-child(3){color:#b00}.left{color:#777}pre{white-space:pre-wrap;font-size:12px}"
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>GPU report</title><style>{style}</style><h1>GPU report</h1>"
        f"<table>{rows}</table><h2>Stages</h2><table><tr><th>stage<th>what it proves<th>state<th>time<th>last line"
        f"{table}</table><p><a href=benchmarks/report.html>benchmarks</a>, <a href=stream/stream.json>stream</a>"
    )


def describe(machine: Capabilities) -> dict[str, str]:
    """Return the facts at the head of the report."""
    gpu = machine.gpu
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return {
        "GPU": f"{gpu.name}, compute capability {'.'.join(map(str, gpu.compute_capability))}" if gpu else "none",
        "board": f"{machine.jetson_model}, JetPack {machine.jetpack}" if machine.jetson_model else "no Jetson",
        "TensorRT": machine.tensorrt or machine.tensorrt_missing,
        "CUDA, driver": f"{machine.cuda or 'none'}, {machine.driver or 'none'}",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "pix2pix-edge": commit.stdout.strip() or "not a git checkout",
    }


def main(out: Path) -> int:
    """Run every stage; returns 1 where one failed, which what was left out does not."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "plans").mkdir(parents=True)
    outcomes = []

    def perform(stage: Stage) -> None:
        o = run(stage, out / f"{stage.name}.log")
        outcomes.append(o)
        print(f"{o.name:<22} {o.state:<9} {o.seconds:5.0f} s  {o.said}", flush=True)

    machine = probe()
    for stage in packages(machine):
        perform(stage)
    if machine.gpu and not machine.pycuda and SITE.is_dir():
        sys.path.append(str(SITE))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(SITE))))
    importlib.invalidate_caches()
    probe.cache_clear()
    machine = probe()
    for stage in stages(machine, out):
        perform(stage)
    facts = {name: clean(value) for name, value in describe(machine).items()}
    (out / "report.json").write_text(json.dumps({**facts, "stages": [asdict(o) for o in outcomes]}, indent=1))
    (out / "report.html").write_text(page(facts, outcomes, out))
    for private in (*out.glob("plans/*.plan"), *out.glob("graphs/*")):  # large, and of no use on another machine
        private.unlink()
    for file in out.rglob("*"):
        if file.suffix in (".json", ".md", ".html", ".log"):
            file.write_text(clean(file.read_text()))
    packed = shutil.make_archive(str(out), "zip", out)
    print(f"attach this file to an issue: {packed}")
    return int(any(o.state == "failed" for o in outcomes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.report")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-report"), metavar="DIR")
    sys.exit(main(parser.parse_args().out.resolve()))
