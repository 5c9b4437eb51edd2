"""Pairs to fit and judge an embedder on: a window, and the same place shifted, at another date, by another sensor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from rsloc_db.simulation import change
from rsloc_db.synthetic import land
from rsloc_db.types import Image

MAX_SHIFT = 1 / 6


@dataclass(frozen=True)
class Scene:
    """Images of one place at several dates on one pixel grid.

    Attributes:
        source: name for the provenance.
        dates: (H, W, 3) uint8 RGB each.
        window_px: least and greatest side of a window cut from it.
        columns: the range of x used, as shares of the width: the rest belongs to the other part.
    """

    source: str
    dates: list[Image]
    window_px: tuple[int, int]
    columns: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Pairs:
    """N pairs: two (N, px, px, 3) uint8 arrays and the source of each."""

    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    source: list[str]

    def counts(self) -> dict[str, int]:
        """Return pairs a source."""
        return dict(sorted(Counter(self.source).items()))


def scenes(data: Path | None, part: str, places: int) -> list[list[Scene]]:
    """Return the scenes of a part ("fit" or "held_out"), grouped by source; groups are drawn from equally often.

    The parts share no ground: other seeds, other longitudes, Sentinel-2 of another country.
    """
    fitting = part == "fit"
    seeds = range(places) if fitting else range(1000, 1000 + places)
    groups = [[Scene("synthetic", [land(1400, seed, season) for season in (0, 1)], (150, 800)) for seed in seeds]]
    if data is not None:
        groups += [blue_marble(data, fitting), landsat(data, fitting)]
        groups.append(sentinel_california(data) if fitting else sentinel_austria(data))
    return [group for group in groups if group]


def blue_marble(data: Path, fitting: bool) -> list[Scene]:
    """Return months of Blue Marble: the western half to fit, the quarter east of it to judge."""
    months = [read_image(path) for path in sorted((data / "bmng").glob("*.jpg"))[:: 2 if fitting else 3]]
    return [Scene("bmng", months, (64, 256), (0.0, 0.5) if fitting else (0.5, 0.75))] if months else []


def landsat(data: Path, fitting: bool) -> list[Scene]:
    """Return Landsat TM of 2000 and 2002: the western part to fit, the eastern to judge."""
    paths = [path.with_suffix("") for path in sorted((data / "pairs/nanjing").glob("*.hdr"))]
    dates = [read_bands([path] * 3, [3, 2, 1]) for path in paths]
    return [Scene("nanjing", dates, (96, 320), (0.0, 0.65) if fitting else (0.65, 1.0))] if dates else []


def sentinel_california(data: Path) -> list[Scene]:
    """Return the Californian scene: two dates in two UTM zones, the second warped onto the first."""
    folders = sorted((data / "pairs/s2_california").glob("crop*"))
    if len(folders) < 2:
        return []
    paths = [[folder / f"B0{band}.tif" for band in (4, 3, 2)] for folder in folders[:2]]
    return [Scene("s2_california", [read_bands(p, [1, 1, 1], like=paths[0][0]) for p in paths], (96, 320))]


def sentinel_austria(data: Path) -> list[Scene]:
    """Return the Austrian scene: one file with bands 1-4 of one date and 5-8 of another."""
    path = data / "pairs/s2_austria/inference-img.tif"
    if not path.exists():
        return []
    return [Scene("s2_austria", [read_bands([path] * 3, bands) for bands in ([1, 2, 3], [5, 6, 7])], (80, 160))]


def read_image(path: Path) -> Image:
    """Read a JPEG as (H, W, 3) RGB."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)


def read_bands(paths: list[Path], bands: list[int], like: Path | None = None) -> Image:
    """Read three bands, warped to the grid of ``like``, each stretched from 1 % to 99 % of its positive values."""
    read = []
    for path, band in zip(paths, bands, strict=True):
        with rasterio.open(path) as file, rasterio.open(like or path) as target:
            grid = {"crs": target.crs, "transform": target.transform, "width": target.width, "height": target.height}
            with WarpedVRT(file, resampling=Resampling.bilinear, **grid) as warped:
                values = warped.read(band).astype(np.float32)
        low, high = np.percentile(values[values > 0], (1, 99))
        read.append((values - low) / (high - low) * 255)
    return np.asarray(np.stack(read, 2).clip(0, 255), np.uint8)


def draw(groups: list[list[Scene]], count: int, size_px: int, seed: int, max_shift: float = MAX_SHIFT) -> Pairs:
    """Draw seeded pairs of (size_px, size_px, 3) windows, equally often from each group; none of them flat."""
    rng = np.random.default_rng(seed)
    first: list[Image] = []
    second: list[Image] = []
    source: list[str] = []
    while len(first) < count:
        group = groups[len(first) % len(groups)]
        scene = group[rng.integers(len(group))]
        pair = cut_pair(scene, size_px, max_shift, rng)
        if min(float(window.mean(2).std()) for window in pair) < 4:
            continue
        first.append(change(pair[0], rng, strength=0.3))
        second.append(change(pair[1], rng, strength=1.0))
        source.append(scene.source)
    return Pairs(np.stack(first), np.stack(second), source)


def cut_pair(scene: Scene, size_px: int, max_shift: float, rng: np.random.Generator) -> tuple[Image, Image]:
    """Cut one place at two dates (or one date, at times), the second shifted, both turned and mirrored alike."""
    height, width = scene.dates[0].shape[:2]
    left, right = (round(c * width) for c in scene.columns)
    side = int(rng.integers(scene.window_px[0], min(scene.window_px[1], height - 1, right - left - 1) + 1))
    reach = round(side * max_shift)
    x, y = int(rng.integers(left, right - side + 1)), int(rng.integers(0, height - side + 1))
    shifted = (
        int(np.clip(x + rng.integers(-reach, reach + 1), left, right - side)),
        int(np.clip(y + rng.integers(-reach, reach + 1), 0, height - side)),
    )
    dates = rng.choice(len(scene.dates), 2, replace=bool(rng.random() < 0.3))
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))

    def cut(date: int, u: int, v: int) -> Image:
        box = scene.dates[date][v : v + side, u : u + side]
        window = cv2.resize(box, (size_px, size_px), interpolation=cv2.INTER_AREA)
        return np.asarray(np.rot90(window[:, ::-1] if mirror else window, turns), np.uint8)

    return cut(dates[0], x, y), cut(dates[1], *shifted)
