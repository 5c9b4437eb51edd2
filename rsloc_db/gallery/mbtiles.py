"""MBTiles (https://github.com/mapbox/mbtiles-spec/blob/master/1.3/spec.md): Web Mercator tiles in SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rsloc_db.errors import GalleryError
from rsloc_db.gallery.sqlite import COLUMNS, Layout, SqliteReader, columns_of

TABLE = "tiles"
FORMATS = ("png", "jpg", "jpeg", "webp", "image/png", "image/jpeg", "image/webp")


class MBTilesReader(SqliteReader):
    """Raster tiles of the Web Mercator grid; rows count from the bottom in the file, from the top in the cells."""

    kind = "mbtiles"
    grid = "web_mercator"

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Read from an open SQLite file that has the table.

        Raises:
            GalleryError: a column is missing, or its tiles are no images.
        """
        found = columns_of(connection, TABLE)
        missing = [name for name in COLUMNS if name not in found]
        if missing:
            raise GalleryError(f"{path}: table {TABLE} has no column {', '.join(missing)}; found {', '.join(found)}")
        metadata = _metadata(connection)
        tile_format = metadata.get("format", "png").lower()
        if tile_format not in FORMATS:
            raise GalleryError(f"{path}: expected tiles that are png, jpg or webp images, found {tile_format!r}")
        self.attribution = metadata.get("attribution", "")
        super().__init__(path, connection, Layout(TABLE, "NULL", tms=True))


def _metadata(connection: sqlite3.Connection) -> dict[str, str]:
    if not {"name", "value"} <= set(columns_of(connection, "metadata")):
        return {}
    return {str(name): str(value) for name, value in connection.execute("SELECT name, value FROM metadata")}
