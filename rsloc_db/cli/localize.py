"""`rsloc-db localize`: find where images were taken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import typer
from rich.table import Table
from rich.text import Text

from rsloc_db.cli import common
from rsloc_db.cli.feature_options import FeatureModelOption, FeaturesOption, LightGlueOption
from rsloc_db.models import DEFAULT
from rsloc_db.types import Json, Pixels, Retrieval, Rotation

EXAMPLES = common.examples(
    "rsloc-db localize scene.tif",
    "rsloc-db localize RSimages/test400 --gallery galleryL15",
    "rsloc-db localize scan.png --rotation free --gsd 3 --gsd-factor 1.5",
    'rsloc-db localize photo.png --gsd 3.3 --within "POLYGON((-5 47, 2 47, 2 50, -5 50, -5 47))"',
)
WIDE = 150
"""Columns from which on the reasons stand in the table; else they are lines below it."""
COLOURS = {"accepted": "green", "ambiguous": "yellow", "not_here": "dim", "failed": "red"}


Level = Annotated[int | None, typer.Option(help="Zoom level whose resolution the images have.", show_default=False)]
Pixel = Annotated[
    str | None,
    typer.Option(
        help="What a pixel is a step of: mercator | ground | degrees.",
        show_default="ground with --gsd, mercator with --level, else by the CSV or the file's CRS",
    ),
]
Within = Annotated[
    str | None, typer.Option(help="Polygon to search in: WKT, GeoJSON or a GeoJSON file.", show_default=False)
]


def localize(
    paths: Annotated[list[Path], typer.Argument(help="Images, folders, or RSLoc sets (folder or CSV).")],
    level: Level = None,
    gsd: Annotated[
        str | None,
        typer.Option(help="Size of a pixel in metres, or unknown: begin with the gallery's.", show_default=False),
    ] = None,
    gsd_factor: Annotated[
        float | None,
        typer.Option(
            help="By which factor the stated scale may be wrong, 1 to 4.", show_default="1; 1.5 for --gsd unknown"
        ),
    ] = None,
    rotation: Annotated[
        str, typer.Option(help="Turn of the images: north_up, or free where it is not known.")
    ] = "north_up",
    pixels: Pixel = None,
    gallery: Annotated[
        list[str] | None, typer.Option(help="Gallery to search; may be repeated.", show_default="all")
    ] = None,
    within: Within = None,
    retrieval: Annotated[str, typer.Option(help="How candidates are found: knn | exhaustive | auto.")] = "auto",
    levels: Annotated[
        int, typer.Option(min=1, help="Levels of a gallery to search at once, those nearest to the images' scale.")
    ] = 1,
    reference_error: Annotated[
        float, typer.Option(min=0, help="Error of the gallery itself, in its pixels; the ellipses hold it.")
    ] = 0.75,
    top: Annotated[int, typer.Option(min=1, max=40, help="Places to show for each image.")] = 5,
    model: Annotated[str, typer.Option(help="Model whose embeddings are searched, as given to ingest.")] = DEFAULT,
    features: FeaturesOption = None,
    feature_model: FeatureModelOption = None,
    lightglue: LightGlueOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin a new run where an equal one exists.")] = False,
    truth: Annotated[bool, typer.Option(help="Load the truth beside the images afterwards, for `evaluate`.")] = True,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Queries at once.", show_default="RSLOC_WORKERS or all cores")
    ] = None,
    scheduler: common.Scheduler = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find where images were taken, how sure that is, or that they are not here.

    The scale of an image comes from --gsd or --level, else from its set's CSV, else from the pixel size in its own CRS.
    Nothing else of a georeference is read: an image that says where it is is searched like any other.

    Images are taken to be north up unless --rotation free is given; a scale known but roughly needs --gsd-factor. Both
    take longer. There --features tells further turns and scales by matches of local features.

    Run the same command again to go on after a stop; what is done is not done again. The exit code is 1 if an image
    failed: it cannot be read, or its scale is unknown.
    """
    from rsloc_db import api

    if pixels is not None and pixels not in get_args(Pixels):
        raise typer.BadParameter(f"expected {' or '.join(get_args(Pixels))}, found {pixels!r}", param_hint="--pixels")
    if retrieval not in get_args(Retrieval):
        raise typer.BadParameter(f"expected {' or '.join(get_args(Retrieval))}", param_hint="--retrieval")
    if rotation not in get_args(Rotation):
        raise typer.BadParameter(f"expected {' or '.join(get_args(Rotation))}", param_hint="--rotation")
    with common.progress(quiet=quiet) as bar:
        found = api.localize(
            *paths,
            level=level,
            gsd=_metres(gsd),
            gsd_factor=gsd_factor,
            rotation=cast(Rotation, rotation),
            pixels=cast(Pixels | None, pixels),
            gallery=gallery,
            within=within,
            retrieval=cast(Retrieval, retrieval),
            levels=levels,
            reference_error=reference_error,
            top=top,
            model=model,
            features=features,
            feature_model=feature_model,
            lightglue=lightglue,
            overwrite=overwrite,
            truth=truth,
            workers=workers,
            scheduler=scheduler,
            progress=bar,
        )
    if as_json:
        common.print_json(found.as_dict())
    else:
        _print(found.run, found.queries)
    if any(q["verdict"] == "failed" for q in found.queries):
        raise typer.Exit(1)


def _metres(gsd: str | None) -> float | Literal["unknown"] | None:
    if gsd is None or gsd == "unknown":
        return cast('Literal["unknown"] | None', gsd)
    try:
        return float(gsd)
    except ValueError:
        raise typer.BadParameter(f"expected metres a pixel or unknown, found {gsd!r}", param_hint="--gsd") from None


def _print(run: int, queries: list[Json]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    wide = common.stdout.width >= WIDE
    for name in ("Query", "Verdict", "Lon", "Lat", "95 % ellipse", "Sure", *(["Why"] if wide else [])):
        table.add_column(name, no_wrap=True)
    for q in queries:
        table.add_row(*_row(q)[: len(table.columns)])
    common.stdout.print(f"run {run}", style="bold")
    common.stdout.print(table)
    for q in queries:
        if not wide and q["verdict"] != "accepted":
            common.stdout.print(f"{q['name']}: {q['reason']}")
    common.stdout.print(f"look further: rsloc-db evaluate {run}; rsloc-db map {run}; rsloc-db db psql")


def _row(q: Json) -> list[str | Text]:
    center, ellipse = q["center"], cast("dict[str, Any] | None", q["ellipse"])
    place = [f"{v:.6f}" for v in center] if center else ["", ""]
    size = f"{ellipse['a_m']:,.1f} x {ellipse['b_m']:,.1f} m" if ellipse else ""
    sure = "" if q["confidence"] is None else f"{q['confidence']:.3f}"
    return [q["name"], Text(q["verdict"], COLOURS[q["verdict"]]), *place, size, sure, q["reason"]]
