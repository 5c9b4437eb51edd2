"""rsloc-db synth: draw a gallery and query sets, so that size can be tried without anybody's imagery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsloc_db.cli import common

EXAMPLES = common.examples(
    "rsloc-db synth out/small --tiles 1000",
    "rsloc-db synth out/country --tiles 824796 --seed 3",
    "rsloc-db ingest out/small/Gallery/galleryL15.db",
    "rsloc-db localize out/small/RSimages/present out/small/RSimages/absent",
)


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write to: new, empty, or of the same command before.")],
    tiles: Annotated[int, typer.Option(help="Number of tiles.")],
    seed: Annotated[int, typer.Option(min=0, help="Random seed; equal arguments make equal files.")] = 0,
    level: Annotated[int, typer.Option(help="Zoom level.")] = 15,
    origin: Annotated[str, typer.Option(help="Middle of the gallery: lon,lat in degrees.")] = "2.5,47",
    queries: Annotated[int, typer.Option(min=0, help="Images in each of the two query sets.")] = 10,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="all cores")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw a synthetic gallery of any size in RSLoc's own form, with queries that it has and queries that it lacks.

    Writes Gallery/galleryL15.db (table ge_tiles) and RSimages/present and RSimages/absent with their CSVs. The land is
    drawn by code from the seed. The same command again goes on where it was stopped.
    """
    from rsloc_db.synth import synthesize

    with common.progress(quiet=quiet) as bar:
        made = synthesize(
            out,
            tiles=tiles,
            seed=seed,
            level=level,
            origin=_place(origin),
            queries=queries,
            workers=workers,
            progress=bar,
        )
    if as_json:
        common.print_json(made.as_dict())
        return
    common.stdout.print(f"{made.gallery}: {made.tiles:,} tiles, {made.added:,} new; {made.gallery_bytes / 1e6:,.1f} MB")
    for folder in made.queries:
        common.stdout.print(f"{folder}: {queries} queries; truth in {folder.name}.csv")
    common.stdout.print(f"{made.seconds:.1f} s")


def _place(text: str) -> tuple[float, float]:
    try:
        lon, lat = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"expected lon,lat in degrees, found {text!r}", param_hint="--origin") from None
    return lon, lat
