"""Gallery readers of tiles: ge_tiles SQLite, MBTiles and XYZ folders, good and bad."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sources import COLUMN, DATE, LEVEL, ROW, Row, picture, rows, square, write_ge_tiles

from rsloc_db.errors import GalleryError
from rsloc_db.gallery import GalleryReader, open_gallery
from rsloc_db.types import Cell, Failure, Tile

CAPTURED = datetime.fromtimestamp(DATE, UTC)


def keys(reader: GalleryReader, level: int = LEVEL, after: tuple[int, int] | None = None) -> list[tuple[object, ...]]:
    found = [item for item in reader.tiles(level, after) if isinstance(item, Tile)]
    return [(tile.cell.row, tile.cell.column, tile.captured_at) for tile in found]


def failures(reader: GalleryReader, level: int = LEVEL) -> dict[str, str]:
    return {item.name: item.reason for item in reader.tiles(level) if isinstance(item, Failure)}


def execute(path: Path, *statements: str) -> Path:
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()
    return path


def write_mbtiles(path: Path, tiles: list[Row], tile_format: str = "jpg", *, view: bool = False) -> Path:
    """MBTiles as made by tippecanoe (table) or by mb-util (view over deduplicated images)."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE metadata (name text, value text)")
        db.execute("INSERT INTO metadata VALUES ('format', ?), ('attribution', 'ACME')", (tile_format,))
        table = "map" if view else "tiles"
        db.execute(f"CREATE TABLE {table} (zoom_level int, tile_column int, tile_row int, tile_data blob)")
        tms = [(z, x, 2**z - 1 - y, data) for z, x, y, _, data in tiles]
        db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", tms)
        if view:
            db.execute("CREATE VIEW tiles AS SELECT * FROM map")
    db.close()
    return path


def test_ge_tiles_levels_order_and_dates(tmp_path: Path) -> None:
    tiles = square(4) + square(2, date=DATE - 100) + rows([8000], [6000], level=14)
    reader = open_gallery(write_ge_tiles(tmp_path / "g.db", tiles[::-1]))
    assert (reader.kind, reader.grid, reader.levels()) == ("ge_tiles", "google_earth", {LEVEL: 20, 14: 1})
    assert len(keys(reader)) == 20
    assert keys(reader) == sorted(keys(reader), key=lambda k: (k[0], k[1], k[2]))
    assert keys(reader)[:2] == [(ROW, COLUMN, datetime.fromtimestamp(DATE - 100, UTC)), (ROW, COLUMN, CAPTURED)]
    assert keys(reader, 14) == [(6000, 8000, CAPTURED)]
    assert keys(reader, 9) == []
    reader.close()


@pytest.mark.parametrize("name", ["time_", "time"])
@pytest.mark.parametrize("index", [None, "tile_row, tile_column", "zoom_level, tile_column, tile_row"])
def test_ge_tiles_of_either_column_and_any_index(tmp_path: Path, name: str, index: str | None) -> None:
    path = write_ge_tiles(tmp_path / "g.db", square(3))
    execute(path, f"ALTER TABLE ge_tiles RENAME COLUMN time_ TO {name}")
    if index:
        execute(path, f"CREATE INDEX i ON ge_tiles ({index})")
    reader = open_gallery(path)
    assert len(keys(reader)) == 9
    cell = Cell(LEVEL, COLUMN + 1, ROW + 2)
    data = rows([cell.column], [cell.row])[0][4]
    assert reader.read(cell, CAPTURED) == data
    assert reader.read(cell, None) is None
    assert reader.read(Cell(LEVEL, 0, ROW), CAPTURED) is None
    assert reader.dates(cell) == [CAPTURED]
    reader.close()


def test_ge_tiles_without_rowid(tmp_path: Path) -> None:
    path = write_ge_tiles(tmp_path / "a.db", square(3))
    execute(
        path,
        "CREATE TABLE t (zoom_level int, tile_column int, tile_row int, time_ int, tile_data blob,"
        " PRIMARY KEY (zoom_level, tile_column, tile_row)) WITHOUT ROWID",
        "INSERT INTO t SELECT * FROM ge_tiles",
        "DROP TABLE ge_tiles",
        "ALTER TABLE t RENAME TO ge_tiles",
    )
    reader = open_gallery(path)
    assert len(keys(reader)) == 9
    assert reader.dates(Cell(LEVEL, COLUMN, ROW)) == [CAPTURED]
    reader.close()


def make_ge_tiles(folder: Path) -> Path:
    return write_ge_tiles(folder / "g.db", square(5) + square(5, date=DATE + 9))


def make_mbtiles(folder: Path) -> Path:
    return write_mbtiles(folder / "g.mbtiles", square(5))


def make_view(folder: Path) -> Path:
    return write_mbtiles(folder / "g.mbtiles", square(5), view=True)


def make_xyz(folder: Path) -> Path:
    for z, x, y, _, data in square(5):
        path = folder / "xyz" / str(z) / str(x) / f"{y}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data or b"")
    return folder / "xyz"


@pytest.mark.parametrize("make", [make_ge_tiles, make_mbtiles, make_view, make_xyz])
def test_reading_resumes_after_any_cell(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    reader = open_gallery(make(tmp_path))
    every = keys(reader)
    assert [key[:2] for key in every] == sorted(key[:2] for key in every)
    for row, column in {(row, column) for row, column, _ in every} | {(ROW - 1, 0), (ROW + 2, 0), (ROW + 9, 0)}:
        assert keys(reader, after=(row, column)) == [key for key in every if key[:2] > (row, column)]
    reader.close()


@pytest.mark.parametrize("make", [make_ge_tiles, make_mbtiles, make_view, make_xyz])
def test_read_returns_what_tiles_yields(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    reader = open_gallery(make(tmp_path))
    tiles = [item for item in reader.tiles(LEVEL) if isinstance(item, Tile)]
    assert len(tiles) == sum(reader.levels().values()) >= 25
    assert all(reader.read(tile.cell, tile.captured_at) == tile.data for tile in tiles)
    assert reader.size_bytes(LEVEL) == pytest.approx(sum(len(tile.data) for tile in tiles), rel=0.2)
    assert reader.size_bytes(3) == 0
    reader.close()


def test_mbtiles_and_xyz_count_rows_from_the_top(tmp_path: Path) -> None:
    wanted = [(row, column) for _, column, row, *_ in square(5)]
    for make in (make_mbtiles, make_view, make_xyz):
        (tmp_path / make.__name__).mkdir()
        reader = open_gallery(make(tmp_path / make.__name__))
        assert reader.grid == "web_mercator"
        assert [key[:2] for key in keys(reader)] == wanted
        assert {key[2] for key in keys(reader)} == {None}
        reader.close()
    assert open_gallery(make_view(tmp_path)).attribution == "ACME"


def test_broken_rows_are_failures_and_the_rest_is_read(tmp_path: Path) -> None:
    bad: list[tuple[object, ...]] = [
        (LEVEL, -1, ROW, DATE, picture(1)),
        (LEVEL, 4096, ROW, DATE, picture(1)),
        (LEVEL, COLUMN, 1023, DATE, picture(1)),
        (LEVEL, COLUMN, 3072, DATE, picture(1)),
        (LEVEL, None, ROW, DATE, picture(1)),
        (LEVEL, "x", "y", DATE, picture(1)),
        (LEVEL, COLUMN + 10, ROW, "yesterday", picture(1)),
        (LEVEL, COLUMN + 11, ROW, DATE * 1000, picture(1)),
        (LEVEL, COLUMN + 12, ROW, DATE, None),
        (LEVEL, COLUMN + 13, ROW, DATE, b""),
        (LEVEL, COLUMN + 14, ROW, DATE, "text"),
        (None, COLUMN, ROW, DATE, picture(1)),
        ("all", COLUMN, ROW, DATE, picture(1)),
    ]
    reader = open_gallery(write_ge_tiles(tmp_path / "g.db", square(3) + bad))  # type: ignore[operator]
    found = failures(reader)
    assert len(keys(reader)) == 9
    assert len(found) == 11
    assert reader.levels() == {LEVEL: 20}
    assert "column 4096 is outside 0 to 4095" in found[f"{LEVEL}_4096_{ROW}"]
    assert "row 1023 is outside 1024 to 3071" in found[f"{LEVEL}_{COLUMN}_1023"]
    assert "'yesterday'" in found[f"{LEVEL}_{COLUMN + 10}_{ROW}"]
    assert "seconds since 1970" in found[f"{LEVEL}_{COLUMN + 11}_{ROW}"]
    assert "expected an image" in found[f"{LEVEL}_{COLUMN + 12}_{ROW}"]
    reader.close()


def test_dates_may_be_missing(tmp_path: Path) -> None:
    reader = open_gallery(write_ge_tiles(tmp_path / "g.db", square(1) + square(1, date=None, seed=5)))
    assert [key[2] for key in keys(reader)] == [None, CAPTURED]
    assert reader.dates(Cell(LEVEL, COLUMN, ROW)) == [None, CAPTURED]
    reader.close()


def test_memory_stays_flat(tmp_path: Path) -> None:
    data, count = bytes(3000), 20_000
    tiles = [(LEVEL, i % 4000, 1100 + i // 4000 * 7 % 900, DATE + i, data) for i in range(count)]
    reader = open_gallery(write_ge_tiles(tmp_path / "g.db", tiles))
    tracemalloc.start()
    try:
        assert sum(isinstance(item, Tile) for item in reader.tiles(LEVEL)) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        reader.close()
    assert peak < 1_000_000


def test_a_gallery_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "odd #1? 100%"
    folder.mkdir()
    path = write_ge_tiles(folder / "g.db", square(2))
    before = path.read_bytes()
    path.chmod(0o444)
    folder.chmod(0o555)
    try:
        reader = open_gallery(path)
        assert len(keys(reader)) == 4
        assert reader.read(Cell(LEVEL, COLUMN, ROW), CAPTURED)
        reader.close()
    finally:
        folder.chmod(0o755)
    assert path.read_bytes() == before
    assert [entry.name for entry in folder.iterdir()] == ["g.db"]


def test_a_gallery_in_wal_mode_is_read(tmp_path: Path) -> None:
    path = write_ge_tiles(tmp_path / "g.db", square(2))
    execute(path, "PRAGMA journal_mode = WAL")
    reader = open_gallery(path)
    assert len(keys(reader)) == 4
    reader.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected .*ge_tiles or MBTiles.*found nothing"),
        (b"Hello, world\n" * 100, "expected .*ge_tiles or MBTiles.*Hello"),
        (b"II*\x00 this is no TIFF", "expected .*found"),
        (b"SQLite format 3\x00", "SQLite cannot read"),
        (b"SQLite format 3\x00" + b"x" * 5000, "SQLite cannot read|truncated"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "gallery.tif"
    path.write_bytes(content)
    with pytest.raises(GalleryError, match=message):
        open_gallery(path)


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no such file"):
        open_gallery(tmp_path / "none.db")
    with pytest.raises(GalleryError, match=r"z/x/y.*found nothing"):
        open_gallery(tmp_path)
    (tmp_path / "a.jpg").write_bytes(picture(1))
    with pytest.raises(GalleryError, match=r"z/x/y.*found a\.jpg"):
        open_gallery(tmp_path)


def test_sqlite_files_without_tiles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="found other"):
        open_gallery(execute(tmp_path / "a.db", "CREATE TABLE other (x)"))
    with pytest.raises(GalleryError, match=r"no column tile_data, time_ or time; found zoom_level"):
        open_gallery(execute(tmp_path / "b.db", "CREATE TABLE ge_tiles (zoom_level, tile_column, tile_row)"))
    with pytest.raises(GalleryError, match="no column zoom_level"):
        open_gallery(execute(tmp_path / "c.db", "CREATE TABLE tiles (x)"))
    with pytest.raises(GalleryError, match="found 'pbf'"):
        open_gallery(write_mbtiles(tmp_path / "d.mbtiles", square(1), "pbf"))


def test_a_truncated_gallery_is_refused(tmp_path: Path) -> None:
    path = write_ge_tiles(tmp_path / "g.db", square(6))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(GalleryError, match=f"truncated: expected {len(data):,} bytes"):
        open_gallery(path)


def test_a_damaged_gallery_ends_in_an_error_or_failures(tmp_path: Path) -> None:
    path = write_ge_tiles(tmp_path / "g.db", square(12))
    data = bytearray(path.read_bytes())
    data[4096 * 2 : len(data) // 2] = b"\xa5" * (len(data) // 2 - 4096 * 2)
    path.write_bytes(data)
    reader = open_gallery(path)
    reasons = []
    try:
        reasons += failures(reader).values()
    except GalleryError as error:
        reasons.append(str(error))
    assert any("malformed" in reason for reason in reasons)
    reader.close()


def test_xyz_leaves_other_files_out_and_reports_empty_ones(tmp_path: Path) -> None:
    path = make_xyz(tmp_path)
    column = path / str(LEVEL) / str(COLUMN)
    (column / "readme.txt").write_text("x")
    (column / "x.jpg").write_bytes(picture(1))
    (column / "9999.png").write_bytes(picture(1))
    (column / f"{ROW + 50}.webp").write_bytes(b"")
    (path / str(LEVEL) / "notes").mkdir()
    (path / "99").mkdir()
    reader = open_gallery(path)
    assert reader.levels() == {LEVEL: 27}
    assert len(keys(reader)) == 25
    assert set(failures(reader)) == {f"{LEVEL}_{COLUMN}_9999", f"{LEVEL}_{COLUMN}_{ROW + 50}"}
    assert reader.read(Cell(LEVEL, COLUMN, ROW + 50), None) is None


def test_the_mini_gallery(shared_data: Path) -> None:
    reader = open_gallery(shared_data / "mini" / "Gallery" / "galleryL15.db")
    assert reader.levels() == {15: 4731}
    found = list(reader.tiles(15))
    assert len(found) == 4731
    assert len({item.cell for item in found if isinstance(item, Tile)}) == 4641
    reader.close()
