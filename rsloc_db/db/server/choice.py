"""Which server is used, and how it comes to run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from rsloc_db.config import settings
from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.server import packages
from rsloc_db.db.server.cluster import Cluster
from rsloc_db.db.server.programs import Programs, examine, find, local_folders, version_tuple
from rsloc_db.errors import SchemaError, ServerError
from rsloc_db.types import Progress, Silent


def database_url(progress: Progress | None = None) -> str:
    """Return the URL of the database to use, its password included; the embedded server is started for it.

    Raises:
        ServerError: there is no server and none can be made, in one line that says what to do.
    """
    return own_url() or start(progress)


def own_url() -> str | None:
    """Return the URL of the user's own server, or None where RSLOC_DATABASE_URL is not set."""
    return _checked(settings().database_url, "RSLOC_DATABASE_URL")


def read_url() -> str | None:
    """Return the URL of the replica that is read from, or None where RSLOC_DATABASE_READ_URL is not set."""
    return _checked(settings().database_read_url, "RSLOC_DATABASE_READ_URL")


def _checked(secret: SecretStr | None, name: str) -> str | None:
    if secret is None or not secret.get_secret_value():
        return None
    url = secret.get_secret_value().replace("postgresql+psycopg://", "postgresql://", 1)
    if not url.startswith(("postgresql://", "postgres://")):
        raise ServerError(f"{name} is no PostgreSQL URL: expected postgresql://user:password@host:port/database")
    return url


def cluster() -> Cluster:
    """Return the embedded cluster, there or not."""
    return Cluster(settings().home.expanduser().resolve())


def start(progress: Progress | None = None) -> str:
    """Start the embedded server unless it runs, and return its database's URL; it is made first where there is none.

    Safe against being called from several processes at once: one starts it, the others wait and find it running.
    """
    with as_server_error():
        this = cluster()
        if port := this.port():
            return this.url(port)
        with this.locked():
            this.settle()
            port = this.port() or _start(this, progress or Silent())
            return this.url(port)


def stop() -> bool:
    """Stop the embedded server; tell whether it ran."""
    with as_server_error():
        this = cluster()
        if not this.data.exists():
            return False
        with this.locked():
            this.settle()
            if this.port() is None:
                return False
            this.stop(_programs_of(this))
            return True


def pgvector_version(conn: Connection) -> tuple[int, ...]:
    """Return pgvector's version in the connected database, such as (0, 8, 0).

    Compare it with ``SAFE_PARALLEL_BUILD`` and ``SAFE_VACUUM`` before an HNSW index is built or relied on.

    Raises:
        SchemaError: the database lacks the extension.
    """
    row = conn.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
    if row is None:
        raise SchemaError("the database lacks the extension vector: run `rsloc-db db upgrade`")
    return version_tuple(row[0])


def _start(this: Cluster, progress: Progress) -> int:
    if this.major is None:
        programs = find(local_folders()) or examine(packages.install(this.home, progress))
        progress.note(f"making a PostgreSQL {programs.major} cluster in {this.home} ...")
        this.create(programs)
    programs = _programs_of(this, progress)
    port = this.start(programs)
    _require_proj(this.url(port))
    return port


def _programs_of(this: Cluster, progress: Progress | None = None) -> Programs:
    """Return the programs of the cluster's major version: those of its last start, else any that fit."""
    remembered = [Path(this.memory["programs"])] if "programs" in this.memory else []
    programs = find([*remembered, packages.programs(this.home), *local_folders()], this.major)
    if programs is None and this.major == packages.MAJOR:
        return examine(packages.install(this.home, progress or Silent()))
    if programs is None:
        raise ServerError(
            f"the cluster in {this.home} is of PostgreSQL {this.major}, whose programs with PostGIS and pgvector "
            "are gone: install them again, or choose another RSLOC_HOME"
        )
    return programs


def _require_proj(url: str) -> None:
    """Raise ServerError unless PostGIS finds PROJ's database: without it, it transforms silently worse."""
    with connect(url, autocommit=True) as conn:
        for name in ("postgis", "vector"):
            conn.execute(f"CREATE EXTENSION IF NOT EXISTS {name}".encode())
        row = conn.execute("SELECT postgis_full_version()").fetchone()
    if row is None or "DATABASE_PATH" not in row[0]:
        raise ServerError(f"PostGIS finds no PROJ database (proj.db), found: {row and row[0]}")


@contextmanager
def as_server_error() -> Iterator[None]:
    """Turn what the system or the server refuses into one line."""
    try:
        yield
    except OSError as error:
        advice = "; set RSLOC_HOME to a folder of your own" if isinstance(error, PermissionError) else ""
        what = f"{error.strerror}: {error.filename}{advice}"
        raise ServerError(f"the embedded server in {settings().home}: {what}") from error
