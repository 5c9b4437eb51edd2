"""Workers: processes started without the caller's main module, ended with the caller, one thread each.

One worker alone is a thread of the caller's own process, which need not start first.

A process that has the machine for itself looks at several places at once instead (``in_threads``).
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread, local
from typing import Any, TypeVar

import cv2
from psycopg.errors import InFailedSqlTransaction
from threadpoolctl import threadpool_limits

import rsloc_db
from rsloc_db.db.connection import Connection, connect
from rsloc_db.db.galleries import watch_session
from rsloc_db.errors import ModelError, WorkerError
from rsloc_db.models import Embedder, embedder

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 4
"""Jobs for each thread of a cluster that may be under way or wait, so that workers that join later find some."""

MAX_THREADS = 4
"""Threads of a process at most: each holds maps of its own, a few hundred MB of large queries."""

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
"""What workers start with. Arrays come and go many times a second, and Linux (glibc) would take each one's memory back
and clear it anew, which takes a third of the default embedder's time: so much may be kept."""


_here = local()
"""What a worker's thread keeps: its connection."""


@dataclass(frozen=True, slots=True)
class Crew:
    """Workers: this process, others beside it, or those of other machines.

    Attributes:
        pool: takes functions of this package and what they work on.
        ahead: jobs that may be under way or wait.
    """

    pool: Executor
    ahead: int


@contextmanager
def crew(workers: int, scheduler: str | None = None) -> Iterator[Crew]:
    """Yield workers: ``workers`` processes of this machine, where one is this one itself, or those of a Dask scheduler.

    Raises:
        WorkerError: a worker died, or the scheduler cannot be reached.
    """
    if scheduler is None:
        with worker_pool(workers) if workers > 1 else _own_thread() as pool:
            yield Crew(pool, workers + 2)
    else:
        from rsloc_db.stages.cluster import dask_pool  # here, because Dask is optional

        with bare_start(), dask_pool(scheduler, workers) as (pool, threads):
            yield Crew(pool, AHEAD * threads)


class _Pool(ProcessPoolExecutor):
    """A pool whose processes, which start when jobs come, hear no interrupt while they start."""

    def submit(self, function: Callable[..., Result], /, *args: object, **kwargs: object) -> Future[Result]:
        # a terminal interrupts every process of a command: a worker that still imports would tell of it at length
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(function, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _own_thread() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread of this process, which computes as a worker would while the caller waits for the database."""
    held: list[dict[str, Any]] = []  # what the thread keeps ends with it, and its connection is to be closed after
    pool = ThreadPoolExecutor(1, initializer=lambda: held.append(vars(_here)))
    before = cv2.getNumThreads()
    try:
        with threadpool_limits(1):
            cv2.setNumThreads(1)
            yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(before)
        for conn in (each["conn"] for each in held if "conn" in each):
            conn.close()


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of worker processes; what is queued at an error or an interrupt is dropped.

    Raises:
        WorkerError: a worker died, e.g. for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    pool = _Pool(workers, mp_context=context, initializer=_begin)
    try:
        with bare_start():
            yield pool
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process died (is memory short? fewer --workers need less): run the command again to go on"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(
    pool: Executor, function: Callable[[Job], Result], jobs: Iterable[Job], ahead: int
) -> Iterator[tuple[Job, Result]]:
    """Yield each job with its result, in the jobs' order; at most ``ahead`` jobs are held, so memory stays flat."""
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    for job in jobs:
        waiting.append((job, pool.submit(function, job)))
        if len(waiting) >= ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def as_done(hands: Crew, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Yield the results of jobs as they come; at most ``ahead`` jobs are held."""
    rest = iter(jobs)
    waiting = {hands.pool.submit(function, job) for job in islice(rest, hands.ahead)}
    while waiting:
        done, waiting = wait_for(waiting, return_when=FIRST_COMPLETED)
        waiting |= {hands.pool.submit(function, job) for job in islice(rest, len(done))}
        for future in done:
            yield future.result()


def threads() -> int:
    """Return at how many places this process may look at once: one where it is a worker beside others."""
    return min(cv2.getNumThreads(), MAX_THREADS)


def in_threads(function: Callable[[Job], Result], jobs: Iterable[Job]) -> list[Result]:
    """Return the results of jobs, in order, by several ``threads``.

    Of several errors the one is raised that is no mere consequence of another's having ended the transaction that they
    share.
    """
    if threads() == 1:
        return [function(job) for job in jobs]
    with ThreadPoolExecutor(threads()) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        wait_for(futures, return_when=FIRST_EXCEPTION)
        errors = [error for future in futures if future.done() and (error := future.exception()) is not None]
        if errors:
            pool.shutdown(cancel_futures=True)
            raise min(errors, key=lambda error: isinstance(error, InFailedSqlTransaction))
        return [future.result() for future in futures]


def worker_connection(url: str) -> Connection:
    """Return the own connection of a worker's thread, in autocommit; it is opened once, and again where it was lost."""
    conn: Connection | None = getattr(_here, "conn", None)
    if conn is None or conn.closed or _here.url != url:
        if conn is not None:
            conn.close()
        _here.url, _here.conn = url, connect(url, autocommit=True)
        watch_session(_here.conn)
    found: Connection = _here.conn
    return found


@lru_cache(maxsize=1)
def worker_model(name: str, weights_hash: str) -> Embedder:
    """Return a model, loaded once.

    Raises:
        ModelError: its weights are others than those that the work was begun with.
    """
    model = embedder(name)
    if model.weights_hash != weights_hash:
        raise ModelError(f"the weights of model {name!r} are not those that the work began with: run it again")
    return model


@cache
def code_version() -> str:
    """Return the package's version and a hash of its code: a run is never continued by other code than began it."""
    folder = Path(rsloc_db.__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.sql")]):
        digest.update(path.read_bytes())
    return f"{rsloc_db.__version__}+{digest.hexdigest()[:8]}"


def _begin() -> None:
    """Prepare a worker: no interrupts of its own, no threads beside the other workers, gone when its parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one_thread()
    Thread(target=_end_with_parent, daemon=True).start()


def one_thread() -> None:
    """Let this process compute in one thread for each that calls: others work beside it."""
    cv2.setNumThreads(1)
    threadpool_limits(1)


def _end_with_parent() -> None:
    # a killed parent cannot tell its workers, who would wait for work for ever
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def bare_start() -> Iterator[None]:
    """Start workers with an environment of their own and without running the caller's main module again.

    The workers need nothing of that module, and a script without ``if __name__ == "__main__"`` would start itself.
    """
    main = sys.modules["__main__"]
    names: tuple[str, ...] = ("__file__", "__spec__")
    hidden = {name: main.__dict__.pop(name) for name in names if name in main.__dict__}
    unset = [name for name in _ENVIRONMENT if name not in os.environ]
    os.environ.update({name: _ENVIRONMENT[name] for name in unset})
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)
        for name in unset:
            os.environ.pop(name, None)
