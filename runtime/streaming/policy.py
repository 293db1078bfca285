"""What a stream does when it cannot keep up."""

from __future__ import annotations

from dataclasses import dataclass

from pix2pix_edge.runtime.errors import InputError

POLICIES = ("auto", "every_frame", "freshest")
"""What to do when frames come faster than they go: auto is freshest for live sources only."""


@dataclass(frozen=True)
class Policy:
    """How a stream keeps up. freshest: the newest frame is taken and the others dropped; else none is, in order.

    max_staleness: seconds; an older frame is not translated. max_fps: frames per second at most; a live source's
    others are dropped, a stored source waits. slots: frames in the engine at once. strict: a picture that cannot be
    read ends the stream; else it is named and left out.
    """

    freshest: bool
    max_staleness: float | None
    max_fps: float | None
    slots: int
    strict: bool = False

    @classmethod
    def choose(
        cls,
        word: str,
        *,
        live: bool,
        slots: int | None,
        engine_slots: int,
        max_staleness: float | None = None,
        max_fps: float | None = None,
        strict: bool = False,
    ) -> Policy:
        """word: one of runtime.streaming.policy.POLICIES. slots: None for the policy's own. Raises InputError.

        The freshest frame alone is in the engine by default: one submitted behind another would be old when its turn
        comes.
        """
        if word not in POLICIES:
            raise InputError(f"there is no policy {word}; use one of: {', '.join(POLICIES)}")
        if word == "freshest" and not live:
            raise InputError("--policy freshest is for live sources: of a file nothing is dropped; use every_frame")
        freshest = live and word != "every_frame"
        if max_staleness is not None and not (freshest and max_staleness > 0):
            raise InputError("--max-staleness is for --policy freshest, and a number of seconds above 0")
        if max_fps is not None and not max_fps > 0:
            raise InputError("--max-fps is a number of frames per second above 0")
        if slots is not None and not 1 <= slots <= engine_slots:
            raise InputError(f"this engine has {engine_slots} slots, and --slots is {slots}; open it with more")
        return cls(freshest, max_staleness, max_fps, slots or (1 if freshest else engine_slots), strict)


class Pacer:
    """Keeps to max_fps, evenly: a frame is due one period after the last, not after the last one's delay."""

    def __init__(self, max_fps: float | None) -> None:
        self._period = 1e9 / max_fps if max_fps else 0.0
        self._due: float | None = None

    def delay(self, now: int) -> float:
        """Return the seconds until the next frame is due at time.monotonic_ns() `now`; 0 when it is, and count it."""
        if not self._period:
            return 0.0
        due = now if self._due is None else self._due
        # a quarter of a period early is in time: the clock of the source is not ours
        if now < due - self._period / 4:
            return (due - now) / 1e9
        self._due = max(due, now - self._period) + self._period
        return 0.0
