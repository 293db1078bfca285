"""Sheets of pictures: cells where they belong, rows matched by name, and bad folders refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.images import MARGIN, TITLE, sheet
from pix2pix_edge.train.grid import main
from tests.commands import in_process
from tests.conftest import write_rgb


def flat(value: int, side: int = 40) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def cell(drawn: np.ndarray, row: int, column: int, side: int = 40) -> np.ndarray:
    top, left = TITLE + row * (side + MARGIN), MARGIN + column * (side + MARGIN)
    return drawn[top : top + side, left : left + side]


def test_cells_are_where_they_belong() -> None:
    drawn = sheet({"Input": [flat(10), flat(20)], "Predicted": [flat(30), flat(40, side=80)]})
    assert drawn.shape == (TITLE + 2 * (40 + MARGIN), MARGIN + 2 * (40 + MARGIN), 3)
    for row, column, value in ((0, 0, 10), (1, 0, 20), (0, 1, 30), (1, 1, 40)):
        assert (cell(drawn, row, column) == value).all()
    assert (drawn[:TITLE] < 128).any(), "the titles are written"
    assert (drawn[TITLE:, :MARGIN] == 255).all()


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for column, (folder, ending) in enumerate((("labels", "jpg"), ("out", "png"), ("truth", "bmp"))):
        (tmp_path / folder).mkdir()
        for number in range(1, 12):
            write_rgb(tmp_path / folder / f"{number}.{ending}", flat(20 * number + column))
    return tmp_path


def columns(folders: Path) -> list[str]:
    return ["--columns", f"label={folders / 'labels'}", f"made={folders / 'out'}", f"truth={folders / 'truth'}"]


def test_rows_match_by_name_and_spread_over_the_folder(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "out" / "1.png").unlink()
    target = folders / "sheet.png"
    assert main([*columns(folders), "--out", str(target), "--rows", "5"]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    drawn = cv2.imread(str(target))[..., ::-1]
    for row, number in enumerate((2, 4, 6, 8, 10)):
        for column in range(3):
            assert abs(int(cell(drawn, row, column)[20, 20, 0]) - (20 * number + column)) <= 1
    assert drawn.shape[0] == TITLE + 5 * (40 + MARGIN)
    assert main([*columns(folders), "--out", str(target), "--rows", "50"]) == 0  # more than there are pictures
    assert cv2.imread(str(target)).shape[0] == TITLE + 10 * (40 + MARGIN)


def test_the_sheet_is_not_written_over_a_picture_on_it(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = next(path for path in folders.rglob("*.png"))
    before = picture.read_bytes()
    assert main(["--columns", f"A={picture.parent}", "--out", str(picture)]) == 2
    assert "is read, and would be written over" in capsys.readouterr().err and picture.read_bytes() == before


def test_what_is_refused(folders: Path, refused: Callable[[int], str]) -> None:
    target = ["--out", str(folders / "sheet.png")]
    (folders / "empty").mkdir()
    (folders / "other").mkdir()
    write_rgb(folders / "other" / "x.png", flat(1))
    (folders / "text").mkdir()
    (folders / "text" / "1.png").write_text("no image")
    for extra, expected in (
        (f"x={folders / 'empty'}", "holds no images"),
        (f"x={folders / 'nowhere'}", "holds no images"),
        (f"x={folders / 'other'}", "no file name is common"),
        (f"x={folders / 'text'}", "is not a whole image"),
        (columns(folders)[1], "two --columns have the same title"),
    ):
        assert expected in refused(main([*columns(folders), extra, *target]))
    assert not (folders / "sheet.png").exists()


@pytest.mark.parametrize(
    "options", ["--columns nofolder", "--columns a=b --rows 0", "--columns a=b --out sheet.xyz", ""]
)
def test_bad_options(refused: Callable[[int], str], options: str) -> None:
    refused(in_process(main, words=["--out", "sheet.png", *options.split()]))
