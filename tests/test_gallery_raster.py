"""Rasters as galleries: any CRS, any type, any corner of the Earth; the truth is a picture drawn in lon and lat."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio import Affine
from rasters import texture, write

from rsloc_db.errors import GalleryError
from rsloc_db.gallery import GalleryReader, open_gallery
from rsloc_db.grids import GoogleEarthGrid, cell_at
from rsloc_db.imagery import decode_valid
from rsloc_db.types import Cell, Failure, Tile

EARTH = GoogleEarthGrid()
Draw = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def waves(lon: NDArray[Any], lat: NDArray[Any], period_deg: float) -> NDArray[Any]:
    """A picture that tells places apart: (3, H, W) in 0..1; smooth, and whole across the antimeridian."""
    a, b = np.radians(lon) * 360 / (period_deg * round(360 / period_deg)) * round(360 / period_deg), lat / period_deg
    return np.stack([np.sin(a), np.sin(2 * np.pi * b), np.cos(a * 2 + 2 * np.pi * b)]) / 2 + 0.5


def raster(
    path: Path,
    crs: object,
    transform: Affine,
    size: tuple[int, int],
    period: float,
    dtype: str = "uint8",
    **options: Any,
) -> Path:
    """Draw the waves in some CRS."""
    height, width = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    east = transform.a * x + transform.b * y + transform.c
    north = transform.d * x + transform.e * y + transform.f
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(east, north)
    bands = waves(lon, lat, period) * (255 if dtype == "uint8" else 3000)
    return write(path, bands.astype(dtype), crs=crs, transform=transform, **options)


def differences(reader: GalleryReader, level: int, period: float) -> tuple[int, float]:
    """Number of tiles, and mean difference between their valid pixels and the picture drawn at their places."""
    errors = []
    for item in reader.tiles(level):
        assert isinstance(item, Tile), item
        image, valid = decode_valid(item.data)
        x = (np.arange(256) + 0.5) + item.cell.column * 256
        y = (np.arange(256) + 0.5) + item.cell.row * 256
        lon, lat = EARTH.to_lonlat(*np.meshgrid(x, y), level)
        expected = np.moveaxis(waves(lon, lat, period), 0, 2) * 255
        errors.append(np.abs(image[valid] - expected[valid]).mean())
    return len(errors), float(np.mean(errors))


def local(lon: float, lat: float) -> CRS:
    return CRS.from_proj4(f"+proj=tmerc +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")


STEP = 360 / 2**12 / 256
CASES = {
    "plate carree": ("EPSG:4326", Affine(STEP, 0, 4.6, 0, -STEP, 48.2), (700, 800)),
    "utm": ("EPSG:32631", Affine(30, 0, 600_000, 0, -30, 5_350_000), (700, 800)),
    "mercator": ("EPSG:3857", Affine(38, 0, 500_000, 0, -38, 6_100_000), (700, 800)),
    "turned": (
        "EPSG:32631",
        Affine(26, 15, 600_000, 15, -26, 5_350_000),
        (600, 600),
    ),
    "south up": ("EPSG:32731", Affine(30, 0, 500_000, 0, 30, 6_000_000), (500, 500)),
    "utm across the antimeridian": ("EPSG:32660", Affine(30, 0, 820_000, 0, -30, 1_000_000), (500, 800)),
    "fiji across the antimeridian": ("EPSG:3460", Affine(38, 0, 2_118_000, 0, -38, 3_900_000), (500, 800)),
    "degrees past 180": ("EPSG:4326", Affine(STEP, 0, 179.9, 0, -STEP, -16), (500, 800)),
    "degrees before -180": ("EPSG:4326", Affine(STEP, 0, -180.1, 0, -STEP, -16), (500, 800)),
    "mercator past 180": ("EPSG:3857", Affine(38, 0, 20_030_000, 0, -38, -1_800_000), (500, 800)),
    "mercator before -180": ("EPSG:3857", Affine(38, 0, -20_050_000, 0, -38, -1_800_000), (500, 800)),
}


@pytest.mark.parametrize("name", CASES)
def test_tiles_show_their_places(tmp_path: Path, name: str) -> None:
    crs, transform, size = CASES[name]
    reader = open_gallery(raster(tmp_path / "a.tif", crs, transform, size, period=0.3), level=12)
    assert (reader.kind, reader.grid) == ("raster", "google_earth")
    count, error = differences(reader, 12, 0.3)
    assert count >= 6
    assert error < 3
    columns = {item.cell.column for item in reader.tiles(12) if isinstance(item, Tile)}
    assert max(columns) < 4096
    # those across the antimeridian touch both ends of the grid
    assert (0 in columns and 4095 in columns) == ("180" in name or "antimeridian" in name)
    reader.close()


def test_a_world_covers_the_grid_once(tmp_path: Path) -> None:
    step = 360 / 512
    path = raster(tmp_path / "a.tif", "EPSG:4326", Affine(step, 0, -180, 0, -step, 90), (256, 512), period=60)
    reader = open_gallery(path)
    assert reader.levels() == {1: 4}
    cells = [item.cell for item in open_gallery(path, level=3).tiles(3) if isinstance(item, Tile)]
    assert cells == [Cell(3, column, row) for row in range(2, 6) for column in range(8)]
    assert differences(reader, 1, 60)[1] < 3
    reader.close()


def test_a_polar_raster_has_all_longitudes(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", "EPSG:3413", Affine(5000, 0, -1e6, 0, -5000, 1e6), (400, 400), period=30)
    reader = open_gallery(path, level=4)
    columns = {item.cell.column for item in reader.tiles(4) if isinstance(item, Tile)}
    rows = {item.cell.row for item in reader.tiles(4) if isinstance(item, Tile)}
    assert columns == set(range(16))
    assert min(rows) == 4
    reader.close()


def test_the_level_is_the_nearest_to_the_resolution(tmp_path: Path) -> None:
    for level in (9, 12, 15):
        for factor, expected in [(1.0, level), (1.3, level), (1.6, level - 1), (0.6, level + 1)]:
            step = 360 / 2**level / 256 * factor
            path = write(tmp_path / "a.tif", crs="EPSG:4326", transform=Affine(step, 0, 4, 0, -step, 48))
            reader = open_gallery(path)
            assert list(reader.levels()) == [expected]
            reader.close()


def test_a_wrong_level_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", crs="EPSG:4326", transform=Affine(STEP, 0, 4, 0, -STEP, 48))
    with pytest.raises(GalleryError, match="level from 0 to 30, found 31"):
        open_gallery(path, level=31)


def aligned(column: int, row: int) -> Affine:
    side = 360 / 2**12
    return Affine(STEP, 0, column * side - 180, 0, -STEP, 180 - row * side)


def test_nodata_tiles_are_left_out_and_rims_masked(tmp_path: Path) -> None:
    bands = texture(3, 512, 768).clip(1)
    bands[:, :, :256], bands[:, 100:200, 300:400] = 0, 0
    path = write(tmp_path / "a.tif", bands, crs="EPSG:4326", transform=aligned(2100, 1500), nodata=0)
    reader = open_gallery(path)
    tiles = {item.cell: item.data for item in reader.tiles(12) if isinstance(item, Tile)}
    assert sorted(tiles) == [Cell(12, column, row) for column in (2101, 2102) for row in (1500, 1501)]
    image, valid = decode_valid(tiles[Cell(12, 2101, 1500)])
    assert np.abs((~valid).sum() - 100 * 100) < 500
    assert not valid[105:195, 50:140].any()
    assert np.abs(image[valid].astype(int) - np.moveaxis(bands, 0, 2)[:256, 256:512][valid]).mean() < 2
    assert decode_valid(tiles[Cell(12, 2102, 1501)])[1].all()
    assert reader.read(Cell(12, 2100, 1500), None) is None
    assert reader.dates(Cell(12, 2100, 1500)) == []
    assert reader.read(Cell(12, 2102, 1501), None) == tiles[Cell(12, 2102, 1501)]
    reader.close()


def test_alpha_and_masks_are_heeded(tmp_path: Path) -> None:
    bands = texture(4, 512, 512)
    bands[3], bands[3, :, :300] = 255, 0
    options = {"crs": "EPSG:4326", "transform": aligned(2100, 1500)}
    write(tmp_path / "alpha.tif", bands, photometric="rgb", alpha="yes", **options)
    path = write(tmp_path / "mask.tif", bands[:3], **options)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(bands[3] > 0)
    for name in ("alpha.tif", "mask.tif"):
        reader = open_gallery(tmp_path / name)
        tiles = {item.cell.column: item.data for item in reader.tiles(12) if isinstance(item, Tile)}
        assert sorted(tiles) == [2101]
        _, valid = decode_valid(tiles[2101])
        assert not valid[:, :43].any()
        assert valid[:, 46:].all()
        reader.close()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_deep_rasters_have_one_stretch(tmp_path: Path, dtype: str) -> None:
    """A dark tile stays dark beside a bright one: the stretch is the whole raster's, not the tile's."""
    bands = texture(2, 256, 512, dtype="float32") / 4
    bands[:, :, 256:] += 2000
    path = write(tmp_path / "a.tif", bands.astype(dtype), crs="EPSG:4326", transform=aligned(2100, 1500))
    reader = open_gallery(path)
    dark, bright = (decode_valid(item.data)[0] for item in reader.tiles(12) if isinstance(item, Tile))
    assert dark.max() < bright.min()
    assert dark.min() < 10
    assert bright.max() > 245
    assert np.array_equal(dark[..., 0], dark[..., 2])
    reader.close()


def test_bands_are_taken_by_their_names(tmp_path: Path) -> None:
    bands = np.stack([np.full((256, 256), value, np.uint8) for value in (10, 50, 100, 200)])
    path = write(tmp_path / "a.tif", bands, crs="EPSG:4326", transform=aligned(2100, 1500))
    colours = rasterio.enums.ColorInterp
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (colours.blue, colours.green, colours.red, colours.undefined)
    reader = open_gallery(path)
    (tile,) = reader.tiles(12)
    assert isinstance(tile, Tile)
    assert np.abs(decode_valid(tile.data)[0].astype(int) - (100, 50, 10)).max() <= 2
    reader.close()


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    bands = np.zeros((1, 256, 256), np.uint8)
    bands[0, :, 128:] = 7
    path = write(tmp_path / "a.tif", bands, crs="EPSG:4326", transform=aligned(2100, 1500))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (250, 0, 0, 255), 7: (0, 0, 250, 255)})
    (tile,) = open_gallery(path).tiles(12)
    assert isinstance(tile, Tile)
    image, _ = decode_valid(tile.data)
    assert np.abs(image[10, 10].astype(int) - (250, 0, 0)).max() < 10
    assert np.abs(image[10, 250].astype(int) - (0, 0, 250)).max() < 10


def test_reading_resumes_after_any_cell(tmp_path: Path) -> None:
    crs, transform, size = CASES["degrees past 180"]
    reader = open_gallery(raster(tmp_path / "a.tif", crs, transform, size, period=0.3), level=12)
    cells = [(item.cell.row, item.cell.column) for item in reader.tiles(12) if isinstance(item, Tile)]
    assert cells == sorted(cells)
    for cell in cells:
        found = [(item.cell.row, item.cell.column) for item in reader.tiles(12, cell) if isinstance(item, Tile)]
        assert found == [other for other in cells if other > cell]
    assert list(reader.tiles(11)) == []
    sizes = sum(len(item.data) for item in reader.tiles(12) if isinstance(item, Tile))
    assert reader.size_bytes(12) == pytest.approx(sizes, rel=0.3)
    reader.close()


def test_rasters_without_a_place_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"plain\.png: expected a georeferenced raster, found one without a CRS"):
        open_gallery(write(tmp_path / "plain.png", driver="PNG"))
    with pytest.raises(GalleryError, match=r"half\.tif.*without a geotransform"):
        open_gallery(write(tmp_path / "half.tif", crs="EPSG:4326"))
    far = write(tmp_path / "far.tif", crs="EPSG:32631", transform=Affine(1e9, 0, 1e15, 0, -1e9, 1e15))
    with pytest.raises(GalleryError, match=r"far\.tif.*on Earth"):
        open_gallery(far)


def test_broken_blocks_are_failures(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 256, (3, 1024, 1024), np.uint8)
    options = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    path = write(tmp_path / "a.tif", bands, crs="EPSG:4326", transform=aligned(2100, 1500), **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    reader = open_gallery(path)
    found = list(reader.tiles(12))
    broken = [item for item in found if isinstance(item, Failure)]
    assert broken
    assert all(item.name.startswith("12_21") and item.reason for item in broken)
    assert len(broken) < len(found) == 16
    reader.close()


def test_envi_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "scene",
        texture(6, dtype="uint16"),
        driver="ENVI",
        crs="EPSG:32650",
        transform=Affine(30, 0, 600_000, 0, -30, 3_600_000),
    )
    reader = open_gallery(path)
    assert list(reader.levels()) == [12]
    assert any(isinstance(item, Tile) for item in reader.tiles(12))
    reader.close()


def test_the_rim_of_a_raster_of_many_bands_is_masked(tmp_path: Path) -> None:
    # GDAL's mask knows nothing of the alpha band that warping adds beside bands without a colour
    place = Affine(30, 0, 660_585, 0, -30, 3_551_295)
    path = write(tmp_path / "six", texture(6, 300, 300), driver="ENVI", crs="EPSG:32650", transform=place)
    with closing(open_gallery(path, level=12)) as reader:
        tiles = [t for t in reader.tiles(12) if isinstance(t, Tile)]
    valid = sum(float(decode_valid(t.data)[1].sum()) for t in tiles)
    # ground metres of a pixel at 32 degrees north
    area = valid * 38.2 * 38.2 * np.cos(np.radians(32))
    assert area == pytest.approx(9000 * 9000, rel=0.03)


def test_a_google_query_is_its_tile(shared_data: Path) -> None:
    """The query made of a Google Earth tile, in EPSG:3857, is cut into that very tile again."""
    found = 0
    for path in sorted((shared_data / "mini" / "RSimages" / "google").glob("*.tiff")):
        with rasterio.open(path) as dataset:
            lon, lat = dataset.lnglat()
        reader = open_gallery(path)
        cell = cell_at(EARTH, lon, lat, 15)
        sample = shared_data / "rsloc" / "Gallery" / f"15_{cell.column}_{cell.row}.jpg"
        data = reader.read(cell, None)
        assert data
        image, valid = decode_valid(data)
        truth, _ = decode_valid(sample.read_bytes())
        middle = valid.copy()
        middle[:4], middle[-4:], middle[:, :4], middle[:, -4:] = False, False, False, False
        assert np.corrcoef(image[middle].ravel(), truth[middle].ravel())[0, 1] > 0.97
        found += 1
        reader.close()
    assert found == 3
