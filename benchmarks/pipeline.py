"""Queries a minute by how many are localized at once, and whether the answers stay the same.

    python benchmarks/pipeline.py out/small/RSimages/present --gallery galleryL15 --workers 1 2 --dask 2

The gallery is one that ``rsloc-db synth out/small --tiles 1600`` drew and ``rsloc-db ingest`` took in; another will do.
The first run is not counted: it warms the server's caches. Each figure holds the start of the processes.
"""

from __future__ import annotations

import argparse
import time

import rsloc_db
from rsloc_db.types import Json


def _run(arguments: argparse.Namespace, workers: int, scheduler: str | None) -> tuple[float, list[Json]]:
    started = time.monotonic()
    found = rsloc_db.localize(
        arguments.queries, gallery=arguments.gallery, workers=workers, scheduler=scheduler, overwrite=True, truth=False
    )
    return time.monotonic() - started, found.queries


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queries")
    parser.add_argument("--gallery")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dask", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    _, expected = _run(arguments, arguments.workers[0], None)
    print(f"{'who':<18} {'seconds':>8} {'queries a minute':>17}  answers")
    plans: list[tuple[str, int, str | None]] = [(f"{n} processes", n, None) for n in arguments.workers]
    plans += [(f"{n} Dask workers", n, f"local:{n}") for n in arguments.dask]
    for name, workers, scheduler in plans:
        seconds, answers = _run(arguments, workers, scheduler)
        same = "the same" if answers == expected else "DIFFERENT"
        print(f"{name:<18} {seconds:>8.1f} {60 * len(answers) / seconds:>17.1f}  {same}", flush=True)


if __name__ == "__main__":
    main()
