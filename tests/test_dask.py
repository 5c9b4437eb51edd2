"""Dask as the workers of ingest and localize: a cluster of two real processes, one of which is killed midway."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from commands import wait_for
from conftest import fresh
from many import localize, stored, write_queries
from sources import square, write_ge_tiles

import rsloc_db
from rsloc_db.db.connection import connect
from rsloc_db.errors import WorkerError
from rsloc_db.stages import cluster as dask_cluster
from rsloc_db.types import Silent

distributed = pytest.importorskip("distributed")

SIDE = 18
"""Cells an axis: several blocks of windows."""


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_queries(tmp_path_factory.mktemp("world") / "queries")


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as running:
        yield running


class Killer(Silent):
    """Kills a worker of a cluster at the first step of a task."""

    def __init__(self, cluster: distributed.LocalCluster, task: str) -> None:
        self.cluster, self.wanted, self.now = cluster, task, ""
        self.killed: list[int] = []

    def task(self, name: str, total: int | None = None, done: int = 0) -> None:
        self.now = name

    def advance(self, steps: int = 1) -> None:
        if self.now.startswith(self.wanted) and not self.killed:
            self.killed.append(worker_pids(self.cluster)[0])
            os.kill(self.killed[0], signal.SIGKILL)


def worker_pids(cluster: distributed.LocalCluster) -> list[int]:
    with distributed.Client(cluster, set_as_default=False) as client:
        return list(client.run(os.getpid).values())


def rows(url: str) -> list[tuple[object, ...]]:
    with connect(url) as conn:
        return conn.execute(
            "SELECT s.window_tiles, t.tile_column, t.tile_row, e.vector::text FROM embedding e"
            " JOIN embedding_set s ON s.id = e.set_id JOIN tile t ON t.id = e.tile_id ORDER BY 1, 2, 3"
        ).fetchall()


def test_ingest_by_a_cluster_that_loses_a_worker_is_that_of_one_process(
    database_url: str,
    server_url: str,
    template: str,
    cluster: distributed.LocalCluster,
    tmp_path: Path,
) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(SIDE))
    killer = Killer(cluster, "windows")
    found = rsloc_db.ingest(source, scheduler=cluster.scheduler_address, progress=killer)
    assert (found.added, found.embedded) == (SIDE * SIDE, 2 * SIDE * SIDE)
    assert len(killer.killed) == 1
    for other in fresh(server_url, template, template):
        rsloc_db.ingest(source, url=other, workers=1)
        assert rows(database_url) == rows(other)


def test_localize_by_a_cluster_of_its_own(land_url: str, queries: Path) -> None:
    alone = localize(queries, workers=1)
    before = stored(land_url)
    with connect(land_url, autocommit=True) as conn:
        conn.execute("DELETE FROM run")
    found = localize(queries, scheduler="local:2")
    assert (found.queries, stored(land_url)) == (alone.queries, before)


def test_a_lost_worker_costs_its_query_only(land_url: str, queries: Path, cluster: distributed.LocalCluster) -> None:
    alone = localize(queries, workers=1)
    before = stored(land_url)
    answers: list[object] = []
    address = cluster.scheduler_address
    batch = Thread(target=lambda: answers.append(localize(queries, scheduler=address)))
    with connect(land_url) as holder:
        holder.execute("UPDATE run_query SET status = 'pending'")
        holder.commit()
        holder.execute("SELECT FROM run_query FOR UPDATE")
        batch.start()
        wait_for_two_at_work(land_url)
        os.kill(worker_pids(cluster)[0], signal.SIGKILL)
        holder.rollback()
    batch.join(100)
    assert answers == [alone]
    assert stored(land_url) == before


def wait_for_two_at_work(url: str) -> None:
    """Wait until both workers wait for a query that is held."""
    held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with connect(url, autocommit=True) as conn:
        wait_for(lambda: conn.execute(held).fetchone() == (2,), 60)


def test_a_worker_of_other_code_does_nothing() -> None:
    done: list[int] = []
    # nothing is done, not even made ready
    with pytest.raises(WorkerError, match=r"expected 0\.0\.0.*install the same"):
        dask_cluster._checked("0.0.0+00000000", done.append, 1)
    assert done == []


def test_what_is_no_scheduler_is_named(queries: Path, land_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsloc_db.stages.cluster.CONNECT_S", 1)
    with pytest.raises(WorkerError, match="cannot be reached"):
        localize(queries, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(WorkerError, match="expected local, local:N"):
        localize(queries, scheduler="local:many")
