"""The database server: the user's own where RSLOC_DATABASE_URL names one, else one that is kept in RSLOC_HOME.

The embedded server is, in this order: the cluster that is there already, one run by this machine's PostgreSQL if that
has PostGIS and pgvector, or one run by a private copy of Debian's packages.
"""

from rsloc_db.db.server.archive import backup, psql, restore
from rsloc_db.db.server.choice import database_url, own_url, pgvector_version, read_url, start, stop
from rsloc_db.db.server.status import status
from rsloc_db.db.server.tuning import SAFE_PARALLEL_BUILD, SAFE_VACUUM

__all__ = [
    "SAFE_PARALLEL_BUILD",
    "SAFE_VACUUM",
    "backup",
    "database_url",
    "own_url",
    "pgvector_version",
    "psql",
    "read_url",
    "restore",
    "start",
    "status",
    "stop",
]
