"""Strips of a report: a query, what the gallery shows at its place, both as a checkerboard, and the true place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely

from rsloc_db import grids
from rsloc_db.db.connection import Connection
from rsloc_db.db.export import map_galleries
from rsloc_db.db.galleries import Gallery, get_gallery
from rsloc_db.errors import GalleryError, ImageError
from rsloc_db.export.run_map import shrunk
from rsloc_db.grids import TILE_PX
from rsloc_db.queries.images import load_image
from rsloc_db.stages.tiles import load_mosaic
from rsloc_db.types import Floats, Image, Json

SIDE_PX = 320
SQUARES = 6
"""Squares of a checkerboard along its shorter side."""
NOTHING = (205, 208, 214)
"""Colour of what the gallery does not show."""
RIGHT = ("right", "rightly refused")


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures of a query.

    Attributes:
        row: what is said of it: a row of view ``evaluation_strip``.
        pictures: (caption, picture); None where the file or the tiles are not there any more.
        corners: (4, 2) lon, lat of the place that is shown, or the true one; None where there is neither.
    """

    row: Json
    pictures: list[tuple[str, Image | None]]
    corners: Floats | None


def strip(conn: Connection, run: int, row: Json) -> Strip:
    """Return the strip of a query.

    Args:
        conn: a connection.
        run: number of the run.
        row: of ``db.export.report_strips``.
    """
    query = _query(Path(row["path"]))
    size = query.shape[1::-1] if query is not None else (SIDE_PX, SIDE_PX)
    corners = _points(row["found_corners"])
    caption = "found in the gallery"
    if corners is None:
        corners = corners_of(row["best_footprint"], row["turn_deg"] or 0.0)
        caption = "best place, refused"
    found = _view(conn, run, row, corners, size)
    pictures = [("query", query)]
    if corners is not None:
        pictures.append((caption, found))
    if query is not None and found is not None:
        pictures.append(("both, as a checkerboard", checkerboard(query, found)))
    truth = _points(row["true_corners"])
    if truth is not None and row["outcome"] not in RIGHT:
        pictures.append(("true place in the gallery", _view(conn, run, row, truth, size)))
    return Strip(row, pictures, truth if corners is None else corners)


def checkerboard(a: Image, b: Image) -> Image:
    """Return two images of one size as a checkerboard of both: edges run on where they are of one place."""
    height, width = a.shape[:2]
    side = max(1, min(height, width) // SQUARES)
    odd = (np.arange(height)[:, None] // side + np.arange(width) // side) % 2 == 1
    return np.where(odd[..., None], b, a)


def corners_of(footprint: bytes | None, turn_deg: float) -> Floats | None:
    """Return the corners of a footprint: upper left, upper right, lower right, lower left of the image.

    Args:
        footprint: WKB of a multipolygon (EPSG:4326), or None.
        turn_deg: direction of the image's upper edge, clockwise from north.

    Returns:
        (4, 2) lon, lat in degrees; None where the footprint is none, or is cut at the antimeridian.
    """
    shape = shapely.from_wkb(footprint) if footprint is not None else None
    if shape is None or len(shape.geoms) != 1 or len(shape.geoms[0].exterior.coords) != 5:
        return None
    points = np.array(shape.geoms[0].exterior.coords)[:4]
    away = (points - points.mean(0)) * (np.cos(np.radians(points[:, 1].mean())), 1.0)
    turn = np.radians(turn_deg)
    right = away @ (np.cos(turn), -np.sin(turn))
    up = away @ (np.sin(turn), np.cos(turn))
    # scaled, so that a narrow image's corners are told apart as well as a square's
    right, up = right / np.abs(right).max(), up / np.abs(up).max()
    order = [int(np.argmax(x * right + y * up)) for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1))]
    return points[order] if len(set(order)) == 4 else None


def gallery_view(conn: Connection, gallery: Gallery, level: int, corners: Floats, size: tuple[int, int]) -> Image:
    """Return what a gallery shows between four corners, as an image of the query's shape.

    Args:
        conn: a connection.
        gallery: the gallery.
        level: level of its tiles.
        corners: (4, 2) lon, lat in degrees: upper left, upper right, lower right, lower left; in between, longitude
            and latitude are linear.
        size: width, height in pixels.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        GalleryError: a tile cannot be read any more.
    """
    x, y = _grid_pixels(gallery, level, corners, size)
    step = _step(x, y)
    columns = int(x.min() // TILE_PX), int(x.max() // TILE_PX)
    rows = max(int(y.min() // TILE_PX), 0), min(int(y.max() // TILE_PX), 2**level - 1)
    image, valid = load_mosaic(conn, gallery, level, columns, rows, step)
    # centres of pixels are half a pixel from their corners, before and after the averaging
    map_x = np.asarray((x - columns[0] * TILE_PX) / step - 0.5, np.float32)
    map_y = np.asarray((y - rows[0] * TILE_PX) / step - 0.5, np.float32)
    seen = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    known = cv2.remap(valid.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return np.where(np.asarray(known)[..., None] > 0, seen, np.asarray(NOTHING, np.uint8)).astype(np.uint8)


def _grid_pixels(gallery: Gallery, level: int, corners: Floats, size: tuple[int, int]) -> tuple[Floats, Floats]:
    lon, lat = corners.T
    # corners on both sides of the antimeridian: longitudes run on
    lon = lon[0] + (lon - lon[0] + 180.0) % 360.0 - 180.0
    u, v = (np.arange(size[0]) + 0.5) / size[0], ((np.arange(size[1]) + 0.5) / size[1])[:, None]
    weights = ((1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v)
    return grids.grid(gallery.grid).to_pixels(
        sum(w * value for w, value in zip(weights, lon, strict=True)),
        sum(w * value for w, value in zip(weights, lat, strict=True)),
        level,
    )


def _step(x: Floats, y: Floats) -> int:
    """Return how many grid pixels each way may be averaged into one, a power of two: a picture's pixel holds more."""
    spacing = max(1.0, min(np.hypot(x[0, -1] - x[0, 0], y[0, -1] - y[0, 0]) / x.shape[1], float(TILE_PX)))
    return int(2 ** int(np.log2(spacing)))


def _view(conn: Connection, run: int, row: Json, corners: Floats | None, size: Sequence[int]) -> Image | None:
    if corners is None:
        return None
    try:
        name, level = row["gallery"], row["level"]
        if name is None:
            name, _, level = map_galleries(conn, run)[0]
        return gallery_view(conn, get_gallery(conn, name), level, corners, (size[0], size[1]))
    except (GalleryError, IndexError):
        return None


def _query(path: Path) -> Image | None:
    try:
        image, _ = load_image(path)
    except ImageError:
        return None
    return shrunk(image, SIDE_PX)


def _points(wkb: bytes | None) -> Floats | None:
    return None if wkb is None else np.array([point.coords[0] for point in shapely.from_wkb(wkb).geoms])
