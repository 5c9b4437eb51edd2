"""Stage 2 on a real server: a planted agreement of votes among clumped ones comes out first."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    similarity: float = 0.5


@pytest.fixture
def key(conn: Connection) -> Key:
    query = runs.upsert_query(conn, "set", "query", "", "")
    return Key(runs.begin_run(conn, "set", {}, "hash", "0", [query]), query)


def target(grid: str = "google_earth") -> Target:
    return Target(1, "land", grid, LEVEL, 3, 1, "exact", 1, 43.0, 50.0)


def store(
    conn: Connection,
    key: Key,
    votes: Iterable[Vote],
    patches: int = PATCHES,
    poses: Sequence[tuple[float, float]] = ((0, 1),),
) -> None:
    """Store patches, so many of each pose (turn, zoom), and votes: ``Vote.patch`` counts through the poses."""
    ids = [
        conn.execute(
            "INSERT INTO patch (run_id, query_id, level, window_tiles, x_px, y_px, width_px, height_px, east_offset,"
            " north_offset, min_abs_lat_deg, max_abs_lat_deg, turn_deg, zoom, vector)"
            " VALUES (%s, %s, %s, 3, 0, 0, 9, 9, 0, 0, 0, 90, %s, %s, '[1]') RETURNING id",
            (key.run_id, key.query_id, LEVEL, *pose),
        ).fetchone()[0]
        for pose in poses
        for _ in range(patches)
    ]
    columns = sql.SQL("run_id, query_id, patch_id, gallery_id, tile_id, rank, similarity, vote")
    with conn.cursor().copy(sql.SQL("COPY hit ({}) FROM STDIN").format(columns)) as copy:
        for v in votes:
            point = f"SRID=4326;POINT({v.lon!r} {v.lat!r})"
            copy.write_row((key.run_id, key.query_id, ids[v.patch], 1, 1, v.rank, v.similarity, point))
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


def posed(rng: np.random.Generator, right: int, patches: Iterable[int]) -> list[Vote]:
    """Votes of 12 poses among the same clumps, and right ones of some patches of the pose ``right``."""
    clumps = rng.uniform([-3, 44], [4, 49], (20, 2))
    votes = []
    for patch in range(12 * PATCHES):
        at = clumps[rng.integers(20, size=30)] + rng.normal(0, 0.1, (30, 2))
        votes += [Vote(patch, r + 1, *map(float, place)) for r, place in enumerate(at)]
    return votes + [replace(v, patch=v.patch + right * PATCHES) for v in planted(rng, CENTER, patches)]


POSES = [(30.0 * turn, zoom) for turn in range(6) for zoom in (1.0, 1.25)]


@pytest.mark.parametrize("right", [0, 7])
def test_the_planted_pose_is_first_among_clumps_of_all_poses(conn: Connection, key: Key, right: int) -> None:
    rng = np.random.default_rng(right)
    store(conn, key, posed(rng, right, range(0, PATCHES, 2)), poses=POSES)
    best = found(conn, key)[0]
    assert is_at(best, CENTER)
    assert (best.turn_deg, best.zoom) == POSES[right]
    poses = conn.execute(
        "SELECT DISTINCT p.turn_deg, p.zoom FROM clique_hit c JOIN hit h ON h.id = c.hit_id"
        " JOIN patch p ON p.id = h.patch_id WHERE c.clique_id = %s",
        (best.id,),
    ).fetchall()
    assert poses == [POSES[right]]


def test_votes_of_different_poses_do_not_agree(conn: Connection, key: Key) -> None:
    together = [Vote(p, 1, *CENTER) for p in range(8)]
    apart = [Vote(8 + p, 1, CENTER[0] + 0.5, CENTER[1]) for p in range(4)]
    apart += [Vote(PATCHES + p, 1, CENTER[0] + 0.5, CENTER[1]) for p in range(4)]
    store(conn, key, [*together, *apart], poses=POSES[:2])
    cliques = found(conn, key)
    assert is_at(cliques[0], CENTER)
    assert [c.patches for c in cliques] == [8, 4]


def test_a_place_is_listed_once_in_its_best_pose(conn: Connection, key: Key) -> None:
    """Votes of neighbouring poses crowd about the right place too: these are not further places."""
    votes = [Vote(p + PATCHES * k, 1, *CENTER) for k, patches in enumerate((6, 9, 5)) for p in range(patches)]
    other = (CENTER[0] + 0.4, CENTER[1])
    votes += [Vote(p + PATCHES * 2, 2, *other) for p in range(7, 10)]
    store(conn, key, votes, poses=POSES[:3])
    cliques = found(conn, key)
    assert [(c.patches, c.turn_deg, c.zoom) for c in cliques] == [(9, *POSES[1]), (3, *POSES[2])]
    assert is_at(cliques[1], other)


@pytest.mark.parametrize("poses", [1, 12])
def test_the_score_rises_with_the_similarity_of_the_right_hits(conn: Connection, key: Key, poses: int) -> None:
    rng = np.random.default_rng(3)
    right = range(0, PATCHES, 2)
    chance = [replace(v, similarity=float(rng.normal(0.5, 0.05))) for v in clumped(rng)]
    places = planted(rng, CENTER, right)
    scores = []
    for similarity in (0.45, 0.55, 0.65, 0.75):
        runs.claim_query(conn, key)
        store(conn, key, [*chance, *(replace(v, similarity=similarity) for v in places)], poses=POSES[:poses])
        scores.append(next(c.score for c in found(conn, key) if is_at(c, CENTER)))
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + len(right)


@pytest.mark.parametrize("level", [0, 1, 3, 5])
def test_levels_of_a_few_tiles_have_cliques(conn: Connection, key: Key, level: int) -> None:
    """Around a small world every bin is near every other; a vote still counts once."""
    store(conn, key, [Vote(p, 1, *CENTER) for p in range(5)])
    conn.execute("UPDATE patch SET level = %s", (level,))
    each = replace(target(), level=level)
    runs.find_cliques(conn, key, each, limit=40, p_hit=P_HIT)
    (clique,) = runs.ranked_cliques(conn, key, 40)
    assert clique.patches == 5
    assert ground_distance_m((clique.lon_deg, clique.lat_deg), CENTER) < 1


@pytest.mark.skipif(not TOOL.is_file(), reason=f"{TOOL} is missing")
def test_simulated_hits_of_a_large_gallery(conn: Connection, key: Key, tmp_path: Path) -> None:
    """32,000 clumped hits, a fifth of the patches right: the truth is first."""
    subprocess.run([sys.executable, TOOL, "1", "0.2", tmp_path, "7"], check=True)
    for name, (lon, lat) in json.loads((tmp_path / "truth.json").read_text()).items():
        runs.claim_query(conn, key)
        store(conn, key, simulated(tmp_path / f"hits_q{name}.csv", lat))
        assert is_at(found(conn, key)[0], (lon, lat))


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
