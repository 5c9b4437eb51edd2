"""How long exhaustive search of a gallery takes, against its Fourier transforms alone.

    python benchmarks/exhaustive.py out/country/RSimages/present --gallery galleryL15 --first 16

Queries are searched one after the other in one process; nothing is refined. "first" reads the overviews of the
gallery's gradient maps and keeps them; "next" is the mean of the others. "transforms alone" repeats the last query's
transforms, of as many arrays of the same shapes, and does nothing else. "true place" counts queries whose true centre
lies within half a tile of the first, or of any place that the search returned.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from reporting import commit, print_table
from scipy import fft

from rsloc_db import correlation
from rsloc_db.db import server
from rsloc_db.db.connection import connect
from rsloc_db.grids import TILE_PX
from rsloc_db.models import embedder
from rsloc_db.queries import read_queries
from rsloc_db.queries.truth import read_truth
from rsloc_db.stages.exhaustive import exhaustive
from rsloc_db.stages.localize import search_space
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import read_query
from rsloc_db.stages.reference import Fit, References, to_grid
from rsloc_db.stages.template import templates_of
from rsloc_db.stages.workers import in_threads

Transform = tuple[str, tuple[int, ...], int | tuple[int, int], int]
"""Name of a function of ``scipy.fft``, the shape of its array, that of its result, and the axis where it is one."""


def main() -> None:
    """Search and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--gallery", required=True)
    parser.add_argument("--first", type=int, default=16)
    parser.add_argument("--threads", type=int, default=cv2.getNumThreads())
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    options = Options(embedder().name, galleries=(arguments.gallery,))
    truth = {each.name: each.center for each in read_truth([arguments.queries])}
    seconds, ranks = [], []
    with closing(connect(server.database_url())) as conn, _noting() as noted:
        references = search_space(conn, embedder(), options).references
        blocks = sum(len(reference.maps.blocks(None)) for reference in references.values())
        for file in read_queries([arguments.queries])[: arguments.first]:
            query = read_query(file)
            noted.clear()
            started = time.perf_counter()
            found = exhaustive(templates_of(query, references), options)
            seconds.append(time.perf_counter() - started)
            ranks.append(_rank(found, truth.get(file.name), references))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    alone, following = _transforms_s(noted), float(np.mean(seconds[1:]))
    print(f"{blocks:,} blocks of 8 x 8 tiles, {len(ranks)} queries, {arguments.threads} thread(s), commit {commit()}\n")
    columns = ("first s", "next s", "transforms alone s", "next / transforms", "true place first", "among all", "MB")
    times = f"{seconds[0]:.2f}", f"{following:.2f}", f"{alone:.2f}", f"{following / alone:.2f}"
    print_table(columns, [(*times, str(ranks.count(0)), str(sum(rank >= 0 for rank in ranks)), f"{memory:,.0f}")])


@contextmanager
def _noting() -> Iterator[list[Transform]]:
    """Yield a list that every transform of a correlation is written into."""
    noted: list[Transform] = []

    class Noting:
        next_fast_len = staticmethod(fft.next_fast_len)

        @staticmethod
        def rfft(array: np.ndarray, length: int) -> Any:
            noted.append(("rfft", array.shape, length, -1))
            return fft.rfft(array, length)

        @staticmethod
        def fft(array: np.ndarray, length: int, axis: int) -> Any:
            noted.append(("fft", array.shape, length, axis))
            return fft.fft(array, length, axis=axis)

        @staticmethod
        def irfft2(array: np.ndarray, shape: tuple[int, int]) -> Any:
            noted.append(("irfft2", array.shape, shape, -1))
            return fft.irfft2(array, shape)

    with patch.object(correlation, "fft", Noting):
        yield noted


def _transforms_s(noted: list[Transform]) -> float:
    """Return how long so many transforms take alone, in as many threads."""
    arrays = {
        (name, size): np.ones(size, np.float32 if name == "rfft" else np.complex64) for name, size, *_ in set(noted)
    }

    def again(transform: Transform) -> None:
        name, size, shape, axis = transform
        axes = {"axis": axis} if isinstance(shape, int) else {}
        getattr(fft, name)(arrays[name, size], shape, **axes)

    started = time.perf_counter()
    in_threads(again, noted)
    return time.perf_counter() - started


def _rank(found: list[Fit], center: tuple[float, float] | None, references: References) -> int:
    """Return which of the places is the true one, counted from 0, or -1."""
    for rank, fit in enumerate(found):
        reference = references[fit.candidate.key]
        if center is not None:
            a, b = (to_grid(reference, np.array(lon), np.array(lat), center) for lon, lat in (fit.center, center))
            if np.hypot(a[0] - b[0], a[1] - b[1]) < TILE_PX / 2:
                return rank
    return -1


if __name__ == "__main__":
    main()
