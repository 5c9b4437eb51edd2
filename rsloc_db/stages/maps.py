"""Gradient maps of galleries: the last phase of ingest makes them, verification and exhaustive retrieval read them.

A cell is 16 x 16 grid pixels; a block of 8 x 8 tiles has 128 x 128 cells of 6 orientations, int8, and is a row with a
footprint. Its overview has a cell for each 2 x 2 of them: large galleries are searched in overviews. Cells are counted
from the grid's upper left corner, so maps of neighbouring blocks fit together.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from rsloc_db.correlation import (
    MIN_COVER,
    ORIENTATIONS,
    GradientMaps,
    Spectra,
    averaged,
    gradient_maps,
    harmonics,
    pooled,
    pooled_cover,
)
from rsloc_db.db import blocks
from rsloc_db.db.blocks import BlockKey, BlockRow, LayerKey
from rsloc_db.db.connection import Connection
from rsloc_db.db.galleries import Gallery
from rsloc_db.grids import TILE_PX, cell_bounds, grid
from rsloc_db.stages.tiles import load_mosaic
from rsloc_db.stages.workers import in_order, worker_connection
from rsloc_db.types import Bounds, Cell, Progress

CELL_PX = 16
"""Grid pixels a cell, each way."""
BLOCK_TILES = 8
BLOCK_CELLS = BLOCK_TILES * TILE_PX // CELL_PX
STEP = 2
"""Pixels are averaged by this before edges are looked for: finer ones are noise at this cell size."""
SURROUNDINGS_CELLS = 3.0
"""What a cell is compared with, see ``gradient_maps``. Of 2.5 to 16 cells, 3 told true from wrong places best on Blue
Marble in other months and on simulated seasons; the whole image did worst (docs/results.md)."""
LAYERS = 4
"""Of a cell with more dates, these many of the newest have maps; older ones have votes alone."""
OVERVIEW = 2
"""Cells a side that are one in the overview."""
KEPT_BLOCKS = {1: 2048, OVERVIEW: 4096, 2 * OVERVIEW: 4096}
"""Blocks in memory of a gallery level at a date, by how many cells a side are averaged into one: 230, 120 and 30 MB."""
KEPT_BYTES = 1_200_000_000
"""Memory of a process for transforms of a level's maps, of all its dates together."""

WHOLE = b"\xff" * (BLOCK_CELLS**2 // 8)
"""Cover of a block all of whose cells are valid."""

Block = tuple[NDArray[np.int8], NDArray[np.bool_]]
"""Maps of a block, (6, 128, 128) int8, and its cover, (128, 128) bool; fewer a side where cells are averaged."""


@dataclass(frozen=True, slots=True)
class MapJob:
    """What a worker needs to make the maps of one block."""

    url: str
    gallery: Gallery
    key: BlockKey
    tiles: int


def map_gallery(
    conn: Connection,
    pool: Executor,
    url: str,
    gallery: Gallery,
    levels: Iterable[int],
    *,
    ahead: int,
    progress: Progress,
) -> int:
    """Make the gradient maps that a gallery lacks, and return of how many blocks; each is committed.

    Args:
        conn: a connection in autocommit.
        pool: worker processes.
        url: the database, for the workers.
        gallery: the gallery.
        levels: its levels.
        ahead: blocks that may be under way or wait to be written.
        progress: where the work reports to.

    Raises:
        GalleryError: a tile cannot be read any more.
    """
    made = 0
    for level in levels:
        pending = blocks.pending_blocks(conn, gallery.id, level, LAYERS)
        if not pending:
            continue
        progress.task(f"gradient maps of level {level}", len(pending))
        jobs = (MapJob(url, gallery, key, tiles) for key, tiles in pending)
        for job, stored in in_order(pool, map_block, jobs, ahead):
            blocks.put_block(conn, job.key, block_bounds(gallery.grid, job.key), job.tiles, *stored)
            progress.advance()
            made += 1
    return made


def block_bounds(grid_name: str, key: BlockKey) -> Bounds:
    """Return the box that a block covers, in degrees."""
    last = min(BLOCK_TILES, 2**key.level) - 1
    first_column, first_row = key.column * BLOCK_TILES, key.row * BLOCK_TILES
    upper = cell_bounds(grid(grid_name), Cell(key.level, first_column, first_row))
    lower = cell_bounds(grid(grid_name), Cell(key.level, first_column + last, first_row + last))
    # the quadtree of degrees reaches beyond the poles
    north, south = min(upper.north_deg, 90.0), max(lower.south_deg, -90.0)
    return Bounds(upper.west_deg, south, lower.east_deg, north)


def map_block(job: MapJob) -> tuple[bytes, bytes, bytes]:
    """Return the maps of a block, their overview and their cover as they are stored (in a worker process)."""
    column, row = job.key.column * BLOCK_TILES, job.key.row * BLOCK_TILES
    last = min(BLOCK_TILES, 2**job.key.level) - 1
    conn = worker_connection(job.url)
    box = (column, column + last), (row, row + last)
    pixels = load_mosaic(conn, job.gallery, job.key.level, *box, STEP, job.key.layer, grey=True)
    found = gradient_maps(*pixels, CELL_PX // STEP, surroundings_cells=SURROUNDINGS_CELLS)
    # levels 0 to 2 have fewer tiles than a block
    rest = [(0, BLOCK_CELLS - n) for n in found.cover.shape]
    whole = GradientMaps(np.pad(found.maps, [(0, 0), *rest]), np.pad(found.cover, rest))
    cover = np.packbits(whole.cover > 0)
    return _as_int8(whole.maps).tobytes(), _as_int8(pooled(whole, OVERVIEW).maps).tobytes(), cover.tobytes()


def _as_int8(maps: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.rint(np.clip(maps, -1, 1) * 127).astype(np.int8)


def unpack(row: BlockRow, pool: int = 1) -> Block:
    """Return maps and cover of a stored block, of so many cells a side averaged into one."""
    stored = np.frombuffer(row.maps, np.int8)
    side = math.isqrt(stored.size // ORIENTATIONS)
    factor = pool * side // BLOCK_CELLS
    maps = stored.reshape(ORIENTATIONS, side, side)
    if factor > 1:
        # OpenCV averages bytes without a sign, and all orientations at once where they lie below one another
        means = averaged((stored.view(np.uint8) ^ np.uint8(128)).reshape(-1, side), factor).astype(np.uint8)
        maps = (means ^ np.uint8(128)).view(np.int8).reshape(ORIENTATIONS, side // factor, side // factor)
    if row.cover == WHOLE:
        return maps, np.ones(maps.shape[1:], bool)
    bits = np.unpackbits(np.frombuffer(row.cover, np.uint8)).reshape(BLOCK_CELLS, BLOCK_CELLS)
    cover = averaged(bits.astype(np.float32), BLOCK_CELLS // side) >= MIN_COVER
    if factor == 1:
        return maps, cover
    valid, weight = pooled_cover(cover.astype(np.float32), factor)
    return np.rint(maps * weight).astype(np.int8), valid > 0


class StoredMaps:
    """The gradient maps of one gallery level at some date, read as they are needed and kept while there is room.

    Args:
        conn: a connection.
        key: which maps.
        below: those of the newer date, which stand in where no cell of a block has another.
    """

    def __init__(self, conn: Connection, key: LayerKey, below: StoredMaps | None = None) -> None:
        self._conn, self._key, self._below = conn, key, below
        self._listed: dict[str | None, list[tuple[int, int]]] = {}
        self._kept: dict[int, OrderedDict[tuple[int, int], Block | None]] = defaultdict(OrderedDict)
        # one store for all dates, and several threads may read
        self._lock: Lock = below._lock if below else Lock()
        self._spectra: dict[tuple[int, ...], Spectra] = below._spectra if below else {}

    def blocks(self, within: str | None) -> list[tuple[int, int]]:
        """Return (column, row) of all blocks, or of those that touch a polygon (GeoJSON)."""
        if within not in self._listed:
            self._listed[within] = blocks.list_blocks(self._conn, self._key, within)
        return self._listed[within]

    def cells(self, left: int, top: int, width: int, height: int, pool: int = 1) -> GradientMaps:
        """Return the maps of a box of cells; columns may run past the antimeridian, cells without tiles are empty.

        Args:
            left: first column.
            top: first row.
            width: columns.
            height: rows.
            pool: cells a side that are averaged into one, see ``KEPT_BLOCKS``; all of the above count averaged ones.
        """
        maps, cover = np.zeros((ORIENTATIONS, height, width), np.int8), np.zeros((height, width), np.float32)
        side = BLOCK_CELLS // pool
        wanted = _blocks_of(left, top, width, height, side)
        keys = self._on_earth(wanted)
        with self._lock:
            found = self._fetch(keys, pool)
        for (c, r), key in zip(wanted, keys, strict=True):
            block = found[key]
            if block is not None:
                _paste((maps, cover), block, c * side - left, r * side - top)
        return GradientMaps(np.multiply(maps, np.float32(1 / 127)), cover)

    def spectra(self, left: int, top: int, width: int, height: int, pool: int, shape: tuple[int, int]) -> Spectra:
        """Return the transform of the maps of a box of cells, which is kept for queries to come while there is room.

        Args:
            left: first column, a multiple of ``pool``.
            top: first row, likewise.
            width: columns, likewise.
            height: rows, likewise.
            pool: cells a side that are averaged into one, see ``KEPT_BLOCKS``.
            shape: rows and columns, of averaged cells, to pad to.
        """
        key = (pool, self._key.layer, left, top, width, height, *shape)
        kept = self._spectra.get(key)
        if kept is not None:
            return kept
        made = Spectra(coarse(self.cells(left // pool, top // pool, width // pool, height // pool, pool), pool), shape)
        with self._lock:
            if self._make_room(made.nbytes, pool):
                self._spectra[key] = made
        return made

    def _make_room(self, nbytes: int, pool: int) -> bool:
        """Forget transforms of other cells where there is no room; those of the same would be wanted again as soon."""
        used = sum(each.nbytes for each in self._spectra.values()) + nbytes
        for key in [key for key in self._spectra if key[0] != pool]:
            if used <= KEPT_BYTES:
                break
            used -= self._spectra.pop(key).nbytes
        return used <= KEPT_BYTES

    def differ(self, left: int, top: int, width: int, height: int) -> bool:
        """Tell whether the maps of a box of cells are others than those of the newer date."""
        return self._below is None or any(
            key in self._own for key in self._on_earth(_blocks_of(left, top, width, height, BLOCK_CELLS))
        )

    @cached_property
    def _own(self) -> frozenset[tuple[int, int]]:
        return frozenset(self.blocks(None))

    def _on_earth(self, wanted: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        around = max(2**self._key.level // BLOCK_TILES, 1)
        return [(column % around, row) for column, row in wanted]

    def _fetch(self, wanted: Sequence[tuple[int, int]], pool: int) -> dict[tuple[int, int], Block | None]:
        """Return blocks, this date's or what stands in for them; None where the gallery has no tile."""
        kept = self._kept[pool]
        missing = sorted({key for key in wanted if key not in kept})
        if missing:
            read = blocks.read_blocks(self._conn, self._key, missing, overview=pool > 1)
            found = {(b.column, b.row): unpack(b, pool) for b in read}
            kept.update((key, found.get(key)) for key in missing)
        for key in wanted:
            kept.move_to_end(key)
        out = {key: kept[key] for key in wanted}
        if self._below is not None:
            out |= self._below._fetch([key for key, block in out.items() if block is None], pool)
        while len(kept) > max(KEPT_BLOCKS[pool], len(wanted)):
            kept.popitem(last=False)
        return out


def coarse(maps: GradientMaps, pool: int) -> GradientMaps:
    """Return maps as they are searched where so many cells a side have been averaged into one."""
    return maps if pool == 1 else harmonics(maps)


def _blocks_of(left: int, top: int, width: int, height: int, side: int) -> list[tuple[int, int]]:
    """Return (column, row) of the blocks that a box of cells touches; columns may lie beyond the antimeridian.

    ``side`` is how many cells a block has.
    """
    columns = range(left // side, (left + width - 1) // side + 1)
    rows = range(top // side, (top + height - 1) // side + 1)
    return [(c, r) for c in columns for r in rows]


def _paste(out: tuple[NDArray[np.int8], NDArray[np.float32]], block: Block, left: int, top: int) -> None:
    """Write a block into maps and cover, its upper left cell at (left, top), which may lie outside."""
    (maps, cover), side = out, len(block[1])
    height, width = cover.shape
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    maps[:, rows, columns] = block[0][:, *part]
    cover[rows, columns] = block[1][part]
