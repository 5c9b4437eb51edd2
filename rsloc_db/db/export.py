"""Typed functions around the SQL of maps and exports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg.rows import dict_row

from rsloc_db.db.connection import Connection, statement
from rsloc_db.types import Bounds, Cell, Json

CHUNK = 10_000
"""Rows that are held at a time: votes of a run may be millions."""

Rows = list[tuple[Any, ...]]


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


def georeference_queries(conn: Connection, run: int) -> list[Json]:
    """Return the queries of a run with their files and transforms."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement("georeference_queries"), {"run": run}).fetchall()


def report_strips(conn: Connection, run: int) -> list[Json]:
    """Return what a report shows of each query of a run, failures first; shapes are WKB (EPSG:4326) or None."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement("report_strips"), {"run": run}).fetchall()


def run_extent(conn: Connection, run: int) -> Bounds:
    """Return a box around what a run found and the truth of its queries, the whole world where there is nothing."""
    row = conn.execute(statement("run_extent"), {"run": run}).fetchone()
    return Bounds(*row) if row and row[0] is not None else Bounds(-180.0, -90.0, 180.0, 90.0)


@contextmanager
def layer_rows(conn: Connection, layer: str, run: int) -> Iterator[tuple[dict[str, str], Iterator[Rows]]]:
    """Read a layer of a run by the statement ``export_<layer>``, some rows at a time.

    Yields:
        Name -> PostgreSQL type of each column, in order, the last one being the geometry (EPSG:4326) as WKB; and the
        rows in parts of ``CHUNK``.
    """
    with conn.cursor(f"layer_{layer}") as cursor:
        cursor.execute(statement(f"export_{layer}"), {"run": run})
        types = {c.name: _type_name(conn, c.type_code) for c in cursor.description or ()}
        yield types, iter(lambda: cursor.fetchmany(CHUNK), [])


def _type_name(conn: Connection, code: int) -> str:
    known = conn.adapters.types.get(code)
    return "text" if known is None else known.name if known.oid == code else f"{known.name}[]"


def view_comment(conn: Connection, view: str) -> str:
    """Return what a view is, as its comment in the database says; nothing where it has none."""
    row = conn.execute(statement("view_comment"), {"view": view}).fetchone()
    return str(row[0]) if row and row[0] else ""
