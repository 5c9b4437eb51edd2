"""Localize, end to end: queries of a drawn world with a known place, on a real server."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    Cut,
    cut,
    picture,
    tiles,
    write_gallery,
)
from pyproj import Geod, Transformer
from rasterio.transform import Affine
from rasters import write
from sources import write_ge_tiles

import rsloc_db
from rsloc_db.cli import main
from rsloc_db.db.connection import connect
from rsloc_db.errors import GalleryError, QueryError
from rsloc_db.types import Json

DEGREES = 360 / 256 / 2**LEVEL
UTM = "EPSG:32631"
"""Zone 31: the land lies 2.5 degrees west of its meridian, so north is 1.8 degrees off the grid's."""
VERDICTS = {"accepted", "ambiguous", "not_here", "failed"}


def one(path: Path, **options: Any) -> Json:
    (found,) = rsloc_db.localize(path, **options).queries
    return found


def error_m(query: Cut, found: Json) -> float:
    assert found["verdict"] == "accepted", found["reason"]
    return query.error_m(found["center"])


def command(*words: object) -> subprocess.CompletedProcess[str]:
    code = "from rsloc_db.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)


# --- right places


@pytest.mark.parametrize(
    ("crs", "size"),
    [
        ("EPSG:3857", NOMINAL_M),
        ("EPSG:3857", 1.6 * NOMINAL_M),
        ("EPSG:4326", DEGREES),
        (UTM, 4.0),
        ("+proj=aeqd +lon_0=0.55 +lat_0=47.06 +datum=WGS84", 2.6),
    ],
    ids=["mercator", "coarser", "degrees", "utm", "ground"],
)
@pytest.mark.parametrize("retrieval", ["knn", "exhaustive"])
@pytest.mark.usefixtures("land_url")
def test_found_within_five_metres(tmp_path: Path, crs: str, size: float, retrieval: str) -> None:
    shape = (480, 560) if size > NOMINAL_M else (960, 900) if size < 3 else (640, 704)
    query = cut(crs, size, shape=shape)
    found = one(query.write(tmp_path / "query.tif"), retrieval=retrieval)
    assert error_m(query, found) < 5
    assert all(place["rank"] > 1 for place in found["places"])
    ellipse = found["ellipse"]
    assert 2 < ellipse["b_m"] <= ellipse["a_m"] < 25
    assert query.error_m(found["center"]) < ellipse["a_m"]


@pytest.mark.usefixtures("land_url")
def test_the_answer_has_the_shape_of_the_query(tmp_path: Path) -> None:
    query = cut(UTM, 4.0)
    found = one(query.write(tmp_path / "query.tif"))
    height, width = query.image.shape[:2]
    to_degrees = Transformer.from_crs(UTM, 4326, always_xy=True).transform
    a, _, west, _, e, north = query.transform[:6]
    east, south = west + a * width, north + e * height
    true = shapely.Polygon([to_degrees(*at) for at in [(west, north), (east, north), (east, south), (west, south)]])
    outline = shapely.from_geojson(json.dumps(found["footprint"]))
    assert outline.geom_type == "MultiPolygon"
    assert outline.is_valid
    assert outline.intersection(true).area / outline.union(true).area > 0.98
    assert found["transform"]["srid"] == 32631
    # the turn of the grid against north was not told, it was found
    np.testing.assert_allclose(found["transform"]["coefficients"][:2], query.transform[:2], atol=0.01)
    np.testing.assert_allclose(found["transform"]["coefficients"][3:5], query.transform[3:5], atol=0.01)


@pytest.mark.usefixtures("land_url")
def test_absent_land_is_not_here(tmp_path: Path) -> None:
    for name, at in [("a.png", (900.0, 900.0)), ("b.png", (600.0, 1300.0)), ("c.png", (1400.0, 700.0))]:
        cut(at=at, seed=ELSEWHERE).write_bare(tmp_path / "set" / name)
    for found in rsloc_db.localize(tmp_path / "set", level=LEVEL).queries:
        assert found["verdict"] == "not_here", found
        assert found["reason"]
        assert found["center"] is found["footprint"] is found["ellipse"] is None
        assert found["confidence"] < 0.99


@pytest.mark.parametrize(("seed", "verdict", "widths"), [(SEED, "accepted", {3}), (ELSEWHERE, "not_here", {1, 3})])
def test_narrow_windows_are_searched_where_the_widest_do_not_show_the_place(
    land_url: str, tmp_path: Path, seed: int, verdict: str, widths: set[int]
) -> None:
    path = cut(shape=(1700, 1650), seed=seed).write(tmp_path / "query.tif")
    found = rsloc_db.localize(path, retrieval="knn", workers=1)
    assert found.queries[0]["verdict"] == verdict, found.queries[0]["reason"]
    with connect(land_url) as conn:
        of_run = conn.execute(
            "SELECT p.window_tiles, count(h.id), count(DISTINCT p.id) FROM patch p JOIN hit h ON h.patch_id = p.id "
            "WHERE p.run_id = %s GROUP BY 1",
            (found.run,),
        ).fetchall()
        cliques = conn.execute(
            "SELECT count(*), count(DISTINCT rank) FROM clique WHERE run_id = %s", (found.run,)
        ).fetchone()
    assert {window for window, *_ in of_run} == widths
    assert all(hits >= patches for _, hits, patches in of_run)
    # those of the widest windows alone are forgotten once there are more
    assert cliques is not None
    assert cliques[0] == cliques[1] > 0


@pytest.mark.usefixtures("land_url")
def test_a_twin_of_the_place_makes_it_ambiguous(tmp_path: Path) -> None:
    land = picture(SEED, GALLERY_SEASON)[512:1536, 512:1536]
    twin = write_ge_tiles(tmp_path / "twin.db", tiles(land, COLUMN + 102, ROW + 2))
    rsloc_db.ingest(twin, workers=1)
    path = cut().write(tmp_path / "query.tif")
    found = one(path)
    assert found["verdict"] == "ambiguous"
    assert "2 places" in found["reason"]
    assert 0 < found["confidence"] <= 0.5
    apart = Geod(ellps="WGS84").inv(*found["center"], *found["places"][0]["center"])[2]
    assert apart == pytest.approx(100 * 256 * NOMINAL_M * np.cos(np.radians(47.06)), rel=0.01)
    # a gallery without the twin has no doubt
    assert one(path, gallery="land")["verdict"] == "accepted"


@pytest.mark.usefixtures("database_url")
def test_a_gallery_across_the_antimeridian(tmp_path: Path) -> None:
    """The query's centre lies at longitude 180, its halves on both sides."""
    rsloc_db.ingest(write_gallery(tmp_path / "pacific.db", column=2**LEVEL - 4))
    query = cut(at=(1020.0, 950.0))
    path = query.write_bare(tmp_path / "query.png")
    for retrieval in ("knn", "exhaustive"):
        found = one(path, level=LEVEL, retrieval=retrieval)
        assert found["verdict"] == "accepted", found
        lon, lat = found["center"]
        shift = (2**LEVEL - 4 - COLUMN) * 360 / 2**LEVEL
        assert query.error_m([lon - shift, lat]) < 5
        outline = shapely.from_geojson(json.dumps(found["footprint"]))
        assert outline.is_valid
        assert len(outline.geoms) == 2
        assert outline.bounds[0] == -180
        assert outline.bounds[2] == 180


# --- what is not read


def test_truth_is_not_read(tmp_path: Path, land_url: str) -> None:
    """The same pixels give the same answer, whatever tags and CSV say of the place; and truth may be wrong."""
    query = cut()
    a, _, west, _, e, north = query.transform[:6]
    shifted = Affine(a, 0, west + 3_000_000, 0, e, north - 2_000_000)
    queries = {
        "tags": query.write(tmp_path / "tags" / "q.tif"),
        "shifted": write(tmp_path / "shifted" / "q.tif", _bands(query), crs=query.crs, transform=shifted),
        "bare": write(tmp_path / "bare" / "q.tif", _bands(query)),
    }
    for folder, place in [("lying", ("-33.0", "151.0")), ("absent", ("", ""))]:
        queries[folder] = write(tmp_path / folder / "q.tif", _bands(query))
        with (tmp_path / f"{folder}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("imgname", "lat", "lon", "level"), ("q.tif", *place, LEVEL)])
    answers = {name: one(path, level=LEVEL) for name, path in queries.items()}
    plain = {name: {**found, "query_set": "", "name": ""} for name, found in answers.items()}
    for name in queries:
        assert plain[name] == plain["tags"], name
    assert error_m(query, answers["lying"]) < 5
    with connect(land_url) as conn:
        truths = conn.execute("SELECT count(*) FROM query_truth").fetchone()
    assert truths == (4,)  # all but the bare one, and loaded after the fact


def _bands(query: Cut) -> np.ndarray:
    return np.moveaxis(query.image, -1, 0)


@pytest.mark.usefixtures("land_url")
def test_truth_can_be_left_out(tmp_path: Path, land_url: str) -> None:
    one(cut().write(tmp_path / "query.tif"), truth=False)
    with connect(land_url) as conn:
        assert conn.execute("SELECT count(*) FROM query_truth").fetchone() == (0,)


# --- kinds of files


@pytest.mark.usefixtures("land_url")
def test_kinds_of_pixels(tmp_path: Path) -> None:
    """16 bit, one band, alpha, nodata, many bands, other formats, turned tags: one batch."""
    query, folder = cut(), tmp_path / "set"
    bands = _bands(query)
    seen = np.full(bands.shape[1:], 255, np.uint8)
    seen[:, :150] = 0
    dark = np.where(seen > 0, np.maximum(bands, 1), 0).astype(np.uint8)
    placed = {"crs": query.crs, "transform": query.transform}
    infrared = np.full_like(bands[:1], 7)
    write(folder / "16 bit.tif", bands.astype(np.uint16) * 37 + 900, **placed)
    write(folder / "float.tif", bands.astype(np.float32) / 255, **placed)
    write(folder / "one band.tif", bands.mean(axis=0, keepdims=True).astype(np.uint8), **placed)
    write(folder / "alpha.tif", np.concatenate([bands, seen[None]]), photometric="RGB", alpha="yes", **placed)
    write(folder / "nodata.tif", dark, nodata=0, **placed)
    write(folder / "five bands.tif", np.concatenate([bands, infrared, infrared]), **placed)
    cos, sin = np.cos(0.6) * NOMINAL_M, np.sin(0.6) * NOMINAL_M
    write(folder / "turned tags.tif", bands, crs=query.crs, transform=Affine(cos, sin, 9e4, sin, -cos, 5e6))
    write(folder / "photo.jpg", bands, "JPEG", quality=90)
    write(folder / "picture.png", bands, "PNG")
    found = {q["name"]: q for q in rsloc_db.localize(folder, level=LEVEL, truth=False).queries}
    assert len(found) == 9
    for name, answer in found.items():
        assert answer["verdict"] == "accepted", (name, answer["reason"])
        assert query.error_m(answer["center"]) < 5, name


@pytest.mark.usefixtures("land_url")
def test_within_keeps_to_the_polygon(tmp_path: Path) -> None:
    query = cut()
    path = query.write(tmp_path / "query.tif")
    lon, lat = query.center
    around = shapely.box(lon - 0.03, lat - 0.03, lon + 0.03, lat + 0.03)
    assert error_m(query, one(path, within=around.wkt)) < 5
    assert error_m(query, one(path, within=shapely.to_geojson(around))) < 5
    for retrieval in ("knn", "exhaustive"):
        away = one(path, within=shapely.box(lon + 0.1, lat - 1, lon + 1, lat + 1).wkt, retrieval=retrieval)
        assert away["verdict"] == "not_here"


# --- the command line


def test_json_and_exit_codes(tmp_path: Path, land_url: str) -> None:
    query = cut()
    query.write(tmp_path / "good" / "here.tif")
    cut(seed=ELSEWHERE).write(tmp_path / "good" / "absent.tif")
    done = command("localize", tmp_path / "good", "--json", "--top", 3)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["run"] == 1
    absent, here = answer["queries"]
    assert (absent["name"], absent["verdict"]) == ("absent.tif", "not_here")
    assert (here["name"], here["verdict"]) == ("here.tif", "accepted")
    assert query.error_m(here["center"]) < 5
    assert 0.9 < here["confidence"] <= 1
    assert here["footprint"]["type"] == "MultiPolygon"
    assert here["ellipse"].keys() == {"a_m", "b_m", "azimuth_deg"}
    assert len(here["places"]) <= 2

    write(tmp_path / "no scale" / "bare.tif", _bands(query))
    query.write(tmp_path / "no scale" / "here.tif")
    done = command("localize", tmp_path / "no scale", "--json")
    assert done.returncode == 1
    bare, here = json.loads(done.stdout)["queries"]
    assert bare["verdict"] == "failed"
    assert "--level" in bare["reason"]
    assert here["verdict"] == "accepted"

    done = command("localize", tmp_path / "good", "--quiet")
    assert done.returncode == 0
    assert "accepted" in done.stdout


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize(
    "words",
    [
        ["--pixels", "inches"],
        ["--level", "99"],
        ["--level", "15", "--gsd", "3"],
        ["--gsd", "-3"],
        ["--within", "POINT(1 2)"],
        ["--within", "nonsense"],
        ["--top", "0"],
        ["--model", "no such model"],
        ["--gallery", "nowhere"],
        ["--colour", "red"],
    ],
    ids=" ".join,
)
def test_bad_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    write(tmp_path / "query.png", driver="PNG")
    monkeypatch.setattr("sys.argv", ["rsloc-db", "localize", str(tmp_path / "query.png"), *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err
    assert "Traceback" not in out.err


@pytest.mark.usefixtures("database_url")
def test_missing_path_and_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="no such file"):
        rsloc_db.localize(tmp_path / "nothing.tif")
    write(tmp_path / "query.png", driver="PNG")
    with pytest.raises(GalleryError, match="rsloc-db ingest"):
        rsloc_db.localize(tmp_path / "query.png", level=LEVEL)


@pytest.mark.usefixtures("land_url")
def test_a_scale_that_no_gallery_has_fails_with_a_reason(tmp_path: Path) -> None:
    found = one(cut().write_bare(tmp_path / "query.png"), gsd=90.0)
    assert found["verdict"] == "failed"
    assert "15" in found["reason"]


# --- what stays


def test_everything_of_a_run_stays_in_tables(tmp_path: Path, land_url: str) -> None:
    path = cut().write(tmp_path / "query.tif")
    found = rsloc_db.localize(path)
    with connect(land_url) as conn:
        for table in ("patch", "hit", "clique", "place", "match", "localization"):
            (rows,) = conn.execute(f"SELECT count(*) FROM {table} WHERE run_id = %s", (found.run,)).fetchone()
            assert rows > 0, table
        (inliers,) = conn.execute("SELECT count(*) FROM match WHERE inlier").fetchone()
        assert inliers > 20
        assert conn.execute("SELECT status, total_s > 0 FROM run_query").fetchall() == [("done", True)]
        (settings,) = conn.execute("SELECT settings FROM run").fetchone()
        assert settings["model"] == "gradients"
        # the matches lie where the truth has them
        (worst,) = conn.execute(
            "SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY residual_m) FROM match WHERE inlier"
        ).fetchone()
        assert worst < 12
    again = rsloc_db.localize(path)
    assert again.as_dict() == found.as_dict()
    other = rsloc_db.localize(path, overwrite=True)
    assert other.run != found.run
    assert other.queries == found.queries
    assert found.queries[0]["verdict"] in VERDICTS
