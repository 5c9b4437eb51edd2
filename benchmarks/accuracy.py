"""Measure accuracy: named query sets, each localized under a named configuration, as a table in markdown.

    python benchmarks/accuracy.py DATA --sets turn,scale --config free-knn
    python benchmarks/accuracy.py DATA --sets season_new --config auto --compare knn --limit 12

DATA is the folder of the shared imagery. What is made of it goes to --work and is made once; runs are kept in the
database, and a run that is there is continued, not repeated. Sets, galleries and splits: ``accuracy_sets.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accuracy_sets import GROUPS, LEVELS, SETS, first_images, gallery_source, query_set
from reporting import commit
from scipy.stats import binomtest

import rsloc_db
from rsloc_db.evaluation import STAGES, Evaluation, load_truth
from rsloc_db.models import embedder

CONFIGS: dict[str, dict[str, Any]] = {
    "auto": {},
    "knn": {"retrieval": "knn"},
    "exhaustive": {"retrieval": "exhaustive"},
    "scale": {"gsd_factor": 1.5},
    "free": {"rotation": "free"},
    "free-knn": {"rotation": "free", "retrieval": "knn"},
    "free-exhaustive": {"rotation": "free", "retrieval": "exhaustive"},
    "free-scale": {"rotation": "free", "gsd_factor": 1.5},
}
"""Name -> options of ``rsloc_db.localize``."""
LIMITS_M = (5, 10, 25, 50, 100, 500)
RANKS = (1, 5, 20)
COLUMNS = (
    *("set", "n", "accepted", "false places", "misplaced", "failed"),
    *(f"< {limit} m" for limit in LIMITS_M),
    *("< 1 px / 3 px", "median error m", "corner error m", "in 95 % ellipse"),
    *(f"recall@{'/'.join(map(str, RANKS))} {stage}" for stage in STAGES),
    *("s p50 / p90", "run"),
)


class Bench:
    """Makes, ingests and localizes what is asked for, each once."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self._ingested: set[str] = set()
        self._runs: dict[tuple[str, str], int] = {}

    def run(self, name: str, config: str) -> int:
        """Localize a set under a configuration, load its truth, and return the run."""
        if (name, config) not in self._runs:
            spec, made = SETS[name], self.arguments
            self._ingest(spec.gallery)
            paths = first_images(query_set(made.data, made.work, name, made.split), made.limit)
            options: dict[str, Any] = {"gallery": spec.gallery, "truth": False, "overwrite": made.overwrite}
            if spec.own_pixels:
                options["reference_error"] = 0.0
            self._runs[name, config] = rsloc_db.localize(*paths, **options, **CONFIGS[config]).run
            load_truth(paths, simulated=spec.simulated)
        return self._runs[name, config]

    def _ingest(self, gallery: str) -> None:
        if gallery not in self._ingested:
            source = gallery_source(self.arguments.data, self.arguments.work, gallery)
            rsloc_db.ingest(source, name=gallery, level=LEVELS.get(gallery))
            self._ingested.add(gallery)


def main() -> None:
    """Make what is missing, localize, evaluate, print."""
    arguments = _arguments()
    bench = Bench(arguments)
    _print_table(bench, arguments.config)
    if arguments.compare is not None:
        _print_table(bench, arguments.compare)
        for name in arguments.sets:
            print(f"\n{name}: {arguments.config} against {arguments.compare}")
            for line in _changes(bench.run(name, arguments.compare), bench.run(name, arguments.config)):
                print(f"- {line}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", required=True, help=f"separated by commas, of {', '.join((*SETS, *GROUPS))}")
    parser.add_argument("--config", choices=CONFIGS, default="auto")
    parser.add_argument("--compare", choices=CONFIGS, help="another configuration to compare with, query by query")
    parser.add_argument("--split", choices=("tune", "report"), default="tune")
    parser.add_argument("--work", type=Path, default=Path("out/accuracy"))
    parser.add_argument("--limit", type=int, help="take the first queries alone")
    parser.add_argument("--overwrite", action="store_true", help="localize anew what was localized before")
    arguments = parser.parse_args()
    names = [part for name in arguments.sets.split(",") for part in GROUPS.get(name, (name,))]
    if unknown := sorted(set(names) - set(SETS)):
        parser.error(f"unknown sets {', '.join(unknown)}: expected some of {', '.join((*SETS, *GROUPS))}")
    arguments.sets = names
    return arguments


def _print_table(bench: Bench, config: str) -> None:
    options = ", ".join(f"{name}={value}" for name, value in CONFIGS[config].items()) or "defaults"
    model = embedder()
    print(f"\nConfiguration {config} ({options}); split {bench.arguments.split}; model {model.name}", end=" ")
    print(f"{model.weights_hash[:12]}; commit {commit()}. Brackets hold Wilson 95 % intervals in %.\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    tiles = {}
    for name in bench.arguments.sets:
        found = rsloc_db.evaluate(bench.run(name, config))
        tiles[SETS[name].gallery] = found.run["gallery_tiles"]
        print("| " + " | ".join(_row(name, found)) + " |", flush=True)
    print("\nGalleries: " + ", ".join(f"{name} {count:,} tiles" for name, count in tiles.items()))


def _row(name: str, found: Evaluation) -> list[str]:
    run = found.run
    errors = [q["error_m"] for q in found.queries if q["state"] == "present" and q["verdict"] == "accepted"]
    present, pixel = run["present"], SETS[name].pixel_m
    accepted = sum(q["state"] == "present" and q["verdict"] == "accepted" for q in found.queries)
    inside = [_share(c["inside"], c["accepted"]) for c in found.calibration if c["accepted"]]
    seconds = next((row for row in found.seconds if row["stage"] == "total"), {"p50": None, "p90": None})
    uncovered = f", {run['uncovered']} of them uncovered" if run["uncovered"] else ""
    return [
        name,
        f"{present} present, {run['absent']} absent{uncovered}",
        _share(accepted, present),
        _share(run["false_places"], run["absent"]),
        str(run["misplaced"]),
        _share(run["failed"], run["queries"]),
        *(_share(row["located"], row["present"]) for row in found.located if row["limit_m"] in LIMITS_M),
        " / ".join(_share(sum(e < k * pixel for e in errors), present) for k in (1, 3)),
        _number(run["median_center_error_m"]),
        f"{_number(run['median_corner_error_m'])}, p90 {_number(run['p90_corner_error_m'])}",
        ", ".join(inside) or "-",
        *(_recall(found, stage) for stage in STAGES),
        f"{_number(seconds['p50'])} / {_number(seconds['p90'])}",
        str(run["run_id"]),
    ]


def _recall(found: Evaluation, stage: str) -> str:
    rows = {row["k"]: row for row in found.recall if row["stage"] == stage}
    return " / ".join(str(rows[k]["found"]) if k in rows else "-" for k in RANKS)


def _share(part: int, total: int) -> str:
    """Write a share as "9 of 10 (60-98)"; the brackets hold its Wilson 95 % interval in per cent."""
    if not total:
        return "-"
    interval = binomtest(part, total).proportion_ci(method="wilson")
    return f"{part} of {total} ({100 * interval.low:.0f}-{100 * interval.high:.0f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _changes(before: int, after: int) -> Iterator[str]:
    """Say which queries one run gained or lost against another, and how many."""
    rows = rsloc_db.compare(before, after)
    for outcome in ("gained", "lost"):
        names: Sequence[str] = [row["name"] for row in rows if row["outcome"] == outcome]
        yield f"{len(names)} {outcome}" + (f": {', '.join(names)}" if names else "")


if __name__ == "__main__":
    main()
