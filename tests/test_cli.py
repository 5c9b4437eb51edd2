"""The command line as a newcomer meets it: one line for an error, exit codes, colours and progress in their places."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import lands
import numpy as np
import pytest
from commands import hear_interrupts, run
from rasterio.transform import Affine
from rasters import write
from world import HOME, World

import rsloc_db
from rsloc_db.db.connection import Connection

PROGRAM = [sys.executable, "-c", "from rsloc_db.cli import main; main()"]


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that was written to stderr; nothing went to stdout."""
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nonsense"], "no such command 'nonsense'; see `rsloc-db --help`"),
        (["db", "psq"], "Did you mean 'psql'? See `rsloc-db db --help`"),
        (["match", "a.png"], "missing argument 'b'; see `rsloc-db match --help`"),
        (["ingest", "a.db", "--nowhere"], "--nowhere"),
        (["evaluate", "seven"], "see `rsloc-db evaluate --help`"),
        (["localize", "a.png", "--pixels", "inches"], "expected mercator or ground or degrees, found 'inches'"),
        (["match", "a.png", "b.png"], "no such file: a.png"),
        (["queries", "make", "a.tif", "--out", "made"], "no such file: a.tif"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_one_line_and_exit_code_2(
    words: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words) == 2
    assert expected in _error(capsys)


@pytest.mark.parametrize("words", [[], ["db"], ["tiles"], ["queries"], ["truth"]], ids=" ".join)
def test_no_words_show_the_help(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, *words)
    shown = capsys.readouterr()
    assert "Usage" in shown.out + shown.err
    assert "error:" not in shown.err


def test_a_server_that_is_not_there_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RSLOC_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:1/nothing")
    assert run(monkeypatch, "galleries") == 1
    line = _error(capsys)
    assert "127.0.0.1:1/nothing" in line
    assert "secret" not in line


def test_a_mistake_of_ours_is_one_line_unless_debug_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(run: int | None) -> None:
        raise ZeroDivisionError(f"of run {run}")

    monkeypatch.setattr(rsloc_db, "evaluate", broken)
    assert run(monkeypatch, "evaluate", "7") == 1
    assert "ZeroDivisionError: of run 7; `rsloc-db --debug ...`" in _error(capsys)
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, "--debug", "evaluate", "7")


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"rsloc-db {rsloc_db.__version__}\n"


def test_exit_codes_and_completion_are_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    for expected in ("--install-completion", "Exit codes: 0 done; 1", "130 interrupted", "rsloc-db demo"):
        assert expected in " ".join(shown.split())


def test_help_comes_at_once() -> None:
    heavy = {"cv2", "psycopg", "pydantic", "pyproj", "rasterio", "scipy", "shapely", "sqlalchemy"}
    code = f"import sys, rsloc_db.cli; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_progress_goes_to_stderr_and_quiet_silences_it(
    tmp_path: Path,
) -> None:
    north_up = Affine(lands.NOMINAL_M, 0, 55_000, 0, -lands.NOMINAL_M, 5_950_000)
    source = write(
        tmp_path / "map.tif", np.moveaxis(lands.picture(lands.SEED, 0), -1, 0), crs="EPSG:3857", transform=north_up
    )
    words = ("queries", "make", source, "--count", "2", "--size", "256", "--json")
    for number, quiet in enumerate(([], ["--quiet"])):
        done = subprocess.run(
            [*PROGRAM, *quiet, *map(str, words), "--out", str(tmp_path / str(number))],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout)["queries"] == 2
        assert ("make queries" in done.stderr) is not bool(quiet)
        assert "\x1b[" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_colours_are_for_terminals_alone() -> None:
    plain = subprocess.run([*PROGRAM, "nonsense"], capture_output=True, text=True, check=False)
    assert "\x1b[" not in plain.stderr
    master, slave = pty.openpty()
    shown = subprocess.run(
        [*PROGRAM, "nonsense"], stderr=slave, env=os.environ | {"TERM": "xterm"}, check=False, stdout=subprocess.PIPE
    )
    os.close(slave)
    written = os.read(master, 65_536)
    os.close(master)
    assert shown.returncode == 2
    assert b"\x1b[" in written


def test_an_interrupt_is_exit_code_130_and_one_line(tmp_path: Path) -> None:
    out = tmp_path / "land"
    words = ["synth", str(out), "--tiles", "100000", "--workers", "1"]
    with subprocess.Popen(
        [*PROGRAM, *words], stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hear_interrupts
    ) as process:
        while process.poll() is None and not out.exists():
            time.sleep(0.05)
        # to all of its processes, as a terminal does
        os.killpg(process.pid, signal.SIGINT)
        try:
            _, told = process.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "error: interrupted" in told
    assert "Traceback" not in told


def test_who_closes_the_pipe_is_not_told_of_it() -> None:
    with subprocess.Popen(
        [*PROGRAM, "tiles", "info", "15", "16158", "12025"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_gallery_of_another_name_is_told_at_once(
    land_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = lands.cut(shape=(64, 64)).write(tmp_path / "scene.tif")
    assert run(monkeypatch, "localize", scene, "--gallery", "lnad") == 2
    assert "no gallery is named 'lnad': there are land" in _error(capsys)


def test_without_truth_evaluate_says_how_to_load_it(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(conn)
    query = world.query("a.tif")
    world.answer(query, "accepted", HOME, 0.9)
    conn.commit()
    assert run(monkeypatch, "evaluate") == 0
    told = capsys.readouterr().out
    assert "`rsloc-db truth load PATH`" in told
    assert "Who counts" in told
    assert "Seconds a query" in told
    assert "located within" not in told
    world.truth(query, HOME)
    conn.commit()
    assert run(monkeypatch, "evaluate") == 0
    assert "located within 5 m" in capsys.readouterr().out
