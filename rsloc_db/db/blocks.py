"""Gradient maps in the database: blocks of 8 x 8 tiles as rows with a footprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rsloc_db.db.connection import Connection, statement
from rsloc_db.types import Bounds


@dataclass(frozen=True, slots=True)
class BlockKey:
    """A block of 8 x 8 tiles of a gallery level."""

    gallery_id: int
    level: int
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class BlockRow:
    """The maps of a block as stored: see table gradient_block."""

    column: int
    row: int
    maps: bytes
    cover: bytes


def pending_blocks(conn: Connection, gallery_id: int, level: int) -> list[tuple[BlockKey, int]]:
    """Return the blocks whose maps are missing or out of date, with how many tiles each has now."""
    rows = conn.execute(statement("pending_gradient_blocks"), {"gallery_id": gallery_id, "level": level})
    return [(BlockKey(gallery_id, level, column, row), tiles) for row, column, tiles in rows]


def put_block(conn: Connection, key: BlockKey, bounds: Bounds, tiles: int, maps: bytes, cover: bytes) -> None:
    """Store the maps of a block."""
    values = {
        "gallery_id": key.gallery_id,
        "level": key.level,
        "block_column": key.column,
        "block_row": key.row,
        "west": bounds.west_deg,
        "south": bounds.south_deg,
        "east": bounds.east_deg,
        "north": bounds.north_deg,
        "tiles": tiles,
        "maps": maps,
        "cover": cover,
    }
    conn.execute(statement("put_gradient_block"), values)


def list_blocks(conn: Connection, gallery_id: int, level: int, within: str | None) -> list[tuple[int, int]]:
    """Return (column, row) of the blocks of a gallery level, all or those that touch a polygon (GeoJSON)."""
    values = {"gallery_id": gallery_id, "level": level, "within": within}
    return [(column, row) for column, row in conn.execute(statement("list_gradient_blocks"), values)]


def read_blocks(conn: Connection, gallery_id: int, level: int, blocks: Sequence[tuple[int, int]]) -> list[BlockRow]:
    """Return the maps of blocks given as (column, row); those that don't exist are left out."""
    columns, rows = [c for c, _ in blocks], [r for _, r in blocks]
    values = {"gallery_id": gallery_id, "level": level, "columns": columns, "rows": rows}
    return [BlockRow(*row) for row in conn.execute(statement("read_gradient_blocks"), values, binary=True)]
