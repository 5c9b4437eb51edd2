"""Synthetic galleries of any size in the form of RSLoc's: drawn land, so that scale can be tried without imagery."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from rsloc_db.config import settings
from rsloc_db.errors import GalleryError
from rsloc_db.gallery.ge_tiles_file import GeRow, GeTilesFile
from rsloc_db.grids import TILE_PX
from rsloc_db.stages.workers import in_order, worker_pool
from rsloc_db.synth.plan import MIN_TILES, SIDE, Plan
from rsloc_db.synth.queries import SETS, plan_queries, write_query, write_table
from rsloc_db.terrain import Box, Land, Look, draw_layout, paint
from rsloc_db.types import Image, Json, Progress, Silent

VERSION = 1
"""Of what is drawn: count it up when that changes, so that no file holds the work of two versions."""
NOTE = "synth.json"
"""File that says what a folder was made with."""
ORIGIN = (2.5, 47.0)
TILE_BYTES = 17_000
"""Room for a tile in the file, rather too much than too little."""
QUERY_BYTES = 3_000_000
JPEG_QUALITY = 85
GROUP = 8
"""Blocks that are stored in one transaction."""


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A synthetic gallery that was made.

    Attributes:
        gallery: its file.
        queries: folders of its query sets; the CSV of each lies beside it.
        tiles: rows of the gallery.
        added: those that were not there before.
        gallery_bytes: size of its file.
        seconds: time taken.
    """

    gallery: Path
    queries: tuple[Path, ...]
    tiles: int
    added: int
    gallery_bytes: int
    seconds: float

    def as_dict(self) -> Json:
        """Return it as a JSON object."""
        return {**asdict(self), "gallery": str(self.gallery), "queries": [str(each) for each in self.queries]}


@dataclass(frozen=True, slots=True)
class _Block:
    """What a worker needs to draw a block, and whether it is the last one of its transaction."""

    ends_group: bool
    land: Land
    level: int
    box: Box
    looks: list[tuple[Look, int]]
    rows: int


def synthesize(
    out: str | Path,
    *,
    tiles: int,
    seed: int = 0,
    level: int = 15,
    origin: tuple[float, float] = ORIGIN,
    queries: int = 10,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Synthetic:
    """Draw a gallery and two query sets in RSLoc's own form; run again, it goes on where it was stopped.

    The land is a pure function of place and seed: equal arguments make equal files, byte for byte, with any number of
    workers. One pixel of the level is the unit of all that is drawn, so another level shows another land.

    Args:
        out: folder to write Gallery/galleryL{level}.db and RSimages/{present,absent} to: new, empty, or of an earlier
            run with the same arguments.
        tiles: rows of the gallery, at least 16; a few cells have two dates.
        seed: of all chance.
        level: zoom level.
        origin: lon, lat in degrees (EPSG:4326) of the gallery's middle.
        queries: images in each query set; those in "absent" show land that the gallery lacks.
        workers: processes; None stands for RSLOC_WORKERS or all cores.
        progress: where to report to.

    Raises:
        GalleryError: an argument is out of range, the folder holds something else, or the disk is too small.
        WorkerError: a worker process died.
    """
    started = time.monotonic()
    plan, folder, bar = Plan(tiles, seed, level, origin), Path(out), progress or Silent()
    plan.check()
    if queries < 0:
        raise GalleryError(f"--queries is {queries}: expected 0 or more")
    count = workers or settings().workers
    gallery = folder / "Gallery" / f"galleryL{level}.db"
    sets = {name: plan_queries(plan, name, queries, folder / "RSimages" / name) for name in SETS}
    _check_disk(folder, gallery, tiles * TILE_BYTES + 2 * queries * QUERY_BYTES)
    with _claim(folder, plan, queries), worker_pool(count) as pool:
        gallery.parent.mkdir(exist_ok=True)
        with GeTilesFile(gallery) as file:
            before = file.rows()
            blocks = _missing(plan, before, gallery)
            bar.task("draw tiles", total=tiles, done=before)
            _fill(file, in_order(pool, _draw, blocks, ahead=3 * count), bar)
            file.finish()
        bar.task("draw queries", total=2 * queries)
        for name, planned in sets.items():
            (folder / "RSimages" / name).mkdir(parents=True, exist_ok=True)
            for _ in in_order(pool, write_query, planned, ahead=2 * count):
                bar.advance()
            write_table(folder / "RSimages" / f"{name}.csv", planned)
    made = tuple(folder / "RSimages" / name for name in SETS)
    seconds = round(time.monotonic() - started, 3)
    return Synthetic(gallery, made, tiles, tiles - before, gallery.stat().st_size, seconds)


@contextmanager
def _claim(folder: Path, plan: Plan, queries: int) -> Iterator[None]:
    """Make the folder this run's own: it is new, empty, or of equal arguments, and nobody else is at it."""
    wanted = {"version": VERSION, **asdict(plan), "origin": list(plan.origin), "queries": queries}
    note = folder / NOTE
    if folder.exists() and not folder.is_dir():
        raise GalleryError(f"{folder} is no folder: name another one")
    if folder.is_dir() and any(folder.iterdir()) and not note.exists():
        raise GalleryError(f"{folder} holds something else: name a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    with note.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GalleryError(f"{folder}: another process is drawing it: wait for it, or stop it") from error
        file.seek(0)
        found = file.read()
        if not found:
            file.write(json.dumps(wanted) + "\n")
            file.flush()
        elif found.strip() != json.dumps(wanted):
            raise GalleryError(
                f"{folder} is of other arguments: found {found.strip()}, expected {json.dumps(wanted)}: "
                "name another folder"
            )
        yield


def _missing(plan: Plan, rows: int, gallery: Path) -> Iterator[_Block]:
    """Return the blocks that a gallery of so many rows lacks."""
    first = int(np.searchsorted(plan.ends, rows, side="right"))
    if rows != (int(plan.ends[first - 1]) if first else 0):
        raise GalleryError(f"{gallery}: {rows:,} rows are not what a run leaves behind: delete the file")
    return (
        _Block(
            number % GROUP == GROUP - 1 or number == plan.blocks - 1,
            plan.land,
            plan.level,
            plan.box(number),
            plan.looks(number),
            plan.rows(number),
        )
        for number in range(first, plan.blocks)
    )


def _check_disk(folder: Path, gallery: Path, whole_bytes: int) -> None:
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    needed = whole_bytes - (gallery.stat().st_size if gallery.exists() else 0)
    free = shutil.disk_usage(there).free
    if free < needed:
        raise GalleryError(
            f"{folder} needs about {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free: make room, or fewer --tiles"
        )


def _fill(file: GeTilesFile, drawn: Iterable[tuple[_Block, list[GeRow]]], bar: Progress) -> None:
    group: list[GeRow] = []
    for block, rows in drawn:
        group += rows
        bar.advance(len(rows))
        if block.ends_group:
            file.add(group)
            group = []


def _draw(block: _Block) -> list[GeRow]:
    """Draw a block's tiles: row by row from the north, first of one date, then of the other."""
    layout, box = draw_layout(block.land, block.box), block.box
    rows: list[GeRow] = []
    for look, time_ in block.looks:
        image = paint(block.land, box, layout, look)
        for place in range(min(block.rows - len(rows), MIN_TILES)):
            y, x = divmod(place, SIDE)
            part = image[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX]
            rows.append((block.level, box.x // TILE_PX + x, box.y // TILE_PX + y, time_, _jpeg(part)))
    return rows


def _jpeg(image: Image) -> bytes:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()
