"""Open image files of any common format, and read them as 8-bit RGB with a mask."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from rsloc_db.errors import ImageError
from rsloc_db.imagery import to_rgb8
from rsloc_db.types import Image

MAX_PX = 400_000_000
"""Larger images are refused: decoded they would not fit into an ordinary machine's memory."""
MIN_SIDE_PX = 64

DRIVERS = ["GTiff", "PNG", "JPEG", "ENVI", "JP2OpenJPEG", "WEBP", "BMP", "GIF", "HFA", "EHdr", "PNM", "NITF"]
"""Formats that hold their pixels themselves. Others (VRT, WMS, STAC) may point to other files or to the network."""

_GDAL = {
    "GDAL_PAM_ENABLED": "NO",  # neither read nor write .aux.xml
    "GDAL_GEOREF_SOURCES": "INTERNAL",  # no world files
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # a folder may hold 100,000 files
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",  # else a truncated JPEG is filled with grey
}


@contextmanager
def open_raster(path: Path) -> Iterator[DatasetReader]:
    """Open a local image file.

    Raises:
        ImageError: it is missing, empty, no image of a known format, or reading it inside the block fails.
    """
    _check_local(path)
    with rasterio.Env(**_GDAL), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            # rasterio.open takes one driver alone, the class it returns a list
            with DatasetReader(str(path.absolute()), driver=DRIVERS) as dataset:
                yield dataset
        except (RasterioError, OSError, ValueError, MemoryError) as error:
            raise ImageError(f"cannot read {path} as an image: {_reason(error)}") from error


def load_image(path: Path) -> tuple[Image, NDArray[np.bool_]]:
    """Read an image's pixels and nothing else.

    Bands named red, green and blue are taken as such, else the first three, else the first one thrice; anything but
    8 bit is stretched as ``imagery.to_rgb8`` states. Pixels stay as stored: no turn by EXIF or geotransform.

    Returns:
        The image, (H, W, 3) uint8 RGB, and a mask (H, W), False where it has no data (nodata, alpha, NaN).

    Raises:
        ImageError: no readable image, truncated, too small, too large, or without a valid pixel.
    """
    with open_raster(path) as dataset:
        _check_size(path, dataset)
        _check_whole(path, dataset)
        bands, seen = _read(dataset)
        image, valid = to_rgb8(bands, valid=seen)
    if not valid.any():
        raise ImageError(f"{path} holds no data: all its pixels are nodata, transparent or NaN")
    return image, valid


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits.

    Raises:
        ImageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error


def _check_local(path: Path) -> None:
    # GDAL would follow names such as /vsicurl/https://... or /vsizip/... out of the local file system
    if path.absolute().parts[1:2] and path.absolute().parts[1].startswith("vsi"):
        raise ImageError(f"{path} is no local file: copy or unpack it first")
    if not path.is_file():
        raise ImageError(f"no such file: {path}")
    if path.stat().st_size == 0:
        raise ImageError(f"cannot read {path} as an image: the file is empty")


def _check_size(path: Path, dataset: DatasetReader) -> None:
    width, height = dataset.width, dataset.height
    if width * height > MAX_PX:
        raise ImageError(
            f"{path} is too large: {width} x {height} pixels, at most {MAX_PX:,} in all; "
            "cut it or shrink it (gdal_translate -srcwin or -outsize) and try again"
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(f"{path} is too small: {width} x {height} pixels, at least {MIN_SIDE_PX} a side")


def _check_whole(path: Path, dataset: DatasetReader) -> None:
    """Refuse truncated files of the formats whose missing pixels GDAL fills with black and says nothing."""
    if dataset.driver == "PNG" and not _png_ends(path):
        raise ValueError("the PNG is truncated")
    if dataset.driver in ("ENVI", "EHdr") and dataset.tags(ns="ENVI").get("file_compression", "0") == "0":
        pixel = sum(np.dtype(kind).itemsize for kind in dataset.dtypes)
        expected, found = dataset.width * dataset.height * pixel, path.stat().st_size
        if found < expected:
            raise ValueError(f"the file is truncated: {found} bytes, its header promises {expected}")


def _png_ends(path: Path) -> bool:
    """Tell whether a PNG's chunks are all there, the last one (IEND) included."""
    size = path.stat().st_size
    with path.open("rb") as file:
        place, kind = 8, b""
        while place + 12 <= size and kind != b"IEND":
            file.seek(place)
            head = file.read(8)
            place, kind = place + 12 + int.from_bytes(head[:4]), head[4:]
    return kind == b"IEND" and place <= size


def _read(dataset: DatasetReader) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Return the bands to show, (1 or 3, H, W) as stored, and the mask of pixels that have data."""
    kinds = dict(zip(dataset.indexes, dataset.colorinterp, strict=True))
    if ColorInterp.palette in kinds.values():
        return _read_palette(dataset)
    colours = [i for i, kind in kinds.items() if kind != ColorInterp.alpha]
    named = [
        i for wanted in (ColorInterp.red, ColorInterp.green, ColorInterp.blue) for i in colours if kinds[i] == wanted
    ]
    chosen = named if len(named) == 3 else colours[: 3 if len(colours) >= 3 else 1]
    if not chosen:
        raise ValueError("it has an alpha band alone")
    bands = dataset.read(chosen)
    if np.iscomplexobj(bands):
        raise ValueError("its values are complex numbers, expected intensities")
    # a band is valid where half opaque or more; a pixel is, where one of its bands is
    return bands, np.any([dataset.read_masks(i) > 127 for i in chosen], axis=0)


def _read_palette(dataset: DatasetReader) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    table = np.zeros((1 << 16, 4), np.uint8)
    for index, colour in dataset.colormap(1).items():
        table[index] = colour
    colours = table[dataset.read(1)]
    return np.moveaxis(colours[..., :3], -1, 0), (colours[..., 3] > 127) & (dataset.read_masks(1) > 127)


def _reason(error: BaseException) -> str:
    """Return what went wrong in one line; rasterio keeps the cause behind "see previous exception"."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
