"""Connections to the database, the schema's version, and the named statements of ``db/sql/*.sql``."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from rsloc_db.errors import SchemaError, ServerError

CONNECT_TIMEOUT_S = 10
_LOST = ("08", "53", "57P", "58")
"""Beginnings of SQLSTATE: connection, resources, shutdown, the server's system."""
SQL_FOLDER = Path(__file__).parent / "sql"

Connection = psycopg.Connection[tuple[Any, ...]]

# that a lost connection cannot be rolled back either, it would say beside the error that tells of the loss
logging.getLogger("psycopg").setLevel(logging.ERROR)


def connect(url: str | None = None, *, autocommit: bool = False) -> Connection:
    """Open a connection: UTC, vectors as NumPy arrays, no prepared statements.

    A prepared statement can pin a plan and ignore a later SET, which a nearest-neighbour search relies on.

    Args:
        url: a PostgreSQL URL; None stands for ``server.database_url()``, which may start the embedded server.
        autocommit: whether each statement is a transaction of its own.

    Raises:
        ServerError: the database cannot be reached; the message holds no password.
    """
    url = url or _default_url()
    target = _target(url)
    try:
        conn = psycopg.connect(
            url,
            autocommit=True,
            prepare_threshold=None,
            application_name="rsloc-db",
            connect_timeout=CONNECT_TIMEOUT_S,
        )
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ServerError(f"cannot reach the database {target}: {reason}") from None
    _prepare(conn)
    conn.autocommit = autocommit
    return conn


def is_lost(error: psycopg.OperationalError) -> bool:
    """Tell whether the database is gone or out of room, so that nothing else would succeed either.

    Others of its kind end one statement alone: a time limit, a deadlock, a conflict with what a replica replays.
    """
    return error.sqlstate is None or error.sqlstate.startswith(_LOST)


def _default_url() -> str:
    from rsloc_db.db import server  # here, because the server itself connects by this module

    return server.database_url()


def _target(url: str) -> str:
    """Name the server and database that a URL leads to, without user and password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ServerError(
            "the database URL cannot be read: expected postgresql://user:password@host:port/database"
        ) from None
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def address(conn: Connection) -> str:
    """Name the server and database of a connection, without user and password."""
    return f"{conn.info.host}:{conn.info.port}/{conn.info.dbname}"


def _prepare(conn: Connection) -> None:
    conn.execute("SET TIME ZONE 'UTC'")
    # the extension comes with the schema; ``require_schema`` says so where it is missing
    if conn.execute("SELECT 1 FROM pg_type WHERE typname = 'vector'").fetchone():
        register_vector(conn)


@cache
def _statements() -> dict[str, str]:
    """Read all named statements: a line ``-- name: <name>``, comment lines that say what it does, the statement."""
    found: dict[str, str] = {}
    for path in sorted(SQL_FOLDER.glob("*.sql")):
        for name, text in parse_statements(path.read_text(), path.name):
            if name in found:
                raise SchemaError(f"{path.name}: the statement {name!r} is there twice")
            found[name] = text
    return found


def parse_statements(text: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield (name, statement) of a file of named statements.

    Raises:
        SchemaError: a statement has no comment that says what it does.
    """
    parts = re.split(r"^-- name: *(\w+) *$", text, flags=re.MULTILINE)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        body = body.strip()
        if not body.startswith("--"):
            raise SchemaError(f"{source}: the statement {name!r} has no comment under its name")
        yield name, body.rstrip(";")


def statement(name: str) -> sql.SQL:
    """Return a named statement of ``db/sql/*.sql``.

    Raises:
        SchemaError: there is none of that name.
    """
    known = _statements()
    if name not in known:
        raise SchemaError(f"there is no statement {name!r} in {SQL_FOLDER.name}/: expected one of {', '.join(known)}")
    return sql.SQL(known[name])


def migrations_folder() -> Path:
    """Return the folder of the migrations: inside the installed package, or beside it in the repository."""
    package = Path(__file__).parents[1]
    candidates = (package / "migrations", package.parent / "migrations")
    for folder in candidates:
        if (folder / "env.py").is_file():
            return folder
    raise SchemaError(f"the migrations are missing: looked in {' and '.join(map(str, candidates))}")


def expected_version() -> str:
    """Return the schema's version that this code works with: the number of the last migration."""
    return max(path.name.split("_")[0] for path in (migrations_folder() / "versions").glob("[0-9]*_*.py"))


def schema_version(conn: Connection) -> str | None:
    """Return the version of a database's schema, None where it has none."""
    row = conn.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return None
    row = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def require_schema(conn: Connection) -> None:
    """Check that the database has the schema that this code works with.

    Raises:
        SchemaError: it has none, an older or a newer one.
    """
    found, expected = schema_version(conn), expected_version()
    if found is None:
        raise SchemaError("the database has no rsloc-db schema: run `rsloc-db db upgrade`")
    if found > expected:
        raise SchemaError(f"the database has schema version {found}, expected {expected}: install a newer rsloc-db")
    if found < expected:
        raise SchemaError(f"the database has schema version {found}, expected {expected}: run `rsloc-db db upgrade`")
