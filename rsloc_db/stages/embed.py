"""The second phase of ingest: a vector for the windows around every tile, block by block of cells, on all cores.

A window is n tiles wide and square on the ground, about its tile's centre; so a query's square patch fits it at every
latitude. Of a cell with several dates each tile has its window, in which every neighbour is the one nearest in date.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db import imagery
from rsloc_db.db import embeddings
from rsloc_db.db.connection import Connection
from rsloc_db.db.embeddings import EmbeddingSet, Vectors
from rsloc_db.db.galleries import Gallery, TileRow
from rsloc_db.grids import TILE_PX, TileGrid, cell_center, grid, ground_resolution_m
from rsloc_db.models import Embedder
from rsloc_db.stages.tiles import decode_tile, paste, read_tiles
from rsloc_db.stages.workers import in_order, worker_connection, worker_model
from rsloc_db.types import Cell, Image, Mask, Progress

BLOCK = 16
"""Cells of a block, an axis: a block is what a worker reads and what a kill loses."""
EMBED_BATCH = 64
MAX_LAT_DEG = 89.99
"""Nearer to a pole windows are as high as here."""


@dataclass(frozen=True, slots=True)
class BlockJob:
    """What a worker needs to embed the tiles of one block: ``row`` and ``column`` count blocks."""

    url: str
    gallery: Gallery
    model: str
    weights_hash: str
    sets: tuple[EmbeddingSet, ...]
    row: int
    column: int


def embed_gallery(
    conn: Connection,
    pool: Executor,
    url: str,
    gallery: Gallery,
    sets: Sequence[EmbeddingSet],
    model: Embedder,
    model_name: str,
    *,
    ahead: int,
    progress: Progress,
) -> int:
    """Make the vectors that some sets of a model lack, and return how many were made; each block is committed.

    Args:
        conn: a connection in autocommit.
        pool: worker processes.
        url: the database, for the workers.
        gallery: the gallery.
        sets: embedding sets of the gallery by ``model``.
        model: the embedder.
        model_name: what the workers load it by.
        ahead: blocks that may be under way or wait to be written.
        progress: where the work reports to.

    Raises:
        GalleryError: a tile cannot be read any more.
        ModelError: the model returned something that is no embedding.
    """
    made = 0
    for level in sorted({each.level for each in sets}):
        of_level = tuple(each for each in sets if each.level == level)
        pending = _pending(conn, of_level)
        if not pending:
            continue
        progress.task(f"windows of level {level}", sum(pending.values()))
        jobs = (
            BlockJob(url, gallery, model_name, model.weights_hash, of_level, row, column)
            for row, column in sorted(pending)
        )
        for job, batches in in_order(pool, embed_block, jobs, ahead):
            with conn.transaction():
                for batch in batches:
                    embeddings.add_vectors(conn, batch)
            made += sum(len(batch.tile_ids) for batch in batches)
            progress.advance(pending[job.row, job.column])
    return made


def _pending(conn: Connection, sets: Iterable[EmbeddingSet]) -> dict[tuple[int, int], int]:
    """Return the vectors to make in each block, keyed (row, column)."""
    pending: dict[tuple[int, int], int] = defaultdict(int)
    for each in sets:
        for block, count in embeddings.pending_blocks(conn, each, BLOCK).items():
            pending[block] += count
    return pending


def embed_block(job: BlockJob) -> list[Vectors]:
    """Return the vectors that a block lacks, one ``Vectors`` a set (in a worker process)."""
    conn, model = worker_connection(job.url), worker_model(job.model, job.weights_hash)
    level = job.sets[0].level
    rows, columns = _span(job.row, level), _span(job.column, level)
    pending = {each: embeddings.pending_tiles(conn, each, columns, rows) for each in job.sets}
    rim = max(each.window_tiles for each in job.sets) // 2
    outer_columns, outer_rows = (columns[0] - rim, columns[1] + rim), (rows[0] - rim, rows[1] + rim)
    tiles = Neighbours(job.gallery, read_tiles(conn, job.gallery, level, outer_columns, outer_rows), model.grey)
    cuts = _cuts(tiles, pending, model.input_px, columns, rows)
    return list(_embedded(model, cuts))


def _span(block: int, level: int) -> tuple[int, int]:
    """Return the first and last cell of a block along one axis."""
    return block * BLOCK, min(block * BLOCK + BLOCK, 2**level) - 1


class Neighbours:
    """The tiles of a block and its rim, by cell; each is decoded once, and forgotten when its row is passed.

    Args:
        gallery: the gallery.
        tiles: its tiles there.
        grey: whether windows are wanted without colours.
    """

    def __init__(self, gallery: Gallery, tiles: Iterable[TileRow], grey: bool = False) -> None:
        self._gallery, self._grey = gallery, grey
        self._rows: dict[int, dict[int, list[TileRow]]] = defaultdict(lambda: defaultdict(list))
        self._decoded: dict[int, dict[tuple[int, int], tuple[Image, Mask]]] = defaultdict(dict)
        self._narrow: dict[int, dict[tuple[int, int, int], Image | None]] = defaultdict(dict)
        self._strips: dict[int, dict[tuple[int | None, ...], Image | None]] = defaultdict(dict)
        for tile in tiles:
            self._rows[tile.cell.row][tile.cell.column].append(tile)

    def walk(self, columns: tuple[int, int], rows: tuple[int, int], rim: int) -> Iterator[TileRow]:
        """Yield the tiles of a box of cells row by row; rows more than ``rim`` above are forgotten."""
        for row in range(rows[0], rows[1] + 1):
            self._decoded.pop(row - rim - 1, None)
            self._narrow.pop(row - rim - 1, None)
            self._strips.pop(row - 1, None)
            cells = self._rows.get(row, {})
            for column in sorted(cells):
                if columns[0] <= column <= columns[1]:
                    yield from cells[column]

    def around(self, tile: TileRow, reach: int) -> tuple[Image, Mask]:
        """Return the mosaic of the cells within ``reach`` of a tile, and its mask."""
        if not reach:
            return self._image(tile, tile.cell.row, tile.cell.column)
        columns = range(tile.cell.column - reach, tile.cell.column + reach + 1)
        rows = range(tile.cell.row - reach, tile.cell.row + reach + 1)
        images = {}
        for row in rows:
            for column in columns:
                near = self._nearest(tile, column, row)
                if near is not None:
                    images[column, row] = self._image(near, row, column)
        return paste(images, columns, rows)

    def window(self, tile: TileRow, window_tiles: int, size_px: int) -> Image:
        """Return the window of a tile, see ``cut_window``.

        Where its pixels end with the tiles', columns of tiles are shrunk once for all windows that they are in. So are
        windows of Web Mercator, which reach out of their tiles by part of a pixel.
        """
        reach, strip_px = window_tiles // 2, size_px // window_tiles
        y_px, height_px = _span_px(self._gallery.grid, tile.cell.level, tile.cell.row, window_tiles)
        inside = abs(y_px - TILE_PX / 2) + height_px / 2 < window_tiles * TILE_PX / 2 + 1
        if inside and window_tiles % 2 and strip_px * window_tiles == size_px and TILE_PX % strip_px == 0:
            columns = range(tile.cell.column - reach, tile.cell.column + reach + 1)
            strips = [self._strip(tile, column, reach, strip_px) for column in columns]
            whole = [strip for strip in strips if strip is not None]
            if len(whole) == len(strips):
                return np.hstack(whole)
        image, valid = self.around(tile, reach)
        return cut_window(grid(self._gallery.grid), tile.cell, window_tiles, image, valid, size_px)

    def _strip(self, tile: TileRow, column: int, reach: int, strip_px: int) -> Image | None:
        """Return what a column of tiles adds to a window, None where a pixel is missing."""
        rows = range(tile.cell.row - reach, tile.cell.row + reach + 1)
        near = [(row, self._nearest(tile, column, row)) for row in rows]
        key = (column, *(None if other is None else other.id for _, other in near))
        strips = self._strips[tile.cell.row]
        if key not in strips:
            found = [None if other is None else self._narrowed(other, row, column, strip_px) for row, other in near]
            images = [image for image in found if image is not None]
            strips[key] = self._shrunk(tile.cell, images) if len(images) == len(rows) else None
        return strips[key]

    def _narrowed(self, tile: TileRow, row: int, column: int, strip_px: int) -> Image | None:
        """Return a tile averaged to so many columns, None where a pixel is missing."""
        narrow, key = self._narrow[row], (tile.id, column, strip_px)
        if key not in narrow:
            image, valid = self._image(tile, row, column)
            size = strip_px, TILE_PX
            narrow[key] = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)) if valid.all() else None
        return narrow[key]

    def _shrunk(self, cell: Cell, images: list[Image]) -> Image:
        y_px, height_px = _span_px(self._gallery.grid, cell.level, cell.row, len(images))
        y_px += (len(images) - 1) / 2 * TILE_PX
        width = images[0].shape[1]
        return imagery.window(np.vstack(images), None, width / 2, y_px, width, height_px, width, len(images) * width)

    def _nearest(self, tile: TileRow, column: int, row: int) -> TileRow | None:
        if (column, row) == (tile.cell.column, tile.cell.row):
            return tile
        found = self._rows.get(row, {}).get(column, [])
        return min(found, key=lambda other: _days_apart(tile, other), default=None)

    def _image(self, tile: TileRow, row: int, column: int) -> tuple[Image, Mask]:
        decoded = self._decoded[row]
        key = (tile.id, column)
        if key not in decoded:
            decoded[key] = decode_tile(self._gallery, tile, grey=self._grey)
        return decoded[key]


def _days_apart(a: TileRow, b: TileRow) -> float:
    if a.captured_at is None or b.captured_at is None:
        return 0.0
    return abs((a.captured_at - b.captured_at).total_seconds()) / 86400


def _cuts(
    tiles: Neighbours,
    pending: dict[EmbeddingSet, set[int]],
    size_px: int,
    columns: tuple[int, int],
    rows: tuple[int, int],
) -> Iterator[tuple[int, int, Image]]:
    """Yield set, tile and window of everything that a block lacks."""
    rim = max(each.window_tiles for each in pending) // 2
    for tile in tiles.walk(columns, rows, rim):
        wanted = [each for each, ids in pending.items() if tile.id in ids]
        for each in wanted:
            yield each.id, tile.id, tiles.window(tile, each.window_tiles, size_px)


def cut_window(tile_grid: TileGrid, cell: Cell, window_tiles: int, image: Image, valid: Mask, size_px: int) -> Image:
    """Cut the window of a tile, square on the ground, out of a mosaic whose middle cell is the tile's.

    Args:
        tile_grid: the gallery's grid.
        cell: the tile's cell.
        window_tiles: width of the window in tiles.
        image: (256 m, 256 m, 3) uint8 RGB or (256 m, 256 m) grey, m odd.
        valid: its mask.
        size_px: side of the window asked for.

    Returns:
        (size_px, size_px, 3) uint8 RGB, or (size_px, size_px) grey.
    """
    rim_px, width_px = (len(image) - TILE_PX) / 2, float(window_tiles * TILE_PX)
    y_px, height_px = _span_px(tile_grid.name, cell.level, cell.row, window_tiles)
    return imagery.window(image, valid, TILE_PX / 2 + rim_px, y_px + rim_px, width_px, height_px, size_px)


@lru_cache(maxsize=1024)
def _span_px(grid_name: str, level: int, row: int, window_tiles: int) -> tuple[float, float]:
    """Return where the middle of a window lies, in pixels from the top of its row of tiles, and how high it is."""
    tile_grid = grid(grid_name)
    lon, lat = cell_center(tile_grid, Cell(level, 0, row))
    _, y = tile_grid.to_pixels(np.array(lon), np.array(lat), level)
    # at the pole itself, where tiles of level 1 have their middle, a window would have no height
    east_m, north_m = ground_resolution_m(tile_grid, level, min(max(lat, -MAX_LAT_DEG), MAX_LAT_DEG))
    return float(y) - row * TILE_PX, window_tiles * TILE_PX * east_m / north_m


def _embedded(model: Embedder, cuts: Iterable[tuple[int, int, Image]]) -> Iterator[Vectors]:
    """Embed windows in batches and gather the vectors by set."""
    ids: dict[int, list[int]] = defaultdict(list)
    rows: dict[int, list[NDArray[np.float16]]] = defaultdict(list)
    batch: list[tuple[int, int, Image]] = []

    def flush() -> None:
        if batch:
            vectors = model.embed(np.stack([image for _, _, image in batch])).astype(np.float16)
            for (set_id, tile_id, _), vector in zip(batch, vectors, strict=True):
                ids[set_id].append(tile_id)
                rows[set_id].append(vector)
            batch.clear()

    for cut in cuts:
        batch.append(cut)
        if len(batch) == EMBED_BATCH:
            flush()
    flush()
    for set_id, tile_ids in ids.items():
        yield Vectors(set_id, np.array(tile_ids, np.int64), np.stack(rows[set_id]))
