"""What the phases of ingest cannot be faster than: bare loops without a database, for ``ingest.py``'s workers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db import imagery
from rsloc_db.correlation import gradient_maps
from rsloc_db.db.galleries import Gallery, TileRow
from rsloc_db.gallery import open_gallery
from rsloc_db.grids import TILE_PX
from rsloc_db.models import Embedder, embedder
from rsloc_db.stages.embed import EMBED_BATCH, Neighbours
from rsloc_db.stages.maps import BLOCK_TILES, CELL_PX, STEP, SURROUNDINGS_CELLS
from rsloc_db.types import Tile

WIDTHS = (1, 3)
"""Windows of an ingest without options, in tiles."""
model_of = cache(embedder)
"""A model by its name, loaded once a process."""
GALLERY = Gallery(0, "floor", "google_earth", "ge_tiles", "", "stored", "", "loading")


def blocks(source: Path, level: int, side: int) -> list[list[Tile]]:
    """Return the usable tiles of a level, in the source's order, by blocks of ``side`` x ``side`` cells."""
    found: dict[tuple[int, int], list[Tile]] = defaultdict(list)
    for tile in open_gallery(source, level=level).tiles(level):
        if isinstance(tile, Tile):
            found[tile.cell.row // side, tile.cell.column // side].append(tile)
    return list(found.values())


def windows(tiles: Sequence[Tile], model: Embedder) -> list[NDArray[np.uint8]]:
    """Decode tiles and cut their windows, whose neighbours are among them."""
    rows = [TileRow(i, tile.cell, tile.captured_at, tile.data) for i, tile in enumerate(tiles)]
    near, size_px = Neighbours(GALLERY, rows, model.grey), model.input_px
    walk = near.walk((0, 2 ** tiles[0].cell.level), (tiles[0].cell.row, tiles[-1].cell.row), max(WIDTHS) // 2)
    return [near.window(row, width, size_px) for row in walk for width in WIDTHS]


def embed_ready(name: str, count: int) -> int:
    """Embed ``count`` windows that are there already: the same batch of drawn ones again and again."""
    model = model_of(name)
    noise = np.random.default_rng(0).integers(0, 256, (EMBED_BATCH, 12, 12, 1 if model.grey else 3), np.uint8)
    ready = np.stack([cv2.resize(each, (model.input_px,) * 2, interpolation=cv2.INTER_CUBIC) for each in noise])
    for _ in range(0, count, EMBED_BATCH):
        model.embed(ready)
    return count


def embed_tiles(name: str, tiles: Sequence[Tile]) -> int:
    """Decode tiles, cut their windows, embed them, and return how many."""
    model = model_of(name)
    cut = windows(tiles, model)
    for first in range(0, len(cut), EMBED_BATCH):
        model.embed(np.stack(cut[first : first + EMBED_BATCH]))
    return len(cut)


def map_tiles(tiles: Sequence[Tile]) -> int:
    """Decode the tiles of a block of maps and make these."""
    side = TILE_PX // STEP
    image = np.zeros((side * BLOCK_TILES, side * BLOCK_TILES), np.uint8)
    valid = np.zeros(image.shape, bool)
    for tile in tiles:
        left, top = side * (tile.cell.column % BLOCK_TILES), side * (tile.cell.row % BLOCK_TILES)
        pixels = imagery.decode_tile(tile.data, checked=True, grey=True)[0]
        image[top : top + side, left : left + side] = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        valid[top : top + side, left : left + side] = True
    gradient_maps(image, valid, CELL_PX // STEP, surroundings_cells=SURROUNDINGS_CELLS)
    return len(tiles)


def wait_a_little(name: str, seconds: float) -> None:
    """Keep a worker, so that the pool starts another for the next job."""
    model_of(name)
    time.sleep(seconds)
