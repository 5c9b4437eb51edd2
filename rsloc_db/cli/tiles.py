"""rsloc-db tiles: where a tile lies, which tile holds a place, extract tiles, paste mosaics."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rsloc_db.cli.common import examples, print_json, stderr, stdout
from rsloc_db.types import Json

app = typer.Typer(help="Look up, extract and paste single tiles.", no_args_is_help=True)


class Grid(StrEnum):
    """Tile grids by name."""

    google_earth = "google_earth"
    web_mercator = "web_mercator"


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Source = Annotated[str, typer.Argument(help="A gallery: a file, a folder, or the name of one in the database.")]
GridOption = Annotated[Grid, typer.Option(help="Tile grid that the numbers are of.")]
Level = Annotated[int | None, typer.Option(help="Level; by default the gallery's only one.")]
MAX_SHOWN = 20
MISSING_SHOWN = 4


@app.command(epilog=examples("rsloc-db tiles info 15 16158 12025", "rsloc-db tiles info 15_16158_12025 --json"))
def info(
    tile: Annotated[list[str], typer.Argument(help="LEVEL COLUMN ROW, or level_column_row.")],
    grid: GridOption = Grid.google_earth,
    json: JsonFlag = False,
) -> None:
    """Show centre, bounds and ground resolution of a tile."""
    from rsloc_db import tiles

    _print(tiles.tile_info(tiles.parse_cell(tile), grid_name=grid), json)


# a southern or western place begins with a minus sign, which is no option
@app.command(
    context_settings={"ignore_unknown_options": True},
    epilog=examples("rsloc-db tiles at -2.47 47.88", "rsloc-db tiles at 15 50 france --json"),
)
def at(
    lon: Annotated[float, typer.Argument(help="Longitude in degrees.")],
    lat: Annotated[float, typer.Argument(help="Latitude in degrees.")],
    source: Annotated[str | None, typer.Argument(help="Also show the dates that this gallery has there.")] = None,
    level: Annotated[int | None, typer.Option(help="Level; by default the gallery's only one, else 15.")] = None,
    grid: GridOption = Grid.google_earth,
    json: JsonFlag = False,
) -> None:
    """Show the tile that holds a place."""
    from rsloc_db import tiles
    from rsloc_db.tile_sources import open_source

    if source is None:
        _print(tiles.tile_at(lon, lat, level=level, grid_name=grid), json)
        return
    with closing(open_source(source, level=level)) as found:
        _print(tiles.tile_at(lon, lat, level=level, source=found), json)


@app.command(
    epilog=examples(
        "rsloc-db tiles extract galleryL15.db --bbox 0,47,1,48 --out tiles",
        "rsloc-db tiles extract france --within area.geojson --all-dates",
    )
)
def extract(
    source: Source,
    level: Level = None,
    within: Annotated[str | None, typer.Option(help="Area: WKT, GeoJSON, or a file of it (lon, lat).")] = None,
    bbox: Annotated[str | None, typer.Option(help="Area: west,south,east,north in degrees.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("tiles"),
    all_dates: Annotated[bool, typer.Option("--all-dates", help="Every date, as level_column_row_date.jpg.")] = False,
    json: JsonFlag = False,
) -> None:
    """Write tiles as JPEG files named level_column_row.jpg, of several dates the newest."""
    from rsloc_db import tiles
    from rsloc_db.tile_sources import open_source

    if within and bbox:
        raise typer.BadParameter("--within and --bbox exclude each other")
    area = tiles.parse_area(within or bbox or "") if within or bbox else None
    with closing(open_source(source, level=level)) as found:
        done = tiles.extract(found, out, level=level, within=area, all_dates=all_dates)
    if json:
        failures = [{"name": each.name, "reason": each.reason} for each in done.failures]
        print_json({"out": str(out), "files": len(done.files), "failures": failures})
        return
    for failure in done.failures[:MAX_SHOWN]:
        stderr.print(f"skipped {failure.name}: {failure.reason}")
    skipped = f", {len(done.failures):,} skipped" if done.failures else ""
    stdout.print(f"{len(done.files):,} tiles written to {out}{skipped}")


@app.command(epilog=examples("rsloc-db tiles mosaic france 15_16158_12025 -n 5 --out mosaic.tif"))
def mosaic(
    source: Source,
    tile: Annotated[list[str], typer.Argument(help="LEVEL COLUMN ROW, or level_column_row: the middle one.")],
    out: Annotated[Path, typer.Option(help="File to write: .jpg, .png, or .tif with georeference.")],
    tiles_wide: Annotated[int, typer.Option("-n", "--tiles", help="Width and height in tiles.")] = 3,
    json: JsonFlag = False,
) -> None:
    """Write n x n tiles around a tile as one picture."""
    from rsloc_db import tiles
    from rsloc_db.tile_sources import open_source

    cell = tiles.parse_cell(tile)
    with closing(open_source(source, level=cell.level)) as found:
        done = tiles.mosaic(found, cell, out, tiles=tiles_wide)
    if json:
        print_json(done)
        return
    stdout.print(f"{done['file']}: {done['tiles']} tiles, {done['width']} x {done['height']} px{_missing(done)}")


def _missing(done: Json) -> str:
    """Say which tiles a mosaic lacks, a few of them by name."""
    names = done["missing"]
    more = f" and {len(names) - MISSING_SHOWN} more" if len(names) > MISSING_SHOWN else ""
    return f"; missing: {', '.join(names[:MISSING_SHOWN])}{more}" if names else ""


def _print(found: Json, json: bool) -> None:
    if json:
        print_json(found)
        return
    lon, lat = found["center"]
    west, south, east, north = found["bounds"]
    size, resolution = found["size_m"], found["resolution_m"]
    stdout.print(f"tile        {found['tile']} ({found['grid']})")
    stdout.print(f"centre      {lon:.7f} {lat:.7f}")
    stdout.print(f"bounds      {west:.7f} {south:.7f} {east:.7f} {north:.7f}")
    stdout.print(f"size        {size['east']:,.1f} x {size['north']:,.1f} m on the ground")
    stdout.print(f"resolution  {resolution['east']:.3f} x {resolution['north']:.3f} m a pixel")
    if "dates" in found:
        stdout.print(f"dates       {', '.join(date or 'without date' for date in found['dates']) or 'no tile'}")
