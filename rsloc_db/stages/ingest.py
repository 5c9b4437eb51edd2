"""From a source of tiles to a gallery that is searched: tiles, windows, indexes. Every phase resumes where it was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import psycopg

from rsloc_db.config import settings
from rsloc_db.db import embeddings, galleries, indexes, server
from rsloc_db.db.connection import Connection, connect, require_schema
from rsloc_db.db.embeddings import EmbeddingSet
from rsloc_db.db.galleries import Gallery
from rsloc_db.db.indexes import HNSW_OVERHEAD_BYTES, choose_index
from rsloc_db.errors import GalleryError, ServerError
from rsloc_db.gallery import open_gallery
from rsloc_db.gallery.reader import GalleryReader
from rsloc_db.models import DEFAULT, Embedder, embedder
from rsloc_db.stages.embed import embed_gallery
from rsloc_db.stages.ingest_tiles import TileLoad, require_tiles
from rsloc_db.stages.maps import map_gallery
from rsloc_db.stages.workers import crew
from rsloc_db.types import IndexChoice, Progress, Silent

MAX_WINDOW = 15
BUILDS = 2
"""Indexes that are built at the same time."""
TILE_BYTES, IMAGE_OVERHEAD_BYTES, VECTOR_OVERHEAD_BYTES = 520, 450, 90
"""Measured bytes a row beside its data: tile with its four indexes; image in its chunks; vector with its key."""
MAP_BYTES = 2150
"""Measured bytes a tile of gradient maps and their overviews, where tiles lie close together."""


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What an ingest did.

    Attributes:
        gallery: its name.
        tiles: tiles at each level of the gallery that was ingested.
        added: tiles that were new.
        skipped: broken tiles met, kept in table ingest_failure with the reason.
        embedded: vectors made.
        indexes: index kind of each embedding set completed, keyed "level/window".
        disk_bytes: disk that the whole was estimated to need.
        seconds: time taken.
    """

    gallery: str
    tiles: dict[int, int]
    added: int
    skipped: int
    embedded: int
    indexes: dict[str, str]
    disk_bytes: int
    seconds: float


def ingest(
    source: str | Path,
    *,
    name: str | None = None,
    level: int | None = None,
    images: str = "stored",
    replace: bool = False,
    model: str = DEFAULT,
    windows: Sequence[int] = (1, 3),
    index: IndexChoice = "auto",
    url: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Load a source of tiles into a gallery, embed it and index it; run again, it goes on where it was stopped.

    The same source and name again change nothing; another source extends the gallery, which is out of the search
    until the new tiles are in.

    Args:
        source: ge_tiles SQLite, MBTiles, XYZ folder, GeoTIFF or COG.
        name: name of the gallery; None stands for the source's own name without its suffix.
        level: the level to take; None stands for all that the source has.
        images: "stored" in the database, or "reference": read from the source whenever needed, so it must stay.
        replace: put the gallery in place of the one of that name, which is searched until the new one is ready.
        model: embedder, as ``rsloc_db.models.embedder`` names it; its vectors are put beside those of other models.
        windows: widths in tiles of the windows to embed.
        index: how the vectors are to be searched: exact, hnsw, or auto by their number.
        url: database; None stands for RSLOC_DATABASE_URL or the embedded server.
        workers: processes; None stands for RSLOC_WORKERS or all cores.
        scheduler: a Dask scheduler, ``tcp://...`` or ``local:N``, whose workers are to do it.
        progress: where the work reports to.

    Raises:
        GalleryError: the source is none or holds no usable tile, the gallery is of another grid or in use, or an
            option contradicts it.
        ModelError: the model is unknown or faulty.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached, went away, or is out of disk.
        WorkerError: a process died, or the scheduler cannot be reached.
    """
    started = time.monotonic()
    path = Path(source).expanduser().resolve()
    widths = tuple(sorted(set(windows)))
    options = _Options(path, path.stem if name is None else name, level, images, replace, widths, index)
    _check_options(options)
    loaded = embedder(model)
    url = url or server.database_url()
    try:
        with closing(open_gallery(path, level=level)) as reader, closing(connect(url, autocommit=True)) as conn:
            require_schema(conn)
            galleries.prepare_session(conn)
            with galleries.lock(conn, options.name):
                work = _Ingest(conn, reader, options, url, loaded, model, progress or Silent())
                return work.run(workers or settings().workers, scheduler, started)
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise ServerError(f"the database stopped the ingest: {reason}; run the command again to go on") from error


@dataclass(frozen=True, slots=True)
class _Options:
    source: Path
    name: str
    level: int | None
    images: str
    replace: bool
    windows: tuple[int, ...]
    index: IndexChoice


def _check_options(options: _Options) -> None:
    name, windows = options.name, options.windows
    if not name.strip() or not name.isprintable() or galleries.own_name(name) != name:
        raise GalleryError(f"a gallery cannot be named {name!r}: give another --name")
    if options.images not in ("stored", "reference"):
        raise GalleryError(f"images must be 'stored' or 'reference', not {options.images!r}")
    if options.index not in get_args(IndexChoice):
        raise GalleryError(f"the index must be {' or '.join(get_args(IndexChoice))}, not {options.index!r}")
    if not windows or min(windows) < 1 or max(windows) > MAX_WINDOW:
        raise GalleryError(
            f"windows must be 1 to {MAX_WINDOW} tiles wide, found {', '.join(map(str, windows)) or 'none'}"
        )


@dataclass(frozen=True, slots=True)
class _Ingest:
    conn: Connection
    reader: GalleryReader
    options: _Options
    url: str
    model: Embedder
    model_name: str
    progress: Progress

    def run(self, workers: int, scheduler: str | None, started: float) -> IngestSummary:
        levels = self._levels()
        name, gallery = self._target()
        disk_bytes = self._state_disk(levels, gallery)
        source = str(self.options.source)
        load = TileLoad(self.conn, self.reader, name, source, self.options.images, gallery)
        with crew(workers, scheduler) as hands:
            pool, ahead = hands.pool, hands.ahead
            for level, rows in levels.items():
                load.run(pool, level, rows, ahead, self.progress)
            gallery = require_tiles(self.conn, load)
            sets = self._sets(gallery, list(levels))
            if any(each.index_kind is None for each in sets):
                galleries.analyze(self.conn)
            embedded = embed_gallery(
                self.conn, pool, self.url, gallery, sets, self.model, self.model_name,
                ahead=ahead, progress=self.progress,
            )  # fmt: skip
            # of all its levels: an upgrade of the schema may have forgotten maps that an earlier ingest made
            every = galleries.gallery_levels(self.conn, gallery.id)
            map_gallery(self.conn, pool, self.url, gallery, every, ahead=ahead, progress=self.progress)
        indexes = self._index(sets)
        self._finish(gallery)
        tiles = {level: galleries.count_tiles(self.conn, gallery.id, level)[0] for level in levels}
        seconds = round(time.monotonic() - started, 3)
        return IngestSummary(
            self.options.name, tiles, load.added, load.failures, embedded, indexes, disk_bytes, seconds
        )

    def _levels(self) -> dict[int, int]:
        """Return the rows of each level to ingest, lowest level first."""
        found, level = self.reader.levels(), self.options.level
        if not any(found.values()):
            raise GalleryError(f"{self.options.source} holds no tiles")
        if level is None:
            return dict(sorted(found.items()))
        if level not in found:
            raise GalleryError(f"{self.options.source} has no level {level}: it has {', '.join(map(str, found))}")
        return {level: found[level]}

    def _target(self) -> tuple[str, Gallery | None]:
        """Return the name to load under and the gallery that has it, after removing what killed replacements left."""
        name = self.options.name
        _delete(self.conn, galleries.find_gallery(self.conn, name + galleries.ASIDE), self.progress)
        if self.options.replace:
            name += galleries.NEXT
        gallery = galleries.find_gallery(self.conn, name)
        if gallery is None:
            return name, None
        problem = self._contradiction(gallery)
        if problem and self.options.replace:
            _delete(self.conn, gallery, self.progress)
            return name, None
        if problem:
            raise GalleryError(f"gallery {name!r} {problem}: use --replace, or another --name")
        return name, gallery

    def _contradiction(self, gallery: Gallery) -> str | None:
        """Say why a gallery cannot take the source's tiles, or None."""
        if gallery.grid != self.reader.grid:
            return f"is on grid {gallery.grid}, {self.options.source} on {self.reader.grid}"
        if gallery.images != self.options.images:
            return f"has its images {gallery.images}, not {self.options.images}"
        if gallery.source != str(self.options.source) and (gallery.images == "reference" or self.options.replace):
            return f"refers to the images in {gallery.source} and can have no second source"
        return None

    def _state_disk(self, levels: dict[int, int], gallery: Gallery | None) -> int:
        """Say and return the bytes that tiles, vectors and maps still missing will need, indexes included."""
        needed, index = 0, self.options.index
        for level, rows in levels.items():
            known = galleries.count_tiles(self.conn, gallery.id, level)[0] if gallery else 0
            if gallery:
                needed += vector_bytes(known, self.model.dimensions, len(self._new_windows(gallery, level)), index)
            if known < rows:
                share = 1 - known / rows
                image_bytes = self.reader.size_bytes(level) if self.options.images == "stored" else None
                needed += int(
                    share * disk_needed(rows, image_bytes, self.model.dimensions, self.options.windows, index)
                )
        if needed:
            self.progress.note(f"needs about {needed / 1e6:,.0f} MB of disk in the database")
        free = galleries.free_bytes(self.conn)
        if free is not None and free < needed:
            self.progress.note(f"warning: only {free / 1e6:,.0f} MB are free where the database is")
        return needed

    def _new_windows(self, gallery: Gallery, level: int) -> set[int]:
        """Return the widths of windows of which the gallery's tiles have no vectors by this model yet."""
        model = self.model.name, self.model.weights_hash
        sets = embeddings.list_sets(self.conn, gallery.id)
        here = {each.window_tiles for each in sets if (each.model, each.weights_hash, each.level) == (*model, level)}
        return set(self.options.windows) - here

    def _sets(self, gallery: Gallery, levels: list[int]) -> list[EmbeddingSet]:
        """Return the embedding sets to complete: those asked for, and those of this model that new tiles reopened."""
        model = self.model
        model_id = embeddings.register_model(self.conn, model.name, model.weights_hash, model.dimensions)
        for each in embeddings.list_sets(self.conn, gallery.id):
            if each.model_id != model_id and each.index_kind is None:
                self.progress.note(f"embeddings by {each.model} of level {each.level} are incomplete and not searched")
        return embeddings.ensure_sets(self.conn, gallery.id, model_id, levels, self.options.windows)

    def _index(self, sets: list[EmbeddingSet]) -> dict[str, str]:
        pending = [each for each in sets if each.index_kind is None]
        kinds = _complete(self.conn, self.url, pending, self.options.index, self.progress)
        return {f"{each.level}/{each.window_tiles}": kind for each, kind in zip(pending, kinds, strict=True)}

    def _finish(self, gallery: Gallery) -> None:
        if self.options.replace:
            galleries.replace_gallery(self.conn, gallery, self.options.name, self.progress)
        else:
            galleries.finish_gallery(self.conn, gallery.id)


def index_gallery(
    name: str, *, index: IndexChoice = "auto", url: str | None = None, progress: Progress | None = None
) -> dict[str, str]:
    """Build the indexes of a gallery anew, beside those that searches go on with meanwhile.

    Args:
        name: name of the gallery.
        index: how its vectors are to be searched: exact, hnsw, or auto by their number.
        url: database; None stands for RSLOC_DATABASE_URL or the embedded server.
        progress: where the work reports to.

    Returns:
        The index kind of each embedding set that is complete, keyed "model weights level/window".

    Raises:
        GalleryError: there is no such gallery, or it is being changed.
        ServerError: the database cannot be reached.
    """
    url = url or server.database_url()
    with closing(connect(url, autocommit=True)) as conn:
        require_schema(conn)
        with galleries.lock(conn, name):
            sets = embeddings.list_sets(conn, galleries.get_gallery(conn, name).id)
            ready = [each for each in sets if each.index_kind is not None]
            kinds = _complete(conn, url, ready, index, progress or Silent())
            names = [f"{s.model} {s.weights_hash[:8]} {s.level}/{s.window_tiles}" for s in ready]
            return dict(zip(names, kinds, strict=True))


def _complete(
    conn: Connection, url: str, sets: Sequence[EmbeddingSet], index: IndexChoice, progress: Progress
) -> list[str]:
    """Complete embedding sets, several at a time: pgvector before 0.8.2 builds an index on one core."""
    at_once = min(BUILDS, len(sets))
    bar = progress if at_once <= 1 else _OneTask(progress, sum(indexes.count_vectors(conn, of) for of in sets))
    builders: list[Connection] = []

    def complete(of: EmbeddingSet) -> str:
        with closing(connect(url, autocommit=True)) as builder, closing(connect(url, autocommit=True)) as watcher:
            builders.append(builder)
            return indexes.complete_set(builder, watcher, of, bar, index, at_once)

    with ThreadPoolExecutor(BUILDS) as pool:
        try:
            return list(pool.map(complete, sets))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for builder in builders:
                builder.cancel_safe()  # which does nothing where it is closed
            raise


class _OneTask(Silent):
    """A progress of several tasks at once, told as one."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        progress.task("indexes", total)

    def advance(self, steps: int = 1) -> None:
        """Say that some of it is done."""
        self._progress.advance(steps)

    def note(self, text: str) -> None:
        """Say something."""
        self._progress.note(text)


def _delete(conn: Connection, gallery: Gallery | None, progress: Progress) -> None:
    if gallery is not None:
        galleries.delete_gallery(conn, gallery.id, progress)


def disk_needed(
    tiles: int, image_bytes: int | None, dimensions: int, windows: Sequence[int], index: IndexChoice = "auto"
) -> int:
    """Estimate the bytes that a level takes in the database.

    Args:
        tiles: how many tiles it has.
        image_bytes: size of their encoded images; None where they are not stored.
        dimensions: length of a vector.
        windows: widths of the windows embedded.
        index: how the vectors are to be searched.
    """
    images = 0 if image_bytes is None else image_bytes + tiles * IMAGE_OVERHEAD_BYTES
    return images + tiles * (TILE_BYTES + MAP_BYTES) + vector_bytes(tiles, dimensions, len(windows), index)


def vector_bytes(tiles: int, dimensions: int, windows: int, index: IndexChoice = "auto") -> int:
    """Estimate the bytes of a level's vectors, ``windows`` a tile, and of their indexes."""
    vector = 2 * dimensions + VECTOR_OVERHEAD_BYTES
    if choose_index(tiles, index) == "hnsw":
        vector += 2 * dimensions + HNSW_OVERHEAD_BYTES
    return tiles * windows * vector
