"""A gallery level as verification sees it, and a query laid into its grid pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db.db.blocks import LayerKey
from rsloc_db.frames import Frame
from rsloc_db.grids import TILE_PX, TileGrid
from rsloc_db.stages.maps import CELL_PX, StoredMaps
from rsloc_db.stages.query import Query
from rsloc_db.types import AS_STATED, Floats, Image, Mask, Pose


class LoadMosaic(Protocol):
    """What loads a gallery's pixels."""

    def __call__(self, columns: tuple[int, int], rows: tuple[int, int], step: int, *, grey: bool) -> tuple[Image, Mask]:
        """Return the pixels of (first, last) columns and rows, see ``load_mosaic``, and which of them are imagery."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One level of a gallery at some date, as verification sees it."""

    grid: TileGrid
    level: int
    load: LoadMosaic
    maps: StoredMaps

    def cell_center(self, column: float, row: float) -> tuple[float, float]:
        """Return lon, lat in degrees of a point given in cells of the gradient maps."""
        lon, lat = self.grid.to_lonlat(np.array(column * CELL_PX), np.array(row * CELL_PX), self.level)
        return float(lon), float(lat)

    def pixels(self, box: Box, step: int, *, grey: bool = False) -> tuple[Image, Mask]:
        """Return the gallery's pixels of a box on multiples of ``step``, so many of them averaged into one."""
        columns = box.left // TILE_PX, (box.right - 1) // TILE_PX
        rows = box.top // TILE_PX, (box.bottom - 1) // TILE_PX
        image, valid = self.load(columns, rows, step, grey=grey)
        x, y = (box.left - columns[0] * TILE_PX) // step, (box.top - rows[0] * TILE_PX) // step
        part = (slice(y, y + (box.bottom - box.top) // step), slice(x, x + (box.right - box.left) // step))
        return image[part], valid[part]


@dataclass(frozen=True, slots=True)
class Box:
    """A box of grid pixels; ``left`` may be negative or ``right`` beyond the grid at the antimeridian."""

    left: int
    top: int
    right: int
    bottom: int

    def grown(self, margin: int) -> Box:
        """Return the box with a margin on all sides."""
        return Box(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin)


SHRINK_STEP = 1.2
"""Queries are averaged down by powers of this."""

References = Mapping[LayerKey, Reference]
"""Gallery levels, those of several dates once for each."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place to verify: which of ``References`` it is of, and the clique that led there, if one did."""

    key: LayerKey
    clique_id: int | None


@dataclass(frozen=True, slots=True)
class Fit:
    """How a query fits at a candidate.

    Attributes:
        candidate: the candidate.
        center: lon, lat of the query's centre pixel at the best fit.
        correlation: normalised correlation of the whole query there, -1 to 1.
        pose: turn and zoom in which it fits.
    """

    candidate: Candidate
    center: tuple[float, float]
    correlation: float
    pose: Pose = AS_STATED


def without_clique(fit: Fit) -> Fit:
    """Return a fit as one that no clique has led to."""
    return replace(fit, candidate=replace(fit.candidate, clique_id=None))


def footprint_box(frame: Frame, center: tuple[float, float], reference: Reference, multiple: int) -> Box:
    """Return the box of grid pixels that holds the query at a centre, on multiples of ``multiple``."""
    t = np.linspace(0, 1, 17)
    edge_x = np.concatenate([t, np.ones(17), t, np.zeros(17)]) * frame.width_px
    edge_y = np.concatenate([np.zeros(17), t, np.ones(17), t]) * frame.height_px
    x, y = to_grid(reference, *frame.to_lonlat(edge_x, edge_y, center), center)
    low = np.floor([x.min() / multiple, y.min() / multiple]).astype(int) * multiple
    high = np.ceil([x.max() / multiple, y.max() / multiple]).astype(int) * multiple
    return Box(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def to_grid(reference: Reference, lon_deg: Floats, lat_deg: Floats, near: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return grid pixels of places, unwrapped so that they lie within half the world of ``near`` (lon, lat)."""
    unwrapped = near[0] + (np.asarray(lon_deg) - near[0] + 180.0) % 360.0 - 180.0
    return reference.grid.to_pixels(unwrapped, lat_deg, reference.level)


def shift_center(center: tuple[float, float], reference: Reference, dx_px: float, dy_px: float) -> tuple[float, float]:
    """Return a place moved by grid pixels."""
    x, y = reference.grid.to_pixels(np.array(center[0]), np.array(center[1]), reference.level)
    lon, lat = reference.grid.to_lonlat(x + dx_px, y + dy_px, reference.level)
    return float(lon), float(lat)


def resample(
    query: Query, center: tuple[float, float], reference: Reference, box: Box, step: int
) -> tuple[Image, Mask]:
    """Resample a query into a box of grid pixels, as it lies when its centre is at ``center``.

    Returns:
        (H, W, 3) uint8, of a grey query (H, W), and (H, W) bool with H, W = the box's size / step.
    """
    frame = query.frame
    width, height = (box.right - box.left) // step, (box.bottom - box.top) // step
    # the map from grid to query is smooth: it is computed at 33 x 33 nodes and interpolated
    nodes = np.linspace(0, 1, 33)
    grid_x, grid_y = np.meshgrid(box.left + nodes * width * step, box.top + nodes * height * step)
    lon, lat = reference.grid.to_lonlat(grid_x, grid_y, reference.level)
    x, y = frame.to_pixels(lon, lat, center)
    # pixels are averaged down to about the target's resolution before they are interpolated
    size = [_shrunk_size(n, v, width, height) for n, v in ((frame.width_px, x), (frame.height_px, y))]
    image, valid = query.shrunk(*size)
    map_x = _upsample(x, width, height) * np.float32(size[0] / frame.width_px) - 0.5
    map_y = _upsample(y, width, height) * np.float32(size[1] / frame.height_px) - 0.5
    pixels = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.remap(valid.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT) > 0
    return np.asarray(pixels, np.uint8), inside


def _shrunk_size(size_px: int, coordinate: Floats, width: int, height: int) -> int:
    """Return the size of a query's side once its pixels are about as large as those of the target.

    Args:
        size_px: the side.
        coordinate: that side's coordinate at nodes that span the target.
        width: target's width.
        height: target's height.
    """
    step = float(np.hypot(np.ptp(coordinate, axis=1).mean() / width, np.ptp(coordinate, axis=0).mean() / height))
    # in steps, so that neighbouring places and poses share a shrunk image; what remains of them is interpolated
    shrink: float = SHRINK_STEP ** float(np.floor(np.log(max(step, 1.0)) / np.log(SHRINK_STEP)))
    return max(1, round(size_px / shrink))


def _upsample(nodes: Floats, width: int, height: int) -> NDArray[np.float32]:
    """Interpolate a map given at evenly spaced nodes, edge to edge, to pixel centres."""
    rows, columns = (_weights(len(nodes), size) for size in (height, width))
    return np.asarray(rows @ (nodes @ columns.T).astype(np.float32), np.float32)


def _weights(nodes: int, size: int) -> NDArray[np.float32]:
    """Return how much each node counts for each of so many pixels: (size, nodes), two to a row."""
    at = (np.arange(size) + 0.5) / size * (nodes - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(nodes))), np.float32)
