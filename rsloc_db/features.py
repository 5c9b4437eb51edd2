"""Local features: points of two images that look alike, and the turns, scales and shifts on which many of them agree.

SIFT (Lowe 2004, "Distinctive image features from scale-invariant keypoints") needs nothing. The networks ALIKED (Zhao
et al. 2023), DISK (Tyszkiewicz et al. 2020) and LightGlue (Lindenberger et al. 2023) run in OpenCV 5 from ONNX files
that the user brings. What is found here is only supposed: correlation decides. Arrays and model files only, in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db.errors import ModelError
from rsloc_db.imagery import to_grey
from rsloc_db.similarity import Similarity
from rsloc_db.types import Floats, Image, Mask

Kind = Literal["sift", "aliked", "disk"]
FEATURE_PX = 1024
"""Features are looked for in at most this many pixels a side."""
MOST_POINTS = 4000
RATIO = {"sift": 0.8, "aliked": 0.95, "disk": 0.95}
"""A match is this much nearer than the second best, in the distance of descriptors. None of these was fitted here."""
MIN_MATCHES = 8
"""So many matches must agree on a similarity: two of them always do."""
TOLERANCE_PX = 3.0
"""And they agree to within this many pixels of the second image, as it was looked at."""
_TRIAL_PX = 256
_ERRORS_ONLY = 2


@dataclass(frozen=True, slots=True)
class ModelFile:
    """An ONNX file and the SHA-256 of what is in it."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Features:
    """Which local features to look for; see ``choose_features``.

    Attributes:
        kind: ``sift``, ``aliked`` or ``disk``.
        model: the network of the latter two.
        lightglue: a network that matches what ALIKED finds, in the place of the ratio test.
    """

    kind: Kind
    model: ModelFile | None = None
    lightglue: ModelFile | None = None


@dataclass(frozen=True, slots=True)
class MatchedPoints:
    """Points of two images that look alike, row by row: (N, 2) x, y in pixels; a pixel's centre has whole numbers."""

    a: Floats
    b: Floats


@dataclass(frozen=True, slots=True)
class _Points:
    """Points of an image as it was looked at, their descriptors, and what it was shrunk by."""

    xy: NDArray[np.float32]
    rows: NDArray[np.float32]
    size: tuple[int, int]
    by: Floats

    def in_pixels(self, chosen: Sequence[int]) -> Floats:
        return (self.xy[list(chosen)].reshape(-1, 2) + 0.5) / self.by - 0.5


def choose_features(
    kind: str | None, model: str | Path | None = None, lightglue: str | Path | None = None
) -> Features | None:
    """Return features that can be looked for: files are read, opened and tried on an image.

    Args:
        kind: ``sift``, ``aliked`` or ``disk``; None for none.
        model: ONNX file of the network, for ALIKED and DISK.
        lightglue: ONNX file of LightGlue for ALIKED.

    Raises:
        ModelError: the kind is unknown, a file is missing, not wanted, no network or another one, or this OpenCV is
            too old for it.
    """
    if kind is None:
        if model is not None or lightglue is not None:
            raise ModelError("a network was named but no features: say --features aliked or disk")
        return None
    if kind not in get_args(Kind):
        raise ModelError(f"features {kind!r} are unknown: expected {', '.join(get_args(Kind))}")
    if kind == "sift" and model is not None:
        raise ModelError("features sift take no model file")
    if kind != "sift" and model is None:
        raise ModelError(f"features {kind} need a network: name its ONNX file with --feature-model")
    if kind != "aliked" and lightglue is not None:
        raise ModelError(f"LightGlue goes with features aliked, found {kind}")
    chosen = Features(cast(Kind, kind), _file(model), _file(lightglue))
    _try(chosen)
    return chosen


def _file(path: str | Path | None) -> ModelFile | None:
    if path is None:
        return None
    found = Path(path).expanduser().absolute()
    if not found.is_file():
        raise ModelError(f"there is no ONNX file {str(path)!r}")
    with found.open("rb") as file:
        return ModelFile(str(found), hashlib.file_digest(file, "sha256").hexdigest())


def _try(features: Features) -> None:
    """Match an image with itself: a file that is no such network fails here."""
    image = np.random.default_rng(0).integers(0, 256, (_TRIAL_PX, _TRIAL_PX, 3)).astype(np.uint8)
    everywhere = np.ones(image.shape[:2], bool)
    matched_points(features, image, everywhere, image, everywhere)


def matched_points(features: Features, image_a: Image, valid_a: Mask, image_b: Image, valid_b: Mask) -> MatchedPoints:
    """Return points of two images that look alike, each of them once, the most alike first.

    Args:
        features: what to look for.
        image_a: (H, W, 3) uint8 RGB.
        valid_a: (H, W) bool, its pixels that are imagery.
        image_b: (h, w, 3) uint8 RGB.
        valid_b: (h, w) bool.

    Raises:
        ModelError: a network fails on the images.
    """
    a, b = _points(features, image_a, valid_a), _points(features, image_b, valid_b)
    pairs = sorted(_pairs(features, a, b), key=lambda pair: pair.distance)
    found = MatchedPoints(a.in_pixels([pair.queryIdx for pair in pairs]), b.in_pixels([p.trainIdx for p in pairs]))
    # points may have several descriptors, and RANSAC likes to shrink a whole image to one point of the other
    once = _at(found, _first(found.a))
    return _at(once, _first(once.b))


def _first(points: Floats) -> NDArray[np.int64]:
    """Return the row of each point where it comes first, to the whole pixel."""
    return np.sort(np.unique(np.round(points), axis=0, return_index=True)[1]).astype(np.int64)


def _at(points: MatchedPoints, rows: NDArray[Any]) -> MatchedPoints:
    return MatchedPoints(points.a[rows], points.b[rows])


def similarities_of(points: MatchedPoints, tolerance_px: float, keep: int = 3) -> list[Similarity]:
    """Return the similarities on which most matches agree (RANSAC), each without the matches of those before it.

    Args:
        points: matched points, in pixels or any unit.
        tolerance_px: matches agree when their second point is so near to where the first one comes, in that unit.
        keep: how many to return.

    Returns:
        At most ``keep``; their score is the number of matches that agree, ``MIN_MATCHES`` or more.
    """
    found: list[Similarity] = []
    while len(points.a) >= MIN_MATCHES and len(found) < keep:
        matrix, inlier = cv2.estimateAffinePartial2D(
            points.a, points.b, ransacReprojThreshold=tolerance_px, maxIters=5000, confidence=0.999
        )
        agree = np.asarray(inlier).ravel() > 0  # where there is no similarity, none does
        if agree.sum() < MIN_MATCHES:
            break
        found.append(Similarity(np.asarray(matrix, float), float(agree.sum())))
        points = _at(points, ~agree)
    return found


def feature_similarities(
    features: Features, image_a: Image, valid_a: Mask, image_b: Image, valid_b: Mask, keep: int = 3
) -> list[Similarity]:
    """Return the turns, scales and shifts from one image to another on which local features agree.

    Arguments are those of ``matched_points``; what is returned is that of ``similarities_of``, in pixels.
    """
    points = matched_points(features, image_a, valid_a, image_b, valid_b)
    return similarities_of(points, TOLERANCE_PX * max(max(valid_b.shape) / FEATURE_PX, 1.0), keep)


def _points(features: Features, image: Image, valid: Mask) -> _Points:
    """Find the points of an image's imagery, and describe them."""
    by = min(FEATURE_PX / max(valid.shape), 1.0)
    size = max(round(valid.shape[1] * by), 1), max(round(valid.shape[0] * by), 1)
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    seen = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    looked_at = to_grey(small) if features.kind == "sift" else _square(small[..., ::-1])
    with _failing(features.model):
        keypoints, rows = _detector(features).detectAndCompute(looked_at, None)
    xy = np.array([point.pt for point in keypoints], np.float32).reshape(-1, 2)
    column, row = np.round(xy).astype(int).T
    inside = (column >= 0) & (column < size[0]) & (row >= 0) & (row < size[1])
    inside[inside] = seen[row[inside], column[inside]]
    described = np.zeros((0, 1), np.float32) if rows is None else np.asarray(rows, np.float32)
    shrunk = np.array(size) / valid.shape[::-1]
    return _Points(xy[inside], described[inside[: len(described)]], (looked_at.shape[1], looked_at.shape[0]), shrunk)


def _square(image: Image) -> Image:
    """Fill an image up to a square: networks take one, and what is not is stretched."""
    height, width = image.shape[:2]
    side = max(height, width)
    return np.ascontiguousarray(np.pad(image, [(0, side - height), (0, side - width), (0, 0)]))


def _pairs(features: Features, a: _Points, b: _Points) -> Sequence[cv2.DMatch]:
    if len(a.rows) < 2 or len(b.rows) < 2:
        return []
    if features.lightglue is not None:
        matcher = _opened("LightGlueMatcher", features.lightglue)
        with _failing(features.lightglue):
            matcher.setPairInfo(a.xy, b.xy, a.size, b.size)
            return cast(Sequence[cv2.DMatch], matcher.match(a.rows, b.rows))
    ratio = RATIO[features.kind]
    return [
        first
        for first, second in cv2.BFMatcher().knnMatch(a.rows, b.rows, k=2)
        if first.distance < ratio * second.distance
    ]


def _detector(features: Features) -> Any:
    if features.model is None:
        return cv2.SIFT.create(MOST_POINTS, enable_precise_upscale=True)
    return _opened(features.kind.upper(), features.model)


@lru_cache(maxsize=4)
def _opened(name: str, file: ModelFile) -> Any:
    """Open a network of a class of OpenCV, once in a process."""
    made = getattr(cv2, name, None)
    if made is None:
        raise ModelError(f"OpenCV {cv2.__version__} has no {name}: install opencv-python-headless 5 or newer")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(_ERRORS_ONLY)  # it warns of each network that is opened
    try:
        with _failing(file):
            return made.create(file.path)
    finally:
        cv2.utils.logging.setLogLevel(level)


@contextmanager
def _failing(file: ModelFile | None) -> Iterator[None]:
    """Turn OpenCV's errors into one that names the file."""
    try:
        yield
    except cv2.error as error:
        what = "SIFT fails" if file is None else f"{file.path!r} is no network of the kind it is given for"
        raise ModelError(f"{what}: OpenCV says {error.err!r} in {error.func}") from error
