"""Whole queries, searched and stored as ``localize`` does: seconds of each part. Used by ``knn.py``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from knn_sets import say

from rsloc_db.db import runs
from rsloc_db.db.connection import Connection, statement
from rsloc_db.db.embeddings import partition_name
from rsloc_db.db.evaluation import delete_run
from rsloc_db.db.runs import Key, Target
from rsloc_db.db.search import ef_search, search, search_statement
from rsloc_db.models import Embedder
from rsloc_db.queries import QueryFile
from rsloc_db.stages.localize import choose_levels
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query
from rsloc_db.stages.retrieve import embedded, searches
from rsloc_db.types import Pixels

QUERY_SET = "benchmark of nearest neighbours"


@dataclass(frozen=True)
class Timed:
    """Seconds of one query's retrieval; ``find_s`` is the search alone, votes and rows left out."""

    patches: int
    hits: int
    embed_s: float
    patches_s: float
    search_s: float
    find_s: float

    @property
    def total_s(self) -> float:
        """From pixels to committed hits."""
        return self.embed_s + self.patches_s + self.search_s


def measure_queries(
    conn: Connection, queries: Iterable[tuple[QueryFile, Query]], targets: list[Target], model: Embedder,
    options: Options,
) -> None:  # fmt: skip
    """Retrieve each query in a run of its own, print the table, and delete what was stored."""
    timed: list[Timed] = []
    for file, query in queries:
        chosen = choose_levels(targets, query.frame.scale)
        with conn.transaction():
            query_id = runs.upsert_query(conn, QUERY_SET, file.name, str(file.path), "")
            key = Key(runs.begin_run(conn, QUERY_SET, {}, f"{QUERY_SET} {file.name}", "", [query_id]), query_id)
        try:
            # the first one wakes the caches
            for _ in range(1 if timed else 2):
                found = retrieve_timed(conn, key, query, chosen, model, options)
            timed.append(found)
        finally:
            delete_run(conn, key.run_id)
            conn.execute("DELETE FROM query WHERE id = %s", (query_id,))
        say(f"{file.name}: {timed[-1].patches} patches, {timed[-1].total_s:.2f} s")
    print_queries(timed, options)


def retrieve_timed(
    conn: Connection, key: Key, query: Query, targets: list[Target], model: Embedder, options: Options
) -> Timed:
    """Do what ``retrieve`` does, on the clock, commit it, and search once more without storing."""
    pixels = query.frame.scale.pixels
    with conn.transaction():
        runs.claim_query(conn, key)
    marks = [time.perf_counter()]
    cuts = list(embedded(query, targets, model, options))
    marks.append(time.perf_counter())
    rows = [p for patches, _ in cuts for p in patches]
    with conn.transaction():
        for patches, vectors in cuts:
            runs.copy_patches(conn, key, patches, vectors)
        marks.append(time.perf_counter())
        for target, k in searches(targets, rows, options):
            search(conn, key, target, pixels, limit=k)
    marks.append(time.perf_counter())
    hits = sum(find(conn, key, target, pixels, k) for target, k in searches(targets, rows, options))
    marks.append(time.perf_counter())
    return Timed(len(rows), hits, *map(float, np.diff(marks)))


def find(conn: Connection, key: Key, target: Target, pixels: Pixels, k: int) -> int:
    """Search for the stored patches as the package does, and count what is found."""
    exact = target.index_kind == "exact"
    text = search_statement(partition_name(target.set_id), target.dimensions, pixels, exact=exact)
    place = {"level": target.level, "window_tiles": target.window_tiles, "limit": k, "within": None}
    with conn.transaction():
        if not exact:
            conn.execute(statement("prepare_hnsw"), {"ef_search": str(ef_search(k))})
        counted = b"SELECT count(*), sum(rank), sum(similarity) FROM (" + text.as_bytes(conn) + b") f"
        row = conn.execute(counted, {**key.columns, **place}).fetchone()
    return int(row[0]) if row else 0


def print_queries(timed: list[Timed], options: Options) -> None:
    """Print the median and the ninth decile of each part, and how many patches there were."""
    patches, hits = (np.array([getattr(t, name) for t in timed]) for name in ("patches", "hits"))
    print(f"\n### One query: retrieval of {len(timed)} queries, patches of all window widths, in seconds\n")
    print(
        f"at most {options.patches} patches of the widest windows, {patches.min()} to {patches.max()} in all, ", end=""
    )
    print(f"{patches.mean():.0f} on average, {hits.mean():,.0f} hits")
    print("\n| part | p50 | p90 | p50 a patch, ms |\n|---|---|---|---|")
    parts = {
        "cut and embed the patches": [t.embed_s for t in timed],
        "store the patches": [t.patches_s for t in timed],
        "search": [t.find_s for t in timed],
        "votes, store the hits, commit": [t.search_s - t.find_s for t in timed],
        "all": [t.total_s for t in timed],
    }
    for name, seconds in parts.items():
        p50, p90 = np.quantile(seconds, (0.5, 0.9))
        print(f"| {name} | {p50:.3f} | {p90:.3f} | {1000 * np.median(np.array(seconds) / patches):.2f} |")
