"""The commands on galleries, as a person or a program calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import run
from sources import COLUMN, DATE, LEVEL, ROW, square, write_ge_tiles

from rsloc_db.db import galleries
from rsloc_db.db.connection import Connection


def test_ingest_list_show_delete(
    conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_ge_tiles(tmp_path / "land.db", [*square(2), (LEVEL, COLUMN + 9, ROW, DATE, b"broken")])
    assert run(monkeypatch, "ingest", source, "--workers", 1, "--window", 1, "--quiet", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["gallery"], summary["tiles"], summary["skipped"]) == ("land", {str(LEVEL): 4}, 1)
    assert summary["indexes"] == {f"{LEVEL}/1": "exact"}

    assert run(monkeypatch, "galleries", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)["galleries"]
    assert (listed["name"], listed["tiles"], listed["status"], listed["failures"]) == ("land", 4, "ready", 1)
    assert run(monkeypatch, "galleries") == 0
    assert "land" in capsys.readouterr().out

    assert run(monkeypatch, "galleries", "show", "land") == 0
    shown = capsys.readouterr().out
    assert f"{LEVEL}_{COLUMN + 9}_{ROW}" in shown
    assert "google_earth" in shown

    assert run(monkeypatch, "galleries", "delete", "land", "--yes") == 0
    assert galleries.list_galleries(conn) == []


@pytest.mark.parametrize("command", [["galleries", "show", "nowhere"], ["galleries", "delete", "nowhere", "--yes"]])
def test_unknown_gallery_is_one_line(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(monkeypatch, *command) == 2
    assert "no gallery is named 'nowhere'" in capsys.readouterr().err


def test_delete_asks_first(
    conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "ingest", write_ge_tiles(tmp_path / "land.db", square(1)), "--workers", 1, "--quiet")
    monkeypatch.setattr("sys.stdin", (tmp_path / "answer").open("w+"))
    assert run(monkeypatch, "galleries", "delete", "land") == 1
    assert [g.name for g in galleries.list_galleries(conn)] == ["land"]


def test_a_database_without_schema_is_one_line(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", empty_database_url)
    source = write_ge_tiles(tmp_path / "land.db", square(1))
    for command in (["ingest", source], ["galleries"]):
        assert run(monkeypatch, *command) == 1
        assert "rsloc-db db upgrade" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello world, this is no gallery", None])
def test_what_is_no_gallery_is_one_line(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    source = tmp_path / "land.db"
    if content is not None:
        source.write_bytes(content)
    assert run(monkeypatch, "ingest", source) == 2
    assert "land.db" in capsys.readouterr().err


@pytest.mark.usefixtures("database_url")
def test_names_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets are no markup, and colons no pictures."""
    name = "land [red]:cat: [/x] \u00e9'\""
    source = write_ge_tiles(tmp_path / "land [new].db", square(1))
    assert run(monkeypatch, "ingest", source, "--name", name, "--workers", 1, "--window", 1) == 0
    for command in (["galleries"], ["galleries", "show", name]):
        assert run(monkeypatch, *command) == 0
    shown = capsys.readouterr().out
    assert shown.count(name) == 3
    assert "land [new].db" in shown
    assert run(monkeypatch, "galleries", "show", "[/y]") == 2
    assert "'[/y]'" in capsys.readouterr().err


def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(1))
    (tmp_path / "taken").write_text("")
    assert run(monkeypatch, "tiles", "extract", source, "--out", tmp_path / "taken") == 1
    assert "taken" in capsys.readouterr().err
    monkeypatch.setenv("RSLOC_WORKERS", "many")
    assert run(monkeypatch, "galleries") == 2
    assert "RSLOC_WORKERS is 'many'" in capsys.readouterr().err
