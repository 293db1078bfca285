"""An IP camera on loopback: MJPEG over HTTP, from the standard library and OpenCV's JPEG encoder."""

from __future__ import annotations

import http.server
import itertools
import threading
import time

import cv2

from tests.conftest import picture


class IpCamera:
    """Serves numbered pictures to any number of viewers until it is stopped; a context manager."""

    def __init__(self, fps: float = 25.0, port: int = 0, sizes: tuple[tuple[int, int], ...] = ((64, 96),)) -> None:
        """sizes: (height, width) of the pictures, one after the other, over and over."""
        camera = self
        self.stopped = threading.Event()
        self._silenced = threading.Event()
        self.authorizations: list[str | None] = []
        shapes = itertools.cycle(sizes)
        jpegs = [cv2.imencode(".jpg", picture(i, *next(shapes))[..., ::-1])[1].tobytes() for i in range(60)]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.authorizations.append(self.headers.get("Authorization"))
                camera._silenced.clear()
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for jpeg in itertools.cycle(jpegs):
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                        if camera.stopped.wait(1 / fps):
                            return
                        if camera._silenced.is_set():
                            camera.stopped.wait()
                except OSError:
                    return  # the viewer went away

            def log_message(self, *_: object) -> None:
                return

        class Server(http.server.ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def silence(self) -> None:
        """Send the present viewers nothing more, without hanging up; the next one is served again."""
        self._silenced.set()

    def stop(self) -> None:
        """Cut every viewer off and refuse new ones, as a camera without power does."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        time.sleep(0.02)

    def __enter__(self) -> IpCamera:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.stopped.is_set():
            self.stop()
