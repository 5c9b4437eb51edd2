"""rsloc-db queries: make query sets whose place is known, to test a gallery with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from rsloc_db.cli import common

app = typer.Typer(help="Make query sets with a known place.", no_args_is_help=True)

EXAMPLES = common.examples(
    "rsloc-db queries make map.tif --out out/plain --count 20",
    "rsloc-db queries make map.tif --out out/turned --turn 0-360 --scale 0.7-1.4 --season 1 --seed 3",
    "rsloc-db queries make elsewhere.tif --out out/absent --absent --season 1",
    "rsloc-db localize out/turned",
    "rsloc-db evaluate",
)
_RANGE = re.compile(r"\s*(-?\d+(?:\.\d+)?)(?:\s*-\s*(-?\d+(?:\.\d+)?))?\s*", re.ASCII)


@app.callback()
def _queries() -> None:
    """Keep `make` a word of its own, though it is the only command."""


@app.command(epilog=EXAMPLES)
def make(
    sources: Annotated[list[Path], typer.Argument(help="Georeferenced images of any format and CRS.")],
    out: Annotated[Path, typer.Option(help="Folder to write to, new or empty; the CSV goes beside it.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    size: Annotated[str, typer.Option(help="Sides in pixels, LOW-HIGH.")] = "512-1024",
    turn: Annotated[
        str | None, typer.Option(help="Turn in degrees, clockwise, LOW-HIGH.", show_default="north up")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(help="True pixel size as a multiple of the stated one, LOW-HIGH.", show_default="as stated"),
    ] = None,
    season: Annotated[float, typer.Option(help="Strength of a change of season, 0 to 1.")] = 0.0,
    sensor: Annotated[float, typer.Option(help="Strength of a change of sensor, 0 to 1.")] = 0.0,
    clouds: Annotated[float, typer.Option(help="Share under clouds.")] = 0.0,
    missing: Annotated[float, typer.Option(help="Share that is black or transparent, at a corner.")] = 0.0,
    min_structure: Annotated[float, typer.Option(help="Least share of blocks with structure.")] = 0.0,
    min_land: Annotated[float, typer.Option(help="Least share without the colour of open water.")] = 0.0,
    within: Annotated[
        str | None, typer.Option(help="Polygon to cut in: WKT, GeoJSON or a GeoJSON file.", show_default=False)
    ] = None,
    absent: Annotated[bool, typer.Option("--absent", help="Write no place: the gallery lacks them.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; equal arguments make equal files.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Cut queries out of georeferenced images: PNG without georeference, and the truth as a CSV beside the folder.

    Crops lie off the source's pixels, and their true pixel size differs from the stated one by up to 0.1 %. What is
    changed in their appearance is simulated, and the CSV says so.
    """
    from rsloc_db.query_sets import make_queries

    low, high = _range(size, "--size")
    with common.progress(quiet=quiet) as bar:
        made = make_queries(
            *sources,
            out=out,
            count=count,
            size=(round(low), round(high)),
            turn=_range(turn, "--turn") if turn else None,
            scale=_range(scale, "--scale") if scale else None,
            season=season,
            sensor=sensor,
            clouds=clouds,
            missing=missing,
            min_structure=min_structure,
            min_land=min_land,
            absent=absent,
            within=within,
            seed=seed,
            progress=bar,
        )
    if as_json:
        common.print_json(made.as_dict())
        return
    kind = "simulated appearance" if made.changed else "appearance as it was"
    common.stdout.print(f"{made.queries} queries written to {made.folder}, truth to {made.table}; {kind}")


def _range(text: str, option: str) -> tuple[float, float]:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"expected LOW-HIGH, such as 0.7-1.4, found {text!r}", param_hint=option)
    low = float(found[1])
    return low, low if found[2] is None else float(found[2])
