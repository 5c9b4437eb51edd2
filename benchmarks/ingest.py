"""What the phases of ingest take beside what they cannot be faster than, in one run: a table of times and ratios.

    python benchmarks/ingest.py out/small/Gallery/galleryL15.db --tiles 10000
    python benchmarks/random_network.py out/random.onnx
    python benchmarks/ingest.py out/small/Gallery/galleryL15.db --tiles 1000 --model onnx:out/random.onnx

SOURCE is a ge_tiles file; --tiles takes so many of its rows. All is done in a database of its own, which is dropped at
the end. Workers are started before the clock is. "Busy" is the share of the time that workers computed, or would have
if nothing else had had the processor. The floors: reading the source and a binary COPY into one plain table, COPY_TILES
tiles a transaction, images out of line and not compressed; the embedder's arithmetic alone on windows that are there;
decoding, cutting and embedding without a database; decoding and gradient maps without a database. The last three in as
many processes as ingest has.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import ingest_floors as floors
from databases import database
from reporting import commit

from rsloc_db.config import settings
from rsloc_db.db import embeddings, galleries
from rsloc_db.db.connection import Connection, connect
from rsloc_db.gallery import open_gallery
from rsloc_db.gallery.ge_tiles_file import GeTilesFile
from rsloc_db.models import DEFAULT, embedder
from rsloc_db.stages import ingest
from rsloc_db.stages.embed import embed_gallery
from rsloc_db.stages.ingest_tiles import TileLoad
from rsloc_db.stages.maps import BLOCK_TILES, map_gallery
from rsloc_db.stages.workers import Crew, crew
from rsloc_db.types import Silent, Tile

COPY_TILES = 2000
FLOOR_BLOCK = 64
"""Cells a side of what a bare loop decodes at a time: windows at its rim, one in thirty, lack neighbours."""
PLAIN = "CREATE TABLE plain (level int2, tile_column int4, tile_row int4, captured_at timestamptz, data bytea)"


def _part(source: Path, tiles: int | None, folder: Path) -> Path:
    """Return the source, or a file of its first rows."""
    if tiles is None:
        return source
    with closing(sqlite3.connect(source)) as db, GeTilesFile(folder / "part.db") as part:
        part.add(db.execute("SELECT * FROM ge_tiles ORDER BY rowid LIMIT ?", (tiles,)))
    return folder / "part.db"


def _copy_plain(url: str, source: Path, level: int) -> Took:
    """Read the source as ingest does and COPY it into a plain table."""
    with closing(connect(url, autocommit=True)) as conn, closing(open_gallery(source, level=level)) as reader:
        conn.execute(PLAIN)
        conn.execute("ALTER TABLE plain ALTER data SET STORAGE EXTERNAL")
        tiles = reader.tiles(level)
        started = time.monotonic()
        while _copy_some(conn, tiles):
            pass
        return Took(time.monotonic() - started)


def _copy_some(conn: Connection, tiles: Iterator[object]) -> int:
    done = 0
    with conn.cursor().copy("COPY plain FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(("int2", "int4", "int4", "timestamptz", "bytea"))
        for done, tile in enumerate(tiles, 1):
            if isinstance(tile, Tile):
                copy.write_row((tile.cell.level, tile.cell.column, tile.cell.row, tile.captured_at, tile.data))
            if done == COPY_TILES:
                break
    return done


@dataclass(frozen=True, slots=True)
class Took:
    """What some work took: seconds, the workers' processor time, and how busy they were, 0 to 1."""

    seconds: float
    cpu_s: float = 0.0
    busy: float = 0.0


def _worker_times() -> tuple[float, float]:
    """Return how long all workers have been running, and waiting for a processor that something else had."""
    lines = [Path(f"/proc/{each.pid}/schedstat").read_text() for each in active_children()]
    running, waiting = (sum(int(line.split()[i]) for line in lines) / 1e9 for i in (0, 1))
    return running, waiting


def _timed(work: Callable[[], object], workers: int) -> Took:
    started, (running, waiting) = time.monotonic(), _worker_times()
    work()
    seconds, (ran, waited) = time.monotonic() - started, _worker_times()
    return Took(seconds, ran - running, (ran - running + waited - waiting) / seconds / workers)


def _index(url: str, sets: Sequence[embeddings.EmbeddingSet]) -> Took:
    started = time.monotonic()
    with closing(connect(url, autocommit=True)) as conn:
        ingest._complete(conn, url, sets, "hnsw", Silent())
    return Took(time.monotonic() - started)


class Bench:
    """The phases of one ingest, each with its floors, and the lines of the table."""

    def __init__(self, url: str, conn: Connection, source: Path, hands: Crew, workers: int, model: str) -> None:
        self.url, self.conn, self.source, self.hands, self.workers = url, conn, source, hands, workers
        self.model = model
        with closing(open_gallery(source)) as reader:
            self.level, self.rows = next(iter(reader.levels().items()))

    def run(self) -> None:
        """Print the table."""
        print("| work | s | ms a tile | busy | workers' CPU s | floor | s | CPU s | ratio | of CPU |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        list(self.hands.pool.map(partial(floors.wait_a_little, self.model), [2.0] * self.workers))
        self._tiles()
        gallery = galleries.get_gallery(self.conn, "bench")
        model = embedder(self.model)
        model_id = embeddings.register_model(self.conn, model.name, model.weights_hash, model.dimensions)
        sets = embeddings.ensure_sets(self.conn, gallery.id, model_id, [self.level], floors.WIDTHS)
        galleries.analyze(self.conn)
        self._windows(gallery, sets)
        self._maps(gallery)
        built = _index(self.url, sets)
        self._line("both HNSW indexes", built, f"{len(sets) * self.rows / built.seconds:,.0f} rows a second")

    def _tiles(self) -> None:
        floor = _copy_plain(self.url, self.source, self.level)
        galleries.prepare_session(self.conn)
        with closing(open_gallery(self.source, level=self.level)) as reader:
            load = TileLoad(self.conn, reader, "bench", str(self.source), "stored", None)
            pool, ahead = self.hands.pool, self.hands.ahead
            took = _timed(lambda: load.run(pool, self.level, self.rows, ahead, Silent()), self.workers)
        self._line("tiles", took, "read and COPY", floor)

    def _windows(self, gallery: galleries.Gallery, sets: Sequence[embeddings.EmbeddingSet]) -> None:
        count = len(sets) * self.rows // self.workers
        pool, blocks = self.hands.pool, floors.blocks(self.source, self.level, FLOOR_BLOCK)
        bare = _timed(
            lambda: list(pool.map(partial(floors.embed_ready, self.model), [count] * self.workers)), self.workers
        )
        loop = _timed(lambda: list(pool.map(partial(floors.embed_tiles, self.model), blocks)), self.workers)
        self._line("  decode, cut, embed, no database", loop, "embedder's arithmetic", bare)
        took = _timed(
            lambda: embed_gallery(
                self.conn, pool, self.url, gallery, sets, embedder(self.model), self.model,
                ahead=self.hands.ahead, progress=Silent(),
            ),
            self.workers,
        )  # fmt: skip
        self._line("windows", took, "embedder's arithmetic", bare)
        self._line("windows", took, "decode, cut, embed, no database", loop)

    def _maps(self, gallery: galleries.Gallery) -> None:
        pool, blocks = self.hands.pool, floors.blocks(self.source, self.level, BLOCK_TILES)
        loop = _timed(lambda: list(pool.map(floors.map_tiles, blocks)), self.workers)
        levels = [self.level]
        took = _timed(
            lambda: map_gallery(
                self.conn, pool, self.url, gallery, levels, ahead=self.hands.ahead, progress=Silent()
            ),
            self.workers,
        )  # fmt: skip
        self._line("gradient maps", took, "decode, maps, no database", loop)

    def _line(self, name: str, took: Took, floor: str, least: Took | None = None) -> None:
        cells = [name, f"{took.seconds:.1f}", f"{1000 * took.seconds / self.rows:.2f}"]
        cells += [f"{took.busy:.0%}", f"{took.cpu_s:.1f}"] if took.cpu_s else ["", ""]
        cells += [floor]
        if least is not None:
            cells += [f"{least.seconds:.1f}", f"{least.cpu_s:.1f}" if least.cpu_s else ""]
            cells += [f"{took.seconds / least.seconds:.2f}"]
            cells += [f"{took.cpu_s / least.cpu_s:.2f}" if least.cpu_s else ""]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--tiles", type=int)
    parser.add_argument("--model", default=DEFAULT)
    arguments = parser.parse_args()
    workers = settings().workers
    with tempfile.TemporaryDirectory() as folder, database() as url:
        source = _part(arguments.source, arguments.tiles, Path(folder))
        with closing(connect(url, autocommit=True)) as conn, crew(workers) as hands:
            bench = Bench(url, conn, source, hands, workers, arguments.model)
            print(f"{bench.rows} tiles, model {arguments.model}, {workers} processes, commit {commit()}\n")
            bench.run()


if __name__ == "__main__":
    main()
