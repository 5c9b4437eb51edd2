"""Images of a gallery's tiles, in one way wherever they are: stored in the database or referenced in their source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import get_ident

import cv2
import numpy as np

from rsloc_db import imagery
from rsloc_db.db.connection import Connection
from rsloc_db.db.galleries import Gallery, TileRow, tile_images
from rsloc_db.errors import GalleryError, ImageError
from rsloc_db.gallery import open_gallery
from rsloc_db.gallery.reader import GalleryReader, tile_name
from rsloc_db.grids import TILE_PX
from rsloc_db.types import Image, Mask


def load_mosaic(
    conn: Connection,
    gallery: Gallery,
    level: int,
    columns: tuple[int, int],
    rows: tuple[int, int],
    step: int = 1,
    layer: int = 0,
    *,
    grey: bool = False,
) -> tuple[Image, Mask]:
    """Paste the tiles of a box of cells together, one a cell, each averaged down as it comes: memory is the result's.

    Args:
        conn: a connection.
        gallery: the gallery, images stored or referenced.
        level: level of the tiles.
        columns: first and last column, both included; they may run past either end of the grid (antimeridian).
        rows: first and last row, both included.
        step: a power of two up to 256: so many pixels each way become one.
        layer: of several dates 0 takes the newest of each cell, 1 the one before it, and so on, or the oldest.
        grey: whether to leave the colours out, which takes less time.

    Returns:
        (256 / step rows, 256 / step columns, 3) uint8 RGB, or grey without the last axis, and its mask;
        where there is no tile, black and False.

    Raises:
        GalleryError: a tile cannot be read.
    """
    side = TILE_PX // step
    valid = np.zeros((side * (rows[1] - rows[0] + 1), side * (columns[1] - columns[0] + 1)), bool)
    image = np.zeros(valid.shape if grey else (*valid.shape, 3), np.uint8)
    for tile in read_tiles(conn, gallery, level, columns, rows, layer=layer):
        top, left = side * (tile.cell.row - rows[0]), side * (tile.cell.column - columns[0])
        box = (slice(top, top + side), slice(left, left + side))
        pixels, mask = decode_tile(gallery, tile, grey=grey)
        image[box] = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA) if step > 1 else pixels
        valid[box] = mask[::step, ::step]
    return image, valid


def read_tiles(
    conn: Connection,
    gallery: Gallery,
    level: int,
    columns: tuple[int, int],
    rows: tuple[int, int],
    *,
    layer: int | None = None,
) -> Iterator[TileRow]:
    """Yield the tiles of a box of cells with their encoded images, the newest date of a cell first.

    Columns may run past either end of the grid; cells come back with columns counted as asked for.
    """
    for first, last, turn in _turns(columns, 2**level):
        for row in tile_images(conn, gallery.id, level, (first, last), rows, layer=layer):
            data = row.data if gallery.images == "stored" else _referenced(gallery, row)
            yield replace(row, cell=replace(row.cell, column=row.cell.column + turn), data=data)


def decode_tile(gallery: Gallery, tile: TileRow, *, grey: bool = False) -> tuple[Image, Mask]:
    """Return a tile's (256, 256, 3) uint8 RGB or (256, 256) grey image and its mask.

    Raises:
        GalleryError: the image is missing or damaged, though it was fine when it was ingested.
    """
    try:
        return imagery.decode_tile(tile.data or b"", checked=True, grey=grey)
    except ImageError as error:
        raise GalleryError(
            f"gallery {gallery.name!r}: tile {tile_name(tile.cell)} cannot be read any more ({error}); "
            f"`rsloc-db galleries show {gallery.name}` tells its source"
        ) from error


def paste(images: dict[tuple[int, int], tuple[Image, Mask]], columns: range, rows: range) -> tuple[Image, Mask]:
    """Paste 256 x 256 px images and their masks, keyed (column, row), into one; see ``imagery.mosaic``."""
    image, valid = imagery.mosaic({key: image for key, (image, _) in images.items()}, columns, rows)
    for (column, row), (_, mask) in images.items():
        if not mask.all():
            top, left = TILE_PX * rows.index(row), TILE_PX * columns.index(column)
            valid[top : top + TILE_PX, left : left + TILE_PX] = mask
    return image, valid


def _turns(columns: tuple[int, int], size: int) -> Iterator[tuple[int, int, int]]:
    """Split columns where they pass an end of the grid: first and last column of the grid, and what to add to them."""
    for turn in range(columns[0] // size * size, columns[1] + 1, size):
        yield max(columns[0] - turn, 0), min(columns[1] - turn, size - 1), turn


def _referenced(gallery: Gallery, row: TileRow) -> bytes | None:
    return _reader(gallery.source, row.cell.level, get_ident()).read(row.cell, row.captured_at)


@lru_cache(maxsize=8)
def _reader(source: str, level: int, thread: int) -> GalleryReader:
    """Open a source once a thread: neither SQLite nor GDAL lets another one use what this one opened."""
    return open_gallery(Path(source), level=level)
