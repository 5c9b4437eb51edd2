"""How large a query's pixel is: from the user, from the set's level, or from the file's own CRS.

Of a file's georeference only the *size* of a pixel is used. Origin, latitude, zone and rotation are truth: two files
that differ in nothing else have equal scales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyproj
import rasterio

from rsloc_db.errors import QueryError
from rsloc_db.grids import EARTH_RADIUS_M, TILE_PX, nominal_resolution_m
from rsloc_db.types import Pixels, Scale

MAX_LEVEL = 22
_DIGITS = 7
"""Digits kept of a size from a file: enough for a thousandth of a pixel, too few to carry a place."""


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """What the user says about the scale of all queries.

    Attributes:
        level: level whose nominal resolution the pixels have, 0 to 22.
        gsd_m: size of a pixel in metres (ground metres unless ``pixels`` is ``mercator``).
        pixels: what a pixel is a step of.

    Raises:
        QueryError: the options contradict one another or are out of range.
    """

    level: int | None = None
    gsd_m: float | None = None
    pixels: Pixels | None = None

    def __post_init__(self) -> None:
        if self.pixels not in (None, "mercator", "ground", "degrees"):
            raise QueryError(f"--pixels is {self.pixels!r}: expected mercator, ground or degrees")
        if self.level is not None and self.gsd_m is not None:
            raise QueryError("--level and --gsd both give the scale: give one of them")
        if self.gsd_m is not None and not (math.isfinite(self.gsd_m) and self.gsd_m > 0):
            raise QueryError(f"--gsd is {self.gsd_m}: expected metres a pixel above 0")
        if self.gsd_m is not None and self.pixels == "degrees":
            raise QueryError("--gsd is in metres and --pixels degrees is not: give --level, or leave out --pixels")
        if self.level is not None:
            check_level(self.level, "--level")

    def stated(self, table: TableScale) -> Scale | None:
        """Return the scale that the options or the set's CSV give, the options first."""
        if self.gsd_m is not None:
            return Scale(self.pixels or "ground", self.gsd_m, self.gsd_m)
        pixels = self.pixels or table.pixels
        level = table.level if self.level is None else self.level
        if level is not None:
            return level_scale(level, pixels or "mercator")
        if table.resolution is None:
            return None
        if self.pixels not in (None, table.pixels):
            raise QueryError(f"its pixels are {table.pixels} by its set's CSV, not {self.pixels}: leave out --pixels")
        return Scale(table.pixels or "mercator", table.resolution, table.resolution)


@dataclass(frozen=True, slots=True)
class TableScale:
    """What the CSV beside a set says about the scale of one query.

    Attributes:
        level: level whose nominal resolution its pixels have; goes before ``resolution``.
        resolution: size of a pixel in the unit of ``pixels``; None where the CSV does not say what a pixel is.
        pixels: what a pixel is a step of.
    """

    level: int | None = None
    resolution: float | None = None
    pixels: Pixels | None = None


def check_level(level: int, what: str) -> int:
    """Return the level if it is one; ``what`` names it in the error.

    Raises:
        QueryError: it is below 0 or above 22.
    """
    if not 0 <= level <= MAX_LEVEL:
        raise QueryError(f"{what} is {level}: expected 0 to {MAX_LEVEL}")
    return level


def level_scale(level: int, pixels: Pixels) -> Scale:
    """Return the pixel size of a level: its nominal resolution in metres, or the same in degrees of longitude."""
    size = 360.0 / (TILE_PX * 2**level) if pixels == "degrees" else nominal_resolution_m(level)
    return Scale(pixels, size, size)


def find_scale(dataset: rasterio.DatasetReader, options: ScaleOptions, table: TableScale) -> Scale:
    """Return a query's scale: as the options say, else as its set's CSV says, else as its own CRS says.

    Raises:
        QueryError: nothing gives a scale, or the file's CRS contradicts ``--pixels``.
    """
    if stated := options.stated(table):
        return stated
    scale = file_scale(dataset)
    if scale is None:
        raise QueryError("its scale is unknown: the file has no CRS with a pixel size; give --level or --gsd")
    if options.pixels not in (None, scale.pixels):
        raise QueryError(
            f"its pixels are {scale.pixels} by its CRS, not {options.pixels}: "
            "leave out --pixels, or give --level or --gsd"
        )
    return scale


def file_scale(dataset: rasterio.DatasetReader) -> Scale | None:
    """Return the pixel size in the file's own CRS, or None where it has none that tells a size on Earth."""
    transform = dataset.transform
    if not dataset.crs or transform.is_identity:
        return None
    # lengths of the pixel's two sides, whichever way the grid is turned
    sides = math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e)
    if not all(math.isfinite(side) and side > 0 for side in sides):
        return None
    try:
        kind = _kind_and_unit(pyproj.CRS.from_wkt(dataset.crs.to_wkt()))
    except pyproj.exceptions.CRSError:
        return None
    if kind is None:
        return None
    pixels, unit = kind
    x, y = (float(f"{side * unit:.{_DIGITS}g}") for side in sides)
    return Scale(pixels, x, y)


def _kind_and_unit(crs: pyproj.CRS) -> tuple[Pixels, float] | None:
    """Return what a step in a CRS is and its length in metres or degrees; None for a CRS off the Earth."""
    factor = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    if crs.is_geographic:
        return "degrees", math.degrees(factor)
    if not crs.is_projected:
        return None
    operation = crs.coordinate_operation
    method = operation.method_name if operation else ""
    if "Equidistant Cylindrical" in method:
        return "degrees", factor / math.radians(1) / EARTH_RADIUS_M
    if "Mercator" in method and "Transverse" not in method and "Oblique" not in method:
        return "mercator", factor
    return "ground", factor
