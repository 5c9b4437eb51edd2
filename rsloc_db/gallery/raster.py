"""A georeferenced raster (GeoTIFF, COG, ENVI, VRT, ...) cut into tiles of the Google Earth quadtree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rasterio.windows import Window

from rsloc_db.errors import GalleryError, ImageError
from rsloc_db.gallery.reader import MAX_LEVEL, tile_name
from rsloc_db.grids import MERCATOR_HALF_M, TILE_PX, GoogleEarthGrid, rows_on_earth
from rsloc_db.imagery import quiet_open, stretch_limits, to_rgb8
from rsloc_db.types import Cell, Failure, Floats, Image, Mask, Tile

JPEG_QUALITY = 95
WGS84 = CRS.from_epsg(4326)
_EDGE_SAMPLES = 129
_BULGE = 0.002
_OVERVIEW_PX = 1024
_SIZE_SAMPLES = 32


class RasterReader:
    """A ``GalleryReader`` of a raster in any CRS, warped tile by tile.

    Colours are the bands tagged red, green and blue, else the first three, else the first one. Bands that are not
    8 bit are stretched by the percentiles of ``to_rgb8``, taken once from an overview of the whole raster. A tile is
    a JPEG of quality 95; one with invalid pixels (nodata, mask, alpha, beyond the rim) a PNG with alpha; one
    without any valid pixel is left out. Tiles have no date.
    """

    kind = "raster"
    grid = "google_earth"

    def __init__(self, path: Path, source: DatasetReader, level: int | None) -> None:
        """Read from an open raster that has a CRS.

        Raises:
            GalleryError: no such level.
        """
        self._path, self._source = path, source
        self._level = nearest_level(source) if level is None else level
        if not 0 <= self._level <= MAX_LEVEL:
            raise GalleryError(f"expected a level from 0 to {MAX_LEVEL}, found {level}")
        self.attribution = str(source.tags().get("TIFFTAG_COPYRIGHT", ""))
        columns, self._rows = _extent(source, self._level)
        size = 2**self._level
        # keyed by the column on the grid; the value may lie past the antimeridian, where the raster is whole
        self._columns = dict(sorted((column % size, column) for column in columns))
        self._world = _world(source)
        self._bands = _colour_bands(source)
        self._palette = _palette(source)
        self._limits = self._stretch()
        # a raster that runs past the edge of its own CRS is laid out once a turn of the Earth
        turns = sorted({self._turn(column) for column in columns})
        self._parts = {turn: self._warped(turn, [c for c in columns if self._turn(c) == turn]) for turn in turns}

    def levels(self) -> dict[int, int]:
        """Return the level and the number of cells that the raster can touch; empty ones are counted, not yielded."""
        return {self._level: len(self._columns) * len(self._rows)}

    def size_bytes(self, level: int) -> int:
        """Return the bytes of a level's tiles, estimated from 32 of them."""
        if level != self._level:
            return 0
        columns = list(self._columns)
        cells = len(self._rows) * len(columns)
        places = (divmod(n, len(columns)) for n in range(0, cells, max(1, cells // _SIZE_SAMPLES)))
        some = [self._encoded(Cell(level, columns[column], self._rows[row])) for row, column in places]
        return round(sum(len(data) for data in some if data) / len(some) * cells) if some else 0

    def tiles(self, level: int, after: tuple[int, int] | None = None) -> Iterator[Tile | Failure]:
        """Yield a level's tiles and failures ordered by row and column; see ``GalleryReader``."""
        for row in self._rows if level == self._level else ():
            for column in self._columns:
                if after is None or (row, column) > after:
                    yield from self._tile(Cell(level, column, row))

    def _tile(self, cell: Cell) -> Iterator[Tile | Failure]:
        try:
            data = self._encoded(cell)
        except (RasterioError, ImageError) as error:
            yield Failure(tile_name(cell), str(error.__cause__ or error))
        else:
            if data is not None:
                yield Tile(cell, None, data)

    def read(self, cell: Cell, captured_at: datetime | None) -> bytes | None:
        """Return the tile of a cell, or None where the raster has nothing there; no tile has a date."""
        inside = cell.level == self._level and cell.column in self._columns and cell.row in self._rows
        if not inside or captured_at is not None:
            return None
        return self._encoded(cell)

    def dates(self, cell: Cell) -> list[datetime | None]:
        """Return [None] for a cell with a tile, else []."""
        return [] if self.read(cell, None) is None else [None]

    def close(self) -> None:
        """Close the file."""
        for vrt, _ in self._parts.values():
            vrt.close()
        self._source.close()

    def _encoded(self, cell: Cell) -> bytes | None:
        column = self._columns[cell.column]
        vrt, first = self._parts[self._turn(column)]
        box = Window((column - first) * TILE_PX, (cell.row - self._rows[0]) * TILE_PX, TILE_PX, TILE_PX)
        valid = _valid(vrt, box)
        if not valid.any():
            return None
        bands = vrt.read(self._bands, window=box)
        if self._palette is not None:
            bands = np.moveaxis(self._palette[bands[0]], -1, 0)
        image, valid = to_rgb8(bands, valid=valid, limits=self._limits)
        return _encode(image, valid) if valid.any() else None

    def _stretch(self) -> Floats | None:
        """Return one stretch for the whole raster, or None where its bands are 8 bit."""
        if all(self._source.dtypes[band - 1] == "uint8" for band in self._bands):
            return None
        factor = max(1.0, max(self._source.shape) / _OVERVIEW_PX)
        height, width = (math.ceil(side / factor) for side in self._source.shape)
        bands = self._source.read(self._bands, out_shape=(len(self._bands), height, width))
        valid = self._source.dataset_mask(out_shape=(height, width)) > 0
        return stretch_limits(bands, valid & np.isfinite(bands).all(0))

    def _turn(self, column: int) -> int:
        return 0 if self._world is None else column // 2**self._level

    def _warped(self, turn: int, columns: list[int]) -> tuple[WarpedVRT, int]:
        """Return some columns of the raster on the grid, and the first of them."""
        degrees = 360 / 2**self._level
        west, north = columns[0] * degrees - 180 - 360 * turn, 180 - self._rows[0] * degrees
        flags = self._source.mask_flag_enums
        alpha = any(MaskFlags.alpha in band for band in flags)
        nodata = any(MaskFlags.nodata in band for band in flags)
        vrt = WarpedVRT(
            self._source,
            src_transform=_moved(self._source.transform, -turn * (self._world or 0.0)),
            crs=WGS84,
            transform=Affine(degrees / TILE_PX, 0, west, 0, -degrees / TILE_PX, north),
            width=len(columns) * TILE_PX,
            height=len(self._rows) * TILE_PX,
            # colours of a palette are names, not amounts
            resampling=Resampling.bilinear if self._palette is None else Resampling.nearest,
            add_alpha=not alpha and not nodata,
        )
        return vrt, columns[0]


def open_raster(path: Path, level: int | None) -> RasterReader:
    """Open a raster as a gallery.

    Raises:
        GalleryError: it is no raster, or has no georeference.
    """
    try:
        source = quiet_open(path)
    except RasterioError as error:
        raise GalleryError(f"{path}: cannot be read as a raster: {error}") from error
    try:
        _check(source)
        return RasterReader(path, source, level)
    except (RasterioError, ImageError) as error:
        source.close()
        raise GalleryError(f"{path}: cannot be read as a raster: {error.__cause__ or error}") from error
    except GalleryError as error:
        source.close()
        raise GalleryError(f"{path}: {error}") from None


def nearest_level(source: DatasetReader) -> int:
    """Return the level whose pixels are nearest in area to the raster's middle pixel, in square degrees."""
    x, y = source.width / 2, source.height / 2
    lon, lat = _lonlat(source, np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    if not np.isfinite([lon, lat]).all():
        raise GalleryError("the middle of the raster is not on Earth")
    east, north = (lon[1:] - lon[0] + 180) % 360 - 180, lat[1:] - lat[0]
    pixel_deg = math.sqrt(abs(east[0] * north[1] - east[1] * north[0]))
    return min(max(round(math.log2(360 / TILE_PX / max(pixel_deg, 1e-12))), 0), MAX_LEVEL)


def _check(source: DatasetReader) -> None:
    expected = "expected a georeferenced raster, found one"
    if source.count == 0:
        raise GalleryError(f"{expected} of {len(source.subdatasets)} subdatasets and no band: name one of them")
    if source.crs is None:
        raise GalleryError(f"{expected} without a CRS")
    if source.transform.is_identity:
        raise GalleryError(f"{expected} without a geotransform")


def _world(source: DatasetReader) -> float | None:
    """Return the circumference of the Earth in the units of a CRS whose x is the longitude, else None."""
    if source.crs.is_geographic:
        return 360.0
    return 2 * MERCATOR_HALF_M if source.crs.to_epsg() == 3857 else None


def _moved(affine: Affine, x: float) -> Affine:
    return Affine(affine.a, affine.b, affine.c + x, affine.d, affine.e, affine.f)


def _apply(affine: Affine, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def _lonlat(source: DatasetReader, x_px: Floats, y_px: Floats) -> tuple[Floats, Floats]:
    """Return lon, lat of pixels of the raster, inf where there is none; lon passes 180 where x does (``_world``)."""
    x, y = _apply(source.transform, x_px, y_px)
    lon, lat = (np.asarray(axis, float) for axis in transform(source.crs, WGS84, x, y))
    if world := _world(source):
        lon += 360 * np.round((x / world * 360 - lon) / 360)
    return lon, lat


def _extent(source: DatasetReader, level: int) -> tuple[range, range]:
    """Return the columns and rows that a raster can touch; columns past the antimeridian are counted on."""
    steps = np.linspace(0, 1, _EDGE_SAMPLES)
    x, y = (axis.ravel() for axis in np.meshgrid(steps * source.width, steps * source.height))
    lon, lat = _lonlat(source, x, y)
    known = np.isfinite(lon) & np.isfinite(lat)
    if not known.any():
        raise GalleryError("no pixel of the raster is on Earth")
    lon, lat = lon[known], lat[known]
    if _world(source) is None:
        # all longitudes within half a turn of the raster's middle, so that the antimeridian does not split them
        middle = lon[len(lon) // 2]
        lon = lon - 360 * np.round((lon - middle) / 360)
    lon, lat = _with_poles(source, lon, lat)
    x_px, y_px = GoogleEarthGrid().to_pixels(lon, np.clip(lat, -90, 90), level)
    size = 2**level
    # between two samples the rim of a projected raster may bulge
    bulge = _BULGE if _world(source) is None else 0.0
    columns, rows = _span(x_px, bulge), _span(y_px, bulge)
    if len(columns) > size:
        columns = _span(x_px, 0.0)[:size]
    on_earth = rows_on_earth(GoogleEarthGrid.name, level)
    return columns, range(max(rows.start, on_earth.start), min(rows.stop, on_earth.stop))


def _span(pixels: Floats, bulge: float) -> range:
    margin = bulge * float(np.ptp(pixels))
    # to 1/1000 px: a rim on a border between cells is only as exact as its arithmetic
    first, last = np.round([pixels.min() - margin, pixels.max() + margin], 3) / TILE_PX
    return range(math.floor(first), max(math.ceil(last), math.floor(first) + 1))


def _with_poles(source: DatasetReader, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Add the poles that lie within a projected raster: no sample meets them, and all longitudes meet there."""
    if _world(source) is not None:
        return lon, lat
    for pole in (-90.0, 90.0):
        x, y = transform(WGS84, source.crs, [0.0], [pole])
        (column,), (row,) = _apply(~source.transform, np.array(x), np.array(y))
        if 0 <= column <= source.width and 0 <= row <= source.height:
            lon, lat = np.append(lon, [-180.0, 180.0]), np.append(lat, [pole, pole])
    return lon, lat


def _colour_bands(source: DatasetReader) -> list[int]:
    kinds = source.colorinterp
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(kind in kinds for kind in colours):
        return [kinds.index(kind) + 1 for kind in colours]
    bands = [i for i, kind in enumerate(kinds, 1) if kind != ColorInterp.alpha]
    return bands[:3] if len(bands) >= 3 else bands[:1]


def _palette(source: DatasetReader) -> NDArray[np.uint8] | None:
    """Return the (256, 3) colours of a raster with a palette."""
    if source.colorinterp[0] != ColorInterp.palette:
        return None
    colours = source.colormap(1)
    return np.array([colours.get(i, (0, 0, 0))[:3] for i in range(256)], np.uint8)


def _valid(vrt: WarpedVRT, box: Window) -> Mask:
    """Return which pixels of a window have data: the mask, and the alpha band, which GDAL's mask may leave out."""
    valid = vrt.dataset_mask(window=box) > 0
    if ColorInterp.alpha in vrt.colorinterp:
        valid &= vrt.read(vrt.colorinterp.index(ColorInterp.alpha) + 1, window=box) > 0
    return np.asarray(valid, bool)


def _encode(image: Image, valid: Mask) -> bytes:
    if valid.all():
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        return cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes()
    alpha = valid.astype(np.uint8)[..., None] * 255
    return cv2.imencode(".png", np.concatenate([image[..., ::-1], alpha], axis=2))[1].tobytes()
