"""Put the published method's stages 2 and 3 beside this project's answer, on the hits that a run has stored.

    python benchmarks/published.py RUN [--tried 20]

Stage 2 gets the hits of the widest windows, north up and at the stated scale. Stage 3 gets the first ``--tried`` hits
of each clique in turn, patch against the mosaic of 3 x 3 tiles, until one is accepted or ``--tried`` in all have been
tried; the published method tries them all. Its CLIP similarity is left out. A clique's place is the mean vote of its
hits, the place of stage 3 the vote of the hit with most inliers. Distances are from the truth, which must be loaded.
"""

from __future__ import annotations

import argparse
from itertools import groupby, islice
from pathlib import Path

import cv2
import numpy as np

from rsloc_db import imagery, published
from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.runs import RunHit, run_hits
from rsloc_db.frames import ground_distance_m
from rsloc_db.grids import TILE_PX
from rsloc_db.queries import load_image
from rsloc_db.tile_sources import TileSource, open_source
from rsloc_db.types import Cell, Image

ANSWERS = """
SELECT t.query_id, ST_X(t.center), ST_Y(t.center), l.verdict, ST_X(l.center), ST_Y(l.center),
       ST_X(c.center), ST_Y(c.center)
FROM query_truth t
LEFT JOIN localization l ON l.query_id = t.query_id AND l.run_id = %(run)s
LEFT JOIN clique c ON c.query_id = t.query_id AND c.run_id = %(run)s AND c.rank = 1
WHERE t.center IS NOT NULL
"""


def stage_2(rows: list[RunHit]) -> list[list[RunHit]]:
    """Return the published cliques of a query's hits."""
    patch = np.unique([r.patch_id for r in rows], return_inverse=True)[1]
    x, y, size, lon, lat = np.array([(r.x_px, r.y_px, r.width_px, r.lon_deg, r.lat_deg) for r in rows]).T
    found = published.cliques(published.Hits(patch, x, y, size, lon, lat, rows[0].level))
    return [[rows[i] for i in each] for each in found]


def mosaic(source: TileSource, level: int, column: int, row: int) -> Image:
    """The newest 3 x 3 tiles about one."""
    columns, lines = range(column - 1, column + 2), range(row - 1, row + 2)
    cells = [(c, r, source.cell(Cell(level, c % 2**level, r))) for c in columns for r in lines]
    return imagery.mosaic({(c, r): imagery.decode(t[0].data) for c, r, t in cells if t}, columns, lines)[0]


def stage_3(cliques: list[list[RunHit]], image: Image, source: TileSource, tried: int) -> tuple[int, RunHit | None]:
    """Return the most inliers of the hits that were tried, and that hit."""
    best: tuple[int, RunHit | None] = (0, None)
    for hit in islice((h for clique in cliques for h in clique), tried):
        left, top = max(round(hit.x_px - hit.width_px / 2), 0), max(round(hit.y_px - hit.height_px / 2), 0)
        cut = image[top : top + round(hit.height_px), left : left + round(hit.width_px)]
        patch = cv2.resize(cut, (3 * TILE_PX, 3 * TILE_PX), interpolation=cv2.INTER_AREA)
        warp = published.verify(np.asarray(patch, np.uint8), mosaic(source, hit.level, hit.column, hit.row))
        best = max(best, (warp.inliers, hit), key=lambda b: b[0])
        if warp.accepted:
            break
    return best


def distance(truth: tuple[float, float], lon: float | None, lat: float | None) -> str:
    """Metres from the truth, or a dash."""
    return "-" if lon is None or lat is None else f"{ground_distance_m(truth, (lon, lat)):,.0f} m"


def report(conn: Connection, run: int, tried: int) -> None:
    """Print a line a query."""
    answers = {row[0]: row[1:] for row in conn.execute(ANSWERS, {"run": run})}
    print("distance from the truth by this project: verdict, place, first clique; as published: first clique, stage 3")
    for (query, gallery), group in groupby(run_hits(conn, run), lambda r: (r.query_id, r.gallery)):
        if query in answers:
            lon, lat, verdict, *places = answers[query]
            rows = list(group)
            source = open_source(gallery)
            theirs, inliers = compare(rows, source, tried)
            source.close()
            pairs = [places[:2], places[2:], *theirs]
            columns = "  ".join(f"{distance((lon, lat), *pair):>11}" for pair in pairs)
            print(f"{rows[0].query[:27]:<28} {verdict:<10} {columns}  {inliers:>4} inliers", flush=True)


Place = tuple[float | None, float | None]


def compare(rows: list[RunHit], source: TileSource, tried: int) -> tuple[list[Place], int]:
    """Return where the published stages 2 and 3 put a query, and the inliers of stage 3."""
    cliques = stage_2(rows)
    if not cliques:
        return [(None, None), (None, None)], 0
    lon, lat = np.array([(r.vote_lon_deg, r.vote_lat_deg) for r in cliques[0]]).mean(axis=0)
    inliers, hit = stage_3(cliques, load_image(Path(rows[0].path))[0], source, tried)
    third = (hit.vote_lon_deg, hit.vote_lat_deg) if hit else (None, None)
    return [(float(lon), float(lat)), third], inliers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=int)
    parser.add_argument("--tried", type=int, default=20, help="hits of a query that stage 3 tries")
    options = parser.parse_args()
    with connect() as conn:
        report(conn, options.run, options.tried)


if __name__ == "__main__":
    main()
