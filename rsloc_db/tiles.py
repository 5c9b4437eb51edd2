"""Tools on single tiles: where one lies, which one holds a place, extract tiles, paste a mosaic.

Cells are those of the Google Earth quadtree, unless Web Mercator's are asked for. Sources of tiles come from
``rsloc_db.tile_sources.open_source``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, product
from pathlib import Path

import cv2
import numpy as np
import rasterio
import shapely
from rasterio.errors import RasterioError
from rasterio.transform import from_bounds
from shapely.geometry.base import BaseGeometry

from rsloc_db import imagery
from rsloc_db.errors import AreaError, GalleryError, ImageError
from rsloc_db.gallery.reader import MAX_LEVEL, misplaced, tile_name
from rsloc_db.geometry import read_shape, require_on_earth
from rsloc_db.grids import (
    MERCATOR_HALF_M,
    MERCATOR_MAX_LAT_DEG,
    TILE_PX,
    cell_at,
    cell_bounds,
    cell_center,
    grid,
    ground_resolution_m,
)
from rsloc_db.stages.tiles import paste
from rsloc_db.tile_sources import TileSource, only_level
from rsloc_db.types import Bounds, Cell, Failure, Image, Json, Mask, Tile

JPEG_QUALITY = 95
MAX_MOSAIC_TILES = 64
"""Widest mosaic: 64 x 64 tiles are 268 million pixels."""
PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def parse_cell(words: list[str]) -> Cell:
    """Read LEVEL COLUMN ROW, or the one word level_column_row, with or without folder and suffix.

    Raises:
        GalleryError: it is neither.
    """
    parts = Path(words[0]).stem.split("_") if len(words) == 1 else words
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise GalleryError(f"expected LEVEL COLUMN ROW or level_column_row, found {' '.join(words)!r}")
    level, column, row = map(int, parts)
    return Cell(level, column, row)


def tile_info(cell: Cell, *, grid_name: str = "google_earth") -> Json:
    """Describe a cell.

    Returns:
        ``tile``, ``grid``, ``level``, ``column``, ``row``, ``center`` [lon, lat] and ``bounds`` [west, south, east,
        north] in degrees (EPSG:4326), ``resolution_m`` {east, north} in ground metres a pixel at the centre, and
        ``size_m`` {east, north}.

    Raises:
        GalleryError: the grid has no such cell on Earth.
    """
    tile_grid = grid(grid_name)
    _check(grid_name, cell)
    box, (lon, lat) = cell_bounds(tile_grid, cell), cell_center(tile_grid, cell)
    east, north = ground_resolution_m(tile_grid, cell.level, lat)
    return {
        "tile": tile_name(cell),
        "grid": grid_name,
        "level": cell.level,
        "column": cell.column,
        "row": cell.row,
        "center": [lon, lat],
        "bounds": [box.west_deg, box.south_deg, box.east_deg, box.north_deg],
        "resolution_m": {"east": east, "north": north},
        "size_m": {"east": east * TILE_PX, "north": north * TILE_PX},
    }


def tile_at(
    lon: float, lat: float, *, level: int | None = None, source: TileSource | None = None, grid_name: str | None = None
) -> Json:
    """Describe the cell that holds a place, and the dates that a source has of it.

    Args:
        lon: degrees (EPSG:4326), -180 to 180.
        lat: degrees.
        level: by default the only level of the source, or 15 without one.
        source: from ``open_source``; its grid is used.
        grid_name: grid without a source; by default google_earth.

    Returns:
        As ``tile_info``; with a source also ``dates``, newest first (ISO 8601, null for a tile without date).

    Raises:
        GalleryError: the place is not on the grid, or the level must be named.
    """
    name = source.grid if source else grid_name or "google_earth"
    limit = MERCATOR_MAX_LAT_DEG if name == "web_mercator" else 90.0
    if not (-180 <= lon <= 180 and -limit <= lat <= limit):
        raise GalleryError(
            f"expected a longitude within 180 and a latitude within {limit:.2f} degrees, found {lon} {lat}"
        )
    level = (only_level(source) if source else 15) if level is None else level
    _check_level(level)
    info = tile_info(cell_at(grid(name), lon, lat, level), grid_name=name)
    if source:
        info["dates"] = [_iso(t.captured_at) for t in source.cell(Cell(level, info["column"], info["row"]))]
    return info


@dataclass(frozen=True, slots=True)
class Extracted:
    """What ``extract`` did: files written, and tiles skipped."""

    files: list[Path]
    failures: list[Failure]


def extract(
    source: TileSource,
    out: Path,
    *,
    level: int | None = None,
    within: BaseGeometry | None = None,
    all_dates: bool = False,
) -> Extracted:
    """Write tiles as JPEG files named level_column_row.jpg.

    JPEGs are written as they are, other formats as JPEG of quality 95. Of several dates the newest that can be
    decoded is taken, or all, and then _YYYYMMDD is added to the name.

    Args:
        source: from ``open_source``.
        out: folder; it is made where it is missing.
        level: by default the only one of the source.
        within: only tiles that meet this geometry (lon, lat, EPSG:4326).
        all_dates: write every date.

    Raises:
        GalleryError: the level must be named.
    """
    level = only_level(source) if level is None else level
    _check_level(level)
    found = source.stream(level) if within is None else _tiles_within(source, level, within)
    out.mkdir(parents=True, exist_ok=True)
    done = Extracted([], [])
    for _, group in groupby(found, key=lambda item: item.cell if isinstance(item, Tile) else item):
        items = list(group)
        done.failures.extend(item for item in items if isinstance(item, Failure))
        # a file yields the oldest date first, the database the newest
        dated = sorted((i for i in items if isinstance(i, Tile)), key=lambda t: _iso(t.captured_at) or "", reverse=True)
        _write_cell(dated, out, done, all_dates=all_dates)
    return done


def _write_cell(tiles: list[Tile], out: Path, done: Extracted, *, all_dates: bool) -> None:
    for tile in tiles:
        date = f"_{tile.captured_at:%Y%m%d}" if all_dates and tile.captured_at else ""
        path = out / f"{tile_name(tile.cell)}{date}.jpg"
        try:
            path.write_bytes(_as_jpeg(tile.data))
        except ImageError as error:
            done.failures.append(Failure(path.stem, str(error)))
            continue
        done.files.append(path)
        if not all_dates:
            return


def _as_jpeg(data: bytes) -> bytes:
    image = imagery.decode(data)
    if data.startswith(b"\xff\xd8"):
        return data
    return bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def _tiles_within(source: TileSource, level: int, area: BaseGeometry) -> Iterator[Tile]:
    tile_grid = grid(source.grid)
    west, south, east, north = area.bounds
    first, last = cell_at(tile_grid, west, north, level), cell_at(tile_grid, east, south, level)
    shapely.prepare(area)
    for row, column in product(range(first.row, last.row + 1), range(first.column, last.column + 1)):
        cell = Cell(level, column, row)
        if area.intersects(_box(cell_bounds(tile_grid, cell))):
            yield from source.cell(cell)


def _box(bounds: Bounds) -> BaseGeometry:
    return shapely.box(bounds.west_deg, bounds.south_deg, bounds.east_deg, bounds.north_deg)


def mosaic(source: TileSource, cell: Cell, out: Path, *, tiles: int = 3) -> Json:
    """Write n x n tiles around a cell as one picture; missing ones are black.

    Args:
        source: from ``open_source``.
        cell: the middle cell; of an even number of tiles the one left of and above the middle.
        out: a .jpg, .png or .tif file; the last is georeferenced, in EPSG:4326 or, on Web Mercator, EPSG:3857, and
            masks missing tiles.
        tiles: how many tiles it is wide and high.

    Returns:
        ``file``, ``tiles`` (how many were there), ``width`` and ``height`` in pixels, ``missing`` (names).

    Raises:
        GalleryError: no tile is there, or an argument is out of range.
        ImageError: a tile is damaged, or the file cannot be written.
    """
    _check(source.grid, cell)
    if not 1 <= tiles <= MAX_MOSAIC_TILES or out.suffix.lower() not in PICTURES:
        raise GalleryError(
            f"expected 1 to {MAX_MOSAIC_TILES} tiles and a file {'|'.join(PICTURES)}, found {tiles}, {out}"
        )
    first = cell.column - (tiles - 1) // 2, cell.row - (tiles - 1) // 2
    columns, rows = range(first[0], first[0] + tiles), range(first[1], first[1] + tiles)
    found = {key: tile for key in product(columns, rows) if (tile := _newest(source, cell.level, key)) is not None}
    if not found:
        raise GalleryError(f"no tile within {tiles} x {tiles} of {tile_name(cell)}")
    image, valid = paste(found, columns, rows)
    _write_picture(out, image, valid, _transform(source.grid, cell.level, columns, rows))
    missing = [tile_name(_wrapped(cell.level, key)) for key in product(columns, rows) if key not in found]
    return {
        "file": str(out),
        "tiles": len(found),
        "width": image.shape[1],
        "height": image.shape[0],
        "missing": missing,
    }


def _newest(source: TileSource, level: int, key: tuple[int, int]) -> tuple[Image, Mask] | None:
    cell = _wrapped(level, key)
    if misplaced(source.grid, cell):
        return None
    tiles = source.cell(cell)
    return imagery.decode_tile(tiles[0].data) if tiles else None


def _wrapped(level: int, key: tuple[int, int]) -> Cell:
    return Cell(level, key[0] % 2**level, key[1])


def _transform(grid_name: str, level: int, columns: range, rows: range) -> tuple[str, rasterio.Affine]:
    """Return the CRS and the transform of a mosaic, whose columns may run past the antimeridian."""
    half, crs = (180.0, "EPSG:4326") if grid_name == "google_earth" else (MERCATOR_HALF_M, "EPSG:3857")
    side = 2 * half / 2**level
    west, north = columns.start * side - half, half - rows.start * side
    box = (west, north - side * len(rows), west + side * len(columns), north)
    return crs, from_bounds(*box, TILE_PX * len(columns), TILE_PX * len(rows))


def _write_picture(out: Path, image: Image, valid: Mask, georeference: tuple[str, rasterio.Affine]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() not in (".tif", ".tiff"):
        options = [] if out.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        out.write_bytes(bytes(cv2.imencode(out.suffix, image[..., ::-1], options)[1]))
        return
    height, width = valid.shape
    crs, transform = georeference
    layout = {"compress": "deflate", "predictor": 2, "tiled": True, "photometric": "rgb"}
    try:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                out, "w", "GTiff", width, height, 3, crs=crs, transform=transform, dtype="uint8", **layout
            ) as file,
        ):
            file.write(np.moveaxis(image, 2, 0))
            if not valid.all():
                file.write_mask(valid)
    except RasterioError as error:
        raise ImageError(f"{out}: cannot be written: {error}") from error


def parse_area(text: str) -> BaseGeometry:
    """Read an area: west,south,east,north, or WKT, GeoJSON or a file of either (lon, lat, EPSG:4326).

    Raises:
        AreaError: it is none, or not on Earth.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return read_shape(text)
    if len(numbers) != 4 or not (numbers[0] <= numbers[2] and numbers[1] <= numbers[3]):
        raise AreaError(f"expected west,south,east,north in degrees, found {text!r}")
    return require_on_earth(shapely.box(*numbers))


def _check(grid_name: str, cell: Cell) -> None:
    _check_level(cell.level)
    if reason := misplaced(grid_name, cell):
        raise GalleryError(f"no tile {tile_name(cell)} on the grid {grid_name}: {reason}")


def _check_level(level: int) -> None:
    if not 0 <= level <= MAX_LEVEL:
        raise GalleryError(f"there are no tiles of level {level}: expected 0 to {MAX_LEVEL}")


def _iso(date: datetime | None) -> str | None:
    return date.isoformat() if date else None
