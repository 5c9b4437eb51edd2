"""Localize one query of a run: read its pixels, choose where to search, store its answer or why there is none."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import psycopg

from rsloc_db import grids
from rsloc_db.db import runs
from rsloc_db.db.blocks import LayerKey, count_layers
from rsloc_db.db.connection import Connection, is_lost
from rsloc_db.db.galleries import get_gallery
from rsloc_db.db.runs import Key, Target
from rsloc_db.errors import GalleryError, QueryError, RslocError
from rsloc_db.models import Embedder
from rsloc_db.queries import QueryFile
from rsloc_db.stages import localize_query
from rsloc_db.stages.decide import store_failure
from rsloc_db.stages.maps import layers_of
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import read_query
from rsloc_db.stages.reference import Reference
from rsloc_db.stages.tiles import load_mosaic
from rsloc_db.types import Progress, Scale

log = logging.getLogger(__name__)

MAX_SCALE_RATIO = 6.0
"""A gallery level serves a query when their pixels differ in size by at most this factor."""


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What a run searches: embedding sets, and the pixels behind them."""

    targets: list[Target]
    references: dict[LayerKey, Reference]


@dataclass(frozen=True, slots=True)
class Desk:
    """What localizes query after query.

    Attributes:
        conn: a connection, not in autocommit, that stores what is found.
        readers: connections in autocommit that search at once, to a replica if there is one; without any ``conn`` does.
        space: what is searched; its references are read from the replica, too.
        embedder: the model of its embedding sets.
        options: what decides the result.
        progress: told of each stage that ends; processes of their own tell nobody.
    """

    conn: Connection
    readers: tuple[Connection, ...]
    space: SearchSpace
    embedder: Embedder
    options: Options
    progress: Progress


def search_space(conn: Connection, embedder: Embedder, options: Options) -> SearchSpace:
    """Return what there is to search.

    Raises:
        GalleryError: a named gallery does not exist, or none is ready for this model.
    """
    targets = runs.search_targets(conn, embedder.name, embedder.weights_hash, options.galleries)
    if not targets:
        raise GalleryError(
            f"no gallery is ready for model {embedder.name!r} with weights {embedder.weights_hash[:8]}: "
            "`rsloc-db galleries` shows what there is; `rsloc-db ingest PATH` adds one, or embeds one anew that was "
            "embedded with other weights"
        )
    for name in {*(options.galleries or ())} - {t.gallery for t in targets}:
        get_gallery(conn, name)
        raise GalleryError(
            f"gallery {name!r} is not ready for model {embedder.name!r}: run its `rsloc-db ingest` again"
        )
    references = {
        key: reference
        for target in {(t.gallery_id, t.level): t for t in targets}.values()
        for key, reference in _references(conn, target)
    }
    return SearchSpace(targets, references)


def _references(conn: Connection, target: Target) -> Iterator[tuple[LayerKey, Reference]]:
    """Yield a gallery level as it looked at each date that it has maps of, the newest first."""
    gallery, newest = get_gallery(conn, target.gallery), LayerKey(target.gallery_id, target.level)
    for maps in layers_of(conn, newest, count_layers(conn, target.gallery_id, target.level)):
        load = partial(load_mosaic, conn, gallery, target.level, layer=maps.key.layer)
        yield maps.key, Reference(grids.grid(target.grid), target.level, load, maps)


def usual_level(conn: Connection, embedder: Embedder, options: Options) -> int:
    """Return the middle of the gallery levels that can be searched: what queries of unknown scale begin with.

    Raises:
        GalleryError: a named gallery does not exist, or none is ready for this model.
    """
    levels = sorted({target.level for target in search_space(conn, embedder, options).targets})
    return levels[len(levels) // 2]


def localize_claimed(desk: Desk, key: Key, file: QueryFile) -> str | None:
    """Localize a query that is claimed in the desk's transaction; the caller commits.

    Returns:
        What went wrong with it, which is its own failure, or None.
    """
    conn, space, embedder, options = desk.conn, desk.space, desk.embedder, desk.options
    try:
        clock = _Clock(desk.progress)
        with conn.transaction():
            query = read_query(file)
            runs.set_query_size(conn, key.query_id, query.frame.width_px, query.frame.height_px)
            clock.last = time.perf_counter()
            targets = choose_levels(space.targets, query.frame.scale, options.levels)
            localize_query(conn, key, query, targets, space.references, embedder, options, clock.lap, desk.readers)
        runs.finish_query(conn, key, "done", clock.seconds, _peak_memory_mb())
    except Exception as error:
        if isinstance(error, psycopg.OperationalError) and is_lost(error):
            raise
        reason = str(error) if isinstance(error, RslocError) else f"{type(error).__name__}: {error}"
        # others than its owner may read what went wrong
        reason = reason.replace(str(file.path), file.name)
        log.debug("query %s failed", file.name, exc_info=True)
        store_failure(conn, key, reason)
        runs.finish_query(conn, key, "failed", {}, _peak_memory_mb())
        return reason
    return None


def _peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far; Linux gives it in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class _Clock:
    """Seconds of each stage since it was made; reading the image counts into the total alone."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.start = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Say that a stage has ended, for now."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.seconds["total"] = now - self.start
        self.last = now
        self.progress.stage(stage)


def choose_levels(targets: Sequence[Target], scale: Scale, most: int = 1) -> list[Target]:
    """Return the targets of each gallery's levels, ``most`` of them, whose pixels are nearest in size to the query's.

    Raises:
        QueryError: no level is near enough.
    """
    by_gallery: dict[int, dict[int, float]] = {}
    for t in targets:
        by_gallery.setdefault(t.gallery_id, {})[t.level] = abs(np.log(_pixel_ratio(t, scale)))
    best = {g: sorted(levels, key=lambda level: (levels[level], level))[:most] for g, levels in by_gallery.items()}
    chosen = [
        t
        for t in targets
        if t.level in best[t.gallery_id] and by_gallery[t.gallery_id][t.level] <= np.log(MAX_SCALE_RATIO)
    ]
    if not chosen:
        unit = {"mercator": "Mercator m", "ground": "m", "degrees": "degrees"}[scale.pixels]
        raise QueryError(
            f"its pixels of {scale.x:.4g} {unit} are more than {MAX_SCALE_RATIO:.0f} times larger or smaller than "
            f"those of any gallery level (there are {', '.join(str(v) for v in sorted({t.level for t in targets}))})"
        )
    return chosen


def _pixel_ratio(target: Target, scale: Scale) -> float:
    """Return how many gallery pixels wide a query's pixel is, at the middle of the gallery's latitudes."""
    if scale.pixels == "degrees":
        return float(scale.x * grids.TILE_PX * 2**target.level / 360.0)
    size = grids.nominal_resolution_m(target.level)
    if scale.pixels == "ground":
        size *= float(np.cos(np.radians((target.min_abs_lat_deg + min(target.max_abs_lat_deg, 80)) / 2)))
    return float(scale.x / size)
