"""Stage 3a, verify: is the query really there? Correlate all of it with the gallery around each candidate.

The query is resampled into the gallery's own grid pixels, as it would look from the supposed place (its latitude
decides the aspect), and both become oriented-gradient maps. First every candidate is compared with the stored maps of
16 px cells, which takes milliseconds; then the best few with the gallery's pixels, on cells of 8 px.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from math import hypot, remainder

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from rsloc_db.correlation import correlate, gradient_maps, peak, pooled
from rsloc_db.db.blocks import LayerKey
from rsloc_db.db.runs import CliqueRow
from rsloc_db.frames import Frame
from rsloc_db.grids import TILE_PX
from rsloc_db.stages.feature_poses import LOOKED_AT, feature_fits
from rsloc_db.stages.maps import CELL_PX, SURROUNDINGS_CELLS
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query
from rsloc_db.stages.reference import (
    Candidate,
    Fit,
    Reference,
    References,
    footprint_box,
    resample,
    shift_center,
    to_grid,
)
from rsloc_db.stages.template import MAX_CELLS as MAX_TEMPLATE_CELLS
from rsloc_db.stages.template import Template, Templates
from rsloc_db.stages.workers import in_threads
from rsloc_db.types import Pose

SEARCH_CELLS = 24
"""How far a clique's centre may be off, in cells of 16 px: a tile and a half."""
FREE_POOL, FREE_CELLS = 2, 24
"""Cells averaged into one, and most of these a side, where poses are guesses."""
SETTLE_CELLS = 8
"""How far a place may be off, in cells, while its pose is settled."""
SETTLE_MAX_CELLS = 96
"""Of a larger query the middle is looked at while poses are settled."""
SETTLE_TURNS_DEG = (5.0, 2.5, 1.25)
SETTLE_ZOOMS = (1.05, 1.025, 1.0125)
"""Steps by which poses are settled, one after the other."""
FINE_MARGIN_PX = 64
"""How far the stored maps may be off, in grid pixels."""
FINE_CELLS = 4
"""Averaged pixels a cell: with the usual two by two averaged, cells of 8 px."""
MAX_CELLS = 1200
"""A query is looked at with at most about this many fine cells a side; larger ones with coarser cells."""
CLEAR_CORRELATION = 0.25
"""A place with less correlation is not clearly found, though it may have no rival."""
SURE_CORRELATION, SURE_AFTER, SURE_SCORE = 0.35, 4, 0.2
"""Where one place stands out by as much among so many cliques, or a multiple of it, those that score less than this
share of the first are let be: a second place like the first would not."""
SMALL_CELLS, MIN_VERIFIED = 48, 3
"""Of queries with more cells a side fewer places are compared with pixels, but so many at least. By stored maps the
true place was the first for all 19 present queries of the small RSLoc-like gallery and all 25 of a drawn one; no other
place had half of its correlation where the query has 60 cells a side."""
RIVAL_CORRELATION = 0.5
"""A place with less than this share of the best correlation is no rival of it."""


def verify(query: Query, fits: Sequence[Fit], references: References, options: Options) -> list[Fit]:
    """Compare a query with the gallery's pixels at the best of some coarse fits.

    Returns:
        The fits that are worth refining, best correlation first.
    """
    inside = [fit for fit in fits if is_within(fit.center, options.within)]
    distinct = _distinct(inside, references)
    best = rivals(distinct[: _compared(query, distinct, references, options)])
    compared = in_threads(lambda fit: compare_pixels(query, fit, references[fit.candidate.key]), best)
    found = [exact for exact in compared if exact is not None]
    return rivals(sorted(found, key=lambda f: -f.correlation)[: options.refined])


def _compared(query: Query, ranked: Sequence[Fit], references: References, options: Options) -> int:
    """Return how many places are compared with pixels: of a large query fewer, which its maps tell apart better."""
    if not ranked or options.free:
        return options.verified
    best = ranked[0]
    box = footprint_box(query.frame, best.center, references[best.candidate.key], CELL_PX)
    cells = (box.right - box.left) * (box.bottom - box.top) / CELL_PX**2
    return min(options.verified, max(MIN_VERIFIED, round(options.verified * SMALL_CELLS**2 / cells)))


def rivals(ranked: Sequence[Fit]) -> list[Fit]:
    """Return the best fit and what comes near to it."""
    return [fit for fit in ranked if fit.correlation >= RIVAL_CORRELATION * ranked[0].correlation]


def is_within(center: tuple[float, float], within: str | None) -> bool:
    """Tell whether a place (lon, lat) lies in the polygon that the search is limited to (GeoJSON), if it is."""
    return within is None or bool(_area(within).covers(shapely.Point(center)))


@lru_cache(maxsize=8)
def _area(within: str) -> BaseGeometry:
    area = shapely.from_geojson(within)
    shapely.prepare(area)
    return area


def stands_out(fits: Sequence[Fit], least: float = CLEAR_CORRELATION) -> bool:
    """Tell whether one place is left alone, without a rival, and correlates as much."""
    return len(fits) == 1 and fits[0].correlation >= least


def compare_cliques(
    cliques: Sequence[CliqueRow], templates: Mapping[LayerKey, Templates], options: Options, *, if_sure: bool = False
) -> list[Fit]:
    """Compare a query's templates with the stored gradient maps around each clique's centre; see ``Fit``.

    A guessed pose is a few degrees or per cent off: there the middle of the query is compared, on coarser cells. With
    ``if_sure`` nothing is returned where no place is sure among the first cliques: better ones are still to come.
    """
    found: list[Fit] = []
    pool, max_cells = (FREE_POOL, FREE_POOL * FREE_CELLS) if options.free else (1, MAX_TEMPLATE_CELLS)
    references = {key: of_date.reference for key, of_date in templates.items()}

    def compared(job: tuple[CliqueRow, LayerKey]) -> Fit:
        clique, key = job
        template = templates[key].at(clique.lat_deg, clique.pose, max_cells)
        center = clique.lon_deg, clique.lat_deg
        score, moved = compare_maps(template, center, references[key], SEARCH_CELLS, pool)
        return Fit(Candidate(key, clique.id), moved, score, clique.pose)

    sure = False
    for first in range(0, len(cliques), SURE_AFTER):
        if first and not sure and not options.free:
            alone = _is_alone(found, references)
            sure = alone and cliques[first].score < SURE_SCORE * cliques[0].score
            if if_sure and not alone:
                return []
        jobs = [(c, key) for c in cliques[first : first + SURE_AFTER] for key in templates if _is_of(c, key)]
        if sure:
            # counts as looked at all the same
            found += [Fit(Candidate(key, c.id), (c.lon_deg, c.lat_deg), 0.0, c.pose) for c, key in jobs]
        else:
            found += [fit for fit in in_threads(compared, jobs) if fit.correlation > 0]
    return found if sure or not if_sure or _is_alone(found, references) else []


def _is_of(clique: CliqueRow, key: LayerKey) -> bool:
    return (key.gallery_id, key.level) == (clique.gallery_id, clique.level)


def _is_alone(fits: Sequence[Fit], references: References) -> bool:
    return stands_out(rivals(_distinct(fits, references)), SURE_CORRELATION)


def settle_poses(
    query: Query, fits: Sequence[Fit], templates: Mapping[LayerKey, Templates], options: Options
) -> list[Fit]:
    """Look at the best coarse fits in poses between those that were tried, and return them, best first.

    Where the pose is known all fits are returned as they are. Where local features are asked for, the poses that they
    tell at the best places are looked at as well.
    """
    if not options.free:
        return list(fits)
    ranked = sorted(fits, key=lambda f: -f.correlation)[: options.settled]
    references = {key: of_date.reference for key, of_date in templates.items()}
    told = [
        more
        for fit in _distinct(ranked, references)[:LOOKED_AT]
        for more in feature_fits(query, fit, references[fit.candidate.key], options)
    ]
    settled = in_threads(lambda fit: _settled(fit, templates[fit.candidate.key], options), (*ranked, *told))
    return sorted(settled, key=lambda f: -f.correlation)


def _settled(fit: Fit, templates: Templates, options: Options) -> Fit:
    """Climb to the pose of the highest correlation with stored maps, in steps that are halved."""
    # what it was found with came of other cells: only like is compared with like
    fit = _moved(fit, templates, (0.0, 1.0))
    for turn_deg, zoom in zip(SETTLE_TURNS_DEG, SETTLE_ZOOMS, strict=True):
        turns = (turn_deg, -turn_deg) if options.rotation == "free" else ()
        zooms = (zoom, 1 / zoom) if options.gsd_factor > 1 else ()
        for steps in ([(turn, 1.0) for turn in turns], [(0.0, ratio) for ratio in zooms]):
            fit = max([fit, *(_moved(fit, templates, step) for step in steps)], key=lambda f: f.correlation)
    return fit


def _moved(fit: Fit, templates: Templates, step: tuple[float, float]) -> Fit:
    """Return how a query fits near a place in a pose near by."""
    pose = Pose((fit.pose.turn_deg + step[0]) % 360, fit.pose.zoom * step[1])
    return compare_again(replace(fit, pose=pose), templates, SETTLE_MAX_CELLS)


def compare_again(fit: Fit, templates: Templates, max_cells: int = MAX_TEMPLATE_CELLS) -> Fit:
    """Return how a query fits by stored maps near a place that is known to a few cells, in the pose it has there.

    Of a larger query the middle is compared, ``max_cells`` a side.
    """
    template = templates.at(fit.center[1], fit.pose, max_cells)
    score, center = compare_maps(template, fit.center, templates.reference, SETTLE_CELLS)
    return replace(fit, center=center, correlation=score)


def compare_maps(
    template: Template, center: tuple[float, float], reference: Reference, margin: int, pool: int = 1
) -> tuple[float, tuple[float, float]]:
    """Return the best correlation with stored maps around a supposed centre (lon, lat), and where that is.

    ``margin`` says how far to look, in cells, ``pool`` how many of them a side to average into one. Where an older
    date has nothing of its own the score is 0.
    """
    height, width = template.maps.cover.shape
    x, y = to_grid(reference, np.array(center[0]), np.array(center[1]), center)
    left = round(float(x) / CELL_PX - template.column) - margin
    top = round(float(y) / CELL_PX - template.row) - margin
    box = left, top, width + 2 * margin, height + 2 * margin
    if not reference.maps.differ(*box):
        return 0.0, center
    search = reference.maps.cells(*box)
    row, column, score = peak(correlate(pooled(template.maps, pool), pooled(search, pool)))
    return score, reference.cell_center(left + pool * column + template.column, top + pool * row + template.row)


def _distinct(fits: Sequence[Fit], references: References) -> list[Fit]:
    """Return fits by correlation, without those that lead to a quarter of a tile from a better one."""
    kept: list[Fit] = []
    taken: dict[LayerKey, list[tuple[float, float]]] = defaultdict(list)
    for fit in sorted(fits, key=lambda f: -f.correlation):
        reference, others = references[fit.candidate.key], taken[fit.candidate.key.newest]
        lon, lat = np.array(fit.center)
        x, y = (float(v) for v in reference.grid.to_pixels(lon, lat, reference.level))
        around = TILE_PX * 2.0**reference.level
        if all(hypot(remainder(x - a, around), y - b) >= TILE_PX / 4 for a, b in others):
            others.append((x, y))
            kept.append(fit)
    return kept


def compare_pixels(query: Query, fit: Fit, reference: Reference) -> Fit | None:
    """Correlate a query with the gallery's pixels around a coarse fit.

    Returns:
        The best fit within the margin, or None where the gallery has no pixels or the query no structure.
    """
    query = query.posed(fit.pose)
    step = _step(query.frame, fit.center, reference)
    px = step * FINE_CELLS
    box = footprint_box(query.frame, fit.center, reference, px)
    margin = -(-FINE_MARGIN_PX // px) * px
    pixels, mask = reference.pixels(box.grown(margin), step, grey=True)
    if not mask.any():
        return None
    near = partial(gradient_maps, cell_px=FINE_CELLS, surroundings_cells=2 * SURROUNDINGS_CELLS)
    template = near(*resample(query, fit.center, reference, box, step))
    row, column, score = peak(correlate(template, near(pixels, mask)))
    if score <= 0:
        return None
    moved = shift_center(fit.center, reference, column * px - margin, row * px - margin)
    return Fit(fit.candidate, moved, score, fit.pose)


def _step(frame: Frame, center: tuple[float, float], reference: Reference) -> int:
    """Return how many pixels are averaged into one before edges are looked for: two, or more for large queries."""
    box = footprint_box(frame, center, reference, 1)
    size = max(box.right - box.left, box.bottom - box.top)
    return 1 << int(np.ceil(np.log2(max(size / (MAX_CELLS * FINE_CELLS), 2))))
