"""The tools on single tiles, as functions and as commands, on a file and on a gallery in the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from sources import COLUMN, DATE, LEVEL, ROW, picture, rows, square, write_ge_tiles
from typer.testing import CliRunner

from rsloc_db import tiles
from rsloc_db.cli import app
from rsloc_db.errors import AreaError, GalleryError, ImageError
from rsloc_db.grids import GoogleEarthGrid, cell_bounds, cell_center
from rsloc_db.imagery import decode
from rsloc_db.stages.ingest import ingest
from rsloc_db.tile_sources import TileSource, open_source
from rsloc_db.types import Cell

EARTH = GoogleEarthGrid()
MIDDLE = Cell(LEVEL, COLUMN + 1, ROW + 1)
LATER = DATE + 86_400 * 30


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """4 x 4 cells but one, of two dates in the upper left 2 x 2."""
    gap = [row for row in square(4) if row[1:3] != (COLUMN + 2, ROW + 2)]
    return write_ge_tiles(tmp_path / "gallery.db", square(2, date=LATER, seed=7) + gap)


@pytest.fixture(params=["file", "database"])
def source(request: pytest.FixtureRequest, gallery: Path) -> Iterator[TileSource]:
    if request.param == "file":
        found = open_source(gallery)
    else:
        url = request.getfixturevalue("database_url")
        ingest(gallery, name="drawn", url=url)
        found = open_source("drawn", url=url)
    yield found
    found.close()


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["tiles", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_info_of_the_dataset_s_sample() -> None:
    info = tiles.tile_info(Cell(15, 16158, 12025))
    assert info["tile"] == "15_16158_12025"
    assert info["center"] == pytest.approx([-2.4774170, 47.8839111], abs=1e-7)
    assert info["bounds"] == pytest.approx([-2.4829102, 47.8784180, -2.4719238, 47.8894043], abs=1e-7)
    assert info["resolution_m"] == pytest.approx({"east": 3.2038, "north": 4.7773}, abs=1e-4)
    assert info["size_m"]["north"] == pytest.approx(1222.99, abs=0.01)


def test_info_command_takes_numbers_and_names() -> None:
    first = json.loads(run("info", 15, 16158, 12025, "--json"))
    assert json.loads(run("info", "15_16158_12025", "--json")) == first == tiles.tile_info(Cell(15, 16158, 12025))
    assert json.loads(run("info", "Gallery/15_16158_12025.jpg", "--json")) == first
    mercator = json.loads(run("info", 15, 16158, 12025, "--grid", "web_mercator", "--json"))
    assert mercator["center"][1] == pytest.approx(43.2, abs=0.1)
    assert "-2.4774170 47.8839111" in run("info", "15_16158_12025")


@pytest.mark.parametrize("words", ["15", "15 1", "15 1 2 3", "15_1", "a_b_c", "15 -1 2"])
def test_wrong_numbers_are_refused(words: str) -> None:
    with pytest.raises(GalleryError, match="expected LEVEL COLUMN ROW"):
        tiles.parse_cell(words.split())


@pytest.mark.parametrize("cell", [Cell(15, 32768, 12025), Cell(15, 0, 8191), Cell(15, 0, 24576), Cell(31, 0, 0)])
def test_cells_off_the_grid_are_refused(cell: Cell) -> None:
    with pytest.raises(GalleryError, match="no tile"):
        tiles.tile_info(cell)


@pytest.mark.parametrize("level", [-1, 31, 3000])
def test_levels_that_no_grid_has_are_refused(level: int) -> None:
    with pytest.raises(GalleryError, match="expected 0 to 30"):
        tiles.tile_at(1, 1, level=level)


def test_at_finds_the_cell_of_a_place() -> None:
    assert tiles.tile_at(-2.4774, 47.884)["tile"] == "15_16158_12025"
    assert json.loads(run("at", -2.4774, 47.884, "--json"))["tile"] == "15_16158_12025"
    assert json.loads(run("at", "--level", 3, "--grid", "web_mercator", "--json", 10, -10))["row"] == 4
    for lon, lat in [(181, 0), (0, 91), (float("nan"), 0)]:
        with pytest.raises(GalleryError, match="expected a longitude"):
            tiles.tile_at(lon, lat)
    with pytest.raises(GalleryError, match=r"within 85\.05"):
        tiles.tile_at(0, 86, grid_name="web_mercator")


def test_at_tells_the_dates_newest_first(source: TileSource) -> None:
    lon, lat = cell_center(EARTH, MIDDLE)
    dates = [datetime.fromtimestamp(date, UTC).isoformat() for date in (LATER, DATE)]
    assert tiles.tile_at(lon, lat, source=source)["dates"] == dates
    lon, lat = cell_center(EARTH, Cell(LEVEL, COLUMN + 2, ROW + 2))
    assert tiles.tile_at(lon, lat, source=source)["dates"] == []


def test_extract_writes_the_newest_tile_of_each_cell(source: TileSource, tmp_path: Path) -> None:
    done = tiles.extract(source, tmp_path / "out")
    assert done.failures == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in done.files)
    assert len(done.files) == 15
    name = f"{LEVEL}_{COLUMN}_{ROW}.jpg"
    assert (tmp_path / "out" / name).read_bytes() == square(1, seed=7)[0][4]
    name = f"{LEVEL}_{COLUMN + 3}_{ROW}.jpg"
    assert (tmp_path / "out" / name).read_bytes() == rows([COLUMN + 3], [ROW])[0][4]


def test_extract_all_dates(source: TileSource, tmp_path: Path) -> None:
    done = tiles.extract(source, tmp_path, all_dates=True, level=LEVEL)
    assert len(done.files) == 15 + 4
    first = tmp_path / f"{LEVEL}_{COLUMN}_{ROW}_20170714.jpg"
    second = tmp_path / f"{LEVEL}_{COLUMN}_{ROW}_20170813.jpg"
    assert (first.read_bytes(), second.read_bytes()) == (square(1)[0][4], square(1, seed=7)[0][4])


def test_extract_within_an_area(source: TileSource, tmp_path: Path) -> None:
    box = cell_bounds(EARTH, MIDDLE)
    inner = shapely.box(box.west_deg, box.south_deg, box.east_deg, box.north_deg).buffer(-0.001)
    done = tiles.extract(source, tmp_path, within=inner)
    assert [path.name for path in done.files] == [f"{LEVEL}_{COLUMN + 1}_{ROW + 1}.jpg"]
    # a triangle: its box holds the gap and the cells beyond it, the triangle itself does not
    west, north = box.west_deg + 0.001, box.north_deg - 0.001
    triangle = shapely.Polygon([(west, north), (west + 0.1, north), (west, north - 0.1)])
    names = {path.name for path in tiles.extract(source, tmp_path, within=triangle).files}
    assert names == {f"{LEVEL}_{COLUMN + i}_{ROW + j}.jpg" for i, j in [(1, 1), (2, 1), (1, 2)]}


def test_extract_skips_damaged_tiles_for_older_ones(tmp_path: Path) -> None:
    damaged = [(*row[:4], row[4][:900]) for row in square(2, date=LATER) if row[4]]
    path = write_ge_tiles(tmp_path / "g.db", [*square(1), *damaged])
    out = run("extract", path, "--out", tmp_path / "out", "--json")
    found = json.loads(out)
    assert found["files"] == 1
    assert len(found["failures"]) == 4
    assert (tmp_path / "out" / f"{LEVEL}_{COLUMN}_{ROW}.jpg").read_bytes() == square(1)[0][4]


def test_extract_turns_other_formats_into_jpeg(tmp_path: Path) -> None:
    image = decode(picture(3))
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    path = write_ge_tiles(tmp_path / "g.db", [(LEVEL, COLUMN, ROW, DATE, png)])
    assert run("extract", path, "--out", tmp_path) == f"1 tiles written to {tmp_path}\n"
    data = (tmp_path / f"{LEVEL}_{COLUMN}_{ROW}.jpg").read_bytes()
    assert data.startswith(b"\xff\xd8")
    assert np.abs(decode(data).astype(int) - image).mean() < 3


def test_extract_asks_for_a_level_where_there_are_several(tmp_path: Path) -> None:
    path = write_ge_tiles(tmp_path / "g.db", square(1) + rows([5], [1000], level=11))
    with closing(open_source(path)) as found, pytest.raises(GalleryError, match=rf"levels 11, {LEVEL}.*--level"):
        tiles.extract(found, tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_mosaic_pastes_neighbours_in_place(source: TileSource, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"m{suffix}"
    done = tiles.mosaic(source, MIDDLE, out)
    assert done["missing"] == [f"{LEVEL}_{COLUMN + 2}_{ROW + 2}"]
    assert (done["tiles"], done["width"], done["height"]) == (8, 768, 768)
    found = cv2.imread(str(out))[..., ::-1].astype(int)
    for i in range(3):
        for j in range(3):
            part = found[256 * j : 256 * j + 256, 256 * i : 256 * i + 256]
            newest = (square(2, seed=7) if i < 2 and j < 2 else square(4))[j * (2 if i < 2 and j < 2 else 4) + i][4]
            expected = 0 if (i, j) == (2, 2) else decode(newest or b"").astype(int)
            assert np.abs(part - expected).mean() < (3 if suffix == ".jpg" else 1e-9)


def test_mosaic_tif_lies_in_its_place(gallery: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.tif"
    run("mosaic", gallery, LEVEL, MIDDLE.column, MIDDLE.row, "--out", out)
    west, north = cell_bounds(EARTH, Cell(LEVEL, COLUMN, ROW)), cell_bounds(EARTH, Cell(LEVEL, COLUMN + 2, ROW + 2))
    with rasterio.open(out) as dataset:
        assert dataset.crs.to_epsg() == 4326
        expected = (west.west_deg, north.south_deg, north.east_deg, west.north_deg)
        assert tuple(dataset.bounds) == pytest.approx(expected, abs=1e-9)
        mask = dataset.dataset_mask() > 0
    assert mask.sum() == 8 * 256 * 256
    assert not mask[512:, 512:].any()


def test_a_mosaic_s_tif_is_a_gallery_again(gallery: Path, tmp_path: Path) -> None:
    """What mosaic writes, the raster reader cuts into the same cells with the same pixels."""
    out = tmp_path / "m.tif"
    run("mosaic", gallery, f"{LEVEL}_{COLUMN}_{ROW}", "-n", 2, "--out", out)
    with closing(open_source(gallery)) as first, closing(open_source(out)) as second:
        assert second.levels() == [LEVEL]
        for row in range(ROW, ROW + 2):
            for column in range(COLUMN, COLUMN + 2):
                (again,) = second.cell(Cell(LEVEL, column, row))
                before = decode(first.cell(Cell(LEVEL, column, row))[0].data).astype(int)
                assert np.abs(decode(again.data) - before).mean() < 3


def test_mosaic_across_the_antimeridian(tmp_path: Path) -> None:
    last = 2**LEVEL - 1
    path = write_ge_tiles(tmp_path / "g.db", rows([last, 0], [ROW]))
    with closing(open_source(path)) as found:
        done = tiles.mosaic(found, Cell(LEVEL, last, ROW), tmp_path / "m.tif")
    assert done["tiles"] == 2
    assert f"{LEVEL}_0_{ROW + 1}" in done["missing"]
    with rasterio.open(tmp_path / "m.tif") as dataset:
        image = np.moveaxis(dataset.read(), 0, 2)
        assert dataset.bounds.right == pytest.approx(180 + 360 / 2**LEVEL)
    assert np.array_equal(image[256:512, 256:512], decode(rows([last], [ROW])[0][4] or b""))
    assert np.array_equal(image[256:512, 512:], decode(rows([0], [ROW])[0][4] or b""))


def test_mosaic_of_web_mercator_is_in_mercator(tmp_path: Path) -> None:
    folder = tmp_path / "xyz" / "12" / "2100"
    folder.mkdir(parents=True)
    (folder / "1400.jpg").write_bytes(picture(1))
    run("mosaic", tmp_path / "xyz", "12_2100_1400", "-n", 1, "--out", tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.crs.to_epsg() == 3857
        lon, lat = dataset.lnglat()
    cell = tiles.tile_at(lon, lat, level=12, grid_name="web_mercator")
    assert cell["tile"] == "12_2100_1400"


def test_mosaic_refuses_what_it_cannot_do(gallery: Path, tmp_path: Path) -> None:
    with closing(open_source(gallery)) as found:
        for options in ({"tiles": 0}, {"tiles": 65}, {"out": tmp_path / "m.gif"}):
            words: dict[str, Any] = {"out": tmp_path / "m.png", **options}
            with pytest.raises(GalleryError, match="expected 1 to 64 tiles and a file"):
                tiles.mosaic(found, MIDDLE, **words)
        with pytest.raises(GalleryError, match="no tile within 3 x 3 of 12_10_1500"):
            tiles.mosaic(found, Cell(LEVEL, 10, ROW), tmp_path / "m.png")
    with sqlite3.connect(gallery) as db:
        db.execute("UPDATE ge_tiles SET tile_data = x'ffd8ff00'")
    db.close()
    with closing(open_source(gallery)) as found, pytest.raises(ImageError):
        tiles.mosaic(found, MIDDLE, tmp_path / "m.png")


def test_areas_are_read_from_words_and_files(tmp_path: Path) -> None:
    box = shapely.box(1, 2, 3, 4)
    (tmp_path / "a.geojson").write_text(shapely.to_geojson(box))
    for text in ("1,2,3,4", box.wkt, shapely.to_geojson(box), str(tmp_path / "a.geojson")):
        assert tiles.parse_area(text).equals(box)
    # longer than a file's name may be
    assert tiles.parse_area(box.segmentize(0.01).wkt).equals(box)
    bow_tie = "POLYGON((0 0, 1 1, 1 0, 0 1, 0 0))"
    for text in ("1,2,3", "3,2,1,4", "nan,nan,nan,nan", "1,2,3,400", "here", "{}", "POLYGON EMPTY", "", bow_tie):
        with pytest.raises(AreaError, match="expected"):
            tiles.parse_area(text)


def test_a_slip_of_the_pen_starts_no_server(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"typo\.db: no such file"):
        open_source(tmp_path / "typo.db")


def test_a_gallery_s_name_must_exist(database_url: str) -> None:
    with pytest.raises(GalleryError, match="no gallery is named 'nowhere'"):
        open_source("nowhere", url=database_url)
