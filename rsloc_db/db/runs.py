"""Typed functions around the SQL of queries and runs: what a run found, stage by stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql
from psycopg.types.json import Jsonb

from rsloc_db.db.connection import Connection, statement
from rsloc_db.errors import QueryError
from rsloc_db.types import Json, Pose

BIN_TILES = 1.5
"""Least width of the bins of votes, in tiles; a whole number of them goes around the world."""


@dataclass(frozen=True, slots=True)
class Key:
    """A query of a run: what every row of a run is tied to."""

    run_id: int
    query_id: int

    @property
    def columns(self) -> dict[str, int]:
        """The key as parameters of a statement."""
        return {"run_id": self.run_id, "query_id": self.query_id}


@dataclass(frozen=True, slots=True)
class Target:
    """An embedding set to search: one gallery level with one window width.

    Attributes:
        min_abs_lat_deg: smallest absolute latitude of its tiles.
        max_abs_lat_deg: largest absolute latitude of its tiles.
    """

    gallery_id: int
    gallery: str
    grid: str
    level: int
    window_tiles: int
    set_id: int
    index_kind: str
    dimensions: int
    min_abs_lat_deg: float
    max_abs_lat_deg: float


@dataclass(frozen=True, slots=True)
class PatchRow:
    """A patch as stored; see the table for units."""

    level: int
    window_tiles: int
    x_px: float
    y_px: float
    width_px: float
    height_px: float
    east_offset: float
    north_offset: float
    min_abs_lat_deg: float
    max_abs_lat_deg: float
    turn_deg: float = 0.0
    zoom: float = 1.0


_PATCH_TYPES = ("int2", "int2", *("float4",) * 4, "float8", "float8", *("float4",) * 4)
"""Types of the columns that a ``PatchRow`` fills, in its order."""


@dataclass(frozen=True, slots=True)
class CliqueRow:
    """A clique as stored; lon, lat in degrees."""

    id: int
    gallery_id: int
    level: int
    score: float
    patches: int
    lon_deg: float
    lat_deg: float
    turn_deg: float = 0.0
    zoom: float = 1.0

    @property
    def pose(self) -> Pose:
        """The pose in which its patches see the query."""
        return Pose(self.turn_deg, self.zoom)


@dataclass(frozen=True, slots=True)
class RunHit:
    """A hit of a run with its query, patch, tile and vote; centres and votes are lon, lat in degrees."""

    query_id: int
    query: str
    path: str
    gallery_id: int
    gallery: str
    level: int
    patch_id: int
    x_px: float
    y_px: float
    width_px: float
    height_px: float
    column: int
    row: int
    lon_deg: float
    lat_deg: float
    vote_lon_deg: float
    vote_lat_deg: float


def search_targets(conn: Connection, model: str, weights_hash: str, galleries: Sequence[str] | None) -> list[Target]:
    """Return the embedding sets of a model in the ready galleries, or in those named."""
    names = list(galleries) if galleries else None
    found = conn.execute(
        statement("search_targets"), {"model": model, "weights_hash": weights_hash, "galleries": names}
    )
    return [Target(*row) for row in found]


def replica_lag_s(conn: Connection) -> float | None:
    """Return the age in seconds of what a replica has last replayed; None where the server is none."""
    row = conn.execute(statement("replica_lag")).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def count_tiles(conn: Connection, gallery_ids: Sequence[int]) -> int:
    """Return how many tiles galleries have."""
    return _one(conn, "count_tiles", {"gallery_ids": list(gallery_ids)})


def upsert_query(conn: Connection, query_set: str, name: str, path: str, content_hash: str) -> int:
    """Register a query image and return its key.

    Raises:
        QueryError: runs refer to another image, of another folder, by the same set and name.
    """
    values = {"query_set": query_set, "name": name, "path": path, "content_hash": content_hash}
    row = conn.execute(statement("upsert_query"), values).fetchone()
    if row is None:
        known = conn.execute(statement("query_path"), values).fetchone()
        raise QueryError(
            f"query {name} of set {query_set} is known as {known[0] if known else 'another image'}, and runs refer to "
            "it: rename the folder of these images, or delete those runs (`rsloc-db runs`)"
        )
    return int(row[0])


def begin_run(
    conn: Connection, query_set: str, settings: Json, settings_hash: str, code_version: str, query_ids: Sequence[int]
) -> int:
    """Begin a run and say which queries belong to it; returns its key."""
    values = {
        "query_set": query_set,
        "settings": Jsonb(settings),
        "settings_hash": settings_hash,
        "code_version": code_version,
    }
    run_id = _one(conn, "insert_run", values)
    conn.execute(statement("insert_run_queries"), {"run_id": run_id, "query_ids": list(query_ids)})
    return run_id


def find_run(conn: Connection, settings_hash: str) -> int | None:
    """Return the newest run with these settings, queries, galleries and code, or None.

    Until the transaction ends, other processes that look for it wait: of two that begin it at once one does.
    """
    conn.execute(statement("lock_run"), {"settings_hash": settings_hash})
    row = conn.execute(statement("find_run"), {"settings_hash": settings_hash}).fetchone()
    return int(row[0]) if row else None


def pending_queries(conn: Connection, run_id: int) -> set[int]:
    """Return the queries of a run that are still to do."""
    return {int(row[0]) for row in conn.execute(statement("pending_queries"), {"run_id": run_id})}


def claim_query(conn: Connection, key: Key, *, wait: bool = False) -> bool:
    """Lock a query until the transaction ends and forget what an unfinished try left of it.

    Args:
        conn: a connection in a transaction.
        key: the query.
        wait: whether to wait for another process that holds the query.

    Returns:
        False when another process has done the query, or holds it and is not waited for.
    """
    name = "await_query" if wait else "claim_query"
    if conn.execute(statement(name), key.columns).fetchone() is None:
        return False
    for name in ("delete_localization", "delete_places", "delete_cliques", "delete_patches"):
        conn.execute(statement(name), key.columns)
    return True


def set_query_size(conn: Connection, query_id: int, width_px: int, height_px: int) -> None:
    """Keep a query's size."""
    conn.execute(statement("set_query_size"), {"query_id": query_id, "width_px": width_px, "height_px": height_px})


def copy_patches(conn: Connection, key: Key, patches: Sequence[PatchRow], vectors: NDArray[np.float32]) -> None:
    """Store patches with their vectors, (N, D) float32."""
    columns = [field.name for field in fields(PatchRow)]
    to = f"patch (run_id, query_id, {', '.join(columns)}, vector)"
    with conn.cursor().copy(f"COPY {to} FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "int8", *_PATCH_TYPES, "halfvec"])
        for p, vector in zip(patches, vectors, strict=True):
            row = (getattr(p, column) for column in columns)
            copy.write_row((key.run_id, key.query_id, *row, HalfVector(vector)))


def find_cliques(conn: Connection, key: Key, target: Target, *, limit: int, p_hit: float) -> None:
    """Find and store the cliques of a query in one gallery level.

    Args:
        conn: a connection in a transaction.
        key: the query.
        target: the gallery level.
        limit: cliques to keep.
        p_hit: chance that a patch has a right hit where the query really is.
    """
    mercator = target.grid == "web_mercator"
    y = "(1 - asinh(tan(radians(ST_Y(h.vote)))) / pi()) / 2" if mercator else "(180.0 - ST_Y(h.vote)) / 360.0"
    back = "degrees(atan(sinh(pi() * (1 - 2 * {y}))))" if mercator else "(180.0 - 360.0 * {y})"
    lat = back.format(y="(v / %(tiles)s)")
    text = statement("insert_cliques").format(
        v=sql.SQL(y),
        lat_of_line=sql.SQL(f"abs({back.format(y='((l.bv + 0.5) * %(bin)s / %(tiles)s)')})"),
        lat_of_place=sql.SQL(f"abs({lat})"),
        lat_of_center=sql.SQL(f"greatest(-90.0, least(90.0, {lat}))"),
    )
    tiles = 2**target.level
    bins = max(int(tiles / BIN_TILES), 1)
    place = {"gallery_id": target.gallery_id, "level": target.level, "tiles": tiles, "bins": bins, "bin": tiles / bins}
    # the planner knows nothing of the sizes in between: it would compare all with all, and sort what is better hashed
    # (and with JIT, which its made-up costs would set off, it would compile for longer than it runs)
    conn.execute(
        "SELECT set_config('enable_nestloop', 'off', true), set_config('enable_sort', 'off', true), "
        "set_config('jit', 'off', true)"
    )
    conn.execute(text, {**key.columns, **place, "limit": limit, "p_hit": p_hit})
    conn.execute("SELECT set_config('enable_nestloop', 'on', true), set_config('enable_sort', 'on', true)")


def delete_cliques(conn: Connection, key: Key) -> None:
    """Delete the cliques of a query."""
    conn.execute(statement("delete_cliques"), key.columns)


def ranked_cliques(conn: Connection, key: Key, limit: int) -> list[CliqueRow]:
    """Rank the cliques of a query over all gallery levels, and return the best."""
    conn.execute(statement("rank_cliques"), key.columns)
    return [CliqueRow(*row) for row in conn.execute(statement("clique_candidates"), {**key.columns, "limit": limit})]


def run_hits(conn: Connection, run_id: int) -> list[RunHit]:
    """Return a run's hits of patches that lie as stated, by query, gallery, level, patch and rank."""
    return [RunHit(*row) for row in conn.execute(statement("run_hits"), {"run_id": run_id})]


def insert_place(conn: Connection, key: Key, values: Mapping[str, Any]) -> int:
    """Store a verified place and return its key."""
    return _one(conn, "insert_place", {**key.columns, **values})


def copy_matches(conn: Connection, key: Key, place_id: int, rows: Iterable[tuple[Any, ...]]) -> None:
    """Store matches of a place: (x_px, y_px, lon, lat, score, residual_m, inlier) each."""
    columns = "run_id, query_id, place_id, x_px, y_px, location, score, residual_m, inlier"
    with conn.cursor().copy(f"COPY match ({columns}) FROM STDIN") as copy:
        for x_px, y_px, lon, lat, *rest in rows:
            point = f"SRID=4326;POINT({lon!r} {lat!r})"
            copy.write_row((key.run_id, key.query_id, place_id, x_px, y_px, point, *rest))


def insert_localization(conn: Connection, key: Key, values: Mapping[str, Any]) -> None:
    """Store the answer for a query."""
    conn.execute(statement("insert_localization"), {**key.columns, **values})


def finish_query(
    conn: Connection, key: Key, status: str, seconds: Mapping[str, float | None], peak_memory_mb: float
) -> None:
    """Mark a query as done or failed, with the seconds of its stages (retrieve, cliques, verify, refine, total)."""
    timed = {f"{stage}_s": seconds.get(stage) for stage in ("retrieve", "cliques", "verify", "refine", "total")}
    conn.execute(
        statement("finish_query"), {**key.columns, "status": status, "peak_memory_mb": peak_memory_mb, **timed}
    )


def finish_run(conn: Connection, run_id: int) -> None:
    """Mark a run as finished if nothing of it is pending."""
    conn.execute(statement("finish_run"), {"run_id": run_id})


def results(conn: Connection, run_id: int, top: int) -> list[Json]:
    """Return the answers of a run: the objects of ``localize --json``.

    ``places`` are the runners-up: of the best ``top`` places those that are not the answer.
    """
    places: dict[int, list[Json]] = {}
    for query_id, rank, correlation, evidence, lon, lat, outline in conn.execute(
        statement("run_places"), {"run_id": run_id, "top": top}
    ):
        place = {"rank": rank, "correlation": correlation, "evidence": evidence, "center": [lon, lat]}
        places.setdefault(query_id, []).append({**place, "footprint": json.loads(outline)})
    found = conn.execute(statement("run_results"), {"run_id": run_id})
    return [_result(row, places.get(row[2], [])) for row in found]


def _result(row: tuple[Any, ...], places: list[Json]) -> Json:
    query_set, name, _, verdict, reason, confidence, lon, lat, outline, a_m, b_m, azimuth, transform, srid = row
    return {
        "query_set": query_set,
        "name": name,
        "verdict": verdict,
        "reason": reason,
        "confidence": confidence,
        "center": None if lon is None else [lon, lat],
        "footprint": None if outline is None else json.loads(outline),
        "ellipse": None if a_m is None else {"a_m": a_m, "b_m": b_m, "azimuth_deg": azimuth},
        "transform": None if transform is None else {"coefficients": transform, "srid": srid},
        "places": [place for place in places if lon is None or place["rank"] > 1],
    }


def _one(conn: Connection, name: str, values: Mapping[str, Any]) -> int:
    row = conn.execute(statement(name), values).fetchone()
    assert row is not None, f"{name} returned no row"  # noqa: S101
    return int(row[0])
