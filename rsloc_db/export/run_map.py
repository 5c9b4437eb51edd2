"""All that a map of a run shows, read from the database: answers, truth, runners-up, base map and thumbnails."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from rsloc_db.db.connection import Connection
from rsloc_db.db.evaluation import find_run
from rsloc_db.db.export import map_galleries, map_places, map_queries
from rsloc_db.db.galleries import get_gallery
from rsloc_db.errors import ImageError
from rsloc_db.export.basemap import Basemap, basemap
from rsloc_db.queries.images import load_image
from rsloc_db.types import Bounds, Image, Json

Ring = list[tuple[float, float]]
"""An outline: lon, lat in degrees, closed."""

RUNNERS_UP = 3
THUMBNAIL_PX = 200
MAX_THUMBNAILS = 60
MAX_DETAILS = 40
DETAIL_PX = 700
DETAIL_TILES = 400
COARSE = 3.0
"""A footprint gets a base map of its own where it is shown this many times smaller than it is known."""


@dataclass(frozen=True, slots=True)
class QueryMap:
    """A query on the map.

    Attributes:
        number: its number on the map, from 1.
        name: its name.
        verdict: accepted, ambiguous, not_here, failed or pending.
        reason: why.
        confidence: 0 to 1.
        center: lon, lat that was found.
        ellipse_m: semi-axes of the 95 % ellipse.
        state: present, absent, uncovered or unlabelled.
        error_m: ground distance from the true centre.
        found: outline of the answer.
        truth: true outline.
        ellipse: 95 % ellipse of the centre.
        others: (what it is, outline) of places that were thought of and not chosen.
        thumbnail: the image, small; None where it is not there any more.
    """

    number: int
    name: str
    verdict: str
    reason: str
    confidence: float | None
    center: tuple[float, float] | None
    ellipse_m: tuple[float, float] | None
    state: str
    error_m: float | None
    found: list[Ring]
    truth: list[Ring]
    ellipse: list[Ring]
    others: list[tuple[str, list[Ring]]] = field(default_factory=list)
    thumbnail: Image | None = None


@dataclass(frozen=True, slots=True)
class RunMap:
    """What a map of a run shows; base maps are to be drawn in their order."""

    run: int
    bounds: Bounds
    queries: list[QueryMap]
    basemaps: list[Basemap]
    galleries: list[str]
    attributions: list[str]

    def summary(self) -> str:
        """Return how many queries got which verdict, in words."""
        verdicts = [query.verdict for query in self.queries]
        counts = [(verdict, verdicts.count(verdict)) for verdict in dict.fromkeys(sorted(verdicts))]
        said = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts)
        return f"run {self.run}: {len(verdicts)} queries, {said}"


def read_run(conn: Connection, run: int | None = None) -> RunMap:
    """Read what a map of a run shows.

    Args:
        conn: a connection.
        run: number of the run; None for the newest.

    Raises:
        RunError: there is no such run.
        GalleryError: a tile cannot be read any more.
    """
    number = find_run(conn, run)
    queries = _read_queries(conn, number)
    searched = [(get_gallery(conn, name), low, high) for name, low, high in map_galleries(conn, number)]
    bounds = _bounds_of(queries)
    overview = basemap(conn, [(gallery, low) for gallery, low, _ in searched], bounds)
    finest = [(gallery, high) for gallery, _, high in searched]
    details = [
        basemap(conn, finest, box, max_side_px=DETAIL_PX, max_tiles=DETAIL_TILES)
        for box in _details(overview, queries, max((high for _, _, high in searched), default=0))
    ]
    attributions = [gallery.attribution for gallery, _, _ in searched if gallery.attribution]
    names = [gallery.name for gallery, _, _ in searched]
    return RunMap(number, bounds, queries, [overview, *details], names, attributions)


def _read_queries(conn: Connection, run: int) -> list[QueryMap]:
    others: dict[int, list[tuple[str, list[Ring]]]] = {}
    for place in map_places(conn, run, RUNNERS_UP + 1):
        if not place["chosen"]:
            label = f"place {place['rank']}: correlation {place['correlation']:.2f}, evidence {place['evidence']:.1f}"
            others.setdefault(place["id"], []).append((label, rings(place["footprint"])))
    return [
        _query(number, row, others.get(row["id"], [])) for number, row in enumerate(map_queries(conn, run), start=1)
    ]


def _query(number: int, row: Json, others: list[tuple[str, list[Ring]]]) -> QueryMap:
    return QueryMap(
        number=number,
        name=row["name"],
        verdict=row["verdict"],
        reason=row["reason"],
        confidence=row["confidence"],
        center=None if row["lon"] is None else (row["lon"], row["lat"]),
        ellipse_m=None if row["ellipse_a_m"] is None else (row["ellipse_a_m"], row["ellipse_b_m"]),
        state=row["state"],
        error_m=row["error_m"],
        found=rings(row["footprint"]),
        truth=rings(row["truth"]),
        ellipse=rings(row["ellipse"]),
        others=others[:RUNNERS_UP],
        thumbnail=_thumbnail(Path(row["path"])) if number <= MAX_THUMBNAILS else None,
    )


def rings(geojson: str | None) -> list[Ring]:
    """Return the outer rings of a GeoJSON polygon or multipolygon, none for None."""
    if geojson is None:
        return []
    shape = json.loads(geojson)
    polygons = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    return [[(lon, lat) for lon, lat, *_ in polygon[0]] for polygon in polygons]


def _thumbnail(path: Path) -> Image | None:
    try:
        image, _ = load_image(path)
    except ImageError:
        return None
    return shrunk(image, THUMBNAIL_PX)


def shrunk(image: Image, side_px: int) -> Image:
    """Return an image whose longer side is at most ``side_px``."""
    scale = min(1.0, side_px / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _bounds_of(queries: Sequence[QueryMap]) -> Bounds:
    """Return a box around all that is to be shown, with a margin; the whole world where there is nothing."""
    outlines = [ring for q in queries for ring in (*q.found, *q.truth, *(r for _, other in q.others for r in other))]
    if not outlines:
        return Bounds(-180.0, -90.0, 180.0, 90.0)
    return _grown(_around(outlines), 0.05)


def _around(outlines: Iterable[Ring]) -> Bounds:
    lon, lat = np.array([point for ring in outlines for point in ring]).T
    return Bounds(float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max()))


def _grown(box: Bounds, share: float) -> Bounds:
    x, y = (box.east_deg - box.west_deg) * share, (box.north_deg - box.south_deg) * share
    west, east = max(box.west_deg - x, -180.0), min(box.east_deg + x, 180.0)
    return Bounds(west, max(box.south_deg - y, -90.0), east, min(box.north_deg + y, 90.0))


def _details(overview: Basemap, queries: Sequence[QueryMap], level: int) -> Iterator[Bounds]:
    """Yield boxes around footprints that the overview shows too small, the first ones."""
    shown = overview.image.shape[1] / (overview.bounds.east_deg - overview.bounds.west_deg)
    if 256 * 2**level / 360 < COARSE * shown:
        return
    for query in [q for q in queries if q.found or q.truth][:MAX_DETAILS]:
        for ring in query.found or query.truth:
            yield _grown(_around([ring]), 0.25)
