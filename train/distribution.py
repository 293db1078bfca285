"""Training on several devices or machines: tf.distribute as it is, and who of the workers writes.

A mirrored run uses every GPU of one machine. A multiworker run is started once on each machine, with the same command,
the same --out on a shared disk, and TF_CONFIG set as TensorFlow's guide says; worker 0, the chief, writes the results.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pix2pix_edge.runtime.errors import InputError, ToolkitError

KINDS = ("none", "mirrored", "multiworker")
PATIENCE_S = 600.0
"""So long a worker waits for the others to be started."""

EXAMPLE = 'TF_CONFIG=\'{"cluster": {"worker": ["host0:9000", "host1:9000"]}, "task": {"type": "worker", "index": 0}}\''


@dataclass(frozen=True)
class Place:
    """This process among the workers: its number, from 0, and how many there are."""

    number: int = 0
    workers: int = 1

    @property
    def chief(self) -> bool:
        return self.number == 0


def place_of(kind: str) -> Place:
    """Return this process's place, which a multiworker run takes from TF_CONFIG. Raises InputError."""
    if kind != "multiworker":
        return Place()
    try:
        content = json.loads(os.environ["TF_CONFIG"])
        workers, number = len(content["cluster"]["worker"]), int(content["task"]["index"])
        if content["task"]["type"] != "worker" or not 0 <= number < workers:
            raise ValueError("its task is none of its workers")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"--distribute multiworker finds no usable TF_CONFIG ({error}); set it on every worker, like this on the"
            f" first: {EXAMPLE}"
        ) from error
    return Place(number, workers)


def barrier(place: Place) -> None:
    """Wait until this worker has reached every other one of TF_CONFIG on its port, and every other one this.

    TensorFlow itself would wait for ever, and be deaf to signals. Raises InputError when the port cannot be used, and
    ToolkitError after PATIENCE_S.
    """
    if place.workers == 1:
        return
    addresses = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
    try:
        listening = socket.create_server(("", _host_and_port(addresses[place.number])[1]), backlog=place.workers)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"worker {place.number} cannot listen on {addresses[place.number]} ({error}); give it a free port in every"
            " worker's TF_CONFIG"
        ) from error
    deadline = time.monotonic() + PATIENCE_S
    with listening:
        print(f"worker {place.number} is waiting for {place.workers - 1} more", flush=True)
        for number, address in enumerate(addresses):
            while number != place.number and not _reachable(address):
                if time.monotonic() > deadline:
                    raise ToolkitError(
                        f"worker {number} at {address} did not come within {PATIENCE_S:g} s; start the same command on"
                        " every machine of TF_CONFIG, and look there for an error"
                    )
                time.sleep(0.1)
        for _ in range(place.workers - 1):  # they listen, so they are here, and come any moment
            listening.settimeout(max(1.0, deadline - time.monotonic()))
            try:
                listening.accept()[0].close()
            except TimeoutError as error:
                raise ToolkitError(
                    f"another worker does not reach {addresses[place.number]}; open this port to the others"
                ) from error


def _reachable(address: str) -> bool:
    try:
        socket.create_connection(_host_and_port(address), timeout=5).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def strategy_of(kind: str, batch_size: int) -> Any:
    """Return the tf.distribute strategy; the first thing that TensorFlow is asked for.

    Raises InputError when its replicas cannot share a batch evenly.
    """
    import tensorflow as tf

    if kind == "none":
        return tf.distribute.get_strategy()
    mirrored, multiworker = tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy
    strategy = mirrored() if kind == "mirrored" else multiworker()
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(
            f"--batch-size {batch_size} cannot be shared evenly by {replicas} replicas; give a multiple of {replicas}"
        )
    return strategy


@contextlib.contextmanager
def translate_errors(place: Place) -> Iterator[None]:
    """Turn TensorFlow's errors into ours: no memory, a pair that cannot be read, another worker that has gone."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError from error
    except tf.errors.OpError as error:
        if of_ours := re.search(r"(?:InputError|BadPictureError): (.*)", error.message):  # raised in tf.data's threads
            raise InputError(of_ours[1]) from error
        if place.workers == 1:
            raise
        raise ToolkitError(
            f"another worker has gone ({error.message.splitlines()[0][:120]}); the chief keeps the checkpoint of the"
            " last whole epoch: start all workers again with --resume"
        ) from error
