"""Tiles kept in a table of an SQLite file: what the ``ge_tiles`` and MBTiles readers share."""

# ruff: noqa: S608 - a table's name cannot be a parameter; all that are put in are constants of this package
from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from rsloc_db.errors import GalleryError
from rsloc_db.gallery.reader import MAX_LEVEL, epoch_time, misplaced, tile_name
from rsloc_db.grids import flip_row
from rsloc_db.types import Cell, Failure, Tile

MAGIC = b"SQLite format 3\x00"
COLUMNS = ("zoom_level", "tile_column", "tile_row", "tile_data")
_SAMPLES = 500


def open_sqlite(path: Path) -> sqlite3.Connection:
    """Open an SQLite file for reading, also where its folder is not writable.

    Raises:
        GalleryError: the file is truncated, damaged, locked or no SQLite file.
    """
    _check_length(path)
    errors = []
    # immutable skips locks and the write-ahead log, so it comes second: for a folder where none can be made
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)
        connection.text_factory = lambda text: text.decode(errors="replace")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            connection.close()
            errors.append(str(error))
        else:
            return connection
    raise GalleryError(f"{path}: SQLite cannot read it: {errors[0]}")


def _check_length(path: Path) -> None:
    """Compare the file's length with the one in its header (https://sqlite.org/fileformat.html, 1.3)."""
    with path.open("rb") as file:
        header = file.read(100)
    page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    size = (65536 if page == 1 else page) * pages
    # older writers leave a stale number of pages: it counts only where these two fields are equal
    if header[24:28] == header[92:96] and path.stat().st_size < size:
        raise GalleryError(f"{path}: truncated: expected {size:,} bytes, found {path.stat().st_size:,}; copy it again")


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table or view; none where it does not exist."""
    return [row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


@dataclass(frozen=True)
class Layout:
    """Where the tiles are.

    Attributes:
        table: table or view with the columns ``COLUMNS``.
        time: column of the date in epoch seconds, or NULL.
        tms: whether rows count from the bottom of the grid.
    """

    table: str
    time: str
    tms: bool


class SqliteReader:
    """A ``GalleryReader`` of an SQLite table.

    A level's keys are sorted by SQLite (in a temporary file where they are many) without their images, which are
    then fetched cell by cell: so no index is needed and no more than one cell's images are held.
    """

    kind: str
    grid: str
    attribution: str = ""

    def __init__(self, path: Path, connection: sqlite3.Connection, layout: Layout) -> None:
        self._path, self._db, self._layout = path, connection, layout
        self._levels: dict[int, int] | None = None
        # a view, as MBTiles often has, knows no rowid: its rows are found again by their cell
        self._has_rowid = _has_rowid(connection, layout.table)
        self._lookup = ""

    def levels(self) -> dict[int, int]:
        """Return the number of rows of each level; rows whose level is no number from 0 to 30 are left out."""
        if self._levels is None:
            rows = self._query(f"SELECT zoom_level, count(*) FROM {self._layout.table} GROUP BY 1 ORDER BY 1")
            self._levels = {z: n for z, n in rows if isinstance(z, int) and 0 <= z <= MAX_LEVEL}
        return dict(self._levels)

    def size_bytes(self, level: int) -> int:
        """Return the bytes of a level's images, estimated from some 500 cells spread over it."""
        count = self.levels().get(level, 0)
        step = max(1, count // _SAMPLES)
        sizes = [
            size or 0
            for i, (row, column, rowid) in enumerate(self._keys(level, None, ordered=False))
            if i % step == 0
            for (size,) in self._rows("length(tile_data)", level, column, row, [rowid])
        ]
        return round(sum(sizes) / len(sizes) * count) if sizes else 0

    def tiles(self, level: int, after: tuple[int, int] | None = None) -> Iterator[Tile | Failure]:
        """Yield a level's tiles and failures ordered by row, column and date; see ``GalleryReader``."""
        for (row, column), keys in groupby(self._keys(level, after), key=lambda key: key[:2]):
            cell = self._cell(level, column, row)
            if isinstance(cell, Failure):
                yield cell
                continue
            try:
                yield from self._cell_tiles(cell, self._dated(level, column, row, [key[2] for key in keys]))
            except GalleryError as error:
                yield Failure(tile_name(cell), str(error))

    def read(self, cell: Cell, captured_at: datetime | None) -> bytes | None:
        """Return the image of a cell and date, or None if there is none."""
        row = flip_row(cell).row if self._layout.tms else cell.row
        rows = self._dated(cell.level, cell.column, row, self._rowids(cell.level, cell.column, row))
        found = (t.data for t in self._cell_tiles(cell, rows) if isinstance(t, Tile) and t.captured_at == captured_at)
        return next(found, None)

    def dates(self, cell: Cell) -> list[datetime | None]:
        """Return the dates of a cell's tiles, oldest first; broken ones are left out."""
        row = flip_row(cell).row if self._layout.tms else cell.row
        rows = self._dated(cell.level, cell.column, row, self._rowids(cell.level, cell.column, row))
        return [tile.captured_at for tile in self._cell_tiles(cell, rows) if isinstance(tile, Tile)]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _keys(self, level: int, after: tuple[int, int] | None, *, ordered: bool = True) -> Iterator[tuple[Any, ...]]:
        """Yield (tile_row, tile_column, rowid) as stored, in the order of rows from the top."""
        down, op = ("DESC", "<") if self._layout.tms else ("ASC", ">")
        key = "rowid" if self._has_rowid else "NULL"
        statement = f"SELECT tile_row, tile_column, {key} FROM {self._layout.table} WHERE zoom_level = ?"
        values: tuple[int, ...] = (level,)
        if after is not None:
            row = 2**level - 1 - after[0] if self._layout.tms else after[0]
            statement += f" AND (tile_row {op} ? OR tile_row = ? AND tile_column > ?)"
            values = (level, row, row, after[1])
        return self._query(f"{statement} ORDER BY tile_row {down}, tile_column" if ordered else statement, values)

    def _cell(self, level: int, column: object, row: object) -> Cell | Failure:
        name = f"{level}_{column}_{row}"
        if not isinstance(column, int) or not isinstance(row, int):
            return Failure(name, f"expected whole numbers as column and row, found {column!r} and {row!r}")
        cell = Cell(level, column, row)
        cell = flip_row(cell) if self._layout.tms else cell
        reason = misplaced(self.grid, cell)
        return Failure(name, reason) if reason else cell

    def _cell_tiles(self, cell: Cell, rows: Iterator[tuple[Any, ...]]) -> Iterator[Tile | Failure]:
        for time, data in rows:
            try:
                captured_at = epoch_time(time)
            except ValueError as error:
                yield Failure(tile_name(cell), str(error))
                continue
            if isinstance(data, bytes) and data:
                yield Tile(cell, captured_at, data)
            else:
                yield Failure(tile_name(cell), f"expected an image, found {data!r:.40}")

    def _dated(self, level: int, column: int, row: int, rowids: Sequence[int | None]) -> Iterator[tuple[Any, ...]]:
        return self._rows(f"{self._layout.time}, tile_data", level, column, row, rowids, " ORDER BY 1")

    def _rows(
        self, what: str, level: int, column: int, row: int, rowids: Sequence[int | None], order: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a cell, by rowid where the table has it."""
        if self._has_rowid:
            where = f"rowid IN ({', '.join('?' * len(rowids))})"
        else:
            where, rowids = "zoom_level = ? AND tile_column = ? AND tile_row = ?", (level, column, row)
        return self._query(f"SELECT {what} FROM {self._layout.table} WHERE {where}{order}", tuple(rowids))

    def _rowids(self, level: int, column: int, row: int) -> list[int | None]:
        """Return the rowids of a cell; the first call makes a temporary index where the file has none."""
        if not self._has_rowid:
            return [None]
        if not self._lookup:
            self._lookup = self._layout.table if _has_index(self._db, self._layout.table) else self._make_index()
        where = "zoom_level = ? AND tile_column = ? AND tile_row = ?"
        return [key for (key,) in self._query(f"SELECT rowid FROM {self._lookup} WHERE {where}", (level, column, row))]

    def _make_index(self) -> str:
        columns = "zoom_level, tile_column, tile_row"
        # the copy keeps the rowids, and lies in a temporary file: the gallery itself is never written
        self._db.execute(f"CREATE TEMP TABLE lookup ({columns}, key INTEGER PRIMARY KEY)")
        self._db.execute(f"INSERT INTO lookup SELECT {columns}, rowid FROM {self._layout.table}")
        self._db.execute(f"CREATE INDEX temp.lookup_cell ON lookup ({columns})")
        return "temp.lookup"

    def _query(self, statement: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            with closing(self._db.execute(statement, values)) as cursor:
                yield from cursor
        except sqlite3.Error as error:
            raise GalleryError(f"{self._path}: SQLite cannot read on: {error}") from error


def _has_rowid(connection: sqlite3.Connection, table: str) -> bool:
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    try:
        connection.execute(f"SELECT rowid FROM {table} LIMIT 0")
    except sqlite3.OperationalError:
        return False
    # older versions of SQLite give the rows of a view an empty rowid
    return bool(kind == ("table",))


def _has_index(connection: sqlite3.Connection, table: str) -> bool:
    indexes = connection.execute("SELECT name FROM pragma_index_list(?) WHERE partial = 0", (table,)).fetchall()
    for (index,) in indexes:
        names = [row[0] for row in connection.execute("SELECT name FROM pragma_index_info(?)", (index,))]
        if set(names[:3]) == set(COLUMNS[:3]):
            return True
    return False
