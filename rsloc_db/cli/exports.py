"""rsloc-db export, georeference, report and qgis: hand on what a run found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsloc_db.cli.common import print_json, stdout

Run = Annotated[int | None, typer.Argument(help="Number of the run; the newest one if left out.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

EXPORT_EXAMPLES = """Examples:

  rsloc-db export --out run.gpkg

  rsloc-db export 3 --out found.geojson

  rsloc-db export 3 --out matches.csv --layer matches

  rsloc-db export 3 --out votes.gpkg --layer localizations --layer votes
"""


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
