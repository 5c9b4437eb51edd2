"""Localize where cells have several dates: the date that fits wins, whichever it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from lands import COLUMN, ELSEWHERE, GALLERY_SEASON, ROW, SEED, TILES, cut, picture, tiles
from sources import Row, write_ge_tiles

import rsloc_db
from rsloc_db.db.connection import connect

NEWER = 1_600_000_000


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
    count = "SELECT layer, count(*) FROM gradient_block GROUP BY layer ORDER BY layer"
    with connect(rebuilt_url) as conn:
        before = conn.execute(count).fetchall()
        single = (TILES // 8 + 1) * (TILES // 8 + 1)
        assert [layer for layer, _ in before] == [0, 1]
        assert before[1][1] <= before[0][1] <= single
        conn.rollback()
        rsloc_db.ingest(tmp_path / "land.db", workers=1)
        assert conn.execute(count).fetchall() == before
