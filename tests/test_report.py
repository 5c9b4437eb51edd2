"""The report of a run: complete, in the right order, of one file, and its pictures show the right places."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from lands import NOMINAL_M, Cut, cut
from pyproj import Transformer
from rasterio.transform import Affine
from shapely import MultiPolygon, Polygon
from typer.testing import CliRunner
from world import HOME, World, north

import rsloc_db
from rsloc_db.cli import app
from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.galleries import get_gallery
from rsloc_db.errors import ExportError, RunError
from rsloc_db.export.strips import NOTHING, checkerboard, corners_of, gallery_view
from rsloc_db.types import Floats, Image

pytest.importorskip("plotly", reason="plotly is not installed (extra demo)")


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.strips: list[tuple[str, list[str]]] = []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        link = values.get("src") or values.get("href")
        if link is not None:
            self.links.append(link)
        if values.get("class") == "strip":
            self.strips.append((values["data-outcome"] or "", []))
        elif tag == "img" and self.strips:
            self.strips[-1][1].append(link or "")

    def plots(self) -> list[str]:
        return [link for link in self.links if link.startswith("data:image/svg+xml")]


def picture(link: str) -> Image:
    data = base64.b64decode(link.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def likeness(a: Image, b: Image) -> float:
    """Correlation of the edges of two images."""
    edges = [np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F, ksize=5)) for image in (a, b)]
    return float(np.corrcoef(edges[0].ravel(), edges[1].ravel())[0, 1])


def corners(query: Cut) -> Floats:
    height, width = query.image.shape[:2]
    x, y = query.transform @ np.array([(0, 0), (width, 0), (width, height), (0, height)]).T
    return np.column_stack(Transformer.from_crs(query.crs, 4326, always_xy=True).transform(x, y))


@pytest.fixture
def world(conn: Connection) -> World:
    """A query of every outcome."""
    w = World(conn)
    names = ("right", "far", "missed", "taken", "refused", "broken", "unlabelled")
    ids = {name: w.query(f"{name} <b>.png", status="failed" if name == "broken" else "done") for name in names}
    w.query("waiting", status="pending")
    for name in ("right", "far", "missed", "broken"):
        w.truth(ids[name], HOME)
    for name in ("taken", "refused"):
        w.truth(ids[name], None)
    w.answer(ids["right"], "accepted", north(HOME, 3), 0.99)
    w.answer(ids["far"], "accepted", north(HOME, 5000), 0.9)
    w.answer(ids["missed"], "not_here", None, 0.2)
    w.answer(ids["taken"], "accepted", HOME, 0.7)
    w.answer(ids["refused"], "not_here", None, 0.1)
    w.answer(ids["broken"], "failed")
    w.answer(ids["unlabelled"], "accepted", HOME, 0.8)
    conn.commit()
    return w


def test_failures_come_first(world: World, tmp_path: Path) -> None:
    done = rsloc_db.write_report(world.run, out=tmp_path / "new" / "report.html")
    assert (done.queries, done.shown) == (8, 8)
    page = Page(done.out)
    assert [outcome for outcome, _ in page.strips] == [
        "false place",
        "misplaced",
        "failed",
        "missed",
        "unlabelled",
        "right",
        "rightly refused",
        "pending",
    ]
    assert "right &lt;b&gt;.png" in page.text
    assert "<b>.png" not in page.text
    assert len(page.plots()) == 5
    for link in page.plots():
        ET.fromstring(base64.b64decode(link.split(",")[1]))
    for title in ("Who counts", "Of present queries", "Breakdown", "Seconds a query", "Queries (ranks"):
        assert f"<caption>{title}" in page.text
    assert "1 queries are not done yet" in page.text
    assert "false places<b>1 of 2</b>" in page.text


def test_page_needs_no_network(world: World, tmp_path: Path) -> None:
    page = Page(rsloc_db.write_report(world.run, out=tmp_path / "report.html").out)
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert "url(http" not in page.text


def test_only_some_queries_are_shown_with_pictures(world: World, tmp_path: Path) -> None:
    page = Page(rsloc_db.write_report(world.run, out=tmp_path / "report.html", strips=2).out)
    assert [outcome for outcome, _ in page.strips] == ["false place", "misplaced"]
    assert "6 more are in the table" in page.text
    assert "rightly" not in page.text
    assert "refused &lt;b&gt;.png" in page.text


def test_without_truth_there_are_times_alone(conn: Connection, tmp_path: Path) -> None:
    w = World(conn)
    w.answer(w.query("a"), "accepted", HOME, 0.9)
    conn.commit()
    page = Page(rsloc_db.write_report(w.run, out=tmp_path / "report.html").out)
    assert len(page.plots()) == 1
    assert "1 queries have no truth" in page.text


def test_an_empty_run_is_a_page_as_well(conn: Connection, tmp_path: Path) -> None:
    w = World(conn)
    conn.commit()
    assert rsloc_db.write_report(w.run, out=tmp_path / "report.html").queries == 0
    assert "Run 1: 0 queries" in (tmp_path / "report.html").read_text()


def test_what_cannot_be_written_is_one_clear_error(world: World, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run 4711"):
        rsloc_db.write_report(4711, out=tmp_path / "report.html")
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="cannot be written"):
        rsloc_db.write_report(world.run, out=tmp_path / "file" / "report.html")


def test_a_missing_package_is_named(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsloc_db.export.report.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"a report needs matplotlib: pip install 'rsloc-db\[demo\]'"):
        rsloc_db.write_report(world.run, out=tmp_path / "report.html")


def test_command(world: World, tmp_path: Path) -> None:
    path = str(tmp_path / "report.html")
    words = ["report", str(world.run), "--out", path, "--strips", "1"]
    done = CliRunner().invoke(app, [*words, "-q", "--json"])
    assert json.loads(done.stdout) == {"run": world.run, "out": path, "queries": 8, "shown": 1}
    assert CliRunner().invoke(app, [*words, "-q"]).stdout == ""


@pytest.mark.timeout(600)
def test_pictures_show_the_query_and_its_place(land_url: str, tmp_path: Path) -> None:
    here, elsewhere = cut(shape=(512, 576)), cut(shape=(512, 576), seed=77)
    here.write(tmp_path / "in" / "here.tif")
    elsewhere.write(tmp_path / "in" / "elsewhere.tif")
    found = rsloc_db.localize(tmp_path / "in")
    assert {q["name"]: q["verdict"] for q in found.queries} == {"here.tif": "accepted", "elsewhere.tif": "not_here"}
    page = Page(rsloc_db.write_report(found.run, out=tmp_path / "report.html").out)
    # the other land is said to be where the gallery has this one, so the program rightly did not find it there
    assert [outcome for outcome, _ in page.strips] == ["missed", "right"]
    query, place, both = map(picture, page.strips[1][1])
    assert query.shape == place.shape == both.shape
    assert likeness(query, place) > 0.5
    assert likeness(picture(page.strips[0][1][0]), picture(page.strips[0][1][1])) < 0.3
    assert re.search(r'<h3 data-box="[-0-9. ]+">2 here.tif', page.text)

    (tmp_path / "in" / "here.tif").unlink()
    page = Page(rsloc_db.write_report(found.run, out=tmp_path / "report.html").out)
    assert page.text.count("not there any more") == 1
    rsloc_db.write_report(found.run, out=tmp_path / "report.html", url=land_url)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:32631"])
def test_a_view_of_the_gallery_lies_right_to_a_pixel(land_url: str, crs: str) -> None:
    query = cut(crs, NOMINAL_M, shape=(320, 288))
    with connect(land_url) as conn:
        seen = gallery_view(conn, get_gallery(conn, "land"), 15, corners(query), (288, 320))
        off = gallery_view(conn, get_gallery(conn, "land"), 15, np.add(corners(query), (0.0001, 0)), (288, 320))
        half = gallery_view(conn, get_gallery(conn, "land"), 15, corners(query), (72, 80))
        outside = gallery_view(conn, get_gallery(conn, "land"), 15, np.add(corners(query), (1.0, 0)), (288, 320))
    assert likeness(query.image, seen) > 0.5
    assert likeness(query.image, seen) > likeness(query.image, off) + 0.1
    assert likeness(cv2.resize(seen, (72, 80), interpolation=cv2.INTER_AREA), half) > 0.8
    assert (outside == NOTHING).all()


def _turned(turn_deg: float, width: float, height: float) -> np.ndarray:
    """Corners of an image at 48 degrees north whose upper edge points turn_deg from north."""
    box = Affine.rotation(-turn_deg) @ (np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)]) * (width, height)).T
    return np.column_stack([2 + box[0] / np.cos(np.radians(48)), 48 + np.asarray(box[1])])


@pytest.mark.parametrize("turn_deg", [0.0, 3.0, -40.0, 44.0, 90.0, 179.0])
@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("size", [(0.02, 0.02), (0.05, 0.01)])
def test_corners_of_a_footprint(turn_deg: float, start: int, size: tuple[float, float]) -> None:
    expected = _turned(turn_deg, *size)
    ring = MultiPolygon([Polygon(np.roll(expected, start, axis=0)[::-1])])
    np.testing.assert_allclose(corners_of(ring.wkb, turn_deg), expected, atol=1e-9)


def test_no_corners_of_a_footprint_in_two_parts() -> None:
    parts = [Polygon([(179, 0), (180, 0), (180, 1), (179, 1)]), Polygon([(-180, 0), (-179, 0), (-179, 1), (-180, 1)])]
    assert corners_of(MultiPolygon(parts).wkb, 0.0) is None
    assert corners_of(None, 0.0) is None


def test_checkerboard() -> None:
    black, white = np.zeros((120, 180, 3), np.uint8), np.full((120, 180, 3), 255, np.uint8)
    board = checkerboard(black, white)
    assert board[5, 5, 0] == 0
    assert board[5, 25, 0] == board[25, 5, 0] == 255
    assert board[25, 25, 0] == 0
    assert abs(board.mean() - 127.5) < 1
