"""Tiles of galleries for web maps: XYZ in Web Mercator, whatever the gallery's own grid; QGIS reads them as well."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from rsloc_db.db.galleries import get_gallery
from rsloc_db.db.readers import Pool
from rsloc_db.errors import GalleryError
from rsloc_db.service.access import problems
from rsloc_db.service.pictures import map_tile

router = APIRouter(prefix="/api", tags=["galleries"])

MAX_ZOOM = 24
CACHED = 2000
"""Tiles kept in memory, about 20 kB each."""
FRESH_S = 300
"""How long a tile is shown before it is drawn anew: a gallery may have got more."""


@router.get(
    "/galleries/{gallery}/map/{zoom}/{x}/{y}",
    responses={**problems(404), 200: {"content": {"image/jpeg": {}, "image/png": {}}}},
)
def gallery_map(
    request: Request,
    gallery: str,
    zoom: Annotated[int, Path(ge=0, le=MAX_ZOOM)],
    x: Annotated[int, Path(ge=0)],
    y: Annotated[int, Path(ge=0)],
) -> Response:
    """Draw a gallery's newest tiles as one tile of a web map (XYZ, EPSG:3857); transparent where there are none."""
    if max(x, y) >= 2**zoom:
        raise GalleryError(f"there is no tile {x}, {y} at zoom {zoom}")
    data, kind = _drawn(request.app.state.pool, gallery, zoom, x, y, int(time.monotonic() // FRESH_S))
    return Response(data, media_type=kind, headers={"Cache-Control": f"max-age={FRESH_S}"})


@lru_cache(maxsize=CACHED)
def _drawn(pool: Pool, gallery: str, zoom: int, x: int, y: int, age: int) -> tuple[bytes, str]:
    """Draw a tile once; ``age`` makes it another one when it is due again."""
    with pool.connection() as conn:
        return map_tile(conn, get_gallery(conn, gallery), zoom, x, y)
