"""Match two images block by block, and fit a transform to the matches that agree.

Each block finds its own shift by the correlation of gradient maps. Shifts that agree pairwise, but for a small
deformation, form a clique of matches; they fix an affine transform by robust least squares, with its covariance. How
often chance alone would make as many matches agree is known (Desolneux, Moisan and Morel 2000, "Meaningful
alignments"): that is the evidence. Where many matches say so, the transform gets perspective. Arrays only, in pixels:
no coordinates, no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from rsloc_db.correlation import GradientMaps, masked_products, peaks
from rsloc_db.types import Floats

Shift = Callable[[Floats, Floats], tuple[Floats, Floats]]
"""Points (x, y) in pixels -> how far they are moved (dx, dy)."""

MAX_DEFORMATION = 0.04
"""Two blocks agree when their shifts differ by at most this share of their distance (plus ``TOLERANCE_PX``)."""
TOLERANCE_PX = 2.5
"""And this many pixels: what two good block matches scatter."""
PERSPECTIVE_MATCHES = 20
"""Fewer matches carry no perspective."""
PERSPECTIVE_CHANCE = 1e-6
"""How unlikely the gain of a homography must be without perspective."""
PERSPECTIVE_REACH = 4.0
"""How far off the affine transform matches may lie that it is fitted to, in tolerances."""
MIN_BLOCK = 0.6
"""Least share of a block that must be imagery."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Blocks of a query and where the gallery has them, in pixels from some origin.

    Attributes:
        x, y: (N,) block centres in the first image.
        dx, dy: (N,) how far the block lies from there in the second image.
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
    expected: Shift | None = None,
    *,
    centred: bool = False,
) -> Matches:
    """Find each block of a template in a map that is larger by the same margin on each side.

    Args:
        template: (C, h, w) maps of the query.
        search: (C, h + 2 m, w + 2 m) maps of the gallery, m >= radius + the largest expected shift.
        cell_px: grid pixels a cell.
        block: side of a block in cells; blocks don't overlap.
        radius: largest shift, from the expected one, in cells.
        expected: x, y in grid pixels from the template's corner -> the shift to look around, in grid pixels.
        centred: whether to remove each block's mean: flat ones (water, ice) would else fit wherever it is as flat.

    Returns:
        Matches with x, y from the template's upper left corner; blocks with little imagery or structure are left out.
    """
    x, y = _block_corners(template.cover.shape, block)
    if len(x) == 0:
        none = np.zeros(0)
        return Matches(none, none, none, none, none, 0)
    near = [np.zeros_like(x), np.zeros_like(y)]
    if expected:
        shift = expected(*(np.asarray((v + block / 2) * cell_px, float) for v in (x, y)))
        near = [np.rint(v / cell_px).astype(int) for v in shift]
    margin = (search.cover.shape[0] - template.cover.shape[0]) // 2
    t = _blocks(template, x, y, block)
    if centred:
        t = _centred(t)
    s = _blocks(search, x + margin - radius + near[0], y + margin - radius + near[1], block + 2 * radius)
    r, c, score = peaks(_correlate_blocks(t, s))
    possible = (t.cover.mean(axis=(1, 2)) > MIN_BLOCK) & (s.cover.mean(axis=(1, 2)) > MIN_BLOCK)
    # a peak on the rim of what was searched is none
    inner = (r >= 0.5) & (r <= 2 * radius - 0.5) & (c >= 0.5) & (c <= 2 * radius - 0.5)
    good = possible & inner & (score > 0)
    columns = x + block / 2, y + block / 2, c - radius + near[0], r - radius + near[1]
    x_px, y_px, dx, dy = [np.asarray(v[good] * cell_px, float) for v in columns]
    return Matches(x_px, y_px, dx, dy, score[good].astype(float), int(possible.sum()))


def _block_corners(shape: tuple[int, ...], block: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    rows, cols = (np.arange(n // block) * block + (n % block) // 2 for n in shape)
    y, x = np.meshgrid(rows, cols, indexing="ij")
    return x.ravel(), y.ravel()


def _blocks(maps: GradientMaps, x: NDArray[np.int_], y: NDArray[np.int_], size: int) -> GradientMaps:
    """Cut squares of cells out of maps, their upper left corners at (x, y) or as near as the maps reach."""
    x = np.clip(x, 0, maps.cover.shape[1] - size)
    y = np.clip(y, 0, maps.cover.shape[0] - size)
    boxes = [(slice(b, b + size), slice(a, a + size)) for a, b in zip(x, y, strict=True)]
    return GradientMaps(np.stack([maps.maps[:, *box] for box in boxes]), np.stack([maps.cover[box] for box in boxes]))


def _centred(blocks: GradientMaps) -> GradientMaps:
    """Remove the mean of each block, channel by channel."""
    cells = np.maximum(blocks.cover.sum(axis=(1, 2)), 1.0)
    means = blocks.maps.sum(axis=(2, 3)) / cells[:, None]
    return GradientMaps((blocks.maps - means[..., None, None]) * blocks.cover[:, None], blocks.cover)


def _correlate_blocks(t: GradientMaps, s: GradientMaps) -> NDArray[np.float32]:
    """Normalised correlation of many blocks at once: (N, C, b, b) in (N, C, B, B) -> (N, B - b + 1, B - b + 1)."""
    dot, norm, overlap = masked_products(t, s)
    full = overlap >= MIN_BLOCK * t.cover.shape[-1] ** 2
    return np.where(full & (norm > 1e-6), dot / np.sqrt(np.maximum(norm, 1e-6)), 0).astype(np.float32)


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
class Transform:
    """A fitted transform about the origin: a point p goes to (p + coefficients . (1, p)) / (1 + perspective . p).

    Attributes:
        coefficients: (3, 2), the shift (dx, dy) as a linear function of (1, x, y), but for perspective.
        covariance: (2, 2) of the shift at the origin, in squared pixels.
        inlier: (N,) bool, which matches it explains.
        residual_px: (N,) distance of each match from it.
        perspective: (2,) in 1 / pixels; zero for an affine transform.
    """

    coefficients: Floats
    covariance: Floats
    inlier: NDArray[np.bool_]
    residual_px: Floats
    perspective: Floats = field(default_factory=lambda: np.zeros(2))

    def shift(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return (dx, dy) at points."""
        dx, dy = _shift(np.concatenate([self.coefficients.ravel(), self.perspective]), x, y)
        return dx, dy


def _shift(parameters: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return (dx, dy) for the eight parameters of a transform: coefficients row by row, perspective."""
    c, (g, h) = parameters[:6].reshape(3, 2), parameters[6:]
    depth = 1 + g * x + h * y
    dx, dy = (p - (depth - 1) * q for p, q in ((c[0, k] + c[1, k] * x + c[2, k] * y, v) for k, v in ((0, x), (1, y))))
    return dx / depth, dy / depth


def fit_affine(matches: Matches, start: NDArray[np.bool_], tolerance_px: float = TOLERANCE_PX) -> Transform:
    """Fit an affine shift to matches by iteratively reweighted least squares (Tukey's biweight).

    Few matches carry few parameters: a shift alone below 6, else a full affine, drawn softly towards no deformation.
    """
    design = np.column_stack([np.ones(len(matches)), matches.x, matches.y])
    target = np.column_stack([matches.dx, matches.dy])
    full = bool(start.sum() >= 6)
    # a deformation of 2 % over the image is as surprising as one standard deviation; with few matches none is fitted
    prior = np.array([0.0, 1.0, 1.0]) / 0.02**2 if full else np.array([0.0, 1e12, 1e12])
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
    spare = max(float(weight.sum()) - (3 if full else 1), 1.0)
    variance = max(float((weight * residual**2).sum()) / 2 / spare, 0.01) * _small_sample(2 * spare)
    return Transform(coefficients, np.eye(2) * variance * np.linalg.inv(normal)[0, 0], inlier, residual)


def fit_projective(matches: Matches, affine: Transform, tolerance_px: float = TOLERANCE_PX) -> Transform:
    """Give an affine transform perspective where the matches carry it, as those of an oblique image do.

    The eight parameters of a homography are fitted by robust least squares (soft L1). They replace the six where an F
    test says that chance would make them as much better less than once in ``1 / PERSPECTIVE_CHANCE`` affine images.
    """
    # blocks that only perspective explains lie beyond the affine's tolerance, though not far
    near = affine.residual_px <= PERSPECTIVE_REACH * tolerance_px
    if near.sum() < PERSPECTIVE_MATCHES:
        return affine
    x, y, target = matches.x[near], matches.y[near], np.column_stack([matches.dx, matches.dy])[near]
    size = float(np.hypot(x, y).max())
    scale = np.array([1.0, 1.0, *[1 / size] * 4, *[1 / size**2] * 2])

    def residuals(parameters: Floats) -> Floats:
        return (np.column_stack(_shift(parameters * scale, x, y)) - target).ravel()

    start = np.concatenate([affine.coefficients.ravel() / scale[:6], np.zeros(2)])
    fits = [_robust(residuals, start, free) for free in (6, 8)]
    costs, spare = [fit.cost for fit in fits], 2 * len(x) - 8
    if special.fdtrc(2, spare, (costs[0] - costs[1]) / 2 / (costs[1] / spare)) > PERSPECTIVE_CHANCE:
        return affine
    parameters = fits[1].x * scale
    off = np.hypot(*(np.array([matches.dx, matches.dy]) - _shift(parameters, matches.x, matches.y)))
    inlier = off <= tolerance_px
    if inlier.sum() < affine.inlier.sum():
        return affine
    variance = max(float((off[inlier] ** 2).sum()) / max(2 * int(inlier.sum()) - 8, 1), 0.01) * _small_sample(spare)
    covariance = np.linalg.inv(fits[1].jac.T @ fits[1].jac)[:2, :2] * variance
    return Transform(parameters[:6].reshape(3, 2), covariance, inlier, off, parameters[6:])


def _robust(residuals: Callable[[Floats], Floats], start: Floats, free: int) -> optimize.OptimizeResult:
    """Fit the first ``free`` parameters, the others staying as they are."""
    rest = start[free:]
    return optimize.least_squares(lambda p: residuals(np.concatenate([p, rest])), start[:free], loss="soft_l1")


def _small_sample(freedom: float) -> float:
    """Return by how much a variance estimated with few degrees of freedom is widened, so that 95 % ellipses hold.

    Hotelling: the ellipse of an estimated variance follows F(2, freedom), that of a known one chi-squared(2) / 2.
    """
    return float(special.fdtri(2, freedom, 0.95) / special.fdtri(2, 1e9, 0.95))


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
