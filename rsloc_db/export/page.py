"""A page to look around in: one HTML file with the map, all images and the drawing code inside, and no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import plotly.graph_objects as go

from rsloc_db.export.run_map import QueryMap, Ring, RunMap
from rsloc_db.types import Bounds, Floats, Image

JPEG_QUALITY = 82
COLOURS = {"accepted": "#ffb000", "ambiguous": "#ff66c4", "not_here": "#9aa0a6", "failed": "#ff3b30"}
WIDE_DEG = 60.0
"""Maps of a greater height are drawn in plain longitude and latitude, smaller ones true to shape in their middle."""
CONFIG = {"scrollZoom": True, "displaylogo": False, "responsive": True}
"""Of plotly."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1em; color: #222; }}
h1 {{ font-size: 1.2em; margin: 0 0 .3em; }}
#map {{ height: 74vh; }}
table {{ border-collapse: collapse; margin-top: 1em; }}
td, th {{ text-align: left; padding: .3em .8em; border-bottom: 1px solid #ddd; vertical-align: middle; }}
tr[data-box] {{ cursor: pointer; }} tr[data-box]:hover {{ background: #f3f6fa; }}
img {{ max-height: 90px; display: block; }}
.verdict {{ font-weight: 600; border-left: 6px solid; padding-left: .5em; }}
</style></head><body>
<h1>{title}</h1>
<p>Drag to move, turn the wheel to zoom, click a name in the legend to hide it, click a row below to go there.
Base map: {credit}.</p>
{plot}
<table><tr><th></th><th>query</th><th>verdict</th><th>confidence</th><th>lon, lat</th><th>95 % ellipse</th>
<th>error</th><th>why</th></tr>
{rows}</table>
{script}</body></html>
"""

ZOOM = """<script>
for (const part of document.querySelectorAll("[data-box]")) part.addEventListener("click", () => {
  const [west, south, east, north] = part.dataset.box.split(" ").map(Number);
  Plotly.relayout("map", {"xaxis.range": [west, east], "yaxis.range": [south, north]});
  document.getElementById("map").scrollIntoView();
});
</script>"""
"""Shows on the map what is clicked, by its data-box: west, south, east, north in degrees."""


def write_page(found: RunMap, path: Path) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    plot = figure(found).to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="map",
        default_height="74vh",
        config=CONFIG,
    )
    credit = "; ".join(found.attributions) or f"gallery {', '.join(found.galleries) or '(none left)'}"
    rows = "\n".join(_row(query) for query in found.queries)
    text = PAGE.format(title=escape(found.summary()), credit=escape(credit), plot=plot, rows=rows, script=ZOOM)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def figure(found: RunMap) -> Any:
    """Return the map as a plotly figure."""
    drawn = go.Figure()
    for base in found.basemaps:
        box = base.bounds
        size = {"sizex": box.east_deg - box.west_deg, "sizey": box.north_deg - box.south_deg, "sizing": "stretch"}
        place = {"x": box.west_deg, "y": box.north_deg, "xref": "x", "yref": "y", "layer": "below"}
        drawn.add_layout_image(source=data_uri(base.image), **place, **size)
    _add_outlines(drawn, found.queries)
    for verdict in COLOURS:
        _add_centers(drawn, verdict, [q for q in found.queries if q.verdict == verdict])
    drawn.update_layout(
        margin={"l": 40, "r": 10, "t": 10, "b": 30},
        dragmode="pan",
        plot_bgcolor="#cdd0d6",
        # dark, for the truth is drawn in white
        legend={"bgcolor": "rgba(30,34,42,.75)", "font": {"color": "#fff"}, "x": 0.01, "y": 0.01, "yanchor": "bottom"},
    )
    b = found.bounds
    axis = {"showgrid": False, "zeroline": False, "ticksuffix": "°"}
    drawn.update_xaxes(range=[b.west_deg, b.east_deg], **axis)
    drawn.update_yaxes(range=[b.south_deg, b.north_deg], scaleanchor="x", scaleratio=aspect(b), **axis)
    return drawn


def aspect(bounds: Bounds) -> float:
    """Return how much taller than a degree of longitude one of latitude is drawn."""
    if bounds.north_deg - bounds.south_deg > WIDE_DEG:
        return 1.0
    middle = np.radians((bounds.north_deg + bounds.south_deg) / 2)
    return float(1 / max(np.cos(middle), 0.05))


def _add_outlines(drawn: Any, queries: list[QueryMap]) -> None:
    """Add outlines: one trace a kind, so that the legend is short."""
    others = [ring for q in queries for _, other in q.others for ring in other]
    _add_lines(drawn, "places not chosen", others, {"color": "#7fd1ff", "width": 1, "dash": "dot"}, hidden=True)
    for verdict, colour in COLOURS.items():
        outlines = [ring for q in queries if q.verdict == verdict for ring in q.found]
        _add_lines(drawn, f"{verdict.replace('_', ' ')}: footprint", outlines, {"color": colour, "width": 3})
    _add_lines(
        drawn, "truth", [r for q in queries for r in q.truth], {"color": "#ffffff", "width": 1.5, "dash": "dash"}
    )
    _add_lines(drawn, "95 % ellipse of the centre", [r for q in queries for r in q.ellipse], {"color": "#00e5a8"})


def _add_lines(drawn: Any, name: str, outlines: Iterable[Ring], line: dict[str, Any], *, hidden: bool = False) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    for ring in outlines:
        x += [lon for lon, _ in ring] + [None]
        y += [lat for _, lat in ring] + [None]
    if x:
        visible = "legendonly" if hidden else True
        drawn.add_scatter(x=x, y=y, name=name, mode="lines", line=line, hoverinfo="skip", visible=visible)


def _add_centers(drawn: Any, verdict: str, queries: list[QueryMap]) -> None:
    """Add centres with their numbers; one that was refused is shown where it really is, if that is known."""
    placed = [(q, where) for q in queries if (where := q.center or middle(q.truth)) is not None]
    if not placed:
        return
    drawn.add_scatter(
        x=[where[0] for _, where in placed],
        y=[where[1] for _, where in placed],
        text=[str(q.number) for q, _ in placed],
        hovertext=[hover(q) for q, _ in placed],
        name=f"{verdict.replace('_', ' ')}: centre",
        mode="markers+text",
        textposition="top center",
        textfont={"color": "#fff", "size": 14, "shadow": "0 0 3px #000, 0 0 3px #000"},
        marker={"color": COLOURS[verdict], "size": 9, "line": {"color": "#000", "width": 1}},
        hoverinfo="text",
    )


def middle(outlines: list[Ring]) -> tuple[float, float] | None:
    """Return the middle of the box around the first outline, None where there is none."""
    if not outlines:
        return None
    lon, lat = np.array(outlines[0]).T
    return float(lon.min() + lon.max()) / 2, float(lat.min() + lat.max()) / 2


def hover(query: QueryMap) -> str:
    """Return what is said of a query under the pointer, as HTML."""
    lines = [
        f"<b>{query.number} {escape(query.name)}</b>",
        f"{query.verdict.replace('_', ' ')}: {escape(query.reason)}",
    ]
    if query.confidence is not None:
        lines.append(f"confidence {query.confidence:.3f}")
    if query.ellipse_m:
        lines.append(f"95 % ellipse {_meters(query.ellipse_m[0])} x {_meters(query.ellipse_m[1])}")
    lines.append("error " + (_meters(query.error_m) if query.error_m is not None else f"unknown ({query.state})"))
    return "<br>".join(lines)


def _meters(value: float) -> str:
    return f"{value / 1000:,.1f} km" if value >= 1000 else f"{value:,.1f} m"


def _row(q: QueryMap) -> str:
    image = f'<img alt="" src="{data_uri(q.thumbnail)}">' if q.thumbnail is not None else ""
    place = f"{q.center[0]:.4f}, {q.center[1]:.4f}" if q.center else ""
    ellipse = f"{_meters(q.ellipse_m[0])} x {_meters(q.ellipse_m[1])}" if q.ellipse_m else ""
    sure = f"{q.confidence:.3f}" if q.confidence is not None else ""
    colour = COLOURS.get(q.verdict, "#9aa0a6")
    verdict = f'<span class="verdict" style="border-color:{colour}">{q.verdict.replace("_", " ")}</span>'
    error = _meters(q.error_m) if q.error_m is not None else q.state
    cells = (image, f"{q.number} {escape(q.name)}", verdict, sure, place, ellipse, error, escape(q.reason))
    return f"<tr{_box_of(q)}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _box_of(q: QueryMap) -> str:
    outlines = q.found or q.truth
    if not outlines:
        return ""
    return f' data-box="{box_around(np.array(outlines[0]))}"'


def box_around(points: Floats) -> str:
    """Return a box around (N, 2) lon, lat with a margin, as a page's data-box."""
    lon, lat = points.T
    x, y = np.ptp(lon) * 0.2, np.ptp(lat) * 0.2
    return f"{lon.min() - x:.6f} {lat.min() - y:.6f} {lon.max() + x:.6f} {lat.max() + y:.6f}"


def data_uri(image: Image) -> str:
    """Return an image as a JPEG inside a URI."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
