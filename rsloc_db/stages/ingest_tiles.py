"""The first phase of ingest: tiles out of a source into the database, each checked, in batches that are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from rsloc_db import imagery
from rsloc_db.db import embeddings, galleries
from rsloc_db.db.connection import Connection
from rsloc_db.db.galleries import Gallery
from rsloc_db.errors import GalleryError, ImageError
from rsloc_db.gallery.reader import GalleryReader, tile_name
from rsloc_db.grids import cell_bounds, grid
from rsloc_db.stages.workers import in_order
from rsloc_db.types import Cell, Failure, Progress, Tile

BATCH = 128
"""Tiles of a batch, which a worker checks: about 2 MB of RSLoc's tiles."""
COMMIT_S = 1.0
"""Batches are committed as often, which is the most that a kill loses: the disk is waited for once in many batches."""

Checked = tuple[list[Tile | Failure], list[str | None]]
Item = TypeVar("Item")


@dataclass(slots=True)
class TileLoad:
    """A load of tiles from one source into one gallery, which is made with its first batch.

    Attributes:
        conn: a connection in autocommit.
        reader: the source.
        name: name of the gallery.
        source: absolute path of the source.
        images: stored or reference.
        gallery: the gallery, None until it exists.
        added: tiles that were new.
        failures: tiles that were skipped.
    """

    conn: Connection
    reader: GalleryReader
    name: str
    source: str
    images: str
    gallery: Gallery | None
    added: int = 0
    failures: int = 0
    _opened: bool = False

    def run(self, pool: Executor, level: int, rows: int, ahead: int, progress: Progress) -> None:
        """Add the tiles that the gallery lacks of a level; ``rows`` is how many the source has."""
        done = sum(galleries.count_tiles(self.conn, self.gallery.id, level)) if self.gallery else 0
        if self._is_complete(done, rows):
            return
        after = self._resume_after(level)
        progress.task(f"tiles of level {level}", rows, done if after else 0)
        batches = _batches(self.reader.tiles(level, after), BATCH)
        results = in_order(pool, check, self._new(batches, progress) if done else batches, ahead)
        self._opened = False
        while self._save_some(level, results, progress):
            pass

    def _is_complete(self, done: int, rows: int) -> bool:
        """Tell whether nothing can be new: the gallery was completed from this very source, which has not grown."""
        ready = self.gallery is not None and self.gallery.status == "ready" and self.gallery.source == self.source
        return ready and done == rows

    def _resume_after(self, level: int) -> tuple[int, int] | None:
        """Return the (row, column) before the cell that was loaded last, if the last load was of this source and level.

        Tiles are added in the source's order, and the gallery takes a source's name together with its first new
        tile; so while the gallery is loading, the tile added last says how far that source is.
        """
        if self.gallery is None or self.gallery.source != self.source or self.gallery.status == "ready":
            return None
        last = galleries.last_cell(self.conn, self.gallery.id)
        if last is None or last.level != level:
            return None
        return last.row, last.column - 1  # once more that cell: a kill may have parted its dates

    def _new(self, batches: Iterator[list[Tile | Failure]], progress: Progress) -> Iterator[list[Tile | Failure]]:
        """Leave out tiles that the gallery has."""
        for batch in batches:
            cells = [item.cell for item in batch if isinstance(item, Tile)]
            known = set()
            if self.gallery is not None and cells:
                known = galleries.known_tiles(self.conn, self.gallery.id, cells[0], cells[-1])
            new = [i for i in batch if not (isinstance(i, Tile) and (i.cell, i.captured_at) in known)]
            progress.advance(len(batch) - len(new))
            if new:
                yield new

    def _save_some(self, level: int, results: Iterator[Checked], progress: Progress) -> bool:
        """Keep the batches of a second in one transaction, and at once what takes a gallery out of the search.

        Returns whether there may be more.
        """
        opened, until = self._opened, time.monotonic() + COMMIT_S
        with self.conn.transaction():
            for batch, reasons in results:
                self._save(level, batch, reasons)
                progress.advance(len(batch))
                if opened != self._opened or time.monotonic() > until:
                    return True
        return False

    def _save(self, level: int, batch: list[Tile | Failure], reasons: list[str | None]) -> None:
        tiles, failures = _sort(batch, reasons)
        gallery = self.gallery = self.gallery or self._create()
        if tiles and not self._opened:
            galleries.reopen_gallery(self.conn, gallery.id, level, self.reader.kind, self.source)
            self._opened = True
        boxes = [(tile, cell_bounds(grid(gallery.grid), tile.cell)) for tile in tiles]
        added = galleries.add_tiles(self.conn, gallery.id, boxes, with_images=self.images == "stored")
        self._forget_windows(gallery, level, added)
        galleries.add_failures(self.conn, gallery.id, failures)
        self.added += len(added)
        self.failures += len(failures)

    def _create(self) -> Gallery:
        return galleries.create_gallery(
            self.conn,
            self.name,
            grid=self.reader.grid,
            source_kind=self.reader.kind,
            source=self.source,
            images=self.images,
            attribution=self.reader.attribution,
        )

    def _forget_windows(self, gallery: Gallery, level: int, added: list[Cell]) -> None:
        """Drop the vectors of windows that the new tiles are part of."""
        for each in embeddings.list_sets(self.conn, gallery.id):
            reach = each.window_tiles // 2
            if each.level == level and reach and added:
                embeddings.forget_around(self.conn, each, _around(set(added), reach, 2**level))


def check(batch: Sequence[Tile | Failure]) -> list[str | None]:
    """Return for each tile why it cannot be used, or None (in a worker process)."""
    return [_problem(item) for item in batch]


def _problem(item: Tile | Failure) -> str | None:
    if isinstance(item, Failure):
        return item.reason
    try:
        imagery.check(item.data)
    except ImageError as error:
        return str(error)
    return None


def _sort(batch: list[Tile | Failure], reasons: list[str | None]) -> tuple[list[Tile], list[Failure]]:
    """Part a batch into usable tiles, each once, and failures."""
    tiles: dict[tuple[Cell, object], Tile] = {}
    failures = []
    for item, reason in zip(batch, reasons, strict=True):
        if isinstance(item, Failure):
            failures.append(item)
        elif reason is not None:
            failures.append(Failure(_dated_name(item), reason))
        else:
            tiles.setdefault((item.cell, item.captured_at), item)
    return list(tiles.values()), failures


def _dated_name(tile: Tile) -> str:
    date = f"_{tile.captured_at:%Y-%m-%dT%H:%M:%SZ}" if tile.captured_at else ""
    return tile_name(tile.cell) + date


def _around(cells: set[Cell], reach: int, size: int) -> list[tuple[int, int]]:
    """Return (column, row) of all cells within ``reach`` of some cells; columns wrap at the antimeridian."""
    steps = range(-reach, reach + 1)
    return sorted({((cell.column + x) % size, cell.row + y) for cell in cells for x in steps for y in steps})


def _batches(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while batch := list(islice(items, size)):
        yield batch


def require_tiles(conn: Connection, load: TileLoad) -> Gallery:
    """Return the gallery of a load that is over; one without a tile is deleted.

    Raises:
        GalleryError: no tile of the source could be used.
    """
    gallery = load.gallery
    if gallery is not None and galleries.last_cell(conn, gallery.id) is not None:
        return gallery
    reason = ""
    if gallery is not None:
        first = galleries.list_failures(conn, gallery.id)[:1]
        reason = f": {load.failures} are broken, the first, {first[0].name}, is {first[0].reason}" if first else ""
        galleries.delete_gallery(conn, gallery.id)
    raise GalleryError(f"no tile of {load.source} can be used{reason}")
