"""What is refused before any Ray is started."""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import pytest

from pix2pix_edge.runtime.batch import command, worker
from pix2pix_edge.runtime.batch.manifest import Manifest
from pix2pix_edge.runtime.errors import InputError
from tests.conftest import picture, write_rgb


def test_a_ray_that_is_too_old_is_named_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("ray")
    old.__version__ = "2.9.3"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", old)
    with pytest.raises(InputError, match=r"Ray 2\.9\.3 is too old, 2\.40 is needed; run: pip install --upgrade"):
        next(command._rows(argparse.Namespace(address=None), [("a.png", "b.png")]))


def test_a_cluster_of_another_version_is_named_with_both() -> None:
    said = "Version mismatch: The cluster has:\n Ray: 2.50.0\nThis process was started with:\n   Ray: 2.60"
    assert command._first_line(RuntimeError(said)).endswith("Ray: 2.50.0 This process was started with: Ray: 2.60")


def test_ray_s_client_is_refused_for_ray_data_does_not_run_through_it() -> None:
    with pytest.raises(InputError, match=r"ray://head:10001.*give the cluster's own HOST:PORT"):
        command._probe("ray://head:10001")


def test_a_node_without_this_package_is_told_what_to_install() -> None:
    said = "The actor died\n  ray.exceptions.RaySystemError: System error: No module named 'pix2pix_edge'\n"
    assert "pip install 'pix2pix-edge[batch]'" in command._first_line(RuntimeError(said))


def test_a_name_that_is_no_text_is_a_bad_picture_and_no_end(tmp_path: Path) -> None:
    pair = ("/in/caf\udce9.png", "/out/caf\udce9.png")
    (row,) = command._rows(argparse.Namespace(), [pair])
    assert row["error"] == "its name is no UTF-8; rename it" and row["source"] == "/in/caf\\udce9.png"
    row["source"].encode()


def test_an_engine_that_is_not_on_a_node_is_named_with_the_node(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"engine\.onnx is not on the node .+; copy it there, to the same path"):
        worker.Worker(str(tmp_path / "engine.onnx"), "auto", 1, "stretch")


@pytest.mark.parametrize(
    ("source", "sink"),
    [("{}", "{}"), ("{}", "file://{}"), ("file://{}", "{}/../in"), ("{}/*.png", "local://{}/link"), ("{}", "{}/hard")],
)
def test_no_spelling_of_the_sink_lets_it_write_over_its_source(tmp_path: Path, source: str, sink: str) -> None:
    folder = tmp_path / "in"
    (folder / "hard").mkdir(parents=True)
    write_rgb(folder / "a.png", picture(1))
    (folder / "link").symlink_to(folder)
    (folder / "hard" / "a.png").hardlink_to(folder / "a.png")
    args = argparse.Namespace(source=source.format(folder), sink=sink.format(folder))
    with pytest.raises(InputError, match="--sink would write over"):
        command.run(args)


def test_two_names_of_one_bucket_are_one_place() -> None:
    with pytest.raises(InputError, match="--sink would write over"):
        command._protect([("s3://b/a.png", "s3a://b/a.png")])
    command._protect([("missing.png", "out/missing.png"), ("s3://b/a.png", "s3://c/a.png")])


def test_pictures_that_no_batch_of_this_engine_wrote_are_not_taken_for_its_own(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    outputs = [str(tmp_path / f"{index}.png") for index in range(2)]
    Path(outputs[1]).touch()
    with pytest.raises(InputError, match=r"1\.png is there already, and no batch wrote it"):
        Manifest(str(tmp_path), "one").begin(outputs)
    Path(outputs[1]).unlink()
    Manifest(str(tmp_path), "one").begin(outputs)
    Path(outputs[1]).touch()  # and killed
    (tmp_path / "manifest" / "part-of-yours.parquet").touch()
    Manifest(str(tmp_path), "one").begin(outputs)
    with pytest.raises(InputError, match="is of another engine"):
        Manifest(str(tmp_path), "two")
