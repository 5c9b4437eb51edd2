"""rsloc-db demo: the whole way on real imagery, from an empty database to a map."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rsloc_db.cli import common
from rsloc_db.cli.evaluate import evaluate
from rsloc_db.types import Json

if TYPE_CHECKING:
    from rsloc_db.demo import Demo


EXAMPLES = common.examples("rsloc-db demo", "rsloc-db demo --seed 1 --out out/second")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the map page and the picture.")] = Path("out"),
    seed: Annotated[int, typer.Option(help="Random seed for the choice of queries.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Find a dozen pieces of a world map on another one: NASA's Blue Marble, with Australia cut out.

    The database server is started, and made if there is none; what an earlier demo has done is not done again.
    """
    from rsloc_db import demo as package_demo
    from rsloc_db.db import schema, server
    from rsloc_db.export import draw_map

    began = time.monotonic()
    page, picture = out / "demo.html", out / "demo.png"
    with common.progress(quiet=quiet) as bar:
        url = server.database_url(bar)
        schema.upgrade(url)
        found = package_demo.demo(seed=seed, url=url, progress=bar)
        bar.task("draw", total=1)
        draw_map(found.run, out=page, picture=picture, url=url)
        bar.advance()
    evaluate(found.run, queries=False, json=False)
    _print_queries(found)
    _print_next(found.run, page, picture)
    common.stdout.print(f"\ndone in {time.monotonic() - began:.0f} s")


def _print_queries(found: Demo) -> None:
    table = Table(title="\nQueries", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("Query", "Verdict", "Lon", "Lat", "Error"):
        table.add_column(column, no_wrap=True)
    for query in found.queries:
        table.add_row(*_row(query, found))
    common.stdout.print(table)
    wrong = f"wrongly placed: {', '.join(found.misplaced)}" if found.misplaced else "none is placed wrongly"
    common.stdout.print(
        f"{found.located} of {len(found.queries) - 1} queries are placed right to half a degree, {wrong}; "
        f"{found.absent} is of what the gallery lacks: {found.verdict(found.absent)}"
    )


def _row(query: Json, found: Demo) -> tuple[str, ...]:
    place = [f"{value:.3f}" for value in query["center"] or ()] or ["", ""]
    error = found.errors_deg[query["name"]]
    known = "not in the gallery" if query["name"] == found.absent else "" if error is None else f"{error:.3f} degrees"
    return query["name"], query["verdict"], *place, known


def _print_next(run: int, page: Path, picture: Path) -> None:
    program = _program()
    columns = "name, verdict, lon_deg, lat_deg, ellipse_a_m"
    select = f"SELECT {columns} FROM localization_map WHERE run_id = {run}"  # noqa: S608 (shown, not run)
    lines = {
        "map page": str(page),
        "picture": str(picture),
        "every query": f"{program} evaluate {run} --queries",
        "psql": f'{program} db psql -c "{select}"',
        "report": f"{program} report {run} --out {page.with_name('report.html')}",
        "QGIS": f"{program} qgis {run} --out {page.with_name('demo.qgz')}",
    }
    common.stdout.print()
    for name, value in lines.items():
        common.stdout.print(f"{name:<12} {value}", markup=False)


def _program() -> str:
    """Return what to type for this program: its path as it was called, where it is not on PATH."""
    name = Path(sys.argv[0]).name
    return name if shutil.which(name) else sys.argv[0]
