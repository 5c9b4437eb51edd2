"""Reads from a replica: a real standby beside its primary, in step, behind, and in step again."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lands import COLUMN, write_gallery
from many import localize, stored, write_queries

import rsloc_db
from rsloc_db.config import settings
from rsloc_db.db import schema
from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.server.cluster import Cluster
from rsloc_db.db.server.programs import Programs, examine
from rsloc_db.errors import ServerError
from rsloc_db.stages.ingest import index_gallery


@pytest.fixture(scope="module")
def programs(server_url: str) -> Programs:
    noted = Cluster(settings().home.expanduser().resolve()).memory.get("programs")
    if noted is None or not (Path(noted) / "pg_basebackup").exists():
        pytest.skip("there is no embedded server with pg_basebackup here")
    return examine(Path(noted))


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rsloc-test-")).resolve()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def primary(programs: Programs, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server of its own, with the gallery of ``lands.py``."""
    cluster = Cluster(home / "primary")
    with cluster.locked():
        cluster.create(programs)
        with (cluster.data / "pg_hba.conf").open("a") as file:
            file.write("host replication all 127.0.0.1/32 scram-sha-256\n")
        url = cluster.url(cluster.start(programs))
    try:
        schema.upgrade(url)
        rsloc_db.ingest(write_gallery(tmp_path_factory.mktemp("land") / "land.db"), name="land", url=url)
        yield url
    finally:
        cluster.stop(programs)


@pytest.fixture(scope="module")
def replica(programs: Programs, home: Path, primary: str) -> Iterator[str]:
    """URL of a streaming standby of it."""
    cluster = Cluster(home / "standby")
    with cluster.locked():
        copy = [
            programs.folder / "pg_basebackup",
            "--pgdata",
            cluster.data,
            "--dbname",
            primary,
            "--write-recovery-conf",
        ]
        cluster.home.chmod(0o777)  # the server's user makes the folder in it
        done = Cluster(home / "primary").account.run([*copy, "--checkpoint=fast", "--wal-method=stream"])
        assert done.returncode == 0, done.stdout
        shutil.copy(home / "primary" / "password", cluster.password_file)
        url = cluster.url(cluster.start(programs))
    try:
        yield url
    finally:
        cluster.stop(programs)


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_queries(tmp_path_factory.mktemp("world") / "queries")
    for path in sorted(folder.iterdir())[2:]:
        path.unlink()
    return folder


def calls(conn: Connection, table: str) -> int:
    """How often a table was scanned, by any means."""
    conn.execute("SELECT pg_stat_clear_snapshot()")
    row = conn.execute(
        "SELECT sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)) FROM pg_stat_user_tables WHERE relname ~ %s",
        (table,),
    ).fetchone()
    assert row is not None
    return int(row[0] or 0)


def test_a_replica_serves_what_is_read_and_the_answers_are_the_same(primary: str, replica: str, queries: Path) -> None:
    alone = localize(queries, url=primary)
    before = stored(primary)
    with connect(primary, autocommit=True) as conn, connect(replica, autocommit=True) as reader:
        assert reader.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        scans = [calls(c, "^embedding_[0-9]+$") for c in (conn, reader)]
        conn.execute("DELETE FROM run")
        for workers in (1, 2):
            found = localize(queries, url=primary, read_url=replica, workers=workers, overwrite=True)
            assert found.queries == alone.queries
            assert stored(primary) == before
            conn.execute("DELETE FROM run")
        time.sleep(1.5)  # statistics are told once a second
        after = [calls(c, "^embedding_[0-9]+$") for c in (conn, reader)]
    assert after[0] == scans[0]
    assert after[1] > scans[1]


def test_hnsw_serves_on_a_replica(primary: str, replica: str, queries: Path) -> None:
    assert set(index_gallery("land", index="hnsw", url=primary).values()) == {"hnsw"}
    found = localize(queries, url=primary, read_url=replica)
    assert [q["verdict"] for q in found.queries] == ["accepted", "accepted"]


def test_a_replica_that_lags_is_waited_for_and_then_named(
    primary: str, replica: str, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsloc_db.stages.batch.ARRIVAL_S", 0.3)
    with connect(replica, autocommit=True) as reader:
        reader.execute("SELECT pg_wal_replay_pause()")
        rsloc_db.ingest(write_gallery(tmp_path / "more.db", COLUMN + 200), name="more", windows=(3,), url=primary)
        try:
            with pytest.raises(ServerError, match=r"does not have the galleries .*has last replayed is [0-9]+ s old"):
                localize(queries, url=primary, read_url=replica)
        finally:
            reader.execute("SELECT pg_wal_replay_resume()")
    monkeypatch.undo()
    assert localize(queries, url=primary, read_url=replica, gallery="more").run > 0
