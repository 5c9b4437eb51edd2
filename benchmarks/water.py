"""Draw what the floor for noise does to images with much open water, for docs/results.md.

    python benchmarks/water.py OUT.jpg

Each row is a piece of the demonstration's relief map, which is free to show, and the strength of its gradient maps
without the floor and with it, the brighter the stronger. Without it all four were refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np

from rsloc_db import correlation
from rsloc_db.demo import demo
from rsloc_db.queries import load_image
from rsloc_db.stages.maps import CELL_PX, STEP, SURROUNDINGS_CELLS
from rsloc_db.types import Image

REFUSED = ((3, "piece06.png"), (6, "piece09.png"), (6, "piece12.png"), (7, "piece03.png"))
"""Seed of the demonstration and name of the piece."""
WIDTH_PX, GAP_PX = 360, 6


def main() -> None:
    """Run the demonstrations, or read them where they are stored, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    rows = []
    for seed, name in REFUSED:
        folder = next(path for path in demo(seed=seed).folder.glob(f"pieces-{seed}-*") if path.is_dir())
        rows.append(row(load_image(folder / name)[0]))
    cv2.imwrite(str(out), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])


def row(piece: Image) -> Image:
    """Put a piece, its edges without the floor and with it side by side."""
    with patch.object(correlation, "NOISE", 0.0):
        before = edges(piece)
    pictures = [_small(picture) for picture in (piece, before, edges(piece))]
    return np.concatenate([np.pad(p, ((0, GAP_PX), (0, GAP_PX), (0, 0))) for p in pictures], axis=1).astype(np.uint8)


def edges(image: Image) -> Image:
    """Draw how strong an image's gradient maps are."""
    whole = np.ones(image.shape[:2], bool)
    found = correlation.gradient_maps(image, whole, CELL_PX // STEP, surroundings_cells=SURROUNDINGS_CELLS)
    strength = np.linalg.norm(found.maps, axis=0)
    grey = np.clip(255 * strength / np.quantile(strength, 0.99), 0, 255).astype(np.uint8)
    shape = image.shape[1::-1]
    return np.asarray(cv2.resize(np.stack([grey] * 3, axis=-1), shape, interpolation=cv2.INTER_NEAREST), np.uint8)


def _small(picture: Image) -> Image:
    size = WIDTH_PX, round(WIDTH_PX * picture.shape[0] / picture.shape[1])
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


if __name__ == "__main__":
    main()
