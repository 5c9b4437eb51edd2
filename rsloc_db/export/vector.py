"""Write what a run found as GeoJSON, GeoPackage or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rsloc_db.db.connection import Connection, connect, require_schema
from rsloc_db.db.evaluation import find_run
from rsloc_db.errors import ExportError
from rsloc_db.export.layers import LARGE, LAYERS, MOST_WANTED, Layer, LayerRows, find_layers, read_layer
from rsloc_db.types import Json

DIGITS = 7
"""Of degrees in text files: about a centimetre."""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written: the run, the file, and how many rows of each layer."""

    run: int
    out: Path
    rows: dict[str, int]

    def as_dict(self) -> Json:
        """Return it as a JSON object."""
        return {"run": self.run, "out": str(self.out), "rows": self.rows}


def export_run(
    run: int | None = None, *, out: str | Path, layers: Sequence[str] | None = None, url: str | None = None
) -> Export:
    """Write what a run found: GeoJSON (RFC 7946), GeoPackage or CSV by the suffix of ``out``.

    Coordinates are lon, lat in degrees (EPSG:4326 or, in GeoJSON, OGC:CRS84, the same); shapes are cut at the
    antimeridian and their rings run counterclockwise. In GeoJSON and CSV they have seven decimals.

    Args:
        run: number of the run; None for the newest.
        out: file to write, .geojson, .json, .gpkg or .csv; one that is there is replaced when all is written.
        layers: names of layers (see ``export.layers``). GeoJSON and CSV hold one, localizations by default; a
            GeoPackage holds all by default but for votes.
        url: PostgreSQL URL; None for the settings' own.

    Raises:
        ExportError: an unknown suffix or layer, more than one layer where one fits, pyogrio is not installed, or the
            file cannot be written.
        RunError: there is no such run.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    path = Path(out)
    write = _writer(path)
    wanted = _wanted(path, layers)
    with closing(connect(url)) as conn:
        require_schema(conn)
        number = find_run(conn, run)
        try:
            with _replaced(path) as unfinished:
                rows = write(conn, wanted, number, unfinished)
        except ModuleNotFoundError as error:
            raise ExportError(f"a GeoPackage needs {error.name}: pip install 'rsloc-db[export]'") from error
        except OSError as error:
            raise ExportError(f"{path} cannot be written: {error.strerror or error}") from error
    return Export(number, path, rows)


def _wanted(path: Path, names: Sequence[str] | None) -> list[Layer]:
    if path.suffix.lower() == ".gpkg":
        return find_layers(list(names) if names else [name for name in LAYERS if name not in LARGE])
    found = find_layers(list(names or [MOST_WANTED]))
    if len(found) > 1:
        raise ExportError(f"a {path.suffix} file holds one layer, found {len(found)}: write a .gpkg, or several files")
    return found


Writer = Callable[[Connection, list[Layer], int, Path], dict[str, int]]


def _writer(path: Path) -> Writer:
    from rsloc_db.export.geopackage import write_geopackage

    writers: dict[str, Writer] = {".geojson": _geojson, ".json": _geojson, ".csv": _csv, ".gpkg": write_geopackage}
    if path.suffix.lower() not in writers:
        raise ExportError(f"expected a file {', '.join(writers)}, found {path.name!r}")
    return writers[path.suffix.lower()]


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Yield a path to write to, and put that file in the place of the old one when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.part{path.suffix}")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _geojson(conn: Connection, layers: list[Layer], run: int, path: Path) -> dict[str, int]:
    (layer,) = layers
    with read_layer(conn, layer, run) as found, path.open("w", encoding="utf-8") as file:
        head = {"type": "FeatureCollection", "name": layer.name, "description": found.comment}
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        count = 0
        for feature in _features(found):
            file.write(",\n" if count else "\n")
            count += 1
            file.write(json.dumps(feature, ensure_ascii=False, allow_nan=False))
        file.write("\n]}\n")
    return {layer.name: count}


def _features(found: LayerRows) -> Iterator[Json]:
    for row in _rows(found):
        values = {name: _plain(value) for name, value in zip(found.types, row[:-1], strict=True)}
        shape = None if row[-1] is None else json.loads(shapely.to_geojson(_rounded(row[-1])))
        yield {"type": "Feature", "id": values["id"], "geometry": shape, "properties": values}


def _csv(conn: Connection, layers: list[Layer], run: int, path: Path) -> dict[str, int]:
    (layer,) = layers
    # csv ends its lines itself, as RFC 4180 says
    with read_layer(conn, layer, run) as found, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*found.types, "wkt"])
        count = 0
        for row in _rows(found):
            count += 1
            wkt = None if row[-1] is None else shapely.to_wkt(_rounded(row[-1]), rounding_precision=DIGITS)
            writer.writerow([*map(_text, row[:-1]), wkt])
    return {layer.name: count}


def _rows(found: LayerRows) -> Iterator[tuple[Any, ...]]:
    for part in found.parts:
        yield from part


def _rounded(wkb: bytes) -> BaseGeometry:
    def to_digits(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.round(points, DIGITS)

    return shapely.transform(shapely.from_wkb(wkb), to_digits)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | bool) else _plain(value)
