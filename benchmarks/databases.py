"""A database of a benchmark's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from rsloc_db.db import schema, server


@contextmanager
def database() -> Iterator[str]:
    """Yield the URL of a database that has the schema and nothing else, dropped after."""
    url, name = server.database_url(), f"rsloc_benchmark_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            own = urlsplit(url)._replace(path=f"/{name}").geturl()
            schema.upgrade(own)
            yield own
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
