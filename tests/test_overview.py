"""Large galleries are searched in overviews of their gradient maps; what has none yet is averaged as it is read."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lands import ELSEWHERE, NOMINAL_M, cut, write_gallery

import rsloc_db
from rsloc_db.correlation import GradientMaps, pooled
from rsloc_db.db.blocks import LayerKey
from rsloc_db.db.connection import connect
from rsloc_db.models import embedder
from rsloc_db.queries import read_queries
from rsloc_db.stages import maps
from rsloc_db.stages.exhaustive import exhaustive
from rsloc_db.stages.localize import search_space
from rsloc_db.stages.maps import BLOCK_CELLS, StoredMaps
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import read_query
from rsloc_db.stages.template import templates_of


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any gallery counts as large."""
    monkeypatch.setattr(sys.modules["rsloc_db.stages.exhaustive"], "FULL_BLOCKS", 0)


def forget_overviews(url: str) -> None:
    with connect(url) as conn:
        conn.execute("DELETE FROM gradient_block WHERE pool > 1")


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("coarser", [False, True])
@pytest.mark.parametrize("made", [True, False])
def test_a_query_is_found_in_overviews(
    land_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool, coarser: bool
) -> None:
    if not made:
        forget_overviews(land_url)
    if coarser:
        monkeypatch.setattr(sys.modules["rsloc_db.stages.exhaustive"], "MIN_COARSER_CELLS", 1)
    query = cut()
    (found,) = rsloc_db.localize(query.write(tmp_path / "here.tif"), retrieval="exhaustive", workers=1).queries
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 5


@pytest.mark.usefixtures("large")
def test_a_query_of_another_land_is_refused_in_overviews(land_url: str, tmp_path: Path) -> None:
    query = cut(seed=ELSEWHERE)
    (found,) = rsloc_db.localize(query.write(tmp_path / "not.tif"), retrieval="exhaustive", workers=1).queries
    assert found["verdict"] == "not_here"


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("options", [{"retrieval": "exhaustive"}, {"retrieval": "knn", "rotation": "free"}])
@pytest.mark.parametrize("shape", [(64, 64), (64, 400)])
def test_a_query_smaller_than_a_cell_of_overviews_is_not_here(
    land_url: str, tmp_path: Path, shape: tuple[int, int], options: dict[str, Any]
) -> None:
    query = cut(size=NOMINAL_M / 5, shape=shape).write(tmp_path / "tiny.tif")
    (found,) = rsloc_db.localize(query, workers=1, **options).queries
    assert found["verdict"] == "not_here", found["reason"]


def test_an_overview_is_the_mean_of_its_maps_and_ingest_makes_what_is_missing(land_url: str, tmp_path: Path) -> None:
    # across the borders of the blocks of both overviews
    with connect(land_url) as conn:
        gallery, level, column, row = conn.execute(
            "SELECT gallery_id, level, block_column, block_row FROM gradient_block WHERE pool = 4 ORDER BY id"
        ).fetchone() or pytest.fail("no overview")
    left, top, side = (4 * column - 2) * BLOCK_CELLS, (4 * row - 2) * BLOCK_CELLS, 8 * BLOCK_CELLS

    def cells(pool: int) -> GradientMaps:
        with connect(land_url) as conn:
            return StoredMaps(conn, LayerKey(gallery, level)).cells(
                left // pool, top // pool, side // pool, side // pool, pool
            )

    def overviews() -> list[tuple[Any, ...]]:
        with connect(land_url) as conn:
            rows = (
                "SELECT pool, block_column, block_row, tiles, maps FROM gradient_block WHERE pool > 1 ORDER BY 1, 2, 3"
            )
            return conn.execute(rows).fetchall()

    stored, made = [cells(1), cells(2), cells(4)], overviews()
    assert stored[0].cover.any()
    forget_overviews(land_url)
    averaged = [cells(1), cells(2), cells(4)]
    for finer, found, here in zip(stored, stored[1:], averaged[1:], strict=False):
        mean = pooled(finer, 2)
        assert np.array_equal(found.cover, mean.cover)
        assert np.abs(found.maps - mean.maps).max() <= 0.51 / 127
        assert np.array_equal(here.maps, found.maps)
        assert np.array_equal(here.cover, found.cover)
    rsloc_db.ingest(write_gallery(tmp_path / "land.db"), workers=1)
    assert overviews() == made


@pytest.mark.usefixtures("large")
def test_threads_find_the_same_places_as_one(land_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # chunks of one block, so that several threads have work
    monkeypatch.setattr(sys.modules["rsloc_db.stages.exhaustive"], "CHUNK_CELLS", 1)
    options = Options(embedder().name, rotation="free")
    (file,) = read_queries([cut().write(tmp_path / "here.tif")])
    query, found = read_query(file), []
    with connect(land_url) as conn:
        for threads in (1, 4):
            monkeypatch.setattr(cv2, "getNumThreads", partial(int, threads))
            references = search_space(conn, embedder(), options).references
            found.append(exhaustive(templates_of(query, references), options))
    assert len(found[0]) > 1
    assert found[0] == found[1]


@pytest.mark.parametrize("room", [0, 200_000, 1 << 30])
def test_what_is_kept_for_the_next_query_changes_nothing(
    land_url: str, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(maps, "KEPT_BYTES", room)
    with connect(land_url) as conn:
        row = conn.execute(
            "SELECT gallery_id, level, block_column, block_row FROM gradient_block WHERE pool = 1 ORDER BY id"
        ).fetchone()
        assert row is not None
        stored = StoredMaps(conn, LayerKey(row[0], row[1]))
        box = row[2] * BLOCK_CELLS, row[3] * BLOCK_CELLS, BLOCK_CELLS, BLOCK_CELLS
        for pool in (4, 2, 1, 4):
            shape = (BLOCK_CELLS // pool + 32, BLOCK_CELLS // pool + 32)
            first, again = (stored.spectra(*box, pool, shape) for _ in range(2))
            assert (first is again) == (first.nbytes <= room)
            assert np.array_equal(first.maps, again.maps)
            assert first.size == (BLOCK_CELLS // pool, BLOCK_CELLS // pool)
            kept = sum(each.nbytes for each in stored._spectra.values())
            assert kept <= room


@pytest.mark.parametrize(("cells", "margin"), [(1, 32), (32, 32), (32.5, 64), (64, 64), (65, 128), (200, 256)])
def test_a_margin_holds_the_template(cells: float, margin: int) -> None:
    assert sys.modules["rsloc_db.stages.exhaustive"]._margin(cells) == margin
