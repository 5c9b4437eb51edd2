"""Search the turn, the scale and the shift between two images by brute force, on coarse gradient maps.

One image is taken at every turn and scale and correlated with the other at every shift. Maps of oriented gradients
need not be computed anew for each turn: as a Fourier series over orientation (of period 180 degrees, so that contrast
may reverse) they are steered by a phase (Freeman and Adelson 1991, "The design and use of steerable filters"). Arrays
only, in pixels: no coordinates, no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rsloc_db.correlation import GradientMaps, cyclic_products, gradient_maps
from rsloc_db.types import Floats, Image, Mask

CELLS = 32
"""Cells along the longer side of what the smaller image covers."""
MAX_CELLS = 128
"""And at most this many along the larger image."""
CELL_PX = 4
"""Pixels a cell, after resampling."""
TURNS = 48
"""Turns that are tried in a full circle: cells at the rim of the image move by less than two from one to the next."""
SCALE_STEP = 1.12
"""Each scale tried is this many times the one before."""
MIN_OVERLAP = 0.3
"""Least part of the smaller image that must lie on the other."""
_PEAKS = 3
_HARMONICS = (2, 4)
"""Orientations repeat after 180 degrees: a turn by t multiplies these terms of the series by exp(2it) and exp(4it)."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """A supposed turn, scale and shift from one image to another.

    Attributes:
        matrix: (2, 3), pixels of the first image (x, y, 1) -> pixels of the second; a pixel's centre has whole numbers.
        score: correlation times the square root of the cells that overlap: how far from chance. Of local features
            (``rsloc_db.features``), how many matches agree.
    """

    matrix: Floats
    score: float


def similarities(
    image_a: Image,
    valid_a: Mask,
    image_b: Image,
    valid_b: Mask,
    scales: tuple[float, float],
    turns_deg: tuple[float, float] = (-180.0, 180.0),
    keep: int = 20,
) -> list[Similarity]:
    """Return the turns, scales and shifts that bring one image onto another best.

    Args:
        image_a: (H, W, 3) uint8 RGB, the image that is turned and scaled.
        valid_a: (H, W) bool, its pixels that are imagery.
        image_b: (h, w, 3) uint8 RGB.
        valid_b: (h, w) bool.
        scales: least and greatest scale to try, pixels of B for each pixel of A.
        turns_deg: least and greatest turn to try, degrees clockwise.
        keep: how many to return.

    Returns:
        At most ``keep``, best first, no two of them alike.
    """
    turns = _turns(turns_deg)
    found: list[Similarity] = []
    for scale in _scales(scales):
        cell_px = _cell_px(scale, image_a.shape, image_b.shape)
        maps_a, cells_a = _maps(image_a, valid_a, scale / cell_px)
        maps_b, cells_b = _maps(image_b, valid_b, 1 / cell_px)
        found += _at_scale(_Side(maps_a, cells_a), _Side(maps_b, cells_b), turns)
    return _distinct(sorted(found, key=lambda s: -s.score), image_a.shape, image_b.shape, keep)


def _turns(turns_deg: tuple[float, float]) -> Floats:
    """Return turns in radians, evenly spaced; the end of a full circle is its beginning."""
    low, high = np.radians(turns_deg)
    count = max(int(np.ceil((high - low) / (2 * np.pi / TURNS) - 1e-9)), 1)
    whole = high - low >= 2 * np.pi - 1e-9
    return np.linspace(low, high, count + (0 if whole else 1), endpoint=not whole)


def _scales(scales: tuple[float, float]) -> Floats:
    low, high = np.log(scales)
    return np.exp(np.linspace(low, high, int(np.ceil((high - low) / np.log(SCALE_STEP) - 1e-9)) + 1))


def _cell_px(scale: float, shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> float:
    """Return the side of a cell in pixels of B, such that neither image has too few cells or too many."""
    a, b = scale * max(shape_a[:2]), float(max(shape_b[:2]))
    return max(min(a, b) / CELLS, max(a, b) / MAX_CELLS)


@dataclass(frozen=True, slots=True)
class _Side:
    """Gradient maps and the (3, 3) matrix from the image's pixels to their cells."""

    maps: GradientMaps
    to_cells: Floats


def _maps(image: Image, valid: Mask, cells_per_px: float) -> tuple[GradientMaps, Floats]:
    """Return maps as a Fourier series over orientation: (5, h, w), the mean and twice a real and an imaginary part."""
    height, width = (max(round(n * cells_per_px), 4) for n in image.shape[:2])
    size = width * CELL_PX, height * CELL_PX
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    seen = cv2.resize(valid.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA) > 250
    found = gradient_maps(np.asarray(small, np.uint8), seen, CELL_PX)
    series = fft.rfft(found.maps, axis=0, norm="ortho")
    parts = [series[0].real]
    for k in range(1, len(_HARMONICS) + 1):
        parts += [np.sqrt(2) * series[k].real, np.sqrt(2) * series[k].imag]
    x, y = width / image.shape[1], height / image.shape[0]
    to_cells = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return GradientMaps(np.stack(parts).astype(np.float32), found.cover), to_cells


def _at_scale(a: _Side, b: _Side, turns: Floats) -> Iterator[Similarity]:
    """Yield the best shifts at each turn."""
    side = int(np.ceil(np.hypot(*a.maps.cover.shape)))
    about = np.array([(n - 1) / 2 for n in reversed(a.maps.cover.shape)])
    matrices = [_turn(turn, about, side) for turn in turns]
    turned = _turned(a.maps, turns, matrices, side)
    rows, columns = b.maps.cover.shape
    # shifts are cyclic: those that leave less than half of A on B may meet again on the other side
    length = fft.next_fast_len(max(side, max(rows, columns) + side // 2), real=True)
    dot, norm, overlap = cyclic_products(turned, b.maps, (length, length))
    least = MIN_OVERLAP * min(float(a.maps.cover.sum()), float(b.maps.cover.sum()))
    usable = (overlap >= max(least, 1.0)) & (norm > 1e-6)
    score = np.where(usable, dot * np.sqrt(np.maximum(overlap, 0) / np.maximum(norm, 1e-6)), 0)
    back = np.linalg.inv(b.to_cells)
    for of_turn, matrix in zip(score, matrices, strict=True):
        for row, column, height in _tops(of_turn):
            shift = np.eye(3)
            shift[:2, 2] = column if column < columns else column - length, row if row < rows else row - length
            yield Similarity((back @ shift @ matrix @ a.to_cells)[:2], height)


def _turn(turn: float, about: Floats, side: int) -> Floats:
    """Return the (3, 3) matrix that turns cells about a point, which comes to the middle of a square."""
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:2, 2] = (side - 1) / 2 - matrix[:2, :2] @ about
    return matrix


def _turned(maps: GradientMaps, turns: Floats, matrices: list[Floats], side: int) -> GradientMaps:
    """Turn maps in space, and steer their series by the same angles: (N, 5, side, side)."""
    planes = [maps.cover, *maps.maps]
    stack = np.empty((len(turns), len(planes), side, side), np.float32)
    for into, matrix in zip(stack, matrices, strict=True):
        for plane, target in zip(planes, into, strict=True):
            cv2.warpAffine(plane, matrix[:2], (side, side), dst=target)
    cover = (stack[:, 0] > 0.5).astype(np.float32)
    series = stack[:, 1:] * (cover / np.maximum(stack[:, 0], 0.5))[:, None]
    for k, order in enumerate(_HARMONICS):
        real, imaginary = 1 + 2 * k, 2 + 2 * k
        # the series is taken with exp(-ikx): a turn by t multiplies it by exp(-i order t)
        turned = (series[:, real] + 1j * series[:, imaginary]) * np.exp(-1j * order * turns)[:, None, None]
        series[:, real], series[:, imaginary] = turned.real, turned.imag
    return GradientMaps(series.astype(np.float32, copy=False), cover)


def _tops(score: NDArray[np.float32]) -> Iterator[tuple[int, int, float]]:
    """Yield row, column and height of the highest few scores that are not next to each other."""
    left = score.copy()
    for _ in range(_PEAKS):
        row, column = (int(i) for i in np.unravel_index(int(left.argmax()), left.shape))
        if left[row, column] <= 0:
            return
        yield row, column, float(left[row, column])
        left[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = 0


def _distinct(
    found: list[Similarity], shape_a: tuple[int, ...], shape_b: tuple[int, ...], keep: int
) -> list[Similarity]:
    """Keep what brings the corners of A to other places than a better one does."""
    height, width = shape_a[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float).T
    near = 0.06 * max(shape_b[:2])
    kept: list[Similarity] = []
    places: list[Floats] = []
    for one in found:
        place = one.matrix @ corners
        if all(np.abs(place - other).max() > near for other in places):
            kept.append(one)
            places.append(place)
        if len(kept) == keep:
            break
    return kept
