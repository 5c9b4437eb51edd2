"""Stage 3b, refine: where exactly, and how sure?

Each block of the query is matched with the gallery's pixels around a verified place (``rsloc_db.matching``): first
coarsely, then finely around what the coarse matches agree on. The fitted transform says where the query lies, its
covariance how exactly, and the number of blocks that agree how surely.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rsloc_db.correlation import gradient_maps
from rsloc_db.frames import Frame
from rsloc_db.grids import ground_resolution_m
from rsloc_db.matching import (
    TOLERANCE_PX,
    Matches,
    Shift,
    Transform,
    agreeing,
    block_matches,
    evidence,
    fit_affine,
    fit_projective,
)
from rsloc_db.stages.query import Query
from rsloc_db.stages.reference import Box, Fit, Reference, References, footprint_box, resample, to_grid
from rsloc_db.stages.workers import in_threads
from rsloc_db.types import Floats, Pose

MAX_SIDE_PX = 1500
"""Queries larger than about this many grid pixels a side are refined at a coarser step."""
CHANCE = 0.1
"""Probability that a wrong match agrees with the fitted transform; measured shares at wrong places are below it."""


@dataclass(frozen=True, slots=True)
class Refined:
    """A place after refinement.

    Attributes:
        center: lon, lat that ``matches`` and ``transform`` are relative to.
        matches: blocks in grid pixels relative to that centre.
        transform: the shift that they agree on.
        evidence: -log10 of the number of false alarms.
    """

    center: tuple[float, float]
    reference: Reference
    frame: Frame
    matches: Matches
    transform: Transform
    evidence: float

    def to_lonlat(self, x_px: Floats, y_px: Floats) -> tuple[Floats, Floats]:
        """Return lon, lat in degrees of the query's pixels."""
        x, y = to_grid(self.reference, *self.frame.to_lonlat(x_px, y_px, self.center), self.center)
        x0, y0 = to_grid(self.reference, np.array(self.center[0]), np.array(self.center[1]), self.center)
        dx, dy = self.transform.shift(x - x0, y - y0)
        return self.reference.grid.to_lonlat(x + dx, y + dy, self.reference.level)

    @property
    def agrees(self) -> bool:
        """Whether more matches agree than chance explains at a glance."""
        return bool(self.transform.inlier.sum() > CHANCE * self.matches.tried)

    @property
    def _in_degrees(self) -> bool:
        return self.frame.scale.pixels == "degrees" and self.reference.grid.name == "google_earth"

    def reposed(self, query: Query) -> tuple[Query, tuple[float, float]]:
        """Return the query in the turn and zoom nearest to the fitted transform, and its centre."""
        half = np.array(self.frame.width_px / 2), np.array(self.frame.height_px / 2)
        lon, lat = self.to_lonlat(*half)
        resolution = np.array(ground_resolution_m(self.reference.grid, self.reference.level, float(lat)))
        # turns of a query whose pixels are degrees are turns in the plane of degrees
        size = (np.ones(2) if self._in_degrees else resolution) * (1, -1)
        # the fitted linear map, from grid pixels to the query's plane, east and north
        linear = (np.eye(2) + self.transform.coefficients[1:].T) * size[:, None] / size[None]
        along, across = (linear[0, 0] + linear[1, 1]) / 2, (linear[1, 0] - linear[0, 1]) / 2
        turn_deg = self.frame.pose.turn_deg - float(np.degrees(np.arctan2(across, along)))
        pose = Pose(turn_deg % 360, self.frame.pose.zoom * float(np.hypot(along, across)))
        return query.posed(pose), (float(lon), float(lat))


def refine_fits(
    query: Query, fits: Sequence[Fit], references: References, *, trials: int, free: bool = False
) -> list[tuple[Fit, Refined]]:
    """Refine verified places; those where too few blocks match are left out. See ``refine``."""

    def refined(fit: Fit) -> Refined | None:
        return refine(query.posed(fit.pose), fit.center, references[fit.candidate.key], trials=trials, free=free)

    found = zip(fits, in_threads(refined, fits), strict=True)
    return [(fit, place) for fit, place in found if place is not None]


def refine(
    query: Query, center: tuple[float, float], reference: Reference, *, trials: int, free: bool = False
) -> Refined | None:
    """Match a query block by block around a verified place and fit a transform: first coarsely, then finely.

    Where the coarse matches agree no more than chance would have it, they are the answer: finer ones help nobody.

    Args:
        query: its pixels, in the pose that was verified.
        center: lon, lat of its centre, right to about 30 grid pixels.
        reference: the gallery level.
        trials: number of places that were looked at, for the evidence.
        free: whether its pose is a guess, to be made better by what the coarse matches say.

    Returns:
        The refined place, or None where fewer than three blocks could be matched.
    """
    box = footprint_box(query.frame, center, reference, 1)
    area = (box.right - box.left) * (box.bottom - box.top)
    step = max(1, 2 ** int(np.ceil(np.log2(max(np.sqrt(area) / MAX_SIDE_PX, 1)))))
    block = 16 if area / step**2 >= 64 * 64**2 else 8
    found = _coarse(query, center, reference, step, block)
    if found is None:
        return None
    if free and found.agrees:
        reposed, moved = found.reposed(query)
        again = _coarse(reposed, moved, reference, step, block)
        if again is not None and again.transform.inlier.sum() >= found.transform.inlier.sum():
            query, center, found = reposed, moved, again
    if found.agrees:
        near = found.transform.shift
        fine = _pass(query, center, reference, step=step, cell=2, block=2 * block, radius=5, expected=near)
        if len(fine) >= 3:
            fitted = fit_projective(fine, fit_affine(fine, agreeing(fine), TOLERANCE_PX * step), TOLERANCE_PX * step)
            found = Refined(center, reference, query.frame, fine, fitted, 0.0)
    sure = evidence(found.matches.tried, int(found.transform.inlier.sum()), CHANCE, trials)
    return replace(found, evidence=sure)


def _coarse(query: Query, center: tuple[float, float], reference: Reference, step: int, block: int) -> Refined | None:
    """Match blocks by the edges of every other pixel, which are enough to begin with; most places end here."""
    matches = _pass(query, center, reference, step=2 * step, cell=2, block=block, radius=8)
    if len(matches) < 3:
        return None
    affine = fit_affine(matches, agreeing(matches), 2 * TOLERANCE_PX * step)
    return Refined(center, reference, query.frame, matches, affine, 0.0)


def _pass(
    query: Query,
    center: tuple[float, float],
    reference: Reference,
    *,
    step: int,
    cell: int,
    block: int,
    radius: int,
    expected: Shift | None = None,
) -> Matches:
    """Match blocks around a supposed centre; x, y of the result are grid pixels relative to it."""
    px = step * cell
    box = footprint_box(query.frame, center, reference, px)
    x0, y0 = (float(v) for v in to_grid(reference, np.array(center[0]), np.array(center[1]), center))
    left, top = box.left - x0, box.top - y0
    around = (lambda x, y: expected(x + left, y + top)) if expected else None
    margin = radius + (int(_largest_shift(box, expected, x0, y0) / px) + 1 if expected else 0)
    template = gradient_maps(*resample(query, center, reference, box, step), cell)
    search = gradient_maps(*reference.pixels(box.grown(margin * px), step, grey=True), cell)
    m = block_matches(template, search, px, block, radius, around, centred=True)
    return replace(m, x=m.x + left, y=m.y + top)


def _largest_shift(box: Box, expected: Shift, x0: float, y0: float) -> float:
    x, y = np.array([box.left, box.right] * 2) - x0, np.repeat([box.top, box.bottom], 2) - y0
    return float(np.abs(np.concatenate(expected(x, y))).max())


def match_rows(refined: Refined) -> Iterator[tuple[float, float, float, float, float, float, bool]]:
    """Yield the matches of a place as (x_px, y_px, lon, lat, score, residual_m, inlier)."""
    m, ref = refined.matches, refined.reference
    x0, y0 = to_grid(ref, np.array(refined.center[0]), np.array(refined.center[1]), refined.center)
    lon, lat = ref.grid.to_lonlat(m.x + x0, m.y + y0, ref.level)
    x_px, y_px = refined.frame.to_pixels(lon, lat, refined.center)
    there_lon, there_lat = ref.grid.to_lonlat(m.x + m.dx + x0, m.y + m.dy + y0, ref.level)
    size = float(np.mean(ground_resolution_m(ref.grid, ref.level, refined.center[1])))
    columns = x_px, y_px, there_lon, there_lat, m.score, refined.transform.residual_px * size
    yield from zip(*(c.tolist() for c in columns), refined.transform.inlier.tolist(), strict=True)
