"""What evidence means: how often places of some evidence are right, over the runs that are stored.

    python benchmarks/reliability.py [RUN ...]

Takes every place that was refined for queries of known truth, not the answers alone: the wrong ones among them are the
impostors. A place is right within ``--right`` pixels of a query's footprint in 100 of the truth; absent queries have
wrong places only. Of several places of a query each counts. "Stated" is the mean confidence that goes with evidence.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np
from scipy.stats import binomtest

from rsloc_db.db.connection import connect
from rsloc_db.stages.decide import confidence
from rsloc_db.stages.refine import CHANCE

EDGES = (-100.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 1000.0)
PLACES = """
SELECT p.evidence, t.center IS NOT NULL
       AND ST_Distance(p.center::geography, t.center::geography) < 0.02 * sqrt(ST_Area(p.footprint::geography)),
       count(m.id) FILTER (WHERE m.inlier), count(m.id), p.run_id, p.query_id
FROM place p
JOIN query_truth t USING (query_id)
LEFT JOIN match m ON m.place_id = p.id
WHERE %(runs)s::int[] IS NULL OR p.run_id = ANY (%(runs)s)
GROUP BY p.id, t.query_id
"""
"""Evidence, whether it lies within a fiftieth of the query's size of the truth, blocks in agreement and matched."""


def main() -> None:
    """Print the table and what impostors look like."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=int, nargs="*", help="numbers of the runs; all by default")
    runs = parser.parse_args().runs or None
    with connect() as conn:
        rows = conn.execute(PLACES, {"runs": runs}).fetchall()
    evidence, right, agreeing, matched = (np.array(column) for column in list(zip(*rows, strict=True))[:4])
    queries = len({row[4:] for row in rows})
    print(
        f"{len(rows)} places of {queries} queries\n\n| evidence | places | right | share | stated |\n|---|---|---|---|---|"
    )
    for low, high in pairwise(EDGES):
        here = (evidence >= low) & (evidence < high)
        if here.any():
            of, n = int(right[here].sum()), int(here.sum())
            interval = binomtest(of, n).proportion_ci(method="wilson")
            stated = np.mean([confidence(e) for e in evidence[here]])
            share = f"{of / n:.3f} ({interval.low:.2f}-{interval.high:.2f})"
            print(f"| {low:g} to {high:g} | {n} | {of} | {share} | {stated:.3f} |")
    wrong = ~right
    shares = agreeing[wrong] / np.maximum(matched[wrong], 1)
    quantiles = ", ".join(f"{q:.0%}: {np.quantile(shares, q):.3f}" for q in (0.5, 0.9, 0.99, 1.0))
    print(f"\n{wrong.sum()} wrong places: share of matched blocks in agreement {quantiles} (supposed: {CHANCE})")
    for limit in (-1.0, 0.0, 1.0, 2.0):
        of = len({row[4:] for row, bad in zip(rows, wrong, strict=True) if bad and row[0] >= limit})
        print(
            f"queries with a wrong place of evidence {limit:g} or more: {of} of {queries}, {10**-limit * queries:.0f} supposed at most"
        )


if __name__ == "__main__":
    main()
