"""The embedded server, on real clusters in homes of their own. The installed software is shared with the main home."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rsloc_db.config import settings
from rsloc_db.db import server
from rsloc_db.db.connection import connect
from rsloc_db.db.server import packages
from rsloc_db.db.server.choice import cluster
from rsloc_db.db.server.cluster import Cluster
from rsloc_db.db.server.programs import Programs, examine, find, local_folders
from rsloc_db.errors import SchemaError, ServerError
from rsloc_db.types import Silent

START = "from rsloc_db.db import server; print(server.database_url())"
COMMAND = "from rsloc_db.cli import main; main()"


@pytest.fixture(scope="module")
def programs() -> Programs:
    """PostgreSQL's programs of this machine, or Debian's packages in the main home."""
    if local := find(local_folders()):
        return local
    main = Cluster(settings().home.resolve())
    try:
        with main.locked():
            return examine(packages.install(main.home, Silent()))
    except (ServerError, OSError) as error:
        pytest.skip(f"no embedded server here: {error}")


@pytest.fixture(scope="module")
def home(programs: Programs) -> Iterator[Path]:
    """A home with a cluster that this module's tests share; each starts and stops it as it likes."""
    with pytest.MonkeyPatch.context() as patch, _home(patch, programs) as path:
        yield path


@pytest.fixture
def fresh_home(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without a cluster."""
    with _home(monkeypatch, programs) as path:
        yield path


class _home:  # noqa: N801 - reads as a context manager
    def __init__(self, patch: pytest.MonkeyPatch, programs: Programs) -> None:
        # Not tmp_path: the server's user cannot enter that.
        self.path = Path(tempfile.mkdtemp(prefix="rsloc-test-")).resolve()
        self.path.chmod(0o755)
        software = programs.folder.parents[4]
        if software.name == packages.folder(self.path).name:
            packages.folder(self.path).symlink_to(software)
        self.patch = patch

    def __enter__(self) -> Path:
        self.patch.setenv("RSLOC_HOME", str(self.path))
        self.patch.delenv("RSLOC_DATABASE_URL", raising=False)
        return self.path

    def __exit__(self, *_: object) -> None:
        self.patch.setenv("RSLOC_HOME", str(self.path))
        server.stop()
        shutil.rmtree(self.path)


def _pid(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().splitlines()[0])


def _kill(pid: int) -> None:
    """Kill as a crash would, and wait until the process is gone."""
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        time.sleep(0.01)


def _rsloc(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_start_is_idempotent(home: Path) -> None:
    first, pid = server.database_url(), None
    pid = _pid(home)
    assert server.start() == first
    assert _pid(home) == pid
    assert _rsloc("db", "url").stdout.strip() == first


def test_concurrent_first_starts_make_one_server_and_clear_what_a_killed_one_left(fresh_home: Path) -> None:
    for name in (".install", "data.new"):
        (fresh_home / name).mkdir()
        (fresh_home / name / "PG_VERSION").write_text("half")
    (fresh_home / "password").write_text("of a cluster that was deleted")
    starts = [subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    urls = {start.communicate(timeout=120)[0] for start in starts}
    assert [start.returncode for start in starts] == [0, 0, 0]
    assert urls == {server.database_url() + "\n"}
    assert (fresh_home / "postgres.log").read_text().count("ready to accept connections") == 1
    assert not (fresh_home / "data.new").exists()
    with connect(server.database_url()) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("rsloc",)


def test_committed_rows_survive_kill_9_with_sessions_open(home: Path) -> None:
    url = server.database_url()
    with connect(url, autocommit=True) as session:
        session.execute("CREATE TABLE survivor AS SELECT 42 AS answer")
        _kill(_pid(home))
        assert server.database_url() == url
    with connect(url, autocommit=True) as conn:
        assert conn.execute("SELECT answer FROM survivor").fetchall() == [(42,)]
        conn.execute("DROP TABLE survivor")


def test_kill_9_while_a_session_works(home: Path) -> None:
    url = server.database_url()
    busy = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "db", "psql", "-c", "SELECT count(*) FROM generate_series(1, 20000000)"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with connect(url, autocommit=True) as conn:
        working = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT count%'"
        while not conn.execute(working).fetchone():
            assert busy.poll() is None
            time.sleep(0.05)
    _kill(_pid(home))
    with connect(server.database_url()) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    busy.wait(timeout=60)


def test_pid_file_that_names_another_program(home: Path) -> None:
    """As after a reboot: the number in postmaster.pid belongs to a program of the same user by now."""
    url = server.database_url()
    path = home / "data" / "postmaster.pid"
    lines = path.read_text().splitlines()
    _kill(int(lines[0]))
    account = cluster().account
    words = {} if os.geteuid() else {"user": account.uid, "group": account.gid, "extra_groups": []}
    with subprocess.Popen(["sleep", "600"], **words) as other:  # type: ignore[call-overload]
        path.write_text("\n".join([str(other.pid), *lines[1:], ""]))
        assert server.status()["running"] is False
        assert server.stop() is False
        assert server.database_url() == url
        assert _pid(home) != other.pid
        assert server.stop() is True
        assert other.poll() is None
        other.kill()


def test_everybody_needs_the_password(home: Path) -> None:
    url = server.database_url()
    password = (home / "password").read_text().strip()
    for name in ("rsloc", "postgres"):
        for wrong in (":wrong", ""):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(url.replace(f":{password}", wrong, 1).rsplit("/", 1)[0] + f"/{name}")
    with connect(url) as conn:
        assert conn.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall() == [("scram-sha-256",)]
        names = ("listen_addresses", "unix_socket_directories")
        shown = [conn.execute(f"SHOW {name}").fetchone() for name in names]  # type: ignore[arg-type]
        assert shown == [("127.0.0.1",), ("",)]


def test_only_the_owners_can_read(home: Path) -> None:
    server.database_url()
    assert _mode(home / "password") == 0o600
    assert _mode(home / "postgres.log") == 0o600
    assert _mode(home / "data") == 0o700
    assert (home / "data").stat().st_uid == cluster().account.uid != 0


def test_settings_are_durable_and_the_users_own_win(home: Path) -> None:
    server.database_url()
    local = home / "data" / "local.conf"
    local.write_text("work_mem = '7MB'\n")
    cluster().account.own(local, 0o600)
    server.stop()
    wanted = {"fsync": "on", "synchronous_commit": "on", "wal_level": "replica", "work_mem": "7MB", "TimeZone": "UTC"}
    with connect(server.database_url()) as conn:
        shown = dict(conn.execute("SELECT name, current_setting(name) FROM pg_settings").fetchall())
        old = server.pgvector_version(conn) < server.SAFE_PARALLEL_BUILD
    assert {name: shown[name] for name in wanted} == wanted
    assert (shown["max_parallel_maintenance_workers"] == "0") == old
    local.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the server as themselves")
def test_home_that_the_servers_user_cannot_enter(programs: Programs, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RSLOC_HOME", str(closed / "home"))
        patch.delenv("RSLOC_DATABASE_URL", raising=False)
        with pytest.raises(ServerError, match=r"who cannot enter .*: set RSLOC_HOME"):
            server.database_url()
    assert not (closed / "home").exists()


def test_home_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RSLOC_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("RSLOC_DATABASE_URL", raising=False)
    with pytest.raises(ServerError, match=r"Not a directory|cannot enter"):
        server.database_url()


def test_another_port_when_the_old_one_is_taken(home: Path) -> None:
    server.database_url()
    port = cluster().port()
    server.stop()
    assert server.stop() is False
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        url = server.database_url()
    assert cluster().port() != port
    with connect(url) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    server.stop()
    assert server.database_url() == url


def test_lost_password_is_replaced(home: Path) -> None:
    old = server.database_url()
    server.stop()
    (home / "password").unlink()
    new = server.database_url()
    assert new != old
    with connect(new) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(ServerError, match="password authentication failed"):
        connect(old)


def test_lost_notes_are_found_again(home: Path) -> None:
    url = server.database_url()
    server.stop()
    (home / "server.json").unlink()
    with connect(server.database_url()) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert url.startswith("postgresql://rsloc:")


def test_broken_settings_are_told_in_one_line(home: Path) -> None:
    server.database_url()
    server.stop()
    local = home / "data" / "local.conf"
    local.write_text("shared_buffers = 'much'\n")
    cluster().account.own(local, 0o600)
    with pytest.raises(ServerError, match=r"did not start: .*local.conf") as error:
        server.database_url()
    assert "\n" not in str(error.value)
    local.unlink()


def test_this_machines_own_programs_are_used(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    with _home(monkeypatch, programs) as path:
        packages.folder(path).unlink(missing_ok=True)
        monkeypatch.setenv("PATH", f"{programs.folder}:{os.environ['PATH']}")
        server.database_url()
        assert cluster().memory["programs"] == str(programs.folder)
        assert not packages.folder(path).exists()


@pytest.mark.parametrize(
    ("version", "pgvector", "problem"),
    [("17.2", "0.6.2", r"pgvector .*expected 0.7"), ("17.2", None, "no extension vector"), ("13.9", "0.8.0", "13")],
)
def test_programs_that_cannot_serve(tmp_path: Path, version: str, pgvector: str | None, problem: str) -> None:
    extensions = tmp_path / "extension"
    extensions.mkdir()
    (extensions / "postgis.control").touch()
    if pgvector:
        (extensions / "vector.control").write_text(f"comment = 'vectors'\ndefault_version = '{pgvector}'\n")
    for name in ("postgres", "initdb", "pg_ctl", "psql", "pg_dump", "pg_restore", "pg_config"):
        says = tmp_path if name == "pg_config" else f"postgres (PostgreSQL) {version} (Ubuntu {version}-1)"
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(ServerError, match=problem):
        examine(tmp_path)
    assert find([tmp_path]) is None


@pytest.mark.skipif(not shutil.which("apt-get"), reason="there is no apt-get")
def test_install_that_fails_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSLOC_DEB_MIRROR", f"file:{tmp_path}/nowhere")
    with pytest.raises(ServerError, match=r"could not be installed \(E: .*RSLOC_DATABASE_URL") as error:
        packages.install(tmp_path, Silent())
    assert "\n" not in str(error.value)
    assert packages.record(tmp_path) is None


def test_the_users_own_server_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", "postgresql+psycopg://me:secret@127.0.0.1:1/mine")
    assert server.database_url() == "postgresql://me:secret@127.0.0.1:1/mine"
    done = _rsloc("db", "status")
    assert done.returncode == 1
    assert "cannot reach the database 127.0.0.1:1/mine" in done.stderr
    assert "secret" not in done.stderr + done.stdout
    monkeypatch.setenv("RSLOC_DATABASE_URL", "mysql://me@127.0.0.1/mine")
    with pytest.raises(ServerError, match="expected postgresql://"):
        server.database_url()


def test_status(fresh_home: Path) -> None:
    before = server.status()
    assert (before["server"], before["running"], before["home"]) == ("none", False, str(fresh_home))
    url = server.database_url()
    done = _rsloc("db", "status", "--json")
    found = json.loads(done.stdout)
    assert (found["server"], found["running"], found["schema"]) == ("embedded", True, None)
    assert all(found[name] for name in ("postgresql", "postgis", "pgvector", "proj", "proj_database", "data_bytes"))
    with connect(url) as conn:
        vacuum_safe = server.pgvector_version(conn) >= server.SAFE_VACUUM
    assert any("vacuum" in warning for warning in found["warnings"]) is not vacuum_safe
    assert any("db upgrade" in warning for warning in found["warnings"])
    assert (fresh_home / "password").read_text().strip() not in done.stdout + _rsloc("db", "status").stdout
    assert _rsloc("db", "stop").stdout == "stopped\n"
    after = server.status()
    assert (after["server"], after["running"], after["postgis"]) == ("embedded", False, None)


def test_pgvector_version_of_a_database_without_it(home: Path) -> None:
    url = server.database_url()
    with connect(url) as conn:
        assert server.pgvector_version(conn) >= (0, 7)
    with (
        connect(url.rsplit("/", 1)[0] + "/postgres") as conn,
        pytest.raises(SchemaError, match="lacks the extension vector"),
    ):
        server.pgvector_version(conn)
