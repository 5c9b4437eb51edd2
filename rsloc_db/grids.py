"""Tile grids: which cell holds a place, and where a cell lies. Pure maths on numbers and arrays; no pixels, no files.

Two grids are known: ``GoogleEarthGrid``, the quadtree over longitude and latitude that RSLoc's galleries use, and
``WebMercatorGrid``, the XYZ scheme of web maps. They are told apart by name and never guessed.

*Grid pixels* (x_px, y_px) are the common frame of a level: x runs east from -180 degrees, y runs down from the top of
the grid, and one cell is 256 x 256 of them, so cell (column, row) covers x in [256 column, 256 (column + 1)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rsloc_db.errors import GalleryError
from rsloc_db.types import Bounds, Cell, Floats

TILE_PX = 256
EARTH_RADIUS_M = 6378137.0
"""Radius of the sphere of Web Mercator (EPSG:3857)."""
MERCATOR_HALF_M = np.pi * EARTH_RADIUS_M
MERCATOR_MAX_LAT_DEG = 85.0511287798066


class TileGrid(Protocol):
    """A quadtree of square tiles in some plane."""

    @property
    def name(self) -> str:
        """Name as stored in ``gallery.grid``."""

    def to_pixels(self, lon_deg: Floats, lat_deg: Floats, level: int) -> tuple[Floats, Floats]:
        """Return grid pixels (x_px, y_px) of places (EPSG:4326)."""

    def to_lonlat(self, x_px: Floats, y_px: Floats, level: int) -> tuple[Floats, Floats]:
        """Return lon, lat in degrees (EPSG:4326) of grid pixels; x wraps at the antimeridian."""


@dataclass(frozen=True)
class GoogleEarthGrid:
    """The quadtree over [-180, 180] x [-180, 180] degrees; only the middle half of its rows is on Earth.

    Column 0 begins at longitude -180, row 0 at "latitude" +180, rows run downward; a tile of level L is 360 / 2^L
    degrees on a side (RSLoc-82K, DATASET: the samples line up with it to a pixel).
    """

    name: str = "google_earth"

    def to_pixels(self, lon_deg: Floats, lat_deg: Floats, level: int) -> tuple[Floats, Floats]:
        """Return grid pixels (x_px, y_px) of places (EPSG:4326)."""
        scale = TILE_PX * 2.0**level / 360.0
        return (np.asarray(lon_deg, float) + 180.0) * scale, (180.0 - np.asarray(lat_deg, float)) * scale

    def to_lonlat(self, x_px: Floats, y_px: Floats, level: int) -> tuple[Floats, Floats]:
        """Return lon, lat in degrees (EPSG:4326) of grid pixels; x wraps at the antimeridian."""
        scale = 360.0 / (TILE_PX * 2.0**level)
        return wrap_lon(np.asarray(x_px, float) * scale - 180.0), 180.0 - np.asarray(y_px, float) * scale


@dataclass(frozen=True)
class WebMercatorGrid:
    """The XYZ scheme of web maps: EPSG:3857, row 0 at the top (TMS counts from the bottom: see ``flip_row``)."""

    name: str = "web_mercator"

    def to_pixels(self, lon_deg: Floats, lat_deg: Floats, level: int) -> tuple[Floats, Floats]:
        """Return grid pixels (x_px, y_px) of places (EPSG:4326); latitudes are clipped to the grid's +-85.05."""
        size = TILE_PX * 2.0**level
        x_m, y_m = lonlat_to_mercator(lon_deg, lat_deg)
        return (x_m / MERCATOR_HALF_M + 1.0) * size / 2, (1.0 - y_m / MERCATOR_HALF_M) * size / 2

    def to_lonlat(self, x_px: Floats, y_px: Floats, level: int) -> tuple[Floats, Floats]:
        """Return lon, lat in degrees (EPSG:4326) of grid pixels; x wraps at the antimeridian."""
        size = TILE_PX * 2.0**level
        # longitude straight from pixels: through metres the edge at -180 would come back as +180
        lon = wrap_lon(np.asarray(x_px, float) * (360.0 / size) - 180.0)
        return lon, _mercator_lat((1.0 - np.asarray(y_px, float) * 2 / size) * MERCATOR_HALF_M)


GRIDS: dict[str, TileGrid] = {g.name: g for g in (GoogleEarthGrid(), WebMercatorGrid())}


def grid(name: str) -> TileGrid:
    """Return a grid by its name.

    Raises:
        GalleryError: no grid has that name.
    """
    if name not in GRIDS:
        raise GalleryError(f"unknown tile grid {name!r}: expected one of {', '.join(GRIDS)}")
    return GRIDS[name]


def wrap_lon(lon_deg: Floats) -> Floats:
    """Bring longitudes into [-180, 180)."""
    return (np.asarray(lon_deg, float) + 180.0) % 360.0 - 180.0


def lonlat_to_mercator(lon_deg: Floats, lat_deg: Floats) -> tuple[Floats, Floats]:
    """Return EPSG:3857 metres (x_m, y_m) of lon, lat in degrees; latitudes are clipped to +-85.05."""
    lat = np.radians(np.clip(np.asarray(lat_deg, float), -MERCATOR_MAX_LAT_DEG, MERCATOR_MAX_LAT_DEG))
    return np.radians(np.asarray(lon_deg, float)) * EARTH_RADIUS_M, np.arctanh(np.sin(lat)) * EARTH_RADIUS_M


def mercator_to_lonlat(x_m: Floats, y_m: Floats) -> tuple[Floats, Floats]:
    """Return lon, lat in degrees of EPSG:3857 metres; longitudes wrap at the antimeridian."""
    return wrap_lon(np.asarray(x_m, float) / MERCATOR_HALF_M * 180.0), _mercator_lat(y_m)


def _mercator_lat(y_m: Floats) -> Floats:
    return np.asarray(np.degrees(np.arctan(np.sinh(np.asarray(y_m, float) / EARTH_RADIUS_M))))


def cell_at(tile_grid: TileGrid, lon_deg: float, lat_deg: float, level: int) -> Cell:
    """Return the cell that holds a place; a place on a border belongs to the cell to its east and south.

    Places beyond the grid's edge, and the edge itself (longitude 180, the south pole), belong to the last cell.
    """
    x, y = tile_grid.to_pixels(np.array(lon_deg), np.array(lat_deg), level)
    rows = rows_on_earth(tile_grid.name, level)
    row = min(max(int(y // TILE_PX), rows[0]), rows[-1])
    return Cell(level, min(max(int(x // TILE_PX), 0), 2**level - 1), row)


def rows_on_earth(grid_name: str, level: int) -> range:
    """Return the rows of a level that touch the Earth: all of Web Mercator's, the middle half of Google Earth's."""
    size = 2**level
    if grid_name == "web_mercator" or level == 0:
        return range(size)
    # latitudes from 90 to -90 of a grid from 180 to -180; level 1 has both its rows halfway on Earth
    return range(size // 4, -(-3 * size // 4))


def cell_bounds(tile_grid: TileGrid, cell: Cell) -> Bounds:
    """Return the box that a cell covers, in degrees."""
    x = np.array([cell.column, cell.column + 1]) * TILE_PX
    y = np.array([cell.row, cell.row + 1]) * TILE_PX
    # the eastern edge of the last column is +180, not -180
    (west, _), (north, south) = tile_grid.to_lonlat(x, y, cell.level)
    return Bounds(float(west), float(south), float(west) + 360.0 / 2**cell.level, float(north))


def cell_center(tile_grid: TileGrid, cell: Cell) -> tuple[float, float]:
    """Return lon, lat of the middle of a cell: of its bounds in degrees, as the RSLoc authors define it."""
    b = cell_bounds(tile_grid, cell)
    return (b.west_deg + b.east_deg) / 2, (b.south_deg + b.north_deg) / 2


def flip_row(cell: Cell) -> Cell:
    """Turn a TMS row (from the bottom) into an XYZ row (from the top), or back."""
    return Cell(cell.level, cell.column, 2**cell.level - 1 - cell.row)


def nominal_resolution_m(level: int) -> float:
    """Return metres a pixel at the equator: the "resolution" of the RSLoc CSVs (4.777 at level 15)."""
    return float(2 * MERCATOR_HALF_M / (TILE_PX * 2**level))


def ground_resolution_m(tile_grid: TileGrid, level: int, lat_deg: float) -> tuple[float, float]:
    """Return ground metres a pixel (eastward, northward) on the sphere at a latitude."""
    east = nominal_resolution_m(level) * float(np.cos(np.radians(lat_deg)))
    return (east, east) if tile_grid.name == "web_mercator" else (east, nominal_resolution_m(level))
