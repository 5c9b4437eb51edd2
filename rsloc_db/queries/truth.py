"""Where queries really are, for evaluation alone. The localizer never imports this module; a test checks that."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import rasterio
import rasterio.transform

from rsloc_db.errors import ImageError, QueryError
from rsloc_db.grids import wrap_lon
from rsloc_db.queries.images import open_raster
from rsloc_db.queries.sets import QuerySet, find_set, image_names
from rsloc_db.queries.tables import columns, read_table, unique_names

LonLat = tuple[float, float]
Corners = tuple[LonLat, LonLat, LonLat, LonLat]

_BOX = ("lon_min", "lat_min", "lon_max", "lat_max")
_CORNERS = ("ul_lon", "ul_lat", "ur_lon", "ur_lat", "lr_lon", "lr_lat", "ll_lon", "ll_lat")
"""Optional columns: the corners one by one, for images that are not north up. They go before the bounds."""
_PROVIDERS = frozenset({"arcgis", "bing", "google", "mapbox", "naip"})
_RSLOC_NAME = re.compile(r"[A-Za-z]+\d.*_L\d+_[^_]+", re.ASCII)


@dataclass(frozen=True)
class Truth:
    """The true place of a query.

    Attributes:
        query_set: the query's set.
        name: the query's file name, exact to the letter.
        center: lon, lat in degrees (EPSG:4326) of its centre pixel; None where it is in no gallery (absent).
        corners: lon, lat of its corners: upper left, upper right, lower right, lower left; None where unknown.
        provider: whose image it is, or empty.
        landscape: ``urban``, ``non-urban`` or empty.
        simulated: whether its appearance was made by a program; None where nobody says.
        source: the file that this was read from.
    """

    query_set: str
    name: str
    center: LonLat | None
    corners: Corners | None
    provider: str
    landscape: str
    simulated: bool | None
    source: str


def read_truth(paths: Sequence[Path], *, simulated: bool | None = None) -> list[Truth]:
    """Read true places: from the CSV beside a set, else from the files' own tags. The localizer never calls this.

    A CSV row with empty lat and lon is absent. A file that neither has tells of no place and is left out.

    Args:
        paths: files, folders and sets as for ``read_queries``.
        simulated: what holds for images of which no CSV column ``simulated`` says it.

    Raises:
        QueryError: a path is missing, or a place is half empty, no number or not on Earth.
    """
    found: dict[tuple[str, str], Truth] = {}
    for path in paths:
        query_set = find_set(Path(path))
        for truth in _read_set(query_set, simulated):
            found.setdefault((truth.query_set, truth.name), truth)
    return list(found.values())


def provider_of(name: str, stated: str = "") -> str:
    """Return whose image it is: by the last part of its name, else as stated (the RSLoc CSVs state it wrongly)."""
    last = Path(name).stem.rpartition("_")[2].lower()
    return last if last in _PROVIDERS else stated.lower()


def landscape_of(name: str) -> str:
    """Return ``urban`` for RSLoc names that begin with F and a digit, ``non-urban`` for its others, else nothing."""
    if not _RSLOC_NAME.fullmatch(Path(name).stem):
        return ""
    return "urban" if re.match(r"F\d", name) else "non-urban"


def _read_set(query_set: QuerySet, simulated: bool | None) -> Iterator[Truth]:
    # a CSV that says nothing of places (names and levels alone) is no reason to pass over the tags
    if query_set.table is not None and {"lat", "lon"} & set(columns(query_set.table)):
        return _from_table(query_set, query_set.table, simulated)
    return _from_tags(query_set, simulated)


def _from_table(query_set: QuerySet, table: Path, simulated: bool | None) -> Iterator[Truth]:
    rows = read_table(table, ("imgname", "lat", "lon"), (*_BOX, *_CORNERS, "type", "simulated"))
    for line, row in unique_names(table, rows):
        name, where = row["imgname"], f"{table}, line {line} ({row['imgname']})"
        if query_set.only in (None, name):
            yield Truth(
                query_set=query_set.name,
                name=name,
                center=_center(row, where),
                corners=_stated_corners(row, where) or _box_corners(row, where),
                provider=provider_of(name, row["type"]),
                landscape=landscape_of(name),
                simulated=_flag(row["simulated"], simulated, where),
                source=str(table),
            )


def _center(row: Mapping[str, str], where: str) -> LonLat | None:
    if not row["lat"] and not row["lon"]:
        return None
    lon, lat = _numbers((row["lon"], row["lat"]), where)
    return _place(lon, lat, where)


def _stated_corners(row: Mapping[str, str], where: str) -> Corners | None:
    """Return the corners that the CSV states one by one, None where it states none."""
    texts = [row[name] for name in _CORNERS]
    if not any(texts):
        return None
    if not all(texts):
        raise QueryError(f"{where}: expected all of {', '.join(_CORNERS)} or none, found some")
    numbers = _numbers(texts, where)
    ul, ur, lr, ll = (_place(lon, lat, where) for lon, lat in zip(numbers[::2], numbers[1::2], strict=True))
    return ul, ur, lr, ll


def _box_corners(row: Mapping[str, str], where: str) -> Corners | None:
    """Return the corners of a north-up image from the CSV's bounds, None where a bound is missing."""
    if not all(row[bound] for bound in _BOX):
        return None
    west, south, east, north = _numbers([row[bound] for bound in _BOX], where)
    corners = (west, north), (east, north), (east, south), (west, south)
    ul, ur, lr, ll = (_place(_wrapped(lon), lat, where) for lon, lat in corners)
    return ul, ur, lr, ll


def _numbers(texts: Sequence[str], where: str) -> list[float]:
    try:
        return [float(text) for text in texts]
    except ValueError as error:
        raise QueryError(f"{where}: expected degrees, found {', '.join(map(repr, texts))}") from error


def _place(lon: float, lat: float, where: str) -> LonLat:
    # written so that NaN fails, too
    if not (abs(lon) <= 180 and abs(lat) <= 90):
        raise QueryError(f"{where}: longitude {lon}, latitude {lat} is no place on Earth")
    return lon, lat


def _flag(text: str, default: bool | None, where: str) -> bool | None:
    if not text:
        return default
    if text.lower() not in ("true", "1", "yes", "false", "0", "no"):
        raise QueryError(f"{where}: simulated is {text!r}, expected true or false")
    return text.lower() in ("true", "1", "yes")


def _from_tags(query_set: QuerySet, simulated: bool | None) -> Iterator[Truth]:
    """Yield the truth of each georeferenced file of a folder; files that are no images have none."""
    for name in sorted(image_names(query_set)):
        path = query_set.folder / name
        try:
            with open_raster(path) as dataset:
                places = _tagged_places(dataset, str(path))
        except ImageError:
            continue
        if places is not None:
            center, corners = places
            where = str(path)
            yield Truth(query_set.name, name, center, corners, provider_of(name), landscape_of(name), simulated, where)


def _tagged_places(dataset: rasterio.DatasetReader, where: str) -> tuple[LonLat, Corners | None] | None:
    """Return lon, lat of the centre pixel and of the corners by the file's geotransform and CRS."""
    if not dataset.crs or dataset.transform.is_identity:
        return None
    try:
        crs = pyproj.CRS.from_wkt(dataset.crs.to_wkt())
        to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except pyproj.exceptions.ProjError:
        return None  # an engineering CRS has no place on Earth
    across, down = np.array([[0.5, 0, 1, 1, 0], [0.5, 0, 0, 1, 1]])
    xs, ys = rasterio.transform.xy(dataset.transform, down * dataset.height, across * dataset.width, offset="ul")
    lons, lats = to_degrees.transform(xs, ys)
    center = _place(_wrapped(lons[0]), _at_pole(lats[0]), where)
    if not np.isfinite([lons, lats]).all():
        return center, None  # a corner may lie beyond the rim of its projection
    ul, ur, lr, ll = (_place(_wrapped(lon), _at_pole(lat), where) for lon, lat in zip(lons[1:], lats[1:], strict=True))
    return center, (ul, ur, lr, ll)


def _wrapped(lon: float) -> float:
    return float(wrap_lon(np.asarray(lon))) if 180 < abs(lon) < math.inf else float(lon)


def _at_pole(lat: float) -> float:
    """Bring the rim of a global image, which may lie a rounding error beyond the pole, to the pole."""
    return math.copysign(90.0, lat) if 90.0 < abs(lat) < 90.0 + 1e-6 else float(lat)
