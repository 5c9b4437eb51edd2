"""Galleries: what there is to search, where they have tiles, and the tiles themselves."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from rsloc_db.db import service
from rsloc_db.db.galleries import GalleryOverview, get_gallery
from rsloc_db.errors import AreaError, GalleryError
from rsloc_db.service.access import Reader, TileKey, problems
from rsloc_db.service.nouns import FeatureCollection, Gallery, GalleryDetail, TilesOfYear, collection_of
from rsloc_db.service.overviews import Overviews
from rsloc_db.service.pictures import tile_picture
from rsloc_db.types import Bounds

router = APIRouter(prefix="/api", tags=["galleries"])

MAX_BLOCKS = 20_000
MAX_TILES = 2000
Level = Annotated[int, Query(ge=0, le=24, description="Level of the tiles")]


@router.get("/galleries", responses=problems())
def galleries(request: Request, conn: Reader) -> list[Gallery]:
    """List all galleries; while one grows its numbers may be half a minute old."""
    return [Gallery(**asdict(each)) for each in _overviews(request, conn)]


@router.get("/galleries/{gallery}", responses=problems(404))
def gallery(request: Request, conn: Reader, gallery: str) -> GalleryDetail:
    """Tell of one gallery, with its tiles by level and year."""
    found = get_gallery(conn, gallery)
    overview = next((each for each in _overviews(request, conn) if each.name == found.name), None)
    if overview is None:
        raise GalleryError(f"gallery {gallery!r} has just been changed: ask again")
    years = [TilesOfYear(**row) for row in service.tiles_by_year(conn, found.id)]
    return GalleryDetail(**asdict(overview), years=years)


def _overviews(request: Request, conn: Reader) -> list[GalleryOverview]:
    overviews: Overviews = request.app.state.overviews
    return overviews.get(conn)


@router.get("/galleries/{gallery}/coverage", responses=problems(404))
def coverage(conn: Reader, gallery: str, level: Annotated[int | None, Query(ge=0, le=24)] = None) -> FeatureCollection:
    """Show where a gallery has tiles, in blocks of up to 16 x 16 cells."""
    return collection_of(service.coverage(conn, get_gallery(conn, gallery).name, level, MAX_BLOCKS))


@router.get("/galleries/{gallery}/tiles", responses=problems(404))
def tiles(
    conn: Reader,
    gallery: str,
    level: Level,
    bbox: Annotated[str, Query(description="west,south,east,north in degrees")],
    since: Annotated[date | None, Query(description="Only images of this day or later")] = None,
    until: Annotated[date | None, Query(description="Only images of this day or before")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_TILES)] = 500,
) -> FeatureCollection:
    """List the tiles of a level that touch a box, the newest first."""
    box = read_box(bbox)
    if box.west_deg > box.east_deg:
        raise AreaError("expected a box that does not cross the antimeridian")
    found = get_gallery(conn, gallery)
    return collection_of(service.tiles_in(conn, found.id, level, box, since=since, until=until, limit=limit))


@router.get("/tiles/{tile}/image", responses={**problems(404), 200: {"content": {"image/jpeg": {}}}})
def tile_image(conn: Reader, tile: TileKey) -> Response:
    """Return the image of one tile, of one date."""
    data, kind = tile_picture(conn, service.get_tile(conn, tile))
    return Response(data, media_type=kind, headers={"Cache-Control": "max-age=3600"})


def read_box(text: str) -> Bounds:
    """Return a box from west,south,east,north in degrees; its west may lie beyond its east, across the antimeridian.

    Raises:
        AreaError: the text is no box on Earth.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise AreaError("expected a box as west,south,east,north in degrees") from None
    # written so that NaN fails, too
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise AreaError("expected a box as west,south,east,north within -180,-90,180,90")
    return Bounds(west, south, east, north)
