"""Ingest: what is in the database afterwards, whatever the source and however often it is run."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import wait_for
from sources import COLUMN, DATE, LEVEL, ROW, ingest, jpeg, picture, rows, square, value, write_ge_tiles

from rsloc_db import imagery
from rsloc_db.db import embeddings, galleries
from rsloc_db.db.connection import Connection
from rsloc_db.errors import GalleryError, ServerError, WorkerError
from rsloc_db.gallery import open_gallery
from rsloc_db.grids import cell_bounds, cell_center, grid
from rsloc_db.stages.ingest import disk_needed
from rsloc_db.stages.tiles import load_mosaic
from rsloc_db.types import Cell, Silent

Vectors = dict[tuple[object, ...], list[float]]


@pytest.fixture
def land(tmp_path: Path) -> Path:
    return write_ge_tiles(tmp_path / "land.db", square(6))


def vectors(conn: Connection, name: str) -> Vectors:
    """All vectors of a gallery, keyed by what they are of."""
    found = conn.execute(
        "SELECT s.level, s.window_tiles, t.tile_column, t.tile_row, t.captured_at, e.vector::real[] FROM gallery g"
        " JOIN embedding_set s ON s.gallery_id = g.id JOIN embedding e ON e.set_id = s.id"
        " JOIN tile t ON t.id = e.tile_id WHERE g.name = %s",
        (name,),
    ).fetchall()
    conn.commit()
    keyed = {tuple(row[:5]): row[5] for row in found}
    assert len(keyed) == len(found)
    return keyed


def assert_same(found: Vectors, expected: Vectors) -> None:
    """The same tiles, and vectors equal but for the rounding of another order of sums."""
    assert found.keys() == expected.keys()
    assert len(found)
    assert np.allclose([found[key] for key in expected], list(expected.values()), rtol=0, atol=1e-3)


def test_counts_and_status(conn: Connection, land: Path) -> None:
    summary = ingest(land)
    assert (summary.gallery, summary.tiles, summary.added) == ("land", {LEVEL: 36}, 36)
    assert (summary.skipped, summary.embedded) == (0, 72)
    assert summary.indexes == {f"{LEVEL}/1": "exact", f"{LEVEL}/3": "exact"}
    (overview,) = galleries.list_galleries(conn)
    assert (overview.status, overview.tiles, overview.cells, overview.levels) == ("ready", 36, 36, [LEVEL])
    assert overview.first_date == overview.last_date == datetime.fromtimestamp(DATE, UTC)
    assert {each["window_tiles"] for each in overview.embeddings} == {1, 3}
    assert value(conn, "SELECT count(*) FROM tile_image") == 36


def test_footprint_and_center_are_the_grids(conn: Connection, land: Path) -> None:
    ingest(land)
    found = conn.execute(
        "SELECT tile_column, tile_row, ST_XMin(footprint), ST_YMin(footprint), ST_XMax(footprint), ST_YMax(footprint),"
        " ST_X(center), ST_Y(center), ST_SRID(footprint), ST_IsValid(footprint) FROM tile"
    ).fetchall()
    for column, row, *box, lon, lat, srid, valid in found:
        cell = Cell(LEVEL, column, row)
        b = cell_bounds(grid("google_earth"), cell)
        assert np.allclose(box, (b.west_deg, b.south_deg, b.east_deg, b.north_deg), rtol=0, atol=1e-12)
        assert np.allclose((lon, lat), cell_center(grid("google_earth"), cell), rtol=0, atol=1e-12)
        assert (srid, valid) == (4326, True)


def test_images_are_kept_to_the_byte(conn: Connection, land: Path) -> None:
    ingest(land)
    gallery = galleries.get_gallery(conn, "land")
    (tile,) = galleries.tile_images(conn, gallery.id, LEVEL, (COLUMN + 3, COLUMN + 3), (ROW + 4, ROW + 4))
    assert tile.data == open_gallery(land).read(tile.cell, tile.captured_at)


def test_ingest_again_changes_nothing(conn: Connection, land: Path) -> None:
    ingest(land)
    before = vectors(conn, "land"), value(conn, "SELECT array_agg(id ORDER BY id) FROM tile")
    again = ingest(land)
    assert (again.added, again.embedded, again.indexes) == (0, 0, {})
    assert_same(vectors(conn, "land"), before[0])
    assert before[1] == value(conn, "SELECT array_agg(id ORDER BY id) FROM tile")


def test_a_source_that_grew_is_taken_up(conn: Connection, tmp_path: Path) -> None:
    ingest(write_ge_tiles(tmp_path / "land.db", square(4)))
    summary = ingest(write_ge_tiles(tmp_path / "land.db", square(5)))
    assert (summary.added, summary.tiles) == (9, {LEVEL: 25})


def test_broken_tiles_are_reported_and_the_rest_goes_on(conn: Connection, tmp_path: Path) -> None:
    tiles = square(5)
    for i, data in enumerate([tiles[3][4][:2000], b"", b"no image at all", None]):
        tiles[3 + i] = (*tiles[3 + i][:4], data)
    source = write_ge_tiles(tmp_path / "land.db", tiles)
    summary = ingest(source)
    assert (summary.added, summary.skipped, summary.embedded) == (21, 4, 42)
    failures = galleries.list_failures(conn, galleries.get_gallery(conn, "land").id)
    assert len(failures) == 4
    assert failures[0].name.startswith(f"{LEVEL}_{COLUMN + 3}_{ROW}")
    assert "truncated" in failures[0].reason
    ingest(source)
    assert value(conn, "SELECT count(*) FROM ingest_failure") == 4


@pytest.mark.parametrize("tiles", [[], [(LEVEL, COLUMN, ROW, DATE, b"broken")]])
def test_a_source_without_a_usable_tile_leaves_nothing(
    conn: Connection, tmp_path: Path, tiles: list[tuple[int, int, int, int, bytes]]
) -> None:
    with pytest.raises(GalleryError, match=r"no tile"):
        ingest(write_ge_tiles(tmp_path / "land.db", tiles))
    assert value(conn, "SELECT count(*) FROM gallery") == 0


def test_same_row_twice_in_a_source_is_one_tile(conn: Connection, tmp_path: Path) -> None:
    summary = ingest(write_ge_tiles(tmp_path / "land.db", square(3) + square(3)))
    assert (summary.added, summary.embedded) == (9, 18)


def test_two_ingests_of_a_gallery_at_once_are_refused(conn: Connection, land: Path) -> None:
    with galleries.lock(conn, "land"), pytest.raises(GalleryError, match="being changed by another process"):
        ingest(land)
    assert ingest(land).added == 36


def test_extended_gallery_equals_one_ingested_whole(conn: Connection, tmp_path: Path) -> None:
    everything = square(6)
    ingest(write_ge_tiles(tmp_path / "whole.db", everything))
    ingest(write_ge_tiles(tmp_path / "a.db", [t for t in everything if t[1] < COLUMN + 3]), name="parts")
    second = ingest(write_ge_tiles(tmp_path / "b.db", [t for t in everything if t[1] >= COLUMN + 2]), name="parts")
    assert (second.added, second.tiles) == (18, {LEVEL: 36})
    assert second.embedded == 36 + 6  # the new tiles' windows, and the wide ones of the column beside them
    assert_same(vectors(conn, "parts"), vectors(conn, "whole"))
    assert galleries.get_gallery(conn, "parts").source == str(tmp_path / "b.db")


def test_a_killed_extension_is_not_taken_for_the_first_source(conn: Connection, tmp_path: Path) -> None:
    first = write_ge_tiles(tmp_path / "a.db", square(3))
    # of the second source, as many tiles as the first has, all before its cells in the source's order
    second = write_ge_tiles(tmp_path / "b.db", rows(range(COLUMN, COLUMN + 3), range(ROW - 5, ROW - 2)))
    ingest(first, name="land")

    class Stop(Silent):
        def task(self, name: str, total: int | None = None, done: int = 0) -> None:
            if name.startswith("windows"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(second, name="land", progress=Stop())
    assert galleries.get_gallery(conn, "land").status == "loading"
    conn.commit()
    summary = ingest(second, name="land")
    assert (summary.tiles, galleries.get_gallery(conn, "land").status) == ({LEVEL: 18}, "ready")
    assert len(vectors(conn, "land")) == 36


def test_contradictions_are_refused(conn: Connection, tmp_path: Path, land: Path) -> None:
    ingest(land)
    with pytest.raises(GalleryError, match="has its images stored, not reference"):
        ingest(land, images="reference")
    conn.execute("UPDATE gallery SET grid = 'web_mercator'")
    conn.commit()
    with pytest.raises(GalleryError, match="grid web_mercator"):
        ingest(land)
    for options in ({"windows": ()}, {"images": "both"}, {"name": "land (next)"}, {"name": " "}, {"level": 3}):
        with pytest.raises(GalleryError):
            ingest(land, **{"name": "other"} | options)


def test_replaced_gallery_is_searched_until_the_new_one_is_ready(conn: Connection, tmp_path: Path, land: Path) -> None:
    ingest(land)
    seen = []

    class Look(Silent):
        def task(self, name: str, total: int | None = None, done: int = 0) -> None:
            seen.append((name, [(g.name, g.status, g.tiles) for g in galleries.list_galleries(conn)]))
            conn.commit()

    new = write_ge_tiles(tmp_path / "new.db", square(4, seed=7))
    summary = ingest(new, name="land", replace=True, progress=Look())
    *before, (last, after) = seen
    assert all(("land", "ready", 36) in state for _, state in before)
    assert ("land (next)", "loading", 16) in before[-1][1]
    assert last == "delete"
    assert ("land", "ready", 16) in after
    assert [(g.name, g.status, g.tiles) for g in galleries.list_galleries(conn)] == [("land", "ready", 16)]
    assert summary.tiles == {LEVEL: 16}
    assert value(conn, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'embedding'::regclass") == 2
    assert len(vectors(conn, "land")) == 32


def test_a_broken_replacement_leaves_the_old_gallery(conn: Connection, tmp_path: Path, land: Path) -> None:
    ingest(land)
    broken = write_ge_tiles(tmp_path / "new.db", [(LEVEL, COLUMN, ROW, DATE, b"broken")])
    with pytest.raises(GalleryError):
        ingest(broken, name="land", replace=True)
    assert [(g.name, g.status, g.tiles) for g in galleries.list_galleries(conn)] == [("land", "ready", 36)]


def test_delete_takes_everything_along(conn: Connection, tmp_path: Path, land: Path) -> None:
    ingest(land)
    ingest(write_ge_tiles(tmp_path / "other.db", square(3)))
    conn.autocommit = True
    galleries.delete_gallery(conn, galleries.get_gallery(conn, "land").id)
    assert [g.name for g in galleries.list_galleries(conn)] == ["other"]
    for table, left in {"tile": 9, "tile_image": 9, "embedding": 18, "embedding_set": 2}.items():
        assert value(conn, f"SELECT count(*) FROM {table}") == left, table
    assert value(conn, "SELECT count(*) FROM pg_class WHERE relname ~ '^embedding_[0-9]+$'") == 2


class StopDeleting(Silent):
    def advance(self, steps: int = 1) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("images", ["stored", "reference"])
def test_a_deletion_that_is_stopped_goes_on_or_is_made_good_by_ingest(
    conn: Connection, tmp_path: Path, land: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [land]
    if images == "stored":  # in the order of rows the second lies before the first
        sources.append(write_ge_tiles(tmp_path / "north.db", rows(range(COLUMN, COLUMN + 6), [ROW - 2, ROW + 6])))
    for source in sources:
        ingest(source, name="land", images=images)
    before = vectors(conn, "land")
    conn.autocommit = True
    monkeypatch.setattr(galleries, "DELETED", 15)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            galleries.delete_gallery(conn, galleries.get_gallery(conn, "land").id, StopDeleting())
    assert value(conn, "SELECT count(*) FROM tile") == len(before) / 2 - 2 * 15 > 0
    assert galleries.get_gallery(conn, "land").status == "loading"
    for source in reversed(sources):
        ingest(source, name="land", images=images)
    assert_same(vectors(conn, "land"), before)
    with pytest.raises(KeyboardInterrupt):
        galleries.delete_gallery(conn, galleries.get_gallery(conn, "land").id, StopDeleting())
    galleries.delete_gallery(conn, galleries.get_gallery(conn, "land").id)
    assert [value(conn, f"SELECT count(*) FROM {table}") for table in ("gallery", "tile", "tile_image")] == [0, 0, 0]


def test_referenced_images_stay_in_the_source(conn: Connection, land: Path) -> None:
    ingest(land, name="stored")
    ingest(land, name="referenced", images="reference")
    assert value(conn, "SELECT count(*) FROM tile_image") == 36
    assert_same(vectors(conn, "referenced"), vectors(conn, "stored"))
    box = LEVEL, (COLUMN - 1, COLUMN + 2), (ROW, ROW + 1)
    stored, referenced = (load_mosaic(conn, galleries.get_gallery(conn, n), *box) for n in ("stored", "referenced"))
    assert np.array_equal(stored[0], referenced[0])
    assert np.array_equal(stored[1], referenced[1])
    with pytest.raises(GalleryError, match="no second source"):
        ingest(land.rename(land.with_name("moved.db")), name="referenced", images="reference")


def test_every_level_has_its_own_embeddings(conn: Connection, tmp_path: Path) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(4) + rows(range(1050, 1052), range(750, 752), level=LEVEL - 1))
    assert ingest(source, name="one", level=LEVEL - 1).tiles == {LEVEL - 1: 4}
    summary = ingest(source)
    assert (summary.tiles, summary.embedded) == ({LEVEL - 1: 4, LEVEL: 16}, 40)
    sets = embeddings.list_sets(conn, galleries.get_gallery(conn, "land").id)
    assert [(s.level, s.window_tiles) for s in sets] == [(11, 1), (11, 3), (12, 1), (12, 3)]
    assert ingest(source, name="one").added == 16  # the level left out before


def test_every_date_of_a_cell_is_a_tile(conn: Connection, tmp_path: Path) -> None:
    tiles = square(3, date=DATE) + square(3, date=DATE + 86400 * 400, seed=1) + square(1, date=None, seed=2)
    summary = ingest(write_ge_tiles(tmp_path / "land.db", tiles))
    assert (summary.added, summary.embedded) == (19, 38)
    gallery = galleries.get_gallery(conn, "land")
    found = galleries.tile_images(conn, gallery.id, LEVEL, (COLUMN, COLUMN), (ROW, ROW))
    newest = datetime.fromtimestamp(DATE, UTC) + timedelta(days=400)
    assert [t.captured_at for t in found] == [newest, newest - timedelta(days=400), None]
    image, valid = load_mosaic(conn, gallery, LEVEL, (COLUMN, COLUMN), (ROW, ROW))
    assert np.array_equal(image, imagery.decode(found[0].data))
    assert valid.all()


def test_more_windows_come_to_a_gallery_that_stays_ready(conn: Connection, land: Path) -> None:
    ingest(land, windows=(1,))
    summary = ingest(land, windows=(5,))
    assert (summary.added, summary.embedded, list(summary.indexes)) == (0, 36, [f"{LEVEL}/5"])


def test_windows_wrap_at_the_antimeridian(conn: Connection, tmp_path: Path) -> None:
    columns = [62, 63, 0, 1]
    pictures = {x: picture(i) for i, x in enumerate(columns)}
    across = [(6, x, y, None, pictures[x]) for x in columns for y in (20, 21)]
    inland = [(6, 10 + i, y, None, pictures[x]) for i, x in enumerate(columns) for y in (20, 21)]
    ingest(write_ge_tiles(tmp_path / "across.db", across))
    ingest(write_ge_tiles(tmp_path / "inland.db", inland))
    found, expected = vectors(conn, "across"), vectors(conn, "inland")
    assert_same(
        {(n, columns.index(x), y): v for (_, n, x, y, _), v in found.items()},
        {(n, x - 10, y): v for (_, n, x, y, _), v in expected.items()},
    )
    a, b = galleries.get_gallery(conn, "across"), galleries.get_gallery(conn, "inland")
    left = load_mosaic(conn, a, 6, (62, 65), (20, 21))
    assert np.array_equal(left[0], load_mosaic(conn, a, 6, (-2, 1), (20, 21))[0])
    assert np.array_equal(left[0], load_mosaic(conn, b, 6, (10, 13), (20, 21))[0])
    assert left[1].all()


def test_mosaic_of_a_gap_is_black_and_invalid(conn: Connection, land: Path) -> None:
    ingest(land)
    image, valid = load_mosaic(conn, galleries.get_gallery(conn, "land"), LEVEL, (COLUMN - 1, COLUMN), (ROW - 1, ROW))
    assert image.shape == (512, 512, 3)
    assert valid[256:, 256:].all()
    assert valid.sum() == 256 * 256
    assert not image[~valid].any()


def test_disk_is_estimated(conn: Connection, tmp_path: Path) -> None:
    before = value(conn, "SELECT pg_database_size(current_database())")
    summary = ingest(write_ge_tiles(tmp_path / "land.db", square(20)))
    grown = value(conn, "SELECT pg_database_size(current_database())") - before
    assert 0.5 < summary.disk_bytes / grown < 1.5
    assert disk_needed(100, None, 256, (1, 3)) < disk_needed(100, 0, 256, (1, 3)) < disk_needed(100, 10**6, 256, (1, 3))
    assert disk_needed(30_000, 0, 256, (1,)) > 30_000 * 2 * 512  # vectors, and once more in the index


def test_a_server_that_goes_away_is_one_line_and_a_rerun_resumes(conn: Connection, land: Path) -> None:
    conn.autocommit = True

    class Cut(Silent):
        def advance(self, steps: int = 1) -> None:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    with pytest.raises(ServerError, match="run the command again"):
        ingest(land, progress=Cut())
    assert ingest(land).tiles == {LEVEL: 36}
    assert len(vectors(conn, "land")) == 72


def test_one_worker_is_this_process_and_does_what_two_do(
    conn: Connection, land: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cv2.getNumThreads()
    ingest(land, name="two", workers=2)
    with monkeypatch.context() as patched:
        patched.setattr(multiprocessing.get_context("spawn"), "Process", None)
        ingest(land, name="one")
    assert_same(vectors(conn, "one"), vectors(conn, "two"))
    conn.commit()
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    conn.autocommit = True
    wait_for(lambda: value(conn, others) == 0)
    assert cv2.getNumThreads() == before


def test_a_dead_worker_is_one_line_and_a_rerun_resumes(
    conn: Connection, land: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the model of the workers ends its process
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with pytest.raises(WorkerError, match="worker process died"):
        ingest(land, model="deadly:Deadly", workers=2)
    assert galleries.get_gallery(conn, "land").status == "loading"
    conn.commit()
    assert ingest(land).embedded == 72
    assert galleries.get_gallery(conn, "land").status == "ready"


def test_transparent_pixels_are_no_imagery(conn: Connection, tmp_path: Path) -> None:
    half = np.full((256, 256, 4), 200, np.uint8)
    half[:, 128:, 3] = 0
    half[:, :128, 3] = 255
    png = cv2.imencode(".png", half)[1].tobytes()
    ingest(write_ge_tiles(tmp_path / "land.db", [(LEVEL, COLUMN, ROW, DATE, png)]))
    image, valid = load_mosaic(conn, galleries.get_gallery(conn, "land"), LEVEL, (COLUMN, COLUMN), (ROW, ROW))
    assert valid[:, :128].all()
    assert not valid[:, 128:].any()
    assert jpeg(image)
