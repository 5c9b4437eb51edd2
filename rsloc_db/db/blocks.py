"""Gradient maps in the database: blocks of tiles as rows with a footprint, and overviews as larger ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rsloc_db.db.connection import Connection, statement
from rsloc_db.types import Bounds


@dataclass(frozen=True, slots=True)
class LayerKey:
    """A gallery level as it looked at some time.

    Attributes:
        gallery_id: the gallery.
        level: its level.
        layer: which date of each cell: 0 for the newest, 1 for the one before it, and so on, or the oldest.
    """

    gallery_id: int
    level: int
    layer: int = 0

    @property
    def newest(self) -> LayerKey:
        """The same level at its newest date, which stands for all of them."""
        return replace(self, layer=0)

    @property
    def columns(self) -> dict[str, int]:
        """The key as values of a statement."""
        return {"gallery_id": self.gallery_id, "level": self.level, "layer": self.layer}


@dataclass(frozen=True, slots=True)
class BlockKey:
    """A block of a layer of a gallery level, see ``LayerKey``.

    Attributes:
        of: the layer.
        pool: cells a side that are averaged into one: 1, or more in an overview, whose blocks cover as many more tiles.
        column: column of its first tile, by tiles a side.
        row: likewise.
    """

    of: LayerKey
    pool: int
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class BlockRow:
    """The maps of a block as stored: see table gradient_block."""

    column: int
    row: int
    maps: bytes
    cover: bytes


def pending_blocks(
    conn: Connection, gallery_id: int, level: int, pool: int, side: int, layers: int
) -> list[tuple[BlockKey, int]]:
    """Return the blocks whose maps are missing or out of date, with how many tiles each has now.

    Args:
        conn: a connection.
        gallery_id: the gallery.
        level: its level.
        pool: cells a side that are averaged into one.
        side: tiles a side of such a block.
        layers: most dates of a block.
    """
    values = {"gallery_id": gallery_id, "level": level, "pool": pool, "side": side, "layers": layers}
    rows = conn.execute(statement("pending_gradient_blocks"), values)
    return [
        (BlockKey(LayerKey(gallery_id, level, layer), pool, column, row), tiles) for row, column, layer, tiles in rows
    ]


def count_layers(conn: Connection, gallery_id: int, level: int) -> int:
    """Return how many layers of dates a gallery level has maps of: one, or more where cells have several dates."""
    row = conn.execute(statement("gradient_layers"), {"gallery_id": gallery_id, "level": level}).fetchone()
    return int(row[0]) if row else 1


def put_block(conn: Connection, key: BlockKey, bounds: Bounds, tiles: int, maps: bytes, cover: bytes) -> None:
    """Store the maps of a block."""
    values = {
        **key.of.columns,
        "pool": key.pool,
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


def list_blocks(conn: Connection, key: LayerKey, within: str | None) -> list[tuple[int, int]]:
    """Return (column, row) of the blocks of a gallery level, all or those that touch a polygon (GeoJSON)."""
    values = {**key.columns, "within": within}
    return [(column, row) for column, row in conn.execute(statement("list_gradient_blocks"), values)]


def read_blocks(conn: Connection, key: LayerKey, pool: int, blocks: Sequence[tuple[int, int]]) -> list[BlockRow]:
    """Return the maps of blocks given as (column, row); those that don't exist are left out."""
    columns, rows = [c for c, _ in blocks], [r for _, r in blocks]
    values = {**key.columns, "columns": columns, "rows": rows, "pool": pool}
    return [BlockRow(*row) for row in conn.execute(statement("read_gradient_blocks"), values, binary=True)]
