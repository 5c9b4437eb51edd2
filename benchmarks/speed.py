"""How long a query takes from file to answer, by way of searching, and what the answers are worth.

    python benchmarks/speed.py out/country/RSimages/present out/country/RSimages/absent --gallery galleryL15

The gallery is one that ``rsloc-db synth out/country --tiles 824796`` drew and ``rsloc-db ingest`` took in; another will
do. Each way runs over the same queries, after ``--warm`` of them that are not counted: the server's caches are filled
and a process has read what it keeps. "total / stages" compares with the sum of what the stages took alone; "wall" is
seconds a query of the whole run, with ``--workers`` processes and their start. "hit" counts queries whose true place a
hit of any patch votes for, "within" answers at most ``--limit-m`` from the truth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from reporting import commit, print_table

import rsloc_db
from rsloc_db.db import server
from rsloc_db.db.connection import connect
from rsloc_db.evaluation import Evaluation, load_truth
from rsloc_db.queries import read_queries

STAGES = ("retrieve", "cliques", "verify", "refine")
COLUMNS = (
    *("way", "n", "hit", "first clique", "found", "within", "misplaced", "false"),
    *("p50 s", "p90 s", "longest s", *STAGES, "total / stages", "wall s", "MB"),
)
TILES = "SELECT count(*) FROM tile JOIN gallery g ON g.id = gallery_id WHERE g.name = %s"
MEMORY = "SELECT max(peak_memory_mb) FROM run_query WHERE run_id = %s"
SHARES = """
SELECT sum(total_s)
     / sum(coalesce(retrieve_s, 0) + coalesce(cliques_s, 0) + coalesce(verify_s, 0) + coalesce(refine_s, 0))
FROM run_query WHERE run_id = %s
"""


def main() -> None:
    """Localize by each way and print the table."""
    arguments = _arguments()
    with connect(server.database_url()) as conn:
        tiles = conn.execute(TILES, (arguments.gallery,)).fetchone()
    print(f"gallery of {tiles[0] if tiles else 0:,} tiles; {arguments.workers} worker(s); commit {commit()}\n")
    print_table(COLUMNS, (_row(arguments, way) for way in arguments.ways))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queries", nargs="+")
    parser.add_argument("--gallery", required=True)
    parser.add_argument("--ways", nargs="+", default=["knn", "exhaustive", "auto"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--first", type=int, help="take the first queries of each set alone")
    parser.add_argument("--limit-m", type=int, default=10)
    return parser.parse_args()


def _files(arguments: argparse.Namespace, most: int | None) -> list[Path]:
    """Return the images of each set, or the first of them."""
    return [file.path for each in arguments.queries for file in read_queries([Path(each)])[:most]]


def _row(arguments: argparse.Namespace, way: str) -> list[str]:
    options = {"gallery": arguments.gallery, "retrieval": way, "truth": False, "overwrite": True}
    if arguments.warm:
        rsloc_db.localize(*_files(arguments, arguments.warm), workers=1, **options)
    files = _files(arguments, arguments.first)
    started = time.monotonic()
    run = rsloc_db.localize(*files, workers=arguments.workers, **options).run
    wall = (time.monotonic() - started) / len(files)
    with connect(server.database_url()) as conn:
        memory, shares = (conn.execute(text, (run,)).fetchone() for text in (MEMORY, SHARES))
    # the search is over, and its queries are in the database
    load_truth(files)
    found = rsloc_db.evaluate(run)
    return [way, str(len(files)), *_answers(found, arguments.limit_m), *_seconds(found), *_rest(shares, wall, memory)]


def _answers(found: Evaluation, limit_m: int) -> Iterator[str]:
    run = found.run
    recall = {(row["stage"], row["k"]): row["found"] for row in found.recall}
    yield str(max((right for (stage, _), right in recall.items() if stage == "retrieve"), default="-"))
    yield str(recall.get(("cliques", 1), "-"))
    accepted = sum(q["state"] == "present" and q["verdict"] == "accepted" for q in found.queries)
    yield f"{accepted} of {run['present']}"
    yield str(next(row["located"] for row in found.located if row["limit_m"] == limit_m))
    yield str(run["misplaced"])
    yield f"{run['false_places']} of {run['absent']}"


def _seconds(found: Evaluation) -> Iterator[str]:
    rows = {row["stage"]: row for row in found.seconds}
    yield from (f"{rows['total'][name]:.2f}" for name in ("p50", "p90", "longest"))
    middles = (rows.get(stage, {}).get("p50") for stage in STAGES)
    yield from ("-" if middle is None else f"{middle:.2f}" for middle in middles)


def _rest(shares: tuple[float] | None, wall: float, memory: tuple[float] | None) -> Iterator[str]:
    yield f"{shares[0]:.2f}" if shares and shares[0] else "-"
    yield f"{wall:.2f}"
    yield f"{memory[0]:,.0f}" if memory and memory[0] else "-"


if __name__ == "__main__":
    main()
