"""A small drawn world to localize in: a gallery of one stretch of land, and query images of it with a known place.

The gallery is 8 x 8 level-15 tiles near 0.5 E, 47 N, and three mirror images of the same land elsewhere, which have its
texture and differ in layout alone. Queries show the land in another season. Their geometry is PROJ's, not the
package's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from pyproj import Geod, Transformer
from rasterio.transform import Affine
from rasters import write
from sources import Row, jpeg, write_ge_tiles

from rsloc_db.synthetic import land
from rsloc_db.types import Floats, Image

LEVEL, TILES, TILE_PX = 15, 8, 256
COLUMN, ROW = 16424, 12096
"""Upper left cell: 0.44 E, 47.11 N."""
PX_PER_DEG = TILE_PX * 2**LEVEL / 360
NOMINAL_M = 4.777314267823505
"""Web Mercator metres a pixel at level 15."""
SEED, ELSEWHERE = 5, 6
GALLERY_SEASON, QUERY_SEASON = 0, 3
MIRRORS = {(0, 0): (1, 1), (40, 0): (1, -1), (0, 30): (-1, 1), (40, 30): (-1, -1)}
"""Offset in cells -> steps along rows and columns of the land that is shown there."""


@cache
def picture(seed: int, season: int) -> Image:
    return land(TILES * TILE_PX, seed, season)


def tiles(image: Image, column: int, row: int) -> list[Row]:
    """Cut an image into rows of a ge_tiles file, its upper left tile at a cell."""
    cells = [(x, y) for y in range(len(image) // TILE_PX) for x in range(image.shape[1] // TILE_PX)]
    cut = [image[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX] for x, y in cells]
    return [
        (LEVEL, (column + x) % 2**LEVEL, row + y, 1_500_000_000, jpeg(part))
        for (x, y), part in zip(cells, cut, strict=True)
    ]


def write_gallery(path: Path, column: int = COLUMN) -> Path:
    """Write the gallery, its upper left cell at a column, which may bring it across the antimeridian."""
    whole = picture(SEED, GALLERY_SEASON)
    rows = [
        tile
        for (east, south), (down, right) in MIRRORS.items()
        for tile in tiles(whole[::down, ::right], column + east, ROW + south)
    ]
    return write_ge_tiles(path, rows)


def lonlat(x_px: float, y_px: float) -> tuple[float, float]:
    """Place of a pixel of the land (corner frame)."""
    return (COLUMN * TILE_PX + x_px) / PX_PER_DEG - 180, 180 - (ROW * TILE_PX + y_px) / PX_PER_DEG


@dataclass(frozen=True)
class Cut:
    """A query image and what is true of it."""

    image: Image
    crs: str
    transform: Affine
    center: tuple[float, float]

    def write(self, path: Path) -> Path:
        """Write it with its georeference."""
        return write(path, np.moveaxis(self.image, -1, 0), crs=self.crs, transform=self.transform)

    def write_bare(self, path: Path) -> Path:
        """Write it as PNG, without a place."""
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), self.image[..., ::-1])
        return path

    def error_m(self, center: list[float]) -> float:
        return float(Geod(ellps="WGS84").inv(*self.center, *center)[2])


def cut(
    crs: str = "EPSG:3857",
    size: float = NOMINAL_M,
    *,
    at: tuple[float, float] = (1000.3, 950.7),
    shape: tuple[int, int] = (640, 704),
    seed: int = SEED,
    turn_deg: float = 0.0,
) -> Cut:
    """Cut a query of (height, width) pixels out of the land, its centre at a pixel of the land, in any CRS and turn."""
    center, (height, width) = lonlat(*at), shape
    x0, y0 = Transformer.from_crs(4326, crs, always_xy=True).transform(*center)
    turned = Affine.rotation(-turn_deg) @ Affine.scale(size, -size) @ Affine.translation(-width / 2, -height / 2)
    transform = Affine.translation(x0, y0) @ turned
    # four samples a pixel, averaged
    x, y = np.meshgrid((np.arange(2 * width) + 0.5) / 2, (np.arange(2 * height) + 0.5) / 2)
    map_east, map_north = (
        transform.a * x + transform.b * y + transform.c,
        transform.d * x + transform.e * y + transform.f,
    )
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(map_east, map_north)
    map_x, map_y = (lon + 180) * PX_PER_DEG - COLUMN * TILE_PX, (180 - lat) * PX_PER_DEG - ROW * TILE_PX
    fine = cv2.remap(picture(seed, QUERY_SEASON), *_map(map_x, map_y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return Cut(_camera(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)), crs, transform, center)


def _map(x: Floats, y: Floats) -> tuple[np.ndarray, np.ndarray]:
    return np.float32(x - 0.5), np.float32(y - 0.5)


def _camera(image: Image) -> Image:
    """Another tone curve, noise and JPEG."""
    noise = np.random.default_rng(1).normal(0, 4, image.shape)
    seen = np.clip(255 * (image / 255) ** 1.3 + noise, 0, 255).astype(np.uint8)
    return cv2.imdecode(np.frombuffer(jpeg(seen), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()
