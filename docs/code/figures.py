"""Draw the figures of docs/method.md out of a run over a drawn gallery: nobody's imagery, nothing by hand.

rsloc-db synth out/small --tiles 400 --seed 3 --queries 6
rsloc-db ingest out/small/Gallery/galleryL15.db --name small
rsloc-db localize out/small/RSimages/present out/small/RSimages/absent --gallery small
python docs/code/figures.py 1
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.export import map_galleries, report_strips
from rsloc_db.db.galleries import get_gallery
from rsloc_db.export.basemap import basemap
from rsloc_db.export.strips import strip
from rsloc_db.queries.images import load_image
from rsloc_db.types import Bounds, Json

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

FIGURES = Path(__file__).resolve().parents[1] / "figures"
SHOWN = ("p3_L15_synth.tiff", "a1_L15_synth.tiff")
"""A query that the gallery has and one that it lacks."""

QUERY = "SELECT query_id FROM run_query JOIN query ON query.id = query_id WHERE run_id = %s AND name = %s"
VOTES = """
SELECT ST_X(vote), ST_Y(vote), EXISTS (
    SELECT FROM clique_hit JOIN clique ON clique.id = clique_id
    WHERE hit_id = hit.id AND clique.rank = 1
) FROM hit WHERE run_id = %s AND query_id = %s
"""
PATCHES = """
SELECT x_px - width_px / 2, y_px - height_px / 2, width_px, height_px FROM patch
WHERE run_id = %s AND query_id = %s ORDER BY window_tiles DESC, id
"""
MATCHES = """
SELECT match.x_px, match.y_px, inlier FROM match JOIN place ON place.id = place_id
WHERE match.run_id = %s AND match.query_id = %s AND place.rank = 1
"""
EXTENT = """
SELECT ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box)
FROM (SELECT ST_Extent(footprint) AS box FROM tile WHERE gallery_id = %s) AS tiles
"""


def main(run: int) -> None:
    """Draw both figures."""
    FIGURES.mkdir(exist_ok=True)
    with connect() as conn:
        rows = {row["name"]: row for row in report_strips(conn, run)}
        _draw_stages(conn, run, [rows[name] for name in SHOWN])
        _draw_checkerboard(conn, run, rows[SHOWN[0]])


def _one(conn: Connection, statement: str, *values: object) -> tuple[Any, ...]:
    row = conn.execute(statement, values).fetchone()
    assert row is not None
    return row


def _draw_stages(conn: Connection, run: int, rows: list[Json]) -> None:
    """Draw a row a query: its patches, their votes on the gallery, the blocks that agree with the best place."""
    figure, axes = plt.subplots(len(rows), 3, figsize=(11, 7.2), layout="constrained")
    for row, line in zip(rows, axes, strict=True):
        key = (run, _one(conn, QUERY, run, row["name"])[0])
        picture = load_image(Path(row["path"]))[0]
        line[0].imshow(picture)
        for x, y, width, height in conn.execute(PATCHES, key).fetchall()[:100:7]:
            line[0].add_patch(Rectangle((x, y), width, height, fill=False, ec="yellow", lw=0.8))
        _draw_votes(conn, run, key, line[1])
        line[2].imshow(picture, alpha=0.75)
        points = np.array(conn.execute(MATCHES, key).fetchall(), float).reshape(-1, 3)
        agree = points[:, 2] > 0
        line[2].plot(*points[~agree, :2].T, ".", ms=4, c="crimson")
        line[2].plot(*points[agree, :2].T, ".", ms=4, c="lime")
        line[0].set_ylabel("in the gallery" if row["verdict"] == "accepted" else "not in the gallery")
        line[2].set_xlabel(f"{agree.sum()} of {len(points)} blocks agree: {row['verdict'].replace('_', ' ')}")
    titles = ("Patches (some of them)", "Votes on the gallery", "Blocks at the best place")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    _save(figure, axes.ravel(), "stages.jpg")


def _draw_votes(conn: Connection, run: int, key: tuple[int, int], axis: Any) -> None:
    ((name, level, _),) = map_galleries(conn, run)
    gallery = get_gallery(conn, name)
    west, south, east, north = _one(conn, EXTENT, gallery.id)
    ground = basemap(conn, [(gallery, level)], Bounds(west, south, east, north), max_side_px=700).image
    axis.imshow(ground, extent=(west, east, south, north), alpha=0.6, aspect=1 / np.cos(np.radians(north)))
    votes = np.array(conn.execute(VOTES, key).fetchall(), float)
    best = votes[:, 2] > 0
    axis.plot(*votes[~best, :2].T, ".", ms=2, c="crimson", alpha=0.5)
    axis.plot(*votes[best, :2].T, "o", ms=6, mfc="none", mec="yellow", mew=1.5)
    axis.set(xlim=(west, east), ylim=(south, north))
    axis.set_xlabel(f"{len(votes):,} votes, {best.sum()} in the first clique")


def _draw_checkerboard(conn: Connection, run: int, row: Json) -> None:
    pictures = strip(conn, run, row).pictures[:3]
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
    for axis, (caption, picture) in zip(axes, pictures, strict=True):
        axis.imshow(picture)
        axis.set_title(caption, fontsize=11)
    _save(figure, axes, "checkerboard.jpg")


def _save(figure: Any, axes: Any, name: str) -> None:
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    figure.savefig(FIGURES / name, dpi=110, pil_kwargs={"quality": 82})


if __name__ == "__main__":
    main(int(sys.argv[1]))
