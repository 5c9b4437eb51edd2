"""Localize where cells have several dates: the date that fits wins, whichever it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lands import COLUMN, ELSEWHERE, GALLERY_SEASON, LEVEL, ROW, SEED, TILES, cut, picture, tiles
from sources import Row, write_ge_tiles

import rsloc_db
from rsloc_db.correlation import pooled
from rsloc_db.db.blocks import LayerKey
from rsloc_db.db.connection import connect
from rsloc_db.db.galleries import get_gallery
from rsloc_db.grids import TILE_PX
from rsloc_db.stages.maps import BLOCK_CELLS, BLOCK_TILES, CELL_PX, layers_of

NEWER = 1_600_000_000
CELLS = TILE_PX // CELL_PX


def dated(seed: int, at: int) -> list[Row]:
    return [(*row[:3], at, row[4]) for row in tiles(picture(seed, GALLERY_SEASON), COLUMN, ROW)]


@pytest.fixture
def rebuilt_url(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A gallery of land that has become another by the newer date, but for its last column."""
    monkeypatch.setenv("RSLOC_DATABASE_URL", database_url)
    newer = [row for row in dated(ELSEWHERE, NEWER) if row[1] < COLUMN + TILES - 1]
    rsloc_db.ingest(write_ge_tiles(tmp_path / "land.db", [*dated(SEED, NEWER - 10**8), *newer]), workers=1)
    return database_url


@pytest.mark.parametrize("retrieval", ["knn", "exhaustive"])
@pytest.mark.parametrize(("seed", "layer"), [(SEED, 1), (ELSEWHERE, 0)])
def test_the_date_that_fits_is_found(rebuilt_url: str, tmp_path: Path, retrieval: str, seed: int, layer: int) -> None:
    query = cut(seed=seed, at=(1400.3, 950.7) if layer else (800.3, 950.7))
    run = rsloc_db.localize(query.write(tmp_path / "here.tif"), retrieval=retrieval)
    (found,) = run.queries
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 5
    with connect(rebuilt_url) as conn:
        best = "SELECT layer FROM place WHERE run_id = %s AND rank = 1"
        assert conn.execute(best, (run.run,)).fetchone() == (layer,)


def test_only_blocks_with_older_dates_have_more_maps(rebuilt_url: str, tmp_path: Path) -> None:
    count = "SELECT layer, count(*) FROM gradient_block WHERE pool = 1 GROUP BY layer ORDER BY layer"
    with connect(rebuilt_url) as conn:
        before = conn.execute(count).fetchall()
        single = (TILES // 8 + 1) * (TILES // 8 + 1)
        assert [layer for layer, _ in before] == [0, 1]
        assert before[1][1] <= before[0][1] <= single
        conn.rollback()
        rsloc_db.ingest(tmp_path / "land.db", workers=1)
        assert conn.execute(count).fetchall() == before


@pytest.mark.parametrize("made", [True, False])
def test_overviews_of_an_older_date_are_the_newer_ones_where_it_has_none(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    # two blocks that are neighbours in the same overview, the left one with an older date
    first = COLUMN + 12
    rows = [(*row[:3], NEWER, row[4]) for row in tiles(picture(ELSEWHERE, GALLERY_SEASON), first, ROW)]
    older = [(*row[:3], NEWER - 10**8, row[4]) for row in tiles(picture(SEED, GALLERY_SEASON), first, ROW)]
    monkeypatch.setenv("RSLOC_DATABASE_URL", database_url)
    left_block = [row for row in older if row[1] < first + 4]
    summary = rsloc_db.ingest(write_ge_tiles(tmp_path / "land.db", [*left_block, *rows]), workers=1)
    left, top, side = (first + 4 - BLOCK_TILES) * CELLS, ROW * CELLS, 2 * BLOCK_CELLS
    with connect(database_url) as conn:
        if not made:
            conn.execute("DELETE FROM gradient_block WHERE pool > 1")
        key = LayerKey(get_gallery(conn, summary.gallery).id, LEVEL)
        assert [len(maps.blocks(None)) for maps in layers_of(conn, key, 2)] == [2, 1]
        for maps in layers_of(conn, key, 2):
            fine = maps.cells(left, top, side, side)
            for pool in (2, 4):
                found, mean = (
                    maps.cells(left // pool, top // pool, side // pool, side // pool, pool),
                    pooled(fine, pool),
                )
                assert np.array_equal(found.cover, mean.cover)
                assert found.cover[:, : side // pool // 2].any()
                assert found.cover[:, side // pool // 2 :].any()
                assert np.abs(found.maps - mean.maps).max() <= 1.01 / 127
