"""`rsloc-db serve` as a process, and the rights of those who read."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from lands import LEVEL, cut

from rsloc_db.db.readers import prepare_reader, reader_pool, reader_url


@contextmanager
def serving(url: str, home: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", "from rsloc_db.cli import main; main()", "serve", "--port", str(port), *options],
        env={**os.environ, "RSLOC_DATABASE_URL": url, "RSLOC_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield wait_for(f"http://127.0.0.1:{port}", process), process
    finally:
        process.kill()
        process.communicate()


def wait_for(address: str, process: subprocess.Popen[str]) -> str:
    while process.poll() is None:
        try:
            httpx.get(f"{address}/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return address
    raise AssertionError(process.communicate())


def children(process: subprocess.Popen[str]) -> list[int]:
    """Processes that a process has started; Linux tells them by thread."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_a_service_that_is_killed_leaves_no_process(answered_url: str, tmp_path: Path) -> None:
    image = cut(at=(750.0, 850.0)).write_bare(tmp_path / "image.png").read_bytes()
    with serving(answered_url, tmp_path) as (address, process):
        form = {"level": LEVEL, "rotation": "free", "gsd_factor": 4}
        httpx.post(f"{address}/api/jobs", files={"file": ("image.png", image)}, data=form).raise_for_status()
        while not (workers := children(process)):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{worker}/cwd").exists() for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_service_for_others_makes_a_token_and_ends_when_told(answered_url: str, tmp_path: Path) -> None:
    with serving(answered_url, tmp_path, "--host", "0.0.0.0") as (address, process):
        files = {"file": ("image.png", b"\x89PNG\r\n\x1a\n")}
        assert httpx.post(f"{address}/api/jobs", files=files).status_code == 401
        process.send_signal(signal.SIGTERM)
        said, complaints = process.communicate(timeout=60)
        assert said.startswith("http://0.0.0.0:")
        assert complaints.startswith("token for writing: ")
        assert "Traceback" not in complaints


def test_a_user_without_rights_still_reads_only(answered_url: str) -> None:
    """Where no role can be made, transactions are read-only all the same."""
    with psycopg.connect(answered_url) as conn:
        conn.execute("DROP ROLE IF EXISTS rsloc_test_poor")
        conn.execute("CREATE ROLE rsloc_test_poor LOGIN PASSWORD 'poor'")
        conn.execute("GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO rsloc_test_poor")
    parts = urlsplit(answered_url)
    poor = parts._replace(netloc=f"rsloc_test_poor:poor@{parts.netloc.rsplit('@')[-1]}").geturl()
    try:
        assert prepare_reader(poor) is False
        pool = reader_pool(reader_url(poor, timeout_s=5, as_role=False))
        with pool.connection() as conn:
            assert conn.execute("SELECT count(*) FROM gallery").fetchone() == (1,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                conn.execute("DELETE FROM run")
            conn.rollback()
        pool.close()
    finally:
        with psycopg.connect(answered_url) as conn:
            conn.execute("DROP OWNED BY rsloc_test_poor")
            conn.execute("DROP ROLE rsloc_test_poor")


def test_a_slow_statement_is_cancelled(answered_url: str) -> None:
    pool = reader_pool(reader_url(answered_url, timeout_s=0.1, as_role=prepare_reader(answered_url)))
    with pool.connection() as conn, pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute("SELECT pg_sleep(5)")
    pool.close()


GDAL = """
import json, sys, pyogrio
source, lon, lat = "OAPIF:" + sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
names = [name for name, _ in pyogrio.list_layers(source)]
meta, _, shapes, _ = pyogrio.raw.read(source, layer="localizations", bbox=(lon, lat, lon + 0.001, lat + 0.001))
pages = pyogrio.raw.read(source, layer="votes")[2]
print(json.dumps([names, [*meta["fields"]], len(shapes), len(pages)]))
"""


def test_gdal_reads_the_layers_over_the_network(service_address: str) -> None:
    """By its driver for OGC API Features, which knows nothing of this package; in a process of its own, as it would
    keep this one's threads from answering."""
    pyogrio = pytest.importorskip("pyogrio")
    if "OAPIF" not in pyogrio.list_drivers():
        pytest.skip("this GDAL has no driver OAPIF")
    lon, lat = cut().center
    arguments = [f"{service_address}/ogc", str(lon), str(lat)]
    done = subprocess.run([sys.executable, "-c", GDAL, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    names, fields, found, votes = json.loads(done.stdout)
    assert {"localizations", "ellipses", "cliques"} <= {*names}
    assert {"verdict", "confidence", "run_id"} <= {*fields}
    # other tests may have had it found as well
    assert found >= 1
    # more than one page: GDAL follows the links
    assert votes == httpx.get(f"{service_address}/ogc/collections/votes/items?limit=1").json()["numberMatched"] > 1000
