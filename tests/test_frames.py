"""A query's pixels on Earth, against PROJ: EPSG:3857, geodesics on WGS84."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ground import ground_size_m
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from rsloc_db.frames import Frame, add_offset, meters_per_degree, offset_between
from rsloc_db.types import Pixels, Pose, Scale

GEOD = Geod(ellps="WGS84")
TO_MERCATOR = Transformer.from_crs(4326, 3857, always_xy=True)
SIZES: dict[Pixels, float] = {"mercator": 4.777, "ground": 3.3, "degrees": 4.3e-5}

kinds = st.sampled_from(list(SIZES))
lons = st.one_of(st.floats(-180, 180, exclude_max=True), st.sampled_from([-180.0, 179.9999, 0.0]))
lats = st.one_of(st.floats(-84, 84), st.sampled_from([0.0, 83.9, -83.9]))
sides = st.integers(64, 6000)
shares = st.floats(0, 1)
turns = st.one_of(st.just(0.0), st.floats(-360, 360))


def frame(pixels: Pixels, width: int, height: int) -> Frame:
    return Frame(Scale(pixels, SIZES[pixels], SIZES[pixels] * 1.25), width, height)


def apart(a_deg: float, b_deg: float) -> float:
    """Difference of two longitudes in [-180, 180]."""
    return math.remainder(a_deg - b_deg, 360)


@given(kinds, lons, lats, sides, sides, shares, shares, turns, st.floats(0.5, 2))
def test_to_lonlat_and_back(
    pixels: Pixels, lon: float, lat: float, w: int, h: int, u: float, v: float, turn: float, zoom: float
) -> None:
    plane, x, y = frame(pixels, w, h).posed(Pose(turn, zoom)), u * w, v * h
    there = plane.to_lonlat(np.array(x), np.array(y), (lon, lat))
    assert -180 <= there[0] < 180
    back_x, back_y = plane.to_pixels(*there, (lon, lat))
    assert (back_x, back_y) == (pytest.approx(x, abs=1e-3), pytest.approx(y, abs=1e-3))


@given(kinds, lons, lats, sides, sides)
def test_the_middle_is_the_centre_and_up_is_north(pixels: Pixels, lon: float, lat: float, w: int, h: int) -> None:
    plane = frame(pixels, w, h)
    x, y = np.array([w / 2, w / 2, w]), np.array([h / 2, 0, h / 2])
    lon_deg, lat_deg = plane.to_lonlat(x, y, (lon, lat))
    # a millimetre: PROJ takes a latitude nearer to the equator than 1e-8 degrees for the equator
    assert (apart(lon_deg[0], lon), lat_deg[0]) == (pytest.approx(0, abs=1e-8), pytest.approx(lat, abs=1e-8))
    assert (apart(lon_deg[1], lon), lat_deg[1] > lat) == (pytest.approx(0, abs=1e-9), True)
    assert apart(lon_deg[2], lon) > 0


@given(lons, lats, turns, st.floats(0.5, 2))
def test_up_points_where_the_turn_says_and_zoom_is_a_factor(lon: float, lat: float, turn: float, zoom: float) -> None:
    plane = Frame(Scale("ground", 3.0, 3.0), 400, 300).posed(Pose(turn, zoom))
    top_lon, top_lat = plane.to_lonlat(np.array(200.0), np.array(0.0), (lon, lat))
    azimuth, _, distance = GEOD.inv(lon, lat, float(top_lon), float(top_lat))
    assert math.remainder(azimuth - turn, 360) == pytest.approx(0, abs=1e-3)
    assert distance == pytest.approx(150 * 3.0 * zoom, rel=1e-4)


@given(lons, lats, st.floats(-2e4, 2e4), st.floats(-2e4, 2e4))
def test_mercator_offsets_are_those_of_epsg_3857(lon: float, lat: float, east: float, north: float) -> None:
    there = add_offset("mercator", (lon, lat), np.array(east), np.array(north))
    x0, y0 = TO_MERCATOR.transform(lon, lat)
    x, y = TO_MERCATOR.transform(float(there[0]), float(there[1]))
    world = 2 * math.pi * 6378137
    assert math.remainder(x - x0 - east, world) == pytest.approx(0, abs=1e-5)
    assert y - y0 == pytest.approx(north, abs=1e-5)
    found = offset_between("mercator", (lon, lat), *there)
    assert [float(v) for v in found] == pytest.approx([east, north], abs=1e-5)


@given(lons, st.floats(-89.9, 89.9), st.floats(-2e4, 2e4), st.floats(-2e4, 2e4))
def test_ground_offsets_are_geodesics(lon: float, lat: float, east: float, north: float) -> None:
    there = add_offset("ground", (lon, lat), np.array(east), np.array(north))
    azimuth, _, distance = GEOD.inv(lon, lat, float(there[0]), float(there[1]))
    assert distance == pytest.approx(math.hypot(east, north), abs=1e-3)
    if distance > 1:
        assert distance * abs(apart(azimuth, math.degrees(math.atan2(east, north)))) < 0.2
    found = offset_between("ground", (lon, lat), *there)
    assert [float(v) for v in found] == pytest.approx([east, north], abs=1e-3)


@given(lons, lats, st.floats(-40, 40), st.floats(-4, 4))
def test_degrees_are_degrees(lon: float, lat: float, east: float, north: float) -> None:
    there = add_offset("degrees", (lon, lat), np.array(east), np.array(north))
    assert (apart(float(there[0]), lon), there[1]) == (pytest.approx(east), pytest.approx(lat + north))
    assert [float(v) for v in offset_between("degrees", (lon, lat), *there)] == pytest.approx([east, north], abs=1e-9)


@given(st.floats(-89, 89))
def test_meters_per_degree(lat: float) -> None:
    east, north = (float(v) for v in meters_per_degree(np.array(lat)))
    assert east == pytest.approx(GEOD.inv(-5e-4, lat, 5e-4, lat)[2] * 1e3, rel=1e-5)
    assert north == pytest.approx(GEOD.inv(0, lat - 5e-4, 0, lat + 5e-4)[2] * 1e3, rel=1e-5)


@given(kinds, st.floats(-84, 84))
def test_ground_size_of_a_pixel(pixels: Pixels, lat: float) -> None:
    plane = frame(pixels, 2, 2)
    lon_deg, lat_deg = plane.to_lonlat(np.array([0, 2, 1, 1]), np.array([1, 1, 0, 2]), (10.0, lat))
    measured = [GEOD.inv(lon_deg[i], lat_deg[i], lon_deg[i + 1], lat_deg[i + 1])[2] / 2 for i in (0, 2)]
    # on the sphere of Web Mercator a pixel's height on the ellipsoid differs by up to 1 %; the size counts it in
    assert ground_size_m(plane.scale, lat) == pytest.approx(measured, rel=1e-4)


def test_a_query_across_the_antimeridian() -> None:
    for pixels in SIZES:
        plane = frame(pixels, 3000, 1000)
        lon, lat = plane.to_lonlat(np.array([0.0, 3000.0]), np.array([500.0, 500.0]), (179.99, -16.5))
        assert lon[0] > 179
        assert lon[1] < -179
        x, y = plane.to_pixels(lon, lat, (179.99, -16.5))
        np.testing.assert_allclose([x, y], [[0, 3000], [500, 500]], atol=1e-3)
