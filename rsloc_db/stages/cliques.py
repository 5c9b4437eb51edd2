"""Stage 2, cliques: hits of distinct patches whose votes for the query's place agree, least likely by chance first.

The work is SQL (``db/sql/cliques.sql``): a spatial join of votes, scored by a log-likelihood ratio against the local
density of votes.
"""

from __future__ import annotations

from collections.abc import Sequence

from rsloc_db.db.connection import Connection
from rsloc_db.db.runs import CliqueRow, Key, Target, delete_cliques, find_cliques, ranked_cliques
from rsloc_db.stages.options import Options

P_HIT = 0.35
"""Chance that a patch has a right hit where the query really is."""


def cliques(conn: Connection, key: Key, targets: Sequence[Target], options: Options) -> list[CliqueRow]:
    """Find the cliques of a query in every gallery level, store them, and return the best over all of them.

    Cliques of fewer hits, which were found before, are forgotten.

    Args:
        conn: a connection in a transaction.
        key: the query.
        targets: the gallery levels that were searched.
        options: cliques to keep a gallery level, and to return.
    """
    delete_cliques(conn, key)
    for target in {(t.gallery_id, t.level): t for t in targets}.values():
        find_cliques(conn, key, target, limit=options.candidates, p_hit=P_HIT)
    return ranked_cliques(conn, key, options.candidates)
