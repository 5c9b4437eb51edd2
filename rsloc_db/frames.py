"""From a query's pixels to places on Earth and back, once its centre is known (or supposed).

A query's frame says how large a step is and in which unit (``Scale.pixels``). Where its turn or its scale are not
known, a frame carries a supposed pose: direction of up and a factor on the stated pixel size. The place is never known,
so every function takes that of the query's centre pixel as an argument. Pixel coordinates are x to the right and y down
from the upper left corner of the image; the centre is at (width / 2, height / 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pyproj import Geod, Proj

from rsloc_db.grids import lonlat_to_mercator, mercator_to_lonlat, wrap_lon
from rsloc_db.types import AS_STATED, Floats, Pixels, Pose, Scale

_GEOD = Geod(ellps="WGS84")


@dataclass(frozen=True, slots=True)
class Frame:
    """The plane of a query.

    Attributes:
        scale: the stated size of its pixels.
        width_px: width of the image.
        height_px: height of the image.
        pose: supposed turn and zoom.
    """

    scale: Scale
    width_px: int
    height_px: int
    pose: Pose = AS_STATED

    def posed(self, pose: Pose) -> Frame:
        """Return the frame in another supposed pose."""
        return replace(self, pose=pose)

    def offsets(self, x_px: Floats, y_px: Floats) -> tuple[Floats, Floats]:
        """Return the (east, north) offsets of pixels from the query's centre in the scale's unit."""
        right = (np.asarray(x_px, float) - self.width_px / 2) * self.scale.x * self.pose.zoom
        up = (self.height_px / 2 - np.asarray(y_px, float)) * self.scale.y * self.pose.zoom
        return _turned(right, up, self.pose.turn_deg)

    def to_lonlat(self, x_px: Floats, y_px: Floats, center: tuple[float, float]) -> tuple[Floats, Floats]:
        """Return lon, lat in degrees of pixels when the centre pixel lies at ``center`` (lon, lat)."""
        east, north = self.offsets(x_px, y_px)
        return add_offset(self.scale.pixels, center, east, north)

    def to_pixels(self, lon_deg: Floats, lat_deg: Floats, center: tuple[float, float]) -> tuple[Floats, Floats]:
        """Return pixels of places when the centre pixel lies at ``center`` (lon, lat)."""
        return self.from_offsets(*offset_between(self.scale.pixels, center, lon_deg, lat_deg))

    def from_offsets(self, east: Floats, north: Floats) -> tuple[Floats, Floats]:
        """Return pixels of offsets from the query's centre in the scale's unit: inverse of ``offsets``."""
        right, up = _turned(east, north, -self.pose.turn_deg)
        step_x, step_y = self.scale.x * self.pose.zoom, self.scale.y * self.pose.zoom
        return right / step_x + self.width_px / 2, self.height_px / 2 - up / step_y


def _turned(right: Floats, up: Floats, turn_deg: float) -> tuple[Floats, Floats]:
    """Turn vectors (right, up) clockwise; exact where there is no turn."""
    if turn_deg == 0.0:
        return right, up
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return right * cos + up * sin, up * cos - right * sin


def meters_per_degree(lat_deg: Floats) -> tuple[Floats, Floats]:
    """Return metres a degree (eastward, northward) on the WGS84 ellipsoid at a latitude."""
    sin = np.sin(np.radians(lat_deg))
    e2, a = _GEOD.es, _GEOD.a
    w = np.sqrt(1 - e2 * sin**2)
    return np.radians(a / w) * np.cos(np.radians(lat_deg)), np.radians(a * (1 - e2) / w**3)


def add_offset(pixels: Pixels, center: tuple[float, float], east: Floats, north: Floats) -> tuple[Floats, Floats]:
    """Return lon, lat in degrees of offsets (east, north, in the unit of ``pixels``) from a place."""
    lon, lat = center
    if pixels == "mercator":
        x_m, y_m = lonlat_to_mercator(np.array(lon), np.array(lat))
        return mercator_to_lonlat(x_m + east, y_m + north)
    if pixels == "degrees":
        return wrap_lon(lon + np.asarray(east, float)), lat + np.asarray(north, float)
    new_lon, new_lat = _local_plane(lon, lat)(east, north, inverse=True)
    return wrap_lon(np.asarray(new_lon)), np.asarray(new_lat)


def _local_plane(lon_deg: float, lat_deg: float) -> Proj:
    """Metres about a place: azimuthal equidistant, true in distance and direction from it."""
    return Proj(proj="aeqd", lon_0=lon_deg, lat_0=lat_deg, ellps="WGS84")


def offset_between(
    pixels: Pixels, center: tuple[float, float], lon_deg: Floats, lat_deg: Floats
) -> tuple[Floats, Floats]:
    """Return the offsets (east, north, in the unit of ``pixels``) from a place to others: inverse of ``add_offset``."""
    lon, lat = center
    d_lon = wrap_lon(np.asarray(lon_deg, float) - lon)
    d_lat = np.asarray(lat_deg, float) - lat
    if pixels == "mercator":
        _, y0 = lonlat_to_mercator(np.array(0.0), np.array(lat))
        x, y = lonlat_to_mercator(d_lon, lat_deg)
        return x, y - y0
    if pixels == "degrees":
        return d_lon, d_lat
    x, y = _local_plane(lon, lat)(lon_deg, lat_deg)
    return np.asarray(x), np.asarray(y)


def ground_distance_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the geodesic distance in metres between two places (lon, lat)."""
    return float(_GEOD.inv(a[0], a[1], b[0], b[1])[2])
