"""Tiles to look at one by one: from a gallery's source (any that ``open_gallery`` reads) or from the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rsloc_db.db import galleries
from rsloc_db.db.connection import Connection, connect, require_schema
from rsloc_db.errors import GalleryError, RslocError
from rsloc_db.gallery import GalleryReader, open_gallery
from rsloc_db.grids import rows_on_earth
from rsloc_db.stages.tiles import read_tiles
from rsloc_db.types import Cell, Failure, Tile


class TileSource(Protocol):
    """Tiles of a file or of the database."""

    grid: str

    def levels(self) -> list[int]:
        """Return the levels it has."""

    def cell(self, cell: Cell) -> list[Tile]:
        """Return the tiles of a cell, newest first."""

    def stream(self, level: int) -> Iterator[Tile | Failure]:
        """Yield all tiles of a level, cell by cell."""

    def close(self) -> None:
        """Let go of it."""


class FileSource:
    """Tiles of a gallery's source."""

    def __init__(self, reader: GalleryReader) -> None:
        self._reader = reader
        self.grid = reader.grid
        self.stream: Callable[[int], Iterator[Tile | Failure]] = reader.tiles
        self.close: Callable[[], None] = reader.close

    def levels(self) -> list[int]:
        """Return the levels it has."""
        return list(self._reader.levels())

    def cell(self, cell: Cell) -> list[Tile]:
        """Return the tiles of a cell, newest first."""
        dates = self._reader.dates(cell)[::-1]
        return [Tile(cell, date, data) for date in dates if (data := self._reader.read(cell, date)) is not None]


class DatabaseSource:
    """Tiles of a gallery in the database."""

    def __init__(self, conn: Connection, name: str) -> None:
        self._conn, self._gallery = conn, galleries.get_gallery(conn, name)
        self.grid = self._gallery.grid

    def levels(self) -> list[int]:
        """Return the levels it has."""
        found = [each.levels for each in galleries.list_galleries(self._conn) if each.name == self._gallery.name]
        return found[0] if found else []

    def cell(self, cell: Cell) -> list[Tile]:
        """Return the tiles of a cell, newest first."""
        return list(self._box(cell.level, (cell.column, cell.column), cell.row))

    def stream(self, level: int) -> Iterator[Tile | Failure]:
        """Yield all tiles of a level, row by row."""
        for row in rows_on_earth(self.grid, level):
            yield from self._box(level, (0, 2**level - 1), row)

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()

    def _box(self, level: int, columns: tuple[int, int], row: int) -> Iterator[Tile]:
        for found in read_tiles(self._conn, self._gallery, level, columns, (row, row)):
            if found.data is not None:
                yield Tile(found.cell, found.captured_at, found.data)


def open_source(source: str | Path, *, level: int | None = None, url: str | None = None) -> TileSource:
    """Open a gallery's source, or a gallery in the database.

    Args:
        source: a path, or the name of a gallery.
        level: level to cut a raster into; see ``open_gallery``.
        url: the database; by default as ``rsloc-db db url`` says.

    Raises:
        GalleryError: it is neither.
        ServerError: it is no path and the database cannot be reached.
        SchemaError: the database has no schema, or another one.
    """
    path = Path(source)
    # what looks like a path is none of a gallery's name: don't start a server for a slip of the pen
    if path.exists() or path.suffix or len(path.parts) > 1:
        return FileSource(open_gallery(path, level=level))
    conn = connect(url, autocommit=True)
    try:
        require_schema(conn)
        return DatabaseSource(conn, str(source))
    except RslocError:
        conn.close()
        raise


def only_level(source: TileSource) -> int:
    """Return the level of a source that has one.

    Raises:
        GalleryError: it has none or several.
    """
    levels = source.levels()
    if len(levels) != 1:
        raise GalleryError(f"the gallery has the levels {', '.join(map(str, levels)) or '(none)'}: name one (--level)")
    return levels[0]
