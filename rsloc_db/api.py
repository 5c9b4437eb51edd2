"""The Python API: the same names and options as the commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import shapely

from rsloc_db.config import settings
from rsloc_db.db import runs, server
from rsloc_db.db.connection import connect, require_schema
from rsloc_db.db.galleries import get_gallery, watch_session
from rsloc_db.errors import AreaError, QueryError
from rsloc_db.evaluation import load_truth
from rsloc_db.features import choose_features
from rsloc_db.geometry import read_shape
from rsloc_db.models import DEFAULT, embedder
from rsloc_db.queries import read_queries
from rsloc_db.stages.batch import Labour, run_batch
from rsloc_db.stages.localize import usual_level
from rsloc_db.stages.options import Options
from rsloc_db.types import Json, Pixels, Progress, Retrieval, Rotation, Silent

MAX_GSD_FACTOR = 4.0
"""Greatest factor by which a stated scale may be wrong: the number of zooms to try grows with its logarithm."""


@dataclass(frozen=True, slots=True)
class Localizations:
    """The answers of a run.

    Attributes:
        run: number of the run.
        queries: one object a query, as ``rsloc-db localize --json`` prints it.
    """

    run: int
    queries: list[Json]

    def as_dict(self) -> Json:
        """Return the object that ``rsloc-db localize --json`` prints."""
        return {"run": self.run, "queries": self.queries}


def localize(
    *paths: str | Path,
    level: int | None = None,
    gsd: float | Literal["unknown"] | None = None,
    pixels: Pixels | None = None,
    gallery: str | Iterable[str] | None = None,
    within: str | None = None,
    retrieval: Retrieval = "auto",
    rotation: Rotation = "north_up",
    gsd_factor: float | None = None,
    levels: int = 1,
    reference_error: float = 0.75,
    top: int = 5,
    model: str = DEFAULT,
    features: str | None = None,
    feature_model: str | Path | None = None,
    lightglue: str | Path | None = None,
    overwrite: bool = False,
    truth: bool = True,
    url: str | None = None,
    read_url: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Localizations:
    """Find where images were taken.

    Args:
        paths: image files, folders of images, or RSLoc query sets (the folder or its CSV).
        level: zoom level whose nominal resolution the images have.
        gsd: size of their pixels in metres; "unknown" takes the gallery's own to begin with.
        pixels: what a pixel is a step of: mercator, ground or degrees; by default ground for ``gsd``, mercator for
            ``level``, else as the set's CSV or the file's CRS says.
        gallery: name or names of the galleries to search; all by default.
        within: polygon to search in (EPSG:4326), as WKT, GeoJSON or the path of a file of either.
        retrieval: knn, exhaustive, or auto: knn first, exhaustive where that finds nothing.
        rotation: north_up, or free where the turn of the images is not known.
        gsd_factor: by which factor the stated scale may be wrong, either way, from 1 (right to a few per cent) to 4; by
            default 1, and 1.5 where gsd is unknown.
        levels: most levels of a gallery to search at once, those of pixels nearest in size to the query's.
        reference_error: error of the gallery itself, standard deviation an axis in its pixels, which the ellipses hold.
        top: how many places to return for each query.
        model: the embedder whose vectors are searched, as it was given to ``ingest``.
        features: local features that tell further turns and scales where these are not known: sift, aliked or disk.
        feature_model: ONNX file of the network, for aliked and disk.
        lightglue: ONNX file of LightGlue, to match what aliked finds.
        overwrite: do it again even where an equal run is stored.
        truth: whether to load the truth that lies beside the queries when all is done, for ``evaluate``.
        url: the database; by default the one that ``rsloc-db db url`` tells.
        read_url: a replica to read the gallery from; by default RSLOC_DATABASE_READ_URL, where ``url`` is not given.
        workers: queries at once, each in a process; by default RSLOC_WORKERS or all cores. Answers are the same.
        scheduler: a Dask scheduler, ``tcp://...`` or ``local:N``, whose workers are to do it.
        progress: where to report to.

    Raises:
        RslocError: an option or a path is wrong, there is no gallery, or the database is not there.
    """
    if not paths:
        raise QueryError("there is nothing to localize: name an image, a folder or a query set")
    factor = (1.5 if gsd == "unknown" else 1.0) if gsd_factor is None else gsd_factor
    if not 1.0 <= factor <= MAX_GSD_FACTOR:
        raise QueryError(f"--gsd-factor is {factor}: expected 1 to {MAX_GSD_FACTOR:.0f}")
    if levels < 1:
        raise QueryError(f"--levels is {levels}: expected 1 or more")
    if not 0.0 <= reference_error < float("inf"):
        raise QueryError(f"--reference-error is {reference_error}: expected pixels, 0 or more")
    if gsd == "unknown" and (level is not None or pixels not in (None, "mercator")):
        raise QueryError("--gsd unknown goes with neither --level nor --pixels: it begins with the gallery's own level")
    if workers is not None and workers < 1:
        raise QueryError(f"--workers is {workers}: expected 1 or more")
    names = (gallery,) if isinstance(gallery, str) else tuple(gallery) if gallery else None
    polygon = read_polygon(within) if within else None
    loaded = embedder(model)
    options = Options(
        model=loaded.name,
        galleries=names,
        within=polygon,
        retrieval=retrieval,
        rotation=rotation,
        gsd_factor=factor,
        levels=levels,
        reference_error_px=reference_error,
        features=choose_features(features, feature_model, lightglue),
    )
    if options.features is not None and not options.free:
        raise QueryError("--features look for turns and scales: give --rotation free or --gsd-factor as well")
    read_url = read_url or (server.read_url() if url is None else None)
    url = url or server.database_url()
    labour = Labour(url, read_url, settings().workers if workers is None else workers, scheduler)
    with connect(url) as conn:
        require_schema(conn)
        watch_session(conn)
        for name in names or ():
            get_gallery(conn, name)
        if gsd == "unknown":
            gsd, level = None, usual_level(conn, loaded, options)
        files = read_queries([Path(p) for p in paths], level=level, gsd_m=gsd, pixels=pixels)
        bar = progress or Silent()
        run = run_batch(conn, labour, files, loaded, model, options, overwrite=overwrite, progress=bar)
        found = Localizations(run, runs.results(conn, run, top))
    if truth:
        load_truth([Path(p) for p in paths], url=url)
    return found


def read_polygon(text: str) -> str:
    """Return a polygon as GeoJSON (EPSG:4326) from WKT, GeoJSON or the path of a file of either.

    Raises:
        AreaError: it is none of these, no area, not valid, or off the Earth.
    """
    shape = read_shape(text)
    area = shapely.union_all(shapely.get_parts(shape))
    if area.geom_type not in ("Polygon", "MultiPolygon"):
        raise AreaError(f"the search can be limited to a polygon, found {shape.geom_type}")
    return str(shapely.to_geojson(area))
