"""Galleries, tiles and tile images in the database; their vectors are in ``rsloc_db.db.embeddings``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from rsloc_db.db import embeddings
from rsloc_db.db.connection import Connection, statement
from rsloc_db.errors import GalleryError
from rsloc_db.types import Bounds, Cell, Failure, Json, Progress, Silent, Tile

NEXT, ASIDE = " (next)", " (replaced)"
"""Endings of the names of a gallery that is loaded to replace another, and of one that has just been replaced."""

DELETED = 10_000
"""Tiles that are deleted at a time: a few seconds, which a kill loses."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Gallery:
    """A row of table gallery."""

    id: int
    name: str
    grid: str
    source_kind: str
    source: str
    images: str
    attribution: str
    status: str


@dataclass(frozen=True, slots=True)
class TileRow:
    """A row of table tile with its encoded image, which is None where the gallery is referenced."""

    id: int
    cell: Cell
    captured_at: datetime | None
    data: bytes | None


@dataclass(frozen=True, slots=True)
class GalleryOverview:
    """What a person wants to know of a gallery.

    Extent is west, south, east, north in degrees (EPSG:4326); size is of images, vectors and their indexes.
    """

    name: str
    status: str
    grid: str
    source_kind: str
    source: str
    images: str
    attribution: str
    tiles: int
    cells: int
    levels: list[int]
    first_date: datetime | None
    last_date: datetime | None
    extent: list[float] | None
    embeddings: list[Json]
    failures: int
    size_bytes: int


def own_name(name: str) -> str:
    """Return a gallery's name without the endings it has while it is replaced."""
    return name.removesuffix(NEXT).removesuffix(ASIDE)


@contextmanager
def lock(conn: Connection, name: str) -> Iterator[None]:
    """Hold the right to change the gallery of a name, and what replaces it; it ends with the session at the latest.

    Raises:
        GalleryError: another session holds it.
    """
    name = own_name(name)
    if not _value(conn, "gallery_lock", {"name": name}):
        raise GalleryError(f"gallery {name!r} is being changed by another process: wait for its end, then try again")
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute(statement("gallery_unlock"), {"name": name})


def find_gallery(conn: Connection, name: str) -> Gallery | None:
    """Return the gallery of a name, or None."""
    with conn.cursor(row_factory=class_row(Gallery)) as cursor:
        return cursor.execute(statement("gallery_find"), {"name": name}).fetchone()


def get_gallery(conn: Connection, name: str) -> Gallery:
    """Return the gallery of a name.

    Raises:
        GalleryError: there is none; the message names those that exist.
    """
    found = find_gallery(conn, name)
    if found is None:
        names = [row[0] for row in conn.execute(statement("gallery_names"))]
        known = f"there are {', '.join(names)}" if names else "there is none yet: run `rsloc-db ingest PATH`"
        raise GalleryError(f"no gallery is named {name!r}: {known}")
    return found


def create_gallery(
    conn: Connection, name: str, *, grid: str, source_kind: str, source: str, images: str, attribution: str
) -> Gallery:
    """Make a gallery in status loading."""
    values = {
        "name": name,
        "grid": grid,
        "source_kind": source_kind,
        "source": source,
        "images": images,
        "attribution": attribution,
    }
    with conn.cursor(row_factory=class_row(Gallery)) as cursor:
        row = cursor.execute(statement("gallery_create"), values).fetchone()
    if row is None:  # an INSERT without a condition returns its row
        raise GalleryError(f"gallery {name!r} could not be made")
    return row


def reopen_gallery(conn: Connection, gallery_id: int, level: int, source_kind: str, source: str) -> None:
    """Take a gallery out of the search because tiles of a source come to a level; the level's indexes are dropped."""
    values = {"gallery_id": gallery_id, "source_kind": source_kind, "source": source}
    conn.execute(statement("gallery_reopen"), values)
    for each in embeddings.list_sets(conn, gallery_id):
        if each.level == level:
            embeddings.reopen_set(conn, each)


def finish_gallery(conn: Connection, gallery_id: int) -> None:
    """Put a complete gallery into the search."""
    conn.execute(statement("gallery_ready"), {"gallery_id": gallery_id})


def replace_gallery(conn: Connection, gallery: Gallery, name: str, progress: Progress | None = None) -> None:
    """Put a complete gallery into the search under a name, in one step; whichever had that name is deleted after.

    ``conn`` is in autocommit.
    """
    with conn.transaction():
        old = find_gallery(conn, name)
        if old is not None:
            conn.execute(statement("gallery_rename"), {"gallery_id": old.id, "name": name + ASIDE})
            conn.execute(statement("gallery_hide"), {"gallery_id": old.id})
        conn.execute(statement("gallery_rename"), {"gallery_id": gallery.id, "name": name})
        finish_gallery(conn, gallery.id)
    if old is not None:
        delete_gallery(conn, old.id, progress)


def delete_gallery(conn: Connection, gallery_id: int, progress: Progress | None = None) -> None:
    """Delete a gallery with all that belongs to it; ``conn`` is in autocommit.

    First it is taken out of the search, then its embeddings are dropped, which locks out all searches for a moment, and
    then its tiles go, some at a time, each time for good. One that is killed is finished by calling this again; an
    ingest would make the gallery whole again instead.
    """
    progress = progress or Silent()
    conn.execute(statement("gallery_doom"), {"gallery_id": gallery_id})
    with conn.transaction():
        for each in embeddings.list_sets(conn, gallery_id):
            embeddings.drop_set(conn, each.id)
    progress.task("delete", sum(count_tiles(conn, gallery_id, level)[0] for level in gallery_levels(conn, gallery_id)))
    values = {"gallery_id": gallery_id, "limit": DELETED, "before": 2**63 - 1}
    while (row := conn.execute(statement("tile_delete"), values).fetchone()) and row[1]:
        values["before"] = int(row[0])
        progress.advance(int(row[1]))
    conn.execute(statement("gallery_delete"), {"gallery_id": gallery_id})


def list_galleries(conn: Connection) -> list[GalleryOverview]:
    """Return what is known of all galleries, by name."""
    with conn.cursor(row_factory=class_row(GalleryOverview)) as cursor:
        return cursor.execute(statement("gallery_overview")).fetchall()


def list_failures(conn: Connection, gallery_id: int) -> list[Failure]:
    """Return the tiles that were skipped, in the order they were met."""
    rows = conn.execute(statement("failure_list"), {"gallery_id": gallery_id})
    return [Failure(name, reason) for name, reason in rows]


def add_failures(conn: Connection, gallery_id: int, failures: Sequence[Failure]) -> None:
    """Note tiles that were skipped; one met before keeps one row."""
    with conn.cursor() as cursor:
        rows = [{"gallery_id": gallery_id, "name": f.name, "reason": f.reason} for f in failures]
        cursor.executemany(statement("failure_add"), rows)


def count_tiles(conn: Connection, gallery_id: int, level: int) -> tuple[int, int]:
    """Return how many tiles a level has, and how many were skipped."""
    row = conn.execute(statement("tile_count"), {"gallery_id": gallery_id, "level": level}).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def gallery_levels(conn: Connection, gallery_id: int) -> list[int]:
    """Return the levels that a gallery has tiles of."""
    return [int(row[0]) for row in conn.execute(statement("gallery_levels"), {"gallery_id": gallery_id})]


def last_cell(conn: Connection, gallery_id: int) -> Cell | None:
    """Return the cell of the tile that was added last, or None; it may lack some of its dates."""
    row = conn.execute(statement("tile_last"), {"gallery_id": gallery_id}).fetchone()
    return Cell(*row) if row else None


def known_tiles(conn: Connection, gallery_id: int, first: Cell, last: Cell) -> set[tuple[Cell, datetime | None]]:
    """Return cell and date of the tiles between two cells of a level, both included, in the order (row, column)."""
    values = {
        "gallery_id": gallery_id,
        "level": first.level,
        "first_row": first.row,
        "first_column": first.column,
        "last_row": last.row,
        "last_column": last.column,
    }
    rows = conn.execute(statement("tile_known"), values)
    return {(Cell(first.level, column, row), captured_at) for column, row, captured_at in rows}


def prepare_session(conn: Connection) -> None:
    """Make a session fit for ``add_tiles``, and its server process notice soon when this one is killed."""
    watch_session(conn)
    conn.execute(statement("image_compression"))


def watch_session(conn: Connection) -> None:
    """Make the server process of a session notice soon when this one is killed."""
    conn.execute(statement("session_watch"))


def free_bytes(conn: Connection) -> int | None:
    """Return the free disk of the server's data folder, or None where that cannot be known from here."""
    folder = _value(conn, "server_folder")
    if folder is None or not (conn.info.host in _LOOPBACK or conn.info.host.startswith("/")):
        return None
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def add_tiles(
    conn: Connection, gallery_id: int, tiles: Sequence[tuple[Tile, Bounds]], *, with_images: bool
) -> list[Cell]:
    """Add tiles of one level that are new to a gallery, inside the caller's transaction.

    Args:
        conn: a connection after ``prepare_session``.
        gallery_id: the gallery.
        tiles: distinct tiles and the boxes they cover, in the source's order.
        with_images: whether their images are stored.

    Returns:
        The cell of each tile that was new.
    """
    if not tiles:
        return []
    values = {
        "gallery_id": gallery_id,
        "level": tiles[0][0].cell.level,
        "columns": [tile.cell.column for tile, _ in tiles],
        "rows": [tile.cell.row for tile, _ in tiles],
        "dates": [tile.captured_at for tile, _ in tiles],
        "west": [box.west_deg for _, box in tiles],
        "south": [box.south_deg for _, box in tiles],
        "east": [box.east_deg for _, box in tiles],
        "north": [box.north_deg for _, box in tiles],
    }
    images = {(tile.cell.column, tile.cell.row, tile.captured_at): tile.data for tile, _ in tiles}
    with conn.cursor() as cursor:
        added = cursor.execute(statement("tile_add"), values, binary=True).fetchall()
        if with_images:
            with cursor.copy(statement("tile_image_copy")) as copy:
                copy.set_types(("int8", "bytea"))
                for tile_id, column, row, captured_at in added:
                    copy.write_row((tile_id, images[column, row, captured_at]))
    return [Cell(tiles[0][0].cell.level, column, row) for _, column, row, _ in added]


def tile_images(
    conn: Connection,
    gallery_id: int,
    level: int,
    columns: tuple[int, int],
    rows: tuple[int, int],
    *,
    layer: int | None = None,
) -> list[TileRow]:
    """Return the tiles of a box of cells with their images, cell by cell, the newest date first.

    Args:
        conn: a connection.
        gallery_id: the gallery.
        level: level of the tiles.
        columns: first and last column, both included.
        rows: first and last row, both included.
        layer: return one tile of each cell: 0 for the newest, 1 for the one before it, and so on, or the oldest.
    """
    values = {
        "gallery_id": gallery_id,
        "level": level,
        "first_column": columns[0],
        "last_column": columns[1],
        "first_row": rows[0],
        "last_row": rows[1],
        "layer": layer,
    }
    name = "tile_images" if layer is None else "tile_images_of_layer"
    found = conn.execute(statement(name), values, binary=True)
    return [TileRow(i, Cell(z, x, y), captured_at, data) for i, z, x, y, captured_at, data in found]


def analyze(conn: Connection) -> None:
    """Let the planner know how large tables tile and tile_image are now."""
    conn.execute(statement("tile_analyze"))


def _value(conn: Connection, name: str, values: Json | None = None) -> Any:
    row = conn.execute(statement(name), values).fetchone()
    return row[0] if row else None
