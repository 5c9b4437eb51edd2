"""Localize in galleries of every make: web map tiles, images left in their source, several levels; and tiny queries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from lands import (
    COLUMN,
    ELSEWHERE,
    GALLERY_SEASON,
    LEVEL,
    NOMINAL_M,
    ROW,
    SEED,
    TILES,
    cut,
    picture,
    tiles,
    write_gallery,
)
from sources import jpeg, write_ge_tiles

import rsloc_db
from rsloc_db.db.connection import connect
from rsloc_db.grids import GoogleEarthGrid, WebMercatorGrid
from rsloc_db.types import Json

HALF = 2 * NOMINAL_M


def one(path: Path, **options: object) -> Json:
    (found,) = rsloc_db.localize(path, **options).queries
    return found


def write_xyz(folder: Path) -> Path:
    """Write the land as tiles of a web map."""
    land, mercator = picture(SEED, GALLERY_SEASON), WebMercatorGrid()
    west, north = (v * 256.0 for v in (COLUMN, ROW))
    lon, lat = GoogleEarthGrid().to_lonlat(
        np.array([west, west + 256 * TILES]), np.array([north, north + 256 * TILES]), LEVEL
    )
    x, y = mercator.to_pixels(lon, lat, LEVEL)
    for column in range(int(x[0] // 256), int(x[1] // 256) + 1):
        for row in range(int(y[0] // 256), int(y[1] // 256) + 1):
            px, py = np.meshgrid(column * 256 + np.arange(256) + 0.5, row * 256 + np.arange(256) + 0.5)
            on_land = GoogleEarthGrid().to_pixels(*mercator.to_lonlat(px, py, LEVEL), LEVEL)
            map_x, map_y = (
                (v - corner - 0.5).astype(np.float32) for v, corner in zip(on_land, (west, north), strict=True)
            )
            path = folder / str(LEVEL) / str(column) / f"{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(cv2.remap(land, map_x, map_y, cv2.INTER_LINEAR)))
    return folder


@pytest.mark.parametrize("retrieval", ["knn", "exhaustive"])
def test_a_web_map_is_a_gallery(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, retrieval: str
) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", database_url)
    rsloc_db.ingest(write_xyz(tmp_path / "web"), workers=1)
    query = cut()
    found = one(query.write(tmp_path / "here.tif"), retrieval=retrieval)
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 5
    assert one(cut(seed=ELSEWHERE).write(tmp_path / "absent.tif"), retrieval=retrieval)["verdict"] == "not_here"


def test_images_may_stay_in_their_source(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", database_url)
    rsloc_db.ingest(write_gallery(tmp_path / "land.db"), images="reference", workers=1)
    with connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM tile_image").fetchone() == (0,)
    query = cut()
    found = one(query.write(tmp_path / "here.tif"))
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 5
    # a source that one thread has opened is read by others, too
    assert ThreadPoolExecutor(1).submit(one, tmp_path / "here.tif", overwrite=True).result()["verdict"] == "accepted"


def write_two_levels(path: Path) -> Path:
    land = picture(SEED, GALLERY_SEASON)
    half = cv2.resize(land, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    coarse = [(LEVEL - 1, *row[1:]) for row in tiles(half, COLUMN // 2, ROW // 2)]
    return write_ge_tiles(path, [*tiles(land, COLUMN, ROW), *coarse])


def test_the_level_nearest_to_the_query_is_searched(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", database_url)
    rsloc_db.ingest(write_two_levels(tmp_path / "two.db"), workers=1)
    for size, level, shape in ((NOMINAL_M, LEVEL, (640, 704)), (HALF, LEVEL - 1, (480, 512))):
        query = cut(size=size, shape=shape)
        run = rsloc_db.localize(query.write(tmp_path / f"{level}.tif"))
        (found,) = run.queries
        assert found["verdict"] == "accepted", found["reason"]
        assert query.error_m(found["center"]) < 10
        with connect(database_url) as conn:
            levels = conn.execute("SELECT DISTINCT level FROM place WHERE run_id = %s", (run.run,)).fetchall()
        assert levels == [(level,)]


@pytest.mark.parametrize(("side", "gsd"), [(64, 1.6), (64, 3.3), (90, 3.3), (200, 3.3)])
@pytest.mark.parametrize("retrieval", ["auto", "exhaustive"])
@pytest.mark.usefixtures("land_url")
def test_tiny_queries_are_answered_and_not_misplaced(tmp_path: Path, side: int, gsd: float, retrieval: str) -> None:
    query = cut(size=NOMINAL_M * gsd / 3.3, shape=(side, side))
    found = one(query.write_bare(tmp_path / "tiny.png"), gsd=gsd, retrieval=retrieval)
    assert found["verdict"] in ("accepted", "not_here"), found["reason"]
    if found["verdict"] == "accepted":
        assert query.error_m(found["center"]) < 25


@pytest.mark.usefixtures("land_url")
def test_a_polygon_limits_where_the_answer_may_lie(tmp_path: Path) -> None:
    query = cut()
    path = query.write(tmp_path / "here.tif")
    lon, lat = query.center
    around = shapely.box(lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01).wkt
    beside = shapely.box(lon - 0.01, lat + 0.01, lon + 0.01, lat + 0.02).wkt
    for retrieval in ("knn", "exhaustive"):
        found = one(path, within=around, retrieval=retrieval)
        assert found["verdict"] == "accepted", found["reason"]
        assert query.error_m(found["center"]) < 5
        assert one(path, within=beside, retrieval=retrieval)["verdict"] == "not_here"


def test_two_levels_are_searched_at_once(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", database_url)
    rsloc_db.ingest(write_two_levels(tmp_path / "two.db"), workers=1)
    query = cut()
    run = rsloc_db.localize(query.write(tmp_path / "here.tif"), levels=2)
    (found,) = run.queries
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 5
    with connect(database_url) as conn:
        levels = conn.execute("SELECT DISTINCT level FROM clique WHERE run_id = %s ORDER BY 1", (run.run,)).fetchall()
        assert levels == [(LEVEL - 1,), (LEVEL,)]
        # one place seen at two levels is one place
        overlap = "SELECT count(*) FROM place WHERE run_id = %s AND evidence > 2"
        assert conn.execute(overlap, (run.run,)).fetchone() == (1,)
