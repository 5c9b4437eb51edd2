"""The method on one page: from a query's pixels to a place on Earth, in stages that each leave rows behind.

    retrieve   cut patches, embed them, find the tiles that resemble each          -> patch, hit (with its vote)
    cliques    find where votes of distinct patches agree, least likely first      -> clique
    verify     correlate the whole query with the gallery's pixels around a clique -> place
    refine     match block by block, fit an affine transform and its covariance    -> match
    decide     accepted, ambiguous or not here, and how sure                       -> localization

A gallery comes in by ``stages.ingest``. A batch of queries goes through ``stages.localize``, which calls
``localize_query`` below for each, in one transaction: a query is either done with all its rows or not begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rsloc_db.db.connection import Connection
from rsloc_db.db.runs import Key, Target
from rsloc_db.models import Embedder
from rsloc_db.stages.cliques import cliques
from rsloc_db.stages.decide import Decision, decide, places_of, store
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query
from rsloc_db.stages.refine import refine_fits
from rsloc_db.stages.retrieve import retrieve
from rsloc_db.stages.verify import Reference, verify_cliques


def localize_query(
    conn: Connection,
    key: Key,
    query: Query,
    targets: Sequence[Target],
    references: dict[tuple[int, int], Reference],
    embedder: Embedder,
    options: Options,
    lap: Callable[[str], None],
) -> Decision:
    """Localize one query and store every step of it.

    Args:
        conn: a connection in a transaction, which the caller commits.
        key: the query and its run.
        query: its pixels.
        targets: the embedding sets to search.
        references: (gallery_id, level) -> the pixels to verify against.
        embedder: the model of those sets.
        options: what the run's settings say.
        lap: called with a stage's name at its end, for the clock.
    """
    patches = retrieve(conn, key, query, targets, embedder, options)
    lap("retrieve")
    candidates = cliques(conn, key, targets, options) if patches else []
    lap("cliques")
    fits = verify_cliques(query, candidates, references, options)
    lap("verify")
    refined = refine_fits(query, fits, references, trials=max(len(candidates), 1))
    places = places_of(refined)
    decision = decide(places, len(candidates))
    store(conn, key, places, decision)
    lap("refine")
    return decision
