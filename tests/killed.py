"""An ingest that is killed in its middle, for tests of what is left and how it goes on."""

from __future__ import annotations

import time

from rsloc_db.db.connection import Connection

KILLED = """
import importlib, os, signal
import rsloc_db
from rsloc_db.stages import ingest_tiles
module, calls = importlib.import_module("rsloc_db.db.{module}"), []
original = module.{function}
def dying(*args, **options):
    result = original(*args, **options)
    calls.append(1)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
module.{function} = dying
ingest_tiles.BATCH, ingest_tiles.COMMIT_S = 32, 0
rsloc_db.ingest({source!r}, workers=2)
"""
"""An ingest of {source} that kills itself after call {call} of {module}.{function}."""


def wait_until_alone(conn: Connection) -> None:
    """Wait until the server has noticed that the clients of this database are gone."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    for _ in range(300):
        row = conn.execute(statement).fetchone()
        conn.commit()
        if row == (0,):
            return
        time.sleep(0.1)
    raise AssertionError("a killed ingest still has a session")
