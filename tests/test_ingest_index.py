"""Indexes of embedding sets: they serve the search, are rebuilt as a gallery grows, and are cancelled cleanly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sources import ingest, square, value, write_ge_tiles

from rsloc_db.db import embeddings, galleries, indexes
from rsloc_db.db.connection import Connection, connect
from rsloc_db.stages.ingest import index_gallery
from rsloc_db.types import Silent

NEAREST = (
    "SELECT tile_id FROM embedding_{set_id} ORDER BY (vector::halfvec({dimensions})) <=>"
    " (SELECT vector::halfvec({dimensions}) FROM embedding_{set_id} LIMIT 1) LIMIT 30"
)


def test_index_serves_the_nearest_neighbours(conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "HNSW_MIN_ROWS", 20)
    assert set(ingest(write_ge_tiles(tmp_path / "land.db", square(6))).indexes.values()) == {"hnsw"}
    one, three = embeddings.list_sets(conn, galleries.get_gallery(conn, "land").id)
    assert (one.index_kind, three.index_kind) == ("hnsw", "hnsw")
    conn.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL hnsw.ef_search = 100")
    knn = NEAREST.format(set_id=three.id, dimensions=three.dimensions)
    plan = "\n".join(row[0] for row in conn.execute("EXPLAIN " + knn))
    assert f"Index Scan using embedding_{three.id}_vector_idx" in plan
    assert len(conn.execute(knn).fetchall()) == 30


def test_index_is_rebuilt_when_a_gallery_grows(
    conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "HNSW_MIN_ROWS", 10)
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
    monkeypatch.setattr(indexes, "HNSW_MIN_ROWS", 0)
    monkeypatch.setattr(indexes, "_POLL_S", 0.05)
    of = random_set(conn, 8000)

    class Interrupt(Silent):
        def advance(self, steps: int = 1) -> None:
            raise KeyboardInterrupt

    with connect(database_url, autocommit=True) as watcher:
        with pytest.raises(KeyboardInterrupt):
            indexes.complete_set(conn, watcher, of, Interrupt())
        assert value(conn, "SELECT count(*) FROM pg_stat_progress_create_index") == 0
    assert indexes_of(conn, of) == {}
    assert value(conn, "SELECT index_kind FROM embedding_set") is None


def test_a_searched_index_serves_until_its_successor_is_there(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.autocommit = True
    monkeypatch.setattr(indexes, "_POLL_S", 0.05)
    of = random_set(conn, 4000)
    found: list[int] = []

    class Searching(Silent):
        def advance(self, steps: int = 1) -> None:
            with connect(database_url) as reader:
                reader.execute("SET LOCAL statement_timeout = '5s'; SET LOCAL enable_seqscan = off")
                rows = reader.execute(NEAREST.format(set_id=of.id, dimensions=of.dimensions)).fetchall()
                assert value(reader, "SELECT index_kind FROM embedding_set") == "hnsw"
                found.append(len(rows))

    with connect(database_url, autocommit=True) as watcher:
        assert indexes.complete_set(conn, watcher, of, Silent(), "hnsw") == "hnsw"
        (before,) = indexes_of(conn, of).items()
        assert indexes.complete_set(conn, watcher, of, Searching(), "hnsw") == "hnsw"
    (after,) = indexes_of(conn, of).items()
    assert found
    assert set(found) == {30}
    assert before[0] == after[0] == f"embedding_{of.id}_vector_idx"
    assert before[1] != after[1]


def test_the_kind_of_index_is_chosen_by_size_unless_named(conn: Connection, database_url: str) -> None:
    conn.autocommit = True
    limit = indexes.HNSW_MIN_ROWS
    assert [indexes.choose_index(n) for n in (0, limit, limit + 1)] == ["exact", "exact", "hnsw"]
    of = random_set(conn, 50)
    embeddings.mark_set(conn, of.id, "exact")
    kinds = {}
    for wanted in ("hnsw", "exact", "auto"):
        (kinds[wanted],) = index_gallery("noise", index=wanted, url=database_url).values()
    assert kinds == {"hnsw": "hnsw", "exact": "exact", "auto": "exact"}
    assert indexes_of(conn, of) == {}


def test_a_build_takes_what_it_needs_of_what_the_server_has() -> None:
    million = 2**20
    assert indexes.build_memory_mb(100, 256, 64, 4096) == (64, 64)
    assert indexes.build_memory_mb(million, 574, 64, 4096) == (2048, 1024)
    assert indexes.build_memory_mb(million, 574, 4096, 4096) == (2048, 2048)
    assert indexes.build_memory_mb(million, 574, 64, 100_000) == (2048, 2048)


def indexes_of(conn: Connection, of: embeddings.EmbeddingSet) -> dict[str, int]:
    """Name and key of the vector indexes of a set, whatever their names end with."""
    rows = conn.execute(
        "SELECT relname, oid::bigint FROM pg_class WHERE relname ~ %s", (f"^embedding_{of.id}_vector.*_idx$",)
    )
    return dict(rows.fetchall())


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
