"""Gradient maps of galleries: the last phase of ingest makes them, verification and exhaustive retrieval read them.

A cell is 16 x 16 grid pixels; a block of 8 x 8 tiles has 128 x 128 cells of 6 orientations, int8, and is a row with a
footprint. So is a block of an overview, whose cells are 2 x 2 or 4 x 4 of these averaged into one: large galleries are
searched in overviews. Cells are counted from the grid's upper left corner, so neighbouring blocks fit together.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from rsloc_db.correlation import (
    ORIENTATIONS,
    GradientMaps,
    Spectra,
    gradient_maps,
    harmonics,
    pooled,
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
POOLS = (1, 2, 4)
"""How many cells a side are averaged into one: in the maps themselves and in their overviews."""
KEPT_BLOCKS = dict(zip(POOLS, (2048, 1024, 512), strict=True))
"""Blocks in memory of a gallery level at a date, by how many cells are averaged: 230, 120 and 60 MB."""
KEPT_BYTES = 1_200_000_000
"""Memory of a process for transforms of a level's maps, of all its dates together."""

WHOLE = b"\xff" * (BLOCK_CELLS**2 // 8)
"""Cover of a block all of whose cells are valid."""

Block = tuple[NDArray[np.int8], NDArray[np.bool_]]
"""Maps of a block, (6, 128, 128) int8, and its cover, (128, 128) bool."""
Place = tuple[int, int]
"""Column and row of a block."""


@dataclass(frozen=True, slots=True)
class MapJob:
    """What a worker needs to make the maps of one block, which has so many tiles."""

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
    """Make the gradient maps and overviews that a gallery lacks, and return of how many blocks; each is committed.

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
    # overviews come after what they are made from
    for level, cells in [(each, n) for each in levels for n in pools(each)]:
        pending = blocks.pending_blocks(conn, gallery.id, level, cells, BLOCK_TILES * cells, LAYERS)
        if not pending:
            continue
        progress.task(f"{'overviews' if cells > 1 else 'gradient maps'} of level {level}", len(pending))
        jobs = (MapJob(url, gallery, key, tiles) for key, tiles in pending)
        for job, stored in in_order(pool, map_block, jobs, ahead):
            blocks.put_block(conn, job.key, block_bounds(gallery.grid, job.key), job.tiles, *stored)
            progress.advance()
            made += 1
    return made


def pools(level: int) -> list[int]:
    """Return by how many cells a side a level's maps are averaged: no block may be wider than the world."""
    return [n for n in POOLS if n == 1 or 2**level >= BLOCK_TILES * n]


def block_bounds(grid_name: str, key: BlockKey) -> Bounds:
    """Return the box that a block covers, in degrees."""
    columns, rows = _tiles_of(key)
    upper, lower = (
        cell_bounds(grid(grid_name), Cell(key.of.level, column, row)) for column, row in zip(columns, rows, strict=True)
    )
    # the quadtree of degrees reaches beyond the poles
    north, south = min(upper.north_deg, 90.0), max(lower.south_deg, -90.0)
    return Bounds(upper.west_deg, south, lower.east_deg, north)


def _tiles_of(key: BlockKey) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first and last column and the first and last row of a block's tiles."""
    side = BLOCK_TILES * key.pool
    # levels 0 to 2 have fewer tiles than a block
    last = min(side, 2**key.of.level) - 1
    column, row = key.column * side, key.row * side
    return (column, column + last), (row, row + last)


def map_block(job: MapJob) -> tuple[bytes, bytes]:
    """Return the maps of a block and their cover as they are stored (in a worker process)."""
    conn, key = worker_connection(job.url), job.key
    if key.pool == 1:
        maps, cover = _of_tiles(conn, job.gallery, key)
    else:
        maps, cover = layers_of(conn, key.of, key.of.layer + 1)[-1].averaged((key.column, key.row), key.pool)
    return maps.tobytes(), np.packbits(cover).tobytes()


def _of_tiles(conn: Connection, gallery: Gallery, key: BlockKey) -> Block:
    pixels = load_mosaic(conn, gallery, key.of.level, *_tiles_of(key), STEP, key.of.layer, grey=True)
    found = gradient_maps(*pixels, CELL_PX // STEP, surroundings_cells=SURROUNDINGS_CELLS)
    rest = [(0, BLOCK_CELLS - n) for n in found.cover.shape]
    return _as_int8(np.pad(found.maps, [(0, 0), *rest])), np.pad(found.cover, rest) > 0


def _as_int8(maps: NDArray[np.float32]) -> NDArray[np.int8]:
    return np.rint(np.clip(maps, -1, 1) * 127).astype(np.int8)


def unpack(row: BlockRow) -> Block:
    """Return maps and cover of a stored block."""
    maps = np.frombuffer(row.maps, np.int8).reshape(ORIENTATIONS, BLOCK_CELLS, BLOCK_CELLS)
    if row.cover == WHOLE:
        return maps, np.ones(maps.shape[1:], bool)
    bits = np.unpackbits(np.frombuffer(row.cover, np.uint8))
    return maps, bits.reshape(maps.shape[1:]).astype(bool)


class StoredMaps:
    """The gradient maps of one gallery level at some date, read as they are needed and kept while there is room.

    Args:
        conn: a connection.
        key: which maps; an attribute, too.
        below: those of the newer date, which stand in where no cell of a block has another.
    """

    def __init__(self, conn: Connection, key: LayerKey, below: StoredMaps | None = None) -> None:
        self._conn, self.key, self._below = conn, key, below
        self._listed: dict[str | None, list[Place]] = {}
        self._kept: dict[int, OrderedDict[Place, Block | None]] = defaultdict(OrderedDict)
        # one store for all dates, and several threads may read; an overview is averaged while it is fetched
        self._lock: RLock = below._lock if below else RLock()
        self._spectra: dict[tuple[int, ...], Spectra] = below._spectra if below else {}

    def blocks(self, within: str | None) -> list[Place]:
        """Return (column, row) of all blocks, or of those that touch a polygon (GeoJSON)."""
        if within not in self._listed:
            self._listed[within] = blocks.list_blocks(self._conn, self.key, within)
        return self._listed[within]

    def cells(self, left: int, top: int, width: int, height: int, pool: int = 1) -> GradientMaps:
        """Return the maps of a box of cells; columns may run past the antimeridian, cells without tiles are empty.

        Args:
            left: first column.
            top: first row.
            width: columns.
            height: rows.
            pool: cells a side that are averaged into one, see ``pools``; all of the above count averaged ones.
        """
        wanted = _blocks_of(left, top, width, height)
        keys = self._on_earth(wanted, pool)
        with self._lock:
            found = self._fetch(keys, pool)
        maps, cover = np.zeros((ORIENTATIONS, height, width), np.int8), np.zeros((height, width), np.float32)
        for (column, row), key in zip(wanted, keys, strict=True):
            block = found[key]
            if block is not None:
                _paste((maps, cover), block, column * BLOCK_CELLS - left, row * BLOCK_CELLS - top)
        return GradientMaps(np.multiply(maps, np.float32(1 / 127)), cover)

    def spectra(self, left: int, top: int, width: int, height: int, pool: int, shape: tuple[int, int]) -> Spectra:
        """Return the transform of the maps of a box of cells, which is kept for queries to come while there is room.

        Args:
            left: first column, a multiple of ``pool``.
            top: first row, likewise.
            width: columns, likewise.
            height: rows, likewise.
            pool: cells a side that are averaged into one, see ``pools``.
            shape: rows and columns, of averaged cells, to pad to.
        """
        key = (pool, self.key.layer, left, top, width, height, *shape)
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
        touched = _blocks_of(left, top, width, height)
        return self._below is None or not self._own.isdisjoint(self._on_earth(touched, 1))

    @cached_property
    def _own(self) -> frozenset[Place]:
        return frozenset(self.blocks(None))

    def _on_earth(self, wanted: Sequence[Place], pool: int) -> list[Place]:
        around = max(2**self.key.level // (BLOCK_TILES * pool), 1)
        return [(column % around, row) for column, row in wanted]

    def averaged(self, place: Place, pool: int) -> Block:
        """Return a block of an overview, from the blocks that it is to be made from."""
        side = 2 * BLOCK_CELLS
        maps = pooled(self.cells(place[0] * side, place[1] * side, side, side, pool // 2), 2)
        return _as_int8(maps.maps), maps.cover > 0

    def _fetch(self, wanted: Sequence[Place], pool: int) -> dict[Place, Block | None]:
        """Return blocks, this date's or what stands in for them; None where the gallery has no tile."""
        found = self._of_date(wanted, pool)
        if self._below is not None:
            found |= self._below._fetch([key for key, block in found.items() if block is None], pool)
        return found

    def _of_date(self, wanted: Sequence[Place], pool: int) -> dict[Place, Block | None]:
        """Return blocks of this date; of overviews what ingest has not made yet is averaged here."""
        kept = self._kept[pool]
        missing = sorted({key for key in wanted if key not in kept})
        if missing:
            found = {(b.column, b.row): unpack(b) for b in blocks.read_blocks(self._conn, self.key, pool, missing)}
            kept.update((key, found.get(key)) for key in missing)
            if pool > 1:
                kept.update(self._not_made_yet([key for key in missing if key not in found], pool))
        for key in wanted:
            kept.move_to_end(key)
        out = {key: kept[key] for key in wanted}
        while len(kept) > max(KEPT_BLOCKS[pool], len(wanted)):
            kept.popitem(last=False)
        return out

    def _not_made_yet(self, wanted: Sequence[Place], pool: int) -> dict[Place, Block | None]:
        """Return blocks of overviews for which there are maps."""
        parts = {key: _parts(key) for key in wanted}
        there = self._of_date([part for each in parts.values() for part in each], pool // 2)
        made = [key for key, each in parts.items() if any(there[part] is not None for part in each)]
        return {key: self.averaged(key, pool) for key in made}


def layers_of(conn: Connection, newest: LayerKey, count: int) -> list[StoredMaps]:
    """Return the maps of a gallery level at each of its dates, the newest first."""
    found: list[StoredMaps] = []
    for layer in range(count):
        found.append(StoredMaps(conn, replace(newest, layer=layer), found[-1] if found else None))
    return found


def coarse(maps: GradientMaps, pool: int) -> GradientMaps:
    """Return maps as they are searched where so many cells a side have been averaged into one."""
    return maps if pool == 1 else harmonics(maps)


def _blocks_of(left: int, top: int, width: int, height: int) -> list[Place]:
    """Return the blocks that a box of cells touches; columns may lie beyond the antimeridian."""
    columns = range(left // BLOCK_CELLS, (left + width - 1) // BLOCK_CELLS + 1)
    rows = range(top // BLOCK_CELLS, (top + height - 1) // BLOCK_CELLS + 1)
    return [(c, r) for c in columns for r in rows]


def _parts(place: Place) -> list[Place]:
    """Return the four blocks that one of the next overview is made from."""
    return [(2 * place[0] + x, 2 * place[1] + y) for x in (0, 1) for y in (0, 1)]


def _paste(out: tuple[NDArray[np.int8], NDArray[np.float32]], block: Block, left: int, top: int) -> None:
    """Write a block into maps and cover, its upper left cell at (left, top), which may lie outside."""
    (maps, cover), side = out, len(block[1])
    height, width = cover.shape
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    maps[:, rows, columns] = block[0][:, *part]
    cover[rows, columns] = block[1][part]
