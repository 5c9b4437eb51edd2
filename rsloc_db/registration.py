"""Register two overhead images of one place: find the affine transform between them, and say how sure it is.

The best turns, scales and shifts of ``rsloc_db.similarity``, and those of local features (``rsloc_db.features``) where
these are asked for, are refined block by block (``rsloc_db.matching``): the first image is brought onto the second as
supposed, each block finds what shift is left, and an affine correction is fitted to the blocks that agree; then again
with finer cells. The supposition that most blocks agree on is the answer.
Arrays only, in pixels: no coordinates, no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from rsloc_db.correlation import GradientMaps, correlate, gradient_maps
from rsloc_db.features import Features, feature_similarities
from rsloc_db.matching import TOLERANCE_PX, Matches, Transform, agreeing, block_matches, evidence, fit_affine
from rsloc_db.similarity import similarities
from rsloc_db.types import Floats, Image, Mask

SCALES = (0.3, 3.5)
TURNS_DEG = (-180.0, 180.0)
CHANCE = 0.15
"""Probability that a block of a wrong pair agrees with the transform that is fitted there."""
MIN_EVIDENCE = 2.0
"""Images match when chance makes as many blocks agree less than once in 10^MIN_EVIDENCE wrong pairs,"""
MIN_LIKENESS = 18.0
"""and their detail is this much alike. Both were chosen on odd pairs of ``benchmarks/pairs.py``."""
BLOCK_CELLS = 8
"""Side of a block in cells."""
DETAIL_CELLS = 3.0
"""What is wider than about this many cells is no detail."""
LIKENESS_PX = 512
"""Likeness is measured on at most this many pixels a side."""
FINISHED = 2
"""How many suppositions are refined to the end."""
SEARCH_PX = 640
"""Images are shrunk to this many pixels a side before turn and scale are searched."""
RELIEF = 1.0
"""Roofs, trees and hills lean by the angle of view, many of them alike: this much of the scatter of the blocks about
the transform is a common error, which their number does not reduce. Chosen on odd pairs of ``benchmarks/pairs.py``."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images, (H, W, 3) uint8 RGB, and which of their pixels are imagery, (H, W) bool."""

    image_a: Image
    valid_a: Mask
    image_b: Image
    valid_b: Mask


@dataclass(frozen=True, slots=True)
class Registration:
    """How the first image lies on the second. A pixel's centre has whole numbers; x is to the right, y down.

    Attributes:
        matrix: (2, 3), pixels of the first image (x, y, 1) -> pixels of the second.
        covariance: (2, 2) of the centre of the first image, in squared pixels of the second.
        blocks: how many blocks could have matched.
        inliers: of these, blocks that did and agree with the transform.
        evidence: -log10 of how often chance would make as many blocks agree.
        likeness: how far from chance the detail of the images agrees, see ``likeness``.
    """

    matrix: Floats
    covariance: Floats
    blocks: int
    inliers: int
    evidence: float
    likeness: float

    @property
    def matched(self) -> bool:
        """Whether the images show the same place: chance explains neither that blocks nor that detail agree."""
        return self.evidence >= MIN_EVIDENCE and self.likeness >= MIN_LIKENESS

    @property
    def scale(self) -> float:
        """Pixels of the second image for each pixel of the first."""
        return scale_of(self.matrix)

    @property
    def turn_deg(self) -> float:
        """By how much the first image is turned to lie on the second, in degrees clockwise, -180 to 180."""
        return turn_of(self.matrix)


@dataclass(frozen=True, slots=True)
class Level:
    """How finely blocks are matched.

    Attributes:
        side_px: the longer side of what is compared is shrunk to this many pixels.
        cell_px: side of a cell, in these pixels.
        radius: largest shift that is looked for, in cells.
    """

    side_px: int
    cell_px: int
    radius: int


LEVELS = (Level(512, 8, 5), Level(768, 4, 5), Level(1536, 4, 4), Level(1536, 4, 3))


def scale_of(matrix: Floats) -> float:
    """Return by how much an affine transform, (2, 3) or (3, 3), enlarges lengths on average."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def turn_of(matrix: Floats) -> float:
    """Return by how much an affine transform, (2, 3) or (3, 3), turns on average, in degrees clockwise."""
    (a, b), (c, d) = matrix[:2, :2]
    return float(np.degrees(np.arctan2(c - b, a + d)))


def register(
    pair: Pair,
    scales: tuple[float, float] = SCALES,
    turns_deg: tuple[float, float] = TURNS_DEG,
    keep: int = 8,
    features: Features | None = None,
) -> Registration | None:
    """Find the affine transform that brings the first image of a pair onto the second.

    Args:
        pair: the images.
        scales: least and greatest scale, pixels of B for each pixel of A.
        turns_deg: least and greatest turn, degrees clockwise.
        keep: how many suppositions to try; all are refined coarsely and the best of them to the end.
        features: local features whose matches give further suppositions, or None.

    Returns:
        The transform that makes the images most alike, matched or not, or None where too little can be compared.

    Raises:
        ModelError: a network of the features fails on the images.
    """
    small, by_a, by_b = _small(pair)
    by = scale_of(by_b) / scale_of(by_a)
    bounds = scales[0] * by, scales[1] * by
    searched = similarities(small.image_a, small.valid_a, small.image_b, small.valid_b, bounds, turns_deg, keep)
    supposed = [one.matrix for one in searched]
    if features is not None:
        seen = feature_similarities(features, pair.image_a, pair.valid_a, pair.image_b, pair.valid_b)
        inside = [one.matrix for one in seen if _is_within(one.matrix, scales, turns_deg)]
        supposed += [(by_b @ _square(matrix) @ np.linalg.inv(by_a))[:2] for matrix in inside]
    begun = _refined(small, supposed, LEVELS[:1])
    matrices = [(np.linalg.inv(by_b) @ _square(one.matrix) @ by_a)[:2] for one in begun[:FINISHED]]
    return next(iter(_refined(pair, matrices, LEVELS[1:])), None)


def _is_within(matrix: Floats, scales: tuple[float, float], turns_deg: tuple[float, float]) -> bool:
    """Tell whether a transform has a scale and a turn within bounds."""
    low, high = turns_deg
    return scales[0] <= scale_of(matrix) <= scales[1] and (turn_of(matrix) - low) % 360 <= high - low


def _refined(pair: Pair, matrices: Sequence[Floats], levels: Sequence[Level]) -> list[Registration]:
    """Refine suppositions; those with too few blocks are left out, the best comes first."""
    found = [refine(pair, matrix, levels) for matrix in matrices]
    return sorted((one for one in found if one is not None), key=lambda one: -one.likeness)


def refine(pair: Pair, matrix: Floats, levels: Sequence[Level] = LEVELS) -> Registration | None:
    """Correct a supposed transform by blocks that agree, with ever finer cells.

    Args:
        pair: the images.
        matrix: (2, 3), from pixels of A to pixels of B, right to about 5 % of the size of what both cover.
        levels: how finely blocks are matched, one pass each.

    Returns:
        The corrected transform, or None where fewer than three blocks match.
    """
    found = None
    for level in levels:
        found = _pass(pair, matrix, level)
        if found is None:
            return None
        matrix = found.matrix
    return found and replace(found, likeness=likeness(pair, found.matrix))


def _pass(pair: Pair, matrix: Floats, level: Level) -> Registration | None:
    """Bring A onto B as supposed, match blocks, and correct the transform."""
    frame, size = _frame(pair, matrix, level.side_px)
    # four blocks a side at least, as long as a cell has two pixels
    level = replace(level, cell_px=min(level.cell_px, max(min(size) // (4 * BLOCK_CELLS), 2)))
    if min(size) < 2 * BLOCK_CELLS * level.cell_px:
        return None
    onto = frame @ _square(matrix)
    matches, centre = _match(pair, frame, onto, size, level)
    if len(matches) < 3:
        return None
    fit = fit_affine(matches, agreeing(matches), TOLERANCE_PX * level.cell_px / 2)
    corrected = np.linalg.inv(frame) @ _correction(fit, centre) @ onto
    inliers = int(fit.inlier.sum())
    sure = evidence(matches.tried, inliers, CHANCE, 1.0)
    scatter_px = RELIEF * float(np.sqrt(np.mean(fit.residual_px[fit.inlier] ** 2))) if inliers else 0.0
    covariance = (fit.covariance + scatter_px**2 / 2 * np.eye(2)) / scale_of(frame) ** 2
    return Registration(corrected[:2], covariance, matches.tried, inliers, sure, 0.0)


def likeness(pair: Pair, matrix: Floats) -> float:
    """Return how far from chance the detail of two images agrees once one is brought onto the other.

    The correlation of gradient maps without their local mean, times the square root of the number of cells: what an
    image of many independent cells would have by chance is about one, whatever its size.
    """
    frame, size = _frame(pair, matrix, LIKENESS_PX)
    level = Level(LIKENESS_PX, next((cell for least, cell in ((384, 8), (192, 4)) if max(size) > least), 2), 2)
    if min(size) < BLOCK_CELLS * level.cell_px:
        return 0.0
    template, search = _maps(pair, frame, frame @ _square(matrix), size, level)
    return float(correlate(template, search).max() * np.sqrt(template.cover.sum()))


def _detail(found: GradientMaps) -> GradientMaps:
    """Remove the local mean: fields and forests look alike anywhere, and their neighbours as they do."""
    cover = np.maximum(cv2.GaussianBlur(found.cover, (0, 0), DETAIL_CELLS), 1e-3)
    mean = np.stack([cv2.GaussianBlur(plane, (0, 0), DETAIL_CELLS) for plane in found.maps]) / cover
    detail = (found.maps - mean) * found.cover
    return GradientMaps(detail.astype(np.float32), found.cover)


def _frame(pair: Pair, matrix: Floats, side_px: int) -> tuple[Floats, tuple[int, int]]:
    """Return the (3, 3) matrix from pixels of B to those compared, and how many these are (width, height).

    They are as large as those of the coarser image, or larger where the part that both cover has too many.
    """
    height, width = pair.image_a.shape[:2]
    corners = matrix @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
    low = np.maximum(corners.min(axis=1), 0)
    high = np.minimum(corners.max(axis=1), pair.image_b.shape[1::-1])
    extent = np.maximum(high - low, 1e-6)
    by = min(1.0, 1 / scale_of(matrix), side_px / float(extent.max()))
    frame = np.array([[by, 0, -by * low[0]], [0, by, -by * low[1]], [0, 0, 1]])
    columns, rows = (int(n) for n in extent * by)
    return frame, (columns, rows)


def _match(pair: Pair, frame: Floats, onto: Floats, size: tuple[int, int], level: Level) -> tuple[Matches, Floats]:
    """Match blocks in the frame; x, y of the result are relative to the centre of A, which is returned as well."""
    template, search = _maps(pair, frame, onto, size, level)
    matches = block_matches(template, search, level.cell_px, BLOCK_CELLS, level.radius)
    centre = onto[:2] @ center_of(pair.image_a)
    # blocks are counted from the corner of the first pixel, which is half a pixel from its centre
    return replace(matches, x=matches.x - 0.5 - centre[0], y=matches.y - 0.5 - centre[1]), centre


def _maps(
    pair: Pair, frame: Floats, onto: Floats, size: tuple[int, int], level: Level
) -> tuple[GradientMaps, GradientMaps]:
    """Return the gradient maps of A in the frame, and those of B with a margin around it."""
    margin = level.radius * level.cell_px
    grown = np.array([[1.0, 0, margin], [0, 1, margin], [0, 0, 1]]) @ frame
    around = size[0] + 2 * margin, size[1] + 2 * margin
    template = gradient_maps(*warp(pair.image_a, pair.valid_a, onto, size), level.cell_px)
    search = gradient_maps(*warp(pair.image_b, pair.valid_b, grown, around), level.cell_px)
    return _detail(template), _detail(search)


def center_of(image: Image) -> Floats:
    """Return the centre of an image as (x, y, 1)."""
    return np.array([(image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2, 1.0])


def _correction(fit: Transform, centre: Floats) -> Floats:
    """Return the (3, 3) matrix of a fitted shift about a centre."""
    matrix = np.eye(3)
    matrix[:2, :2] += fit.coefficients[1:].T
    matrix[:2, 2] = fit.coefficients[0] - fit.coefficients[1:].T @ centre
    return matrix


def _square(matrix: Floats) -> Floats:
    return np.vstack([matrix, [0.0, 0.0, 1.0]])


def _small(pair: Pair) -> tuple[Pair, Floats, Floats]:
    """Return images of at most ``SEARCH_PX`` a side, and the (3, 3) matrices from the pixels of each to theirs."""
    image_a, valid_a, by_a = _shrunk(pair.image_a, pair.valid_a)
    image_b, valid_b, by_b = _shrunk(pair.image_b, pair.valid_b)
    return Pair(image_a, valid_a, image_b, valid_b), by_a, by_b


def _shrunk(image: Image, valid: Mask) -> tuple[Image, Mask, Floats]:
    """Return an image of at most ``SEARCH_PX`` a side, its mask, and the (3, 3) matrix to its pixels."""
    by = min(SEARCH_PX / max(valid.shape), 1.0)
    size = max(round(valid.shape[1] * by), 1), max(round(valid.shape[0] * by), 1)
    x, y = size[0] / valid.shape[1], size[1] / valid.shape[0]
    matrix = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    if by == 1:
        return image, valid, matrix
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    seen = cv2.resize(valid.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA) > 250
    return small, seen, matrix


def warp(image: Image, valid: Mask, matrix: Floats, size: tuple[int, int]) -> tuple[Image, Mask]:
    """Resample an image; where it is shrunk, by averages over what a pixel covers.

    Args:
        image: (H, W, 3) uint8 RGB.
        valid: (H, W) bool.
        matrix: (3, 3) or (2, 3), its pixels -> those of the result.
        size: width and height of the result.

    Returns:
        (height, width, 3) uint8 RGB, black where the image does not reach, and its mask.
    """
    by = scale_of(matrix)
    seen = valid.astype(np.uint8) * np.uint8(255)
    if by < 0.8:
        small = tuple(max(round(n * by), 1) for n in reversed(valid.shape))
        x, y = valid.shape[1] / small[0], valid.shape[0] / small[1]
        image, seen = (np.asarray(cv2.resize(i, small, interpolation=cv2.INTER_AREA), np.uint8) for i in (image, seen))
        matrix = _square(matrix[:2]) @ np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    warped = np.asarray(cv2.warpAffine(image, matrix[:2], size), np.uint8)
    return warped, cv2.warpAffine(seen, matrix[:2], size) > 250
