"""Ingest and localize by Dask workers in network namespaces of their own, one of which loses its network midway.

    sudo python benchmarks/namespaces.py out/small/Gallery/galleryL15.db out/small/RSimages/present

Makes a bridge and two namespaces (which it removes at the end), a server of its own on the bridge's address beside a
scheduler, and a worker in each namespace. Of the two localizations the second one loses a worker: its link is taken
down once a query is done. Prints seconds and whether answers are the same. Needs root, ``ip`` and the embedded server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import rsloc_db
from rsloc_db.config import settings
from rsloc_db.db import schema
from rsloc_db.db.server.cluster import Cluster
from rsloc_db.db.server.programs import examine
from rsloc_db.types import Silent

BRIDGE, HOST, SITES = "rsloc-br", "10.77.0.1", {"rsloc-a": "10.77.0.11", "rsloc-b": "10.77.0.12"}
WORKER_TTL = "15s"
"""After this silence the scheduler gives a worker's jobs to another; Dask's own default is five minutes."""


class Cut(Silent):
    """Takes a namespace's link down at the first query that is done."""

    done = False

    def advance(self, steps: int = 1) -> None:
        """Cut, once."""
        if not self.done:
            self.done = True
            _run("ip", "link", "set", "rsloc-a", "down")


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


@contextmanager
def _network() -> Iterator[None]:
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        _run("ip", "addr", "add", f"{HOST}/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for name, address in SITES.items():
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "link", "set", name, "master", BRIDGE, "up")
            _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in SITES:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)


@contextmanager
def _server() -> Iterator[str]:
    """Yield the URL of a server of its own that the namespaces can reach."""
    programs = examine(Path(Cluster(settings().home.resolve()).memory["programs"]))
    home = Path(tempfile.mkdtemp(prefix="rsloc-namespaces-"))
    home.chmod(0o755)
    cluster = Cluster(home)
    try:
        with cluster.locked():
            cluster.create(programs)
            (cluster.data / "local.conf").write_text(f"listen_addresses = '127.0.0.1,{HOST}'\n")
            cluster.account.own(cluster.data / "local.conf", 0o600)
            with (cluster.data / "pg_hba.conf").open("a") as file:
                file.write("host all all 10.77.0.0/24 scram-sha-256\n")
            port = cluster.start(programs)
        yield cluster.url(port).replace("127.0.0.1", HOST)
    finally:
        cluster.stop(programs)
        shutil.rmtree(home)


@contextmanager
def _process(*words: str) -> Iterator[None]:
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": WORKER_TTL}
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def main() -> None:
    """Run it."""
    source, queries = sys.argv[1:]
    dask, scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler"], f"tcp://{HOST}:8786"
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "1", "--no-dashboard"]
    with ExitStack() as stack:
        stack.enter_context(_network())
        url = stack.enter_context(_server())
        schema.upgrade(url)
        stack.enter_context(_process(*dask, "--host", HOST, "--no-dashboard"))
        time.sleep(3)
        for name in SITES:
            stack.enter_context(_process("ip", "netns", "exec", name, *worker))
        time.sleep(8)
        summary = rsloc_db.ingest(source, url=url, scheduler=scheduler)
        print(f"ingest: {summary.added:,} tiles, {summary.embedded:,} windows in {summary.seconds:.0f} s")
        answers = []
        for name, bar in (("both", Silent()), ("one is cut off", Cut())):
            started = time.monotonic()
            found = rsloc_db.localize(
                queries, url=url, scheduler=scheduler, overwrite=True, truth=False, progress=bar
            ).queries
            answers.append(found)
            print(f"localize, {name}: {len(found)} queries in {time.monotonic() - started:.0f} s", flush=True)
        print("answers are the same" if answers[0] == answers[1] else "answers are DIFFERENT")


if __name__ == "__main__":
    main()
