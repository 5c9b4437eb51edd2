"""Write a ``ge_tiles`` file as the RSLoc authors publish them: rows are added in order, and it is valid at any time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType

from rsloc_db.errors import GalleryError
from rsloc_db.gallery.sqlite import columns_of

GeRow = tuple[int, int, int, int, bytes]
"""zoom_level, tile_column, tile_row, time_ in UTC epoch seconds, tile_data."""
_COLUMNS = ["zoom_level", "tile_column", "tile_row", "time_", "tile_data"]


class GeTilesFile:
    """A file to add rows to; use it in a ``with`` statement."""

    def __init__(self, path: Path) -> None:
        """Create the file, or open it to go on.

        Raises:
            GalleryError: it is there and no such file.
        """
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise GalleryError(f"{path}: SQLite cannot write it: {error}") from error
        except GalleryError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        # a killed process loses nothing; only a power cut could
        self._db.execute("PRAGMA synchronous = OFF")
        if not columns_of(self._db, "ge_tiles"):
            self._db.execute(
                "CREATE TABLE ge_tiles(zoom_level integer, tile_column integer, tile_row integer, time_ integer,"
                " tile_data blob)"
            )
        if (found := columns_of(self._db, "ge_tiles")) != _COLUMNS:
            raise GalleryError(f"{self._path}: expected a table ge_tiles of {_COLUMNS}, found {found}")

    def __enter__(self) -> GeTilesFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def rows(self) -> int:
        """Return how many rows it has; none was ever deleted, so the last one's number tells."""
        with closing(self._db.execute("SELECT coalesce(max(rowid), 0) FROM ge_tiles")) as cursor:
            return int(cursor.fetchone()[0])

    def add(self, rows: Iterable[GeRow]) -> None:
        """Add rows in one transaction.

        Raises:
            GalleryError: the file cannot be written, e.g. the disk is full.
        """
        try:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT INTO ge_tiles VALUES (?, ?, ?, ?, ?)", rows)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise GalleryError(
                f"{self._path}: cannot be written on: {error}; what is in it is sound: make room and run again to go on"
            ) from error

    def finish(self) -> None:
        """Make the index of the published files."""
        self._db.execute(
            "CREATE INDEX IF NOT EXISTS level_col_row_index ON ge_tiles(zoom_level, tile_column, tile_row)"
        )
