"""A handful of queries in the drawn world, for tests of several processes; and what a run left in the tables."""

from __future__ import annotations

from pathlib import Path

from lands import LEVEL, cut

import rsloc_db
from rsloc_db.api import Localizations
from rsloc_db.db.connection import connect

PLACES = {"a.png": (900.3, 800.1), "b.png": (1200.0, 1000.6), "c.png": (700.2, 1250.9), "d.png": (1301.7, 702.4)}
STORED = {
    "place": "SELECT q.name, p.rank, p.correlation, p.evidence, p.center::text, p.footprint::text FROM place p"
    " JOIN query q ON q.id = p.query_id",
    "match": "SELECT q.name, p.rank, m.x_px, m.y_px, m.location::text, m.score, m.inlier FROM match m"
    " JOIN place p ON p.id = m.place_id JOIN query q ON q.id = m.query_id",
    "hit": "SELECT q.name, h.rank, h.tile_id, h.similarity, h.vote::text FROM hit h JOIN query q ON q.id = h.query_id",
}


def write_queries(folder: Path) -> Path:
    for name, at in PLACES.items():
        cut(at=at, shape=(400, 420)).write_bare(folder / name)
    return folder


def localize(queries: Path, **options: object) -> Localizations:
    return rsloc_db.localize(queries, level=LEVEL, **options)


def stored(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All that a run stored but for keys and times, in an order of its own."""
    with connect(url) as conn:
        return {table: sorted(conn.execute(text).fetchall()) for table, text in STORED.items()}
