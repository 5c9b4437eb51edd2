"""Backup, restore and psql, on a real database; a restore that fails must leave the old data."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rsloc_db.cli import app
from rsloc_db.db import server
from rsloc_db.db.connection import connect
from rsloc_db.errors import ServerError


def _names(url: str) -> list[str]:
    with connect(url) as conn:
        return [name for (name,) in conn.execute("SELECT name FROM model ORDER BY name").fetchall()]


def _add_model(url: str, name: str) -> None:
    with connect(url, autocommit=True) as conn:
        conn.execute("INSERT INTO model (name, dimensions, weights_hash) VALUES (%s, 2, 'x')", [name])


def _databases(url: str) -> list[str]:
    name = url.rsplit("/", 1)[1]
    with connect(url) as conn:
        rows = conn.execute("SELECT datname FROM pg_database WHERE datname LIKE %s ORDER BY 1", [f"{name}%"]).fetchall()
    return [found for (found,) in rows if found == name or found.removeprefix(name).startswith("_re")]


def _rsloc(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["db", *map(str, words)])


@pytest.fixture
def dump(database_url: str, tmp_path: Path) -> Path:
    """A backup of a database that holds one model."""
    _add_model(database_url, "first")
    path = tmp_path / "a backup.dump"
    assert _rsloc("backup", path).exit_code == 0
    return path


def test_round_trip(database_url: str, dump: Path) -> None:
    _add_model(database_url, "second")
    assert _rsloc("restore", dump, "--replace").exit_code == 0
    assert _names(database_url) == ["first"]
    assert _databases(database_url) == [database_url.rsplit("/", 1)[1]]


def test_into_a_schema_without_rows(database_url: str, dump: Path) -> None:
    with connect(database_url, autocommit=True) as conn:
        conn.execute("DELETE FROM model")
    server.restore(dump)
    assert _names(database_url) == ["first"]


def test_restored_database_has_all_that_the_old_one_had(database_url: str, dump: Path) -> None:
    statement = (
        "SELECT c.relkind, c.relname, obj_description(c.oid) FROM pg_class c"
        " WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1, 2"
    )
    with connect(database_url) as conn:
        before = conn.execute(statement).fetchall()
    server.restore(dump, replace=True)
    with connect(database_url) as conn:
        assert conn.execute(statement).fetchall() == before


def test_data_are_replaced_on_demand_alone(database_url: str, dump: Path) -> None:
    with pytest.raises(ServerError, match=r"holds data \(table model\): give --replace"):
        server.restore(dump)
    with pytest.raises(ServerError, match="is there already"):
        server.backup(dump)
    before = dump.read_bytes()
    _add_model(database_url, "second")
    server.backup(dump, replace=True)
    assert dump.read_bytes() != before


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_cut_backup_leaves_the_old_data(database_url: str, dump: Path, share: float) -> None:
    _add_model(database_url, "second")
    dump.write_bytes(dump.read_bytes()[: int(dump.stat().st_size * share)])
    with pytest.raises(ServerError, match="pg_restore failed") as error:
        server.restore(dump, replace=True)
    assert "\n" not in str(error.value)
    assert _names(database_url) == ["first", "second"]
    assert _databases(database_url) == [database_url.rsplit("/", 1)[1]]


def test_database_in_use_is_left_alone(database_url: str, dump: Path) -> None:
    with connect(database_url), pytest.raises(ServerError, match=r"in use \(1 x rsloc-db\)"):
        server.restore(dump, replace=True)


def test_left_overs_of_a_killed_restore_are_cleared(database_url: str, dump: Path) -> None:
    name = database_url.rsplit("/", 1)[1]
    with connect(database_url, autocommit=True) as conn:
        conn.execute(f'CREATE DATABASE "{name}_restored"'.encode())
        conn.execute(f'CREATE DATABASE "{name}_replaced"'.encode())
    server.restore(dump, replace=True)
    assert _databases(database_url) == [name]


def test_files_that_are_no_backups(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.dump"
    path.write_text("no backup")
    with pytest.raises(ServerError, match="is no backup"):
        server.restore(path)
    with pytest.raises(ServerError, match="No such file"):
        server.restore(tmp_path / "missing.dump")


def test_backup_of_another_programs_database(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", empty_database_url)
    server.backup(tmp_path / "foreign.dump")
    with pytest.raises(ServerError, match="another program's database"):
        server.restore(tmp_path / "foreign.dump")


def test_backup_that_cannot_be_written_leaves_no_file(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"pg_dump failed: .*No such file"):
        server.backup(tmp_path / "missing" / "backup.dump")
    assert list(tmp_path.iterdir()) == []


def test_psql_passes_words_and_exit_code_on(database_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert _rsloc("psql", "-Atc", "SELECT 6 * 7").exit_code == 0
    assert capfd.readouterr().out == "42\n"
    assert _rsloc("psql", "-v", "ON_ERROR_STOP=1", "-c", "SELECT 1", "-c", "nonsense").exit_code == 1
