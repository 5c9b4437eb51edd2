"""Dask distributed as the worker processes of ingest and localize: on this machine, or on many.

A job is a batch whose result rests in the database, or is put there by the process that began the work; done twice it
changes nothing. So where a worker is lost, Dask gives its jobs to another, and that is all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from rsloc_db.errors import WorkerError
from rsloc_db.stages.workers import Result, code_version, one_thread

CONNECT_S = 10


@contextmanager
def dask_pool(scheduler: str, workers: int) -> Iterator[tuple[Executor, int]]:
    """Yield the workers of a Dask scheduler as an executor, and how many threads they have by now.

    Args:
        scheduler: its address, ``tcp://...`` or ``tls://...``; ``local`` starts ``workers`` processes here, ``local:N``
            so many.
        workers: processes of ``local``.

    Raises:
        WorkerError: Dask is not installed, the scheduler cannot be reached or has no workers, they have another version
            of this package, or several died of one job.
    """
    try:
        import distributed
    except ImportError as error:
        raise WorkerError("--scheduler needs Dask: pip install 'rsloc-db[dask]'") from error
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        with _client(distributed, scheduler, workers) as client:
            yield _Checked(client.get_executor(pure=False)), _prepared(client, scheduler)
    except distributed.scheduler.KilledWorker as error:
        raise WorkerError(f"workers died of one job again and again (is memory short?): {error}") from error
    except OSError as error:
        raise WorkerError(f"the Dask scheduler at {scheduler} cannot be reached: {error}") from error


@contextmanager
def _client(distributed: Any, scheduler: str, workers: int) -> Iterator[Any]:
    kind, _, count = scheduler.partition(":")
    if kind != "local":
        with distributed.Client(scheduler, timeout=CONNECT_S, set_as_default=False) as client:
            yield client
        return
    if count and not (count.isdigit() and int(count)):
        raise WorkerError(
            f"the scheduler is {scheduler!r}: expected local, local:N, tcp://HOST:PORT or tls://HOST:PORT"
        )
    processes = int(count) if count else workers
    quiet = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.ERROR}
    with (
        distributed.LocalCluster(n_workers=processes, threads_per_worker=1, processes=True, **quiet) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _prepared(client: Any, scheduler: str) -> int:
    """Make the workers ready, and return how many threads they have."""
    threads = int(sum(client.nthreads().values()))
    if not threads:
        raise WorkerError(
            f"the Dask scheduler at {scheduler} has no workers: start some with `dask worker {scheduler}`"
        )
    try:
        client.run(_ready, code_version())
    except (ImportError, AttributeError) as error:
        raise WorkerError(f"the workers of {scheduler} lack this version of rsloc-db: {error}") from error
    return threads


class _Checked(Executor):
    """An executor whose jobs are done by the code that asks for them alone, by workers that come late as well."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., Result], /, *args: object, **kwargs: object) -> Future[Result]:
        return self._pool.submit(partial(_checked, code_version(), function), *args, **kwargs)


def _checked(code: str, function: Callable[..., Result], *args: object, **kwargs: object) -> Result:
    _ready(code)
    return function(*args, **kwargs)


@cache
def _ready(code: str) -> None:
    """Make a worker ready, once, unless it has other code."""
    if code != code_version():
        raise WorkerError(f"a Dask worker has rsloc-db {code_version()}, expected {code}: install the same")
    one_thread()
