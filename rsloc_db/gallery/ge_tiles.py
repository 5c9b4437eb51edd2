"""Galleries as the RSLoc authors publish them: an SQLite file with the one table ``ge_tiles``."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rsloc_db.errors import GalleryError
from rsloc_db.gallery.sqlite import COLUMNS, Layout, SqliteReader, columns_of

TABLE = "ge_tiles"
TIMES = ("time_", "time")
"""Names of the date's column: the dataset's README says the first, its authors' code the second."""


class GeTilesReader(SqliteReader):
    """Tiles of the Google Earth quadtree, 256 x 256 JPEG, each with a date in UTC epoch seconds (RSLoc-82K)."""

    kind = "ge_tiles"
    grid = "google_earth"

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Read from an open SQLite file that has the table.

        Raises:
            GalleryError: a column is missing.
        """
        found = columns_of(connection, TABLE)
        time = next((name for name in TIMES if name in found), None)
        missing = [name for name in COLUMNS if name not in found] + ([] if time else [" or ".join(TIMES)])
        if missing:
            raise GalleryError(f"{path}: table {TABLE} has no column {', '.join(missing)}; found {', '.join(found)}")
        super().__init__(path, connection, Layout(TABLE, str(time), tms=False))
