"""Match two image files without a database: where the one lies on the other, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rsloc_db.errors import MatchError
from rsloc_db.features import choose_features
from rsloc_db.geometry import error_ellipse
from rsloc_db.queries import load_image
from rsloc_db.registration import (
    MIN_EVIDENCE,
    MIN_LIKENESS,
    SCALES,
    TURNS_DEG,
    Pair,
    Registration,
    center_of,
    register,
    warp,
)
from rsloc_db.rims import without_rim
from rsloc_db.types import Image, Json, Mask

MAX_SCALE = 20.0
PICTURE_PX = 1600
SQUARES = 8
"""Squares along the longer side of the checkerboard."""


@dataclass(frozen=True, slots=True)
class ImageMatch:
    """How image A lies on image B.

    Attributes:
        name_a, name_b: the files.
        pair: their pixels.
        registration: the best transform, matched or not; None where too little of them can be compared.
    """

    name_a: str
    name_b: str
    pair: Pair
    registration: Registration | None

    @property
    def matched(self) -> bool:
        """Whether the images show the same place."""
        return self.registration is not None and self.registration.matched

    @property
    def reason(self) -> str:
        """Why the verdict is as it is, in one line."""
        found = self.registration
        if found is None:
            return "no part of the images is large enough, and has enough structure, to be compared"
        blocks = f"{found.inliers} of {found.blocks} blocks agree"
        if found.matched:
            return f"{blocks} on one transform"
        if found.evidence < MIN_EVIDENCE:
            return f"{blocks}: chance explains that"
        return f"{blocks}, but the images' detail is too little alike ({found.likeness:.1f}, expected {MIN_LIKENESS:g})"

    def as_dict(self) -> Json:
        """Return the object that ``rsloc-db match --json`` prints; of no match, the best guess with its verdict."""
        verdict = "matched" if self.matched else "not_matched"
        answer: Json = {"a": self.name_a, "b": self.name_b, "verdict": verdict, "reason": self.reason}
        return answer | (_no_numbers() if self.registration is None else _numbers(self.registration, self.pair))

    def write_picture(self, path: Path) -> None:
        """Write B with A warped onto it in every other square of a checkerboard, as PNG or JPEG by the name.

        Raises:
            MatchError: there is no transform, or the name ends in something else.
            OSError: it cannot be written.
        """
        if self.registration is None:
            raise MatchError(f"there is nothing to draw: {self.reason}")
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise MatchError(f"a picture is written as .png or .jpg, found {path.name!r}")
        board = _checkerboard(self.pair, self.registration)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(cv2.imencode(path.suffix, board[..., ::-1])[1]))


def match(
    a: str | Path,
    b: str | Path,
    *,
    scale: tuple[float, float] = SCALES,
    turn: tuple[float, float] = TURNS_DEG,
    features: str | None = None,
    feature_model: str | Path | None = None,
    lightglue: str | Path | None = None,
) -> ImageMatch:
    """Find the affine transform from image A to image B: two overhead images of one place, or of two.

    No georeference is read. Black parts that reach an image's border are taken for no imagery.

    Args:
        a: file of the image that is brought onto the other.
        b: file of the other.
        scale: least and greatest scale to search, pixels of B for each pixel of A.
        turn: least and greatest turn to search, degrees clockwise; all by default.
        features: local features whose matches are followed as well: sift, aliked or disk; none by default.
        feature_model: ONNX file of the network, for aliked and disk.
        lightglue: ONNX file of LightGlue, to match what aliked finds.

    Raises:
        RslocError: a file is no readable image or not the network it is given for, or the bounds are none.
    """
    _check_bounds(scale, turn)
    chosen = choose_features(features, feature_model, lightglue)
    pair = Pair(*_load(Path(a)), *_load(Path(b)))
    return ImageMatch(Path(a).name, Path(b).name, pair, register(pair, scale, turn, features=chosen))


def _load(path: Path) -> tuple[Image, Mask]:
    image, valid = load_image(path)
    return image, without_rim(image, valid)


def _check_bounds(scale: tuple[float, float], turn: tuple[float, float]) -> None:
    if not 1 / MAX_SCALE <= scale[0] <= scale[1] <= MAX_SCALE:
        limits = f"between {1 / MAX_SCALE:g} and {MAX_SCALE:g}"
        raise MatchError(f"expected a least and a greatest scale {limits}, found {scale[0]:g} and {scale[1]:g}")
    if not all(math.isfinite(t) for t in turn) or not 0 <= turn[1] - turn[0] <= 360:
        raise MatchError(
            f"expected a least turn and one greater by at most 360 degrees, found {turn[0]:g} and {turn[1]:g}"
        )


def _no_numbers() -> Json:
    keys = ("matrix", "scale", "turn_deg", "center", "covariance_px2", "ellipse", "evidence", "likeness")
    return {**dict.fromkeys(keys), "blocks": 0, "inliers": 0}


def _numbers(found: Registration, pair: Pair) -> Json:
    # azimuths count from north, which is up: against the y of pixels
    up = np.diag([1.0, -1.0])
    a_px, b_px, azimuth_deg = error_ellipse(up @ found.covariance @ up)
    return {
        "matrix": found.matrix.tolist(),
        "scale": found.scale,
        "turn_deg": found.turn_deg,
        "center": (found.matrix @ center_of(pair.image_a)).tolist(),
        "covariance_px2": found.covariance.tolist(),
        "ellipse": {"a_px": a_px, "b_px": b_px, "azimuth_deg": azimuth_deg},
        "evidence": found.evidence,
        "likeness": found.likeness,
        "blocks": found.blocks,
        "inliers": found.inliers,
    }


def _checkerboard(pair: Pair, found: Registration) -> Image:
    by = min(PICTURE_PX / max(pair.valid_b.shape), 1.0)
    size = max(round(pair.valid_b.shape[1] * by), 1), max(round(pair.valid_b.shape[0] * by), 1)
    frame = np.array([[by, 0, (by - 1) / 2], [0, by, (by - 1) / 2], [0, 0, 1]])
    below, _ = warp(pair.image_b, pair.valid_b, frame, size)
    above, seen = warp(pair.image_a, pair.valid_a, frame @ np.vstack([found.matrix, [0, 0, 1]]), size)
    row, column = np.indices(seen.shape) * SQUARES // max(size)
    return np.asarray(np.where((seen & ((row + column) % 2 == 0))[..., None], above, below), np.uint8)
