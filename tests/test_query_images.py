"""Queries' pixels: formats, masks, and files that are refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasters import texture, write

from rsloc_db.errors import ImageError
from rsloc_db.queries import content_hash, images, load_image, read_queries

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.parametrize(
    ("driver", "name"),
    [("GTiff", "a.tif"), ("PNG", "a.png"), ("ENVI", "a"), ("BMP", "a.bmp"), ("HFA", "a.img"), ("PNM", "a.ppm")],
)
def test_lossless_formats_keep_the_pixels(tmp_path: Path, driver: str, name: str) -> None:
    image, valid = load_image(write(tmp_path / name, driver=driver))
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.moveaxis(texture(), 0, 2))
    assert valid.dtype == np.bool_
    assert valid.all()


def test_lossy_formats_keep_the_picture(tmp_path: Path) -> None:
    for driver, name in (("JPEG", "a.jpg"), ("WEBP", "a.webp")):
        image, _ = load_image(write(tmp_path / name, driver=driver))
        assert np.abs(image.astype(int) - np.moveaxis(texture(), 0, 2)).mean() < 15


def test_many_deep_bands_become_rgb(tmp_path: Path) -> None:
    deep = texture(6, dtype="uint16")
    image, _ = load_image(write(tmp_path / "a.tif", deep))
    assert image.shape == (80, 96, 3)
    for band in range(3):
        assert np.corrcoef(image[..., band].ravel(), deep[band].ravel())[0, 1] > 0.99
        assert image[..., band].min() == 0
        assert image[..., band].max() == 255


def test_one_band_is_grey(tmp_path: Path) -> None:
    image, _ = load_image(write(tmp_path / "a.tif", texture(1)))
    assert np.array_equal(image, np.repeat(texture(1)[0][..., None], 3, axis=2))


def test_bands_named_otherwise_are_put_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(4), photometric="minisblack")
    kinds = rasterio.enums.ColorInterp
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [kinds.undefined, kinds.blue, kinds.green, kinds.red]
    image, _ = load_image(path)
    assert np.array_equal(image, np.moveaxis(texture(4)[[3, 2, 1]], 0, 2))


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    index = (texture(1) > 127).astype(np.uint8)
    path = tmp_path / "a.png"
    with rasterio.open(path, "w", driver="PNG", count=1, height=80, width=96, dtype="uint8") as dataset:
        dataset.write(index)
        dataset.write_colormap(1, {0: (10, 20, 30, 255), 1: (200, 100, 50, 0)})
    image, valid = load_image(path)
    assert np.array_equal(valid, index[0] == 0)
    assert (image[valid] == (10, 20, 30)).all()


def holes() -> NDArray[np.bool_]:
    mask = np.ones((80, 96), bool)
    mask[10:30, 20:60] = False
    return mask


def test_nodata_alpha_and_nan_are_not_valid(tmp_path: Path) -> None:
    hole = ~holes()
    deep = texture(3, dtype="int16") + 1
    deep[:, hole] = -9999
    floats = texture(3, dtype="float32")
    floats[:, hole] = np.nan
    alpha = texture(4)
    alpha[3] = np.where(hole, 0, 255)
    files = [
        write(tmp_path / "nodata.tif", deep, nodata=-9999),
        write(tmp_path / "nan.tif", floats),
        write(tmp_path / "nan_nodata.tif", floats, nodata=np.nan),
        write(tmp_path / "alpha.tif", alpha, photometric="rgb", alpha="yes"),
        write(tmp_path / "alpha.png", alpha, driver="PNG"),
    ]
    for path in files:
        image, valid = load_image(path)
        assert np.array_equal(valid, holes()), path.name
        assert image[valid].std() > 20, path.name


def test_an_image_of_nothing_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((1, 80, 80), np.uint8), nodata=0)
    with pytest.raises(ImageError, match="holds no data"):
        load_image(path)


@pytest.mark.parametrize(
    ("driver", "name"),
    [("GTiff", "a.tif"), ("PNG", "a.png"), ("JPEG", "a.jpg"), ("WEBP", "a.webp"), ("BMP", "a.bmp"), ("ENVI", "a")],
)
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, driver: str, name: str, share: float) -> None:
    path = write(tmp_path / name, driver=driver)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match="cannot read"):
        load_image(path)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.png").write_text("this is no image")
    np.savez(tmp_path / "archive.npz", a=np.zeros(3))
    for name in ("empty.tif", "text.png", "archive.npz", "gone.tif", "."):
        with pytest.raises(ImageError):
            load_image(tmp_path / name)
    with pytest.raises(ImageError, match="no local file"):
        load_image(Path("/vsicurl/https://example.org/a.tif"))


def test_a_file_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    secret = write(tmp_path / "a.tif")
    vrt = f"""<VRTDataset rasterXSize="96" rasterYSize="80"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
    <SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    (tmp_path / "b.tif").write_text(vrt)
    with pytest.raises(ImageError, match="cannot read"):
        load_image(tmp_path / "b.tif")


def test_sizes_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="too small: 200 x 63 pixels, at least 64"):
        load_image(write(tmp_path / "small.tif", texture(3, 63, 200)))
    with rasterio.open(
        tmp_path / "huge.tif", "w", driver="GTiff", count=1, height=30000, width=30000, dtype="uint8", sparse_ok=True
    ):
        pass
    with pytest.raises(ImageError, match="too large: 30000 x 30000 pixels, at most 400,000,000"):
        load_image(tmp_path / "huge.tif")
    monkeypatch.setattr(images, "MAX_PX", 80 * 96)
    assert load_image(write(tmp_path / "fits.tif"))[0].shape == (80, 96, 3)


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    encoded = cv2.imencode(".jpg", np.moveaxis(texture(), 0, 2))[1].tobytes()
    # APP1: EXIF, big endian, one entry: orientation (0x0112) = 6, a quarter turn
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (tmp_path / "a.jpg").write_bytes(
        encoded[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + encoded[2:]
    )
    assert load_image(tmp_path / "a.jpg")[0].shape == (80, 96, 3)


def test_reading_writes_nothing_to_stderr_and_nothing_beside(tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    data = write(tmp_path / "b.jpg", driver="JPEG").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data[: len(data) // 2])
    data = write(tmp_path / "c.png", driver="PNG").read_bytes()
    (tmp_path / "c.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "d.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:500])
    before = sorted(path.name for path in tmp_path.iterdir())
    code = """if True:
        import sys
        from pathlib import Path
        from rsloc_db.errors import ImageError
        from rsloc_db.queries import load_image, read_queries
        for query in read_queries([Path(sys.argv[1])], level=15):
            try:
                load_image(query.path)
            except ImageError:
                print(query.name)
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b.jpg", "c.png", "d.tif"]
    assert done.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_world_files_and_sidecars_give_no_scale(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", driver="PNG")
    (tmp_path / "a.pgw").write_text("5\n0\n0\n-5\n500000\n5000000\n")
    wkt = rasterio.crs.CRS.from_epsg(32631).to_wkt().replace('"', "&quot;")
    (tmp_path / "a.png.aux.xml").write_text(f"<PAMDataset><SRS>{wkt}</SRS></PAMDataset>")
    assert read_queries([path])[0].scale is None


def test_content_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert content_hash(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    with pytest.raises(ImageError, match="cannot read"):
        content_hash(tmp_path / "gone")
