"""Does a nearest-neighbour search reach vectors on another server by postgres_fdw, and by that server's index?

    python benchmarks/shards.py --vectors 20000

Makes two embedded servers. The first one has a partitioned table of vectors whose one half lies on the second server,
and beside it a table of all of them. The package's form of search (a lateral KNN a patch) is run on both. Prints what
is sent to the second server, how often that scanned its index, recall against an exact search, milliseconds a patch.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg.conninfo import conninfo_to_dict

from rsloc_db.config import settings
from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.server.cluster import Cluster
from rsloc_db.db.server.programs import examine

LIMIT, EF_SEARCH, PATCHES, DIMENSIONS = 100, 200, 50, 128
SEARCH = """
SELECT p.id, k.tile_id FROM patch p CROSS JOIN LATERAL (
    WITH nearest AS MATERIALIZED (
        SELECT e.tile_id, (e.vector::halfvec({d})) <=> (p.vector::halfvec({d})) AS distance
        FROM {table} e ORDER BY (e.vector::halfvec({d})) <=> (p.vector::halfvec({d})) LIMIT {limit}
    ) SELECT * FROM nearest) k
"""
FOREIGN = """
CREATE EXTENSION postgres_fdw;
CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}', dbname '{dbname}',
    extensions 'vector', fetch_size '{limit}', options '-c hnsw.ef_search={ef} -c enable_seqscan=off');
CREATE USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (user '{user}', password '{password}');
CREATE TABLE sharded (tile_id bigint NOT NULL, vector halfvec NOT NULL) PARTITION BY RANGE (tile_id);
CREATE TABLE sharded_here PARTITION OF sharded FOR VALUES FROM (0) TO ({half});
CREATE FOREIGN TABLE sharded_there PARTITION OF sharded FOR VALUES FROM ({half}) TO ({all})
    SERVER there OPTIONS (table_name 'sharded_there');
CREATE TABLE whole (tile_id bigint NOT NULL, vector halfvec NOT NULL);
CREATE TABLE patch (id bigint, vector halfvec);
"""


@contextmanager
def _server() -> Iterator[str]:
    programs = examine(Path(Cluster(settings().home.resolve()).memory["programs"]))
    home = Path(tempfile.mkdtemp(prefix="rsloc-shard-"))
    home.chmod(0o755)
    cluster = Cluster(home)
    try:
        with cluster.locked():
            cluster.create(programs)
            url = cluster.url(cluster.start(programs))
        with connect(url, autocommit=True) as conn:
            conn.execute("CREATE EXTENSION vector")
        yield url
    finally:
        cluster.stop(programs)
        shutil.rmtree(home)


def _fill(conn: Connection, table: str, first: int, vectors: NDArray[np.float16], *, index: bool = True) -> None:
    with conn.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
        for number, vector in enumerate(vectors, first):
            copy.write_row((number, HalfVector(vector).to_text()))
    if index:
        expression = f"(vector::halfvec({DIMENSIONS})) halfvec_cosine_ops"
        conn.execute(f"CREATE INDEX ON {table} USING hnsw ({expression})".encode())
    conn.execute(f"ANALYZE {table}".encode())


def _vectors(count: int, seed: int) -> NDArray[np.float16]:
    """Vectors that lie about 200 centres, as those of real windows do in their way: pure noise has no neighbours."""
    centres = np.random.default_rng(0).normal(size=(200, DIMENSIONS))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 200, count)] + 0.5 * rng.normal(size=(count, DIMENSIONS))).astype(np.float16)


def _search(conn: Connection, table: str) -> tuple[set[tuple[int, int]], float, str]:
    """Return (patch, tile) found, milliseconds a patch, and the plan."""
    text = SEARCH.format(d=DIMENSIONS, table=table, limit=LIMIT).encode()
    plan = "\n".join(row[0] for row in conn.execute(b"EXPLAIN (VERBOSE, COSTS OFF) " + text))
    conn.execute(text).fetchall()
    started = time.monotonic()
    found = {(int(patch), int(tile)) for patch, tile in conn.execute(text)}
    return found, (time.monotonic() - started) / PATCHES * 1000, plan


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=20_000)
    count = parser.parse_args().vectors
    half, vectors = count // 2, _vectors(count, 1)
    with ExitStack() as stack:
        first, second = (stack.enter_context(_server()) for _ in range(2))
        here, there = (stack.enter_context(connect(url, autocommit=True)) for url in (first, second))
        there.execute("CREATE TABLE sharded_there (tile_id bigint NOT NULL, vector halfvec NOT NULL)")
        _fill(there, "sharded_there", half, vectors[half:])
        values = {**conninfo_to_dict(second), "half": half, "all": count, "limit": LIMIT, "ef": EF_SEARCH}
        here.execute(FOREIGN.format(**values).encode())
        _fill(here, "sharded_here", 0, vectors[:half])
        _fill(here, "whole", 0, vectors)
        _fill(here, "patch", 0, _vectors(PATCHES, 2), index=False)
        here.execute("ANALYZE sharded_there")
        exact, _, _ = _search(_without_index(here), "whole")
        here.execute(f"SET enable_indexscan = on; SET enable_seqscan = off; SET hnsw.ef_search = {EF_SEARCH}".encode())
        for table in ("whole", "sharded"):
            found, ms, plan = _search(here, table)
            print(f"{table:<8} recall {len(found & exact) / len(exact):.3f}, {ms:.1f} ms a patch, {len(found)} rows")
            print("\n".join(line for line in plan.splitlines() if "Remote SQL" in line or "Index Scan" in line))
        here.execute("SELECT postgres_fdw_disconnect_all()")
        time.sleep(1)  # the session that ends there tells its statistics
        row = there.execute("SELECT sum(idx_scan) FROM pg_stat_user_indexes").fetchone()
        print(f"the second server scanned its index {row[0] if row else 0} times for 2 x {PATCHES} patches")


def _without_index(conn: Connection) -> Connection:
    conn.execute("SET enable_indexscan = off")
    return conn


if __name__ == "__main__":
    main()
