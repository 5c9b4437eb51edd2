"""Galleries and query sets that accuracy is measured on: shipped ones, and ones that are made of the shared imagery.

Made sets have two splits that differ in seed: ``tune`` to work with, ``report`` for the figures that are reported. Of
the RSLoc images both show the same seven places, at other crops and in other colours.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from fit_pairs import read_bands, read_image
from rasterio.transform import Affine, from_bounds
from rasterio.warp import transform_bounds

import rsloc_db
from rsloc_db import crops, query_sets, simulation
from rsloc_db.grids import GoogleEarthGrid, cell_bounds
from rsloc_db.types import Bounds, Cell, Image

IN_GALLERY = ("F27", "F4", "a140", "a43", "f1", "f20", "m53")
NOT_IN_GALLERY = ("f66", "m189")
SEEDS = {"tune": 1_000, "report": 2_000}
OFF_POLES = "POLYGON((-180 -89, 180 -89, 180 89, -180 89, -180 -89))"
MINI_PX_M = 3.3
"""Metres on the ground of a level-15 pixel of Web Mercator where the RSLoc images are, about 46 degrees north."""


@dataclass(frozen=True)
class QuerySetSpec:
    """A set of queries.

    Attributes:
        gallery: name of the gallery that it is searched in.
        pixel_m: about how many metres on the ground a query's pixel is.
        shipped: folder of the shared data, for a set that is there; else it is made.
        sources: makes the list of images to cut from, out of the folder of the data and the one to work in.
        options: of ``make_queries``.
        simulated: what holds for the appearance of a shipped set.
    """

    gallery: str
    pixel_m: float
    shipped: str | None = None
    sources: Callable[[Path, Path], list[Path]] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    simulated: bool | None = None

    @property
    def own_pixels(self) -> bool:
        """Whether queries are cut out of the very images that the gallery holds, which then has no error of its own."""
        return self.gallery == "mini" and self.simulated is not False


def _rsloc(names: tuple[str, ...]) -> Callable[[Path, Path], list[Path]]:
    def find(data: Path, _: Path) -> list[Path]:
        images = {path.name.split("_")[0]: path for path in sorted(data.glob("rsloc/RSimages/*/*.tiff"))}
        return [images[name] for name in names]

    return find


def _date(scene: str, date: int) -> Callable[[Path, Path], list[Path]]:
    return lambda data, work: [write_scene(data, work, scene, date)]


def _mini(options: dict[str, Any], sources: tuple[str, ...] = IN_GALLERY) -> QuerySetSpec:
    within = {} if "absent" in options else {"within": "mini"}
    return QuerySetSpec("mini", MINI_PX_M, sources=_rsloc(sources), options={"season": 1.0, **within, **options})


def _absent(**options: Any) -> QuerySetSpec:
    return _mini({"count": 32, "size": (512, 1280), "absent": True, **options}, NOT_IN_GALLERY)


def _pair(scene: str, pixel_m: float, **options: Any) -> QuerySetSpec:
    return QuerySetSpec(scene, pixel_m, sources=_date(scene, 1), options={"count": 24, **options})


TURN, SCALE = {"turn": (0.0, 360.0)}, {"scale": (0.7, 1.4)}
LARGE, MIDDLE, SMALL = (1280, 1792), (768, 1280), (512, 512)
SETS = {
    "season": QuerySetSpec("mini", MINI_PX_M, "mini/RSimages/season", simulated=True),
    "google": QuerySetSpec("mini", MINI_PX_M, "mini/RSimages/google", simulated=False),
    "naip": QuerySetSpec("mini", MINI_PX_M, "mini/RSimages/naip", simulated=False),
    "absent": QuerySetSpec("mini", MINI_PX_M, "mini/RSimages/absent", simulated=True),
    "season_new": _mini({"count": 48, "size": LARGE}),
    "turn": _mini({"count": 48, "size": MIDDLE, **TURN}),
    "scale": _mini({"count": 48, "size": MIDDLE, **SCALE}),
    "turn_scale": _mini({"count": 48, "size": MIDDLE, **TURN, **SCALE}),
    "small": _mini({"count": 48, "size": SMALL}),
    "small_turn": _mini({"count": 48, "size": SMALL, **TURN}),
    "clouds": _mini({"count": 24, "size": MIDDLE, "clouds": 0.3}),
    "absent_plain": _absent(),
    "absent_turn": _absent(**TURN),
    "absent_turn_scale": _absent(**TURN, **SCALE),
    **{
        f"bmng{side}": QuerySetSpec(
            "bmng",
            7_413.0,
            sources=_date("bmng", 1),
            options={"count": 48, "size": (side, side), "min_land": 0.2, "within": OFF_POLES},
        )
        for side in (512, 384, 256)
    },
    "nanjing": _pair("nanjing", 30.0, size=(256, 512)),
    "s2_california": _pair("s2_california", 10.0, size=(256, 512), within="s2_california"),
    "s2_austria": _pair("s2_austria", 10.0, size=(256, 360)),
}
"""Every set. In ``options``, ``within`` is a polygon, or the name of the gallery whose covered area it stands for."""
GROUPS = {"absent_new": ("absent_plain", "absent_turn", "absent_turn_scale")}
LEVELS: dict[str, int | None] = {"mini": 15}
"""Level of a gallery; where none is given here, the one that fits the raster best."""


def gallery_source(data: Path, work: Path, gallery: str) -> Path:
    """Return the file of a gallery, which is made where there is none."""
    return data / "mini/Gallery/galleryL15.db" if gallery == "mini" else write_scene(data, work, gallery, 0)


def query_set(data: Path, work: Path, name: str, split: str) -> Path:
    """Return the folder of a set, which is made where there is none by these very arguments and this very code."""
    spec = SETS[name]
    if spec.shipped is not None:
        return data / spec.shipped
    seed = SEEDS[split] + list(SETS).index(name)
    # queries made otherwise are other queries: the database knows a set by its folder's name
    folder = work / "sets" / f"{name}-{split}-{_fingerprint(spec.options, seed)}"
    if not folder.with_suffix(".csv").exists():
        options = dict(spec.options)
        if options.get("within") in {each.gallery for each in SETS.values()}:
            options["within"] = covered_area(data, work, options["within"])
        assert spec.sources is not None
        rsloc_db.make_queries(*spec.sources(data, work), out=folder, seed=seed, **options)
    return folder


def _fingerprint(options: dict[str, Any], seed: int) -> str:
    digest = hashlib.sha256(json.dumps([options, seed], sort_keys=True).encode())
    for module in (crops, query_sets, simulation):
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()[:6]


def covered_area(data: Path, work: Path, gallery: str) -> str:
    """Return the area (WKT, EPSG:4326) that a gallery covers with what queries are cut from."""
    if gallery != "mini":
        with rasterio.open(gallery_source(data, work, gallery)) as dataset:
            return str(shapely.box(*transform_bounds(dataset.crs, 4326, *dataset.bounds)).wkt)
    images = [_bounds(path) for path in _rsloc(IN_GALLERY)(data, work)]
    cells = [shapely.box(*_sides(b)) for b in _mini_cells(data)]
    inside = [cell for cell in cells if any(image.buffer(1e-9).contains(cell) for image in images)]
    return str(shapely.union_all(inside, grid_size=1e-10).wkt)


def _sides(b: Bounds) -> tuple[float, float, float, float]:
    return b.west_deg, b.south_deg, b.east_deg, b.north_deg


def _bounds(path: Path) -> shapely.Polygon:
    with rasterio.open(path) as dataset:
        return shapely.box(*transform_bounds(dataset.crs, 4326, *dataset.bounds))


def _mini_cells(data: Path) -> Iterator[Bounds]:
    statement = "SELECT DISTINCT zoom_level, tile_column, tile_row FROM ge_tiles"
    # immutable: the folder of the data may be read-only
    with sqlite3.connect(f"file:{data / 'mini/Gallery/galleryL15.db'}?immutable=1", uri=True) as gallery:
        for level, column, row in gallery.execute(statement):
            yield cell_bounds(GoogleEarthGrid(), Cell(level, column, row))


def write_scene(data: Path, work: Path, scene: str, date: int) -> Path:
    """Return a GeoTIFF of one date of a scene, (H, W, 3) uint8 in its own CRS, which is made where there is none."""
    path = work / "scenes" / f"{scene}-{date}.tif"
    if not path.exists():
        image, crs, transform = _read_scene(data, scene, date)
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = image.shape[:2]
        part = path.with_suffix(".part")
        profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "tiled": True, "compress": "deflate"}
        with rasterio.open(part, "w", height=height, width=width, crs=crs, transform=transform, **profile) as file:
            file.write(np.moveaxis(image, -1, 0))
        part.replace(path)
    return path


def _read_scene(data: Path, scene: str, date: int) -> tuple[Image, str, Affine]:
    if scene == "bmng":
        image = read_image(data / f"bmng/world.2004{('01', '07')[date]}.3x5400x2700.jpg")
        return image, "EPSG:4326", from_bounds(-180, -90, 180, 90, image.shape[1], image.shape[0])
    paths, bands = _bands(data / "pairs", scene, date)
    with rasterio.open(paths[0]) as dataset:
        return read_bands(paths, bands), dataset.crs.to_wkt(), dataset.transform


def _bands(pairs: Path, scene: str, date: int) -> tuple[list[Path], list[int]]:
    """Return the files and bands of red, green and blue."""
    if scene == "nanjing":
        return [sorted((pairs / scene).glob("*.hdr"))[date].with_suffix("")] * 3, [3, 2, 1]
    if scene == "s2_austria":
        return [pairs / scene / "inference-img.tif"] * 3, [4 * date + band for band in (1, 2, 3)]
    folder = sorted((pairs / scene).glob("crop*"))[date]
    return [folder / f"B0{band}.tif" for band in (4, 3, 2)], [1, 1, 1]


def first_images(folder: Path, limit: int | None) -> list[Path]:
    """Return the set itself, or so many of its images, in the order of its CSV, which goes round the sources."""
    if limit is None:
        return [folder]
    lines = folder.with_suffix(".csv").read_text("utf-8-sig").splitlines()[1:]
    return [folder / line.split(",")[0] for line in lines[:limit]]
