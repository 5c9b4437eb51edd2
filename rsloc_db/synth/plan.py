"""Which tiles and queries a synthetic gallery has: all of it follows from its arguments, nothing from what is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rsloc_db.errors import GalleryError
from rsloc_db.grids import TILE_PX, GoogleEarthGrid, cell_at, rows_on_earth
from rsloc_db.terrain import SEASONS, Box, Land, Look
from rsloc_db.terrain.noise import hashes, key, uniform

GRID = GoogleEarthGrid()
SIDE = 4
"""Tiles along a side of a block, which is drawn at once."""
SCENE = 4
"""Blocks along a side of a scene, which one sensor saw on one day."""
MIN_TILES = SIDE * SIDE
MAX_LAT_DEG = 70.0
_TWICE = 0.06
"""Share of blocks that are in the gallery on two dates."""
_GAP = 8
"""Blocks between the gallery and the places that it lacks."""
_MONTHS = {"spring": 4, "summer": 7, "autumn": 10}
GALLERY_YEARS, EARLIER_YEARS, QUERY_YEAR = (2014, 2019), (2009, 2013), 2022


@dataclass(frozen=True)
class Plan:
    """What there is to make.

    Attributes:
        tiles: rows of the gallery.
        seed: of all chance.
        level: zoom level.
        origin: lon, lat in degrees of the gallery's middle.
    """

    tiles: int
    seed: int
    level: int
    origin: tuple[float, float]

    def check(self) -> None:
        """Check the numbers.

        Raises:
            GalleryError: a number is out of its range, or the gallery would not be on Earth.
        """
        if self.tiles < MIN_TILES:
            raise GalleryError(f"--tiles is {self.tiles}: expected {MIN_TILES} or more")
        if not 10 <= self.level <= 20:
            raise GalleryError(f"--level is {self.level}: expected 10 to 20")
        lon, lat = self.origin
        if not (-180 <= lon < 180 and abs(lat) <= MAX_LAT_DEG):
            raise GalleryError(
                f"--origin is {lon:g},{lat:g}: expected lon,lat with a latitude of at most {MAX_LAT_DEG:g}"
            )
        column, row = self.corner
        rows = rows_on_earth(GRID.name, self.level)
        ends = column + 3 * self.across + _GAP, row + -(-self.blocks // self.across)
        if column < 0 or row * SIDE < rows[0] or ends[0] * SIDE > 2**self.level or ends[1] * SIDE > rows[-1]:
            raise GalleryError(
                f"{self.tiles:,} tiles of level {self.level} around {lon:g},{lat:g}, and as much land east of them "
                "that the gallery lacks, reach beyond the grid: move --origin, or make fewer --tiles"
            )

    @cached_property
    def land(self) -> Land:
        """The land that is drawn, square on the ground at the origin."""
        return Land(self.seed, round(np.cos(np.radians(self.origin[1])) * 256) / 256)

    @cached_property
    def across(self) -> int:
        """Blocks from west to east."""
        return int(np.ceil(np.sqrt(self.tiles / MIN_TILES / (1 + _TWICE))))

    @cached_property
    def corner(self) -> tuple[int, int]:
        """Column and row, in blocks, of the north-western block."""
        cell = cell_at(GRID, *self.origin, self.level)
        return cell.column // SIDE - self.across // 2, cell.row // SIDE - self.across // 2

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Rows of the gallery up to and with each block."""
        rows = -(-self.tiles // MIN_TILES // self.across)
        column, row = self.corner
        chance = uniform(
            hashes(key(self.seed, 70), np.arange(column, column + self.across), np.arange(row, row + rows + 1))
        )
        ends = np.cumsum(np.where(chance.ravel() < _TWICE, 2, 1) * MIN_TILES)
        return np.asarray(np.minimum(ends[: int(np.searchsorted(ends, self.tiles)) + 1], self.tiles))

    @cached_property
    def blocks(self) -> int:
        """How many blocks there are; they go from west to east, row by row from the north."""
        return len(self.ends)

    def rows(self, block: int) -> int:
        """Return how many rows of the gallery a block gives."""
        return int(self.ends[block]) - (int(self.ends[block - 1]) if block else 0)

    def place(self, block: int) -> tuple[int, int]:
        """Return column and row of a block, in blocks."""
        return self.corner[0] + block % self.across, self.corner[1] + block // self.across

    def box(self, block: int) -> Box:
        """Return a block's pixels."""
        (column, row), side = self.place(block), SIDE * TILE_PX
        return Box(column * side, row * side, side, side)

    def looks(self, block: int) -> list[tuple[Look, int]]:
        """Return when a block was seen and by what, with the date in UTC epoch seconds: one look or two."""
        scene = (self.place(block)[0] // SCENE, self.place(block)[1] // SCENE)
        rng = np.random.default_rng([self.seed, 71, *scene])
        season = int(rng.integers(len(SEASONS)))
        look = Look(int(rng.integers(GALLERY_YEARS[0], GALLERY_YEARS[1] + 1)), season, int(rng.integers(2)))
        other = Look(
            int(rng.integers(EARLIER_YEARS[0], EARLIER_YEARS[1] + 1)), (season + 1) % len(SEASONS), int(rng.integers(2))
        )
        days = rng.integers(1, 29, 2)
        both = [(look, _epoch(look, int(days[0]))), (other, _epoch(other, int(days[1])))]
        return both if self.rows(block) > MIN_TILES else both[:1]

    def present_box(self) -> Box:
        """Return the pixels of the block rows that the gallery has in full."""
        complete = self.blocks if self.rows(self.blocks - 1) >= MIN_TILES else self.blocks - 1
        rows, side = max(1, complete // self.across), SIDE * TILE_PX
        return Box(self.corner[0] * side, self.corner[1] * side, self.across * side, rows * side)

    def absent_box(self) -> Box:
        """Return the pixels of the land to the east that the gallery lacks."""
        here = self.present_box()
        return Box(here.x + here.width + _GAP * SIDE * TILE_PX, here.y, here.width, here.height)


def _epoch(look: Look, day: int) -> int:
    return int(datetime(look.year, _MONTHS[SEASONS[look.season]], day, tzinfo=UTC).timestamp())
