"""Settings of the installation: the only reader of the environment."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rsloc_db.errors import RslocError


def default_home() -> Path:
    """Return the folder for the embedded server and caches when RSLOC_HOME is not set.

    As root this is /var/lib/rsloc-db: the server runs as another user, who cannot enter root's home.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/rsloc-db")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "rsloc-db"


def _cores() -> int:
    """Return the cores that this process may use; not every system tells, then those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """What the environment says; every variable begins with RSLOC_.

    Attributes:
        home: folder of the embedded server and of all caches (RSLOC_HOME).
        database_url: a PostgreSQL URL of the user's own server (RSLOC_DATABASE_URL); it replaces the embedded one.
        database_read_url: URL of a replica of it for the reads of localize (RSLOC_DATABASE_READ_URL).
        deb_mirror: a Debian mirror for the embedded server's packages (RSLOC_DEB_MIRROR; default: apt's own).
        token: what those who write to the service must send (RSLOC_TOKEN).
        workers: processes for ingest and localize (RSLOC_WORKERS; default: the cores this process may use).
    """

    model_config = SettingsConfigDict(env_prefix="RSLOC_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=default_home)
    database_url: SecretStr | None = None
    database_read_url: SecretStr | None = None
    deb_mirror: str | None = None
    token: SecretStr | None = None
    workers: int = Field(default_factory=_cores, ge=1)

    @cached_property
    def cache(self) -> Path:
        """Folder for files that can be made again."""
        return self.home / "cache"


def settings() -> Settings:
    """Read the environment now; cheap, so nothing keeps a stale copy.

    Raises:
        RslocError: a variable has a value that it cannot have.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"RSLOC_{first['loc'][0]}".upper()
        raise RslocError(f"the environment variable {name} is {first['input']!r}: {first['msg']}") from None
