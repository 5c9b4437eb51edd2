"""Match pairs of overhead images with a known transform, and pairs of different places; plain SIFT beside it.

    python benchmarks/pairs.py OPTICAL [--false 2] [--features sift] [--odd 12]

OPTICAL is a folder with ``pairK_1.jpg``, ``pairK_2.jpg`` and ``gt_K.txt`` (2 x 3 affine from the first to the second).
False pairs are the first image of one pair and the second of another of the same parity. What was tuned was tuned on
odd pairs; ``--odd 12`` takes the first 12 of these alone. With ``--features`` matches of local features are followed as
well. Errors are those of the centre of the first image, in pixels of the second. Prints markdown with the commit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from reporting import commit

import rsloc_db
from rsloc_db.geometry import CHI2_95
from rsloc_db.queries import load_image
from rsloc_db.registration import SCALES, center_of, scale_of
from rsloc_db.rims import without_rim
from rsloc_db.types import Floats

COLUMNS = (
    "pairs",
    "n",
    "within 3 / 5 / 10 px",
    "median error",
    "in 95 % ellipse",
    "matched",
    "of these off by > 10 / 20 px",
    "false pairs matched",
    "CPU s a pair",
)
MIN_SIFT_INLIERS = 15


@dataclass(frozen=True)
class Answer:
    """What a method says of two files: a transform, whether it is sure, its covariance, and how long it took."""

    matrix: Floats | None
    matched: bool
    covariance: Floats | None
    seconds: float


Method = Callable[[Path, Path], Answer]


def main() -> None:
    """Match and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--false", type=int, default=2, metavar="N", help="false pairs for each true one")
    parser.add_argument("--features", help="sift, aliked or disk")
    parser.add_argument("--feature-model", type=Path, help="ONNX file of aliked or disk")
    parser.add_argument("--lightglue", type=Path, help="ONNX file of LightGlue")
    parser.add_argument("--odd", type=int, metavar="N", help="take the first N odd pairs alone")
    arguments = parser.parse_args()
    numbers = sorted(int(path.stem.removeprefix("gt_")) for path in arguments.folder.glob("gt_*.txt"))
    if arguments.odd is not None:
        numbers = [k for k in numbers if k % 2][: arguments.odd]
    odd, even = [k for k in numbers if k % 2], [k for k in numbers if k % 2 == 0]
    print(f"commit {commit()}; {len(numbers)} pairs, {arguments.false} false ones for each\n")
    print("| method | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    methods: dict[str, Method] = {"rsloc-db match": _match, "SIFT + RANSAC": _sift}
    if arguments.features:
        chosen = {name: getattr(arguments, name) for name in ("features", "feature_model", "lightglue")}
        methods[f"rsloc-db match --features {arguments.features}"] = partial(_match, **chosen)
    for name, method in methods.items():
        _print_rows(arguments.folder, name, method, {"odd": odd, "even": even, "all": numbers}, arguments.false)


def _print_rows(folder: Path, name: str, method: Method, groups: dict[str, list[int]], steps: int) -> None:
    """Match the pairs of each group, and false pairs of the same parity."""
    found = {k: method(*_files(folder, k, k)) for k in groups["all"]}
    wrong = {
        (a, b): method(*_files(folder, a, b))
        for parity in (groups["odd"], groups["even"])
        for step in range(1, steps + 1)
        for a, b in zip(parity, parity[step:] + parity[:step], strict=True)
    }
    for kind, chosen in groups.items():
        if chosen:
            false = [answer for (a, _), answer in wrong.items() if a in chosen]
            row = _row(folder, {k: found[k] for k in chosen}, false)
            print(f"| {name} | {kind} | " + " | ".join(row) + " |", flush=True)


def _files(folder: Path, a: int, b: int) -> tuple[Path, Path]:
    return folder / f"pair{a}_1.jpg", folder / f"pair{b}_2.jpg"


def _match(a: Path, b: Path, **features: Any) -> Answer:
    started = time.process_time()
    found = rsloc_db.match(a, b, **features)
    seconds = time.process_time() - started
    if found.registration is None:
        return Answer(None, False, None, seconds)
    return Answer(found.registration.matrix, found.matched, found.registration.covariance, seconds)


def _sift(a: Path, b: Path) -> Answer:
    started = time.process_time()
    sift = cv2.SIFT.create(4000)
    (points_a, of_a), (points_b, of_b) = (_keypoints(sift, path) for path in (a, b))
    pairs = [two for two in cv2.BFMatcher().knnMatch(of_a, of_b, k=2) if len(two) == 2]
    good = [first for first, second in pairs if first.distance < 0.8 * second.distance]
    matrix: Floats | None = None
    inliers = 0
    if len(good) >= 3:
        from_xy = np.array([points_a[m.queryIdx].pt for m in good])
        to_xy = np.array([points_b[m.trainIdx].pt for m in good])
        found, inlier = cv2.estimateAffinePartial2D(from_xy, to_xy, ransacReprojThreshold=3, maxIters=10000)
        if np.any(inlier):
            matrix, inliers = np.asarray(found, float), int(np.sum(inlier))
    # RANSAC likes to shrink all of A to one point of B
    sane = matrix is not None and SCALES[0] <= scale_of(matrix) <= SCALES[1]
    return Answer(matrix, sane and inliers >= MIN_SIFT_INLIERS, None, time.process_time() - started)


def _keypoints(sift: cv2.SIFT, path: Path) -> tuple[Sequence[cv2.KeyPoint], NDArray[np.float32]]:
    image, valid = load_image(path)
    seen = without_rim(image, valid).astype(np.uint8)
    points, of_them = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), seen)
    return points, np.asarray(of_them, np.float32)


def _row(folder: Path, found: dict[int, Answer], false: Sequence[Answer]) -> list[str]:
    off = {k: _offset(folder, k, answer) for k, answer in found.items()}
    error = np.array([np.hypot(*off[k]) for k in found])
    sure = np.array([answer.matched for answer in found.values()])
    stated = [(off[k], a.covariance) for k, a in found.items() if a.matched and a.covariance is not None]
    inside = sum(float(d @ np.linalg.solve(covariance, d)) <= CHI2_95 for d, covariance in stated)
    seconds = [answer.seconds for answer in (*found.values(), *false)]
    return [
        str(len(found)),
        " / ".join(str((error < limit).sum()) for limit in (3, 5, 10)),
        f"{np.median(error):.2f} px",
        f"{inside} of {len(stated)}" if stated else "",
        f"{sure.sum()}",
        f"{(sure & (error > 10)).sum()} / {(sure & (error > 20)).sum()}",
        f"{sum(answer.matched for answer in false)} of {len(false)}",
        f"{np.mean(seconds):.1f}",
    ]


def _offset(folder: Path, k: int, answer: Answer) -> Floats:
    if answer.matrix is None:
        return np.array([np.inf, np.inf])
    centre = center_of(load_image(_files(folder, k, k)[0])[0])
    return np.asarray(answer.matrix @ centre - np.loadtxt(folder / f"gt_{k}.txt") @ centre)


if __name__ == "__main__":
    main()
