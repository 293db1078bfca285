"""Network cameras, and pictures and videos on a server: what answers decides how it is read."""

from __future__ import annotations

import time

from pix2pix_edge.runtime.addresses import Address, host_of, parse_address
from pix2pix_edge.runtime.frame import Frame, Image, Source
from pix2pix_edge.runtime.images import MAX_PIXELS, decode_image
from pix2pix_edge.runtime.nvidia.capabilities import probe
from pix2pix_edge.runtime.sources import capture
from pix2pix_edge.runtime.sources.capture import BY_TCP, BY_UDP, LOW_DELAY, Capture, open_address, open_pipeline
from pix2pix_edge.runtime.sources.connection import NoVideoError, Response, get
from pix2pix_edge.runtime.sources.gstreamer import has_gstreamer, network_pipeline
from pix2pix_edge.runtime.sources.live import LiveSource
from pix2pix_edge.runtime.sources.motion_jpeg import LARGEST_BYTES, MotionJpeg
from pix2pix_edge.runtime.sources.relay import Relay
from pix2pix_edge.runtime.sources.stored import VideoSource


def open_network(text: str, max_pixels: int = MAX_PIXELS) -> LiveSource | VideoSource | PictureSource:
    """Open an rtsp:// or http:// address: live, unless it is a picture or a video file on a server.

    Raises InputError with the reason when it gives no video.
    """
    address = parse_address(text)
    name = host_of(text)
    if address.scheme.startswith("rtsp"):
        return LiveSource(name, address.shown, lambda: _open_rtsp(address))
    found = _open_http(address, max_pixels)
    if isinstance(found, MotionJpeg):
        first = [found]
        return LiveSource(name, address.shown, lambda: first.pop() if first else _motion_jpeg_again(address))
    if isinstance(found, Capture):
        return VideoSource(found, address.shown, name) if found.frames else _live_video(found, address, name)
    return PictureSource(name, found)


def _live_video(found: Capture, address: Address, name: str) -> LiveSource:
    """A stream in a container, such as MPEG-TS: opened again, now that it is known to be live, with low delay."""
    found.close()
    return LiveSource(name, address.shown, lambda: _open_video(address, LOW_DELAY))


def _timeout_s() -> float:
    return capture.TIMEOUT_MS / 1000


def _open_http(address: Address, max_pixels: int) -> MotionJpeg | Capture | Image:
    response = get(address, _timeout_s())
    start = _beginning(response, address)
    pictures = start.lstrip(b"\r\n").startswith((b"\xff\xd8", b"--"))
    if not pictures and (problem := _no_picture(response.kind, start)):
        response.close()
        raise NoVideoError(address, problem)
    if response.kind.startswith("image/") and (response.length is not None or not pictures):
        return _download(response, address, max_pixels)
    if response.kind.startswith("multipart/") or pictures:
        found = _motion_jpeg(response, address)
        return found if found.only is None or response.kind.startswith("multipart/") else found.only
    response.close()
    return _open_video(address)


def _beginning(response: Response, address: Address) -> bytes:
    """Return the first bytes of the body, and leave them there. Raises NoVideoError where none come."""
    deadline = time.monotonic() + _timeout_s()
    start = b""
    try:
        while len(start) < 16 and (more := response.receive(deadline)):
            start += more
        trouble = response.trouble or "it answered, and hung up without a picture"
    except TimeoutError:
        trouble = f"it is silent: it answered, and sent nothing within {_timeout_s():g} s"
    if not start:
        response.close()
        raise NoVideoError(address, trouble)
    response.put_back(start)
    return start


def _no_picture(kind: str, start: bytes) -> str:
    """Return what an answer is instead of pictures; "" for what may be some."""
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    if kind in ("text/html", "application/xhtml+xml") or head.startswith((b"<!doctype html", b"<html")):
        return "there is a web page, not a camera's stream; give the address of the stream itself"
    if "mpegurl" in kind or "dash+xml" in kind or head.startswith((b"#extm3u", b"<mpd")):
        return "it answers with a playlist (HLS or DASH), which could lead anywhere; give the camera's rtsp:// address"
    if kind.startswith(("text/", "application/json", "application/xml", "audio/")):
        return f"it answers with {kind}, not with a camera's stream; give the address of the stream itself"
    return ""


def _download(response: Response, address: Address, max_pixels: int) -> Image:
    data = b""
    deadline = time.monotonic() + _timeout_s()
    try:
        while len(data) <= LARGEST_BYTES and (more := response.receive(deadline)):
            data += more
    except TimeoutError as error:
        raise NoVideoError(address, f"its picture has not come within {_timeout_s():g} s") from error
    finally:
        response.close()
    if len(data) > LARGEST_BYTES:
        raise NoVideoError(address, f"its picture has more than {LARGEST_BYTES >> 20} MiB")
    return decode_image(data, address.shown, max_pixels)


def _motion_jpeg(response: Response, address: Address) -> MotionJpeg:
    pictures = MotionJpeg(response, _timeout_s())
    if not pictures.began:
        pictures.close()
        raise NoVideoError(address, pictures.trouble)
    return pictures


def _motion_jpeg_again(address: Address) -> MotionJpeg:
    found = _open_http(address, MAX_PIXELS)
    if not isinstance(found, MotionJpeg):
        raise NoVideoError(address, "it sends something else than before")
    return found


def _open_video(address: Address, *options: str) -> Capture:
    """Open what is no JPEG with FFmpeg. Raises NoVideoError."""
    relay = Relay(address, _timeout_s())
    found = open_address(relay.url, *options, after=relay.close)
    if found is None:
        reason = relay.trouble or "what it sends is no video that OpenCV can decode"
        relay.close()
        raise NoVideoError(address, reason)
    return found


def _open_rtsp(address: Address) -> Capture:
    """Open a camera, by TCP where it can, by UDP where it must. Raises NoVideoError."""
    relay = Relay(address, _timeout_s())
    if probe().jetson_model and has_gstreamer():
        found = open_pipeline(network_pipeline(relay.url), relay.close)
        if found is not None:
            if found.read():  # a pipeline may start, and then find no decoder for what comes
                return found
            found.close()
            relay = Relay(address, _timeout_s())
    found = open_address(relay.url, BY_TCP, LOW_DELAY, after=relay.close)
    if found is None and relay.transport_refused:  # some do not say 461, with which FFmpeg would do so itself
        found = open_address(relay.url, BY_UDP, LOW_DELAY, after=relay.close)
    if found is None:
        reason = relay.trouble or _why_none(relay)
        relay.close()
        raise NoVideoError(address, reason)
    found.trouble = _why_none(relay)
    return found


def _why_none(relay: Relay) -> str:
    if not relay.asked:
        return "FFmpeg did not take the address; see that it is written as the camera's manual has it"
    if not relay.answered:
        return f"it is silent: it took the connection, and has not answered within {_timeout_s():g} s"
    if relay.played and relay.codec:
        return (
            f"it plays, but of its {relay.codec} video no picture could be decoded within {_timeout_s():g} s; set the"
            " camera to H.264, and see that no firewall keeps UDP packets out"
        )
    return f"it sends {relay.codec or 'something'} that this OpenCV cannot decode; set the camera to H.264"


class PictureSource(Source):
    """One picture, from a server."""

    frames = 1

    def __init__(self, name: str, image: Image) -> None:
        self.name = name
        self._image: Image | None = image

    def read(self) -> Frame | None:
        image, self._image = self._image, None
        return None if image is None else Frame(0, time.monotonic_ns(), self.name, image, timings={"capture": 0})

    def close(self) -> None:
        self._image = None
