"""Worker processes: started without the caller's main module, ended with the caller, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.connection import wait
from threading import Thread
from typing import TypeVar

import cv2

from rsloc_db.db.connection import Connection, connect
from rsloc_db.errors import WorkerError

Job = TypeVar("Job")
Result = TypeVar("Result")

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of worker processes; what is queued at an error or an interrupt is dropped.

    Raises:
        WorkerError: a worker died, e.g. for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        with _bare_start():
            yield pool
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process died (is memory short? fewer --workers need less): run the command again to go on"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(
    pool: ProcessPoolExecutor, function: Callable[[Job], Result], jobs: Iterable[Job], ahead: int
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


@lru_cache(maxsize=1)
def worker_connection(url: str) -> Connection:
    """Return a worker's own connection, in autocommit; it is opened once."""
    return connect(url, autocommit=True)


def _begin() -> None:
    """Prepare a worker: no interrupts of its own, no threads beside the other workers, gone when its parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # a killed parent cannot tell its workers, who would wait for work for ever
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _bare_start() -> Iterator[None]:
    """Start workers with one thread for linear algebra and without running the caller's main module again.

    The workers need nothing of that module, and a script without ``if __name__ == "__main__"`` would start itself.
    """
    main = sys.modules["__main__"]
    names: tuple[str, ...] = ("__file__", "__spec__")
    hidden = {name: main.__dict__.pop(name) for name in names if name in main.__dict__}
    unset = [name for name in _ONE_THREAD if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, "1"))
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)
        for name in unset:
            os.environ.pop(name, None)
