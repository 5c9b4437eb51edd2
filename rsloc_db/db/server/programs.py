"""PostgreSQL's programs: which folders of them can serve."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rsloc_db.errors import ServerError

MIN_MAJOR = 14
MIN_PGVECTOR = (0, 7)
"""The first pgvector with halfvec."""

NEEDED = ("postgres", "initdb", "pg_ctl", "psql", "pg_dump", "pg_restore")


@dataclass(frozen=True)
class Programs:
    """A folder of PostgreSQL's programs that has both extensions.

    Attributes:
        folder: where postgres, pg_ctl, psql and the others lie.
        major: PostgreSQL's major version.
        pgvector: the version of pgvector that a new database gets.
    """

    folder: Path
    major: int
    pgvector: tuple[int, ...]


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: "0.8.2" -> (0, 8, 2)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def examine(folder: Path) -> Programs:
    """Return the programs in a folder.

    Raises:
        ServerError: they cannot serve: one is missing, an extension is, or a version is too old.
    """
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        raise ServerError(f"{folder} lacks {', '.join(missing)}")
    major = _major(_say(folder / "postgres", "--version"))
    if major < MIN_MAJOR:
        raise ServerError(f"{folder} is PostgreSQL {major}, expected {MIN_MAJOR} or later")
    extensions = Path(_say(folder / "pg_config", "--sharedir")) / "extension"
    for name in ("postgis", "vector"):
        if not (extensions / f"{name}.control").exists():
            raise ServerError(f"{folder} has no extension {name}")
    pgvector = _default_version(extensions / "vector.control")
    if pgvector < MIN_PGVECTOR:
        raise ServerError(f"{folder} has pgvector {pgvector}, expected 0.7 or later (halfvec)")
    return Programs(folder, major, pgvector)


def local_folders() -> list[Path]:
    """Return where distributions put PostgreSQL's programs on this machine, the newest first."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    folders.sort(key=lambda path: version_tuple(re.sub(r"\D+", "", path.parent.name)), reverse=True)
    if config := shutil.which("pg_config"):
        folders.append(Path(_say(Path(config), "--bindir")))
    return folders


def find(folders: list[Path], major: int | None = None) -> Programs | None:
    """Return the first of some folders that can serve, of one major version if that is given."""
    for folder in folders:
        try:
            programs = examine(folder)
        except ServerError:
            continue
        if major in (None, programs.major):
            return programs
    return None


def _major(version: str) -> int:
    match = re.search(r"\(PostgreSQL\) (\d+)", version)
    return int(match[1]) if match else 0


def _default_version(control: Path) -> tuple[int, ...]:
    match = re.search(r"^default_version\s*=\s*'([^']+)'", control.read_text(), re.MULTILINE)
    return version_tuple(match[1]) if match else ()


def _say(program: Path, argument: str) -> str:
    try:
        done = subprocess.run([program, argument], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerError(f"{program} does not run here: {error}") from error
    return done.stdout.strip()
