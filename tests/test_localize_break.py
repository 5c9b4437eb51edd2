"""Localize when things go wrong: killed, twice at once, the server away, files that are no images."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import psycopg
import pytest
from commands import wait_for
from conftest import fresh
from lands import LEVEL, cut, write_gallery

import rsloc_db
from rsloc_db import stages
from rsloc_db.db import schema, server
from rsloc_db.db.connection import connect, is_lost
from rsloc_db.db.server import packages
from rsloc_db.errors import QueryError, ServerError
from rsloc_db.evaluation import delete_run
from rsloc_db.stages.reference import Fit
from rsloc_db.stages.workers import in_threads
from rsloc_db.types import Json

PLACES = {"a.png": (900.3, 800.1), "b.png": (1200.0, 1000.6), "c.png": (700.2, 1250.9), "d.png": (1301.7, 702.4)}
TABLES = ("patch", "hit", "clique", "place", "match", "localization")
COMMAND = [sys.executable, "-c", "from rsloc_db.cli import main; main()", "localize"]
KILLED = """
import os, signal, sys
from pathlib import Path
import rsloc_db
from rsloc_db.db import runs
calls, original = [], runs.{function}
def dying(*args, **options):
    result = original(*args, **options)
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
runs.{function} = dying
for name, module in list(sys.modules.items()):
    if name.startswith("rsloc_db.") and getattr(module, "{function}", None) is original:
        module.{function} = dying
rsloc_db.localize({path!r}, level={level})
"""


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "queries"
    for name, at in PLACES.items():
        cut(at=at, shape=(500, 540)).write_bare(folder / name)
    return folder


@pytest.fixture(scope="module")
def expected(server_url: str, land_template: str, queries: Path) -> list[Json]:
    """What an undisturbed run answers."""
    for url in fresh(server_url, land_template, land_template):
        return rsloc_db.localize(queries, level=LEVEL, url=url).queries
    raise AssertionError


def counts(url: str) -> dict[str, int]:
    with connect(url) as conn:
        return {table: conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def is_consistent(url: str) -> bool:
    """Tell whether each query has either all of its rows or none."""
    with connect(url) as conn:
        begun = "SELECT DISTINCT query_id FROM {} ORDER BY 1"
        done = conn.execute("SELECT query_id FROM run_query WHERE status = 'done' ORDER BY 1").fetchall()
        return all(conn.execute(begun.format(table)).fetchall() == done for table in TABLES)


def popen(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done_queries(url: str) -> int:
    with connect(url) as conn:
        return int(conn.execute("SELECT count(*) FROM run_query WHERE status <> 'pending'").fetchone()[0])


# --- stopped midway


@pytest.mark.parametrize(
    ("function", "call", "done"), [("copy_patches", 1, 0), ("insert_localization", 2, 1), ("finish_query", 3, 2)]
)
def test_killed_localize_resumes(
    land_url: str, queries: Path, expected: list[Json], function: str, call: int, done: int
) -> None:
    code = KILLED.format(function=function, call=call, path=str(queries), level=LEVEL)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert done_queries(land_url) == done
    assert is_consistent(land_url)
    found = rsloc_db.localize(queries, level=LEVEL)
    assert found.run == 1
    assert found.queries == expected
    assert is_consistent(land_url)
    once = counts(land_url)
    rsloc_db.localize(queries, level=LEVEL)
    assert counts(land_url) == once


def test_two_at_once_double_nothing(land_url: str, queries: Path, expected: list[Json]) -> None:
    rivals = [popen(queries, "--level", LEVEL, "--json") for _ in range(2)]
    answers = [rival.communicate(timeout=200) for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0], answers
    for out, _ in answers:
        assert json.loads(out)["queries"] == expected
    with connect(land_url) as conn:
        assert conn.execute("SELECT count(*) FROM run").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM query").fetchone() == (4,)
        assert conn.execute("SELECT count(*) FROM localization").fetchone() == (4,)
        for statement in (
            "SELECT run_id, query_id FROM localization GROUP BY 1, 2 HAVING count(*) > 1",
            "SELECT run_id, query_id, rank FROM place GROUP BY 1, 2, 3 HAVING count(*) > 1",
            "SELECT run_id, query_id, rank FROM clique GROUP BY 1, 2, 3 HAVING count(*) > 1",
            "SELECT patch_id, tile_id FROM hit GROUP BY 1, 2 HAVING count(*) > 1",
        ):
            assert conn.execute(statement).fetchall() == [], statement


def test_server_that_drops_its_sessions(land_url: str, queries: Path, expected: list[Json]) -> None:
    process = popen(queries, "--level", LEVEL, "--quiet")
    wait_for(lambda: done_queries(land_url) >= 1)
    with connect(land_url, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert out == ""
    assert_one_clear_line(err)
    assert is_consistent(land_url)
    assert 1 <= done_queries(land_url) < 4
    assert rsloc_db.localize(queries, level=LEVEL).queries == expected


def assert_one_clear_line(err: str) -> None:
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    assert "database" in err
    assert "again" in err


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an embedded server in a home of its own, stopped and removed after the test."""
    software = packages.folder(rsloc_db.config.settings().home.resolve()).resolve()
    home = Path(tempfile.mkdtemp(prefix="rsloc-test-")).resolve()
    home.chmod(0o755)
    if software.is_dir():
        packages.folder(home).symlink_to(software)
    monkeypatch.setenv("RSLOC_HOME", str(home))
    monkeypatch.delenv("RSLOC_DATABASE_URL", raising=False)
    try:
        url = server.database_url()
    except ServerError as error:
        shutil.rmtree(home)
        pytest.skip(f"no embedded server here: {error}")
    try:
        yield url
    finally:
        server.stop()
        shutil.rmtree(home)


def test_server_stopped_under_a_running_localize(
    own_server: str, tmp_path: Path, queries: Path, expected: list[Json]
) -> None:
    schema.upgrade(own_server)
    rsloc_db.ingest(write_gallery(tmp_path / "land.db"))
    process = popen(queries, "--level", LEVEL, "--quiet")
    wait_for(lambda: done_queries(own_server) >= 1)
    server.stop()
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (1, "")
    assert_one_clear_line(err)
    url = server.database_url()
    assert is_consistent(url)
    assert rsloc_db.localize(queries, level=LEVEL).queries == expected


def test_server_that_is_not_there(queries: Path) -> None:
    environment = {**os.environ, "RSLOC_DATABASE_URL": "postgresql://me:secret@127.0.0.1:9/db"}
    done = subprocess.run([*COMMAND, str(queries)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "127.0.0.1:9" in done.stderr
    assert "secret" not in done.stderr


# --- what cannot be localized


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels it does not hold."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_bad_files_fail_alone(land_url: str, tmp_path: Path) -> None:
    folder, query = tmp_path / "set", cut()
    whole = query.write_bare(folder / "good.png").read_bytes()
    tagged = query.write(tmp_path / "tagged.tif").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "truncated.tif").write_bytes(tagged[: len(tagged) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("I am no image\n")
    (folder / "huge.png").write_bytes(png_header(60_000, 60_000))
    cut(shape=(20, 20)).write_bare(folder / "tiny.png")
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "set.csv").write_text("imgname,level\ngood.png,15\nmissing.png,15\n")
    done = subprocess.run(
        [*COMMAND, str(folder), "--level", str(LEVEL), "--json", "--quiet"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = {q["name"]: q for q in json.loads(done.stdout)["queries"]}
    good = found.pop("good.png")
    assert good["verdict"] == "accepted"
    assert query.error_m(good["center"]) < 5
    words = {
        "truncated.png": "truncated",
        "truncated.tif": "cannot read",
        "empty.png": "empty",
        "text.png": "cannot read",
        "huge.png": "too large",
        "tiny.png": "too small",
        "dangling.png": "no such file",
        "missing.png": "missing",
    }
    assert found.keys() == words.keys()
    for name, word in words.items():
        assert found[name]["verdict"] == "failed", name
        assert word in found[name]["reason"], found[name]["reason"]
        assert str(folder) not in found[name]["reason"]
        assert found[name]["center"] is None
        assert found[name]["places"] == []
    assert done_queries(land_url) == 9


def test_a_failed_query_is_tried_again(land_url: str, tmp_path: Path) -> None:
    """A file that was broken and is mended is another query; one whose failure was the gallery's is done anew."""
    folder, query = tmp_path / "set", cut()
    whole = query.write_bare(folder / "query.png").read_bytes()
    (folder / "query.png").write_bytes(whole[:5000])
    assert rsloc_db.localize(folder, level=LEVEL).queries[0]["verdict"] == "failed"
    (folder / "query.png").write_bytes(whole)
    assert rsloc_db.localize(folder, level=LEVEL).queries[0]["verdict"] == "accepted"
    with connect(land_url) as conn:
        assert conn.execute("SELECT count(*) FROM query").fetchone() == (1,)


def test_a_damaged_tile_fails_the_query_and_not_the_batch(land_url: str, queries: Path) -> None:
    with connect(land_url) as conn:
        conn.execute("UPDATE tile_image SET data = 'damaged'")
        conn.commit()
    found = rsloc_db.localize(queries, level=LEVEL).queries
    assert len(found) == 4
    for query in found:
        assert query["verdict"] == "failed"
        assert "cannot be read any more" in query["reason"]
    with connect(land_url) as conn:
        statuses = conn.execute("SELECT status, count(*) FROM run_query GROUP BY 1").fetchall()
    assert statuses == [("failed", 4)]
    assert counts(land_url) == {**dict.fromkeys(TABLES, 0), "localization": 4}


def test_an_image_of_the_same_names_is_not_taken_for_another(land_url: str, tmp_path: Path) -> None:
    first, other, copy = (tmp_path / name / "scenes" for name in ("first", "other", "copy"))
    cut().write_bare(first / "a.png")
    cut(at=(1200.0, 1000.6)).write_bare(other / "a.png")
    run = rsloc_db.localize(first, level=LEVEL).run
    with pytest.raises(QueryError, match=r"known as .*first.*rename the folder"):
        rsloc_db.localize(other, level=LEVEL)
    # the same image at another place is the same query
    shutil.copytree(first, copy)
    assert rsloc_db.localize(copy, level=LEVEL).run == run
    # an image that was changed where it lies begins a new run
    cut(at=(1200.0, 1000.6)).write_bare(copy / "a.png")
    changed = rsloc_db.localize(copy, level=LEVEL).run
    assert changed != run
    delete_run(run)
    delete_run(changed)
    assert rsloc_db.localize(other, level=LEVEL).queries[0]["verdict"] == "accepted"


def test_cliques_may_be_found_twice(land_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = stages.compare_cliques

    def compare(*args: Any, if_sure: bool) -> list[Fit]:
        # equal, but for rounding: here the first time is the better one
        fits = original(*args, if_sure=if_sure)
        return [replace(fit, correlation=fit.correlation + 1e-4 * if_sure) for fit in fits]

    # a place that stored maps are sure of and pixels are not: narrower windows are searched as well, and it stays
    monkeypatch.setattr(stages, "stands_out", lambda _: False)
    monkeypatch.setattr(stages, "compare_cliques", compare)
    query = cut(shape=(1500, 1500)).write_bare(tmp_path / "here.png")
    (found,) = rsloc_db.localize(query, level=LEVEL, retrieval="knn", workers=1).queries
    assert found["verdict"] == "accepted", found["reason"]
    with connect(land_url) as conn:
        widths = conn.execute("SELECT count(DISTINCT window_tiles) FROM patch").fetchone()
    assert widths == (2,)


def test_a_statement_that_ends_is_not_the_database_gone(database_url: str) -> None:
    with connect(database_url) as conn:
        conn.execute("SET statement_timeout = 10")
        with pytest.raises(psycopg.OperationalError) as cancelled:
            conn.execute("SELECT pg_sleep(5)")
    with connect(database_url, autocommit=True) as conn, pytest.raises(psycopg.OperationalError) as ended:
        conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert not is_lost(cancelled.value)
    assert is_lost(ended.value)


def test_of_errors_in_threads_the_cause_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getNumThreads", lambda: 2)

    def ask(statement: str) -> object:
        time.sleep(0.2 * (statement == "SELECT 1"))
        return conn.execute(statement).fetchone()

    with connect(database_url) as conn:
        assert in_threads(ask, ["SELECT 1", "SELECT 2", "SELECT 3"]) == [(1,), (2,), (3,)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            in_threads(ask, ["SELECT 1", "SELECT 1 / 0", "SELECT 3"])
        conn.rollback()
