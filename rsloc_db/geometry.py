"""Shapes of answers: footprints, error ellipses and pixel-to-map transforms. Valid on the whole Earth or refused."""

from __future__ import annotations

import os.path
from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
from pyproj import Geod, Transformer
from shapely import MultiPolygon, Polygon
from shapely.affinity import translate
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from rsloc_db.errors import AreaError
from rsloc_db.grids import MERCATOR_HALF_M
from rsloc_db.types import Floats, Pixels

_GEOD = Geod(ellps="WGS84")
CHI2_95 = 5.991464547107979
"""95 % quantile of the chi-squared distribution with two degrees of freedom: an ellipse of 95 % of a 2-d Gaussian."""


def footprint(lon_deg: Floats, lat_deg: Floats) -> MultiPolygon | None:
    """Return the polygon through points in order, cut at the antimeridian (RFC 7946, 3.1.9).

    Args:
        lon_deg: (N,) longitudes in degrees (EPSG:4326), neighbours less than half the world apart.
        lat_deg: (N,) latitudes, clipped to the poles.

    Returns:
        A valid multipolygon within [-180, 180] x [-90, 90], its rings counterclockwise (3.1.6), or None where the
        points cross themselves (a bow-tie is no footprint) or run around a pole (no polygon in lon, lat).
    """
    lon = np.unwrap(np.asarray(lon_deg, float), period=360.0)
    if abs(lon[-1] - lon[0]) > 180.0:
        return None
    lon -= 360.0 * np.floor((lon.mean() + 180.0) / 360.0)
    ring = Polygon(np.column_stack([lon, np.clip(lat_deg, -90, 90)]))
    if not ring.is_valid or ring.area == 0:
        return None
    world = shapely.box(-180, -90, 180, 90)
    parts = [translate(ring, turn).intersection(world) for turn in (0, -360, 360)]
    polygons = [p for part in parts for p in getattr(part, "geoms", [part]) if p.geom_type == "Polygon" and p.area > 0]
    return MultiPolygon([orient(p) for p in polygons]) if polygons else None


def error_ellipse(covariance_m: Floats) -> tuple[float, float, float]:
    """Return (a_m, b_m, azimuth_deg) of the 95 % ellipse of a (2, 2) covariance of (east, north) in square metres.

    Azimuth is that of the semi-major axis a, clockwise from north, in [0, 180).
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance_m, float))
    b, a = np.sqrt(np.maximum(values, 0) * CHI2_95)
    east, north = vectors[:, 1]
    return float(a), float(b), float(np.degrees(np.arctan2(east, north)) % 180.0)


def ellipse_polygon(center: tuple[float, float], a_m: float, b_m: float, azimuth_deg: float) -> Polygon:
    """Return an ellipse on the ground about a place (lon, lat) as a polygon of 64 points (EPSG:4326).

    Near the antimeridian its points run past +-180 rather than around the world.
    """
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    along, across = a_m * np.cos(t), b_m * np.sin(t)
    turn = np.radians(azimuth_deg)
    east = along * np.sin(turn) + across * np.cos(turn)
    north = along * np.cos(turn) - across * np.sin(turn)
    lon, lat, _ = _GEOD.fwd(
        np.full(64, center[0]), np.full(64, center[1]), np.degrees(np.arctan2(east, north)), np.hypot(east, north)
    )
    lon = center[0] + (np.asarray(lon) - center[0] + 180.0) % 360.0 - 180.0
    return Polygon(np.column_stack([lon, lat]))


def natural_srid(pixels: Pixels, center: tuple[float, float]) -> int:
    """Return the EPSG code in which a query's pixels form a straight grid: where its affine transform leads to.

    Web Mercator for Mercator pixels, lon/lat for degrees, the UTM zone of the place for ground metres.
    """
    if pixels == "mercator":
        return 3857
    if pixels == "degrees" or not -80 <= center[1] <= 84:
        return 4326
    zone = int((center[0] + 180.0) // 6) % 60 + 1
    return (32600 if center[1] >= 0 else 32700) + zone


def affine_to(
    srid: int, width_px: int, height_px: int, to_lonlat: Callable[[Floats, Floats], tuple[Floats, Floats]]
) -> list[float]:
    """Fit the affine transform from pixels to a map by least squares over a grid of points.

    Args:
        srid: EPSG code of the map.
        width_px: width of the image.
        height_px: height of the image.
        to_lonlat: pixels (x, y from the upper left corner) -> lon, lat in degrees.

    Returns:
        [a, b, c, d, e, f] with X = a x + b y + c, Y = d x + e y + f.
    """
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(0, width_px, 5), np.linspace(0, height_px, 5)))
    lon, lat = to_lonlat(x, y)
    lon = np.unwrap(lon, period=360.0) if srid == 4326 else lon
    map_x, map_y = Transformer.from_crs(4326, srid, always_xy=True).transform(lon, lat)
    if srid == 3857:
        map_x = np.unwrap(np.asarray(map_x), period=2 * MERCATOR_HALF_M)
    design = np.column_stack([x, y, np.ones_like(x)])
    solution = np.linalg.lstsq(design, np.column_stack([map_x, map_y]), rcond=None)[0]
    return [float(v) for v in solution.T.ravel()]


def read_shape(text: str) -> BaseGeometry:
    """Return a shape (lon, lat, EPSG:4326) from WKT, GeoJSON or the path of a file of either.

    Raises:
        AreaError: it is none of these, empty, not valid, or off the Earth.
    """
    # not Path.is_file, which stumbles over a text too long for a name
    content = Path(text).read_text("utf-8-sig", errors="replace") if os.path.isfile(text) else text  # noqa: PTH113
    try:
        shape = shapely.from_geojson(content) if content.lstrip().startswith("{") else shapely.from_wkt(content)
    except ShapelyError as error:
        raise AreaError(f"expected an area as WKT, GeoJSON or a file of it, found {text[:60]!r}: {error}") from error
    if shape is None or shape.is_empty:
        raise AreaError(f"expected an area, found an empty one: {text[:60]!r}")
    if not shape.is_valid:
        raise AreaError(f"expected a valid area: {shapely.is_valid_reason(shape)}")
    return require_on_earth(shape)


def require_on_earth(shape: BaseGeometry) -> BaseGeometry:
    """Return a shape that lies within the longitudes and latitudes there are.

    Raises:
        AreaError: it does not.
    """
    west, south, east, north = shape.bounds
    # written so that NaN fails, too
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise AreaError(f"an area reaches {west}, {south}, {east}, {north}: expected lon, lat in degrees")
    return shape
