"""Roads: curves between scattered points, drawn by distance, so that no border shows in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsloc_db.terrain import noise
from rsloc_db.terrain.noise import Box, Points

_LINKS = (((1, 0), 0.85), ((0, 1), 0.85), ((1, 1), 0.3), ((-1, 1), 0.3))
"""To which neighbour of its lattice a point has a road, and how often."""


@dataclass(frozen=True, slots=True)
class Way:
    """A road.

    Attributes:
        line: (K, 2) x, y in pixels of the grid, multiples of 1/8.
        half_px: half its width in north-south pixels.
        main: whether houses give way to it.
    """

    line: NDArray[np.float64]
    half_px: float
    main: bool


def ways(seed: int, box: Box, places: Points, main_seed: int, spacing_px: tuple[int, int]) -> list[Way]:
    """Return the roads that may touch a box: between the places, and main ones between points far apart."""
    far = noise.points(main_seed, box, spacing_px, (3 * spacing_px[0], 3 * spacing_px[1]))
    return [*_links(places, seed, 0.55, 10, main=False), *_links(far, main_seed, 1.6, 40, main=True)]


def _links(points: Points, seed: int, half_px: float, pieces: int, *, main: bool) -> Iterator[Way]:
    index = {(int(c), int(r)): i for i, (c, r) in enumerate(zip(points.column, points.row, strict=True))}
    for salt, ((right, down), share) in enumerate(_LINKS, start=seed % 1000):
        chosen, bend = points.chance(salt) < share, points.chance(salt + 50) - 0.5
        wide = half_px * (1 + 0.6 * points.chance(salt + 99))
        for (column, row), i in index.items():
            j = index.get((column + right, row + down))
            if j is not None and chosen[i]:
                ends = np.array([[points.x[i], points.y[i]], [points.x[j], points.y[j]]])
                yield Way(_curve(ends, float(bend[i]), pieces), float(wide[i]), main)


def _curve(ends: NDArray[np.float64], bend: float, pieces: int) -> NDArray[np.float64]:
    """Return an S-shaped curve between two points."""
    t = np.arange(pieces + 1)[:, None] / pieces
    along = ends[1] - ends[0]
    swing = bend * (0.35 * np.sin(np.pi * t) + 0.25 * np.sin(2 * np.pi * t))
    return np.asarray(np.round((ends[0] + t * along + swing * along[::-1] * (-1, 1)) * 8) / 8)


def draw_ways(box: Box, roads: list[Way], aspect: float) -> NDArray[np.uint8]:
    """Return where roads are, (H, W): 1 for a road, 2 for a main one.

    Args:
        box: which part of the grid.
        roads: what to draw.
        aspect: ground width of a pixel over its height.
    """
    drawn = np.zeros((box.height, box.width), np.uint8)
    for road in roads:
        line = np.asarray(road.line - (box.x, box.y))
        reach = road.half_px / aspect + 1
        low, high = np.minimum(line[1:], line[:-1]) - reach, np.maximum(line[1:], line[:-1]) + reach
        for k in np.flatnonzero(((high > 0) & (low < (box.width, box.height))).all(1)):
            _draw_piece(drawn, line[k], line[k + 1], low[k], high[k], road, aspect)
    return drawn


def _draw_piece(
    drawn: NDArray[np.uint8],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    road: Way,
    aspect: float,
) -> None:
    """Draw where the distance to a straight piece is below half the road's width."""
    left, top = np.maximum(np.floor(low).astype(int), 0)
    right, bottom = np.ceil(high).astype(int) + 1
    part = drawn[top:bottom, left:right]
    # from the piece's start: exact, whatever the box
    x = (np.arange(left, left + part.shape[1]) - start[0]) * aspect
    y = (np.arange(top, top + part.shape[0]) - start[1])[:, None]
    dx, dy = (end[0] - start[0]) * aspect, end[1] - start[1]
    share = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    near = (x - share * dx) ** 2 + (y - share * dy) ** 2 < road.half_px**2
    np.maximum(part, near * np.uint8(2 if road.main else 1), out=part)
