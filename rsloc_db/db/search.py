"""The search for the nearest tiles of patches: where the patches are stored, or by other connections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from psycopg import sql

from rsloc_db.db.connection import Connection, statement
from rsloc_db.db.embeddings import partition_name
from rsloc_db.db.runs import Key, Target
from rsloc_db.types import Json, Pixels

EXACT_WITHIN = 30_000
"""A search inside a polygon that fewer tiles touch compares all of them; the index would rarely hit any."""
EF_SEARCH = 500
"""What HNSW looks through, at least. Recall depends on it, and hardly on how many tiles are asked for: of 824,796
windows of one tile it finds .92 with 100, .97 with 200, .979 with 400, .985 with 600; of windows of three tiles .95
with 500 (benchmarks/knn.py, docs/performance.md)."""


def search(
    conn: Connection,
    key: Key,
    target: Target,
    pixels: Pixels,
    *,
    limit: int,
    within: str | None = None,
    readers: Sequence[Connection] = (),
) -> None:
    """Find the nearest tiles of all patches of a query in an embedding set, and store them as hits with votes.

    Args:
        conn: a connection in a transaction.
        key: the query.
        target: where to search.
        pixels: unit of the patches' offsets.
        limit: tiles a patch, at most 1,000.
        within: GeoJSON of a polygon (EPSG:4326): only tiles that touch it are searched, exactly if they are few.
        readers: connections in autocommit, to a replica or to the same database, that search in ``conn``'s stead, each
            for a share of the patches and all at once; hits are stored by ``conn`` all the same.
    """
    place = {"gallery_id": target.gallery_id, "level": target.level, "window_tiles": target.window_tiles}
    values: Json = {**key.columns, **place, "limit": limit, "within": within}
    conns = tuple(readers) or (conn,)
    exact = target.index_kind == "exact" or (within is not None and _is_small(conns[0], values))
    table = partition_name(target.set_id)
    text = search_statement(table, target.dimensions, pixels, exact=exact, sent=bool(readers))
    if not readers:
        with _looking(conn, limit, exact=exact):
            conn.execute(statement("insert_hits").format(search=text), values)
        return

    def find(reader: Connection, patches: Json) -> list[tuple[Any, ...]]:
        with _looking(reader, limit, exact=exact):
            return reader.execute(text, {**values, **patches}).fetchall()

    shares = _patches(conn, values, len(readers))
    with ThreadPoolExecutor(len(readers)) as pool:
        # fewer shares than connections where there are few patches
        for hits in pool.map(find, readers, shares):
            _keep(conn, values, hits)


@contextmanager
def _looking(conn: Connection, limit: int, *, exact: bool) -> Iterator[None]:
    """Begin a transaction that looks through enough of an HNSW index for ``limit`` tiles, if it is to use one."""
    with conn.transaction():
        if not exact:
            conn.execute(statement("prepare_hnsw"), {"ef_search": str(ef_search(limit))})
        yield
        if not exact:
            conn.execute(statement("finish_hnsw"))


def ef_search(limit: int) -> int:
    """Return how much of the graph to look through for ``limit`` tiles: HNSW returns at most so many, silently."""
    return min(1000, max(2 * limit, EF_SEARCH))


def search_statement(
    table: sql.Identifier, dimensions: int, pixels: Pixels, *, exact: bool, sent: bool = False
) -> sql.Composed:
    """Return the statement that finds the nearest tiles of patches, with their votes.

    Args:
        table: where the vectors are: columns tile_id and vector.
        dimensions: length of a vector.
        pixels: unit of the patches' offsets.
        exact: compare all of them, else use the table's HNSW index, for which ``prepare_hnsw`` must have run.
        sent: patches are sent along as parameters, else they are read where they are stored.
    """
    return statement("search_exact" if exact else "search_hnsw").format(
        vector=sql.SQL("halfvec({})").format(sql.Literal(dimensions)),
        partition=table,
        vote=statement(f"vote_{pixels}"),
        patches=statement("patches_sent" if sent else "patches_stored"),
    )


def _patches(conn: Connection, values: Json, shares: int) -> list[Json]:
    """Return the patches of a query for one embedding set, column by column as they are sent, in so many shares."""
    rows = conn.execute(statement("patches_stored"), values).fetchall()
    names = ("ids", "east", "north", "low", "high", "vectors")
    size = max(-(-len(rows) // shares), 1)
    sent = []
    for first in range(0, len(rows), size):
        columns = dict(zip(names, map(list, zip(*rows[first : first + size], strict=True)), strict=True))
        sent.append(columns | {"vectors": [vector.to_text() for vector in columns["vectors"]]})
    return sent


def _keep(conn: Connection, values: Json, hits: list[tuple[Any, ...]]) -> None:
    """Store what was found elsewhere: (patch_id, tile_id, rank, similarity, vote) each."""
    with conn.cursor().copy(statement("copy_hits")) as copy:
        for hit in hits:
            copy.write_row((values["run_id"], values["query_id"], values["gallery_id"], *hit))


def _is_small(conn: Connection, values: Json) -> bool:
    """Tell whether few enough tiles touch a polygon to compare every one of them with every patch."""
    row = conn.execute(statement("count_tiles_within"), {**values, "limit": EXACT_WITHIN}).fetchone()
    return row is not None and int(row[0]) < EXACT_WITHIN
