"""How a drawn land looks on a date to a sensor: crops, woods and water of the season, light, haze and sharpness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db.terrain import noise
from rsloc_db.terrain.layout import (
    GARDEN,
    HEDGE,
    LANE,
    MARGIN_PX,
    MATERIALS,
    ROAD,
    ROOF,
    ROOFS,
    SEA,
    SHORE,
    WATER,
    WOOD,
    YARD,
    Land,
    Layout,
    chances,
)
from rsloc_db.terrain.noise import TABLE, Box, Field
from rsloc_db.types import Image

SEASONS = ("spring", "summer", "autumn")
_CROPS = np.array(
    # RGB in spring, summer, autumn: meadow, ley, winter grain, maize, rape, spring grain, fallow, beet, vineyard
    [
        [[74, 104, 52], [88, 108, 60], [76, 100, 56]],
        [[62, 96, 46], [104, 116, 68], [70, 98, 52]],
        [[66, 106, 52], [196, 170, 124], [142, 116, 88]],
        [[150, 122, 94], [52, 84, 44], [176, 154, 112]],
        [[158, 160, 58], [162, 136, 100], [84, 112, 58]],
        [[136, 112, 84], [182, 156, 108], [118, 92, 72]],
        [[116, 116, 78], [140, 128, 90], [124, 114, 84]],
        [[158, 134, 108], [58, 92, 50], [98, 84, 62]],
        [[128, 116, 84], [84, 98, 58], [122, 110, 66]],
    ],
    np.float32,
)
_SHARES = np.cumsum([0.22, 0.12, 0.22, 0.14, 0.08, 0.08, 0.05, 0.05, 0.04])
_WOODS = np.array([[44, 66, 36], [30, 52, 30], [60, 62, 36]], np.float32)
_ROOFS = np.array(
    [
        *([150, 98, 78], [166, 112, 88], [134, 92, 76], [172, 128, 104]),
        *([142, 106, 90], [158, 118, 96], [120, 112, 108], [146, 140, 136]),
        *([98, 96, 98], [184, 178, 170], [128, 98, 84], [206, 202, 196]),
        *([196, 196, 194], [196, 196, 194], [196, 196, 194], [196, 196, 194]),
    ],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class Sensor:
    """What a camera makes of the light.

    Attributes:
        gamma: exponent of its tone curve.
        gain: factor of red, green and blue.
        haze: share of the air's light, 0 to 1.
        blur_px: deviation of its blur.
        grain: deviation of its noise, grey levels.
    """

    gamma: float
    gain: tuple[float, float, float]
    haze: float
    blur_px: float
    grain: float


SENSORS = (
    Sensor(1.0, (1.0, 1.0, 1.0), 0.02, 0.45, 2.0),
    Sensor(0.86, (0.94, 0.98, 1.06), 0.12, 0.75, 3.5),
    Sensor(1.18, (1.06, 1.03, 0.94), 0.06, 0.60, 3.0),
    Sensor(0.94, (1.04, 0.99, 1.02), 0.17, 0.85, 2.5),
)
"""The first two see galleries, the others queries."""


@dataclass(frozen=True, slots=True)
class Look:
    """When and by what the land is seen: the year sets the crops, the season (0 to 2) their colours."""

    year: int
    season: int
    sensor: int


def paint(land: Land, box: Box, layout: Layout, look: Look) -> Image:
    """Show a box of the land on a date.

    Args:
        land: which land.
        box: which part of it.
        layout: as ``draw_layout`` gave it for the same box.
        look: when, and to which sensor.

    Returns:
        (box.height, box.width, 3) uint8 RGB.
    """
    colours, amplitudes = _tables(land, look.year, look.season)
    light = _light(land, box, layout, look, amplitudes)
    sensor = SENSORS[look.sensor]
    noisy = noise.grain(land.key(noise.key(50, look.year, look.season) % 100_000), box.grown(MARGIN_PX), 1)
    noisy *= np.float32(sensor.grain)
    planes = [np.asarray(colours[band][layout.material]) * light + noisy for band in range(3)]
    seen = cv2.LUT(cv2.merge([_bytes(plane) for plane in planes]), _tone(look.sensor))
    sharp = cv2.GaussianBlur(seen, (5, 5), sensor.blur_px)
    inner = slice(MARGIN_PX, -MARGIN_PX)
    return np.asarray(sharp[inner, inner], np.uint8)


def _bytes(plane: Field) -> NDArray[np.uint8]:
    # cv2 rounds and clips in one pass
    return np.asarray(cv2.convertScaleAbs(np.maximum(plane, 0)), np.uint8)


def _light(land: Land, box: Box, layout: Layout, look: Look, amplitudes: NDArray[np.float32]) -> Field:
    """Return the factor of every pixel's colour: relief, growth, furrows, crowns and shadows."""
    grown = box.grown(MARGIN_PX)
    growth = noise.grain(land.key(40 + look.season), grown, 8) + noise.grain(land.key(43), grown, 16)
    light = layout.crown * amplitudes[0][layout.material]
    light += growth * amplitudes[1][layout.material]
    light += np.sin(layout.furrow * np.float32(1.35)) * amplitudes[2][layout.material]
    light += np.float32(1.0)
    np.multiply(light, np.float32(0.62), out=light, where=layout.shade)
    return np.asarray(light, np.float32)


@lru_cache(maxsize=24)
def _tables(land: Land, year: int, season: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return of every material its colour, (3, MATERIALS), and its grain, growth and furrows, (3, MATERIALS)."""
    colours, amplitudes = np.zeros((MATERIALS, 3), np.float32), np.zeros((3, MATERIALS), np.float32)
    # a third of the parcels is grass for ever, the others change their crop every year
    lasting = chances(land, 60)
    crop = np.searchsorted(_SHARES, np.where(lasting < 0.34, lasting, chances(land, noise.key(61, year) % 100_000)))
    crop = np.minimum(crop, len(_CROPS) - 1)
    tint = 0.84 + 0.32 * chances(land, noise.key(62, year, season) % 100_000)
    warm = (chances(land, noise.key(63, year) % 100_000) - 0.5) * 0.14
    colours[:TABLE] = _CROPS[crop, season] * tint[:, None] * (1 + warm[:, None] * np.array([1, 0.2, -0.6]))
    amplitudes[:2, :TABLE] = [[0.03], [0.035]]
    amplitudes[2, :TABLE] = 0.16 * np.clip(chances(land, noise.key(64, year, season) % 100_000) - 0.45, 0, 1)
    _add_materials(colours, amplitudes, season)
    return np.ascontiguousarray(colours.T), amplitudes


def _add_materials(colours: Field, amplitudes: Field, season: int) -> None:
    water = np.array([[58, 76, 66], [44, 66, 64], [74, 78, 66]][season], np.float32)
    for material, colour, grain, growth in (
        (WOOD, _WOODS[season], 0.3, 0.08),
        (HEDGE, _WOODS[season] * 0.95, 0.25, 0.08),
        (WATER, water, 0.03, 0.03),
        (SEA, water * (0.62, 0.82, 1.15), 0.05, 0.06),
        (SHORE, np.array([198, 184, 152]), 0.05, 0.08),
        (ROAD, np.array([140, 136, 128]), 0.06, 0.02),
        (LANE, np.array([172, 158, 130]), 0.08, 0.04),
        (GARDEN, np.array([92, 104, 70]) if season < 2 else np.array([96, 98, 70]), 0.22, 0.1),
        (YARD, np.array([156, 150, 142]), 0.12, 0.06),
    ):
        colours[material], amplitudes[:, material] = colour, (grain, growth, 0.0)
    colours[ROOF : ROOF + ROOFS] = _ROOFS
    amplitudes[0, ROOF : ROOF + ROOFS] = 0.1


@lru_cache(maxsize=len(SENSORS))
def _tone(number: int) -> NDArray[np.uint8]:
    """Return a sensor's tone curve as a table, (256, 1, 3)."""
    sensor, level = SENSORS[number], np.arange(256) / 255
    curves = [255 * np.clip(level * gain, 0, 1) ** sensor.gamma for gain in sensor.gain]
    hazy = np.stack(curves, 1) * (1 - sensor.haze) + np.array([176, 186, 200]) * sensor.haze
    return np.asarray(np.clip(np.round(hazy), 0, 255), np.uint8)[:, None]
