from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.engines.shared import SharedEngine
from pix2pix_edge.runtime.errors import EngineError
from tests.conftest import write_inverter
from tests.runtime.doubles import SlowEngine

FOR_EVER = 600.0


def picture(value: int) -> Images:
    return np.full((1, 32, 32, 3), value, np.uint8)


class Counting(SlowEngine):
    """Remembers the first value of each place of each batch."""

    def __init__(
        self, batch: int = 1, seconds: float = 0.0, trouble: Callable[[int], None] = lambda call: None
    ) -> None:
        super().__init__(seconds, trouble=trouble)
        self.input, self.output = (
            type(spec)(spec.name, (batch, *spec.shape[1:]), spec.dtype) for spec in (self.input, self.output)
        )
        self.batches: list[list[int]] = []

    def _run(self, images: Images) -> Images:
        self.batches.append([int(image[0, 0, 0]) for image in images])
        return super()._run(images)


@pytest.fixture
def held() -> Iterator[tuple[Counting, threading.Event]]:
    """An engine whose first call waits for the event."""
    go = threading.Event()
    with Counting(trouble=lambda call: go.wait() and None if call == 1 else None) as engine:
        yield engine, go
        go.set()


def test_each_share_gets_its_own_pictures(tmp_path: Path) -> None:
    def ask(number: int) -> None:
        for value in range(50):
            image = picture((value + 50 * number) % 256)
            assert np.array_equal(shared.shares[number](image), 255 - image)

    for batch in (1, 4):
        file = write_inverter(tmp_path / f"{batch}.onnx", batch=batch)
        with (
            open_engine(file, backend="onnxruntime") as engine,
            SharedEngine(engine, 4) as shared,
            ThreadPoolExecutor(4) as pool,
        ):
            list(pool.map(ask, range(4)))


def test_shares_are_served_in_turn_however_much_one_asks_for(held: tuple[Counting, threading.Event]) -> None:
    engine, go = held
    with SharedEngine(engine, 3) as shared:
        greedy, *others = shared.shares
        tickets = [greedy.submit(picture(1)), greedy.submit(picture(2))]  # both are in the engine's two slots
        waiting = threading.Thread(target=lambda: tickets.append(greedy.submit(picture(3))))
        waiting.start()  # it may have no third
        tickets += [share.submit(picture(value)) for value, share in enumerate(others, start=10)]
        go.set()
        tickets[0].result()
        waiting.join()
        for ticket in tickets[1:]:
            ticket.result()
    assert [batch[0] for batch in engine.batches] == [1, 2, 10, 11, 3]


def test_whoever_does_not_fetch_results_holds_up_nobody(held: tuple[Counting, threading.Event]) -> None:
    engine, go = held
    go.set()
    with SharedEngine(engine, 2) as shared:
        lazy = [shared.shares[0].submit(picture(1)) for _ in range(shared.shares[0].slots)]
        for value in range(20):
            assert shared.shares[1](picture(value))[0, 0, 0, 0] == 255 - value
        assert [ticket.result()[0, 0, 0, 0] for ticket in lazy] == [254] * len(lazy)


@pytest.mark.parametrize("batch", [[0, 1, 2, 3], [0, 1, 2, 2]], ids=["4 of 4", "3 of 4, which wait for no fourth"])
def test_frames_of_several_shares_make_one_batch(batch: list[int]) -> None:
    with Counting(batch=4) as engine, SharedEngine(engine, len(set(batch)), wait_s=FOR_EVER) as shared:
        tickets = [share.submit(picture(value)) for value, share in enumerate(shared.shares)]
        assert [255 - int(ticket.result()[0, 0, 0, 0]) for ticket in tickets] == sorted(set(batch))
    assert engine.batches == [batch]


def test_no_batch_waits_longer_than_it_may_for_a_share_that_is_silent_nor_at_all_for_one_that_has_left() -> None:
    with Counting(batch=2) as engine, SharedEngine(engine, 2, wait_s=0.2) as shared:
        begun = time.monotonic()
        assert shared.shares[0](picture(7))[0, 0, 0, 0] == 248
        assert time.monotonic() - begun >= 0.19
    with Counting(batch=2) as engine, SharedEngine(engine, 2, wait_s=FOR_EVER) as shared:
        ticket = shared.shares[0].submit(picture(7))
        shared.shares[1].close()
        assert ticket.result()[0, 0, 0, 0] == 248


def test_what_comes_while_the_engine_computes_is_joined() -> None:
    go = threading.Event()
    with (
        Counting(batch=2, trouble=lambda call: go.wait() and None if call == 1 else None) as engine,
        SharedEngine(engine, 2, wait_s=0.0) as shared,
    ):
        tickets = [shared.shares[place].submit(picture(value)) for place, value in ((0, 1), (0, 2), (1, 3))]
        go.set()
        for ticket in tickets:
            ticket.result()
    assert engine.batches == [[1, 1], [3, 2]], "whoever was served longest ago comes first"


def test_an_error_reaches_those_whose_frames_were_in_it_and_the_next_batch_goes_on() -> None:
    def fail(call: int) -> None:
        if call == 1:
            raise EngineError("burnt")

    with Counting(batch=2, trouble=fail) as engine, SharedEngine(engine, 2, wait_s=FOR_EVER) as shared:
        for message in ("burnt", ""):
            tickets = [share.submit(picture(1)) for share in shared.shares]
            for ticket in tickets:
                if message:
                    with pytest.raises(EngineError, match=message):
                        ticket.result()
                else:
                    assert ticket.result()[0, 0, 0, 0] == 254


def test_closing_refuses_what_is_in_line(held: tuple[Counting, threading.Event]) -> None:
    engine, go = held
    shared = SharedEngine(engine, 4)
    tickets = [share.submit(picture(1)) for share in shared.shares]
    closing = threading.Thread(target=shared.close)
    closing.start()
    for ticket in tickets[2:]:
        with pytest.raises(EngineError, match="closed"):
            ticket.result()
    go.set()
    closing.join()
    assert [int(ticket.result()[0, 0, 0, 0]) for ticket in tickets[:2]] == [254, 254]
    with pytest.raises(EngineError, match="closed"):
        shared.shares[0].submit(picture(1))
    assert engine(picture(1))[0, 0, 0, 0] == 254, "the engine itself is open"
