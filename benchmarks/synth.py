"""How fast a synthetic gallery is drawn, and how large a tile is.

    python benchmarks/synth.py --tiles 1600

Draws a gallery into a temporary folder, without queries. "A core" counts the seconds that the workers computed, so that
it holds on a busy machine, too.
"""

from __future__ import annotations

import argparse
import resource
import tempfile

import rsloc_db
from rsloc_db.config import settings

COUNTRY = 824_796
"""Tiles of the RSLoc authors' level 15."""


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=settings().workers)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = rsloc_db.synthesize(folder, tiles=wanted.tiles, seed=wanted.seed, queries=0, workers=wanted.workers)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = spent.ru_utime + spent.ru_stime
    print(f"tiles         {made.tiles:,} by {wanted.workers} workers in {made.seconds:.1f} s, their start included")
    print(f"speed         {made.tiles / made.seconds:.0f} tiles/s, {made.tiles / computed:.0f} tiles/s a core")
    print(f"bytes a tile  {made.gallery_bytes / made.tiles:,.0f}")
    print(f"peak memory   {spent.ru_maxrss / 1024:.0f} MB a worker")
    hours = COUNTRY / made.tiles * computed / wanted.workers / 3600
    print(f"{COUNTRY:,} tiles: {hours:.1f} hours, {COUNTRY * made.gallery_bytes / made.tiles / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
