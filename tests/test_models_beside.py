"""Two models of one gallery: the second comes while the first is searched, each is chosen by name, one may go."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import lands
import pytest
from commands import run
from killed import KILLED, wait_until_alone
from networks import write_blocks
from sources import COLUMN, LEVEL, ingest, rows, square, value, write_ge_tiles

import rsloc_db
from rsloc_db.db import embeddings, galleries
from rsloc_db.db.connection import Connection, connect
from rsloc_db.errors import GalleryError, ModelError
from rsloc_db.types import Silent

SIDE = 18
"""Cells an axis: several blocks of windows."""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_blocks(tmp_path / "blocks.onnx", ["rows"])


def sets_of(conn: Connection, name: str = "land") -> list[tuple[str, int, str | None]]:
    """Model, window and index kind of a gallery's sets."""
    found = embeddings.list_sets(conn, galleries.get_gallery(conn, name).id)
    conn.commit()
    return sorted((s.model, s.window_tiles, s.index_kind) for s in found)


def test_the_first_model_is_searched_while_the_second_comes(land_url: str, tmp_path: Path, network: Path) -> None:
    source = lands.write_gallery(tmp_path / "land.db")
    query = lands.cut(shape=(300, 300)).write(tmp_path / "query.tif")
    verdicts = []

    class Search(Silent):
        def task(self, name: str, total: int | None = None, done: int = 0) -> None:
            if name.startswith("windows"):
                verdicts.append(rsloc_db.localize(query).queries[0]["verdict"])

    second = f"onnx:{network}"
    with pytest.raises(GalleryError, match="no gallery is ready for model 'onnx:blocks'"):
        rsloc_db.localize(query, model=second)
    summary = ingest(source, model=second, progress=Search())
    assert verdicts == ["accepted"]
    assert (summary.added, summary.embedded) == (0, 2 * 256)

    runs = {model: rsloc_db.localize(query, model=model) for model in ("gradients", second)}
    assert [found.queries[0]["verdict"] for found in runs.values()] == ["accepted", "accepted"]
    with connect(land_url) as conn:
        for model, found in zip(("gradients", "onnx:blocks"), runs.values(), strict=True):
            settings = value(conn, "SELECT settings FROM run WHERE id = %s", found.run)
            sets = value(conn, "SELECT array_agg(s.id) FROM embedding_set s JOIN model m ON m.id = s.model_id"
                               " WHERE m.name = %s", model)  # fmt: skip
            assert settings["model"] == model
            assert sorted(settings["embedding_sets"]) == sorted(sets)
            assert value(conn, "SELECT count(*) FROM hit WHERE run_id = %s", found.run) > 0


def test_a_killed_second_model_leaves_the_first_and_resumes(conn: Connection, tmp_path: Path, network: Path) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(SIDE))
    ingest(source)
    code = KILLED.format(module="embeddings", function="add_vectors", call=4, source=str(source))
    code = code.replace("workers=2", f"workers=1, model={f'onnx:{network}'!r}")
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        assert process.wait(120) == -signal.SIGKILL
    wait_until_alone(conn)
    states = [("gradients", 1, "exact"), ("gradients", 3, "exact"), ("onnx:blocks", 1, None), ("onnx:blocks", 3, None)]
    assert sets_of(conn) == states
    assert galleries.get_gallery(conn, "land").status == "ready"
    made = value(conn, "SELECT count(*) FROM embedding") - 2 * SIDE * SIDE
    assert 0 < made < 2 * SIDE * SIDE

    summary = ingest(source, model=f"onnx:{network}")
    assert (summary.added, summary.embedded) == (0, 2 * SIDE * SIDE - made)
    assert sets_of(conn) == [(model, window, "exact") for model, window, _ in states]


def test_new_tiles_leave_the_other_model_incomplete_until_its_turn(
    conn: Connection, tmp_path: Path, network: Path
) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(3))
    for model in ("gradients", f"onnx:{network}"):
        ingest(source, model=model, windows=(1,))
    ingest(write_ge_tiles(source, square(3) + rows([COLUMN + 3], [1500])), windows=(1,))
    assert sets_of(conn) == [("gradients", 1, "exact"), ("onnx:blocks", 1, None)]
    assert ingest(source, model=f"onnx:{network}", windows=(1,)).embedded == 1
    assert sets_of(conn) == [("gradients", 1, "exact"), ("onnx:blocks", 1, "exact")]


def test_disk_of_a_second_model_is_estimated(conn: Connection, tmp_path: Path, network: Path) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(3))
    first = ingest(source).disk_bytes
    second = ingest(source, model=f"onnx:{network}").disk_bytes
    assert 0 < second < first
    assert ingest(source, model=f"onnx:{network}").disk_bytes == 0


def test_drop_model_leaves_the_others(
    conn: Connection,
    tmp_path: Path,
    network: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(2))
    for model in ("gradients", f"onnx:{network}", f"onnx:{network},normalize=clip"):
        assert run(monkeypatch, "ingest", source, "--model", model, "--workers", 1, "--quiet") == 0
    capsys.readouterr()
    assert run(monkeypatch, "galleries", "show", "land", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["embeddings"]
    hashes = sorted({each["weights_hash"] for each in shown if each["model"] == "onnx:blocks"})
    assert (len(shown), len(hashes)) == (6, 2)

    drop = ("galleries", "drop-model", "land", "onnx:blocks", "--yes")
    assert run(monkeypatch, *drop) == 2
    assert f"onnx:blocks {hashes[0][:8]}, onnx:blocks {hashes[1][:8]}" in capsys.readouterr().err
    assert run(monkeypatch, *drop, "--weights", hashes[0][:8]) == 0
    assert "embeddings by onnx:blocks are dropped from gallery land" in capsys.readouterr().out
    assert run(monkeypatch, "galleries") == 0
    assert f"onnx:blocks {hashes[1][:8]} (exact): {LEVEL}/1, {LEVEL}/3" in capsys.readouterr().out
    assert run(monkeypatch, *drop) == 0
    assert sets_of(conn) == [("gradients", 1, "exact"), ("gradients", 3, "exact")]
    assert value(conn, "SELECT count(*) FROM embedding") == 8
    assert value(conn, "SELECT count(*) FROM pg_class WHERE relname ~ '^embedding_[0-9]+$'") == 2
    assert run(monkeypatch, *drop) == 2
    assert "no embeddings by onnx:blocks: it has those by gradients" in capsys.readouterr().err


def test_drop_model_asks_first(conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(write_ge_tiles(tmp_path / "land.db", square(1)))
    monkeypatch.setattr("sys.stdin", (tmp_path / "answer").open("w+"))
    assert run(monkeypatch, "galleries", "drop-model", "land", "gradients") == 1
    assert len(sets_of(conn)) == 2


def test_a_dropped_model_can_come_again(conn: Connection, tmp_path: Path) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(2))
    ingest(source)
    conn.autocommit = True
    gallery = galleries.get_gallery(conn, "land")
    assert embeddings.drop_model(conn, gallery.id, "gradients") == 2
    with pytest.raises(ModelError, match="it has those by none"):
        embeddings.drop_model(conn, gallery.id, "gradients")
    assert ingest(source).embedded == 8
