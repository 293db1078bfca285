"""The page to draw on: a drawing goes to the engine as PNG, its picture comes back as PNG.

/               the page                        /house.png    the label map of a drawn facade; ?seed=N
/model.json     size, palette, starts           /samples/N.png  drawings to start from
/translate      POST a PNG, get the picture     /health       200 while the engine works, else 503; needs no token
/metrics        Prometheus' text format

Nothing that anyone draws is kept.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.facades.scene import label_map, random_scene
from pix2pix_edge.runtime.facades.styles import CLASSES
from pix2pix_edge.runtime.frame import BadPictureError, Image, fit
from pix2pix_edge.runtime.images import decode_image, encode_image
from pix2pix_edge.runtime.sidecar import Colour, TensorSpec, read_sidecar
from pix2pix_edge.runtime.web.guard import Buckets, network_of
from pix2pix_edge.runtime.web.prometheus import Metrics
from pix2pix_edge.runtime.web.server import Handler
from pix2pix_edge.runtime.web.site import RefusedError, Route, Site, slow_down
from pix2pix_edge.runtime.web.translator import SupersededError, Translator, UnavailableError

DRAWINGS, DRAWINGS_PER_S = 60, 60.0
"""Drawings of one visitor, at once and from then on: no screen shows more."""

PNG = b"\x89PNG\r\n\x1a\n"

LONGEST_NAME = 64
"""Characters of the name that a page gives its visitor."""

HOUSES = 1 << 31
"""Seeds of drawn facades."""

SAMPLES, SAMPLES_SIZE = Path(__file__).resolve().parents[2] / "samples", 256


@dataclass(frozen=True)
class Houses:
    """Drawn facades to start from. url: of one, with N for its number. count: how many there are."""

    url: str
    count: int


@dataclass(frozen=True)
class Model:
    """What the page knows of a model.

    palette: empty where it does not take label maps. samples: addresses of drawings to start from. houses: None where
    the palette has not all colours of a drawn facade. file: the .onnx that the browser runs, "" where the server
    computes. bytes: that it loads for that.
    """

    name: str
    width: int
    height: int
    palette: tuple[Colour, ...]
    samples: tuple[str, ...] = ()
    houses: Houses | None = None
    file: str = ""
    bytes: int = 0


def model_of(path: Path, takes: TensorSpec) -> Model:
    """Return what an engine's file tells of a model. takes: the engine's input.

    Raises EngineError where it takes more than one picture at a time.
    """
    batch, height, width = takes.shape[:3]
    if batch != 1:
        raise EngineError(
            f"the page shows one picture at a time, and {path} takes {batch}; convert its model again, which gives it a"
            " batch of 1"
        )
    sidecar = read_sidecar(path)
    return Model(path.name.partition(".")[0], width, height, sidecar.palette if sidecar else ())


def takes_houses(model: Model) -> bool:
    """Whether drawn facades, which are square, are drawings for this model: its palette has all their colours."""
    return model.width == model.height and set(CLASSES.values()) <= {colour.colour for colour in model.palette}


def samples_for(model: Model) -> list[Path]:
    """Return the drawings of this project that a model may start from."""
    return sorted(SAMPLES.glob("*.png")) if takes_houses(model) and model.width == SAMPLES_SIZE else []


def settings(models: Sequence[Model]) -> bytes:
    """Return model.json, which the page asks for first."""
    return json.dumps({"models": [asdict(model) for model in models]}).encode()


def house(seed: int, size: int) -> Image:
    """Return the label map of a drawn facade: uint8 [size, size, 3], RGB; the same seed gives the same."""
    return label_map(random_scene(np.random.default_rng(seed), size))


class DrawingSite(Site):
    """Serves the page of one engine."""

    def __init__(self, translator: Translator, model: Model) -> None:
        self._translator, self._width, self._height = translator, model.width, model.height
        self.pages, self._drawings = {"/": "draw"}, Buckets(DRAWINGS, DRAWINGS_PER_S)
        files = enumerate(samples_for(model), start=1)
        pictures = {f"/samples/{number}.png": file.read_bytes() for number, file in files}
        houses = Houses("house.png?seed=N", HOUSES) if takes_houses(model) else None
        self._settings = settings([replace(model, samples=tuple(path[1:] for path in pictures), houses=houses)])
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

    def _model(self, request: Handler) -> None:
        request.answer(200, "application/json", self._settings)

    def _house(self, request: Handler) -> None:
        seed = request.query.get("seed", "")
        if not (seed.isascii() and seed.isdecimal() and len(seed) < 11 and int(seed) < HOUSES):
            raise RefusedError(400, f"seed is a number below {HOUSES}.")
        request.answer(200, "image/png", encode_image(".png", house(int(seed), self._width)))

    def _translate(self, request: Handler) -> None:
        visitor = request.headers.get("X-Visitor", "")[:LONGEST_NAME]
        address = network_of(request.client)
        if seconds := self._drawings.wait(f"{address} {visitor}"):
            raise slow_down("Too many drawings", seconds)
        if request.headers.get_content_type() != "image/png":
            raise RefusedError(415, "A drawing is sent as image/png.")
        image = decoded(request.body(4 * self._width * self._height + (64 << 10)), self._width, self._height)
        try:
            picture = self._translator.translate(address, visitor, fit(image, self._translator.input.shape[1:]))
        except SupersededError:
            return request.answer(204, "image/png", b"")  # no error, which a browser would complain of
        except UnavailableError as error:
            raise RefusedError(503, f"There is no picture: {error}", {"Retry-After": "1"}) from None
        request.answer(200, "image/png", encode_image(".png", picture))

    def _health(self, request: Handler) -> None:
        trouble = self._translator.trouble
        body = json.dumps({"state": "failed" if trouble else "ready"}) + "\n"
        request.answer(503 if trouble else 200, "application/json", body.encode())

    def _metrics(self, request: Handler) -> None:
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


def decoded(data: bytes, width: int, height: int) -> Image:
    """Return a PNG of width × height pixels as uint8 [height, width, 3] RGB, as a folder of pictures would be read.

    Raises RefusedError for anything else; what is too large is not decoded.
    """
    if len(data) < 33 or not data.startswith(PNG) or data[12:16] != b"IHDR":
        raise RefusedError(400, "That is no PNG.")
    columns, rows = struct.unpack_from(">II", data, 16)
    if (columns, rows) != (width, height):
        raise RefusedError(400, f"The drawing has {columns} × {rows} pixels; this model takes {width} × {height}.")
    try:
        return decode_image(data, "drawing")
    except BadPictureError:
        raise RefusedError(400, "The PNG is damaged.") from None
