"""What ``knn.py`` searches and for what: vectors of a gallery, copies of some of them, and patches of queries."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from rsloc_db.db.connection import Connection, statement
from rsloc_db.db.embeddings import index_name, partition_name
from rsloc_db.db.runs import PatchRow, Target
from rsloc_db.errors import QueryError
from rsloc_db.models import Embedder
from rsloc_db.queries import QueryFile
from rsloc_db.stages.localize import choose_levels
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query, read_query
from rsloc_db.stages.retrieve import embedded, searches
from rsloc_db.types import Json

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

SCHEMA = "knn_benchmark"
BATCH = 20_000
NEAR = 1e-4
"""Similarities this close count as equal: vectors are half floats, and sums of products differ by about as much."""


@dataclass(frozen=True)
class Sample:
    """Patches of one window width: their vectors, (N, D) of length 1, and how many tiles are asked for each."""

    target: Target
    k: int
    rows: list[PatchRow]
    vectors: Vectors

    @property
    def parameters(self) -> Json:
        """Parameters of the package's search statement; all latitudes suit these patches, so that k tiles come back."""
        count = len(self.rows)
        return {
            "ids": list(range(count)),
            "east": [p.east_offset for p in self.rows],
            "north": [p.north_offset for p in self.rows],
            "low": [0.0] * count,
            "high": [90.0] * count,
            "vectors": ["[" + ",".join(f"{v:.6g}" for v in row) + "]" for row in self.vectors.tolist()],
            "limit": self.k,
            "within": None,
        }


@dataclass
class Place:
    """Vectors in a table and in memory, (n, D) of length 1, the sorted keys of their tiles, and what is exact."""

    table: sql.Identifier
    tile_ids: Ids
    vectors: Vectors
    sample: Sample
    has_hnsw: bool
    kth: Vectors = field(init=False)

    def recall(self, found: list[Ids]) -> float:
        """Return the share of k that is as near as the k-th of an exact search; found are rows, a patch each."""
        of = [
            int((self.vectors[rows] @ patch >= kth - NEAR).sum())
            for rows, patch, kth in zip(found, self.sample.vectors, self.kth, strict=True)
        ]
        return sum(of) / (self.sample.k * len(of))


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def load_queries(files: list[QueryFile]) -> Iterator[tuple[QueryFile, Query]]:
    """Yield the queries that can be read, with their pixels."""
    for file in files:
        try:
            query = read_query(file)
        except QueryError as error:
            say(f"{file.name} is left out: {error}")
            continue
        yield file, query


def take_samples(
    files: list[QueryFile], targets: list[Target], model: Embedder, options: Options, count: int
) -> list[Sample]:
    """Cut all queries as retrieval does, and choose ``count`` patches of each window width at random."""
    rows: list[PatchRow] = []
    parts: list[Vectors] = []
    for _, query in load_queries(files):
        for patches, vectors in embedded(query, choose_levels(targets, query.frame.scale), model, options):
            rows += patches
            parts.append(vectors)
    every, rng = np.concatenate(parts), np.random.default_rng(0)
    samples = []
    for target, k in searches(targets, rows, options):
        own = [i for i, p in enumerate(rows) if (p.level, p.window_tiles) == (target.level, target.window_tiles)]
        chosen = rng.permutation(own)[:count]
        samples.append(Sample(target, k, [rows[i] for i in chosen], unit(every[chosen].astype(np.float16))))
    return samples


def unit(rows: NDArray[np.float16]) -> Vectors:
    """Return rows as float32 of length 1."""
    exact = rows.astype(np.float32)
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    return exact


def read_vectors(conn: Connection, target: Target) -> tuple[Ids, Vectors]:
    """Read an embedding set, in the order of its tiles' keys."""
    table = partition_name(target.set_id)
    count = one(conn, sql.SQL("SELECT count(*) FROM {}").format(table))
    ids, vectors = np.empty(count, np.int64), np.empty((count, target.dimensions), np.float32)
    done = 0
    with conn.transaction(), conn.cursor("vectors", binary=True) as cursor:
        cursor.execute(sql.SQL("SELECT tile_id, vector FROM {} ORDER BY tile_id").format(table))
        while rows := cursor.fetchmany(BATCH):
            ids[done : done + len(rows)] = [tile_id for tile_id, _ in rows]
            vectors[done : done + len(rows)] = unit(np.stack([vector.to_numpy() for _, vector in rows]))
            done += len(rows)
    return ids, vectors


def one(conn: Connection, query: sql.Composed) -> int:
    """Return the number that a statement yields."""
    row = conn.execute(query).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def scratch(conn: Connection) -> Iterator[None]:
    """A schema for copies, dropped at the end."""
    name = sql.Identifier(SCHEMA)
    conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))
    conn.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    try:
        yield
    finally:
        conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))


def copy_subset(conn: Connection, sample: Sample, ids: Ids, vectors: Vectors, size: int) -> Place:
    """Copy ``size`` random vectors into a table with an index of its own, made as the package makes it."""
    chosen = np.sort(np.random.default_rng(size).choice(len(ids), size, replace=False))
    target = sample.target
    table = sql.Identifier(SCHEMA, f"embedding_{target.set_id}_{size}")
    for text in (
        "CREATE UNLOGGED TABLE {t} (tile_id bigint PRIMARY KEY, vector halfvec NOT NULL)",
        "ALTER TABLE {t} ALTER COLUMN vector SET STORAGE PLAIN",
    ):
        conn.execute(sql.SQL(text).format(t=table))
    fill = sql.SQL("INSERT INTO {} SELECT tile_id, vector FROM {} WHERE tile_id = ANY (%s)")
    conn.execute(fill.format(table, partition_name(target.set_id)), (ids[chosen].tolist(),))
    conn.execute("SET maintenance_work_mem = '512MB'")
    create = statement("embedding_index_create")
    index = index_name(target.set_id, f"_{size}")
    conn.execute(create.format(index=index, partition=table, dimensions=sql.Literal(target.dimensions)))
    conn.execute(sql.SQL("ANALYZE {}").format(table))
    return Place(table, ids[chosen], vectors[chosen], sample, has_hnsw=True)
