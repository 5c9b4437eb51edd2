"""A picture of a run: the map with footprints, and the queries beside it."""

from __future__ import annotations

from pathlib import Path

import matplotlib.patheffects as effects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rsloc_db.export.page import COLOURS, aspect, middle
from rsloc_db.export.run_map import QueryMap, Ring, RunMap, shrunk
from rsloc_db.types import Image

COLUMNS, MAX_SHOWN = 4, 24
MAP_PX = 1600
Dashes = str | tuple[int, tuple[int, int]]
_HALO = [effects.withStroke(linewidth=2.5, foreground="black")]


def write_picture(found: RunMap, path: Path) -> None:
    """Write the picture as a PNG.

    Raises:
        OSError: it cannot be written.
    """
    shown = [(q, q.thumbnail) for q in found.queries if q.thumbnail is not None][:MAX_SHOWN]
    figure = Figure(figsize=(17, 7.2), layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=(2.1, 1))
    _draw_map(figure.add_subplot(grid[0]), found)
    rows = max(1, -(-len(shown) // COLUMNS))
    thumbnails = grid[1].subgridspec(rows, COLUMNS)
    for index, (query, image) in enumerate(shown):
        _draw_query(figure.add_subplot(thumbnails[index // COLUMNS, index % COLUMNS]), query, image)
    more = len(found.queries) - len(shown)
    shown_of = f" ({more} not shown beside the map)" if more else ""
    figure.suptitle(found.summary() + shown_of, fontsize=12, parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, format="png")


def _draw_map(axes: Axes, found: RunMap) -> None:
    for base in found.basemaps:
        b = base.bounds
        axes.imshow(shrunk(base.image, MAP_PX), extent=(b.west_deg, b.east_deg, b.south_deg, b.north_deg))
    for query in found.queries:
        _draw_outlines(axes, query.found, COLOURS.get(query.verdict, "grey"), 2.0, "-")
        _draw_outlines(axes, query.truth, "white", 1.0, (0, (4, 3)))
        _draw_number(axes, query)
    b = found.bounds
    axes.set(xlim=(b.west_deg, b.east_deg), ylim=(b.south_deg, b.north_deg), aspect=aspect(b))
    axes.tick_params(labelsize=8)
    axes.legend(handles=_legend(found), loc="lower left", fontsize=8, framealpha=0.85)
    axes.set_xlabel("; ".join(found.attributions), fontsize=8, parse_math=False)


def _draw_outlines(axes: Axes, outlines: list[Ring], colour: str, width: float, style: Dashes) -> None:
    for ring in outlines:
        lon, lat = zip(*ring, strict=True)
        axes.plot(lon, lat, color=colour, linewidth=width, linestyle=style)


def _draw_number(axes: Axes, query: QueryMap) -> None:
    where = query.center or middle(query.truth)
    if where is None:
        return
    mark = str(query.number) if query.center else f"{query.number}: {query.verdict.replace('_', ' ')}"
    colour = COLOURS.get(query.verdict, "grey")
    axes.annotate(mark, where, color=colour, fontsize=10, weight="bold", ha="center", va="center", path_effects=_HALO)


def _legend(found: RunMap) -> list[Line2D]:
    verdicts = [v for v in COLOURS if any(q.verdict == v and q.found for q in found.queries)]
    lines = [Line2D([], [], color=COLOURS[v], linewidth=2, label=f"found ({v})") for v in verdicts]
    truth = Line2D([], [], color="grey", linewidth=1, linestyle="--", label="truth")
    return [*lines, truth] if any(q.truth for q in found.queries) else lines


def _draw_query(axes: Axes, query: QueryMap, image: Image) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    colour = COLOURS.get(query.verdict, "grey")
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=3)
    axes.set_title(_title(query), fontsize=9, pad=3, parse_math=False)


def _title(query: QueryMap) -> str:
    name = f"{query.number} {Path(query.name).stem[:16]}"
    if query.center:
        return name
    rightly = ", rightly" if query.verdict == "not_here" and query.state in ("absent", "uncovered") else ""
    return f"{name}\n{query.verdict.replace('_', ' ')}{rightly}"
