"""The whole way on real imagery, where it is there: the four query sets of the shared small world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

import rsloc_db
from rsloc_db.types import Json


@pytest.fixture(scope="module")
def mini(shared_data: Path) -> Path:
    return shared_data / "mini"


@pytest.fixture(scope="module")
def mini_url(server_url: str, template: str, mini: Path) -> Iterator[str]:
    """A database with the whole small gallery."""
    name = sql.Identifier(f"{template}_mini")
    url = urlsplit(server_url)._replace(path=f"/{template}_mini").geturl()
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
        try:
            rsloc_db.ingest(mini / "Gallery" / "galleryL15.db", url=url)
            yield url
        finally:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def judged(mini: Path, url: str, name: str) -> Json:
    run = rsloc_db.localize(mini / "RSimages" / name, url=url).run
    return rsloc_db.evaluate(run, url=url).as_dict()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "queries", "located"), [("season", 7, 7), ("google", 3, 3), ("naip", 9, 8)])
def test_present_queries_are_located(mini: Path, mini_url: str, name: str, queries: int, located: int) -> None:
    found = judged(mini, mini_url, name)
    assert found["queries"] == queries
    assert found["failed"] == 0
    assert found["located_at_m"]["25"] >= located
    assert found["accepted"] == found["located_at_m"]["100"]  # refusing is allowed, placing wrongly is not
    if name == "season":
        assert found["median_center_error_m"] < 5


@pytest.mark.timeout(900)
def test_absent_queries_are_refused(mini: Path, mini_url: str) -> None:
    found = judged(mini, mini_url, "absent")
    assert (found["queries"], found["absent"], found["failed"]) == (10, 10, 0)
    assert (found["accepted"], found["false_places"]) == (0, 0)


@pytest.mark.timeout(900)
def test_turned_and_scaled_queries_are_located(mini: Path, mini_url: str, shared_data: Path, tmp_path: Path) -> None:
    images = [
        *sorted(shared_data.glob("rsloc/RSimages/*/a140*.tiff")),
        *sorted(shared_data.glob("rsloc/RSimages/*/f1_*")),
    ]
    made = tmp_path / "posed"
    rsloc_db.make_queries(*images, out=made, count=4, size=(1024, 1400), turn=(0, 360), season=1, seed=7)
    run = rsloc_db.localize(made, rotation="free", url=mini_url).run
    found = rsloc_db.evaluate(run, url=mini_url).as_dict()
    assert (found["present"], found["failed"]) == (4, 0)
    assert found["accepted"] == found["located_at_m"]["25"] >= 3
