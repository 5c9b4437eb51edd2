"""Find the query images that paths name: files, folders, and RSLoc query sets with their CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from rsloc_db.errors import ImageError, QueryError
from rsloc_db.queries.images import open_raster
from rsloc_db.queries.scale import ScaleOptions, TableScale, check_level, find_scale
from rsloc_db.queries.tables import columns, read_table, unique_names
from rsloc_db.types import Pixels, Scale

_TEXTS = (".csv", ".txt", ".md", ".json", ".geojson", ".html", ".pdf", ".log", ".yml", ".yaml", ".py", ".sh", ".db")
_SIDECARS = (".hdr", ".xml", ".prj", ".ovr", ".msk", ".rrd", ".ige", ".wld", ".tfw", ".tifw", ".tiffw", ".jgw", ".pgw")
_MAPS = (".shp", ".shx", ".dbf", ".cpg", ".gpkg", ".qgz", ".qgs", ".qlr", ".qml", ".sld", ".kml")
_BESIDE_IMAGES = frozenset((*_TEXTS, *_SIDECARS, *_MAPS))
"""Suffixes of files that lie beside images and are none: passed over without a word."""


@dataclass(frozen=True, slots=True)
class QueryFile:
    """An image whose place is asked for, or what stands in its way.

    Attributes:
        query_set: name of its folder, which is the set's name.
        name: file name, exact to the letter (names may differ in case alone).
        path: where the file is.
        scale: the size of its pixels, None where there is a problem.
        problem: why it cannot be localized, in one sentence, or None.
    """

    query_set: str
    name: str
    path: Path
    scale: Scale | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class QuerySet:
    """What one path names.

    Attributes:
        name: the folder's name.
        folder: where the images are.
        table: the CSV beside the folder, if there is one.
        only: the one file that is meant, or None for all.
    """

    name: str
    folder: Path
    table: Path | None
    only: str | None


def read_queries(
    paths: Sequence[Path], *, level: int | None = None, gsd_m: float | None = None, pixels: Pixels | None = None
) -> list[QueryFile]:
    """List the queries that files, folders and query sets name, each with its scale or its problem.

    Args:
        paths: image files, folders of images, or RSLoc sets, given as the folder or as the CSV beside it.
        level: level whose nominal resolution all queries have; goes before the CSV's.
        gsd_m: metres a pixel of all queries; goes before everything else.
        pixels: what a pixel is; by default ground for ``gsd_m``, mercator for a level, else as the file's CRS says.

    Returns:
        Each query once, in the order of the paths and, within a set, by name.

    Raises:
        QueryError: a path is missing or holds no image, a CSV lacks columns, or the options contradict one another.
    """
    options = ScaleOptions(level, gsd_m, pixels)
    found: dict[tuple[str, str], QueryFile] = {}
    for path in paths:
        for query in _read_set(find_set(Path(path)), options):
            known = found.setdefault((query.query_set, query.name), query)
            if known.path.absolute() != query.path.absolute():
                raise QueryError(
                    f"{known.path} and {query.path} would both be query {query.name} of set {query.query_set}: "
                    "rename a folder"
                )
    return list(found.values())


def find_set(path: Path) -> QuerySet:
    """Tell what a path names: a set by its CSV, a folder, or a single file.

    Raises:
        QueryError: there is nothing at that path.
    """
    if path.is_dir():
        return _folder_set(path, None)
    if not path.is_file():
        raise QueryError(f"no such file or folder: {path}")
    if path.suffix.lower() == ".csv":
        return QuerySet(path.stem, path.with_suffix(""), path, None)
    return _folder_set(path.parent, path.name)


def image_names(query_set: QuerySet) -> set[str]:
    """Return the names of the files of a set that may be images; whether they are, opening them will tell."""
    if query_set.only is not None:
        return {query_set.only}
    return {path.name for path in query_set.folder.iterdir() if not path.is_dir() and not _is_beside(path.name)}


def _folder_set(folder: Path, only: str | None) -> QuerySet:
    # "." and ".." have no name of their own
    named = folder if folder.name not in ("", "..") else folder.resolve()
    table = named.parent / f"{named.name}.csv"
    return QuerySet(named.name, folder, table if table.is_file() else None, only)


def _read_set(query_set: QuerySet, options: ScaleOptions) -> Iterator[QueryFile]:
    if not query_set.folder.is_dir():
        raise QueryError(f"{query_set.table} names images in {query_set.folder}, and there is no such folder")
    scales = _scales(query_set)
    files = {path.name for path in query_set.folder.iterdir() if not path.is_dir()}
    names = sorted(scales.keys() | image_names(query_set))
    if not names:
        raise QueryError(f"no images in {query_set.folder}")
    for name in names:
        yield _read_query(query_set, name, name in files, scales.get(name, TableScale()), options)


def _read_query(query_set: QuerySet, name: str, exists: bool, stated: TableScale, options: ScaleOptions) -> QueryFile:
    path = query_set.folder / name
    scale, problem = None, None if exists else "missing file"
    try:
        if exists:
            with open_raster(path) as dataset:
                scale = find_scale(dataset, options, stated)
    except (ImageError, QueryError) as error:
        problem = str(error)
    return QueryFile(query_set.name, name, path, scale, problem)


def _is_beside(name: str) -> bool:
    return name.startswith(".") or Path(name).suffix.lower() in _BESIDE_IMAGES


def _scales(query_set: QuerySet) -> dict[str, TableScale]:
    """Return what the set's CSV says about the scale of each image that it names."""
    table = query_set.table
    if table is None:
        return {}
    # a table that tells the size of pixels need not tell a level
    sized = {"resolution", "pixels"} <= {*columns(table)}
    rows = read_table(table, ("imgname",) if sized else ("imgname", "level"), ("level", "resolution", "pixels"))
    return {
        row["imgname"]: _scale(row, f"{table}, line {line}")
        for line, row in unique_names(table, rows)
        if query_set.only in (None, row["imgname"])
    }


def _scale(row: Mapping[str, str], where: str) -> TableScale:
    level = _level(row["level"], f"{where}: level")
    # without the word what a pixel is, a resolution is the level's, in whatever unit its maker liked
    if not row["pixels"]:
        return TableScale(level)
    if row["pixels"] not in get_args(Pixels):
        raise QueryError(f"{where}: pixels is {row['pixels']!r}, expected {', '.join(get_args(Pixels))} or nothing")
    return TableScale(level, _resolution(row["resolution"], where), cast(Pixels, row["pixels"]))


def _resolution(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        size = float(text)
    except ValueError:
        size = float("nan")
    if not 0 < size < float("inf"):
        raise QueryError(f"{where}: resolution is {text!r}, expected a number above 0")
    return size


def _level(text: str, what: str) -> int | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not number.is_integer():
        raise QueryError(f"{what} is {text!r}: expected a whole number")
    return check_level(int(number), what)
