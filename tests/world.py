"""A small gallery, queries with truth and what runs say of them, written straight into a database."""

from __future__ import annotations

import json

from rsloc_db.db.connection import Connection

TILE_DEG = 360 / 2**15
HOME = (2.0 + TILE_DEG / 2, 48.0 + TILE_DEG / 2)
DATELINE = (179.9999, 0.005)
HALF_DEG = 0.004
METRE_DEG = 1 / 111_200
"""A metre of latitude at 48 degrees north."""

Point = tuple[float, float]


def _box(center: Point) -> str:
    """WKT of a query's footprint: twice HALF_DEG on a side, cut at the antimeridian."""
    west, south, east, north = center[0] - HALF_DEG, center[1] - HALF_DEG, center[0] + HALF_DEG, center[1] + HALF_DEG
    parts = [(west, min(east, 180))] + ([(-180, east - 360)] if east > 180 else [])
    rings = [f"(({w} {south}, {e} {south}, {e} {north}, {w} {north}, {w} {south}))" for w, e in parts]
    return f"SRID=4326;MULTIPOLYGON({', '.join(rings)})"


def _point(at: Point | None) -> str | None:
    return at and f"SRID=4326;POINT({at[0]} {at[1]})"


def _corners(at: Point | None) -> str | None:
    steps = ((-1, 1), (1, 1), (1, -1), (-1, -1))
    points = at and ", ".join(f"({at[0] + i * HALF_DEG} {at[1] + j * HALF_DEG})" for i, j in steps)
    return points and f"SRID=4326;MULTIPOINT({points})"


class World:
    """A gallery of a few tiles, queries with truth, and what a run says of them."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.gallery = self._id(
            "INSERT INTO gallery (name, grid, source_kind, source, images)"
            " VALUES ('world', 'google_earth', 'ge_tiles', 'world.db', 'reference') RETURNING id"
        )
        self.tiles = [self._tile(column, HOME) for column in range(3)] + [self._tile(0, (180 - TILE_DEG / 2, 0.005))]
        model = self._id("INSERT INTO model (name, weights_hash, dimensions) VALUES ('m', 'h', 1) RETURNING id")
        self.set = self._id(
            "INSERT INTO embedding_set (gallery_id, model_id, level, window_tiles) VALUES (%s, %s, 15, 3) RETURNING id",
            *(self.gallery, model),
        )
        self.run = self.add_run(self.set)

    def _id(self, text: str, *values: object) -> int:
        row = self.conn.execute(text, values).fetchone()
        assert row is not None
        return int(row[0])

    def _tile(self, column: int, first: Point) -> int:
        x, y, half = first[0] + column * TILE_DEG, first[1], TILE_DEG / 2
        return self._id(
            "INSERT INTO tile (gallery_id, level, tile_column, tile_row, center, footprint) VALUES"
            " (%s, 15, %s, %s, %s, ST_MakeEnvelope(%s, %s, %s, %s, 4326)) RETURNING id",
            *(self.gallery, column, int(first[0]), _point((x, y)), x - half, y - half, x + half, y + half),
        )

    def add_run(self, *sets: int, within: str | None = None) -> int:
        settings = json.dumps({"embedding_sets": sets, "model": "gradients", "within": within})
        return self._id(
            "INSERT INTO run (query_set, settings, settings_hash, code_version)"
            " VALUES ('set', %s, 'hash', '0.1.0') RETURNING id",
            settings,
        )

    def query(self, name: str, *, run: int | None = None, status: str = "done", seconds: float = 1.0) -> int:
        query = self._id(
            "INSERT INTO query (query_set, name, path, content_hash, width_px, height_px) VALUES ('set', %s, '', '',"
            " 1280, 900) ON CONFLICT (query_set, name) DO UPDATE SET path = '' RETURNING id",
            name,
        )
        self.conn.execute(
            "INSERT INTO run_query (run_id, query_id, status, total_s, retrieve_s) VALUES (%s, %s, %s, %s, 0.5)",
            (run or self.run, query, status, seconds),
        )
        return query

    def truth(self, query: int, at: Point | None, *, simulated: bool = False, landscape: str = "") -> None:
        self.conn.execute(
            "INSERT INTO query_truth (query_id, center, footprint, corners, simulated, landscape, provider, source)"
            " VALUES (%s, %s, %s, %s, %s, %s, 'naip', 'set.csv')",
            (query, _point(at), at and _box(at), _corners(at), simulated, landscape),
        )

    def place(self, query: int, at: Point, rank: int = 1) -> int:
        return self._id(
            "INSERT INTO place (run_id, query_id, gallery_id, level, rank, correlation, evidence, center, footprint)"
            " VALUES (%s, %s, %s, 15, %s, 0.5, 9, %s, %s) RETURNING id",
            *(self.run, query, self.gallery, rank, _point(at), _box(at)),
        )

    def answer(
        self, query: int, verdict: str, at: Point | None = None, confidence: float | None = None, *, run: int = 0
    ) -> None:
        """The ellipse reaches 10 m north and south, 5 m east and west."""
        place = at and self.place(query, at)
        self.conn.execute(
            "INSERT INTO localization (run_id, query_id, place_id, verdict, reason, confidence, center, footprint,"
            " corners, ellipse_a_m, ellipse_b_m, ellipse_azimuth_deg)"
            " VALUES (%s, %s, %s, %s, 'so it is', %s, %s, %s, %s, 10, 5, 0)",
            (run or self.run, query, place, verdict, confidence, _point(at), at and _box(at), _corners(at)),
        )

    def clique(self, query: int, at: Point, rank: int) -> None:
        self.conn.execute(
            "INSERT INTO clique (run_id, query_id, gallery_id, level, rank, score, patches, center)"
            " VALUES (%s, %s, %s, 15, %s, 1, 3, %s)",
            (self.run, query, self.gallery, rank, _point(at)),
        )

    def patch(self, query: int, *hits: tuple[float, int, Point]) -> None:
        """Add a patch with its hits (similarity, index of the tile, vote), best first."""
        patch = self._id(
            "INSERT INTO patch (run_id, query_id, level, window_tiles, x_px, y_px, width_px, height_px, east_offset,"
            " north_offset, min_abs_lat_deg, max_abs_lat_deg, vector)"
            " VALUES (%s, %s, 15, 3, 0, 0, 9, 9, 0, 0, 0, 90, '[1]') RETURNING id",
            *(self.run, query),
        )
        for rank, (similarity, tile, vote) in enumerate(hits, 1):
            self.conn.execute(
                "INSERT INTO hit (run_id, query_id, patch_id, gallery_id, tile_id, rank, similarity, vote)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (self.run, query, patch, self.gallery, self.tiles[tile], rank, similarity, _point(vote)),
            )


def north(at: Point, metres: float) -> Point:
    return at[0], at[1] + metres * METRE_DEG
