"""The schema: migrations and declared tables agree, and people and QGIS can read it."""

from __future__ import annotations

from rsloc_db.db import schema


def test_upgrade_twice_changes_nothing(database_url: str) -> None:
    before = schema.current(database_url)
    schema.upgrade(database_url)
    assert schema.current(database_url) == before is not None
