"""Pictures of galleries: single tiles, and tiles of web maps made of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np

from rsloc_db import grids
from rsloc_db.db.connection import Connection
from rsloc_db.db.galleries import Gallery, gallery_levels, get_gallery
from rsloc_db.db.service import TileKey, spread_cells
from rsloc_db.errors import GalleryError
from rsloc_db.grids import TILE_PX, TileGrid
from rsloc_db.stages.tiles import decode_tile, load_mosaic, read_tiles
from rsloc_db.types import Cell, Floats, Image, Mask

MERCATOR = grids.WebMercatorGrid()
WHOLE_STEPS = 4
"""Up to so many levels below a gallery's own all its tiles are drawn, further out evenly spread ones stand for all."""
SPREAD = 144
"""How many tiles are drawn at most into one of a map that is zoomed out further."""
JPEG_QUALITY = 88
_FILES = ThreadPoolExecutor(1, thread_name_prefix="files")
"""The one thread that opens the files of galleries whose images are not stored: their readers are of one thread."""


def encode(image: Image, valid: Mask | None) -> tuple[bytes, str]:
    """Encode (H, W, 3) uint8 RGB: as JPEG, or as PNG where some pixels are not valid.

    Returns:
        The encoded image and its media type.
    """
    if valid is None or valid.all():
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return data.tobytes(), "image/jpeg"
    alpha = np.where(valid, np.uint8(255), np.uint8(0))
    _, data = cv2.imencode(".png", np.dstack([cv2.cvtColor(image, cv2.COLOR_RGB2BGR), alpha]))
    return data.tobytes(), "image/png"


def tile_picture(conn: Connection, key: TileKey) -> tuple[bytes, str]:
    """Return the image of a tile of one date, and its media type.

    Raises:
        GalleryError: it cannot be read any more.
    """
    gallery = get_gallery(conn, key.gallery)
    return _drawn(gallery, partial(_single, conn, gallery, key))


def _single(conn: Connection, gallery: Gallery, key: TileKey) -> tuple[Image, Mask]:
    columns, rows = (key.cell.column, key.cell.column), (key.cell.row, key.cell.row)
    for tile in read_tiles(conn, gallery, key.cell.level, columns, rows):
        if tile.captured_at == key.captured_at:
            return decode_tile(gallery, tile)
    raise GalleryError(f"there is no tile of {key.captured_at}")


def _drawn(gallery: Gallery, draw: Callable[[], tuple[Image, Mask]]) -> tuple[bytes, str]:
    """Draw and encode; what goes wrong with a gallery's file is said without its path, which is nobody's business."""
    try:
        return encode(*(draw() if gallery.images == "stored" else _FILES.submit(draw).result()))
    except GalleryError as error:
        raise GalleryError(f"a tile of gallery {gallery.name!r} cannot be read any more") from error


def map_tile(conn: Connection, gallery: Gallery, zoom: int, x: int, y: int) -> tuple[bytes, str]:
    """Return what a gallery shows in a tile of a web map (XYZ, EPSG:3857), and its media type.

    Tiles of the gallery's level that is nearest from above are averaged down and laid under the map's pixels; both of
    the grids there are have rows of one latitude and columns of one longitude, so no more is needed.

    Raises:
        GalleryError: a tile cannot be read any more.
    """
    levels = gallery_levels(conn, gallery.id)
    if not levels:
        return encode(*_nothing())
    level = min((each for each in levels if each >= zoom), default=max(levels))
    steps = max(level - zoom, 0)
    x_px, y_px = _frame(grids.grid(gallery.grid), level, Cell(zoom, x, y))
    if steps <= WHOLE_STEPS:
        return _drawn(gallery, partial(_whole, conn, gallery, level, x_px, y_px))
    return _drawn(gallery, partial(_spread, conn, gallery, level, x_px, y_px, 1 << (steps - WHOLE_STEPS)))


def _nothing() -> tuple[Image, Mask]:
    return np.zeros((TILE_PX, TILE_PX, 3), np.uint8), np.zeros((TILE_PX, TILE_PX), bool)


def _frame(grid: TileGrid, level: int, cell: Cell) -> tuple[Floats, Floats]:
    """Return the grid pixels that the middles of a map tile's columns and rows fall on, (256,) each."""
    middles = np.arange(TILE_PX, dtype=np.float64) + 0.5
    x, y = cell.column * TILE_PX + middles, cell.row * TILE_PX + middles
    lon, lat = MERCATOR.to_lonlat(x, y, cell.level)
    return grid.to_pixels(lon, lat, level)


def _cells(px: Floats) -> tuple[int, int]:
    return int(px[0] // TILE_PX), int(px[-1] // TILE_PX)


def _whole(conn: Connection, gallery: Gallery, level: int, x_px: Floats, y_px: Floats) -> tuple[Image, Mask]:
    """Draw all tiles, averaged down to about the map's scale."""
    columns, rows = _cells(x_px), _cells(y_px)
    step = 1 << max(0, round(float(np.log2((x_px[-1] - x_px[0]) / (TILE_PX - 1)))))
    image, valid = load_mosaic(conn, gallery, level, columns, rows, step)
    across = (x_px - columns[0] * TILE_PX) / step - 0.5
    down = (y_px - rows[0] * TILE_PX) / step - 0.5
    map_x, map_y = np.meshgrid(across.astype(np.float32), down.astype(np.float32))
    drawn = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.remap(valid.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(drawn, np.uint8), seen > 0


def _spread(
    conn: Connection, gallery: Gallery, level: int, x_px: Floats, y_px: Floats, stride: int
) -> tuple[Image, Mask]:
    """Draw evenly spread tiles, each over all the cells that it stands for: stride x stride of a large gallery."""
    image, valid = _nothing()
    (left, right), (top, bottom) = _cells(x_px), _cells(y_px)
    box = {"first_column": left, "last_column": right, "first_row": top, "last_row": bottom}
    cells, stride = spread_cells(conn, {"gallery_id": gallery.id, "level": level, **box}, stride, SPREAD)
    for cell in cells:
        columns, rows = _reach(x_px, cell.column, stride), _reach(y_px, cell.row, stride)
        size = columns.stop - columns.start, rows.stop - rows.start
        for tile in read_tiles(conn, gallery, level, (cell.column,) * 2, (cell.row,) * 2, layer=0):
            pixels, _ = decode_tile(gallery, tile)
            image[rows, columns] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            valid[rows, columns] = True
    return image, valid


def _reach(px: Floats, cell: int, stride: int) -> slice:
    """Return the pixels of the map that some cells cover, one at least."""
    first, last = np.searchsorted(px, [cell * TILE_PX, (cell + stride) * TILE_PX])
    start = min(int(first), TILE_PX - 1)
    return slice(start, max(int(last), start + 1))
