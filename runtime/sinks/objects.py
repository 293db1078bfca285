"""Any Python object that has write() and close() as a sink."""

from __future__ import annotations

from typing import Protocol

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame, Sink


class Writer(Protocol):
    """What an object must offer to be a sink; derive from runtime.frame.Sink to choose more."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> None: ...


class ObjectSink(Sink):
    """A Writer as a sink, named by its own attribute name, or by its class."""

    def __init__(self, writer: Writer) -> None:
        """Raises InputError when it is none."""
        for method in ("write", "close"):
            if not callable(getattr(writer, method, None)):
                raise InputError(f"a {type(writer).__name__} is no sink: it has no method {method}()")
        self.name = str(getattr(writer, "name", "") or type(writer).__name__)
        self._writer: Writer | None = writer

    def write(self, frame: Frame) -> None:
        if self._writer is not None:
            self._writer.write(frame)

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
