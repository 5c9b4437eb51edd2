"""Runs migrations for ``rsloc_db.db.schema``, and for the ``alembic`` command while developing."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from alembic import context
from geoalchemy2 import alembic_helpers

from rsloc_db.db import schema
from rsloc_db.db.tables import metadata


def include_object(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Leave out PostGIS's own tables and the partitions of embedding, which ingest makes."""
    foreign = name == "spatial_ref_sys" or re.fullmatch(r"embedding_\d+", name or "")
    return not (kind == "table" and reflected and foreign)


def migrate(connection: sa.Connection) -> None:
    """Run the migrations asked for in one transaction, with views and functions made anew at the newest version."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=include_object,
        render_item=alembic_helpers.render_item,
        compare_server_default=True,
    )
    with context.begin_transaction():
        schema.begin(connection)
        context.run_migrations()
        found = context.get_context().get_current_heads()
        if found and found == context.get_head_revisions():
            schema.create_views(connection)


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with schema.engine().connect() as own:
        migrate(own)
