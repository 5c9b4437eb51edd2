"""The drawn land without borders, and galleries and queries of it."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from commands import run
from pyproj import Transformer

import rsloc_db
from rsloc_db.errors import GalleryError
from rsloc_db.synth import NOTE
from rsloc_db.synth.plan import Plan
from rsloc_db.terrain import Box, Land, Look, draw_layout, paint, sea_share
from rsloc_db.types import Image

TILES, SEED, QUERIES = 150, 4, 2
LAND = Land(1, 174 / 256)
PLACES = [(16600, 12100), (16640, 12000), (16200, 12100), (16903, 12101), (3, 12100)]
"""Cells of fields, of a town, of woods, of a coast, and at the grid's western edge."""
KILLED = """
import os, signal
import rsloc_db
from rsloc_db.gallery.ge_tiles_file import GeTilesFile
original = GeTilesFile.add
def dying(self, rows):
    original(self, rows)
    os.kill(os.getpid(), signal.SIGKILL)
GeTilesFile.add = dying
rsloc_db.synthesize({out!r}, tiles={tiles}, seed={seed}, queries={queries}, workers=1)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "whole"
    rsloc_db.synthesize(folder, tiles=TILES, seed=SEED, queries=QUERIES)
    return folder


def draw(box: Box, look: Look, land: Land = LAND) -> Image:
    return paint(land, box, draw_layout(land, box), look)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path) -> list[tuple[int, int, int, int, bytes]]:
    with closing(sqlite3.connect(folder / "Gallery" / "galleryL15.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute("SELECT zoom_level, tile_column, tile_row, time_, tile_data FROM ge_tiles").fetchall()


@pytest.mark.parametrize("cell", PLACES)
def test_tiles_drawn_alone_and_at_once_are_equal(cell: tuple[int, int]) -> None:
    look = Look(2015, 1, 1)
    box = Box(cell[0] * 256, cell[1] * 256, 512, 512)
    whole = draw(box, look)
    assert whole.std() > 5
    for x, y in ((0, 0), (256, 0), (0, 256), (256, 256)):
        alone = draw(Box(box.x + x, box.y + y, 256, 256), look)
        np.testing.assert_array_equal(alone, whole[y : y + 256, x : x + 256])


@pytest.mark.parametrize("number", range(8))
def test_no_part_depends_on_what_is_drawn_around_it(number: int) -> None:
    rng = np.random.default_rng(number)
    land, look = Land(number, [90, 174, 256][number % 3] / 256), Look(2015, number % 3, number % 4)
    corner, shift = rng.integers(1000, 30000, 2) * 256, rng.integers(0, 48, 2) * 16
    whole = Box(int(corner[0]), int(corner[1]), 1024, 1024)
    part = Box(whole.x + int(shift[0]), whole.y + int(shift[1]), 256, 272)
    inside = draw(whole, look, land)[shift[1] : shift[1] + 272, shift[0] : shift[0] + 256]
    np.testing.assert_array_equal(draw(part, look, land), inside)


def test_a_season_changes_the_colours_and_not_the_layout() -> None:
    box = Box(PLACES[0][0] * 256, PLACES[0][1] * 256, 512, 512)
    spring, autumn = (draw(box, Look(year, season, 0)) for year, season in ((2015, 0), (2018, 2)))
    assert np.abs(spring.astype(float) - autumn).mean() > 10
    edges = [cv2.Laplacian(cv2.GaussianBlur(each, (0, 0), 2), cv2.CV_32F).max(2) for each in (spring, autumn)]
    elsewhere = draw(Box(box.x + 5120, box.y, 512, 512), Look(2018, 2, 0))
    other = cv2.Laplacian(cv2.GaussianBlur(elsewhere, (0, 0), 2), cv2.CV_32F).max(2)
    alike, chance = (np.corrcoef(edges[0].ravel(), each.ravel())[0, 1] for each in (edges[1], other))
    assert alike > chance + 0.2


def test_a_seed_is_a_land() -> None:
    box, look = Box(PLACES[0][0] * 256, PLACES[0][1] * 256, 256, 256), Look(2015, 1, 0)
    np.testing.assert_array_equal(draw(box, look), draw(box, look))
    assert (draw(box, look) != draw(box, look, Land(2, LAND.aspect))).mean() > 0.9


def test_there_is_land_and_sea() -> None:
    shares = [sea_share(LAND, Box(x * 2048, 3_000_000, 2048, 2048)) for x in range(200)]
    assert 0.01 < np.mean(shares) < 0.4
    assert max(shares) == 1


def test_a_gallery_is_in_the_datasets_form(made: Path) -> None:
    found = rows(made)
    assert len(found) == TILES
    assert {row[0] for row in found} == {15}
    cells = {row[1:3] for row in found}
    looks = {row[1:4] for row in found}
    assert len(looks) == TILES
    assert len(cells) < TILES  # some cells have two dates
    for row in found[:3]:
        assert row[4].startswith(b"\xff\xd8")
        assert cv2.imdecode(np.frombuffer(row[4], np.uint8), cv2.IMREAD_COLOR).shape == (256, 256, 3)
    with closing(sqlite3.connect(made / "Gallery" / "galleryL15.db")) as db:
        assert [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")] == ["ge_tiles"]


@pytest.mark.parametrize("name", ["present", "absent"])
def test_queries_are_in_the_datasets_form(made: Path, name: str) -> None:
    with (made / "RSimages" / f"{name}.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == QUERIES
    to_lonlat = Transformer.from_crs(3857, 4326, always_xy=True)
    cells = {row[1:3] for row in rows(made)}
    for row in table:
        with rasterio.open(made / "RSimages" / name / row["imgname"]) as image:
            assert image.crs.to_epsg() == 3857
            assert image.transform.a == pytest.approx(4.777314267823516)
            assert (image.width, image.height) == (int(row["width"]), int(row["height"]))
            lon, lat = to_lonlat.transform(*(image.transform @ (image.width / 2, image.height / 2)))
        assert (lon, lat) == pytest.approx((float(row["lon"]), float(row["lat"])), abs=1e-9)
        cell = int((lon + 180) / 360 * 2**15), int((180 - lat) / 360 * 2**15)
        assert (cell in cells) == (name == "present")


def test_the_same_again_changes_nothing_and_other_arguments_are_refused(made: Path) -> None:
    before = files(made)
    again = rsloc_db.synthesize(made, tiles=TILES, seed=SEED, queries=QUERIES)
    assert again.added == 0
    assert files(made) == before
    with pytest.raises(GalleryError, match="other arguments"):
        rsloc_db.synthesize(made, tiles=TILES, seed=SEED + 1, queries=QUERIES)


def test_killed_it_goes_on_to_the_same_bytes(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    code = KILLED.format(out=str(out), tiles=TILES, seed=SEED, queries=QUERIES)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    left = rows(out)
    assert 0 < len(left) < TILES
    assert left == rows(made)[: len(left)]
    done = rsloc_db.synthesize(out, tiles=TILES, seed=SEED, queries=QUERIES, workers=1)
    assert done.added == TILES - len(left)
    assert files(out) == files(made)


def test_present_queries_are_found_and_absent_ones_refused(made: Path, database_url: str) -> None:
    rsloc_db.ingest(made / "Gallery" / "galleryL15.db", url=database_url)
    found = rsloc_db.localize(made / "RSimages" / "present", made / "RSimages" / "absent", url=database_url)
    judged = rsloc_db.evaluate(found.run, url=database_url).as_dict()
    assert (judged["queries"], judged["absent"], judged["failed"]) == (2 * QUERIES, QUERIES, 0)
    assert judged["located_at_m"]["10"] == QUERIES
    assert judged["false_places"] == 0


def test_what_is_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(GalleryError, match="holds something else"):
        rsloc_db.synthesize(tmp_path, tiles=16)
    assert files(tmp_path) == {"photo.jpg": b"mine"}


def test_a_gallery_of_other_make_is_not_added_to(tmp_path: Path) -> None:
    rsloc_db.synthesize(tmp_path, tiles=16, queries=0, workers=1)
    with closing(sqlite3.connect(tmp_path / "Gallery" / "galleryL15.db")) as db:
        db.execute("INSERT INTO ge_tiles VALUES (15, 1, 1, 0, x'00')")
        db.commit()
    with pytest.raises(GalleryError, match="17 rows are not what a run leaves"):
        rsloc_db.synthesize(tmp_path, tiles=16, queries=0, workers=1)


def test_a_disk_too_small_is_said_before(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    tiles = free // 17_000 + 1_000_000
    with pytest.raises(GalleryError, match="MB are free"):
        rsloc_db.synthesize(tmp_path / "out", tiles=tiles, queries=0, workers=1, level=20, origin=(-150, 0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"tiles": 15}, "--tiles is 15"),
        ({"tiles": 16, "level": 3}, "--level is 3"),
        ({"tiles": 16, "origin": (2.0, 80.0)}, "--origin is 2,80"),
        ({"tiles": 16, "origin": (179.9, 0.0)}, "beyond the grid"),
        ({"tiles": 16, "queries": -1}, "--queries is -1"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(GalleryError, match=reason):
        rsloc_db.synthesize(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_country_is_planned_at_once() -> None:
    plan = Plan(824_796, 0, 15, (2.5, 47.0))
    plan.check()
    assert sum(plan.rows(block) for block in range(plan.blocks)) == 824_796
    assert {len(plan.looks(block)) for block in range(200)} == {1, 2}


def test_the_command_prints_what_it_made(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("synth", made, "--tiles", TILES, "--seed", SEED, "--queries", QUERIES)
    assert run(monkeypatch, *words, "--json", "--quiet") == 0
    assert json.loads(capsys.readouterr().out)["tiles"] == TILES
    assert run(monkeypatch, *words) == 0
    assert f"galleryL15.db: {TILES} tiles, 0 new" in capsys.readouterr().out
    assert run(monkeypatch, *words, "--origin", "here") == 2
    assert (made / NOTE).exists()
