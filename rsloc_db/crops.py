"""Georeferenced images to cut crops from, at any place, turn and scale in one interpolation.

Pixel coordinates are x to the right and y down from the upper left corner of an image (the first pixel covers 0 to 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyproj
import shapely
from rasterio.features import geometry_mask
from rasterio.transform import Affine

from rsloc_db.errors import QueryError
from rsloc_db.geometry import read_shape
from rsloc_db.grids import wrap_lon
from rsloc_db.queries.images import load_image, open_raster
from rsloc_db.queries.scale import MAX_LEVEL, file_scale, level_scale
from rsloc_db.types import Floats, Image, Mask, Pixels

SAME_SIZE = 0.001
"""Pixels whose sizes differ by this share are of one level: those of real query sets are off by up to 0.0004."""
_MARGIN_PX = 3
"""What the interpolation reaches beyond a crop's rim."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how a crop lies in its source.

    Attributes:
        x_px: its centre in the source's pixels.
        y_px: the same, down.
        width_px: its width.
        height_px: its height.
        turn_deg: how far clockwise from up the source's north points in it.
        scale: its true pixel size as a multiple of the stated one.
    """

    x_px: float
    y_px: float
    width_px: int
    height_px: int
    turn_deg: float
    scale: float


@dataclass(frozen=True, slots=True)
class CropSource:
    """A georeferenced image.

    Attributes:
        path: its file.
        image: (H, W, 3) uint8 RGB.
        valid: (H, W), where crops may lie.
        crs: its CRS.
        transform: pixels to CRS.
        pixels: what a pixel is a step of.
        pixel: the stated size of a crop's pixel, in metres or degrees as ``pixels`` says.
        unit: length of the CRS's unit in the same.
        level: level of that size, or None.
    """

    path: Path
    image: Image
    valid: Mask
    crs: pyproj.CRS
    transform: Affine
    pixels: Pixels
    pixel: float
    unit: float
    level: int | None

    def to_source(self, pose: Pose) -> Floats:
        """Return the (2, 3) affine from a crop's pixels to the source's (corner frame)."""
        step, turn = pose.scale * self.pixel / self.unit, math.radians(pose.turn_deg)
        # east in the crop is (cos turn, sin turn), north is (sin turn, -cos turn)
        to_crs = step * np.array([[math.cos(turn), math.sin(turn)], [math.sin(turn), -math.cos(turn)]])
        matrix = np.linalg.solve(_matrix(self.transform)[:, :2], to_crs)
        center = (pose.x_px, pose.y_px) - matrix @ (pose.width_px / 2, pose.height_px / 2)
        return np.column_stack([matrix, center])

    def place(
        self, width_px: int, height_px: int, turn_deg: float, scale: float, rng: np.random.Generator
    ) -> Pose | None:
        """Return a crop of that kind at a random place, or None where that place is not wholly valid."""
        origin = Pose(0.0, 0.0, width_px, height_px, turn_deg, scale)
        reach = np.abs(self._corners(origin)).max(0) + _MARGIN_PX
        high = np.array(self.valid.shape[::-1]) - reach
        x, y = rng.uniform(size=2) * (high - reach) + reach
        if (high < reach).any():
            return None
        pose = Pose(float(x), float(y), width_px, height_px, turn_deg, scale)
        return pose if self._is_valid(pose) else None

    def _corners(self, pose: Pose) -> Floats:
        """Return the (4, 2) corners in the source's pixels."""
        w, h = pose.width_px, pose.height_px
        return np.array([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]]) @ self.to_source(pose).T

    def _is_valid(self, pose: Pose) -> bool:
        corners = self._corners(pose)
        away = corners - corners.mean(0)
        grown = corners + _MARGIN_PX * np.sqrt(2) * away / np.linalg.norm(away, axis=1, keepdims=True)
        left, top = np.maximum(np.floor(grown.min(0)).astype(int), 0)
        right, bottom = np.ceil(grown.max(0)).astype(int) + 1
        valid = self.valid[top:bottom, left:right]
        inside = np.zeros(valid.shape, np.uint8)
        cv2.fillConvexPoly(inside, np.round(grown - (left, top)).astype(np.int32), 1)
        return bool(valid[inside > 0].all())

    def cut(self, pose: Pose) -> Image:
        """Return a crop's pixels, (height_px, width_px, 3) uint8 RGB, in one bicubic interpolation."""
        affine = self.to_source(pose)
        corners = self._corners(pose)
        # what the blur and the interpolation need, and no more
        step = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
        reach = _MARGIN_PX + math.ceil(3 * step)
        left, top = np.maximum(np.floor(corners.min(0)).astype(int) - reach, 0)
        right, bottom = np.ceil(corners.max(0)).astype(int) + reach
        part = self.image[top:bottom, left:right]
        if step > 1:
            # a coarser sensor averages over its larger pixels
            part = np.asarray(cv2.GaussianBlur(part, (0, 0), 0.5 * math.sqrt(step**2 - 1) + 1e-3), np.uint8)
        # OpenCV counts from the middle of the first pixel
        shift = affine[:, 2] + affine[:, :2] @ (0.5, 0.5) - 0.5 - (left, top)
        matrix = np.column_stack([affine[:, :2], shift])
        size = pose.width_px, pose.height_px
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(part, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT), np.uint8)

    def lonlat(self, pose: Pose, x_px: Floats, y_px: Floats) -> tuple[Floats, Floats]:
        """Return lon, lat in degrees (EPSG:4326) of a crop's pixels."""
        ones = np.ones_like(x_px)
        columns, rows = self.to_source(pose) @ np.stack([x_px, y_px, ones])
        x, y = _matrix(self.transform) @ np.stack([columns, rows, ones])
        lon, lat = pyproj.Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True).transform(x, y)
        return wrap_lon(np.asarray(lon)), np.asarray(lat, float)


def open_source(path: Path, within: str | None = None) -> CropSource:
    """Read a georeferenced image to cut crops from.

    Args:
        path: an image of any format with a CRS.
        within: polygon (EPSG:4326) that crops must lie in, as WKT, GeoJSON or the path of a file of either.

    Raises:
        ImageError: it cannot be read.
        QueryError: it has no CRS that tells the size of a pixel.
        AreaError: ``within`` is none.
    """
    image, valid = load_image(path)
    with open_raster(path) as dataset:
        scale, transform = file_scale(dataset), dataset.transform
        wkt = dataset.crs.to_wkt() if dataset.crs else ""
    if scale is None:
        raise QueryError(f"{path} has no georeference that tells a size on Earth: queries are cut out of maps")
    crs = pyproj.CRS.from_wkt(wkt)
    if within is not None:
        valid = valid & _inside(within, crs, transform, valid.shape)
    level = _level_of(scale.x, scale.pixels)
    pixel = scale.x if level is None else level_scale(level, scale.pixels).x
    unit = scale.x / math.hypot(transform.a, transform.d)
    return CropSource(path, image, valid, crs, transform, scale.pixels, pixel, unit, level)


def _matrix(transform: Affine) -> Floats:
    return np.array([[transform.a, transform.b, transform.c], [transform.d, transform.e, transform.f]])


def _level_of(size: float, pixels: Pixels) -> int | None:
    """Return the level whose pixels have that size; None on the ground, where a level's size depends on latitude."""
    if pixels == "ground":
        return None
    found = round(math.log2(level_scale(0, pixels).x / size))
    fits = 0 <= found <= MAX_LEVEL and abs(level_scale(found, pixels).x / size - 1) < SAME_SIZE
    return found if fits else None


def _inside(within: str, crs: pyproj.CRS, transform: Affine, shape: tuple[int, int]) -> Mask:
    area = shapely.segmentize(read_shape(within), 0.01)
    to_crs = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    there = shapely.transform(area, lambda at: np.column_stack(to_crs.transform(at[:, 0], at[:, 1])))
    return np.asarray(geometry_mask([there], shape, transform, invert=True), bool)
