"""Plots of a report, each an SVG. What has no data is no plot."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsloc_db.evaluation import STAGES, Evaluation
from rsloc_db.types import Json

SIZE_IN = (4.6, 3.2)
COLOURS = ("#3568a8", "#e08214", "#4d9a58")
LIMITS_M = (5, 25, 500)
BINS = np.linspace(0, 1, 11)
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    # text stays text, in the reader's own font; the same run gives the same bytes
    "svg.fonttype": "none",
    "svg.hashsalt": "rsloc-db",
}


Draw = Callable[[Axes, Evaluation], bool]


def plots(found: Evaluation) -> list[tuple[str, bytes]]:
    """Return the plots of a run: (what it shows, SVG)."""
    made = []
    with mpl.rc_context(STYLE):
        for draw, caption in PLOTS:
            svg = _drawn(draw, found)
            if svg is not None:
                made.append((caption, svg))
    return made


def _drawn(draw: Draw, found: Evaluation) -> bytes | None:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    if not draw(figure.add_subplot(), found):
        return None
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _errors(axes: Axes, found: Evaluation) -> bool:
    present = [row for row in found.queries if row["state"] == "present"]
    errors = sorted(row["error_m"] for row in present if row["verdict"] == "accepted")
    if not errors:
        return False
    share = np.arange(1, len(errors) + 1) / len(present)
    x = np.maximum(errors, 0.01)
    axes.step([x[0], *x, x[-1] * 3], [0, *share, share[-1]], where="post", color=COLOURS[0])
    for limit in LIMITS_M:
        axes.axvline(limit, color="#999", linewidth=0.8, linestyle=":")
        axes.text(limit, 1.04, f"{limit} m", ha="center", fontsize=7, color="#666")
    axes.set(xscale="log", ylim=(0, 1.1), xlabel="centre error, m", ylabel=f"share of {len(present)} present queries")
    axes.set_title("Error distribution")
    return True


def _recall(axes: Axes, found: Evaluation) -> bool:
    rows = [row for row in found.recall if row["present"]]
    if not rows:
        return False
    depths = sorted({row["k"] for row in rows})
    for number, stage in enumerate(STAGES):
        of_stage = {row["k"]: row for row in rows if row["stage"] == stage}
        x = np.arange(len(depths)) + (number - 1) * 0.27
        shares = [of_stage[k]["share"] for k in depths]
        axes.bar(x, shares, 0.25, color=COLOURS[number], label=stage)
        axes.errorbar(
            x, shares, yerr=_intervals([of_stage[k] for k in depths]), fmt="none", color="#333", linewidth=0.8
        )
    axes.set_xticks(range(len(depths)), [f"@{k}" for k in depths])
    axes.set(ylim=(0, 1.25), ylabel=f"share of {rows[0]['present']} present queries")
    axes.legend(ncols=3, fontsize=7, loc="upper center", frameon=False)
    axes.set_title("Recall after each stage")
    return True


def _intervals(rows: list[Json]) -> list[list[float]]:
    # rounding may leave an end of the interval a hair inside of a share of 0 or 1
    return [
        [max(0.0, row["share"] - row["share_low"]) for row in rows],
        [max(0.0, row["share_high"] - row["share"]) for row in rows],
    ]


def _precision(axes: Axes, found: Evaluation) -> bool:
    rows = sorted(found.precision, key=lambda row: float(row["coverage"]))
    if not rows:
        return False
    coverage, precision = [row["coverage"] for row in rows], [row["precision"] for row in rows]
    axes.plot(coverage, precision, color=COLOURS[0], marker="o", markersize=3)
    axes.set(xlim=(0, 1.05), ylim=(0, 1.1), ylabel="precision (less than a tile off)")
    axes.set_xlabel(f"coverage of {rows[0]['labelled']} labelled queries")
    axes.set_title("Precision against coverage")
    return True


def _reliability(axes: Axes, found: Evaluation) -> bool:
    labelled = [row for row in found.queries if row["state"] != "unlabelled"]
    placed = [row for row in labelled if row["verdict"] in ("accepted", "ambiguous")]
    if not placed:
        return False
    sure = np.array([row["confidence"] for row in placed])
    right = np.array([row["state"] == "present" and row["error_tiles"] < 1 for row in placed])
    bins = np.clip(np.digitize(sure, BINS) - 1, 0, len(BINS) - 2)
    axes.plot([0, 1], [0, 1], color="#999", linewidth=0.8, linestyle=":")
    used = np.unique(bins)
    x, y = [float(sure[bins == b].mean()) for b in used], [float(right[bins == b].mean()) for b in used]
    axes.plot(x, y, "o-", color=COLOURS[0], markersize=4)
    for b, point in zip(used, zip(x, y, strict=True), strict=True):
        count = str(int((bins == b).sum()))
        axes.annotate(count, point, (0, -12), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xlim=(0, 1.05), ylim=(0, 1.1), xlabel="stated confidence", ylabel=f"share right of {len(placed)} places")
    axes.set_title("Reliability")
    return True


def _seconds(axes: Axes, found: Evaluation) -> bool:
    rows = [row for row in found.seconds if row["queries"]]
    if not rows:
        return False
    median, upper = [row["p50"] for row in rows], [row["p90"] for row in rows]
    names = [row["stage"] for row in rows]
    axes.barh(names, median, color=[COLOURS[1] if name == "total" else COLOURS[0] for name in names], height=0.6)
    axes.hlines(names, median, upper, color="#333", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title("Time of each stage")
    return True


PLOTS: tuple[tuple[Draw, str], ...] = (
    (_errors, "Error distribution: share of the present queries that were accepted with at most this centre error."),
    (_recall, "Recall after each stage: is the true place among the first k? Lines are Wilson 95 % intervals."),
    (
        _precision,
        "Precision against coverage: what would hold if every place of at least some confidence were accepted.",
    ),
    (
        _reliability,
        "Reliability: of places with about this confidence, how many are right; each point with its number of places.",
    ),
    (_seconds, "Seconds a query: median, with a line to the 90th percentile."),
)
"""How each plot is drawn, and what it shows. A function returns whether there was anything to draw."""
