"""Footprints, error ellipses and transforms, against PROJ, shapely and a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import CRS, Geod, Transformer
from pyproj.aoi import AreaOfUse
from pyproj.database import query_utm_crs_info
from shapely.geometry import MultiPolygon

from rsloc_db.frames import Frame
from rsloc_db.geometry import affine_to, ellipse_polygon, error_ellipse, footprint, natural_srid
from rsloc_db.types import Pixels, Scale

GEOD = Geod(ellps="WGS84")
UTM_ZONES = query_utm_crs_info(datum_name="WGS 84")
BOX = np.array([[-1.0, 1, 1, -1], [1, 1, -1, -1]])
"""Corners of a box about 0, 0: upper left, upper right, lower right, lower left."""


def box(lon: float, lat: float, width: float, height: float) -> MultiPolygon | None:
    east, north = BOX[0] * width / 2, BOX[1] * height / 2
    return footprint((lon + east + 180) % 360 - 180, lat + north)


def is_rfc_7946(shape: MultiPolygon) -> bool:
    """Tell whether a shape is valid, on Earth, cut at the antimeridian, and turns counterclockwise."""
    west, south, east, north = shape.bounds
    narrow = all(part.bounds[2] - part.bounds[0] < 180 for part in shape.geoms)
    turned = all(part.exterior.is_ccw for part in shape.geoms)
    return shape.is_valid and -180 <= west < east <= 180 and -90 <= south < north <= 90 and narrow and turned


@given(st.floats(-180, 180), st.floats(-80, 80), st.floats(0.001, 100), st.floats(0.001, 20))
def test_footprints_are_valid_everywhere(lon: float, lat: float, width: float, height: float) -> None:
    shape = box(lon, lat, width, height)
    assert shape is not None
    assert is_rfc_7946(shape)
    beyond = max(0, lat + height / 2 - 90) + max(0, -90 - lat + height / 2)
    assert shape.area == pytest.approx(width * (height - beyond), rel=1e-6)


def test_footprint_across_the_antimeridian() -> None:
    shape = box(179.9, -16, 0.6, 0.2)
    assert shape is not None
    west, east = sorted(shape.geoms, key=lambda part: part.bounds[0])
    assert west.bounds == pytest.approx((-180, -16.1, -179.8, -15.9))
    assert east.bounds == pytest.approx((179.6, -16.1, 180, -15.9))


def test_footprint_beside_the_antimeridian_is_one_part() -> None:
    for lon in (179.7, -179.7):
        shape = box(lon, 5, 0.6, 0.2)
        assert shape is not None
        assert len(shape.geoms) == 1
        assert math.copysign(1, shape.centroid.x) == math.copysign(1, lon)


def test_bow_ties_and_lines_are_refused() -> None:
    assert footprint(np.array([0.0, 1, 0, 1]), np.array([1.0, 1, 0, 0])) is None
    assert footprint(np.array([179.0, -179, 179, -179]), np.array([1.0, 1, 0, 0])) is None
    assert footprint(np.array([0.0, 1, 2, 3]), np.zeros(4)) is None


def test_a_ring_around_a_pole_is_refused() -> None:
    """In lon, lat it is no polygon that a map could draw."""
    assert footprint(np.array([10.0, 100, -170, -80]), np.array([89.0, 88, 89, 88.5])) is None


@pytest.mark.parametrize("azimuth", [0.0, 30.0, 90.0, 135.0, 179.0])
def test_error_ellipse_holds_95_percent(azimuth: float) -> None:
    turn = math.radians(azimuth)
    axes = np.array([[math.sin(turn), math.cos(turn)], [math.cos(turn), -math.sin(turn)]])  # along, across (e, n)
    covariance = axes.T @ np.diag([9.0, 4.0]) @ axes
    a, b, found = error_ellipse(covariance)
    assert math.remainder(found - azimuth, 180) == pytest.approx(0, abs=1e-6)
    assert 0 <= found < 180
    drawn = np.random.default_rng(3).multivariate_normal([0, 0], covariance, 100_000) @ axes.T
    inside = (drawn[:, 0] / a) ** 2 + (drawn[:, 1] / b) ** 2 <= 1
    assert inside.mean() == pytest.approx(0.95, abs=0.003)
    assert drawn.std(axis=0) * 2.4477 == pytest.approx([a, b], rel=0.01)


def test_error_ellipse_of_a_singular_covariance() -> None:
    assert error_ellipse(np.array([[4.0, 0], [0, 0]]))[1:] == (pytest.approx(0), pytest.approx(90))


@pytest.mark.parametrize("center", [(2.0, 47.0), (180.0, -16.0), (-179.9999, 60.0), (30.0, 84.0)])
def test_ellipse_polygon(center: tuple[float, float]) -> None:
    shape = ellipse_polygon(center, 300.0, 100.0, 30.0)
    assert shape.is_valid
    assert abs(GEOD.geometry_area_perimeter(shape)[0]) == pytest.approx(math.pi * 300 * 100, rel=0.01)
    places = np.array(shape.exterior.coords)
    azimuth, _, far = GEOD.inv(*np.broadcast_to(center, places.shape).T, *places.T)
    assert (far.max(), far.min()) == (pytest.approx(300, rel=1e-4), pytest.approx(100, rel=1e-4))
    assert azimuth[far.argmax()] % 180 == pytest.approx(30, abs=0.1)


@given(st.floats(-179.99, 179.99), st.floats(-79.9, 83.9))
def test_ground_metres_lead_to_the_utm_zone(lon: float, lat: float) -> None:
    assume(abs(math.remainder(lon, 6)) > 1e-6)
    assume(abs(lat) > 1e-6)
    zones = {int(zone.code) for zone in UTM_ZONES if _is_in(zone.area_of_use, lon, lat)}
    assert natural_srid("ground", (lon, lat)) in zones


def _is_in(area: AreaOfUse | None, lon: float, lat: float) -> bool:
    return area is not None and area.west <= lon <= area.east and area.south <= lat <= area.north


def test_natural_srid_elsewhere() -> None:
    assert natural_srid("mercator", (2.0, 47.0)) == 3857
    assert natural_srid("degrees", (2.0, 47.0)) == 4326
    assert natural_srid("ground", (2.0, 88.0)) == 4326
    assert natural_srid("ground", (180.0, 10.0)) == 32601
    assert natural_srid("ground", (-180.0, -10.0)) == 32701


def coefficients(srid: int, pixels: Pixels, size: float, center: tuple[float, float]) -> list[float]:
    plane = Frame(Scale(pixels, size, size), 800, 600)
    return affine_to(srid, 800, 600, lambda x, y: plane.to_lonlat(x, y, center))


@pytest.mark.parametrize("lon", [2.3, 179.999])
def test_transform_of_mercator_pixels(lon: float) -> None:
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, 47.1)
    a, b, c, d, e, f = coefficients(3857, "mercator", 4.777, (lon, 47.1))
    assert [a, b, d, e] == pytest.approx([4.777, 0, 0, -4.777], abs=1e-8)
    assert [c, f] == pytest.approx([x - 400 * 4.777, y + 300 * 4.777], abs=1e-5)


@pytest.mark.parametrize("lon", [2.3, 179.999])
def test_transform_of_degrees(lon: float) -> None:
    found = coefficients(4326, "degrees", 1e-5, (lon, 47.1))
    assert found == pytest.approx([1e-5, 0, lon - 4e-3, 0, -1e-5, 47.1 + 3e-3], abs=1e-9)


def test_transform_of_any_affine_comes_back() -> None:
    known = np.array([[3.2, 0.1, 512_345.0], [0.12, -3.3, 5_212_345.0]])
    to_degrees = Transformer.from_crs(CRS.from_epsg(32631), 4326, always_xy=True).transform
    found = affine_to(32631, 700, 900, lambda x, y: to_degrees(*(known @ [x, y, np.ones_like(x)])))
    assert found == pytest.approx(known.ravel().tolist(), rel=1e-7, abs=1e-6)


def test_transform_of_ground_metres_tells_the_convergence() -> None:
    """Away from the zone's meridian grid north is not north: the transform turns by the convergence."""
    lon, lat = 0.5, 47.0
    a, _, _, d, _, _ = coefficients(32631, "ground", 4.0, (lon, lat))
    west_of_meridian = math.tan(math.radians(lon - 3)) * math.sin(math.radians(lat))
    assert math.degrees(math.atan2(d, a)) == pytest.approx(math.degrees(math.atan(west_of_meridian)), abs=0.01)
    assert math.hypot(a, d) == pytest.approx(4 * 0.9996, rel=1e-3)
