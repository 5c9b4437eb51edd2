"""rsloc-db map: draw what a run found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsloc_db.cli.common import stdout


def draw(
    run: Annotated[int | None, typer.Argument(help="Number of the run; the newest one if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Page to write: one HTML file that needs no network.")] = Path("map.html"),
    picture: Annotated[Path | None, typer.Option(help="Also write this PNG.", show_default=False)] = None,
) -> None:
    """Draw what a run found on the gallery's own tiles: footprints, truth if it is loaded, error ellipses."""
    from rsloc_db.export import draw_map

    found = draw_map(run, out=out, picture=picture)
    for written in (out, picture):
        if written is not None:
            stdout.print(f"{written}: {found.summary()}")
