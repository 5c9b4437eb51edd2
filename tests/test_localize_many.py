"""Many queries at once: the same answers whoever does them, and nothing lost or doubled when processes die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytest
from commands import wait_for
from conftest import fresh
from lands import LEVEL
from many import PLACES, localize, stored, write_queries

from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.search import search
from rsloc_db.errors import QueryError, ServerError
from rsloc_db.types import Json

COMMAND = [sys.executable, "-c", "from rsloc_db.cli import main; main()", "localize", "--level", str(LEVEL), "--quiet"]


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_queries(tmp_path_factory.mktemp("world") / "queries")


@pytest.fixture(scope="module")
def alone(server_url: str, land_template: str, queries: Path) -> tuple[list[Json], dict[str, list[tuple[object, ...]]]]:
    """What one process of three threads answers, and what it stores."""
    searched_by = set()

    def spy(*args: Any, readers: Sequence[Connection], **options: Any) -> None:
        searched_by.add(len(readers))
        search(*args, readers=readers, **options)

    for url in fresh(server_url, land_template, land_template):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cv2, "getNumThreads", partial(int, 3))
            patch.setattr(sys.modules["rsloc_db.stages.retrieve"], "search", spy)
            found = localize(queries, url=url, workers=1).queries, stored(url)
        assert searched_by == {3}
        return found
    raise AssertionError


def children(pid: int) -> list[int]:
    """The worker processes of a process, oldest first; multiprocessing's own helper is none."""
    found = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(None, 2) for line in found.stdout.splitlines()]
    return [int(line[0]) for line in lines if int(line[1]) == pid and "spawn_main" in line[2]]


def done(url: str) -> int:
    with connect(url) as conn:
        return int(conn.execute("SELECT count(*) FROM run_query WHERE status = 'done'").fetchone()[0])


def popen(queries: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, str(queries), "--workers", "2"], stderr=subprocess.PIPE, text=True)


def test_two_processes_answer_and_store_what_one_does(
    land_url: str, queries: Path, alone: tuple[list[Json], object]
) -> None:
    found = localize(queries, workers=2)
    assert (found.queries, stored(land_url)) == alone
    assert [q["verdict"] for q in found.queries] == ["accepted"] * len(PLACES)
    # a rerun finds all of it done
    assert localize(queries, workers=2).run == found.run


@contextmanager
def half_done(url: str, queries: Path) -> Iterator[subprocess.Popen[str]]:
    """Two processes of which one has done a query and the other waits for one that is held until this ends."""
    localize(queries, workers=1)
    with connect(url) as conn:
        conn.execute(
            "UPDATE run_query SET status = 'pending' FROM query q"
            " WHERE q.id = query_id AND q.name IN ('c.png', 'd.png')"
        )
        conn.commit()
        conn.execute(
            "SELECT FROM run_query JOIN query q ON q.id = query_id WHERE q.name = 'c.png' FOR UPDATE OF run_query"
        )
        with popen(queries) as process:
            try:
                wait_for(lambda: done(url) == len(PLACES) - 1 and waits(url), 60)
                yield process
            finally:
                process.kill()


def waits(url: str) -> bool:
    with connect(url) as conn:
        return bool(conn.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall())


@pytest.mark.parametrize("victim", ["all", "worker"])
def test_killed_processes_lose_only_what_they_were_at(
    land_url: str, queries: Path, alone: tuple[list[Json], object], victim: str
) -> None:
    with half_done(land_url, queries) as process:
        workers = children(process.pid)
        os.kill(process.pid if victim == "all" else workers[0], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 60)
    assert len(workers) == 2
    assert done(land_url) == len(PLACES) - 1
    if victim == "worker":
        assert process.returncode == 1
        assert err.startswith("error: a worker process died")
    found = localize(queries, workers=2)
    assert (found.run, found.queries, stored(land_url)) == (1, *alone)


def test_a_database_that_goes_away_is_named_once(land_url: str, queries: Path) -> None:
    with half_done(land_url, queries) as process, connect(land_url, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(err.strip().splitlines()) == 1, err
    assert "it goes on where it stopped" in err


def test_a_failed_query_is_told_by_the_process_that_met_it(land_url: str, queries: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "set" / name).write_bytes((queries / name).read_bytes()[:3000])
    found = localize(tmp_path / "set", workers=2)
    assert [q["verdict"] for q in found.queries] == ["failed", "failed"]


def test_no_workers_are_refused(queries: Path) -> None:
    with pytest.raises(QueryError, match="--workers is 0"):
        localize(queries, workers=0)


def test_a_replica_that_is_another_database_is_refused(
    land_url: str, server_url: str, template: str, queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rsloc_db.stages.batch.ARRIVAL_S", 0.1)
    for other in fresh(server_url, template, template):
        with pytest.raises(ServerError, match=r"does not have the galleries .*it is no replica of it"):
            localize(queries, read_url=other)
