from __future__ import annotations

import csv
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from conftest import ROOT
from pyproj import Transformer
from rasterio.transform import Affine
from rasters import write
from typer.testing import CliRunner

from rsloc_db import make_queries, simulation
from rsloc_db.cli import app
from rsloc_db.errors import AreaError, QueryError, RslocError
from rsloc_db.grids import nominal_resolution_m
from rsloc_db.queries import load_image, read_queries
from rsloc_db.queries.truth import read_truth
from rsloc_db.query_sets import land_share, structure
from rsloc_db.synthetic import land
from rsloc_db.types import Image

LEVEL_15_M = 4.777314267823516
MAKE = dict[str, object]


@cache
def drawn() -> Image:
    return land(700, 4)[:600]


def source(path: Path, size: float = LEVEL_15_M, crs: str = "EPSG:3857", at: tuple[float, float] = (1e5, 6e6)) -> Path:
    """A georeferenced piece of drawn land, 700 x 600 px."""
    bands = np.moveaxis(drawn(), -1, 0)
    return write(path, bands, crs=crs, transform=Affine(size, 0, at[0], 0, -size, at[1]))


def warp_back(crop: Image, corners: np.ndarray, map_path: Path) -> tuple[Image, Image, np.ndarray]:
    """Bring a crop onto its source's pixels by its true corners (lon, lat) alone; return it, the source, and where."""
    with rasterio.open(map_path) as dataset:
        image = np.moveaxis(dataset.read(), 0, -1)
        x, y = Transformer.from_crs(4326, dataset.crs, always_xy=True).transform(*corners.T)
        columns, rows = rasterio.transform.rowcol(dataset.transform, x, y, op=lambda v: v)[::-1]
    height, width = crop.shape[:2]
    ends = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    # OpenCV counts from the middle of the first pixel
    there = cv2.getPerspectiveTransform(ends - 0.5, np.float32(np.column_stack([columns, rows])) - 0.5)
    size = image.shape[1::-1]
    seen = cv2.warpPerspective(np.full(crop.shape[:2], 255, np.uint8), there, size) == 255
    return cv2.warpPerspective(crop, there, size, flags=cv2.INTER_CUBIC), image, seen


def offset_px(a: Image, b: Image, seen: np.ndarray) -> float:
    """How far two images are apart, by the step that explains their difference best (one of Gauss and Newton)."""
    grey_a, grey_b = (cv2.GaussianBlur(v, (0, 0), 2).astype(float).mean(2) for v in (a, b))
    inner = cv2.erode(seen.astype(np.uint8), np.ones((15, 15))) > 0
    slope = np.stack([g[inner] for g in np.gradient(grey_b)], 1)
    step = np.linalg.lstsq(slope, (grey_a - grey_b)[inner], rcond=None)[0]
    return float(np.hypot(*step))


@pytest.mark.parametrize(
    ("options", "crs", "size", "at"),
    [
        ({}, "EPSG:3857", LEVEL_15_M, (1e5, 6e6)),
        ({"turn": (0, 360)}, "EPSG:3857", LEVEL_15_M, (1e5, 6e6)),
        ({"turn": (-180, 180), "scale": (0.7, 1.4)}, "EPSG:3857", LEVEL_15_M, (1e5, 6e6)),
        ({"scale": (0.7, 1.4)}, "EPSG:4326", 1 / 15, (-20.0, 40.0)),
        ({"turn": (90, 90)}, "EPSG:32633", 10.0, (5e5, 5e6)),
    ],
)
def test_the_truth_is_where_the_pixels_are(
    tmp_path: Path, options: MAKE, crs: str, size: float, at: tuple[float, float]
) -> None:
    path = source(tmp_path / "land.tif", size, crs, at)
    made = make_queries(path, out=tmp_path / "set", count=4, size=(150, 250), **options)
    truths = read_truth([made.folder])
    assert len(truths) == made.queries == 4
    for truth in truths:
        crop, _ = load_image(made.folder / truth.name)
        back, image, seen = warp_back(crop, np.array(truth.corners), path)
        assert np.corrcoef(back[seen].ravel(), image[seen].ravel())[0, 1] > 0.97
        assert offset_px(back, image, seen) < 0.1
        # the centre pixel is the middle of the corners in the source's plane
        to_crs = Transformer.from_crs(4326, crs, always_xy=True)
        middle = np.mean(to_crs.transform(*np.array(truth.corners).T), axis=1)
        np.testing.assert_allclose(to_crs.transform(*truth.center), middle, atol=size * 1e-3)


def test_a_turn_is_clockwise_and_a_scale_above_one_is_coarser(tmp_path: Path) -> None:
    path = source(tmp_path / "land.tif")
    made = make_queries(path, out=tmp_path / "set", count=1, size=(200, 200), turn=(90, 90), scale=(1.25, 1.25))
    (truth,) = read_truth([made.folder])
    ul, ur, lr, ll = np.array(truth.corners)
    # north points to the right: the right side is the northern one
    assert min(ur[1], lr[1]) > max(ul[1], ll[1])
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(*np.array([ul, ur]).T)
    assert np.hypot(*np.diff([x, y])) == pytest.approx(200 * 1.25 * LEVEL_15_M, rel=0.0011)


def test_equal_arguments_make_equal_files(tmp_path: Path) -> None:
    path = source(tmp_path / "land_L15_naip.tif")
    options: MAKE = {"size": (100, 200), "turn": (0, 360), "season": 1.0, "clouds": 0.2, "missing": 0.1}
    for name, count, seed in (("a/set", 4, 5), ("b/set", 4, 5), ("c/set", 2, 5), ("d/set", 4, 6)):
        make_queries(path, out=tmp_path / name, count=count, seed=seed, **options)
    a, b, c, d = (
        {file.name: file.read_bytes() for file in (tmp_path / name).rglob("*.*")} for name in ("a", "b", "c", "d")
    )
    assert a == b
    assert all(a[name] == data for name, data in c.items() if name != "set.csv")
    assert all(a[name] != data for name, data in d.items())
    assert set(a) == {"set.csv", *(f"land-{n:04}_L15_naip.png" for n in range(1, 5))}


def test_the_scale_that_is_stated_is_the_nominal_one(tmp_path: Path) -> None:
    for crs, size, at in (
        ("EPSG:3857", 4.7756, (1e5, 6e6)),
        ("EPSG:4326", 0.05, (0, 0)),
        ("EPSG:32633", 10, (5e5, 5e6)),
    ):
        path = source(tmp_path / f"{crs[5:]}.tif", size, crs, at)
        make_queries(path, out=tmp_path / f"q{crs[5:]}", count=2, size=(100, 100), scale=(0.7, 1.4))
    found = {name: read_queries([tmp_path / f"q{name}"]) for name in ("3857", "4326", "32633")}
    scales = {name: {(q.scale.pixels, q.scale.x, q.scale.y) for q in each if q.scale} for name, each in found.items()}
    assert scales["3857"] == {("mercator", nominal_resolution_m(15), nominal_resolution_m(15))}
    assert scales["4326"] == {("degrees", 0.05, 0.05)}
    assert scales["32633"] == {("ground", 10.0, 10.0)}


def test_an_image_has_no_georeference(tmp_path: Path) -> None:
    made = make_queries(source(tmp_path / "land.tif"), out=tmp_path / "set", count=1, size=(100, 100))
    (file,) = made.folder.iterdir()
    with rasterio.open(file) as dataset:
        assert dataset.crs is None
        assert dataset.transform.is_identity
        assert dataset.tags() == {}


def test_crops_lie_in_the_valid_area(tmp_path: Path) -> None:
    bands = np.full((3, 400, 400), 200, np.uint8)
    # a slanted scene with nothing around it
    y, x = np.mgrid[:400, :400]
    bands[:, np.abs(x - y) > 180] = 0
    place = Affine(LEVEL_15_M, 0, 1e5, 0, -LEVEL_15_M, 6e6)
    path = write(tmp_path / "slanted.tif", bands, crs="EPSG:3857", transform=place, nodata=0)
    made = make_queries(path, out=tmp_path / "set", count=25, size=(80, 140), turn=(0, 360))
    for file in made.folder.iterdir():
        assert load_image(file)[0].min() == 200


def test_crops_lie_in_the_polygon(tmp_path: Path) -> None:
    path = source(tmp_path / "land.tif")
    to_degrees = Transformer.from_crs(3857, 4326, always_xy=True)
    west, north = to_degrees.transform(1e5 + 100 * LEVEL_15_M, 6e6 - 100 * LEVEL_15_M)
    east, south = to_degrees.transform(1e5 + 300 * LEVEL_15_M, 6e6 - 350 * LEVEL_15_M)
    within = f"POLYGON(({west} {south}, {east} {south}, {east} {north}, {west} {north}, {west} {south}))"
    made = make_queries(path, out=tmp_path / "set", count=20, size=(64, 100), turn=(0, 360), within=within)
    corners = np.concatenate([truth.corners for truth in read_truth([made.folder])])
    assert (corners >= (west, south)).all()
    assert (corners <= (east, north)).all()
    # and not in a corner of it alone
    assert np.ptp(corners[:, 0]) > 0.7 * (east - west)


def test_absent_queries_have_a_scale_and_no_place(tmp_path: Path) -> None:
    made = make_queries(source(tmp_path / "land.tif"), out=tmp_path / "set", count=3, size=(100, 100), absent=True)
    assert [(t.center, t.corners) for t in read_truth([made.folder])] == [(None, None)] * 3
    assert all(q.scale for q in read_queries([made.folder]))
    with made.table.open() as file:
        assert not any(
            value
            for row in csv.DictReader(file)
            for name, value in row.items()
            if re.search(r"^(lat|lon)|(lat|lon)$", name)
        )


def test_the_csv_says_whether_the_appearance_is_simulated(tmp_path: Path) -> None:
    path = source(tmp_path / "land.tif")
    for name, options in (("real", {}), ("made", {"sensor": 0.5})):
        make_queries(path, out=tmp_path / name, count=1, size=(100, 100), **options)
    assert [t.simulated for t in read_truth([tmp_path / "real", tmp_path / "made"])] == [False, True]


def test_open_water_is_left_out(tmp_path: Path) -> None:
    bands = np.moveaxis(land(500, 4), -1, 0).copy()
    bands[:, :, 250:] = np.array([10, 20, 60], np.uint8)[:, None, None]
    path = write(tmp_path / "coast.tif", bands, crs="EPSG:3857", transform=Affine(5, 0, 0, 0, -5, 0))
    for name, options in (("land", {"min_land": 0.5}), ("rough", {"min_structure": 0.5})):
        made = make_queries(path, out=tmp_path / name, count=8, size=(100, 100), **options)
        for file in made.folder.iterdir():
            image = load_image(file)[0]
            assert (land_share(image) if name == "land" else structure(image)) >= 0.5
            assert (image[..., 2] == 60).mean() < 0.55
    with pytest.raises(QueryError, match="shows too little"):
        make_queries(path, out=tmp_path / "none", size=(260, 300), min_land=1.0)


def test_missing_corners_are_black_or_transparent(tmp_path: Path) -> None:
    path = source(tmp_path / "land.tif")
    made = make_queries(path, out=tmp_path / "set", count=2, size=(200, 200), missing=0.2)
    (black, all_valid), (clear, valid) = (load_image(file) for file in sorted(made.folder.iterdir()))
    assert all_valid.all()
    assert (black.max(2) == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert (~valid).mean() == pytest.approx(0.2, abs=0.02)
    assert clear[~valid].max() == 0


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        (lambda image, rng: simulation.recolour_season(image, rng, 1), 0.1, 0.97),
        (lambda image, rng: simulation.sensor(image, rng, 1), 0.3, 0.999),
        (lambda image, rng: simulation.clouds(image, rng, 0.3), 0.05, 0.9),
    ],
)
def test_a_change_of_appearance_changes_colours_and_moves_nothing(
    change: Callable[[Image, np.random.Generator], Image], least: float, most: float
) -> None:
    image = land(400, 2)
    for seed in range(3):
        changed = change(image, np.random.default_rng(seed))
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        assert least < np.corrcoef(changed.ravel(), image.ravel())[0, 1] < most
        edges = [cv2.Canny(cv2.GaussianBlur(v, (0, 0), 1.5), 40, 80).astype(np.float32) for v in (image, changed)]
        shift, _ = cv2.phaseCorrelate(*edges)
        assert np.hypot(*shift) < 0.5


def test_clouds_cover_the_share(tmp_path: Path) -> None:
    image = np.full((300, 400, 3), 60, np.uint8)
    for share in (0.1, 0.5):
        assert (simulation.clouds(image, np.random.default_rng(1), share) > 150).mean() == pytest.approx(
            share, abs=0.06
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (300, 200)}, "--size is 300 to 200"),
        ({"size": (10, 20)}, "--size is 10 to 20: expected LOW-HIGH within 64"),
        ({"turn": (0, 700)}, "--turn is 0 to 700"),
        ({"scale": (0, 1)}, "--scale is 0 to 1"),
        ({"season": 2.0}, "--season is 2.0: expected 0 to 1"),
        ({"clouds": 1.0}, "--clouds is 1.0: expected 0 to 0.9"),
        ({"min_structure": float("nan")}, "--min-structure is nan"),
        ({"count": 0}, "nothing to make"),
        ({"size": (4000, 4000)}, "no place for a crop"),
        ({"within": "POINT EMPTY"}, "an empty one"),
    ],
)
def test_what_cannot_be_made_is_said(tmp_path: Path, options: MAKE, message: str) -> None:
    path = source(tmp_path / "land.tif")
    with pytest.raises((QueryError, AreaError), match=message):
        make_queries(path, out=tmp_path / "set", **options)


def test_sources_without_georeference_and_full_folders_are_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare.png"
    cv2.imwrite(str(bare), land(300, 1))
    with pytest.raises(QueryError, match="no georeference"):
        make_queries(bare, out=tmp_path / "set")
    with pytest.raises(RslocError, match="no such file"):
        make_queries(tmp_path / "nothing.tif", out=tmp_path / "set")
    path = source(tmp_path / "land.tif")
    make_queries(path, out=tmp_path / "set", count=1, size=(100, 100))
    with pytest.raises(QueryError, match="exists already"):
        make_queries(path, out=tmp_path / "set", count=1, size=(100, 100))


def test_the_command(tmp_path: Path) -> None:
    path, out = source(tmp_path / "land.tif"), tmp_path / "set"
    arguments = ["queries", "make", str(path), "--out", str(out), "--count", "2", "--size", "100-120", "--quiet"]
    done = CliRunner().invoke(app, [*arguments, "--turn", "-20-20", "--json"])
    assert done.exit_code == 0, done.output
    assert '"queries": 2' in done.stdout
    assert len(list(out.iterdir())) == 2
    with out.with_suffix(".csv").open() as file:
        assert all(-20 <= float(row["turn_deg"]) <= 20 for row in csv.DictReader(file))
    wrong = CliRunner().invoke(app, [*arguments, "--scale", "big"])
    assert wrong.exit_code == 2
    assert "LOW-HIGH" in wrong.output


def test_real_imagery(shared_data: Path, tmp_path: Path) -> None:
    assert ROOT not in tmp_path.parents
    path = shared_data / "rsloc/RSimages/test100/f1_L15_arcgis.tiff"
    made = make_queries(path, out=tmp_path / "set", count=2, size=(400, 400), turn=(0, 360), scale=(0.7, 1.4))
    for truth in read_truth([made.folder]):
        assert truth.provider == "arcgis"
        crop, _ = load_image(made.folder / truth.name)
        back, image, seen = warp_back(crop, np.array(truth.corners), path)
        assert np.corrcoef(back[seen].ravel(), image[seen].ravel())[0, 1] > 0.93
        assert offset_px(back, image, seen) < 0.1
