"""Stage 3b, refine: where exactly, and how sure? Match block by block and fit a transform to the blocks that agree.

Each block of the query finds its own shift against the gallery by the same correlation as in verification, on finer
maps. Shifts that agree pairwise, but for a small deformation, form a clique of matches; they fix an affine transform by
robust least squares, whose covariance gives the error ellipse. Matches that agree by chance are rare in a known way
(Desolneux, Moisan and Morel 2000, "Meaningful alignments"): the logarithm of the expected number of false alarms is
the evidence for the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from rsloc_db.correlation import GradientMaps, gradient_maps
from rsloc_db.frames import Frame
from rsloc_db.grids import ground_resolution_m
from rsloc_db.stages.query import Query
from rsloc_db.stages.reference import Box, Fit, Reference, footprint_box, resample, to_grid
from rsloc_db.types import Floats

MAX_DEFORMATION = 0.04
"""Two blocks agree when their shifts differ by at most this share of their distance (plus ``TOLERANCE_PX``)."""
TOLERANCE_PX = 2.5
"""And this many grid pixels: what two good block matches scatter."""
MAX_SIDE_PX = 3000
"""Queries larger than about this many grid pixels a side are refined at a coarser step."""
MIN_BLOCK = 0.6
"""Least share of a block that must be imagery."""
CHANCE = 0.1
"""Probability that a wrong match agrees with the fitted transform; measured shares at wrong places are below it."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Blocks of a query and where the gallery has them, in grid pixels relative to the supposed centre.

    Attributes:
        x, y: (N,) block centres in the query as resampled at the supposed centre.
        dx, dy: (N,) how far the block lies from there in the gallery.
        score: (N,) peak of the block's correlation.
        tried: how many blocks could have matched: those with imagery on both sides.
    """

    x: Floats
    y: Floats
    dx: Floats
    dy: Floats
    score: Floats
    tried: int

    def __len__(self) -> int:
        return len(self.x)


def block_matches(
    template: GradientMaps,
    search: GradientMaps,
    cell_px: int,
    block: int,
    radius: int,
    expected: Callable[[Floats, Floats], tuple[Floats, Floats]] | None = None,
) -> Matches:
    """Find each block of a template in a map that is larger by the same margin on each side.

    Args:
        template: (C, h, w) maps of the query.
        search: (C, h + 2 m, w + 2 m) maps of the gallery, m >= radius + the largest expected shift.
        cell_px: grid pixels a cell.
        block: side of a block in cells; blocks don't overlap.
        radius: largest shift, from the expected one, in cells.
        expected: x, y in grid pixels from the template's corner -> the shift to look around, in grid pixels.

    Returns:
        Matches with x, y from the template's upper left corner; blocks with little imagery or structure are left out.
    """
    x, y = _block_corners(template.cover.shape, block)
    near = [np.zeros_like(x), np.zeros_like(y)]
    if expected:
        shift = expected(*(np.asarray((v + block / 2) * cell_px, float) for v in (x, y)))
        near = [np.rint(v / cell_px).astype(int) for v in shift]
    margin = (search.cover.shape[0] - template.cover.shape[0]) // 2
    t = _blocks(template, x, y, block)
    s = _blocks(search, x + margin - radius + near[0], y + margin - radius + near[1], block + 2 * radius)
    r, c, score = _peaks(_correlate_blocks(*t, *s, 2 * radius + 1))
    possible = (t[1].mean(axis=(1, 2)) > MIN_BLOCK) & (s[1].mean(axis=(1, 2)) > MIN_BLOCK)
    good = possible & (score > 0)
    columns = x + block / 2, y + block / 2, c - radius + near[0], r - radius + near[1]
    x_px, y_px, dx, dy = [np.asarray(v[good] * cell_px, float) for v in columns]
    return Matches(x_px, y_px, dx, dy, score[good].astype(float), int(possible.sum()))


def _block_corners(shape: tuple[int, ...], block: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    rows, cols = (np.arange(n // block) * block + (n % block) // 2 for n in shape)
    y, x = np.meshgrid(rows, cols, indexing="ij")
    return x.ravel(), y.ravel()


def _peaks(scores: NDArray[np.float32]) -> tuple[Floats, Floats, NDArray[np.float32]]:
    """Return row and column, to a fraction by a parabola, and height of each peak; a peak on the rim is none: 0."""
    n, last = np.arange(len(scores)), scores.shape[1] - 1
    r, c = np.unravel_index(scores.reshape(len(scores), -1).argmax(axis=1), scores.shape[1:])
    top = scores[n, r, c]
    inner = (r > 0) & (r < last) & (c > 0) & (c < last)
    low_r, high_r, low_c, high_c = (
        np.maximum(r - 1, 0),
        np.minimum(r + 1, last),
        np.maximum(c - 1, 0),
        np.minimum(c + 1, last),
    )
    row = r + _vertices(scores[n, low_r, c], top, scores[n, high_r, c])
    column = c + _vertices(scores[n, r, low_c], top, scores[n, r, high_c])
    return row, column, np.where(inner, top, 0)


def _blocks(
    maps: GradientMaps, x: NDArray[np.int_], y: NDArray[np.int_], size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x = np.clip(x, 0, maps.cover.shape[1] - size)
    y = np.clip(y, 0, maps.cover.shape[0] - size)
    stack = np.stack([maps.maps[:, b : b + size, a : a + size] for a, b in zip(x, y, strict=True)])
    cover = np.stack([maps.cover[b : b + size, a : a + size] for a, b in zip(x, y, strict=True)])
    return stack, cover


def _correlate_blocks(
    t: NDArray[np.float32], t_cover: NDArray[np.float32], s: NDArray[np.float32], s_cover: NDArray[np.float32], out: int
) -> NDArray[np.float32]:
    """Normalised correlation of many blocks at once: (N, C, b, b) in (N, C, B, B) -> (N, out, out)."""
    shape = [fft.next_fast_len(s.shape[-1], real=True)] * 2

    def corr(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        product = np.conj(fft.rfft2(a, shape)) * fft.rfft2(b, shape)
        total = product.sum(axis=1) if product.ndim == 4 else product
        return np.asarray(fft.irfft2(total, shape)[:, :out, :out], np.float32)

    norm = corr(t_cover, (s**2).sum(axis=1)) * corr((t**2).sum(axis=1), s_cover)
    full = corr(t_cover, s_cover) >= MIN_BLOCK * t.shape[-1] ** 2
    scores = np.where(full & (norm > 1e-6), corr(t, s) / np.sqrt(np.maximum(norm, 1e-6)), 0)
    return np.asarray(scores, np.float32)


def _vertices(left: NDArray[np.float32], mid: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    bend = (left - 2 * mid + right).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bend < 0, np.clip((left - right) / (2 * bend), -0.5, 0.5), 0.0)


def agreeing(matches: Matches) -> NDArray[np.bool_]:
    """Return which matches form the largest clique of pairwise agreement, found greedily.

    Two matches agree when their shifts differ by no more than a small deformation of the ground explains. Greedy: begin
    with the match that agrees with most others, then keep only what agrees with it, and so on.
    """
    p = np.column_stack([matches.x, matches.y])
    d = np.column_stack([matches.dx, matches.dy])
    apart = np.linalg.norm(p[:, None] - p[None], axis=2)
    agree = np.linalg.norm(d[:, None] - d[None], axis=2) <= TOLERANCE_PX + MAX_DEFORMATION * apart
    votes = agree.sum(axis=1)
    chosen = np.zeros(len(p), bool)
    candidates = np.ones(len(p), bool)
    while candidates.any():
        best = int(np.where(candidates, votes, -1).argmax())
        chosen[best] = True
        leaving = candidates & ~agree[best]
        leaving[best] = True
        votes -= agree[:, leaving].sum(axis=1)
        candidates &= ~leaving
    return chosen


@dataclass(frozen=True, slots=True)
class Affine:
    """A fitted transform of grid pixels about the supposed centre: shift = coefficients . (1, x, y).

    Attributes:
        coefficients: (3, 2), the shift (dx, dy) as a linear function of (1, x, y).
        covariance: (2, 2) of the shift at the centre, in squared grid pixels.
        inlier: (N,) bool, which matches it explains.
        residual_px: (N,) distance of each match from it.
    """

    coefficients: Floats
    covariance: Floats
    inlier: NDArray[np.bool_]
    residual_px: Floats

    def shift(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return (dx, dy) at points."""
        dx, dy = (self.coefficients[0, k] + self.coefficients[1, k] * x + self.coefficients[2, k] * y for k in (0, 1))
        return dx, dy


def fit_affine(matches: Matches, start: NDArray[np.bool_], tolerance_px: float = TOLERANCE_PX) -> Affine:
    """Fit an affine shift to matches by iteratively reweighted least squares (Tukey's biweight).

    Few matches carry few parameters: a shift alone below 6, else a full affine, drawn softly towards no deformation.
    """
    design = np.column_stack([np.ones(len(matches)), matches.x, matches.y])
    target = np.column_stack([matches.dx, matches.dy])
    size = max(float(np.hypot(np.ptp(matches.x), np.ptp(matches.y))), 1.0)
    # a deformation of 2 % over the image is as surprising as one standard deviation; with few matches none is fitted
    prior = np.array([0.0, 1.0, 1.0]) / 0.02**2 if start.sum() >= 6 else np.array([0.0, 1e12, 1e12])
    weight = start.astype(float)
    for _ in range(10):
        normal = design.T @ (design * weight[:, None]) + np.diag(prior + 1e-9)
        coefficients = np.linalg.solve(normal, design.T @ (target * weight[:, None]))
        residual = np.linalg.norm(target - design @ coefficients, axis=1)
        spread = max(1.4826 * float(np.median(residual[weight > 0])) if (weight > 0).any() else 1.0, 0.3)
        u = residual / min(4.7 * spread, 2 * tolerance_px)
        weight = np.where(u < 1, (1 - u**2) ** 2, 0.0)
        if not weight.any():
            weight = start.astype(float)
    inlier = residual <= tolerance_px
    used = max(float(weight.sum()), 1.0)
    variance = float((weight * residual**2).sum()) / 2 / max(used - (3 if size > 1 and start.sum() >= 6 else 1), 1.0)
    inverse = np.linalg.inv(normal)
    return Affine(coefficients, np.eye(2) * max(variance, 0.01) * inverse[0, 0], inlier, residual)


def evidence(matches: int, inliers: int, chance: float, trials: float) -> float:
    """Return -log10 of the number of false alarms: how often chance alone would give as many agreeing matches.

    Args:
        matches: blocks that could have matched.
        inliers: of these, blocks that did and agree with the transform.
        chance: probability that a wrong match agrees by chance.
        trials: number of transforms that could have been found (candidates x positions).
    """
    if inliers == 0:
        return -float(np.log10(trials))
    # P(X >= k) of a binomial is the regularised incomplete beta function
    tail = float(special.betainc(inliers, matches - inliers + 1, chance))
    # beyond 1e-300 the tail underflows; more certainty than that means nothing
    return float(-np.log10(max(tail, 1e-300)) - np.log10(trials))


@dataclass(frozen=True, slots=True)
class Refined:
    """A place after refinement.

    Attributes:
        center: lon, lat that ``matches`` and ``affine`` are relative to.
        matches: blocks in grid pixels relative to that centre.
        affine: the shift that they agree on.
        evidence: -log10 of the number of false alarms.
    """

    center: tuple[float, float]
    reference: Reference
    frame: Frame
    matches: Matches
    affine: Affine
    evidence: float

    def to_lonlat(self, x_px: Floats, y_px: Floats) -> tuple[Floats, Floats]:
        """Return lon, lat in degrees of the query's pixels."""
        x, y = to_grid(self.reference, *self.frame.to_lonlat(x_px, y_px, self.center), self.center)
        x0, y0 = to_grid(self.reference, np.array(self.center[0]), np.array(self.center[1]), self.center)
        dx, dy = self.affine.shift(x - x0, y - y0)
        return self.reference.grid.to_lonlat(x + dx, y + dy, self.reference.level)


def refine_fits(
    query: Query, fits: Sequence[Fit], references: Mapping[tuple[int, int], Reference], *, trials: int
) -> list[tuple[Fit, Refined]]:
    """Refine verified places; those where too few blocks match are left out. See ``refine``."""
    found = []
    for fit in fits:
        reference = references[fit.candidate.gallery_id, fit.candidate.level]
        refined = refine(query, fit.center, reference, trials=trials)
        if refined is not None:
            found.append((fit, refined))
    return found


def refine(query: Query, center: tuple[float, float], reference: Reference, *, trials: int) -> Refined | None:
    """Match a query block by block around a verified place and fit a transform: first coarsely, then finely.

    Where the coarse matches agree no more than chance would have it, they are the answer: finer ones help nobody.

    Args:
        query: its pixels.
        center: lon, lat of its centre, right to about 30 grid pixels.
        reference: the gallery level.
        trials: number of places that were looked at, for the evidence.

    Returns:
        The refined place, or None where fewer than three blocks could be matched.
    """
    box = footprint_box(query.frame, center, reference, 1)
    area = (box.right - box.left) * (box.bottom - box.top)
    step = max(1, 2 ** int(np.ceil(np.log2(max(np.sqrt(area) / MAX_SIDE_PX, 1)))))
    block = 16 if area / step**2 >= 64 * 64**2 else 8
    matches = _pass(query, center, reference, step=step, cell=4, block=block, radius=8)
    if len(matches) < 3:
        return None
    affine = fit_affine(matches, agreeing(matches), 2 * TOLERANCE_PX * step)
    if affine.inlier.sum() > CHANCE * matches.tried:
        fine = _pass(query, center, reference, step=step, cell=2, block=2 * block, radius=5, expected=affine.shift)
        if len(fine) >= 3:
            matches, affine = fine, fit_affine(fine, agreeing(fine), TOLERANCE_PX * step)
    sure = evidence(matches.tried, int(affine.inlier.sum()), CHANCE, trials)
    return Refined(center, reference, query.frame, matches, affine, sure)


def _pass(
    query: Query,
    center: tuple[float, float],
    reference: Reference,
    *,
    step: int,
    cell: int,
    block: int,
    radius: int,
    expected: Callable[[Floats, Floats], tuple[Floats, Floats]] | None = None,
) -> Matches:
    """Match blocks around a supposed centre; x, y of the result are grid pixels relative to it."""
    px = step * cell
    box = footprint_box(query.frame, center, reference, px)
    x0, y0 = (float(v) for v in to_grid(reference, np.array(center[0]), np.array(center[1]), center))
    left, top = box.left - x0, box.top - y0
    around = (lambda x, y: expected(x + left, y + top)) if expected else None
    margin = radius + (int(_largest_shift(box, expected, x0, y0) / px) + 1 if expected else 0)
    template = gradient_maps(*resample(query, center, reference, box, step), cell)
    search = gradient_maps(*reference.pixels(box.grown(margin * px), step), cell)
    m = block_matches(template, search, px, block, radius, around)
    return replace(m, x=m.x + left, y=m.y + top)


def _largest_shift(
    box: Box, expected: Callable[[Floats, Floats], tuple[Floats, Floats]], x0: float, y0: float
) -> float:
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
    columns = x_px, y_px, there_lon, there_lat, m.score, refined.affine.residual_px * size
    yield from zip(*(c.tolist() for c in columns), refined.affine.inlier.tolist(), strict=True)
