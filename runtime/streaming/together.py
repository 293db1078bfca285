"""Several streams at once, each in a thread of its own: what ends or fails in one leaves the others as they are."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.errors import warn


class Runs(Protocol):
    """What is run here: a runtime.stream.Stream with an engine, or a share of one, that is its alone."""

    @property
    def engine(self) -> Engine: ...

    def run(self) -> None: ...

    def stop(self) -> None: ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Together:
    """Runs streams to their ends. failed: name -> what a stream failed with, where there were several."""

    def __init__(self, streams: Mapping[str, Runs]) -> None:
        """streams: by the names that a warning calls them."""
        self.failed: dict[str, Exception] = {}
        self._streams = streams

    def run(self) -> None:
        """Return when the last stream has ended and is closed. A warning tells of one that fails."""
        if len(self._streams) == 1:  # it may have a window, which only this thread can write
            for stream in self._streams.values():
                with stream:
                    stream.run()
            return
        threads = [
            threading.Thread(target=self._run, args=(name, stream), name=name, daemon=True)
            for name, stream in self._streams.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, name: str, stream: Runs) -> None:
        try:
            with stream:
                stream.run()
        except Exception as error:
            self.failed[name] = error
            warn(f"{name} has ended: {error}")
        finally:
            stream.engine.close()  # its share: no batch waits for it any more

    def stop(self) -> None:
        """End every stream; the sinks still get what the engine has. May come from any thread."""
        for stream in self._streams.values():
            stream.stop()
