"""Write layers into a GeoPackage, by pyogrio (GDAL)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsloc_db.db.connection import Connection
from rsloc_db.db.export import Rows
from rsloc_db.errors import ExportError
from rsloc_db.export.layers import Layer, LayerRows, read_layer

TYPES = {
    "int2": "int32",
    "int4": "int32",
    "int8": "int64",
    "float4": "float64",
    "float8": "float64",
    "bool": "bool",
    "timestamptz": "datetime64[ms]",
}
"""PostgreSQL type -> NumPy type of a field; all else is text."""
UTC = 100
"""How GDAL writes the time zone UTC."""


def write_geopackage(conn: Connection, layers: list[Layer], run: int, path: Path) -> dict[str, int]:
    """Write layers of a run into a new GeoPackage; those without rows are made, too.

    Returns:
        Name of each layer -> its rows.

    Raises:
        ModuleNotFoundError: pyogrio is not installed.
        ExportError: the file cannot be written.
    """
    from pyogrio.errors import DataSourceError

    try:
        return {layer.name: _write_layer(conn, layer, run, path) for layer in layers}
    except DataSourceError as error:
        raise ExportError(f"{path} cannot be written: {error}") from error


def _write_layer(conn: Connection, layer: Layer, run: int, path: Path) -> int:
    with read_layer(conn, layer, run) as found:
        rows = next(found.parts, [])
        _write(found, rows, path, layer_options={"DESCRIPTION": found.comment})
        count = len(rows)
        for rows in found.parts:
            _write(found, rows, path, append=True)
            count += len(rows)
    return count


def _write(found: LayerRows, rows: Rows, path: Path, **options: Any) -> None:
    from pyogrio.raw import write

    fields = [_field(kind, [row[i] for row in rows]) for i, kind in enumerate(found.types.values())]
    zones = {name: np.full(len(rows), UTC) for name, kind in found.types.items() if kind == "timestamptz"}
    shapes = np.empty(len(rows), object)
    shapes[:] = [row[-1] for row in rows]
    write(
        path,
        geometry=shapes,
        field_data=[values for values, _ in fields],
        fields=list(found.types),
        field_mask=[missing for _, missing in fields],
        layer=found.layer.name,
        driver="GPKG",
        geometry_type=found.layer.shape,
        crs="EPSG:4326",
        gdal_tz_offsets=zones,
        **options,
    )


def _field(kind: str, values: Sequence[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return a column as an array, and where it is null."""
    missing = np.array([value is None for value in values], bool)
    if kind not in TYPES:
        return np.array([json.dumps(v) if isinstance(v, list) else v for v in values], object), missing
    if kind == "timestamptz":
        values = [None if value is None else value.replace(tzinfo=None) for value in values]
    fill: Any = np.datetime64("NaT") if kind == "timestamptz" else 0
    return np.array([fill if value is None else value for value in values], TYPES[kind]), missing
