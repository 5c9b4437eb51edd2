"""Galleries: sources of georeferenced tiles, each kind behind the same ``GalleryReader``."""

from __future__ import annotations

from pathlib import Path

from rasterio.errors import RasterioIOError

from rsloc_db.errors import GalleryError
from rsloc_db.gallery.ge_tiles import TABLE as GE_TILES
from rsloc_db.gallery.ge_tiles import GeTilesReader
from rsloc_db.gallery.mbtiles import TABLE as MBTILES
from rsloc_db.gallery.mbtiles import MBTilesReader
from rsloc_db.gallery.raster import open_raster
from rsloc_db.gallery.reader import GalleryReader, tile_name
from rsloc_db.gallery.sqlite import MAGIC, columns_of, open_sqlite
from rsloc_db.gallery.xyz import XYZReader
from rsloc_db.imagery import describe_bytes

EXPECTED = "an SQLite file (ge_tiles or MBTiles), a folder of images z/x/y, or a georeferenced raster"

__all__ = ["GalleryReader", "open_gallery", "tile_name"]


def open_gallery(path: Path, *, level: int | None = None) -> GalleryReader:
    """Open a gallery; its kind is told from its content, not from its name.

    Args:
        path: an SQLite file with ``ge_tiles``, MBTiles, a folder of z/x/y images, or a georeferenced raster.
        level: level of the Google Earth quadtree to cut a raster into; by default the nearest to its resolution.
            The other kinds have levels of their own.

    Raises:
        GalleryError: it is none of these; says what was expected and found.
    """
    if not path.exists():
        raise GalleryError(f"{path}: no such file or folder")
    if path.is_dir():
        return XYZReader(path)
    with path.open("rb") as file:
        head = file.read(len(MAGIC))
    if head == MAGIC:
        return _open_sqlite(path)
    try:
        return open_raster(path, level)
    except GalleryError as error:
        if not isinstance(error.__cause__, RasterioIOError):
            raise
        raise GalleryError(f"{path}: expected {EXPECTED}; found {describe_bytes(head)}") from error


def _open_sqlite(path: Path) -> GalleryReader:
    connection = open_sqlite(path)
    try:
        if columns_of(connection, GE_TILES):
            return GeTilesReader(path, connection)
        if columns_of(connection, MBTILES):
            return MBTilesReader(path, connection)
        found = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    except GalleryError:
        connection.close()
        raise
    connection.close()
    tables = ", ".join(found) or "none"
    raise GalleryError(f"{path}: expected a table {GE_TILES} or {MBTILES} (MBTiles) in SQLite, found {tables}")
