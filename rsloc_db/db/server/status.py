"""What server is used, in what state, and what to know about its versions."""

from __future__ import annotations

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from rsloc_db.db.connection import Connection, connect, expected_version, schema_version
from rsloc_db.db.server import choice, packages
from rsloc_db.db.server.cluster import Cluster
from rsloc_db.db.server.programs import version_tuple
from rsloc_db.db.server.tuning import SAFE_PARALLEL_BUILD, SAFE_VACUUM
from rsloc_db.types import Json

VERSIONS = ("postgresql", "postgis", "pgvector", "proj", "proj_database", "schema", "database_bytes")
NOWHERE: Json = dict.fromkeys(("host", "port", "database"))
UNKNOWN: Json = dict.fromkeys(VERSIONS)
NO_FOLDER: Json = dict.fromkeys(("home", "programs", "data_folder", "data_bytes", "user", "installed_at", "packages"))


def status() -> Json:
    """Describe the server without starting it, as an object that JSON can hold.

    ``server`` is own, embedded or none (there is none yet); versions are None where they cannot be asked.
    """
    own = choice.own_url()
    found = _own(own) if own else _embedded()
    found["warnings"] = _warnings(found)
    return found


def _own(url: str) -> Json:
    with connect(url) as conn:
        return {"server": "own", "running": True, **_address(url), **_inside(conn), **NO_FOLDER}


def _embedded() -> Json:
    with choice.as_server_error():
        this = choice.cluster()
        if this.major is None:
            return {"server": "none", "running": False, **NOWHERE, **UNKNOWN, **NO_FOLDER, "home": str(this.home)}
        port = this.port()
        found = {"server": "embedded", "running": port is not None, **NOWHERE, **UNKNOWN, **_folder(this)}
        if port is None:
            return {**found, "postgresql": str(this.major)}
        url = this.url(port)
    with connect(url) as conn:
        return {**found, **_address(url), **_inside(conn)}


def _folder(this: Cluster) -> Json:
    software = packages.record(this.home) or {}
    return {
        "home": str(this.home),
        "programs": this.memory.get("programs"),
        "data_folder": str(this.data),
        "data_bytes": _bytes(this.data),
        "user": this.account.name,
        "installed_at": software.get("installed_at"),
        "packages": software.get("packages"),
    }


def _address(url: str) -> Json:
    parts = conninfo_to_dict(url)
    return {
        "host": parts.get("host", "localhost"),
        "port": int(parts.get("port") or 5432),
        "database": parts.get("dbname", parts.get("user")),
    }


def _inside(conn: Connection) -> Json:
    """Ask a database for its versions and size."""
    versions: dict[str, str] = dict(conn.execute("SELECT extname, extversion FROM pg_extension").fetchall())
    [(postgresql, size)] = conn.execute(
        "SELECT current_setting('server_version'), pg_database_size(current_database())"
    ).fetchall()
    proj = None
    if "postgis" in versions:
        [(proj,)] = conn.execute("SELECT postgis_proj_version()").fetchall()
    return {
        "postgresql": postgresql.split()[0],
        "postgis": versions.get("postgis"),
        "pgvector": versions.get("vector"),
        "proj": proj and proj.split()[0],
        "proj_database": proj and "DATABASE_PATH" in proj,
        "schema": schema_version(conn),
        "database_bytes": size,
    }


def _warnings(found: Json) -> list[str]:
    """Say what is wrong or wants care, and what rsloc-db does about it."""
    warnings = []
    version, pgvector = found["pgvector"], version_tuple(found["pgvector"] or "")
    if version and pgvector < SAFE_PARALLEL_BUILD:
        warnings.append(
            f"pgvector {version} can overflow a buffer in a parallel HNSW build (CVE-2026-3172, fixed in 0.8.2): "
            "rsloc-db builds its indexes with one worker"
        )
    if version and pgvector < SAFE_VACUUM:
        warnings.append(
            f"pgvector {version} can corrupt an HNSW index in vacuum (fixed in 0.8.3): "
            "rsloc-db rebuilds the index after tiles are deleted"
        )
    if found["proj_database"] is False:
        warnings.append("PostGIS finds no PROJ database (proj.db): its transforms are silently worse")
    if found["running"] and found["schema"] != expected_version():
        schema = found["schema"] or "missing"
        warnings.append(f"the schema's version is {schema}, expected {expected_version()}: run `rsloc-db db upgrade`")
    return warnings


def _bytes(folder: Path) -> int:
    """Return the size of a folder's files; those that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:
            continue
    return total
