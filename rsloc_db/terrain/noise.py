"""Chance as a pure function of place and seed: hashed lattices, smooth noise and scattered points.

Coordinates are pixels of the whole grid (x to the right, y down). Whatever box is asked for, a place gets the same
bits: positions are multiples of 1/8 px, so that differences within a box are exact in float32, and nothing is summed in
an order that depends on the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint32]

STEP_PX = 16
"""Spacing of the coarse grid that slow fields are computed on."""
TABLE = 1 << 16
"""Size of the tables that give a number its random values."""
_SPLINE_DEVIATION = 0.479
"""Of cubic B-spline noise over values of unit variance, averaged over a cell."""

_JITTER = 0.8
"""Share of a cell that its point is scattered over."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the grid: its upper left corner and size in pixels, all multiples of ``STEP_PX``."""

    x: int
    y: int
    width: int
    height: int

    def grown(self, margin_px: int) -> Box:
        """Return it with a margin around it."""
        return Box(self.x - margin_px, self.y - margin_px, self.width + 2 * margin_px, self.height + 2 * margin_px)

    def centers(self, step_px: int, margin: int = 0) -> tuple[Numbers, Numbers]:
        """Return x and y of the centres of its ``step_px`` cells, and of ``margin`` cells around it."""
        half = step_px // 2
        x = np.arange(self.x // step_px - margin, -(-(self.x + self.width) // step_px) + margin) * step_px + half
        y = np.arange(self.y // step_px - margin, -(-(self.y + self.height) // step_px) + margin) * step_px + half
        return x, y


@dataclass(frozen=True, slots=True)
class Points:
    """Points scattered one to a cell of a lattice, each with its cell, its place and a hash of its own."""

    column: Numbers
    row: Numbers
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    number: Hashes

    def chance(self, salt: int) -> Field:
        """Return a number in [0, 1) for each point."""
        return uniform(scramble(self.number + np.uint32((salt * 0x9E3779B9) & 0xFFFFFFFF)))


def key(*parts: int) -> int:
    """Return one 32-bit number for several."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def scramble(numbers: Hashes) -> Hashes:
    """Return well mixed 32-bit numbers (lowbias32 of C. Wellons, https://nullprogram.com/blog/2018/07/31/)."""
    mixed = numbers ^ (numbers >> np.uint32(16))
    mixed *= np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def hashes(seed: int, columns: Numbers, rows: Numbers) -> Hashes:
    """Return a 32-bit hash of every place of a lattice, (rows, columns)."""
    across = scramble(columns.astype(np.uint32) + np.uint32(seed))
    down = scramble((rows.astype(np.uint32) ^ np.uint32(0x55555555)) + np.uint32(key(seed)))
    return scramble(across[None] + down[:, None])


def uniform(numbers: Hashes) -> Field:
    """Return numbers in [0, 1)."""
    return np.asarray((numbers >> np.uint32(8)).astype(np.float32) * np.float32(1 / (1 << 24)))


def lattice(seed: int, columns: Numbers, rows: Numbers) -> Field:
    """Return white noise of unit variance on a lattice."""
    return np.asarray((uniform(hashes(seed, columns, rows)) - np.float32(0.5)) * np.float32(np.sqrt(12)))


def smooth(seed: int, x: Numbers, y: Numbers, spacing_px: int) -> Field:
    """Return noise of about unit variance at places (y, x), a cubic B-spline over a lattice of that spacing."""
    column, across = _weights(x, spacing_px)
    row, down = _weights(y, spacing_px)
    values = lattice(
        seed,
        np.arange(column[0] - 1, column[-1] + 3, dtype=np.int64),
        np.arange(row[0] - 1, row[-1] + 3, dtype=np.int64),
    )
    rows = sum(values[row - row[0] + tap] * down[tap][:, None] for tap in range(4))
    found = sum(np.asarray(rows)[:, column - column[0] + tap] * across[tap] for tap in range(4))
    return np.asarray(found, np.float32) / np.float32(_SPLINE_DEVIATION)


def _weights(at: Numbers, spacing_px: int) -> tuple[Numbers, Field]:
    """Return the lattice's cell of each coordinate and its four weights, (4, N)."""
    cell = at // spacing_px
    t = (at - cell * spacing_px) / spacing_px
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return cell, np.asarray(np.stack(weights) / 6, np.float32)


def fractal(seed: int, x: Numbers, y: Numbers, spacings_px: Sequence[int], fall: float = 0.5) -> Field:
    """Return a sum of smooth noises, each ``fall`` times as strong as the one before; unit variance."""
    total = np.zeros((len(y), len(x)), np.float32)
    for i, spacing in enumerate(spacings_px):
        total += np.float32(fall**i) * smooth(key(seed, i), x, y, spacing)
    return total / np.float32(np.sqrt(sum(fall ** (2 * i) for i in range(len(spacings_px)))))


def enlarge(field: Field, step_px: int, box: Box, margin: int) -> Field:
    """Return a field given at ``box.centers(step_px, margin)`` at every pixel of the box."""
    fine = cv2.resize(field, None, fx=step_px, fy=step_px, interpolation=cv2.INTER_CUBIC)
    first = margin * step_px
    return np.asarray(fine[first : first + box.height, first : first + box.width], np.float32)


def grain(seed: int, box: Box, step_px: int) -> Field:
    """Return noise of blobs of a few pixels: a lattice of ``step_px`` = 1, 2, 4, 8 or 16, enlarged."""
    # OpenCV rounds the last few columns otherwise: keep them out of the box
    margin = 0 if step_px == 1 else 32 // step_px
    x, y = box.centers(step_px, margin)
    values = lattice(seed, x // step_px, y // step_px)
    return values if step_px == 1 else enlarge(values, step_px, box, margin)


def points(seed: int, box: Box, spacing_px: tuple[int, int], reach_px: tuple[int, int]) -> Points:
    """Return the points of a jittered lattice that lie in a box or within a reach of it."""
    (wide, high), (across, down) = spacing_px, reach_px
    columns = np.arange((box.x - across) // wide, (box.x + box.width + across) // wide + 1)
    rows = np.arange((box.y - down) // high, (box.y + box.height + down) // high + 1)
    number = hashes(seed, columns, rows).ravel()
    row, column = (each.ravel() for each in np.meshgrid(rows, columns, indexing="ij"))
    shift_x, shift_y = ((uniform(scramble(number + np.uint32(i))) - 0.5) * _JITTER + 0.5 for i in (1, 2))
    x, y = (column + shift_x.astype(float)) * wide, (row + shift_y.astype(float)) * high
    return Points(column, row, np.round(x * 8) / 8, np.round(y * 8) / 8, number)
