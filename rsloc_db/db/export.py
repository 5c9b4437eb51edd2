"""Typed functions around the SQL of maps."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg.rows import dict_row

from rsloc_db.db.connection import Connection, statement
from rsloc_db.types import Cell, Json


def map_queries(conn: Connection, run: int) -> list[Json]:
    """Return the queries of a run with answer and truth; shapes are GeoJSON texts (EPSG:4326) or None."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement("map_queries"), {"run": run}).fetchall()


def map_places(conn: Connection, run: int, top: int) -> list[Json]:
    """Return the best places of each query of a run."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement("map_places"), {"run": run, "top": top}).fetchall()


def map_galleries(conn: Connection, run: int) -> list[tuple[str, int, int]]:
    """Return name, lowest and highest searched level of each gallery that a run searched and that is still there."""
    return [(name, low, high) for name, low, high in conn.execute(statement("map_galleries"), {"run": run})]


def map_cells(conn: Connection, box: Mapping[str, int], most: int) -> tuple[list[Cell], int]:
    """Return cells that have tiles, about ``most`` at most, and the stride: each stands for stride x stride cells.

    Args:
        conn: a connection.
        box: gallery_id, level, first_column, last_column, first_row, last_row (both ends included).
        most: how many.
    """
    found = conn.execute(statement("map_cells"), {**box, "most": most}).fetchall()
    return [Cell(box["level"], column, row) for column, row, _ in found], found[0][2] if found else 1
