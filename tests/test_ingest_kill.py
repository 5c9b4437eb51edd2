"""Ingest as a process of its own: killed, started from a bare script, and watched for memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import hear_interrupts
from killed import KILLED, wait_until_alone
from sources import COLUMN, DATE, LEVEL, ROW, square, write_ge_tiles

import rsloc_db
from rsloc_db.db import galleries
from rsloc_db.db.connection import Connection

SIDE = 18
"""Cells an axis: several blocks of windows."""

MEMORY = """
import json, resource, sys
import rsloc_db
from rsloc_db.stages import ingest_tiles
ingest_tiles.BATCH = 16
rsloc_db.ingest(sys.argv[1], workers=1, windows=(1,))
print(json.dumps([resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]))
"""


def processes_of_group(group: int) -> list[str]:
    found = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(None, 2) for line in found.stdout.splitlines()]
    return [line[2] for line in lines if int(line[0]) == group and not line[1].startswith("Z")]


@pytest.mark.parametrize(
    ("module", "function", "call", "tiles", "embedded"),
    [
        ("galleries", "add_tiles", 1, 0, 0),
        ("galleries", "add_tiles", 5, 4 * 32, 0),
        ("embeddings", "add_vectors", 4, SIDE * SIDE, None),
        ("indexes", "complete_set", 1, SIDE * SIDE, SIDE * SIDE * 2),
    ],
)
def test_killed_ingest_resumes_without_loss_or_doubling(
    conn: Connection, tmp_path: Path, module: str, function: str, call: int, tiles: int, embedded: int | None
) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(SIDE))
    code = KILLED.format(module=module, function=function, call=call, source=str(source))
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        assert process.wait(120) == -signal.SIGKILL
    wait_until_alone(conn)
    made = [conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("tile", "tile_image")]
    assert made == [tiles, tiles]
    vectors = conn.execute("SELECT count(*) FROM embedding").fetchone()[0]
    assert vectors == embedded if embedded is not None else 0 < vectors < SIDE * SIDE * 2
    assert not conn.execute("SELECT 1 FROM gallery WHERE status = 'ready'").fetchone()
    conn.commit()

    summary = rsloc_db.ingest(source, workers=2)
    assert (summary.added, summary.embedded) == (SIDE * SIDE - tiles, SIDE * SIDE * 2 - vectors)
    (overview,) = galleries.list_galleries(conn)
    assert (overview.status, overview.tiles, overview.cells) == ("ready", SIDE * SIDE, SIDE * SIDE)
    assert conn.execute("SELECT count(*) FROM embedding").fetchone() == (SIDE * SIDE * 2,)
    assert processes_of_group(process.pid) == []  # the killed one's workers


def test_killed_replacement_leaves_the_old_gallery_and_resumes(conn: Connection, tmp_path: Path) -> None:
    rsloc_db.ingest(write_ge_tiles(tmp_path / "old.db", square(3)), name="land", workers=1)
    source = write_ge_tiles(tmp_path / "land.db", square(SIDE))
    code = KILLED.format(module="embeddings", function="add_vectors", call=3, source=str(source))
    code = code.replace("workers=2", "workers=2, replace=True")
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        assert process.wait(120) == -signal.SIGKILL
    wait_until_alone(conn)
    states = [(g.name, g.status, g.tiles) for g in galleries.list_galleries(conn)]
    assert states == [("land", "ready", 9), ("land (next)", "loading", SIDE * SIDE)]
    conn.commit()
    summary = rsloc_db.ingest(source, replace=True, workers=2)
    assert (summary.added, summary.embedded < SIDE * SIDE * 2) == (0, True)
    states = [(g.name, g.status, g.tiles) for g in galleries.list_galleries(conn)]
    assert states == [("land", "ready", SIDE * SIDE)]


def test_interrupted_ingest_ends_with_its_workers(conn: Connection, tmp_path: Path) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(SIDE))
    command = [sys.executable, "-c", "from rsloc_db.cli import main; main()", "ingest", str(source), "--workers", "2"]
    with subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, preexec_fn=hear_interrupts
    ) as process:
        while not conn.execute("SELECT 1 FROM embedding").fetchone():
            conn.commit()
            time.sleep(0.05)
        conn.commit()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) != 0
    assert processes_of_group(process.pid) == []
    assert rsloc_db.ingest(source, workers=2).tiles == {LEVEL: SIDE * SIDE}


def test_a_bare_script_can_ingest(conn: Connection, tmp_path: Path) -> None:
    source = write_ge_tiles(tmp_path / "land.db", square(2))
    script = tmp_path / "script.py"
    script.write_text(f"import rsloc_db\nprint(rsloc_db.ingest({str(source)!r}).added)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"


def test_memory_does_not_grow_with_the_gallery(database_url: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    data = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

    def peak_mb(name: str, side: int) -> list[float]:
        cells = [(COLUMN + x, ROW + y) for y in range(side) for x in range(side)]
        source = write_ge_tiles(tmp_path / name, [(LEVEL, x, y, DATE, data) for x, y in cells])
        command = [sys.executable, "-c", MEMORY, source]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [kb / 1024 for kb in json.loads(done.stdout)]

    small, large = peak_mb("small.db", 16), peak_mb("large.db", 40)
    imagery_mb = (40**2 - 16**2) * len(data) / 1e6
    assert imagery_mb > 100
    assert large[0] - small[0] < imagery_mb / 3
    assert large[1] - small[1] < imagery_mb / 3
