"""Run the demonstration for several choices of its queries and print a table.

    python benchmarks/demo.py [SEEDS]

SEEDS is how many choices are made (default 6: seeds 0 to 5). Every choice is twelve pieces that the gallery has and
one that it lacks. Runs go into the database that rsloc-db uses.
"""

from __future__ import annotations

import statistics
import sys

from reporting import commit

from rsloc_db.db import schema, server
from rsloc_db.demo import Demo, demo
from rsloc_db.evaluation import evaluate
from rsloc_db.models import embedder


def main() -> None:
    """Run and print."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    schema.upgrade(server.database_url())
    model = embedder()
    print(f"Model {model.name}, weights {model.weights_hash[:12]}, commit {commit()}.\n")
    print("| seed | right to 0.5 degrees | placed wrongly | refused | failed | absent | median error, deg | s, p50 |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in range(seeds):
        print(_row(seed, demo(seed=seed)), flush=True)


def _row(seed: int, found: Demo) -> str:
    figures = evaluate(found.run).as_dict()
    errors = [error for error in found.errors_deg.values() if error is not None]
    present = len(found.queries) - 1
    verdicts = [q["verdict"] for q in found.queries if q["name"] != found.absent]
    refused = sum(verdict in ("not_here", "ambiguous") for verdict in verdicts)
    values = (
        seed,
        f"{found.located} of {present}",
        len(found.misplaced),
        refused,
        verdicts.count("failed"),
        found.verdict(found.absent),
        f"{statistics.median(errors):.3f}" if errors else "-",
        f"{figures['seconds_per_query']['p50']:.1f}",
    )
    return "| " + " | ".join(map(str, values)) + " |"


if __name__ == "__main__":
    main()
