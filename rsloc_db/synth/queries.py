"""Query sets of a synthetic land in the form of the benchmark: GeoTIFF in EPSG:3857, and a CSV with the truth."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.transform import from_origin

from rsloc_db.errors import GalleryError
from rsloc_db.grids import TILE_PX, lonlat_to_mercator, mercator_to_lonlat, nominal_resolution_m
from rsloc_db.synth.plan import GRID, QUERY_YEAR, SIDE, Plan
from rsloc_db.terrain import SEASONS, STEP_PX, Box, Land, Look, draw_layout, paint, sea_share
from rsloc_db.types import Floats, Image

SETS = ("present", "absent")
HEADER = (
    *("imgname", "lat", "lon", "level", "width", "height", "resolution", "type"),
    *("lon_min", "lat_min", "lon_max", "lat_max"),
)
SIZES_PX = (1792, 3072)
"""Sides of queries, where the gallery is large enough."""
_MAX_SEA = 0.1
_TRIES = 500
_PIECE_PX = SIDE * TILE_PX


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A query to draw.

    Attributes:
        path: file to write.
        land: which land.
        level: zoom level.
        west_m: western edge in EPSG:3857.
        north_m: northern edge in EPSG:3857.
        width_px: its width.
        height_px: its height.
        look: season and sensor.
    """

    path: Path
    land: Land
    level: int
    west_m: float
    north_m: float
    width_px: int
    height_px: int
    look: Look

    def lonlat(self, x_px: Floats, y_px: Floats) -> tuple[Floats, Floats]:
        """Return lon, lat in degrees of its pixels, counted from its upper left corner."""
        step = nominal_resolution_m(self.level)
        return mercator_to_lonlat(self.west_m + x_px * step, self.north_m - y_px * step)

    def grid_pixels(self) -> tuple[Floats, Floats]:
        """Return x of its columns' and y of its rows' middles on the gallery's grid."""
        side = max(self.width_px, self.height_px)
        along = np.arange(side, dtype=np.float64) + 0.5
        x, y = GRID.to_pixels(*self.lonlat(along, along), self.level)
        return x[: self.width_px], y[: self.height_px]


def plan_queries(plan: Plan, name: str, count: int, folder: Path) -> list[QueryPlan]:
    """Choose the places of a query set.

    Args:
        plan: the gallery's.
        name: present or absent.
        count: how many.
        folder: where their files will be.

    Raises:
        GalleryError: there is too little land.
    """
    area = plan.present_box() if name == "present" else plan.absent_box()
    return [_choose(plan, area, folder / f"{name[0]}{i + 1}_L{plan.level}_synth.tiff", i) for i in range(count)]


def _choose(plan: Plan, area: Box, path: Path, number: int) -> QueryPlan:
    rng = np.random.default_rng([plan.seed, 72, area.x, number])
    look = Look(QUERY_YEAR, int(rng.integers(len(SEASONS))), int(rng.integers(2, 4)))
    aspect = plan.land.aspect
    most = int(min(SIZES_PX[1], 0.7 * area.width, 0.7 * area.height / aspect))
    for _ in range(_TRIES):
        width, height = (int(side) for side in rng.integers(min(SIZES_PX[0], round(0.7 * most)), most + 1, 2))
        x = area.x + rng.uniform() * (area.width - width)
        y = area.y + rng.uniform() * (area.height - height * aspect)
        lon, lat = GRID.to_lonlat(np.array(x), np.array(y), plan.level)
        west, north = lonlat_to_mercator(lon, lat)
        query = QueryPlan(path, plan.land, plan.level, float(west), float(north), width, height, look)
        if _inside(query, area) and sea_share(plan.land, _box(query)) <= _MAX_SEA:
            return query
    raise GalleryError(f"no place on land was found for {path.name}: another --seed or --origin shows more of it")


def _inside(query: QueryPlan, area: Box) -> bool:
    x, y = query.grid_pixels()
    return bool(x[0] > area.x and y[0] > area.y and x[-1] < area.x + area.width and y[-1] < area.y + area.height)


def _box(query: QueryPlan) -> Box:
    """Return what has to be drawn for a query, with what the interpolation reaches beyond."""
    x, y = query.grid_pixels()
    left, top = (int(each[0]) // STEP_PX * STEP_PX - STEP_PX for each in (x, y))
    right, bottom = (int(each[-1]) // STEP_PX * STEP_PX + 2 * STEP_PX for each in (x, y))
    return Box(left, top, right - left, bottom - top)


def write_query(query: QueryPlan) -> None:
    """Draw a query and write its file, unless that is there.

    Raises:
        GalleryError: it cannot be written.
    """
    if query.path.exists():
        return
    part = query.path.with_name(f".part-{query.path.name}")
    step = nominal_resolution_m(query.level)
    layout = {"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 85, "tiled": True}
    try:
        with rasterio.open(
            part, "w", "GTiff", query.width_px, query.height_px, 3, dtype="uint8", crs="EPSG:3857",
            transform=from_origin(query.west_m, query.north_m, step, step), **layout,
        ) as file:  # fmt: skip
            file.write(np.moveaxis(draw_query(query), 2, 0))
    except RasterioError as error:
        raise GalleryError(f"{query.path}: cannot be written: {error}; is there room on the disk?") from error
    part.replace(query.path)


def draw_query(query: QueryPlan) -> Image:
    """Return a query's pixels, (height_px, width_px, 3) uint8 RGB."""
    box = _box(query)
    canvas = np.empty((box.height, box.width, 3), np.uint8)
    # in pieces, so that memory stays small
    for y in range(0, box.height, _PIECE_PX):
        for x in range(0, box.width, _PIECE_PX):
            size = min(_PIECE_PX, box.width - x), min(_PIECE_PX, box.height - y)
            piece = Box(box.x + x, box.y + y, *size)
            canvas[y : y + size[1], x : x + size[0]] = paint(
                query.land, piece, draw_layout(query.land, piece), query.look
            )
    columns, rows = query.grid_pixels()
    # OpenCV counts from the middle of the first pixel
    x_map, y_map = np.meshgrid(_float32(columns - box.x - 0.5), _float32(rows - box.y - 0.5))
    return np.asarray(cv2.remap(canvas, x_map, y_map, cv2.INTER_CUBIC), np.uint8)


def _float32(values: Floats) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def write_table(path: Path, queries: list[QueryPlan]) -> None:
    """Write the truth of a query set as the benchmark does: the centre is the centre pixel's."""
    part = path.with_name(f".part-{path.name}")
    with part.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, HEADER, lineterminator="\n")
        table.writeheader()
        table.writerows(_row(query) for query in queries)
    part.replace(path)


def _row(query: QueryPlan) -> dict[str, object]:
    w, h = query.width_px, query.height_px
    lon, lat = query.lonlat(np.array([w / 2, 0, w]), np.array([h / 2, h, 0]))
    degrees = {"lon": lon[0], "lat": lat[0], "lon_min": lon[1], "lat_min": lat[1], "lon_max": lon[2], "lat_max": lat[2]}
    return {
        "imgname": query.path.name,
        "level": query.level,
        "width": w,
        "height": h,
        "resolution": repr(nominal_resolution_m(query.level)),
        "type": "synthetic",
        **{name: repr(float(value)) for name, value in degrees.items()},
    }
