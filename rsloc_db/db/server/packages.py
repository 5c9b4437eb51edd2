"""A private PostgreSQL from Debian's packages: no root, no Docker, no compiler.

The packages' own C library and loader come along, so the machine's own are not used and its release does not matter.
Needs apt-get, dpkg-deb and a Debian mirror among apt's sources, on x86-64. The caller holds the home's lock.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from rsloc_db.config import settings
from rsloc_db.errors import ServerError
from rsloc_db.types import Json, Progress

RELEASE = "trixie"
MAJOR = 17
PACKAGES = f"""
postgresql-{MAJOR} postgresql-client-{MAJOR} postgresql-{MAJOR}-pgvector
postgresql-{MAJOR}-postgis-3 postgresql-{MAJOR}-postgis-3-scripts proj-data
libaudit1 libbrotli1 libc6 libcap-ng0 libcap2 libcom-err2 libcurl3t64-gnutls libdeflate0 libffi8 libgcc-s1 libgeos-c1t64
libgeos3.13.1 libgmp10 libgnutls30t64 libgssapi-krb5-2 libhogweed6t64 libicu76 libidn2-0 libjbig0 libjpeg62-turbo
libjson-c5 libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 libldap2 liblerc4 liblz4-1 liblzma5 libnettle8t64
libnghttp2-14 libnghttp3-9 libngtcp2-16 libngtcp2-crypto-gnutls8 libp11-kit0 libpam0g libpq5 libproj25 libprotobuf-c1
libpsl5t64 libreadline8t64 librtmp1 libsasl2-2 libsharpyuv0 libsqlite3-0 libssh2-1t64 libssl3t64 libstdc++6 libsystemd0
libtasn1-6 libtiff6 libtinfo6 libunistring5 libwebp7 libxml2 libxxhash0 libzstd1 zlib1g
""".split()
"""What the server loads, closed under the libraries' needs; drivers for rasters, 3D and JIT are left out."""

UNUSED = (
    "etc",
    "var",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/lib/x86_64-linux-gnu/gconv",
    f"usr/lib/postgresql/{MAJOR}/lib/bitcode",
    f"usr/share/postgresql/{MAJOR}/man",
)
KEYRINGS = tuple(
    Path("/usr/share/keyrings") / name for name in ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")
)
ADVICE = "use docker-compose.yml, or set RSLOC_DATABASE_URL to a PostgreSQL that has PostGIS and pgvector >= 0.7"
WRAPPER = """\
#!/bin/sh
here=$(CDPATH= cd -P "$(dirname "$0")" && pwd)
usr=$here/../../../..
program=${0##*/}
# PostGIS falls back silently to poorer transforms where PROJ finds no database.
[ "$program" = postgres ] && export PROJ_DATA="$usr/share/proj"
libraries=$usr/lib/x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$libraries" \\
  --argv0 "$here/$program" "$here/../elf/$program" "$@"
"""


def folder(home: Path) -> Path:
    """Return the folder of the private software, there or not."""
    return home / f"pg{MAJOR}-{RELEASE}"


def programs(home: Path) -> Path:
    """Return the folder of the private PostgreSQL's programs, there or not."""
    return folder(home) / f"usr/lib/postgresql/{MAJOR}/bin"


def record(home: Path) -> Json | None:
    """Return when the private software was installed and the version of each package; None unless it is complete."""
    path = folder(home) / "packages.json"
    return dict(json.loads(path.read_text())) if path.exists() else None


def install(home: Path, progress: Progress) -> Path:
    """Fetch and unpack the packages unless that is done, and return the folder of the programs.

    All is made in a folder of its own and renamed when whole: what a killed install left is thrown away by the next.

    Raises:
        ServerError: this machine cannot, in one line that says what to do instead.
    """
    if record(home) is None:
        _require_apt()
        work = home / ".install"
        shutil.rmtree(work, ignore_errors=True)
        progress.note("fetching PostgreSQL, PostGIS and pgvector (about 70 MB) ...")
        debs = _download(work / "apt")
        _unpack(debs, work / "root")
        _finish(work / "root", debs)
        shutil.rmtree(folder(home), ignore_errors=True)
        (work / "root").rename(folder(home))
        shutil.rmtree(work)
    return programs(home)


def _require_apt() -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise ServerError(f"no embedded server for {platform.system()} on {platform.machine()}: {ADVICE}")
    missing = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
    if missing:
        raise ServerError(f"no embedded server without {' and '.join(missing)} (Debian's): {ADVICE}")


def _mirror() -> str:
    """Return the Debian mirror that this machine's apt already uses."""
    if mirror := settings().deb_mirror:
        return mirror
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"]
    for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
        origin, label, uri = line.split("|", 2)
        if origin == label == "Debian":
            return uri
    # Before the first `apt-get update` apt knows no origins, but tells the addresses all the same.
    command[3] = "$(REPO_URI)"
    uris = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    for uri in uris:
        if uri.rstrip("/").endswith("/debian"):
            return uri
    raise ServerError(f"no Debian mirror among apt's sources: set RSLOC_DEB_MIRROR to one, or {ADVICE}")


def _download(work: Path) -> list[Path]:
    """Fetch the packages through an apt state of our own; apt checks the archive's signature and every hash."""
    for name in ("lists/partial", "cache/archives/partial", "debs"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    keyring = next((f" signed-by={path}" for path in KEYRINGS if path.exists()), "")
    (work / "sources.list").write_text(f"deb [arch=amd64{keyring}] {_mirror()} {RELEASE} main\n")
    options = {
        "Dir::State": work,
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": 3,
        "Debug::NoLocking": 1,
    }
    apt = ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    _run([*apt, "update"], work)
    _run([*apt, "download", *PACKAGES], work / "debs")
    return sorted((work / "debs").glob("*.deb"))


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if line.startswith("E:")), done.stderr.strip()[-200:])
        raise ServerError(f"the embedded server could not be installed ({said}); try again, or {ADVICE}")


def _unpack(debs: list[Path], root: Path) -> None:
    root.mkdir()
    for deb in debs:
        _run(["dpkg-deb", "--extract", str(deb), str(root)], root)
    for name in UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
    root.chmod(0o755)


def _finish(root: Path, debs: list[Path]) -> None:
    """Do what the packages' own scripts would, wrap the programs, and write the record that makes it complete."""
    extensions = root / f"usr/share/postgresql/{MAJOR}/extension"
    (extensions / "postgis.control").symlink_to("postgis-3.control")
    home = root / f"usr/lib/postgresql/{MAJOR}"
    (home / "elf").mkdir()
    for program in (home / "bin").iterdir():
        if not program.is_symlink() and program.read_bytes()[:4] == b"\x7fELF":
            program.rename(home / "elf" / program.name)
            program.write_text(WRAPPER)
            program.chmod(0o755)
    (home / "elf").chmod(0o755)
    versions = dict(deb.name.removesuffix(".deb").replace("%3a", ":").split("_")[:2] for deb in debs)
    installed_at = datetime.now(UTC).isoformat(timespec="seconds")
    (root / "packages.json").write_text(json.dumps({"installed_at": installed_at, "packages": versions}, indent=1))
    (root / "packages.json").chmod(0o644)
