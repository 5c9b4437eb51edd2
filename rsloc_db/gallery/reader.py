"""What a gallery reader is, and what all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Protocol

from rsloc_db.grids import rows_on_earth
from rsloc_db.types import Cell, Failure, Tile

MAX_LEVEL = 30


class GalleryReader(Protocol):
    """A source of georeferenced tiles. It is read only; what is wrong with single tiles is yielded, not raised.

    Attributes:
        kind: ge_tiles, mbtiles, xyz or raster.
        grid: name of the grid its cells are of (``rsloc_db.grids``).
        attribution: whose imagery it is, as the source says; may be empty.
    """

    kind: str
    grid: str
    attribution: str

    def levels(self) -> dict[int, int]:
        """Return the number of tiles (rows, all dates) of each level."""

    def size_bytes(self, level: int) -> int:
        """Return the size of a level's encoded tiles in bytes, estimated from a sample."""

    def tiles(self, level: int, after: tuple[int, int] | None = None) -> Iterator[Tile | Failure]:
        """Yield a level's tiles ordered by row, column and date (without date first); memory stays flat.

        Args:
            level: a level of ``levels()``; another yields nothing.
            after: (row, column) of the last cell done; it and the cells before it are left out.

        Raises:
            GalleryError: the source as a whole cannot be read on.
        """

    def read(self, cell: Cell, captured_at: datetime | None) -> bytes | None:
        """Return the encoded tile of a cell and a date (None: the tile without one), or None if there is none."""

    def dates(self, cell: Cell) -> list[datetime | None]:
        """Return the dates of a cell's tiles, oldest first; [None] of a tile without date, [] where there is none."""

    def close(self) -> None:
        """Let go of the source."""


def tile_name(cell: Cell) -> str:
    """Return a tile's name as the RSLoc authors write it: level_column_row."""
    return f"{cell.level}_{cell.column}_{cell.row}"


def misplaced(grid: str, cell: Cell) -> str | None:
    """Say why a cell cannot hold imagery in a grid, or None where it can."""
    last, rows = 2**cell.level - 1, rows_on_earth(grid, cell.level)
    if not 0 <= cell.column <= last:
        return f"column {cell.column} is outside 0 to {last} of level {cell.level}"
    if cell.row not in rows:
        return f"row {cell.row} is outside {rows[0]} to {rows[-1]}, the rows of level {cell.level} on Earth"
    return None


def epoch_time(value: object) -> datetime | None:
    """Return the UTC time of epoch seconds; None of None.

    Raises:
        ValueError: it is not a number of seconds within the years 1 to 9999.
    """
    if value is None:
        return None
    try:
        return datetime.fromtimestamp(float(str(value)), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"expected a date in seconds since 1970 (UTC), found {value!r}") from error
