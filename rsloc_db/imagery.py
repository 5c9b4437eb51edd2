"""Pixels: decode, stretch to 8 bit, paste tiles together, cut a window out. No coordinates but pixels.

An image is (H, W, 3) uint8 RGB and a mask is (H, W) bool, True where a pixel is valid.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import rasterio
import simplejpeg
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile

from rsloc_db.errors import ImageError
from rsloc_db.grids import TILE_PX
from rsloc_db.types import Floats, Image, Mask

MAX_PIXELS = 1 << 28
"""Largest image that is decoded whole: 268 million pixels, 0.8 GB as RGB."""
STRETCH_PERCENTILES = (2.0, 98.0)
"""What is stretched to 0 and 255 in images that are not 8 bit."""

_SAMPLES = 1 << 20
_JPEG = b"\xff\xd8"
_MAGIC = {_JPEG: "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP"}
_WITH_GREY = ("YCbCr", "Gray")
"""Colour spaces of JPEGs one of whose channels is grey."""
_GDAL_OPTIONS = {"GDAL_PAM_ENABLED": "NO"}


def decode(data: bytes) -> Image:
    """Decode a JPEG, PNG or WebP; transparent pixels are black.

    Grey and palette images become RGB; 16-bit ones are stretched as ``to_rgb8`` says. An EXIF orientation is ignored.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the data is of another format, damaged or truncated, or has more than ``MAX_PIXELS``.
    """
    return decode_valid(data)[0]


def check(data: bytes) -> None:
    """Refuse what ``decode`` refuses; of a JPEG all is read, but few pixels are made.

    Raises:
        ImageError: as ``decode``.
    """
    if not data.startswith(_JPEG):
        decode_valid(data)
        return
    try:
        if _jpeg_space(data) in _WITH_GREY:
            simplejpeg.decode_jpeg(data, "GRAY", min_factor=8, strict=True)
            return
    except ValueError as error:
        raise _damaged(data, "JPEG", error) from error
    decode_valid(data)


def decode_valid(data: bytes, *, checked: bool = False, grey: bool = False) -> tuple[Image, Mask]:
    """Decode as ``decode`` does, and tell which pixels are valid: those at least half opaque.

    Args:
        data: the encoded image.
        checked: whether it has been decoded before: damage to a JPEG is then let pass, and a size is not looked at.
        grey: whether to leave its colours out, which most JPEGs need not be decoded for.

    Returns:
        (H, W, 3) uint8 RGB, or (H, W) grey, and its (H, W) mask.

    Raises:
        ImageError: as ``decode``.
    """
    driver = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if driver is None:
        raise ImageError(f"expected a JPEG, PNG or WebP image, found {describe_bytes(data)}")
    try:
        if driver == "JPEG":
            return _jpeg(data, strict=not checked, grey=grey)
        if not checked:
            _check(data, driver)
        bands, opaque = _bands(data, driver)
    except (RasterioError, cv2.error, ValueError) as error:
        raise _damaged(data, driver, error) from error
    image, valid = to_rgb8(bands, valid=opaque)
    return to_grey(image) if grey else image, valid


def _damaged(data: bytes, driver: str, error: BaseException) -> ImageError:
    return ImageError(f"damaged or truncated {driver} image of {len(data)} bytes: {_cause(error)}")


def decode_tile(data: bytes, *, checked: bool = False, grey: bool = False) -> tuple[Image, Mask]:
    """Decode as ``decode_valid`` does, to a tile's size.

    Returns:
        (256, 256, 3) uint8 RGB, or (256, 256) grey, and its (256, 256) mask.

    Raises:
        ImageError: as ``decode``.
    """
    image, valid = decode_valid(data, checked=checked, grey=grey)
    return to_tile_size(image), to_tile_size(valid.view(np.uint8)) > 0


def describe_bytes(data: bytes) -> str:
    """Say in a few words what some bytes are, for error messages."""
    return f"data that begin with {data[:12]!r}" if data else "nothing (0 bytes)"


def _cause(error: BaseException) -> str:
    return str(error.__cause__ or error).strip() or type(error).__name__


def _jpeg(data: bytes, *, strict: bool, grey: bool) -> tuple[Image, Mask]:
    """Decode a JPEG; ``strict`` refuses what the decoder would have to fill up, of which OpenCV tells stderr alone."""
    space = _jpeg_space(data)
    if space in ("CMYK", "YCCK"):
        simplejpeg.decode_jpeg(data, "CMYK", strict=strict)
        image = to_rgb8(_bands(data, "JPEG")[0])[0]
    elif grey and space in _WITH_GREY:
        image = simplejpeg.decode_jpeg(data, "GRAY", strict=strict)[..., 0]
    else:
        image = simplejpeg.decode_jpeg(data, "RGB", strict=strict)
    return to_grey(image) if grey else image, np.ones(image.shape[:2], bool)


def to_grey(image: Image) -> Image:
    """Return an image without its colours, (H, W); one that has none is returned as it is."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _jpeg_space(data: bytes) -> str:
    """Return the colour space of a JPEG that is not too large."""
    height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    check_size(width, height)
    return str(space)


def _check(data: bytes, driver: str) -> None:
    """Refuse a PNG or WebP that is too large; OpenCV finds the damaged ones."""
    with rasterio.Env(**_GDAL_OPTIONS), MemoryFile(data) as memory, quiet_open(memory, driver=driver) as source:
        check_size(source.width, source.height)


def _bands(data: bytes, driver: str) -> tuple[NDArray[np.generic], Mask | None]:
    """Return (B, H, W) colour bands and, of an image with alpha, the (H, W) mask of opaque pixels."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError(f"damaged or truncated {driver} image of {len(data)} bytes")
    bands = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    if len(bands) in (2, 4):
        return bands[-2::-1], bands[-1] > (127 if pixels.dtype == np.uint8 else 32767)
    return bands[::-1], None


def quiet_open(source: Path | MemoryFile, **options: object) -> DatasetReader:
    """Open a raster without the warning that plain images have no georeference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return source.open(**options) if isinstance(source, MemoryFile) else rasterio.open(source, **options)


def check_size(width_px: int, height_px: int) -> None:
    """Refuse an image that would not fit in memory.

    Raises:
        ImageError: it has no pixel, or more than ``MAX_PIXELS``.
    """
    if not 0 < width_px * height_px <= MAX_PIXELS:
        raise ImageError(f"an image of {width_px} x {height_px} pixels: expected 1 to {MAX_PIXELS:,} pixels")


def to_rgb8(
    bands: NDArray[np.generic],
    nodata: float | Sequence[float | None] | None = None,
    *,
    valid: Mask | None = None,
    limits: Floats | None = None,
) -> tuple[Image, Mask]:
    """Turn bands of any real type into 8-bit RGB and a mask.

    The first three bands are red, green and blue; of one or two bands the first is taken thrice. 8-bit bands are
    kept as they are; others are stretched so that the 2nd and 98th percentile of each band's valid pixels become 0
    and 255. A pixel is invalid where ``valid`` says so, where all bands taken equal nodata, or where one is not
    finite; it becomes black.

    Args:
        bands: (B, H, W), any integer or floating type.
        nodata: the value of missing pixels, for all bands or one a band.
        valid: (H, W) mask of pixels known to be valid, e.g. from an alpha band.
        limits: (3, 2) values to stretch to 0 and 255 instead, from ``stretch_limits``.

    Returns:
        (H, W, 3) uint8 RGB and its (H, W) mask.

    Raises:
        ImageError: there is no band or pixel, or the type is not a real number's.
    """
    if bands.ndim != 3 or 0 in bands.shape or bands.dtype.kind not in "uifb":
        raise ImageError(f"expected (bands, rows, columns) of real numbers, found {bands.shape} of {bands.dtype}")
    rgb = _three(bands)
    mask = _valid(rgb, nodata)
    if valid is not None:
        mask &= valid
    if bands.dtype != np.uint8 or limits is not None:
        rgb = _stretch(rgb, stretch_limits(rgb, mask) if limits is None else limits)
    image = np.asarray(cv2.merge([np.ascontiguousarray(band) for band in rgb]), np.uint8)
    image[~mask] = 0
    return image, mask


def _three(bands: NDArray[np.generic]) -> NDArray[np.generic]:
    return bands[:3] if len(bands) >= 3 else np.broadcast_to(bands[:1], (3, *bands.shape[1:]))


def _valid(rgb: NDArray[np.generic], nodata: float | Sequence[float | None] | None) -> Mask:
    if nodata is None and rgb.dtype.kind != "f":
        return np.ones(rgb.shape[1:], bool)
    values = list(nodata) if isinstance(nodata, Sequence) else [nodata]
    values = values[:3] if len(values) >= 3 else values[:1] * 3
    missing = np.ones(rgb.shape[1:], bool)
    for band, value in zip(rgb, values, strict=True):
        missing &= False if value is None else band == value
    finite = np.isfinite(rgb).all(0) if rgb.dtype.kind == "f" else True
    return ~missing & finite


def stretch_limits(bands: NDArray[np.generic], valid: Mask) -> Floats:
    """Return the 2nd and 98th percentile of the valid pixels of red, green and blue: (3, 2) float64.

    Large images are sampled evenly. Where the two coincide, the least and the greatest value are taken.
    """
    step = max(1, math.isqrt(valid.size // _SAMPLES))
    samples = _three(bands)[:, ::step, ::step][:, valid[::step, ::step]].astype(float)
    if not samples.size:
        return np.array([[0.0, 1.0]] * 3)
    limits: Floats = np.percentile(samples, STRETCH_PERCENTILES, axis=1).T
    flat = limits[:, 0] >= limits[:, 1]
    limits[flat] = np.stack([samples.min(1), samples.max(1)], 1)[flat]
    return limits


def _stretch(rgb: NDArray[np.generic], limits: Floats) -> NDArray[np.uint8]:
    # band by band: large images would not fit in memory as three bands of floating point numbers
    out = np.empty(rgb.shape, np.uint8)
    for band, (low, high), into in zip(rgb, limits.astype(np.float32), out, strict=True):
        scaled = np.nan_to_num(band.astype(np.float32)) - low
        scaled *= np.float32(255) / max(high - low, np.float32(1e-12))
        into[:] = np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled)
    return out


def mosaic(tiles: Mapping[tuple[int, int], Image], columns: range, rows: range) -> tuple[Image, Mask]:
    """Paste tiles together; missing ones are black and False in the mask.

    Args:
        tiles: images keyed (column, row); those that are not 256 x 256 are resized to it.
        columns: columns of the mosaic; they may run past the antimeridian, keyed as they are counted.
        rows: rows of the mosaic.

    Returns:
        (256 len(rows), 256 len(columns), 3) uint8 RGB and its mask; without the colours if tiles are grey.
    """
    colours = next((tile.shape[2:] for tile in tiles.values()), (3,))
    image = np.zeros((TILE_PX * len(rows), TILE_PX * len(columns), *colours), np.uint8)
    valid = np.zeros(image.shape[:2], bool)
    for (column, row), tile in tiles.items():
        if column in columns and row in rows:
            top, left = TILE_PX * rows.index(row), TILE_PX * columns.index(column)
            box = slice(top, top + TILE_PX), slice(left, left + TILE_PX)
            image[box], valid[box] = to_tile_size(tile), True
    return image, valid


def to_tile_size(image: Image) -> Image:
    """Return the image as 256 x 256 pixels, as it is or resized by area."""
    if image.shape[:2] == (TILE_PX, TILE_PX):
        return image
    return np.asarray(cv2.resize(image, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def window(
    image: Image,
    valid: Mask | None,
    x_px: float,
    y_px: float,
    width_px: float,
    height_px: float,
    size_px: int,
    rows_px: int | None = None,
) -> Image:
    """Cut a box out of an image and average it by area, to a square if nothing else is asked for.

    Coordinates are in pixels from the upper left corner of the image (the first pixel covers 0 to 1). Parts outside
    the image or not valid take the mean colour of the valid part of the box; a box without any is black.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) grey.
        valid: (H, W) mask, or None where all pixels are valid.
        x_px: centre of the box, from the left.
        y_px: centre of the box, from the top.
        width_px: width of the box, above 0; need not be whole.
        height_px: height of the box.
        size_px: width of the result.
        rows_px: its height; None stands for its width.

    Returns:
        (rows_px, size_px, 3) uint8 RGB, or (rows_px, size_px) grey.
    """
    rows_px = size_px if rows_px is None else rows_px
    left, top = x_px - width_px / 2, y_px - height_px / 2
    column, row = math.floor(left), math.floor(top)
    # one pixel more than the box is wide where it begins within a pixel
    width, height = math.ceil(width_px) + (left > column), math.ceil(height_px) + (top > row)
    box = _crop(image, valid, column, row, width, height)
    box = _shifted(box[:, :-1], box[:, 1:], left - column) if left > column else box
    small = _shifted(box[:-1], box[1:], top - row) if top > row else box
    # by factor, not by size: the box is cut at its true, fractional width
    x, y = size_px / width_px, rows_px / height_px
    # OpenCV gives up averaging by area on both axes where one of them is enlarged
    for across, down in [(x, y)] if max(x, y) <= 1 else [(x, 1), (1, y)]:
        small = np.asarray(cv2.resize(small, None, fx=across, fy=down, interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(small[:rows_px, :size_px])


def _crop(image: Image, valid: Mask | None, column: int, row: int, width: int, height: int) -> Image:
    """Return a box of whole pixels, with the mean colour of its valid ones where there are none."""
    rows = slice(max(row, 0), max(min(row + height, image.shape[0]), 0))
    columns = slice(max(column, 0), max(min(column + width, image.shape[1]), 0))
    part = image[rows, columns]
    mask = None if valid is None or valid[rows, columns].all() else valid[rows, columns]
    if part.shape[:2] == (height, width) and mask is None:
        return part
    seen = None if mask is None else mask.astype(np.uint8)
    box = np.empty((height, width, *image.shape[2:]), np.uint8)
    colours = math.prod(image.shape[2:])
    colour = np.rint(cv2.mean(part, seen)[:colours]).astype(np.uint8) if part.size else np.zeros(colours, np.uint8)
    # whole rows at a time: three bytes at a time take longer than all the rest of a window
    box[:] = np.tile(colour, (width, 1)).reshape(box.shape[1:])
    inner = box[rows.start - row : rows.stop - row, columns.start - column : columns.stop - column]
    inner[:] = part if seen is None else cv2.copyTo(part, seen, inner.copy())
    return box


def _shifted(pixels: Image, after: Image, part: float) -> Image:
    """Return the averages over pixels that begin a part of one later, given those and the ones after them."""
    return np.asarray(cv2.addWeighted(pixels, 1 - part, after, part, 0), np.uint8)
