"""Measure how often a patch of a query finds its tile: recall@1, 10 and 100 by query set, window and misalignment.

    python benchmarks/retrieval_recall.py GALLERY QUERIES... [--model gradients] [--windows 1 3] [--step 64]

No database: every window of the gallery is compared with every patch, exactly. Truth is the place that comes with the
queries (table or tags); a patch's tile is the one in which its centre lies, and its offset is how far, in tiles, the
centre lies from the tile's on the worse axis. Queries are in Web Mercator at the gallery's level.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from reporting import commit

from rsloc_db import imagery
from rsloc_db.gallery import open_gallery
from rsloc_db.grids import TILE_PX, TileGrid, grid, lonlat_to_mercator, mercator_to_lonlat, nominal_resolution_m
from rsloc_db.models import Embedder, embedder
from rsloc_db.queries import load_image, read_queries
from rsloc_db.queries.truth import read_truth
from rsloc_db.stages.embed import cut_window
from rsloc_db.types import Cell, Image, Tile

BATCH = 256
BINS = (0.0, 1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2)
"""Edges of the classes of offset, in tiles."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Found:
    """One patch: its query set, the size of its window in tiles, its offset in tiles, and the rank of its tile."""

    query_set: str
    window: int
    offset: float
    rank: int


def read_tiles(path: Path) -> tuple[TileGrid, int, dict[Place, Image]]:
    """Return the gallery's grid, its first level and the newest tile of each cell, keyed (column, row)."""
    reader = open_gallery(path)
    level = min(reader.levels())
    tiles = (item for item in reader.tiles(level) if isinstance(item, Tile))
    ordered = sorted(tiles, key=lambda tile: tile.captured_at.timestamp() if tile.captured_at else 0.0)
    images = {(tile.cell.column, tile.cell.row): imagery.decode(tile.data) for tile in ordered}
    reader.close()
    return grid(reader.grid), level, images


def embed_gallery(
    tile_grid: TileGrid, level: int, tiles: dict[Place, Image], window: int, model: Embedder
) -> NDArray[np.float32]:
    """Embed the window of ``window`` tiles about each tile: (number of tiles, dimensions), in the tiles' order."""
    reach, rows = window // 2, []
    places = list(tiles)
    for start in range(0, len(places), BATCH):
        cuts = []
        for column, row in places[start : start + BATCH]:
            columns, lines = range(column - reach, column + reach + 1), range(row - reach, row + reach + 1)
            near = {(c, r): tiles[c, r] for c in columns for r in lines if (c, r) in tiles}
            image, valid = imagery.mosaic(near, columns, lines)
            cuts.append(cut_window(tile_grid, Cell(level, column, row), window, image, valid, model.input_px))
        rows.append(model.embed(np.stack(cuts)))
    return np.concatenate(rows)


def cut_patches(
    path: Path, level: int, window: int, step_px: int, size_px: int
) -> Iterator[tuple[Image, float, float]]:
    """Yield patches of 256 ``window`` pixels, shrunk, with their centre's offset from the query's in metres."""
    image, _ = load_image(path)
    height, width = image.shape[:2]
    side, metres = TILE_PX * window, nominal_resolution_m(level)
    for y in range(0, height - side + 1, step_px):
        for x in range(0, width - side + 1, step_px):
            patch = cv2.resize(image[y : y + side, x : x + side], (size_px, size_px), interpolation=cv2.INTER_AREA)
            yield np.asarray(patch, np.uint8), (x + (side - width) / 2) * metres, -(y + (side - height) / 2) * metres


def find(
    path: Path, query_set: str, place: tuple[float, float], tile_grid: TileGrid, level: int, index: dict[Place, int],
    vectors: NDArray[np.float32], window: int, step_px: int, model: Embedder,
) -> Iterator[Found]:  # fmt: skip
    """Search the gallery for each patch of a query whose tile the gallery holds; ``place`` is its true lon, lat."""
    center_x, center_y = lonlat_to_mercator(np.array(place[0]), np.array(place[1]))
    for patch, x_m, y_m in cut_patches(path, level, window, step_px, model.input_px):
        lon, lat = mercator_to_lonlat(center_x + x_m, center_y + y_m)
        x, y = (float(v) / TILE_PX for v in tile_grid.to_pixels(lon, lat, level))
        tile = index.get((int(x), int(y)))
        if tile is not None:
            score = vectors @ model.embed(patch[None])[0]
            offset = max(abs(x % 1 - 0.5), abs(y % 1 - 0.5))
            yield Found(query_set, window, offset, int((score > score[tile]).sum()))


def report(found: list[Found]) -> None:
    """Print recall by set, window and offset."""
    groups: dict[tuple[str, int], list[Found]] = defaultdict(list)
    for each in found:
        groups[each.query_set, each.window].append(each)
    print(f"{'set':<10} window  offset (tiles)   patches    R@1   R@10  R@100")
    for (name, window), members in sorted(groups.items()):
        classes = [(0.0, BINS[-1]), *pairwise(BINS)]
        for low, high in classes:
            ranks = np.array([each.rank for each in members if low <= each.offset <= high])
            if len(ranks):
                recall = "  ".join(f"{(ranks < k).mean():5.3f}" for k in (1, 10, 100))
                print(f"{name:<10} {window:>6}  {low:.3f} - {high:.3f}  {len(ranks):>8}  {recall}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("queries", type=Path, nargs="+", help="tables or folders of queries with places")
    parser.add_argument("--model", default="gradients")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--step", type=int, default=64, help="pixels from patch to patch")
    options = parser.parse_args()
    model = embedder(options.model)
    tile_grid, level, tiles = read_tiles(options.gallery)
    places = {(each.query_set, each.name): each.center for each in read_truth(options.queries) if each.center}
    queries = [query for query in read_queries(options.queries) if (query.query_set, query.name) in places]
    print(f"model {model.name} {model.weights_hash[:12]}, commit {commit()}")
    print(f"gallery of {len(tiles)} cells at level {level}, {len(queries)} queries")
    index = {place: i for i, place in enumerate(tiles)}
    found: list[Found] = []
    for window in options.windows:
        vectors = embed_gallery(tile_grid, level, tiles, window, model)
        for query in queries:
            place = places[query.query_set, query.name]
            found += find(
                query.path, query.query_set, place, tile_grid, level, index, vectors, window, options.step, model
            )
    report(found)


if __name__ == "__main__":
    main()
