"""Pictures to draw a map on, made of the galleries' own tiles, bounded in size however large the galleries are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import cv2
import numpy as np

from rsloc_db import grids
from rsloc_db.db.connection import Connection
from rsloc_db.db.export import map_cells
from rsloc_db.db.galleries import Gallery
from rsloc_db.grids import MERCATOR_MAX_LAT_DEG
from rsloc_db.stages.tiles import decode_tile, read_tiles
from rsloc_db.types import Bounds, Cell, Image, Mask

MAX_SIDE_PX = 4096
MAX_TILES = 5000
SPAN = 64
NOTHING = (205, 208, 214)
"""Colour of places of which a gallery has no tile."""


@dataclass(frozen=True, slots=True)
class Basemap:
    """A picture and what it covers.

    Attributes:
        bounds: in degrees (EPSG:4326); longitude and latitude are linear in the pixels.
        image: (H, W, 3) uint8 RGB.
    """

    bounds: Bounds
    image: Image


def basemap(
    conn: Connection,
    galleries: Sequence[tuple[Gallery, int]],
    bounds: Bounds,
    *,
    max_side_px: int = MAX_SIDE_PX,
    max_tiles: int = MAX_TILES,
) -> Basemap:
    """Paste the tiles of galleries within bounds into one picture.

    Of a gallery with too many tiles some are drawn in the place of all: they are then about as small as a pixel.

    Args:
        conn: a connection.
        galleries: (gallery, level), drawn one over the other.
        bounds: what to show.
        max_side_px: longest side of the picture.
        max_tiles: tiles to read of each gallery, about.

    Raises:
        GalleryError: a tile cannot be read any more.
    """
    finest = max((256 * 2**level / 360 for _, level in galleries), default=1.0)
    width_deg, height_deg = bounds.east_deg - bounds.west_deg, bounds.north_deg - bounds.south_deg
    scale = min(max_side_px / max(width_deg, height_deg), finest)
    size = max(1, round(height_deg * scale)), max(1, round(width_deg * scale))
    image = np.full((*size, 3), NOTHING, np.uint8)
    for gallery, level in galleries:
        _draw_gallery(conn, gallery, level, Basemap(bounds, image), max_tiles)
    return Basemap(bounds, image)


def _draw_gallery(conn: Connection, gallery: Gallery, level: int, onto: Basemap, max_tiles: int) -> None:
    grid = grids.grid(gallery.grid)
    cells, stride = map_cells(conn, _cell_box(gallery, level, onto.bounds), max_tiles)
    for columns, row in _spans(cells, stride):
        for tile in read_tiles(conn, gallery, level, columns, (row, row), layer=0):
            first, last = grids.cell_bounds(grid, tile.cell), grids.cell_bounds(grid, _last_of(tile.cell, stride))
            box = Bounds(first.west_deg, last.south_deg, last.east_deg, first.north_deg)
            _paste(*decode_tile(gallery, tile), box, onto)


def _spans(cells: Sequence[Cell], stride: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield what to read at a time: (first, last column) and row; neighbours are read together where all are drawn."""
    for row, line in groupby(cells, key=lambda cell: cell.row):
        columns = [cell.column for cell in line]
        if stride == 1:
            for start in range(columns[0], columns[-1] + 1, SPAN):
                yield (start, min(start + SPAN - 1, columns[-1])), row
        else:
            yield from (((column, column), row) for column in columns)


def _last_of(cell: Cell, stride: int) -> Cell:
    """Return the lower right one of the cells that a cell stands for."""
    end = 2**cell.level - 1
    return Cell(cell.level, min(cell.column + stride - 1, end), min(cell.row + stride - 1, end))


def _cell_box(gallery: Gallery, level: int, bounds: Bounds) -> dict[str, Any]:
    grid = grids.grid(gallery.grid)
    limit = MERCATOR_MAX_LAT_DEG if gallery.grid == "web_mercator" else 90.0
    north, south = (float(np.clip(lat, -limit, limit)) for lat in (bounds.north_deg, bounds.south_deg))
    first = grids.cell_at(grid, bounds.west_deg, north, level)
    last = grids.cell_at(grid, bounds.east_deg, south, level)
    columns = {"first_column": first.column, "last_column": last.column}
    return {"gallery_id": gallery.id, "level": level, **columns, "first_row": first.row, "last_row": last.row}


def _paste(tile: Image, valid: Mask, box: Bounds, onto: Basemap) -> None:
    """Draw a tile where it belongs, shrunk to the picture's scale, as far as it lies inside."""
    height, width = onto.image.shape[:2]
    x_scale = width / (onto.bounds.east_deg - onto.bounds.west_deg)
    y_scale = height / (onto.bounds.north_deg - onto.bounds.south_deg)
    left, right = (round((lon - onto.bounds.west_deg) * x_scale) for lon in (box.west_deg, box.east_deg))
    top, bottom = (round((onto.bounds.north_deg - lat) * y_scale) for lat in (box.north_deg, box.south_deg))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    size = right - left, bottom - top
    small = np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_AREA), np.uint8)
    mask = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    inner = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    onto.image[rows, columns][mask[inner]] = small[inner][mask[inner]]
