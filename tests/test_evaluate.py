"""Evaluation of a small run with known answers, written straight into a real database."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pyproj import Geod
from scipy.stats import binomtest
from typer.testing import CliRunner
from world import DATELINE, HOME, World, north

from rsloc_db.cli import app
from rsloc_db.db.connection import Connection
from rsloc_db.errors import RunError
from rsloc_db.evaluation import compare, delete_run, evaluate, load_truth, runs


@pytest.fixture
def world(conn: Connection) -> World:
    """Seven present queries, three absent ones (one of them uncovered), one without truth and one pending."""
    w = World(conn)
    queries = {
        name: w.query(name, seconds=second)
        for second, name in enumerate(
            ("near", "far", "wrong", "refused", "unsure", "dateline", "uncovered", "taken", "absent", "unlabelled"), 1
        )
    }
    queries["broken"] = w.query("broken", status="failed", seconds=11)
    w.truth(w.query("waiting", status="pending"), HOME)
    for name in ("near", "far", "wrong", "refused", "unsure", "broken"):
        w.truth(queries[name], HOME, landscape="urban" if name == "near" else "")
    w.truth(queries["dateline"], DATELINE, simulated=True)
    w.truth(queries["uncovered"], (30.0, 30.0))
    for name in ("taken", "absent"):
        w.truth(queries[name], None)
    w.answer(queries["near"], "accepted", north(HOME, 3), 0.99)
    w.answer(queries["far"], "accepted", north(HOME, 30), 0.9)
    w.answer(queries["wrong"], "accepted", north(HOME, 5000), 0.5)
    w.answer(queries["refused"], "not_here", None, 0.1)
    w.answer(queries["unsure"], "ambiguous", HOME, 0.4)
    w.answer(queries["dateline"], "accepted", (-179.99995, 0.005), 0.95)
    w.answer(queries["uncovered"], "accepted", HOME, 0.8)
    w.answer(queries["taken"], "accepted", HOME, 0.7)
    w.answer(queries["absent"], "not_here", None, 0.1)
    w.answer(queries["unlabelled"], "accepted", HOME, 1.0)
    w.place(queries["refused"], north(HOME, 2))
    w.clique(queries["near"], HOME, 1)
    w.clique(queries["far"], HOME, 6)
    w.clique(queries["far"], north(HOME, 5000), 1)
    away = north(HOME, 20_000)
    w.patch(queries["near"], (0.9, 1, away), (0.8, 0, north(HOME, 1000)), (0.7, 0, HOME))
    w.patch(queries["near"], (0.5, 0, HOME))
    w.patch(queries["far"], (0.9, 0, north(HOME, 1300)), (0.8, 1, away))
    conn.commit()
    return w


def test_figures_of_a_run(world: World, database_url: str) -> None:
    found = evaluate(world.run).as_dict()
    counts = ("queries", "present", "absent", "uncovered", "unlabelled", "accepted", "ambiguous", "not_here", "failed")
    assert [found[name] for name in counts] == [11, 7, 3, 1, 1, 7, 1, 2, 1]
    assert (found["false_places"], found["misplaced"], found["pending"]) == (2, 1, 1)
    assert found["located_at_m"] == {"5": 1, "10": 1, "25": 2, "50": 3, "100": 3, "500": 3}
    assert (found["galleries"], found["gallery_tiles"], found["model"]) == (["world"], 4, "gradients")
    json.dumps(found, allow_nan=False)


def test_errors_are_geodesic_and_know_no_antimeridian(world: World, database_url: str) -> None:
    found = evaluate(world.run)
    geod = Geod(ellps="WGS84")
    far = geod.inv(*HOME, *north(HOME, 30))[2]
    dateline = geod.inv(*DATELINE, -179.99995, 0.005)[2]
    assert dateline == pytest.approx(16.7, abs=0.1)
    errors = {row["name"]: row["error_m"] for row in found.queries}
    assert errors["dateline"] == pytest.approx(dateline, abs=1e-6)
    assert found.run["median_center_error_m"] == pytest.approx((far + dateline) / 2, abs=1e-6)
    # a shift moves all corners alike
    assert found.run["median_corner_error_m"] == pytest.approx((far + dateline) / 2, abs=0.01)
    assert 3000 < found.run["p90_corner_error_m"] < 5000


def test_authors_figures(world: World, database_url: str) -> None:
    found = evaluate(world.run).as_dict()
    # near, far, unsure and dateline by their answers' places, refused by the place it did not trust
    assert found["acc"] == pytest.approx(5 / 7)
    # of near one patch of two, of far the only one
    assert found["acc_easy"] == pytest.approx(2 / 7)
    assert found["img_acc"] == pytest.approx((1 / 2 + 1) / 7)


def test_overlap_needs_the_authors_size(world: World, conn: Connection) -> None:
    box = "ST_MakeEnvelope({}, 0, {}, 1, 4326)"
    for shift, expected in ((0.99981, False), (0.99979, True)):
        text = f"SELECT is_overlap({box.format(0, 1)}, {box.format(shift, shift + 1)}, NULL)"
        assert conn.execute(text).fetchone() == (expected,)
    point = "ST_SetSRID(ST_MakePoint(0.5, 0.5), 4326)"
    assert conn.execute(f"SELECT is_overlap({box.format(0, 1)}, NULL, {point})").fetchone() == (True,)


def test_recall_after_each_stage(world: World, database_url: str) -> None:
    recall = evaluate(world.run).as_dict()["recall"]
    # near: the second hit votes for a place less than a tile away; far: 1.3 km are more than a tile
    assert recall["retrieve"] == pytest.approx({"1": 0, "5": 1 / 7, "20": 1 / 7, "100": 1 / 7})
    assert recall["cliques"] == pytest.approx({"1": 1 / 7, "5": 1 / 7, "20": 2 / 7, "100": 2 / 7})
    # near, far, unsure, dateline and refused have a place there
    assert recall["verify"] == pytest.approx(dict.fromkeys(("1", "5", "20", "100"), 5 / 7))


def test_calibration_tells_real_from_simulated(world: World, database_url: str) -> None:
    found = evaluate(world.run).calibration
    # near lies 3 m south in an ellipse of 10 m; dateline 17 m west of 5 m
    assert [(row["simulated"], row["accepted"], row["inside"]) for row in found] == [(False, 3, 1), (True, 1, 0)]


@pytest.mark.parametrize(
    ("east_m", "north_m", "inside"), [(0, 9.9, True), (0, 10.1, False), (4.9, 0, True), (5.1, 0, False)]
)
def test_the_ellipse_has_axes(conn: Connection, east_m: float, north_m: float, inside: bool) -> None:
    w = World(conn)
    query = w.query("q")
    w.truth(query, HOME)
    lon, lat, _ = Geod(ellps="WGS84").fwd(*HOME, math.degrees(math.atan2(east_m, north_m)), math.hypot(east_m, north_m))
    w.answer(query, "accepted", (lon, lat), 1.0)
    assert conn.execute("SELECT in_ellipse FROM evaluation_query").fetchone() == (inside,)


def test_precision_against_coverage(world: World, database_url: str) -> None:
    curve = [(row["threshold"], row["placed"], row["correct"]) for row in evaluate(world.run).precision]
    assert curve == [(0.99, 1, 1), (0.95, 2, 2), (0.9, 3, 3), (0.8, 4, 3), (0.7, 5, 3), (0.5, 6, 3), (0.4, 7, 4)]
    assert evaluate(world.run).precision[3]["precision"] == pytest.approx(3 / 4)
    assert evaluate(world.run).precision[3]["coverage"] == pytest.approx(4 / 10)


def test_seconds_and_breakdown(world: World, database_url: str) -> None:
    found = evaluate(world.run)
    assert found.as_dict()["seconds_per_query"] == {"p50": 6.0, "p90": 10.0}
    assert found.as_dict()["seconds_per_stage"]["refine"] == {"p50": None, "p90": None}
    parts = {(row["kind"], row["value"]): row for row in found.breakdown}
    assert parts["landscape", "urban"]["located_25_m"] == 1
    assert parts["latitude", "40 to 50"]["present"] == 6
    assert parts["latitude", "0 to 10"]["accepted"] == 1
    assert parts["query size", "1024 to 2047 px"]["false_places"] == 2
    assert parts["level", "15"]["failed"] == 0


@pytest.mark.parametrize(("part", "total"), [(9, 10), (0, 10), (10, 10), (3, 400)])
def test_wilson_intervals_are_scipys(conn: Connection, part: int, total: int) -> None:
    expected = binomtest(part, total).proportion_ci(0.95, method="wilson")
    row = conn.execute("SELECT wilson(%s, %s, -1), wilson(%s, %s, 1)", (part, total) * 2).fetchone()
    assert row == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_shares_of_nothing_are_null(conn: Connection) -> None:
    assert conn.execute("SELECT wilson(0, 0, -1), wilson(0, 0, 1), share(0, 0)").fetchone() == (None, None, None)


def test_only_what_was_searched_covers_a_query(world: World, conn: Connection) -> None:
    far = '{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}'
    near = far.replace("1", "89")
    nothing, elsewhere, around = (
        world.add_run(),
        world.add_run(world.set, within=far),
        world.add_run(world.set, within=near),
    )
    for run in (nothing, elsewhere, around):
        world.answer(world.query("near", run=run), "not_here", run=run)
    conn.commit()
    states = [
        (found["present"], found["uncovered"])
        for found in (evaluate(r).as_dict() for r in (nothing, elsewhere, around))
    ]
    assert states == [(0, 1), (0, 1), (1, 0)]


def test_nobody_is_uncovered_by_a_gallery_that_is_gone(world: World, conn: Connection) -> None:
    conn.execute("DELETE FROM gallery")
    conn.commit()
    found = evaluate(world.run).as_dict()
    assert (found["missing_sets"], found["uncovered"], found["present"], found["absent"]) == (1, 0, 0, 2)
    assert (found["unlabelled"], found["false_places"]) == (9, 1)


def test_an_empty_run_has_no_shares(conn: Connection, database_url: str) -> None:
    run = World(conn).run
    conn.commit()
    found = evaluate().as_dict()
    assert (found["run"], found["queries"], found["acc"], found["median_center_error_m"]) == (run, 0, None, None)
    assert found["recall"]["verify"] == dict.fromkeys(("1", "5", "20", "100"))
    assert found["located_at_m"]["25"] == 0
    assert found["seconds_per_query"] == {"p50": None, "p90": None}
    assert CliRunner().invoke(app, ["evaluate"]).exit_code == 0


def test_a_run_without_truth_is_unlabelled(conn: Connection, database_url: str) -> None:
    w = World(conn)
    w.answer(w.query("q"), "accepted", HOME, 1.0)
    conn.commit()
    found = evaluate(w.run).as_dict()
    assert (found["queries"], found["unlabelled"], found["present"], found["false_places"]) == (1, 1, 0, 0)
    assert found["breakdown"] == []


def test_runs_are_compared_query_by_query(world: World, conn: Connection) -> None:
    other = world.add_run(world.set)
    world.answer(world.query("near", run=other), "not_here", run=other)
    world.answer(world.query("taken", run=other), "not_here", run=other)
    query = world.query("refused", run=other)
    world.answer(query, "accepted", north(HOME, 4), 0.9, run=other)
    world.query("new", run=other)
    conn.commit()
    outcomes = {row["name"]: row["outcome"] for row in compare(world.run, other)}
    assert outcomes["near"] == "lost"
    assert {outcomes["taken"], outcomes["refused"]} == {"gained"}
    assert (outcomes["far"], outcomes["new"]) == ("only in a", "only in b")
    shown = CliRunner().invoke(app, ["compare", str(world.run), str(other)])
    assert "2 gained, 1 lost" in shown.stdout


def test_views_have_unique_keys(world: World, conn: Connection) -> None:
    views = conn.execute(
        "SELECT viewname FROM pg_views WHERE schemaname = 'public' AND viewname ~ '^evaluation_|_map$'"
    ).fetchall()
    filled = 0
    for (view,) in views:
        row = conn.execute(f"SELECT count(*), count(DISTINCT id) FROM {view}").fetchone()
        assert row is not None
        assert row[0] == row[1], view
        filled += row[0] > 0
    assert filled == len(views) - 2  # there are no matches and no ellipses


def test_commands_print_tables_and_json(world: World, database_url: str) -> None:
    shown = CliRunner().invoke(app, ["evaluate", str(world.run), "--queries"])
    assert shown.exit_code == 0, shown.output
    assert "located within 25 m" in shown.stdout
    assert "2 of 7, 29 % (8 to 64)" in shown.stdout
    listed = json.loads(CliRunner().invoke(app, ["runs", "--json"]).stdout)["runs"]
    assert [(row["run"], row["queries"], row["pending"], row["accepted"]) for row in listed] == [(world.run, 12, 1, 7)]
    assert CliRunner().invoke(app, ["runs", "delete", str(world.run)]).exit_code == 0
    assert runs() == []


def test_a_deleted_run_leaves_nothing_but_queries(world: World, conn: Connection) -> None:
    delete_run(world.run)
    for table in ("run_query", "patch", "hit", "clique", "place", "localization"):
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    assert conn.execute("SELECT count(*) FROM query_truth").fetchone() == (11,)
    with pytest.raises(RunError, match="there is no run yet"):
        evaluate()
    with pytest.raises(RunError, match="there is no run 7"):
        delete_run(7)


def test_truth_of_known_queries_is_loaded_again_and_again(conn: Connection, database_url: str, tmp_path: Path) -> None:
    w = World(conn)
    for name in ("a1_L15_naip.png", "x1_L15_absent.png", "d1_L15_naip.png"):
        w.query(name)
    conn.commit()
    (tmp_path / "set").mkdir()
    table = tmp_path / "set.csv"
    head = "imgname,lat,lon,level,width,height,resolution,type,lon_min,lat_min,lon_max,lat_max\n"
    row = "{},48.0,{},15,900,900,4.777,mapbox,2.0,47.9,2.2,48.1\n"
    rows = [row.format("a1_L15_naip.png", 2.1), row.format("unknown.png", 2.1), "x1_L15_absent.png,,,15,9,9,,,,,,\n"]
    rows.append("d1_L15_naip.png,0,180,15,900,900,4.777,naip,179.9,-0.1,-179.9,0.1\n")
    table.write_text(head + "".join(rows))
    for _ in range(2):
        assert load_truth([tmp_path / "set"]).as_dict() == {"read": 4, "stored": 3}
    found = conn.execute(
        "SELECT name, ST_AsText(center), ST_Area(footprint), ST_NumGeometries(footprint), ST_NumGeometries(corners),"
        " provider, landscape FROM query_truth JOIN query ON query.id = query_id ORDER BY name"
    ).fetchall()
    assert found[0] == ("a1_L15_naip.png", "POINT(2.1 48)", pytest.approx(0.04), 1, 4, "naip", "non-urban")
    assert found[1][2:5] == (pytest.approx(0.04), 2, 4)
    assert found[2][1:5] == (None, None, None, None)
    table.write_text(head + row.format("a1_L15_naip.png", 2.11))
    assert load_truth([tmp_path / "set"], simulated=True).stored == 1
    assert conn.execute("SELECT ST_X(center), simulated FROM query_truth WHERE simulated").fetchall() == [(2.11, True)]
    # loading again without a word on it, as every localize does, keeps what was said
    assert load_truth([tmp_path / "set"]).stored == 1
    assert conn.execute("SELECT count(*) FROM query_truth WHERE simulated").fetchone() == (1,)
