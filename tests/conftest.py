"""A real PostgreSQL for the tests: one migrated template database, cloned for each test that asks for one."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import lands
import psycopg
import pytest
from psycopg import sql

import rsloc_db
from rsloc_db.db import schema
from rsloc_db.db.connection import Connection, connect

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
PREFIX = "rsloc_test_"
STALE_AFTER_S = 6 * 3600
NUMBERS = count(1)
LONGEST = (
    "test_mini",
    "test_localize",
    "test_ingest",
    "test_registration",
    "test_match_cli",
    "test_tutorials",
    "test_ingest_kill",
    "test_localize_break",
    "test_report",
    "test_localize_free",
    "test_synth",
    "test_cliques",
    "test_demo",
    "test_localize_galleries",
    "test_georeference",
    "test_models_beside",
    "test_retrieve",
    "test_localize_many",
    "test_wheel",
    "test_server",
    "test_dask",
)
"""Files of tests that take a minute or more. They come first: at the end both processes still have some to do."""
# most tests have little to do, and starting processes for it would take longer
os.environ.setdefault("RSLOC_WORKERS", "1")
# a busy machine is no failure
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; the order of tests within a file stays."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """URL of the server: RSLOC_DATABASE_URL; a container if RSLOC_TEST_SERVER=testcontainers; else the embedded one."""
    if os.environ.get("RSLOC_DATABASE_URL"):
        yield os.environ["RSLOC_DATABASE_URL"]
    elif os.environ.get("RSLOC_TEST_SERVER") == "testcontainers":
        yield from _container()
    else:
        from rsloc_db.db import server

        yield server.database_url()


def _container() -> Iterator[str]:
    from testcontainers.core.image import DockerImage
    from testcontainers.postgres import PostgresContainer

    with (
        DockerImage(path=str(ROOT), dockerfile_path="docker/Dockerfile", tag="rsloc-db-test:latest") as image,
        PostgresContainer(str(image), driver=None).with_kwargs(shm_size="2g") as container,
    ):
        yield container.get_connection_url()


def _with_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def _drop_stale(conn: psycopg.Connection[tuple[str]]) -> None:
    """Drop what killed test runs left behind: old, and nobody is connected to it."""
    rows = conn.execute(
        "SELECT datname FROM pg_database WHERE datname LIKE %s"
        " AND datname NOT IN (SELECT datname FROM pg_stat_activity WHERE datname IS NOT NULL)",
        (PREFIX + "%",),
    ).fetchall()
    for (name,) in rows:
        born = name.removeprefix(PREFIX).split("_")[0]
        if born.isdigit() and int(born) < time.time() - STALE_AFTER_S:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """Name of a migrated database that belongs to this test run alone."""
    name = f"{PREFIX}{int(time.time())}_{os.getpid()}_{uuid.uuid4().hex[:6]}"
    with psycopg.connect(server_url, autocommit=True) as conn:
        _drop_stale(conn)
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        schema.upgrade(_with_database(server_url, name))
        yield name
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """URL of a database without the schema, dropped after the test."""
    yield from fresh(server_url, "template1", f"{PREFIX}{int(time.time())}_{os.getpid()}_empty")


@pytest.fixture
def database_url(server_url: str, template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a fresh, migrated database, dropped after the test; commands run in the test use it as well."""
    for url in fresh(server_url, template, template):
        monkeypatch.setenv("RSLOC_DATABASE_URL", url)
        yield url


def fresh(server_url: str, template: str, base: str) -> Iterator[str]:
    """Yield the URL of a copy of a database, and drop it after."""
    name = f"{base}_{next(NUMBERS)}"
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield _with_database(server_url, name)
        finally:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def land_template(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a database with the gallery of ``lands.py``, ingested once for all tests that search it."""
    for url in fresh(server_url, template, f"{template}_land"):
        rsloc_db.ingest(lands.write_gallery(tmp_path_factory.mktemp("land") / "land.db"), url=url)
        yield urlsplit(url).path.strip("/")


@pytest.fixture
def land_url(server_url: str, land_template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a copy of that database, dropped after the test; commands run in the test use it as well."""
    for url in fresh(server_url, land_template, land_template):
        monkeypatch.setenv("RSLOC_DATABASE_URL", url)
        yield url


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    """A connection to the test's own database."""
    with connect(database_url) as connection:
        yield connection


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the shared imagery, which is no part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is missing")
    return SHARED_DATA


@pytest.fixture(scope="session")
def answered_url(server_url: str, land_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database with that gallery and run 1 of two queries: one is found, one is not here."""
    folder = tmp_path_factory.mktemp("answered") / "set"
    lands.cut().write_bare(folder / "found.png")
    lands.cut(at=(900.0, 900.0), seed=lands.ELSEWHERE).write_bare(folder / "other.png")
    for url in fresh(server_url, land_template, f"{land_template}_answered"):
        rsloc_db.localize(folder, level=lands.LEVEL, url=url)
        yield url


@pytest.fixture(scope="module")
def service_address(answered_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the service on that database, listening on a port of its own."""
    import uvicorn

    from rsloc_db.service.app import create_app

    with pytest.MonkeyPatch.context() as patched, socket.socket() as listening:
        patched.setenv("RSLOC_HOME", str(tmp_path_factory.mktemp("home")))
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(answered_url), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()
