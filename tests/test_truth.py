"""The truth: read for evaluation from CSVs and tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer

from rsloc_db.errors import QueryError
from rsloc_db.queries.truth import Truth, landscape_of, provider_of, read_truth

HEADER = "imgname,lat,lon,level,type,lon_min,lat_min,lon_max,lat_max"

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def raster(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = np.random.default_rng(1).integers(0, 255, (1, 100, 200), np.uint8)
    with rasterio.open(path, "w", driver="GTiff", count=1, height=100, width=200, dtype="uint8", **options) as dataset:
        dataset.write(bands)
    return path


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder.parent / f"{folder.name}.csv"
    path.write_text("\n".join((header, *rows)))
    return path


def test_a_csv_gives_centre_corners_and_provider(tmp_path: Path) -> None:
    path = table(tmp_path / "test400", "F7_L15_arcgis.tiff,47.5,2.5,15,mapbox,2.4,47.4,2.7,47.6")
    expected = Truth(
        query_set="test400",
        name="F7_L15_arcgis.tiff",
        center=(2.5, 47.5),
        corners=((2.4, 47.6), (2.7, 47.6), (2.7, 47.4), (2.4, 47.4)),
        provider="arcgis",
        landscape="urban",
        simulated=None,
        source=str(path),
    )
    assert read_truth([tmp_path / "test400"]) == [expected]
    assert read_truth([path, tmp_path / "test400"]) == [expected]


def test_a_row_without_a_place_is_absent(tmp_path: Path) -> None:
    path = table(tmp_path / "set", "x1_L15_absent.png,,,15,absent,,,,", "y.png,47.5,2.5,15,naip,,,,")
    absent, present = read_truth([path])
    assert (absent.center, absent.corners) == (None, None)
    assert (present.center, present.corners, present.provider) == ((2.5, 47.5), None, "naip")


def test_bounds_across_the_antimeridian(tmp_path: Path) -> None:
    (truth,) = read_truth([table(tmp_path / "set", "a.png,-17,179.9,15,,179.5,-17.5,180.25,-16.5")])
    assert truth.corners is not None
    assert [lon for lon, _ in truth.corners] == pytest.approx([179.5, -179.75, -179.75, 179.5])


CORNERS = "ul_lon,ul_lat,ur_lon,ur_lat,lr_lon,lr_lat,ll_lon,ll_lat"


def test_corners_one_by_one_go_before_the_bounds(tmp_path: Path) -> None:
    header = f"imgname,lat,lon,lon_min,lat_min,lon_max,lat_max,{CORNERS}"
    turned = "a.png,47.5,2.5,2.4,47.4,2.6,47.6,2.5,47.6,2.6,47.5,2.5,47.4,2.4,47.5"
    boxed = "b.png,47.5,2.5,2.4,47.4,2.6,47.6,,,,,,,,"
    a, b = read_truth([table(tmp_path / "set", turned, boxed, header=header)])
    assert a.corners == ((2.5, 47.6), (2.6, 47.5), (2.5, 47.4), (2.4, 47.5))
    assert b.corners == ((2.4, 47.6), (2.6, 47.6), (2.6, 47.4), (2.4, 47.4))


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ("2.5,47.6,2.6,47.5,2.5,47.4,2.4,", "expected all of ul_lon"),
        ("2.5,47.6,2.6,47.5,2.5,47.4,west,47.5", "expected degrees"),
        ("2.5,97.6,2.6,47.5,2.5,47.4,2.4,47.5", "no place on Earth"),
    ],
)
def test_half_a_set_of_corners_is_refused(tmp_path: Path, corners: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        read_truth([table(tmp_path / "set", f"a.png,47.5,2.5,{corners}", header=f"imgname,lat,lon,{CORNERS}")])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("95,2.5", r"line 2 \(a.png\): longitude 2.5, latitude 95.0 is no place on Earth"),
        ("47.5,190", "no place on Earth"),
        ("nan,2.5", "no place on Earth"),
        ("47.5,", "expected degrees"),
        ("north,2.5", "expected degrees, found '2.5', 'north'"),
    ],
)
def test_a_place_off_the_earth_is_refused(tmp_path: Path, values: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        read_truth([table(tmp_path / "set", f"a.png,{values},15,naip,,,,")])


def test_simulated_by_column_or_by_argument(tmp_path: Path) -> None:
    path = table(tmp_path / "set", "a.png,1,2,true", "b.png,1,2,0", "c.png,1,2,", header="imgname,lat,lon,simulated")
    assert [truth.simulated for truth in read_truth([path])] == [True, False, None]
    assert [truth.simulated for truth in read_truth([path], simulated=True)] == [True, False, True]
    table(tmp_path / "set", "a.png,1,2,perhaps", header="imgname,lat,lon,simulated")
    with pytest.raises(QueryError, match="simulated is 'perhaps'"):
        read_truth([path])


def test_a_csv_needs_both_coordinates(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="lacks the column lon"):
        read_truth([table(tmp_path / "set", "a.png,1", header="imgname,lat")])


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32631", Affine(10, 0, 5e5, 0, -10, 5e6)),
        ("EPSG:32756", Affine.translation(3e5, 7e6) @ Affine.rotation(33) @ Affine.scale(10, -10)),
        ("EPSG:3857", Affine(4.777, 0, -276396, 0, -4.777, 6088475)),
        ("EPSG:4326", Affine(0.001, 0, 5, 0, -0.001, 48)),
        ("EPSG:32662", Affine(100, 0, 5e5, 0, -100, 4e6)),
    ],
)
def test_tags_give_the_centre_pixel_and_the_corners(tmp_path: Path, crs: str, transform: Affine) -> None:
    (truth,) = read_truth([raster(tmp_path / "set" / "a_naip.tif", crs=crs, transform=transform)])
    to_crs = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    assert truth.center is not None
    assert truth.corners is not None
    places = [truth.center, *truth.corners]
    pixels = [(100, 50), (0, 0), (200, 0), (200, 100), (0, 100)]
    for place, pixel in zip(places, pixels, strict=True):
        assert ~transform @ to_crs.transform(*place) == pytest.approx(pixel, abs=1e-3)
    assert (truth.query_set, truth.name, truth.provider, truth.landscape) == ("set", "a_naip.tif", "naip", "")


def test_corners_beyond_the_rim_of_a_projection_are_unknown(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", crs="ESRI:102038", transform=Affine(1e5, 0, -1e7, 0, -1e5, 5e6))
    (truth,) = read_truth([path])
    assert truth.center is not None
    assert truth.corners is None


def test_longitudes_beyond_the_antimeridian_are_wrapped(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", crs="EPSG:4326", transform=Affine(1.8, 0, 0, 0, -1.8, 90))
    (truth,) = read_truth([path])
    assert truth.center == pytest.approx((180.0, 0.0))
    assert truth.corners is not None
    assert [lon for lon, _ in truth.corners] == pytest.approx([0.0, 0.0, 0.0, 0.0])


def test_files_without_a_place_are_left_out(tmp_path: Path) -> None:
    raster(tmp_path / "plain.tif")
    raster(tmp_path / "no_transform.tif", crs="EPSG:3857")
    (tmp_path / "broken.tif").write_bytes(b"no image")
    assert read_truth([tmp_path]) == []


def test_a_csv_with_places_speaks_for_the_whole_set(tmp_path: Path) -> None:
    tagged = raster(tmp_path / "set" / "b.tif", crs="EPSG:4326", transform=Affine(0.001, 0, 5, 0, -0.001, 48))
    table(tmp_path / "set", "a.tif,1,2,15,naip,,,,")
    assert [truth.name for truth in read_truth([tmp_path / "set"])] == ["a.tif"]
    assert read_truth([tagged]) == []
    table(tmp_path / "set", "b.tif,15", header="imgname,level")
    assert [truth.name for truth in read_truth([tagged])] == ["b.tif"]


@pytest.mark.parametrize(
    ("name", "provider", "landscape"),
    [
        ("F27_L15_arcgis.tiff", "arcgis", "urban"),
        ("f27_L15_arcgis.tiff", "arcgis", "non-urban"),
        ("m53_L15_mapbox.tiff", "mapbox", "non-urban"),
        ("n2009_L15_naip.tiff", "naip", "non-urban"),
        ("photo.png", "other", ""),
        ("Field.png", "other", ""),
    ],
)
def test_names_tell_provider_and_landscape(name: str, provider: str, landscape: str) -> None:
    assert provider_of(name, "other") == provider
    assert landscape_of(name) == landscape


@pytest.mark.parametrize(("name", "count"), [("google", 3), ("naip", 9), ("season", 7), ("absent", 10)])
def test_mini_sets(shared_data: Path, name: str, count: int) -> None:
    truths = read_truth([shared_data / "mini" / "RSimages" / name])
    assert len(truths) == count
    assert all((truth.center is None) == (name == "absent") for truth in truths)


def test_rsloc_csvs_agree_with_the_files_tags(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "rsloc" / "RSimages"
    truths = {truth.name: truth for truth in read_truth([folder / "test400"])}
    assert len(truths) == 400
    assert [sum(t.provider == p for t in truths.values()) for p in ("arcgis", "mapbox")] == [212, 188]
    assert sum(truth.landscape == "urban" for truth in truths.values()) == 48
    # away from the CSV, the same files are placed by their tags, to a pixel
    for path in (folder / "test400").iterdir():
        (tmp_path / path.name).symlink_to(path)
    tagged = read_truth([tmp_path])
    assert len(tagged) == 6
    for truth in tagged:
        assert truth.center is not None
        assert truth.center == pytest.approx(truths[truth.name].center, abs=5e-5)
