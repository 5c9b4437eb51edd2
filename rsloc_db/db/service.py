"""Typed functions around the SQL of what the service shows: galleries, tiles, runs and their queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, get_args

from psycopg import sql
from psycopg.rows import dict_row

from rsloc_db.db.connection import Connection, statement
from rsloc_db.db.export import map_cells
from rsloc_db.db.galleries import GalleryOverview, list_galleries
from rsloc_db.errors import GalleryError, RunError
from rsloc_db.types import Bounds, Cell, Json

MANY_TILES = 100_000
"""A map of more tiles than these is drawn from a sample of them."""
Order = Literal["name", "-name", "confidence", "-confidence", "error_m", "-error_m", "total_s", "-total_s"]
"""What queries of a run can be listed by; a minus turns it round."""


@dataclass(frozen=True, slots=True)
class TileKey:
    """A tile and the gallery that it is of."""

    gallery: str
    cell: Cell
    captured_at: datetime | None


def tiles_by_year(conn: Connection, gallery_id: int) -> list[Json]:
    """Return level, year (None where the date is not known) and number of tiles."""
    return _rows(conn, "service_levels", {"gallery_id": gallery_id})


def coverage(conn: Connection, gallery: str, level: int | None, limit: int) -> list[Json]:
    """Return the blocks in which a gallery has tiles; ``geometry`` is GeoJSON text (EPSG:4326)."""
    return _rows(conn, "service_coverage", {"gallery": gallery, "level": level, "limit": limit})


def tiles_in(
    conn: Connection,
    gallery_id: int,
    level: int,
    box: Bounds,
    *,
    since: date | None,
    until: date | None,
    limit: int,
) -> list[Json]:
    """Return the tiles of a level that touch a box, the newest first; both dates are included."""
    place = {"west": box.west_deg, "south": box.south_deg, "east": box.east_deg, "north": box.north_deg}
    values = {"gallery_id": gallery_id, "level": level, "since": since, "until": until, "limit": limit, **place}
    return _rows(conn, "service_tiles", values)


def spread_cells(conn: Connection, box: Mapping[str, int], stride: int, most: int) -> tuple[list[Cell], int]:
    """Return cells that have tiles, and the stride: each stands for stride x stride cells.

    Where a box holds few tiles they are found as ``map_cells`` does it, which looks at all of them. Of many, those at
    every so many rows and columns are looked up.

    Args:
        conn: a connection.
        box: gallery_id, level, first_column, last_column, first_row, last_row (both ends included).
        stride: what a large gallery is looked at by.
        most: how many cells of a small gallery, about.
    """
    row = conn.execute(statement("service_many_tiles"), {**box, "most": MANY_TILES}).fetchone()
    if row is None or not row[0]:
        return map_cells(conn, box, most)
    rows = list(range(-(-box["first_row"] // stride) * stride, box["last_row"] + 1, stride))
    found = conn.execute(statement("service_sampled_cells"), {**box, "rows": rows, "stride": stride})
    return [Cell(box["level"], column, line) for column, line in found], stride


def gallery_fingerprint(conn: Connection) -> tuple[str, tuple[Any, ...]]:
    """Return what tells that there are other galleries, and what tells that theirs have changed."""
    row = conn.execute(statement("service_fingerprint")).fetchone()
    return (str(row[0]), row[1:]) if row else ("", ())


def patient_overview(conn: Connection) -> list[GalleryOverview]:
    """Return what is known of all galleries however long it takes: about three seconds for a million tiles."""
    conn.execute(statement("service_no_hurry"))
    return list_galleries(conn)


def get_tile(conn: Connection, tile: int) -> TileKey:
    """Return where a tile belongs.

    Raises:
        GalleryError: there is no such tile.
    """
    row = conn.execute(statement("service_tile"), {"tile": tile}).fetchone()
    if row is None:
        raise GalleryError(f"there is no tile {tile}")
    gallery, level, column, line, captured_at = row
    return TileKey(gallery, Cell(level, column, line), captured_at)


def run_queries(
    conn: Connection,
    run: int,
    *,
    verdict: str | None,
    outcome: str | None,
    name: str | None,
    order: Order,
    limit: int,
    offset: int,
) -> tuple[list[Json], int]:
    """Return some queries of a run, and how many there are in all that match.

    Args:
        conn: a connection.
        run: number of the run.
        verdict: only those of this verdict.
        outcome: only those of this outcome (see view evaluation_strip).
        name: only those whose name holds this, whatever its case.
        order: what to list them by.
        limit: at most so many.
        offset: after so many.
    """
    if order not in get_args(Order):
        raise ValueError(f"expected one of {get_args(Order)}, found {order!r}")
    column = sql.SQL("strip.{} {}").format(
        sql.Identifier(order.removeprefix("-")), sql.SQL("DESC" if order.startswith("-") else "ASC")
    )
    values = {"run": run, "verdict": verdict, "outcome": outcome, "name": name, "limit": limit, "offset": offset}
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement("service_run_queries").format(order=column), values).fetchall()
    matched = rows[0]["matched"] if rows else 0
    return [{key: value for key, value in row.items() if key != "matched"} for row in rows], matched


def get_query(conn: Connection, run: int, query: int) -> Json:
    """Return what is known of a query of a run, the path of its file included.

    Raises:
        RunError: there is no such query in that run.
    """
    rows = _rows(conn, "service_query", {"run": run, "query": query})
    if not rows:
        raise RunError(f"there is no query {query} in run {run}")
    return rows[0]


def query_places(conn: Connection, run: int, query: int) -> list[Json]:
    """Return the candidate places of a query of a run, the one with the most evidence first."""
    return _rows(conn, "service_places", {"run": run, "query": query})


def comparison(conn: Connection, a: int, b: int) -> list[Json]:
    """Return the queries of two runs with both places (lon, lat in degrees) and the ground metres between them."""
    return _rows(conn, "service_comparison", {"a": a, "b": b})


def forget_pending(conn: Connection, path: str) -> None:
    """Forget the unfinished run of an image whose process was ended.

    Raises:
        psycopg.errors.LockNotAvailable: the process's session has not ended within seconds.
    """
    conn.execute(statement("service_patience"))
    conn.execute(statement("service_forget_pending"), {"path": path})


def _rows(conn: Connection, name: str, values: dict[str, Any]) -> list[Json]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement(name), values).fetchall()
