"""Stage 1 without an index: correlate the whole query with the gradient maps of the whole gallery.

Nothing is fitted and no tile has to be found by a patch, so this finds what retrieval misses, at a cost that grows
with the gallery. The template depends on latitude, so the gallery goes by in bands of it (METHOD: exhaustive search).
Large galleries are searched in their overviews, the coarser one where the query is large; the best places are compared
with the maps themselves. Transforms of the gallery's maps are kept for the queries that follow.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rsloc_db.correlation import Spectra, correlate, pooled
from rsloc_db.db.blocks import LayerKey
from rsloc_db.stages.maps import BLOCK_CELLS, coarse, pools
from rsloc_db.stages.options import Options
from rsloc_db.stages.poses import poses
from rsloc_db.stages.reference import Candidate, Fit, Reference, References
from rsloc_db.stages.template import BAND, MAX_CELLS, Template, Templates
from rsloc_db.stages.verify import FREE_CELLS, compare_again, is_within, rivals
from rsloc_db.stages.workers import in_threads
from rsloc_db.types import AS_STATED, Pose

Way = Literal["knn", "exhaustive"]

CHUNK_CELLS = 1024
"""Cells a side of what is correlated at once, after they are averaged."""
PEAKS = 5
"""Places kept of each chunk."""
FULL_BLOCKS = 1500
"""More blocks of 8 x 8 tiles, 96,000 tiles, are searched in their overviews."""
COMPARED = 120
"""Places found in overviews that are compared with the maps themselves."""
AUTO_BLOCKS = 16_000
"""Automatic retrieval searches at most this many blocks exhaustively: a million tiles."""
OVERVIEW = 2
"""Cells a side averaged into one in search of large galleries."""
COARSER = 4
"""The same in search of a query that is large enough: a quarter of the work."""
MIN_COARSER_CELLS = 16
"""Cells a side that must then remain of it."""
MARGIN_CELLS = 32
"""Maps are read with a margin of this, doubled until the query's template fits: transforms serve many queries."""
MIN_FREE_CELLS = 14
"""Cells are averaged in search of a pose as long as this many a side remain of the query."""
WIDE_BAND = BAND * COARSER
"""Bands of latitude in search of a pose, or in the coarsest cells."""
FREE_BLOCKS = 65_000
"""Automatic retrieval searches at most so many blocks times poses where these are tried: a minute or two."""
KEPT_BYTES = 300_000_000
"""Memory for transformed templates."""
SHAPE_STEP = 32
"""Maps are padded to multiples of this many cells."""
APART_CELLS = 16
"""Two places are at least this far apart: a tile."""


def exhaustive(templates: Mapping[LayerKey, Templates], options: Options) -> list[Fit]:
    """Return the places where a query correlates best with the gradient maps of some gallery levels, best first.

    Args:
        templates: the query's templates for each gallery level.
        options: how many places to return, which poses to try, and the polygon that the search is limited to.
    """
    count = sum(len(of_date.reference.maps.blocks(options.within)) for of_date in templates.values())
    levels: dict[LayerKey, dict[LayerKey, Templates]] = defaultdict(dict)
    for key, of_date in templates.items():
        levels[key.newest][key] = of_date
    found = [fit for of_level in levels.values() for fit in _fits_of(of_level, options, count)]
    return sorted(found, key=lambda f: -f.correlation)[: options.candidates]


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


def _coarse(templates: Templates, blocks: Sequence[tuple[int, int]], options: Options, count: int) -> Coarse:
    """Choose cells as wide as the query bears where poses are many, and overviews where the gallery is large."""
    if not options.free and count <= FULL_BLOCKS:
        return Coarse((AS_STATED,), 1, MAX_CELLS, BAND)
    # where the query is smallest on the maps
    lat_deg = min(_lats_deg(templates.reference, blocks).values(), key=abs)
    side = min(templates.at(lat_deg, width=WIDE_BAND).maps.cover.shape)
    if not options.free:
        pool = COARSER if side >= COARSER * MIN_COARSER_CELLS else OVERVIEW
        return Coarse((AS_STATED,), pool, MAX_CELLS, BAND * pool)
    tried = tuple(poses(options))
    side *= min(pose.zoom for pose in tried)
    pool = max(n for n in pools(templates.reference.level) if n == 1 or side >= n * MIN_FREE_CELLS)
    return Coarse(tried, pool, FREE_CELLS * pool, WIDE_BAND)


def ways_to_search(references: References, options: Options) -> list[Way]:
    """Return the ways to search some gallery levels, in order; a later one is for what an earlier one does not find.

    By itself exhaustive search follows where the gallery is not too large; where poses are guesses it goes first, for
    patches in all of them take as long and find less.
    """
    if options.retrieval != "auto":
        return [options.retrieval]
    limit = FREE_BLOCKS // len(poses(options)) if options.free else AUTO_BLOCKS
    if sum(len(reference.maps.blocks(options.within)) for reference in references.values()) > limit:
        return ["knn"]
    return ["exhaustive", "knn"] if options.free else ["knn", "exhaustive"]


def _fits_of(dates: Mapping[LayerKey, Templates], options: Options, count: int) -> list[Fit]:
    """Return the best places of a gallery level at all its dates, not sorted; ``count`` blocks are searched in all."""
    newest = next(iter(dates.values()))
    blocks = {key: of_date.reference.maps.blocks(options.within) for key, of_date in dates.items()}
    every = sorted({block for of_date in blocks.values() for block in of_date})
    if not every:
        return []
    how = _coarse(newest, every, options, count)
    found = [
        fit
        for band, chunks in _chunks(newest, blocks, how).items()
        for of_chunk in in_threads(Posed(dates, how, band).peaks, chunks)
        for fit in of_chunk
        if is_within(fit.center, options.within)
    ]
    if options.free or how.pool == 1:
        return found
    best = sorted(found, key=lambda f: -f.correlation)[:COMPARED]
    near = len(rivals(best))
    # the others count as looked at, and are no rivals of what is found
    return [
        *in_threads(lambda fit: compare_again(fit, dates[fit.candidate.key]), best[:near]),
        *(replace(fit, correlation=0.0) for fit in best[near:]),
    ]


def _chunks(
    templates: Templates, blocks: Mapping[LayerKey, Sequence[tuple[int, int]]], how: Coarse
) -> dict[float, list[tuple[LayerKey, NDArray[np.int_]]]]:
    """Group blocks, (column, row), at most ``CHUNK_CELLS`` a side: (N, 2) arrays for each band of latitudes.

    The dates of a place follow one another: where an older one has no tiles the newer one's are read.
    """
    groups: dict[tuple[float, int, int, LayerKey], list[tuple[int, int]]] = defaultdict(list)
    side = max(CHUNK_CELLS * min(how.pool, OVERVIEW) // BLOCK_CELLS, 1)
    for key, of_date in blocks.items():
        bands = {row: templates.band(lat, how.band) for row, lat in _lats_deg(templates.reference, of_date).items()}
        for column, row in of_date:
            groups[bands[row], column // side, row // side, key].append((column, row))
    chunks = defaultdict(list)
    for place in sorted(groups, key=lambda g: (*g[:3], g[3].layer)):
        chunks[place[0]].append((place[3], np.array(groups[place])))
    return chunks


def _lats_deg(reference: Reference, blocks: Sequence[tuple[int, int]]) -> dict[int, float]:
    """Return the latitude of the middle of each row of blocks; of blocks there are many more than rows."""
    rows = dict.fromkeys(row for _, row in blocks)
    return {row: reference.cell_center(0, (row + 0.5) * BLOCK_CELLS)[1] for row in rows}


class Posed:
    """A query's templates for a band of latitudes, in all poses; several threads may look for their places at once.

    Args:
        dates: the query's templates for each date of a gallery level.
        how: poses and cells.
        lat_deg: the latitude that stands for the band.
    """

    def __init__(self, dates: Mapping[LayerKey, Templates], how: Coarse, lat_deg: float) -> None:
        self._references, self._pool = {key: of_date.reference for key, of_date in dates.items()}, how.pool
        newest = next(iter(dates.values()))
        self._templates = [(pose, newest.at(lat_deg, pose, how.max_cells, how.band)) for pose in how.poses]
        reach = max(_reach(template) for _, template in self._templates)
        self._margin = how.pool * _margin(reach / how.pool + 1)
        self._kept: dict[tuple[Pose, tuple[int, int]], Spectra] = {}

    def _spectra(self, pose: Pose, template: Template, shape: tuple[int, int]) -> Spectra:
        """Return a template's transform, averaged and padded to a shape."""
        if (pose, shape) in self._kept:
            return self._kept[pose, shape]
        made = Spectra(coarse(pooled(template.maps, self._pool), self._pool), shape)
        if len(self._kept) * made.maps.nbytes < KEPT_BYTES:
            self._kept[pose, shape] = made
        return made

    def peaks(self, chunk: tuple[LayerKey, NDArray[np.int_]]) -> list[Fit]:
        """Return the best places whose centre lies in a box of blocks, (N, 2), of some date."""
        key, blocks = chunk
        reference = self._references[key]
        left, top = (int(v) for v in blocks.min(axis=0) * BLOCK_CELLS)
        right, bottom = (int(v) for v in (blocks.max(axis=0) + 1) * BLOCK_CELLS)
        pool, margin = self._pool, self._margin
        x0, y0, width, height = left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin
        # few shapes, so that transformed templates serve several chunks
        shape = tuple(fft.next_fast_len(-(-n // pool // SHAPE_STEP) * SHAPE_STEP, real=True) for n in (height, width))
        search = reference.maps.spectra(x0, y0, width, height, pool, shape)
        found = []
        for pose, template in self._templates:
            scores = correlate(self._spectra(pose, template, search.shape), search)
            # only centres inside the box: what lies beyond is another chunk's
            c0, r0 = int(margin - template.column) // pool, int(margin - template.row) // pool
            inside = scores[r0 : r0 + (bottom - top) // pool + 1, c0 : c0 + (right - left) // pool + 1]
            for score, r, c in _best(inside, APART_CELLS // pool):
                found.append((score, x0 + (c0 + c) * pool + template.column, y0 + (r0 + r) * pool + template.row, pose))
        return [
            Fit(Candidate(key, None), reference.cell_center(column, row), score, pose)
            for score, column, row, pose in _apart(found)
        ]


def _reach(template: Template) -> float:
    """Return how many cells a template reaches from the query's centre."""
    height, width = template.maps.cover.shape
    return float(max(template.column, template.row, width - template.column, height - template.row))


def _margin(cells: float) -> int:
    """Return the least of few margins that is no less than so many averaged cells."""
    return MARGIN_CELLS << max(0, math.ceil(math.log2(cells / MARGIN_CELLS)))


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
