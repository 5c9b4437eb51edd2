"""Localize a batch of queries: read, search, verify, store, one transaction a query; rerun = resume."""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import psycopg

import rsloc_db
from rsloc_db import grids
from rsloc_db.db import runs
from rsloc_db.db.connection import Connection
from rsloc_db.db.galleries import get_gallery
from rsloc_db.db.runs import Key, Target
from rsloc_db.errors import GalleryError, QueryError, RslocError, ServerError
from rsloc_db.frames import Frame
from rsloc_db.models import Embedder
from rsloc_db.queries import QueryFile, content_hash, load_image
from rsloc_db.stages import localize_query
from rsloc_db.stages.decide import store_failure
from rsloc_db.stages.maps import StoredMaps
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query
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
    references: dict[tuple[int, int], Reference]


@dataclass(frozen=True, slots=True)
class Member:
    """A query of a run: its key in table query and its file."""

    query_id: int
    file: QueryFile
    content_hash: str


def run_batch(
    conn: Connection,
    files: Sequence[QueryFile],
    embedder: Embedder,
    options: Options,
    *,
    overwrite: bool,
    progress: Progress,
) -> int:
    """Localize queries that are not done yet in the run of these settings, and return the run's key.

    Args:
        conn: a connection, not in autocommit; each query is committed.
        files: the queries.
        embedder: the model whose embeddings are searched.
        options: what decides the result.
        overwrite: begin a new run even where one of equal settings exists.
        progress: told of every query.

    Raises:
        GalleryError: there is no gallery to search.
        ServerError: the database went away; what was done stays, and a rerun goes on.
    """
    space = search_space(conn, embedder, options)
    try:
        members = _register(conn, files)
        run_id = _open_run(conn, members, space, embedder, options, overwrite=overwrite)
        conn.commit()
        todo = runs.pending_queries(conn, run_id)
        progress.task("localize", total=len(members), done=len(members) - len(todo))
        waiting = [m for m in members if m.query_id in todo]
        # first what nobody holds, then what other processes held, unless they have done it
        for wait in (False, True):
            for member in list(waiting):
                key = Key(run_id, member.query_id)
                claimed = runs.claim_query(conn, key, wait=wait)
                if claimed:
                    _localize_member(conn, key, member.file, space, embedder, options, progress)
                if claimed or wait:
                    waiting.remove(member)
                    progress.advance()
                conn.commit()
        runs.finish_run(conn, run_id)
        conn.commit()
    except psycopg.OperationalError as error:
        raise ServerError(
            f"the database went away ({str(error).strip().splitlines()[0]}): start it and run the same command again, "
            "it goes on where it stopped"
        ) from error
    return run_id


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
    references = {}
    for target in targets:
        load = partial(load_mosaic, conn, get_gallery(conn, target.gallery), target.level)
        maps = StoredMaps(conn, target.gallery_id, target.level)
        references[target.gallery_id, target.level] = Reference(grids.grid(target.grid), target.level, load, maps)
    return SearchSpace(targets, references)


def usual_level(conn: Connection, embedder: Embedder, options: Options) -> int:
    """Return the middle of the gallery levels that can be searched: what queries of unknown scale begin with.

    Raises:
        GalleryError: a named gallery does not exist, or none is ready for this model.
    """
    levels = sorted({target.level for target in search_space(conn, embedder, options).targets})
    return levels[len(levels) // 2]


def _register(conn: Connection, files: Sequence[QueryFile]) -> list[Member]:
    """Store the queries in the order of their names, so that two processes at the same ones never block each other."""
    members = []
    for file in sorted(files, key=lambda f: (f.query_set, f.name)):
        content = _hash(file)
        key = runs.upsert_query(conn, file.query_set, file.name, str(file.path.absolute()), content)
        members.append(Member(key, file, content))
    return members


def _hash(file: QueryFile) -> str:
    try:
        return content_hash(file.path)
    except RslocError:
        return ""  # a missing file is a query that fails, with its reason


def _open_run(
    conn: Connection,
    members: Sequence[Member],
    space: SearchSpace,
    embedder: Embedder,
    options: Options,
    *,
    overwrite: bool,
) -> int:
    """Return the run of these queries and settings: the one that exists, or a new one."""
    settings = {
        **options.as_json(),
        "weights_hash": embedder.weights_hash,
        "embedding_sets": [t.set_id for t in space.targets],
        "tiles": runs.count_tiles(conn, sorted({t.gallery_id for t in space.targets})),
    }
    queries = [
        (m.file.query_set, m.file.name, m.content_hash, asdict(m.file.scale) if m.file.scale else None) for m in members
    ]
    code = code_version()
    identity = json.dumps([settings, queries, code], sort_keys=True)
    settings_hash = hashlib.sha256(identity.encode()).hexdigest()
    known = None if overwrite else runs.find_run(conn, settings_hash)
    if known is not None:
        return known
    query_set = ", ".join(sorted({m.file.query_set for m in members}))
    return runs.begin_run(conn, query_set, settings, settings_hash, code, [m.query_id for m in members])


@cache
def code_version() -> str:
    """Return the package's version and a hash of its code: a run is never continued by other code than began it."""
    folder = Path(rsloc_db.__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.sql")]):
        digest.update(path.read_bytes())
    return f"{rsloc_db.__version__}+{digest.hexdigest()[:8]}"


def _localize_member(
    conn: Connection,
    key: Key,
    file: QueryFile,
    space: SearchSpace,
    embedder: Embedder,
    options: Options,
    progress: Progress,
) -> None:
    """Localize a claimed query; what goes wrong with it is its own failure, and the batch goes on."""
    try:
        clock = _Clock(progress)
        with conn.transaction():
            query = _load(conn, key, file)
            clock.last = time.perf_counter()
            targets = choose_levels(space.targets, query.frame.scale)
            localize_query(conn, key, query, targets, space.references, embedder, options, clock.lap)
        runs.finish_query(conn, key, "done", clock.seconds, _peak_memory_mb())
    except psycopg.OperationalError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, RslocError) else f"{type(error).__name__}: {error}"
        log.debug("query %s failed", file.name, exc_info=True)
        progress.note(f"{file.name}: failed: {reason}")
        store_failure(conn, key, reason)
        runs.finish_query(conn, key, "failed", {}, _peak_memory_mb())


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


def _load(conn: Connection, key: Key, file: QueryFile) -> Query:
    """Read a query's pixels.

    Raises:
        QueryError: its scale is not known.
        ImageError: it cannot be read.
    """
    if file.problem is not None or file.scale is None:
        raise QueryError(file.problem or "the size of its pixels is not known: give --level or --gsd")
    image, valid = load_image(file.path)
    runs.set_query_size(conn, key.query_id, image.shape[1], image.shape[0])
    return Query(image, valid, Frame(file.scale, image.shape[1], image.shape[0]))


def choose_levels(targets: Sequence[Target], scale: Scale) -> list[Target]:
    """Return the targets of the level of each gallery whose pixels are nearest in size to the query's.

    Raises:
        QueryError: no level is near enough.
    """
    by_gallery: dict[int, dict[int, float]] = {}
    for t in targets:
        by_gallery.setdefault(t.gallery_id, {})[t.level] = abs(np.log(_pixel_ratio(t, scale)))
    best = {g: min(levels, key=lambda level: (levels[level], level)) for g, levels in by_gallery.items()}
    chosen = [
        t
        for t in targets
        if t.level == best[t.gallery_id] and by_gallery[t.gallery_id][t.level] <= np.log(MAX_SCALE_RATIO)
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
