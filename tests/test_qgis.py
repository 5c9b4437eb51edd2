"""The QGIS project: every layer reads what is there; QGIS itself opens and draws it, where it is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner
from world import HOME, World, north

from rsloc_db import write_qgis
from rsloc_db.cli import app
from rsloc_db.db.connection import Connection
from rsloc_db.errors import ExportError, RunError
from rsloc_db.export.qgis import source_of
from rsloc_db.export.qgis_layers import GROUPS, MapLayer

CHECK = Path(__file__).parents[1] / "benchmarks" / "qgis_check.py"
QGIS_PYTHON = "/usr/bin/python3"
"""Of Debian, the one that its QGIS is made for."""
LAYERS = {layer.name: layer for _, layers in GROUPS for layer in layers}
ROWS = {
    "queries": 2,
    "ellipses": 1,
    "localizations by verdict": 2,
    "error lines": 1,
    "truth": 2,
    "localizations by error": 2,
    "matches": 1,
    "places": 1,
    "cliques": 1,
    "votes": 2,
    "tiles": 4,
    "coverage": 2,
}


@pytest.fixture
def world(conn: Connection) -> World:
    """A run with something in every layer, beside another run; the gallery's name must be quoted."""
    w = World(conn)
    conn.execute("UPDATE gallery SET name = 'it''s \"here\" \\'")
    found, refused = w.query("found"), w.query("refused")
    w.truth(found, north(HOME, 300))
    w.truth(refused, None)
    w.answer(found, "accepted", HOME, 0.9)
    w.answer(refused, "not_here", None, 0.1)
    conn.execute(
        "UPDATE localization SET ellipse = ST_Buffer(center, 0.001), transform = '{0.00001,0,2,0,-0.00001,48.01}',"
        " transform_srid = 4326 WHERE center IS NOT NULL"
    )
    conn.execute(
        "INSERT INTO match (run_id, query_id, place_id, x_px, y_px, location, score, residual_m, inlier)"
        " SELECT run_id, query_id, id, 50, 60, center, 0.5, 3, true FROM place"
    )
    w.clique(found, HOME, 1)
    w.patch(found, (0.9, 0, HOME), (0.8, 1, north(HOME, 200)))
    other = w.add_run(w.set)
    w.answer(w.query("other", run=other), "not_here", run=other)
    conn.commit()
    return w


def project(path: Path) -> ET.Element:
    return ET.fromstring(path.read_text())


def sources(root: ET.Element) -> dict[str, str]:
    """Name of a layer -> its data source."""
    return {layer.findtext("layername", ""): layer.findtext("datasource", "") for layer in root.iter("maplayer")}


def test_every_layer_has_the_rows_of_the_run(world: World, tmp_path: Path) -> None:
    found = write_qgis(world.run, out=tmp_path / "new" / "run.qgs")
    assert sorted(found.layers) == sorted(ROWS)
    for name, source in sources(project(found.out)).items():
        where = source.split(" sql=", 1)[1]
        row = world.conn.execute(
            f"SELECT count(*), count(DISTINCT id) FROM {LAYERS[name].view} WHERE {where}"
        ).fetchone()
        assert row == (ROWS[name], ROWS[name]), name


@pytest.mark.parametrize("layer", LAYERS.values(), ids=lambda layer: layer.name)
def test_layers_name_columns_and_types_that_there_are(conn: Connection, layer: MapLayer) -> None:
    kind = conn.execute(
        "SELECT type, srid FROM geometry_columns WHERE f_table_name = %s AND f_geometry_column = %s",
        (layer.view, layer.geometry),
    ).fetchone()
    assert kind is not None
    assert (kind[0].upper(), kind[1]) == (layer.type.upper(), 4326)
    columns = {
        name
        for (name,) in conn.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s", (layer.view,)
        )
    }
    used = " ".join([layer.style.text, *(rule.where for rule in layer.style.rules)])
    assert {"id", *re.findall(r'"(\w+)"', used)} <= columns


def test_the_password_is_written_when_asked_for_alone(world: World, tmp_path: Path) -> None:
    secret = urlsplit(os.environ["RSLOC_DATABASE_URL"]).password
    assert secret
    without = write_qgis(world.run, out=tmp_path / "a.qgz")
    with zipfile.ZipFile(without.out) as archive:
        assert archive.namelist() == ["a.qgs"]
        text = archive.read("a.qgs").decode()
    assert secret not in text
    assert "password" not in text
    assert without.user == urlsplit(os.environ["RSLOC_DATABASE_URL"]).username
    known = write_qgis(world.run, out=tmp_path / "b.qgs", password=True)
    assert known.user is None
    assert all(f"password='{secret}'" in source for source in sources(project(known.out)).values())


def test_connections_are_quoted() -> None:
    url = "postgresql://o%27brien:p%5Cw@db.example:5433/my%20maps?sslmode=require"
    expected = r"host='db.example' port='5433' dbname='my maps' user='o\'brien' sslmode='require'"
    assert source_of(url, password=False) == expected
    assert source_of(url, password=True) == rf"{expected} password='p\\w'"
    assert source_of("service=maps", password=False) == "service='maps'"


def test_what_cannot_be_written_is_one_clear_error(world: World, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"expected a file .qgz or .qgs, found 'map.xml'"):
        write_qgis(world.run, out=tmp_path / "map.xml")
    with pytest.raises(RunError, match="no run 4711"):
        write_qgis(4711, out=tmp_path / "map.qgs")
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="cannot be written"):
        write_qgis(world.run, out=tmp_path / "file" / "map.qgz")


def test_command(world: World, tmp_path: Path) -> None:
    path = str(tmp_path / "run.qgz")
    done = CliRunner().invoke(app, ["qgis", str(world.run), "--out", path])
    assert "12 layers" in done.output
    assert "rsloc-db db url" in done.output
    done = CliRunner().invoke(app, ["qgis", str(world.run), "--out", path, "--password", "--json"])
    assert json.loads(done.output)["user"] is None
    assert CliRunner().invoke(app, ["qgis", str(world.run), "--out", path, "-q"]).output == ""


def test_qgis_opens_and_draws_it(world: World, tmp_path: Path) -> None:
    if (
        not Path(QGIS_PYTHON).exists()
        or subprocess.run([QGIS_PYTHON, "-c", "import qgis.core"], check=False).returncode
    ):
        pytest.skip("QGIS is not installed (apt install qgis python3-qgis)")
    found = write_qgis(world.run, out=tmp_path / "run.qgz", password=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [QGIS_PYTHON, str(CHECK), str(found.out), str(tmp_path / "run.png")],
        env=clean | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["crs"] == "EPSG:3857"
    assert {name: layer["rows"] for name, layer in told["layers"].items() if layer["valid"]} == ROWS
    assert all(
        layer["rules"] == [rule.label for rule in LAYERS[name].style.rules] for name, layer in told["layers"].items()
    )
    image = cv2.imread(str(tmp_path / "run.png")).astype(int)
    orange = np.abs(image - (0x00, 0x8E, 0xD9)).max(-1) < 40
    # the footprint's outline, which the view is drawn around: more than half of the picture
    assert np.ptp(np.nonzero(orange.any(1))[0]) > 0.5 * len(image)
