"""Simulated changes of an image's appearance: season, sensor, clouds and missing corners. Pure functions on arrays.

Nothing moves: a pixel shows the same place before and after. Images are (H, W, 3) uint8 RGB; a ``strength`` runs from
0 (hardly any change) to 1 (a hard one). All chance comes from the generator that is given.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db.types import Floats, Image, Mask

MIN_FIELD_PX = 60
"""Smaller insides are texture rather than fields."""
_FLAT_SHARE = 0.6
_CLOUD = 232.0
_CLOUD_EDGE = 0.6
"""Deviations of the noise from clear sky to full cover."""
_SHADE = 0.45


def change(window: Image, rng: np.random.Generator, strength: float) -> Image:
    """Change season and sensor of a small window as training pairs need it: the season only now and then."""
    image = window.astype(np.float64)
    if rng.random() < 0.6 * strength:
        image = recolour(image, rng, 35 * strength)
    return sensor(image, rng, strength)


def recolour_season(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Show the place at another time of the year: every field takes a colour of its own."""
    changed = recolour_fields(image.astype(np.float64), rng, 35 * strength)
    return np.asarray(changed.clip(0, 255), np.uint8)


def sensor(image: Image | Floats, rng: np.random.Generator, strength: float) -> Image:
    """Show what another camera would: tone curve, contrast, tint, haze, blur, noise, JPEG."""
    seen = np.asarray(image, np.float64)
    gain, gamma, haze = rng.uniform(0.35, 1.2), rng.uniform(0.7, 1.4), rng.uniform(0, 0.4) * strength
    seen = 255 * (seen.clip(0, 255) / 255) ** (1 + (gamma - 1) * strength)
    seen = (seen - 110) * (1 + (gain - 1) * strength) + 110 + rng.normal(0, 12 * strength, 3)
    seen = seen * (1 - haze) + 200 * haze
    if rng.random() < 0.7 * strength:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.3, 1.2)), np.float64)
    seen = seen + rng.normal(0, rng.uniform(0, 6) * strength, seen.shape)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]
    _, encoded = cv2.imencode(".jpg", seen.clip(0, 255).astype(np.uint8), quality)
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def recolour(image: Floats, rng: np.random.Generator, spread: float) -> Floats:
    """Give every region of like colour an offset of its own, as crops do between seasons.

    Args:
        image: (H, W, 3), 0 to 255.
        rng: where chance comes from.
        spread: standard deviation of the offsets in grey levels.
    """
    kind = _kinds(image)
    offset = rng.normal(0, spread, (16, 1)) + rng.normal(0, spread / 3, (16, 3))
    return np.asarray(image + cv2.blur(offset[kind], (2, 2)), np.float64)


def recolour_fields(image: Floats, rng: np.random.Generator, spread: float) -> Floats:
    """Give every field an offset of its own, also where two fields had one colour; arguments as for ``recolour``."""
    field = _fields(image)
    count = int(field.max()) + 1
    offset = rng.normal(0, spread, (count, 1)) + rng.normal(0, spread / 3, (count, 3))
    return np.asarray(image + cv2.blur(offset.astype(np.float32)[field], (3, 3)), np.float64)


def _fields(image: Floats) -> NDArray[np.int32]:
    """Return the number of the field that each pixel belongs to: what edges enclose (watershed of Meyer, 1992)."""
    smooth = cv2.medianBlur(image.clip(0, 255).astype(np.uint8), 5)
    edge = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(2)
    inner = (edge <= np.quantile(edge, _FLAT_SHARE)).astype(np.uint8)
    _, label, stats, _ = cv2.connectedComponentsWithStats(cv2.erode(inner, np.ones((3, 3), np.uint8)), connectivity=4)
    # 0 is for the watershed to fill: all that is no field's inside
    label[stats[label, cv2.CC_STAT_AREA] < MIN_FIELD_PX] = 0
    return np.maximum(cv2.watershed(smooth, label), 0).astype(np.int32)


def _kinds(image: Floats) -> NDArray[np.intp]:
    """Return the kind of each pixel, 0 to 15: eight steps of brightness, each more or less green."""
    smooth = cv2.medianBlur(image.clip(0, 255).astype(np.uint8), 5).astype(np.float32)
    bright = smooth.mean(2)
    level = np.searchsorted(np.quantile(bright, np.linspace(0, 1, 9)[1:-1]), bright)
    green = smooth[..., 1] - smooth[..., 0] > np.median(smooth[..., 1] - smooth[..., 0])
    return np.asarray(level * 2 + green, np.intp)


def clouds(image: Image, rng: np.random.Generator, share: float) -> Image:
    """Put clouds over a share of the image, and their shadows beside them.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: where chance comes from.
        share: 0 to 1, how much is covered; shadows come on top.
    """
    height, width = image.shape[:2]
    noise = _noise(height, width, rng)
    edge = float(np.quantile(noise, 1 - share))
    cover = np.clip((noise - edge) / _CLOUD_EDGE + 0.5, 0, 1)[..., None]
    turn, far = rng.uniform(0, 2 * np.pi), 0.08 * min(height, width)
    step = np.array([[1, 0, far * np.cos(turn)], [0, 1, far * np.sin(turn)]])
    shadow = cv2.warpAffine(cover, step, (width, height), borderMode=cv2.BORDER_REFLECT)[..., None]
    lit = image * (1 - (1 - _SHADE) * shadow)
    bright = _CLOUD + 12 * np.clip(_noise(height, width, rng), -2, 1)[..., None]
    return np.asarray((lit * (1 - cover) + bright * cover).clip(0, 255), np.uint8)


def _noise(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Return noise of unit variance, of blobs from a third of the image's size to some pixels: billows, and wisps."""
    total = np.zeros((height, width))
    for cells in (3, 6, 12, 24, 48, 96):
        coarse = rng.normal(size=(cells, cells))
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * (3 / cells) ** 0.8
    return np.asarray(total / max(float(total.std()), 1e-9), np.float64)


def missing_corner(shape: tuple[int, ...], rng: np.random.Generator, share: float) -> Mask:
    """Return what is left where a scene's slanted edge cuts off a share of an (H, W) image: False there."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    turn = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    return np.asarray(along > np.quantile(along, share), bool)
