"""Stage 2 on a real server: a planted agreement of votes among clumped ones comes out first."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from psycopg import sql

from rsloc_db.db import runs
from rsloc_db.db.connection import Connection
from rsloc_db.db.runs import CliqueRow, Key, Target
from rsloc_db.frames import add_offset, ground_distance_m
from rsloc_db.stages.cliques import P_HIT

LEVEL = 15
TILE_DEG = 360 / 2**LEVEL
CENTER = (1.0, 47.0)
PATCHES, HITS = 16, 100
TOOL = Path(__file__).resolve().parents[2] / "shared" / "tools" / "simulate_hits.py"


@dataclass(frozen=True)
class Vote:
    patch: int
    rank: int
    lon: float
    lat: float


@pytest.fixture
def key(conn: Connection) -> Key:
    query = runs.upsert_query(conn, "set", "query", "", "")
    return Key(runs.begin_run(conn, "set", {}, "hash", "0", [query]), query)


def target(grid: str = "google_earth") -> Target:
    return Target(1, "land", grid, LEVEL, 3, 1, "exact", 1, 43.0, 50.0)


def store(conn: Connection, key: Key, votes: Iterable[Vote], patches: int = PATCHES) -> None:
    ids = [
        conn.execute(
            "INSERT INTO patch (run_id, query_id, level, window_tiles, x_px, y_px, width_px, height_px, east_offset,"
            " north_offset, min_abs_lat_deg, max_abs_lat_deg, vector)"
            " VALUES (%s, %s, %s, 3, 0, 0, 9, 9, 0, 0, 0, 90, '[1]') RETURNING id",
            (key.run_id, key.query_id, LEVEL),
        ).fetchone()[0]
        for _ in range(patches)
    ]
    columns = sql.SQL("run_id, query_id, patch_id, gallery_id, tile_id, rank, similarity, vote")
    with conn.cursor().copy(sql.SQL("COPY hit ({}) FROM STDIN").format(columns)) as copy:
        for v in votes:
            point = f"SRID=4326;POINT({v.lon!r} {v.lat!r})"
            copy.write_row((key.run_id, key.query_id, ids[v.patch], 1, 1, v.rank, 0.5, point))
    conn.execute("ANALYZE hit")


def found(conn: Connection, key: Key, grid: str = "google_earth", limit: int = 40) -> list[CliqueRow]:
    runs.find_cliques(conn, key, target(grid), limit=limit, p_hit=P_HIT)
    return runs.ranked_cliques(conn, key, limit)


def clumped(rng: np.random.Generator, patches: int = PATCHES, hits: int = HITS) -> list[Vote]:
    """Votes that chance gives: patches look alike, so theirs crowd in the same few dozen places."""
    clumps = rng.uniform([-3, 44], [4, 49], (30, 2))
    at = clumps[rng.integers(30, size=(patches, hits))] + rng.normal(0, 0.12, (patches, hits, 2))
    return [Vote(p, r + 1, *map(float, at[p, r])) for p in range(patches) for r in range(hits)]


def planted(rng: np.random.Generator, place: tuple[float, float], patches: Iterable[int]) -> list[Vote]:
    """Right votes of some patches: within half a tile of the place, at any rank."""
    lon, lat = place
    off = TILE_DEG / 2
    return [
        Vote(p, int(rng.integers(1, HITS)), lon + rng.uniform(-off, off), lat + rng.uniform(-off, off)) for p in patches
    ]


def is_at(clique: CliqueRow, place: tuple[float, float]) -> bool:
    return ground_distance_m((clique.lon_deg, clique.lat_deg), place) < 1300


@pytest.mark.parametrize("grid", ["google_earth", "web_mercator"])
@pytest.mark.parametrize("seed", range(4))
def test_the_planted_clique_is_first(conn: Connection, key: Key, grid: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    store(conn, key, [*clumped(rng), *planted(rng, CENTER, range(0, PATCHES, 2))])
    best = found(conn, key, grid)
    assert is_at(best[0], CENTER)
    assert best[0].patches >= 6
    assert best[0].score == max(c.score for c in best)


def test_unlikely_beats_large(conn: Connection, key: Key) -> None:
    """Where votes are dense, many patches agree by chance; a smaller clique in the open is less likely."""
    rng = np.random.default_rng(0)
    crowd = (3.0, 45.0)
    dense = [
        Vote(p, r + 1, *map(float, np.array(crowd) + rng.normal(0, 0.03, 2)))
        for p in range(PATCHES)
        for r in range(HITS)
    ]
    store(conn, key, [*dense, *planted(rng, CENTER, range(6))])
    best = found(conn, key)
    assert is_at(best[0], CENTER)
    assert max(c.patches for c in best[1:]) > best[0].patches


def test_rows_of_a_clique_are_distinct_patches_that_agree(conn: Connection, key: Key) -> None:
    rng = np.random.default_rng(1)
    store(conn, key, [*clumped(rng), *planted(rng, CENTER, range(9))])
    best = found(conn, key)[0]
    rows = conn.execute(
        "SELECT h.patch_id, ST_X(h.vote), ST_Y(h.vote) FROM clique_hit c JOIN hit h ON h.id = c.hit_id"
        " WHERE c.clique_id = %s",
        (best.id,),
    ).fetchall()
    assert len(rows) == len({patch for patch, *_ in rows}) == best.patches
    for _, lon, lat in rows:
        assert abs(lon - best.lon_deg) <= 1.5 * TILE_DEG
        assert abs(lat - best.lat_deg) <= 1.5 * TILE_DEG


@pytest.mark.parametrize("votes", [1, 5, 2000])
def test_rows_are_bounded_whatever_the_votes(conn: Connection, key: Key, votes: int) -> None:
    """Also where every patch votes for one spot many times over."""
    rng = np.random.default_rng(0)
    spot = [
        Vote(p, r % HITS + 1, *map(float, np.array(CENTER) + rng.normal(0, 0.02, 2)))
        for p in range(4)
        for r in range(votes)
    ]
    store(conn, key, spot, patches=4)
    cliques = found(conn, key, limit=7)
    assert 1 <= len(cliques) <= 7
    (rows,) = conn.execute("SELECT count(*) FROM clique_hit").fetchone()
    assert rows <= 7 * 4
    assert [c.score for c in cliques] == sorted((c.score for c in cliques), reverse=True)


def test_no_votes_no_cliques(conn: Connection, key: Key) -> None:
    store(conn, key, [])
    assert found(conn, key) == []


@pytest.mark.parametrize("grid", ["google_earth", "web_mercator"])
def test_votes_on_both_sides_of_the_antimeridian_are_one_clique(conn: Connection, key: Key, grid: str) -> None:
    side = TILE_DEG / 5
    votes = [Vote(p, 1, 180 - side if p % 2 else -180 + side, -16.5) for p in range(8)]
    store(conn, key, votes, patches=8)
    (clique,) = found(conn, key, grid)
    assert clique.patches == 8
    assert -180 <= clique.lon_deg <= 180
    assert is_at(clique, (180.0, -16.5))


def test_the_same_votes_give_the_same_cliques(conn: Connection, key: Key) -> None:
    rng = np.random.default_rng(5)
    votes = [*clumped(rng), *planted(rng, CENTER, range(7))]
    answers = []
    for order in (votes, votes[::-1]):
        runs.claim_query(conn, key)
        store(conn, key, order)
        cliques = found(conn, key)
        answers.append([(c.score, c.patches, c.lon_deg, c.lat_deg) for c in cliques])
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-9)


def test_cliques_of_two_galleries_are_ranked_together(conn: Connection, key: Key) -> None:
    store(conn, key, planted(np.random.default_rng(0), CENTER, range(8)))
    conn.execute("UPDATE hit SET gallery_id = 2 WHERE patch_id IN (SELECT id FROM patch ORDER BY id LIMIT 5)")
    for gallery in (1, 2):
        each = Target(gallery, "land", "google_earth", LEVEL, 3, 1, "exact", 1, 43.0, 50.0)
        runs.find_cliques(conn, key, each, limit=40, p_hit=P_HIT)
    ranked = runs.ranked_cliques(conn, key, 40)
    assert [c.gallery_id for c in ranked[:2]] == [2, 1]
    assert conn.execute("SELECT rank FROM clique ORDER BY score DESC").fetchall() == [
        (r,) for r in range(1, len(ranked) + 1)
    ]


@pytest.mark.skipif(not TOOL.is_file(), reason=f"{TOOL} is missing")
def test_simulated_hits_of_a_large_gallery(conn: Connection, key: Key, tmp_path: Path) -> None:
    """32,000 clumped hits, a fifth of the patches right: the truth is among the first five."""
    subprocess.run([sys.executable, TOOL, "3", "0.2", tmp_path, "7"], check=True)
    for name, (lon, lat) in json.loads((tmp_path / "truth.json").read_text()).items():
        runs.claim_query(conn, key)
        store(conn, key, simulated(tmp_path / f"hits_q{name}.csv", lat))
        assert any(is_at(c, (lon, lat)) for c in found(conn, key)[:5])


def simulated(path: Path, lat: float) -> list[Vote]:
    """Votes of a simulated query: a 4 x 4 grid of patches of 768 px, at the resolution of its latitude."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    size = 4.777314267823505 * math.cos(math.radians(lat))
    votes = []
    for row in rows:
        patch = (int(row["it_i"]) - 1) * 4 + int(row["it_j"]) - 1
        east, north = (float(row["center_x"]) - 1536) * size, (1536 - float(row["center_y"])) * size
        place = add_offset("ground", (float(row["lon"]), float(row["lat"])), np.array(-east), np.array(-north))
        votes.append(Vote(patch, int(row["rank"]), float(place[0]), float(place[1])))
    return votes
