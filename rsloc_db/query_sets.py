"""Make query sets with a known place: crops of georeferenced images, without georeference, and the truth as a CSV.

A crop is re-sampled off its source's pixels in one interpolation (shift by parts of a pixel, turn, scale), so that
errors in metres are those of the localization and not nought by construction. Its appearance may be changed, too
(``rsloc_db.simulation``). The localizer is told the pixel size without the scale's and the turn's share.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from rsloc_db import simulation
from rsloc_db.crops import CropSource, Pose, open_source
from rsloc_db.errors import QueryError
from rsloc_db.types import Image, Mask, Progress, Silent

TRIES = 300
"""Random places that are tried for one crop before the sources are found unfit."""
MIN_SIDE_PX, MAX_SIDE_PX = 64, 16_384
JITTER = 0.001
"""Greatest share by which every crop's true pixel size is off the stated one, as those of real query sets are."""
_HEADER = (
    *("imgname", "lat", "lon", "level", "width", "height", "resolution", "type"),
    *("lon_min", "lat_min", "lon_max", "lat_max", "pixels", "simulated", "turn_deg", "scale"),
    *("ul_lon", "ul_lat", "ur_lon", "ur_lat", "lr_lon", "lr_lat", "ll_lon", "ll_lat"),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What queries are made like.

    Attributes:
        size_px: least and greatest side; width and height are drawn one by one.
        turn_deg: least and greatest turn: north in the crop points that far clockwise from up. None: north up.
        scale: least and greatest true pixel size as a multiple of the stated one; above 1 is coarser.
        season: 0 for none to 1: every field recoloured, and the sensor's changes on top.
        sensor: 0 for none to 1: tone curve, tint, haze, blur, noise, JPEG.
        clouds: share of a crop under clouds.
        missing: share of a crop that is missing at one corner: black in every other crop, transparent in the others.
        min_structure: least share of 16 x 16 px blocks that show any structure; leaves out open sea and plain ice.
        min_land: least share of pixels that do not have the colour of open water.
        absent: whether to leave the place out of the CSV: the queries are of what a gallery lacks.

    Raises:
        QueryError: a range is empty or a number is out of its range.
    """

    size_px: tuple[int, int] = (512, 1024)
    turn_deg: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    season: float = 0.0
    sensor: float = 0.0
    clouds: float = 0.0
    missing: float = 0.0
    min_structure: float = 0.0
    min_land: float = 0.0
    absent: bool = False

    def __post_init__(self) -> None:
        _check_range("--size", self.size_px, MIN_SIDE_PX, MAX_SIDE_PX)
        _check_range("--turn", self.turn_deg or (0, 0), -360, 360)
        _check_range("--scale", self.scale or (1, 1), 0.1, 10)
        for name in ("season", "sensor", "clouds", "missing", "min_structure", "min_land"):
            share = getattr(self, name)
            most = 0.9 if name in ("clouds", "missing") else 1.0
            if not 0 <= share <= most:
                raise QueryError(f"--{name.replace('_', '-')} is {share}: expected 0 to {most:g}")

    @property
    def changes(self) -> bool:
        """Whether a crop's appearance is changed by a program."""
        return any((self.season, self.sensor, self.clouds, self.missing))


@dataclass(frozen=True, slots=True)
class MadeSet:
    """A query set that was made.

    Attributes:
        folder: where the images are.
        table: the CSV beside it, with the truth.
        queries: how many images.
        changed: whether their appearance was changed by a program.
    """

    folder: Path
    table: Path
    queries: int
    changed: bool

    def as_dict(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {**asdict(self), "folder": str(self.folder), "table": str(self.table)}


def make_queries(
    *sources: str | Path,
    out: str | Path,
    count: int = 10,
    size: tuple[int, int] = (512, 1024),
    turn: tuple[float, float] | None = None,
    scale: tuple[float, float] | None = None,
    season: float = 0.0,
    sensor: float = 0.0,
    clouds: float = 0.0,
    missing: float = 0.0,
    min_structure: float = 0.0,
    min_land: float = 0.0,
    absent: bool = False,
    within: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> MadeSet:
    """Cut queries out of georeferenced images; the same arguments make the same files, byte for byte.

    Args:
        sources: georeferenced images of any format and CRS; every one gives the same number of queries.
        out: folder to write to, new or empty; the CSV goes beside it.
        count: number of queries.
        size: least and greatest side in pixels.
        turn: least and greatest turn in degrees, clockwise; None for north up.
        scale: least and greatest true pixel size as a multiple of the stated one.
        season: strength of a simulated change of season, 0 to 1.
        sensor: strength of a simulated change of sensor, 0 to 1.
        clouds: share under simulated clouds.
        missing: share that is missing at a corner.
        min_structure: least share of blocks that show structure.
        min_land: least share of pixels that do not have the colour of open water.
        absent: leave the place out of the CSV.
        within: polygon (EPSG:4326) that crops must lie in: WKT, GeoJSON or the path of a file of either.
        seed: of all chance.
        progress: where to report to.

    Raises:
        QueryError: an option is out of range, ``out`` is not empty, or no place in the sources fits.
        ImageError: a source cannot be read.
        AreaError: ``within`` is no area.
    """
    recipe = Recipe(
        size,
        turn,
        scale,
        season,
        sensor,
        clouds,
        missing,
        min_structure=min_structure,
        min_land=min_land,
        absent=absent,
    )
    if not sources or count < 1:
        raise QueryError("there is nothing to make: name at least one georeferenced image, and a --count of 1 or more")
    folder = _empty_folder(Path(out))
    bar = progress or Silent()
    bar.task("make queries", total=count)
    rows = []
    for place, path in enumerate(sources):
        source = open_source(Path(path), within)
        # each source is read once; every crop has a stream of chance of its own, whatever the count
        for number in range(place, count, len(sources)):
            rows.append((number, _make_one(source, recipe, folder, number, np.random.default_rng([seed, number]))))
            bar.advance()
    table = folder.parent / f"{folder.name}.csv"
    _write_table(table, [row for _, row in sorted(rows, key=lambda each: each[0])])
    return MadeSet(folder, table, count, recipe.changes)


def _check_range(what: str, found: tuple[float, float], least: float, most: float) -> None:
    if not least <= found[0] <= found[1] <= most:
        raise QueryError(f"{what} is {found[0]:g} to {found[1]:g}: expected LOW-HIGH within {least:g} to {most:g}")


def _empty_folder(folder: Path) -> Path:
    named = folder if folder.name not in ("", "..") else folder.resolve()
    table = named.parent / f"{named.name}.csv"
    if table.exists() or (named.exists() and not named.is_dir()) or (named.is_dir() and any(named.iterdir())):
        raise QueryError(f"{named} or {table.name} beside it exists already: name another folder, or delete both")
    named.mkdir(parents=True, exist_ok=True)
    return named


def _make_one(
    source: CropSource, recipe: Recipe, folder: Path, number: int, rng: np.random.Generator
) -> dict[str, object]:
    """Write one image and return its row of the CSV."""
    pose, image = _find_crop(source, recipe, rng)
    image, seen = _change(image, recipe, rng)
    name = _name(source.path, number)
    transparent = number % 2 == 1 and not seen.all()
    pixels = np.dstack([image[..., ::-1], seen.astype(np.uint8) * 255]) if transparent else image[..., ::-1]
    if not cv2.imwrite(str(folder / name), pixels):
        raise QueryError(f"cannot write {folder / name}: is there room on the disk?")
    return _row(name, source, pose, recipe)


def _find_crop(source: CropSource, recipe: Recipe, rng: np.random.Generator) -> tuple[Pose, Image]:
    """Draw crops until one lies inside the valid area and shows enough."""
    for _ in range(TRIES):
        width, height = (int(side) for side in rng.integers(recipe.size_px[0], recipe.size_px[1] + 1, 2))
        turn_deg = float(rng.uniform(*recipe.turn_deg)) if recipe.turn_deg else 0.0
        low, high = np.log(recipe.scale or (1.0, 1.0))
        scale = math.exp(rng.uniform(low, high)) * (1 + float(rng.uniform(-JITTER, JITTER)))
        pose = source.place(width, height, turn_deg, scale, rng)
        if pose is None:
            continue
        image = source.cut(pose)
        if structure(image) >= recipe.min_structure and land_share(image) >= recipe.min_land:
            return pose, image
    raise QueryError(
        f"no place for a crop was found in {source.path} in {TRIES} tries: its valid area is too small for such "
        "sizes, or shows too little; lower --size, --min-structure or --min-land, or widen --within"
    )


def structure(image: Image) -> float:
    """Return the share of 16 x 16 px blocks of an image that show structure: a deviation of three grey levels."""
    grey = np.asarray(image, np.float32).mean(2)
    rows, columns = grey.shape[0] // 16, grey.shape[1] // 16
    blocks = grey[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16)
    return float((blocks.std((1, 3)) >= 3).mean())


def land_share(image: Image) -> float:
    """Return the share of pixels that do not have the colour of open water: bluer than green, and dark."""
    red, green, blue = (image[..., band].astype(np.int16) for band in range(3))
    return float(1 - ((blue > green) & (blue > red) & (red < 100)).mean())


def _change(image: Image, recipe: Recipe, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Change the appearance: first what lies on the ground, then the clouds above, then the sensor, then the frame."""
    if recipe.season:
        image = simulation.recolour_season(image, rng, recipe.season)
    if recipe.clouds:
        image = simulation.clouds(image, rng, recipe.clouds)
    if recipe.season or recipe.sensor:
        image = simulation.sensor(image, rng, max(recipe.season, recipe.sensor))
    seen = np.ones(image.shape[:2], bool)
    if recipe.missing:
        seen = simulation.missing_corner(seen.shape, rng, recipe.missing)
        image = np.where(seen[..., None], image, np.uint8(0))
    return image, seen


def _name(source: Path, number: int) -> str:
    """Return the source's name with the query's number in it, where RSLoc's names leave room for it."""
    head, mark, tail = source.stem.partition("_")
    return f"{head}-{number + 1:04}{mark}{tail}.png"


def _row(name: str, source: CropSource, pose: Pose, recipe: Recipe) -> dict[str, object]:
    row: dict[str, object] = {
        "imgname": name,
        "level": source.level,
        "width": pose.width_px,
        "height": pose.height_px,
        "resolution": repr(source.pixel),
        "pixels": source.pixels,
        "type": name[:-4].rpartition("_")[2] if "_" in name else "",
        "simulated": str(recipe.changes).lower(),
        "turn_deg": f"{pose.turn_deg:.6f}",
        "scale": f"{pose.scale:.6f}",
    }
    return row if recipe.absent else row | _truth(source, pose, box=recipe.turn_deg is None)


def _truth(source: CropSource, pose: Pose, *, box: bool) -> dict[str, object]:
    """Return centre and corners; bounds only of crops that are north up, as bounds of others tell no corners."""
    w, h = pose.width_px, pose.height_px
    lon, lat = source.lonlat(pose, np.array([w / 2, 0, w, w, 0]), np.array([h / 2, 0, 0, h, h]))
    truth: dict[str, object] = {"lon": repr(float(lon[0])), "lat": repr(float(lat[0]))}
    for i, corner in enumerate(("ul", "ur", "lr", "ll"), start=1):
        truth |= {f"{corner}_lon": repr(float(lon[i])), f"{corner}_lat": repr(float(lat[i]))}
    if box and source.pixels != "ground":
        truth |= {"lon_min": repr(float(lon[1])), "lat_max": repr(float(lat[1]))}
        truth |= {"lon_max": repr(float(lon[3])), "lat_min": repr(float(lat[3]))}
    return truth


def _write_table(path: Path, rows: Sequence[dict[str, object]]) -> None:
    part = path.with_name(f".part-{path.name}")
    with part.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _HEADER, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    part.replace(path)
