"""Localize where the turn or the scale of a query is not known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lands import ELSEWHERE, LEVEL, NOMINAL_M, TILE_PX, cut, lonlat

import rsloc_db
from rsloc_db.db.connection import connect
from rsloc_db.errors import QueryError
from rsloc_db.frames import Frame
from rsloc_db.stages.options import Options
from rsloc_db.stages.poses import poses
from rsloc_db.stages.query import Query
from rsloc_db.types import Json, Pose, Scale

SHAPE = (1150, 1100)
ABSENT_SHAPE = (700, 700)
# one of the land's mirror images is mirrored twice: the land itself, turned by 180 degrees. It lies south-east of these
WEST, EAST, NORTH, SOUTH = (
    *(lonlat(x * TILE_PX, 0)[0] for x in (-1, 39)),
    *(lonlat(0, y * TILE_PX)[1] for y in (-1, 60)),
)
WITHIN = f"POLYGON(({WEST} {NORTH}, {EAST} {NORTH}, {EAST} {SOUTH}, {WEST} {SOUTH}, {WEST} {NORTH}))"


def one(path: Path, **options: Any) -> Json:
    (found,) = rsloc_db.localize(path, **options).queries
    return found


def pose_of(name: str) -> tuple[float, float]:
    """Turn and zoom of the answer's place."""
    with connect() as conn:
        row = conn.execute(
            "SELECT turn_deg, zoom FROM place JOIN localization l ON l.place_id = place.id "
            "JOIN query q ON q.id = l.query_id WHERE q.name = %s ORDER BY place.id DESC LIMIT 1",
            (name,),
        ).fetchone()
    assert row is not None
    return float(row[0]), float(row[1])


# --- found


# in a world of 256 tiles patches in 36 turns find too much by chance, so gradient maps must do; see test_mini.py
@pytest.mark.parametrize("turn_deg", [37.0, 201.5])
@pytest.mark.usefixtures("land_url")
def test_a_turned_query_is_found(tmp_path: Path, turn_deg: float) -> None:
    query = cut(shape=SHAPE, turn_deg=turn_deg)
    found = one(query.write(tmp_path / "turned.tif"), rotation="free", retrieval="exhaustive", within=WITHIN)
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 5
    turn, zoom = pose_of("turned.tif")
    assert math.remainder(turn - turn_deg, 360) == pytest.approx(0, abs=0.5)
    assert zoom == pytest.approx(1, abs=0.01)


@pytest.mark.usefixtures("land_url")
def test_the_corners_of_a_turned_query_are_in_the_order_of_its_pixels(tmp_path: Path) -> None:
    query = cut(shape=SHAPE, turn_deg=120)
    found = one(query.write(tmp_path / "turned.tif"), rotation="free", retrieval="exhaustive", within=WITHIN)
    a, b, c, d, e, f = found["transform"]["coefficients"]
    t = query.transform
    for x, y in ((0, 0), (SHAPE[1], 0), (SHAPE[1], SHAPE[0])):
        away = np.hypot(a * x + b * y + c - (t.a * x + t.b * y + t.c), d * x + e * y + f - (t.d * x + t.e * y + t.f))
        assert away < 3 * NOMINAL_M


@pytest.mark.parametrize("zoom", [0.75, 1.35])
@pytest.mark.usefixtures("land_url")
def test_a_query_of_roughly_known_scale_is_found(tmp_path: Path, zoom: float) -> None:
    query = cut(size=NOMINAL_M * zoom, shape=(round(640 / zoom), round(704 / zoom)))
    found = one(query.write_bare(tmp_path / "rough.png"), level=LEVEL, gsd_factor=1.5)
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 6
    turn, found_zoom = pose_of("rough.png")
    assert math.remainder(turn, 360) == pytest.approx(0, abs=0.5)
    assert found_zoom == pytest.approx(zoom, rel=0.01)


@pytest.mark.usefixtures("land_url")
def test_a_query_of_unknown_scale_is_found(tmp_path: Path) -> None:
    query = cut(size=NOMINAL_M * 0.8, shape=(860, 900))
    found = one(query.write_bare(tmp_path / "unknown.png"), gsd="unknown")
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 5


@pytest.mark.usefixtures("land_url")
def test_patches_of_the_right_pose_lie_where_their_offsets_say(tmp_path: Path) -> None:
    query = cut(shape=SHAPE, turn_deg=200)
    found = rsloc_db.localize(query.write(tmp_path / "t.tif"), rotation="free", retrieval="knn", within=WITHIN)
    with connect() as conn:
        rows = conn.execute(
            "SELECT x_px, y_px, east_offset, north_offset FROM patch WHERE run_id = %s AND turn_deg = 200", (found.run,)
        ).fetchall()
    assert len(rows) >= 12
    x, y, east, north = np.array(rows, float).T
    t = query.transform
    x0, y0 = t @ (SHAPE[1] / 2, SHAPE[0] / 2)
    assert np.abs(t.a * x + t.b * y + t.c - x0 - east).max() < NOMINAL_M / 10
    assert np.abs(t.d * x + t.e * y + t.f - y0 - north).max() < NOMINAL_M / 10


# --- not found


@pytest.mark.usefixtures("land_url")
def test_a_turned_query_is_not_found_north_up(tmp_path: Path) -> None:
    found = one(cut(shape=ABSENT_SHAPE, turn_deg=90).write(tmp_path / "turned.tif"))
    assert found["verdict"] == "not_here"


@pytest.mark.usefixtures("land_url")
def test_what_is_not_here_is_refused_in_all_turns(tmp_path: Path) -> None:
    found = one(
        cut(seed=ELSEWHERE, shape=ABSENT_SHAPE).write_bare(tmp_path / "absent.png"), level=LEVEL, rotation="free"
    )
    assert found["verdict"] == "not_here"
    assert found["center"] is None


@pytest.mark.usefixtures("land_url")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gsd_factor": 0.5}, "--gsd-factor is 0.5: expected 1 to 4"),
        ({"gsd_factor": math.nan}, "--gsd-factor is nan"),
        ({"gsd": "unknown", "level": LEVEL}, "goes with neither --level nor --pixels"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = cut(shape=(100, 100)).write_bare(tmp_path / "q.png")
    with pytest.raises(QueryError, match=message):
        rsloc_db.localize(path, **options)


# --- parts


def test_poses_cover_what_is_asked_for() -> None:
    assert poses(Options("m")) == [Pose(0.0, 1.0)]
    tried = poses(Options("m", rotation="free", gsd_factor=1.5))
    assert {pose.turn_deg for pose in tried} == set(np.arange(0, 360, 10.0))
    zooms = sorted({pose.zoom for pose in tried})
    for zoom in np.geomspace(1 / 1.5, 1.5, 50):
        assert min(abs(math.log(zoom / each)) for each in zooms) <= math.log(1.15) / 2 + 1e-9
    assert len(tried) == 36 * len(zooms)


def test_an_upright_query_shows_a_place_where_its_frame_says() -> None:
    """A bright square is found at the offset that the posed frame gives it."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[40:60, 330:350] = 255
    query = Query(image, np.ones((300, 400), bool), Frame(Scale("ground", 2.0, 2.0), 400, 300)).posed(Pose(65.0, 1.2))
    upright = query.upright(1.5)
    y, x = np.nonzero(upright.image[..., 0] > 128)
    east, north = upright.frame.offsets(np.array(x.mean() + 0.5), np.array(y.mean() + 0.5))
    expected = query.frame.offsets(np.array(340.0), np.array(50.0))
    assert (east, north) == (pytest.approx(expected[0], abs=3), pytest.approx(expected[1], abs=3))
    assert upright.frame.pose == Pose()
    assert not upright.valid[0, 0]
