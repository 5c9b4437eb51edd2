"""Georeferenced images, read back and compared with what was found and with the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from lands import NOMINAL_M, Cut, cut
from pyproj import Geod, Transformer
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasters import write
from typer.testing import CliRunner

import rsloc_db
from rsloc_db.cli import app
from rsloc_db.db.connection import connect
from rsloc_db.errors import ExportError, RunError
from rsloc_db.export.rasters import Georeference, write_georeferenced

UTM = "EPSG:32631"
DEGREES = 360 / 256 / 2**15
SHAPE = (512, 576)
FORMATS = ("cog", "gtiff", "vrt", "worldfile")


def corners(transform: Affine, crs: object) -> np.ndarray:
    """Lon, lat of upper left, upper right, lower right, lower left."""
    height, width = SHAPE
    x, y = transform @ np.array([(0, 0), (width, 0), (width, height), (0, height)]).T
    return np.column_stack(Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y))


def apart_m(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(Geod(ellps="WGS84").inv(*a.T, *b.T)[2]))


def write_queries(folder: Path) -> dict[str, Cut]:
    """Images of several bands and types whose own georeference is 10 km off: their pixel size alone is right."""
    queries = {
        "mercator.tif": cut("EPSG:3857", NOMINAL_M, shape=SHAPE),
        "utm.tif": cut(UTM, 4.0, shape=SHAPE),
        "degrees.tif": cut("EPSG:4326", DEGREES, shape=SHAPE),
        # of other land: not in the gallery
        "elsewhere.tif": cut("EPSG:3857", NOMINAL_M, shape=SHAPE, seed=77),
    }
    for name, query in queries.items():
        bands = np.moveaxis(query.image, -1, 0)
        if name == "mercator.tif":
            bands = np.concatenate([bands, bands[:1] // 2]).astype(np.uint16) * 13
        away = Affine.translation(*((0.1, 0.1) if query.crs == "EPSG:4326" else (10_000, 10_000))) @ query.transform
        options = {"nodata": 0} if name == "utm.tif" else {}
        write(folder / name, bands, crs=query.crs, transform=away, **options)
    return queries


def check_place(dataset: DatasetReader, query: Cut, run: int, url: str) -> None:
    found = corners(dataset.transform, dataset.crs)
    with connect(url) as conn:
        row = conn.execute(
            "SELECT array_agg(ARRAY[ST_X(geom), ST_Y(geom)] ORDER BY point.path) FROM localization JOIN query"
            " ON query.id = query_id, ST_DumpPoints(corners) AS point"
            " WHERE run_id = %s AND split_part(name, '.', 1) = %s",
            (run, Path(dataset.name).name.split(".")[0]),
        ).fetchone()
    assert row is not None
    # the affine transform follows the fit to a fraction of a pixel; the fit itself is good to a pixel and a half
    assert apart_m(found, np.array(row[0])) < 0.5
    assert apart_m(found, corners(query.transform, query.crs)) < 8


@pytest.mark.timeout(600)
def test_accepted_images_are_written_in_every_format(land_url: str, tmp_path: Path) -> None:
    queries = write_queries(tmp_path / "in")
    run = rsloc_db.localize(tmp_path / "in").run
    for form in FORMATS:
        found = rsloc_db.georeference(run, out=tmp_path / form, format=form)
        assert (len(found.written), found.not_accepted, found.skipped) == (3, 1, [])
        for path in found.written:
            query = queries[f"{path.stem}.tif"]
            with rasterio.open(path) as written, rasterio.open(tmp_path / "in" / f"{path.stem}.tif") as original:
                np.testing.assert_array_equal(written.read(), original.read())
                assert (written.dtypes, written.nodata) == (original.dtypes, original.nodata)
                check_place(written, query, run, land_url)
                expected = {"mercator": 3857, "utm": 32631, "degrees": 4326}[path.stem]
                assert written.crs.to_epsg() == expected
                layout = written.tags(ns="IMAGE_STRUCTURE").get("LAYOUT")
                assert layout == ("COG" if form == "cog" else None)
                assert form == "worldfile" or written.tags()["RSLOC_RUN"] == str(run)
    sizes = {
        form: (tmp_path / form / f"mercator.{'vrt' if form == 'vrt' else 'tif'}").stat().st_size for form in FORMATS
    }
    assert sizes["vrt"] < 10_000 < min(sizes["cog"], sizes["gtiff"], sizes["worldfile"])
    _check_what_is_left_out(run, tmp_path)


def _check_what_is_left_out(run: int, folder: Path) -> None:
    """An image that is gone and one that is another now are skipped, each with its reason; the third one is written."""
    (folder / "in" / "utm.tif").unlink()
    with rasterio.open(folder / "in" / "degrees.tif", "r+") as dataset:
        dataset.write(np.zeros(SHAPE, np.uint8), 1)
    found = rsloc_db.georeference(run, out=folder / "again")
    assert [path.name for path in found.written] == ["mercator.tif"]
    reasons = {failure.name: failure.reason for failure in found.skipped}
    assert "has changed since" in reasons["degrees.tif"]
    assert "No such file" in reasons["utm.tif"]

    done = CliRunner().invoke(app, ["georeference", str(run), "--out", str(folder / "again"), "-q", "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (len(told["written"]), told["not_accepted"], len(told["skipped"])) == (1, 1, 2)

    same = rsloc_db.georeference(run, out=folder / "in")
    assert same.written == []
    assert "choose another one" in {f.name: f.reason for f in same.skipped}["mercator.tif"]
    with pytest.raises(ExportError, match="expected the format cog, gtiff, vrt, worldfile, found 'png'"):
        rsloc_db.georeference(run, out=folder / "again", format="png")  # type: ignore[arg-type]
    with pytest.raises(RunError, match="no run 4711"):
        rsloc_db.georeference(4711, out=folder / "again")


pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

PLACE = Georeference(Affine(2.0, 0.3, 500_000.0, -0.25, -1.9, 5_200_000.0), 32631, {"RSLOC_RUN": "1"})
"""A turned image: no format may take it for one that is north up."""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("name", "driver", "dtype", "bands"),
    [
        ("grey.png", "PNG", "uint16", 1),
        ("alpha.png", "PNG", "uint8", 4),
        ("scene.img", "ENVI", "float32", 5),
        ("bare", "ENVI", "int16", 2),
        ("one.two.tiff", "GTiff", "float64", 7),
        ("photo.jpg", "JPEG", "uint8", 3),
    ],
)
def test_any_image_can_be_written(tmp_path: Path, form: str, name: str, driver: str, dtype: str, bands: int) -> None:
    noise = np.random.default_rng(1).integers(0, 250, (bands, *SHAPE)).astype(dtype)
    source = write(tmp_path / "in" / name, noise, driver=driver)
    if (driver, form) == ("ENVI", "worldfile"):
        with pytest.raises(ExportError, match="choose another format"):
            write_georeferenced(source, PLACE, tmp_path / "out" / "a", "worldfile")
        return
    path, *others = write_georeferenced(source, PLACE, tmp_path / "out" / Path(name).stem, form)  # type: ignore[arg-type]
    assert all(other.is_file() for other in others)
    with rasterio.open(path) as written, rasterio.open(source) as original:
        np.testing.assert_array_equal(written.read(), original.read())
        # a GeoTIFF calls a single band grey where ENVI says nothing
        assert driver == "ENVI" or written.colorinterp == original.colorinterp
        assert written.transform.almost_equals(PLACE.transform, precision=1e-6)
        assert written.crs.to_epsg() == 32631
    assert not list((tmp_path / "out").glob(".*"))


def test_masks_palettes_and_names_of_bands_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "palette.tif"
    values = np.random.default_rng(1).integers(0, 2, (1, *SHAPE)).astype(np.uint8)
    with rasterio.open(source, "w", driver="GTiff", count=1, height=SHAPE[0], width=SHAPE[1], dtype="uint8") as dataset:
        dataset.write(values)
        dataset.write_colormap(1, {0: (255, 0, 0, 255), 1: (0, 0, 255, 255)})
        dataset.set_band_description(1, "classes")
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            dataset.write_mask(np.arange(SHAPE[1])[None].repeat(SHAPE[0], 0) > 99)
    for form in ("cog", "gtiff", "vrt"):
        (path,) = write_georeferenced(source, PLACE, tmp_path / "out" / form, form)  # type: ignore[arg-type]
        with rasterio.open(path) as written:
            assert written.colormap(1)[1] == (0, 0, 255, 255)
            assert written.colorinterp == (ColorInterp.palette,)
            assert written.descriptions == ("classes",)
            assert not written.dataset_mask()[:, :100].any()
            assert written.dataset_mask()[:, 100:].all()


@pytest.mark.parametrize("form", ["cog", "gtiff", "vrt"])
def test_the_old_georeference_is_gone(tmp_path: Path, form: str) -> None:
    """Control points and the point convention of the source do not shift the result."""
    points = [GroundControlPoint(r, c, 10 + c / 1e4, 40 - r / 1e4) for r, c in ((0, 0), (0, 500), (500, 0), (500, 500))]
    source = write(tmp_path / "in.tif", gcps=points, crs="EPSG:4326")
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
        dataset.update_tags(ns="RPC", LINE_OFF="1", SAMP_OFF="1")
    (path,) = write_georeferenced(source, PLACE, tmp_path / "out" / "a", form)  # type: ignore[arg-type]
    with rasterio.open(path) as written:
        assert written.gcps[0] == []
        assert written.rpcs is None
        assert written.tags()["AREA_OR_POINT"] == "Area"
        assert written.transform.almost_equals(PLACE.transform, precision=1e-6)


def test_world_file_is_of_the_centre_of_the_first_pixel(tmp_path: Path) -> None:
    source = write(tmp_path / "in" / "photo.jpg", driver="JPEG")
    image, world, projection, _ = write_georeferenced(source, PLACE, tmp_path / "out" / "photo", "worldfile")
    assert (image.name, world.name, projection.name) == ("photo.jpg", "photo.jgw", "photo.prj")
    assert image.read_bytes() == source.read_bytes()
    a, d, b, e, x, y = map(float, world.read_text().split())
    assert (a, d, b, e) == (2.0, -0.25, 0.3, -1.9)
    assert (x, y) == PLACE.transform @ (0.5, 0.5)
    assert rasterio.CRS.from_wkt(projection.read_text()).to_epsg() == 32631


def test_damage_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "in" / "cut.jpg", driver="JPEG")
    source.write_bytes(source.read_bytes()[:1500])
    with pytest.raises(rsloc_db.errors.RslocError):
        write_georeferenced(source, PLACE, tmp_path / "out" / "cut", "cog")
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_differ_in_their_suffix_alone_are_kept_apart(database_url: str, tmp_path: Path) -> None:
    from rsloc_db.export.georeference import _stems

    queries = [{"query_set": "s", "name": name} for name in ("a.png", "A.tif", "b.c.png")]
    assert [str(stem) for stem in _stems(Path("out"), queries)] == ["out/a.png", "out/A.tif", "out/b.c"]
    queries.append({"query_set": "t", "name": "a.png"})
    assert [str(stem) for stem in _stems(Path("out"), queries)][2:] == ["out/s/b.c", "out/t/a"]
