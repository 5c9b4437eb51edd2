"""The house rules that no linter knows: which part may import which, who reads the environment, who sends SQL."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import rsloc_db

ROOT = Path(rsloc_db.__file__).parent
FLOORS = [
    {"cli"},
    {"demo", "service"},
    {"api", "image_match"},
    {"export", "query_sets", "synth", "tiles"},
    {"evaluation"},
    {"crops", "tile_sources"},
    {"stages"},
    {"db", "gallery", "models", "queries"},
    {"registration"},
    {"features"},
    {"matching", "published", "similarity"},
    {"correlation", "frames", "geometry", "imagery", "rims", "simulation", "synthetic", "terrain"},
    {"grids"},
    {"config"},
    {"errors", "types"},
]
"""Imports go down only: from a part to its own modules and to floors below."""
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem != "__init__")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Names of the modules of this package that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("rsloc_db.")}


def test_every_part_has_its_floor() -> None:
    assert {part_of(path) for path in FILES} - {"__main__"} <= FLOOR.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    here = part_of(path)
    for name in imports(path):
        there = name.split(".")[1]
        assert there not in FLOOR or there == here or FLOOR[there] > FLOOR[here], f"{path} imports {name}"


def test_the_localizer_never_imports_the_truth() -> None:
    allowed = {"evaluation", "cli"}
    readers = {part_of(path) for path in FILES if any("queries.truth" in name for name in imports(path))}
    assert readers <= allowed
    for path in (ROOT / "stages").glob("*.py"):
        assert "truth" not in re.sub(r'""".*?"""|#.*', "", path.read_text(), flags=re.DOTALL), path


def test_only_config_reads_the_environment() -> None:
    for path in FILES:
        if part_of(path) != "config":
            assert not re.search(r"os\.(environ\.get|environ\[|getenv)", path.read_text()), path


def test_only_db_sends_sql() -> None:
    for path in FILES:
        if part_of(path) not in ("db", "gallery"):  # galleries are SQLite files
            assert not re.search(r"\.(execute|executemany|copy)\(\s*f?[\"']", path.read_text()), path


def test_files_are_short() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in FILES if path.name != "tables.py"}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


@pytest.mark.parametrize("name", rsloc_db._API)
def test_the_python_api_is_there(name: str) -> None:
    assert callable(getattr(rsloc_db, name))
