"""One PostgreSQL cluster in a folder of its own: made, started, watched and stopped.

It listens on loopback only, asks everybody for a password (scram-sha-256) and never trusts. What the home holds:
``data/`` the cluster, ``password`` (0600), ``server.json`` (port and programs of the last start), ``postgres.log``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from rsloc_db.db.server import tuning
from rsloc_db.db.server.account import Account, account_for
from rsloc_db.db.server.programs import Programs
from rsloc_db.errors import ServerError
from rsloc_db.types import Json

NAME = "rsloc"
"""The cluster's superuser and its database."""

FIRST_PORT = 15432
PORTS = 200
START_TIMEOUT_S = 600
"""Recovery after a crash reads at most max_wal_size again, which can take minutes on a slow disk."""

ORPHANS_TIMEOUT_S = 60
"""How long sessions of a killed server may take to notice, before a start gives up."""

HBA = "# Written by rsloc-db.\nhost all all 127.0.0.1/32 scram-sha-256\n"
INCLUDES = (
    "\ninclude_if_exists = 'rsloc.conf'  # written by rsloc-db at every start\ninclude_if_exists = 'local.conf'\n"
)


@dataclass(frozen=True)
class Cluster:
    """The cluster in a home, there or not."""

    home: Path

    @property
    def data(self) -> Path:
        """The data folder; only its owner can enter it."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.home / "postgres.log"

    @property
    def password_file(self) -> Path:
        """The superuser's password, readable by its owner alone."""
        return self.home / "password"

    @property
    def account(self) -> Account:
        """Whom the server runs as."""
        return account_for(self.data)

    @property
    def major(self) -> int | None:
        """PostgreSQL's major version of the cluster, or None where there is none yet."""
        version = self.data / "PG_VERSION"
        return int(version.read_text()) if version.exists() else None

    @property
    def memory(self) -> Json:
        """What was noted at the last start: ``port`` and ``programs``."""
        path = self.home / "server.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from installing, starting or stopping meanwhile; the kernel frees a dead one's lock."""
        there = next(path for path in (self.home, *self.home.parents) if path.exists())
        self.account.require_passable(there)
        _make_passable(self.home)
        with (self.home / "lock").open("a") as file:
            flock(file, LOCK_EX)
            yield

    def port(self) -> int | None:
        """Return the port of the running server, or None where it does not run or is not ready yet."""
        lines = self._server_lines()
        return int(lines[3]) if len(lines) >= 8 and lines[7].strip() == "ready" else None

    def settle(self) -> None:
        """Wait while a server that another process left starting or stopping goes on with it."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._server_lines() and self.port() is None and time.monotonic() < deadline:
            time.sleep(0.1)

    def url(self, port: int) -> str:
        """Return the database's URL with its password."""
        return f"postgresql://{NAME}:{self.password_file.read_text().strip()}@127.0.0.1:{port}/{NAME}"

    def create(self, programs: Programs) -> None:
        """Make the cluster and its database beside their place and rename them when whole."""
        account = self.account
        new = self.home / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        account.own(new, 0o700)
        # Byte order sorts the same on every machine for ever, so no index breaks when a C library changes.
        words = ["--username", NAME, "--auth=reject", "--encoding=UTF8", "--no-locale", "--no-instructions"]
        done = account.run([programs.folder / "initdb", "--pgdata", new, *words])
        if done.returncode:
            raise ServerError(f"no cluster could be made in {self.home}: {_last_line(done.stdout)}")
        (new / "pg_hba.conf").write_text(HBA)
        with (new / "postgresql.conf").open("a") as file:
            file.write(INCLUDES)
        self._single_user(programs, new, f"create database {NAME}")
        self.password_file.unlink(missing_ok=True)  # of a cluster that was here before
        new.rename(self.data)

    def start(self, programs: Programs) -> int:
        """Start the server, which must not run, and return its port. The caller holds the lock."""
        self._forget_foreign_pid()
        self._require_password(programs)
        port, deadline = _free_port(self.memory.get("port")), time.monotonic() + ORPHANS_TIMEOUT_S
        while (said := self._try_start(programs, port)) is not None:
            if "pre-existing shared memory block" in said and time.monotonic() < deadline:
                time.sleep(0.5)  # sessions of a killed server still end
            elif "Address already in use" in said and time.monotonic() < deadline:
                port = _free_port(port + 1)
            else:
                raise ServerError(f"the server did not start: {_last_line(said)} (all of it in {self.log})")
        _write(self.home / "server.json", json.dumps({"port": port, "programs": str(programs.folder)}), 0o644)
        return port

    def stop(self, programs: Programs) -> None:
        """Stop the running server; sessions are ended, their open transactions undone."""
        done = self._control(programs, "stop", "--mode=fast")
        if done.returncode:
            raise ServerError(f"the server did not stop: {_last_line(done.stdout)} (see {self.log})")

    def _try_start(self, programs: Programs, port: int) -> str | None:
        """Start once; return None, or what the server said when it failed."""
        account = self.account
        conf = self.data / "rsloc.conf"
        conf.write_text(tuning.conf(port, programs.pgvector))
        account.own(conf, 0o600)
        self.log.touch()
        account.own(self.log, 0o600)
        begin = self.log.stat().st_size
        done = self._control(programs, "start", f"--log={self.log}")
        if done.returncode == 0:
            return None
        with self.log.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace") or done.stdout

    def _control(self, programs: Programs, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        wait = ["--wait", f"--timeout={START_TIMEOUT_S}"]
        return self.account.run([programs.folder / "pg_ctl", verb, f"--pgdata={self.data}", *wait, *options])

    def _server_lines(self) -> list[str]:
        """Return the lines of postmaster.pid, or none where no server of this cluster lives.

        The file outlives a crash, and after a reboot its number may be another program's: the server is the process
        whose words name the data folder.
        """
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            words = Path(f"/proc/{int(lines[0])}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return []
        return lines if os.fsencode(self.data) in words else []

    def _forget_foreign_pid(self) -> None:
        """Remove a left-over postmaster.pid whose number another program has by now.

        PostgreSQL would take that program for a server. It still refuses to start while a session of the old server
        lives, because that holds the shared memory which belongs to the data folder.
        """
        path = self.data / "postmaster.pid"
        number = path.read_text().partition("\n")[0].strip() if path.exists() else ""
        if number and Path(f"/proc/{number}").exists() and not self._server_lines():
            path.unlink()

    def _require_password(self, programs: Programs) -> None:
        """Set a new password where the file is missing, as in a new cluster."""
        if not self.password_file.exists():
            password = secrets.token_urlsafe(24)
            self._single_user(programs, self.data, f"alter role {NAME} password '{password}'")
            _write(self.password_file, password + "\n", 0o600)

    def _single_user(self, programs: Programs, data: Path, statement: str) -> None:
        """Run a statement without a server; it travels on standard input, where nobody can read it."""
        done = self.account.run([programs.folder / "postgres", "--single", "-D", data, "-j", "postgres"], statement)
        if done.returncode or "ERROR:" in done.stdout:
            raise ServerError(f"the cluster could not be set up: {_last_line(done.stdout)}")


def _make_passable(folder: Path) -> None:
    """Make a folder and its missing parents so that the server's user can enter, whatever the umask is."""
    for path in reversed([folder, *folder.parents]):
        if not path.exists():
            path.mkdir(exist_ok=True)
            path.chmod(0o755)


def _free_port(wanted: int | None) -> int:
    """Return a free port of the loopback address: the one wanted if it is free."""
    candidates: list[int] = [wanted] if wanted else []
    for port in candidates + list(range(FIRST_PORT, FIRST_PORT + PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError(f"no port between {FIRST_PORT} and {FIRST_PORT + PORTS - 1} is free on 127.0.0.1")


def _write(path: Path, text: str, mode: int) -> None:
    """Write a small file whole or not at all."""
    part = path.with_name(f".{path.name}.new")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.chmod(mode)
    part.rename(path)


def _last_line(text: str) -> str:
    """Return the line that tells the cause: the last error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it said nothing"]
    return next((line for line in reversed(lines) if "FATAL:" in line or "rror:" in line), lines[-1])
