"""What each part is worth: the same queries with one part switched off, or another choice made, at a time.

    python benchmarks/ablations.py DATA parts
    python benchmarks/ablations.py DATA poses --sets turn --limit 8
    python benchmarks/ablations.py DATA retrieval --sets naip,small,clouds --limit 12

``parts`` and ``poses`` begin with the defaults, and tell how many are placed right, the median error and how many
truths lie in the 95 % ellipse; of absent places how many are accepted. ``retrieval`` is by patches and cliques alone:
in how many queries the true place is among the first 1, 5 and 20 hits, cliques and verified places, and what that
costs. Every variant is localized anew, by switching something inside of the package; sets and splits are those of
``accuracy.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from accuracy import RANKS, Bench
from reporting import commit

import rsloc_db
from rsloc_db import api, matching, stages
from rsloc_db.correlation import GradientMaps
from rsloc_db.db import runs
from rsloc_db.evaluation import Evaluation
from rsloc_db.stages import poses, refine
from rsloc_db.stages.options import Options
from rsloc_db.stages.reference import Fit

# the package has the stage's function under the module's name
retrieve = import_module("rsloc_db.stages.retrieve")
Switch = tuple[object, str, object]
"""An object, the name of its attribute, and what stands there for the time being."""


def unverified(_: object, fits: list[Fit], __: object, options: Options) -> list[Fit]:
    """Refine the best coarse fits without a look at pixels."""
    return sorted(fits, key=lambda fit: -fit.correlation)[: options.refined]


def unsettled(_: object, fits: list[Fit], __: object, options: Options) -> list[Fit]:
    """Leave places the poses that they were found in."""
    return sorted(fits, key=lambda fit: -fit.correlation)[: options.settled]


def all_agree(matches: matching.Matches) -> np.ndarray:
    """Take all matches to agree."""
    return np.ones(len(matches), bool)


def shift_alone(matches: matching.Matches, start: np.ndarray, tolerance_px: float) -> matching.Transform:
    """Fit a shift, as if few matches agreed."""
    few = start.copy()
    few[np.flatnonzero(start)[5:]] = False
    return matching.fit_affine(matches, few, tolerance_px)


def windows(*wanted: int) -> Switch:
    """Search windows of some widths alone."""
    find = runs.search_targets
    return runs, "search_targets", lambda *a: [t for t in find(*a) if t.window_tiles in wanted]


def spaced(share: float) -> Switch:
    """Lay patches this share of a window apart, or farther."""
    lay = retrieve._centers
    return retrieve, "_centers", lambda size, side, step: lay(size, side, max(step, share * side))


def options(**values: Any) -> Switch:
    """Choose other options."""
    return api, "Options", partial(Options, **values)


def uncentred(blocks: GradientMaps) -> GradientMaps:
    """Leave blocks their mean."""
    return blocks


PARTS: dict[str, tuple[str, list[Switch]]] = {
    "all, as by default": ("auto", []),
    "no exhaustive search": ("knn", []),
    "no patches and cliques": ("exhaustive", []),
    "no look at pixels before refinement": ("auto", [(stages, "verify", unverified)]),
    "blocks keep their mean": ("auto", [(matching, "_centred", uncentred)]),
    "all matches are taken to agree": ("auto", [(refine, "agreeing", all_agree)]),
    "a shift alone is fitted": ("auto", [(refine, "fit_affine", shift_alone)]),
    "no fine matches": ("auto", [(refine.Refined, "agrees", False)]),
}
"""Name -> configuration of ``accuracy.py``, and what is switched."""
POSES: dict[str, tuple[str, list[Switch]]] = {
    "all, as by default": ("free", []),
    "turns of 15 degrees": ("free", [(poses, "TURN_STEP_DEG", 15.0)]),
    "turns of 20 degrees": ("free", [(poses, "TURN_STEP_DEG", 20.0)]),
    "poses are not settled": ("free", [(stages, "settle_poses", unsettled)]),
    "no exhaustive search": ("free-knn", []),
    "no patches and cliques": ("free-exhaustive", []),
}
"""The same for turned queries."""
RETRIEVAL: dict[str, list[Switch]] = {
    "as by default": [],
    "windows of 1 tile": [windows(1)],
    "windows of 3 tiles": [windows(3)],
    "patches half a window apart": [spaced(0.5)],
    "patches a window apart": [spaced(1.0)],
    "25 patches": [options(patches=25)],
    "400 patches": [options(patches=400)],
    "25 hits": [options(hits=25)],
    "400 hits": [options(hits=400)],
}
"""Name -> what is switched, by patches and cliques alone."""


def evaluated(name: str, config: str, switches: list[Switch], arguments: argparse.Namespace) -> Evaluation:
    """Localize a set anew with something switched, and evaluate it."""
    with ExitStack() as stack:
        for where, attribute, value in switches:
            stack.enter_context(patch.object(where, attribute, value))
        run = Bench(arguments).run(name, config)
    return rsloc_db.evaluate(run)


def part_row(found: Evaluation) -> str:
    """Say what became of the queries: found or falsely accepted, and how exactly."""
    run = found.run
    if not run["present"]:
        return f"{run['false_places']} accepted"
    errors = [q["error_m"] for q in found.queries if q["state"] == "present" and q["verdict"] == "accepted"]
    if not errors:
        return "0"
    inside = sum(row["inside"] for row in found.calibration)
    return f"{len(errors) - run['misplaced']}; {np.median(errors):.2f} m; {inside} in ellipse"


def retrieval_row(found: Evaluation) -> str:
    """Say how often the true place is among the first, by stage, and the median seconds of the two stages."""
    seconds = {row["stage"]: row["p50"] for row in found.seconds}
    recall = {(row["stage"], row["k"]): row["found"] for row in found.recall}
    shares = "; ".join(
        " ".join(str(recall.get((stage, k), 0)) for k in RANKS) for stage in ("retrieve", "cliques", "verify")
    )
    return f"{shares}; {seconds['retrieve']:.2f} + {seconds['cliques']:.2f} s"


def rows(arguments: argparse.Namespace) -> Iterator[str]:
    """Localize and yield the table, line by line."""
    of_retrieval = {name: ("knn", switches) for name, switches in RETRIEVAL.items()}
    chosen = {"parts": PARTS, "poses": POSES, "retrieval": of_retrieval}[arguments.what]
    cell: Callable[[Evaluation], str] = retrieval_row if arguments.what == "retrieval" else part_row
    for variant, (config, switches) in chosen.items():
        if not arguments.variants or variant in arguments.variants.split(","):
            found = [evaluated(name, config, switches, arguments) for name in arguments.sets]
            yield f"| {variant} | " + " | ".join(cell(each) for each in found) + " |"


def main() -> None:
    """Localize and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=("parts", "poses", "retrieval"))
    parser.add_argument("--sets", default="naip,google,small,clouds,absent_plain", help="separated by commas")
    parser.add_argument("--variants", default="", help="some of the rows alone, separated by commas")
    parser.add_argument("--split", choices=("tune", "report"), default="report")
    parser.add_argument("--work", type=Path, default=Path("out/accuracy"))
    parser.add_argument("--limit", type=int, default=12, help="take the first queries of a set alone")
    arguments = parser.parse_args()
    arguments.sets, arguments.overwrite = arguments.sets.split(","), True
    print(f"split {arguments.split}, the first {arguments.limit} of each set, commit {commit()}\n")
    print("| | " + " | ".join(arguments.sets) + " |")
    print("|---|" + "---|" * len(arguments.sets))
    for line in rows(arguments):
        print(line, flush=True)


if __name__ == "__main__":
    main()
