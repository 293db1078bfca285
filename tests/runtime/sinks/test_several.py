from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Source
from pix2pix_edge.runtime.sinks.several import names_of, open_sinks
from pix2pix_edge.runtime.sources import open_source


class Named(Source):
    def __init__(self, name: str) -> None:
        self.name = name

    def read(self) -> None:
        return None

    def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["camera0", "clip"], ["camera0", "clip"]),
        (["test", "test", "Test"], ["test-1", "test-2", "Test-3"]),
        (["a b/c", "../..", "Ä", ""], ["a-b-c", "source-1", "source-2", "source-3"]),
        (["a", "a", "a-1"], ["a-1", "a-2", "a-1-"]),
    ],
)
def test_names_are_different_and_fit_files_and_addresses(given: list[str], names: list[str]) -> None:
    assert names_of([Named(name) for name in given]) == names


def test_each_source_has_sinks_of_its_own(tmp_path: Path) -> None:
    sources = [open_source("test://64x64@10"), open_source("test://32x32@20")]
    specs = [f"{tmp_path}/{{source}}/", f"{tmp_path}/film-{{source}}.webm", "null"]
    sinks = open_sinks(specs, sources, mode="output", limit=None, token=None)
    assert [[sink.name for sink in each] for each in sinks] == [
        [f"test-{n}/", f"film-test-{n}.webm", "null"] for n in (1, 2)
    ]


@pytest.mark.parametrize("spec", ["out.mp4", "out/", "a/out", "film.webm"])
def test_one_place_for_two_sources_is_refused_with_a_sink_that_works(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = [Named("a"), Named("b")]
    with pytest.raises(InputError, match="would get 2 sources") as caught:
        open_sinks([spec], sources, mode="output", limit=None, token=None)
    assert not list(tmp_path.iterdir())
    told = shlex.split(str(caught.value).rpartition("--sink ")[2])[0]
    sinks = open_sinks([told], sources, mode="output", limit=None, token=None)
    with contextlib.ExitStack() as stack:
        for each in sinks:
            stack.callback(each[0].close)
        assert len({each[0].writes for each in sinks}) == 2


def test_what_two_sources_cannot_share(tmp_path: Path) -> None:
    sources = [Named("a"), Named("b")]
    with pytest.raises(InputError, match="a window shows one source"):
        open_sinks(["window"], sources, mode="output", limit=None, token=None)
    specs = [f"{tmp_path}/{{source}}/", f"{tmp_path}/a/"]
    with pytest.raises(InputError, match="would get 2 sources"):
        open_sinks(specs, sources, mode="output", limit=None, token=None)
    clash = [f"{tmp_path}/{{source}}/", f"{tmp_path}/b/../{{source}}/"]
    with pytest.raises(InputError, match="two sinks write to"):
        open_sinks(clash, sources, mode="output", limit=None, token=None)
