"""Indexes of embedding sets: which kind suits how many vectors, and how one is built beside what is searched."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Literal, LiteralString

from psycopg import sql

from rsloc_db.db.connection import Connection, statement
from rsloc_db.db.embeddings import EmbeddingSet, index_name, mark_set, partition_name
from rsloc_db.db.server import SAFE_PARALLEL_BUILD, pgvector_version
from rsloc_db.types import IndexChoice, Progress

HNSW_MIN_ROWS = 10_000
"""Sets of up to so many vectors are searched exactly, which misses nothing. From about 5,000 on HNSW is faster; here it
takes 0.6 of the time, at 20,000 a third (benchmarks/knn.py), and finds .997 of the nearest."""
HNSW_OVERHEAD_BYTES = 450
"""What HNSW (m = 16) keeps of a vector beside its numbers: 1,953 bytes a row measured at 768 dimensions."""
BUILD_MIN_MB = 64
CACHE_SHARE = 4
"""A build may take so much of what the server says it has for caches (``effective_cache_size``): one part in four."""

_POLL_S = 1.0


def choose_index(count: int, wanted: IndexChoice = "auto") -> Literal["exact", "hnsw"]:
    """Return how a set of ``count`` vectors is searched: as wanted, else as suits its size."""
    if wanted != "auto":
        return wanted
    return "hnsw" if count > HNSW_MIN_ROWS else "exact"


def build_memory_mb(count: int, dimensions: int, maintenance_mb: int, cache_mb: int) -> tuple[int, int]:
    """Return the memory that an HNSW build needs to stay fast, and what it gets of it, in MiB.

    Args:
        count: vectors.
        dimensions: length of a vector.
        maintenance_mb: the server's ``maintenance_work_mem``.
        cache_mb: its ``effective_cache_size``: the one setting that tells how much memory there is.
    """
    needed = max(count * (2 * dimensions + 2 * HNSW_OVERHEAD_BYTES) >> 20, BUILD_MIN_MB)
    return needed, min(needed, max(maintenance_mb, cache_mb // CACHE_SHARE, BUILD_MIN_MB))


def count_vectors(conn: Connection, of: EmbeddingSet) -> int:
    """Return how many vectors a set has."""
    row = conn.execute(statement("embedding_count"), {"set_id": of.id}).fetchone()
    return int(row[0]) if row else 0


def complete_set(
    conn: Connection,
    watcher: Connection,
    of: EmbeddingSet,
    progress: Progress,
    wanted: IndexChoice = "auto",
    at_once: int = 1,
) -> str:
    """Index a set whose vectors are all there, so that it is searched, and return its index kind.

    A set that is searched already stays so, by the index that it has, until the new one is there.

    Args:
        conn: a connection in autocommit.
        watcher: another one, that follows the build.
        of: the set.
        progress: where the build reports to.
        wanted: the kind of index; auto chooses by size.
        at_once: how many sets are completed at the same time, which share the server's memory.
    """
    count = count_vectors(conn, of)
    kind = choose_index(count, wanted)
    _drop_spares(conn, of)
    if kind == "hnsw":
        progress.task(f"index level {of.level}, {of.window_tiles} x {of.window_tiles}", count)
        _build(conn, watcher, of, count, progress, at_once)
    conn.execute(statement("embedding_analyze").format(partition=partition_name(of.id)))
    with conn.transaction():
        _rename(conn, index_name(of.id), index_name(of.id, "_old"))
        _rename(conn, index_name(of.id, "_next"), index_name(of.id))
        mark_set(conn, of.id, kind)
    _drop_spares(conn, of)
    return kind


def _drop_spares(conn: Connection, of: EmbeddingSet) -> None:
    """Drop the index that is replaced, and what a killed build left, while searches go on."""
    for suffix in ("_old", "_next"):
        conn.execute(statement("embedding_index_drop_beside").format(index=index_name(of.id, suffix)))


def _rename(conn: Connection, old: sql.Identifier, new: sql.Identifier) -> None:
    conn.execute(statement("embedding_index_rename").format(index=old, name=new))


def _build(
    conn: Connection, watcher: Connection, of: EmbeddingSet, count: int, progress: Progress, at_once: int
) -> None:
    """Build a set's next index in a thread while this one follows it; an interrupt cancels the build."""
    memory_mb, workers = _resources(conn, of, count, progress, at_once)
    with ThreadPoolExecutor(1) as thread:
        built = thread.submit(_create_index, conn, of, memory_mb, workers)
        try:
            _follow(watcher, conn.info.backend_pid, built, progress)
        except BaseException:
            conn.cancel_safe()
            raise
        built.result()


def _resources(conn: Connection, of: EmbeddingSet, count: int, progress: Progress, at_once: int) -> tuple[int, int]:
    """Return the memory in MiB and the parallel workers for a build, from what the server has."""
    row = conn.execute(statement("server_resources")).fetchone()
    maintenance_mb, cache_mb, workers = row or (BUILD_MIN_MB, 0, 0)
    needed_mb, memory_mb = build_memory_mb(count, of.dimensions, maintenance_mb // at_once, cache_mb // at_once)
    if memory_mb < needed_mb:
        progress.note(
            f"the index needs {needed_mb:,} MB to be built fast, the server has {memory_mb:,} MB for it: "
            "raise its maintenance_work_mem if there is more"
        )
    # a parallel build can overflow a buffer (CVE-2026-3172)
    return memory_mb, workers if pgvector_version(conn) >= SAFE_PARALLEL_BUILD else 0


def _follow(watcher: Connection, pid: int, built: Future[None], progress: Progress) -> None:
    seen = 0
    while wait([built], _POLL_S).not_done:
        row = watcher.execute(statement("embedding_index_progress"), {"pid": pid}).fetchone()
        if row and row[0] > seen:
            progress.advance(row[0] - seen)
            seen = row[0]


def _create_index(conn: Connection, of: EmbeddingSet, memory_mb: int, workers: int) -> None:
    """Build it in one transaction: of a build that is killed or cancelled nothing stays."""
    with conn.transaction():
        _set(conn, "maintenance_work_mem", f"{memory_mb}MB")
        _set(conn, "max_parallel_maintenance_workers", str(workers))
        names = {"index": index_name(of.id, "_next"), "partition": partition_name(of.id)}
        conn.execute(statement("embedding_index_create").format(**names, dimensions=sql.Literal(of.dimensions)))


def _set(conn: Connection, name: LiteralString, value: str) -> None:
    conn.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)))
