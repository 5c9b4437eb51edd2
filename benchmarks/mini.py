"""Run the four query sets of an RSLoc-like test world and print what a results table needs.

    python benchmarks/mini.py MINI [--retrieval auto]

MINI is a folder with ``Gallery/galleryL15.db`` and ``RSimages/{season,google,naip,absent}``. The gallery is ingested
under the name "mini" unless it is there already; every set is localized anew. Prints markdown, with n, the gallery's
size, the model's weights and the commit.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

from reporting import commit

import rsloc_db
from rsloc_db.evaluation import load_truth
from rsloc_db.models import embedder
from rsloc_db.types import Json

SETS = {"season": True, "google": False, "naip": False, "absent": True}
"""Query set -> whether its appearance is simulated."""
COLUMNS = (
    "set",
    "n",
    "accepted",
    "failed",
    "false places",
    "within 5 / 10 / 25 m",
    "median error",
    "in 95 % ellipse",
    "recall@1 retrieve / cliques / verify",
    "seconds p50 / p90",
)


def main() -> None:
    """Ingest, localize, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mini", type=Path)
    parser.add_argument("--retrieval", choices=("auto", "knn", "exhaustive"), default="auto")
    arguments = parser.parse_args()
    started = time.monotonic()
    summary = rsloc_db.ingest(arguments.mini / "Gallery" / "galleryL15.db", name="mini")
    ingested = f"{sum(summary.tiles.values()):,} tiles, ingested in {time.monotonic() - started:.0f} s"
    print(f"gallery {ingested}; model {embedder().name} {embedder().weights_hash[:12]}; commit {commit()}; ", end="")
    print(f"retrieval {arguments.retrieval}\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for name, simulated in SETS.items():
        path = arguments.mini / "RSimages" / name
        run = rsloc_db.localize(path, gallery="mini", retrieval=arguments.retrieval, overwrite=True, truth=False).run
        load_truth([path], simulated=simulated)
        print("| " + " | ".join(_row(name, rsloc_db.evaluate(run).as_dict())) + " |", flush=True)
    print(f"\npeak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def _row(name: str, e: Json) -> list[str]:
    within = " / ".join(str(e["located_at_m"][limit]) for limit in ("5", "10", "25"))
    error = "" if e["median_center_error_m"] is None else f"{e['median_center_error_m']:.2f} m"
    shares = (e["recall"][stage]["1"] for stage in ("retrieve", "cliques", "verify"))
    recall = " / ".join("" if share is None else f"{share:.2f}" for share in shares)
    inside = ", ".join(f"{c['inside']} of {c['accepted']}" for c in e["calibration"] if c["accepted"])
    seconds = " / ".join(f"{e['seconds_per_query'][p]:.1f}" for p in ("p50", "p90"))
    counts = [str(e[key]) for key in ("queries", "accepted", "failed", "false_places")]
    return [name, *counts, within, error, inside, recall, seconds]


if __name__ == "__main__":
    main()
