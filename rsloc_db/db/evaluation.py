"""Typed functions around the SQL of runs, truth and evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from psycopg.rows import dict_row

from rsloc_db.db.connection import Connection, statement
from rsloc_db.errors import RunError
from rsloc_db.types import Json


def rows(conn: Connection, name: str, **values: int) -> list[Json]:
    """Run a named statement and return its rows as name -> value."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement(name), values).fetchall()


def find_run(conn: Connection, run: int | None = None) -> int:
    """Return a run's number after checking that it exists, the newest one's for None.

    Raises:
        RunError: there is no such run, or no run at all.
    """
    if run is None:
        row = conn.execute(statement("latest_run")).fetchone()
        if row is None or row[0] is None:
            raise RunError("there is no run yet: `rsloc-db localize PATH` makes one")
        return int(row[0])
    row = conn.execute(statement("run_exists"), {"run": run}).fetchone()
    if not (row and row[0]):
        raise RunError(f"there is no run {run}: `rsloc-db runs` lists them")
    return run


def delete_run(conn: Connection, run: int) -> None:
    """Forget a run and all that it found.

    Raises:
        RunError: there is no such run.
    """
    conn.execute(statement("delete_run"), {"run": find_run(conn, run)})


def store_truth(conn: Connection, truths: Iterable[Mapping[str, Any]]) -> int:
    """Store true places of the queries that the database knows, in place of older ones.

    Args:
        conn: a connection.
        truths: query_set, name, lon, lat (degrees or None), ring (WKT LINESTRING, closed, or None), corners (WKT
            MULTIPOINT or None), provider, landscape, simulated, source each.

    Returns:
        How many of them are queries that the database knows.
    """
    with conn.cursor() as cursor:
        cursor.executemany(statement("store_truth"), list(truths))
        return max(cursor.rowcount, 0)
