"""The views to draw, as collections of features: filtered, paged, and without the places of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from rsloc_db.db.connection import Connection, statement
from rsloc_db.errors import ExportError
from rsloc_db.types import Bounds, Json

COUNTED = 1_000_000
"""Features are counted up to here: votes of all runs may be many millions."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A view whose rows are features.

    Attributes:
        name: what it is called in addresses.
        view: the view, whose comment says what it is.
        geometry: its column with the geometry (EPSG:4326).
        may_cross: whether its shapes may run on past 180 degrees and are to be cut there.
        hidden: columns that are not shown.
    """

    name: str
    view: str
    geometry: str
    may_cross: bool = False
    hidden: tuple[str, ...] = ()


COLLECTIONS = {
    each.name: each
    for each in (
        Collection("localizations", "localization_map", "footprint"),
        Collection("queries", "query_map", "center", hidden=("path",)),
        Collection("ellipses", "ellipse_map", "ellipse", may_cross=True),
        Collection("places", "place_map", "footprint"),
        Collection("cliques", "clique_map", "lines", may_cross=True),
        Collection("votes", "vote_map", "vote"),
        Collection("matches", "match_map", "line", may_cross=True),
        Collection("outcomes", "evaluation_outcome_map", "footprint"),
        Collection("errors", "evaluation_error_map", "line", may_cross=True),
        Collection("truth", "evaluation_truth_map", "footprint", hidden=("source",)),
        Collection("coverage", "coverage_map", "footprint"),
    )
}


@dataclass(frozen=True, slots=True)
class Page:
    """Some features of a collection.

    Attributes:
        features: (key, GeoJSON text or None, properties) each.
        matched: how many there are in all; None where they are more than ``COUNTED``.
    """

    features: list[tuple[int, str | None, Json]]
    matched: int | None


def read_features(
    conn: Connection,
    collection: Collection,
    filters: Mapping[str, Any],
    *,
    box: Bounds | None = None,
    limit: int = 100,
    after: int = 0,
    count: bool = True,
) -> Page:
    """Read some features of a collection, in the order of their keys.

    Args:
        conn: a connection.
        collection: which one.
        filters: column -> value that it must have.
        box: only features that touch it; its west may be greater than its east (across the antimeridian).
        limit: at most so many.
        after: only those of greater keys: what comes after a page, at the same cost for each.
        count: whether to count them all.

    Raises:
        ExportError: the collection has no such column.
    """
    parts, values = _conditions(conn, collection, filters, box)
    view = sql.Identifier(collection.view)
    column = sql.SQL("shown.{}").format(sql.Identifier(collection.geometry))
    shape = sql.SQL("cut_at_antimeridian({})").format(column) if collection.may_cross else column
    text = statement("service_features").format(
        geometry=shape, column_name=sql.Literal(collection.geometry), view=view, conditions=parts
    )
    page = {"limit": limit, "after": after, "hidden": list(collection.hidden)}
    found = conn.execute(text, {**values, **page}).fetchall()
    if not count:
        return Page(found, None)
    counted = statement("service_feature_count").format(view=view, conditions=parts)
    row = conn.execute(counted, {**values, "most": COUNTED + 1}).fetchone()
    matched = int(row[0]) if row else 0
    return Page(found, matched if matched <= COUNTED else None)


def column_types(conn: Connection, collection: Collection) -> dict[str, str]:
    """Return the columns that can be filtered by, with their types as PostgreSQL names them."""
    with conn.cursor() as cursor:
        found = cursor.execute(statement("service_view_columns"), {"view": collection.view}).fetchall()
    hidden = {collection.geometry, *collection.hidden}
    return {name: kind for name, kind in found if name not in hidden}


def query_features(conn: Connection, collection: Collection, run: int, query: Json, limit: int) -> list[Json]:
    """Return the features of one query of a run as GeoJSON rows: id, geometry (text), properties.

    Args:
        conn: a connection.
        collection: one that has columns run_id, query_set and name.
        run: number of the run.
        query: has ``query_set`` and ``name``.
        limit: at most so many.
    """
    filters = {"query_set": query["query_set"], "name": query["name"]}
    if collection.name != "truth":
        filters["run_id"] = run
    page = read_features(conn, collection, filters, limit=limit, count=False)
    return [{"id": key, "geometry": shape, **values} for key, shape, values in page.features]


def _conditions(
    conn: Connection, collection: Collection, filters: Mapping[str, Any], box: Bounds | None
) -> tuple[sql.Composable, dict[str, Any]]:
    types = column_types(conn, collection)
    unknown = filters.keys() - types.keys()
    if unknown:
        raise ExportError(f"collection {collection.name} has no column {min(unknown)!r}: it has {', '.join(types)}")
    values: dict[str, Any] = {f"filter_{name}": value for name, value in filters.items()}
    parts: list[sql.Composable] = [
        sql.SQL("shown.{} = {}").format(sql.Identifier(name), sql.Placeholder(f"filter_{name}")) for name in filters
    ]
    if box is not None:
        parts.append(statement("service_feature_box").format(column=sql.Identifier(collection.geometry)))
        values |= _box_values(box)
    return (sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")), values


def _box_values(box: Bounds) -> dict[str, float]:
    crossing = box.west_deg > box.east_deg
    first, second = (
        (box.west_deg, 180.0 if crossing else box.east_deg),
        (-180.0 if crossing else box.west_deg, box.east_deg),
    )
    (west, east), (west_2, east_2) = first, second
    sides = {"south": box.south_deg, "north": box.north_deg}
    return {"west": west, "east": east, "west_2": west_2, "east_2": east_2, **sides}
