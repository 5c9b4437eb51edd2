"""Measure how fast and how exactly nearest tiles are found: exact scan, HNSW and bits in the database, and FAISS.

    python benchmarks/knn.py --gallery galleryL15 --queries RSimages/present RSimages/absent --sizes 10000 100000 all

The vectors are those of an ingested gallery; of each window width random subsets are copied into a schema of their own,
which is dropped at the end, and indexed there; "all" is the gallery's own table and index. The patches are those that
retrieval cuts from the queries, a random choice of ``--patches`` a width; they are searched in one statement, the
package's own, or in one call of FAISS on one thread. k is what retrieval asks for. CPU is the server process's (FAISS:
this one's), which other work on the machine changes least. Recall is the share of the first k that are as near as the
k-th of an exact search (equal windows are equally near, whichever of them is returned).
Then whole queries are searched and stored as ``localize`` does (``knn_query.py``); what they leave is deleted.

Needs the extra ``bench``. Prints markdown; progress goes to stderr.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
from knn_query import measure_queries
from knn_sets import (
    BATCH,
    SCHEMA,
    Place,
    Sample,
    Vectors,
    copy_subset,
    load_queries,
    one,
    read_vectors,
    say,
    scratch,
    take_samples,
)
from psycopg import sql
from reporting import commit

from rsloc_db.db.connection import Connection, connect, statement
from rsloc_db.db.embeddings import partition_name
from rsloc_db.db.runs import search_targets
from rsloc_db.db.search import ef_search, search_statement
from rsloc_db.db.server import database_url, pgvector_version
from rsloc_db.models import Embedder, embedder
from rsloc_db.queries import read_queries
from rsloc_db.stages.options import Options
from rsloc_db.stages.workers import one_thread

RERANKED = (2_000, 10_000)
REPEATS = 3
"""The best of so many runs counts."""
LARGE = 200_000
"""So many vectors are read through once only."""

BITS = """
SELECT p.id, k.tile_id FROM ({patches}) p CROSS JOIN LATERAL (
    WITH near AS MATERIALIZED (
        SELECT b.tile_id FROM {bits} b
        ORDER BY b.bits <~> binary_quantize(p.vector::{vector})::{bit} LIMIT {reranked}
    )
    SELECT e.tile_id FROM near JOIN {table} e USING (tile_id)
    ORDER BY ((e.vector::{vector}) <=> (p.vector::{vector})) + 0 LIMIT %(limit)s
) k
"""
BIT_TABLE = """
CREATE UNLOGGED TABLE {bits} AS
SELECT tile_id, binary_quantize(vector::{vector})::{bit} AS bits FROM {table}
"""


Found = tuple[float, float, float]
"""Milliseconds a patch, those of CPU (not a number where that cannot be told), and recall."""


@dataclass(frozen=True)
class Line:
    """A line of the table; ``ms`` and ``cpu_ms`` are a patch's."""

    window: int
    n: int
    method: str
    ms: float
    cpu_ms: float
    recall: float

    @property
    def cost(self) -> float:
        """What is compared: CPU, which other work on the machine changes least, else the clock's."""
        return self.ms if np.isnan(self.cpu_ms) else self.cpu_ms


def in_database(conn: Connection, place: Place, text: sql.Composed, repeats: int) -> Found:
    """Run a statement that yields (patch, tile, ...); the best run counts."""
    values, best, least = place.sample.parameters, np.inf, np.inf
    for _ in range(repeats):
        began, worked = time.perf_counter(), server_cpu_s(conn)
        rows = conn.execute(text, values).fetchall()
        best = min(best, time.perf_counter() - began)
        least = min(server_cpu_s(conn) - worked, least)
    patches, tiles = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    at = np.searchsorted(place.tile_ids, tiles)
    count = len(place.sample.rows)
    return 1000 * best / count, 1000 * least / count, place.recall([at[patches == i] for i in range(count)])


def server_cpu_s(conn: Connection) -> float:
    """Return the seconds of CPU that a connection's server process has had; not a number if it runs elsewhere."""
    process = Path(f"/proc/{conn.info.backend_pid}")
    if not process.is_dir() or b"postgres:" not in (process / "cmdline").read_bytes():
        return np.nan
    return int((process / "schedstat").read_text().split()[0]) / 1e9


def scans(place: Place) -> int:
    """Return how often a search that reads all vectors is repeated."""
    return REPEATS if len(place.tile_ids) <= LARGE else 1


def hnsw(conn: Connection, place: Place, ef: int) -> Found:
    """Search by the index in the database, as the package does."""
    text = search_statement(place.table, place.sample.target.dimensions, "mercator", exact=False, sent=True)
    with conn.transaction():
        conn.execute(statement("prepare_hnsw"), {"ef_search": str(ef)})
        return in_database(conn, place, text, REPEATS)


def exact(conn: Connection, place: Place) -> Found:
    """Compare all vectors in the database, as the package does."""
    text = search_statement(place.table, place.sample.target.dimensions, "mercator", exact=True, sent=True)
    with conn.transaction():
        return in_database(conn, place, text, scans(place))


def bits(conn: Connection, place: Place) -> Iterator[tuple[str, Found]]:
    """Search a table of bits by Hamming distance and rank the nearest exactly: yields method, milliseconds, recall."""
    dimensions = place.sample.target.dimensions
    names = {
        "bits": sql.Identifier(SCHEMA, "bits"),
        "table": place.table,
        "vector": sql.SQL("halfvec({})").format(sql.Literal(dimensions)),
        "bit": sql.SQL("bit({})").format(sql.Literal(dimensions)),
        "patches": statement("patches_sent"),
    }
    conn.execute(sql.SQL(BIT_TABLE).format(**names))
    conn.execute(sql.SQL("ANALYZE {bits}").format(**names))
    size = one(conn, sql.SQL("SELECT pg_table_size({})").format(sql.Literal(f"{SCHEMA}.bits")))
    for reranked in (r for r in RERANKED if r < len(place.tile_ids)):
        with conn.transaction():
            text = sql.SQL(BITS).format(**names, reranked=sql.Literal(reranked))
            found = in_database(conn, place, text, scans(place))
        yield f"bits, {reranked:,} ranked again ({size / len(place.tile_ids):.0f} bytes a row)", found
    conn.execute(sql.SQL("DROP TABLE {bits}").format(**names))


def in_faiss(place: Place, index: faiss.Index) -> Found:
    """Search by FAISS on one thread."""
    faiss.omp_set_num_threads(1)
    began, worked = time.perf_counter(), time.process_time()
    _, found = index.search(place.sample.vectors, place.sample.k)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - worked
    return 1000 * seconds / len(found), 1000 * cpu_s / len(found), place.recall([rows[rows >= 0] for rows in found])


def faiss_hnsw(vectors: Vectors, threads: int) -> faiss.IndexHNSWFlat:
    """Build FAISS's graph with the parameters of the database's; only the search is timed."""
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 64
    for start in range(0, len(vectors), BATCH):
        index.add(vectors[start : start + BATCH])
        say(f"  FAISS graph: {index.ntotal:,} of {len(vectors):,}")
    return index


def measure(conn: Connection, place: Place, efs: list[int], graph_threads: int) -> Iterator[Line]:
    """Measure all ways to search one set of vectors; FAISS builds its graph if it may use a thread."""
    sample = place.sample
    kept = ef_search(sample.k)
    efs = sorted({max(ef, sample.k) for ef in efs} | {kept})

    def line(method: str, found: Found) -> Line:
        ms, cpu_ms, recall = found
        say(f"  {method}: {ms:.2f} ms, {cpu_ms:.2f} of CPU, recall {recall:.4f}")
        return Line(sample.target.window_tiles, len(place.tile_ids), method, *found)

    flat = faiss.IndexFlatIP(place.vectors.shape[1])
    flat.add(place.vectors)
    place.kth = flat.search(sample.vectors, sample.k)[0][:, -1]
    yield line("FAISS, exact", in_faiss(place, flat))
    del flat
    yield line("database, exact", exact(conn, place))
    if place.has_hnsw:
        for ef in efs:
            yield line(f"database, HNSW, ef {ef}{' *' if ef == kept else ''}", hnsw(conn, place, ef))
    for method, found in bits(conn, place):
        yield line(f"database, {method}", found)
    if graph_threads:
        graph = faiss_hnsw(place.vectors, graph_threads)
        for ef in efs:
            graph.hnsw.efSearch = ef
            yield line(f"FAISS, HNSW, ef {ef}", in_faiss(place, graph))


def measure_set(conn: Connection, sample: Sample, sizes: list[str], efs: list[int], threads: int) -> Iterator[Line]:
    """Measure an embedding set at each size."""
    target = sample.target
    say(f"reading the vectors of windows of {target.window_tiles} tiles")
    ids, vectors = read_vectors(conn, target)
    for size in sizes:
        if size == "all":
            place = Place(partition_name(target.set_id), ids, vectors, sample, target.index_kind == "hnsw")
        elif int(size) < len(ids):
            place = copy_subset(conn, sample, ids, vectors, int(size))
        else:
            continue
        say(f"{target.window_tiles} x {target.window_tiles} tiles, {len(place.tile_ids):,} of {len(ids):,} vectors")
        yield from measure(conn, place, efs, threads)


# --- tables


def print_lines(lines: list[Line], sample: Sample) -> None:
    """Print the table of all ways to search an embedding set."""
    window = sample.target.window_tiles
    print(f"\n### Windows of {window} x {window} tiles: the nearest {sample.k} of {len(sample.rows)} patches\n")
    print("| n | search | ms a patch | CPU, ms | times the package's HNSW | recall |\n|---|---|---|---|---|---|")
    for each in lines:
        base = next((o.cost for o in lines if o.n == each.n and o.method.endswith("*")), np.nan)
        cost = f"{each.ms:.3g} | {each.cpu_ms:.3g} | {each.cost / base:.2f}"
        print(f"| {each.n:,} | {each.method} | {cost} | {each.recall:.4f} |", flush=True)


def print_growth(lines: list[Line], samples: list[Sample]) -> None:
    """Print how the cost of a patch grows with n: the exponent from each size to the next."""
    print("\n### Growth: exponent of CPU a patch in n (0.5: the square root)\n")
    print("| window | search | from n | to n | exponent |\n|---|---|---|---|---|")
    kinds: list[tuple[str, Callable[[str], bool]]] = [
        ("HNSW *", lambda method: method.endswith("*")),
        ("exact", lambda method: method == "database, exact"),
    ]
    for window in (s.target.window_tiles for s in samples):
        for name, fits in kinds:
            own = [each for each in lines if each.window == window and fits(each.method)]
            for a, b in pairwise(own):
                power = np.log(b.cost / a.cost) / np.log(b.n / a.n)
                print(f"| {window} | {name} | {a.n:,} | {b.n:,} | {power:.2f} |")


def print_head(conn: Connection, model: Embedder, files: int) -> None:
    """Print what was measured with what."""
    server = ".".join(map(str, (conn.info.server_version // 10_000, conn.info.server_version % 10_000)))
    vector = ".".join(map(str, pgvector_version(conn)))
    print(f"commit {commit()}, PostgreSQL {server}, pgvector {vector}, FAISS {faiss.__version__}; ", end="")
    print(f"model {model.name} {model.weights_hash[:12]}, {model.dimensions} dimensions; {files} queries. ", end="")
    print("Seconds compare within this run only. * what the package does.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", required=True)
    parser.add_argument("--queries", type=Path, nargs="+", required=True)
    parser.add_argument("--sizes", nargs="+", default=["10000", "100000", "all"])
    parser.add_argument("--windows", type=int, nargs="+", help="default: all that the gallery has")
    parser.add_argument("--faiss-windows", type=int, nargs="+", help="whose graph FAISS builds; default: the widest")
    parser.add_argument("--patches", type=int, default=80, help="of a window width")
    parser.add_argument("--wide", type=int, nargs="+", default=[20, 100], help="patches of the widest windows a query")
    parser.add_argument("--ef", type=int, nargs="+", default=[100, 200, 400, 600, 800])
    parser.add_argument("--threads", type=int, default=2, help="that build FAISS's graph; all searches take one")
    parser.add_argument("--model", default="gradients")
    arguments = parser.parse_args()
    one_thread()
    # whoever stops this finds no copies left behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    model = embedder(arguments.model)
    options, files = Options(model.name, (arguments.gallery,)), read_queries(arguments.queries)
    with connect(database_url(), autocommit=True) as conn, scratch(conn):
        print_head(conn, model, len(files))
        targets = search_targets(conn, model.name, model.weights_hash, options.galleries)
        samples = take_samples(files, targets, model, options, arguments.patches)
        samples = [s for s in samples if s.target.window_tiles in (arguments.windows or [s.target.window_tiles])]
        widest, lines = max(s.target.window_tiles for s in samples), []
        for sample in samples:
            asked = sample.target.window_tiles in (arguments.faiss_windows or [widest])
            threads = arguments.threads if asked else 0
            found = list(measure_set(conn, sample, arguments.sizes, arguments.ef, threads))
            print_lines(found, sample)
            lines += found
        print_growth(lines, samples)
        for wide in arguments.wide:
            measure_queries(conn, load_queries(files), targets, model, replace(options, patches=wide))


if __name__ == "__main__":
    main()
