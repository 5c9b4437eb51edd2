"""The schema's versions: Alembic without an ini file, from the repository or from the installed package.

Tables change by migrations (``migrations/versions``). Views and functions (``migrations/sql``) hold no data: they are
dropped before a migration and made anew after it, so each is written once, in its newest form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.pool import NullPool

from rsloc_db.db.connection import connect, migrations_folder, schema_version
from rsloc_db.db.server.programs import MIN_PGVECTOR, version_tuple
from rsloc_db.errors import SchemaError

UPGRADE_LOCK = 7_256_201
"""Key of the advisory lock that lets one upgrade run at a time."""

_CREATED = re.compile(r"^CREATE (VIEW|MATERIALIZED VIEW|FUNCTION) (\w+)", re.MULTILINE)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring a database's schema to a version; a second upgrade at the same time waits for the first.

    Args:
        url: PostgreSQL URL of the database.
        revision: number of a migration, or "head" for the newest.

    Raises:
        SchemaError: an extension is missing or too old, the database has a version that this code does not know, or
            refuses the change.
        ServerError: the database cannot be reached.
    """
    _run(command.upgrade, url, revision)


def downgrade(url: str, revision: str) -> None:
    """Take a database's schema back to a version, "base" for none. Views and functions exist at the newest only.

    Raises:
        SchemaError: the database has a version that this code does not know.
        ServerError: the database cannot be reached.
    """
    _run(command.downgrade, url, revision)


def current(url: str) -> str | None:
    """Return the version of a database's schema, None where it has none.

    Raises:
        ServerError: the database cannot be reached.
    """
    with connect(url) as conn:
        return schema_version(conn)


def engine(url: str | None = None) -> sa.Engine:
    """Return an SQLAlchemy engine without a pool, whose connections are those of ``connect(url)``."""
    return sa.create_engine("postgresql+psycopg://", creator=partial(connect, url), poolclass=NullPool)


def config() -> Config:
    """Return Alembic's configuration, without an ini file."""
    result = Config()
    result.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return result


def _run(verb: Callable[[Config, str], None], url: str, revision: str) -> None:
    settings = config()
    try:
        with engine(url).connect() as conn:
            settings.attributes["connection"] = conn
            verb(settings, revision)
    except sa.exc.DBAPIError as error:  # e.g. no right to make an extension, or a user's own view on one of ours
        raise SchemaError(f"the schema is left as it was: {str(error.orig).splitlines()[0]}") from error


def begin(conn: sa.Connection) -> None:
    """Prepare a migration inside its transaction: lock, extensions, known version, no views in the way.

    Raises:
        SchemaError: an extension is missing or too old, or the database has a version that this code does not know.
    """
    conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
    _require_known_version(conn)
    _create_extensions(conn)
    drop_views(conn)


def _require_known_version(conn: sa.Connection) -> None:
    if conn.execute(sa.text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return
    found = conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaError(f"the database has schema version {found}, which is unknown here: install a newer rsloc-db")


def _create_extensions(conn: sa.Connection) -> None:
    for name in ("postgis", "vector"):
        offered = conn.execute(
            sa.text("SELECT default_version FROM pg_available_extensions WHERE name = :name"), {"name": name}
        ).scalar()
        if offered is None:
            raise SchemaError(f"the server lacks the extension {name}: install PostGIS 3 and pgvector 0.7 or newer")
        conn.execute(sa.text(f"CREATE EXTENSION IF NOT EXISTS {name}"))
    version = conn.execute(sa.text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).scalar_one()
    require_pgvector(version)


def require_pgvector(version: str) -> None:
    """Check that a pgvector version has halfvec.

    Raises:
        SchemaError: it is older than 0.7.
    """
    if version_tuple(version) < MIN_PGVECTOR:
        raise SchemaError(
            f"pgvector {version} has no halfvec: expected 0.7 or newer; install one and run "
            "ALTER EXTENSION vector UPDATE in the database"
        )


def _sql_files() -> list[Path]:
    return sorted((migrations_folder() / "sql").glob("*.sql"))


def drop_views(conn: sa.Connection) -> None:
    """Drop all views and functions that ``migrations/sql`` makes; one that a user's own view needs is an error."""
    created = [match for path in _sql_files() for match in _CREATED.findall(path.read_text())]
    for kind in ("VIEW", "MATERIALIZED VIEW", "FUNCTION"):
        names = [name for found, name in created if found == kind]
        if names:
            conn.exec_driver_sql(f"DROP {kind} IF EXISTS {', '.join(names)}")


def create_views(conn: sa.Connection) -> None:
    """Make all views and functions, in the order of their files' names."""
    for path in _sql_files():
        conn.exec_driver_sql(path.read_text().replace("%", "%%"))
