"""The method on one page: from a query's pixels to a place on Earth, in stages that each leave rows behind.

    retrieve    cut patches, embed them, find the tiles that resemble each       -> patch, hit (with its vote)
    cliques     find where votes of distinct patches agree, least likely first   -> clique
                (the widest windows first: where these show the place, narrower ones are not searched)
    exhaustive  in their place, after or before them (``ways_to_search``):
                correlate the whole query with the gradient maps of the whole gallery
    verify      correlate the query with the gallery's maps, then its pixels     -> place
    refine      match block by block, fit an affine transform and its covariance -> match
    decide      accepted, ambiguous or not here, and how sure                    -> localization

Where turn or scale are not known, the query is supposed in a number of poses (``stages.poses``): patches are cut from
it upright in each, votes agree within a pose, templates are laid over the maps in each. The pose of a promising place
is then settled between these, and refinement fits what remains; on demand local features tell further poses.

A gallery comes in by ``stages.ingest``. A batch of queries goes through ``stages.batch``, which calls
``localize_query`` below for each, in one transaction: a query is either done with all its rows or not begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rsloc_db.db.connection import Connection
from rsloc_db.db.runs import Key, Target
from rsloc_db.models import Embedder
from rsloc_db.stages.cliques import cliques
from rsloc_db.stages.decide import Decision, decide, places_of, store
from rsloc_db.stages.exhaustive import Way, exhaustive, ways_to_search
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query
from rsloc_db.stages.reference import Fit, References, without_clique
from rsloc_db.stages.refine import refine_fits
from rsloc_db.stages.retrieve import retrieve
from rsloc_db.stages.template import templates_of
from rsloc_db.stages.verify import compare_cliques, settle_poses, stands_out, verify


def localize_query(
    conn: Connection,
    key: Key,
    query: Query,
    targets: Sequence[Target],
    references: References,
    embedder: Embedder,
    options: Options,
    lap: Callable[[str], None],
    readers: Sequence[Connection] = (),
) -> Decision:
    """Localize one query and store every step of it.

    Args:
        conn: a connection in a transaction, which the caller commits.
        key: the query and its run.
        query: its pixels.
        targets: the embedding sets to search.
        references: what to verify against, each date of a gallery level.
        embedder: the model of those sets.
        options: what the run's settings say.
        lap: called with a stage's name at its end, for the clock.
        readers: connections that search in its stead, at once; see ``db.search.search``.
    """
    levels = {(t.gallery_id, t.level) for t in targets}
    near = {key: reference for key, reference in references.items() if (key.gallery_id, key.level) in levels}
    grey = query.grey()
    templates = templates_of(grey, near)
    fits: list[Fit] = []
    looked_at = 0
    ways = ways_to_search(near, options)

    def candidates() -> Iterator[tuple[Way, list[Fit], bool]]:
        """Yield the places that each way to search finds, and whether it is the last."""
        for way in ways:
            if way == "exhaustive":
                found = exhaustive(templates, options)
                lap("retrieve")
                yield way, found, way == ways[-1]
                continue
            for all_widths in retrieve(conn, key, query, targets, embedder, options, readers):
                lap("retrieve")
                agreeing = cliques(conn, key, targets, options)
                lap("cliques")
                found = compare_cliques(agreeing, templates, options, if_sure=not all_widths)
                if found or all_widths:
                    yield way, found, all_widths and way == ways[-1]
                else:
                    lap("verify")

    for way, found, last in candidates():
        looked_at += len(found)
        # cliques of all hits take the place of those of fewer: what these led to stays, without them
        known = [without_clique(fit) for fit in fits] if way == "knn" else fits
        fits = [*settle_poses(query, found, templates, options), *known]
        verified = verify(grey, fits, near, options)
        lap("verify")
        # where no clique stands out it is cheaper to look everywhere before any is refined
        promising = verified if last or way == "exhaustive" or stands_out(verified) else []
        places = places_of(refine_fits(grey, promising, near, trials=looked_at, free=options.free))
        decision = decide(places, looked_at)
        if last or decision.verdict != "not_here":
            break
        lap("refine")
    store(conn, key, places, decision, options.reference_error_px)
    lap("refine")
    return decision
