"""What lies where: the part of a drawn land that no season changes.

Sea and coast, rivers, ponds and woods are where smooth noises pass a threshold. Fields are strips of Voronoi regions.
Settlements lie at scattered points, which roads join. All of it is a pure function of place and seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db.terrain import noise
from rsloc_db.terrain.noise import STEP_PX, TABLE, Box, Field, Points
from rsloc_db.terrain.ways import draw_ways, ways

Ids = NDArray[np.intp]
Mask = NDArray[np.bool_]

MARGIN_PX = 32
"""What shadows, edges and blur may look at beyond a box."""
REGION_PX, PLACE_PX = 288, 480
"""Mean distance of the regions that fields are cut in, and of settlements; north-south pixels."""
_BEND_PX, _MOST_BENT_PX = 13.0, 40
_BUILT = 0.3
"""Density from which land is built up."""
_FAR = 6.0
"""Square of the distance, in radii, at which a settlement ends."""
_WIDEST_PX = 420.0
"""Greatest radius of a settlement."""

# materials above the parcels' own numbers
WOOD, HEDGE, WATER, SEA, SHORE, ROAD, LANE, GARDEN, YARD = (TABLE + i for i in range(9))
ROOF = TABLE + 16
ROOFS = 16
MATERIALS = TABLE + 32


@dataclass(frozen=True, slots=True)
class Land:
    """A drawn land without an end.

    Attributes:
        seed: which land.
        aspect: ground width of a pixel over its height: the cosine of the latitude, in steps of 1/256.
    """

    seed: int
    aspect: float

    def key(self, salt: int) -> int:
        """Return the seed of one of its layers."""
        return noise.key(self.seed, salt)

    def spacing(self, height_px: int) -> tuple[int, int]:
        """Return the columns and rows of a lattice that is square on the ground."""
        return round(height_px / self.aspect), height_px


@dataclass(frozen=True, slots=True)
class Layout:
    """A box of the land with its margin; every map is (H, W).

    Attributes:
        material: number of the parcel, or one of the materials above.
        parcel: number of the parcel, also where it is covered.
        furrow: position across the furrows, pixels.
        height: slow relief of about unit variance.
        shade: whether it lies in the shadow of a wood or a house.
        crown: grain of woods and gardens of about unit variance.
    """

    material: Ids
    parcel: Ids
    furrow: Field
    height: Field
    shade: Mask
    crown: Field


@dataclass(frozen=True, slots=True)
class _Fields:
    """Parcels and what they follow from; ``region`` is a number that the region keeps in every box."""

    parcel: Ids
    furrow: Field
    across: Field
    along: Field
    region: Ids
    hedge: Mask
    border: Mask


def draw_layout(land: Land, box: Box) -> Layout:
    """Lay out a box of the land and ``MARGIN_PX`` around it.

    Args:
        land: which land.
        box: which part of it.

    Returns:
        Maps of (box.height + 2 MARGIN_PX, box.width + 2 MARGIN_PX).
    """
    grown = box.grown(MARGIN_PX)
    height = _relief(land, grown)
    sea, water = height < 0, _waters(land, grown)
    fields = _fields(land, grown)
    places = noise.points(land.key(20), grown, land.spacing(PLACE_PX), land.spacing(3 * PLACE_PX))
    town = _towns(land, grown, places)
    paths = ways(land.key(25), grown, places, land.key(26), land.spacing(3360))
    roads = draw_ways(grown, paths, land.aspect)
    wood = _woods(land, grown, fields.parcel) & (town < _BUILT)
    crown = noise.grain(land.key(30), grown, 2) * np.float32(0.8) + noise.grain(land.key(31), grown, 1) * np.float32(
        0.5
    )
    material = _cover(land, grown, fields, wood, town, crown)
    material[water] = WATER
    material[(roads > 0) & ((material < ROOF) | (roads > 1))] = ROAD
    material[height < 0.012] = SHORE
    material[sea] = SEA
    tall = (material == WOOD) | (material >= ROOF) | (material == HEDGE)
    # the sun stands in the south-east
    shade = (np.roll(tall, (-1, -1), (0, 1)) | np.roll(tall, (-2, -1), (0, 1))) & ~tall
    return Layout(material, fields.parcel, fields.furrow, height, shade, crown)


def sea_share(land: Land, box: Box) -> float:
    """Return the share of a box that is sea."""
    return float((_elevation(land, *box.centers(STEP_PX)) < 0).mean())


def _elevation(land: Land, x: NDArray[np.int64], y: NDArray[np.int64]) -> Field:
    slow = noise.fractal(land.key(1), x, y, (26000, 9000), 0.6)
    quick = noise.fractal(land.key(2), x, y, (2600, 1000, 400, 160, 64), 0.5)
    return slow + np.float32(0.22) * quick + np.float32(1.35)


def _relief(land: Land, box: Box) -> Field:
    return noise.enlarge(_elevation(land, *box.centers(STEP_PX, 2)), STEP_PX, box, 2)


def _waters(land: Land, box: Box) -> Mask:
    """Return rivers, where a slow noise passes zero, and ponds."""
    x, y = box.centers(STEP_PX, 3)
    course = noise.fractal(land.key(3), x, y, (4200, 1100, 300), 0.45)
    down, right = np.gradient(course)
    slope = np.hypot(down, right) / STEP_PX + np.float32(2e-5)
    wide = np.float32(2.5) + 5 * np.clip(noise.smooth(land.key(4), x, y, 5000), 0, 2) ** 2
    pond = noise.enlarge(noise.fractal(land.key(5), x, y, (420, 120), 0.5), STEP_PX, box, 3)
    signed = noise.enlarge(course / slope, STEP_PX, box, 3)
    width = noise.enlarge(wide, STEP_PX, box, 3)
    return (np.abs(signed) < width) | (pond > 3.0)


def _woods(land: Land, box: Box, parcel: Ids) -> Mask:
    """Return woods: rounded ones where land is poor, and whole parcels."""
    x, y = box.centers(STEP_PX, 2)
    poor = forest(land, x, y)
    shape = noise.fractal(land.key(7), x, y, (420, 170, 64), 0.6) + np.float32(0.9) * poor
    depth = noise.enlarge(shape, STEP_PX, box, 2) + np.float32(0.12) * noise.grain(land.key(8), box, 8)
    share = noise.enlarge(np.clip(np.float32(0.06) + np.float32(0.05) * poor, 0.01, 0.3), STEP_PX, box, 2)
    return (depth > 1.5) | (chances(land, 9)[parcel] < share)


def forest(land: Land, x: NDArray[np.int64], y: NDArray[np.int64]) -> Field:
    """Return how wooded the land is, of unit variance: landscapes of 15 to 60 km."""
    return noise.fractal(land.key(6), x, y, (13000, 5200, 1900), 0.7)


@lru_cache(maxsize=64)
def chances(land: Land, salt: int) -> Field:
    """Return a random number in [0, 1) for every parcel's number."""
    return noise.uniform(noise.scramble(np.arange(TABLE, dtype=np.uint32) + np.uint32(land.key(salt))))


def _fields(land: Land, box: Box) -> _Fields:
    """Cut Voronoi regions with bent borders into strips along their own direction, and the strips into fields."""
    seeds = noise.points(land.key(10), box, land.spacing(REGION_PX), land.spacing(2 * REGION_PX))
    x, y = _bent(land, box)
    region = _regions(land, box, seeds, x, y)
    x -= _relative(seeds.x, box.x)[region]
    y -= _relative(seeds.y, box.y)[region]
    x *= np.float32(land.aspect)
    open_ = _landscape(land, seeds)
    turn = np.pi * seeds.chance(1)
    cos, sin = np.cos(turn).astype(np.float32)[region], np.sin(turn).astype(np.float32)[region]
    across, along = x * cos + y * sin, y * cos - x * sin
    wide = ((10 + 26 * open_) * (1 + 1.2 * seeds.chance(2))).astype(np.float32)[region]
    long = ((36 + 80 * open_) * (0.7 + 0.8 * seeds.chance(3))).astype(np.float32)[region]
    number = (seeds.number % TABLE).astype(np.intp)[region]
    parcel = _parcels(land, number, across / wide, along / long)
    furrow = np.where((chances(land, 13) < 0.7)[parcel], across, along)
    hedge, hedged = _steps(parcel), np.clip(0.75 - 0.75 * open_, 0, 1) * (0.5 + seeds.chance(4))
    rim = np.flatnonzero(hedge)
    hedge.flat[rim] = chances(land, 17)[parcel.flat[rim]] < hedged[region.flat[rim]]
    return _Fields(parcel, furrow, across, along, number, hedge, _steps(region))


def _parcels(land: Land, region: Ids, strip: Field, field: Field) -> Ids:
    """Return the number of each parcel: hashes of its region, its strip and its place in that, chained by a table."""
    mixed, joined, shift = _chain(land)
    start = joined[_whole(strip, region)]
    return mixed[_whole(field + shift[start], start)]


@lru_cache(maxsize=4)
def _chain(land: Land) -> tuple[Ids, Ids, Field]:
    """Return tables for numbers: well mixed; the same, but some strips join their neighbour; where fields begin."""
    numbers = np.arange(TABLE, dtype=np.uint32) + np.uint32(land.key(11))
    mixed: Ids = (noise.scramble(numbers) % TABLE).astype(np.intp)
    chance = chances(land, 12)
    return mixed, mixed[(mixed - (chance[mixed] < 0.3)) % TABLE], chance


def _whole(position: Field, first: Ids) -> Ids:
    """Return the whole part of a position, counted on from a first number, within the tables."""
    # by way of 32 bits, which converts ten times as fast
    number: Ids = np.floor(position).astype(np.int32).astype(np.intp)
    number += first
    number &= TABLE - 1
    return number


def _landscape(land: Land, seeds: Points) -> Field:
    """Return how open the land is around each seed, 0 (small hedged fields) to 1 and above (large open ones)."""
    slow = _read(land.key(14), (15000, 6000, 2200), seeds)
    return np.asarray(np.clip(0.5 + 0.45 * slow + 0.3 * (seeds.chance(5) - 0.5), 0, 1.6), np.float32)


def _read(seed: int, spacings_px: tuple[int, ...], at: Points) -> Field:
    """Return a slow noise at points, to the nearest of steps of 64 px."""
    step = 64
    column, row = (at.x // step).astype(int), (at.y // step).astype(int)
    left, top = int(column.min()), int(row.min())
    x, y = (np.arange(each.min(), each.max() + 1) * step for each in (column, row))
    return np.asarray(noise.fractal(seed, x, y, spacings_px, 0.7)[row - top, column - left])


def _bent(land: Land, box: Box) -> tuple[Field, Field]:
    """Return the coordinates of the box's pixels, bent, from its corner, in steps of 1/16 px to be exact."""
    x, y = box.centers(STEP_PX, 2)
    bends = []
    for salt in (15, 16):
        bend = noise.fractal(land.key(salt), x, y, (260, 110), 0.4) * np.float32(_BEND_PX)
        bend = noise.enlarge(bend, STEP_PX, box, 2)
        bends.append(np.round(np.clip(bend, -_MOST_BENT_PX, _MOST_BENT_PX) * 16) / np.float32(16))
    across, down = np.arange(box.width, dtype=np.float32), np.arange(box.height, dtype=np.float32)
    return bends[0] + across, bends[1] + down[:, None]


def _relative(at: NDArray[np.float64], first: int) -> Field:
    """Return coordinates from a box's corner; exact, as both are multiples of 1/8 px."""
    return np.asarray(at - first, np.float32)


def _regions(land: Land, box: Box, seeds: Points, x: Field, y: Field) -> Ids:
    """Return the index of the seed that is nearest to each bent pixel, to the pixel."""
    around = box.grown(3 * STEP_PX)
    plain = _nearest(around, seeds, land.aspect)
    place = np.rint(y).astype(np.int32) * around.width + np.rint(x).astype(np.int32)
    place += 3 * STEP_PX * (around.width + 1)
    return np.asarray(plain.ravel()[place.astype(np.intp)])


def _nearest(box: Box, seeds: Points, aspect: float) -> Ids:
    """Return the index of the seed that is nearest to each pixel."""
    best = np.full((box.height, box.width), np.inf, np.float32)
    region = np.zeros(best.shape, np.intp)
    # with the lattice's jitter no place is farther from a seed
    reach_y, reach_x = round(1.3 * REGION_PX), round(1.3 * REGION_PX / aspect)
    across, down = np.arange(box.width, dtype=np.float32), np.arange(box.height, dtype=np.float32)
    for i, (px, py) in enumerate(zip(_relative(seeds.x, box.x), _relative(seeds.y, box.y), strict=True)):
        top, left = max(0, int(py) - reach_y), max(0, int(px) - reach_x)
        if py + reach_y <= 0 or px + reach_x <= 0 or top >= box.height or left >= box.width:
            continue
        rows, columns = slice(top, int(py) + reach_y), slice(left, int(px) + reach_x)
        away = ((across[columns] - px) * np.float32(aspect)) ** 2 + (down[rows, None] - py) ** 2
        closer = away < best[rows, columns]
        np.copyto(best[rows, columns], away, where=closer)
        np.copyto(region[rows, columns], i, where=closer)
    return region


def _towns(land: Land, box: Box, places: Points) -> Field:
    """Return how built-up the land is: above ``_BUILT`` is a settlement."""
    x, y = box.centers(STEP_PX, 2)
    total = np.zeros((len(y), len(x)), np.float32)
    crowd = _read(land.key(21), (14000, 5000), places)
    size = 14 + 34 * places.chance(1) + 380 * np.clip(places.chance(2) + 0.05 * crowd - 0.06, 0, 1) ** 14
    for px, py, radius in zip(places.x, places.y, np.minimum(size, _WIDEST_PX), strict=True):
        away = (((x - px) * land.aspect)[None] ** 2 + ((y - py) ** 2)[:, None]) / float(radius) ** 2
        if away.min() < _FAR:
            # nothing beyond, so that it does not matter to which places a box comes near
            total += np.where(away < _FAR, np.exp(-away), 0).astype(np.float32)
    ragged = noise.fractal(land.key(22), x, y, (120, 48, 32), 0.8)
    return noise.enlarge(total * np.exp(np.float32(1.0) * ragged), STEP_PX, box, 2)


def _cover(land: Land, box: Box, fields: _Fields, wood: Mask, town: Field, crown: Field) -> Ids:
    """Put hedges, lanes, woods and settlements over the parcels."""
    material = fields.parcel.copy()
    hedge = (fields.hedge & (crown > -1.1)).astype(np.uint8)
    material[cv2.dilate(hedge, np.ones((2, 2), np.uint8)) > 0] = HEDGE
    lane = fields.border & (chances(land, 18)[fields.parcel] < 0.8)
    material[lane] = LANE
    material[wood] = WOOD
    _build(land, fields, material, town, crown)
    return material


def _build(land: Land, fields: _Fields, material: Ids, town: Field, crown: Field) -> None:
    """Put streets, gardens and roofs in rows over the built-up land; works and their large roofs stand apart."""
    built = np.flatnonzero(town > _BUILT)
    region, dense = fields.region.flat[built], town.flat[built]
    u, v = fields.across.flat[built] / np.float32(4.6), fields.along.flat[built] / np.float32(6)
    column, row = np.floor(u).astype(np.intp), np.floor(v).astype(np.intp)
    chance = chances(land, 23)
    house = _house(region + 7919 * column + 28657 * row)
    yard = _house(region + 4801 * (column >> 3) + 3571 * (row >> 2))
    cover = np.where(crown.flat[built] > 1.3, WOOD, GARDEN)
    stands = chance[house] < np.clip(np.float32(0.3) + np.float32(0.4) * dense, 0, 0.9)
    inside = (u - column < 0.45 + 0.5 * chance[house ^ 256]) & (v - row < 0.4 + 0.5 * chance[house ^ 512])
    np.copyto(cover, ROOF + (chance[house ^ 1024] * 12).astype(np.intp), where=stands & inside)
    works = (chance[yard] < 0.1) & (dense < 0.9)
    hall = (column % 8 > 1) & (row % 4 > 0) & (chance[yard ^ 256] < 0.7)
    cover = np.where(works, np.where(hall, ROOF + 12, YARD), cover)
    street = ((column % 7 == 0) & (u - column < 0.55)) | ((row % 4 == 0) & (v - row < 0.45))
    # the outermost plots are fields still
    taken = chance[house ^ 2048] < np.float32(1.3) * dense
    material.flat[built] = np.where(street & (dense > 0.5), ROAD, np.where(taken, cover, material.flat[built]))


def _house(number: Ids) -> Ids:
    return (noise.scramble(number.astype(np.uint32)) % TABLE).astype(np.intp)


def _steps(ids: Ids) -> Mask:
    """Return where a pixel's number differs from its left or upper neighbour's."""
    edge = np.zeros(ids.shape, bool)
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    return edge
