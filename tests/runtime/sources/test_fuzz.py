"""Whatever the readers of sources are fed, a sentence comes out: no traceback, no hang, no secret."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pix2pix_edge.runtime.addresses import parse_address, redacted, shown, split_options
from pix2pix_edge.runtime.errors import InputError, ToolkitError, printable
from pix2pix_edge.runtime.files import distinct_names
from pix2pix_edge.runtime.images import decode_image
from pix2pix_edge.runtime.sources import open_source
from pix2pix_edge.runtime.sources.authorization import authorization_for
from pix2pix_edge.runtime.sources.containers import find_break
from tests.runtime.sources.ip_camera import part
from tests.runtime.sources.test_network import QUIRKS, server

BOUNDED = settings(
    deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
IMAGE = np.random.default_rng(3).integers(0, 256, (16, 24, 3), np.uint8)
FILES = {
    ending: cv2.imencode(ending, IMAGE)[1].tobytes() for ending in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm")
}


@st.composite
def damaged(draw: st.DrawFn, wholes: tuple[bytes, ...]) -> bytes:
    """Return a file with bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        data[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


SIGNS = st.characters(codec="utf-8", exclude_characters="\0")
SPECS = st.one_of(
    st.text(SIGNS, max_size=30),
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(
                ["test://", "csi://", "0?", "/dev/video97?", "rtsp:/", "http://[", "rtsp://:", "u:p@", "ftp://"]
            ),
            st.text(st.sampled_from("0123456789x@.:/?&=#%[]*~sizeformatflip é\x1b\n"), max_size=25),
        ),
    ),
)


@BOUNDED
@given(SPECS)
def test_any_spec_is_a_source_or_a_sentence(spec: str) -> None:
    if spec.startswith(("http", "rtsp://")) and "[" not in spec:  # it might be somebody's host
        return
    with contextlib.suppress(ToolkitError):
        open_source(spec).close()


@BOUNDED
@given(st.sampled_from(["rtsp", "http", "https", "rtsps"]), st.text(max_size=40))
def test_any_address_is_taken_apart_or_refused_in_a_sentence(scheme: str, rest: str) -> None:
    try:
        address = parse_address(f"{scheme}://{rest}")
    except InputError as error:
        assert printable(str(error))
    else:
        assert 0 < address.port < 65536 and address.target.isascii() and "\r" not in address.target
        assert parse_address(f"{scheme}://{address.userinfo()}host/").password == address.password


@BOUNDED
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12),
    st.sampled_from(["host", "10.0.0.7:554", "[::1]", "camera.local:8080/a"]),
)
@example(":/", "host")
@example(" a://", "host")
def test_no_password_is_shown(sign: str, rest: str) -> None:
    password = f"QQ{sign}QQ"
    for spec in (f"rtsp://me:{password}@{rest}", f"http://me:{password}@{rest}?pw={password}", f"me:{password}@{rest}"):
        assert "QQ" not in shown(spec), spec
    assert "QQ" not in redacted(f"cannot open rtsp://me:{password}@{rest}, gave up")


@BOUNDED
@given(st.text(st.sampled_from("0?size=format&flip@x1230.MJPG٣é"), max_size=30))
def test_any_options_are_understood_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        split_options(f"0?{text}", ("size", "format", "flip"))


@BOUNDED
@given(damaged(tuple(FILES.values())))
def test_any_file_is_a_picture_or_a_sentence(data: bytes) -> None:
    with contextlib.suppress(InputError):
        image = decode_image(data, "a.png", max_pixels=1 << 20)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@BOUNDED
@given(
    st.lists(
        st.text(st.sampled_from("aAb_./1"), min_size=1, max_size=8).map(lambda name: f"/p/{name}x.png"), max_size=8
    )
)
def test_names_are_distinct_and_stay_in_their_folder(paths: list[str]) -> None:
    different = [Path(path) for path in dict.fromkeys(map(str, map(Path, paths)))]
    names = distinct_names(different)
    assert len({name.casefold() for name in names}) == len(different)
    assert not any("/" in name or name in (".", "..", "") for name in names)


@BOUNDED
@given(
    damaged(
        (
            b"\0\0\0\x20ftypisom" + b"\0" * 90,
            b"RIFF\x20\0\0\0AVI " + b"\0" * 90,
            b"\x1aE\xdf\xa3\x83abc\x18S\x80g\x88\x1fC\xb6u\xff\xa3\x81a" + b"\0" * 90,
            b"0&\xb2u" + b"\0" * 12 + b"\x18" + b"\0" * 90,
            b"\0\0\1\xba" + b"D" * 10 + b"\0\0\1\xe0\0\2ab" + b"\0" * 90,
            b"FLV\1\1\0\0\0\x09\0\0\0\0\x09" + b"\0" * 90,
            b"OggS" + b"\0" * 22 + b"\1\4abcd" + b"\0" * 90,
            (b"G" + bytes(187)) * 6,
        )
    )
)
def test_any_container_is_whole_or_not(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    found = find_break(tmp_path / "a.mp4")
    assert found is None or 0 <= found.at <= found.length


@BOUNDED
@given(st.lists(st.text(st.characters(codec="latin-1"), max_size=40), max_size=3))
def test_any_challenge_is_answered_on_one_line(challenges: list[str]) -> None:
    address = parse_address("http://me:secret@host/a")
    for prefix in ("", 'Digest realm="a", nonce="b", '):
        answer = authorization_for(
            [prefix + text.replace("\r", "").replace("\n", "") for text in challenges], address, "/a"
        )
        assert not answer or (answer.startswith("Authorization: ") and answer.count("\n") == 1), "or none for another"
        assert "secret" not in answer


def test_any_answer_of_a_camera_is_pictures_or_a_sentence() -> None:
    whole = b"".join(itertools.chain(QUIRKS["as it should be"](b""), [part(FILES[".jpg"])]))[:9000]

    @settings(BOUNDED, max_examples=60)
    @given(damaged((whole, QUIRKS["chunks"](b"").__next__() + b"5\r\nab")))
    def feed(data: bytes) -> None:
        answers.append(data)
        with contextlib.suppress(InputError):
            open_source(f"http://127.0.0.1:{port}/x").close()

    answers: list[bytes] = []

    def answer(_: bytes) -> Iterator[bytes]:
        yield answers[-1]

    with server(answer, period_s=0.0) as port:
        feed()
