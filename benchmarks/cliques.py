"""Measure how often the true place comes first among the cliques of simulated hits of a large gallery, and how fast.

    python benchmarks/cliques.py SIMULATE_HITS.py [--shares 0.35 0.2 0.12 0.08] [--seed 1]

The tool makes hits over a gallery of 984 x 838 tiles: 16 patches a query, 2,000 hits each, clumped; the right tile is
among a patch's with the probability ``share``. They are loaded into a database of their own as rows of patch and hit,
and the statement that finds cliques runs on them. A place is right within one tile on both axes; "near" counts those
first within 1.5 (right votes lie up to 1.5 off, for neighbours of the right tile are hit too). Hits are kept in
``--out``. Seeds from 100 on were used to choose the constants of the score: report others.

With ``--published N`` stage 2 of the published method runs beside it on the first N queries of each share. It names no
place: "published" takes the mean vote of a clique's hits for one, "any hit" is content if a single hit of it votes for
the right one. Its seconds are spent in Python. Of each query both ways are run REPEATS times, and the fastest counts:
what else the machine does then counts least.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from databases import database
from numpy.typing import NDArray
from pyproj import Geod

from rsloc_db import published
from rsloc_db.db import runs
from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.runs import Key, PatchRow, Target
from rsloc_db.grids import nominal_resolution_m
from rsloc_db.stages.cliques import P_HIT
from rsloc_db.types import Floats

LEVEL, PATCHES, SIDE_PX = 15, 16, 768
COLUMNS = (4, 5, 7, 8, 11, 12, 18, 19, 2, 3)
"""lon, lat, rank, score, center_x, center_y, it_i, it_j, col, row of the tool's table."""
KEPT = 40
REPEATS = 3

Result = TypeVar("Result")
Measured = tuple[float, float, float]
"""Rank of the first place within one tile of the truth, of the first within 1.5 tiles, and seconds."""


@dataclass(frozen=True)
class Simulated:
    """Hits of one query: (N,) arrays; places in degrees, ``x_px``, ``y_px`` (16,) the patches' centres."""

    center: tuple[float, float]
    patch: NDArray[np.int64]
    rank: Floats
    similarity: Floats
    lon: Floats
    lat: Floats
    x_px: Floats
    y_px: Floats

    @property
    def offsets(self) -> tuple[Floats, Floats]:
        """East and north of the patches from the query's centre in ground metres, (16,) each."""
        pixel_m = nominal_resolution_m(LEVEL) * np.cos(np.radians(self.center[1]))
        return (self.x_px - 2 * SIDE_PX) * pixel_m, (2 * SIDE_PX - self.y_px) * pixel_m

    @property
    def votes(self) -> Floats:
        """Where each hit puts the query's centre: (N, 2) lon, lat."""
        east, north = self.offsets
        back = np.degrees(np.arctan2(-east, -north))[self.patch], np.hypot(east, north)[self.patch]
        lon, lat, _ = Geod(ellps="WGS84").fwd(self.lon, self.lat, *back)
        return np.stack([lon, lat], 1)


def simulate(tool: Path, out: Path, share: float, queries: int, seed: int) -> Iterator[Simulated]:
    """Make hits, or read those that were made before."""
    folder = out / f"{share}-{queries}-{seed}"
    if not (folder / "truth.json").is_file():
        subprocess.run([sys.executable, tool, str(queries), str(share), folder, str(seed)], check=True)
    for name, center in json.loads((folder / "truth.json").read_text()).items():
        yield read(folder / f"hits_q{name}.csv", (center[0], center[1]))


def read(path: Path, center: tuple[float, float]) -> Simulated:
    """Read a table of the tool."""
    rows = np.loadtxt(path, delimiter=",", skiprows=1, usecols=COLUMNS)
    lon, lat, rank, similarity, x, y, line, column = rows[:, :8].T
    patch = (4 * (line - 1) + column - 1).astype(int)
    first = np.unique(patch, return_index=True)[1]
    return Simulated(center, patch, rank, similarity, lon, lat, x[first], y[first])


def load(conn: Connection, key: Key, hits: Simulated) -> None:
    """Store a query's patches and hits in the place of the last one's."""
    runs.claim_query(conn, key)
    east, north = hits.offsets
    rows = [
        PatchRow(LEVEL, 3, float(x), float(y), SIDE_PX, SIDE_PX, float(e), float(n), 0.0, 90.0)
        for x, y, e, n in zip(hits.x_px, hits.y_px, east, north, strict=True)
    ]
    runs.copy_patches(conn, key, rows, np.ones((PATCHES, 1), np.float32))
    ids = [row[0] for row in conn.execute("SELECT id FROM patch ORDER BY id")]
    columns = "run_id, query_id, patch_id, gallery_id, tile_id, rank, similarity, vote"
    with conn.cursor().copy(f"COPY hit ({columns}) FROM STDIN") as copy:
        for p, r, s, (x, y) in zip(hits.patch, hits.rank, hits.similarity, hits.votes, strict=True):
            point = f"SRID=4326;POINT({x:.9f} {y:.9f})"
            copy.write_row((key.run_id, key.query_id, ids[p], 1, 0, int(r), float(s), point))
    conn.execute("ANALYZE hit")


def off_tiles(places: Floats, truth: tuple[float, float]) -> Floats:
    """How far (N, 2) lon, lat lie from the truth in tiles, on the worse axis."""
    return np.asarray(np.abs(np.reshape(places, (-1, 2)) - truth).max(axis=1) * 2**LEVEL / 360)


def ranks(off: Iterable[float]) -> tuple[float, float]:
    """Return the ranks of the first within one tile and of the first within 1.5, or infinity."""
    each = list(enumerate(off, 1))
    one, near = (next((rank for rank, tiles in each if tiles <= limit), np.inf) for limit in (1, 1.5))
    return one, near


def fastest(work: Callable[[], Result], prepare: Callable[[], object] = lambda: None) -> tuple[Result, float]:
    """Return a result and the seconds of the fastest of some runs, each after its preparation."""
    seconds = []
    for _ in range(REPEATS):
        prepare()
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return result, min(seconds)


def measure(conn: Connection, key: Key, hits: Simulated) -> Measured:
    """Measure the cliques of a query; the seconds are those of the statement in the database."""
    load(conn, key, hits)
    target = Target(1, "simulated", "google_earth", LEVEL, 3, 1, "exact", 1, 43.0, 50.0)
    _, seconds = fastest(
        lambda: runs.find_cliques(conn, key, target, limit=KEPT, p_hit=P_HIT), lambda: runs.delete_cliques(conn, key)
    )
    found = runs.ranked_cliques(conn, key, KEPT)
    places = np.array([(c.lon_deg, c.lat_deg) for c in found])
    return *ranks(off_tiles(places, hits.center)), seconds


def measure_published(hits: Simulated) -> tuple[Measured, Measured]:
    """Measure the published method's cliques, by the mean of their votes and by the best of them."""
    x, y, size = hits.x_px[hits.patch], hits.y_px[hits.patch], np.full(len(hits.patch), float(SIDE_PX))
    given = published.Hits(hits.patch, x, y, size, hits.lon, hits.lat, LEVEL)
    cliques, seconds = fastest(lambda: published.cliques(given))
    means = np.array([hits.votes[c].mean(axis=0) for c in cliques])
    off = off_tiles(hits.votes, hits.center)
    return (*ranks(off_tiles(means, hits.center)), seconds), (*ranks(off[c].min() for c in cliques), seconds)


def line(share: float, name: str, measured: list[Measured]) -> str:
    """One line of the table."""
    rank, near, seconds = np.array(measured).T
    counts = "  ".join(f"{int((rank <= k).sum()):>5}" for k in (1, 5, 20))
    times = f"{np.median(seconds):8.2f} {np.quantile(seconds, 0.9):8.2f}"
    return f"{share:<6} {name:<10} {len(rank):>7}  {counts}  {int((near <= 1).sum()):>5}  {times}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", type=Path, help="path of simulate_hits.py")
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.35, 0.2, 0.12, 0.08])
    parser.add_argument("--seed", type=int, default=1, help="of the first share; the next one's is one more")
    parser.add_argument("--published", type=int, default=0, help="queries of each share for the published method")
    parser.add_argument("--out", type=Path, default=Path("out/hits"))
    options = parser.parse_args()
    print("share  method     queries  first  in 5  in 20   near  median s    p90 s")
    with database() as url, connect(url) as conn:
        query = runs.upsert_query(conn, "simulated", "query", "", "")
        key = Key(runs.begin_run(conn, "simulated", {}, "", "0", [query]), query)
        for i, share in enumerate(options.shares):
            each = simulate(options.tool, options.out, share, options.queries, options.seed + i)
            ours, theirs = [], []
            for k, hits in enumerate(each):
                ours.append(measure(conn, key, hits))
                if k < options.published:
                    theirs.append(measure_published(hits))
            print(line(share, "this", ours), flush=True)
            for name, column in zip(("published", "any hit"), zip(*theirs, strict=True), strict=False):
                print(line(share, name, list(column)), flush=True)


if __name__ == "__main__":
    main()
