"""Stage 1 without an index: correlate the whole query with the gradient maps of the whole gallery.

Nothing is fitted and no tile has to be found by a patch, so this finds what retrieval misses, at a cost that grows
with the gallery. The template depends on latitude, so the gallery goes by in bands of it (METHOD: exhaustive search).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsloc_db.correlation import correlate, pooled, spectra
from rsloc_db.stages.maps import BLOCK_CELLS
from rsloc_db.stages.options import Options
from rsloc_db.stages.poses import poses
from rsloc_db.stages.reference import Candidate, Fit, Reference, References
from rsloc_db.stages.template import BAND, MAX_CELLS, Template, Templates
from rsloc_db.stages.verify import is_within
from rsloc_db.types import AS_STATED, Pose

CHUNK_BLOCKS = 8
"""Blocks a side of what is correlated at once: 1,024 cells."""
PEAKS = 5
"""Places kept of each chunk."""
AUTO_BLOCKS = 1500
"""Automatic retrieval searches at most this many blocks of 8 x 8 tiles exhaustively: 96,000 tiles, a few seconds."""
TURN_STEP_DEG = 10.0
"""Turns of the whole query lie closer than those of its patches: its rim moves farther."""
FREE_SPEED = 8
"""On cells twice as wide a pose takes about this much less than the stated one on fine cells."""
APART_CELLS = 16
"""Two places are at least this far apart: a tile."""


def exhaustive(templates: Mapping[tuple[int, int], Templates], options: Options) -> list[Fit]:
    """Return the places where a query correlates best with the gradient maps of some gallery levels, best first.

    Args:
        templates: (gallery_id, level) -> the query's templates for that level.
        options: how many places to return, which poses to try, and the polygon that the search is limited to.
    """
    how = (
        Coarse(poses(options, TURN_STEP_DEG), 2, 64, 0.04) if options.free else Coarse([AS_STATED], 1, MAX_CELLS, BAND)
    )
    found = [
        Fit(Candidate(gallery_id, level, None), center, score, pose)
        for (gallery_id, level), of_level in templates.items()
        for score, center, pose in _peaks_of(of_level, how, options.within)
    ]
    return sorted(found, key=lambda f: -f.correlation)[: options.cliques]


@dataclass(frozen=True, slots=True)
class Coarse:
    """How a query is laid over the gallery's maps.

    Attributes:
        poses: turns and zooms to try.
        pool: cells a side that are averaged into one: many poses are tried on coarser cells.
        max_cells: of a larger query the middle is taken, so many cells a side (before they are averaged).
        band: see ``Templates.band``.
    """

    poses: Sequence[Pose]
    pool: int
    max_cells: int
    band: float


def is_affordable(references: References, options: Options) -> bool:
    """Tell whether automatic retrieval may search these gallery levels exhaustively: not when they are large."""
    if options.retrieval != "auto":
        return False
    tried = len(poses(options, TURN_STEP_DEG)) if options.free else 1
    limit = AUTO_BLOCKS if tried == 1 else AUTO_BLOCKS * FREE_SPEED // tried
    return sum(len(reference.maps.blocks(options.within)) for reference in references.values()) <= limit


def _peaks_of(
    templates: Templates, how: Coarse, within: str | None
) -> Iterator[tuple[float, tuple[float, float], Pose]]:
    reference = templates.reference
    for chunk in _chunks(templates, reference.maps.blocks(within), how.band):
        left, top = (int(v) for v in chunk.min(axis=0) * BLOCK_CELLS)
        right, bottom = (int(v) for v in (chunk.max(axis=0) + 1) * BLOCK_CELLS)
        lat_deg = reference.cell_center((left + right) / 2, (top + bottom) / 2)[1]
        posed = [(pose, templates.at(lat_deg, pose, how.max_cells, how.band)) for pose in how.poses]
        for score, column, row, pose in _chunk_peaks(reference, posed, how.pool, (left, top, right, bottom)):
            center = reference.cell_center(column, row)
            if is_within(center, within):
                yield score, center, pose


def _chunks(templates: Templates, blocks: Sequence[tuple[int, int]], band: float) -> Iterator[NDArray[np.int_]]:
    """Group blocks, (column, row), that one template serves, at most ``CHUNK_BLOCKS`` a side: (N, 2) arrays."""
    groups: dict[tuple[int, int, float], list[tuple[int, int]]] = defaultdict(list)
    for column, row in blocks:
        lat_deg = templates.reference.cell_center(0, (row + 0.5) * BLOCK_CELLS)[1]
        groups[column // CHUNK_BLOCKS, row // CHUNK_BLOCKS, templates.band(lat_deg, band)].append((column, row))
    for key in sorted(groups):
        yield np.array(groups[key])


def _chunk_peaks(
    reference: Reference, posed: Sequence[tuple[Pose, Template]], pool: int, box: tuple[int, int, int, int]
) -> list[tuple[float, float, float, Pose]]:
    """Return (score, column, row, pose) of the best places whose centre lies in a box of cells, best first."""
    left, top, right, bottom = box
    before = [int(max(v)) + 1 for v in zip(*((t.column, t.row) for _, t in posed), strict=True)]
    sizes = [t.maps.cover.shape for _, t in posed]
    height, width = (max(n) for n in zip(*sizes, strict=True))
    x0, y0 = left - before[0], top - before[1]
    search = reference.maps.cells(x0, y0, right - left + width + pool, bottom - top + height + pool)
    transformed = spectra(pooled(search, pool) if pool > 1 else search)
    found = []
    for pose, template in posed:
        scores = correlate(pooled(template.maps, pool) if pool > 1 else template.maps, transformed)
        # only centres inside the box: what lies beyond is another chunk's
        first_column, first_row = (
            int(np.ceil(n - v)) // pool for n, v in zip(before, (template.column, template.row), strict=True)
        )
        inside = scores[
            first_row : first_row + (bottom - top) // pool, first_column : first_column + (right - left) // pool
        ]
        for score, r, c in _best(inside, APART_CELLS // pool):
            column, row = x0 + (first_column + c) * pool + template.column, y0 + (first_row + r) * pool + template.row
            found.append((score, column, row, pose))
    return _apart(found)


def _best(scores: NDArray[np.float32], apart: int) -> Iterator[tuple[float, int, int]]:
    """Yield score, row and column of the highest peaks that lie apart."""
    for _ in range(PEAKS):
        r, c = (int(v) for v in np.unravel_index(int(scores.argmax()), scores.shape))
        if scores[r, c] <= 0:
            return
        yield float(scores[r, c]), r, c
        scores[max(r - apart, 0) : r + apart + 1, max(c - apart, 0) : c + apart + 1] = 0


def _apart(found: list[tuple[float, float, float, Pose]]) -> list[tuple[float, float, float, Pose]]:
    """Return the best places, each in its best pose."""
    kept: list[tuple[float, float, float, Pose]] = []
    for place in sorted(found, key=lambda f: -f[0]):
        if all(max(abs(place[1] - k[1]), abs(place[2] - k[2])) > APART_CELLS for k in kept):
            kept.append(place)
        if len(kept) == PEAKS:
            break
    return kept
