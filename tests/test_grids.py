"""The tile grids against independent libraries, known tiles and themselves."""

from __future__ import annotations

import csv
from pathlib import Path

import mercantile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from rsloc_db import grids
from rsloc_db.errors import GalleryError
from rsloc_db.gallery.reader import misplaced
from rsloc_db.grids import GoogleEarthGrid, TileGrid, WebMercatorGrid
from rsloc_db.types import Cell

EARTH, MERCATOR = GoogleEarthGrid(), WebMercatorGrid()
BOTH = pytest.mark.parametrize("tile_grid", [EARTH, MERCATOR], ids=lambda g: g.name)
LEVELS = st.integers(0, 22)
LONS = st.floats(-180, 180, exclude_max=True)
LATS = st.floats(-85, 85)
TO_MERCATOR = Transformer.from_crs(4326, 3857, always_xy=True)


@given(LONS, LATS, LEVELS)
def test_cell_of_web_mercator_is_mercantile_s(lon: float, lat: float, level: int) -> None:
    x, y = MERCATOR.to_pixels(np.array(lon), np.array(lat), level)
    # on a border the two round differently
    if abs(x / 256 - round(float(x) / 256)) > 1e-6 and abs(y / 256 - round(float(y) / 256)) > 1e-6:
        tile = mercantile.tile(lon, lat, level)
        assert grids.cell_at(MERCATOR, lon, lat, level) == Cell(level, tile.x, tile.y)


@given(LEVELS, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_bounds_of_web_mercator_are_mercantile_s(level: int, column: float, row: float) -> None:
    cell = Cell(level, int(column * 2**level), int(row * 2**level))
    ours, theirs = grids.cell_bounds(MERCATOR, cell), mercantile.bounds(cell.column, cell.row, level)
    found = (ours.west_deg, ours.south_deg, ours.east_deg, ours.north_deg)
    assert found == pytest.approx((theirs.west, theirs.south, theirs.east, theirs.north), abs=1e-9)


@given(st.lists(st.tuples(LONS, LATS), min_size=1, max_size=20))
def test_mercator_metres_are_pyproj_s(places: list[tuple[float, float]]) -> None:
    lon, lat = np.array(places).T
    x, y = grids.lonlat_to_mercator(lon, lat)
    their_x, their_y = TO_MERCATOR.transform(lon, lat)
    assert np.allclose(x, their_x, atol=1e-6)
    assert np.allclose(y, their_y, atol=1e-6)


@BOTH
@given(lon=LONS, lat=LATS, level=LEVELS)
def test_pixels_and_places_are_inverse(tile_grid: TileGrid, lon: float, lat: float, level: int) -> None:
    lon_again, lat_again = tile_grid.to_lonlat(*tile_grid.to_pixels(np.array(lon), np.array(lat), level), level)
    assert abs((float(lon_again) - lon + 180) % 360 - 180) < 1e-9
    assert float(lat_again) == pytest.approx(lat, abs=1e-9)


@BOTH
@given(lon=LONS, lat=LATS, level=LEVELS)
def test_a_cell_holds_its_places_and_its_centre(tile_grid: TileGrid, lon: float, lat: float, level: int) -> None:
    cell = grids.cell_at(tile_grid, lon, lat, level)
    box = grids.cell_bounds(tile_grid, cell)
    assert box.west_deg - 1e-9 <= lon <= box.east_deg + 1e-9
    assert box.south_deg - 1e-9 <= lat <= box.north_deg + 1e-9
    assert misplaced(tile_grid.name, cell) is None
    if level > 0:
        assert grids.cell_at(tile_grid, *grids.cell_center(tile_grid, cell), level) == cell


@BOTH
@given(level=st.integers(1, 22), column=st.floats(0, 1, exclude_max=True), row=st.floats(0.26, 0.74))
def test_neighbours_share_a_border(tile_grid: TileGrid, level: int, column: float, row: float) -> None:
    size = 2**level
    cell = Cell(level, int(column * size), int(row * size))
    box = grids.cell_bounds(tile_grid, cell)
    east = grids.cell_bounds(tile_grid, Cell(level, (cell.column + 1) % size, cell.row))
    south = grids.cell_bounds(tile_grid, Cell(level, cell.column, cell.row + 1))
    assert (east.west_deg - box.east_deg) % 360 == pytest.approx(0, abs=1e-9)
    assert south.north_deg == pytest.approx(box.south_deg, abs=1e-9)


@given(LEVELS, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_tms_rows_flip_and_flip_back(level: int, column: float, row: float) -> None:
    cell = Cell(level, int(column * 2**level), int(row * 2**level))
    assert grids.flip_row(grids.flip_row(cell)) == cell
    assert grids.flip_row(Cell(level, cell.column, 0)).row == 2**level - 1


def test_google_earth_tile_by_an_independent_formula() -> None:
    # counted from the middle of the grid in whole arc seconds: a level-15 tile is 39.55078125 seconds
    second = 360 * 3600 / 2**15
    box = grids.cell_bounds(EARTH, Cell(15, 16158, 12025))
    assert box.west_deg == (16158 - 16384) * second / 3600
    assert box.north_deg == (16384 - 12025) * second / 3600
    assert box.east_deg - box.west_deg == box.north_deg - box.south_deg == second / 3600
    assert grids.cell_center(EARTH, Cell(15, 16158, 12025)) == pytest.approx((-2.4774170, 47.8839111), abs=1e-7)


def test_known_tiles_of_the_two_grids_differ() -> None:
    # Brittany on one grid, Spain on the other (the dataset's own sample)
    lon, lat = grids.cell_center(MERCATOR, Cell(15, 16158, 12025))
    assert (lon, lat) == pytest.approx((-2.477, 43.2), abs=0.1)


def test_published_spacing_and_resolution() -> None:
    for level, resolution, spacing in [(13, 19.109, 4891.970), (14, 9.554, 2445.985), (15, 4.777, 1222.991)]:
        assert grids.nominal_resolution_m(level) == pytest.approx(resolution, abs=1e-3)
        assert grids.nominal_resolution_m(level) * 256 == pytest.approx(spacing, abs=5e-3)


@given(st.floats(-89, 89))
def test_ground_resolution_is_a_geodesic_on_the_sphere(lat: float) -> None:
    sphere, step = Geod(a=grids.EARTH_RADIUS_M, f=0), 360 / 2**15 / 256
    east, north = grids.ground_resolution_m(EARTH, 15, lat)
    assert east == pytest.approx(sphere.inv(0, lat, step, lat)[2], rel=1e-5)
    assert north == pytest.approx(sphere.inv(0, lat - step / 2, 0, lat + step / 2)[2], rel=1e-5)
    assert grids.ground_resolution_m(MERCATOR, 15, lat) == (east, east)


def test_antimeridian_and_poles() -> None:
    assert grids.cell_at(EARTH, 180, -90, 15) == Cell(15, 32767, 24575)
    assert grids.cell_at(EARTH, -180, 90, 15) == Cell(15, 0, 8192)
    assert grids.cell_at(MERCATOR, 180, -89, 3) == Cell(3, 7, 7)
    box = grids.cell_bounds(EARTH, Cell(15, 32767, 8192))
    assert (box.east_deg, box.north_deg) == (180, 90)
    lon, _ = EARTH.to_lonlat(np.array([-256.0, 256.0 * 2**15]), np.array([0.0, 0.0]), 15)
    assert lon.tolist() == [180 - 360 / 2**15, -180]


def test_rows_on_earth() -> None:
    assert [grids.rows_on_earth("google_earth", level) for level in range(4)] == [
        range(1),
        range(2),
        range(1, 3),
        range(2, 6),
    ]
    assert grids.rows_on_earth("web_mercator", 3) == range(8)


def test_unknown_grid_is_named() -> None:
    with pytest.raises(GalleryError, match=r"'tms'.*google_earth, web_mercator"):
        grids.grid("tms")


def test_sample_tiles_are_the_google_queries(shared_data: Path) -> None:
    """Each query of that set is one Google Earth tile: its bounds are the tile's."""
    with (shared_data / "mini" / "RSimages" / "google.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        west, south, east, north = (float(row[key]) for key in ("lon_min", "lat_min", "lon_max", "lat_max"))
        box = grids.cell_bounds(EARTH, grids.cell_at(EARTH, (west + east) / 2, (south + north) / 2, 15))
        pixel = 360 / 2**15 / 256
        found = (box.west_deg, box.south_deg, box.east_deg, box.north_deg)
        assert found == pytest.approx((west, south, east, north), abs=pixel)


def test_sample_tiles_lie_where_published(shared_data: Path) -> None:
    """The three published tiles lie in the footprints of the queries that show them."""
    places: dict[str, tuple[float, ...]] = {}
    for path in (shared_data / "rsloc").rglob("test*.csv"):
        with path.open() as file:
            for row in csv.DictReader(file):
                box = tuple(float(row[key]) for key in ("lon_min", "lat_min", "lon_max", "lat_max"))
                places[row["imgname"].split("_")[0]] = box
    for name, column, row_ in [("m53", 16158, 12025), ("F4", 16400, 12016), ("a140", 16789, 11893)]:
        west, south, east, north = places[name]
        box = grids.cell_bounds(EARTH, Cell(15, column, row_))
        assert west <= box.west_deg < box.east_deg <= east
        assert south <= box.south_deg < box.north_deg <= north
