"""Fit the whitening of the default embedder and write its weights.

    python benchmarks/fit_gradients.py DATA --out rsloc_db/models/gradients_v1.npz

DATA is a folder with any of ``bmng/`` (Blue Marble months), ``pairs/nanjing``, ``pairs/s2_california`` and
``pairs/s2_austria``; synthetic land is always used. Closed form and seeded: whiten by the covariance of (window, same
window shifted and changed in season or sensor), then keep the principal components of what the two have in common.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from fit_pairs import Pairs, draw, scenes
from numpy.typing import NDArray

from rsloc_db.models.gradients import Layout, describe, save

Matrix = NDArray[np.float64]


def measure(windows: NDArray[np.uint8], layout: Layout) -> Matrix:
    """Measure (N, px, px, 3) windows: (N, layout.length)."""
    return np.stack([describe(window, layout) for window in windows]).astype(np.float64)


def whiten(first: Matrix, second: Matrix, dimensions: int, ridge: float, shrink: float) -> tuple[Matrix, Matrix]:
    """Return mean (length,) and projection (length, dimensions).

    Args:
        first: (N, length) measurements of windows.
        second: (N, length) measurements of the same places, shifted and at another date.
        dimensions: components kept.
        ridge: added to the within-pair covariance, as a share of its mean variance.
        shrink: power of a component's share of signal, signal / (signal + noise), that weights the component.
    """
    mean = np.concatenate([first, second]).mean(0)
    difference = (first - second) / np.sqrt(2)
    within = difference.T @ difference / len(difference)
    values, vectors = np.linalg.eigh(within + ridge * np.trace(within) / len(within) * np.eye(len(within)))
    whitening = vectors / np.sqrt(values)
    # what varies from place to place and not within a pair: the cross-covariance holds the signal alone
    cross = ((first - mean) @ whitening).T @ ((second - mean) @ whitening) / len(first)
    signal, axes = np.linalg.eigh((cross + cross.T) / 2)
    signal, axes = signal[::-1][:dimensions].clip(1e-3), axes[:, ::-1][:, :dimensions]
    return mean, whitening @ axes * (signal / (1 + signal)) ** shrink


def fit(pairs: Pairs, layout: Layout, dimensions: int, ridge: float, shrink: float) -> tuple[Matrix, Matrix]:
    """Fit on pairs of windows and their mirror images."""
    first = np.concatenate([pairs.first, pairs.first[:, :, ::-1]])
    second = np.concatenate([pairs.second, pairs.second[:, :, ::-1]])
    return whiten(measure(first, layout), measure(second, layout), dimensions, ridge, shrink)


def ranks(first: Matrix, second: Matrix, mean: Matrix, projection: Matrix) -> NDArray[np.int64]:
    """Return how many of all ``first`` are more like each ``second`` than its own ``first`` is."""
    gallery, probes = (first - mean) @ projection, (second - mean) @ projection
    score = probes @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T
    return np.asarray((score > np.diag(score)[:, None]).sum(1), np.int64)


def report(pairs: Pairs, layout: Layout, mean: Matrix, projection: Matrix) -> None:
    """Print the recall on pairs that were not fitted."""
    rank = ranks(measure(pairs.first, layout), measure(pairs.second, layout), mean, projection)
    print(f"{'held out':<14} {'pairs':>5}   R@1  R@10 R@100   (gallery of {len(rank)})")
    for source, count in pairs.counts().items():
        mine = rank[np.array(pairs.source) == source]
        print(f"{source:<14} {count:>5} " + " ".join(f"{(mine < k).mean():5.3f}" for k in (1, 10, 100)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with bmng/ and pairs/; default: synthetic land only")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--places", type=int, default=60, help="synthetic places to draw pairs from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--ridge", type=float, default=0.003)
    parser.add_argument("--shrink", type=float, default=0.5)
    return parser.parse_args()


def main() -> None:
    """Fit, write, and print what held-out pairs say."""
    options = parse()
    layout = Layout()
    pairs = draw(scenes(options.data, "fit", options.places), options.pairs, layout.input_px, options.seed)
    mean, projection = fit(pairs, layout, options.dimensions, options.ridge, options.shrink)
    origin = {"pairs": pairs.counts(), **{k: getattr(options, k) for k in ("seed", "places", "ridge", "shrink")}}
    save(options.out, layout, mean, projection, json.dumps(origin))
    print(f"{layout.length} measurements -> {projection.shape[1]} numbers, fitted on {json.dumps(pairs.counts())}")
    held_out = scenes(options.data, "held_out", max(options.places // 4, 1))
    report(draw(held_out, max(options.pairs // 4, 4), layout.input_px, options.seed + 1), layout, mean, projection)


if __name__ == "__main__":
    main()
