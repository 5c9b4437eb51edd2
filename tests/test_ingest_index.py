"""Indexes of embedding sets: they serve the search, are rebuilt as a gallery grows, and are cancelled cleanly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sources import ingest, square, value, write_ge_tiles

from rsloc_db.db import embeddings, galleries
from rsloc_db.db.connection import Connection, connect
from rsloc_db.types import Silent


def test_index_serves_the_nearest_neighbours(conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "HNSW_MIN_ROWS", 20)
    assert set(ingest(write_ge_tiles(tmp_path / "land.db", square(6))).indexes.values()) == {"hnsw"}
    one, three = embeddings.list_sets(conn, galleries.get_gallery(conn, "land").id)
    assert (one.index_kind, three.index_kind) == ("hnsw", "hnsw")
    conn.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL hnsw.ef_search = 100")
    knn = (
        f"SELECT tile_id FROM embedding_{three.id} ORDER BY (vector::halfvec({three.dimensions})) <=>"
        f" (SELECT vector::halfvec({three.dimensions}) FROM embedding_{three.id} LIMIT 1) LIMIT 30"
    )
    plan = "\n".join(row[0] for row in conn.execute("EXPLAIN " + knn))
    assert f"Index Scan using embedding_{three.id}_vector_idx" in plan
    assert len(conn.execute(knn).fetchall()) == 30


def test_index_is_rebuilt_when_a_gallery_grows(
    conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "HNSW_MIN_ROWS", 10)
    ingest(write_ge_tiles(tmp_path / "land.db", square(4)))
    oids = "SELECT array_agg(oid::bigint ORDER BY oid) FROM pg_class WHERE relname ~ '^embedding_[0-9]+_vector_idx$'"
    before = value(conn, oids)
    ingest(write_ge_tiles(tmp_path / "more.db", square(5)), name="land")
    after = value(conn, oids)
    assert len(before) == len(after) == 2
    assert not set(before) & set(after)


def test_an_interrupted_index_build_is_cancelled(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.autocommit = True
    monkeypatch.setattr(embeddings, "HNSW_MIN_ROWS", 0)
    monkeypatch.setattr(embeddings, "_POLL_S", 0.05)
    of = random_set(conn, 8000)

    class Interrupt(Silent):
        def advance(self, steps: int = 1) -> None:
            raise KeyboardInterrupt

    with connect(database_url, autocommit=True) as watcher:
        with pytest.raises(KeyboardInterrupt):
            embeddings.complete_set(conn, watcher, of, Interrupt())
        assert value(conn, "SELECT count(*) FROM pg_stat_progress_create_index") == 0
    assert value(conn, "SELECT to_regclass(%s)", f"embedding_{of.id}_vector_idx") is None
    assert value(conn, "SELECT index_kind FROM embedding_set") is None


def random_set(conn: Connection, count: int) -> embeddings.EmbeddingSet:
    """An embedding set of random vectors of tiles in one row."""
    gallery = galleries.create_gallery(
        conn, "noise", grid="google_earth", source_kind="ge_tiles", source="", images="reference", attribution=""
    )
    conn.execute(
        "INSERT INTO tile (gallery_id, level, tile_column, tile_row, footprint, center)"
        " SELECT %s, 15, x, 12000, ST_MakeEnvelope(0, 0, 1, 1, 4326), ST_Point(0.5, 0.5, 4326)"
        " FROM generate_series(1, %s) AS x",
        (gallery.id, count),
    )
    model_id = embeddings.register_model(conn, "noise", "0", 128)
    (of,) = embeddings.ensure_sets(conn, gallery.id, model_id, [15], [1])
    ids = np.array([row[0] for row in conn.execute("SELECT id FROM tile")])
    noise = np.random.default_rng(0).normal(size=(count, 128)).astype(np.float16)
    with conn.transaction():
        embeddings.add_vectors(conn, embeddings.Vectors(of.id, ids, noise))
    return of
