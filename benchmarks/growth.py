"""How the cost of a query grows with the gallery: by nearest neighbours and cliques, and by exhaustive search.

    python benchmarks/growth.py t10k=out/10k/RSimages/present t100k=out/100k/RSimages/present --out growth.svg

Each argument names an ingested gallery and the queries to find in it. ``--first`` of them are localized, one after the
other, after ``--warm`` that are not counted. The cost of a search is the median of the stages that read the gallery:
retrieval and cliques by knn, retrieval alone by exhaustive search; verification and refinement look at a bounded number
of places and cost the same in any gallery. Prints the exponents from each size to the next: 1 is linear, 0.5 the square
root. Needs matplotlib (the extra ``demo``) for the curves.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from reporting import commit, print_table
from speed import TILES

import rsloc_db
from rsloc_db.db import server
from rsloc_db.db.connection import connect
from rsloc_db.queries import read_queries
from rsloc_db.types import Retrieval

WAYS: tuple[Retrieval, ...] = ("knn", "exhaustive")
SEARCH = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY coalesce(retrieve_s, 0) + coalesce(cliques_s, 0))
FROM (SELECT * FROM run_query WHERE run_id = %s ORDER BY query_id OFFSET %s) AS counted
"""

Curve = list[tuple[int, float]]
"""Tiles of a gallery and seconds of a search in it."""


def main() -> None:
    """Localize, print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="GALLERY=QUERIES")
    parser.add_argument("--first", type=int, default=20)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    curves: dict[str, Curve] = {}
    print(f"{arguments.first} queries of each; commit {commit()}\n")
    for way in WAYS:
        curves[way] = []
        for each in arguments.sets:
            gallery, _, queries = each.partition("=")
            curves[way].append(_measure(gallery, Path(queries), way, arguments.warm, arguments.first))
    print_table(("search", "tiles", "s a query, median", "exponent"), _rows(curves))
    if arguments.out:
        _draw(curves, arguments.out)


def _measure(gallery: str, queries: Path, way: Retrieval, warm: int, first: int) -> tuple[int, float]:
    files = [file.path for file in read_queries([queries])]
    # all in one process, which keeps what it has read
    run = rsloc_db.localize(
        *files[: warm + first], gallery=gallery, retrieval=way, truth=False, overwrite=True, workers=1
    ).run
    with connect(server.database_url()) as conn:
        tiles = conn.execute(TILES, (gallery,)).fetchone()
        seconds = conn.execute(SEARCH, (run, warm)).fetchone()
    if tiles is None or seconds is None:
        raise SystemExit(f"gallery {gallery} has no tiles, or no query was localized")
    return int(tiles[0]), float(seconds[0])


def _rows(curves: dict[str, Curve]) -> Sequence[Sequence[str]]:
    rows = []
    for way, curve in curves.items():
        powers = [np.log(b[1] / a[1]) / np.log(b[0] / a[0]) for a, b in pairwise(curve)]
        for (tiles, seconds), power in zip(curve, ["", *(f"{power:.2f}" for power in powers)], strict=True):
            rows.append((way, f"{tiles:,}", f"{seconds:.2f}", power))
    return rows


def _draw(curves: dict[str, Curve], out: Path) -> None:
    # text stays text, and two equal drawings are equal files
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.family": "sans-serif"})
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for (way, curve), colour in zip(curves.items(), ("#00796b", "#c2185b"), strict=True):
        tiles, seconds = np.array(curve).T
        axes.loglog(tiles, seconds, "o-", color=colour, label=way)
    tiles, start = np.array([point[0] for point in curves["knn"]]), curves["knn"][0][1]
    axes.loglog(tiles, start * np.sqrt(tiles / tiles[0]), ":", color="#777", label="square root of the size")
    axes.set(xlabel="tiles in the gallery", ylabel="seconds a search")
    # plain numbers, and few: the default writes powers of ten beside one another
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
