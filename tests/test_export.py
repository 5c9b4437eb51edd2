"""Exports of a small run with known answers, read back by GDAL."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from typer.testing import CliRunner
from world import DATELINE, HALF_DEG, HOME, World, north

from rsloc_db import export_run
from rsloc_db.cli import app
from rsloc_db.db.connection import Connection
from rsloc_db.errors import ExportError, RunError
from rsloc_db.export.layers import LAYERS
from rsloc_db.geometry import ellipse_polygon

pyogrio = pytest.importorskip("pyogrio", reason="pyogrio is not installed (extra export)")


@pytest.fixture
def world(conn: Connection) -> World:
    """One query placed 30 m off, one across the antimeridian, one refused; another run with a query of its own."""
    w = World(conn)
    near, across, refused = (w.query(name) for name in ("near.png", "across.png", 'refused, "so".png'))
    w.truth(near, north(HOME, 30))
    w.truth(across, DATELINE)
    w.truth(refused, None)
    w.answer(near, "accepted", HOME, 0.9)
    w.answer(across, "accepted", (-179.9999, 0.005), 0.8)
    w.answer(refused, "not_here", None, 0.1)
    w.clique(near, HOME, 1)
    w.patch(near, (0.9, 0, HOME), (0.8, 1, north(HOME, 500)))
    ellipse = ellipse_polygon((-179.9999, 0.005), 40.0, 10.0, 90.0)
    conn.execute("UPDATE localization SET ellipse = ST_GeomFromWKB(%s, 4326) WHERE confidence = 0.8", (ellipse.wkb,))
    conn.execute("UPDATE localization SET transform = '{1,2,3,4,5,6}', transform_srid = 4326 WHERE confidence = 0.9")
    conn.execute("UPDATE tile SET captured_at = '2017-07-14 02:40+00'")
    other = w.add_run(w.set)
    w.answer(w.query("other.png", run=other), "not_here", run=other)
    conn.commit()
    return w


def geojson(path: Path, layer: str, run: int) -> dict[str, dict[str, Any]]:
    """Name -> feature."""
    export_run(run, out=path, layers=[layer])
    found = json.loads(path.read_text())
    assert found["type"] == "FeatureCollection"
    assert not {"crs", "coordinates", "geometries", "properties"} & set(found)
    return {feature["properties"]["name"]: feature for feature in found["features"]}


def test_geojson_has_every_answer_of_the_run_alone(world: World, tmp_path: Path) -> None:
    found = geojson(tmp_path / "found.geojson", "localizations", world.run)
    assert list(found) == ["across.png", "near.png", 'refused, "so".png']
    near = found["near.png"]["properties"]
    assert (near["verdict"], near["confidence"], near["truth"]) == ("accepted", 0.9, "present")
    assert near["transform"] == [1, 2, 3, 4, 5, 6]
    assert near["error_m"] == pytest.approx(30, abs=0.1)
    shape = shapely.from_geojson(json.dumps(found["near.png"]["geometry"]))
    assert shape.bounds == pytest.approx(
        (HOME[0] - HALF_DEG, HOME[1] - HALF_DEG, HOME[0] + HALF_DEG, HOME[1] + HALF_DEG), abs=1e-7
    )
    refused = found['refused, "so".png']
    assert refused["geometry"] is None
    assert refused["properties"]["lon_deg"] is None
    assert refused["properties"]["truth"] == "absent"


@pytest.mark.parametrize("layer", ["ellipses", "errors", "truth"])
def test_shapes_are_cut_at_the_antimeridian_and_turn_counterclockwise(world: World, tmp_path: Path, layer: str) -> None:
    feature = geojson(tmp_path / "found.json", layer, world.run)["across.png"]
    shape = shapely.from_geojson(json.dumps(feature["geometry"]))
    assert len(shape.geoms) == 2
    assert shape.is_valid
    for part in shape.geoms:
        west, _, east, _ = part.bounds
        assert -180 <= west <= east <= 180
        assert east - west < 0.01
        assert not part.geom_type.startswith("Polygon") or part.exterior.is_ccw


def test_cliques_go_the_shorter_way_across_the_antimeridian(world: World, tmp_path: Path) -> None:
    # the tile lies just west of the antimeridian, the clique just east of it
    query = world.conn.execute("SELECT id FROM query WHERE name = 'across.png'").fetchone()[0]
    world.clique(query, (-179.99, 0.005), 1)
    world.patch(query, (0.9, 3, (-179.99, 0.005)))
    world.conn.execute(
        "INSERT INTO clique_hit SELECT clique.id, hit.id FROM clique JOIN hit USING (run_id, query_id)"
        " WHERE query_id = %s",
        (query,),
    )
    world.conn.commit()
    shape = shapely.from_geojson(
        json.dumps(geojson(tmp_path / "c.json", "cliques", world.run)["across.png"]["geometry"])
    )
    assert len(shape.geoms) == 2
    assert shape.length < 0.02


def test_a_missing_package_is_named(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyogrio.raw", None)
    with pytest.raises(ExportError, match=r"a GeoPackage needs pyogrio.*: pip install 'rsloc-db\[export\]'"):
        export_run(world.run, out=tmp_path / "run.gpkg")
    assert export_run(world.run, out=tmp_path / "run.csv").rows == {"localizations": 3}


def test_gdal_reads_the_geojson(world: World, tmp_path: Path) -> None:
    export_run(world.run, out=tmp_path / "found.geojson")
    info = pyogrio.read_info(tmp_path / "found.geojson")
    assert (info["features"], info["crs"], info["layer_name"]) == (3, "EPSG:4326", "localizations")


def test_geopackage_has_all_layers_but_votes(world: World, tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.gpkg"
    found = export_run(world.run, out=path)
    assert found.rows == {
        "localizations": 3,
        "queries": 3,
        "ellipses": 1,
        "places": 2,
        "cliques": 1,
        "matches": 0,
        "truth": 3,
        "errors": 2,
        "coverage": 2,
    }
    layers = {str(name): str(kind) for name, kind in pyogrio.list_layers(path)}
    assert layers == {name: layer.shape for name, layer in LAYERS.items() if name != "votes"}
    for name, count in found.rows.items():
        info = pyogrio.read_info(path, layer=name)
        assert (info["features"], info["crs"]) == (count, "EPSG:4326")
        assert info["layer_metadata"]["DESCRIPTION"]


def test_geopackage_keeps_types_and_nulls(world: World, tmp_path: Path) -> None:
    export_run(world.run, out=tmp_path / "run.gpkg")
    head, _, shapes, values = pyogrio.raw.read(tmp_path / "run.gpkg", layer="localizations")
    found = dict(zip(head["fields"], values, strict=True))
    assert dict(zip(head["fields"], head["dtypes"], strict=True))["run_id"] == "int32"
    assert list(found["transform_srid"][1:2]) == [4326]
    assert json.loads(found["transform"][1]) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(found["error_m"], [22.3, 30, np.nan], atol=0.1)
    assert [shape is None for shape in shapes] == [False, False, True]
    head, _, _, values = pyogrio.raw.read(tmp_path / "run.gpkg", layer="coverage", datetime_as_string=True)
    dates = dict(zip(head["fields"], values, strict=True))["first_at"]
    assert {str(date)[:19] for date in dates} == {"2017-07-14T02:40:00"}
    assert all(str(date).endswith(("Z", "+00:00")) for date in dates)


def test_votes_are_written_when_asked_for(world: World, tmp_path: Path) -> None:
    path = tmp_path / "votes.gpkg"
    assert export_run(world.run, out=path, layers=["votes", "errors"]).rows == {"votes": 2, "errors": 2}
    _, _, shapes, _ = pyogrio.raw.read(path, layer="votes")
    votes = [shapely.from_wkb(shape).coords[0] for shape in shapes]
    np.testing.assert_allclose(votes, [HOME, north(HOME, 500)])


def test_many_rows_come_in_parts(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsloc_db.db.export.CHUNK", 1)
    assert export_run(world.run, out=tmp_path / "run.gpkg").rows["localizations"] == 3
    assert pyogrio.read_info(tmp_path / "run.gpkg", layer="localizations")["features"] == 3
    assert len(geojson(tmp_path / "a.geojson", "localizations", world.run)) == 3


def test_csv_quotes_names_and_writes_shapes_as_wkt(world: World, tmp_path: Path) -> None:
    export_run(world.run, out=tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"near.png", "across.png", 'refused, "so".png'}
    assert rows['refused, "so".png']["wkt"] == rows['refused, "so".png']["lon_deg"] == ""
    assert shapely.from_wkt(rows["near.png"]["wkt"]).geom_type == "MultiPolygon"
    assert float(rows["near.png"]["error_m"]) == pytest.approx(30, abs=0.1)
    assert json.loads(rows["near.png"]["transform"]) == [1, 2, 3, 4, 5, 6]


def test_what_cannot_be_written_is_one_clear_error(world: World, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"expected a file .*, found 'run.shp'"):
        export_run(world.run, out=tmp_path / "run.shp")
    with pytest.raises(ExportError, match="no layer 'place': expected one of localizations, "):
        export_run(world.run, out=tmp_path / "run.gpkg", layers=["place"])
    with pytest.raises(ExportError, match="holds one layer, found 2"):
        export_run(world.run, out=tmp_path / "run.csv", layers=["places", "truth"])
    with pytest.raises(RunError, match="no run 4711"):
        export_run(4711, out=tmp_path / "run.gpkg")
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="cannot be written"):
        export_run(world.run, out=tmp_path / "file" / "run.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".csv"])
def test_a_file_is_replaced_when_all_is_written(world: World, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    path.write_text("old")
    world.conn.execute("ALTER VIEW localization_map RENAME TO hidden")
    world.conn.execute("ALTER TABLE localization RENAME TO hidden_table")
    world.conn.commit()
    with pytest.raises(Exception, match="does not exist"):
        export_run(world.run, out=path)
    assert path.read_text() == "old"
    world.conn.execute("ALTER TABLE hidden_table RENAME TO localization")
    world.conn.commit()
    export_run(world.run, out=path)
    assert path.read_bytes() != b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_command(world: World, tmp_path: Path) -> None:
    path = str(tmp_path / "run.geojson")
    done = CliRunner().invoke(app, ["export", str(world.run), "--out", path, "--json"])
    assert json.loads(done.output) == {"run": world.run, "out": path, "rows": {"localizations": 3}}
    assert CliRunner().invoke(app, ["export", str(world.run), "--out", path, "--quiet"]).output == ""
    done = CliRunner().invoke(app, ["export", str(world.run), "--out", path, "--layer", "truth"])
    assert "run.geojson" in done.output
    assert "3 truth" in done.output
