"""A made-up gallery with two runs over it, for the output in docs/sql.md: its figures say nothing of accuracy.

Equal everywhere: all of it is written straight into the tables, from one seed.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable

from rsloc_db.db.connection import Connection

LEVEL, COLUMNS, ROWS = 15, 18, 12
TILE_DEG = 360 / 2**LEVEL
WEST, NORTH = 2.0, 48.0
HOLE = {(column, row) for column in (11, 12) for row in (4, 5, 6)}
"""Cells (column, row) that the gallery lacks, all around which it has tiles."""
HALF_TILES = 1.25
"""Half of a query's side."""
METRE_DEG = 1 / 111_200
ATTRACTOR = (4, 9)
"""A cell that resembles much: open fields, say."""
STEPS = ((-1, 1), (1, 1), (1, -1), (-1, -1))

Point = tuple[float, float]


def build(conn: Connection) -> None:
    """Write the gallery, the queries with their truth and both runs; the caller commits."""
    chance = random.Random(11)
    tiles = _gallery(conn, chance)
    queries = _queries(conn, chance)
    for retrieval, luck in (("knn", 0.55), ("auto", 0.8)):
        run = _run(conn, retrieval)
        for query, place in queries:
            _answer(conn, random.Random(f"{retrieval} {query}"), (run, query), place, tiles, luck)


def _one(conn: Connection, statement: str, *values: object) -> int:
    row = conn.execute(statement, values).fetchone()
    assert row is not None
    return int(row[0])


def _center(column: float, row: float) -> Point:
    return WEST + (column + 0.5) * TILE_DEG, NORTH - (row + 0.5) * TILE_DEG


def _moved(at: Point, east_m: float, north_m: float) -> Point:
    return at[0] + east_m * METRE_DEG / math.cos(math.radians(at[1])), at[1] + north_m * METRE_DEG


def _point(at: Point) -> str:
    return f"SRID=4326;POINT({at[0]} {at[1]})"


def _corners(at: Point) -> list[Point]:
    return [(at[0] + i * HALF_TILES * TILE_DEG, at[1] + j * HALF_TILES * TILE_DEG) for i, j in STEPS]


def _ring(points: Iterable[Point]) -> str:
    listed = list(points)
    return ", ".join(f"{x} {y}" for x, y in [*listed, listed[0]])


def _gallery(conn: Connection, chance: random.Random) -> dict[tuple[int, int], int]:
    """Write the gallery and return cell -> key of its newest tile."""
    gallery = _one(
        conn,
        "INSERT INTO gallery (name, grid, source_kind, source, images, status)"
        " VALUES ('loiret', 'google_earth', 'ge_tiles', 'galleryL15.db', 'reference', 'ready') RETURNING id",
    )
    model = _one(
        conn, "INSERT INTO model (name, weights_hash, dimensions) VALUES ('gradients', 'bef2cd82', 512) RETURNING id"
    )
    conn.execute(
        "INSERT INTO embedding_set (gallery_id, model_id, level, window_tiles, index_kind)"
        " VALUES (%s, %s, 15, 1, 'exact'), (%s, %s, 15, 3, 'exact')",
        (gallery, model, gallery, model),
    )
    conn.execute(
        "INSERT INTO ingest_failure (gallery_id, name, reason) VALUES (%s, '15_16577_12016', 'not a JPEG'),"
        " (%s, '15_16578_12016', 'not a JPEG'), (%s, '15_16571_12020', 'no picture: 0 bytes')",
        (gallery, gallery, gallery),
    )
    return {
        (column, row): _tile(conn, chance, gallery, (column, row))
        for row in range(ROWS)
        for column in range(COLUMNS)
        if (column, row) not in HOLE
    }


def _tile(conn: Connection, chance: random.Random, gallery: int, cell: tuple[int, int]) -> int:
    x, y = _center(*cell)
    half = TILE_DEG / 2
    year = 2016 + cell[0] // 6
    dates = [f"{year - 2}-09-12", f"{year}-06-04"] if chance.random() < 0.12 else [f"{year}-06-04"]
    keys = [
        _one(
            conn,
            "INSERT INTO tile (gallery_id, level, tile_column, tile_row, captured_at, center, footprint) VALUES"
            " (%s, 15, %s, %s, %s, %s, ST_MakeEnvelope(%s, %s, %s, %s, 4326)) RETURNING id",
            *(gallery, 16566 + cell[0], 12014 + cell[1], date, _point((x, y))),
            *(x - half, y - half, x + half, y + half),
        )
        for date in dates
    ]
    return keys[-1]


def _queries(conn: Connection, chance: random.Random) -> list[tuple[int, Point | None]]:
    """Write 26 queries and return their keys and places: 20 present, one in the hole, four absent, one broken."""
    places = [_center(chance.uniform(1, COLUMNS - 2), chance.uniform(1, ROWS - 2)) for _ in range(60)]
    present = [at for at in places if not _near_hole(at)][:20]
    found: list[tuple[int, Point | None]] = []
    for number, at in enumerate([*present, _center(11.5, 5), None, None, None, None], 1):
        landscape = "urban" if at and at[0] > WEST + 11 * TILE_DEG else "non-urban"
        query = _query(conn, f"scene{number:02}.tif")
        conn.execute(
            "INSERT INTO query_truth (query_id, center, footprint, corners, landscape, provider, source)"
            " VALUES (%s, %s, %s, %s, %s, %s, 'scenes.csv')",
            (query, at and _point(at), at and _footprint(at), at and _multipoint(at), landscape, "naip"),
        )
        found.append((query, at))
    return [*found, (_query(conn, "broken.tif", None), None)]


def _near_hole(at: Point) -> bool:
    cells = [((at[0] - WEST) / TILE_DEG + i * 1.3, (NORTH - at[1]) / TILE_DEG + j * 1.3) for i, j in (*STEPS, (0, 0))]
    return any((int(column), int(row)) in HOLE for column, row in cells)


def _query(conn: Connection, name: str, side: int | None = 640) -> int:
    return _one(
        conn,
        "INSERT INTO query (query_set, name, path, content_hash, width_px, height_px)"
        " VALUES ('scenes', %s, %s, '', %s, %s) RETURNING id",
        *(name, f"scenes/{name}", side, side),
    )


def _footprint(at: Point) -> str:
    return f"SRID=4326;MULTIPOLYGON((({_ring(_corners(at))})))"


def _multipoint(at: Point) -> str:
    return f"SRID=4326;MULTIPOINT({', '.join(f'({x} {y})' for x, y in _corners(at))})"


def _run(conn: Connection, retrieval: str) -> int:
    settings = {"model": "gradients", "embedding_sets": [1, 2], "galleries": ["loiret"], "within": None, "hits": 100}
    return _one(
        conn,
        "INSERT INTO run (query_set, settings, settings_hash, code_version, created_at, finished_at)"
        " VALUES ('scenes', %s, %s, '0.1.0', '2026-03-02 09:00+00', '2026-03-02 09:05+00') RETURNING id",
        *(json.dumps(settings | {"retrieval": retrieval}), retrieval),
    )


def _answer(
    conn: Connection,
    chance: random.Random,
    key: tuple[int, int],
    place: Point | None,
    tiles: dict[tuple[int, int], int],
    luck: float,
) -> None:
    """Write what a run says of a query: all rows from its patches to its answer."""
    row = conn.execute("SELECT width_px FROM query WHERE id = %s", (key[1],)).fetchone()
    failed = row is None or row[0] is None
    seconds = [chance.lognormvariate(mean, 0.3) for mean in (-0.7, -2.3, -0.9, -0.4)]
    conn.execute(
        "INSERT INTO run_query (run_id, query_id, status, retrieve_s, cliques_s, verify_s, refine_s, total_s)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (*key, "failed" if failed else "done", *([None] * 4 if failed else seconds), sum(seconds) + 0.1),
    )
    if failed:
        _localization(conn, key, "failed", "the file is cut short: 0 of 640 rows can be read", None)
        return
    uncovered = place is None or _near_hole(place)
    lucky = not uncovered and chance.random() < luck
    wrong = _center(*ATTRACTOR)
    _search(conn, chance, key, (place, wrong) if lucky else (None, wrong), tiles)
    if lucky and place is not None:
        off = _moved(place, chance.gauss(0, 3), chance.gauss(0, 3))
        _accept(conn, chance, key, off, 0.9 + 0.1 * chance.random())
    elif not uncovered and chance.random() < 0.4:
        _accept(conn, chance, key, _moved(wrong, chance.gauss(0, 60), 0), 0.5 + 0.2 * chance.random())
    else:
        _place(conn, key, wrong, 0.2)
        reason = "the best of 40 places has 3 of 60 blocks in agreement: chance explains that"
        _localization(conn, key, "not_here", reason, 0.02 + 0.06 * chance.random())


def _search(
    conn: Connection,
    chance: random.Random,
    key: tuple[int, int],
    votes_for: tuple[Point | None, Point],
    tiles: dict[tuple[int, int], int],
) -> None:
    """Write nine patches with five hits each, and the cliques of the true place, if it has votes, and a wrong one."""
    true, wrong = votes_for
    members: dict[Point, list[int]] = {at: [] for at in (true, wrong) if at is not None}
    for number in range(9):
        patch = _patch(conn, key, number)
        for rank in range(1, 6):
            at = chance.choice([true, wrong, None, None])
            target = at or _center(chance.uniform(0, COLUMNS - 1), chance.uniform(0, ROWS - 1))
            vote = _moved(target, chance.gauss(0, 150), chance.gauss(0, 150))
            hit = _hit(conn, key, patch, rank, tiles, vote)
            if at is not None:
                members[at].append(hit)
    ordered = sorted(members, key=lambda at: -len(members[at]))
    for rank, at in enumerate(ordered, 1):
        _clique(conn, key, rank, at, members[at])


def _patch(conn: Connection, key: tuple[int, int], number: int) -> int:
    return _one(
        conn,
        "INSERT INTO patch (run_id, query_id, level, window_tiles, x_px, y_px, width_px, height_px, east_offset,"
        " north_offset, min_abs_lat_deg, max_abs_lat_deg, vector)"
        " VALUES (%s, %s, 15, 1, %s, %s, 256, 256, 0, 0, 0, 90, '[1]') RETURNING id",
        *(*key, 128 + 192 * (number % 3), 128 + 192 * (number // 3)),
    )


def _hit(
    conn: Connection, key: tuple[int, int], patch: int, rank: int, tiles: dict[tuple[int, int], int], vote: Point
) -> int:
    cell = int((vote[0] - WEST) / TILE_DEG), int((NORTH - vote[1]) / TILE_DEG)
    near = min(tiles, key=lambda other: math.dist(other, cell))
    return _one(
        conn,
        "INSERT INTO hit (run_id, query_id, patch_id, gallery_id, tile_id, rank, similarity, vote)"
        " VALUES (%s, %s, %s, 1, %s, %s, %s, %s) RETURNING id",
        *(*key, patch, tiles[near], rank, 0.9 - 0.05 * rank, _point(vote)),
    )


def _clique(conn: Connection, key: tuple[int, int], rank: int, at: Point, hits: list[int]) -> None:
    clique = _one(
        conn,
        "INSERT INTO clique (run_id, query_id, gallery_id, level, rank, score, patches, center)"
        " VALUES (%s, %s, 1, 15, %s, %s, %s, %s) RETURNING id",
        *(*key, rank, 2.5 * len(hits), min(len(hits), 9), _point(at)),
    )
    for hit in hits:
        conn.execute("INSERT INTO clique_hit (clique_id, hit_id) VALUES (%s, %s)", (clique, hit))


def _place(conn: Connection, key: tuple[int, int], at: Point, correlation: float) -> int:
    return _one(
        conn,
        "INSERT INTO place (run_id, query_id, gallery_id, level, rank, correlation, evidence, center, footprint)"
        " VALUES (%s, %s, 1, 15, 1, %s, %s, %s, %s) RETURNING id",
        *(*key, correlation, 60 * correlation - 12, _point(at), _footprint(at)),
    )


def _accept(conn: Connection, chance: random.Random, key: tuple[int, int], at: Point, confidence: float) -> None:
    place = _place(conn, key, at, 0.4 + 0.3 * confidence)
    for number in range(36):
        x_px, y_px = 50 + 108 * (number % 6), 50 + 108 * (number // 6)
        off_m = chance.expovariate(1 / 2)
        location = _moved(at, (x_px - 320) * 2.2 + off_m, (320 - y_px) * 2.2)
        conn.execute(
            "INSERT INTO match (run_id, query_id, place_id, x_px, y_px, location, score, residual_m, inlier)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (*key, place, x_px, y_px, _point(location), 0.5 + 0.4 * chance.random(), off_m, off_m < 6),
        )
    _localization(conn, key, "accepted", "30 of 36 blocks agree on one place", confidence, (place, at))


def _localization(
    conn: Connection,
    key: tuple[int, int],
    verdict: str,
    reason: str,
    confidence: float | None,
    found: tuple[int, Point] | None = None,
) -> None:
    """The semi-axes of the 95 % ellipse are those of an error of 3 m an axis."""
    place, at = found or (None, None)
    conn.execute(
        "INSERT INTO localization (run_id, query_id, place_id, verdict, reason, confidence, center, footprint, corners,"
        " ellipse, ellipse_a_m, ellipse_b_m, ellipse_azimuth_deg) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s,"
        " ST_Buffer(%s::geography, 7.34)::geometry, %s, %s, %s)",
        (*key, place, verdict, reason, confidence, at and _point(at), at and _footprint(at), at and _multipoint(at))
        + ((_point(at), 7.34, 7.34, 0) if at else (None,) * 4),
    )
