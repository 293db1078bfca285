"""The page to draw on: a drawing goes to the engine as PNG, its picture comes back as PNG.

/               the page                        /house.png    the label map of a drawn facade; ?seed=N
/model.json     size, palette, what to start from  /samples/N.png  drawings to start from
/translate      POST a PNG, get the picture     /health       200 while the engine works, else 503; needs no token
/metrics        Prometheus' text format

Nothing that anyone draws is kept.
"""

from __future__ import annotations

import json
import shlex
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.facades.plan import label_map, plan_scene
from pix2pix_edge.runtime.facades.styles import CLASSES
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.sidecar import Colour
from pix2pix_edge.runtime.web.guard import Buckets, network_of
from pix2pix_edge.runtime.web.prometheus import Metrics
from pix2pix_edge.runtime.web.site import RefusedError, Request, Route, slow_down
from pix2pix_edge.runtime.web.translator import Spec, SupersededError, Translator, UnavailableError

DRAWINGS, DRAWINGS_PER_S = 60, 60.0
"""Drawings of one visitor, at once and from then on: no screen shows more."""

PNG = b"\x89PNG\r\n\x1a\n"

LONGEST_NAME = 64
"""Characters of the name that a page gives its visitor."""

HOUSES = 1 << 31
"""Seeds of drawn facades."""


@dataclass(frozen=True)
class Houses:
    """Drawn facades to start from. url: of one, with N for its number. count: how many there are."""

    url: str
    count: int


@dataclass(frozen=True)
class Model:
    """What the page knows of a model. palette: empty where it does not take label maps.

    file: the .onnx that the browser runs, "" where the server computes. bytes: that it loads for that.
    """

    name: str
    size: int
    palette: tuple[Colour, ...]
    file: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class Settings:
    """model.json: what the page asks for first. samples: addresses of drawings to start from."""

    models: tuple[Model, ...]
    samples: tuple[str, ...]
    houses: Houses | None

    def as_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def takes_houses(palette: Sequence[Colour]) -> bool:
    """Whether a model's palette has every colour of a drawn facade."""
    return set(CLASSES.values()) <= {colour.colour for colour in palette}


def house(seed: int, size: int) -> Image:
    """Return the label map of a drawn facade: uint8 [size, size, 3], RGB; the same seed gives the same."""
    return label_map(plan_scene(np.random.default_rng(seed), size))


def side_of(takes: Spec, makes: Spec, name: str) -> int:
    """Return the side of an engine's pictures. takes, makes: its input and output. name: the file's, for the message.

    Raises EngineError where it does not take and make one square RGB picture at a time, which is what the page shows.
    """
    shapes = tuple(takes.shape), tuple(makes.shape)
    side = shapes[0][1]
    if shapes != ((1, side, side, 3), (1, side, side, 3)):
        instead = f"translate folders with: pix2pix-edge run --engine {shlex.quote(name)} --source DIR --sink DIR"
        raise EngineError(
            f"the page shows one square RGB picture at a time, and {name} makes {list(shapes[1])} of {list(shapes[0])};"
            f" {instead if shapes[0][0] == 1 else 'convert its model again, which gives it a batch of 1'}"
        )
    return side


class DrawingSite:
    """Serves the page of one engine."""

    pages: ClassVar[Mapping[str, str]] = {"/": "draw"}

    def __init__(self, translator: Translator, model: Model, samples: Sequence[Path]) -> None:
        """samples: PNG files to start from."""
        self._translator, self._size = translator, model.size
        self._drawings = Buckets(DRAWINGS, DRAWINGS_PER_S)
        pictures = {f"/samples/{number}.png": file.read_bytes() for number, file in enumerate(samples, start=1)}
        houses = Houses("house.png?seed=N", HOUSES) if takes_houses(model.palette) else None
        self._settings = Settings((model,), tuple(path[1:] for path in pictures), houses).as_json()
        self.routes = {
            "/model.json": Route(self._model),
            "/translate": Route(self._translate, method="POST"),
            "/health": Route(self._health, is_open=True),
            "/metrics": Route(self._metrics),
            **{path: Route(lambda request, data=data: request.answer(200, "image/png", data))  # type: ignore[misc]
               for path, data in pictures.items()},
        }  # fmt: skip
        if houses:
            self.routes["/house.png"] = Route(self._house)

    def _model(self, request: Request) -> None:
        request.answer(200, "application/json", self._settings)

    def _house(self, request: Request) -> None:
        seed = request.query.get("seed", "")
        if not (seed.isascii() and seed.isdecimal() and len(seed) < 11 and int(seed) < HOUSES):
            raise RefusedError(400, f"seed is a number below {HOUSES}.")
        request.answer(200, "image/png", encoded(house(int(seed), self._size)))

    def _translate(self, request: Request) -> None:
        visitor = request.headers.get("X-Visitor", "")[:LONGEST_NAME]
        address = network_of(request.client)
        if seconds := self._drawings.wait(f"{address} {visitor}"):
            raise slow_down("Too many drawings", seconds)
        if request.headers.get_content_type() != "image/png":
            raise RefusedError(415, "A drawing is sent as image/png.")
        image = decoded(request.body(4 * self._size * self._size + (64 << 10)), self._size)
        try:
            picture = self._translator.translate(address, visitor, image)
        except SupersededError:
            return request.answer(204, "image/png", b"")  # no error, which a browser would complain of
        except UnavailableError as error:
            raise RefusedError(503, f"There is no picture: {error}", {"Retry-After": "1"}) from None
        request.answer(200, "image/png", encoded(picture))

    def _health(self, request: Request) -> None:
        trouble = self._translator.trouble
        body = json.dumps({"state": "failed" if trouble else "ready"}) + "\n"
        request.answer(503 if trouble else 200, "application/json", body.encode())

    def _metrics(self, request: Request) -> None:
        translator, metrics = self._translator, Metrics()
        about = {key: text for key, text in translator.about.items() if key in ("engine", "precision", "device")}
        metrics.add("info", "gauge", "What runs.", (about, 1))
        metrics.add("ready", "gauge", "1 while the engine works.", ({}, int(not translator.trouble)))
        metrics.add("pictures_total", "counter", "Drawings translated.", ({}, translator.pictures))
        metrics.add("drawings_superseded_total", "counter", "Given up for a newer one.", ({}, translator.superseded))
        metrics.add("drawings_waiting", "gauge", "Drawings that wait for the engine.", ({}, translator.waiting()))
        metrics.add("picture_seconds", "summary", "From a drawing's arrival to its picture.",
            *(({"quantile": q}, value) for q, value in translator.quantiles_s().items()))  # fmt: skip
        request.answer(200, "text/plain; version=0.0.4; charset=utf-8", str(metrics).encode())


def encoded(image: Image) -> bytes:
    """Return an image uint8 [H, W, 3] RGB as the PNG that a folder sink would write."""
    import cv2

    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1])


def decoded(data: bytes, size: int) -> Image:
    """Return a PNG of size × size pixels as uint8 [size, size, 3] RGB, as a folder of pictures would be read.

    Raises RefusedError for anything else; what is too large is not decoded.
    """
    import cv2

    if len(data) < 33 or not data.startswith(PNG) or data[12:16] != b"IHDR":
        raise RefusedError(400, "That is no PNG.")
    width, height = struct.unpack(">II", data[16:24])
    if (width, height) != (size, size):
        raise RefusedError(400, f"The drawing has {width} × {height} pixels; this model takes {size} × {size}.")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if b"IEND" in data[-64:] else None
    except cv2.error:
        image = None
    if image is None or image.shape != (size, size, 3):
        raise RefusedError(400, "The PNG is damaged.")
    return np.ascontiguousarray(image[..., ::-1])
