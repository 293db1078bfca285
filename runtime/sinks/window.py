"""The window on the desktop."""

from __future__ import annotations

import os
import socket
import sys

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame, Sink, ViewerQuitError, view


class WindowSink(Sink):
    """A window on the desktop; q, Esc or closing it ends the stream. Written from the thread that opened it."""

    TITLE = "pix2pix-edge (q quits)"
    name = "window"
    newest = True
    in_main_thread = True
    watched = True

    def __init__(self, mode: str = "output", *, still: bool = False) -> None:
        """still: each picture stays until a key is pressed. Raises InputError when there is no display."""
        import cv2

        if problem := display_problem():
            raise InputError(f"no window can be shown: {problem}; use --sink FOLDER/ or --sink FILE.mp4")
        self._mode, self._still = mode, still
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # it misses fonts that no picture needs
        try:
            cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise InputError(
                "this OpenCV has no windows; run: pip uninstall opencv-python-headless, then"
                " pip install --force-reinstall opencv-python"
            ) from error
        self._open = True
        self._sized = False

    def write(self, frame: Frame) -> None:
        import cv2

        image = view(frame, self._mode)
        if not self._sized:
            scale = max(1, 512 // image.shape[0])
            cv2.resizeWindow(self.TITLE, image.shape[1] * scale, image.shape[0] * scale)
            self._sized = True
        cv2.imshow(self.TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1)
        while self._still and key < 0 and self._visible():
            key = cv2.waitKey(50)
        if key & 0xFF in (ord("q"), 27) or not self._visible():
            raise ViewerQuitError

    def _visible(self) -> bool:
        import cv2

        try:
            return cv2.getWindowProperty(self.TITLE, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False

    def close(self) -> None:
        import cv2

        if self._open:
            self._open = False
            cv2.destroyAllWindows()
            cv2.waitKey(1)  # lets the window system take it away


def display_problem() -> str:
    """Return why no window can open, or "". Asked first, because without a display Qt aborts the whole process."""
    if sys.platform != "linux":
        return ""
    display = os.environ.get("DISPLAY", "")
    if not display:
        return "this session has no display (DISPLAY is not set)"
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdecimal():
        return f"DISPLAY is {display}, which names no display"
    try:
        if host in ("", "unix"):
            with socket.socket(socket.AF_UNIX) as connection:
                try:
                    connection.connect(f"\0/tmp/.X11-unix/X{number}")
                except OSError:
                    connection.connect(f"/tmp/.X11-unix/X{number}")
        else:
            socket.create_connection((host, 6000 + int(number)), timeout=2).close()
    except OSError:
        return f"nothing answers at DISPLAY {display}"
    return ""
