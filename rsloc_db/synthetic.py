"""Synthetic aerial land: fields, roads, a river, woods and villages, drawn by code from a seed.

The layout follows from ``seed`` alone and the colours and textures from ``season``, so two seasons of one seed are two
dates of one place. One pixel stands for about four metres. For tests, demonstrations and fits that must not depend on
anybody's imagery.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db.types import Image

_Map = NDArray[np.float32]
_Ids = NDArray[np.int64]
_Mask = NDArray[np.bool_]

_CROPS = np.array(
    # bare soil, stubble, ripe grain, young green, meadow, maize, ploughed, fallow
    [
        [150, 122, 96], [176, 157, 118], [196, 174, 122], [112, 138, 76],
        [98, 124, 74], [74, 104, 62], [122, 98, 80], [140, 138, 104],
    ],
    np.float32,
)  # fmt: skip
_WOODS = np.array([[46, 66, 42], [62, 72, 46], [78, 72, 54]], np.float32)
_WATER = np.array([[46, 62, 72], [62, 78, 78], [92, 92, 76]], np.float32)
_ROADS = np.array([[186, 180, 170], [168, 164, 158], [150, 148, 142]], np.float32)
_GARDEN = np.array([104, 110, 86], np.float32)
_ROOFS = np.array([[168, 106, 84], [188, 184, 180], [134, 122, 114], [214, 210, 206]], np.float32)


@dataclass(frozen=True)
class _Layout:
    """What does not change with the season; every map is (size, size)."""

    parcel: _Ids
    furrow: _Map
    hedge: _Mask
    road: _Mask
    water: _Mask
    wood: _Mask
    roof: _Mask
    roof_id: _Ids
    garden: _Mask
    height: _Map


def land(size_px: int, seed: int, season: int = 0) -> Image:
    """Draw a square piece of land.

    Args:
        size_px: width and height in pixels of about four metres.
        seed: which place; the same seed gives the same layout at the same size.
        season: which date; it changes crops, furrows, woods, water, light and haze, never the layout.

    Returns:
        (size_px, size_px, 3) uint8 RGB.
    """
    return _paint(_plan(size_px, seed), seed, season)


def _plan(size: int, seed: int) -> _Layout:
    rng = np.random.default_rng([seed, 1])
    region, border = _regions(size, rng, mean_px=float(rng.uniform(130, 320)), bend_px=float(rng.uniform(5, 30)))
    parcel, furrow, edge = _parcels(size, rng, region)
    height = _noise(size, rng, 400.0)
    wood = _noise(size, rng, 170.0) + 0.35 * _noise(size, rng, 40.0) > rng.uniform(0.9, 1.7)
    water = _river(size, rng) | (_noise(size, rng, 90.0) > 2.6)
    town = _noise(size, rng, 150.0) > rng.uniform(1.1, 1.8)
    road = _roads(size, rng, border, region) & ~water
    roof, roof_id, garden = _buildings(size, rng, region, town & ~water & ~road)
    hedge = edge & (_uniform(parcel, 77) < rng.uniform(0.1, 0.6)) & ~town
    return _Layout(parcel, furrow, hedge, road, water, wood & ~town, roof, roof_id, garden, height)


def _regions(size: int, rng: np.random.Generator, mean_px: float, bend_px: float) -> tuple[_Ids, _Mask]:
    """Return Voronoi regions with bent borders, and the borders (one pixel wide)."""
    seeds = np.ones((size, size), np.uint8)
    count = max(3, round((size / mean_px) ** 2))
    y, x = rng.integers(0, size, (2, count))
    seeds[y, x] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    grid_y, grid_x = np.mgrid[:size, :size].astype(np.float32)
    bent_x, bent_y = grid_x + bend_px * _noise(size, rng, 90.0), grid_y + bend_px * _noise(size, rng, 90.0)
    bent = cv2.remap(labels.astype(np.float32), bent_x, bent_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    region = bent.astype(np.int64)
    return region, _steps(region)


def _parcels(size: int, rng: np.random.Generator, region: _Ids) -> tuple[_Ids, _Map, _Mask]:
    """Cut each region along its own direction into strips and the strips into fields."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    turn = np.pi * _uniform(region, 3) if rng.random() < 0.75 else np.float32(rng.uniform(0, np.pi)) + 0 * x
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    wide = rng.uniform(18, 50) * (1 + 1.5 * _uniform(region, 4))
    strip = np.floor(u / wide).astype(np.int64)
    strip -= (_uniform(_mix(region, strip), 5) < 0.3).astype(np.int64)  # some strips join their neighbour
    long = rng.uniform(50, 150) * (0.5 + _uniform(_mix(region, strip), 6))
    field = np.floor(v / long + _uniform(_mix(region, strip), 8)).astype(np.int64)
    parcel = _mix(_mix(region, strip), field)
    along = _uniform(parcel, 9) < 0.7
    return parcel, np.where(along, u, v).astype(np.float32), _steps(parcel)


def _roads(size: int, rng: np.random.Generator, border: _Mask, region: _Ids) -> _Mask:
    """Return lanes along some borders and a few through roads."""
    lanes = border & (_uniform(region, 11) < rng.uniform(0.3, 0.9))
    road = cv2.dilate(lanes.astype(np.uint8), np.ones((2, 2), np.uint8))
    for _ in range(max(1, round(size / 700 * rng.uniform(0.5, 2.5)))):
        path = _path(size, rng, wiggle=0.15)
        cv2.polylines(road, [path], isClosed=False, color=1, thickness=int(rng.integers(2, 6)))
    return road > 0


def _river(size: int, rng: np.random.Generator) -> _Mask:
    river = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.random() < 0.6)):
        path = _path(size, rng, wiggle=0.5)
        cv2.polylines(river, [path], isClosed=False, color=1, thickness=int(rng.integers(5, 26)))
    return river > 0


def _path(size: int, rng: np.random.Generator, wiggle: float) -> NDArray[np.int32]:
    """Return a smooth line from one side to the other, (K, 1, 2) pixels."""
    along = np.linspace(-0.1, 1.1, 60) * size
    waves = np.arange(1, 5)[:, None]
    phase, share = rng.uniform(0, 2 * np.pi, (4, 1)), rng.normal(0, wiggle, (4, 1)) / waves
    swing = 0.25 * size * (share * np.sin(waves * 2 * np.pi * along / max(size, 500) + phase)).sum(0)
    across = size * (rng.random() + rng.uniform(-0.6, 0.6) * (along / size - 0.5)) + swing
    line = np.stack([along, across], 1)
    return (line if rng.random() < 0.5 else line[:, ::-1]).astype(np.int32)[:, None]


def _buildings(size: int, rng: np.random.Generator, region: _Ids, town: _Mask) -> tuple[_Mask, _Ids, _Mask]:
    """Return roofs in rows, each with its number, and the gardens around them; farms stand alone."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    turn = np.pi * _uniform(region, 3)
    pitch = rng.uniform(7, 12) * (1 + _uniform(region, 13))
    u = (x * np.cos(turn) + y * np.sin(turn)) / pitch
    v = (y * np.cos(turn) - x * np.sin(turn)) / pitch
    number = _mix(_mix(region, np.floor(u).astype(np.int64)), np.floor(v / 1.4).astype(np.int64))
    share = np.where(town, 0.75, 0.004)
    width, depth = 0.3 + 0.6 * _uniform(number, 14), 0.3 + 0.7 * _uniform(number, 15)
    roof = (_uniform(number, 16) < share) & (u % 1 < width) & (v % 1.4 < depth)
    return roof & cv2.dilate(town.astype(np.uint8), np.ones((9, 9))).astype(bool), number, town


def _paint(plan: _Layout, seed: int, season: int) -> Image:
    size = plan.height.shape[0]
    rng = np.random.default_rng([seed, 2, season])
    image = _fields(plan, rng)
    image[plan.garden] = image[plan.garden] * 0.25 + _GARDEN * np.float32(0.75)
    image[plan.hedge] *= np.float32(rng.uniform(0.6, 0.95))
    crowns = 1 + 0.25 * _noise(size, rng, 2.5)[plan.wood]
    image[plan.wood] = _WOODS[rng.integers(3)] * crowns[:, None]
    for mask, palette in ((plan.water, _WATER), (plan.road, _ROADS)):
        image[mask] = palette[rng.integers(3)] * np.float32(rng.uniform(0.85, 1.15))
    image[plan.roof] = _ROOFS[(_uniform(plan.roof_id, 17)[plan.roof] * 4).astype(int)] * np.float32(
        rng.uniform(0.8, 1.1)
    )
    shadow = np.roll(plan.roof | plan.wood, (int(rng.integers(-2, 3)), 2), (0, 1)) & ~(plan.roof | plan.wood)
    image[shadow] *= np.float32(rng.uniform(0.5, 0.9))
    return _light(image + rng.normal(0, 4, image.shape).astype(np.float32), plan.height, rng)


def _fields(plan: _Layout, rng: np.random.Generator) -> _Map:
    """Give every parcel a crop of this season, with furrows and patchy growth."""
    salt = int(rng.integers(1 << 30))
    crop = _CROPS[(_uniform(plan.parcel, salt) * len(_CROPS)).astype(int)]
    tint = 0.85 + 0.3 * _uniform(plan.parcel, salt + 1)
    rough = 0.05 * _uniform(plan.parcel, salt + 2) * np.sin(plan.furrow * np.float32(rng.uniform(0.8, 1.8)))
    size = plan.height.shape[0]
    patchy = 0.05 * _noise(size, rng, 30.0) + 0.03 * _noise(size, rng, 4.0) + 0.05 * plan.height
    return np.asarray(crop * (tint + rough + patchy)[..., None], np.float32)


def _light(image: _Map, height: _Map, rng: np.random.Generator) -> Image:
    """Apply the sun, the haze and the camera."""
    slope = np.gradient(cv2.GaussianBlur(height, (0, 0), 8.0))[1] * rng.uniform(-3, 3)
    lit = image * (1 + slope[..., None]) * rng.uniform(0.9, 1.1, 3)
    haze = rng.uniform(0, 0.25)
    seen = 255 * (np.clip(lit, 0, 255) / 255) ** rng.uniform(0.8, 1.25) * (1 - haze) + 190 * haze
    sharp = cv2.GaussianBlur(seen, (0, 0), float(rng.uniform(0.4, 0.8)))
    return np.asarray(np.clip(sharp, 0, 255), np.uint8)


def _noise(size: int, rng: np.random.Generator, grain_px: float) -> _Map:
    """Return smooth noise of unit variance whose blobs are about ``grain_px`` wide."""
    coarse = max(4, round(size / grain_px * 2) + 3)
    values = rng.normal(size=(coarse, coarse)).astype(np.float32)
    step = grain_px / 2
    y, x = np.mgrid[:size, :size].astype(np.float32) / np.float32(step) + 1
    smooth = cv2.remap(values, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(smooth / max(float(smooth.std()), 1e-6), np.float32)


def _steps(ids: _Ids) -> _Mask:
    """Return where a pixel's number differs from its left or upper neighbour's."""
    edge = np.zeros(ids.shape, bool)
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    return edge


def _mix(a: _Ids, b: _Ids) -> _Ids:
    """Return one number for each pair of numbers (SplitMix64's finalizer)."""
    z = a.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + b.astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((z ^ (z >> np.uint64(31))) >> np.uint64(1), np.int64)


def _uniform(ids: _Ids, salt: int) -> _Map:
    """Return a random number in [0, 1) for each number, the same one each time."""
    return np.asarray((_mix(ids, np.full_like(ids, salt)) & 0xFFFFFF) / np.float32(1 << 24), np.float32)
