"""A folder of images named z/x/y.png (or jpg, webp), as web maps serve them: Web Mercator, row 0 at the top."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rsloc_db.errors import GalleryError
from rsloc_db.gallery.reader import MAX_LEVEL, misplaced, tile_name
from rsloc_db.types import Cell, Failure, Tile

SUFFIXES = ("jpg", "jpeg", "png", "webp")
_SAMPLES = 500


class XYZReader:
    """A ``GalleryReader`` of a folder z/x/y. Tiles have no date; files of other names are left out."""

    kind = "xyz"
    grid = "web_mercator"
    attribution = ""

    def __init__(self, path: Path) -> None:
        """Read from a folder.

        Raises:
            GalleryError: it has no folder z/x of whole numbers.
        """
        self._path = path
        self._levels = {int(z): 0 for z in sorted(_numbers(path), key=int) if int(z) <= MAX_LEVEL}
        if not any(_numbers(path / str(level)) for level in self._levels):
            found = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
            raise GalleryError(f"{path}: expected a folder of images z/x/y.{'|'.join(SUFFIXES)}, found {found}")
        self._keys: dict[int, array[int]] = {}

    def levels(self) -> dict[int, int]:
        """Return the number of images of each level."""
        return {level: len(self._sorted(level)) for level in self._levels}

    def size_bytes(self, level: int) -> int:
        """Return the bytes of a level's images, estimated from some 500 spread over it."""
        keys = self._sorted(level)
        sizes = []
        for key in keys[:: max(1, len(keys) // _SAMPLES)]:
            path, _ = self._file(level, key)
            sizes.append(path.stat().st_size)
        return round(sum(sizes) / len(sizes) * len(keys)) if sizes else 0

    def tiles(self, level: int, after: tuple[int, int] | None = None) -> Iterator[Tile | Failure]:
        """Yield a level's tiles and failures ordered by row and column; see ``GalleryReader``."""
        for key in self._sorted(level):
            path, cell = self._file(level, key)
            if after is not None and (cell.row, cell.column) <= after:
                continue
            yield self._tile(path, cell)

    def _tile(self, path: Path, cell: Cell) -> Tile | Failure:
        if reason := misplaced(self.grid, cell):
            return Failure(tile_name(cell), reason)
        try:
            data = path.read_bytes()
        except OSError as error:
            return Failure(tile_name(cell), str(error))
        return Tile(cell, None, data) if data else Failure(tile_name(cell), f"{path} is empty")

    def read(self, cell: Cell, captured_at: datetime | None) -> bytes | None:
        """Return the image of a cell, or None if there is none; no tile has a date."""
        if captured_at is not None:
            return None
        stem = self._path / str(cell.level) / str(cell.column) / str(cell.row)
        found = (path.read_bytes() for suffix in SUFFIXES if (path := stem.with_suffix(f".{suffix}")).is_file())
        return next((data for data in found if data), None)

    def dates(self, cell: Cell) -> list[datetime | None]:
        """Return [None] for a cell with a tile, else []."""
        return [] if self.read(cell, None) is None else [None]

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _sorted(self, level: int) -> array[int]:
        """Return the images of a level as sorted numbers of 8 bytes, so that millions of them fit in memory."""
        if level not in self._levels:
            return array("q")
        if level not in self._keys:
            self._keys[level] = array("q", sorted(self._list(level)))
        return self._keys[level]

    def _list(self, level: int) -> Iterator[int]:
        for column in _numbers(self._path / str(level)):
            with os.scandir(self._path / str(level) / column) as entries:
                for entry in entries:
                    stem, _, suffix = entry.name.rpartition(".")
                    if stem.isdecimal() and suffix in SUFFIXES and max(int(stem), int(column)) < 1 << MAX_LEVEL:
                        yield (int(stem) << 32) + (int(column) << 2) + SUFFIXES.index(suffix)

    def _file(self, level: int, key: int) -> tuple[Path, Cell]:
        row, column, suffix = key >> 32, (key & 0xFFFFFFFF) >> 2, SUFFIXES[key & 3]
        return self._path / str(level) / str(column) / f"{row}.{suffix}", Cell(level, column, row)


def _numbers(path: Path) -> list[str]:
    """Return the names of the folders in a folder that are whole numbers."""
    return [entry.name for entry in path.iterdir() if entry.name.isdecimal() and entry.is_dir()]
