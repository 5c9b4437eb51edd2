"""Write the images of a run that were placed as maps: with the transform that was found."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rasterio.transform import Affine

from rsloc_db.db.connection import connect, require_schema
from rsloc_db.db.evaluation import find_run
from rsloc_db.db.export import georeference_queries
from rsloc_db.errors import ExportError, ImageError
from rsloc_db.export.rasters import Format, Georeference, write_georeferenced
from rsloc_db.queries.images import content_hash
from rsloc_db.types import Failure, Json, Progress, Silent


@dataclass(frozen=True, slots=True)
class Georeferenced:
    """What became of the images of a run.

    Attributes:
        run: number of the run.
        out: folder of the results.
        written: the file to open for each image that was written.
        not_accepted: images without a place to write them at.
        skipped: accepted images that are missing, have changed since, or cannot be written.
    """

    run: int
    out: Path
    written: list[Path]
    not_accepted: int
    skipped: list[Failure]

    def as_dict(self) -> Json:
        """Return it as a JSON object."""
        return {
            "run": self.run,
            "out": str(self.out),
            "written": [str(path) for path in self.written],
            "not_accepted": self.not_accepted,
            "skipped": [{"name": failure.name, "reason": failure.reason} for failure in self.skipped],
        }


def georeference(
    run: int | None = None,
    *,
    out: str | Path = "georeferenced",
    format: Format = "cog",  # noqa: A002 (as the command's option)
    url: str | None = None,
    progress: Progress | None = None,
) -> Georeferenced:
    """Write each accepted image of a run with the place that was found; all its bands, in their own type.

    The map is EPSG:3857 for images in Mercator metres, EPSG:4326 for those in degrees, else the UTM zone of the place.

    Args:
        run: number of the run; None for the newest.
        out: folder to write to. Images of a run over several sets go into a folder for each set.
        format: cog, gtiff, vrt (points to the image, copies no pixels) or worldfile (a copy of the image with .prj).
        url: PostgreSQL URL; None for the settings' own.
        progress: where to report to.

    Raises:
        ExportError: the format is unknown, or the folder cannot be made.
        RunError: there is no such run.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    if format not in get_args(Format):
        raise ExportError(f"expected the format {', '.join(get_args(Format))}, found {format!r}")
    with closing(connect(url)) as conn:
        require_schema(conn)
        number = find_run(conn, run)
        queries = georeference_queries(conn, number)
    accepted = [query for query in queries if query["verdict"] == "accepted" and query["transform"]]
    report = progress or Silent()
    report.task("georeference", total=len(accepted))
    written, skipped = [], []
    for query, stem in zip(accepted, _stems(Path(out), accepted), strict=True):
        try:
            written.append(_write(number, query, stem, format))
        except (ImageError, ExportError) as error:
            skipped.append(Failure(query["name"], str(error)))
        report.advance()
    return Georeferenced(number, Path(out), written, len(queries) - len(accepted), skipped)


def _write(run: int, query: Json, stem: Path, form: Format) -> Path:
    source = Path(query["path"])
    if content_hash(source) != query["content_hash"]:
        raise ImageError(f"{source} has changed since it was localized: localize it again")
    tags = {
        "RSLOC_RUN": str(run),
        "RSLOC_QUERY": f"{query['query_set']}/{query['name']}",
        "RSLOC_CONFIDENCE": f"{query['confidence']:.6f}",
        "RSLOC_ELLIPSE_95_M": f"{query['ellipse_a_m']:.2f}",
    }
    place = Georeference(Affine(*query["transform"]), query["transform_srid"], tags)
    return write_georeferenced(source, place, stem, form)[0]


def _stems(out: Path, queries: list[Json]) -> list[Path]:
    """Return where to write each image, without suffix, but with the image's own where two differ in that alone."""
    several = len({query["query_set"] for query in queries}) > 1
    folders = [out / query["query_set"] if several else out for query in queries]
    names = [Path(query["name"]).name for query in queries]
    # some file systems know no case
    used = Counter((folder, Path(name).stem.lower()) for folder, name in zip(folders, names, strict=True))
    return [
        folder / (Path(name).stem if used[folder, Path(name).stem.lower()] == 1 else name)
        for folder, name in zip(folders, names, strict=True)
    ]
