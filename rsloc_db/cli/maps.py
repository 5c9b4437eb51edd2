"""rsloc-db map: draw what a run found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsloc_db.cli.common import examples, print_json, stdout

EXAMPLES = examples("rsloc-db map", "rsloc-db map 3 --out out/run3.html --picture out/run3.png")


def draw(
    run: Annotated[int | None, typer.Argument(help="Number of the run; the newest one if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Page to write: one HTML file that needs no network.")] = Path("map.html"),
    picture: Annotated[Path | None, typer.Option(help="Also write this PNG.", show_default=False)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw what a run found on the gallery's own tiles: footprints, truth if it is loaded, error ellipses."""
    from rsloc_db.export import draw_map

    found = draw_map(run, out=out, picture=picture)
    files = [str(path) for path in (out, picture) if path is not None]
    if as_json:
        print_json({"run": found.run, "files": files})
    elif not quiet:
        for written in files:
            stdout.print(f"{written}: {found.summary()}")
