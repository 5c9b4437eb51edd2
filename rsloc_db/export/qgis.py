"""A QGIS project of a run: styled layers on the database's views. It holds no data, and no password unless told to."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from psycopg.conninfo import conninfo_to_dict
from pyproj import CRS

from rsloc_db.db import server
from rsloc_db.db.connection import connect, require_schema
from rsloc_db.db.evaluation import find_run
from rsloc_db.db.export import map_galleries, run_extent
from rsloc_db.errors import ExportError
from rsloc_db.export.qgis_layers import GROUPS, MapLayer
from rsloc_db.export.qgis_style import labeling, renderer
from rsloc_db.grids import lonlat_to_mercator
from rsloc_db.types import Bounds, Json

VERSION = "3.22.0"
"""Of QGIS, the oldest that reads the project."""
DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
MERCATOR_LAT_DEG = 80.0
"""Projects that reach further north or south are drawn in plain longitude and latitude."""
MARGIN = 0.05
GEOMETRIES = {"Point": "Point", "LineString": "Line", "MultiLineString": "Line"}
"""Type of a column -> what QGIS calls it; all others are Polygon."""
PARTS = {"host": "host", "port": "port", "dbname": "dbname", "user": "user", "sslmode": "sslmode", "service": "service"}


@dataclass(frozen=True, slots=True)
class Project:
    """What was written: the run, the file, its layers, and who is to be asked for a password (None: it is inside)."""

    run: int
    out: Path
    layers: list[str]
    user: str | None

    def as_dict(self) -> Json:
        """Return it as a JSON object."""
        return {"run": self.run, "out": str(self.out), "layers": self.layers, "user": self.user}


def write_qgis(
    run: int | None = None, *, out: str | Path = "project.qgz", password: bool = False, url: str | None = None
) -> Project:
    """Write a QGIS project (3.22 or newer) with styled layers on what a run found.

    Args:
        run: number of the run; None for the newest.
        out: file to write, .qgz or .qgs.
        password: whether to write the database's password into the file; else QGIS asks for it.
        url: PostgreSQL URL; None for the settings' own.

    Raises:
        ExportError: the suffix is another one, or the file cannot be written.
        RunError: there is no such run.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    path = Path(out)
    if path.suffix.lower() not in (".qgs", ".qgz"):
        raise ExportError(f"expected a file .qgz or .qgs, found {path.name!r}")
    url = url or server.database_url()
    with closing(connect(url)) as conn:
        require_schema(conn)
        number = find_run(conn, run)
        galleries = [name for name, _, _ in map_galleries(conn, number)]
        extent = run_extent(conn, number)
    project = ET.Element("qgis", version=VERSION, projectname=f"rsloc-db run {number}")
    _fill(project, number, galleries, extent, source_of(url, password=password))
    _write(path, DOCTYPE + ET.tostring(project, encoding="unicode"))
    names = [layer.name for _, layers in GROUPS for layer in layers]
    user = None if password else str(conninfo_to_dict(url).get("user") or "")
    return Project(number, path, names, user)


def source_of(url: str, *, password: bool) -> str:
    """Return a connection as QGIS writes it, without its password unless told so."""
    known = conninfo_to_dict(url)
    names = {**PARTS, **({"password": "password"} if password else {})}
    return " ".join(f"{name}={_quoted(str(known[key]))}" for name, key in names.items() if known.get(key))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _fill(project: ET.Element, run: int, galleries: Sequence[str], extent: Bounds, connection: str) -> None:
    ET.SubElement(project, "title").text = f"rsloc-db run {run}"
    flat = max(abs(extent.south_deg), abs(extent.north_deg)) > MERCATOR_LAT_DEG
    crs = "EPSG:4326" if flat else "EPSG:3857"
    ET.SubElement(project, "projectCrs").append(_crs(crs))
    # without it QGIS takes the project's CRS for none
    properties = ET.SubElement(ET.SubElement(project, "properties"), "SpatialRefSys")
    ET.SubElement(properties, "ProjectionsEnabled", type="int").text = "1"
    tree = ET.SubElement(project, "layer-tree-group")
    maps = ET.SubElement(project, "projectlayers")
    for title, layers in GROUPS:
        group = ET.SubElement(tree, "layer-tree-group", name=title, checked="Qt::Checked", expanded="1")
        for layer in layers:
            source = f"{connection} {layer.source(run, galleries)}"
            shown = "Qt::Checked" if layer.visible else "Qt::Unchecked"
            named = {"id": layer.key, "name": layer.name, "checked": shown, "expanded": "0"}
            ET.SubElement(group, "layer-tree-layer", named, source=source, providerKey="postgres")
            maps.append(_map_layer(layer, source))
    _add_view(project, extent, crs)


def _map_layer(layer: MapLayer, source: str) -> ET.Element:
    scales = {"hasScaleBasedVisibilityFlag": "1", "minScale": str(layer.from_scale), "maxScale": "0"}
    root = ET.Element(
        "maplayer",
        scales if layer.from_scale else {},
        type="vector",
        geometry=GEOMETRIES.get(layer.type, "Polygon"),
        wkbType=layer.type,
        labelsEnabled="1" if layer.style.text else "0",
    )
    for name, text in (("id", layer.key), ("datasource", source), ("layername", layer.name)):
        ET.SubElement(root, name).text = text
    ET.SubElement(root, "srs").append(_crs("EPSG:4326"))
    ET.SubElement(root, "provider", encoding="UTF-8").text = "postgres"
    root.append(renderer(layer.style))
    if layer.style.text:
        root.append(labeling(layer.style))
    return root


def _crs(code: str) -> ET.Element:
    root = ET.Element("spatialrefsys")
    ET.SubElement(root, "wkt").text = CRS.from_user_input(code).to_wkt()
    ET.SubElement(root, "authid").text = code
    ET.SubElement(root, "srid").text = code.removeprefix("EPSG:")
    return root


def _add_view(project: ET.Element, extent: Bounds, crs: str) -> None:
    """Add what the map shows first: the extent of the run's places, in the project's CRS."""
    x, y = np.array([extent.west_deg, extent.east_deg]), np.array([extent.south_deg, extent.north_deg])
    margin = MARGIN * np.array([-1.0, 1.0])
    x, y = x + margin * np.ptp(x), y + margin * np.ptp(y)
    if crs == "EPSG:3857":
        x, y = lonlat_to_mercator(x, y)
    (west, east), (south, north) = x.tolist(), y.tolist()
    canvas = ET.SubElement(project, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    ET.SubElement(canvas, "units").text = "degrees" if crs == "EPSG:4326" else "meters"
    box = ET.SubElement(canvas, "extent")
    for name, value in (("xmin", west), ("ymin", south), ("xmax", east), ("ymax", north)):
        ET.SubElement(box, name).text = repr(value)
    ET.SubElement(canvas, "destinationsrs").append(_crs(crs))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".qgs":
            path.write_text(text, encoding="utf-8")
            return
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.qgs", text)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}") from error
