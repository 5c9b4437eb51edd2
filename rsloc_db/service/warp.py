"""Lay a query's image on a web map: warped by the transform that was found, into a box of EPSG:3857."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from pyproj import Transformer

from rsloc_db.errors import ImageError, ServerError
from rsloc_db.export.run_map import shrunk
from rsloc_db.grids import MERCATOR_HALF_M, MERCATOR_MAX_LAT_DEG, lonlat_to_mercator, mercator_to_lonlat
from rsloc_db.queries.images import content_hash, load_image, open_raster
from rsloc_db.types import Bounds, Floats, Image, Json, Mask

SIDE_PX = 1400
"""Longest side of what is shown of a query."""
NODES = 33
"""The warp is computed on a grid of so many points a side and is bilinear between them."""
_ONE_AT_A_TIME = Lock()
"""Whole images are large: many at once would fill the memory."""
WAIT_S = 3.0
"""How long a picture may wait for others."""
AROUND_M = 2 * MERCATOR_HALF_M


@dataclass(frozen=True, slots=True)
class Warp:
    """How a query lies on a map.

    Attributes:
        coefficients: a, b, c, d, e, f: X = a x + b y + c, Y = d x + e y + f from its pixels to the map ``srid``.
        srid: EPSG code of that map.
        center_lon_deg: longitude about which it lies: those of its pixels are within half a turn of it.
        size_px: width and height of the query.
    """

    coefficients: tuple[float, ...]
    srid: int
    center_lon_deg: float
    size_px: tuple[int, int]

    def to_mercator(self, x_px: Floats, y_px: Floats) -> tuple[Floats, Floats]:
        """Return EPSG:3857 metres of pixels of the query; x runs on past the antimeridian."""
        a, b, c, d, e, f = self.coefficients
        map_x, map_y = a * x_px + b * y_px + c, d * x_px + e * y_px + f
        if self.srid == 3857:
            return self._near(map_x), map_y
        lon, lat = (map_x, map_y) if self.srid == 4326 else _transformer(self.srid, 4326).transform(map_x, map_y)
        x_m, y_m = lonlat_to_mercator(np.asarray(lon), np.asarray(lat))
        return self._near(x_m), y_m

    def to_pixels(self, x_m: Floats, y_m: Floats) -> tuple[Floats, Floats]:
        """Return the query's pixels that lie at EPSG:3857 metres."""
        map_x, map_y = self._near(x_m), y_m
        if self.srid != 3857:
            lon, lat = mercator_to_lonlat(map_x, map_y)
            map_x, map_y = (lon, lat) if self.srid == 4326 else _transformer(4326, self.srid).transform(lon, lat)
        a, b, c, d, e, f = self.coefficients
        if self.srid in (3857, 4326):
            # the transform may run on past the antimeridian: take the turn in which the query's middle lies
            turn = AROUND_M if self.srid == 3857 else 360.0
            middle = a * self.size_px[0] / 2 + b * self.size_px[1] / 2 + c
            map_x = middle + (map_x - middle + turn / 2) % turn - turn / 2
        det = a * e - b * d
        u, v = map_x - c, map_y - f
        return (e * u - b * v) / det, (a * v - d * u) / det

    def _near(self, x_m: Floats) -> Floats:
        center = self.center_lon_deg / 180 * MERCATOR_HALF_M
        return np.asarray(center + (x_m - center + MERCATOR_HALF_M) % AROUND_M - MERCATOR_HALF_M)

    def box_m(self) -> tuple[float, float, float, float]:
        """Return west, south, east, north of the query in EPSG:3857 metres."""
        width, height = self.size_px
        t = np.linspace(0, 1, NODES)
        x = np.concatenate([t * width, np.full(NODES, width), t * width, np.zeros(NODES)])
        y = np.concatenate([np.zeros(NODES), t * height, np.full(NODES, height), t * height])
        x_m, y_m = self.to_mercator(x, y)
        return float(x_m.min()), float(y_m.min()), float(x_m.max()), float(y_m.max())


def warp_of(query: Json) -> Warp | None:
    """Return how a query of a run lies on the map, None where it was not placed."""
    if query["transform"] is None or query["width_px"] is None or query["lon_deg"] is None:
        return None
    if abs(query["lat_deg"]) > MERCATOR_MAX_LAT_DEG:
        return None
    size = query["width_px"], query["height_px"]
    return Warp(tuple(query["transform"]), query["transform_srid"], query["lon_deg"], size)


def bounds_of(warp: Warp) -> Bounds:
    """Return the box that the warped image fills; its east may be beyond 180 degrees."""
    west, south, east, north = warp.box_m()
    _, (low, high) = mercator_to_lonlat(np.zeros(2), np.array([south, north]))
    return Bounds(west / MERCATOR_HALF_M * 180, float(low), east / MERCATOR_HALF_M * 180, float(high))


def warped(image: Image, valid: Mask, warp: Warp) -> tuple[Image, Mask]:
    """Warp a query's image into its box of EPSG:3857.

    Args:
        image: (H, W, 3) uint8 RGB, the query at any scale.
        valid: its (H, W) mask.
        warp: how the query lies, in pixels of its own size.

    Returns:
        The warped image and its mask, at most ``SIDE_PX`` on a side.
    """
    west, south, east, north = warp.box_m()
    scale = min(SIDE_PX / max(east - west, north - south), max(image.shape[:2]) / min(east - west, north - south))
    width, height = max(1, round((east - west) * scale)), max(1, round((north - south) * scale))
    t = np.linspace(0, 1, NODES)
    x_px, y_px = warp.to_pixels(*np.meshgrid(west + (east - west) * t, north - (north - south) * t))
    ratio = image.shape[1] / warp.size_px[0], image.shape[0] / warp.size_px[1]
    map_x = _fine(x_px * ratio[0], width, height) - np.float32(0.5)
    map_y = _fine(y_px * ratio[1], width, height) - np.float32(0.5)
    drawn = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.remap(valid.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(drawn, np.uint8), seen > 0


def _fine(nodes: Floats, width: int, height: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Interpolate values at the nodes of a grid, which reaches from edge to edge, to the middles of pixels."""
    x = ((np.arange(width) + 0.5) / width * (NODES - 1)).astype(np.float32)
    y = ((np.arange(height) + 0.5) / height * (NODES - 1)).astype(np.float32)
    return cv2.remap(nodes.astype(np.float32), *np.meshgrid(x, y), cv2.INTER_LINEAR)  # type: ignore[return-value]


def read_query_image(query: Json, max_pixels: int) -> tuple[Image, Mask]:
    """Read a query's image, shrunk to what is shown.

    Raises:
        ImageError: it is gone, has changed since it was localized, cannot be read, or is too large to be shown.
        ServerError: others are being read for too long.
    """
    path = Path(query["path"])
    try:
        # who waits holds a connection, of which there are few
        if not _ONE_AT_A_TIME.acquire(timeout=WAIT_S):
            raise ServerError("other images are being read: try again")
        try:
            image, valid = _read(path, query["content_hash"], max_pixels)
        finally:
            _ONE_AT_A_TIME.release()
    except ImageError as error:
        # messages of those who read files name the path, which is nobody's business here
        raise ImageError("the image cannot be read any more" if str(path) in str(error) else str(error)) from error
    small = shrunk(image, SIDE_PX)
    mask = cv2.resize(valid.astype(np.uint8), small.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return small, mask > 0


def _read(path: Path, expected_hash: str, max_pixels: int) -> tuple[Image, Mask]:
    if content_hash(path) != expected_hash:
        raise ImageError("the image has changed since it was localized")
    with open_raster(path) as dataset:
        size = dataset.width * dataset.height
    if size > max_pixels:
        raise ImageError("the image is too large to be shown")
    return load_image(path)


@lru_cache(maxsize=64)
def _transformer(source: int, target: int) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
