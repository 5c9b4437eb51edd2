"""Backups, and PostgreSQL's own client programs. No password appears on a command line or in what is printed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psycopg
from psycopg import pq, sql

from rsloc_db.db.connection import Connection, connect, schema_version
from rsloc_db.db.server import choice, packages
from rsloc_db.db.server.programs import find, version_tuple
from rsloc_db.db.server.tuning import SAFE_PARALLEL_BUILD
from rsloc_db.errors import ServerError
from rsloc_db.types import Progress, Silent

MAGIC = b"PGDMP"
"""How a file in pg_dump's custom format begins."""


def psql(arguments: list[str]) -> int:
    """Run psql on the database, on this process's terminal, and return its exit code."""
    environment = _environment(choice.database_url())
    # Ctrl-C is for psql, which ends the statement and goes on.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run([_tool("psql"), *arguments], env=environment, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def backup(file: Path, *, replace: bool = False) -> None:
    """Write the database into a file, in pg_dump's custom format; the file is there only when it is whole.

    Raises:
        ServerError: the file is there already and ``replace`` is not set, or pg_dump failed.
    """
    if file.exists() and not replace:
        raise ServerError(f"{file} is there already: choose another name, or give --replace")
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    words = ["--format=custom", "--compress=1", "--no-owner", "--no-privileges", f"--file={part}"]
    try:
        _run("pg_dump", words, _environment(choice.database_url()))
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(file)
    except OSError as error:
        raise ServerError(f"cannot write {file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def restore(file: Path, *, replace: bool = False, progress: Progress | None = None) -> None:
    """Put a backup in the place of the database.

    It goes into a new database, which takes the old one's name in one transaction when all of it is there: a restore
    that fails or is killed leaves the old data as they were. It needs room for both meanwhile.

    Raises:
        ServerError: the file is no backup, the database is in use, it holds data and ``replace`` is not set, or
            pg_restore failed.
    """
    _require_backup(file)
    url = choice.database_url()
    with connect(url) as conn:
        name = conn.info.dbname
        if not replace and (table := _table_with_rows(conn)):
            raise ServerError(f"the database {name} holds data (table {table}): give --replace to put the backup there")
    with connect(_with_database(url, "postgres"), autocommit=True) as admin:
        _require_unused(admin, name)
        new, old = f"{name}_restored", f"{name}_replaced"
        with _new_database(admin, new, old):
            (progress or Silent()).note(f"restoring {file} ...")
            _fill(_with_database(url, new), file)
            _require_unused(admin, name)
            with admin.transaction():
                _rename(admin, name, old)
                _rename(admin, new, name)
        _drop(admin, old)


def _require_backup(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(MAGIC))
    except OSError as error:
        raise ServerError(f"cannot read {file}: {error.strerror}") from error
    if begin != MAGIC:
        raise ServerError(f"{file} is no backup: expected a file that `rsloc-db db backup` wrote (pg_dump -Fc)")


@contextmanager
def _new_database(admin: Connection, new: str, old: str) -> Iterator[None]:
    """Make an empty database, after clearing what a killed restore left; drop it again if the body fails."""
    try:
        _drop(admin, new)
        _drop(admin, old)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(new)))
        try:
            yield
        except BaseException:
            _drop(admin, new)
            raise
    except psycopg.Error as error:
        raise ServerError(f"the backup was not restored: {str(error).splitlines()[0]}") from error


def _fill(url: str, file: Path) -> None:
    """Restore a backup into an empty database and check that it is one of ours."""
    environment = _environment(url)
    with connect(url) as conn:
        row = conn.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if row and version_tuple(row[0]) < SAFE_PARALLEL_BUILD:
        environment["PGOPTIONS"] = "-c max_parallel_maintenance_workers=0"
    words = ["--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={_name(url)}", str(file)]
    _run("pg_restore", words, environment)
    with connect(url) as conn:
        if schema_version(conn) is None:
            raise ServerError(f"{file} is a backup of another program's database: it has no rsloc-db schema")


def _table_with_rows(conn: Connection) -> str | None:
    """Return a table that holds rows, other than the extensions' and the schema's version; None if all are empty."""
    tables = conn.execute(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
        " AND c.relname <> 'alembic_version'"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1"
    ).fetchall()
    for (table,) in tables:
        row = conn.execute(f"SELECT EXISTS (SELECT FROM {table})".encode()).fetchone()  # noqa: S608 - quoted by regclass
        if row and row[0]:
            return str(table)
    return None


def _require_unused(admin: Connection, name: str) -> None:
    """Raise ServerError while programs are connected to a database: a restore shall not cut off their work."""
    rows = admin.execute(
        "SELECT coalesce(nullif(application_name, ''), 'unnamed'), count(*) FROM pg_stat_activity"
        " WHERE datname = %s AND backend_type = 'client backend' GROUP BY 1 ORDER BY 1",
        (name,),
    ).fetchall()
    if rows:
        who = ", ".join(f"{count} x {program}" for program, count in rows)
        raise ServerError(f"the database {name} is in use ({who}): close these programs and try again")


def _drop(admin: Connection, name: str) -> None:
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _rename(admin: Connection, name: str, to: str) -> None:
    admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to)))


def _name(url: str) -> str:
    return unquote(urlsplit(url).path.lstrip("/"))


def _with_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{quote(name)}").geturl()


def _environment(url: str) -> dict[str, str]:
    """Return this process's environment with libpq's variables for a URL: others cannot read it, unlike its words."""
    options = pq.Conninfo.parse(url.encode())
    given = {option.envvar: option.val for option in options if option.envvar and option.val}
    return {**os.environ, **{name.decode(): value.decode() for name, value in given.items()}}


def _tool(name: str) -> str:
    """Return a client program: the embedded server's if there is one, else the one on PATH."""
    this = choice.cluster()
    remembered = [Path(this.memory["programs"])] if "programs" in this.memory else []
    if programs := find([*remembered, packages.programs(this.home)]):
        return str(programs.folder / name)
    if found := shutil.which(name):
        return found
    raise ServerError(f"{name} is not there: install PostgreSQL's client programs (Debian: postgresql-client)")


def _run(name: str, words: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run([_tool(name), *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error:" in line] or done.stderr.splitlines() or ["?"]
        raise ServerError(f"{name} failed: {lines[0].removeprefix(f'{name}: ')}")
