"""Gallery sources for tests: ge_tiles SQLite files of drawn tiles; and what tests of ingest share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import cv2
import numpy as np

import rsloc_db
from rsloc_db.db.connection import Connection
from rsloc_db.stages.ingest import IngestSummary
from rsloc_db.types import Image

LEVEL, COLUMN, ROW = 12, 2100, 1500
"""Upper left cell of the test galleries: 4.6 E, 48.2 N."""
DATE = 1_500_000_000
Row = tuple[int, int, int, int | None, bytes | None]


def jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


@cache
def picture(seed: int) -> bytes:
    """A JPEG tile of smooth noise, of a few kilobytes."""
    noise = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8)
    return jpeg(cv2.resize(noise, (256, 256), interpolation=cv2.INTER_CUBIC))


def rows(
    columns: Iterable[int], rows_: Iterable[int], *, level: int = LEVEL, date: int | None = DATE, seed: int = 0
) -> list[Row]:
    """Rows of tiles whose picture follows from cell and seed."""
    return [(level, x, y, date, picture(x * 100_003 + y * 101 + seed)) for y in rows_ for x in columns]


def square(size: int, **options: int) -> list[Row]:
    return rows(range(COLUMN, COLUMN + size), range(ROW, ROW + size), **options)


def write_ge_tiles(path: Path, tiles: Iterable[Row]) -> Path:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE ge_tiles (zoom_level int, tile_column int, tile_row int, time_ int, tile_data blob)")
        db.executemany("INSERT INTO ge_tiles VALUES (?, ?, ?, ?, ?)", tiles)
    db.close()
    return path


def ingest(source: Path, **options: object) -> IngestSummary:
    return rsloc_db.ingest(source, **{"workers": 1} | options)


def value(conn: Connection, statement: str, *values: object) -> object:
    row = conn.execute(statement, values).fetchone()
    conn.commit()
    return row[0] if row else None
