"""Stage 1 on a real server: how patches lie, and that the search and the votes are what geometry says."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from ground import ground_size_m
from numpy.typing import NDArray
from psycopg import sql
from sources import rows as source_rows
from sources import square, write_ge_tiles

import rsloc_db
from rsloc_db.api import read_polygon
from rsloc_db.db import runs
from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.embeddings import list_sets, partition_name
from rsloc_db.db.indexes import complete_set
from rsloc_db.db.runs import Key, PatchRow, Target
from rsloc_db.db.search import ef_search, search, search_statement
from rsloc_db.frames import Frame, add_offset, ground_distance_m
from rsloc_db.grids import nominal_resolution_m
from rsloc_db.models import embedder
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query
from rsloc_db.stages.retrieve import embedded, latitude_bands, lay, patch_size, some_of, useful
from rsloc_db.types import Image, Pixels, Scale, Silent

LEVEL = 15
SCALES: dict[Pixels, Scale] = {
    "mercator": Scale("mercator", 4.777, 4.777),
    "ground": Scale("ground", 3.3, 3.3),
    "degrees": Scale("degrees", 4.3e-5, 4.3e-5),
}
FRANCE, EVERYWHERE = (43.0, 50.0), (0.0, 90.0)


def layout(pixels: Pixels, width: int, height: int, window: int = 3, most: int = 100) -> list[PatchRow]:
    scale = SCALES[pixels]
    band = latitude_bands(scale, *FRANCE)[0]
    return some_of(lay(Frame(scale, width, height), LEVEL, window, band), most)


# --- how patches lie


@pytest.mark.parametrize("pixels", list(SCALES))
@pytest.mark.parametrize("limits", [(0.0, 0.0), (47.0, 47.1), FRANCE, (0.0, 89.0), (60.0, 85.0)])
def test_bands_cover_the_latitudes(pixels: Pixels, limits: tuple[float, float]) -> None:
    bands = latitude_bands(SCALES[pixels], *limits)
    for lat in np.linspace(*limits, 200):
        assert any(low <= lat <= high for low, high in bands)
    for low, high in bands:
        if pixels != "mercator" and high < 80:
            assert math.cos(math.radians(low)) / math.cos(math.radians(high)) < 1.16


@pytest.mark.parametrize("pixels", list(SCALES))
def test_patches_are_windows_on_the_ground(pixels: Pixels) -> None:
    """Within its band a patch is as wide as 3 tiles and square on the ground, but for half the band's width."""
    for band in latitude_bands(SCALES[pixels], *FRANCE):
        width, height = patch_size(SCALES[pixels], LEVEL, 3, band)
        for lat in np.linspace(max(band[0], FRANCE[0]), min(band[1], FRANCE[1]), 5):
            east, north = ground_size_m(SCALES[pixels], lat)
            tile_m = 256 * nominal_resolution_m(LEVEL) * math.cos(math.radians(lat))
            assert width * east == pytest.approx(3 * tile_m, rel=0.075)
            assert height * north == pytest.approx(3 * tile_m, rel=0.075)


@pytest.mark.parametrize(("width", "height"), [(1280, 1280), (1792, 1300), (2560, 900), (768, 768), (5000, 800)])
@pytest.mark.parametrize("pixels", list(SCALES))
def test_patches_cover_the_query(pixels: Pixels, width: int, height: int) -> None:
    """But for a rim of an eighth of a tile."""
    seen = np.zeros((height, width), bool)
    found = layout(pixels, width, height, most=1000)
    for p in found:
        assert p.x_px - p.width_px / 2 > -0.2 * p.width_px
        assert p.x_px + p.width_px / 2 < width + 0.2 * p.width_px
        left, top = max(round(p.x_px - p.width_px / 2), 0), max(round(p.y_px - p.height_px / 2), 0)
        seen[top : round(p.y_px + p.height_px / 2), left : round(p.x_px + p.width_px / 2)] = True
    x, y = (math.ceil(side / 3 / 8) for side in (found[0].width_px, found[0].height_px))
    assert seen[y:-y, x:-x].all()


def test_some_patch_is_in_phase_with_the_grid() -> None:
    """Wherever the tiles' grid lies, some patch is a third of a tile or less from it in both directions."""
    at = np.array([[p.x_px, p.y_px] for p in layout("mercator", 1400, 1400)])
    for phase in np.random.default_rng(0).uniform(0, 256, (50, 2)):
        off = np.abs((at - phase + 128) % 256 - 128).max(axis=1)
        assert off.min() < 256 / 3


@pytest.mark.parametrize(("side", "narrow"), [(960, 144), (2560, 75)])
def test_a_small_query_is_cut_into_all_of_its_narrow_windows(side: int, narrow: int) -> None:
    """Few of them are in phase with the grid; of a large one enough are in any choice."""
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    query = Query(image, np.ones((side, side), bool), Frame(SCALES["mercator"], side, side))
    targets = [Target(1, "land", "google_earth", LEVEL, tiles, tiles, "hnsw", 256, *FRANCE) for tiles in (1, 3)]
    options = Options("gradients", patches=25)
    cut = [p.window_tiles for patches, _ in embedded(query, targets, embedder(), options) for p in patches]
    assert cut.count(1) == narrow
    assert cut.count(3) <= options.patches


def test_offsets_are_those_of_the_frame() -> None:
    frame = Frame(SCALES["ground"], 1500, 1200)
    for p in lay(frame, LEVEL, 3, latitude_bands(frame.scale, *FRANCE)[0]):
        east, north = frame.offsets(np.array(p.x_px), np.array(p.y_px))
        assert (p.east_offset, p.north_offset) == (pytest.approx(float(east)), pytest.approx(float(north)))


def test_a_query_of_one_tile_has_a_patch_one_tile_wide() -> None:
    """A Google Earth tile as a Mercator image at 47 N: 256 x 375 px."""
    assert layout("mercator", 256, 375, window=3) == []
    assert len(layout("mercator", 256, 375, window=1)) >= 3


def test_a_tiny_query_has_none() -> None:
    assert layout("mercator", 64, 64, window=1) == []


def test_patches_are_limited_and_the_same_each_time() -> None:
    many = layout("mercator", 4000, 4000, most=100)
    assert len(many) == 100
    assert many == layout("mercator", 4000, 4000, most=100)
    assert np.ptp([p.x_px for p in many]) > 2500


def test_patches_without_imagery_or_structure_are_left_out() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), np.uint8)
    image: Image = noise.copy()
    image[:, 900:] = 120  # a calm sea
    valid = np.ones((1400, 1400), bool)
    valid[800:] = False
    kept = useful(image, valid, layout("mercator", 1400, 1400, window=1))
    assert kept
    for p in kept:
        assert p.x_px - p.width_px / 2 < 900
        assert p.y_px - p.height_px / 2 < 800 - 0.5 * p.height_px


# --- the search


@pytest.fixture
def key(conn: Connection) -> Key:
    query = runs.upsert_query(conn, "set", "query", "", "")
    return Key(runs.begin_run(conn, "set", {}, "hash", "0", [query]), query)


def the_target(conn: Connection, window: int = 1) -> Target:
    model = embedder()
    (found,) = [t for t in runs.search_targets(conn, model.name, model.weights_hash, None) if t.window_tiles == window]
    return found


def patches(
    target: Target, offsets: NDArray[np.float64], bands: tuple[float, float] = EVERYWHERE
) -> tuple[list[PatchRow], NDArray[np.float32]]:
    """Patches at offsets (N, 2), with random vectors."""
    made = [PatchRow(target.level, target.window_tiles, 0, 0, 9, 9, *map(float, o), *bands) for o in offsets]
    vectors = np.random.default_rng(9).normal(size=(len(made), target.dimensions)).astype(np.float32)
    return made, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def unit(rows: list[tuple[str]]) -> NDArray[np.float64]:
    return np.array([json.loads(text) for (text,) in rows], float)


HITS = """
SELECT p.east_offset, p.north_offset, ST_X(t.center), ST_Y(t.center), ST_X(h.vote), ST_Y(h.vote)
FROM hit h JOIN patch p ON p.id = h.patch_id JOIN tile t ON t.id = h.tile_id
"""


@pytest.mark.parametrize("pixels", list(SCALES))
@pytest.mark.parametrize("columns", [(2100, 2101, 2102), (0, 1, 4094, 4095)], ids=["France", "antimeridian"])
def test_votes_are_what_the_frames_say(
    conn: Connection, key: Key, tmp_path: Path, pixels: Pixels, columns: tuple[int, ...]
) -> None:
    rsloc_db.ingest(write_ge_tiles(tmp_path / "land.db", source_rows(columns, (1480, 2600))), windows=(1,), workers=1)
    target, reach = the_target(conn), 0.05 if pixels == "degrees" else 5000.0
    made, vectors = patches(target, np.random.default_rng(1).uniform(-reach, reach, (8, 2)))
    runs.copy_patches(conn, key, made, vectors)
    search(conn, key, target, pixels, limit=100)
    found = conn.execute(HITS).fetchall()
    assert len(found) == 8 * 2 * len(columns)
    for east, north, lon, lat, vote_lon, vote_lat in found:
        assert -180 <= vote_lon <= 180
        back = add_offset(pixels, (lon, lat), np.array(-east), np.array(-north))
        assert ground_distance_m((vote_lon, vote_lat), (float(back[0]), float(back[1]))) < 1
        # and from there the patch is at the tile, but for the meridians' convergence over the query's own size
        there = add_offset(pixels, (vote_lon, vote_lat), np.array(east), np.array(north))
        limit = 25 if pixels == "ground" else 1
        assert ground_distance_m((lon, lat), (float(there[0]), float(there[1]))) < limit


def test_nearest_tiles_equal_a_direct_search(conn: Connection, key: Key, tmp_path: Path) -> None:
    rsloc_db.ingest(write_ge_tiles(tmp_path / "land.db", square(9)), workers=1)
    target = the_target(conn, window=3)
    made, vectors = patches(target, np.zeros((5, 2)))
    runs.copy_patches(conn, key, made, vectors)
    search(conn, key, target, "mercator", limit=20)
    gallery = unit(conn.execute(f"SELECT vector::text FROM embedding_{target.set_id} ORDER BY tile_id").fetchall())
    ids = np.array(conn.execute(f"SELECT tile_id FROM embedding_{target.set_id} ORDER BY tile_id").fetchall())[:, 0]
    stored = unit(conn.execute("SELECT vector::text FROM patch ORDER BY id").fetchall())
    cosine = stored @ gallery.T / np.linalg.norm(stored, axis=1)[:, None] / np.linalg.norm(gallery, axis=1)
    for patch, ((patch_id,), row) in enumerate(
        zip(conn.execute("SELECT id FROM patch ORDER BY id").fetchall(), cosine, strict=True)
    ):
        found = conn.execute(
            "SELECT tile_id, rank, similarity FROM hit WHERE patch_id = %s ORDER BY rank", (patch_id,)
        ).fetchall()
        assert [rank for _, rank, _ in found] == list(range(1, 21))
        np.testing.assert_allclose([s for *_, s in found], np.sort(row)[::-1][:20], atol=1e-3)
        here = dict(zip(ids.tolist(), cosine[patch].tolist(), strict=True))
        np.testing.assert_allclose([here[tile] for tile, *_ in found], [s for *_, s in found], atol=1e-3)


def test_patches_are_stored_as_they_are(conn: Connection, key: Key) -> None:
    row = PatchRow(15, 3, 10.5, 20.25, 768.0, 700.5, -1234.567, 0.1, 43.0, 50.5, 30.0, 1.25)
    vector = np.random.default_rng(3).normal(size=(1, 5)).astype(np.float32)
    runs.copy_patches(conn, key, [row], vector)
    names = ", ".join(field.name for field in fields(PatchRow))
    (*stored, kept) = conn.execute(f"SELECT {names}, vector FROM patch").fetchone()
    assert PatchRow(*stored) == row
    np.testing.assert_array_equal(kept.to_numpy(), vector[0].astype(np.float16))


@pytest.mark.parametrize("exact", [True, False])
def test_vectors_sent_to_a_replica_are_read_once(conn: Connection, key: Key, tmp_path: Path, exact: bool) -> None:
    """Not once for each tile that they are compared with, which takes far longer than the comparison."""
    rsloc_db.ingest(write_ge_tiles(tmp_path / "land.db", square(3)), windows=(1,), workers=1)
    target = the_target(conn)
    text = search_statement(partition_name(target.set_id), target.dimensions, "mercator", exact=exact, sent=True)
    sent = {"ids": [1], "east": [0.0], "north": [0.0], "low": [0.0], "high": [90.0], "vectors": ["[1,2]"]}
    values = {**sent, "limit": 5, "within": None}
    plan = [row[0] for row in conn.execute(sql.SQL("EXPLAIN (VERBOSE) ") + text, values)]
    (reading,) = [line for line in plan if "(s.vector)::halfvec" in line]
    assert reading.strip().startswith("Output: s.id")


def test_only_tiles_of_the_band_are_found(conn: Connection, key: Key, tmp_path: Path) -> None:
    rsloc_db.ingest(write_ge_tiles(tmp_path / "land.db", square(8)), windows=(1,), workers=1)
    target = the_target(conn)
    made, vectors = patches(target, np.zeros((2, 2)), (47.9, 48.05))
    runs.copy_patches(conn, key, made, vectors)
    search(conn, key, target, "ground", limit=100)
    lats = [row[0] for row in conn.execute("SELECT ST_Y(t.center) FROM hit h JOIN tile t ON t.id = h.tile_id")]
    assert len(lats) == 2 * 8 * 2  # two rows of tiles lie there
    assert all(47.9 <= lat <= 48.05 for lat in lats)


def test_within_limits_exactly(conn: Connection, key: Key, tmp_path: Path) -> None:
    rsloc_db.ingest(write_ge_tiles(tmp_path / "land.db", square(8)), windows=(1,), workers=1)
    target = the_target(conn)
    made, vectors = patches(target, np.zeros((3, 2)))
    runs.copy_patches(conn, key, made, vectors)
    triangle = "POLYGON((4.5 47.4, 5.3 47.4, 4.5 48.3, 4.5 47.4))"
    (inside,) = conn.execute(
        "SELECT array_agg(id ORDER BY id) FROM tile WHERE ST_Intersects(ST_GeomFromText(%s, 4326), footprint)",
        (triangle,),
    ).fetchone()
    assert 5 < len(inside) < 60
    search(conn, key, target, "mercator", limit=100, within=read_polygon(triangle))
    for (found,) in conn.execute("SELECT array_agg(tile_id ORDER BY tile_id) FROM hit GROUP BY patch_id"):
        assert found == inside


@pytest.mark.parametrize("limit", [1, 33, 100, 700, 1000])
def test_hnsw_looks_through_enough_to_return_what_is_asked_for(limit: int) -> None:
    assert max(limit, 100) <= ef_search(limit) <= 1000


def test_hnsw_search_uses_its_index_and_finds_enough(
    conn: Connection, key: Key, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rsloc_db.ingest(write_ge_tiles(tmp_path / "land.db", square(22)), windows=(1,), workers=2)
    monkeypatch.setattr("rsloc_db.db.indexes.HNSW_MIN_ROWS", 100)
    with connect(database_url, autocommit=True) as builder, connect(database_url, autocommit=True) as watcher:
        (embedding_set,) = list_sets(builder, the_target(conn).gallery_id)
        conn.commit()
        assert complete_set(builder, watcher, embedding_set, Silent()) == "hnsw"
    target = the_target(conn)
    made, vectors = patches(target, np.zeros((4, 2)))
    runs.copy_patches(conn, key, made, vectors)
    plans = explained(conn)
    search(conn, key, target, "mercator", limit=100)
    assert f"Index Scan using embedding_{target.set_id}_vector_idx" in "".join(plans)
    assert conn.execute("SELECT count(*) FROM hit GROUP BY patch_id").fetchall() == [(100,)] * 4
    # as in the order in which they are stored, which sums of votes depend on in their last digits
    hits = "SELECT patch_id, tile_id, rank, similarity, vote FROM hit ORDER BY ctid"
    found = conn.execute(hits).fetchall()
    for count in (1, 2, 6):
        conn.execute("DELETE FROM hit")
        with ExitStack() as stack:
            readers = [stack.enter_context(connect(database_url, autocommit=True)) for _ in range(count)]
            plans = explained(readers[0])
            search(conn, key, target, "mercator", limit=100, readers=readers)
        assert f"Index Scan using embedding_{target.set_id}_vector_idx" in "".join(plans)
        assert conn.execute(hits).fetchall() == found
    conn.execute("CREATE TEMP TABLE approximate AS SELECT patch_id, tile_id FROM hit")
    conn.execute("DELETE FROM hit")
    search(conn, key, replace(target, index_kind="exact"), "mercator", limit=100)
    (same,) = conn.execute("SELECT count(*) FROM hit JOIN approximate USING (patch_id, tile_id)").fetchone()
    assert same >= 0.9 * 400


def explained(conn: Connection) -> list[str]:
    """Return a list that the plans of a connection's statements are added to."""
    conn.execute("LOAD 'auto_explain'")
    for name, value in (("log_min_duration", "0"), ("log_nested_statements", "on")):
        conn.execute(f"SET auto_explain.{name} = {value}")
    conn.execute("SET client_min_messages = log")
    plans: list[str] = []
    conn.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    return plans
