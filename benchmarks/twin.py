"""Enlarge a drawn gallery up to eight times: its land once more, mirrored and turned by quarters.

    rsloc-db synth out/country --tiles 103104 --seed 3 --queries 100
    python benchmarks/twin.py out/country/Gallery/galleryL15.db --tiles 824796

Every tile of a copy is decoded, moved and encoded again, so that to the embedder and to the gradient maps it is other
land, in a tenth of the time that drawing takes. A copy is as continuous as what was drawn. Two lie west of it,
the others lie south, so that the land that the gallery lacks, in the east, stays lacking. Run again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from rsloc_db.gallery.ge_tiles_file import GeRow, GeTilesFile
from rsloc_db.stages.maps import BLOCK_TILES
from rsloc_db.stages.workers import in_order
from rsloc_db.synth import JPEG_QUALITY, NOTE

COPIES, BATCH = 8, 512


@dataclass(frozen=True)
class Square:
    """Cells of the drawn land: its north-western one, and how many a side holds them all."""

    column: int
    row: int
    side: int


def main() -> None:
    """Add the rows and print how many and how fast."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path, help="as rsloc-db synth drew it, in its folder")
    parser.add_argument("--tiles", type=int, required=True, help="rows that the gallery is to have")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    drawn = int(json.loads((arguments.gallery.parent.parent / NOTE).read_text())["tiles"])
    started = time.perf_counter()
    with (
        closing(sqlite3.connect(f"file:{arguments.gallery}?mode=ro", uri=True)) as source,
        GeTilesFile(arguments.gallery) as file,
        ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("spawn")) as pool,
    ):
        before = file.rows()
        if not drawn <= before <= arguments.tiles <= COPIES * drawn:
            parser.error(
                f"--tiles is {arguments.tiles}: expected {before} to {COPIES * drawn}, {COPIES} x what is drawn"
            )
        work = partial(copied, square=_square(source, drawn))
        originals = _originals(source, drawn, before, arguments.tiles)
        for _, rows in in_order(pool, work, originals, ahead=3 * arguments.workers):
            file.add(rows)
        file.finish()
    seconds = time.perf_counter() - started
    print(f"{arguments.tiles - before:,} tiles in {seconds:.0f} s, {(arguments.tiles - before) / seconds:.0f} a second")


def _square(source: sqlite3.Connection, drawn: int) -> Square:
    ends = "min(tile_column), min(tile_row), max(tile_column), max(tile_row)"
    left, top, right, bottom = source.execute(f"SELECT {ends} FROM ge_tiles WHERE rowid <= ?", (drawn,)).fetchone()
    return Square(left, top, max(right - left, bottom - top) + 1)


def _originals(source: sqlite3.Connection, drawn: int, first: int, end: int) -> Iterator[tuple[int, list[GeRow]]]:
    """Yield which copy the rows from ``first`` on belong to, and what they are copies of, in batches."""
    columns = "zoom_level, tile_column, tile_row, time_, tile_data"
    while first < end:
        copy, row = divmod(first, drawn)
        last = min(row + BATCH, drawn, row + end - first)
        wanted = f"SELECT {columns} FROM ge_tiles WHERE rowid > ? AND rowid <= ? ORDER BY rowid"
        yield copy, source.execute(wanted, (row, last)).fetchall()
        first += last - row


def copied(job: tuple[int, list[GeRow]], square: Square) -> list[GeRow]:
    """Return the tiles of a copy, 1 to 7, of the drawn land; its bits say which axes are mirrored and swapped."""
    copy, originals = job
    cv2.setNumThreads(1)
    # whole blocks of gradient maps
    apart = (-(-square.side // BLOCK_TILES) + 1) * BLOCK_TILES
    rows = []
    for level, column, row, time_, data in originals:
        tile = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        x, y = column - square.column, row - square.row
        if copy & 1:
            tile, x = tile[:, ::-1], square.side - 1 - x
        if copy & 2:
            tile, y = tile[::-1], square.side - 1 - y
        if copy & 4:
            tile, x, y = tile.transpose(1, 0, 2), y, x
        _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(tile), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        place = square.column + x - (copy % 3) * apart, square.row + y + (copy // 3) * apart
        rows.append((level, *place, time_, encoded.tobytes()))
    return rows


if __name__ == "__main__":
    main()
