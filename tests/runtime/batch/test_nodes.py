"""A batch on a Ray cluster of three nodes, on this machine by Ray's own utility; run with `make test-batch`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pix2pix_edge.runtime.images import read_image
from tests.commands import python, start
from tests.conftest import picture, write_inverter, write_rgb

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

COUNT = 600


def test_an_engine_that_is_on_no_node_is_one_sentence(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    (tmp_path / "in").mkdir()
    write_rgb(tmp_path / "in" / "1.png", picture(1))
    engine = write_inverter(tmp_path / "inverter.onnx", 32)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        words = ["--engine", engine, "--source", tmp_path / "in", "--sink", tmp_path / "out"]
        hidden = "import sys; from pix2pix_edge.runtime.batch import command; from pathlib import Path;"
        hidden += f" start = command._probe; command._probe = lambda a: (start(a), Path({str(engine)!r}).unlink());"
        hidden += " from pix2pix_edge.__main__ import main; sys.exit(main())"
        done = python("-c", hidden, "batch", *words, "--address", cluster.address)
    finally:
        cluster.shutdown()
    assert done.returncode == 2 and "is not on the node" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == "1 pictures, 0 of them done before\n", done.stdout


def test_gpus_are_asked_of_the_nodes_that_have_them(tmp_path: Path) -> None:
    """A CPU's engine, for what is tried is how Ray is asked."""
    from ray.cluster_utils import Cluster

    (tmp_path / "in").mkdir()
    for index in range(3):
        write_rgb(tmp_path / "in" / f"{index}.png", picture(index))
    words = ["--engine", write_inverter(tmp_path / "inverter.onnx", 32), "--source", tmp_path / "in"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
    try:
        words = ["-m", "pix2pix_edge", "batch", *words, "--sink", tmp_path / "out", "--address", cluster.address]
        refused, done = (python(*words, "--gpus", count) for count in ("2", "1"))
    finally:
        cluster.shutdown()
    assert refused.returncode == 2 and "--gpus 2: Ray sees 1; leave it out" in refused.stderr, refused.stderr
    assert done.returncode == 0 and "3 translated, 0 could not be" in done.stdout, done.stderr


def test_a_node_that_dies_in_mid_run_loses_nothing(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    (tmp_path / "in").mkdir()
    engine = write_inverter(tmp_path / "inverter.onnx", 32)
    for index in range(COUNT):
        write_rgb(tmp_path / "in" / f"{index}.png", picture(index % 60, 300, 300))
    sink = tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
        cluster.wait_for_nodes()
        words = ["--engine", engine, "--source", tmp_path / "in", "--sink", sink, "--address", cluster.address]
        with start("-m", "pix2pix_edge", "batch", *words, stderr=None) as process:
            while len(list(sink.glob("*.png"))) < COUNT // 10:
                assert process.poll() is None
                time.sleep(0.05)
            cluster.remove_node(nodes[1], allow_graceful=False)
            assert len(list(sink.glob("*.png"))) < COUNT, "it was still running"
            stdout, _ = process.communicate(timeout=400)
        assert process.returncode == 0, stdout
    finally:
        cluster.shutdown()
    assert f"{COUNT} translated, 0 could not be" in stdout
    assert len(list(sink.glob("*.png"))) == COUNT
    assert all(read_image(path).shape == (32, 32, 3) for path in sink.glob("*.png"))
