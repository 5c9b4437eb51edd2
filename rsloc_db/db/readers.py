"""Connections that can read and nothing else: for those who ask over the network."""

from __future__ import annotations

import logging

from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from rsloc_db.db.connection import Connection, connect, statement
from rsloc_db.errors import ServerError

log = logging.getLogger(__name__)

ROLE = "rsloc_reader"
"""Role that may select and not change anything; made once a server, by ``prepare_reader``."""
POOL_SIZE = 8
WAIT_S = 20.0
"""How long a request waits for a connection before it is refused."""

Pool = ConnectionPool[Connection]


def prepare_reader(url: str) -> bool:
    """Make the role of readers and let it read all tables and views; tell whether that was possible.

    Where the user of the URL may not make roles, readers keep that user's rights, in read-only transactions.

    Raises:
        ServerError: the database cannot be reached.
    """
    with connect(url) as conn:
        try:
            for name in ("reader_lock", "reader_create", "reader_grant", "reader_join"):
                conn.execute(statement(name))
        except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
            conn.rollback()
            log.warning("no role %s: %s; reading in read-only transactions alone", ROLE, str(error).splitlines()[0])
            return False
    return True


def reader_url(url: str, *, timeout_s: float, as_role: bool) -> str:
    """Return how to connect so that nothing can be changed, as PostgreSQL's keywords and values.

    Args:
        url: PostgreSQL URL.
        timeout_s: statements that take longer are cancelled.
        as_role: whether ``prepare_reader`` has made the role.
    """
    options = f"-c default_transaction_read_only=on -c statement_timeout={round(1000 * timeout_s)} -c timezone=UTC"
    return make_conninfo(url, options=options + (f" -c role={ROLE}" if as_role else ""))


def reader_pool(conninfo: str) -> Pool:
    """Open a pool of connections to what ``reader_url`` returns.

    Raises:
        ServerError: the database cannot be reached.
    """
    settings = {"prepare_threshold": None, "application_name": "rsloc-db serve"}
    pool = ConnectionPool(conninfo, min_size=1, max_size=POOL_SIZE, timeout=WAIT_S, kwargs=settings, open=False)
    try:
        pool.open(wait=True, timeout=WAIT_S)
    except PoolTimeout as error:
        pool.close()
        raise ServerError("cannot open a connection for reading: see `rsloc-db db status`") from error
    return pool
