"""Windows: square on the ground, the tile's centre in their middle, neighbours of the nearest date."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from sources import jpeg, picture

from rsloc_db.db.galleries import Gallery, TileRow
from rsloc_db.grids import TILE_PX, cell_at, grid
from rsloc_db.imagery import to_grey
from rsloc_db.stages.embed import Neighbours, cut_window
from rsloc_db.types import Cell

GALLERY = Gallery(1, "land", "google_earth", "ge_tiles", "/land.db", "stored", "", "loading")


@pytest.mark.parametrize("lat_deg", [0.0, 47.0, 60.0, -60.0])
@pytest.mark.parametrize("window_tiles", [1, 3])
def test_window_is_square_on_the_ground(lat_deg: float, window_tiles: int) -> None:
    """A gallery pixel is cos(latitude) as wide as high, so a window is cut cos(latitude) as high as wide in pixels."""
    tile_grid = grid("google_earth")
    cell = cell_at(tile_grid, 5.0, lat_deg, 15)
    ramp = np.arange(3 * TILE_PX) / (3 * TILE_PX) * 250
    mosaic = np.zeros((3 * TILE_PX, 3 * TILE_PX, 3), np.uint8)
    mosaic[..., 0], mosaic[..., 1] = np.rint(ramp)[None, :], np.rint(ramp)[:, None]
    window = cut_window(tile_grid, cell, window_tiles, mosaic, np.ones(mosaic.shape[:2], bool), 96).astype(float)
    across, down = window[:, -1, 0].mean() - window[:, 0, 0].mean(), window[-1, :, 1].mean() - window[0, :, 1].mean()
    assert across == pytest.approx(250 * window_tiles / 3 * 95 / 96, abs=2)
    assert down / across == pytest.approx(np.cos(np.radians(lat_deg)), abs=0.02)
    assert window.mean((0, 1))[:2] == pytest.approx([125, 125], abs=1)


def test_window_of_web_mercator_is_as_high_as_wide() -> None:
    tile_grid = grid("web_mercator")
    mosaic = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
    mosaic[: TILE_PX // 2] = 200
    cell = cell_at(tile_grid, 5.0, 60.0, 15)
    window = cut_window(tile_grid, cell, 1, mosaic, np.ones(mosaic.shape[:2], bool), 64)
    assert window[:31].min() > 190
    assert window[33:].max() < 10


def test_neighbours_are_those_nearest_in_date() -> None:
    def tile(key: int, column: int, year: int | None, shade: int) -> TileRow:
        date = datetime(year, 6, 1, tzinfo=UTC) if year else None
        return TileRow(key, Cell(12, column, 5), date, jpeg(np.full((TILE_PX, TILE_PX, 3), shade, np.uint8)))

    old, new = tile(1, 7, 2004, 40), tile(2, 7, 2020, 80)
    tiles = Neighbours(GALLERY, [old, new, tile(3, 8, 2006, 120), tile(4, 8, 2018, 160), tile(5, 6, None, 200)])
    middle, right, left = (np.s_[300, x] for x in (384, 640, 128))
    for key, own, beside in ((old, 40, 120), (new, 80, 160)):
        image, valid = tiles.around(key, 1)
        assert [int(image[at][0]) for at in (middle, right, left)] == pytest.approx([own, beside, 200], abs=2)
        assert valid[256:512].all()
        assert not valid[:256].any()


@pytest.mark.parametrize("cell", [Cell(1, 0, 0), Cell(1, 1, 1), Cell(20, 7, 2**18), Cell(0, 0, 0)])
def test_windows_at_the_poles_are_images(cell: Cell) -> None:
    """A window at a pole is a line: it is as wide as all the longitudes there are, and hardly high."""
    ramp = np.arange(3 * TILE_PX) / (3 * TILE_PX) * 250
    mosaic = np.repeat(np.repeat(np.rint(ramp)[None, :, None], 3 * TILE_PX, 0), 3, 2).astype(np.uint8)
    window = cut_window(grid("google_earth"), cell, 3, mosaic, np.ones(mosaic.shape[:2], bool), 48)
    assert window.shape == (48, 48, 3)
    assert window[:, -1].min() > 240
    assert window[:, 0].max() < 10


@pytest.mark.parametrize(("grid_name", "most"), [("google_earth", 1), ("web_mercator", 3)])
@pytest.mark.parametrize("grey", [False, True])
def test_windows_of_shrunk_columns_are_those_of_the_whole_mosaic(grid_name: str, most: int, grey: bool) -> None:
    """Also where a tile is missing, and of tiles with another date.

    They are rounded once more. Those of Web Mercator reach out of their tiles by part of a pixel, which takes the mean
    of a column or of them all.
    """
    gallery, early, late = (
        replace(GALLERY, grid=grid_name),
        *(datetime(year, 6, 1, tzinfo=UTC) for year in (2004, 2020)),
    )
    cells = [Cell(12, 2100 + x, 1500 + y) for y in range(5) for x in range(5) if (x, y) != (4, 4)]
    rows = [TileRow(i, cell, early, picture(i)) for i, cell in enumerate(cells)]
    rows.append(TileRow(99, Cell(12, 2101, 1501), late, picture(99)))
    tiles = Neighbours(gallery, rows, grey)
    walked = list(tiles.walk((2101, 2103), (1501, 1503), 1))
    for tile in walked:
        image, valid = tiles.around(tile, 1)
        expected = cut_window(grid(grid_name), tile.cell, 3, image, valid, 96)
        found = tiles.window(tile, 3, 96)
        assert found.shape == ((96, 96) if grey else (96, 96, 3))
        assert np.abs(found.astype(int) - expected).max() <= most
    assert len(walked) == 10


def test_a_grey_window_is_that_of_colours_in_grey() -> None:
    """Also where tiles are missing, and its rim takes the mean."""
    rows = [TileRow(i, Cell(12, 2100 + i % 3, 1500 + i // 3), None, picture(i)) for i in range(8)]
    grey, colours = (Neighbours(GALLERY, rows, which) for which in (True, False))
    for tile, size_px in ((rows[4], 96), (rows[4], 50), (rows[0], 96)):
        for window_tiles in (1, 3):
            expected = to_grey(colours.window(tile, window_tiles, size_px))
            assert np.abs(grey.window(tile, window_tiles, size_px).astype(int) - expected).mean() < 1
