"""The service's API, asked for what a run has left in the database."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import psycopg
import pytest
import shapely
from fastapi.testclient import TestClient
from lands import COLUMN, ROW, SEED, cut, lonlat, tiles
from lands import picture as picture_of
from pyproj import Transformer
from sources import write_ge_tiles

import rsloc_db
from rsloc_db.db import schema, service
from rsloc_db.db.galleries import get_gallery
from rsloc_db.service import warp
from rsloc_db.service.app import create_app
from rsloc_db.stages import tiles as tile_sources

TO_MERCATOR = Transformer.from_crs(4326, 3857, always_xy=True)


@pytest.fixture(scope="module")
def client(answered_url: str) -> Iterator[TestClient]:
    with TestClient(create_app(answered_url), base_url="http://127.0.0.1:8765") as asking:
        yield asking


def get(client: TestClient, path: str) -> dict:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def picture(client: TestClient, path: str) -> np.ndarray:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)


def found_and_other(client: TestClient) -> tuple[int, int]:
    rows = get(client, "/api/runs/1/queries")["queries"]
    return tuple(row["id"] for row in sorted(rows, key=lambda row: row["name"]))


def test_health_tells_of_the_schema_and_the_role(client: TestClient, answered_url: str) -> None:
    health = get(client, "/health")
    assert health["schema_version"] == schema.current(answered_url)
    assert health["read_only_role"] is True


def test_readers_cannot_write(client: TestClient) -> None:
    with client.app.state.pool.connection() as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("rsloc_reader",)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("DELETE FROM run")
        conn.rollback()
        conn.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM run")
        conn.rollback()


def test_galleries_are_told_with_their_tiles(client: TestClient) -> None:
    (gallery,) = get(client, "/api/galleries")
    assert (gallery["name"], gallery["tiles"], gallery["levels"]) == ("land", 256, [15])
    assert "source" not in gallery
    detail = get(client, "/api/galleries/land")
    assert detail["years"] == [{"level": 15, "year": 2017, "tiles": 256}]
    blocks = get(client, "/api/galleries/land/coverage?level=15")["features"]
    assert sum(block["properties"]["tiles"] for block in blocks) == 256
    assert get(client, "/api/galleries/land/coverage?level=14")["features"] == []


def test_tiles_are_listed_by_box_and_date(client: TestClient) -> None:
    lon, lat = lonlat(300, 300)
    box = f"bbox={lon},{lat},{lon},{lat}&level=15"
    (tile,) = get(client, f"/api/galleries/land/tiles?{box}")["features"]
    assert shapely.from_geojson(str(tile["geometry"]).replace("'", '"')).contains(shapely.Point(lon, lat))
    assert get(client, f"/api/galleries/land/tiles?{box}&since=2017-07-14&until=2017-07-14")["features"] == [tile]
    assert get(client, f"/api/galleries/land/tiles?{box}&until=2017-07-13")["features"] == []
    assert picture(client, f"/api/tiles/{tile['id']}/image").shape == (256, 256, 3)


def test_a_map_tile_shows_each_place_where_it_is(client: TestClient) -> None:
    """The same spot of the gallery, read from its own tile and from a tile of the map at a level and one below."""
    lon, lat = lonlat(1000, 900)
    x_m, y_m = TO_MERCATOR.transform(lon, lat)
    box = f"bbox={lon},{lat},{lon},{lat}&level=15"
    (tile,) = get(client, f"/api/galleries/land/tiles?{box}")["features"]
    own = picture(client, f"/api/tiles/{tile['id']}/image")
    around = cv2.blur(own, (9, 9))[900 % 256, 1000 % 256]
    for zoom in (15, 14):
        world = 256 * 2**zoom
        x, y = (x_m / 40075016.685578 + 0.5) * world, (0.5 - y_m / 40075016.685578) * world
        shown = picture(client, f"/api/galleries/land/map/{zoom}/{int(x // 256)}/{int(y // 256)}")
        size = 9 if zoom == 15 else 5
        np.testing.assert_allclose(cv2.blur(shown, (size, size))[int(y % 256), int(x % 256)][:3], around, atol=16)


def test_a_map_tile_far_out_shows_spread_tiles_and_else_nothing(client: TestClient) -> None:
    x, y = int((lonlat(1000, 900)[0] + 180) / 360 * 2**6), 22
    far = picture(client, f"/api/galleries/land/map/6/{x}/{y}")
    assert far.shape == (256, 256, 4)
    assert 0 < np.count_nonzero(far[..., 3]) < 3000
    assert not picture(client, "/api/galleries/land/map/6/0/0")[..., 3].any()
    assert client.get("/api/galleries/land/map/6/64/0").status_code == 404
    assert client.get("/api/galleries/sea/map/6/0/0").status_code == 404


def test_of_a_large_gallery_a_sample_is_looked_up(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with client.app.state.pool.connection() as conn:
        box = {"gallery_id": get_gallery(conn, "land").id, "level": 15, "first_column": 0, "last_column": 2**15 - 1}
        box |= {"first_row": 12095, "last_row": 12200}
        cells, stride = service.spread_cells(conn, box, 4, 1000)
        assert (len(cells), stride) == (256, 1)
        monkeypatch.setattr(service, "MANY_TILES", 255)
        cells, stride = service.spread_cells(conn, box, 4, 1000)
    assert (len(cells), stride) == (4 * 2 * 2, 4)
    assert {cell.column % 4 for cell in cells} == {cell.row % 4 for cell in cells} == {0}


def test_galleries_are_counted_anew_when_they_change(client: TestClient, answered_url: str) -> None:
    with psycopg.connect(answered_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO gallery (name, grid, source_kind, source, images)"
            " VALUES ('sea', 'web_mercator', 'xyz', '/secret', 'reference')"
        )
        try:
            listed = [(each["name"], each["tiles"], each["status"]) for each in get(client, "/api/galleries")]
            assert listed == [("land", 256, "ready"), ("sea", 0, "loading")]
            assert get(client, "/api/galleries/sea")["extent"] is None
            assert not picture(client, "/api/galleries/sea/map/3/2/2")[..., 3].any()
        finally:
            conn.execute("DELETE FROM gallery WHERE name = 'sea'")
    assert [each["name"] for each in get(client, "/api/galleries")] == ["land"]


def test_runs_are_listed_with_settings_and_queries(client: TestClient) -> None:
    run = next(run for run in get(client, "/api/runs") if run["run"] == 1)
    assert (run["query_set"], run["queries"], run["accepted"], run["galleries"]) == ("set", 2, 1, ["land"])
    assert get(client, "/api/runs/1")["settings"]["model"] == "gradients"
    names = [row["name"] for row in get(client, "/api/runs/1/queries?order=-confidence")["queries"]]
    assert names == ["found.png", "other.png"]
    page = get(client, "/api/runs/1/queries?limit=1&offset=1")
    assert page["matched"] == 2
    assert [row["name"] for row in page["queries"]] == ["other.png"]
    assert get(client, "/api/runs/1/queries?verdict=not_here&name=OTH")["matched"] == 1
    assert get(client, "/api/runs/1/queries?name=%25")["queries"] == []
    assert client.get("/api/runs/99/queries").status_code == 404


def test_a_query_is_told_with_all_that_led_to_its_answer(client: TestClient) -> None:
    found, other = found_and_other(client)
    answer = get(client, f"/api/runs/1/queries/{found}")
    assert answer["verdict"] == "accepted"
    assert answer["inliers"] <= answer["matches"]
    assert answer["places"][0]["chosen"] is True
    assert answer["seconds"]["total"] > 0
    assert "path" not in answer
    box = answer["overlay"]
    lon, lat = cut().center
    assert box["west_deg"] < lon < box["east_deg"]
    assert box["south_deg"] < lat < box["north_deg"]
    refused = get(client, f"/api/runs/1/queries/{other}")
    assert (refused["verdict"], refused["overlay"]) == ("not_here", None)
    assert refused["reason"]
    for layer in ("cliques", "votes", "places", "matches", "ellipses", "localizations"):
        assert get(client, f"/api/runs/1/queries/{found}/layers/{layer}")["features"], layer
    assert get(client, f"/api/runs/1/queries/{found}/layers/truth")["features"] == []


def test_a_picture_that_waits_for_others_gives_its_connection_back(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"/api/runs/1/queries/{found_and_other(client)[0]}/image"
    monkeypatch.setattr(warp, "WAIT_S", 0.05)
    with warp._ONE_AT_A_TIME:
        assert client.get(address).status_code == 503
    assert client.get(address).status_code == 200


def test_the_overlay_lies_on_the_gallery(client: TestClient) -> None:
    """Blurred colours of the warped query and of the map under it go together, more than anywhere else nearby."""
    found, other = found_and_other(client)
    box = get(client, f"/api/runs/1/queries/{found}")["overlay"]
    lay = picture(client, f"/api/runs/1/queries/{found}/overlay")
    west, south = TO_MERCATOR.transform(box["west_deg"], box["south_deg"])
    east, north = TO_MERCATOR.transform(box["east_deg"], box["north_deg"])
    assert lay.shape[1] / lay.shape[0] == pytest.approx((east - west) / (north - south), rel=0.01)
    # the query is Mercator pixels: upright, it fills its box with the very pixels it has
    image = picture(client, f"/api/runs/1/queries/{found}/image")
    small = (64, 64)
    difference = cv2.absdiff(cv2.resize(lay[..., :3], small), cv2.resize(image, small))
    assert np.median(difference) < 6
    assert client.get(f"/api/runs/1/queries/{other}/overlay").status_code == 404


def test_two_runs_are_compared(client: TestClient) -> None:
    rows = get(client, "/api/runs/1/comparison/1")
    assert {row["name"]: row["moved_m"] for row in rows} == {"found.png": 0.0, "other.png": None}
    assert client.get("/api/runs/1/comparison/99").status_code == 404


def test_a_run_can_be_taken_away(client: TestClient, tmp_path: Path) -> None:
    features = get(client, "/api/runs/1/download")["features"]
    assert len(features) == 2
    csv = client.get("/api/runs/1/download?format=csv&layer=places")
    assert csv.headers["content-disposition"] == 'attachment; filename="run1-places.csv"'
    assert csv.text.startswith("id,run_id")
    path = tmp_path / "run.gpkg"
    path.write_bytes(client.get("/api/runs/1/download?format=gpkg").content)
    with sqlite3.connect(path) as layers:
        names = {name for (name,) in layers.execute("SELECT table_name FROM gpkg_contents")}
    assert {"localizations", "places", "cliques"} <= names
    assert not {"queries", "votes"} & names


def test_no_answer_tells_where_files_are(client: TestClient, answered_url: str) -> None:
    with psycopg.connect(answered_url) as conn:
        paths = [path for (path,) in conn.execute("SELECT path FROM query UNION SELECT source FROM gallery")]
    found, _ = found_and_other(client)
    addresses = [
        "/api/galleries", "/api/galleries/land", "/api/runs", "/api/runs/1", "/api/runs/1/queries",
        f"/api/runs/1/queries/{found}", "/ogc/collections/queries/items", "/ogc/collections/truth/items",
        "/api/runs/1/download",
    ]  # fmt: skip
    for address in addresses:
        text = client.get(address).text
        assert not any(path in text for path in paths), address


def test_ogc_clients_find_their_way(client: TestClient) -> None:
    landing = get(client, "/ogc")
    links = {link["rel"]: link["href"] for link in landing["links"]}
    assert get(client, links["service-desc"])["openapi"]
    assert any(each.endswith("/core") for each in get(client, links["conformance"])["conformsTo"])
    listed = get(client, links["data"])["collections"]
    assert {each["id"] for each in listed} >= {"localizations", "ellipses", "places", "votes", "coverage"}
    for each in listed:
        items = next(link["href"] for link in each["links"] if link["rel"] == "items")
        answer = client.get(items)
        assert answer.headers["content-type"] == "application/geo+json", items
        assert answer.json()["numberMatched"] >= answer.json()["numberReturned"]


def test_features_are_paged_by_their_links(client: TestClient) -> None:
    address, seen = "/ogc/collections/places/items?run_id=1&limit=1", []
    matched = get(client, address)["numberMatched"]
    while address:
        page = get(client, address)
        seen += [feature["id"] for feature in page["features"]]
        address = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    assert len(seen) == matched == len(set(seen))
    assert matched > 1
    assert get(client, f"/ogc/collections/places/items/{seen[0]}")["id"] == seen[0]
    assert client.get("/ogc/collections/places/items/999999").status_code == 404


def test_features_are_filtered_by_box_and_column(client: TestClient) -> None:
    lon, lat = cut().center
    near = f"bbox={lon - 0.01},{lat - 0.01},{lon + 0.01},{lat + 0.01}"
    assert get(client, f"/ogc/collections/localizations/items?run_id=1&{near}")["numberMatched"] == 1
    assert get(client, "/ogc/collections/localizations/items?bbox=170,-90,-170,90")["numberMatched"] == 0
    assert get(client, "/ogc/collections/localizations/items?run_id=1&verdict=not_here")["numberMatched"] == 1
    assert client.get("/ogc/collections/coverage/items?verdict=accepted").status_code == 422
    assert client.get("/ogc/collections/places/items?colour=red").status_code == 400
    assert client.get("/ogc/collections/places/items?bbox=1,2,3").status_code == 422


def test_a_referenced_gallery_is_drawn_by_any_request(database_url: str, tmp_path: Path) -> None:
    """Its file is open in one thread, requests come in many; once it is gone, nobody is told where it was."""
    source = write_ge_tiles(tmp_path / "part.db", tiles(picture_of(SEED, 0)[:512, :512], COLUMN, ROW))
    rsloc_db.ingest(source, images="reference", url=database_url)
    with TestClient(create_app(database_url), base_url="http://127.0.0.1:8765") as client:
        x, y = COLUMN, int((0.5 - np.arcsinh(np.tan(np.radians(lonlat(0, 300)[1]))) / np.pi / 2) * 2**15)
        addresses = [f"/api/galleries/part/map/15/{x + i % 2}/{y + i // 2}" for i in range(4)]
        with ThreadPoolExecutor(4) as many:
            shown = list(many.map(lambda address: picture(client, address), addresses))
        assert all(tile[..., :3].std() > 5 for tile in shown[:2])
        (key, *_) = [
            each["id"] for each in get(client, "/api/galleries/part/tiles?level=15&bbox=0,40,1,50")["features"]
        ]
        assert picture(client, f"/api/tiles/{key}/image").shape == (256, 256, 3)
        tile_sources._reader.cache_clear()
        source.unlink()
        gone = client.get(f"/api/tiles/{key}/image")
        assert (gone.status_code, gone.json()["detail"]) == (404, "a tile of gallery 'part' cannot be read any more")


def test_errors_are_one_sentence(client: TestClient) -> None:
    answer = client.get("/api/galleries/a%00b")
    assert answer.status_code == 400
    assert answer.json()["detail"]
    assert client.get("/api/runs/1/queries/999").json() == {"detail": "there is no query 999 in run 1"}


def test_figures_count_requests_by_route(client: TestClient) -> None:
    client.get("/api/runs/1")
    client.get("/api/runs/77")
    lines = io.StringIO(client.get("/metrics").text).readlines()
    counted = [line for line in lines if line.startswith("rsloc_requests_total") and 'route="/api/runs/{run}"' in line]
    assert {line.split("status=")[1][1:4] for line in counted} == {"200", "404"}
