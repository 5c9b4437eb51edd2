"""The user a server runs as. PostgreSQL refuses root, so root hands it to another; anybody else runs it themselves."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsloc_db.errors import ServerError

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Account:
    """A user of the system."""

    name: str
    uid: int
    gid: int

    def run(self, command: Sequence[str | Path], text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program as this user, with ``text`` on its standard input; stdout and stderr come back as one."""
        other: dict[str, Any] = {}
        if self.uid != os.geteuid():
            other = {"user": self.uid, "group": self.gid, "extra_groups": []}
        try:
            done: subprocess.CompletedProcess[str] = subprocess.run(
                command,
                input=text or "",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd="/",
                env=ENVIRONMENT,
                check=False,
                **other,
            )
        except OSError as error:
            raise ServerError(f"cannot run {command[0]} as user {self.name}: {error.strerror}") from error
        return done

    def require_passable(self, folder: Path) -> None:
        """Raise ServerError unless this user can enter a folder."""
        for path in reversed([folder, *folder.parents]):
            if self.run(["test", "-x", path]).returncode:
                raise ServerError(
                    f"the server runs as user {self.name}, who cannot enter {path}: "
                    "set RSLOC_HOME to a folder that all may enter, such as /var/lib/rsloc-db"
                )

    def own(self, path: Path, mode: int) -> None:
        """Give a file or folder to this user."""
        path.chmod(mode)
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)


def account_for(data: Path) -> Account:
    """Return the owner of a data folder, or who is to own it where it is not there yet."""
    if os.geteuid() != 0:
        return Account(_name(os.geteuid()), os.geteuid(), os.getegid())
    if data.exists():
        owner = data.stat()
        return Account(_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerError("the server cannot run as root, and there is no user postgres or nobody: add one of them")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
