"""Write an image with a georeference: as COG, GeoTIFF, VRT, or with a world file. Pixels, bands and types are kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

import rasterio
import rasterio.shutil
from pyproj import CRS
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine, xy

from rsloc_db.errors import ExportError
from rsloc_db.queries.images import open_raster

Format = Literal["cog", "gtiff", "vrt", "worldfile"]

CREATION = {
    "COG": {"COMPRESS": "DEFLATE", "BIGTIFF": "IF_SAFER", "OVERVIEWS": "AUTO"},
    "GTiff": {"COMPRESS": "DEFLATE", "BIGTIFF": "IF_SAFER", "TILED": "YES"},
}
"""Options of GDAL; the compression loses nothing."""
HEADED = ("ENVI", "EHdr")
"""Formats of which GDAL reads neither world files nor .aux.xml."""
OTHER_GEOREFERENCES = ("RPC", "GEOLOCATION", "xml:ESRI")
"""Metadata of a source that would speak against the place that was found."""


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where an image lies.

    Attributes:
        transform: from pixels (the upper left corner of the image is 0, 0) to the map.
        srid: EPSG code of the map.
        tags: what else to say of it, for formats that can.
    """

    transform: Affine
    srid: int
    tags: Mapping[str, str]


def write_georeferenced(source: Path, georeference: Georeference, stem: Path, form: Format) -> list[Path]:
    """Write an image with a georeference.

    What georeference the image has itself is left out. A file that is there is replaced.

    Args:
        source: the image.
        georeference: where it lies.
        stem: path to write to, without suffix.
        form: cog, gtiff; vrt: a small file that points to the image; worldfile: a copy of the image beside a
            world file, a .prj, and an .aux.xml that tells GDAL and QGIS the same.

    Returns:
        What was written, the file to open first.

    Raises:
        ImageError: the image cannot be read.
        ExportError: the result would replace the image itself, or cannot be written.
    """
    if stem.parent.resolve() == source.parent.resolve():
        raise ExportError(f"{stem.parent} is the folder of the image itself: choose another one")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with open_raster(source) as dataset:
            if form == "worldfile":
                return _write_world_file(dataset, source, georeference, stem)
            return [_write_raster(dataset, source, georeference, stem, form)]
    # rasterio.shutil.copy lets GDAL's own errors through
    except (CPLE_BaseError, RasterioError, OSError) as error:
        raise ExportError(f"{stem} cannot be written: {error}") from error


def _write_raster(dataset: DatasetReader, source: Path, georeference: Georeference, stem: Path, form: Format) -> Path:
    path = stem.with_name(f"{stem.name}.vrt" if form == "vrt" else f"{stem.name}.tif")
    unfinished = path.with_name(f".{stem.name}.part")
    try:
        rasterio.shutil.copy(dataset, unfinished, driver="VRT")
        text = georeferenced_vrt(unfinished.read_text(encoding="utf-8"), source.absolute(), georeference)
        if form == "vrt":
            unfinished.write_text(text, encoding="utf-8")
        else:
            driver = {"cog": "COG", "gtiff": "GTiff"}[form]
            with rasterio.open(text) as placed:
                rasterio.shutil.copy(placed, unfinished, driver=driver, **CREATION[driver])
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def georeferenced_vrt(text: str, source: Path, georeference: Georeference) -> str:
    """Return GDAL's VRT of an image with another georeference, and the image by its absolute path.

    Source: the VRT driver's documentation, https://gdal.org/en/stable/drivers/raster/vrt.html.
    """
    root = ET.fromstring(text)  # noqa: S314 (GDAL wrote it just now)
    for child in list(root):
        domain = child.get("domain") if child.tag == "Metadata" else None
        if child.tag in ("SRS", "GeoTransform", "GCPList") or domain in OTHER_GEOREFERENCES:
            root.remove(child)
    for name in root.iter("SourceFilename"):
        name.text = str(source)
        name.set("relativeToVRT", "0")
    _add_georeference(root, georeference)
    tags = root.find("Metadata")
    if tags is None or tags.get("domain"):
        tags = ET.SubElement(root, "Metadata")
    for key, value in {"AREA_OR_POINT": "Area", **georeference.tags}.items():
        for old in tags.findall(f"MDI[@key='{key}']"):
            tags.remove(old)
        ET.SubElement(tags, "MDI", key=key).text = value
    return ET.tostring(root, encoding="unicode")


def _add_georeference(root: ET.Element, georeference: Georeference) -> None:
    """Add SRS and GeoTransform, which VRT and .aux.xml write in the same way."""
    ET.SubElement(root, "SRS").text = CRS.from_epsg(georeference.srid).to_wkt("WKT1_GDAL")
    ET.SubElement(root, "GeoTransform").text = ", ".join(repr(v) for v in georeference.transform.to_gdal())


def _write_world_file(dataset: DatasetReader, source: Path, georeference: Georeference, stem: Path) -> list[Path]:
    if dataset.driver in HEADED:
        raise ExportError(f"{source.name} has its place in a header, not in a world file: choose another format")
    image = stem.with_name(stem.name + source.suffix)
    shutil.copyfile(source, image)
    world, projection = image.with_suffix(world_suffix(source.suffix)), image.with_suffix(".prj")
    world.write_text(world_file(georeference.transform))
    projection.write_text(CRS.from_epsg(georeference.srid).to_wkt("WKT1_ESRI"), encoding="utf-8")
    root = ET.Element("PAMDataset")
    _add_georeference(root, georeference)
    auxiliary = image.with_name(f"{image.name}.aux.xml")
    auxiliary.write_text(ET.tostring(root, encoding="unicode"), encoding="utf-8")
    return [image, world, projection, auxiliary]


def world_suffix(suffix: str) -> str:
    """Return the suffix of the world file of an image: first and last letter of its own, and w; .wld if it has none."""
    letters = suffix.removeprefix(".")
    return f".{letters[0]}{letters[-1]}w" if letters else ".wld"


def world_file(transform: Affine) -> str:
    """Return a world file: a, d, b, e and the centre of the upper left pixel, a line each (ESRI's format)."""
    x, y = (float(v) for v in xy(transform, 0, 0))
    values = (transform.a, transform.d, transform.b, transform.e, x, y)
    return "".join(f"{value!r}\n" for value in values)
