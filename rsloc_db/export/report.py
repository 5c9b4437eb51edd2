"""A report of a run: one HTML file with its figures, plots, map and pictures of its queries, and no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path

from rsloc_db.db.connection import connect, require_schema
from rsloc_db.db.export import report_strips
from rsloc_db.errors import ExportError
from rsloc_db.evaluation import Evaluation, evaluate
from rsloc_db.export import tables
from rsloc_db.export.run_map import RunMap, read_run
from rsloc_db.export.strips import RIGHT, Strip, strip
from rsloc_db.export.tables import Table, number
from rsloc_db.types import Image, Json, Progress, Silent

STRIPS = 60
COLOURS = {
    "right": "#2e8540",
    "rightly refused": "#2e8540",
    "missed": "#e08214",
    "unlabelled": "#777",
    "pending": "#777",
}
"""Of outcomes; all others are failures."""
BAD = "#c62828"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 1.2em auto; max-width: 1500px; padding: 0 1em; color: #222; }}
h1 {{ font-size: 1.4em; margin: 0; }} h2 {{ font-size: 1.15em; margin: 2em 0 .6em; }}
.note {{ color: #8a5300; }} .small {{ color: #666; font-size: 12px; }}
.cards, .plots, .tables {{ display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start; }}
.card {{ border: 1px solid #ddd; border-radius: 6px; padding: .5em 1em; }}
.card b {{ display: block; font-size: 1.4em; }}
figure {{ margin: 0; }} figcaption {{ color: #555; font-size: 12px; max-width: 34em; }}
.plots figcaption {{ width: 440px; }}
#map {{ height: 560px; }} [data-box] {{ cursor: pointer; }}
table {{ border-collapse: collapse; }} caption {{ text-align: left; font-weight: 600; padding-bottom: .3em; }}
td, th {{ text-align: left; padding: .15em .8em .15em 0; border-bottom: 1px solid #eee; }}
.strip {{ border-left: 6px solid; padding: .2em 0 .2em .8em; margin: 1.2em 0; break-inside: avoid; }}
.strip h3 {{ font-size: 1em; margin: 0; }} .strip p {{ margin: .1em 0 .4em; color: #555; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: .6em; }}
.missing {{ width: 200px; height: 200px; background: #eee; display: grid; place-items: center; color: #888; }}
</style></head><body>
<h1>{title}</h1>
<p>{searched}</p>
{notes}
<div class="cards">{cards}</div>
<h2>Map</h2>
<p class="small">Drag to move, turn the wheel to zoom, click a name in the legend to hide it, click a query below
to go there. Base map: {credit}.</p>
{plot}
<h2>Plots</h2>
<div class="plots">{plots}</div>
<h2>Queries, failures first</h2>
{strips}
<h2>Figures</h2>
<div class="tables">{tables}</div>
{script}</body></html>
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: the run, the file, its queries, and how many of them are shown with pictures."""

    run: int
    out: Path
    queries: int
    shown: int

    def as_dict(self) -> Json:
        """Return it as a JSON object."""
        return {"run": self.run, "out": str(self.out), "queries": self.queries, "shown": self.shown}


def write_report(
    run: int | None = None,
    *,
    out: str | Path = "report.html",
    strips: int = STRIPS,
    url: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write a report of a run: figures, plots, map and pictures of its queries in one HTML file.

    What needs the truth is left out where none is loaded. Failures come first among the pictures: places that are
    false, misplaced ones, queries that failed, missed ones.

    Args:
        run: number of the run; None for the newest.
        out: file to write.
        strips: queries to show with pictures, at most; all others are in the table.
        url: PostgreSQL URL; None for the settings' own.
        progress: where to report to.

    Raises:
        ExportError: plotly or matplotlib is not installed, or the file cannot be written.
        RunError: there is no such run.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    for package in ("matplotlib", "plotly"):
        if find_spec(package) is None:
            raise ExportError(f"a report needs {package}: pip install 'rsloc-db[demo]'")
    report = progress or Silent()
    found = evaluate(run, url=url)
    run_id = int(found.run["run_id"])
    with closing(connect(url)) as conn:
        require_schema(conn)
        report.task("draw the map", total=1)
        drawn = read_run(conn, run_id)
        rows = report_strips(conn, run_id)
        report.advance()
        report.task("draw queries", total=min(strips, len(rows)))
        pictures = []
        for row in rows[:strips]:
            pictures.append(strip(conn, run_id, row))
            report.advance()
    text = _page(found, drawn, pictures, len(rows))
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{out} cannot be written: {error.strerror or error}") from error
    return Report(run_id, Path(out), len(rows), len(pictures))


def _page(found: Evaluation, drawn: RunMap, strips: list[Strip], total: int) -> str:
    from rsloc_db.export.page import CONFIG, ZOOM, figure
    from rsloc_db.export.plots import plots

    title, searched = tables.head(found.run)
    plot = figure(drawn).to_html(
        full_html=False, include_plotlyjs=True, div_id="map", default_height="560px", config=CONFIG
    )
    more = f'<p class="small">{total - len(strips)} more are in the table below.</p>' if total > len(strips) else ""
    return PAGE.format(
        title=escape(title),
        searched=escape(searched),
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in tables.notes(found.run)),
        cards="".join(f'<div class="card">{escape(name)}<b>{escape(value)}</b></div>' for name, value in _cards(found)),
        script=ZOOM,
        credit=escape("; ".join(drawn.attributions) or f"gallery {', '.join(drawn.galleries) or '(none left)'}"),
        plot=plot,
        plots="".join(_figure(_svg(svg), caption) for caption, svg in plots(found)),
        strips="\n".join(_strip(one) for one in strips) + more,
        tables="\n".join(_table(table) for table in [*tables.figures(found), tables.queries(found.queries)]),
    )


def _cards(found: Evaluation) -> Iterable[tuple[str, str]]:
    run = found.run
    yield "accepted", f"{run['accepted']} of {run['queries']}"
    for row in found.located:
        if row["present"] and row["limit_m"] in (25, 500):
            yield f"located within {row['limit_m']} m", f"{row['located']} of {row['present']}"
    if run["median_center_error_m"] is not None:
        yield "median centre error", f"{number(run['median_center_error_m'])} m"
    if run["absent"]:
        yield "false places", f"{run['false_places']} of {run['absent']}"
    if run["present"]:
        yield "misplaced", str(run["misplaced"])
    for row in found.calibration:
        kind = " (simulated)" if row["simulated"] else ""
        yield f"in the 95 % ellipse{kind}", f"{row['inside']} of {row['accepted']}"
    for row in found.seconds:
        if row["stage"] == "total" and row["queries"]:
            yield "median time a query", f"{number(row['p50'])} s"


def _strip(shown: Strip) -> str:
    from rsloc_db.export.page import box_around

    row = shown.row
    colour = COLOURS.get(row["outcome"], BAD)
    error = "" if row["error_m"] is None else f", {number(row['error_m'])} m off"
    outside = ", outside its 95 % ellipse" if row["in_ellipse"] is False and row["outcome"] in RIGHT else ""
    sure = "" if row["confidence"] is None else f"; confidence {row['confidence']:.3f}"
    seconds = "" if row["total_s"] is None else f"; {row['total_s']:.1f} s"
    said = f"{row['verdict'].replace('_', ' ')}: {row['reason']}{sure}{seconds}"
    pictures = "".join(_figure(_picture(image), caption) for caption, image in shown.pictures)
    box = "" if shown.corners is None else f' data-box="{box_around(shown.corners)}"'
    return (
        f'<div class="strip" data-outcome="{row["outcome"]}" style="border-color:{colour}">'
        f"<h3{box}>{row['number']} {escape(row['name'])} "
        f'<span style="color:{colour}">{row["outcome"]}{error}{outside}</span></h3>'
        f'<p>{escape(said)}</p><div class="pictures">{pictures}</div></div>'
    )


def _picture(image: Image | None) -> str:
    from rsloc_db.export.page import data_uri

    if image is None:
        return '<div class="missing">not there any more</div>'
    return f'<img alt="" loading="lazy" src="{data_uri(image)}">'


def _svg(svg: bytes) -> str:
    return f'<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in table.rows)
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>\n{rows}</table>"
