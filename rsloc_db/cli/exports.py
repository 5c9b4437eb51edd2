"""rsloc-db export, georeference, report and qgis: hand on what a run found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from rsloc_db.cli.common import examples, print_json, progress, stderr, stdout

Run = Annotated[int | None, typer.Argument(help="Number of the run; the newest one if left out.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

EXPORT_EXAMPLES = examples(
    "rsloc-db export --out run.gpkg",
    "rsloc-db export 3 --out found.geojson",
    "rsloc-db export 3 --out matches.csv --layer matches",
    "rsloc-db export 3 --out votes.gpkg --layer localizations --layer votes",
)


def export(
    run: Run = None,
    out: Annotated[Path, typer.Option(help="File to write: .gpkg, .geojson, .json or .csv.")] = Path("run.gpkg"),
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer to write; may be repeated for a .gpkg.",
            show_default="localizations; in a .gpkg all but votes",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write what a run found as GeoPackage, GeoJSON or CSV, in longitude and latitude (EPSG:4326).

    Layers: localizations, queries, ellipses, places, cliques, votes, matches, truth, errors, coverage.
    """
    from rsloc_db.export.vector import export_run

    found = export_run(run, out=out, layers=layer)
    if as_json:
        print_json(found.as_dict())
    elif not quiet:
        rows = ", ".join(f"{count:,} {name}" for name, count in found.rows.items())
        stdout.print(f"{found.out}: run {found.run}: {rows}")


GEOREFERENCE_EXAMPLES = examples(
    "rsloc-db georeference",
    "rsloc-db georeference 3 --out maps --format gtiff",
    "rsloc-db georeference 3 --out maps --format vrt",
)


def georeference(
    run: Run = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("georeferenced"),
    form: Annotated[str, typer.Option("--format", help="cog | gtiff | vrt | worldfile.")] = "cog",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write each accepted image of a run with the place that was found, all bands in their own type.

    A vrt points to the image and copies no pixels; worldfile copies the image and writes a world file, .prj and
    .aux.xml beside it. Images that were not accepted, are missing or have changed since are counted and left out;
    the exit code is 1 if an accepted one could not be written.
    """
    from rsloc_db.export.georeference import georeference as write_images
    from rsloc_db.export.rasters import Format

    with progress(quiet=quiet) as bar:
        found = write_images(run, out=out, format=cast(Format, form), progress=bar)
    if as_json:
        print_json(found.as_dict())
    elif not quiet:
        refused = f", {found.not_accepted} not accepted" if found.not_accepted else ""
        skipped = f", {len(found.skipped)} skipped" if found.skipped else ""
        stdout.print(f"{found.out}: run {found.run}: {len(found.written)} images written{refused}{skipped}")
    for failure in found.skipped:
        stderr.print(f"{failure.name}: {failure.reason}", soft_wrap=True)
    if found.skipped:
        raise typer.Exit(1)


REPORT_EXAMPLES = examples(
    "rsloc-db report",
    "rsloc-db report 3 --out out/report.html --strips 200",
)


def report(
    run: Run = None,
    out: Annotated[Path, typer.Option(help="File to write: one HTML file that needs no network.")] = Path(
        "report.html"
    ),
    strips: Annotated[int, typer.Option(min=0, help="Queries to show with pictures, at most.")] = 60,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a report of a run: figures, plots, map, and each query beside what the gallery shows at its place.

    Failures come first. Load the truth before (`rsloc-db truth load`), else there are no errors to show.
    """
    from rsloc_db.export.report import write_report

    with progress(quiet=quiet) as bar:
        found = write_report(run, out=out, strips=strips, progress=bar)
    if as_json:
        print_json(found.as_dict())
    elif not quiet:
        stdout.print(f"{found.out}: run {found.run}: {found.queries} queries, {found.shown} with pictures")


QGIS_EXAMPLES = examples(
    "rsloc-db qgis",
    "rsloc-db qgis 3 --out out/run3.qgs --password",
)


def qgis(
    run: Run = None,
    out: Annotated[Path, typer.Option(help="File to write: .qgz or .qgs.")] = Path("project.qgz"),
    password: Annotated[bool, typer.Option("--password", help="Write the database's password into the file.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a QGIS project (3.22 or newer) of a run: styled layers on the database's views.

    The project reads the database, which must be running (`rsloc-db db start`). Without --password QGIS asks for the
    password, which `rsloc-db db url` tells.
    """
    from rsloc_db.export.qgis import write_qgis

    found = write_qgis(run, out=out, password=password)
    if as_json:
        print_json(found.as_dict())
    elif not quiet:
        stdout.print(f"{found.out}: run {found.run}: {len(found.layers)} layers")
        if found.user is not None:
            stdout.print(f"QGIS asks for the password of user {found.user}: it is in `rsloc-db db url`")
